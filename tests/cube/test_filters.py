"""Typed filters: what they accept, what they refuse, and that no value escapes its quotes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memos_cli.cube.filters import FIELDS, parse, time_span, to_sql
from memos_cli.errors import Usage


@pytest.mark.parametrize(
    ("text", "sql"),
    [
        ("type=fact", "(type = 'fact')"),
        ("TYPE = fact", "(type = 'fact')"),
        ("speaker='Ann Lee' and type!=event", "(speaker = 'Ann Lee') and (type != 'event')"),
        ("tag=red, tag!=blue", "(array_has(tags, 'red')) and (not array_has(tags, 'blue'))"),
        ("section=work/*", r"(section like 'work/%' escape '\' or section = 'work')"),
        ("source~NOTES", r"(lower(source) like '%notes%' escape '\')"),
        ("priority>=5", "(priority >= 5)"),
        ("text_is='x'", None),
        ("speaker='O''Hara'", None),
    ],
)
def test_a_filter_becomes_sql(text: str, sql: str | None) -> None:
    if sql is None:
        with pytest.raises(Usage):
            parse(text)
    else:
        assert to_sql(parse(text)) == sql


def test_times_take_the_whole_span_they_name() -> None:
    (clause,) = parse("time<=2024-05")
    assert to_sql((clause,)) == "(coalesce(time, created_at) < timestamp '2024-06-01 00:00:00')"
    assert time_span("2024-12")[1].isoformat() == "2025-01-01T00:00:00+00:00"
    assert [moment.hour for moment in time_span("2024-05-01T10:00+02:00")] == [8, 8]


@pytest.mark.parametrize("text", ["", "   "])
def test_no_filter_is_no_condition(text: str) -> None:
    assert to_sql(parse(text)) == ""


@pytest.mark.parametrize(
    "text", ["colour=red", "type", "=x", "time=soon", "priority=high", "priority~3", "type>fact", "tag~x"]
)
def test_what_is_not_understood_is_named(text: str) -> None:
    with pytest.raises(Usage) as caught:
        to_sql(parse(text))
    assert str(caught.value)


@settings(deadline=None)
@given(st.text(max_size=40).filter(lambda text: "*" not in text))
def test_a_value_never_leaves_its_quotes(value: str) -> None:
    quoted = '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    (clause,) = parse(f"speaker={quoted}")
    assert clause.value == value
    literal = to_sql((clause,)).split("'", 1)[1].rsplit("'", 1)[0]
    assert "'" not in literal.replace("''", "")


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_text_parses_or_is_a_usage_error(text: str) -> None:
    try:
        clauses = parse(text)
        to_sql(clauses)
    except Usage:
        return
    assert all(clause.field in FIELDS for clause in clauses)


@pytest.mark.parametrize("text", ["type=fact and", "type=fact AND ", "type=fact,", "type=fact and topic=a and"])
def test_a_filter_that_breaks_off_is_refused(text: str) -> None:
    with pytest.raises(Usage, match="expected another"):
        parse(text)
