"""The zip archive that ChatGPT or Claude gives to whoever asks for their data: conversations, and what it remembered.

Nothing is unpacked to disk. An archive with odd names, too many parts, or parts that unpack to too much is refused
whole before the first word of it is read.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any, BinaryIO, cast

from memos_cli.cube.piece import Piece
from memos_cli.errors import Damaged
from memos_cli.interface.sources import archive
from memos_cli.interface.sources.elements import Found, iterate_values, read_values
from memos_cli.interface.sources.foreign import CLAUDE_MEMORY, Record, is_claude_memory
from memos_cli.interface.sources.limits import Malformed
from memos_cli.interface.sources.opened import Opened
from memos_cli.operation.told import encode

FORMAT = "chat-archive"
TALK = re.compile(r"conversations(-\d+)?\.json")
KEPT = re.compile(r"memories(-\d+)?\.json")


def is_export(names: list[str]) -> bool:
    """Whether an archive with these parts is one that memos reads."""
    return any(TALK.fullmatch(PurePosixPath(name).name) or _is_memory(name) for name in names)


def _is_memory(name: str) -> bool:
    path = PurePosixPath(name)
    return KEPT.fullmatch(path.name) is not None or (path.parent.name == "memories" and path.suffix == ".json")


def check_names(names: list[str]) -> None:
    """Raises Damaged for an archive whose parts would lie outside a folder, or over each other, if it were unpacked."""
    for name in names:
        odd = "\\" in name or "\0" in name or not name.isprintable()
        if odd or name.startswith("/") or ".." in PurePosixPath(name).parts or re.match(r"[A-Za-z]:", name):
            raise Damaged(f"expected names of parts below the archive, found {name[:80]!r}", "get the export anew")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise Damaged(f"expected each part once, found {twice[:80]!r} again", "get the export anew")


def read(opened: Opened) -> Iterator[Piece]:
    """The pieces of all conversations and memories, part by part in the order of their names."""
    data = opened.data()
    archive.check(data, limits=opened.limits)
    with zipfile.ZipFile(io.BytesIO(data)) as parts:
        names = parts.namelist()
        check_names(names)
        for name in sorted(names):
            if TALK.fullmatch(PurePosixPath(name).name) or _is_memory(name):
                yield from _part(parts, name, opened)
            elif not name.endswith("/"):
                opened.losses.add("part of the archive", _kind(name), "no conversation and no memory")


def _kind(name: str) -> str:
    """What a part is called in a count: by its name at the top, by its suffix below."""
    path = PurePosixPath(name)
    return path.name if len(path.parts) == 1 and path.suffix in (".json", ".html") else path.suffix or "no suffix"


def _part(parts: zipfile.ZipFile, name: str, opened: Opened) -> Iterator[Piece]:
    from memos_cli.interface.sources import chats

    with parts.open(name) as stream:
        inner = replace(opened, stream=cast(BinaryIO, stream), encoding="utf-8-sig", by_line=False)
        try:
            if _is_memory(name):
                yield from read_memory(inner)
            else:
                yield from chats.read(inner)
        except Malformed as error:
            raise Malformed(f"{name} {error.place}", error.reason) from error


def read_memory(opened: Opened) -> Iterator[Piece]:
    """What Claude remembers of its user and of each project: paragraphs and bullets under their headings."""
    values = read_values(opened) if opened.by_line else _values(opened)
    for found in values:
        if not isinstance(found.value, dict) or not is_claude_memory(found.value):
            opened.bad(Malformed(f"line {found.line_start}", "expected conversations_memory or project_memories"))
            continue
        yield from _remembered(found.value, found)
        for name in found.value.keys() - {"conversations_memory", "project_memories", "account_uuid"}:
            if found.value[name]:
                opened.losses.add("memory of Claude", str(name), "not known what it is")


def _values(opened: Opened) -> Iterator[Found]:
    return iterate_values(opened.stream, encoding=opened.encoding, limits=opened.limits)


def _remembered(value: Record, found: Found) -> Iterator[Piece]:
    from memos_cli.interface.sources.markdown import read_text

    projects = value.get("project_memories")
    texts: list[tuple[Any, Any]] = [("", value.get("conversations_memory"))]
    texts += list(projects.items()) if isinstance(projects, dict) else []
    for project, text in texts:
        told = encode({CLAUDE_MEMORY: {"project": project} if project else {}})
        for piece in read_text(text.split("\n")) if isinstance(text, str) else ():
            # lines count within the text, which is one line of the file
            yield replace(piece, **found.place, ref=str(project), extra=told)
