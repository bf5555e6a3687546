"""The verb `query` with an answer: the best memories go to a model, and come back as an answer with citations.

Nothing is answered from thin air: when no memory is close enough the model is not asked, and when it finds no answer
in what it was given, there is none. Makes no version; `remembering.py` writes back what was answered.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from memos_cli.cube.activation import FOLDER
from memos_cli.errors import Usage
from memos_cli.infrastructure import governance
from memos_cli.interface import frame, reader
from memos_cli.interface.found import Answered, Citation, Found, Hit, MemoryForm
from memos_cli.interface.frame import Reading
from memos_cli.interface.querying import Asked, Bench, alone, ask, bench_of, check_cubes
from memos_cli.interface.reader import Call, Reads
from memos_cli.interface.respondents import Respondent, Said, respondent
from memos_cli.interface.sending import ENDPOINT, Destination, Server
from memos_cli.interface.taught import open_adapters
from memos_cli.operation import answer as answers
from memos_cli.operation.activate import ACTIVATION, PARAMETER, PLAINTEXT, Given, whole_form
from memos_cli.operation.answer import NO_TALK, Prompt, Reply, Talk
from memos_cli.operation.closeness import FLOOR, FLOOR_BY_WORDS, closeness
from memos_cli.operation.gate import Limits
from memos_cli.operation.recall import AUTO

if TYPE_CHECKING:
    import numpy as np

OnText = Callable[[str], None]
# Where a cube has its activation files, and which of its adapters may be used (None for all).
Place = tuple[Path, frozenset[str] | None]
MODEL = "nano"
# How many memories are at hand to fill a budget with.
PACKED = 50
# Why there is no answer, when no memory was close enough for the model to be given any.
UNASKED = "floor"
# Found beyond what is given, for those that only repeat the question.
SPARE = 2
SENDABLE = "--where 'sensitivity!=confidential and sensitivity!=restricted', or --runtime local"


def answer(
    cube: str | Path,
    text: str,
    *,
    also: Sequence[str | Path] = (),
    model: str = MODEL,
    server: Server | None = None,
    form: str = "auto",
    limits: Limits | None = None,
    floor: float | None = None,
    k: int | None = None,
    budget: int | None = None,
    mode: str = "hybrid",
    where: str | None = None,
    as_of: str | None = None,
    true_at: str | None = None,
    rerank: bool = False,
    time_scope: str = AUTO,
    reads: Reads | None = None,
    by_use: bool = False,
    measure_use: bool = False,
    embedder: str | None = None,
    talk: Talk = NO_TALK,
    on_text: OnText | None = None,
    to: str = frame.HERE,
    home: Path | None = None,
    notify: frame.Notify | None = None,
) -> Answered:
    """What `model` answers to `text` from the memories of a cube and those in `also`, with the memories it rests on.

    `model` is `nano`, a folder or a hub id, or with `server` a name that the server knows. It is given `k` memories, or
    as many as fit into `budget` tokens, or as many as it reads best. With `form` auto they come as activation memory
    where `limits` let it pass, else as text. `measure_use` notes in the access log how much likelier each memory made
    the answer, which takes a pass a memory; `by_use` ranks by what was noted. Below `floor` (0 to 1, by default as
    measured) the closest memory is too far to ask. Recall is asked `text` alone; the `talk` that it is part of goes to
    a model that takes instructions, without its oldest turns where they do not fit, and then memories come as text.
    `on_text` hears the answer as it comes. Raises what `query` does,
    Damaged or NotFound for the model, CheckFailed when an insisted form cannot serve, and for a server StoreFailed, or
    NotAllowed when a memory's label keeps it here.
    """
    (answered,) = answer_many(
        [cube, *also], [text], model=model, server=server, form=form, limits=limits, floor=floor, k=k, budget=budget,
        mode=mode, where=where, as_of=as_of, true_at=true_at, rerank=rerank, time_scope=time_scope, reads=reads,
        by_use=by_use, measure_use=measure_use, embedder=embedder, talk=talk, on_text=on_text, to=to,
        home=home, notify=notify,
    )  # fmt: skip
    return answered


def answer_many(
    cubes: Sequence[str | Path],
    calls: Iterable[str | Call],
    *,
    model: str = MODEL,
    server: Server | None = None,
    form: str = "auto",
    limits: Limits | None = None,
    floor: float | None = None,
    k: int | None = None,
    budget: int | None = None,
    mode: str = "hybrid",
    where: str | None = None,
    as_of: str | None = None,
    true_at: str | None = None,
    rerank: bool = False,
    time_scope: str = AUTO,
    reads: Reads | None = None,
    by_use: bool = False,
    measure_use: bool = False,
    embedder: str | None = None,
    talk: Talk = NO_TALK,
    on_text: OnText | None = None,
    to: str = frame.HERE,
    home: Path | None = None,
    notify: frame.Notify | None = None,
) -> Iterator[Answered]:
    """An answer per prompt, from cubes that stay open and a model that is loaded once, when it is first asked."""
    if floor is not None and not 0 <= floor <= 1:
        raise Usage(f"expected a floor from 0 to 1, found {floor:g}", hint="--floor 0 asks the model about anything")
    desk = frame.desk(home, notify)
    names = check_cubes(desk, cubes)
    who = respondent(model, server, form=form, limits=limits or Limits(), home=desk.home, warm=desk.warm)
    if server is not None and who.there is not None:
        server.agree(who.there)
    asker = _Asker.of(who, k=k, budget=budget, floor=floor, talk=talk, on_text=on_text, notify=desk.notify)
    bench: Bench | None = None
    listen = reader.listener(reads)
    for given in calls:
        call = reader.read(given) if isinstance(given, str) else given
        most = call.k or asker.most
        asked = Asked.of(
            replace(call, k=most + SPARE), k=most, mode=mode, where=where, as_of=as_of, true_at=true_at,
            time_scope=time_scope,
        )  # fmt: skip
        with ExitStack() as stack:
            seen = [stack.enter_context(frame.reading(desk, cube, "query", to=to)) for cube in cubes]
            if bench is None or not bench.holds(seen):
                bench = bench_of(desk, names, seen, embedder=embedder, model=None)
            for each in seen:
                each.query = call.text
                each.facts["answered_by"] = who.name
            start = perf_counter()
            with alone(desk):
                found = ask(
                    bench, seen, call, asked, budget=None, context=0, rerank=rerank, listen=listen, by_use=by_use
                )
            with desk.warm.answering if desk.warm else nullcontext():
                who.renew()
                answered = asker.answer(found, bench, seen, most=most)
                gained = who.gains(call.text, answered.hits, answered.answer) if measure_use and answered.answer else {}
            forms = answered.forms
            stored = {form: [one.id for one in forms if one.form == form] for form in (ACTIVATION, PARAMETER)}
            for name, each in zip(names, seen, strict=True):
                read = [hit.id for hit in answered.hits if hit.cube == name] if answered.reason != UNASKED else []
                each.facts |= {"answered": answered.answer is not None, "form": answered.form, "injected": read}
                each.facts |= {form: ids for form, ids in stored.items() if ids}
                each.facts |= {"gains": {one: gained[one] for one in read if one in gained}} if gained else {}
                each.facts |= {"tokens": answered.prompt_tokens, "seconds": round(perf_counter() - start, 6)}
        yield replace(answered, seconds={**answered.seconds, "total": round(perf_counter() - start, 6)})


@dataclass(slots=True)
class _Asker:
    """One who is asked one prompt after another, and how."""

    who: Respondent
    most: int
    budget: int | None
    floor: float | None
    talk: Talk
    on_text: OnText | None
    notify: frame.Notify
    seconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls, who: Respondent, *, k: int | None, budget: int | None, floor: float | None, talk: Talk,
        on_text: OnText | None, notify: frame.Notify,
    ) -> _Asker:  # fmt: skip
        return cls(who, k or (PACKED if budget else who.traits.memories), budget, floor, talk, on_text, notify)

    def answer(self, found: Found, bench: Bench, seen: Sequence[Reading], *, most: int) -> Answered:
        """The answer to what was found."""
        parse = found.seconds["parse"]
        self.seconds = {"parse": parse, "retrieve": round(found.seconds["total"] - parse, 6)}
        hits = _worth_giving(found, most=most)
        near = self._timed("closeness", lambda: _closeness(found.query, hits, bench, seen))
        floor = self.floor if self.floor is not None else FLOOR if bench.embedder else FLOOR_BY_WORDS
        if not hits or near < floor:
            return self._answered(found, hits, Reply(None, why=UNASKED), near=near, floor=floor)
        self.seconds |= self.who.load()
        hits, given, prompt = self._timed("prompt", lambda: self._prompt(found.query, hits, _folders(bench, seen)))
        if self.who.there is not None:
            _let_go(self.who.there, hits, bench, seen)
        said, reply = self._ask(prompt, hits, given, forms=found.prompt.forms)
        return self._answered(found, hits, reply, near=near, floor=floor, said=said, turns=len(prompt.talk.turns))

    def _prompt(
        self, question: str, hits: Sequence[Hit], folders: Mapping[str, Place]
    ) -> tuple[tuple[Hit, ...], list[Given], Prompt]:
        """The memories that fit, best first and numbered anew, where their files are, and the prompt with them."""
        kept = self._within_budget(hits)
        while True:
            given = [Given(hit.id, answers.line_of(hit), *folders[hit.cube]) for hit in kept]
            prompt = self._prompt_of(question, kept, given)
            if len(kept) <= 1 or self.who.fits(prompt, given):
                return kept, given, prompt
            kept = kept[:-1]

    def _prompt_of(self, question: str, hits: Sequence[Hit], given: Sequence[Given]) -> Prompt:
        """The prompt with as many turns of the talk as fit, the latest ones."""
        traits, many = self.who.traits, len(self.talk.turns)

        def without(oldest: int) -> Prompt:
            talk = self.talk.latest(oldest)
            return answers.prompt_for(question, hits, spans=traits.spans, unknown=traits.unknown, talk=talk)

        # each try is a pass of the tokenizer over all of it, so half of what is left is tried at a time
        enough = bisect_left(
            range(many + 1), True, key=lambda oldest: oldest == many or self.who.fits(without(oldest), given)
        )  # fmt: skip
        return without(enough)

    def _within_budget(self, hits: Sequence[Hit]) -> tuple[Hit, ...]:
        """As many as fit; one that does not is passed over for a shorter one. The first is always given."""
        given: list[Hit] = []
        left = self.budget
        for hit in hits:
            cost = self.who.count_tokens(answers.line_of(hit)) if left is not None else 0
            if left is None or cost <= left or not given:
                given.append(hit)
                left = None if left is None else left - cost
        return _numbered(given)

    def _ask(
        self, prompt: Prompt, hits: Sequence[Hit], given: Sequence[Given], *, forms: Sequence[str]
    ) -> tuple[Said, Reply]:
        unknown = self.who.traits.unknown
        aloud = answers.Aloud(self.on_text, unknown=unknown) if self.on_text else None
        # a copied answer is a few words, and is not said before it is known to stand in a memory
        said = self.who.write(prompt, given, on_text=None if self.who.traits.spans else aloud, forms=forms)
        read = answers.read_span if self.who.traits.spans else answers.read_instructed
        reply = read(said.text, hits, unknown=unknown)
        if reply.text is None and self.who.may_read and whole_form(said.formed) == PARAMETER:
            # what an adapter does not know, or makes up, may still be read
            rest = [form for form in forms if form != PARAMETER]
            said = self.who.write(prompt, given, on_text=None, forms=rest)
            reply = read(said.text, hits, unknown=unknown)
        if aloud:
            aloud.finish(reply.text)
        self.seconds |= {**said.stages, "ttft": self._until(said), "write": said.seconds}
        for warning in said.warnings:
            self.notify(warning)
        return said, reply

    def _until(self, said: Said) -> float:
        """Seconds from the question to the first token, without what only a process's first question waits for."""
        before = [self.seconds.get(name, 0.0) for name in ("parse", "retrieve", "closeness", "prompt")]
        return round(sum(before) + sum(said.stages.values()), 6)

    def _timed(self, stage: str, work: Callable[[], Any]) -> Any:
        start = perf_counter()
        done = work()
        self.seconds[stage] = round(perf_counter() - start, 6)
        return done

    def _answered(
        self,
        found: Found,
        hits: tuple[Hit, ...],
        reply: Reply,
        *,
        near: float,
        floor: float,
        said: Said | None = None,
        turns: int = 0,
    ) -> Answered:
        cited = tuple(Citation(hit.rank, hit.id, hit.cube, hit.place) for hit in hits if hit.rank in reply.cited)
        return Answered(
            query=found.query, id=found.id, prompt=found.prompt, cubes=found.cubes, answer=reply.text,
            reason=reply.why, citations=cited,
            cited_by=reply.by, form=whole_form(said.formed) if said else PLAINTEXT, forms=_forms(said),
            reused_tokens=said.reused if said else 0, recomputed_tokens=said.recomputed if said else 0,
            model=self.who.name, host=self.who.there.host if self.who.there else "",
            closeness=near, floor=floor, mode=found.mode, profile=found.profile, as_of=found.as_of,
            true_at=found.true_at,
            missing=found.missing, untrusted=found.untrusted, hits=hits,
            prompt_tokens=said.prompt_tokens if said else 0, answer_tokens=said.tokens if said else 0,
            tokens_by=said.tokens_by if said else "", cut=bool(said and said.cut), turns=turns,
            seconds=self.seconds, remembered=None,
        )  # fmt: skip


