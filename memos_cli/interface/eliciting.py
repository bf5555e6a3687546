"""The verb `elicit` of the Memory API: what an adapter knows, back into the table as facts that wait to be accepted.

Where its memories are still in the cube that is a lookup, and nothing is asked. Asking takes long, so it is done on a
version that is held and not under the writer's lock; what comes out is held against the cube as it is when it is
written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from memos_cli.cube import parameter, parameter_stack
from memos_cli.errors import CheckFailed, NotAllowed, NotFound, Usage
from memos_cli.interface import embedding, frame
from memos_cli.interface.converting import chosen
from memos_cli.interface.denying import open_denial
from memos_cli.interface.frame import Changing, Desk, Reading
from memos_cli.interface.models import open_model
from memos_cli.interface.parameters import Elicited, ReadBack, Taught
from memos_cli.interface.results import Memory
from memos_cli.interface.rows import SHOWN, memory
from memos_cli.interface.taught import insist_adapters

if TYPE_CHECKING:
    from memos_cli.cube.parameter import Adapter
    from memos_cli.operation.elicit import Ask, Heard, Sifted
    from memos_cli.operation.facts import Fact
    from memos_cli.operation.quarantine import Knowledge

Progress = Callable[[int, int | None, str], None]
THERE, REWORDED, ENDED, GONE = "there", "reworded", "ended", "gone"
# Questions that one call asks at most: about half an hour of the default model on one core.
MOST_QUESTIONS = 100_000
SAID_ALREADY = "a memory says so already"
SAID_OTHERWISE = "a memory says otherwise"
WRITTEN_BEFORE = "it was read back before"


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for: of which adapters, about whom and what, and how much may be made up."""

    model: str
    chain: tuple[Adapter, ...]
    subjects: tuple[str, ...]
    relations: tuple[str, ...]
    rate: float
    seed: int

    @property
    def top(self) -> Adapter:
        return self.chain[-1]

    @property
    def taught(self) -> dict[str, str]:
        """The memories that the chain was taught, and the digest of what each said."""
        sources = (source for one in self.chain for source in one.about.sources)
        return {source.memory_id: source.content for source in sources if source.standing == parameter.DISTILLED}


def elicit(
    cube: str | Path,
    *,
    model: str = "nano",
    name: str | None = None,
    subjects: Sequence[str] = (),
    relations: Sequence[str] = (),
    fdr: float = 0.05,
    seed: int = 0,
    dry_run: bool = False,
    reason: str = "",
    lock_timeout: float = 10.0,
    home: Path | None = None,
    notify: frame.Notify | None = None,
    progress: Progress | None = None,
) -> Elicited:
    """Reads facts back out of the adapter `name` (the only one by default), as memories in the state `generated`.

    Only when some of what it was taught is gone from the cube, or `subjects` or `relations` are given: else that is
    looked up and nothing asked. Asked about are these, or those of the cube's other memories and questions, in wordings
    it was not taught in and among decoys; kept is what the adapter says so surely that at most a share of `fdr` is
    estimated to be false. No memory is changed, and none that was forgotten comes back. Raises NotFound, Usage,
    WrongModel, NotAllowed, CheckFailed for an adapter that changes nothing, Locked, Damaged.
    """
    if not 0 < fdr < 1:
        raise Usage(f"expected a share of false facts between 0 and 1, found {fdr:g}")
    begin, desk = perf_counter(), frame.desk(home, notify)
    with frame.reading(desk, cube, "convert") as seen:
        wish = Wish(model, _chain(seen, name, cube=str(cube)), tuple(subjects), tuple(relations), fdr, seed)
        insist_adapters(seen, [one.name for one in wish.chain])
        seen.facts |= {"form": "plaintext", "adapter": wish.top.name, "dry_run": True}
        taught = tuple(_lookup(seen, wish))
        seen.touched = [one.id for one in taught]
        told = _nothing(seen, wish, cube, taught, dry_run=dry_run)
        if not (subjects or relations) and taught and all(one.standing != GONE for one in taught):
            return replace(told, seconds=round(perf_counter() - begin, 3))
        _check_denied(desk, seen, wish, taught)
        wish = _named(seen, wish)
        asked, heard = _asked(desk, seen, wish, progress)
    from memos_cli.operation.elicit import WORDINGS, sift

    sifted = sift(asked, heard, rate=fdr)
    told = replace(
        told, subjects=len(wish.subjects), relations=len(wish.relations), probes=len(asked) * WORDINGS,
        targets=sifted.targets, decoys=sifted.decoys, heard=sifted.heard, decoys_heard=sifted.decoys_heard,
        outdone=sifted.outdone, threshold=sifted.threshold, rate=round(sifted.rate, 4),
    )  # fmt: skip
    with frame.trying(desk, cube, "convert", dry_run=dry_run, reason=reason, lock_timeout=lock_timeout) as work:
        work.facts |= {"form": "plaintext", "adapter": wish.top.name}
        _check_denied(desk, work, wish, taught)
        facts, withheld = _held_against(desk, work, wish, sifted)
        number = _write(desk, work, wish, sifted, facts, cube=str(cube))
    return replace(
        told, number=number, kept=len(sifted.kept), withheld=withheld, facts=tuple(fact for _, fact in facts),
        seconds=round(perf_counter() - begin, 3),
    )  # fmt: skip


