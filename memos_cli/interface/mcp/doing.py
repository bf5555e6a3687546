"""A tool's arguments, which have been checked against its schema, into calls of the Memory API."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from memos_cli.interface import api
from memos_cli.interface.desks import Notify
from memos_cli.interface.mcp.offers import HITS
from memos_cli.interface.visiting import Visit

# As at the terminal: how many are shown, and how many are at hand to fill a budget with.
SHOWN, PACKED = 5, 50
Given = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Doing:
    """One call of a tool: for whom, on which cubes it can be, by which model, and who hears notices.

    What is remembered is `accepted` at once only where the owner of the server said so.
    """

    visit: Visit
    names: list[str]
    model: str
    notify: Notify
    accepted: bool = False

    def cube(self, given: Given) -> str:
        """The cube that was named, or the only one."""
        return str(given.get("cube") or self.names[0])


def do(tool: str, given: Given, doing: Doing) -> Any:
    """What the tool gives: a result of the Memory API, or lists of them by name. Raises what the API raises."""
    return _DOING[tool](given, doing)


def _recall(given: Given, doing: Doing) -> Any:
    budget = given.get("budget")
    return doing.visit.do(
        api.query, doing.cube(given), given["query"], k=given.get("k") or (PACKED if budget else SHOWN), budget=budget,
        notify=doing.notify, **_finding(given),
    )  # fmt: skip


def _answer(given: Given, doing: Doing) -> Any:
    return doing.visit.do(
        api.answer, doing.cube(given), given["question"], k=given.get("k"), model=doing.model, notify=doing.notify,
        **_finding(given),
    )  # fmt: skip


def _list(given: Given, doing: Doing) -> Any:
    if given.get("cube") is None:
        return {"cubes": list(doing.visit.do(api.cubes, notify=doing.notify))}
    found = doing.visit.do(
        api.memories, doing.cube(given), where=given.get("where", ""), limit=given.get("limit", HITS),
        everything=given.get("all", False), notify=doing.notify,
    )  # fmt: skip
    return {"memories": list(found)}


def _audit(given: Given, doing: Doing) -> Any:
    return doing.visit.do(api.audit, doing.cube(given), deep=given.get("deep", False), notify=doing.notify)


def _remember(given: Given, doing: Doing) -> Any:
    marks: dict[str, Any] = {name: given.get(name) for name in ("type", "topic", "tags", "sensitivity")}
    # markdown, and not what the text may look like: some formats say of themselves who wrote them, and what they may
    done = doing.visit.do(
        api.ingest_text, doing.cube(given), given["text"], format="markdown", reason=given.get("reason", ""),
        written_by="" if doing.accepted else doing.visit.client.name, notify=doing.notify, **marks,
    )  # fmt: skip
    if done.added and not doing.accepted:
        doing.notify("it waits for a person to accept it, and is recalled from then on")
    return done


def _forget(given: Given, doing: Doing) -> Any:
    return doing.visit.do(
        api.forget, doing.cube(given), ids=given.get("ids", ()), where=given.get("where"),
        subject=given.get("subject"), dry_run=given.get("dry_run", False), reason=given.get("reason", ""),
        notify=doing.notify,
    )  # fmt: skip


def _finding(given: Given) -> dict[str, Any]:
    return {"also": given.get("also", ()), **{name: given.get(name) for name in ("where", "as_of", "true_at")}}


_DOING: dict[str, Callable[[Given, Doing], Any]] = {
    "recall": _recall, "answer": _answer, "list": _list, "audit": _audit, "remember": _remember, "forget": _forget,
}  # fmt: skip
