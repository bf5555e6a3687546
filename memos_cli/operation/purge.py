"""Forgetting for good, in a draft: memories and all that was made of them leave every file of the next version.

Lance keeps the bytes of deleted rows, and its text indexes their words, whatever it tidies. So the table is written
anew and indexed anew; windows of neighbours, catalogues, other tables, activation files and adapters follow. Knows
nothing of earlier versions, which the vault drops, nor of who asks.
"""

from __future__ import annotations

import shutil
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memos_cli.cube import activation, arrow, denied, exchanges, extracted, lance, metadata, parameter, rewriting
from memos_cli.cube import sources as catalogue
from memos_cli.cube.digest import MANIFEST_NAME
from memos_cli.cube.filters import quote
from memos_cli.cube.parameter_sidecar import CAPABILITY
from memos_cli.cube.piece import Piece
from memos_cli.errors import MemosError
from memos_cli.infrastructure import disk
from memos_cli.operation import told, windows
from memos_cli.operation.context import place
from memos_cli.operation.doomed import Doomed
from memos_cli.operation.needles import FRAGMENT, TEXT, Haystack
from memos_cli.operation.proof import tells, unshared
from memos_cli.operation.rewindow import rewindow

if TYPE_CHECKING:
    import pyarrow as pa

    from memos_cli.cube.plaintext import Memories

PLAINTEXT, PARAMETER = "plaintext", "parameter"
_OWN = frozenset({catalogue.FILE, extracted.FILE, exchanges.FILE, denied.FILE})
_FORMS = frozenset({PLAINTEXT, PARAMETER, activation.FOLDER, metadata.FILE, MANIFEST_NAME})
_PARTS = 500


@dataclass(frozen=True, slots=True)
class Purged:
    """What left the draft besides the rows: activation files, adapters, rows of other tables, and files that were held
    in it for others; and how many neighbours were told anew what stands around them."""

    rewindowed: int
    activations: tuple[str, ...]
    adapters: tuple[str, ...]
    others: tuple[str, ...]


def purge(tree: Path, memories: Memories, doomed: Doomed, haystack: Haystack) -> Purged:
    """Takes the doomed out of the draft at `tree`; the table has to be opened anew afterwards."""
    directory = tree / PLAINTEXT
    activations = tuple(_drop_activations(tree / activation.FOLDER, doomed.rows))
    adapters = tuple(_drop_adapters(tree / PARAMETER, doomed.rows))
    delete(memories, doomed.rows)
    relink(memories, doomed.rows)
    _clear_extras(memories, haystack)
    count = _clear_windows(memories, doomed) + rewindow(memories, sorted(doomed.sources), embedder=None)
    rewriting.rewrite(directory)
    _catalogues(directory, doomed)
    own, _, _ = unshared([type(memories).open(directory)], haystack)
    others = [*_others(directory, doomed, own), *_strays(tree, own)]
    return Purged(count, activations, adapters, tuple(others))


def _parts(ids: Iterable[str]) -> Iterator[str]:
    whole = list(ids)
    for start in range(0, len(whole), _PARTS):
        yield ", ".join(map(quote, whole[start : start + _PARTS]))


def delete(memories: Memories, rows: Iterable[str]) -> None:
    """Takes rows out of the table; their bytes stay in its files until it is written anew."""
    for part in _parts(rows):
        memories.table.delete(f"id in ({part})")


def relink(memories: Memories, doomed: Mapping[str, Mapping[str, Any]]) -> None:
    """Chains of wordings close over what is gone; `doomed` are the rows that are, with their links."""
    from memos_cli.cube.plaintext import with_columns

    for part in _parts(doomed):
        rows = memories.rows(f"supersedes in ({part}) or superseded_by in ({part})")
        if rows.num_rows:
            linked = {
                name: [_beyond(target, name, doomed) for target in rows[name].to_pylist()]
                for name in ("supersedes", "superseded_by")
            }
            memories.replace(with_columns(rows, **linked))


def _beyond(target: str, direction: str, doomed: Mapping[str, Mapping[str, Any]]) -> str:
    seen: set[str] = set()
    while target in doomed and target not in seen:
        seen.add(target)
        target = str(doomed[target][direction])
    return "" if target in seen else target