def _chain(seen: Reading, name: str | None, *, cube: str) -> tuple[Adapter, ...]:
    """The adapter that is meant with all it stands on. Raises NotFound, Usage where several could be."""
    folder = seen.path / parameter.FOLDER
    held = parameter.names(folder)
    if not held:
        raise NotFound(f"expected an adapter in {cube}, found none", hint=f"memos distill {cube}")
    if name is None and len(held) > 1:
        raise Usage(f"{cube} has the adapters {', '.join(held)}", hint=f"--name {held[0]}")
    chain = parameter_stack.chain(folder, name or held[0])
    for one in chain:
        expires = one.about.rights.expires
        if expires is not None and expires <= frame.now():
            raise NotAllowed(f"{one.name} outlived what it was taught: it expired {expires.isoformat()}")
    return chain


def _lookup(seen: Reading, wish: Wish) -> Iterator[Taught]:
    """What there is of the memories that the adapter was taught."""
    from memos_cli.interface.publishing import content_of

    live = {one.id: one for one in chosen(seen, "", ())}
    rows = set(seen.memories.take(wish.taught, columns=["id"])["id"].to_pylist())
    for identity, content in wish.taught.items():
        if identity in live:
            yield Taught(identity, THERE if content_of(live[identity]) == content else REWORDED)
        else:
            yield Taught(identity, ENDED if identity in rows else GONE)


def _check_denied(desk: Desk, seen: Reading, wish: Wish, taught: Sequence[Taught]) -> None:
    """Raises CheckFailed for an adapter that was taught what was forgotten for good, or may have been.

    What it says of that cannot be told from the rest; of what another home forgot only that home knows what it was.
    """
    denial = open_denial(desk, seen.path / frame.PLAINTEXT)
    lost = any(denial.knows(one.id) for one in taught)
    if lost or (denial.foreign and any(one.standing == GONE for one in taught)):
        raise CheckFailed(
            f"{wish.top.name} {'was' if lost else 'may have been'} taught memories that were forgotten for good",
            hint=f"memos distill CUBE --rebuild --name {wish.top.name}",
        )


def _nothing(seen: Reading, wish: Wish, cube: str | Path, taught: tuple[Taught, ...], *, dry_run: bool) -> Elicited:
    """The result as it is before anything was asked."""
    return Elicited(
        cube=str(cube), number=seen.version.number, dry_run=dry_run, adapter=wish.top.name,
        model=wish.top.about.base.name, taught=taught, subjects=0, relations=0, probes=0, targets=0, decoys=0, heard=0,
        decoys_heard=0, outdone=0, kept=0, threshold=None, rate=0.0, fdr=wish.rate, withheld=0, facts=(), seconds=0.0,
    )  # fmt: skip


# --- whom to ask about


def _named(seen: Reading, wish: Wish) -> Wish:
    """The wish with names from the cube where none were given. Raises NotFound where there are none at all."""
    from memos_cli.operation.elicit import distinct

    facts = [] if wish.subjects and wish.relations else [*_facts_of_memories(seen), *_facts_of_probes(seen)]
    subjects = tuple(distinct(wish.subjects or [fact.subject for fact in facts]))
    relations = tuple(distinct(wish.relations or [fact.relation for fact in facts]))
    for what, found in (("subjects", subjects), ("relations", relations)):
        if not found:
            raise NotFound(
                f"nothing in the cube names {what} to ask {wish.top.name} about", hint=f"--{what} FILE, one a line"
            )
    return replace(wish, subjects=subjects, relations=relations)


def _facts_of_memories(seen: Reading) -> Iterator[Fact]:
    from memos_cli.operation.answer import line_of
    from memos_cli.operation.facts import facts_of

    for one in chosen(seen, "", ()):
        yield from facts_of(line_of(one), kind=one.kind, section=one.section)


def _facts_of_probes(seen: Reading) -> Iterator[Fact]:
    """What stored questions in wordings of our own ask for, and their answers."""
    from memos_cli.cube import probes
    from memos_cli.operation.elicit import named
    from memos_cli.operation.facts import Fact
    from memos_cli.operation.probes import TEMPLATE

    for probe in probes.read(seen.path / frame.PLAINTEXT, kind=TEMPLATE):
        if found := named(probe.question):
            yield Fact(*found, probe.answer)


# --- asking


