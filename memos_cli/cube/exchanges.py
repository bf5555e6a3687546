"""Which question and answer a remembered memory is from: a file beside the table, with a row for each exchange.

What was asked and answered stands in the memories themselves; here is who answered, from which memories and which
versions. Absent until something is remembered; an Arrow file, written whole. Knows nothing of models.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from memos_cli.cube import arrow

if TYPE_CHECKING:
    import pyarrow as pa

FILE = "exchanges.arrow"
PREFIX = "exchange:"


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question that was answered. `source` is that of its memories.

    `cited` are the ids of the memories the answer rests on, `read` the cubes it was answered from, each as
    `<cube id>@<version>`; `form` is the form of memory that the model read.
    """

    source: str
    model: str
    form: str
    cited: tuple[str, ...]
    read: tuple[str, ...]
    asked_at: datetime


def uri_of(question: str, answer: str) -> str:
    """The source of an exchange's memories: equal when the same words are asked and answered."""
    return PREFIX + hashlib.sha256(f"{question}\x1e{answer}".encode("utf-8", "replace")).hexdigest()[:12]


def _schema() -> pa.Schema:
    import pyarrow as pa

    text, many = pa.string(), pa.list_(pa.string())
    moment = pa.timestamp("us", tz="UTC")
    return pa.schema(
        [("source", text), ("model", text), ("form", text), ("cited", many), ("read", many), ("asked_at", moment)]
    )


def read(directory: Path) -> dict[str, Exchange]:
    """Source to exchange, in the order they were remembered; empty when there is no such file. Raises Damaged."""
    rows = arrow.read_table(directory / FILE, _schema()).to_pylist()
    return {
        row["source"]: Exchange(**{**row, "cited": tuple(row["cited"]), "read": tuple(row["read"])}) for row in rows
    }


def encode(exchanges: Iterable[Exchange]) -> bytes:
    """The bytes of the file."""
    return arrow.encode(arrow.table_of(list(exchanges), _schema()))
