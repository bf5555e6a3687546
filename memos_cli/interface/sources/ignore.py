"""What git would ignore: by the .gitignore of each folder and of those above it in the repository, and info/exclude.

The pattern that comes last wins, and those of a deeper folder come after those above. Knows no global excludes file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

LARGEST_BYTES = 1 << 20


class Ignored:
    """The patterns in force beneath a folder, learned folder by folder as they are entered."""

    def __init__(self, root: Path) -> None:
        self._specs: dict[Path, list[GitIgnoreSpec]] = {}
        for folder in _up_to_repository(root):
            self.enter(folder)
        if self.holds(root, is_folder=True):
            # The user named it all the same: then only what lies in it has a say.
            self._specs.clear()
            self.enter(root)

    def enter(self, folder: Path) -> None:
        """Take a folder's own patterns in."""
        found = [_load(folder / ".git" / "info" / "exclude"), _load(folder / ".gitignore")]
        self._specs[folder] = [spec for spec in found if spec is not None]

    def holds(self, path: Path, *, is_folder: bool) -> bool:
        """Whether a path in an entered folder is ignored; the folders above it are not, or it would not be asked."""
        for folder in path.parents:
            for spec in reversed(self._specs.get(folder, ())):
                name = path.relative_to(folder).as_posix() + ("/" if is_folder else "")
                decided = spec.check_file(name).include
                if decided is not None:
                    return decided
        return False


def _up_to_repository(root: Path) -> list[Path]:
    """The folders above `root` whose patterns count: up to the one that holds .git; none outside a repository."""
    above = [root, *root.parents]
    for index, folder in enumerate(above):
        if (folder / ".git").exists():
            return above[: index + 1]
    return []


def _load(path: Path) -> GitIgnoreSpec | None:
    try:
        if not path.is_file() or path.stat().st_size > LARGEST_BYTES:
            return None
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return None
    from pathspec import GitIgnoreSpec

    return GitIgnoreSpec.from_lines(lines)
