"""Markdown by its structure: bullets, pairs, table rows and fences under their heading path, prose by paragraph.

Inline marks are dropped, links keep their address. Front matter is read as `key: value` lines, not as full YAML.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from memos_cli.cube.piece import Piece
from memos_cli.interface.sources import prose
from memos_cli.interface.sources.blocks import Place, cut, heading_of, is_pair, leading, piece
from memos_cli.interface.sources.limits import human
from memos_cli.interface.sources.lines import Line
from memos_cli.interface.sources.opened import Opened
from memos_cli.interface.sources.prose import Headings
from memos_cli.interface.sources.tables import row_text

if TYPE_CHECKING:
    from markdown_it.token import Token

TAGS = re.compile(r"<!--.*?-->|<[^>]+>", re.DOTALL)
# Some marks cost the parser the square of a paragraph's length ('[[[['), so a longer one keeps them as they are.
LONGEST_INLINE = 10_000
LIST_ITEM = re.compile(r"\s*-\s+(?=\S)")


def read(opened: Opened) -> Iterator[Piece]:
    """The pieces of a markdown file. One too large for a tree is read as plain text, with headings and bullets."""
    lines = opened.lines()
    held: list[Line] = []
    size = 0
    for line in lines:
        held.append(line)
        size += len(line[1]) + 1
        if size > opened.limits.tree_bytes:
            opened.notice(f"larger than {human(opened.limits.tree_bytes)}: read as plain text with headings")
            yield from prose.cut_lines(_chain(held, lines))
            return
    yield from read_text([text for _, text in held])


def _chain(held: list[Line], lines: Iterator[Line]) -> Iterator[Line]:
    held.reverse()
    while held:
        yield held.pop()
    yield from lines


def read_text(lines: list[str], *, above: tuple[str, ...] = (), page: int | None = None) -> Iterator[Piece]:
    """The pieces of a markdown text given as lines; `above` is what all of it stands under."""
    body = _front_matter_lines(lines)
    if body:
        yield from _front_matter(lines[1 : body - 1], first_line=2)
    from markdown_it import MarkdownIt

    # Inline marks are parsed here and not by the parser's own rule: see LONGEST_INLINE.
    parser = MarkdownIt("commonmark").enable("table").disable("inline")
    # Lines of front matter are blanked, not cut, so that line numbers stay those of the file.
    text = "\n" * body + "\n".join(lines[body:])
    environment: dict[str, object] = {}
    tokens = parser.parse(text, environment)
    for token in tokens:
        if token.type == "inline" and len(token.content) <= LONGEST_INLINE:
            token.children = []
            parser.inline.parse(token.content, parser, environment, token.children)
    for found in _Walk(tokens, above).pieces():
        yield found if page is None else replace(found, page=page)


def _front_matter_lines(lines: list[str]) -> int:
    """How many lines the front matter takes, with its fences; 0 when there is none."""
    if not lines or lines[0].rstrip() != "---":
        return 0
    for index, line in enumerate(lines[1:200], start=1):
        if line.rstrip() in ("---", "..."):
            return index + 1
    return 0


def _front_matter(lines: list[str], *, first_line: int) -> Iterator[Piece]:
    """A pair for each key; the items of a list, and lines that go on, join their key."""
    start = 0
    while start < len(lines):
        end = start + 1
        while end < len(lines) and (not lines[end].strip() or lines[end][0] in " \t-#"):
            end += 1
        key, _, value = lines[start].partition(":")
        items = [LIST_ITEM.sub("", line).strip() for line in lines[start + 1 : end] if line.strip()]
        words = ", ".join([*filter(None, [value.strip().strip("\"'|>[]")]), *items])
        if words and not key.startswith("#"):
            yield piece(f"{key.strip()}: {words}", "pair", Place(first_line=first_line), start, end - 1)
        start = end


class _Walk:
    """One pass over the parser's flat list of tokens."""

    def __init__(self, tokens: list[Token], above: tuple[str, ...]) -> None:
        self.tokens = tokens
        self.at = 0
        self.headings = Headings(above)
        self.lead: tuple[str, ...] = ()

    def pieces(self) -> Iterator[Piece]:
        while self.at < len(self.tokens):
            token = self.tokens[self.at]
            lead, self.lead = self.lead, ()
            if token.type == "heading_open":
                yield from self._heading(token)
                continue
            found = list(self._block(token, lead))
            self.headings.has_body = self.headings.has_body or bool(found)
            yield from found
        yield from self.headings.close()

    def _heading(self, token: Token) -> Iterator[Piece]:
        words = plain(self.tokens[self.at + 1]).replace("\n", " ")
        first, _ = _span(token)
        yield from self.headings.enter(int(token.tag[1]), words, line=first)
        self.at += 3

    def _block(self, token: Token, extra: tuple[str, ...]) -> Iterator[Piece]:
        """The pieces of the block that begins here; leaves `at` after it."""
        match token.type:
            case "paragraph_open":
                yield from self._paragraph(token, extra)
            case "bullet_list_open" | "ordered_list_open":
                yield from self._list(extra)
            case "table_open":
                yield from self._table(token, extra)
            case "fence" | "code_block":
                self.at += 1
                yield self._code(token, extra)
            case "html_block":
                self.at += 1
                yield from self._html(token, extra)
            case _:
                self.at += 1

    def _piece(self, text: str, kind: str, token: Token, extra: tuple[str, ...]) -> Piece:
        first, last = _span(token)
        return Piece(text, kind, self.headings.path + extra, first, last)

    def _code(self, token: Token, extra: tuple[str, ...]) -> Piece:
        """A fence or an indented block whole, with the lines of its content."""
        text = token.content.rstrip()
        start = text.lstrip("\n")
        first = _span(token)[0] + (token.type == "fence") + len(text) - len(start)
        return Piece(start, "code", self.headings.path + extra, first, first + start.count("\n"))

    def _html(self, token: Token, extra: tuple[str, ...]) -> Iterator[Piece]:
        content = token.content
        if text := (TAGS.sub(" ", content) if len(content) <= LONGEST_INLINE else content).strip():
            yield self._piece(re.sub(r"[ \t]+", " ", text), "paragraph", token, extra)

    def _paragraph(self, token: Token, extra: tuple[str, ...]) -> Iterator[Piece]:
        text = plain(self.tokens[self.at + 1])
        first, _ = _span(token)
        self.at += 3
        lines = text.split("\n")
        if definitions := _definitions(lines):
            for definition in definitions:
                yield self._piece(definition, "pair", token, extra)
            return
        yield from cut([line for line in lines if line.strip()] or [""], Place(self.headings.path + extra, None, first))
        self.lead = leading(" ".join(lines))

    def _list(self, extra: tuple[str, ...]) -> Iterator[Piece]:
        closing = self.tokens[self.at].type.replace("open", "close")
        level = self.tokens[self.at].level
        self.at += 1
        while not (self.tokens[self.at].type == closing and self.tokens[self.at].level == level):
            yield from self._item(extra)
        self.at += 1

    def _item(self, extra: tuple[str, ...]) -> Iterator[Piece]:
        """A bullet: its own paragraphs as one piece, then what is nested in it, under it."""
        opening = self.tokens[self.at]
        self.at += 1
        own: list[str] = []
        last = first = _span(opening)[0]
        while self.tokens[self.at].type == "paragraph_open":
            last = _span(self.tokens[self.at])[1]
            own.append(plain(self.tokens[self.at + 1]))
            self.at += 3
        text = "\n".join(own)
        if text:
            kind = "pair" if "\n" not in text and is_pair(text) else "bullet"
            yield Piece(text, kind, self.headings.path + extra, first, last)
        inner = extra + ((heading_of(text),) if text else ())
        while not (self.tokens[self.at].type == "list_item_close" and self.tokens[self.at].level == opening.level):
            yield from self._block(self.tokens[self.at], inner)
        self.at += 1

    def _table(self, token: Token, extra: tuple[str, ...]) -> Iterator[Piece]:
        names: list[str] = []
        cells: list[str] = []
        while self.tokens[self.at].type != "table_close":
            inner = self.tokens[self.at]
            if inner.type == "inline":
                cells.append(plain(inner).replace("\n", " "))
            elif inner.type == "tr_open":
                cells, row = [], inner
            elif inner.type == "tr_close" and not names:
                names = cells
            elif inner.type == "tr_close":
                yield self._piece(row_text(names, cells), "row", row, extra)
            self.at += 1
        self.at += 1


