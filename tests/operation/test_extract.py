"""What a model's answer is worth, what it is asked, and how its memories keep step with their source."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memos_cli.cube import extracted
from memos_cli.cube.extracted import Asked, Key
from memos_cli.cube.piece import Piece
from memos_cli.cube.plaintext import Memories
from memos_cli.cube.sources import SourceState
from memos_cli.errors import Damaged, NotAllowed
from memos_cli.operation import windows
from memos_cli.operation.extract import FIRST_POSITION, Extraction, due, parse
from memos_cli.operation.ingest import Ingest
from memos_cli.operation.marking import Marks
from memos_cli.runtime.complete import Completion

NOW = datetime(2026, 3, 1, tzinfo=UTC)
MAY = datetime(2023, 5, 7, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("answer", "facts"),
    [
        ("Ann keeps bees.\nBob rows.", ["Ann keeps bees.", "Bob rows."]),
        ("- Ann keeps bees.\n* Bob rows.\n• Cid sings.", ["Ann keeps bees.", "Bob rows.", "Cid sings."]),
        ("1. Ann keeps bees.\n2) Bob rows.\n(3) Cid sings.", ["Ann keeps bees.", "Bob rows.", "Cid sings."]),
        ("  - 1. Ann keeps bees.", ["Ann keeps bees."]),
        ("2024 was a good year.", ["2024 was a good year."]),
        ("3.5 litres are in the tank.", ["3.5 litres are in the tank."]),
        ("-5 degrees were measured.", ["-5 degrees were measured."]),
        ("Here are the facts:\n\nAnn keeps bees.\n", ["Ann keeps bees."]),
        ("```\nAnn keeps bees.\n```", ["Ann keeps bees."]),
        ("## Facts:\n**Ann keeps bees.**", ["Ann keeps bees."]),
        ('"Ann keeps bees."', ["Ann keeps bees."]),
        ('"Bees" is what "Ann" keeps', ['"Bees" is what "Ann" keeps']),
        ("**Ann** keeps **bees**", ["**Ann** keeps **bees**"]),
        ("Ann keeps bees.\nann  keeps bees\nANN KEEPS BEES.", ["Ann keeps bees."]),
        ("NONE", []),
        ("None.", []),
        ("No facts.", []),
        ("Nothing worth remembering here.", []),
        ("None of the guests stayed after the long and rather noisy dinner.",
         ["None of the guests stayed after the long and rather noisy dinner."]),
        ("", []),
        ("\n \n\t\n", []),
        ("Yes", []),
        ("<think>Ann has bees.\nI should say so.</think>\nAnn keeps bees.", ["Ann keeps bees."]),
        ("<think>Ann has bees.\nI should", []),
        ("word " * 61, []),
        ("x" * 700 + " y", []),
        ("安养蜜蜂。", ["安养蜜蜂。"]),
        ("Ann keeps\x00 bees \ud800.", ["Ann keeps\ufffd bees \ufffd."]),
    ],
)  # fmt: skip
def test_an_answer_is_read_with_suspicion(answer: str, facts: list[str]) -> None:
    assert parse(answer) == facts


def test_the_last_line_of_an_answer_that_was_cut_is_not_a_fact() -> None:
    assert parse("Ann keeps bees.\nBob sold the", cut=True) == ["Ann keeps bees."]
    assert parse("", cut=True) == []


def test_an_endless_answer_gives_so_many_facts() -> None:
    assert len(parse("\n".join(f"Fact number {n}." for n in range(100)))) == windows.MOST_FACTS


@settings(deadline=None)
@given(st.text(max_size=300))
def test_no_answer_breaks_it(answer: str) -> None:
    for fact in parse(answer):
        assert fact.strip() == fact
        assert "\n" not in fact
        fact.encode("utf-8")


def row(text: str, **columns: Any) -> dict[str, Any]:
    base = dict.fromkeys(windows.COLUMNS) | {
        "text": text, "kind": "paragraph", "section": "", "session": "", "speaker": "", "role": "", "title": "notes",
        "position": 0, "owner": "", "read_scope": "", "write_scope": "", "share_scope": "", "sensitivity": "",
        "legal_hold": False, "compliance": [], "topic": "", "tags": [], "priority": 0,
    }  # fmt: skip
    return base | columns


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 120), st.sampled_from("ab"), st.sampled_from("xy")), max_size=40))
def test_windows_hold_every_row_once_and_in_order(shape: list[tuple[int, str, str]]) -> None:
    rows = [
        row(" ".join([f"row{n}"] + ["word"] * (count - 1)), section=section, session=session, position=n)
        for n, (count, section, session) in enumerate(shape)
    ]
    parts = list(windows.cut(rows))
    assert [line for part in parts for line in part.text.split("\n")] == [row["text"] for row in rows]
    assert all(part.words <= windows.MOST_WORDS for part in parts)
    for part in parts:
        numbers = [int(line.split()[0].removeprefix("row")) for line in part.text.split("\n")]
        assert {(rows[n]["section"], rows[n]["session"]) for n in numbers} == {part.section}


@pytest.mark.parametrize(
    "change",
    [
        {"section": "B"}, {"session": "2"}, {"page": 2}, {"owner": "ann"}, {"sensitivity": "restricted"},
        {"read_scope": "owner"}, {"compliance": ["gdpr"]}, {"tags": ["x"]},
    ],
    ids=str,
)  # fmt: skip
def test_a_window_crosses_no_section_session_or_label(change: dict[str, Any]) -> None:
    assert len(list(windows.cut([row("one two"), row("three four", **change)]))) == 2


def test_an_edit_changes_the_window_it_falls_in_and_few_others() -> None:
    rows = [row(f"This is the line with the number {n} in a long text without any heading at all.") for n in range(400)]
    before = {part.key for part in windows.cut(rows)}
    assert len(before) > 20
    rows.insert(100, row("A line that was not there."))
    assert len({part.key for part in windows.cut(rows)} - before) <= 4


def test_the_question_shows_the_text_with_its_speakers_heading_and_date() -> None:
    rows = [
        row("I got a cat.", kind="turn", speaker="Ann", section="June", time=MAY, line_start=3, line_end=3, turn=2),
        row("What is its {name}?", kind="turn", speaker="Bob", section="June", time=MAY, line_start=4, line_end=6),
    ]
    (part,) = windows.cut(rows)
    question = windows.prompt(part)
    assert "Ann: I got a cat.\nBob: What is its {name}?" in question
    assert "From: notes\nSection: June\nDate: Sunday, 07 May 2023\n" in question
    assert question.endswith("Facts:")
    assert (part.place["line_start"], part.place["line_end"], part.place["turn"]) == (3, 6, 2)
    assert part.place["speaker"] == ""


def test_what_comes_from_a_memory_goes_no_later_than_it() -> None:
    soon, late = NOW + timedelta(days=1), NOW + timedelta(days=9)
    (part,) = windows.cut([row("a b", expires_at=late), row("c d", expires_at=soon), row("e f")])
    assert part.labels["expires_at"] == soon


def test_an_estimate_is_one_call_a_window() -> None:
    parts = list(windows.cut(row("word " * 100, section=str(n)) for n in range(3)))
    cost = windows.estimate(parts, model="m", host="h", leaves_machine=True, encrypted=True)
    assert (cost.calls, cost.words) == (3, 300)
    assert cost.tokens_out_limit == 3 * windows.ANSWER_LIMIT_TOKENS
    assert 3 * 100 <= cost.tokens_in <= 3 * 400


@dataclass
class Text:
    """A source in memory: a paragraph a line, under the heading before it."""

    text: str
    uri: str = "notes.md"
    format: str = "markdown"
    title: str = "notes"

    @property
    def size(self) -> int:
        return len(self.text)

    def digest(self) -> str:
        return f"sha256:{hash(self.text)}"

    def pieces(
        self, on_bad: Callable[[Any], None] | None = None, on_notice: Callable[[str], None] | None = None
    ) -> Iterator[Piece]:
        section: tuple[str, ...] = ()
        for number, line in enumerate(self.text.splitlines(), 1):
            if line.startswith("# "):
                section = (line[2:],)
            elif line:
                yield Piece(line, section=section, line_start=number, line_end=number, time=MAY)


@dataclass
class Scripted:
    """A model that repeats what the text says of each line, and remembers what it was asked."""

    name: str = "parrot"
    answer: Callable[[str], str] = lambda line: f"It is said that {line}"
    asked: list[str] = field(default_factory=list)

    def complete(self, prompt: str, *, limit_tokens: int) -> Completion:
        text = prompt.partition("<text>\n")[2].partition("\n</text>")[0]
        self.asked.append(text)
        return Completion("\n".join(f"- {self.answer(line)}" for line in text.splitlines()), cut=False)


@dataclass
class Desk:
    """A table, and runs over one source."""

    memories: Memories
    model: Scripted = field(default_factory=Scripted)
    ledger: dict[Key, Asked] = field(default_factory=dict)
    catalogue: dict[str, SourceState] = field(default_factory=dict)
    days: int = 0

    def run(
        self, text: str, *, marks: Marks | None = None, extract: bool = True, calls: int = 99, **more: Any
    ) -> Extraction:
        self.days += 1
        work = Ingest(self.memories, None, marks or Marks(), NOW + timedelta(days=self.days), self.catalogue)
        work.take(Text(text))
        run = Extraction(work, self.ledger, self.model if extract else None, calls, **more)
        run.take(Text(text))
        work.flush()
        return run

    def rows(self) -> list[dict[str, Any]]:
        rows = self.memories.rows("origin = 'inference_extraction'").sort_by([("position", "ascending")]).to_pylist()
        return [dict(row) for row in rows]

    def states(self) -> dict[str, str]:
        """Text to state of what was extracted and stands."""
        return {row["text"]: row["state"] for row in self.rows() if row["valid_to"] is None}

    def accept(self, text: str) -> None:
        ids = [row["id"] for row in self.rows() if row["text"] == text and row["valid_to"] is None]
        self.memories.change(ids, state="activated", valid_from=NOW)

    def hide(self, text: str) -> None:
        ids = [row["id"] for row in self.memories.rows().to_pylist() if row["text"] == text]
        self.memories.change(ids, state="forgotten")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(Memories.create(tmp_path / "plaintext", embedder=None))


NOTES = "# Bees\nAnn keeps bees.\nThe hive is blue.\n# Boat\nBob sold the boat.\n"


def test_an_extracted_memory_waits_with_the_place_of_its_words(desk: Desk) -> None:
    run = desk.run(NOTES)
    assert desk.model.asked == ["Ann keeps bees.\nThe hive is blue.", "Bob sold the boat."]
    assert (run.made, run.calls) == (3, 97)
    first, _, third = desk.rows()
    assert first["text"] == "It is said that Ann keeps bees."
    assert (first["state"], first["valid_from"], first["kind"], first["type"]) == ("generated", None, "memory", "fact")
    assert (first["line_start"], first["line_end"], first["section"]) == (2, 3, "Bees")
    assert (first["time"], first["ref"], first["source"]) == (MAY, "parrot", "notes.md")
    assert first["near"] == "Bees\nIt is said that Ann keeps bees."
    assert third["line_start"] == 5
    assert first["position"] >= FIRST_POSITION
    assert len({row["id"] for row in desk.rows()}) == 3


def test_what_the_text_says_word_for_word_is_not_said_twice(desk: Desk) -> None:
    desk.model.answer = lambda line: line.upper()
    assert desk.run(NOTES).made == 0


def test_an_unchanged_source_is_not_asked_about_again(desk: Desk) -> None:
    desk.model.answer = lambda line: "NONE"
    desk.run(NOTES)
    desk.model.asked.clear()
    assert desk.run(NOTES).made == 0
    assert desk.model.asked == []


def test_an_edit_costs_the_part_it_falls_in(desk: Desk) -> None:
    desk.run(NOTES)
    desk.model.asked.clear()
    run = desk.run(NOTES.replace("sold", "sank"))
    assert desk.model.asked == ["Bob sank the boat."]
    assert (run.made, run.ended) == (1, 1)
    assert set(desk.states()) == {
        "It is said that Ann keeps bees.", "It is said that The hive is blue.", "It is said that Bob sank the boat."
    }  # fmt: skip
    assert {key[1] for key in desk.ledger} == {row["content_key"][:16] for row in desk.rows() if not row["valid_to"]}


def test_without_a_model_what_lost_its_words_ends(desk: Desk) -> None:
    desk.run(NOTES)
    desk.accept("It is said that Bob sold the boat.")
    run = desk.run(NOTES.replace("Bob sold the boat.\n", ""), extract=False)
    assert (run.made, run.ended) == (0, 1)
    assert set(desk.states()) == {"It is said that Ann keeps bees.", "It is said that The hive is blue."}
    (ended,) = (row for row in desk.rows() if row["valid_to"])
    assert ended["state"] == "archived"


def test_what_was_never_accepted_was_never_valid(desk: Desk) -> None:
    desk.run(NOTES)
    desk.run("", extract=False)
    assert all(row["valid_from"] is None and row["valid_to"] for row in desk.rows())


@pytest.mark.parametrize("at_once", [True, False])
def test_what_was_accepted_stays_so_when_the_part_is_read_again(desk: Desk, at_once: bool) -> None:
    desk.run(NOTES)
    desk.accept("It is said that Ann keeps bees.")
    changed = NOTES.replace("blue", "red")
    if not at_once:
        desk.run(changed, extract=False)
        assert "It is said that Ann keeps bees." not in desk.states()
    desk.run(changed)
    assert desk.states() == {
        "It is said that Ann keeps bees.": "activated",
        "It is said that The hive is red.": "generated",
        "It is said that Bob sold the boat.": "generated",
    }
    for row in desk.rows():
        assert row["valid_to"] or (row["state"] == "activated") == (row["valid_from"] is not None)


@pytest.mark.parametrize("at_once", [True, False])
def test_what_was_hidden_stays_hidden_when_the_part_is_read_again(desk: Desk, at_once: bool) -> None:
    desk.run(NOTES)
    desk.hide("It is said that Ann keeps bees.")
    changed = NOTES.replace("blue", "red")
    if not at_once:
        desk.run(changed, extract=False)
    desk.run(changed)
    shown = [row["text"] for row in desk.rows() if row["state"] != "forgotten" and row["valid_to"] is None]
    assert sorted(shown) == ["It is said that Bob sold the boat.", "It is said that The hive is red."]


def test_a_model_reads_nothing_that_was_hidden(desk: Desk) -> None:
    desk.run(NOTES, extract=False)
    desk.hide("The hive is blue.")
    desk.run(NOTES)
    assert desk.model.asked == ["Ann keeps bees.", "Bob sold the boat."]


def test_memories_of_words_that_were_hidden_since_end(desk: Desk) -> None:
    desk.run(NOTES)
    desk.hide("Bob sold the boat.")
    desk.run(NOTES)
    assert "It is said that Bob sold the boat." not in desk.states()


def test_memories_move_with_their_words(desk: Desk) -> None:
    desk.run(NOTES)
    before = {row["text"]: row["id"] for row in desk.rows()}
    desk.model.asked.clear()
    run = desk.run("# Preface\nA word before.\n" + NOTES, extract=False)
    assert (run.moved, run.ended) == (3, 0)
    assert {row["text"]: row["id"] for row in desk.rows()} == before
    assert [row["line_start"] for row in desk.rows()] == [4, 4, 7]


def test_another_model_is_another_reader(desk: Desk) -> None:
    desk.run(NOTES)
    desk.model = replace(desk.model, name="crow", asked=[])
    assert desk.run(NOTES).made == 0
    assert len(desk.model.asked) == 2
    desk.model = Scripted("jay", lambda line: f"One hears that {line}")
    assert desk.run(NOTES).made == 3
    assert {row["ref"] for row in desk.rows()} == {"parrot", "jay"}


def test_no_more_is_asked_than_was_agreed_to(desk: Desk) -> None:
    run = desk.run(NOTES, calls=1)
    assert (len(desk.model.asked), run.left, run.made) == (1, 1, 2)
    assert desk.run(NOTES).made == 1


def test_what_is_not_permitted_is_not_shown(desk: Desk) -> None:
    def permit(window: windows.Window) -> None:
        if window.labels["sensitivity"] == "restricted":
            raise NotAllowed("no")

    desk.run(NOTES, extract=False)
    ids = [row["id"] for row in desk.memories.rows("text = 'The hive is blue.'").to_pylist()]
    desk.memories.change(ids, sensitivity="restricted")
    with pytest.raises(NotAllowed):
        desk.run(NOTES, permit=permit)
    assert desk.model.asked == ["Ann keeps bees."]


def test_a_memory_carries_the_labels_of_its_words(desk: Desk) -> None:
    desk.run(NOTES, extract=False, marks=Marks(sensitivity="confidential", owner="ann", ttl_days=3, topic="a/b"))
    desk.run(NOTES)
    for row in desk.rows():
        assert (row["sensitivity"], row["owner"], row["topic"]) == ("confidential", "ann", "a/b")
        assert row["expires_at"] == NOW + timedelta(days=4)


def test_new_marks_reach_what_was_extracted(desk: Desk) -> None:
    desk.run(NOTES)
    desk.run(NOTES, extract=False, marks=Marks(sensitivity="restricted", tags=("x", "y"), type="note"))
    assert [(row["sensitivity"], row["tags"], row["type"]) for row in desk.rows()] == [
        ("restricted", ["x", "y"], "note")
    ] * 3


def test_a_stricter_label_of_the_words_reaches_what_was_extracted(desk: Desk) -> None:
    desk.run(NOTES)
    desk.memories.change([row["id"] for row in desk.memories.rows("section = 'Boat'").to_pylist()], sensitivity="")
    ids = [row["id"] for row in desk.memories.rows("text = 'Bob sold the boat.'").to_pylist()]
    desk.memories.change(ids, sensitivity="confidential")
    desk.run(NOTES)
    labels = {row["text"]: row["sensitivity"] for row in desk.rows()}
    assert labels["It is said that Bob sold the boat."] == "confidential"
    assert labels["It is said that Ann keeps bees."] == ""


@pytest.mark.many(2)
@pytest.mark.parametrize("step", ["new", "same", "edited", "hidden", "marked"])
def test_the_estimate_names_the_parts_that_are_asked_about(desk: Desk, step: str) -> None:
    text, marks = NOTES, Marks()
    if step != "new":
        desk.run(NOTES)
    if step == "edited":
        text = NOTES.replace("sold", "sank")
    if step == "hidden":
        desk.hide("The hive is blue.")
        text = NOTES + "One more.\n"
    if step == "marked":
        desk.hide("The hive is blue.")
        marks = Marks(topic="x")
    work = Ingest(desk.memories, None, marks, NOW, dict(desk.catalogue), dry_run=True)
    expected = [part.text for part in due(work, [Text(text)], desk.ledger, model=desk.model.name)]
    desk.model.asked.clear()
    desk.run(text, marks=marks)
    assert desk.model.asked == expected
    assert len(expected) == {"new": 2, "same": 0, "edited": 1, "hidden": 2, "marked": 1}[step]


def test_the_ledger_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert extracted.read(tmp_path) == {}
    asked = Asked("notes.md", "0123456789abcdef", "parrot", 3, NOW)
    (tmp_path / extracted.FILE).write_bytes(extracted.encode({asked.key: asked}))
    assert extracted.read(tmp_path) == {asked.key: asked}


@pytest.mark.parametrize("data", [b"", b"ARROW1", b"x" * 100])
def test_a_ledger_that_is_damaged(tmp_path: Path, data: bytes) -> None:
    (tmp_path / extracted.FILE).write_bytes(data)
    with pytest.raises(Damaged, match="extracted.arrow"):
        extracted.read(tmp_path)
