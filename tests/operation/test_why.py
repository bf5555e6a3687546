"""Why a memory ranks where it does, in words."""

from __future__ import annotations

import pytest

from memos_cli.operation.hits import Hit
from memos_cli.operation.reading import Heard
from memos_cli.operation.times import When
from memos_cli.operation.why import behind, reasons, words_shared

HEARD = Heard(words="roll back release", speaker="Ann", topic="work", when=When(2023, words="in 2023"))


def hit(**signals: float) -> Hit:
    return Hit("c", "id", round(sum(signals.values()), 4), signals, {"text": "Releases roll on", "section": ""})


def test_reasons_are_told_strongest_first() -> None:
    told = reasons(hit(vector=0.5, near=1.2, speaker=2.0, asks=-0.5, wide=-0.7, length=0.01), HEARD)
    assert told == (
        "Ann said it +2.00; has the words roll, release +1.20; close in meaning +0.50; "
        "but the talk around it lacks the words -0.70"
    )
    assert reasons(hit(date=2.0, topic=0.5), HEARD) == "from then, or tells of then +2.00; under work +0.50"
    assert reasons(hit(length=0.01), HEARD) == "nothing speaks for it much"
    assert reasons(hit(), HEARD) == "nothing speaks for it much"
    assert "new_signal +1.00" in reasons(hit(new_signal=1.0), HEARD)


def test_what_a_memory_lacks_beside_a_better_one() -> None:
    assert behind(hit(vector=0.2), hit(vector=0.5, near=1.0)) == "1.30 behind the last one shown, most by words"
    assert behind(hit(), hit()) == "0.00 behind the last one shown"


@pytest.mark.parametrize(
    ("words", "text", "shared"),
    [
        ("roll back", "Rolling stones roll", ["roll"]),
        ("releases", "A release.", ["releases"]),
        ("car", "carpet", []),
        ("", "x", []),
    ],
)
def test_words_that_both_have(words: str, text: str, shared: list[str]) -> None:
    assert words_shared(words, text) == shared
