"""What may come in: the files that a cube from elsewhere can have, looked at before anything of memos opens them.

Names first, then how each file begins or ends, then what is in it, by a process of its own with little memory and time
and no leave to write: who made the file may have meant to break, or to use, what reads it. Knows no archives and no
keys.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from memos_cli.cube import activation, metadata
from memos_cli.cube.digest import Entry, Manifest
from memos_cli.errors import Damaged, MemosError
from memos_cli.infrastructure import declassified

FILES_LIMIT = 100_000
TEXT_LIMIT_BYTES = 512 << 10
STEP_LIMIT_BYTES = 64 << 20
HEADER_LIMIT_BYTES = 64 << 20
CHILD = "memos_cli.infrastructure.inspection"
SECONDS = 120
SECONDS_PER_GIB = 60

_WORD = r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}"
_LANCE = (
    rf"data/{_WORD}\.lance", r"_versions/[0-9]{1,20}\.manifest", r"_versions/latest_version_hint\.json",
    rf"_transactions/{_WORD}\.txn", rf"_deletions/{_WORD}\.(?:arrow|bin)", rf"_indices/{_WORD}/{_WORD}\.(?:lance|idx)",
)  # fmt: skip
_ALLOWED = re.compile(
    rf"{re.escape(metadata.FILE)}"
    r"|plaintext/[a-z][a-z_]{0,63}\.arrow"
    rf"|plaintext/[a-z][a-z_]{{0,63}}\.lance/(?:{'|'.join(_LANCE)})"
    rf"|activation/{activation.NAME.pattern}"
    r"|parameter/[a-z0-9][a-z0-9_-]{0,63}/(?:adapter_config\.json|adapter_model\.safetensors|memory\.toml|README\.md)"
)
_TEXTS = (".toml", ".json", ".md")
_TAILED = (".lance", ".idx", ".manifest")


def check_names(manifest: Manifest) -> None:
    """Whether every file is of a kind that a cube has, by its name and size. Raises Damaged."""
    if len(manifest.files) > FILES_LIMIT:
        raise _refused(f"at most {FILES_LIMIT:,} files, found {len(manifest.files):,}")
    names = manifest.entries()
    if metadata.FILE not in names:
        raise _refused(f"the file {metadata.FILE}, found none")
    for entry in manifest.files:
        if entry.path != declassified.FILE and _ALLOWED.fullmatch(entry.path) is None:
            raise _refused(f"only files of kinds that a cube has, found {entry.path}")
        if entry.path.endswith(_TEXTS) and entry.size > TEXT_LIMIT_BYTES:
            raise _refused(f"at most {TEXT_LIMIT_BYTES:,} bytes of {entry.path}, found {entry.size:,}")
        if entry.path.endswith(".txn") and entry.size > STEP_LIMIT_BYTES:
            raise _refused(f"at most {STEP_LIMIT_BYTES:,} bytes of {entry.path}, found {entry.size:,}")


def check_kinds(folder: Path, files: Sequence[Entry]) -> None:
    """Whether every file is what its name says, as far as its first and last bytes tell. Raises Damaged."""
    for entry in files:
        with open(folder / entry.path, "rb") as stream:
            head = stream.read(TEXT_LIMIT_BYTES if entry.path.endswith(_TEXTS) else 16)
            stream.seek(max(0, entry.size - 4))
            tail = stream.read(4)
        if wrong := _wrong(entry, head, tail):
            raise _refused(f"{wrong}, found another kind of file as {entry.path}")


def _wrong(entry: Entry, head: bytes, tail: bytes) -> str:
    """What a file of this name should have been; "" when it is."""
    name = entry.path
    if name.endswith(_TEXTS):
        return "" if _is_text(head) else "a text in UTF-8"
    if name.endswith(".arrow"):
        return "" if head.startswith(b"ARROW1") else "an Arrow file"
    if name.endswith(_TAILED):
        return "" if tail == b"LANC" else "a file of Lance"
    if name.endswith(".safetensors"):
        length = int.from_bytes(head[:8], "little")
        sound = len(head) > 8 and 2 <= length <= min(HEADER_LIMIT_BYTES, entry.size - 8) and head[8:9] == b"{"
        return "" if sound else "a safetensors file"
    return ""


def _is_text(data: bytes) -> bool:
    try:
        return "\0" not in data.decode("utf-8")
    except UnicodeDecodeError:
        return False


def inspect(folder: Path, *, size_bytes: int) -> None:
    """Has a process of its own open and read all of the version in `folder`.

    It may use a bounded time and memory and write nothing. Raises Damaged with what it found, or with how it died.
    """
    seconds = SECONDS + size_bytes * SECONDS_PER_GIB // (1 << 30)
    command = [sys.executable, "-m", CHILD, str(folder), str(seconds)]
    told = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(  # noqa: S603  our own module, by its path
            command, capture_output=True, env=told, timeout=10 * seconds, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired as error:
        raise _refused(f"a cube that can be read in {10 * seconds} seconds, found one that cannot") from error
    except OSError as error:
        raise MemosError(f"no process could be started to look at what came: {error.strerror}") from error
    if done.returncode == 0:
        return
    said = next(reversed(list(_lines(done.stdout))), "")
    if not said:
        said = f"the process that read it ended with {done.returncode}: {next(reversed(list(_lines(done.stderr))), '')}"
    raise _refused(f"a cube that can be read: {said}"[:600])


def _lines(data: bytes) -> Iterator[str]:
    return (line for line in data.decode("utf-8", "replace").splitlines() if line.strip())


def _refused(expected: str) -> Damaged:
    return Damaged(
        f"expected {expected}", hint="nothing of it was kept; ask who made it, or take it from another source"
    )
