"""Rules of access: the table `[access]` of memcube.toml, and of a user's own policy.toml.

A rule permits or forbids verbs (or kinds of verbs) to keys, and may be about a part of the memories only: those whose
label lies between two levels, or that have one of some `owner` labels. It can look at nothing else of a memory, because
that is what a search window never crosses: what a rule hides is in no neighbour's window either. `maximum` is the
highest label that may go to a destination. Parses strictly; knows nothing of who asks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from memos_cli.cube import scopes
from memos_cli.cube.scopes import SENSITIVITIES, rank
from memos_cli.errors import Damaged

PERMIT, FORBID = "permit", "forbid"
ANY = "any"
# Where memory can go, and the highest label that may go there when nobody says otherwise.
MAXIMUM: dict[str, str] = {
    "here": "restricted",  # this terminal, and models on this machine
    "cube": "restricted",  # another cube of this machine: labels go along
    "package": "confidential",  # an archive of a cube: labels go along
    "store": "internal",  # a registry or a bucket
    "file": "internal",  # a file for people or other programs: its label is not enforced any more
    "endpoint": "internal",  # a model on another machine
    "adapter": "confidential",  # weights that are trained on it
}
DESTINATIONS = tuple(MAXIMUM)
MOST_RULES = 64
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_WORD = re.compile(r"[a-z][a-z-]{0,31}")
_CLIENT = re.compile(r"client:[a-z0-9][a-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `who` are `anyone`, `owner`, keys, `client:NAME`, or `user:NAME` in a policy; empty tuples mean any.

    `cubes` (names or ids) are for a policy of one's own too. `at_least` and `at_most` are levels, "" for no bound.
    """

    name: str
    effect: str
    verbs: tuple[str, ...]
    who: tuple[str, ...] = (scopes.ANYONE,)
    cubes: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    at_least: str = ""
    at_most: str = ""

    @property
    def of_all(self) -> bool:
        """Whether it is about every memory of a cube."""
        return not (self.owners or self.at_least or self.at_most)

    def covers(self, row: Mapping[str, Any], *, level: str) -> bool:
        """Whether it is about this memory of a cube with this label."""
        label = row["sensitivity"] or level
        if self.owners and row["owner"] not in self.owners:
            return False
        return (not self.at_least or rank(label) >= rank(self.at_least)) and (
            not self.at_most or rank(label) <= rank(self.at_most)
        )

    def sql(self, *, level: str) -> str:
        """`covers` as a condition on the table of a cube with this label."""
        parts = [_levels_sql(self.at_least, self.at_most, level)] if self.at_least or self.at_most else []
        if self.owners:
            parts.append(f"owner in ({', '.join(_quote(owner) for owner in self.owners)})")
        return " and ".join(parts) or "true"


@dataclass(frozen=True, slots=True)
class Access:
    """The rules of a cube, or of a user, in their order. `default` is a user's: permit what cubes permit, or deny."""

    rules: tuple[Rule, ...] = ()
    maximum: Mapping[str, str] = field(default_factory=dict)
    default: str = PERMIT

    def highest(self, destination: str, *, base: str) -> str:
        """The highest label for a destination: `base` where nothing is said."""
        return self.maximum.get(destination, base)


# The rules of who has written none.
OPEN = Access()


def _levels_sql(at_least: str, at_most: str, level: str) -> str:
    inside = [
        name for name in SENSITIVITIES
        if (not at_least or rank(name) >= rank(at_least)) and (not at_most or rank(name) <= rank(at_most))
    ]  # fmt: skip
    own = [""] if level in inside or (level not in SENSITIVITIES and not at_most) else []
    if at_most:
        return f"sensitivity in ({_listed([*inside, *own])})"
    # a label that is not known counts as the highest
    outside = [name for name in ("", *SENSITIVITIES) if name not in (*inside, *own)]
    return f"sensitivity not in ({_listed(outside)})" if outside else "sensitivity is not null"


def at_most_sql(most: str, *, level: str) -> str:
    """The condition that a memory of a cube with this label has at most the label `most`."""
    return _levels_sql("", most, level)


def _listed(names: list[str]) -> str:
    return ", ".join(_quote(name) for name in names)


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def as_table(access: Access) -> dict[str, Any]:
    """The table as TOML has it; empty where there is nothing to say."""
    table: dict[str, Any] = {}
    if access.default != PERMIT:
        table["default"] = access.default
    if access.maximum:
        table["maximum"] = {name: access.maximum[name] for name in sorted(access.maximum)}
    if access.rules:
        table["rules"] = [_rule_table(rule) for rule in access.rules]
    return table


