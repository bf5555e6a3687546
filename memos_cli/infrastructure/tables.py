"""Which addresses of tables this home lets its programs call.

A cube may say that its memories lie in an object store. To open them is to call that address with the credentials of
whoever asks, so a home does it only for addresses that it made itself or that somebody let in: a file for each under
`$MEMOS_HOME/tables`. What a cube says of its owner does not matter: a folder from elsewhere may say anything.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from memos_cli.infrastructure import disk

FOLDER = "tables"


def is_let_in(home: Path, url: str) -> bool:
    """Whether programs of this home may call the address."""
    try:
        return _place(home, url).read_text(encoding="utf-8") == url
    except (OSError, ValueError):
        return False


def let_in(home: Path, url: str) -> None:
    """From now on they may. Raises OSError."""
    place = _place(home, url)
    os.makedirs(place.parent, mode=0o700, exist_ok=True)
    disk.write_bytes(place, url.encode(), durable=True)


def _place(home: Path, url: str) -> Path:
    return home / FOLDER / hashlib.sha256(url.encode()).hexdigest()[:32]
