"""Every chat format comes to the same turns: who, what, when, in which session, and what its dates mean."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memos_cli.cube.piece import Piece
from memos_cli.interface.sources.dates import find_date, parse_time
from tests.interface.samples import json_lines, read, source

SAID = [("user", "I moved to Oslo yesterday."), ("assistant", "How is it?"), ("user", "Cold.")]


def said(pieces: list[Piece]) -> list[tuple[str, str]]:
    return [(piece.speaker, piece.text) for piece in pieces]


def openai(conversation: list[tuple[str, str]]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": text} for role, text in conversation]}


def chatgpt(conversation: list[tuple[str, str]]) -> dict[str, Any]:
    mapping: dict[str, Any] = {"root": {"id": "root", "message": None, "parent": None, "children": ["0"]}}
    for index, (role, text) in enumerate(conversation):
        message = {
            "id": f"m{index}",
            "author": {"role": role, "name": None},
            "create_time": 1683550000.5 + index,
            "content": {"content_type": "text", "parts": [text]},
        }
        parent = str(index - 1) if index else "root"
        mapping[str(index)] = {"id": str(index), "message": message, "parent": parent, "children": [str(index + 1)]}
    stray = {"author": {"role": "user"}, "content": {"content_type": "text", "parts": ["another branch"]}}
    mapping["stray"] = {"id": "stray", "message": stray, "parent": "0", "children": []}
    return {
        "title": "Moving",
        "create_time": 1683549999.0,
        "mapping": mapping,
        "current_node": str(len(conversation) - 1),
        "conversation_id": "c1",
    }


def claude(conversation: list[tuple[str, str]]) -> dict[str, Any]:
    senders = {"user": "human", "assistant": "assistant"}
    messages = [
        {"uuid": f"m{index}", "sender": senders[role], "text": text, "created_at": "2023-05-08T12:46:40Z"}
        for index, (role, text) in enumerate(conversation)
    ]
    return {"uuid": "c1", "name": "Moving", "created_at": "2023-05-08T12:46:39Z", "chat_messages": messages}


def sharegpt(conversation: list[tuple[str, str]]) -> dict[str, Any]:
    senders = {"user": "human", "assistant": "gpt"}
    return {"id": "c1", "conversations": [{"from": senders[role], "value": text} for role, text in conversation]}


EXPORTS = {"openai-messages": openai, "chatgpt-export": chatgpt, "claude-export": claude, "sharegpt": sharegpt}


@pytest.mark.parametrize("form", EXPORTS)
@pytest.mark.parametrize("container", ["array", "lines", "object"])
def test_each_export_yields_its_turns(tmp_path: Path, form: str, container: str) -> None:
    value = EXPORTS[form](SAID)
    text = {
        "array": json.dumps([value, value]),
        "lines": json_lines(value, value),
        "object": json.dumps(value, indent=1),
    }
    found = source(tmp_path, "chat.json", text[container])
    assert found.format == form
    pieces = list(found.pieces())
    assert said(pieces) == SAID * (1 if container == "object" else 2)
    assert [piece.turn for piece in pieces[:3]] == [1, 2, 3]
    assert {piece.kind for piece in pieces} == {"turn"}
    if form in ("chatgpt-export", "claude-export"):
        assert pieces[0].session == "c1"
        assert pieces[0].section == ("Moving",)
        assert pieces[0].ref == "m0"
        assert pieces[0].time_note == "yesterday = 2023-05-07"
    if form == "openai-messages":
        assert [piece.session for piece in pieces] == [str(1 + index // 3) for index in range(len(pieces))]


words = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20).map(str.strip).filter(bool)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    conversations=st.lists(st.lists(st.tuples(st.sampled_from(["user", "assistant"]), words), min_size=1), min_size=1),
    form=st.sampled_from(sorted(EXPORTS)),
    as_lines=st.booleans(),
)
def test_no_turn_of_an_export_is_lost(
    tmp_path: Path, conversations: list[list[tuple[str, str]]], form: str, as_lines: bool
) -> None:
    values = [EXPORTS[form](conversation) for conversation in conversations]
    text = json_lines(*values) if as_lines else json.dumps(values)
    pieces = read(tmp_path, "chat.json", text, format=form)
    assert said(pieces) == [turn for conversation in conversations for turn in conversation]


def test_one_message_a_line_with_any_of_the_usual_names(tmp_path: Path) -> None:
    text = json_lines(
        {"speaker": "Ann", "text": "hi", "session": "s1", "time": "1:56 pm on 8 May, 2023", "dia_id": "D1:1"},
        {"author": "Bob", "content": "look", "session_id": "s1", "timestamp": 1683554160, "blip_caption": "a dog"},
        {"from": "Ann", "message": "later", "thread": "s2", "date": "2023-05-09", "id": 7},
        {"name": "Bob", "body": "ok", "conversation_id": "s1", "created_at": "2023-05-10T10:00:00+02:00", "ref": "r"},
        {"role": "user", "content": [{"type": "text", "text": "so"}, {"type": "image_url"}], "session": "s2"},
    )
    pieces = read(tmp_path, "chat.jsonl", text)
    assert [(p.speaker, p.text, p.session, p.turn, p.ref, p.line_start) for p in pieces] == [
        ("Ann", "hi", "s1", 1, "D1:1", 1),
        ("Bob", "look [shares a photo: a dog]", "s1", 2, "", 2),
        ("Ann", "later", "s2", 1, "7", 3),
        ("Bob", "ok", "s1", 3, "r", 4),
        ("user", "so", "s2", 2, "", 5),
    ]
    assert pieces[0].time == pieces[1].time == datetime(2023, 5, 8, 13, 56, tzinfo=UTC)
    assert pieces[3].time == datetime(2023, 5, 10, 8, tzinfo=UTC)
    assert pieces[4].role == "user"


def test_sessions_with_turns_in_them_lend_their_date(tmp_path: Path) -> None:
    turns = [{"speaker": "Ann", "text": "We met last Friday."}]
    value = {"sessions": [{"session_id": "a", "date": "8 May 2023", "turns": turns}, {"id": "b", "turns": turns}]}
    pieces = read(tmp_path, "chat.json", json.dumps(value))
    assert [(piece.session, piece.time_note) for piece in pieces] == [("a", "last Friday = 2023-05-05"), ("b", "")]


def test_calls_of_tools_are_kept(tmp_path: Path) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    value = {
        "messages": [{"role": "assistant", "content": None, "tool_calls": [call]}, {"role": "tool", "content": "4 C"}]
    }
    assert said(read(tmp_path, "chat.jsonl", json_lines(value))) == [
        ("assistant", '[calls weather: {"city": "Oslo"}]'),
        ("tool", "4 C"),
    ]


@pytest.mark.parametrize(
    "record",
    [
        {"name": "color", "value": "red"},
        {"title": "A post", "author": "Ann", "content": "words", "date": "2023-05-08"},
        {"id": 1, "text": "a fact"},
        {"from": "Oslo", "to": "Bergen", "km": 463},
    ],
)
def test_a_record_is_no_message(tmp_path: Path, record: dict[str, Any]) -> None:
    pieces = read(tmp_path, "a.jsonl", json_lines(record, record))
    assert {piece.kind for piece in pieces} == {"record"}


def test_a_loop_in_a_chatgpt_export_ends(tmp_path: Path) -> None:
    value = chatgpt(SAID)
    value["mapping"]["0"]["parent"] = "2"
    assert said(read(tmp_path, "chat.json", json.dumps([value]))) == SAID


TRANSCRIPT = """Session 1 (8 May 2023)

