"""The parts of an audit that need the access log alone: its lines, and what a checkpoint from before says of it now.

Changes nothing and takes no lock. Knows nothing of who may read the log.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from memos_cli.errors import MemosError, Usage
from memos_cli.infrastructure import trail
from memos_cli.infrastructure import versions as kept
from memos_cli.infrastructure.checkpoint import Checkpoint
from memos_cli.operation.findings import DAMAGE, NOTICE, WARNING, Finding

_AGO = re.compile(r"(\d{1,6})\s*([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_COPY = "take the cube from a copy that agrees with the checkpoint, and ask who could write here"


def moment(text: str, *, now: datetime) -> datetime:
    """The moment that `--since` names: a date, a time with its offset, or so long ago, such as `7d`. Raises Usage."""
    ago = _AGO.fullmatch(text.strip())
    if ago:
        return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise Usage(
            f"expected a date, a time or an age, found {text!r:.80}", hint="--since 2026-01-31, or --since 7d"
        ) from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def lines(
    root: Path, *, home: Path, cube_id: str, since: datetime | None, actor: str | None, kinds: Collection[str]
) -> Iterator[dict[str, Any]]:
    """The lines of a cube's log, oldest first, and after them those kept in `home` for a time when it was read-only."""
    for path in (trail.path_of(root), trail.home_path(home, cube_id)):
        for line in trail.entries(path):
            if is_wanted(line, since=since, actor=actor, kinds=kinds):
                yield line


def is_wanted(line: dict[str, Any], *, since: datetime | None, actor: str | None, kinds: Collection[str]) -> bool:
    """Whether a line is from `since` on, of this actor (a user, a client, the start of a key) and of these kinds."""
    if since is not None:
        try:
            if datetime.fromisoformat(str(line.get("time"))) < since:
                return False
        except (ValueError, TypeError):
            # When it was is not told: better shown than hidden.
            pass
    who = line.get("actor")
    names = [str(name) for name in who.values()] if isinstance(who, dict) else []
    if actor is not None and not any(name == actor or name.startswith(f"ed25519:{actor}") for name in names):
        return False
    return not kinds or kind_of(line) in kinds


def kind_of(line: dict[str, Any]) -> str:
    """What was done; lines of an earlier release only tell refusals from all else."""
    return str(line.get("kind") or (trail.DENIAL if line.get("outcome") == "denied" else trail.READ))


def against(root: Path, checkpoint: Checkpoint, *, trusted: Collection[str], place: str) -> Iterator[Finding]:
    """What has become of a cube that was as `checkpoint` says; nothing when all since then was added to it.

    `trusted` are the fingerprints of those whose word counts: one's own, and the owner's.
    """
    if not checkpoint.is_signed:
        message = "the checkpoint is not signed by the key it names: it was changed, or is somebody's invention"
        yield Finding(DAMAGE, "checkpoint-signature", place, message, "find the checkpoint as it was written")
        return
    if checkpoint.key not in trusted:
        message = f"the checkpoint was signed by {checkpoint.key}, which is neither your key nor the owner's"
        yield Finding(WARNING, "checkpoint-signer", place, message, "ask that person for their key's fingerprint")
    yield from _log(root, checkpoint)
    yield from _version(root, checkpoint)


def _log(root: Path, checkpoint: Checkpoint) -> Iterator[Finding]:
    path = trail.path_of(root)
    found, number = trail.FIRST_PREV, 0
    for number, digest in enumerate(trail.hashes(path), start=1):
        if number == checkpoint.lines:
            found = digest
            break
    if number < checkpoint.lines:
        message = f"the log has {number} lines, and had {checkpoint.lines} at {checkpoint.time}: its end was cut off"
        yield Finding(DAMAGE, "log-truncated", str(path), message, _COPY)
    elif found != checkpoint.head:
        message = f"the first {checkpoint.lines} lines are not those of {checkpoint.time}: they were written anew"
        yield Finding(DAMAGE, "log-rewritten", str(path), message, _COPY)


def _version(root: Path, checkpoint: Checkpoint) -> Iterator[Finding]:
    try:
        current = kept.current_version(root)
    except MemosError:
        # The audit itself says what is wrong with it.
        return
    place = str(current.path)
    if current.manifest.cube_id != checkpoint.cube_id:
        message = f"this is cube {current.manifest.cube_id}, the checkpoint is of cube {checkpoint.cube_id}"
        yield Finding(DAMAGE, "checkpoint-cube", place, message, "take the checkpoint of this cube")
        return
    if current.number < checkpoint.version:
        message = f"version {current.number} is current, and {checkpoint.version} was at {checkpoint.time}"
        yield Finding(DAMAGE, "version-behind", place, f"{message}: an older state was put back", _COPY)
        return
    yield from _history(root, checkpoint)


def _history(root: Path, checkpoint: Checkpoint) -> Iterator[Finding]:
    """Whether the checkpoint's version, or the one after it, is what it was."""
    for version in kept.versions(root):
        if version.number == checkpoint.version and version.digest != checkpoint.digest:
            message = f"version {version.number} is not the one of {checkpoint.time}: another digest"
            yield Finding(DAMAGE, "version-rewritten", str(version.path), message, _COPY)
            return
        if version.number == checkpoint.version:
            return
        if version.number == checkpoint.version + 1 and version.manifest.parent not in (checkpoint.digest, None):
            message = f"version {version.number} does not follow the version {checkpoint.version} of {checkpoint.time}"
            yield Finding(DAMAGE, "version-rewritten", str(version.path), message, _COPY)
            return
        if version.number == checkpoint.version + 1:
            return
    message = f"version {checkpoint.version} and the one after it were swept; that it led here cannot be shown"
    yield Finding(NOTICE, "version-swept", str(root), message, "keep newer checkpoints, or more versions")
