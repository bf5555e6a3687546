"""Named points at which a test can make the program fail: MEMOS_FAULT="<point>:<kind>[:<nth hit>[+]]".

Kinds: `kill` (SIGKILL, no clean-up runs), `enospc` and `eio` (OSError as the system would raise it),
`delay` (half a second, so that a second process can step in). With `+` all hits
from the nth on fail, as of a disk that stays full. Unset, a point costs one look-up.
"""

from __future__ import annotations

import errno
import os

from memos_cli.errors import Usage

VARIABLE = "MEMOS_FAULT"
DELAY_SECONDS = 0.5

COMMIT_POINTS = (
    "locked",
    "recovered",
    "cloned",
    "write_half",
    "write_rename",
    "sealing",
    "sealed",
    "manifest_written",
    "dirs_synced",
    "published",
    "versions_synced",
    "pointer_written",
    "committed",
    "root_synced",
)
CREATE_POINTS = ("create_marked",)
CHECKPOINT_POINTS = ("checkpoint_synced", "checkpoint_cloned", "checkpoint_marked", "checkpoint_swapped")
SWEEP_POINTS = ("sweep_before", "sweep_moved", "sweep_removed")
DROP_POINTS = ("dropping", "dropped")
TAG_POINTS = ("tag_written", "tag_moved")
TRAIL_POINTS = ("trail_half", "trail_written")
ROTATE_POINTS = ("trail_rotated",)
REPAIR_POINTS = ("repair_linked", "repair_aside", "repair_moved", "repair_pointed")
ARRIVAL_POINTS = ("arriving", "arrived")
# Points that live in operations, above the vault.
OPERATION_POINTS = ("ingest_batch", "ingest_asked", "converted", "purged", "released", "moved")

VAULT_POINTS = COMMIT_POINTS + CREATE_POINTS + CHECKPOINT_POINTS + SWEEP_POINTS + TAG_POINTS + REPAIR_POINTS
POINTS = VAULT_POINTS + DROP_POINTS + TRAIL_POINTS + ROTATE_POINTS + ARRIVAL_POINTS + OPERATION_POINTS
KINDS = ("kill", "enospc", "eio", "delay")

_hits: dict[str, int] = {}


def point(name: str) -> None:
    """Fail here when MEMOS_FAULT names this point; raises OSError, or Usage for a fault that does not exist."""
    if os.environ.get(VARIABLE):
        _fire(name)


def reset() -> None:
    """Count hits from nothing again, for tests that inject several faults in one process."""
    _hits.clear()


def _fire(name: str) -> None:
    wanted, kind, nth, onwards = _parse(os.environ[VARIABLE])
    if wanted != name:
        return
    _hits[name] = _hits.get(name, 0) + 1
    if _hits[name] == nth or onwards and _hits[name] > nth:
        _fail(name, kind)


def _parse(text: str) -> tuple[str, str, int, bool]:
    wanted, _, rest = text.partition(":")
    kind, _, nth = rest.partition(":")
    number = nth.removesuffix("+") or "1"
    if wanted not in POINTS or kind not in KINDS or not number.isdecimal():
        raise Usage(f"{VARIABLE}: expected <point>:<{'|'.join(KINDS)}>[:<nth>[+]], found {text!r}")
    return wanted, kind, int(number), nth.endswith("+")


def _fail(name: str, kind: str) -> None:
    # Imported here, since no run but a test's comes this far.
    import signal
    import time

    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind == "delay":
        time.sleep(DELAY_SECONDS)
    else:
        code = errno.ENOSPC if kind == "enospc" else errno.EIO
        raise OSError(code, f"{os.strerror(code)} (injected at {name})")
