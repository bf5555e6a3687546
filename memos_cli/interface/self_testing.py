"""The verb `self_test` of the Memory API: a cube answers its own questions, and what it misses is repaired.

Recall, caches and adapters are each asked what the memories say. Without `apply` nothing is changed: what falls short
is told, with the repair that would be tried. With it repairs are tried on a draft, and each is kept only when wordings
that it was not made from are answered better; what is kept is one version.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from memos_cli.cube import activation, parameter, probes
from memos_cli.errors import CheckFailed, Usage
from memos_cli.interface import embedding, frame
from memos_cli.interface.frame import PLAINTEXT, Changing, Desk, Reading
from memos_cli.interface.rows import SHOWN, memory
from memos_cli.interface.tested import FormTested, Repaired, SelfTested
from memos_cli.operation import mentioning
from memos_cli.operation.self_test import NONE, Asked, K, Standing, failing, questions_for, testable, total

if TYPE_CHECKING:
    from memos_cli.interface.results import Memory
    from memos_cli.interface.self_teaching import HeldOut
    from memos_cli.runtime.embed import Embedder

Progress = Callable[[int, int | None, str], None]
TEXT, ACTIVATION, PARAMETER = "plaintext", "activation", "parameter"
FORMS = (TEXT, ACTIVATION, PARAMETER)
LIMIT = 200
# The kind of a question that is kept because it tested a repair.
KEPT = "asked"
_LONGEST = 160
_READ_AT_ONCE = 256


def self_test(
    cube: str | Path,
    *,
    forms: Sequence[str] = (),
    model: str = "nano",
    k: int = K,
    limit: int = LIMIT,
    apply: bool = False,
    redistil: bool = False,
    embedder: str | None = None,
    reason: str = "",
    lock_timeout: float = 10.0,
    home: Path | None = None,
    notify: frame.Notify | None = None,
    progress: Progress | None = None,
) -> SelfTested:
    """How recall, caches and adapters answer a cube's own questions; with `apply` what falls short is repaired.

    At most `limit` memories are asked about, those used most first. `forms` are by default recall and what the cube has
    for `model`. `redistil` has adapters that fall short made anew, which takes minutes each. Raises Usage, CheckFailed
    for a cube about which nothing can be asked, and what `convert` and `distill` do.
    """
    start = perf_counter()
    if unknown := [one for one in forms if one not in FORMS]:
        raise Usage(f"expected forms of {', '.join(FORMS)}, found {', '.join(unknown)}")
    if k < 1 or limit < 1:
        raise Usage("expected at least one place and one memory to test")
    if redistil and not apply:
        raise Usage("making adapters anew changes the cube, so it goes with apply")
    desk = frame.desk(home, notify)
    with ExitStack() as stack:
        if apply:
            change = frame.changing(desk, cube, "edit", reason=reason or "self-test", lock_timeout=lock_timeout)
            seen: Reading = stack.enter_context(change)
        else:
            seen = stack.enter_context(frame.reading(desk, cube, "schedule"))
        seen.facts["self_test"] = True
        bench = _bench(desk, seen, str(cube), model, k=k, limit=limit, embedder=embedder, progress=progress)
        wanted = forms or bench.offered()
        told = _Told()
        tested = seen.version.number
        if TEXT in wanted:
            from memos_cli.interface.self_recall import test_recall

            test_recall(bench, told)
        if ACTIVATION in wanted or PARAMETER in wanted:
            from memos_cli.interface.self_knowledge import test_adapters, test_caches

            if ACTIVATION in wanted:
                test_caches(bench, told)
            if PARAMETER in wanted:
                test_adapters(bench, told, redistil=redistil)
        number = _commit(bench, told) if isinstance(seen, Changing) else tested
    if redistil and told.short:
        from memos_cli.interface.self_teaching import teach_again

        number = teach_again(desk, cube, bench, told, lock_timeout=lock_timeout, progress=progress)
    return SelfTested(
        cube=str(cube), tested=tested, number=number, model=bench.model, k=k, untested=bench.untested,
        forms=tuple(told.forms), repairs=tuple(told.repairs), applied=apply, notes=tuple(told.notes),
        seconds=round(perf_counter() - start, 3),
    )  # fmt: skip


@dataclass(slots=True)
class Bench:
    """A cube, or the draft of one, with its memories, the questions about them, and what is needed to ask."""

    desk: Desk
    seen: Reading
    cube: str
    model: str
    k: int
    memories: dict[str, Memory]
    asked: dict[str, list[Asked]]
    untested: int
    embedder: Embedder | None
    progress: Progress | None

    @property
    def draft(self) -> Changing | None:
        """What repairs are tried on; None where nothing may be changed."""
        return self.seen if isinstance(self.seen, Changing) else None

    def offered(self) -> tuple[str, ...]:
        """The forms that the cube has."""
        found = [TEXT]
        if activation.find(self.seen.path / activation.FOLDER):
            found.append(ACTIVATION)
        if parameter.names(self.seen.path / parameter.FOLDER):
            found.append(PARAMETER)
        return tuple(found)

    def of(self, memory_id: str, split: str) -> list[Asked]:
        """The questions of one memory in a split."""
        return [one for one in self.asked[memory_id] if one.split == split]

    def text(self, memory_id: str) -> str:
        """The words of a memory, cut to a line."""
        return " ".join(self.memories[memory_id].text.split())[:_LONGEST]


@dataclass(slots=True)
class _Told:
    """What is found out on the way, and what is to be kept."""

    forms: list[FormTested] = field(default_factory=list)
    repairs: list[Repaired] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    short: dict[str, HeldOut] = field(default_factory=dict)


Told = _Told


def _bench(
    desk: Desk, seen: Reading, cube: str, model: str, *, k: int, limit: int, embedder: str | None,
    progress: Progress | None,
) -> Bench:  # fmt: skip
    from memos_cli.cube.plaintext import live_at
    from memos_cli.infrastructure import uses

    live = seen.memories.batches(live_at(frame.now()), columns=["id"])
    used = uses.of_cube(seen.root, home=desk.home, cube_id=seen.cube.id)
    ids = sorted((row["id"] for part in live for row in part), key=lambda one: (-used.get(one, (0, None))[0], one))
    stored: dict[str, list[Any]] = {}
    for one in probes.read(seen.path / PLAINTEXT):
        stored.setdefault(one.memory_id, []).append(one)
    memories: dict[str, Memory] = {}
    asked: dict[str, list[Asked]] = {}
    untested = 0
    for kept in _in_order(seen, ids):
        if len(asked) == limit:
            break
        found = questions_for(kept, stored.get(kept.id, ()))
        if testable(found):
            memories[kept.id], asked[kept.id] = kept, found
        else:
            untested += 1
    if not asked:
        raise CheckFailed(
            f"nothing can be asked about the memories of {cube}: none states a fact, a name, a number or a date",
            hint=f"memos audit {cube} --tests FILE asks questions of your own",
        )
    opened, why = embedding.for_query(desk, seen.memories.embedder, spec=embedder, cube=cube)
    if why:
        desk.notify(f"without {why}")
    return Bench(desk, seen, cube, model, k, memories, asked, untested, opened, progress)


def _in_order(seen: Reading, ids: Sequence[str]) -> Iterator[Memory]:
    """The memories in this order, read a few at a time: a large cube is not read for a few of them."""
    for start in range(0, len(ids), _READ_AT_ONCE):
        part = ids[start : start + _READ_AT_ONCE]
        rows = {row["id"]: row for row in seen.memories.take(part, columns=SHOWN).to_pylist()}
        yield from (memory(rows[one]) for one in part if one in rows)


def _commit(bench: Bench, told: _Told) -> int:
    """Publishes what was kept, with the questions that it was tested by; the number of the version."""
    change = bench.draft
    assert change is not None
    assert change.draft is not None
    kept = [one for one in told.repairs if one.kept]
    if not kept:
        change.draft.discard()
        return change.version.number
    ids = list(dict.fromkeys(identity for one in kept for identity in (one.made or (one.id,))))
    change.touched += [one.id for one in kept]
    fresh = [
        probes.Probe(one.id, asked.question, asked.answer, KEPT, asked.split, frame.now())
        for one in kept if not one.made and one.id in bench.asked for asked in bench.asked[one.id]
    ]  # fmt: skip
    probes.append(change.path / PLAINTEXT, fresh)
    mentioning.link(change.whole, change.path / PLAINTEXT, now=frame.now(), uris=(), ids={*ids, *change.touched})
    change.facts["repaired"] = len(ids)
    return change.commit({"self_test": len(kept)}).number


def standing_of(form: str, name: str, measure: str, dev: dict[str, Standing], test: dict[str, Standing]) -> FormTested:
    """How recall did, as it is told: shares of questions."""
    asked, hits, _ = total(dev)
    held, found, _ = total(test)
    return FormTested(
        form, name, measure, len(dev), asked + held, round(hits / max(1, asked), 4), round(found / max(1, held), 4),
        None, None, len(failing(dev)), 0,
    )  # fmt: skip


def better(after: Standing | None, before: Standing | None) -> bool:
    """Whether held-out wordings are answered better: more are found, or as many and higher up."""
    return (after or NONE).score > (before or NONE).score
