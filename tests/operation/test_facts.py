"""What a memory says, read from its shape."""

import pytest

from memos_cli.operation.facts import Fact, Gap, facts_of, gaps_of, wordings


@pytest.mark.parametrize(
    ("line", "fact"),
    [
        ("The home town of Ana is Lindau.", Fact("Ana", "home town", "Lindau")),
        ("Ana's home town is Lindau.", Fact("Ana", "home town", "Lindau")),
        ("Ana > Home town: Lindau", Fact("Ana", "Home town", "Lindau")),
        ("Ana: home town: Lindau", Fact("Ana", "home town", "Lindau")),
        ("home town of Ana: Lindau", Fact("Ana", "home town", "Lindau")),
    ],
)
def test_a_shape_tells_subject_relation_and_value(line: str, fact: Fact) -> None:
    assert facts_of(line) == [fact]


def test_a_verb_is_asked_for_by_its_nouns_and_its_own_questions_once() -> None:
    found = facts_of("Ana lives in Lindau.")
    assert [fact.relation for fact in found] == wordings()["verbs"]["lives in"]["nouns"]
    assert {(fact.subject, fact.value) for fact in found} == {("Ana", "Lindau")}
    assert found[0].asks == tuple(wordings()["verbs"]["lives in"]["ask"])
    assert not any(fact.asks for fact in found[1:])


def test_a_row_tells_all_of_whom_its_naming_column_names() -> None:
    line = "people: badge: 17; name: Ana; home town: Lindau"
    assert facts_of(line, kind="row", section="people") == [
        Fact("Ana", "badge", "17"),
        Fact("Ana", "home town", "Lindau"),
    ]


def test_a_row_without_a_naming_column_is_about_its_first() -> None:
    assert facts_of("host: web1; port: 8080", kind="row") == [Fact("web1", "port", "8080")]


@pytest.mark.parametrize("line", ["Good morning!", "", "It was a long day, and nothing came of it.", ": :"])
def test_what_has_no_shape_has_no_facts(line: str) -> None:
    assert facts_of(line) == []


def test_values_are_found_with_what_stands_before_them() -> None:
    found = gaps_of('We moved to Lindau on 17 May. The password hint is "blue heron" for all.')
    assert Gap("We moved to", "Lindau") in found
    assert Gap("We moved to Lindau on", "17 May") in found
    assert Gap("The password hint is", "blue heron") in found


def test_a_value_with_nothing_before_it_is_none() -> None:
    assert gaps_of("Lindau is small.") == []
