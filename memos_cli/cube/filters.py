"""The typed filters of `--where`, and their translation to the SQL that Lance takes.

A filter is `field op value`, joined by `and` (or a comma): `type=fact and time>=2024-05 and topic=work/*`.
Values are never pasted into SQL unquoted, and only the fields listed here exist, so a filter cannot say anything
else. Knows nothing of tables.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from memos_cli.cube import topics
from memos_cli.errors import Usage

_TEXT = {
    "id", "kind", "type", "topic", "source", "title", "section", "session",
    "speaker", "role", "ref", "state", "owner", "sensitivity", "origin", "read_scope", "write_scope", "share_scope",
}  # fmt: skip
_NUMBER = {
    "priority": "priority", "page": "page", "turn": "turn", "line": "line_start", "words": "words",
}  # fmt: skip
_TIME = {
    "time": "coalesce(time, created_at)", "said": "time", "event": "event_time",
    "created": "created_at", "updated": "updated_at",
}  # fmt: skip
FIELDS = tuple(sorted(_TEXT | {"tag"} | set(_NUMBER) | set(_TIME)))

_CLAUSE = re.compile(
    r"""\s*(?P<field>[A-Za-z_]+)\s*(?P<op>!=|>=|<=|=|>|<|~)\s*
        (?P<value>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|(?!["']).*?)
        \s*(?=$|,|\s+and(?:\s|$))""",
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_JOIN = re.compile(r"\s*,\s*|\s+and(?:\s+|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Clause:
    """One comparison; `value` is what was written, without its quotes."""

    field: str
    op: str
    value: str


def parse(text: str) -> tuple[Clause, ...]:
    """The clauses of `text`; none for an empty text. Raises Usage naming the part that is not understood."""
    clauses: list[Clause] = []
    position = 0
    while position < len(text) and text[position:].strip():
        match = _CLAUSE.match(text, position)
        if not match:
            raise Usage(f"filter: expected 'field=value', found {text[position:][:60]!r}", hint=_example())
        field = match["field"].lower()
        if field not in FIELDS:
            raise Usage(f"filter: unknown field {field!r}; fields are {', '.join(FIELDS)}", hint=_example())
        clauses.append(Clause(field, match["op"], _unquote(match["value"])))
        position = match.end()
        join = _JOIN.match(text, position)
        position = join.end() if join else position
        if join and not text[position:].strip():
            raise Usage(f"filter: expected another 'field=value' after {join.group().strip()!r}", hint=_example())
    return tuple(clauses)


def to_sql(clauses: tuple[Clause, ...]) -> str:
    """The SQL condition for a Lance table; "" when there is no clause. Raises Usage for a value of the wrong kind."""
    return " and ".join(f"({_sql(clause)})" for clause in clauses)


def quote(value: str) -> str:
    """`value` as an SQL string literal."""
    return "'" + value.replace("'", "''") + "'"


def _example() -> str:
    return "memos query CUBE TEXT --where 'type=fact and time>=2024-05 and topic=work/*'"


def _unquote(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        return re.sub(r"\\(.)", r"\1", value[1:-1])
    return value.strip()


def _sql(clause: Clause) -> str:
    if clause.field == "tag":
        return _tag_sql(clause)
    if clause.field in _NUMBER:
        return _number_sql(clause, _NUMBER[clause.field])
    if clause.field in _TIME:
        return _time_sql(clause, _TIME[clause.field])
    return _text_sql(clause)


def _tag_sql(clause: Clause) -> str:
    if clause.op not in ("=", "!="):
        raise Usage(f"filter: tag takes = or !=, found {clause.op}")
    has = f"array_has(tags, {quote(clause.value)})"
    return has if clause.op == "=" else f"not {has}"


def _number_sql(clause: Clause, column: str) -> str:
    if clause.op == "~" or not re.fullmatch(r"-?\d{1,12}", clause.value):
        raise Usage(f"filter: {clause.field} is compared with a whole number, found {clause.op}{clause.value!r}")
    return f"{column} {clause.op} {int(clause.value)}"


def _time_sql(clause: Clause, column: str) -> str:
    start, end = time_span(clause.value)
    first, last = (f"timestamp '{moment.strftime('%Y-%m-%d %H:%M:%S')}'" for moment in (start, end))
    if clause.op == "=":
        return f"{column} >= {first} and {column} < {last}"
    if clause.op == "!=":
        return f"{column} < {first} or {column} >= {last}"
    if clause.op == "~":
        raise Usage(f"filter: {clause.field} takes = != < <= > >=, found ~")
    # `time>2024-05` means after May, `time<=2024-05` up to its end
    bound = last if clause.op in (">", "<=") else first
    return f"{column} {'>=' if clause.op in ('>', '>=') else '<'} {bound}"


def _text_sql(clause: Clause) -> str:
    if clause.op in (">", "<", ">=", "<="):
        raise Usage(f"filter: {clause.field} takes =, != or ~, found {clause.op}")
    # `topic=""` asks for what was given none, all else for the path, which every memory has
    if clause.field == "topic" and clause.value:
        return topics.condition(lambda path: _compared(path, clause))
    return _compared(clause.field, clause)


def _compared(column: str, clause: Clause) -> str:
    if clause.op == "~":
        return f"lower({column}) like {quote('%' + _like(clause.value.lower()) + '%')} escape '\\'"
    if "*" in clause.value:
        pattern = _like(clause.value).replace("*", "%")
        like = f"{column} like {quote(pattern)} escape '\\'"
        if clause.value.endswith("/*"):  # work/* takes work itself too
            like += f" or {column} = {quote(clause.value[:-2])}"
        return like if clause.op == "=" else f"not ({like})"
    return f"{column} {clause.op} {quote(clause.value)}"


def _like(value: str) -> str:
    return value.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def time_span(text: str) -> tuple[datetime, datetime]:
    """Start and end (exclusive, UTC) of the year, month, day or moment that `text` names. Raises Usage."""
    match = re.fullmatch(r"(\d{4})(?:-(\d{1,2})(?:-(\d{1,2}))?)?", text.strip())
    try:
        if not match:
            moment = datetime.fromisoformat(text.strip())
            moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
            return moment, moment + timedelta(seconds=1)
        year, month, day = int(match[1]), int(match[2] or 1), int(match[3] or 1)
        start = datetime(year, month, day, tzinfo=UTC)
        if match[3]:
            return start, start + timedelta(days=1)
        if match[2]:
            return start, datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
        return start, datetime(year + 1, 1, 1, tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise Usage(f"expected a time such as 2024, 2024-05, 2024-05-17 or 2024-05-17T09:30, found {text!r}") from error
