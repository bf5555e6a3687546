"""The formats by name, and the reader of each, imported when it is used; parsers of an extra are named when missing."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from types import ModuleType

from memos_cli.cube.piece import Piece
from memos_cli.errors import MissingExtra
from memos_cli.interface.sources.opened import Opened

CHAT_FORMATS = ("chat", "openai-messages", "chatgpt-export", "claude-export", "sharegpt")
READERS = {
    "markdown": "markdown",
    "text": "prose",
    "transcript": "transcripts",
    "html": "html",
    "csv": "tables",
    "tsv": "tables",
    "json": "records",
    "jsonl": "records",
    "code": "code",
    "pdf": "pdf",
    "docx": "word",
    "pptx": "slides",
    "xlsx": "sheets",
    **dict.fromkeys(CHAT_FORMATS, "chats"),
    "chat-archive": "zipped",
    "claude-memory": "zipped:read_memory",
    "memos-jsonl": "carried",
    "memos-cube": "official",
    "memos-kv": "official_cache",
    "mem0": "exported",
    "memory-graph": "exported",
    "letta": "letta",
}
FORMATS = tuple(READERS)
"""What a user may ask for; source code is reported with its language, as in 'code:python'."""


def read(opened: Opened) -> Iterator[Piece]:
    """The pieces of an opened source, by its format."""
    module, _, function = READERS[opened.format.partition(":")[0]].partition(":")
    pieces: Iterator[Piece] = getattr(import_module(f"{__package__}.{module}"), function or "read")(opened)
    return pieces


def require(module: str, *, format: str, extra: str = "documents") -> ModuleType:
    """The module. Raises MissingExtra with the line that installs it."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"reading {format} needs the package {error.name or module}, which is not installed",
            f"pip install 'memos[{extra}]'",
        ) from error
