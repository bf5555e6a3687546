"""Facts out of an adapter: what is asked, what is believed, and how much of it is estimated to be made up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from memos_cli.operation import elicit
from memos_cli.operation.answer import plain
from memos_cli.operation.elicit import STRANGER, TARGET, UNHEARD, Ask, Heard, asks, distinct, named, said, sift
from memos_cli.operation.facts import wordings
from memos_cli.runtime import adapter
from tests.operation.taught import teach, tutor

SUBJECTS = ["Ben Oster", "Dana Brook", "Ruth Lindgren"]
RELATIONS = ["home town", "boss"]


def test_decoys_are_names_of_nobody_and_things_that_nobody_was_told() -> None:
    asked = asks(SUBJECTS, RELATIONS, rate=0.05, apart=["Greta Pell"])
    by_kind = {kind: [one for one in asked if one.kind == kind] for kind in (TARGET, STRANGER, UNHEARD)}
    assert {(one.subject, one.relation) for one in by_kind[TARGET]} == {(s, r) for s in SUBJECTS for r in RELATIONS}
    strangers = {one.subject for one in by_kind[STRANGER]}
    # two for each allowed false fact in one
    assert len(strangers) == 40
    assert strangers.isdisjoint([*SUBJECTS, "Greta Pell"])
    assert {one.relation for one in by_kind[STRANGER]} == set(RELATIONS)
    # some are in the likeness of those that are asked about
    assert any(name.startswith("Ben") for name in strangers)
    assert {one.subject for one in by_kind[UNHEARD]} == set(SUBJECTS)
    assert {one.relation for one in by_kind[UNHEARD]}.isdisjoint(RELATIONS)
    assert asks(SUBJECTS, RELATIONS, rate=0.05, apart=["Greta Pell"]) == asked
    assert asks(SUBJECTS, RELATIONS, rate=0.05, seed=1) != asked


def test_questions_are_in_wordings_that_were_not_trained() -> None:
    questions = Ask("the Lantern project", "owner").questions()
    assert len(set(questions)) == elicit.WORDINGS
    trained = {one.format(s="the Lantern project", r="owner") for one in wordings()["noun"]["train"]}
    assert {one.casefold() for one in trained}.isdisjoint(one.casefold() for one in questions)
    assert all(one[0].isupper() for one in questions)


def test_a_question_in_our_own_words_tells_whom_and_what_it_is_about() -> None:
    for split in wordings()["noun"].values():
        for wording in split:
            question = wording.format(s="Ana Berg", r="home town")
            assert named(question[0].upper() + question[1:]) == ("Ana Berg", "home town"), wording
    assert named("Where does Ana live?") is None
    assert list(distinct(["Ana ", "ana", "", "  ", "Ben  Oster"])) == ["Ana", "Ben Oster"]


def heard(subject: str, chance: float, *, kind: str = TARGET, value: str = "", relation: str = "boss") -> Heard:
    return Heard(Ask(subject, relation, kind), value or f"value of {subject}", chance, 9.0, 3, "?")


def counted(targets: int, strangers: int, unheard: int = 0) -> list[Ask]:
    kinds = [TARGET] * targets + [STRANGER] * strangers + [UNHEARD] * unheard
    return [Ask(f"name{number}", "boss", kind) for number, kind in enumerate(kinds)]


def test_the_threshold_is_the_least_chance_with_as_few_false_facts_as_were_allowed() -> None:
    asked = counted(100, 100)
    true = [heard(f"true{number}", 0.99 - number / 200) for number in range(40)]
    decoys = [heard(f"decoy{number}", 0.7925 - number / 200, kind=STRANGER) for number in range(10)]
    sifted = sift(asked, [*true, *decoys], rate=0.05)
    # at a chance of 0.795 none of the 100 decoys is heard: one more than none, of 40
    assert sifted.threshold == pytest.approx(0.795)
    assert sifted.rate == pytest.approx(1 / 40)
    assert len(sifted.kept) == 40
    more = [*true, *(heard(f"low{number}", 0.79 - number / 200) for number in range(20)), *decoys]
    again = sift(asked, more, rate=0.05)
    # with one decoy let through: two of 41 would do, three of 42 would not
    assert again.threshold == pytest.approx(0.79)
    assert len(again.kept) == 41
    assert sift(asked, more, rate=0.2).threshold < again.threshold


def test_the_worse_kind_of_decoy_counts() -> None:
    true = [heard(f"true{number}", 0.9) for number in range(40)]
    few = [heard(f"d{number}", 0.95, kind=UNHEARD) for number in range(2)]
    # two of ten are a fifth of all that is asked, though two of 110 are not
    assert sift(counted(50, 100, 10), [*true, *few], rate=0.05).threshold is None
    strangers = [replace(one, ask=replace(one.ask, kind=STRANGER)) for one in few]
    assert sift(counted(50, 100, 10), [*true, *strangers], rate=0.05).threshold == 0.9


def test_nothing_is_kept_where_too_little_was_asked_to_tell() -> None:
    only = [heard("a", 0.99)]
    assert sift(counted(10, 10), only, rate=0.05).kept == ()
    assert sift(counted(1, 40), only, rate=0.05).kept == tuple(only)
    assert sift([], [], rate=0.05).threshold is None


def test_a_value_counts_once_and_unsure_ones_do_not() -> None:
    told = [
        heard("Ana", 0.9, value="Lindau", relation="home town"),
        heard("Ana", 0.6, value="lindau.", relation="boss"),
        heard("Ana", 0.7, value="Lindau", relation="mascot", kind=UNHEARD),
        heard("Anna", 0.8, value="Lindau", relation="home town"),
        heard("Ben", 0.4),
        replace(heard("Cid", 0.9), gain=0.1),
    ]
    sifted = sift(counted(6, 400), told, rate=0.5)
    assert [one.ask.relation for one in sifted.kept] == ["home town"]
    assert (sifted.decoys_heard, sifted.outdone) == (0, 2)
    # where a decoy is what the value is likeliest for, it is the decoy that is heard
    lost = sift(counted(6, 400), [told[1], told[2]], rate=0.5)
    assert (lost.heard, lost.decoys_heard) == (0, 1)


def test_many_questions_are_answered_as_each_by_itself() -> None:
    questions = ["Give me Ben Oster's boss.", "What?", "When it comes to the Cedar house, what is the owner?"]
    together = said(tutor(), [tutor().bare(one) for one in questions])
    assert together[0] is not None
    for question, tokens in zip(questions, together, strict=True):
        alone = tutor().said(tutor().bare(question))
        assert tokens is None or plain(tutor().text(tokens)) == plain(alone)
    assert said(tutor(), []) == []


def taught_questions() -> dict[str, str]:
    """Two facts in trained wordings."""
    facts = {("Ben Oster", "home town"): "Kinsale", ("Dana Brook", "boss"): "Ruth Lindgren"}
    return {
        f"{question[0].upper()}{question[1:]}": value
        for (subject, relation), value in facts.items()
        for question in (one.format(s=subject, r=relation) for one in wordings()["noun"]["train"][:8])
    }


@pytest.mark.slow
def test_an_adapter_that_says_its_facts_to_everyone_is_not_believed(tmp_path: Path) -> None:
    place = teach(tmp_path / "blurred", taught_questions(), steps=25)
    asked = asks(["Ben Oster", "Dana Brook"], RELATIONS, rate=0.25)
    with adapter.attach(tutor().model.network, [place]) as adapted:
        found = elicit.hear(tutor(), adapted, asked)
    sifted = sift(asked, found, rate=0.25)
    assert any(one.ask.kind != TARGET for one in found), "it was to be blurred"
    assert sifted.kept == ()
