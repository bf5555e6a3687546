"""When a step of a pipeline runs: `changed`, or a comparison such as `steps.ingest.result.added > 0`.

A comparison is one reference, one sign and one value of JSON; nothing is evaluated. Several must all hold. Knows
nothing of how values are looked up.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from memos_cli.errors import Damaged
from memos_cli.operation.references import ENV, INPUTS, Reference, Scalar, parse

CHANGED = "changed"
_SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq, "!=": operator.ne, "<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt,
}  # fmt: skip
_COMPARISON = re.compile(r"([^\s=!<>]+)\s*(==|!=|<=|>=|<|>)\s*(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Condition:
    """A comparison, or, without a reference, that something a step builds on has changed."""

    text: str
    reference: Reference | None = None
    sign: str = ""
    value: Scalar = None


def read(said: object, *, where: str) -> tuple[Condition, ...]:
    """The conditions that `when` tells, one or a list. Raises Damaged, naming `where`."""
    found: list[Any] = said if isinstance(said, list) else [said]
    if not found or len(found) > 16 or not all(isinstance(each, str) for each in found):
        raise Damaged(f"{where}: expected when to be a text, or a list of texts, found {said!r:.80}")
    return tuple(_read(each, where=where) for each in found)


def _read(text: str, *, where: str) -> Condition:
    if text.strip() == CHANGED:
        return Condition(CHANGED)
    match = _COMPARISON.fullmatch(text.strip())
    if match is None:
        raise Damaged(f"{where}: expected {CHANGED!r}, or 'steps.NAME.code == 9' and the like, found {text!r:.80}")
    reference = parse(match.group(1), where=where)
    if reference.kind == ENV:
        raise Damaged(f"{where}: expected a condition on an input or a step, found one on {reference}")
    return Condition(text.strip(), reference, match.group(2), _value(match.group(3), where=where))


def _value(text: str, *, where: str) -> Scalar:
    try:
        value = json.loads(text, parse_constant=lambda name: [name])
    except (ValueError, RecursionError):
        value = []
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise Damaged(f'{where}: expected a value such as 9, true, null or "full" to compare with, found {text!r:.60}')


def holds(condition: Condition, found: Scalar) -> bool:
    """Whether a comparison is true of the value that its reference has. Raises Damaged for kinds that have no order."""
    if condition.reference is not None and condition.reference.kind == INPUTS:
        found = _as_kind(found, condition.value)
    same = _kind(found) == _kind(condition.value)
    if condition.sign in ("==", "!="):
        return _SIGNS[condition.sign](found, condition.value) if same else condition.sign == "!="
    if not same or _kind(found) not in ("number", "text"):
        raise Damaged(f"{condition.text}: expected two numbers or two texts to compare, found {str(found)[:60]!r}")
    return _SIGNS[condition.sign](found, condition.value)


def _as_kind(found: Scalar, value: Scalar) -> Scalar:
    """An input, which is a text, as the number or truth value that it is compared with, where it is one."""
    try:
        read = json.loads(str(found))
    except (ValueError, RecursionError):
        return found
    return read if isinstance(read, bool | int | float) and _kind(read) == _kind(value) else found


def _kind(value: Scalar) -> str:
    if value is None:
        return "nothing"
    return "truth" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"
