"""What `memos export --to jsonl` writes: memories with the ids, sources, times, labels and marks that they had.

A line is checked field by field: it may come from anybody. What it says of a memory is a column only when it is of the
kind that the column holds. See docs/reference/format.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from memos_cli.cube.extracted import window_of
from memos_cli.cube.piece import Piece
from memos_cli.cube.scopes import SENSITIVITIES, is_scope
from memos_cli.interface.sources.elements import Found, read_values
from memos_cli.interface.sources.foreign import Record
from memos_cli.interface.sources.limits import Malformed
from memos_cli.interface.sources.opened import Opened
from memos_cli.operation import stated
from memos_cli.operation.absorbed import CONFLICT, DUPLICATE
from memos_cli.operation.outgoing import moment_of
from memos_cli.operation.told import encode

VERSION = 1
_ID = re.compile(r"[0-9a-f]{20}")
_KEY = re.compile(r"[0-9a-f]{32}")
_DIGEST = re.compile(r"(sha256:[0-9a-f]{64})?")
_STATES = ("generated", "activated", "merged", "archived", "frozen")
_ORIGINS = ("user_input", "inference_extraction", "external_retrieval", "parameter_finetuning")
_MOST = 2**31 - 1


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _MOST


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _is_moment(value: Any) -> bool:
    return moment_of(value) is not None


def _is_key(value: str) -> bool:
    """Of words, or of what a model took from a part of a source."""
    return _KEY.fullmatch(value) is not None or (window_of(value) is not None and value.isprintable())


def _one_of(words: tuple[str, ...]) -> Callable[[Any], bool]:
    return lambda value: value in words


def _like(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


# The columns that a line may name, and what their values must be.
COLUMNS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "id": (_like(_ID), "20 hex digits"),
    "source": (_is_text, "text"), "source_digest": (_like(_DIGEST), "sha256:<hex>"), "title": (_is_text, "text"),
    "position": (lambda value: type(value) is int and 0 <= value < 2**53, "a number from 0"),
    "type": (_is_text, "text"), "topic": (_is_text, "text"), "tags": (_is_texts, "a list of texts"),
    "origin": (_one_of(_ORIGINS), " or ".join(_ORIGINS)), "state": (_one_of(_STATES), " or ".join(_STATES)),
    "valid_from": (_is_moment, "a time with zone"), "valid_to": (_is_moment, "a time with zone"),
    "true_from": (_is_moment, "a time with zone"), "true_to": (_is_moment, "a time with zone"),
    "created_at": (_is_moment, "a time with zone"), "updated_at": (_is_moment, "a time with zone"),
    "supersedes": (_like(_ID), "20 hex digits"), "superseded_by": (_like(_ID), "20 hex digits"),
    "superseded_as": (_one_of(("", DUPLICATE, CONFLICT)), f"{DUPLICATE} or {CONFLICT}"),
    "owner": (_is_text, "text"), "read_scope": (lambda value: _is_text(value) and is_scope(value), "a scope"),
    "write_scope": (lambda value: _is_text(value) and is_scope(value), "a scope"),
    "share_scope": (lambda value: _is_text(value) and is_scope(value), "a scope"),
    "sensitivity": (_one_of(SENSITIVITIES), " or ".join(SENSITIVITIES)),
    "priority": (lambda value: _is_count(value) and value <= 9, "0 to 9"),
    "expires_at": (_is_moment, "a time with zone"), "decay_days": (_is_count, "a number of days"),
    "legal_hold": (lambda value: isinstance(value, bool), "true or false"), "compliance": (_is_texts, "texts"),
    "content_key": (lambda value: _is_text(value) and _is_key(value), "a content key"),
}  # fmt: skip
# What a piece has a place of its own for.
PLACES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "kind": (_is_text, "text"), "session": (_is_text, "text"), "speaker": (_is_text, "text"),
    "role": (_is_text, "text"), "ref": (_is_text, "text"), "time_note": (_is_text, "text"),
    "line_start": (_is_count, "a number"), "line_end": (_is_count, "a number"), "page": (_is_count, "a number"),
    "turn": (_is_count, "a number"), "time": (_is_moment, "a time with zone"),
    "event_time": (_is_moment, "a time with zone"),
}  # fmt: skip
MOMENTS = frozenset({
    "time", "event_time", "valid_from", "valid_to", "true_from", "true_to", "created_at", "updated_at", "expires_at",
})  # fmt: skip
# What a line leaves out is empty, and not that of the file it stands in.
_EMPTY: dict[str, Any] = {"source_digest": "", "title": "", "valid_from": None}
_KNOWN = {"memos", "text", "section", "extra", stated.FIELD, *COLUMNS, *PLACES}


def read(opened: Opened) -> Iterator[Piece]:
    """A piece for each line, with what it says of itself. A line that is wrong goes to `opened.bad`."""
    for found in read_values(opened):
        try:
            piece = _piece(found.value, found)
        except ValueError as error:
            opened.bad(Malformed(f"line {found.line_start}", str(error)))
            continue
        for name in found.value.keys() - _KNOWN:
            opened.losses.add("memory", str(name), "not a field of version 1")
        yield piece


def _piece(value: Any, found: Found) -> Piece:
    if not isinstance(value, dict) or value.get("memos") != VERSION:
        has = value.get("memos") if isinstance(value, dict) else type(value).__name__
        raise ValueError(f'expected a memory with "memos": {VERSION}, found {has!r:.40}')
    text, section, extra = value.get("text"), value.get("section", []), value.get("extra", {})
    if not _is_text(text) or not _is_texts(section) or not isinstance(extra, dict):
        raise ValueError("expected text, a list of headings as section and an object as extra")
    said = {name: checked(value, name) for name in COLUMNS if name in value}
    if not said.get("id") or not said.get("source"):
        raise ValueError("expected an id and a source")
    if stated.FIELD in value:
        said[stated.FIELD] = stated.encode(value[stated.FIELD], memory=said["id"])
    places = {name: checked(value, name) for name in PLACES if name in value}
    return Piece(
        str(text), section=tuple(section), said=tuple({**_EMPTY, **said}.items()), extra=encode(extra), **places
    )


def is_right(value: Record, name: str) -> bool:
    """Whether a field has what its column holds."""
    return (COLUMNS.get(name) or PLACES[name])[0](value[name])


def checked(value: Record, name: str) -> Any:
    """A field as its column holds it. Raises ValueError when it is of another kind."""
    if not is_right(value, name):
        expected = (COLUMNS.get(name) or PLACES[name])[1]
        raise ValueError(f"expected {expected} as {name}, found {value[name]!r:.60}")
    return moment_of(value[name]) if name in MOMENTS else value[name]
