"""memory.toml: what an adapter is, beside its numbers: of which model, of which memories, how good, whose.

It is read strictly: a key that is missing, not known, or holds what is never written there is Damaged; only the recipe
is free. Knows no tensor, and nothing of the other adapters of a cube.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from memos_cli.cube.activation_header import HARD_FIELDS
from memos_cli.cube.digest import encode as encode_json
from memos_cli.cube.metadata import SENSITIVITIES
from memos_cli.cube.parameter_config import RANK_LIMIT, Config, is_module
from memos_cli.cube.toml import MAX_BYTES, parse_toml
from memos_cli.errors import Damaged, Usage

FILE = "memory.toml"
VERSION = 1
FACTS, CAPABILITY = "facts", "capability"
KINDS = (FACTS, CAPABILITY)
KNOWN, DISTILLED, UNTEACHABLE = "known", "distilled", "unteachable"
STANDINGS = (KNOWN, DISTILLED, UNTEACHABLE)
FRESH, STALE = "fresh", "stale"
DTYPES = ("F32", "F16", "BF16")
# What the fingerprint of a model has for adapters when it carries none.
BARE = "none"
TEXT_LIMIT_CHARACTERS = 4096
REASON_CHARACTERS = 1000
STACK_LIMIT = 64

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_MEMORY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")
_HEX = re.compile(r"[0-9a-f]{64}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_REQUIRED = re.compile(rf"({NAME.pattern})@({_HEX.pattern})")


class Source(NamedTuple):
    """A memory that an adapter was made of: its id, the version of the cube, `sha256:<hex>` of its words, its standing.

    `known` was known to the model already, `distilled` was taught, `unteachable` was not.
    """

    memory_id: str
    version: int
    content: str
    standing: str


@dataclass(frozen=True, slots=True)
class Base:
    """The model an adapter is for: its name, and its fingerprint without any adapter, as activation headers have it."""

    name: str
    hard: Mapping[str, Any]
    soft: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rights:
    """What may be done with it: its own licence and its base's, the highest label and the shortest life of its sources.

    An adapter cannot be filtered by row, so it is as closed as the most closed of them.
    """

    sensitivity: str
    licence: str = ""
    base_licence: str = ""
    expires: datetime | None = None


@dataclass(frozen=True, slots=True)
class Weights:
    """What the numbers are: filled in when they are written. `sha256` is that of the safetensors file.

    `id` is the digest of all that makes the adapter act as it does: the numbers, their scale and their places. It is
    what a fingerprint and the adapters above it name.
    """

    id: str
    sha256: str
    rank: int
    alpha: float
    targets: tuple[str, ...]
    dtype: str
    bytes: int
    peft_version: str = ""


@dataclass(frozen=True, slots=True)
class About:
    """What whoever makes an adapter says of it.

    `requires` are the adapters beneath it, `name@id` from the lowest on, that must be on the model first; `recipe` a
    free table of plain values; `metrics` numbers by name; `gated` whether it passed its tests; `state` fresh or stale,
    with the reason.
    """

    kind: str
    base: Base
    rights: Rights
    made_at: datetime
    requires: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    gated: bool = False
    state: str = FRESH
    reason: str = ""


def identify(config: Config, weights_sha256: str) -> str:
    """The `id` of an adapter with this config and these weights, 64 hex digits."""
    said = {
        "alpha": repr(config.alpha), "rank": config.rank, "targets": sorted(config.targets),
        "transposed": config.transposed, "weights": weights_sha256,
    }  # fmt: skip
    return hashlib.sha256(encode_json(said)).hexdigest()


def content_of(line: str) -> str:
    """The `content` of a source: the digest of what a prompt shows of a memory."""
    return f"sha256:{hashlib.sha256(line.encode('utf-8', 'surrogatepass')).hexdigest()}"


def split(requirement: str) -> tuple[str, str]:
    """Name and id of a `name@id`. Raises Usage for another form."""
    match = _REQUIRED.fullmatch(requirement)
    if match is None:
        raise Usage(f"an adapter beneath is named name@<64 hex>, found {requirement[:120]!r}")
    return match[1], match[2]


def strictest(labels: Sequence[str], lives: Sequence[datetime | None]) -> tuple[str, datetime | None]:
    """The highest of some labels, and the earliest of the ends that there are; of no labels the lowest."""
    label = max(labels, key=SENSITIVITIES.index, default=SENSITIVITIES[0])
    return label, min((life for life in lives if life is not None), default=None)


def encode(weights: Weights, about: About) -> bytes:
    """The bytes of memory.toml. Raises Usage for what could not be read again, such as too many sources."""
    import tomli_w

    data = tomli_w.dumps(_table(weights, about)).encode()
    if len(data) > MAX_BYTES:
        raise Usage(
            f"an adapter's {FILE} has at most {MAX_BYTES:,} bytes, found {len(data):,}: {len(about.sources)} sources",
            hint="distil fewer memories at a time: --select",
        )
    try:
        parse(data, place=FILE)
    except Damaged as error:
        raise Usage(error.message) from error
    return data


def _table(weights: Weights, about: About) -> dict[str, Any]:
    rights: dict[str, Any] = {
        "licence": about.rights.licence, "base_licence": about.rights.base_licence,
        "sensitivity": about.rights.sensitivity,
    }  # fmt: skip
    if about.rights.expires is not None:
        rights["expires"] = _utc(about.rights.expires)
    return {
        "format_version": VERSION,
        "adapter": {
            "kind": about.kind, "id": weights.id, "sha256": weights.sha256, "rank": weights.rank,
            "alpha": float(weights.alpha), "targets": list(weights.targets), "dtype": weights.dtype,
            "bytes": weights.bytes, "peft_version": weights.peft_version, "made_at": _utc(about.made_at),
            "gated": about.gated,
        },
        "state": {"state": about.state, "reason": about.reason},
        "base": {"name": about.base.name, "hard": dict(about.base.hard), "soft": dict(about.base.soft)},
        "stack": {"requires": list(about.requires)},
        "rights": rights,
        "metrics": {name: float(value) for name, value in about.metrics.items()},
        "recipe": _plain(about.recipe),
        "source": [source._asdict() for source in about.sources],
    }  # fmt: skip


def _plain(value: Any) -> Any:
    """Tuples as lists, which is what they are read as."""
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(microsecond=0)


def parse(data: bytes, *, place: Path | str) -> tuple[Weights, About]:
    """What `encode` wrote; raises Damaged, naming `place` and the key, for anything else."""
    table = _Table(parse_toml(data, where=str(place)), place)
    version = table.value("format_version", int)
    if version != VERSION:
        raise Damaged(f"{place}: expected format_version {VERSION}, found {version}", hint="a newer memos may read it")
    adapter = table.inner("adapter")
    weights = Weights(
        id=adapter.matching("id", _HEX),
        sha256=adapter.matching("sha256", _HEX),
        rank=adapter.count("rank", low=1, high=RANK_LIMIT),
        alpha=adapter.figure("alpha"),
        targets=adapter.targets(),
        dtype=adapter.one_of("dtype", DTYPES),
        bytes=adapter.count("bytes", low=1),
        peft_version=adapter.text("peft_version"),
    )
    state, stack, metrics = table.inner("state"), table.inner("stack"), table.inner("metrics")
    about = About(
        kind=adapter.one_of("kind", KINDS),
        base=_base(table.inner("base")),
        rights=_rights(table.inner("rights")),
        made_at=adapter.moment("made_at"),
        requires=stack.requires(),
        sources=table.sources(),
        recipe=table.free("recipe"),
        metrics={name: metrics.figure(name) for name in list(metrics.left)},
        gated=adapter.value("gated", bool),
        state=state.one_of("state", (FRESH, STALE)),
        reason=state.text("reason"),
    )
    for part in (table, adapter, state, stack, metrics):
        part.check_empty()
    return weights, about


def _base(table: _Table) -> Base:
    base = Base(table.text("name"), table.texts("hard"), table.texts("soft"))
    if missing := [name for name in HARD_FIELDS if name not in base.hard]:
        raise table.wrong("hard", f"{', '.join(missing)} among the fields", sorted(base.hard))
    if base.hard["adapters"] != BARE:
        expected = f"{BARE!r}: the fingerprint is that of the bare model, and `requires` names the adapters beneath"
        raise table.wrong("hard.adapters", expected, base.hard["adapters"])
    table.check_empty()
    return base


def _rights(table: _Table) -> Rights:
    rights = Rights(
        sensitivity=table.one_of("sensitivity", SENSITIVITIES),
        licence=table.text("licence"),
        base_licence=table.text("base_licence"),
        expires=table.moment("expires") if "expires" in table.left else None,
    )
    table.check_empty()
    return rights


class _Table:
    """A table of which values are taken one by one; each method raises Damaged for what may not be there."""

    def __init__(self, table: dict[str, Any], place: Path | str, name: str = "") -> None:
        self.left, self.place, self.name = dict(table), place, name

    def wrong(self, key: str, expected: str, found: Any) -> Damaged:
        return Damaged(
            f"{self.place}: {f'{self.name}.{key}'.lstrip('.')}: expected {expected}, found {found!r:.80}",
            hint="take the adapter out and make it again",
        )

    def check_empty(self) -> None:
        if self.left:
            raise self.wrong(min(self.left)[:80], "no such key", next(iter(self.left.values())))

    def value(self, key: str, kind: type) -> Any:
        found = self.left.pop(key, None)
        # bool is an int to Python, not to a reader of the file
        if not isinstance(found, kind) or (kind is int and isinstance(found, bool)):
            raise self.wrong(key, f"a {kind.__name__}", found)
        return found

    def inner(self, key: str) -> _Table:
        return _Table(self.value(key, dict), self.place, key)

    def text(self, key: str) -> str:
        text: str = self.value(key, str)
        if len(text) > TEXT_LIMIT_CHARACTERS:
            raise self.wrong(key, f"at most {TEXT_LIMIT_CHARACTERS} characters", text)
        return text

    def texts(self, key: str) -> dict[str, str]:
        table = self.inner(key)
        return {name: table.text(name) for name in list(table.left)}

    def matching(self, key: str, pattern: re.Pattern[str]) -> str:
        text = self.text(key)
        if pattern.fullmatch(text) is None:
            raise self.wrong(key, "a well-formed text", text)
        return text

    def one_of(self, key: str, words: tuple[str, ...]) -> str:
        text = self.text(key)
        if text not in words:
            raise self.wrong(key, f"one of {', '.join(words)}", text)
        return text

    def count(self, key: str, *, low: int = 0, high: int = 2**53) -> int:
        number: int = self.value(key, int)
        if not low <= number <= high:
            raise self.wrong(key, f"a number from {low} to {high}", number)
        return number

    def figure(self, key: str) -> float:
        number: float = self.value(key, float)
        if not math.isfinite(number):
            raise self.wrong(key, "a finite number", number)
        return number

    def moment(self, key: str) -> datetime:
        moment: datetime = self.value(key, datetime)
        if moment.tzinfo is None:
            raise self.wrong(key, "a time with its offset", str(moment))
        return moment

    def targets(self) -> tuple[str, ...]:
        found = self.value("targets", list)
        if not found or not all(is_module(one) for one in found) or found != sorted(set(found)):
            raise self.wrong("targets", "names of modules in order", found)
        return tuple(found)

    def requires(self) -> tuple[str, ...]:
        found = self.value("requires", list)
        well_formed = all(isinstance(one, str) and _REQUIRED.fullmatch(one) for one in found)
        if not well_formed or len(found) > STACK_LIMIT or len({one.partition("@")[0] for one in found}) != len(found):
            raise self.wrong("requires", f"at most {STACK_LIMIT} of name@<64 hex>, each name once", found)
        return tuple(found)

    def sources(self) -> tuple[Source, ...]:
        found = self.value("source", list)
        sources = tuple(self._source(one) for one in found)
        if len({source.memory_id for source in sources}) != len(sources):
            raise self.wrong("source", "each memory once", len(sources))
        return sources

    def _source(self, value: Any) -> Source:
        if not isinstance(value, dict):
            raise self.wrong("source", "a table for each", value)
        table = _Table(value, self.place, "source")
        source = Source(
            table.matching("memory_id", _MEMORY), table.count("version", low=1), table.matching("content", _DIGEST),
            table.one_of("standing", STANDINGS),
        )  # fmt: skip
        table.check_empty()
        return source

    def free(self, key: str) -> dict[str, Any]:
        table: dict[str, Any] = self.value(key, dict)
        self._check_plain(key, table)
        return table

    def _check_plain(self, key: str, value: Any) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                self._check_plain(f"{key}.{name}"[:200], inner)
        elif isinstance(value, list):
            for inner in value:
                self._check_plain(key, inner)
        elif isinstance(value, float) and not math.isfinite(value):
            raise self.wrong(key, "a finite number", value)
        elif not isinstance(value, str | int | float | datetime):
            raise self.wrong(key, "texts, numbers, true, false, times, lists and tables", value)
