"""MemGovernance: may this actor do this now?

A first form of it (MemOS section 5.5, access control): cubes store owner, scopes and labels; the owner may do all;
anyone else what the scope for that kind of verb grants. Default is deny. The decision names the rule that made it.
Knows nothing of files; the Memory API asks before it touches anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from memos_cli.cube.metadata import Governance, Memcube
from memos_cli.errors import NotAllowed
from memos_cli.infrastructure.identity import Actor

READ, WRITE, SHARE = "read", "write", "share"

VERBS: dict[str, str] = {
    "query": READ, "list": READ, "show": READ, "log": READ, "diff": READ, "audit": READ,
    "doctor": READ, "repair": WRITE,
    "init": WRITE, "ingest": WRITE, "remember": WRITE, "edit": WRITE, "forget": WRITE, "rollback": WRITE,
    "tag": WRITE, "gc": WRITE, "migrate": WRITE, "reindex": WRITE, "convert": WRITE, "distill": WRITE,
    "unpack": WRITE, "trust": WRITE,
    "fork": SHARE, "export": SHARE, "pack": SHARE,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether it is allowed, and by which rule."""

    allowed: bool
    rule: str


def decide(actor: Actor, verb: str, cube: Memcube) -> Decision:
    """May `actor` do `verb` to `cube`? A verb without an entry in VERBS is denied."""
    kind = VERBS.get(verb)
    if kind is None:
        return Decision(False, f"no rule permits the verb {verb!r}")
    if kind == WRITE and cube.governance.legal_hold and verb in ("forget", "gc", "rollback"):
        return Decision(False, "governance.legal_hold forbids what could lose memory")
    if actor.key == cube.governance.owner:
        return Decision(True, "the owner may do all")
    scope = _scope(cube.governance, kind)
    if scope in ("anyone", actor.key):
        return Decision(True, f"governance.{kind}_scope is {scope!r}")
    return Decision(False, f"governance.{kind}_scope is {scope!r} and the owner is {cube.governance.owner}")


def ask(actor: Actor, verb: str, cube: Memcube, *, place: str) -> Decision:
    """The decision, when it is yes. Raises NotAllowed naming the rule when it is no; `place` is where the cube lies."""
    decision = decide(actor, verb, cube)
    if not decision.allowed:
        hint = "set MEMOS_HOME to the home whose key owns the cube, or ask its owner"
        if VERBS.get(verb) != READ and decide(actor, "fork", cube).allowed:
            hint = f"memos init my-{cube.name}.cube --from {place}"
        raise NotAllowed(f"{verb} of {cube.name!r} is not allowed to {actor.key}: {decision.rule}", hint=hint)
    return decision


def expired(cube: Memcube, *, now: datetime | None = None) -> bool:
    """Whether the cube as a whole has outlived its ttl."""
    days = cube.governance.ttl_days
    return bool(days) and ((now or datetime.now(UTC)) - cube.created).days >= days


def _scope(governance: Governance, kind: str) -> str:
    return {READ: governance.read_scope, WRITE: governance.write_scope, SHARE: governance.share_scope}[kind]
