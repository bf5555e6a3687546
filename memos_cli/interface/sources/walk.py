"""From what the user names to sources: files, folders walked as git would see them, and stdin.

Within a folder nothing but regular files is opened: links, pipes and devices are passed over and reported.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from memos_cli.errors import Damaged, MemosError, NotFound, Usage
from memos_cli.interface.sources import official_folder
from memos_cli.interface.sources.foreign import OFFICIAL
from memos_cli.interface.sources.formats import FORMATS
from memos_cli.interface.sources.ignore import Ignored
from memos_cli.interface.sources.limits import LIMITS, Limits
from memos_cli.interface.sources.sniff import is_binary
from memos_cli.interface.sources.source import Source

READ_BYTES = 1 << 20
BINARY_CHECK_BYTES = 8192


@dataclass(frozen=True, slots=True)
class Skip:
    """A path in a folder that was passed over: hidden, ignored, link, special, binary, empty, unreadable or cube."""

    path: str
    reason: str


OnSkip = Callable[[Skip], None]


def expand(
    args: Sequence[str],
    *,
    base: Path,
    stdin: BinaryIO | None,
    on_skip: OnSkip | None = None,
    format: str | None = None,
    limits: Limits = LIMITS,
) -> Iterator[Source]:
    """The sources that `args` name, each once: a file itself, a folder's files in sorted order, '-' for stdin.

    What a folder holds that is no text is told to `on_skip`. What is named itself must be readable: NotFound when it is
    absent, Damaged for what is no regular file, Usage for an unknown format. Relative paths count from `base`.
    """
    if format is not None and format.partition(":")[0] not in FORMATS:
        raise Usage(f"unknown format {format!r}; there are {', '.join(FORMATS)}")
    walk = _Walk(base.absolute(), on_skip or (lambda skip: None), format, limits)
    for arg in args:
        if arg == "-":
            yield _take_stdin(stdin, format=format, limits=limits)
        else:
            yield from walk.expand(arg)


def _take_stdin(stdin: BinaryIO | None, *, format: str | None, limits: Limits) -> Source:
    """Stdin as a source: kept in a temporary file, for it can be read only once."""
    if stdin is None:
        raise Usage("'-' reads stdin, and there is none")
    handle, name = tempfile.mkstemp(prefix="memos-stdin-")
    kept = _Kept(Path(name))
    digest = hashlib.sha256()
    size = 0
    with open(handle, "wb") as file:
        while data := stdin.read(READ_BYTES):
            digest.update(data)
            file.write(data)
            size += len(data)
    uri = f"stdin:{digest.hexdigest()[:12]}"
    return Source(uri=uri, path=kept.path, size=size, given=format, limits=limits, holder=kept)


class _Kept:
    """A temporary file that is removed when nothing refers to it any more, at the latest when the program ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        weakref.finalize(self, path.unlink, missing_ok=True)


class _Walk:
    def __init__(self, base: Path, on_skip: OnSkip, format: str | None, limits: Limits) -> None:
        self.base = base
        self.on_skip = on_skip
        self.format = format
        self.limits = limits
        self.seen: set[tuple[int, int]] = set()

    def expand(self, arg: str) -> Iterator[Source]:
        path = Path(os.path.normpath(self.base / arg))
        try:
            found = path.stat()
        except FileNotFoundError as error:
            raise NotFound(f"{arg}: no such file or folder") from error
        except OSError as error:
            raise NotFound(f"{arg}: cannot be reached ({error.strerror})") from error
        except ValueError as error:
            raise NotFound(f"{arg!r}: no such file or folder ({error})") from error
        if stat.S_ISDIR(found.st_mode):
            yield from self._folder(path)
        elif stat.S_ISREG(found.st_mode):
            yield from self._file(path, found)
        else:
            raise Damaged(f"{arg}: neither a regular file nor a folder", "pipe it in and name it -")

    def uri(self, path: Path) -> str:
        """The path relative to `base` when it lies beneath it, else absolute; with '/' between the parts."""
        return (path.relative_to(self.base) if path.is_relative_to(self.base) else path).as_posix()

    def _file(self, path: Path, found: os.stat_result) -> Iterator[Source]:
        if (found.st_dev, found.st_ino) not in self.seen:
            self.seen.add((found.st_dev, found.st_ino))
            yield Source(uri=self.uri(path), path=path, size=found.st_size, given=self.format, limits=self.limits)

    def _folder(self, root: Path) -> Iterator[Source]:
        ignored = Ignored(root)
        waiting = [root]
        while waiting:
            folder = waiting.pop()
            if self.format in (None, OFFICIAL) and official_folder.is_cube(folder):
                yield from self._cube(folder)
                continue
            try:
                entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            except OSError as error:
                if folder == root:
                    raise MemosError(f"{self.uri(root)}: the folder cannot be read ({error.strerror})") from error
                self._skip(folder, "unreadable")
                continue
            ignored.enter(folder)
            folders = []
            for entry in entries:
                path = Path(entry.path)
                if reason := self._refusal(entry, path, ignored):
                    self._skip(path, reason)
                elif entry.is_dir(follow_symlinks=False):
                    folders.append(path)
                else:
                    yield from self._found(path)
            waiting += reversed(folders)

    def _cube(self, folder: Path) -> Iterator[Source]:
        """The memory of an official MemOS cube; what else is in its folder is passed over."""
        found = official_folder.look(folder)
        beside = found.losses
        for part in found.parts:
            size = part.path.stat().st_size
            yield Source(
                uri=self.uri(part.path), path=part.path, size=size, given=part.format, limits=self.limits, beside=beside
            )
            beside = ()
        for path in sorted(folder.iterdir()):
            if path.name not in found.names:
                self._skip(path, "not the memory of this MemOS cube")

    def _refusal(self, entry: os.DirEntry[str], path: Path, ignored: Ignored) -> str:
        """Why an entry is passed over without being opened, '' when it is not."""
        is_folder = entry.is_dir(follow_symlinks=False)
        if entry.name.startswith("."):
            return "hidden"
        if entry.is_symlink():
            return "link"
        if not is_folder and not entry.is_file(follow_symlinks=False):
            return "special"
        if ignored.holds(path, is_folder=is_folder) or entry.name == "__pycache__":
            return "ignored"
        if is_folder and (path / "current").is_symlink() and (path / "versions").is_dir():
            return "cube"
        try:
            path.name.encode()
        except UnicodeEncodeError:
            return "a name that is not UTF-8"
        return ""

    def _found(self, path: Path) -> Iterator[Source]:
        """The file, if it can be read and is text or a document."""
        try:
            found = path.stat()
            with path.open("rb") as file:
                head = file.read(BINARY_CHECK_BYTES)
        except OSError:
            self._skip(path, "unreadable")
            return
        if not head:
            self._skip(path, "empty")
        elif self.format is None and is_binary(head, whole=len(head) < BINARY_CHECK_BYTES):
            self._skip(path, "binary")
        else:
            yield from self._file(path, found)

    def _skip(self, path: Path, reason: str) -> None:
        self.on_skip(Skip(self.uri(path), reason))
