"""Context windows: the text around a memory, for search only.

A chat turn is found by what was said around it: `near` holds turns -1..+1, `wide` -2..+2, each as `speaker: text`
(measured on LoCoMo: windows lift recall@10 of BM25 from 60 to 69). Other memories are found by their heading path
as well as by their words. A window never crosses a session, nor an owner, label or scope: what may be seen is not
found by the words of what may not. Knows nothing of tables.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count, repeat
from typing import NamedTuple

from memos_cli.cube.piece import Piece
from memos_cli.cube.scopes import GUARDS

REACH = 2
# A long neighbour (an assistant's page of advice) would drown the turn it stands beside.
LONG_WORDS = 120
# The columns that a window does not cross: what may be seen is not found by the words of what may not, or not any more.
WALLS = (*GUARDS, "expires_at")
# Of pieces whose source says where they are from: what is of two sources does not stand together.
_SAID_WALLS = (*WALLS, "source")


class _Numbered(NamedTuple):
    position: int
    piece: Piece
    guard: Hashable


@dataclass(frozen=True, slots=True)
class Placed:
    """A piece with its place in the source and its two search texts."""

    piece: Piece
    position: int
    near: str
    wide: str


def place(pieces: Iterable[Piece], *, guards: Iterable[Hashable] | None = None) -> Iterator[Placed]:
    """Each piece with its windows, streaming: at most 2 * REACH + 1 pieces are held at a time.

    `guards`, one a piece, keep apart what is not of one owner, label and scope; without them all is alike but what the
    pieces themselves say.
    """
    held: deque[_Numbered] = deque()
    ahead: deque[_Numbered] = deque()
    for position, piece, guard in zip(count(), pieces, repeat(None) if guards is None else guards, strict=False):
        ahead.append(_Numbered(position, piece, (guard, _walls(piece)) if piece.said else guard))
        if len(ahead) > REACH:
            yield _take(held, ahead)
    while ahead:
        yield _take(held, ahead)


def _walls(piece: Piece) -> tuple[Hashable, ...]:
    said = dict(piece.said)
    return tuple(said.get(name) for name in _SAID_WALLS)


def _take(behind: deque[_Numbered], ahead: deque[_Numbered]) -> Placed:
    taken = ahead.popleft()
    position, piece, guard = taken
    around = [(other.position, other.piece) for other in (*behind, taken, *ahead) if other.guard == guard]
    placed = Placed(piece, position, _window(piece, position, around, 1), _window(piece, position, around, REACH))
    behind.append(taken)
    if len(behind) > REACH:
        behind.popleft()
    return placed


def _window(piece: Piece, position: int, around: list[tuple[int, Piece]], reach: int) -> str:
    if piece.kind == "turn":
        lines = [
            spoken(other)
            for at, other in around
            if abs(at - position) <= reach and _joins(piece, other, at == position)
        ]
        return "\n".join(lines)
    heading = " > ".join(piece.section)
    if reach == 1:
        return f"{heading}\n{piece.text}".strip()
    # prose runs on: a paragraph is read with its neighbours; a bullet or a row stands alone under its heading
    texts = [
        other.text for at, other in around
        if at == position or (abs(at - position) == 1 and _runs_on(piece, other))
    ]  # fmt: skip
    return "\n".join([heading, *texts]).strip()


def spoken(piece: Piece) -> str:
    """`speaker: text`, or the text alone when nobody is named."""
    name = piece.speaker or piece.role
    return f"{name}: {piece.text}" if name else piece.text


def meant(kind: str, text: str, near: str) -> str:
    """The text whose vector is a memory's `near_vector`: under its heading; of a turn the turn itself.

    A turn is compared with the mean of its own and its neighbours' vectors when it is searched for, which finds more
    than a vector of the joined texts does and costs no embedding.
    """
    return text if kind == "turn" else near


def _joins(piece: Piece, other: Piece, itself: bool) -> bool:
    if itself:
        return True
    return other.kind == "turn" and other.session == piece.session and not _is_long(other.text)


def _is_long(text: str) -> bool:
    # So many words with a space between them take twice as many characters: most turns need no counting.
    return len(text) >= 2 * LONG_WORDS and len(text.split()) > LONG_WORDS


def _runs_on(piece: Piece, other: Piece) -> bool:
    return piece.kind == other.kind == "paragraph" and piece.section == other.section
