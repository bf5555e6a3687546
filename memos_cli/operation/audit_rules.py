"""A policy file: what a team wants of its cubes, as rules that an audit can check.

TOML of three tables, `[require]`, `[forbid]` and `[limit]`; docs/how-to/ci.md tells each rule. A rule that is not known
is refused, so that a typing mistake is not a rule that is never checked. Knows no cube.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memos_cli.cube.metadata import SENSITIVITIES
from memos_cli.cube.toml import read_toml
from memos_cli.errors import Usage

# What every memory can be asked to have; all but `time` and `tags` are columns of text.
LABELS = (
    "owner", "ref", "section", "sensitivity", "session", "source", "speaker", "tags", "time", "title", "topic", "type",
)  # fmt: skip
PII_KINDS = ("card", "email", "iban", "phone", "ssn")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{0,31}")


@dataclass(frozen=True, slots=True)
class Rules:
    """What is required, forbidden and limited; what is empty, 0 or False is not asked for."""

    licence: tuple[str, ...] = ()
    description: bool = False
    labels: tuple[str, ...] = ()
    compliance: tuple[str, ...] = ()
    ttl: bool = False
    schemes: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    share_scopes: tuple[str, ...] = ()
    secrets: bool = False
    pii: tuple[str, ...] = ()
    sensitivity: str = ""
    age_days: int = 0
    memories: int = 0
    bytes: int = 0


def load(path: Path) -> Rules:
    """The rules in a file. Raises NotFound, Damaged for what is no TOML, Usage naming the rule that is off."""
    return parse(read_toml(path), where=str(path))


def parse(table: dict[str, Any], *, where: str) -> Rules:
    """The rules in a parsed file."""
    kinds = {
        "require": {
            "licence": _texts, "description": _yes, "labels": _labels, "compliance": _texts, "ttl": _yes,
        },
        "forbid": {
            "schemes": _schemes, "words": _texts, "share_scopes": _texts, "secrets": _yes, "pii": _pii,
        },
        "limit": {"sensitivity": _level, "age_days": _count, "memories": _count, "bytes": _count},
    }  # fmt: skip
    found: dict[str, Any] = {}
    for name, rules in table.items():
        if name not in kinds or not isinstance(rules, dict):
            raise Usage(
                f"{where}: expected the tables {', '.join(kinds)}, found {name!r:.80}", hint="docs/how-to/ci.md"
            )
        for rule, value in rules.items():
            if rule not in kinds[name]:
                known = ", ".join(kinds[name])
                raise Usage(f"{where}: [{name}] has the rules {known}, found {rule!r:.80}", hint="docs/how-to/ci.md")
            found[rule] = kinds[name][rule](value, f"{where}: {name}.{rule}")
    return Rules(**found)


def _texts(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise Usage(f"{where}: expected a list of texts, found {value!r:.80}")
    return tuple(value)


def _yes(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise Usage(f"{where}: expected true or false, found {value!r:.80}")
    return value


def _count(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise Usage(f"{where}: expected a number from 1, found {value!r:.80}")
    return value


def _of(value: Any, known: tuple[str, ...], where: str) -> tuple[str, ...]:
    found = _texts(value, where)
    if odd := [item for item in found if item not in known]:
        raise Usage(f"{where}: expected some of {', '.join(known)}, found {odd[0]!r:.80}")
    return found


def _labels(value: Any, where: str) -> tuple[str, ...]:
    return _of(value, LABELS, where)


def _pii(value: Any, where: str) -> tuple[str, ...]:
    if isinstance(value, bool):
        return PII_KINDS if value else ()
    return _of(value, PII_KINDS, where)


def _schemes(value: Any, where: str) -> tuple[str, ...]:
    found = _texts(value, where)
    if odd := [item for item in found if not _SCHEME.fullmatch(item)]:
        raise Usage(f"{where}: expected schemes such as http or s3, found {odd[0]!r:.80}")
    return found


def _level(value: Any, where: str) -> str:
    if value not in SENSITIVITIES:
        raise Usage(f"{where}: expected one of {', '.join(SENSITIVITIES)}, found {value!r:.80}")
    return str(value)
