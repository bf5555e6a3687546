"""Memories as the beginning of a prompt, for servers that keep what prompts have in common (vLLM, SGLang, llama.cpp).

A pack has the messages to put before a question, and the token ids with which every such prompt begins, so that a
server can be warmed with them once and a caller can tell whether a prompt will hit. Messages in, ids counted by a
callable: knows no model, no tokenizer and no server.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

from memos_cli.errors import Usage
from memos_cli.operation import answer
from memos_cli.operation.answer import Told

Message = tuple[str, str]
# Token ids of messages, each a role and a text, up to where the answer begins; Usage for roles that are not taken.
Tokenise = Callable[[Sequence[Message]], Sequence[int]]
# Where a question meets what stands before it, tokens may cover both. So it is tried with what may begin one.
QUESTIONS = (
    "a", "Who?", "7", " x", "  x", "\nx", "\n\nx", "\tx", "?", "'s", "(x)", "[1]", ". x", ": x", "-x", "/x",
    "\u00e9t\u00e9", "\u65e5\u672c", "\U0001f642", "\u00a0x",
)  # fmt: skip
SYSTEM, USER = "system", "user"
BEFORE_QUESTION = "\n\nQuestion: "


class Kept(Told, Protocol):
    """What a pack needs of a memory."""

    @property
    def id(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Memory:
    """A memory of a pack; `sha256` is that of its text."""

    id: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Pack:
    """Messages to put before a question, and the ids that every prompt made so begins with.

    The question is a user's message after them; where they end in a user's message already (a template that takes no
    system's) it is put at the end of that. `tokenizer` and `chat_template` are digests: with others the ids are others.
    `sensitivity` is the strictest label of its memories, `expires_at` (ISO 8601, or empty) the first end.
    """

    messages: tuple[Message, ...]
    prefix_token_ids: tuple[int, ...]
    model: str
    tokenizer: str
    chat_template: str
    memories: tuple[Memory, ...]
    sensitivity: str = ""
    expires_at: str = ""

    @property
    def tokens(self) -> int:
        """How many tokens a server does not read again."""
        return len(self.prefix_token_ids)

    def ask(self, question: str) -> tuple[Message, ...]:
        """The messages of a prompt with this question."""
        return _with(self.messages, question)

    def as_dict(self) -> dict[str, Any]:
        """The pack as JSON values."""
        return {
            "messages": [{"role": role, "content": text} for role, text in self.messages],
            "prefix_token_ids": list(self.prefix_token_ids),
            "tokens": self.tokens,
            "model": self.model,
            "tokenizer": self.tokenizer,
            "chat_template": self.chat_template,
            "memories": [{"id": memory.id, "sha256": memory.sha256} for memory in self.memories],
            "sensitivity": self.sensitivity,
            "expires_at": self.expires_at,
        }

    def line(self) -> str:
        """The pack as a line of JSON, without the line's end; equal packs give equal lines."""
        return json.dumps(self.as_dict(), ensure_ascii=False, separators=(",", ":"))


def pack(
    memories: Sequence[Kept],
    *,
    tokenise: Tokenise,
    model: str,
    tokenizer: str,
    chat_template: str,
    spans: bool = False,
    unknown: str = "unknown",
    control_tokens: Sequence[str] = (),
    sensitivity: str = "",
    expires_at: datetime | None = None,
) -> Pack:
    """The pack of these memories, numbered in their order, as `answer` would tell them to this model.

    `spans` is for a model that copies its answer, and takes no instructions. What memories say in `control_tokens`, or
    in the usual marks of turns, is broken up. Raises Usage without memories, or where a template has no place for any.
    """
    if not memories:
        raise Usage("expected memories to pack, found none")
    said = _harmless(_said(memories, spans=spans, unknown=unknown), control_tokens)
    kept = tuple(Memory(memory.id, _sha256(memory.text)) for memory in memories)
    ends = expires_at.isoformat().replace("+00:00", "Z") if expires_at else ""
    empty = Pack((), (), model, tokenizer, chat_template, kept, sensitivity, ends)
    # a template may refuse a system's message, or leave it out without a word
    for messages in (((SYSTEM, said),), ((USER, said + BEFORE_QUESTION),)):
        ids = _shared(messages, tokenise)
        if messages[-1][0] == USER and ids:
            # where a question joins a text its first token may cover the seam, whatever was tried: cut before the words
            # that announce it
            ids = ids[: _common(ids, tokenise(((USER, f"{said}\n\n7"),)))]
        if ids and ids != _shared(_shortened(messages, said), tokenise):
            return replace(empty, messages=messages, prefix_token_ids=ids)
    raise Usage(f"the chat template of {model} has no place for memories before a question")


def _said(memories: Sequence[Kept], *, spans: bool, unknown: str) -> str:
    """What stands before the question, without the question."""
    if spans:
        return answer.span_prompt("", memories).system
    prompt = answer.instructed_prompt("", memories, unknown=unknown)
    return f"{prompt.system}\n\n{prompt.user.removesuffix(BEFORE_QUESTION)}"


def _harmless(text: str, control_tokens: Sequence[str]) -> str:
    for token in control_tokens:
        if len(token) > 1:
            text = text.replace(token, f"{token[0]} {token[1:]}")
    return answer.disarmed(text)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _with(messages: Sequence[Message], question: str) -> tuple[Message, ...]:
    *before, (role, text) = messages
    if role == USER:
        return (*before, (USER, text + question))
    return (*messages, (USER, question))


def _shared(messages: Sequence[Message], tokenise: Tokenise) -> tuple[int, ...]:
    """The ids that prompts with all kinds of questions begin with; none where the template refuses the messages."""
    try:
        shared = tuple(tokenise(_with(messages, QUESTIONS[0])))
        for question in QUESTIONS[1:]:
            shared = shared[: _common(shared, tokenise(_with(messages, question)))]
    except Usage:
        return ()
    return shared


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    pairs = enumerate(zip(first, second, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(first), len(second)))


def _shortened(messages: Sequence[Message], said: str) -> tuple[Message, ...]:
    """The same messages with half of what is said, to tell whether the template lets it through."""
    return tuple((role, text.replace(said, said[: len(said) // 2])) for role, text in messages)