def _clear_windows(memories: Memories, doomed: Doomed) -> int:
    """Windows that are not kept up to date any more, of rows that were superseded or hidden, lose the words that go.

    No vector depends on a neighbour's words: a turn's is of the turn, all others' of the heading and the text.
    """
    from memos_cli.cube.plaintext import with_columns

    gone = [row["text"] for row in doomed.rows.values() if row["text"]]
    count = 0
    for uri in sorted(doomed.sources):
        rows = memories.rows(f"source = {quote(uri)} and (valid_to is not null or state = 'forgotten')")
        stale = [
            any(text in near or text in wide for text in gone)
            for near, wide in zip(rows["near"].to_pylist(), rows["wide"].to_pylist(), strict=True)
        ]
        rows = rows.filter(stale) if any(stale) else rows.slice(0, 0)
        if rows.num_rows:
            alone = [_alone(row) for row in rows.select(_PIECE).to_pylist()]
            memories.replace(with_columns(rows, near=[near for near, _ in alone], wide=[wide for _, wide in alone]))
            count += rows.num_rows
    return count


def _clear_extras(memories: Memories, haystack: Haystack) -> None:
    """What a source says of other memories, such as the talk they were taken from, loses the words that go."""
    from memos_cli.cube.plaintext import with_columns

    wordy = {i for i, needle in enumerate(haystack.needles) if needle.kind in (TEXT, FRAGMENT)}

    def says(text: str) -> bool:
        return not wordy.isdisjoint(haystack.find(text.encode("utf-8", "replace")))

    rows = memories.rows("extra != ''", columns=["id", "extra"]).to_pylist()
    cleared = {row["id"]: told.without(row["extra"], says) for row in rows}
    fresh = {row["id"]: cleared[row["id"]] for row in rows if cleared[row["id"]] != row["extra"]}
    for start in range(0, len(fresh), _PARTS):
        found = memories.take(list(fresh)[start : start + _PARTS])
        memories.replace(with_columns(found, extra=[fresh[i] for i in found["id"].to_pylist()]))


_PIECE = ["text", "kind", "section", "session", "speaker", "role"]


def _alone(row: dict[str, Any]) -> tuple[str, str]:
    section = (row["section"],) if row["section"] else ()
    (placed,) = place([Piece(**{**row, "section": section})])
    return placed.near, placed.wide


def _catalogues(directory: Path, doomed: Doomed) -> None:
    """The files beside the table, without what tells of the doomed.

    A source is read again by the next ingest: its digest is the hash of words that are to be gone. What a model was
    asked about goes with the parts of sources that are no longer there.
    """
    from memos_cli.cube.plaintext import Memories

    memories = Memories.open(directory)
    states = catalogue.read(directory)
    ledger = extracted.read(directory)
    for uri in doomed.sources:
        rows = memories.of_source(uri, columns=list(dict.fromkeys((*windows.COLUMNS, "content_key")))).to_pylist()
        if uri in states and rows:
            live = sum(row["valid_to"] is None for row in rows)
            states[uri] = replace(states[uri], digest="", memories=min(live, states[uri].memories))
        elif uri in states:
            del states[uri]
        here = {part.key for part in windows.cut(row for row in rows if _is_read(row))}
        for key in [key for key in ledger if key[0] == uri and (key[1] not in here or key[:2] in doomed.windows)]:
            del ledger[key]
    _write(directory / catalogue.FILE, catalogue.encode(states))
    _write(directory / extracted.FILE, extracted.encode(ledger))
    left = {uri: one for uri, one in exchanges.read(directory).items() if uri not in doomed.sources}
    _write(directory / exchanges.FILE, exchanges.encode(left.values()))


def _is_read(row: dict[str, Any]) -> bool:
    from memos_cli.cube.plaintext import RECALLED

    return row["valid_to"] is None and row["state"] in RECALLED and extracted.window_of(row["content_key"]) is None


def _write(path: Path, data: bytes) -> None:
    if path.exists():
        disk.write_bytes(path, data)


def _drop_activations(folder: Path, doomed: Mapping[str, Any]) -> Iterator[str]:
    """Removes the caches of the doomed, and those that were made on top of one: they have seen its words."""
    files = activation.find(folder)
    gone = {path for path in files if activation.memory_of(path) in doomed}
    headers = {path: _header(path) for path in files} if gone else {}
    while more := {path for path, header in headers.items() if path not in gone and _is_on_top(header, headers, gone)}:
        gone |= more
    for path in sorted(gone):
        path.unlink()
        yield path.name


def _is_on_top(
    header: activation.Header | None, headers: Mapping[Path, activation.Header | None], gone: set[Path]
) -> bool:
    keys = {below.key for path in gone if (below := headers[path])}
    return header is None or (bool(header.parent) and header.parent in keys)