Ann: I went to the zoo yesterday.
Bob: Nice!
Which one?

Ann: The old one. Note: it closes soon.

Session 2
Date: 9 June, 2023
Bob: I ran last Friday
Ann: Good
"""


def test_a_transcript_has_sessions_dates_and_turns_that_go_on(tmp_path: Path) -> None:
    pieces = read(tmp_path, "talk.txt", TRANSCRIPT)
    first = "Session 1 (8 May 2023)"
    assert [(p.session, p.turn, p.speaker, p.text, p.line_start, p.line_end) for p in pieces] == [
        (first, 1, "Ann", "I went to the zoo yesterday.", 3, 3),
        (first, 2, "Bob", "Nice!\nWhich one?", 4, 5),
        (first, 3, "Ann", "The old one. Note: it closes soon.", 7, 7),
        ("Session 2", 1, "Bob", "I ran last Friday", 11, 11),
        ("Session 2", 2, "Ann", "Good", 12, 12),
    ]
    assert [piece.time_note for piece in pieces if piece.time_note] == [
        "yesterday = 2023-05-07",
        "last Friday = 2023-06-02",
    ]


def test_headings_within_an_answer_stay_in_it(tmp_path: Path) -> None:
    text = (
        "# Trip\n\nUser: plan?\n\nAssistant: Sure.\n\n## Day one\n\nWalk.\n\n---\n\nRest.\n\n# Next\n\nUser: thanks\n"
    )
    pieces = read(tmp_path, "talk.txt", text)
    assert [(piece.session, piece.speaker, piece.text) for piece in pieces] == [
        ("Trip", "user", "plan?"),
        ("Trip", "assistant", "Sure.\n\n## Day one\n\nWalk.\n\n---\n\nRest."),
        ("Next", "user", "thanks"),
    ]
    assert [(piece.line_start, piece.line_end) for piece in pieces] == [(3, 3), (5, 13), (17, 17)]


@pytest.mark.parametrize(
    ("text", "turns"),
    [
        ("[14:03] Ann: hi\n[14:04] Bob: yo\n[14:05] Ann: bye\n", [("Ann", "hi"), ("Bob", "yo"), ("Ann", "bye")]),
        (
            "12/05/2023, 14:03 - Ann: hi\n12/05/2023, 14:04 - Bob: yo\n12/05/2023, 14:09 - Ann: k\n",
            [("Ann", "hi"), ("Bob", "yo"), ("Ann", "k")],
        ),
        ("<ann> hi\n<bob> yo\n<ann> k\n", [("ann", "hi"), ("bob", "yo"), ("ann", "k")]),
        ("User: hi\n\nAssistant: yo\n\nUser: k\n", [("user", "hi"), ("assistant", "yo"), ("user", "k")]),
        (
            "Dr. Mary-Ann O'Neil: hi\nJosé: yo\nDr. Mary-Ann O'Neil: k\n",
            [("Dr. Mary-Ann O'Neil", "hi"), ("José", "yo"), ("Dr. Mary-Ann O'Neil", "k")],
        ),
    ],
)
def test_stamps_and_names_of_many_kinds(tmp_path: Path, text: str, turns: list[tuple[str, str]]) -> None:
    assert said(read(tmp_path, "talk.txt", text)) == turns


def test_a_stamp_with_a_day_is_the_turns_time(tmp_path: Path) -> None:
    text = "[2023-05-08 14:03] Ann: hi\n[2023-05-08 14:04] Bob: I came today\n[2023-05-09 09:00] Ann: k\n"
    pieces = read(tmp_path, "talk.txt", text)
    assert pieces[1].time == datetime(2023, 5, 8, 14, 4, tzinfo=UTC)
    assert pieces[1].time_note == "today = 2023-05-08"


@pytest.mark.parametrize(
    ("first", "month"), [("12/05/2023, 14:03", 12), ("13/05/2023, 14:03", 5), ("12.05.2023, 14:03", 5)]
)
def test_one_stamp_tells_the_order_of_day_and_month_for_all(tmp_path: Path, first: str, month: int) -> None:
    text = f"{first} - Ann: hi\n{first[:2]}{first[2:]} - Bob: yo\n02{first[2:]} - Ann: k\n".replace("02/05", "05/05")
    pieces = read(tmp_path, "talk.txt", text)
    assert pieces[1].time is not None
    assert pieces[1].time.month == month


def test_slack_and_telegram_exports_are_chats(tmp_path: Path) -> None:
    slack = [{"type": "message", "user": "U1", "text": "hi", "ts": "1683550000.000200"}]
    (piece,) = read(tmp_path, "slack.json", json.dumps(slack))
    assert (piece.speaker, piece.text) == ("U1", "hi")
    assert piece.time is not None
    words = ["see ", {"type": "link", "text": "https://a.b"}, " now"]
    telegram = {
        "name": "Ann",
        "id": 7,
        "messages": [{"id": 1, "date": "2023-05-08T10:00:00", "from": "Ann", "text": words}],
    }
    (piece,) = read(tmp_path, "result.json", json.dumps(telegram))
    assert (piece.speaker, piece.text, piece.session) == ("Ann", "see https://a.b now", "7")


@pytest.mark.parametrize(
    "text",
    [
        "Name: Ann\nAge: 3\nTown: Oslo\n",
        "Name: Ann\nAge: 3\n\nName: Bob\nAge: 4\n",
        "ERROR: no\nINFO: yes\nERROR: no\nINFO: a\n",
        "Note: a\nWords.\nNote: b\nMore words.\nTip: c\nTip: d\n",
        "https://a.b: x\nhttps://c.d: y\n",
        "Tea: two cups\nMilk: one cup\nTea: more\n\nThis is a recipe that goes on.\nAnd on.\nAnd on it goes.\n",
    ],
)
def test_what_only_looks_like_a_transcript(tmp_path: Path, text: str) -> None:
    assert not any(piece.speaker for piece in read(tmp_path, "a.txt", text))


@pytest.mark.parametrize(
    ("words_said", "note"),
    [
        ("yesterday", "2023-05-09"),
        ("the day before yesterday", "2023-05-08"),
        ("last Friday", "2023-05-05"),
        ("last tues", "2023-05-09"),
        ("two weeks ago", "2023-04-26"),
        ("a couple of weeks ago", "2023-04-26"),
        ("next month", "2023-06"),
        ("last week", "week of 2023-05-01"),
        ("last weekend", "weekend of 2023-05-06"),
        ("two weekends ago", "weekend of 2023-04-29"),
        ("this past Saturday", "2023-05-06"),
        ("ten years ago", "2013"),
        ("last March", "2023-03"),
        ("next June", "2023-06"),
        ("March 3rd", "2023-03-03"),
        ("3 May 2021", "2021-05-03"),
        ("in 3 days", "2023-05-13"),
        ("2021-12-24", "2021-12-24"),
    ],
)
def test_dates_are_counted_from_the_day_they_were_said(words_said: str, note: str) -> None:
    found, told = find_date(f"I did it {words_said}, really.", datetime(2023, 5, 10, 12, tzinfo=UTC))
    assert told == f"{words_said} = {note}"
    assert found is not None
    assert found.tzinfo is UTC


@pytest.mark.parametrize(
    "text", ["I may go", "one day", "it lasts", "Monday", "the 5th element", "version 2.0", "x" * 9999]
)
def test_words_that_name_no_day(text: str) -> None:
    assert find_date(text, datetime(2023, 5, 10, tzinfo=UTC)) == (None, "")


def test_without_a_base_nothing_is_counted() -> None:
    assert find_date("yesterday", None) == (None, "")


@pytest.mark.parametrize(
    ("written", "time"),
    [
        ("1:56 pm on 8 May, 2023", datetime(2023, 5, 8, 13, 56, tzinfo=UTC)),
        ("2023/05/20 (Sat) 02:21", datetime(2023, 5, 20, 2, 21, tzinfo=UTC)),
        ("2023-05-08T01:00:00+02:00", datetime(2023, 5, 7, 23, tzinfo=UTC)),
        (1683550000, datetime(2023, 5, 8, 12, 46, 40, tzinfo=UTC)),
        (1683550000000, datetime(2023, 5, 8, 12, 46, 40, tzinfo=UTC)),
        ("1683550000", datetime(2023, 5, 8, 12, 46, 40, tzinfo=UTC)),
        ("soon", None),
        (7, None),
        (True, None),
        (float("inf"), None),
        (float("nan"), None),
        ("9999-12-31T23:59:59-10:00", None),
        ("9" * 40, None),
        ({"a": 1}, None),
        (None, None),
    ],
)
def test_times_as_sources_write_them(written: Any, time: datetime | None) -> None:
    assert parse_time(written) == time
