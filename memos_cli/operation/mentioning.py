"""MemOperator, linking: which memory names what another is about, by the words of headings, titles and file names.

A heading names the first memory below it, a title or file name the first of its source. A name has two words or more,
or is one that no sentence has by chance: an identifier, or a capitalised word that stands inside a sentence as a name
does. What more than MOST_NAMED headings are called names none of them. Names are found by their first words, so work
grows with the words of the texts alone; an ingest matches what it changed, and what had a link that it broke.
`link` works on a table in a draft it was handed.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memos_cli.cube import links
from memos_cli.cube.links import INGEST, MENTIONS, MOST_MENTIONS, Link
from memos_cli.operation import linking
from memos_cli.operation.cues import FUNCTION_WORDS
from memos_cli.operation.mentionable import READ, STANDS, Rows

if TYPE_CHECKING:
    import pyarrow as pa

    from memos_cli.cube.plaintext import Memories

# From so many memories on an ingest looks for names among what it touched alone.
MOST_ROWS, MOST_SOURCES = 50_000, 500
MOST_NAMED, LONGEST_NAME_WORDS, FEWEST_LETTERS = 2, 8, 3
# More names than this are looked for in all texts, and not each by itself.
MOST_LOOKED_FOR = 24
_WORD = re.compile(r"\w+")
_ODD = re.compile(r"[a-z][A-Z]|[A-Za-z]\d|\d[A-Za-z]|_")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ARTICLES = ("a", "an", "the")


Name = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a memory stands."""

    id: str
    source: str
    section: str


@dataclass(slots=True)
class Headings:
    """The id of the first memory below each heading, by source and heading; of the first of each source that, its
    heading and the source's title."""

    below: Mapping[tuple[str, str], str]
    openings: Mapping[str, tuple[str, str, str]]

    def named(self) -> Iterator[tuple[str, str, str, str]]:
        """What each heading, title and file name is called, with the id, source and heading of what is meant by it."""
        for (source, section), identity in self.below.items():
            yield section.rsplit(" > ", 1)[-1], identity, source, section
        for uri, (identity, section, title) in self.openings.items():
            yield title, identity, uri, section
            yield uri.rsplit("/", 1)[-1], identity, uri, section

    @property
    def meant(self) -> frozenset[str]:
        """Ids of all that some name may mean."""
        return frozenset([*self.below.values(), *(identity for identity, _, _ in self.openings.values())])


