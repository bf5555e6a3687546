"""From where the Memory API is called: a home, who acts there, the policy they have written, and the time.

A client that came through a running process acts at a desk of the home's owner, within its bounds: see `visiting.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from memos_cli.cube import digest
from memos_cli.cube.access import Access
from memos_cli.errors import NotAllowed, Usage
from memos_cli.infrastructure import policies, vault
from memos_cli.infrastructure.identity import Actor, default_home, me

if TYPE_CHECKING:
    from memos_cli.infrastructure.clients import Client
    from memos_cli.interface.warming import Warm

Notify = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Guest:
    """A client at a home. `served` are the cubes that its process serves, by name; None for all that have names.

    `warm` is what the process keeps ready.
    """

    home: Path
    client: Client
    served: Mapping[str, Path] | None = None
    warm: Warm | None = None


# Who the calls of this context are for; set by `visiting.Visit` alone. The owner's own have none.
GUEST: ContextVar[Guest | None] = ContextVar("guest", default=None)


@dataclass(frozen=True, slots=True)
class Desk:
    """From where the API is called: the home, the actor and their own policy, and who hears notices.

    `served` are the cubes that a client may name, None where any may be; `warm` is what its process keeps ready.
    """

    home: Path
    actor: Actor
    notify: Notify = lambda text: None
    policy: Access = Access()
    served: Mapping[str, Path] | None = None
    warm: Warm | None = None

    def path(self, cube: str | Path) -> Path:
        """Where the cube lies: a path as it is, a name under the home.

        For a client, only what is within its bounds: raises NotAllowed, whether or not there is such a cube.
        """
        if self.actor.client is None:
            return vault.Vault(self.home).path(str(cube))
        for name, root in self._within(str(cube)):
            if self.actor.client.reaches(name):
                return root
        raise self._turned_away(str(cube))

    def cubes(self) -> list[Path]:
        """The cubes that have names here, sorted; for a client those alone that it reaches."""
        client = self.actor.client
        roots = vault.Vault(self.home).cubes() if self.served is None else list(self.served.values())
        return roots if client is None else [root for root in roots if client.reaches(self.name_of(root))]

    def name_of(self, root: Path) -> str:
        """What a cube is called by those who may not know where it lies."""
        served = self.served or {}
        return next((name for name, place in served.items() if place == root), root.stem)

    def told(self, root: Path) -> str:
        """Where a cube lies, as it is told to who acts: to a client by its name."""
        return str(root) if self.actor.client is None else self.name_of(root)

    def stamp(self, verb: str, reason: str = "") -> vault.Stamp:
        """Who does what, when and why, for a manifest. Raises Usage for a reason that is too long for one."""
        if len(reason) > digest.TEXT_LIMIT_CHARACTERS:
            raise Usage(f"a reason has at most {digest.TEXT_LIMIT_CHARACTERS:,} characters, found {len(reason):,}")
        return vault.Stamp(operation=verb, actor=self.actor.as_dict(), time=now_text(), reason=reason)

    def _within(self, text: str) -> list[tuple[str, Path]]:
        """The cube that a client means, by name or as it was listed; none when it lies elsewhere."""
        if self.served is not None:
            return [(name, root) for name, root in self.served.items() if text in (name, str(root))]
        root = vault.Vault(self.home).path(text)
        return [(root.stem, root)] if root == self.home / vault.CUBES / f"{root.stem}{vault.SUFFIX}" else []

    def _turned_away(self, cube: str) -> NotAllowed:
        """The refusal of a cube, which stands in the log of the door."""
        from memos_cli.infrastructure import door

        assert self.actor.client is not None
        door.note(self.home, actor=self.actor.as_dict(), verb="reach", facts={"cube": cube[:120]})
        return NotAllowed(
            f"client {self.actor.client.name!r} does not reach a cube {cube[:120]!r}",
            hint="ask the owner of this home: memos clients tells what each client reaches",
        )


def desk(home: Path | None, notify: Notify | None = None, *, guest: Guest | None = None) -> Desk:
    """A desk at `home` (default: `$MEMOS_HOME` or `~/.memos`), or that of a guest, who sits at no other home."""
    silent: Notify = lambda text: None  # noqa: E731
    guest = guest or GUEST.get()
    if guest is None:
        place = home or default_home()
        return Desk(place, me(place), notify or silent, policies.local(place))
    if home is not None and home != guest.home:
        raise NotAllowed(f"client {guest.client.name!r} acts at the home that let it in, and at no other")
    actor = replace(me(guest.home), client=guest.client)
    return Desk(guest.home, actor, notify or silent, policies.local(guest.home), guest.served, guest.warm)


def now() -> datetime:
    """This moment, to the microsecond that a table keeps."""
    return datetime.now(UTC)


def now_text() -> str:
    """This moment as manifests have it."""
    return now().replace(microsecond=0).isoformat().replace("+00:00", "Z")
