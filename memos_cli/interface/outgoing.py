"""The verb `export` of the Memory API: the memories of a cube as a file of another format, with what it cannot carry.

What leaves a cube passes the share gate. A file is there whole or not at all, and one that is there is not replaced
without a yes. What the format has no place for is counted.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memos_cli.cube import filters
from memos_cli.cube.losses import Losses
from memos_cli.cube.scopes import highest
from memos_cli.errors import MemosError, NotFound, Usage
from memos_cli.infrastructure import disk
from memos_cli.interface import frame
from memos_cli.interface.shared import TakenOut
from memos_cli.operation import outgoing, outgoing_cube, stated
from memos_cli.operation.outgoing import FORMATS, JSONL, OFFICIAL

if TYPE_CHECKING:
    from memos_cli.cube.plaintext import Memories
    from memos_cli.interface.frame import Reading

# What is exported goes to a file, though it be written to standard output.
FILE = "file"
STDOUT = "-"
_AT_ONCE = 500
_MEMORY_FILE, _CONFIG_FILE = "textual_memory.json", "config.json"

Write = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Chosen:
    """What leaves: a table of what may, ids and row ids in the order of their sources, the strictest label, and what
    of it contradicts what else of it."""

    seen: Reading
    leaving: Memories
    ids: list[str]
    places: list[int]
    label: str
    against: Mapping[str, list[dict[str, str]]]

    def rows(self, *, vectors: bool = False) -> Iterator[dict[str, Any]]:
        """The rows, some at a time."""
        columns = [*outgoing.READ, *(["vector"] if vectors else [])]
        known, digests = set(self.ids), not self.seen.sight("export", FILE).condition
        for start in range(0, len(self.ids), _AT_ONCE):
            some, places = self.ids[start : start + _AT_ONCE], self.places[start : start + _AT_ONCE]
            found = {row["id"]: row for row in self.leaving.at(places, columns=columns).to_pylist()}
            yield from (self._alone(found[identity], known, digests=digests) for identity in some)

    def _alone(self, row: dict[str, Any], known: set[str], *, digests: bool) -> dict[str, Any]:
        """A row without what tells of memories that do not go along: links to them, the digest of their source."""
        links: dict[str, Any] = {
            name: row[name] if row[name] in known else "" for name in ("supersedes", "superseded_by")
        }
        links["superseded_as"] = row["superseded_as"] if links["superseded_by"] else ""
        against = self.against.get(row["id"], [])
        return {**row, **links, "contradicts": against, "source_digest": row["source_digest"] if digests else ""}


def export_memories(
    cube: str | Path,
    path: str | Path | None = None,
    *,
    to: str = JSONL,
    where: str | None = None,
    ids: Sequence[str] = (),
    everything: bool = False,
    shape: str | None = None,
    replace_file: bool = False,
    dry_run: bool = False,
    write: Write | None = None,
    home: Path | None = None,
    notify: frame.Notify | None = None,
) -> TakenOut:
    """Writes memories to `path`: `jsonl` or `markdown` to a file, or for "-" to `write`; `memos` an official MemOS cube
    to a folder that is not there yet, by default `NAME-memos`.

    `everything` takes along what has ended or waits to be accepted. `shape` of a MemOS cube is naive, general, tree or
    preference, by default the one it came in. Raises NotAllowed without the right to share, NotFound, Usage.
    """
    desk = frame.desk(home, notify)
    _check(to, path, shape)
    condition = filters.to_sql(filters.parse(where)) if where else ""
    with frame.reading(desk, cube, "export") as seen:
        losses = Losses()
        chosen = _choose(seen, condition, ids, everything=everything, losses=losses)
        seen.touched = list(chosen.ids)
        seen.facts |= {"to": FILE, "format": to, "dry_run": dry_run}
        if not chosen.ids:
            raise NotFound("expected memories to export, found none", hint=f"memos list {cube}")
        _tell_forms(seen, losses)
        pairs = 0 if to == JSONL else sum(map(len, chosen.against.values()))
        losses.add("link", stated.FIELD, f"{to} has no place for it", pairs)
        done = TakenOut(
            str(cube), seen.version.number, dry_run, to, str(path or STDOUT), tuple(chosen.ids), 0, "", (), chosen.label
        )
        if to == OFFICIAL:
            return _official(chosen, done, Path(path or f"{seen.cube.name}-memos"), shape, losses)
        level = seen.rules.governance.sensitivity
        texts = (
            outgoing.lines(chosen.rows(), level=level, losses=losses) if to == JSONL
            else outgoing.markdown(chosen.rows(), losses=losses)
        )  # fmt: skip
        size = _pour(texts, str(path or STDOUT), write, replace_file=replace_file, dry_run=dry_run)
        return replace(done, bytes=size, losses=losses.told())


def _check(to: str, path: str | Path | None, shape: str | None) -> None:
    if to not in FORMATS:
        raise Usage(f"expected {', '.join(FORMATS)} as what to export to, found {to[:40]!r}")
    if shape is not None and (to != OFFICIAL or shape not in outgoing_cube.SHAPES):
        raise Usage(f"a shape is for --to {OFFICIAL}: {', '.join(outgoing_cube.SHAPES)}; found {shape[:40]!r}")
    if to == OFFICIAL and str(path) == STDOUT:
        raise Usage("a MemOS cube is a folder, and cannot be written to standard output", hint="-o FOLDER")


def _choose(seen: Reading, condition: str, ids: Sequence[str], *, everything: bool, losses: Losses) -> _Chosen:
    """What is meant and may leave; what stays is told, or refused when it was named."""
    from memos_cli.cube.plaintext import both, live_at
    from memos_cli.interface.changes import find_memory
    from memos_cli.interface.converting import tell_left

    named = [find_memory(seen, one, cube=str(seen.root))["id"] for one in dict.fromkeys(ids)]
    if named:
        condition = both(condition, f"id in ({', '.join(map(filters.quote, named))})")
    live, every = live_at(frame.now()), "state not in ('forgotten', 'expired')"
    where = both(every if everything else live, condition)
    leaving = seen.leaving(FILE)
    rows = leaving.numbered(where, columns=["id", "source", "position", "sensitivity"]).to_pylist()
    rows.sort(key=lambda row: (row["source"], row["position"], row["id"]))
    found = [row["id"] for row in rows]
    tell_left(seen, where, set(found), named, to=FILE)
    losses.add("memory", "label or scope", "may not go to a file", seen.memories.count(where) - len(found))
    if not everything:
        ended = both(f"{every} and not ({live})", condition)
        losses.add("memory", "history", "ended, or waiting to be accepted: --all takes it along", leaving.count(ended))
    level = seen.rules.governance.sensitivity
    label = highest([row["sensitivity"] or level for row in rows])
    against = stated.told(seen.path / frame.PLAINTEXT, set(found))
    return _Chosen(seen, leaving, found, [row["_rowid"] for row in rows], label, against)


def _tell_forms(seen: Reading, losses: Losses) -> None:
    losses.add("activation", "files", "made for one model: memos convert makes them anew", seen.cube.activation.files)
    losses.add("parameter", "adapters", "memos distill --export takes one out", seen.cube.parameter.adapters)


def _pour(texts: Iterable[str], path: str, write: Write | None, *, replace_file: bool, dry_run: bool) -> int:
    """Writes texts one after the other to a file, whole or not at all, or to `write`; the bytes."""
    if dry_run:
        return sum(len(text.encode("utf-8", "replace")) for text in texts)
    if path == STDOUT:
        return _say(texts, write)
    place = Path(path)
    _refuse_there(place, replace_file=replace_file)
    temporary = _beside(place)
    try:
        size = _write(temporary, texts)
        os.replace(temporary, place)
        disk.sync(place.parent)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    return size


def _say(texts: Iterable[str], write: Write | None) -> int:
    size = 0
    for text in texts:
        size += len(text.encode("utf-8", "replace"))
        if write:
            write(text)
    return size


def _write(path: Path, texts: Iterable[str]) -> int:
    # what leaves may be for one pair of eyes
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8", newline="\n") as file:
        for text in texts:
            file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return path.stat().st_size


def _beside(place: Path) -> Path:
    if not place.parent.is_dir():
        raise Usage(f"expected a folder to put {place.name} into, found none at {place.parent}")
    return place.with_name(f".{place.name}.{os.getpid()}-{disk.random_hex(4)}.tmp")


def _refuse_there(place: Path, *, replace_file: bool) -> None:
    if place.is_dir():
        raise Usage(f"expected a file to write to, found a folder: {place}", hint=f"-o {place / 'memories.jsonl'}")
    if os.path.lexists(place) and not replace_file:
        raise Usage(f"{place} is there already", hint="the same command with --yes replaces it")


def _official(chosen: _Chosen, done: TakenOut, place: Path, shape: str | None, losses: Losses) -> TakenOut:
    """Writes an official MemOS cube to a folder that is new, or empty."""
    seen = chosen.seen
    embedder = seen.memories.embedder
    found = shape or outgoing_cube.shape_of(row["extra"] for row in chosen.rows())
    if found == outgoing_cube.GENERAL and embedder is None:
        if shape:
            raise Usage("the shape general needs vectors, and this cube has none", hint=f"memos reindex {done.cube}")
        losses.add("memory", "shape", "general needs vectors, and this cube has none: written as naive", len(done.ids))
        found = outgoing_cube.NAIVE
    writer = outgoing_cube.Writer(found, seen.rules.governance.sensitivity, losses, vectors=embedder is not None)
    texts = writer.chunks(chosen.rows(vectors=embedder is not None))
    config = outgoing_cube.config(
        found, cube=seen.cube.name, embedder=embedder.name if embedder else "", dim=embedder.dim if embedder else 0
    )
    if found == outgoing_cube.NAIVE and embedder is not None:
        losses.add("memory", "vector", "the shape naive has none", len(done.ids))
    losses.add("config", "models", "names of an example: put your own into config.json")
    said = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    if done.dry_run:
        size = _say(texts, None) + len(said)
    else:
        size = _make_folder(place, {_MEMORY_FILE: texts, _CONFIG_FILE: [said]})
    return replace(done, path=str(place), bytes=size, shape=found, losses=losses.told())


def _make_folder(place: Path, files: dict[str, Iterable[str]]) -> int:
    if os.path.lexists(place) and (not place.is_dir() or place.is_symlink() or any(place.iterdir())):
        raise Usage(f"expected a folder that is new or empty, found {place}", hint="-o OTHER")
    temporary = _beside(place)
    try:
        temporary.mkdir(mode=0o700)
        size = sum(_write(temporary / name, texts) for name, texts in files.items())
        disk.sync(temporary)
        os.replace(temporary, place)
        disk.sync(place.parent)
    except BaseException:
        with suppress(OSError, MemosError):
            disk.remove_tree(temporary)
        raise
    return size
