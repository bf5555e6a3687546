"""Chats in JSON, as a piece for each turn. Flat in memory: one conversation, or one message, at a time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from datetime import datetime

from memos_cli.cube.piece import Piece
from memos_cli.interface.sources import messages
from memos_cli.interface.sources.dates import find_date
from memos_cli.interface.sources.elements import Found, read_values
from memos_cli.interface.sources.limits import Malformed
from memos_cli.interface.sources.messages import Conversation, Message
from memos_cli.interface.sources.opened import Opened

REMEMBERED_SESSIONS = 10_000


def read(opened: Opened) -> Iterator[Piece]:
    """A piece for each message that has words; a value that is no message goes to `opened.bad`."""
    counter = TurnCounter()
    number = 0
    for found in read_values(opened):
        value = found.value
        if isinstance(value, dict) and (single := _single(value)):
            yield turn_piece(single, counter=counter, session=single.session, section=single.session, found=found)
            continue
        for (kind, field, why), count in messages.left_behind(value).items():
            opened.losses.add(kind, field, why, count)
        any_message = False
        for conversation in messages.conversations(value):
            number += 1
            any_message = True
            yield from _turns(conversation, number=number, found=found)
        if not any_message and value not in ({}, []):
            opened.bad(Malformed(_place(found), _complaint(value)))


def _single(value: messages.Record) -> Message | None:
    is_container = "mapping" in value or any(name in value and isinstance(value[name], list) for name in messages.LISTS)
    return None if is_container else messages.as_message(value)


def _turns(conversation: Conversation, *, number: int, found: Found) -> Iterator[Piece]:
    session = conversation.session or str(number)
    counter = TurnCounter()
    section = conversation.title or conversation.session
    for message in conversation.messages:
        yield turn_piece(
            message, counter=counter, session=session, section=section, found=found, session_time=conversation.time
        )


def turn_piece(
    message: Message,
    *,
    counter: TurnCounter,
    session: str,
    section: str = "",
    found: Found | None = None,
    session_time: datetime | None = None,
) -> Piece:
    """The piece of one turn, with the date its words name, counted from its own time or else the session's."""
    time = message.time or session_time
    event_time, time_note = find_date(message.text, time)
    return Piece(
        text=message.text,
        kind="turn",
        section=(section,) if section else (),
        line_start=found.line_start if found else None,
        line_end=found.line_end if found else None,
        turn=counter.next(session),
        session=session,
        speaker=message.speaker,
        role=message.role,
        ref=message.ref,
        time=time,
        event_time=event_time,
        time_note=time_note,
    )


class TurnCounter:
    """Numbers the turns of each session from 1, for the sessions seen last: memory stays flat over millions."""

    def __init__(self) -> None:
        self._turns: OrderedDict[str, int] = OrderedDict()

    def next(self, session: str) -> int:
        turn = self._turns.pop(session, 0) + 1
        self._turns[session] = turn
        if len(self._turns) > REMEMBERED_SESSIONS:
            self._turns.popitem(last=False)
        return turn


def _place(found: Found) -> str:
    return f"line {found.line_start}"


def _complaint(value: object) -> str:
    has = ", ".join(sorted(map(str, value))[:8]) if isinstance(value, dict) else type(value).__name__
    return f"no message: expected a speaker (speaker, role, ...) and a text (text, content, ...), found {has}"
