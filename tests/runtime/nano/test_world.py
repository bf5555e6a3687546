"""The reading world: what is held out stays out, and every question has the answer it claims."""

from __future__ import annotations

import re
from random import Random

import pytest

from memos_cli.runtime.nano.train.frames import is_held, relations
from memos_cli.runtime.nano.train.names import Names, syllables
from memos_cli.runtime.nano.train.world import SHAPES, UNKNOWN, World, as_told


def test_there_are_many_relations_with_many_wordings() -> None:
    assert len(relations()) >= 150
    assert min(len(each.train.says) for each in relations()) >= 40
    assert min(len(each.train.asks) for each in relations()) >= 25


def test_no_pattern_is_both_trained_and_held() -> None:
    for each in relations():
        assert not set(each.train.says) & set(each.held.says)
        assert not set(each.train.asks) & set(each.held.asks)
        assert all(is_held(each.name, pattern) for pattern in each.held.says + each.held.asks)


def test_every_word_of_a_held_pattern_is_trained_somewhere() -> None:
    def words(patterns: tuple[str, ...]) -> set[str]:
        return {word for each in patterns for word in re.findall(r"[a-z]+", re.sub(r"\{\w\}", "", each).lower())}

    trained = set().union(*(words(each.train.says + each.train.asks) for each in relations()))
    held = set().union(*(words(each.held.says + each.held.asks) for each in relations()))
    assert held <= trained


def test_syllables_of_test_names_never_make_training_names() -> None:
    assert not set(syllables(False)) & set(syllables(True))
    assert 0.08 < len(syllables(True)) / len(syllables(False)) < 0.25
    trained, held = (Names(Random(3), held=held) for held in (False, True))
    assert not {trained.raw() for _ in range(4000)} & {held.raw() for _ in range(4000)}


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_answer_stands_in_the_memory_where_it_is_said_to(shape: str, held: bool) -> None:
    world = World(Random(5), held_names=held, held_words=held)
    for _ in range(60):
        facts = world.facts(5)
        memory, stated = world.state(facts, shape=shape)
        for fact in facts:
            assert fact.value.lower() in memory.lower()
        for each in stated:
            assert as_told(memory, stated)[id(each.fact)].lower() == each.fact.value.lower()
            assert each.subject is None or memory[slice(*each.subject)].lower() == each.fact.subject.lower()
            assert each.sentence[0] <= each.value[0]


def test_questions_name_their_subject_and_unknown_ones_are_not_in_the_facts() -> None:
    world = World(Random(6))
    for _ in range(200):
        facts = world.facts(4)
        for question in world.questions(facts, 6, unknown=0.3):
            assert question.text
            assert not set("{\ue000") & set(question.text)
            if question.subject:
                assert question.fact is not None
                named = question.text[slice(*question.subject)].lower()
                assert question.fact.subject.lower().startswith(named)
            if question.answer == UNKNOWN:
                asked = question.fact
                assert asked is not None
                assert (asked.subject, asked.relation.name) not in {(f.subject, f.relation.name) for f in facts}


def test_the_same_seed_gives_the_same_examples() -> None:
    first, second = (World(Random(9)).example(8, unknown=0.1) for _ in range(2))
    assert first == second
