"""One line of the access log for each verb, however it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from memos_cli.errors import MemosError, NotAllowed
from memos_cli.infrastructure import governance, trail

if TYPE_CHECKING:
    from memos_cli.interface.desks import Desk
    from memos_cli.interface.frame import Reading

# Facts that say that text went to a host: what left the machine leaves a lasting trace.
_SENT = frozenset({"extract_host", "answer_host", "to"})
# The fact that says to which destination something went that was read.
_LEAVES = "to"


@contextmanager
def trailed(desk: Desk, seen: Reading, verb: str) -> Iterator[None]:
    """Writes one line of the access log, however the body ends."""
    outcome = "ok"
    try:
        yield
    except MemosError as error:
        outcome = "denied" if isinstance(error, NotAllowed) else type(error).__name__
        raise
    except BaseException as error:
        outcome = type(error).__name__
        raise
    finally:
        trail.append(
            seen.root,
            home=desk.home,
            cube_id=seen.cube.id,
            actor=desk.actor.as_dict(),
            verb=verb,
            kind=_kind(verb, outcome, seen.facts),
            version=seen.version.number,
            memories=seen.touched,
            outcome=outcome,
            query=seen.query,
            facts=seen.facts,
            durable=outcome == "denied" or not _SENT.isdisjoint(seen.facts),
        )


def _kind(verb: str, outcome: str, facts: dict[str, Any]) -> str:
    """What a line of the trail says was done, in one word of `trail.KINDS`."""
    if outcome == "denied":
        return trail.DENIAL
    if facts.get("injected"):
        return trail.INJECTION
    wanted = governance.VERBS.get(verb, governance.READ)
    if _LEAVES in facts and not facts.get("dry_run"):
        return trail.EXPORT
    if wanted == governance.READ or facts.get("dry_run"):
        return trail.READ
    return trail.EXPORT if wanted == governance.SHARE else trail.CHANGE
