"""Makes the example cubes beside this file from their corpora, through the Memory API.

    python -m bundles.build               all of them
    python -m bundles.build handbook      one

Each is made in a temporary folder, under a home that is thrown away with it: so no private key of anybody owns an
example, sources have paths relative to this project, and a cube that exists is replaced only by a whole one.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from memos_cli.cube.search import tidy
from memos_cli.interface import api, frame

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent
MAKER = "memos"
# What belongs to the folder where a cube was made and not to the cube.
LEFT_BEHIND = ("log", "lock", "lock.holder", "staging")


@dataclass(frozen=True, slots=True)
class Example:
    """A cube to make: its name, what it holds, the folders it is made of and where they are in the project."""

    name: str
    description: str
    sources: dict[str, str]
    embedder: str = "minilm"
    licence: str = "CC-BY-4.0"


EXAMPLES = (
    Example(
        "handbook",
        "The handbook of an invented team of nine: onboarding, releases, on-call, incidents, money.",
        {"corpus/handbook": "bundles/corpus/handbook"},
    ),
    Example(
        "chats",
        "A year of two invented friends' messages and five meetings of a garden group; facts change as they talk.",
        {"corpus/chats": "bundles/corpus/chats"},
    ),
    Example(
        "codebase",
        "Two rooms of the source code of memos itself: the format on disk and what guards it.",
        {"memos_cli/cube": "memos_cli/cube", "memos_cli/infrastructure": "memos_cli/infrastructure"},
        # By words alone: names in code are found by their letters, and a cube without vectors is half the size.
        embedder="none",
        licence="Apache-2.0",
    ),
)


def main() -> int:
    """Makes the examples named on the command line, or all; the exit code."""
    wanted = sys.argv[1:] or [example.name for example in EXAMPLES]
    for example in EXAMPLES:
        if example.name in wanted:
            size_bytes = build(example)
            sys.stdout.write(f"{example.name}.cube\t{size_bytes:,} bytes\n")
    return 0


def build(example: Example) -> int:
    """Makes one cube, and puts it in the place of the old one; returns its size in bytes."""
    # The name of whoever runs this would stand in the manifest.
    os.environ["LOGNAME"] = MAKER
    with tempfile.TemporaryDirectory(prefix="memos-bundles-") as folder:
        made = _make(example, Path(folder))
        for name in LEFT_BEHIND:
            path = made / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        target = HERE / made.name
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(made, target, symlinks=True)
    return sum(path.stat().st_size for path in target.rglob("*") if path.is_file() and not path.is_symlink())


def _make(example: Example, folder: Path) -> Path:
    cube, home = folder / f"{example.name}.cube", folder / "home"
    for inside, outside in example.sources.items():
        shutil.copytree(PROJECT / outside, folder / inside, ignore=shutil.ignore_patterns("__pycache__"))
    api.init(
        cube, description=example.description, licence=example.licence, sensitivity="public",
        embedder=example.embedder, home=home,
    )  # fmt: skip
    api.ingest(cube, [str(folder / inside) for inside in example.sources], home=home)
    _finish(cube, home)
    api.gc(cube, keep=1, home=home)
    return cube


def _finish(cube: Path, home: Path) -> None:
    """Lets anybody copy the cube, the only way to change it when its owner is gone; and makes its files few."""
    with frame.changing(frame.desk(home), cube, "edit", reason="an example for everybody") as change:
        governance = replace(change.cube.governance, share_scope="anyone")
        tidy(change.memories.table)
        change.commit({"share_scope": "anyone"}, cube=replace(change.cube, governance=governance))


if __name__ == "__main__":
    sys.exit(main())
