"""The part of a self-test that asks recall: which memories their own questions miss, and repairs tried on a draft."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from memos_cli.cube.scopes import GUARDS
from memos_cli.interface import frame
from memos_cli.interface.self_testing import TEXT, Bench, Told, better, standing_of
from memos_cli.interface.tested import Repaired
from memos_cli.operation import holding, repairs
from memos_cli.operation.lifecycle import FROZEN
from memos_cli.operation.recall import Scoped
from memos_cli.operation.self_test import (
    DEV,
    NONE,
    RE_CHUNK,
    RE_EMBED,
    TEST,
    TRAIN,
    WORDING,
    Asked,
    Standing,
    failing,
    joined,
    repairs_for,
    standings,
    total,
)  # fmt: skip

if TYPE_CHECKING:
    import pyarrow as pa

    from memos_cli.cube.plaintext import Memories

ROUNDS = (RE_EMBED, RE_CHUNK, WORDING)
MEASURE = "found among the first {k}"
NO_BETTER = "held-out wordings find it no better"
OTHERS_LOSE = "with it other memories are found less often"
NOT_TRIED = "not tried: --apply tries it"
HELD = "it is frozen or held, and stays as it is"
NOTHING = "nothing is known that may help: its vector is its own, it is short, and there is no other wording"


@dataclass(slots=True)
class _Trial:
    """A draft on which repairs are tried: what was kept, how each row was before, and who was parted into what."""

    bench: Bench
    memories: Memories
    kept: dict[str, Repaired] = field(default_factory=dict)
    before: dict[str, pa.Table] = field(default_factory=dict)
    parts: dict[str, tuple[str, ...]] = field(default_factory=dict)


def test_recall(bench: Bench, told: Told) -> None:
    """Asks recall all questions; on a draft repairs what is missed, and keeps what helps."""
    every = [one for asked in bench.asked.values() for one in asked]
    dev, test = _standing(bench, every, DEV), _standing(bench, every, TEST)
    found = standing_of(TEXT, "recall", MEASURE.format(k=bench.k), dev, test)
    missed = failing(dev)
    if bench.draft is None or not missed:
        told.repairs += [_possible(bench, memory, dev, test) for memory in missed]
        told.forms.append(found)
        return
    trial = _Trial(bench, bench.draft.whole)
    tried = _rounds(trial, missed, dev, test)
    after = _standing(bench, _followed(every, trial), TEST)
    if total(after)[1] < total(test)[1]:
        for memory in list(trial.kept):
            _take_back(trial, memory)
            tried[memory] = replace(tried[memory], kept=False, why=OTHERS_LOSE, made=())
        after = test
    told.repairs += [tried.get(memory) or _possible(bench, memory, dev, test) for memory in missed]
    told.forms.append(replace(found, after=round(total(after)[1] / max(1, total(after)[0]), 4)))


def _standing(bench: Bench, asked: Sequence[Asked], split: str) -> dict[str, Standing]:
    if bench.draft is not None:
        from memos_cli.cube.search import ensure_indexes

        # what recall holds of a table goes by its version, and drafts number theirs alike
        holding.let_go()
        ensure_indexes(bench.draft.whole.table)
    table = Scoped(bench.cube, bench.seen.whole.table, bench.seen.shown)
    count = sum(one.split == split for one in asked)
    say = bench.progress
    heard = (lambda done: say(done, count, f"{split} questions")) if say else None
    found = standings(table, asked, split=split, embedder=bench.embedder, k=bench.k, progress=heard)
    if bench.draft is not None:
        holding.let_go()
    return found


def _possible(bench: Bench, memory: str, dev: dict[str, Standing], test: dict[str, Standing]) -> Repaired:
    """What is told of a memory on which nothing was tried."""
    stays = _stays(bench, memory)
    plans = [] if stays else _plans(bench, memory)
    why = stays or (NOT_TRIED if plans else NOTHING)
    question = dev[memory].missed
    return _told(bench, memory, plans[0] if plans else "", question, test.get(memory, NONE), None, why=why)


def _plans(bench: Bench, memory: str) -> list[str]:
    columns = ["id", "text", "kind", "words", *(["vector"] if "vector" in bench.seen.whole.schema.names else [])]
    (row,) = bench.seen.memories.take([memory], columns=columns).to_pylist()
    return repairs_for(row, bench.asked[memory], embedder=bench.embedder)


def _stays(bench: Bench, memory: str) -> str:
    """Why a memory is left as it is, if it is."""
    one = bench.memories[memory]
    if one.state == FROZEN or one.legal_hold or bench.seen.rules.governance.legal_hold:
        return HELD
    (row,) = bench.seen.memories.take([memory], columns=["id", *GUARDS]).to_pylist()
    rule = bench.seen.sight("edit").why(row)
    return f"it is not yours to change: {rule}" if rule else ""


def _rounds(
    trial: _Trial, missed: Sequence[str], dev: dict[str, Standing], test: dict[str, Standing]
) -> dict[str, Repaired]:
    """Tries one kind of repair after the other on those that still fall short; the last that was tried of each."""
    plans = {memory: _plans(trial.bench, memory) for memory in missed if not _stays(trial.bench, memory)}
    told: dict[str, Repaired] = {}
    for kind in ROUNDS:
        wanted = [memory for memory, known in plans.items() if kind in known and memory not in trial.kept]
        for memory in wanted:
            trial.before[memory] = trial.memories.take([memory])
        done = _do(trial, kind, wanted)
        if not done:
            continue
        questions = [one for memory in done for one in trial.bench.of(memory, TEST)]
        after = _standing(trial.bench, _followed(questions, trial), TEST)
        for memory in done:
            now = joined([after[one] for one in (memory, *trial.parts.get(memory, ())) if one in after])
            helped = better(now, test.get(memory))
            told[memory] = _told(
                trial.bench, memory, kind, dev[memory].missed, test.get(memory, NONE), now,
                why="" if helped else NO_BETTER, made=trial.parts.get(memory, ()) if helped else (),
            )  # fmt: skip
            if helped:
                trial.kept[memory] = told[memory]
            else:
                _take_back(trial, memory)
    return told


def _do(trial: _Trial, kind: str, wanted: Sequence[str]) -> list[str]:
    """Does one kind of repair; the memories that it could be done to."""
    bench, memories = trial.bench, trial.memories
    if not wanted:
        return []
    if kind == RE_EMBED:
        assert bench.embedder is not None
        repairs.re_embed(memories, wanted, embedder=bench.embedder)
        return list(wanted)
    # the words are searched in columns whose vectors must be of the table's own embedder, or there are none
    embedder = bench.embedder if memories.embedder else None
    if memories.embedder and embedder is None:
        return []
    if kind == RE_CHUNK:
        trial.parts |= repairs.re_chunk(memories, wanted, embedder=embedder, now=frame.now())
        return [memory for memory in wanted if memory in trial.parts]
    said = {memory: [one.question for one in bench.of(memory, TRAIN)] for memory in wanted}
    return repairs.reword(memories, said, embedder=embedder, now=frame.now())


def _take_back(trial: _Trial, memory: str) -> None:
    embedder = trial.bench.embedder if trial.memories.embedder else None
    added = trial.parts.pop(memory, ())
    repairs.take_back(trial.memories, trial.before[memory], added=added, embedder=embedder)
    trial.kept.pop(memory, None)


def _followed(asked: Iterable[Asked], trial: _Trial) -> list[Asked]:
    """Questions about a text that was parted are about the part that has the answer."""
    found = []
    for one in asked:
        parts = trial.parts.get(one.memory, ())
        rows = trial.memories.take(parts, columns=["id", "text"]).to_pylist() if parts else []
        holds = next((row["id"] for row in rows if one.answer.casefold() in row["text"].casefold()), "")
        found.append(replace(one, memory=holds) if holds else one)
    return found


def _told(
    bench: Bench, memory: str, kind: str, question: str, before: Standing, after: Standing | None, *, why: str,
    made: tuple[str, ...] = (),
) -> Repaired:  # fmt: skip
    return Repaired(
        memory, TEXT, kind, bench.text(memory), question, round(before.reciprocal, 4),
        round(after.reciprocal, 4) if after else None, kept=after is not None and not why, why=why, made=made,
    )  # fmt: skip
