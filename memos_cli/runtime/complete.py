"""A prompt into its completion, by a model on this machine or by one behind an OpenAI-compatible address.

`open_completer(model)` reads a local decoder (a folder or a hub id) through transformers; with `url` the prompt is sent
to `{url}/chat/completions`. Both are greedy and have the same shape:

    name                          how the model is called in what it wrote
    complete(prompt, limit_tokens=...) -> Completion(text, cut)

Opening does not connect and loads nothing; the first `complete` does. Knows nothing of cubes, of memories, or of who
agreed to what.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from memos_cli.errors import Usage
from memos_cli.runtime.endpoint import TIMEOUT_SECONDS, Address, Completion, Endpoint, address_of, open_endpoint

if TYPE_CHECKING:
    from memos_cli.runtime.model import LocalModel

__all__ = ["Address", "Completer", "Completion", "Endpoint", "address_of", "open_completer"]


class Completer(Protocol):
    """A model that completes prompts. Raises StoreFailed, NotFound, MissingExtra, Usage."""

    @property
    def name(self) -> str: ...
    def complete(self, prompt: str, *, limit_tokens: int) -> Completion: ...


def open_completer(
    model: str, *, url: str | None = None, key: str | None = None, timeout_seconds: float = TIMEOUT_SECONDS
) -> Completer:
    """The model behind `url`, or without one the local model in a folder or of a hub id.

    Raises Usage for an address or key that is none, NotFound for a folder that holds no model.
    """
    if url is not None:
        return open_endpoint(model, address_of(url), key=key, timeout_seconds=timeout_seconds)
    if not model.strip():
        raise Usage("expected the name of a model, found an empty one")
    from memos_cli.runtime.model import LocalModel

    return _Local(LocalModel(model))


@dataclass(slots=True)
class _Local:
    """A model on this machine, loaded for the first prompt."""

    model: LocalModel

    @property
    def name(self) -> str:
        """The hub id, or the folder's own name."""
        return self.model.name

    def complete(self, prompt: str, *, limit_tokens: int) -> Completion:
        """What the model writes after the prompt, always its likeliest token. Raises Usage past its window."""
        from memos_cli.runtime.generate import chat_ids, generate

        loaded = self.model.load()
        written = generate(loaded, chat_ids(loaded, prompt), limit_tokens=limit_tokens)
        return Completion(written.text, written.cut)