def _rule_table(rule: Rule) -> dict[str, Any]:
    table: dict[str, Any] = {"name": rule.name, "effect": rule.effect, "verbs": list(rule.verbs), "who": list(rule.who)}
    table |= {name: list(value) for name in ("cubes", "owners") if (value := getattr(rule, name))}
    return table | {name: value for name in ("at_least", "at_most") if (value := getattr(rule, name))}


def read(table: Any, *, where: str, local: bool) -> Access:
    """The rules in a table; `local` for a user's own. Raises Damaged naming the key: a rule is never passed over."""
    known = {"rules", "maximum", "default"} if local else {"rules", "maximum"}
    _check_table(table, known, where=where)
    default = table.get("default", PERMIT)
    if default not in (PERMIT, "deny"):
        raise Damaged(f"{where}.default: expected permit or deny, found {str(default)[:60]!r}")
    given = table.get("rules", [])
    if not isinstance(given, list) or len(given) > MOST_RULES:
        raise Damaged(f"{where}.rules: expected at most {MOST_RULES} tables")
    rules = tuple(_rule(rule, where=f"{where}.rules[{i}]", local=local) for i, rule in enumerate(given))
    if len({rule.name for rule in rules}) < len(rules):
        raise Damaged(f"{where}.rules: expected each name once")
    return Access(rules, _maximum(table.get("maximum", {}), where=f"{where}.maximum"), default)


def _maximum(table: Any, *, where: str) -> dict[str, str]:
    _check_table(table, set(DESTINATIONS), where=where)
    for name, level in table.items():
        _check_level(level, where=f"{where}.{name}")
    return dict(table)


def _rule(table: Any, *, where: str, local: bool) -> Rule:
    known = {"name", "effect", "verbs", "who", "owners", "at_least", "at_most"} | ({"cubes"} if local else set())
    _check_table(table, known, where=where)
    name, effect = table.get("name"), table.get("effect")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise Damaged(f"{where}.name: expected letters, digits, '.', '_' and '-', found {str(name)[:60]!r}")
    if effect not in (PERMIT, FORBID):
        raise Damaged(f"{where}.effect: expected permit or forbid, found {str(effect)[:60]!r}")
    verbs = _words(table, "verbs", where=where)
    for verb in verbs:
        if not _WORD.fullmatch(verb):
            raise Damaged(f"{where}.verbs: expected verbs, or any, read, write, share, found {verb[:60]!r}")
    if not verbs:
        raise Damaged(f"{where}.verbs: expected at least one")
    who = _words(table, "who", where=where) or (scopes.ANYONE,)
    for word in who:
        user = local and word.startswith("user:") and len(word) > len("user:")
        client = _CLIENT.fullmatch(word) is not None
        if client and effect == PERMIT and not local:
            # anybody can call a client of theirs so: a cube lets nobody in by a name
            raise Damaged(f"{where}.who: a cube can forbid what it has to clients, and permits to keys: {word!r}")
        if not (user or client or word in (scopes.ANYONE, scopes.OWNER) or scopes.is_key(word)):
            raise Damaged(
                f"{where}.who: expected anyone, owner, keys such as ed25519:0123... or client:NAME, found {word[:60]!r}"
            )
    for bound in ("at_least", "at_most"):
        if bound in table:
            _check_level(table[bound], where=f"{where}.{bound}")
    return Rule(
        name, effect, verbs, who, _words(table, "cubes", where=where), _words(table, "owners", where=where),
        table.get("at_least", ""), table.get("at_most", ""),
    )  # fmt: skip


def _words(table: Mapping[str, Any], key: str, *, where: str) -> tuple[str, ...]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value) or len(value) > MOST_RULES:
        raise Damaged(f"{where}.{key}: expected a list of texts")
    return tuple(value)


def _check_table(table: Any, known: set[str], *, where: str) -> None:
    if not isinstance(table, dict):
        raise Damaged(f"{where}: expected a table, found {type(table).__name__}")
    for key in table:
        if key not in known:  # a rule that is half understood could allow what it was written to forbid
            raise Damaged(f"{where}: expected {', '.join(sorted(known))}, found {key[:60]!r}")


def _check_level(level: Any, *, where: str) -> None:
    if level not in SENSITIVITIES:
        raise Damaged(f"{where}: expected {' or '.join(SENSITIVITIES)}, found {str(level)[:60]!r}")
