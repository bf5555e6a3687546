"""Which request is which call of the Memory API. Each is done by a visit of the client, and by nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from memos_cli.interface import api, evidence, found, results
from memos_cli.interface.http import asked
from memos_cli.interface.visiting import Visit
from memos_cli.operation.findings import Audit

# As at the terminal: how many are shown, and how many are at hand to fill a budget with.
SHOWN, PACKED = 5, 50
OnText = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Call:
    """One request, read: who asks, the names in its path, its words, and the server's model."""

    visit: Visit
    path: Mapping[str, str]
    said: Any
    model: str
    on_text: OnText | None = None

    @property
    def cube(self) -> str:
        """The cube in the path."""
        return self.path["cube"]


@dataclass(frozen=True, slots=True)
class Route:
    """One kind of request: `result` is what comes back, in a list called `lists` if there is one."""

    method: str
    path: str
    about: str
    words: type[BaseModel]
    result: Any
    do: Callable[[Call], Any]
    lists: str = ""

    @property
    def name(self) -> str:
        """What it is called in the description."""
        return self.do.__name__.removeprefix("_")


def _cubes(call: Call) -> Any:
    return list(call.visit.do(api.cubes))


def _show(call: Call) -> Any:
    return call.visit.do(api.show, call.cube)


def _memories(call: Call) -> Any:
    said: asked.Listing = call.said
    return list(call.visit.do(api.memories, call.cube, where=said.where, limit=said.limit, everything=said.all))


def _memory(call: Call) -> Any:
    return call.visit.do(api.show_memory, call.cube, call.path["memory"])


def _query(call: Call) -> Any:
    said: asked.Query = call.said
    most = said.k or (PACKED if said.budget else SHOWN)
    return call.visit.do(
        api.query, call.cube, said.text, k=most, context=said.context, explain=said.explain, budget=said.budget,
        **_finding(said),
    )  # fmt: skip


def _answer(call: Call) -> Any:
    said: asked.Answer = call.said
    return call.visit.do(
        api.answer, call.cube, said.text, model=call.model, form=said.form, floor=said.floor, k=said.k,
        budget=said.budget, on_text=call.on_text, **_finding(said),
    )  # fmt: skip


def _finding(said: asked.Recalling) -> dict[str, Any]:
    names = ("also", "where", "as_of", "true_at", "mode", "rerank", "time_scope", "by_use")
    return {name: getattr(said, name) for name in names}


def _remember(call: Call) -> Any:
    answered = _answer(call)
    if answered.answer is None:
        return answered
    (kept,) = call.visit.do(api.remember, call.cube, [answered], reason=call.said.reason)
    return kept


def _note(call: Call) -> Any:
    said: asked.Note = call.said
    # markdown, whatever the text looks like: some formats say of themselves who wrote what, and what it is
    return call.visit.do(
        api.ingest_text, call.cube, said.text, format="markdown", type=said.type, topic=said.topic, tags=said.tags,
        sensitivity=said.sensitivity, ttl_days=said.ttl_days, dry_run=said.dry_run, reason=said.reason,
    )  # fmt: skip


def _forget(call: Call) -> Any:
    said: asked.Forget = call.said
    return call.visit.do(
        api.forget, call.cube, ids=said.ids, where=said.where, subject=said.subject, dry_run=said.dry_run,
        reason=said.reason,
    )  # fmt: skip


def _audit(call: Call) -> Any:
    return call.visit.do(api.audit, call.cube, deep=call.said.deep)


def _access_log(call: Call) -> Any:
    said: asked.Log = call.said
    kinds = [said.kind] if said.kind else []
    return list(call.visit.do(api.access_log, call.cube, since=said.since, actor=said.actor, kinds=kinds))


ONE = "/v1/cubes/{cube}"
ROUTES = (
    Route("GET", "/v1/cubes", "The cubes that the client reaches.", asked.Nothing, results.CubeInfo, _cubes, "cubes"),
    Route("GET", ONE, "What a cube says of itself.", asked.Nothing, results.CubeInfo, _show),
    Route("GET", f"{ONE}/memories", "Memories of a cube, in the order of their sources.", asked.Listing,
          results.Memory, _memories, "memories"),
    Route("GET", f"{ONE}/memories/{{memory}}", "One memory, by its id or the start of it.", asked.Nothing,
          results.Memory, _memory),
    Route("POST", f"{ONE}/memories", "Puts a text into a cube.", asked.Note, results.Ingested, _note),
    Route("POST", f"{ONE}/query", "The memories that answer a question.", asked.Query, found.Found, _query),
    Route("POST", f"{ONE}/answer", "What the server's model answers from the memories.", asked.Answer, found.Answered,
          _answer),
    Route("POST", f"{ONE}/remember", "The same, written back; it waits there to be accepted.", asked.Remember,
          found.Answered, _remember),
    Route("POST", f"{ONE}/forget", "Hides memories from every query.", asked.Forget, results.Changed, _forget),
    Route("GET", f"{ONE}/audit", "Checks a cube.", asked.Auditing, Audit, _audit),
    Route("GET", f"{ONE}/access-log", "Who read, changed or was refused.", asked.Log, evidence.AccessLine, _access_log,
          "lines"),
)  # fmt: skip
