"""JSON and JSON lines that are no chat: a record for each object of a list, pairs for the settings of an object."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from memos_cli.cube.piece import Piece
from memos_cli.interface.sources.dates import parse_time
from memos_cli.interface.sources.elements import Found, read_values
from memos_cli.interface.sources.messages import REFS, TIMES
from memos_cli.interface.sources.opened import Opened

TEXTS = ("text", "content", "memory", "body", "fact", "note", "document", "page_content")
SIDE = frozenset((*REFS, *TIMES, "updated_at", "hash", "score", "metadata", "embedding", "vector"))
# A list of this many numbers is a vector, which says nothing as words.
LONG_NUMBERS = 16


def read(opened: Opened) -> Iterator[Piece]:
    """The pieces of all values; a top-level object that is the whole file is read by its keys."""
    for found in read_values(opened):
        value = found.value
        if isinstance(value, dict) and found.whole and not _main_text(value):
            yield from _notebook(value) if _is_notebook(value) else _settings(value, (), found)
        elif isinstance(value, dict):
            yield record(value, found, ())
        elif isinstance(value, list):
            yield from _items(value, (), found)
        elif value is not None:
            yield _piece(_word(value), "record", (), found)


def record(value: dict[str, Any], found: Found, section: tuple[str, ...]) -> Piece:
    """One object as a memory: its text alone when it has one, else 'name: value; name: value'."""
    text = _main_text(value) or _flat(value)
    ref = next((str(value[name]) for name in REFS if name in value and isinstance(value[name], str | int)), "")
    time = next((time for name in TIMES if name in value and (time := parse_time(value[name]))), None)
    return Piece(text, "record", section, found.line_start, found.line_end, ref=ref, time=time)


def _main_text(value: dict[str, Any]) -> str:
    """The text of an object whose other fields only say where it is from, '' when there is more to it."""
    names = [name for name in TEXTS if name in value and isinstance(value[name], str) and value[name].strip()]
    if len(names) == 1 and all(name in SIDE for name in value if name != names[0]):
        return str(value[names[0]])
    return ""


def _flat(value: dict[str, Any]) -> str:
    parts = []
    for name, inner in value.items():
        if isinstance(inner, dict | list):
            parts += [f"{path}: {words}" for path, words in _leaves(inner, str(name))]
        elif words := _word(inner):
            parts.append(f"{name}: {words}")
    return ("\n" if any("\n" in part for part in parts) else "; ").join(parts)


def _leaves(value: Any, name: str) -> Iterator[tuple[str, str]]:
    """Dotted names and the words under them; the depth was checked when the value was read."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        for index, inner in enumerate(value, start=1):
            yield from _leaves(inner, f"{name}.{index}" if name else str(index))
    elif words := _word(value):
        yield name, words


def _word(value: Any) -> str:
    """A scalar, or a list of scalars, in words; '' for null, for what is empty and for vectors."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, list):
        if len(value) > LONG_NUMBERS and all(isinstance(item, int | float) for item in value):
            return ""
        return ", ".join(filter(None, map(_word, value)))
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value).strip()


def _piece(text: str, kind: str, section: tuple[str, ...], found: Found) -> Piece:
    return Piece(text, kind, section, found.line_start, found.line_end)


def _settings(value: dict[str, Any], path: tuple[str, ...], found: Found) -> Iterator[Piece]:
    """A pair for each key with a plain value; an object under a key is a section."""
    for key, inner in value.items():
        if isinstance(inner, dict):
            yield from _settings(inner, (*path, str(key)), found)
        elif isinstance(inner, list) and any(isinstance(item, dict | list) for item in inner):
            yield from _items(inner, (*path, str(key)), found)
        elif words := _word(inner):
            yield _piece(f"{key}: {words}", "pair", path, found)


def _items(value: list[Any], path: tuple[str, ...], found: Found) -> Iterator[Piece]:
    for item in value:
        if isinstance(item, dict):
            yield record(item, found, path)
        elif words := "; ".join(f"{name}: {text}" if name else text for name, text in _leaves(item, "")):
            yield _piece(words, "record", path, found)


def _is_notebook(value: dict[str, Any]) -> bool:
    return isinstance(value.get("cells"), list) and "nbformat" in value


def _notebook(value: dict[str, Any]) -> Iterator[Piece]:
    """The cells of a Jupyter notebook: markdown by its structure, code whole; outputs are left out."""
    from memos_cli.interface.sources.markdown import read_text

    section: tuple[str, ...] = ()
    for number, cell in enumerate(value["cells"], start=1):
        source = cell.get("source", "") if isinstance(cell, dict) else ""
        text = "".join(map(str, source)) if isinstance(source, list) else str(source)
        if not text.strip():
            continue
        if cell.get("cell_type") == "code":
            yield Piece(text.strip("\n"), "code", section, page=number)
            continue
        for found in read_text(text.split("\n"), page=number):
            # Lines count within the cell, which is no line of the file.
            yield Piece(found.text, found.kind, found.section, page=number)
            section = found.section
