"""Transcripts: lines of `speaker: text`, with session headings and dates between them. Flat in memory.

A speaker is who speaks more than once, so a stray 'Note: text' starts no turn. Knows the stamps that chat programs
put before a turn: '[14:03] Ann: hi', '12/05/2023, 14:03 - Ann: hi', '<ann> hi', '**Ann:** hi'.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain

from memos_cli.cube.piece import Piece
from memos_cli.interface.sources.chats import TurnCounter, turn_piece
from memos_cli.interface.sources.dates import MONTH, parse_time
from memos_cli.interface.sources.elements import Found
from memos_cli.interface.sources.messages import ROLES, Message
from memos_cli.interface.sources.opened import Opened

STAMP = r"\[?(?P<stamp>[0-9][0-9./:\-, ]{3,24}(?:\s?[AaPp]\.?[Mm]\.?)?)\]?"
NAME = r"[^\W\d_][\w.'’\-]{0,30}(?:\ [\w.'’()\-]{1,30}){0,3}"
TURN = re.compile(
    rf"\s*(?:{STAMP}(?:\s*-)?\s+)?(?:<(?P<nick>[^<>\s]{{1,32}})>|(?P<bold>\*\*|__)?(?P<name>{NAME})"
    rf"(?:\s*[\[(](?P<after>[0-9][^\])]{{3,30}})[\])])?(?(bold)(?::\s*(?:\*\*|__)|(?:\*\*|__)\s*:)|\s*:))(?:\s+|$)(?P<text>.*)$"
)
HEADING = re.compile(r"\s*(?:#{1,6}\s+(?P<words>\S.*?)\s*#*|[-=*_]{2,}\s*(?P<framed>[^-=*_\s].*?)\s*[-=*_]{2,})\s*$")
SESSION = re.compile(
    r"\s*\[?(?P<words>(?:session|conversation|chat|day|meeting|part)\s+#?[0-9]+\b.{0,80}?)\]?\s*:?\s*$", re.IGNORECASE
)
DATE_LINE = re.compile(
    r"\s*[\[(]?(?:(?:date|time|on|session date|date and time)\s*:\s*)?(?P<words>[^:\]]{4,20}.{0,40}?)[\])]?\s*$",
    re.IGNORECASE,
)
DATE_WORDS = re.compile(
    rf"[0-9]{{4}}[-/][0-9]{{1,2}}|[0-9]{{1,2}}[./][0-9]{{1,2}}[./][0-9]{{2,4}}|\b{MONTH}\b", re.IGNORECASE
)
WORDS_BEFORE_COLONS = """
note notes warning tip important example todo fixme caution info error debug trace fatal critical warn date
time subject re from to cc http https step figure table source see also summary q a fyi ps p.s. update result
status version default location topic title name names age email phone tel address id type price cost total
size color colour description author url link key value tags category question answer input output user-agent
host server port password username login height weight city country state
"""
NOT_NAMES = frozenset(WORDS_BEFORE_COLONS.split())
NUMBERS = re.compile(r"\s*\[?(?P<first>[0-9]{1,2})(?P<separator>[./])[0-9]{1,2}(?P=separator)[0-9]{2,4}")
# A turn of more lines is cut, so that memory stays flat whatever the file is.
TURN_LINES = 10_000
RULE = re.compile(r"\s*[-=*_]{3,}\s*$")


def recognise(text: str, *, strict: bool) -> str:
    """Why a text is a transcript, '' when it is none. `strict` for markdown, where a few such lines mean nothing."""
    lines = [line for line in text.split("\n")[:2000] if line.strip()]
    if len(text) > 1 and not text.endswith("\n"):
        lines = lines[:-1] if len(lines) > 4 else lines
    speakers = speakers_of(lines)
    turns = [match for line in lines if (match := TURN.match(line)) and _name(match) in speakers]
    others = sum(_mark(line) is None for line in lines) - len(turns)
    enough = 4 if strict else 2
    if (
        len(turns) < enough
        or len(speakers) < (2 if strict else 1)
        or len(turns) < max(len(speakers) + 1, 2 * len(speakers) - 2)
    ):
        return ""
    # An assistant's answers have many lines, so where the speakers are roles the share of turns says nothing.
    share = 0.0 if {name.lower() for name in speakers} <= set(ROLES) else 0.8 if strict else 0.6
    if len(turns) < share * (len(turns) + max(0, others)):
        return ""
    changes = sum(_name(one) != _name(two) for one, two in zip(turns, turns[1:], strict=False))
    # Records ("Name: .., Age: ..") repeat their keys in the same order; a list of one key repeated is no talk either.
    if len(speakers) == 1 or changes == 0 or _is_form(turns, speakers):
        return ""
    return f"{len(turns)} turns of {len(speakers)} speakers"


def _is_form(turns: list[re.Match[str]], speakers: set[str]) -> bool:
    """Whether more than two 'speakers' always come in the same order: the keys of a form."""
    names = [_name(turn) for turn in turns]
    size = len(speakers)
    return size > 2 and all(name == names[index % size] for index, name in enumerate(names))


def speakers_of(lines: list[str]) -> set[str]:
    """The names before a colon that come up more than once, or that a time stamp or bold type marks as a speaker."""
    matches = [match for line in lines if (match := TURN.match(line)) and not _mark(line)]
    counts = Counter(_name(match) for match in matches)
    marked = {_name(match) for match in matches if match["stamp"] or match["nick"] or match["after"]}
    names = {name for name, count in counts.items() if (count > 1 or name in marked) and _may_speak(name)}
    if len(names) >= 1:
        names |= {
            name
            for name in counts
            if _may_speak(name) and name.istitle() and len(name.split()) <= 2 and len(counts) <= 4
        }
    return names


def _may_speak(name: str) -> bool:
    return name.lower() not in NOT_NAMES


def _name(match: re.Match[str]) -> str:
    return str(match["nick"] or match["name"])


@dataclass(frozen=True, slots=True)
class Mark:
    """A line between turns: a session's heading, its date, or both."""

    words: str
    time: datetime | None
    is_heading: bool
    is_certain: bool = False
    """Whether it can be nothing else, such as 'Session 2' or a date."""


