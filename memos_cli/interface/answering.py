"""The verb `query` with an answer: the best memories go to a model, and come back as an answer with citations.

Nothing is answered from thin air: when no memory is close enough the model is not asked, and when it finds no answer
in what it was given, there is none. Makes no version; `remembering.py` writes back what was answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from memos_cli.errors import Usage
from memos_cli.interface import frame, reader
from memos_cli.interface.found import Answered, Citation, Found, Hit
from memos_cli.interface.frame import Reading
from memos_cli.interface.querying import Asked, Bench, ask, check_cubes
from memos_cli.interface.reader import Call
from memos_cli.interface.respondents import Respondent, Said, respondent
from memos_cli.interface.sending import Destination, Server
from memos_cli.operation import answer as answers
from memos_cli.operation.answer import Prompt, Reply
from memos_cli.operation.closeness import FLOOR, FLOOR_BY_WORDS, closeness

if TYPE_CHECKING:
    import numpy as np

OnText = Callable[[str], None]
FORM = "plaintext"
MODEL = "nano"
# How many memories are at hand to fill a budget with.
PACKED = 50
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
    floor: float | None = None,
    k: int | None = None,
    budget: int | None = None,
    mode: str = "hybrid",
    where: str | None = None,
    as_of: str | None = None,
    rerank: bool = False,
    embedder: str | None = None,
    on_text: OnText | None = None,
    home: Path | None = None,
    notify: frame.Notify | None = None,
) -> Answered:
    """What `model` answers to `text` from the memories of a cube and those in `also`, with the memories it rests on.

    `model` is `nano`, a folder or a hub id, or with `server` a name that the server knows. It is given `k` memories, or
    as many as fit into `budget` tokens, or as many as it reads best. Below `floor` (0 to 1, by default as measured) the
    closest memory is too far to ask. `on_text` hears the answer as it is written. Raises what `query` does, Damaged or
    NotFound for the model, and for a server StoreFailed, or NotAllowed when a memory's label keeps it here.
    """
    (answered,) = answer_many(
        [cube, *also], [text], model=model, server=server, floor=floor, k=k, budget=budget, mode=mode, where=where,
        as_of=as_of, rerank=rerank, embedder=embedder, on_text=on_text, home=home, notify=notify,
    )  # fmt: skip
    return answered


def answer_many(
    cubes: Sequence[str | Path],
    calls: Iterable[str | Call],
    *,
    model: str = MODEL,
    server: Server | None = None,
    floor: float | None = None,
    k: int | None = None,
    budget: int | None = None,
    mode: str = "hybrid",
    where: str | None = None,
    as_of: str | None = None,
    rerank: bool = False,
    embedder: str | None = None,
    on_text: OnText | None = None,
    home: Path | None = None,
    notify: frame.Notify | None = None,
) -> Iterator[Answered]:
    """An answer per prompt, from cubes that stay open and a model that is loaded once, when it is first asked."""
    if floor is not None and not 0 <= floor <= 1:
        raise Usage(f"expected a floor from 0 to 1, found {floor:g}", hint="--floor 0 asks the model about anything")
    desk = frame.desk(home, notify)
    names = check_cubes(desk, cubes)
    who = respondent(model, server)
    if server is not None and who.there is not None:
        server.agree(who.there)
    asker = _Asker.of(who, k=k, budget=budget, floor=floor, on_text=on_text)
    bench: Bench | None = None
    for given in calls:
        call = reader.read(given) if isinstance(given, str) else given
        most = call.k or asker.most
        asked = Asked.of(replace(call, k=most + SPARE), k=most, mode=mode, where=where, as_of=as_of)
        with ExitStack() as stack:
            seen = [stack.enter_context(frame.reading(desk, cube, "query")) for cube in cubes]
            if bench is None or not bench.holds(seen):
                bench = Bench.of(desk, names, seen, embedder=embedder, model=None)
            for each in seen:
                each.query = call.text
                each.facts |= {"answered_by": who.name, "form": FORM}
            start = perf_counter()
            found = ask(bench, seen, call, asked, budget=None, context=0, rerank=rerank)
            answered = asker.answer(found, bench, seen, most=most)
            for each in seen:
                each.facts["answered"] = answered.answer is not None
        yield replace(answered, seconds={**answered.seconds, "total": round(perf_counter() - start, 6)})


@dataclass(slots=True)
class _Asker:
    """One who is asked one prompt after another, and how."""

    who: Respondent
    most: int
    budget: int | None
    floor: float | None
    on_text: OnText | None
    seconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls, who: Respondent, *, k: int | None, budget: int | None, floor: float | None, on_text: OnText | None
    ) -> _Asker:
        return cls(who, k or (PACKED if budget else who.traits.memories), budget, floor, on_text)

    def answer(self, found: Found, bench: Bench, seen: Sequence[Reading], *, most: int) -> Answered:
        """The answer to what was found."""
        self.seconds = {"retrieve": found.seconds["total"]}
        hits = _worth_giving(found, most=most)
        near = self._timed("closeness", lambda: _closeness(found.query, hits, bench, seen))
        floor = self.floor if self.floor is not None else FLOOR if bench.embedder else FLOOR_BY_WORDS
        if not hits or near < floor:
            return self._answered(found, hits, Reply(None, why="floor"), near=near, floor=floor)
        if self.who.there is None:
            self._timed("load", self.who.load)
        hits, prompt = self._timed("prompt", lambda: self._prompt(found.query, hits))
        if self.who.there is not None:
            _let_go(self.who.there, hits, seen)
        said, reply = self._ask(prompt, hits)
        return self._answered(found, hits, reply, near=near, floor=floor, said=said)

    def _prompt(self, question: str, hits: Sequence[Hit]) -> tuple[tuple[Hit, ...], Prompt]:
        """The memories that fit, best first and numbered anew, and the prompt with them."""
        given = self._within_budget(hits)
        prompt = self._prompt_of(question, given)
        while len(given) > 1 and not self.who.fits(prompt):
            given = given[:-1]
            prompt = self._prompt_of(question, given)
        return given, prompt

    def _prompt_of(self, question: str, hits: Sequence[Hit]) -> Prompt:
        return answers.prompt_for(question, hits, spans=self.who.traits.spans, unknown=self.who.traits.unknown)

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

    def _ask(self, prompt: Prompt, hits: Sequence[Hit]) -> tuple[Said, Reply]:
        unknown = self.who.traits.unknown
        aloud = answers.Aloud(self.on_text, unknown=unknown) if self.on_text else None
        # a copied answer is a few words, and is not said before it is known to stand in a memory
        said = self.who.write(prompt, on_text=None if self.who.traits.spans else aloud)
        read = answers.read_span if self.who.traits.spans else answers.read_instructed
        reply = read(said.text, hits, unknown=unknown)
        if aloud:
            aloud.finish(reply.text)
        self.seconds |= {"first_token": round(said.first_seconds, 6), "write": round(said.seconds, 6)}
        return said, reply

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
    ) -> Answered:
        cited = tuple(Citation(hit.rank, hit.id, hit.cube, hit.place) for hit in hits if hit.rank in reply.cited)
        return Answered(
            query=found.query, id=found.id, cubes=found.cubes, answer=reply.text, reason=reply.why, citations=cited,
            cited_by=reply.by, form=FORM, model=self.who.name, host=self.who.there.host if self.who.there else "",
            closeness=near, floor=floor, mode=found.mode, profile=found.profile, as_of=found.as_of,
            missing=found.missing, hits=hits, prompt_tokens=said.prompt_tokens if said else 0,
            answer_tokens=said.tokens if said else 0, tokens_by=said.tokens_by if said else "",
            cut=bool(said and said.cut), seconds=self.seconds, remembered=None,
        )  # fmt: skip


def _let_go(there: Destination, hits: Sequence[Hit], seen: Sequence[Reading]) -> None:
    """Notes in the trail where these memories go. Raises NotAllowed when one of them must not."""
    for each in seen:
        level = each.cube.governance.sensitivity
        rows = each.memories.take([hit.id for hit in hits], columns=["id", "sensitivity"])
        for label in [level, *rows["sensitivity"].to_pylist()]:
            there.check(label or level, hint=SENDABLE)
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
