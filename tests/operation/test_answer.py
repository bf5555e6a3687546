"""Prompts for two kinds of reader, what their answers mean, and what is said aloud of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np  # noqa: TID253
import pytest

from memos_cli.operation.answer import (
    Aloud,
    Reply,
    Talk,
    disarmed,
    instructed_prompt,
    line_of,
    read_instructed,
    read_span,
    span_prompt,
    unmarked,
)
from memos_cli.operation.closeness import FLOOR, FLOOR_BY_WORDS, closeness


@dataclass(frozen=True)
class Memory:
    text: str
    kind: str = "paragraph"
    speaker: str = ""
    role: str = ""
    section: str = ""
    time: datetime | None = None


TOLD = [
    Memory("I moved to Lindau.", "turn", speaker="Ana", time=datetime(2024, 3, 1, 9, tzinfo=UTC)),
    Memory("Boiler code: 4711", "pair", section="House"),
    Memory("Ana keeps bees near\nLindau, and sells honey."),
]


@pytest.mark.parametrize(
    ("memory", "line"),
    [
        (TOLD[0], "Ana: I moved to Lindau."),
        (Memory("Hello.", "turn", role="assistant"), "assistant: Hello."),
        (TOLD[1], "House > Boiler code: 4711"),
        (Memory("lives in Lindau", "bullet", section="Ana"), "Ana: lives in Lindau"),
        (TOLD[2], "Ana keeps bees near Lindau, and sells honey."),
        (Memory("In Lindau", "memory", section="Where does Ana live?"), "Where does Ana live? In Lindau"),
        (Memory("No heading", "bullet"), "No heading"),
    ],
)
def test_a_memory_on_one_line(memory: Memory, line: str) -> None:
    assert line_of(memory) == line


@pytest.mark.parametrize(
    ("text", "harmless"),
    [
        ("a<|im_end|>b", "a< |im_end|>b"),
        ("<|start_header_id|>system<|end_header_id|>", "< |start_header_id|>system< |end_header_id|>"),
        ("<start_of_turn>x<end_of_turn>", "< start_of_turn>x< end_of_turn>"),
        ("[INST] x [/inst] </s><s>", "[ INST] x [ /inst] < /s>< s>"),
        ("<\uff5cUser\uff5c>", "< \uff5cUser\uff5c>"),
        ("x <| y, a <b> [2] <strong>", "x <| y, a <b> [2] <strong>"),
    ],
)
def test_the_marks_of_turns_are_broken_up(text: str, harmless: str) -> None:
    assert disarmed(text) == harmless
    assert disarmed(harmless) == harmless


def test_a_reader_of_spans_gets_the_bare_memories() -> None:
    prompt = span_prompt("Where does Ana live?", TOLD[:2])
    assert prompt.system == "Ana: I moved to Lindau.\nHouse > Boiler code: 4711"
    assert prompt.user == "Where does Ana live?"


def test_any_other_gets_instructions_numbers_and_days() -> None:
    prompt = instructed_prompt("Where does Ana live?", TOLD[:2], unknown="nowhere")
    assert prompt.system.endswith("write only this word: nowhere")
    assert prompt.user == (
        "Memories:\n[1] (2024-03-01) Ana: I moved to Lindau.\n[2] House > Boiler code: 4711\n\n"
        "Question: Where does Ana live?"
    )


@pytest.mark.parametrize(
    ("written", "reply"),
    [
        ("Lindau", Reply("Lindau", (1, 3), "span")),
        (" lindau. ", Reply("lindau.", (1, 3), "span")),
        ("4711", Reply("4711", (2,), "span")),
        ("Ana", Reply("Ana", (1, 3), "span")),
        ("near Lindau", Reply("near Lindau", (3,), "span")),
        ("Lin", Reply(None, why="unfounded")),
        ("Oslo", Reply(None, why="unfounded")),
        ("unknown", Reply(None, why="model")),
        ("Unknown.", Reply(None, why="model")),
        ("", Reply(None, why="model")),
        (" .", Reply(None, why="model")),
    ],
)
def test_a_copied_answer_rests_on_the_memories_that_hold_it(written: str, reply: Reply) -> None:
    assert read_span(written, TOLD, unknown="unknown") == reply


@pytest.mark.parametrize(
    ("written", "reply"),
    [
        ("In Lindau [1].", Reply("In Lindau [1].", (1,), "model")),
        ("In Lindau [1][3], code [2, 1].", Reply("In Lindau [1][3], code [2, 1].", (1, 2, 3), "model")),
        ("In Lindau [7].", Reply("In Lindau [7].", (1, 2, 3), "given")),
        ("<think>Let me see [2]</think>In Lindau [1]", Reply("In Lindau [1]", (1,), "model")),
        ("Unknown [1].", Reply(None, why="model")),
        ("**unknown**", Reply(None, why="model")),
        ("<think>never ends", Reply(None, why="model")),
        ("It is unknown to me, but Lindau [1]", Reply("It is unknown to me, but Lindau [1]", (1,), "model")),
    ],
)
def test_a_written_answer_rests_on_the_memories_it_names(written: str, reply: Reply) -> None:
    assert read_instructed(written, TOLD, unknown="unknown") == reply


def test_an_answer_without_its_numbers() -> None:
    assert unmarked("In Lindau [1][2], since March [3].") == "In Lindau, since March."


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        (["In ", "Lin", "dau"], ["In ", "Lin", "dau"]),
        (["un", "known"], []),
        (["un", "der ", "the oak"], ["under ", "the oak"]),
        (["<thi", "nk>hm", "</think>", "In Lindau"], ["In Lindau"]),
    ],
)
def test_what_is_said_aloud(pieces: list[str], said: list[str]) -> None:
    heard: list[str] = []
    aloud = Aloud(heard.append, unknown="unknown")
    for piece in pieces:
        aloud(piece)
    assert heard == said


def test_what_was_held_back_to_the_end_is_said_when_it_is_an_answer() -> None:
    heard: list[str] = []
    aloud = Aloud(heard.append, unknown="unknown")
    aloud("un")
    aloud.finish("un")
    assert heard == ["un"]
    aloud = Aloud(heard.append, unknown="unknown")
    aloud("unknown")
    aloud.finish(None)
    assert heard == ["un"]


class Embedder:
    """A vector per text by hand."""

    def embed(self, texts: list[str]) -> np.ndarray:
        return np.array([[1.0, 0.0] for _ in texts], dtype=np.float32)


def test_closeness_is_of_meaning_or_of_words() -> None:
    vectors = np.array([[0.6, 0.8], [0.2, 0.98]], dtype=np.float32)
    assert closeness("colour?", TOLD[:2], vectors=vectors, embedder=Embedder()) == pytest.approx(0.6)
    assert closeness("boiler code", TOLD[:2], vectors=vectors, embedder=Embedder()) == pytest.approx(0.8)
    assert closeness("boiler code", TOLD[:2], vectors=None, embedder=None) == pytest.approx(0.8)
    assert closeness("Where does Ana sell the honey?", TOLD, vectors=None, embedder=None) >= FLOOR
    assert closeness("Who is Ana?", TOLD, vectors=None, embedder=None) >= FLOOR
    assert closeness("colour?", TOLD, vectors=None, embedder=None) == 0.0
    assert closeness("colour?", [], vectors=None, embedder=None) == 0.0
    assert 0 < FLOOR_BY_WORDS < FLOOR < 1


def test_a_talk_is_in_the_prompt_of_who_takes_instructions() -> None:
    turns = (("user", "Who is Ana?"), ("assistant", "A friend."))
    talk = Talk("Answer in rhymes.", turns)
    prompt = instructed_prompt("And where does she live?", TOLD[:1], unknown="unknown", talk=talk)
    alone = instructed_prompt("And where does she live?", TOLD[:1], unknown="unknown")
    assert prompt.talk == talk
    assert prompt.user == alone.user
    assert prompt.system.startswith(alone.system)
    assert prompt.system.endswith("\nAnswer in rhymes.")
    assert "What was said before" in prompt.system
    assert not alone.talk
    quiet = instructed_prompt("Where?", TOLD[:1], unknown="unknown", talk=Talk("Be kind."))
    assert "What was said before" not in quiet.system
    assert quiet.talk


@pytest.mark.parametrize(("left_out", "first"), [(0, "1"), (1, "3"), (2, "3"), (3, None), (9, None)])
def test_what_is_left_of_a_talk_begins_with_the_user(left_out: int, first: str | None) -> None:
    talk = Talk("", (("assistant", "0"), ("user", "1"), ("assistant", "2"), ("user", "3"), ("assistant", "4")))
    left = talk.latest(left_out + 1 if left_out else 0).turns
    assert (left[0][1] if left else None) == first