def _asked(desk: Desk, seen: Reading, wish: Wish, progress: Progress | None) -> tuple[list[Ask], list[Heard]]:
    """What was asked, and what was answered alike. Raises WrongModel, CheckFailed when the adapter changes nothing."""
    from memos_cli.operation.elicit import WORDINGS, asks, hear
    from memos_cli.operation.tutor import Tutor
    from memos_cli.runtime import adapter

    asked = asks(wish.subjects, wish.relations, rate=wish.rate, seed=wish.seed)
    if len(asked) * WORDINGS > MOST_QUESTIONS:
        raise Usage(
            f"{len(wish.subjects)} subjects and {len(wish.relations)} relations make {len(asked) * WORDINGS:,} "
            f"questions with their decoys, {MOST_QUESTIONS:,} are asked at most",
            hint="name fewer: --subjects FILE --relations FILE",
        )
    opened = open_model(desk, wish.model)
    local, loaded, made_with = opened.local, opened.local.load(), opened.made_with
    for one in wish.chain:
        parameter.verify(one.path.parent, one.name)
        parameter.check_model(one, name=local.name, hard=made_with.hard, soft=made_with.soft)
    with adapter.attach(loaded.network, [one.path for one in wish.chain]) as adapted:
        if adapter.differs(adapted) == 0:
            raise CheckFailed(f"{wish.top.name} changes nothing of what {local.name} says")
        return asked, hear(Tutor(loaded, local.traits), adapted, asked, progress=progress)


# --- holding against the cube, and writing


def _known(seen: Reading, wish: Wish) -> Knowledge:
    from memos_cli.operation.quarantine import knowledge

    live = {one.id for one in chosen(seen, "", ())}
    known: list[Memory] = []
    ended: list[Memory] = []
    for rows in seen.memories.batches("state != 'generated'", columns=SHOWN):
        for row in rows:
            (known if row["id"] in live else ended).append(memory(row))
    return knowledge(known, ended, taught=wish.taught, asked=_facts_of_probes(seen))


def _held_against(desk: Desk, seen: Reading, wish: Wish, sifted: Sifted) -> tuple[list[tuple[Heard, ReadBack]], int]:
    """The facts that may be told, each with what the cube says of it, and how many may not."""
    from memos_cli.operation.quarantine import CONTRADICTED, statement

    known = _known(seen, wish)
    denial = open_denial(desk, seen.path / frame.PLAINTEXT)
    told = [one for one in sifted.kept if not (known.withholds(one) or denial.refuses(statement(one)))]
    there = _written(seen, wish)
    facts = []
    for found in told:
        verdict = known.verdict(found)
        identity = str(_row(seen, found, sifted, wish, verdict)["id"])
        why = (
            WRITTEN_BEFORE if identity in there
            else SAID_ALREADY if known.has(found)
            else SAID_OTHERWISE if verdict == CONTRADICTED
            else ""
        )  # fmt: skip
        fact = ReadBack(
            statement(found), found.ask.subject, found.ask.relation, found.value, found.question,
            round(found.chance, 4), round(found.gain, 3), found.agree, verdict, "" if why else identity, why,
        )  # fmt: skip
        facts.append((found, fact))
    return facts, len(sifted.kept) - len(told)


def _row(seen: Reading, found: Heard, sifted: Sifted, wish: Wish, verdict: str) -> dict[str, object]:
    from memos_cli.operation.quarantine import row_of

    level = seen.cube.governance.sensitivity
    return row_of(found, sifted, wish.top, rate=wish.rate, verdict=verdict, level=level, now=frame.now())


def _written(seen: Reading, wish: Wish) -> set[str]:
    """Ids of what was read out of this adapter before, whatever became of it."""
    from memos_cli.cube.filters import quote
    from memos_cli.operation.quarantine import source_of

    rows = seen.memories.rows(f"source = {quote(source_of(wish.top))}", columns=["id"])
    return set(rows["id"].to_pylist())


def _write(
    desk: Desk, seen: Reading, wish: Wish, sifted: Sifted, facts: Sequence[tuple[Heard, ReadBack]], *, cube: str
) -> int:
    """The number of the version that has the facts; of a dry run, or where nothing is new, of the one there is."""
    rows = [_row(seen, found, sifted, wish, fact.verdict) for found, fact in facts if fact.id]
    if not isinstance(seen, Changing) or not rows:
        return seen.version.number
    from memos_cli.cube.plaintext import table_of
    from memos_cli.operation.quarantine import with_vectors

    encoder = embedding.for_cube(desk, seen.memories.embedder, spec=None, cube=cube)
    seen.memories.append(table_of(with_vectors(rows, encoder), embedder=seen.memories.embedder))
    seen.touched += [str(row["id"]) for row in rows]
    return seen.commit({"read_back": len(rows), "adapter": wish.top.name}).number
