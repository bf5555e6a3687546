"""The rules of a cube that is made of two: nothing that either forbids is allowed, and what both allow is.

Pure; the owner is given.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from memos_cli.cube.access import FORBID, MAXIMUM, Access, Rule
from memos_cli.cube.metadata import Governance, Memcube
from memos_cli.cube.scopes import highest, rank
from memos_cli.cube.stamp import Stamp
from memos_cli.errors import NotAllowed
from memos_cli.operation.uniting import narrower

FAR = datetime.max


def united(first: Memcube, second: Memcube, *, owner: str, user: str) -> Memcube:
    """`first` with the rules of both. Raises NotAllowed where each copy was made for another recipient."""
    one, other = first.governance, second.governance
    lives = min((first, second), key=_ends)
    rules = Governance(
        owner=owner, owner_user=user,
        read_scope=narrower(one.read_scope, other.read_scope), write_scope=narrower(one.write_scope, other.write_scope),
        share_scope=narrower(one.share_scope, other.share_scope),
        sensitivity=highest([one.sensitivity, other.sensitivity]), ttl_days=lives.governance.ttl_days,
        decay_days=min((days for days in (one.decay_days, other.decay_days) if days), default=0),
        legal_hold=one.legal_hold or other.legal_hold, frozen=one.frozen or other.frozen,
        compliance=tuple(dict.fromkeys([*one.compliance, *other.compliance])),
    )  # fmt: skip
    return replace(
        first, governance=rules, access=_access(first.access, second.access), stamp=_stamp(first, second),
        created=lives.created if lives.governance.ttl_days else first.created,
    )  # fmt: skip


def _ends(cube: Memcube) -> datetime:
    """When a cube has outlived its time."""
    days = cube.governance.ttl_days
    try:
        return cube.created.replace(tzinfo=None) + timedelta(days=days) if days else FAR
    except OverflowError:
        return FAR


def _access(one: Access, other: Access) -> Access:
    """What either forbids, what both permit, and of bounds the lower."""
    rules: dict[str, Rule] = {}
    for rule in (*one.rules, *other.rules):
        if rule.effect == FORBID or (rule in one.rules and rule in other.rules):
            name, number = rule.name, 2
            while name in rules and rules[name] != replace(rule, name=name):
                name, number = f"{rule.name[:60]}-{number}", number + 1
            rules[name] = replace(rule, name=name)
    maximum = {
        to: min((each.highest(to, base=MAXIMUM[to]) for each in (one, other)), key=rank)
        for to in MAXIMUM if to in one.maximum or to in other.maximum
    }  # fmt: skip
    return Access(tuple(rules.values()), maximum)


def _stamp(first: Memcube, second: Memcube) -> Stamp | None:
    if first.stamp and second.stamp and first.stamp != second.stamp:
        raise NotAllowed(
            f"{first.name} was made for {first.stamp.label}, {second.name} for {second.stamp.label}: their marks would "
            "be lost in one cube"
        )
    return first.stamp or second.stamp
