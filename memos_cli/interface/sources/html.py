"""HTML by its block elements, in flat memory: headings make the path, list items, rows and definitions stand alone.

Read as events, not as a tree: a page of any depth is no danger, and each block knows the lines it spans. Scripts,
styles and navigation are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser

from memos_cli.cube.piece import Piece
from memos_cli.interface.sources.blocks import heading_of, is_pair, leading
from memos_cli.interface.sources.opened import Opened
from memos_cli.interface.sources.prose import Headings
from memos_cli.interface.sources.tables import row_text

SILENT_TAGS = "script style template noscript nav head svg math select button iframe object"
BLOCK_TAGS = """
p div section article main header footer aside blockquote ul ol dl table thead tbody tfoot caption figure
figcaption address details summary fieldset hr body html center
"""
SILENT = frozenset(SILENT_TAGS.split())
BLOCKS = frozenset(BLOCK_TAGS.split())
HEADINGS = frozenset(("h1", "h2", "h3", "h4", "h5", "h6"))
CHUNK_CHARACTERS = 1 << 20
LARGEST_CHUNK = 1 << 26
SPACE = re.compile(r"[ \t\r\f\v]+")


def read(opened: Opened) -> Iterator[Piece]:
    """The pieces of a page; markup that is cut short or wrong is read as browsers would, as far as it goes."""
    page = _Page()
    for text in _chunks(opened):
        page.feed(text)
        yield from page.take()
    page.end()
    page.found += page.headings.close()
    yield from page.take()


def _chunks(opened: Opened) -> Iterator[str]:
    """The text in chunks that double: the parser looks again at markup that a chunk leaves open, so few are given."""
    held: list[str] = []
    size, wanted = 0, CHUNK_CHARACTERS
    for _, text in opened.lines():
        held.append(text)
        size += len(text) + 1
        if size >= wanted:
            yield "\n".join(held) + "\n"
            held.clear()
            size, wanted = 0, min(2 * wanted, LARGEST_CHUNK)
    yield "\n".join(held)


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[Piece] = []
        self.headings = Headings()
        self.words: list[str] = []
        self.first = self.last = 0
        self.block = ""
        self.silent: list[str] = []
        self.lists = 0
        self.items: list[tuple[int, str]] = []
        """The open list items: how deep their list is nested, and their text, '' while there is none yet."""
        self.lead: tuple[str, ...] = ()
        self.names: list[str] = []
        self.cells: list[tuple[bool, str]] = []
        self.row_first = 0
        self.term = ""
        self.address = ""

    def end(self) -> None:
        """Take what is left as text. Not close(): at markup that never ends it costs the square of what is left."""
        if not self.rawdata.startswith("<") and self.cdata_elem is None:
            self.handle_data(unescape(self.rawdata))
        self.flush()

    def take(self) -> list[Piece]:
        """The pieces that are whole by now."""
        found, self.found = self.found, []
        return found

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        # '</head>' may be left out: what belongs to the body ends it.
        if tag == "body" or (self.silent == ["head"] and (tag in BLOCKS or tag in HEADINGS)):
            self.silent.clear()
        if self.silent or tag in SILENT:
            self.silent += [tag] if tag in SILENT else []
            return
        match tag:
            case "br":
                self.words.append("\n")
            case "img" if alt := dict(attrs).get("alt"):
                self._say(f"[image: {alt}]")
            case "a":
                self.address = dict(attrs).get("href") or ""
            case "li":
                self._begin(tag)
                # '</li>' may be left out too.
                self._leave_items(self.lists)
                self.items.append((self.lists, ""))
            case "tr":
                self.flush()
                self.cells, self.row_first = [], self.getpos()[0]
            case "table":
                self.flush()
                self.names = []
            case "td" | "th" | "dt" | "dd" | "pre":
                self._begin(tag)
            case _ if tag in HEADINGS:
                self._begin(tag)
            case _ if tag in BLOCKS:
                self.flush()
                self.lead = self.lead if tag in ("ul", "ol") else ()
                self.lists += tag in ("ul", "ol")

    def handle_endtag(self, tag: str) -> None:
        if tag in self.silent:
            del self.silent[self.silent.index(tag) :]
            return
        if self.silent:
            return
        if tag == "a":
            self._end_link()
        elif tag in BLOCKS or tag in HEADINGS or tag in ("li", "td", "th", "tr", "dt", "dd", "pre"):
            self.flush()
            if tag == "li":
                self._leave_items(self.lists)
            elif tag == "tr":
                self._end_row()
            elif tag in ("ul", "ol"):
                self._leave_items(self.lists)
                self.lists = max(0, self.lists - 1)
                self.lead = self.lead if self.lists else ()

    def _leave_items(self, depth: int) -> None:
        """End the open items of the list at this depth, and of those within it."""
        while self.items and self.items[-1][0] >= depth:
            self.items.pop()

    def handle_data(self, data: str) -> None:
        if self.silent or not (data.strip() or self.words):
            return
        if not any(word.strip() for word in self.words):
            self.first = self.getpos()[0] + data[: len(data) - len(data.lstrip())].count("\n")
        self.words.append(data)
        if data.strip():
            self.last = self.getpos()[0] + data.rstrip().count("\n")

    def _say(self, words: str) -> None:
        self.first = self.first if self.words else self.getpos()[0]
        self.last = self.getpos()[0]
        self.words.append(words)

    def _begin(self, tag: str) -> None:
        self.flush()
        self.block = tag

    def _end_link(self) -> None:
        if self.address.startswith("http") and self.words and self.address not in "".join(self.words[-3:]):
            self.words.append(f" ({self.address})")
        self.address = ""

    def _end_row(self) -> None:
        cells, self.cells = self.cells, []
        texts = [text for _, text in cells]
        if not self.names and cells and all(is_name for is_name, _ in cells):
            self.names = texts
        elif text := row_text(self.names, texts):
            self._add(text, "row", self.row_first, self.getpos()[0])

    def flush(self) -> None:
        """End the block being read and file its text under what it is."""
        raw, self.words = "".join(self.words), []
        block, self.block = self.block, ""
        text = raw.strip("\n").rstrip() if block == "pre" else _tidy(raw)
        if not text.strip():
            return
        if block in HEADINGS:
            self.lead = ()
            self.found += self.headings.enter(int(block[1]), text.replace("\n", " "), line=self.first)
        elif block in ("td", "th"):
            self.cells.append((block == "th", text.replace("\n", " ")))
        elif block == "dt":
            self.term = text
        else:
            self._file(text, block)

    def _file(self, text: str, block: str) -> None:
        if block == "dd" and self.term:
            self._add(f"{self.term}: {text}", "pair", self.first, self.last)
        elif block == "pre":
            self._add(text, "code", self.first, self.last)
        elif self.items:
            above = tuple(heading_of(item) for _, item in self.items[:-1] if item)
            kind = "pair" if "\n" not in text and is_pair(text) else "bullet"
            self._add(text, kind, self.first, self.last, self.lead + above)
            self.items[-1] = (self.items[-1][0], self.items[-1][1] or text)
        else:
            self._add(text, "pair" if "\n" not in text and is_pair(text) else "paragraph", self.first, self.last)
            self.lead = leading(text)

    def _add(self, text: str, kind: str, first: int, last: int, extra: tuple[str, ...] = ()) -> None:
        self.headings.has_body = True
        self.found.append(Piece(text, kind, self.headings.path + extra, first, last))


def _tidy(raw: str) -> str:
    """Words with single spaces; line breaks stay where the source has them, blank lines do not."""
    lines = (SPACE.sub(" ", line).strip() for line in raw.split("\n"))
    return "\n".join(line for line in lines if line)
