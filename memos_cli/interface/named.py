"""What the words of an ingest name: each source by one name, the folders they cover, and what has vanished from them.

Looks at folders and names, and reads no source. Knows nothing of what is remembered of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from memos_cli.cube.sources import SourceState, column
from memos_cli.errors import Damaged, Usage
from memos_cli.interface import sources
from memos_cli.interface.sources import Source

# Passed over for one of these, a source is not gone; for one of those below, it was not meant and nobody is told.
_NOT_GONE = frozenset({"hidden", "ignored", "unreadable"})
_NOT_MEANT = frozenset({"hidden", "ignored", "empty", "cube"})


# What uris begin with whose text was handed over: it lies in no folder, and is never gone from one.
HANDED = ("stdin:", "client:")


@dataclass(frozen=True, slots=True)
class Named:
    """Sources, and where they were looked for.

    `scopes` are what uris in the named folders begin with ("" for those beneath the cube's own folder), `skipped` is
    what a person should hear of, `passed_over` are paths that were not looked into: what they held may be there still.
    """

    base: Path
    places: tuple[str, ...]
    sources: tuple[Source, ...]
    scopes: tuple[str, ...]
    skipped: tuple[str, ...]
    passed_over: tuple[str, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """The places, with what came on stdin called by its digest: two texts on stdin are two different calls."""
        told = next((source.uri for source in self.sources if source.uri.startswith(HANDED)), "-")
        return tuple(told if place == "-" else place for place in self.places)

    def vanished(self, remembered: Iterable[str]) -> tuple[str, ...]:
        """Of the uris that are remembered, those that were in the named folders and are not there any more."""
        if not self.scopes:
            return ()
        given = {source.uri for source in self.sources}
        return tuple(
            uri for uri in remembered if uri not in given and self._covers(uri) and not self._may_be_there(uri)
        )

    def renamed(self, remembered: Mapping[str, SourceState]) -> Iterator[tuple[str, Source]]:
        """Old uri and source of each file that has a new name: unknown, and the same to the byte as one that is gone.

        So a file that was moved, or a cube that was moved away from its files, brings its memories along: none is
        doubled, and what was hidden stays hidden.
        """
        # Of many that are remembered few are alike, and only for these is the disk asked.
        sizes = set(column(remembered, "size_bytes"))
        fresh = [source for source in self.sources if source.uri not in remembered and source.size in sizes]
        digests = {source.digest() for source in fresh}
        given = {source.uri for source in self.sources}
        gone = {
            digest: uri
            for uri, digest in zip(remembered, column(remembered, "digest"), strict=True)
            if digest in digests
            and uri not in given
            and not uri.startswith(HANDED)
            and not os.path.lexists(self.base / uri)
        }
        for source in fresh if gone else ():
            if source.digest() in gone:
                yield gone.pop(source.digest()), source

    def _covers(self, uri: str) -> bool:
        inside = any(uri.startswith(scope) for scope in self.scopes if scope)
        return inside or ("" in self.scopes and not uri.startswith(("/", *HANDED)))

    def _may_be_there(self, uri: str) -> bool:
        return any(uri == path or uri.startswith(f"{path}/") for path in self.passed_over)


def look(args: Sequence[str], *, root: Path, stdin: BinaryIO | None, format: str | None) -> Named:
    """What `args` name for the cube at `root`, whose folder the uris count from.

    Raises NotFound, Damaged, Usage.
    """
    base = Path(os.path.realpath(root)).parent
    places = tuple(arg if arg == "-" else _real_place(arg) for arg in args)
    for place in places:
        if os.path.islink(os.path.join(place, "current")) and os.path.isdir(os.path.join(place, "versions")):
            raise Usage(f"{place} is a cube, not a source", hint=f"memos init COPY.cube --from {place}")
    skips: list[sources.Skip] = []
    found = tuple(sources.expand(places, base=base, stdin=stdin, format=format, on_skip=skips.append))
    _refuse_odd_names(found)
    return Named(
        base=base,
        places=places,
        sources=found,
        scopes=tuple(scope for place in places if os.path.isdir(place) for scope in _scopes(Path(place), base)),
        skipped=tuple(f"{skip.path}: {skip.reason}" for skip in skips if skip.reason not in _NOT_MEANT),
        passed_over=tuple(skip.path for skip in skips if skip.reason in _NOT_GONE),
    )


def _real_place(arg: str) -> str:
    """Where a source lies, so that it has one name by whatever links the cube or the folder was reached."""
    path = os.path.abspath(arg)
    folder, name = os.path.split(path)
    return os.path.realpath(path) if os.path.isdir(path) else os.path.join(os.path.realpath(folder), name)


def _refuse_odd_names(given: Sequence[sources.Source]) -> None:
    for source in given:
        try:
            source.uri.encode()
        except UnicodeEncodeError as error:
            hint = "rename it, or pipe it in and name it -"
            raise Damaged(f"expected a file name in UTF-8, found {source.uri[-200:]!r}", hint=hint) from error


def _scopes(folder: Path, base: Path) -> Iterator[str]:
    """What the uris of a folder's sources begin with; those beneath `base` are relative to it."""
    if folder == base or base.is_relative_to(folder):
        yield ""
    if folder.is_relative_to(base):
        yield from [] if folder == base else [f"{folder.relative_to(base).as_posix()}/"]
    else:
        yield f"{folder.as_posix().rstrip('/')}/"
