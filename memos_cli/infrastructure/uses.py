"""How memories are used, as the access log tells it: each query leaves one record, and nothing else counts as a use.

A record says when, what was found (best first), what of it a model was given to read, what in another form than text,
and the tokens and seconds. It is a line of the log, so that two who ask at once lose nothing and no version is made.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from memos_cli.errors import Damaged
from memos_cli.infrastructure import trail

# How often, and when last.
Use = tuple[int, datetime]
_USING = frozenset({"query"})


class Access(NamedTuple):
    """One query: memories it `found`, best first; those `given` to a model; those of them that were `stored`.

    `stored` came back as activation or parameter memory and were not read; `ranks` go with `found`; `prompt` is the
    keyed hash of the question. Tokens and seconds are 0 where the log does not tell them. `gains` says by how much each
    memory made the answer likelier, where that was measured.
    """

    moment: datetime
    found: tuple[str, ...]
    ranks: tuple[int, ...]
    given: tuple[str, ...]
    stored: tuple[str, ...]
    tokens: int
    seconds: float
    prompt: str
    gains: Mapping[str, float] = MappingProxyType({})


def of_cube(root: Path, *, home: Path, cube_id: str) -> Mapping[str, Use]:
    """Uses by memory, from the cube's own log and that of the one who asks, who may not be able to write there."""
    return read(paths_of(root, home=home, cube_id=cube_id))


def paths_of(root: Path, *, home: Path, cube_id: str) -> list[Path]:
    """The logs that tell of the uses of a cube."""
    return [trail.path_of(root), trail.home_path(home, cube_id)]


def read(paths: Iterable[Path]) -> Mapping[str, Use]:
    """Uses by memory in some logs; a line that cannot be read, or says something else, is no use."""
    found: dict[str, Use] = {}
    for path in paths:
        for place in trail.files(path):
            for identity, (count, last) in _folded(place).items():
                before, latest = found.get(identity, (0, last))
                found[identity] = (before + count, max(latest, last))
    return found


@dataclass(slots=True)
class _Fold:
    """What a file of a log says up to a place: how far that is, the bytes before it, and uses by memory."""

    end: int = 0
    ending: bytes = b""
    uses: dict[str, Use] = field(default_factory=dict)


# A log only grows, and whoever looks at it often need not read all of it each time: files by device and inode. Each
# line ends in the hash of all before it, so a file that ends there as it did says what it said.
_FOLDS: dict[tuple[int, int], _Fold] = {}
_MOST_FOLDS = 32


def _folded(place: Path) -> Mapping[str, Use]:
    """Uses by memory in one file of a log; a line that is not whole yet is none."""
    try:
        with open(place, "rb") as stream:
            told = os.fstat(stream.fileno())
            fold = _FOLDS.pop((told.st_dev, told.st_ino), None) or _Fold()
            stream.seek(max(0, fold.end - len(fold.ending)))
            if stream.read(len(fold.ending)) != fold.ending:
                fold = _Fold()
                stream.seek(0)
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                fold.end, fold.ending = fold.end + len(line), line[-trail.ENDING_BYTES :]
                _count(line[:-1], fold.uses)
    except OSError:
        return {}
    _FOLDS[told.st_dev, told.st_ino] = fold
    while len(_FOLDS) > _MOST_FOLDS:
        _FOLDS.pop(next(iter(_FOLDS)))
    return fold.uses


def _count(line: bytes, found: dict[str, Use]) -> None:
    try:
        entry = trail.decode(line)[0]
    except Damaged:
        return
    moment = _moment(entry.get("time"))
    if moment is None or not _is_use(entry):
        return
    for identity in _ids(entry.get("memories")):
        count, last = found.get(identity, (0, moment))
        found[identity] = (count + 1, max(last, moment))


def accesses(paths: Iterable[Path]) -> list[Access]:
    """Every query in some logs, oldest first; what a line does not tell, or tells in another kind, is left empty."""
    return sorted((one for path in paths for one in _accesses(path)), key=lambda one: one.moment)


def _accesses(path: Path) -> Iterator[Access]:
    for entry in trail.entries(path):
        moment = _moment(entry.get("time"))
        if moment is None or not _is_use(entry):
            continue
        facts = entry.get("facts")
        told: dict[str, Any] = facts if isinstance(facts, dict) else {}
        found = _ids(entry.get("memories"))
        yield Access(
            moment, found, _ranks(told.get("ranks"), len(found)), _ids(told.get("injected")),
            _ids(told.get("activation")) + _ids(told.get("parameter")), int(_number(told.get("tokens"))),
            _number(told.get("seconds")), str(entry.get("query") or ""), _gains(told.get("gains")),
        )  # fmt: skip


def _is_use(entry: Mapping[str, Any]) -> bool:
    return entry.get("verb") in _USING and entry.get("outcome") == "ok"


def _ids(value: object) -> tuple[str, ...]:
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list) else ()


def _gains(value: object) -> dict[str, float]:
    """What is a finite number of what a line says."""
    told = value if isinstance(value, dict) else {}
    return {
        memory: float(gain) for memory, gain in told.items()
        if isinstance(memory, str) and isinstance(gain, int | float) and not isinstance(gain, bool)
        and math.isfinite(gain)
    }  # fmt: skip


def _ranks(value: object, count: int) -> tuple[int, ...]:
    """The ranks that were noted; of a line without them, the order in which it names its memories."""
    if isinstance(value, list) and len(value) == count and all(type(one) is int for one in value):
        return tuple(value)
    return tuple(range(1, count + 1))


def _number(value: object) -> float:
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if plain and math.isfinite(value) else 0.0  # type: ignore[arg-type]


def _moment(text: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return moment if moment.tzinfo else None