def _mark(line: str) -> Mark | None:
    """What a line between turns says, None when it is no such line."""
    if RULE.match(line):
        return Mark("", None, is_heading=False)
    if match := HEADING.match(line):
        words = match["words"] or match["framed"]
        time = _time_in(words)
        return Mark(words, time, is_heading=True, is_certain=time is not None or SESSION.match(words) is not None)
    if match := SESSION.match(line):
        return Mark(match["words"], _time_in(match["words"]), is_heading=True, is_certain=True)
    if (match := DATE_LINE.match(line)) and DATE_WORDS.search(match["words"]) and (time := parse_time(match["words"])):
        return Mark(match["words"], time, is_heading=False, is_certain=True)
    return None


def _time_in(words: str) -> datetime | None:
    """The date in a session's heading, such as 'Session 1 (8 May 2023)'."""
    if not DATE_WORDS.search(words):
        return None
    rest = re.sub(r"^\s*(?:session|conversation|chat|day|meeting|part)\s+#?[0-9]+\W*", "", words, flags=re.IGNORECASE)
    return parse_time(rest.strip(" ()[]-–—:,"))


@dataclass(slots=True)
class _Turn:
    """The turn being read, to which lines without a speaker are added."""

    message: Message
    first: int
    last: int
    lines: list[str] = field(default_factory=list)


