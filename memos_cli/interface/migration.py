"""The verb `migrate` of the Memory API: a cube of an older format becomes one of this format, in its place.

The old files are the cube until the new version is there, and are kept under before-migration/ afterwards.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memos_cli.cube import metadata
from memos_cli.cube import migrate as formats
from memos_cli.cube.digest import digest_of
from memos_cli.cube.metadata import Governance, Plaintext
from memos_cli.cube.piece import Piece, storable
from memos_cli.cube.sources import FILE as CATALOGUE
from memos_cli.cube.sources import SourceState, encode
from memos_cli.errors import NotFound
from memos_cli.infrastructure import vault
from memos_cli.interface import embedding, frame
from memos_cli.interface.changes import stem
from memos_cli.interface.results import Changed
from memos_cli.operation import mentioning
from memos_cli.operation.ingest import Ingest
from memos_cli.operation.marking import Marks

if TYPE_CHECKING:
    from memos_cli.cube.plaintext import Memories

UNKNOWN = "format-0"


@dataclass(frozen=True, slots=True)
class _Remembered:
    """The rows of one source of an older cube, in the shape that ingest reads."""

    uri: str
    rows: tuple[dict[str, Any], ...]
    format: str = UNKNOWN
    title: str = ""

    @property
    def size(self) -> int:
        return sum(len(row["text"].encode("utf-8", "replace")) for row in self.rows)

    def digest(self) -> str:
        """Of the texts, for the file itself is not at hand: a later ingest of the file reads it anew."""
        return digest_of("\x1e".join(row["text"] for row in self.rows).encode("utf-8", "replace"))

    def pieces(
        self, on_bad: Callable[[Any], None] | None = None, on_notice: Callable[[str], None] | None = None
    ) -> Iterator[Piece]:
        """A piece per row; the old id is its `ref`."""
        for row in self.rows:
            yield Piece(storable(row["text"]).strip(), kind="memory", ref=row["id"], time=row["created"])


def migrate(
    cube: str | Path,
    *,
    embedder: str | None = None,
    dry_run: bool = False,
    home: Path | None = None,
    notify: frame.Notify | None = None,
) -> Changed:
    """Brings a cube of an older format to this one. A cube of this format is left as it is and told so.

    Raises NotFound when there is no cube of any format, Damaged for one that cannot be read or is newer.
    """
    desk = frame.desk(home, notify)
    root = desk.path(cube)
    found = formats.find_format(root)
    if found is None:
        raise NotFound(f"no cube of any format at {root}", hint=f"memos ingest {cube} SOURCE... makes one")
    if found == formats.FORMAT_VERSION:
        with frame.reading(desk, root, "migrate") as seen:
            moved = [] if dry_run else formats.set_aside(root)
            message = f"format {found} already" + (f"; {', '.join(moved)} put aside" if moved else "")
            return Changed(str(cube), "migrate", seen.version.number, dry_run, (), message)
    old, rows = formats.read_older(root)
    kept = list(rows)
    if dry_run:
        message = f"would bring {len(kept)} memories from format {found} to {formats.FORMAT_VERSION}"
        return Changed(str(cube), "migrate", 0, True, (), message)
    version = _rewrite(desk, root, old, kept, embedder=embedder)
    formats.set_aside(root)
    message = f"{len(kept)} memories brought to format {formats.FORMAT_VERSION}; the old files are in before-migration/"
    return Changed(str(cube), "migrate", version.number, False, (), message)


def _rewrite(
    desk: frame.Desk, root: Path, old: dict[str, Any], rows: list[dict[str, Any]], *, embedder: str | None
) -> vault.Version:
    encoder = embedding.open_embedder(desk, embedder or embedding.DEFAULT)
    owner = Governance(owner=desk.actor.key, owner_user=desk.actor.user)
    meta = metadata.new(old["name"] or stem(root), governance=owner, description=old["description"])
    meta = replace(
        meta, created=old["created"] or meta.created, plaintext=Plaintext(embedder=embedding.identity_of(encoder))
    )
    by_source: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_source[row["source"] or UNKNOWN].append(row)

    def fill(memories: Memories) -> None:
        catalogue: dict[str, SourceState] = {}
        work = Ingest(memories, encoder, Marks(), frame.now(), catalogue)
        for uri, held in by_source.items():
            work.take(_Remembered(uri, tuple(held)))
        vault.write_bytes(memories.directory / CATALOGUE, encode(catalogue))
        mentioning.link(memories, memories.directory, now=work.now)

    beside = (*formats.FORMAT_0_FILES, formats.BEFORE_MIGRATION)
    return frame.create(desk, root, meta, verb="migrate", reason="from format 0", fill=fill, beside=beside)
