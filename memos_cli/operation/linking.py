"""MemOperator, linking: what a memory has to do with others, told by its columns, the catalogues and the links table.

Which turn or paragraph comes before it (follows), what it took the place of (supersedes), what it was put together or
made of (derived-from) is read off columns whenever it is asked; the table holds the rest. Of memories that the table it
is handed does not show no link is told. `leave` and `note_conflicts` write, in a draft they were handed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memos_cli.cube import exchanges, links
from memos_cli.cube.extracted import window_of
from memos_cli.cube.filters import quote
from memos_cli.cube.links import CONTRADICTS, DERIVED, FOLLOWS, SUPERSEDES, Link
from memos_cli.infrastructure import disk
from memos_cli.operation import windows
from memos_cli.operation.absorbed import DUPLICATE
from memos_cli.operation.windows import plain

if TYPE_CHECKING:
    from memos_cli.cube.plaintext import Memories

Row = Mapping[str, Any]
# Who made a link that columns tell.
COLUMNS = "columns"
NEEDED = (
    "id", "source", "session", "position", "content_key", "state", "valid_to", "supersedes", "superseded_by",
    "superseded_as", "created_at", "updated_at",
)  # fmt: skip
# Memories that models wrote of a source stand behind all that it says itself.
_TAKEN_FROM = 1 << 40
_ANSWER, _READ, _SAME, _CONFLICT = "the answer rests on it", "taken from it", "says the same", "was taken for true"


def of(memories: Memories, directory: Path, identity: str) -> list[Link]:
    """The links of a memory, both ways. Their other ends may be gone from sight: whoever shows them looks them up."""
    rows = memories.take([identity], columns=NEEDED).to_pylist()
    if not rows:
        return []
    found = [
        *_beside(memories, rows[0]), *_wordings(memories, rows[0]), *_answers(memories, directory, rows[0]),
        *_extracts(memories, rows[0]), *links.read(directory, ids={identity}),
    ]  # fmt: skip
    return list({one.key: one for one in found if one.from_id != one.to_id}.values())


def _told(one: str, other: str, kind: str, when: datetime, why: str = "") -> Link:
    return Link(one, other, kind, why, 1.0, COLUMNS, when)


def _beside(memories: Memories, row: Row) -> Iterator[Link]:
    """What comes before and after it in its source and session."""
    from memos_cli.cube.plaintext import LIVE

    if row["valid_to"] is not None or row["position"] >= _TAKEN_FROM:
        return
    where = f"{LIVE} and source = {quote(row['source'])} and session = {quote(row['session'])}"
    columns = ["id", "position", "created_at"]
    rows = memories.rows(f"{where} and position < {_TAKEN_FROM}", columns=columns).sort_by("position").to_pylist()
    place = next((at for at, one in enumerate(rows) if one["id"] == row["id"]), None)
    if place is None:
        return
    for late, early in ((place, place - 1), (place + 1, place)):
        if early >= 0 and late < len(rows):
            yield _told(rows[late]["id"], rows[early]["id"], FOLLOWS, rows[late]["created_at"])


def _wordings(memories: Memories, row: Row) -> Iterator[Link]:
    """What it took the place of, or stands for, and what does so with it."""
    if row["supersedes"]:
        yield _told(row["id"], row["supersedes"], SUPERSEDES, row["created_at"])
    behind = memories.rows(f"superseded_by = {quote(row['id'])}", columns=NEEDED).to_pylist()
    for one in (row, *behind):
        if not one["superseded_by"]:
            continue
        same = one["superseded_as"] == DUPLICATE
        why = _SAME if same else _CONFLICT if one["superseded_as"] else ""
        yield _told(one["superseded_by"], one["id"], DERIVED if same else SUPERSEDES, one["updated_at"], why)


def _answers(memories: Memories, directory: Path, row: Row) -> Iterator[Link]:
    """The memories that a remembered answer rests on, and the answers that rest on it."""
    told = exchanges.read(directory)
    if one := told.get(row["source"]):
        yield from (_told(row["id"], cited, DERIVED, one.asked_at, _ANSWER) for cited in one.cited)
    for uri, one in told.items():
        if row["id"] in one.cited:
            for answer in memories.of_source(uri, columns=["id", "position"])["id"].to_pylist():
                yield _told(answer, row["id"], DERIVED, one.asked_at, _ANSWER)


def _extracts(memories: Memories, row: Row) -> Iterator[Link]:
    """What a model took from the part of the source that it stands in; of what was taken, that part."""
    if not memories.count(f"source = {quote(row['source'])} and position >= {_TAKEN_FROM}"):
        return
    columns = list(dict.fromkeys((*windows.COLUMNS, "created_at")))
    rows = memories.of_source(row["source"], columns=columns).to_pylist()
    facts = [one for one in rows if window_of(one["content_key"])]
    read = [one for one in rows if not window_of(one["content_key"]) and one["valid_to"] is None]
    for part in windows.cut(read):
        inside = [one["id"] for one in read if plain(str(one["text"])) in part.said]
        for fact in facts:
            if window_of(fact["content_key"]) == part.key:
                yield from (
                    _told(fact["id"], one, DERIVED, fact["created_at"], _READ)
                    for one in inside
                    if row["id"] in (fact["id"], one)
                )


def decisions(directory: Path) -> dict[frozenset[str], datetime]:
    """Pairs that contradict one another of which somebody said that both stay, and when."""
    return {one.ends: one.made_at for one in links.read(directory, kind=CONTRADICTS) if one.is_decision}


def note_conflicts(
    directory: Path, found: Mapping[frozenset[str], str], *, among: Collection[str], there: Collection[str],
    kept: Mapping[frozenset[str], str], why: Mapping[frozenset[str], str], now: datetime,
    judged: Collection[frozenset[str]] = (), again: bool = False,
) -> bool:  # fmt: skip
    """Has the table tell which memories contradict one another: `found` by whom; whether that changed it.

    `among` are the memories that were compared, `there` those that are recalled: what was noted of two that were
    compared is replaced, and what is of memories that are gone goes; so of pairs that a judge was asked about,
    `judged`. `kept` are pairs that somebody keeps both of; what was kept before stays so, but with `again`.
    """
    before = links.read(directory)
    known = {one.ends: one for one in before if one.kind == CONTRADICTS}
    compared, live = set(among), set(there)

    def stays(one: Link) -> bool:
        if one.kind != CONTRADICTS or not one.ends <= live or not one.ends <= compared:
            return one.kind != CONTRADICTS or one.ends <= live
        return not again if one.is_decision else one.made_by == links.JUDGE and one.ends not in judged

    stay = [one for one in before if stays(one)]
    rest = {one.key: one for one in stay}
    for ends, maker in {**found, **kept}.items():
        old, (one, other) = known.get(ends), sorted(ends)
        fresh = Link(one, other, CONTRADICTS, why.get(ends, "")[: links.LONGEST_WHY], 1.0, maker, now)
        same = old is not None and (old.made_by, old.why) == (fresh.made_by, fresh.why)
        if old is None or (not same and (again or ends in kept or not old.is_decision)):
            rest[fresh.key] = fresh
        else:
            rest[old.key] = old
    if sorted(one.key for one in before) == sorted(rest) and set(rest.values()) == set(before):
        return False
    write(directory, rest.values())
    return True


def leave(directory: Path, kept: Collection[str]) -> None:
    """Leaves in the table what is between memories of `kept` alone."""
    if (directory / links.FILE).exists():
        whole = set(kept)
        write(directory, (one for one in links.read(directory) if one.ends <= whole))


def drop(directory: Path, gone: Collection[str]) -> None:
    """Takes out of the table what has one of these memories at an end."""
    if (directory / links.FILE).exists():
        out = set(gone)
        write(directory, (one for one in links.read(directory) if not one.ends & out))


def write(directory: Path, rest: Iterable[Link]) -> None:
    """Puts these links in the place of all; without any there is no file."""
    found = list(rest)
    if found:
        disk.write_bytes(directory / links.FILE, links.encode(found))
    else:
        (directory / links.FILE).unlink(missing_ok=True)


def between(found: Iterable[Link], names: Mapping[str, str], kept: Collection[str]) -> dict[tuple[str, str, str], Link]:
    """Links under the `names` that memories have elsewhere, of those alone that are `kept` there."""
    moved = (
        replace(one, from_id=names.get(one.from_id, one.from_id), to_id=names.get(one.to_id, one.to_id))
        for one in found
    )
    return {one.key: one for one in moved if one.ends <= set(kept)}
