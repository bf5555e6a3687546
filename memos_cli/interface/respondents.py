"""Who answers from memories: a model in this process, or one behind an OpenAI-compatible address.

Both take the same prompts, count tokens, and write an answer that somebody may hear as it comes. What they know of
memories is the text they are given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from memos_cli.interface.sending import Destination, Server
from memos_cli.operation.answer import Prompt, disarmed

if TYPE_CHECKING:
    from memos_cli.runtime.endpoint import Endpoint
    from memos_cli.runtime.model import LocalModel, Traits

OnText = Callable[[str], None]
SPAN_LIMIT_TOKENS, ANSWER_LIMIT_TOKENS = 64, 400
# A model elsewhere may think first, and what it thinks counts.
SERVED_LIMIT_TOKENS = 1024
OWN, TOLD, ESTIMATED = "model", "server", "estimate: 4 characters a token"


@dataclass(frozen=True, slots=True)
class Said:
    """What was written: text, whether the limit cut it, tokens and who counted them, and seconds."""

    text: str
    cut: bool
    prompt_tokens: int
    tokens: int
    tokens_by: str
    first_seconds: float
    seconds: float


class Respondent(Protocol):
    """One who answers. Raises what its model raises: NotFound, Damaged, MissingExtra, StoreFailed, Usage."""

    @property
    def name(self) -> str: ...
    @property
    def there(self) -> Destination | None:
        """Where the text goes; None for this process."""
        ...

    @property
    def traits(self) -> Traits: ...
    def load(self) -> None:
        """Makes ready what can be."""
        ...

    def count_tokens(self, text: str) -> int: ...
    def fits(self, prompt: Prompt) -> bool:
        """Whether a prompt and its answer are within the model's window, as far as that is known."""
        ...

    def write(self, prompt: Prompt, *, on_text: OnText | None) -> Said: ...


def respondent(model: str, server: Server | None) -> Respondent:
    """Who is called so, in this process or at `server`; loads nothing, connects to nothing. Raises NotFound, Usage."""
    if server is not None:
        return _served(model, server)
    from memos_cli.runtime.model import LocalModel

    local = LocalModel(model)
    return _Local(local, local.traits)


@dataclass(slots=True)
class _Local:
    """A model in this process."""

    model: LocalModel
    traits: Traits
    there: Destination | None = None
    _drafted: tuple[Prompt, Sequence[int]] | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        return self.model.name

    def load(self) -> None:
        self.model.load()

    def count_tokens(self, text: str) -> int:
        from memos_cli.runtime.generate import count_tokens

        return count_tokens(self.model.load(), text)

    def fits(self, prompt: Prompt) -> bool:
        window = self.model.load().window
        return window is None or len(self._ids(prompt)) + self._limit <= window

    def write(self, prompt: Prompt, *, on_text: OnText | None) -> Said:
        from memos_cli.runtime.generate import generate

        ids = self._ids(prompt)
        written = generate(self.model.load(), ids, limit_tokens=self._limit, on_text=on_text)
        return Said(
            written.text, written.cut, len(ids), written.tokens, OWN, written.first_seconds, written.seconds
        )  # fmt: skip

    @property
    def _limit(self) -> int:
        from memos_cli.runtime.model import SPAN

        return SPAN_LIMIT_TOKENS if self.traits.reader == SPAN else ANSWER_LIMIT_TOKENS

    def _ids(self, prompt: Prompt) -> Sequence[int]:
        from memos_cli.runtime.generate import chat_ids

        if self._drafted is None or self._drafted[0] != prompt:
            self._drafted = prompt, chat_ids(self.model.load(), prompt.user, system=prompt.system)
        return self._drafted[1]


def _served(model: str, server: Server) -> _Served:
    from memos_cli.runtime.endpoint import address_of, open_endpoint
    from memos_cli.runtime.model import Traits

    address = address_of(server.url, flag="--base-url")
    there = Destination(model, address.host, not address.here, address.here or address.encrypted)
    return _Served(open_endpoint(model, address, key=server.key), there, Traits())


@dataclass(slots=True)
class _Served:
    """A model behind an address. Its window is not known; a server that is given too much says so."""

    endpoint: Endpoint
    there: Destination
    traits: Traits

    @property
    def name(self) -> str:
        return self.endpoint.name

    def load(self) -> None: ...

    def count_tokens(self, text: str) -> int:
        return (len(text) + 3) // 4

    def fits(self, prompt: Prompt) -> bool:
        return True

    def write(self, prompt: Prompt, *, on_text: OnText | None) -> Said:
        messages = [("system", disarmed(prompt.system)), ("user", disarmed(prompt.user))]
        # always as a stream: otherwise nobody can tell when the first word came
        done = self.endpoint.chat(messages, limit_tokens=SERVED_LIMIT_TOKENS, stream=True, on_text=on_text)
        if done.prompt_tokens is not None and done.tokens is not None:
            counts = (done.prompt_tokens, done.tokens, TOLD)
        else:
            read = sum(self.count_tokens(text) for _, text in messages)
            counts = (read, self.count_tokens(done.text), ESTIMATED)
        return Said(done.text, done.cut, *counts, done.first_seconds, done.seconds)