def _header(path: Path) -> activation.Header | None:
    try:
        return activation.read(path).header
    except MemosError:
        return None


def _drop_adapters(folder: Path, doomed: Mapping[str, Any]) -> Iterator[str]:
    """Removes the adapters that were made of the doomed, those that cannot say of what, and those on top of them.

    What was trained cannot be filtered; an adapter that is marked only would still tell.
    """
    known = {name: _adapter(folder, name) for name in parameter.names(folder)}
    gone = {name for name, one in known.items() if one is None or not _spares(one, doomed)}
    while more := {
        name
        for name, one in known.items()
        if name not in gone and one and any(under.split("@")[0] in gone for under in one.about.requires)
    }:
        gone |= more
    for name in sorted(gone):
        disk.remove_tree(folder / name)
        yield name


def _spares(adapter: parameter.Adapter, doomed: Mapping[str, Any]) -> bool:
    """Whether an adapter says what it was made of, and none of it is doomed; a capability may be of no memory."""
    ids = {source.memory_id for source in adapter.about.sources}
    return ids.isdisjoint(doomed) if ids else adapter.about.kind == CAPABILITY


def _adapter(folder: Path, name: str) -> parameter.Adapter | None:
    try:
        return parameter.read(folder, name)
    except MemosError:
        return None


def _others(directory: Path, doomed: Doomed, haystack: Haystack) -> Iterator[str]:
    """Rows of other tables that name one of the doomed or say its words leave too; yields the tables they left."""
    for path in sorted(directory.iterdir()):
        if path.suffix == ".lance" and path.stem != "memories":
            table = lance.open_table(directory, path.stem).search().to_arrow()
            kept = _without(table, doomed, haystack)
            # Also when all rows stay: the files may hold some that were deleted before.
            _rewrite(directory, path.stem, kept)
            if kept.num_rows < table.num_rows:
                yield f"{PLAINTEXT}/{path.name}: {table.num_rows - kept.num_rows} rows"
        elif path.suffix == ".arrow" and path.name not in _OWN:
            table = _read_arrow(path)
            kept = _without(table, doomed, haystack)
            if kept.num_rows < table.num_rows:
                disk.write_bytes(path, arrow.encode(kept))
                yield f"{PLAINTEXT}/{path.name}: {table.num_rows - kept.num_rows} rows"


def _read_arrow(path: Path) -> pa.Table:
    import pyarrow as pa

    with pa.ipc.open_file(path) as file:
        return file.read_all()


def _without(table: pa.Table, doomed: Doomed, haystack: Haystack) -> pa.Table:
    """The rows that neither name one of the doomed nor say its words."""
    wordy = {i for i, needle in enumerate(haystack.needles) if needle.kind in (TEXT, FRAGMENT)}
    names = [
        field.name for field in table.schema if str(field.type) in ("string", "large_string", "list<item: string>")
    ]
    told: set[int] = set()
    texts = []
    for number, row in enumerate(table.select(names).to_pylist()):
        cells = [cell for value in row.values() for cell in (value if isinstance(value, list) else [value]) if cell]
        texts.append("\0".join(cells).encode("utf-8", "replace"))
        if not doomed.rows.keys().isdisjoint(cells):
            told.add(number)
    starts = list(accumulate((len(text) + 1 for text in texts), initial=0))
    for i, places in haystack.find(b"\0".join(texts)).items():
        if i in wordy:
            told |= {bisect_right(starts, place) - 1 for place in places}
    keep = [number not in told for number in range(table.num_rows)]
    return table.filter(keep) if keep else table


def _rewrite(directory: Path, name: str, rows: pa.Table) -> None:
    beside = directory / f"rewriting-{name}"
    beside.mkdir()
    fresh = lance.create_table(beside, name, schema=lance.strip_unsafe(rows.schema))
    if rows.num_rows:
        fresh.add(rows)
    shutil.rmtree(directory / f"{name}.lance")
    (beside / f"{name}.lance").rename(directory / f"{name}.lance")
    beside.rmdir()


def _strays(tree: Path, haystack: Haystack) -> Iterator[str]:
    """Files of no form, such as exports that were put into the cube, that tell of the doomed are removed."""
    for path in sorted(each for each in tree.rglob("*") if each.is_file()):
        place = path.relative_to(tree)
        if place.parts[0] not in _FORMS and tells(path, haystack):
            path.unlink()
            yield place.as_posix()
