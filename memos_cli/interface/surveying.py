"""What a plan looks at: the memories of a cube that were used or are held, how they stand, and the files they have.

Reads the log, the headers of activation files and the rows they are about; nothing is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memos_cli.cube import activation
from memos_cli.errors import MemosError
from memos_cli.infrastructure import uses
from memos_cli.interface import frame
from memos_cli.interface.planned import PlannedCube
from memos_cli.interface.rows import SHOWN, memory
from memos_cli.interface.teaching import Taught, adapters_of
from memos_cli.interface.tending import Known, Tended, Wish, tend
from memos_cli.interface.tidying import due_in
from memos_cli.operation import gate, indicators
from memos_cli.operation.indicators import NEVER, Event, Indicator
from memos_cli.operation.outlook import Outlook, outlook_of
from memos_cli.operation.policies import Setting, Standing
from memos_cli.operation.schedule import Candidate

if TYPE_CHECKING:
    from memos_cli.interface.frame import Reading
    from memos_cli.interface.results import Memory
    from memos_cli.operation.lifecycle import Due
    from memos_cli.operation.rates import Rates

DAY_SECONDS = 86_400.0
# Looked at among the memories of a cube at most; those that were used last come first.
MOST = 20_000


@dataclass(frozen=True, slots=True)
class File:
    """An activation file for the model of a plan: bytes, when it was made, and why it is not used ("" when it is)."""

    bytes: int
    made_at: datetime | None
    refusal: str
    content: str


@dataclass(frozen=True, slots=True)
class Files:
    """The activation files of a cube: those of a model by memory, and the bytes of all others.

    Of these, `outworn` are by memory those of a model of the same name with other weights, and which.
    """

    mine: dict[str, File]
    foreign_bytes: int
    outworn: dict[str, Outworn]


@dataclass(frozen=True, slots=True)
class Outworn:
    """Files of a memory that the model's weights have left behind: their bytes, and the weights they are for."""

    bytes: int
    weights: frozenset[str]


@dataclass(frozen=True, slots=True)
class Surveyed:
    """A cube: how it is, its candidates and the memories they stand for, and bytes of files for other models.

    `outworn` are those of them that may be discarded, by memory. `stale` are bytes of the files that are of another
    text than their memory has now; `half_life_days` is that of its log, which is `log_days` long and says
    `outlook`; `over` are the memories that have ended and are not marked so, with their words; `tended` is what is
    proposed for texts, which leaves activation memory of theirs to it; `adapters` are the model's.
    """

    told: PlannedCube
    candidates: list[Candidate]
    memories: dict[str, Memory]
    tokens: dict[str, int]
    foreign_bytes: int
    outworn: dict[str, Outworn]
    stale: dict[str, int]
    half_life_days: float
    log_days: float
    outlook: Outlook
    over: tuple[tuple[Due, str], ...]
    tended: tuple[Tended, ...] = ()
    adapters: tuple[Taught, ...] = ()

    @property
    def outworn_bytes(self) -> int:
        """What discarding them frees."""
        return sum(one.bytes for one in self.outworn.values())

    @property
    def named(self) -> list[str]:
        """All memories that a plan may tell of, but those that have ended."""
        return [*self.memories, *(item.id for each in self.tended for item in each.items)]


@dataclass(frozen=True, slots=True)
class Lens:
    """How a cube is looked at: the rates and tokens of a model, the setting of a plan and what else is asked of it."""

    rates: Rates
    count_tokens: Callable[[str], int]
    setting: Setting
    wants_similarity: bool
    wish: Wish = Wish()


def survey(seen: Reading, name: str, lens: Lens, *, also: str = "") -> Surveyed:
    """All that a policy needs to know of a cube that is open, of its memory `also` in any case."""
    now = frame.now()
    log = uses.paths_of(seen.root, home=seen.desk.home, cube_id=seen.cube.id)
    events, counted = indicators.events(uses.accesses(log), now=now)
    half_life = indicators.half_life_of(events)
    hot = indicators.fold(events, half_life_days=half_life)
    by_scale = [indicators.fold(events, half_life_days=days) for days in indicators.HALF_LIVES]
    warm = indicators.fold(events, half_life_days=lens.setting.decay_days)
    held_here = files_of(seen.path / activation.FOLDER, model=lens.rates.model, weights=lens.rates.weights)
    files = held_here.mine
    over = _over(seen)
    known = Known(events, half_life, {one: each.bytes for one, each in files.items()})
    tended = tend(seen, lens.wish, known, ended={due.id for due, _ in over})
    gone = {item.id for each in tended for item in each.items}
    named = [*([also] if also else []), *held_here.outworn]
    rows = {one: pair for one, pair in _rows(seen, named, hot, files).items() if one not in gone}
    near = similarity(seen, list(rows), events) if lens.wants_similarity else {}
    candidates, tokens, stale = [], {}, {}
    for identity, (row, one) in rows.items():
        line = _line(one)
        held = files.get(identity)
        tokens[identity] = lens.count_tokens(line)
        if held is not None and held.content != _content(line):
            stale[identity] = held.bytes
            held = None
        said = hot.get(identity, NEVER)
        standing = Standing(
            uses=said.uses, heat=said.heat, warmth=warm.get(identity, NEVER).heat, idle_days=said.idle_days,
            similarity=near.get(identity, 0.0), held=held is not None,
            price=lens.rates.price(tokens[identity], bytes_held=held.bytes if held else 0),
            heats=tuple(each.get(identity, NEVER).heat for each in by_scale),
        )  # fmt: skip
        candidates.append(
            Candidate(
                name,
                identity,
                standing,
                row["priority"],
                _fixed(seen, row, held),
                _age(held.made_at if held else None, now),
            )
        )
    held_now = [one for one in files if one in rows or one in gone]
    told = PlannedCube(
        name, seen.cube.id, seen.version.number, seen.version.digest, seen.memories.count(_live(now)), len(held_now),
        sum(files[one].bytes for one in held_now), len(events), counted,
    )  # fmt: skip
    log_days = events[0].age_days if events else 0.0
    memories = {one: pair[1] for one, pair in rows.items()}
    outworn = {
        one: left for one, left in held_here.outworn.items() if one in rows and not _fixed(seen, rows[one][0], None)
    }
    adapters = adapters_of(seen, weights=lens.rates.weights)
    return Surveyed(
        told, candidates, memories, tokens, held_here.foreign_bytes, outworn, stale, half_life, log_days,
        outlook_of(events), over, tended, adapters,
    )  # fmt: skip


