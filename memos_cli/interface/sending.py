"""Where text goes when it leaves this process, whether it may, and the wish to have it answered there.

Text leaves this machine only to an address that was given, after somebody agreed, and only text that may be shared and
whose label the policies let go (by default `internal` or lower). All is settled before the first word is sent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from memos_cli.cube.access import MAXIMUM
from memos_cli.cube.scopes import rank
from memos_cli.errors import NotAllowed

ENDPOINT = "endpoint"
# The highest label of text that may be sent to another machine, where no policy says otherwise.
HIGHEST_SENT = MAXIMUM[ENDPOINT]


@dataclass(frozen=True, slots=True)
class Destination:
    """Where text goes: a model, and the host it is at. `encrypted` says that others cannot read it on its way."""

    model: str
    host: str
    leaves_machine: bool
    encrypted: bool

    def check(self, level: str, *, hint: str, most: str = HIGHEST_SENT) -> None:
        """Raises NotAllowed when text of this label may not go there; `most` is what the policies let go."""
        if self.leaves_machine and rank(level) > rank(most):
            raise NotAllowed(
                f"text labelled {level!r} does not leave this machine (at most {most!r}), and {self.host} is another "
                "one",
                hint=hint,
            )


@dataclass(frozen=True, slots=True)
class Server:
    """A wish to have an OpenAI-compatible server answer: its base address, such as https://host/v1, and a key for it.

    `agree` hears where the text will go before any is sent, and raises when it must not. The key is sent to `url` and
    kept nowhere.
    """

    url: str
    key: str | None = field(default=None, repr=False)
    agree: Callable[[Destination], None] = lambda there: None
