"""What a memory is called: an id and a content key that depend on its words and its place alone. Pure."""

from __future__ import annotations

import hashlib

from memos_cli.cube.piece import Piece


def content_key(piece: Piece) -> str:
    """32 hex digits, equal when the same words are seen again under the same heading, session or speaker."""
    parts = (piece.kind, "\x1f".join(piece.section), piece.session, piece.speaker, piece.role, piece.text)
    return hashlib.sha256("\x1e".join(parts).encode("utf-8", "replace")).hexdigest()[:32]


def new_id(uri: str, key: str, position: int, *, taken: set[str] | None = None) -> str:
    """20 hex digits that depend on source, content and place only, so every engine gives the same.

    `taken` are ids of the source's earlier rows: words that left a file and came back get an id of their own.
    """
    salt = 0
    while True:
        identity = hashlib.sha256(f"{uri}\x1e{key}\x1e{position}\x1e{salt}".encode("utf-8", "replace")).hexdigest()[:20]
        if taken is None or identity not in taken:
            if taken is not None:
                taken.add(identity)
            return identity
        salt += 1
