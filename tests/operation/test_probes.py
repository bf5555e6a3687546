"""Questions made of a memory: every answer stands in it, and no wording is in two splits."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from memos_cli.operation.answer import plain
from memos_cli.operation.facts import wordings
from memos_cli.operation.probes import CLOZE, MOST, SELF, SPLITS, TEST, TRAIN, chosen, pool, probes_of, self_study

LINE = "The home town of Ana is Lindau."


def test_wordings_are_disjoint_between_splits() -> None:
    for kind in ("noun", "reversed", "cloze"):
        said = [wording for split in SPLITS for wording in wordings()[kind][split]]
        assert len(said) == len(set(said)), kind


def test_the_pool_to_test_with_shares_nothing_with_the_pool_to_train_with() -> None:
    for name, trained in pool(TRAIN).items():
        assert pool(TEST)[name], name
        assert set(trained).isdisjoint(pool(TEST)[name]), name


def test_a_fact_is_asked_for_in_all_splits_and_backwards() -> None:
    found = probes_of("m1", LINE)
    assert {probe.split for probe in found} == set(SPLITS)
    assert {(probe.kind, probe.answer) for probe in found} == {
        ("template", "Lindau"), ("reversed", "Ana"), ("cloze", "Lindau")
    }  # fmt: skip


def test_no_question_holds_its_answer() -> None:
    for probe in probes_of("m1", "Ana's sister is Ana Maria. The room of Ana is 17."):
        assert plain(probe.answer) not in plain(probe.question)


@settings(deadline=None)
@given(st.text(max_size=200))
def test_of_any_text_every_answer_stands_in_it(line: str) -> None:
    for probe in probes_of("m1", line):
        assert plain(probe.answer)
        assert plain(probe.answer) in plain(line)


def test_equal_seeds_give_equal_questions() -> None:
    assert probes_of("m1", LINE, seed=3) == probes_of("m1", LINE, seed=3)
    assert probes_of("m1", LINE, seed=3) != probes_of("m1", LINE, seed=4)


def test_no_more_are_chosen_than_are_kept_and_all_kinds_have_a_part() -> None:
    found = chosen(probes_of("m1", LINE))
    counts = Counter(probe.split for probe in found)
    assert counts == MOST
    assert {probe.kind for probe in found if probe.split == TRAIN} == {"template", "reversed", "cloze"}


def test_a_memory_without_facts_is_asked_for_what_follows() -> None:
    assert {probe.kind for probe in probes_of("m1", "We all moved to Lindau.")} == {CLOZE}


def test_what_a_model_writes_itself_counts_only_with_an_answer_from_the_text() -> None:
    written = (
        "1. Where does Ana live? | Lindau\n- Who is her boss? | Ben\nno question | Lindau\nWhat town? | the home town"
    )
    found = self_study("m1", LINE, lambda _: written)
    assert [(probe.question, probe.answer) for probe in found] == [
        ("Where does Ana live?", "Lindau"), ("What town?", "the home town")
    ]  # fmt: skip
    assert {probe.kind for probe in found} == {SELF}