class _Reader:
    def __init__(self, lines: list[str]) -> None:
        self.speakers = speakers_of(lines)
        self.day_first = _day_first(lines)
        self.counter = TurnCounter()
        self.turn: _Turn | None = None
        self.session = ""
        self.time: datetime | None = None
        self.has_turns = False
        self.waiting: list[tuple[int, str, Mark | None]] = []
        """Headings, rules and dates whose next line is not known yet: an answer may hold headings of its own."""

    def take(self, number: int, line: str) -> Iterator[Piece]:
        """The turn that this line ends, if it does."""
        match = TURN.match(line)
        if match and _name(match) in self.speakers:
            yield from self._settle()
            yield from self.flush()
            self.turn = _Turn(self._message(match), number, number, [match["text"]])
            self.has_turns = True
        elif mark := _mark(line):
            self.waiting.append((number, line, mark))
            if len(self.waiting) >= TURN_LINES:
                yield from self._settle()
        elif self.waiting and not line.strip():
            self.waiting.append((number, line, None))
        else:
            yield from self._go_on(number, line)

    def _go_on(self, number: int, line: str) -> Iterator[Piece]:
        """Add a line without a speaker to the turn; the headings right before it are then the speaker's own."""
        waiting, self.waiting = self.waiting, []
        if self.turn is None or any(mark and mark.is_certain for _, _, mark in waiting):
            self.waiting = waiting
            yield from self._settle()
            waiting = []
        for at, text in [*((at, text) for at, text, _ in waiting), (number, line)]:
            if self.turn is None:
                if text.strip():
                    yield Piece(text.strip(), section=self._section(), line_start=at, line_end=at, time=self.time)
                continue
            if len(self.turn.lines) >= TURN_LINES:
                message = self.turn.message
                yield from self.flush()
                self.turn = _Turn(message, at, at)
            self.turn.lines.append(text)
            self.turn.last = at if text.strip() else self.turn.last

    def _settle(self) -> Iterator[Piece]:
        """What was held back is between turns after all: sessions begin there."""
        waiting, self.waiting = self.waiting, []
        for _, _, mark in waiting:
            if mark is not None:
                yield from self.flush()
                self._enter(mark)

    def _enter(self, mark: Mark) -> None:
        if mark.is_heading or (mark.time and self.has_turns):
            self.session = mark.words
            self.has_turns = False
            self.time = None
        self.time = mark.time or self.time

    def _section(self) -> tuple[str, ...]:
        return (self.session,) if self.session else ()

    def _message(self, match: re.Match[str]) -> Message:
        name = _name(match)
        role = ROLES.get(name.lower(), "")
        stamp = match["stamp"] or match["after"] or ""
        return Message(
            speaker=role or name, role=role, text="", time=_stamped(stamp.strip(), self.time, self.day_first)
        )

    def end(self) -> Iterator[Piece]:
        """What the end of the text ends."""
        yield from self._go_on(0, "") if self.turn else self._settle()
        yield from self.flush()

    def flush(self) -> Iterator[Piece]:
        """The turn read last as a piece."""
        if self.turn is None:
            return
        turn, self.turn = self.turn, None
        text = "\n".join(turn.lines).strip()
        message = Message(turn.message.speaker, turn.message.role, text, time=turn.message.time)
        found = Found(None, turn.first, turn.last)
        yield turn_piece(
            message,
            counter=self.counter,
            session=self.session,
            section=self.session,
            found=found,
            session_time=self.time,
        )


def _day_first(lines: list[str]) -> bool:
    """Whether the stamps have the day before the month: one day past the 12th tells it of all; dots always do."""
    days = [match for line in lines if (match := NUMBERS.match(line))]
    return any(match["separator"] == "." or int(match["first"]) > 12 for match in days)


def _stamped(stamp: str, day: datetime | None, day_first: bool) -> datetime | None:
    """The time of a stamp; of one that has only hours, on the session's day."""
    if not stamp:
        return None
    if re.search(r"[0-9][./-][0-9]", stamp) or re.search(MONTH, stamp, re.IGNORECASE):
        return parse_time(stamp, day_first=day_first)
    return parse_time(f"{day:%Y-%m-%d} {stamp}") if day else None


def read(opened: Opened) -> Iterator[Piece]:
    """A piece for each turn; text before the first turn is kept line by line."""
    held: list[tuple[int, str]] = []
    size = 0
    lines = opened.lines()
    for line in lines:
        held.append(line)
        size += len(line[1])
        if size > opened.limits.head_bytes:
            break
    reader = _Reader([text for _, text in held if text.strip()])
    for number, text in chain(held, lines):
        yield from reader.take(number, text)
    yield from reader.end()
