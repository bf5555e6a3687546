"""MemGovernance: may this actor do this now, and to which memories?

Two layers decide, and both must say yes: the cube (its owner, its scopes and the rules of its `[access]`), and the
actor's own policy (`policy.toml` in their home), which can forbid more and never allows what the cube does not. What
nothing permits is denied; a forbid beats every permit; a decision names the rule that made it. Of a cube that is open
to an actor some memories may not be: `sight` says which, as SQL for tables and in Python for rows.

Knows nothing of files and tables; the Memory API asks before it touches anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from memos_cli.cube.access import FORBID, MAXIMUM, OPEN, PERMIT, Access, Rule
from memos_cli.cube.metadata import Memcube
from memos_cli.cube.scopes import ANYONE, OWNER, forbids, permits, rank
from memos_cli.errors import NotAllowed
from memos_cli.infrastructure.identity import Actor
from memos_cli.infrastructure.sight import Sight, Term, bound, rows_of, scope_term, unless

if TYPE_CHECKING:
    from memos_cli.infrastructure.clients import Client

READ, WRITE, SHARE, GOVERN = "read", "write", "share", "govern"
HERE = "here"
# Where what a client is told goes, by its bounds: nobody knows what is behind it, and often it is a model elsewhere.
BEHIND = "endpoint"

VERBS: dict[str, str] = {
    "query": READ, "list": READ, "show": READ, "log": READ, "diff": READ, "audit": READ, "schedule": READ,
    "tidy": READ, "merge": WRITE, "catalogue": READ,
    "doctor": READ, "repair": WRITE,
    "init": WRITE, "ingest": WRITE, "remember": WRITE, "edit": WRITE, "forget": WRITE, "rollback": WRITE,
    "tag": WRITE, "gc": WRITE, "migrate": WRITE, "reindex": WRITE, "convert": WRITE, "distill": WRITE,
    "unpack": WRITE, "trust": WRITE, "pull": WRITE, "require": WRITE,
    "fork": SHARE, "export": SHARE, "pack": SHARE, "push": SHARE, "send": SHARE,
    "govern": GOVERN, "declassify": GOVERN,
}  # fmt: skip
# What could lose memory, which a legal hold forbids.
LOSING = frozenset({"forget", "gc", "rollback", "purge"})
# What tells of a cube as a whole, or changes it as one: for those alone from whom nothing of it is kept.
WHOLE = frozenset({"audit", "schedule", "rollback", "gc", "reindex", "migrate", "doctor", "repair"})
# What may be done with a cube that has outlived its time: look after it, and let go of it.
AFTER_END = frozenset({"log", "tag", "audit", "forget", "gc", "govern", "doctor", "repair"})


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether it is allowed, and by which rule."""

    allowed: bool
    rule: str


@dataclass(frozen=True, slots=True)
class Leaving:
    """Which memories may leave: ids of those that may, and of the others with the rule that keeps each."""

    allowed: tuple[str, ...]
    kept: Mapping[str, str] = field(default_factory=dict)


def decide(actor: Actor, verb: str, cube: Memcube, *, policy: Access = OPEN) -> Decision:
    """May `actor` do `verb` to `cube`, to some of its memories at least? A verb without an entry in VERBS is denied."""
    kind = VERBS.get(verb)
    if kind is None:
        return Decision(False, f"no rule permits the verb {verb!r}")
    if actor.client is not None and (bound := actor.client.forbids(verb, kind)):
        return Decision(False, bound)
    forbidden = _forbidden(actor, verb, kind, cube, policy)
    if forbidden:
        return Decision(False, forbidden)
    permitted = _permitted(actor, verb, kind, cube)
    if permitted is None:
        return Decision(False, _nothing_permits(kind, cube))
    own = _mine(actor, verb, kind, cube, policy)
    if own is None:
        return Decision(False, "your own policy permits only what its rules name, and none names this")
    return Decision(True, permitted)