def _folders(bench: Bench, seen: Sequence[Reading]) -> dict[str, Place]:
    """Where each cube has its activation files, and which of its adapters may be used."""
    return {
        table.name: (each.path / FOLDER, open_adapters(each)) for table, each in zip(bench.tables, seen, strict=True)
    }


def _forms(said: Said | None) -> tuple[MemoryForm, ...]:
    formed = said.formed if said else ()
    return tuple(
        MemoryForm(number, one.id, one.form, one.way, one.tokens, one.reused, one.why)
        for number, one in enumerate(formed, 1)
    )


def _let_go(there: Destination, hits: Sequence[Hit], bench: Bench, seen: Sequence[Reading]) -> None:
    """Notes in the trail where these memories go. Raises NotAllowed when one of them must not."""
    for each, table in zip(seen, bench.tables, strict=True):
        level = each.rules.governance.sensitivity
        most = governance.maximum(each.rules, ENDPOINT, policy=each.desk.policy)
        ids = [hit.id for hit in hits if hit.cube == table.name]
        rows = each.memories.take(ids, columns=["id", "sensitivity"])
        for label in [level, *rows["sensitivity"].to_pylist()]:
            there.check(label or level, hint=SENDABLE, most=most)
        if there.leaves_machine:
            governance.insist(each.may_leave(ids, ENDPOINT, verb="send"), ENDPOINT, hint=SENDABLE)
    for each in seen:
        each.facts["answer_host"] = there.host


def _worth_giving(found: Found, *, most: int) -> tuple[Hit, ...]:
    """The best memories, without those that only say what is asked."""
    question = answers.plain(found.query)
    return _numbered([hit for hit in found.hits if answers.plain(hit.text) != question][:most])


def _numbered(hits: Sequence[Hit]) -> tuple[Hit, ...]:
    return tuple(replace(hit, rank=number) for number, hit in enumerate(hits, 1))


def _closeness(question: str, hits: Sequence[Hit], bench: Bench, seen: Sequence[Reading]) -> float:
    vectors = _vectors(hits, seen) if bench.embedder else None
    return closeness(question, hits, vectors=vectors, embedder=bench.embedder)


def _vectors(hits: Sequence[Hit], seen: Sequence[Reading]) -> np.ndarray | None:
    """The vectors of these memories, of their text and of it under its heading; None when a table has none."""
    import numpy as np

    rows: list[Any] = []
    for each in seen:
        if "vector" not in each.memories.schema.names:
            return None
        taken = each.memories.take([hit.id for hit in hits], columns=["id", "vector", "near_vector"])
        rows += [vector for name in ("vector", "near_vector") for vector in taken[name].to_pylist() if vector]
    return np.asarray(rows, dtype=np.float32) if rows else None
