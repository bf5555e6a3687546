"""What a model was asked to read: a file beside the table, with a row for each part of a source and each model.

It lets a source that did not change be left alone, whether or not there was anything in it worth a memory. Absent
until something is extracted; an Arrow file, written whole. The memories themselves are rows of the table. A memory
that was extracted has a content key of two parts, `<window>/<words>`: the first is the `window` of a row here. Knows
nothing of models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from memos_cli.cube import arrow

if TYPE_CHECKING:
    import pyarrow as pa

FILE = "extracted.arrow"
_JOINT = "/"

# Source uri, window, model.
Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Asked:
    """A part of a source that a model has read: `window` is the digest of its words, `memories` what it gave."""

    source: str
    window: str
    model: str
    memories: int
    asked_at: datetime

    @property
    def key(self) -> Key:
        return self.source, self.window, self.model


@dataclass(frozen=True, slots=True)
class Estimate:
    """What an extraction will cost, before a word is sent. `host` is "" for a model that runs in this process.

    Calls are exact, tokens in are about right, and tokens out cannot be more. `leaves_machine` says whether the text
    does, `encrypted` whether others can read it on its way.
    """

    model: str
    host: str
    leaves_machine: bool
    encrypted: bool
    calls: int
    words: int
    tokens_in: int
    tokens_out_limit: int


def content_key(window: str, words: str) -> str:
    """The content key of a memory that was extracted."""
    return f"{window}{_JOINT}{words}"


def window_of(key: str) -> str | None:
    """The window that a content key names; None when the memory was not extracted."""
    window, joint, _ = key.partition(_JOINT)
    return window if joint else None


def _schema() -> pa.Schema:
    import pyarrow as pa

    text = pa.string()
    moment = pa.timestamp("us", tz="UTC")
    return pa.schema(
        [("source", text), ("window", text), ("model", text), ("memories", pa.int64()), ("asked_at", moment)]
    )


def read(directory: Path) -> dict[Key, Asked]:
    """What was asked so far; empty when there is no such file. Raises Damaged."""
    rows = arrow.read_table(directory / FILE, _schema()).to_pylist()
    return {asked.key: asked for asked in (Asked(**row) for row in rows)}


def encode(asked: Mapping[Key, Asked]) -> bytes:
    """The bytes of the file."""
    return arrow.encode(arrow.table_of(list(asked.values()), _schema()))
