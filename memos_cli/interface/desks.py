"""From where the Memory API is called: a home, who acts there, the policy they have written, and the time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from memos_cli.cube import digest
from memos_cli.cube.access import Access
from memos_cli.errors import Usage
from memos_cli.infrastructure import policies, vault
from memos_cli.infrastructure.identity import Actor, default_home, me

Notify = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Desk:
    """From where the API is called: the home, the actor and their own policy, and who hears notices."""

    home: Path
    actor: Actor
    notify: Notify = lambda text: None
    policy: Access = Access()

    def path(self, cube: str | Path) -> Path:
        """Where the cube lies: a path as it is, a name under the home."""
        return vault.Vault(self.home).path(str(cube))

    def stamp(self, verb: str, reason: str = "") -> vault.Stamp:
        """Who does what, when and why, for a manifest. Raises Usage for a reason that is too long for one."""
        if len(reason) > digest.TEXT_LIMIT_CHARACTERS:
            raise Usage(f"a reason has at most {digest.TEXT_LIMIT_CHARACTERS:,} characters, found {len(reason):,}")
        return vault.Stamp(operation=verb, actor=self.actor.as_dict(), time=now_text(), reason=reason)


def desk(home: Path | None, notify: Notify | None = None) -> Desk:
    """A desk at `home` (default: `$MEMOS_HOME` or `~/.memos`)."""
    place = home or default_home()
    return Desk(place, me(place), notify or (lambda text: None), policies.local(place))


def now() -> datetime:
    """This moment, to the microsecond that a table keeps."""
    return datetime.now(UTC)


def now_text() -> str:
    """This moment as manifests have it."""
    return now().replace(microsecond=0).isoformat().replace("+00:00", "Z")
