"""What was forgotten for good is as likely to the model as if it had never been there, in text and in caches."""

from __future__ import annotations

from pathlib import Path

import pytest

from memos_cli.cube import activation
from tests.interface import heard
from tests.interface.heard import FACTS, OTHERS, Listener

pytestmark = pytest.mark.slow


@pytest.fixture
def listener(home: Path) -> Listener:
    return Listener(home / "cache")


def test_a_purged_fact_has_the_probability_it_has_without_the_cube(listener: Listener, work: Path) -> None:
    cube = heard.make(work / "a.cube", [text for text, _, _ in FACTS])
    never = [listener.alone(question, answer) for _, question, answer in FACTS]
    for (_, question, answer), alone in zip(FACTS, never, strict=True):
        # the cube does tell, in both forms, or nothing would be shown below
        assert listener.reading(cube, question, answer) > alone + 2
        assert listener.loading(cube, question, answer) > alone + 2
    heard.purge(cube)
    assert activation.find(cube / "current" / "activation") == []
    assert [listener.reading(cube, question, answer) for _, question, answer in FACTS] == never
    assert [listener.loading(cube, question, answer) for _, question, answer in FACTS] == never


def test_among_other_memories_it_is_as_if_it_had_never_been_in_the_cube(listener: Listener, work: Path) -> None:
    cube = heard.make(work / "a.cube", [*OTHERS, *(text for text, _, _ in FACTS)])
    control = heard.make(work / "never.cube", OTHERS)
    heard.purge(cube)
    assert len(activation.find(cube / "current" / "activation")) == len(OTHERS)
    for _, question, answer in FACTS:
        assert listener.reading(cube, question, answer) == listener.reading(control, question, answer)
        found, expected = (listener.loading(each, question, answer) for each in (cube, control))
        assert found == pytest.approx(expected, abs=1e-3)
