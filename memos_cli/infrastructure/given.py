"""What the words of a command name: cubes by their version, files and folders by sizes and times.

Two looks that give the same mean that a command would find what it found before. Knows nothing of commands.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

CUBE = "cube:"
_LINK = "current"


def look(words: Sequence[str], *, folder: Path, home: Path, deep: bool) -> tuple[str, ...]:
    """Per word what there is of that name, "" for nothing. With `deep` all that is below a folder counts, else its
    entries."""
    names = (word.partition("=")[2] if word.startswith("-") else word for word in words)
    return tuple(name and _seen(name, folder=folder, home=home, deep=deep) for name in names)


def has_changed(before: Sequence[str], after: Sequence[str]) -> bool | None:
    """Whether a cube became another between two looks; None where the words name no cube."""
    cubes = [pair for pair in zip(before, after, strict=True) if any(each.startswith(CUBE) for each in pair)]
    return any(one != other for one, other in cubes) if cubes else None


def as_found(before: Sequence[str], after: Sequence[str]) -> tuple[str, ...]:
    """Sources as they were before they were read, lest what came meanwhile is passed over; all else as it is now."""
    kept = zip(before, after, strict=True)
    return tuple(now if not was or now.startswith(CUBE) else was for was, now in kept)


def _seen(name: str, *, folder: Path, home: Path, deep: bool) -> str:
    try:
        path = Path(folder, name)
        if "/" not in name and not name.endswith(".cube") and (home / "cubes" / name / _LINK).is_symlink():
            path = home / "cubes" / name
        if (path / _LINK).is_symlink():
            return CUBE + os.readlink(path / _LINK)
        about = path.stat()
        if stat.S_ISDIR(about.st_mode):
            return f"folder:{_of_folder(path, deep=deep)}"
        return f"file:{about.st_size}:{about.st_mtime_ns}"
    except (OSError, ValueError, RuntimeError):  # too long for a name, or not a file's name at all
        return ""


def _of_folder(top: Path, *, deep: bool) -> str:
    total = hashlib.sha256()
    for line in sorted(_lines(str(top), "", deep=deep)):
        total.update(line.encode("utf-8", "surrogateescape"))
    return total.hexdigest()[:32]


def _lines(place: str, below: str, *, deep: bool) -> Iterator[str]:
    try:
        entries = sorted(os.scandir(place), key=lambda entry: entry.name)
    except OSError as error:  # what is in there nobody can read, a command neither; the rest still counts
        yield f"{below}\0{error.errno}\n"
        return
    for entry in entries:
        with suppress(FileNotFoundError):  # gone since
            name = f"{below}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                # a cube below is what steps make, and not what they are made of
                if deep and entry.name != ".git" and not os.path.islink(os.path.join(entry.path, _LINK)):
                    yield from _lines(entry.path, f"{name}/", deep=True)
                continue
            about = entry.stat(follow_symlinks=False)
            yield f"{name}\0{about.st_size}\0{about.st_mtime_ns}\n"
