"""TOML with caps, because tomllib dies on tiny hostile input.

One dotted key of 8,000 parts (16 KB) takes 260 MB and two seconds; deep nesting recurses. So size, key parts and
nesting are counted in one linear pass before the parser sees the text. Knows nothing of what the text means.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from memos_cli.errors import Damaged, NotFound

MAX_BYTES = 256 * 1024
MAX_KEY_PARTS = 16
MAX_NESTING = 16

_TOKEN = re.compile(r"\"(?:[^\"\\\n]|\\.)*\"|'[^'\n]*'|#[^\n]*|[\w-]+|[^\S\n]+|.|\n", re.DOTALL)


def read_toml(path: Path) -> dict[str, Any]:
    """The table in `path`. Raises NotFound, or Damaged naming the cap or the line that is wrong."""
    try:
        size_bytes = path.stat().st_size
        if size_bytes > MAX_BYTES:
            raise Damaged(f"{path}: expected at most {MAX_BYTES:,} bytes of TOML, found {size_bytes:,}")
        raw = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"no file {path}") from error
    except OSError as error:
        raise Damaged(f"{path}: cannot be read ({error.strerror})") from error
    return parse_toml(raw, where=str(path))


def parse_toml(raw: bytes, *, where: str) -> dict[str, Any]:
    """The table written in `raw`. Raises Damaged, naming `where`."""
    if len(raw) > MAX_BYTES:
        raise Damaged(f"{where}: expected at most {MAX_BYTES:,} bytes of TOML, found {len(raw):,}")
    try:
        text = raw.decode("utf-8")
        _count(text, where=where)
        return tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise Damaged(f"{where}: expected UTF-8, found byte {raw[error.start]:#04x} at {error.start}") from error
    except tomllib.TOMLDecodeError as error:
        raise Damaged(f"{where}: not valid TOML: {error}") from error


def _count(text: str, *, where: str) -> None:
    """Refuses too many key parts or too deep nesting. Strings and comments are skipped as whole tokens."""
    parts = depth = 0
    after_dot = False
    for match in _TOKEN.finditer(text):
        token = match.group()
        if token == ".":
            parts, after_dot = parts + 1, True
        elif token[0] in " \t\r":
            continue
        elif token[0] in "[{":
            depth, parts, after_dot = depth + 1, 0, False
        elif token[0] in "]}":
            depth, parts, after_dot = max(0, depth - 1), 0, False
        elif not (after_dot and (token[0].isalnum() or token[0] in "_-\"'")):
            parts, after_dot = 0, False
        else:
            after_dot = False
        if parts >= MAX_KEY_PARTS:
            raise Damaged(f"{where}: expected keys of at most {MAX_KEY_PARTS} parts, found a longer one")
        if depth > MAX_NESTING:
            raise Damaged(f"{where}: expected at most {MAX_NESTING} levels of nesting, found more")
