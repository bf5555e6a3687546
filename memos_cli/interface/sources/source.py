"""One source: where it is, what it is, its digest, and its pieces as they are read.

What is parsed is hashed as it is read, so a source that changes between its digest and its last piece is noticed.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, cast

from memos_cli.cube.losses import Loss, Losses
from memos_cli.cube.piece import Piece, storable
from memos_cli.errors import Damaged
from memos_cli.interface.sources import formats, sniff
from memos_cli.interface.sources.bytestream import HashedFile, changed
from memos_cli.interface.sources.limits import LIMITS, Changed, Limits, Malformed
from memos_cli.interface.sources.lines import Inflated, Notice
from memos_cli.interface.sources.opened import Opened


@dataclass(frozen=True, slots=True)
class Bad:
    """What was left out of a source: one item at `place` (such as 'line 7'), or the rest of it when `whole`."""

    uri: str
    place: str
    message: str
    whole: bool = False


OnBad = Callable[[Bad], None]


class Source:
    """A file to read, or stdin kept in a temporary file. Knows nothing of cubes.

    `uri` is what memories name as their source; `given` is a format the user insists on, else it is told from the
    content; `holder` is whatever must live as long as the source, such as stdin's temporary file. `losses` is what its
    format has and pieces have not, as far as it was read; `beside` what is known to be lost before it is.
    """

    def __init__(
        self,
        *,
        uri: str,
        path: Path,
        size: int,
        given: str | None = None,
        limits: Limits = LIMITS,
        holder: object = None,
        beside: tuple[Loss, ...] = (),
    ) -> None:
        self.uri = uri
        self.path = path
        self.size = size
        self.limits = limits
        self._given = given
        self._holder = holder
        self._beside = beside
        self.losses = Losses()
        self._digest: str | None = None

    def __repr__(self) -> str:
        return f"Source({self.uri!r})"

    @property
    def format(self) -> str:
        """The name of the format, such as 'markdown' or 'chat'."""
        return self.detected.format

    @cached_property
    def title(self) -> str:
        """The file's name without its suffixes for packing and format."""
        return Path(self._plain_name).stem

    @cached_property
    def detected(self) -> sniff.Detected:
        """The format, the encoding and why. Raises Damaged when the content is nothing that memos reads."""
        with HashedFile(self.path, name=self.uri) as raw:
            stream = self._plain(raw)
            try:
                return sniff.detect(stream, name=self._plain_name, given=self._given, limits=self.limits)
            except Damaged as error:
                raise self._named(error) from error

    def digest(self) -> str:
        """'sha256:<hex>' of the bytes as stored (of a gzip file: its own bytes)."""
        if self._digest is None:
            with HashedFile(self.path, name=self.uri) as raw:
                self._digest = raw.finish()
        return self._digest

    def pieces(self, on_bad: OnBad | None = None, on_notice: Notice | None = None) -> Iterator[Piece]:
        """The pieces in the order of the source, read as they are asked for.

        Raises Damaged, naming the source and the place, for malformed input. With `on_bad` what is malformed is
        reported and left out: one item where those after it can be read, else the rest (`Bad.whole`). A source that
        changes or vanishes meanwhile raises Damaged all the same, and a parser that is not installed MissingExtra.
        """
        self.losses.clear()
        self.losses.extend(self._beside)
        try:
            detected = self.detected
        except Damaged as error:
            self._give_up(error, on_bad)
            return
        with HashedFile(self.path, name=self.uri) as raw:
            try:
                opened = self._opened(self._plain(raw), detected, on_bad=on_bad, on_notice=on_notice)
                for piece in formats.read(opened):
                    if piece.text and not piece.text.isspace():
                        yield _storable(piece)
            except Changed:
                raise
            except Damaged as error:
                # A file cut short under the reader often looks malformed first: say what really happened.
                self._check(raw)
                self._give_up(error, on_bad)
            self._check(raw)

    def _check(self, raw: HashedFile) -> None:
        digest = raw.finish()
        if self._digest not in (None, digest):
            raise changed(self.uri)
        self._digest = digest

    def _opened(
        self, stream: BinaryIO, detected: sniff.Detected, *, on_bad: OnBad | None, on_notice: Notice | None
    ) -> Opened:
        def bad(error: Malformed) -> None:
            if on_bad is None:
                raise error
            on_bad(Bad(self.uri, error.place, error.reason))

        def notice(text: str) -> None:
            if on_notice is not None:
                on_notice(f"{self.uri}: {text}")

        if detected.encoding not in ("", "utf-8", "utf-8-sig"):
            notice(f"read as {detected.encoding}, not UTF-8")
        return Opened(
            stream=stream,
            name=self.uri,
            stem=self.title,
            format=detected.format,
            encoding=detected.encoding,
            by_line=detected.by_line,
            limits=self.limits,
            bad=bad,
            notice=notice,
            losses=self.losses,
        )

    @property
    def _plain_name(self) -> str:
        name = self.path.name if self._holder is None else ""
        return name[:-3] if name.endswith(".gz") else name

    def _plain(self, raw: HashedFile) -> BinaryIO:
        stream = io.BufferedReader(raw, 1 << 17)
        if stream.peek(2)[:2] != sniff.GZIP:
            return cast(BinaryIO, stream)
        packed = cast(BinaryIO, stream)
        return cast(BinaryIO, io.BufferedReader(Inflated(packed, packed_bytes=raw.size, limits=self.limits), 1 << 17))

    def _give_up(self, error: Damaged, on_bad: OnBad | None) -> None:
        if on_bad is None:
            raise self._named(error) from error
        if isinstance(error, Malformed):
            on_bad(Bad(self.uri, error.place, error.reason, whole=True))
        else:
            on_bad(Bad(self.uri, "", error.message.removeprefix(f"{self.uri}: "), whole=True))

    def _named(self, error: Damaged) -> Damaged:
        message = error.message.removeprefix(f"{self.uri}: ")
        return Damaged(f"{self.uri}: {message}", error.hint)


def _storable(piece: Piece) -> Piece:
    """The piece with nothing in its words that a table cannot keep."""
    said = "".join(f"{value}" for _, value in piece.said)
    words = "".join(
        (piece.text, piece.session, piece.speaker, piece.role, piece.ref, *piece.section, said, piece.extra)
    )
    if storable(words) is words:
        return piece
    return replace(
        piece,
        text=storable(piece.text),
        section=tuple(map(storable, piece.section)),
        session=storable(piece.session),
        speaker=storable(piece.speaker),
        role=storable(piece.role),
        ref=storable(piece.ref),
        said=tuple((name, _storable_value(value)) for name, value in piece.said),
        extra=storable(piece.extra),
    )


def _storable_value(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    return [storable(text) for text in value] if isinstance(value, list) else value