def ask(actor: Actor, verb: str, cube: Memcube, *, place: str, policy: Access = OPEN) -> Decision:
    """The decision, when it is yes. Raises NotAllowed naming the rule when it is no; `place` is where the cube lies."""
    decision = decide(actor, verb, cube, policy=policy)
    if not decision.allowed:
        hint = "set MEMOS_HOME to the home whose key owns the cube, or ask its owner"
        if actor.client is not None:
            hint = "ask the owner of this home: memos clients tells what each client may do"
        elif actor.key == cube.governance.owner:
            hint = f"memos show {place} tells its rules; your own are in $MEMOS_HOME/policy.toml"
        elif VERBS.get(verb) == WRITE and decide(actor, "fork", cube, policy=policy).allowed:
            hint = f"memos init my-{cube.name}.cube --from {place}"
        who = f"client {actor.client.name!r}" if actor.client else actor.key
        raise NotAllowed(f"{verb} of {cube.name!r} is not allowed to {who}: {decision.rule}", hint=hint)
    return decision


def sight(actor: Actor, verb: str, cube: Memcube, *, policy: Access = OPEN, to: str = HERE) -> Sight:
    """Which memories of `cube` the actor may do `verb` to; of those that leave, for the destination `to`.

    Who changes or shares a memory must be allowed to read it too. Asks nothing of the cube as a whole: see `decide`.
    """
    kind = VERBS.get(verb, GOVERN)
    asked = {READ: [(verb, READ)], GOVERN: [("show", READ)]}.get(kind, [("show", READ), (verb, kind)])
    terms = [term for each in asked for term in _terms(actor, *each, cube, policy)]
    terms += bound(to, maximum(cube, to, policy=policy), cube)
    if actor.client is not None:
        terms += bound(f"client:{actor.client.name}", most_for(actor.client, cube, policy=policy), cube)
    return Sight(tuple(terms), cube.plaintext.guarded)


def maximum(cube: Memcube, to: str, *, policy: Access = OPEN) -> str:
    """The highest label that may go to a destination: what one's own policy says, or less if the cube does."""
    mine = policy.highest(to, base=MAXIMUM.get(to, "public"))
    return min(mine, cube.access.highest(to, base=mine), key=rank)


def most_for(client: Client, cube: Memcube, *, policy: Access = OPEN) -> str:
    """The highest label that a client may see: its own bound, and no more than cube and policy say of endpoints."""
    said = [access.maximum[BEHIND] for access in (policy, cube.access) if BEHIND in access.maximum]
    return min([client.at_most or MAXIMUM[BEHIND], *said], key=rank)


def may_leave(
    actor: Actor,
    cube: Memcube,
    rows: Iterable[Mapping[str, Any]],
    to: str,
    *,
    verb: str = "export",
    policy: Access = OPEN,
    now: datetime | None = None,
) -> Leaving:
    """The one question before memory leaves: which of these rows may `actor` take to the destination `to` by `verb`?

    Rows need `id`, GUARDS and `expires_at`. What has outlived its time stays. Raises NotAllowed when the cube as a
    whole is not theirs to share.
    """
    ask(actor, verb, cube, place=cube.name, policy=policy)
    seen = sight(actor, verb, cube, policy=policy, to=to)
    moment = now or datetime.now(UTC)
    allowed, kept = [], {}
    for row in rows:
        over = row["expires_at"] is not None and row["expires_at"] <= moment
        why = "it has outlived its time" if over else seen.why(row)
        if why is None:
            allowed.append(row["id"])
        else:
            kept[row["id"]] = why
    return Leaving(tuple(allowed), kept)


def insist(leaving: Leaving, to: str, *, hint: str | None = None) -> None:
    """Raises NotAllowed, naming the rule, when a memory that was asked for stays."""
    for identity, rule in leaving.kept.items():
        more = f" (and {len(leaving.kept) - 1} more)" if len(leaving.kept) > 1 else ""
        raise NotAllowed(f"memory {identity}{more} may not go to {to!r}: {rule}", hint=hint)


def expired(cube: Memcube, *, now: datetime | None = None) -> bool:
    """Whether the cube as a whole has outlived its ttl."""
    days = cube.governance.ttl_days
    return bool(days) and ((now or datetime.now(UTC)) - cube.created).days >= days


