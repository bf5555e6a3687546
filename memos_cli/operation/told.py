"""What a source says of its memories besides their words: carried to the parts of a long one, kept up with.

Knows no format: `Piece.said` are columns, `Piece.extra` is JSON that is kept as it came. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from memos_cli.cube.piece import Piece
from memos_cli.operation.marking import MARKED

PART = "part"
FORGOTTEN = "[forgotten]"
# What names one memory cannot name each of its parts.
_OF_ONE = frozenset({"id", "position", "supersedes", "superseded_by", "superseded_as", "contradicts"})


def encode(value: Any) -> str:
    """JSON as the column keeps it, the same for equal values; "" for nothing."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")) if value else ""


def decode(extra: str) -> dict[str, Any]:
    """What a row's column `extra` holds; nothing where it is empty or no JSON object."""
    if not extra:
        return {}
    try:
        value = json.loads(extra)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def without(extra: str, says: Callable[[str], bool]) -> str:
    """The same JSON with FORGOTTEN in the place of every text that says what is to be gone."""
    if not extra or not says(extra) and not any(says(text) for text in _texts(decode(extra))):
        return extra
    return encode(_cleared(decode(extra), says))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _cleared(value: Any, says: Callable[[str], bool]) -> Any:
    if isinstance(value, str):
        return FORGOTTEN if says(value) else value
    if isinstance(value, dict):
        return {FORGOTTEN if says(name) else name: _cleared(inner, says) for name, inner in value.items()}
    return [_cleared(inner, says) for inner in value] if isinstance(value, list) else value


def parts(whole: Piece, cut: Iterable[Piece]) -> Iterator[Piece]:
    """The parts of a piece as its memories: with what it takes to put them together again, when the source says much.

    The first has all that the source says of the whole; the white space between parts is noted, so that the text comes
    back to the letter.
    """
    if not whole.said and not whole.extra:
        yield from cut
        return
    found = list(cut)
    if len(found) == 1:
        yield found[0]
        return
    end = 0
    said = tuple((name, value) for name, value in whole.said if name not in _OF_ONE)
    for number, part in enumerate(found):
        start = whole.text.index(part.text, end)
        note: dict[str, Any] = {"at": number, "of": len(found), "before": whole.text[end:start]}
        end = start + len(part.text)
        if number == len(found) - 1:
            note["after"] = whole.text[end:]
        told = decode(whole.extra) if number == 0 else {}
        yield replace(part, said=whole.said if number == 0 else said, extra=encode({**told, PART: note}))


def joined(texts: Sequence[str], notes: Sequence[Mapping[str, Any]]) -> str:
    """The text of a piece that was cut, of all its parts in their order."""
    whole = "".join(f"{note.get('before', '')}{text}" for text, note in zip(texts, notes, strict=True))
    return whole + str(notes[-1].get("after", ""))


def columns_anew(old: Sequence[Mapping[str, Any]], pieces: Sequence[Piece]) -> dict[str, list[Any]]:
    """Columns of remembered rows whose words stay: what the source says of them, where it says something else now.

    Where it says the same as before, what a user said of the memory since stands.
    """
    if all(row["extra"] == piece.extra for row, piece in zip(old, pieces, strict=True)):
        return {}
    cells: dict[str, list[Any]] = {"extra": [piece.extra for piece in pieces]}
    names = {name for piece in pieces for name, _ in piece.said if name in MARKED}
    for name in sorted(names):
        cells[name] = [
            row[name] if row["extra"] == piece.extra else dict(piece.said).get(name, row[name])
            for row, piece in zip(old, pieces, strict=True)
        ]
    return cells
