"""Chat completions as OpenAI's clients ask for them, answered from memory.

A cube is a model by its name (two by `work+diary`), so that any such client chooses memory as it chooses a model. The
last question of the user is answered, as `memos query --answer --form auto` does: from activation memory where it
passes its gate, else from text. A model that takes instructions is given the system's message and the turns before,
too, and all of memory as text then. What was used, and in which form, stands in the field `memos`.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from memos_cli.errors import NotFound
from memos_cli.interface import api
from memos_cli.interface.found import Answered
from memos_cli.interface.http.asked import Chat, Message
from memos_cli.interface.http.outcome import Refused
from memos_cli.interface.http.routes import OnText
from memos_cli.interface.visiting import Visit
from memos_cli.operation.answer import NO_TALK, USER, Talk

# What is said when there is no answer, as at the terminal.
UNKNOWN = "not in memory"
OWN = "memos"
# Whose words go to the model, beside the question: calls of tools and their results do not.
SYSTEM, SPEAKERS = ("system", "developer"), (USER, "assistant")


def models(visit: Visit) -> dict[str, Any]:
    """The cubes that a client reaches, as models."""
    return {
        "object": "list",
        "data": [{"id": name, "object": "model", "created": 0, "owned_by": OWN} for name in visit.names()],
    }


def model(visit: Visit, name: str) -> dict[str, Any]:
    """One of them. Raises NotFound."""
    found = next((one for one in models(visit)["data"] if one["id"] == name), None)
    if found is None:
        raise NotFound(f"no model {name[:120]!r}", hint="GET /v1/models")
    return dict(found)


@dataclass(frozen=True, slots=True)
class Completion:
    """One completion that is asked for: its cubes and its question."""

    said: Chat
    cubes: tuple[str, ...]
    question: str
    talk: Talk = NO_TALK
    earlier: int = 0  # messages before the question that are turns
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    @classmethod
    def of(cls, said: Chat, visit: Visit, *, model: str) -> Completion:
        """Raises Refused (422) without a question of the user's, or a cube to answer it from."""
        named = [] if said.model in (OWN, model) else [name for name in said.model.split("+") if name]
        cubes = tuple(dict.fromkeys([*named, *said.memos.cubes]))
        if not cubes:
            reached = visit.names()
            if len(reached) != 1:
                raise Refused(422, "expected the name of a cube as the model, or in memos.cubes", "GET /v1/models")
            cubes = (reached[0],)
        asked = [at for at, message in enumerate(said.messages) if message.role == USER and _text(message)]
        if not asked:
            raise Refused(422, "messages: expected one of the user with a text")
        question = _text(said.messages[asked[-1]])[-100_000:]
        earlier = sum(message.role not in SYSTEM for message in said.messages[: asked[-1]])
        return cls(said, cubes, question, _talk(said.messages, asked[-1]), earlier)

    def answer(self, visit: Visit, *, model: str, on_text: OnText | None) -> Answered:
        """What the server's model answers."""
        how = self.said.memos
        return visit.do(
            api.answer, self.cubes[0], self.question, also=self.cubes[1:], model=model, form=how.form, k=how.k,
            budget=how.budget, where=how.where, floor=how.floor, talk=self.talk, on_text=on_text,
        )  # fmt: skip

    def whole(self, answered: Answered) -> dict[str, Any]:
        """The completion in one piece."""
        message = {"role": "assistant", "content": spoken(answered), "refusal": None}
        return {
            **self._head("chat.completion"),
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": _end(answered)}],
            "usage": _usage(answered),
            "memos": told(answered, earlier=self.earlier),
        }

    def first(self) -> dict[str, Any]:
        """The piece before all others."""
        return self._piece({"role": "assistant", "content": ""}, None)

    def piece(self, text: str) -> dict[str, Any]:
        """A piece of the answer."""
        return self._piece({"content": text}, None)

    def last(self, answered: Answered) -> dict[str, Any]:
        """The piece that ends it, with what it was made from."""
        return {
            **self._piece({}, _end(answered)),
            "usage": _usage(answered),
            "memos": told(answered, earlier=self.earlier),
        }

    def _piece(self, delta: dict[str, Any], end: str | None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": end}
        return {**self._head("chat.completion.chunk"), "choices": [choice]}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.said.model}


def spoken(answered: Answered) -> str:
    """The answer, or that there is none."""
    return UNKNOWN if answered.answer is None else answered.answer


def told(answered: Answered, *, earlier: int) -> dict[str, Any]:
    """What the answer was made from: each memory with its place and the form in which the model had it.

    Of the `earlier` turns it had `turns`, the latest; `turns_dropped` are the others.
    """
    forms = {one.number: one for one in answered.forms}
    cited = {one.number for one in answered.citations}
    return {
        "answered": answered.answer is not None, "reason": answered.reason, "form": answered.form,
        "answered_by": answered.model, "reused_tokens": answered.reused_tokens,
        "turns": answered.turns, "turns_dropped": earlier - answered.turns,
        "memories": [
            {"id": hit.id, "cube": hit.cube, "place": hit.place, "cited": hit.rank in cited,
             "form": forms[hit.rank].form if hit.rank in forms else ""}
            for hit in answered.hits
        ],
    }  # fmt: skip


def event(value: dict[str, Any]) -> bytes:
    """A piece as a server-sent event."""
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def _end(answered: Answered) -> str:
    return "length" if answered.cut else "stop"


def _usage(answered: Answered) -> dict[str, int]:
    read, written = answered.prompt_tokens, answered.answer_tokens
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def _talk(messages: Sequence[Message], question: int) -> Talk:
    """What the message at `question` is part of: the system's words, wherever they stand, and the turns before it."""
    system = [text for message in messages if message.role in SYSTEM and (text := _text(message))]
    before = [(one.role, text) for one in messages[:question] if one.role in SPEAKERS and (text := _text(one))]
    return Talk("\n\n".join(system), tuple(before)).latest(0)


def _text(message: Message) -> str:
    if isinstance(message.content, list):
        return "\n".join(part.text for part in message.content if part.type == "text" and part.text).strip()
    return (message.content or "").strip()