def _forbidden(actor: Actor, verb: str, kind: str, cube: Memcube, policy: Access) -> str | None:
    rules = cube.governance
    if kind == WRITE and rules.legal_hold and verb in LOSING:
        return "governance.legal_hold forbids what could lose memory"
    if kind == WRITE and rules.frozen and verb != "tag":
        return "governance.frozen forbids every change; memos edit CUBE --thaw ends it"
    # whatever a cube says, its owner can still change what it says
    if kind != GOVERN:
        if forbids(_scope(cube, kind), actor.key):
            return f"governance.{kind}_scope forbids this key"
        for rule in cube.access.rules:
            if rule.effect == FORBID and rule.of_all and _applies(rule, actor, verb, kind, cube):
                return f"rule {rule.name!r} of the cube forbids it"
    for rule in policy.rules:
        if rule.effect == FORBID and rule.of_all and _applies(rule, actor, verb, kind, cube):
            return f"rule {rule.name!r} of your own policy forbids it"
    return None


def _permitted(actor: Actor, verb: str, kind: str, cube: Memcube) -> str | None:
    """The rule of the cube that permits it, for some memories at least."""
    if actor.key == cube.governance.owner:
        return "the owner may do all"
    if kind != GOVERN and permits(_scope(cube, kind), actor.key):
        return f"governance.{kind}_scope is {_scope(cube, kind)!r}"
    for rule in cube.access.rules:
        if rule.effect == PERMIT and _applies(rule, actor, verb, kind, cube):
            return f"rule {rule.name!r} of the cube permits it"
    return None


def _mine(actor: Actor, verb: str, kind: str, cube: Memcube, policy: Access) -> str | None:
    """The rule of one's own policy that permits it."""
    if policy.default == PERMIT:
        return "your own policy permits what a cube permits"
    for rule in policy.rules:
        if rule.effect == PERMIT and _applies(rule, actor, verb, kind, cube):
            return f"rule {rule.name!r} of your own policy permits it"
    return None


def _nothing_permits(kind: str, cube: Memcube) -> str:
    rules = cube.governance
    if kind == GOVERN:
        return f"only its owner, {rules.owner}, changes who may see a cube and what it says of itself"
    return f"governance.{kind}_scope is {_scope(cube, kind)!r} and the owner is {rules.owner}"


def _scope(cube: Memcube, kind: str) -> str:
    rules = cube.governance
    return {READ: rules.read_scope, WRITE: rules.write_scope, SHARE: rules.share_scope}[kind]


def _applies(rule: Rule, actor: Actor, verb: str, kind: str, cube: Memcube) -> bool:
    who = {ANYONE, actor.key, f"user:{actor.user}", *([OWNER] if actor.key == cube.governance.owner else [])}
    if actor.client is not None:
        who.add(f"client:{actor.client.name}")
    return (
        not {"any", verb, kind}.isdisjoint(rule.verbs)
        and not who.isdisjoint(rule.who)
        and (not rule.cubes or not {cube.name, cube.id}.isdisjoint(rule.cubes))
    )


def _terms(actor: Actor, verb: str, kind: str, cube: Memcube, policy: Access) -> list[Term]:
    """What must hold of a memory for this kind of verb: its scope, no rule that forbids it, one that permits it."""
    owns = actor.key == cube.governance.owner
    level = cube.governance.sensitivity
    terms = [scope_term(kind, actor.key, owns=owns)]
    layers = (("the cube", cube.access.rules), ("your own policy", policy.rules))
    for whose, rules in layers:
        for rule in rules:
            if rule.effect == FORBID and not rule.of_all and _applies(rule, actor, verb, kind, cube):
                terms.append(unless(rule, whose, level))
    if not owns and not permits(_scope(cube, kind), actor.key):
        terms += rows_of(_permits(cube.access.rules, actor, verb, kind, cube), "the cube", level)
    if policy.default != PERMIT:
        terms += rows_of(_permits(policy.rules, actor, verb, kind, cube), "your own policy", level)
    return terms


def _permits(rules: Iterable[Rule], actor: Actor, verb: str, kind: str, cube: Memcube) -> list[Rule]:
    return [rule for rule in rules if rule.effect == PERMIT and _applies(rule, actor, verb, kind, cube)]
