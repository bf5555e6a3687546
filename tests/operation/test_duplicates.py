"""Which memories say what others say."""

from __future__ import annotations

import numpy as np  # noqa: TID253  vectors
import pytest

from memos_cli.operation.conflicts import Statement
from memos_cli.operation.duplicates import COSINE, EXACT, FACT, NEAR, duplicates_among

ALIKE = np.array([1.0, 0.0])


def among(*texts: str, cosine: float | None = 1.0) -> list[str]:
    said = [Statement(str(at), text) for at, text in enumerate(texts)]
    if cosine is None:
        return [one.kind for one in duplicates_among(said)]
    other = np.array([cosine, np.sqrt(1 - cosine**2)])
    return [
        one.kind for one in duplicates_among(said, vectors={one.id: ALIKE if one.id == "0" else other for one in said})
    ]


@pytest.mark.parametrize(
    ("one", "other", "kind"),
    [
        ("The key is in the SAFE.", "the key is in the safe", EXACT),
        ("Café Zoë opens at 9 am.", "Cafe Zoe opens at 09:00", EXACT),
        ("The spare keys of the lab are with Ana.", "Remember: the spare keys of the lab are with Ana.", NEAR),
        (
            "The old contract with Acme in Bonn was signed by Ana.",
            "The old contract with Acme in Bonn was singed by Ana.",
            NEAR,
        ),
        ("The home town of Ana is Lindau.", "Ana lives in Lindau.", FACT),
    ],
)
def test_the_same_is_found(one: str, other: str, kind: str) -> None:
    assert among(one, other) == [kind]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Invoice 4711 over 30 euros was paid by Acme.", "Invoice 4712 over 30 euros was paid by Acme."),
        ("The red bicycle is in the old garage.", "The blue bicycle is in the old garage."),
        ("Ana sent the signed contract to Bela.", "Bela sent the signed contract to Ana."),
        ("The lab must always be locked at night.", "The lab must not always be locked at night."),
        ("The review of Atlas was sent to the board.", "The review of Boreas was sent to the board."),
        ("", " "),
    ],
)
def test_what_only_looks_the_same_is_not(one: str, other: str) -> None:
    assert among(one, other) == []


def test_near_takes_words_and_vectors() -> None:
    two = ("The spare keys of the lab hang at the desk.", "The spare keys of the lab hang at the desks upstairs.")
    assert among(*two, cosine=COSINE + 0.01) == [NEAR]
    assert among(*two, cosine=COSINE - 0.01) == []


def test_of_many_with_the_same_words_each_is_paired_with_the_first() -> None:
    said = [Statement(str(at), "The key is in the safe.") for at in range(300)]
    assert [(one.one, one.other) for one in duplicates_among(said)] == [("0", str(at)) for at in range(1, 300)]