@dataclass(slots=True)
class Index:
    """Names, each with the memories it may mean and as it is written."""

    targets: Mapping[Name, tuple[Place, ...]]
    said: Mapping[Name, str]
    openings: frozenset[str] = frozenset()
    _lengths: dict[str, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths: dict[str, set[int]] = defaultdict(set)
        for name in self.targets:
            lengths[name[0]].add(len(name))
        self._lengths = {word: sorted(found, reverse=True) for word, found in lengths.items()}

    def named_in(self, text: str) -> list[Name]:
        """The names that stand in a text, those of most words first, none inside another."""
        words = _WORD.findall(text.casefold())
        found: dict[Name, None] = {}
        end = 0
        for place in [place for place, word in enumerate(words) if word in self._lengths]:
            for length in self._lengths[words[place]] if place >= end else ():
                name = tuple(words[place : place + length])
                if name in self.targets and self._is_meant(name, text):
                    found[name], end = None, place + length
                    break
        return sorted(found, key=lambda name: -len(name))

    def _is_meant(self, name: Name, text: str) -> bool:
        """Whether one word is there as a name is: as it is written, and where it is capitalised inside a sentence."""
        said = self.said[name]
        if len(name) > 1 or _ODD.search(said):
            return True
        return re.search(rf"[\w,;] {re.escape(said)}(?!\w)", text) is not None


def headings_of(columns: Mapping[str, Sequence[Any]]) -> Headings:
    """Where memories stand, by the columns `id`, `source`, `title`, `section` and `position`."""
    below: dict[tuple[str, str], tuple[int, str]] = {}
    openings: dict[str, tuple[int, int]] = {}
    last, least = ("", ""), 0
    at = -1
    for key, position in zip(zip(columns["source"], columns["section"], strict=True), columns["position"], strict=True):
        at += 1
        # most stand behind another below the same heading
        if key == last and position >= least:
            continue
        last, least = key, position
        if key[0] not in openings or position < openings[key[0]][0]:
            openings[key[0]] = position, at
        if key[1] and (key not in below or position < below[key][0]):
            below[key] = position, columns["id"][at]
    return Headings(
        {key: identity for key, (_, identity) in below.items()},
        {uri: (columns["id"][i], columns["section"][i], str(columns["title"][i])) for uri, (_, i) in openings.items()},
    )


def index_of(headings: Headings, *, words: Collection[str] | None = None) -> Index:
    """The names of some headings; with `words` those alone that begin with one of them."""
    named: dict[Name, dict[str, Place]] = defaultdict(dict)
    said: dict[Name, str] = {}
    for text, identity, source, section in headings.named():
        if words is not None and not _begins(text, words):
            continue
        if name := name_of(text):
            named[name][identity] = Place(identity, source, section)
            said.setdefault(name, text.strip())
    targets = {name: tuple(meant.values()) for name, meant in named.items() if len(meant) <= MOST_NAMED}
    return Index(targets, said, frozenset(identity for identity, _, _ in headings.openings.values()))


def _begins(text: str, words: Collection[str]) -> bool:
    """Whether the first word of a name, or the one after its article, is among some."""
    first = _WORD.search(text)
    if first is None:
        return False
    word = first.group().casefold()
    return word in words or word in _ARTICLES


def name_of(text: str) -> Name:
    """The words by which a heading is named; none where they could stand in a sentence by chance."""
    words = _WORD.findall(text.casefold())
    while words and words[0] in _ARTICLES:
        words = words[1:]
    name = tuple(words)
    return name if 0 < len(name) <= LONGEST_NAME_WORDS and _is_name(name, text.strip()) else ()


def _is_name(name: Name, said: str) -> bool:
    """Whether words tell by themselves what they name."""
    telling = [word for word in name if word not in FUNCTION_WORDS and len(word) >= FEWEST_LETTERS]
    if len(name) > 1:
        return bool(telling) and not all(word.isdigit() for word in name)
    return bool(telling) and not said.isdigit() and (bool(_ODD.search(said)) or (said.istitle() and said.isalpha()))


def link(
    memories: Memories, directory: Path, *, now: datetime, uris: Collection[str] | None = None,
    ids: Collection[str] = (),
) -> bool:  # fmt: skip
    """Brings the mentions in the table up to date with what is recalled; whether that changed it.

    `uris` are the sources that changed, None for all; `ids` single memories of any source that are recalled from now
    on, or no more. Links of what was not touched stay as they are, unless what they lead to is gone. A large table is
    looked at as far as it changed, and not where that is too much too.
    """
    count, single = memories.count(), frozenset(ids)
    large = count > MOST_ROWS
    if large and (uris is None or len(uris) > MOST_SOURCES or len(single) > MOST_ROWS):
        return False
    rows = Rows(memories, count=count)
    # counted before they are read: a million of them would be a gigabyte
    if large and rows.count(uris) > MOST_ROWS:
        return False
    touched = _looked_at(rows.of(uris))
    beside = _looked_at(rows.take(single - touched.keys())) if single - touched.keys() else {}
    touched |= beside
    changed = {*(uris or ()), *(row.place.source for row in beside.values())}
    headings, old = _headings(rows, changed if large else None), links.read(directory)
    todo = {identity: row for identity, row in touched.items() if row.live}
    meant = frozenset() if large else headings.meant
    stay, broken = _standing(old, touched, meant, large=large)
    if uris is not None and not large:
        moment = (now - _EPOCH) // timedelta(microseconds=1)
        came = frozenset(identity for identity, row in todo.items() if row.made == moment or identity in single)
        broken |= _naming(rows, headings, came) - touched.keys()
        todo |= _looked_at(rows.take(broken)) if broken else {}
    known = {one.key: one for one in old}
    fresh = {one.key: known.get(one.key, one) for one in _mentions(headings, todo, now, within=uris is not None)}
    found = {one.key: one for one in (*stay, *fresh.values())}
    if found.keys() == known.keys():
        return False
    linking.write(directory, found.values())
    return True


@dataclass(frozen=True, slots=True)
class _Row:
    """A memory that is looked at: where it stands, its words, whether it is recalled, and the microsecond it came."""

    place: Place
    text: str
    live: bool
    made: int


def _looked_at(table: pa.Table) -> dict[str, _Row]:
    import pyarrow as pa

    from memos_cli.cube.plaintext import RECALLED

    # as numbers: a moment of each row would take longer than all else
    moments = {name: table[name].cast(pa.int64()).to_pylist() for name in ("valid_to", "created_at")}
    rows = zip(*(moments.get(name) or table[name].to_pylist() for name in READ), strict=True)
    return {
        identity: _Row(Place(identity, source, section), text, end is None and state in RECALLED, made)
        for identity, source, section, text, state, end, made in rows
    }


def _headings(rows: Rows, uris: Collection[str] | None) -> Headings:
    found = rows.standing(uris)
    # titles are asked for by the first of each source alone
    columns: dict[str, Any] = {name: found[name].to_pylist() for name in STANDS if name != "title"}
    return headings_of({**columns, "title": found["title"]})


def _standing(
    old: Iterable[Link], touched: Collection[str], meant: Collection[str], *, large: bool
) -> tuple[list[Link], set[str]]:
    """The links that stay as they are, and the memories of those that lead to what no name means any more."""
    stay, broken = [], set()
    for one in old:
        if one.kind != MENTIONS or (one.from_id not in touched and (large or one.to_id in meant)):
            stay.append(one)
        elif one.from_id not in touched:
            broken.add(one.from_id)
    return [one for one in stay if one.kind != MENTIONS or one.from_id not in broken], broken


def _naming(rows: Rows, headings: Headings, came: Collection[str]) -> set[str]:
    """Memories that were there before and may name what `came` now."""
    names = {name: text for text, identity, _, _ in headings.named() if identity in came and (name := name_of(text))}
    if not names:
        return set()
    index = Index(dict.fromkeys(names, ()), names)
    found = rows.saying({max(name, key=len) for name in names} if len(names) <= MOST_LOOKED_FOR else None)
    pairs = zip(found["id"].to_pylist(), found["text"].to_pylist(), strict=True)
    return {identity for identity, text in pairs if index.named_in(text)}


def _mentions(headings: Headings, rows: Mapping[str, _Row], now: datetime, *, within: bool) -> Iterator[Link]:
    """The mentions in the texts of these memories; `within` they are few beside the headings."""
    words = {word for row in rows.values() for word in _WORD.findall(row.text.casefold())} if within else None
    index = index_of(headings, words=words)
    for row in rows.values():
        if row.live and (names := index.named_in(row.text)):
            yield from _of_one(row.place, names, index, now)


def _of_one(place: Place, names: Iterable[Name], index: Index, now: datetime) -> Iterator[Link]:
    known: set[str] = set()
    for name in names:
        meant = [one for one in index.targets[name] if not _is_below(place, one, index) and one.id not in known]
        for one in meant[: MOST_MENTIONS - len(known)]:
            known.add(one.id)
            why = index.said[name][: links.LONGEST_WHY]
            yield Link(place.id, one.id, MENTIONS, why, 1.0 / len(index.targets[name]), INGEST, now)


def _is_below(place: Place, meant: Place, index: Index) -> bool:
    """Whether a memory stands under what it names, and so tells nothing by naming it."""
    if place.source != meant.source:
        return False
    below = place.section == meant.section or place.section.startswith(f"{meant.section} > ")
    return below or meant.id in index.openings
