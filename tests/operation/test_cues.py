"""Who and when a question names."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memos_cli.operation.cues import content_words, read_cues
from memos_cli.operation.profile import ASSISTANT, DIALOGUE, DOCUMENTS, Stats, add, choose

TWO = {"Caroline": True, "Melanie": True}


@pytest.mark.parametrize(
    ("text", "speaker", "words", "meaning"),
    [
        ("What did Caroline research?", "Caroline", "research", "What did I research?"),
        ("What is Caroline's identity?", "Caroline", "identity", "What is my identity?"),
        ("What did Mel paint?", "Melanie", "Mel paint", "What did Mel paint?"),
        ("Did Caroline meet Melanie's kids?", "", "meet kids", "Did I meet your kids?"),
        ("What do they do?", "", "What do they do?", "What do they do?"),
        ("Will it rain?", "", "rain", "Will it rain?"),
    ],
)
def test_participants(text: str, speaker: str, words: str, meaning: str) -> None:
    cues = read_cues(text, participants=TWO)
    assert (cues.speaker, cues.words, cues.meaning) == (speaker, words, meaning)


def test_a_rare_name_is_searched_for() -> None:
    cues = read_cues("What did Dana say?", participants={"Dana": False, "Eve": False})
    assert (cues.speaker, cues.words, cues.meaning) == ("Dana", "Dana say", "What did Dana say?")


def test_a_first_name_stands_for_the_whole_and_a_short_form_must_fit_one() -> None:
    cues = read_cues("Where does Ada work?", participants={"Ada Lovelace": True, "Bob": True})
    assert (cues.speaker, cues.meaning) == ("Ada Lovelace", "Where does I work?")
    both = {"Johanna": True, "Johannes": True}
    assert read_cues("Where is Joh now?", participants=both).speaker == ""


@settings(deadline=None)
@given(st.text(max_size=80))
def test_no_text_raises(text: str) -> None:
    read_cues(text, participants={"Ann (she)": True, "": True, "?": False})
    content_words(text)


def test_profiles_are_chosen_from_counts() -> None:
    chat = Stats(rows=100, turns=100, speakers={"Ann": 50, "Bob": 50})
    assert choose(chat) is DIALOGUE
    assert choose(Stats(rows=100, turns=100, replies=50, reply_words=150)) is ASSISTANT
    assert choose(Stats(rows=100, turns=100, replies=50, reply_words=12)) is DIALOGUE
    assert choose(Stats(rows=100, turns=10)) is DOCUMENTS
    assert choose(Stats()) is DOCUMENTS
    both = add([chat, Stats(rows=20, turns=20, replies=10, reply_words=100, speakers={"user": 10, "Ann": 10})])
    assert (both.rows, both.replies, both.reply_words, both.speakers["Ann"]) == (120, 10, 100, 60)
    assert both.participants() == {"Ann": True, "Bob": True}
    crowd = Stats(rows=100, turns=100, speakers={f"P{i}": 5 for i in range(20)})
    assert set(crowd.participants().values()) == {False}
