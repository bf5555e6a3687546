"""Facts that were read back, held against what a cube knows, and as rows that wait."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from memos_cli.cube import parameter
from memos_cli.cube.parameter import Rights
from memos_cli.operation.elicit import Ask, Heard, Sifted
from memos_cli.operation.facts import Fact
from memos_cli.operation.quarantine import Knowledge, knowledge, row_of, statement
from tests.bench.distill import Fact as Row
from tests.cube import adapters

NOW = datetime(2026, 2, 1, tzinfo=UTC)
SIFTED = Sifted((), 0.625, 0.0125, 10, 40, 0, 4, 0)


def heard(subject: str, relation: str, value: str) -> Heard:
    return Heard(Ask(subject, relation), value, 0.98, 6.5, 3, f"Give me {subject}'s {relation}.")


def known(live: list[str] = (), ended: list[str] = (), *, taught: tuple[str, ...] = ()) -> Knowledge:  # type: ignore[assignment]
    rows = [Row(f"old{number}", text) for number, text in enumerate(ended)]
    return knowledge([Row(f"new{number}", text) for number, text in enumerate(live)], rows, taught=taught)


@pytest.mark.parametrize(
    ("live", "verdict"),
    [
        (["The home town of Ana is Lindau."], "verified"),
        (["Ana's home town is Lindau."], "verified"),
        (["Long ago Ana moved to Lindau and stayed."], "verified"),
        (["The home town of Ana is Bregenz."], "contradicted"),
        (["Ana lives in Bregenz."], "contradicted"),
        (["The home town of Anabel is Lindau."], "unverified"),
        (["The boss of Ana is Ruth."], "unverified"),
        ([], "unverified"),
    ],
)
def test_what_the_cube_says_of_a_fact(live: list[str], verdict: str) -> None:
    assert known(live).verdict(heard("Ana", "home town", "Lindau")) == verdict


def test_a_stored_question_tells_too() -> None:
    told = knowledge([], [], taught=(), asked=[Fact("Ana", "home town", "Lindau")])
    assert told.verdict(heard("ana", "Home town", "lindau")) == "verified"
    assert not told.has(heard("Ana", "home town", "Lindau"))
    assert told.verdict(heard("Ana", "home town", "Bregenz")) == "contradicted"


def test_what_was_forgotten_is_not_told() -> None:
    fact = heard("Ana", "home town", "Lindau")
    assert known(ended=["The home town of Ana is Lindau."]).withholds(fact)
    assert not known(ended=["The home town of Ben is Lindau."]).withholds(fact)
    # what this adapter was taught is known by its value, whomever it is said of
    assert known(ended=["She moved to Lindau."], taught=("old0",)).withholds(fact)
    assert not known(ended=["She moved to Lindauer Street."], taught=("old0",)).withholds(fact)
    # what a memory still says is no secret
    assert not known(["Ana lives in Lindau."], ["The home town of Ana is Lindau."]).withholds(fact)


def test_a_fact_is_a_sentence() -> None:
    assert statement(heard("Ana", "home town", "Lindau.")) == "The home town of Ana is Lindau."
    assert statement(heard("Ana", "home town", "Ana lives in Lindau.")) == "Ana lives in Lindau."
    assert statement(heard("A\x00na", "home  town", "Lin\ndau")) == "The home town of A\ufffdna is Lin dau."


def test_a_row_waits_and_says_where_it_is_from(tmp_path: Path) -> None:
    folder = tmp_path / "parameter"
    made = adapters.write(folder)
    row = row_of(
        heard("Ana", "home town", "Lindau"), SIFTED, made, rate=0.05, verdict="unverified", level="internal", now=NOW
    )
    assert (row["state"], row["origin"], row["valid_from"], row["priority"]) == (
        "generated", "parameter_finetuning", None, 0,
    )  # fmt: skip
    assert row["source"] == f"adapter:{made.id[:12]}"
    assert row["source_digest"] == f"sha256:{made.id}"
    assert row["sensitivity"] == ""
    told = json.loads(row["ref"])
    assert told == {
        "adapter": made.reference, "base": "nano", "wording": "Give me Ana's home town.", "p": 0.98, "gain": 6.5,
        "agree": 3, "threshold": 0.625, "fdr": 0.0125, "fdr_allowed": 0.05, "verdict": "unverified",
    }  # fmt: skip
    ends = datetime(2026, 6, 1, tzinfo=UTC)
    closed = replace(made.about, rights=Rights("restricted", expires=ends))
    strict = row_of(
        heard("Ana", "home town", "Lindau"), SIFTED, parameter.revise(folder, "facts", closed), rate=0.05,
        verdict="unverified", level="internal", now=NOW,
    )  # fmt: skip
    assert (strict["sensitivity"], strict["expires_at"]) == ("restricted", ends)
    assert strict["id"] == row["id"]