def _definitions(lines: list[str]) -> list[str]:
    """'Term' followed by ': meaning' as 'Term: meaning' lines; [] when the lines are no definition list."""
    if len(lines) < 2 or not any(line.startswith(": ") for line in lines) or lines[0].startswith(": "):
        return []
    joined: list[str] = []
    for line in lines:
        if line.startswith(": "):
            joined[-1] = f"{joined[-1]}{line}" if ": " not in joined[-1] else f"{joined[-1]}; {line[2:]}"
        else:
            joined.append(line)
    return joined


def _span(token: Token) -> tuple[int, int]:
    """First and last line of a token, from 1."""
    first, end = token.map or (0, 1)
    return first + 1, max(first + 1, end)


def plain(token: Token) -> str:
    """The words of an inline token, with its line breaks."""
    if token.children is None:
        return token.content
    parts: list[str] = []
    address = ""
    for child in token.children:
        match child.type:
            case "text" | "code_inline":
                parts.append(f"`{child.content}`" if child.type == "code_inline" else child.content)
            case "softbreak" | "hardbreak":
                parts.append("\n")
            case "image":
                parts.append(f"[image: {child.content}]" if child.content else "")
            case "link_open":
                address = str(child.attrs.get("href", ""))
            case "link_close" if address.startswith(("http", "mailto")) and address not in "".join(parts):
                parts.append(f" ({address})")
            case _:
                pass
    return "".join(parts)
