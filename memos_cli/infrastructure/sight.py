"""Sight: which memories of a cube somebody may see, change or take away, as SQL for tables and in Python for rows.

A sight is terms that must all hold, each with the rule that it stands for. Terms look at GUARDS alone (and, of what is
changed, at holds), so what they hide is in no search window of a memory that they do not. Knows no verbs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from memos_cli.cube.access import Rule, at_most_sql
from memos_cli.cube.metadata import Memcube
from memos_cli.cube.scopes import GUARDS, SENSITIVITIES, lets, lets_sql, rank

Row = Mapping[str, Any]
NOTHING = "false"
_PLAIN: dict[str, str] = dict.fromkeys(GUARDS, "")


@dataclass(frozen=True, slots=True)
class Term:
    """One thing that must hold of a memory; `rule` says in words which rule it is."""

    rule: str
    sql: str
    holds: Callable[[Row], bool]


@dataclass(frozen=True, slots=True)
class Sight:
    """Terms that must all hold. `guarded` is how many memories have labels of their own; None where nobody knows."""

    terms: tuple[Term, ...] = ()
    guarded: int | None = None

    @property
    def condition(self) -> str:
        """The SQL condition; "" when every memory of the cube satisfies it, so that it need not be looked at."""
        if self.guarded == 0:
            return "" if self.why(_PLAIN) is None else NOTHING
        return " and ".join(f"({term.sql})" for term in self.terms)

    def why(self, row: Row) -> str | None:
        """The rule that keeps this memory (which needs its GUARDS); None when none does."""
        return next((term.rule for term in self.terms if not term.holds(row)), None)


def scope_term(kind: str, key: str, *, owns: bool) -> Term:
    """The scope of a memory itself, for a kind of verb: read, write or share."""
    column = f"{kind}_scope"
    rule = f"its {column} does not name this key"
    return Term(rule, lets_sql(column, key, owns=owns), lambda row: lets(row[column], key, owns=owns))


def unless(rule: Rule, whose: str, level: str) -> Term:
    """What a rule forbids for a part of the memories of a cube with this label."""
    name = f"rule {rule.name!r} of {whose} forbids it"
    return Term(name, f"not ({rule.sql(level=level)})", lambda row: not rule.covers(row, level=level))


def rows_of(rules: Sequence[Rule], whose: str, level: str) -> list[Term]:
    """What rules permit together: nothing to look at when one is about all, and none at all when there is no rule."""
    if any(rule.of_all for rule in rules):
        return []
    sql = " or ".join(f"({rule.sql(level=level)})" for rule in rules) or NOTHING
    name = f"no rule of {whose} permits it"
    return [Term(name, sql, lambda row: any(rule.covers(row, level=level) for rule in rules))]


def bound(to: str, most: str, cube: Memcube) -> list[Term]:
    """That a memory's label is low enough for a destination."""
    if most == SENSITIVITIES[-1]:
        return []
    level = cube.governance.sensitivity
    rule = f"at most {most!r} goes to {to!r}"

    def holds(row: Row) -> bool:
        return rank(row["sensitivity"] or level) <= rank(most)

    return [Term(rule, at_most_sql(most, level=level), holds)]