def _over(seen: Reading) -> tuple[tuple[Due, str], ...]:
    """What is due to be marked as expired; nothing of a cube in which nothing may be lost."""
    rules = seen.rules.governance
    due = [] if rules.frozen or rules.legal_hold else due_in(seen)
    rows = seen.whole.take([one.id for one in due], columns=["id", "text"]).to_pylist()
    texts = {row["id"]: row["text"] for row in rows}
    return tuple((one, texts[one.id]) for one in due)


def files_of(folder: Path, *, model: str, weights: str) -> Files:
    """The files of a model by memory, and the bytes of all others; one that does not read counts among these."""
    found: dict[str, File] = {}
    outworn: dict[str, Outworn] = {}
    foreign = 0
    for path in activation.find(folder):
        size = path.stat().st_size
        try:
            header = activation.read(path).header
        except MemosError:
            foreign += size
            continue
        if header.hard.get("weights") != weights:
            foreign += size
            if header.source.get("model") == model:
                left = outworn.get(header.memory, Outworn(0, frozenset()))
                made_with = frozenset({*left.weights, str(header.hard.get("weights", ""))})
                outworn[header.memory] = Outworn(left.bytes + size, made_with)
            continue
        refused = gate.refusal(header.fidelity, gate.Limits())
        best = found.get(header.memory)
        file = File(size + (best.bytes if best else 0), _moment(header.source.get("made_at")), refused, header.content)
        if best is not None and best.refusal < refused:
            # of several files the one that passes decides
            file = File(file.bytes, best.made_at, best.refusal, best.content)
        found[header.memory] = file
    return Files(found, foreign, outworn)


def _rows(
    seen: Reading, also: Sequence[str], hot: Mapping[str, Indicator], files: Mapping[str, File]
) -> dict[str, tuple[Mapping[str, Any], Memory]]:
    """The rows that are recalled now and may be given another form, of those that were used or are held."""
    latest = sorted(hot, key=lambda one: hot[one].idle_days)[:MOST]
    wanted = list(dict.fromkeys([*also, *files, *latest]))
    level = seen.rules.governance.sensitivity
    rows = seen.leaving(frame.HERE).narrowed(_live(frame.now())).take(wanted, columns=SHOWN).to_pylist()
    return {
        row["id"]: (row, memory({**row, "sensitivity": row["sensitivity"] or level}))
        for row in sorted(rows, key=lambda row: row["id"])
    }


def _live(now: datetime) -> str:
    from memos_cli.cube.plaintext import live_at

    return live_at(now)


def _fixed(seen: Reading, row: Mapping[str, Any], held: File | None) -> str:
    """Why a memory never moves; "" when it may."""
    rules = seen.rules.governance
    if rules.frozen or row["state"] == "frozen":
        return "it is frozen" if row["state"] == "frozen" else "the cube is frozen"
    if rules.legal_hold or row["legal_hold"]:
        return "it is under legal hold" if row["legal_hold"] else "the cube is under legal hold"
    if held is not None and held.refusal:
        return "its file falls short of the gate, so its text is read; it stays, so that it is not made again"
    return ""


def similarity(seen: Reading, ids: Sequence[str], events: Sequence[Event]) -> dict[str, float]:
    """How near each memory is to what was asked about lately; nothing for a cube without vectors.

    A log keeps no question, only a keyed hash of it. What was asked about is known by what it found: the mean of their
    vectors, in which a use counts half after each day.
    """
    import numpy as np

    if "vector" not in seen.memories.schema.names or not events:
        return {}
    weights = indicators.fold(events[-200:], half_life_days=1.0)
    freshest = max(one.heat for one in weights.values())
    recent = {one: said.heat / freshest if freshest else 1.0 for one, said in weights.items()}
    rows = seen.memories.take([*ids, *recent], columns=["id", "vector"]).to_pylist()
    vectors = {row["id"]: np.asarray(row["vector"], np.float32) for row in rows if row["vector"]}
    known = [one for one in recent if one in vectors]
    if not known:
        return {}
    centre = np.sum([recent[one] * vectors[one] for one in known], axis=0)
    length = float(np.linalg.norm(centre)) or 1.0
    return {
        one: float(np.dot(vectors[one], centre)) / (length * (float(np.linalg.norm(vectors[one])) or 1.0))
        for one in ids
        if one in vectors
    }


def _line(one: Memory) -> str:
    from memos_cli.operation.answer import line_of

    return line_of(one)


def _content(line: str) -> str:
    import hashlib

    return f"sha256:{hashlib.sha256(line.encode('utf-8', 'surrogatepass')).hexdigest()}"


def _age(made_at: datetime | None, now: datetime) -> float:
    return (now - made_at).total_seconds() / DAY_SECONDS if made_at else float("inf")


def _moment(text: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return moment if moment.tzinfo else None
