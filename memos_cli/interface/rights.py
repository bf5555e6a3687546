"""What somebody may do with a cube, and the rules of a cube, as `memos show` tells them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memos_cli.infrastructure import governance

if TYPE_CHECKING:
    from memos_cli.cube.access import Rule
    from memos_cli.interface.frame import Reading


def may_of(seen: Reading) -> tuple[str, ...]:
    """What kinds of verbs the actor may do, to some of the cube at least."""
    asked = {"read": "query", "write": "edit", "share": "export", "govern": "govern"}
    actor, policy = seen.desk.actor, seen.desk.policy
    return tuple(
        kind
        for kind, verb in asked.items()
        if governance.decide(actor, verb, seen.rules_for(verb), policy=policy).allowed
    )


def line_of(rule: Rule) -> str:
    """A rule in a line, as people read it."""
    bounds = [f"{word} {level}" for word, level in (("from", rule.at_least), ("up to", rule.at_most)) if level]
    of = f" of {', '.join(rule.owners)}" if rule.owners else ""
    part = f"; memories{of} {' '.join(bounds)}".rstrip() if not rule.of_all else ""
    return f"{rule.name}: {rule.effect} {', '.join(rule.verbs)} to {', '.join(rule.who)}{part}"
