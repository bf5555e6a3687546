"""Questions with their answers, a row for each: what fidelity gates, distillation, self-tests and memory tests ask.

A Lance table beside the memories, absent until there is a probe. A probe tells what its memory says, so it goes with
it: `delete` writes the table anew, for Lance keeps the text of deleted rows in its files. Knows no model, and nothing
of how questions are made.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memos_cli.cube import lance
from memos_cli.cube.filters import quote
from memos_cli.cube.search import compact
from memos_cli.errors import Damaged, Usage

if TYPE_CHECKING:
    import pyarrow as pa  # noqa: TID253  this room is Lance's

TABLE = "probes"
TRAIN, DEV, TEST = "train", "dev", "test"
SPLITS = (TRAIN, DEV, TEST)
TEXT_LIMIT_CHARACTERS = 8192

_BESIDE = "rewriting-probes"
_KIND = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_ID = re.compile(r"[0-9a-f]{20}")
_ADAPTER = re.compile(r"(?:[a-z0-9][a-z0-9_-]{0,63})?")
_MEMORY = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_-]{0,63})?")
_CONTENT = re.compile(r"(?:sha256:[0-9a-f]{64})?")


@dataclass(frozen=True, slots=True)
class Probe:
    """A question about a memory and the answer that is expected.

    `memory_id` is "" for one that is about no memory (a decoy); `adapter` the one it was made for, "" for any; `kind`
    says how it was made: template, cloze, self, reversed, decoy, neighbour, ...; `evidence` are the words of the
    source that the answer rests on, and `content` is `sha256:<hex>` of the text that it was made from, "" for none.
    """

    memory_id: str
    question: str
    answer: str
    kind: str
    split: str
    created: datetime
    adapter: str = ""
    evidence: str = ""
    content: str = ""

    @property
    def id(self) -> str:
        """20 hex digits; two probes of one id ask the same for the same."""
        said = (self.memory_id, self.adapter, self.kind, self.split, self.question, self.answer)
        return hashlib.sha256("\x1e".join(said).encode("utf-8", "surrogatepass")).hexdigest()[:20]


def schema() -> pa.Schema:
    """The columns of probes.lance."""
    import pyarrow as pa

    names = ("id", "memory_id", "adapter", "question", "answer", "evidence", "kind", "split", "content")
    return pa.schema([*((name, pa.string()) for name in names), ("created", pa.timestamp("us", tz="UTC"))])


def read(
    directory: Path,
    *,
    split: str | None = None,
    kind: str | None = None,
    adapter: str | None = None,
    memory_ids: Collection[str] | None = None,
) -> list[Probe]:
    """The probes under `directory` (a version's `plaintext/`) that are all of this, in the order they were added.

    `adapter` also gives those that are for any. None when there is no table. Raises Damaged for one that is not as it
    must be.
    """
    given = {"split": split, "kind": kind}
    parts = [f"{name} = {quote(value)}" for name, value in given.items() if value is not None]
    if adapter is not None:
        parts.append(f"adapter in ({quote(adapter)}, '')")
    wanted = None if memory_ids is None else set(memory_ids)
    rows = _rows(directory, " and ".join(parts))
    return [probe for probe in map(_probe, rows) if wanted is None or probe.memory_id in wanted]


def append(directory: Path, probes: Iterable[Probe]) -> int:
    """Adds the probes that are not there yet; how many. Raises Usage for one that could not be read again."""
    new = {probe.id: probe for probe in probes}
    for probe in new.values():
        if wrong := fault(_row(probe)):
            raise Usage(f"a probe of memory {probe.memory_id or 'none'} {wrong}")
    there = {row["id"] for row in _rows(directory, "", columns=["id"])}
    rows = [_row(probe) for key, probe in new.items() if key not in there]
    if rows:
        _add(_open(directory) or lance.create_table(directory, TABLE, schema=schema()), rows)
    return len(rows)


def delete(directory: Path, *, memory_ids: Collection[str] = (), adapters: Collection[str] = ()) -> int:
    """Takes out the probes of these memories and those made for these adapters; how many.

    The table is written anew, so that no file of the draft holds their words any more.
    """
    gone_with, made_for = set(memory_ids) - {""}, set(adapters) - {""}
    rows = list(_rows(directory, ""))
    kept = [row for row in rows if row["memory_id"] not in gone_with and row["adapter"] not in made_for]
    if len(kept) == len(rows):
        return 0
    _rewrite(directory, kept)
    return len(rows) - len(kept)


def count(directory: Path) -> int:
    """How many probes there are."""
    table = _open(directory)
    return int(table.count_rows(None)) if table else 0


def memory_ids(directory: Path) -> frozenset[str]:
    """The memories that there are probes about."""
    return frozenset(row["memory_id"] for row in _rows(directory, "", columns=["memory_id"])) - {""}


def adapters(directory: Path) -> frozenset[str]:
    """The adapters that there are probes made for."""
    return frozenset(row["adapter"] for row in _rows(directory, "", columns=["adapter"])) - {""}


def faults(directory: Path) -> Iterator[tuple[str, str]]:
    """Id and fault of each row that is not as it must be. Raises Damaged when the table is not."""
    seen: Counter[str] = Counter()
    for row in _rows(directory, ""):
        if wrong := fault(row):
            yield str(row["id"]), wrong
            continue
        seen[row["id"]] += 1
        if seen[row["id"]] == 2:
            yield str(row["id"]), "is in the table more than once"


def fault(row: dict[str, Any]) -> str:
    """What is wrong with a row, in words; "" for a sound one."""
    if empty := [name for name, value in row.items() if value is None]:
        return f"has no {empty[0]}"
    if row["split"] not in SPLITS:
        return f"has the split {row['split']!r:.40}, which is none of {', '.join(SPLITS)}"
    for name, pattern in (
        ("id", _ID), ("kind", _KIND), ("adapter", _ADAPTER), ("memory_id", _MEMORY), ("content", _CONTENT)
    ):  # fmt: skip
        if pattern.fullmatch(row[name]) is None:
            return f"has {row[name]!r:.60} as its {name}"
    if not row["question"].strip() or not (row["answer"].strip() or row["evidence"].strip()):
        return "has no question, or neither answer nor evidence"
    if longest := [name for name in ("question", "answer", "evidence") if len(row[name]) > TEXT_LIMIT_CHARACTERS]:
        return f"has a {longest[0]} of more than {TEXT_LIMIT_CHARACTERS:,} characters"
    return "" if row["id"] == _probe(row).id else "has another id than its words give"


def _open(directory: Path) -> lance.Table | None:
    """The table, None when there is none. Raises Damaged for other columns than the format says."""
    if not (directory / f"{TABLE}.lance").is_dir():
        return None
    table = lance.open_table(directory, TABLE)
    found = table.schema.remove_metadata()
    if not found.equals(schema()):
        raise Damaged(f"{directory / TABLE}.lance: expected columns {schema().names}, found {found.names}")
    return table


def _rows(directory: Path, where: str, *, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
    table = _open(directory)
    if table is None:
        return
    query = table.search()
    if where:
        query = query.where(where)
    for batch in query.select(columns or schema().names).to_batches():
        yield from batch.to_pylist()


def _probe(row: dict[str, Any]) -> Probe:
    return Probe(**{field.name: row[field.name] for field in fields(Probe)})


def _row(probe: Probe) -> dict[str, Any]:
    return {"id": probe.id, **{field.name: getattr(probe, field.name) for field in fields(Probe)}}


def _add(table: Any, rows: list[dict[str, Any]]) -> None:
    import pyarrow as pa

    table.add(pa.Table.from_pylist(rows, schema=schema()))
    compact(table)


def _rewrite(directory: Path, rows: list[dict[str, Any]]) -> None:
    """A table of these rows in the place of the one that is there; none at all for no rows."""
    beside = directory / _BESIDE
    shutil.rmtree(beside, ignore_errors=True)
    if rows:
        beside.mkdir()
        _add(lance.create_table(beside, TABLE, schema=schema()), rows)
    shutil.rmtree(directory / f"{TABLE}.lance")
    if rows:
        (beside / f"{TABLE}.lance").rename(directory / f"{TABLE}.lance")
        beside.rmdir()
