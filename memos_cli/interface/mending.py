"""The verb doctor of the Memory API: what is wrong with a cube, and putting right what can be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from memos_cli.infrastructure import repair as repairs
from memos_cli.infrastructure.locks import TIMEOUT_SECONDS
from memos_cli.infrastructure.repair import Repair
from memos_cli.interface import frame
from memos_cli.operation.findings import DAMAGE, Finding

# What the trail calls it when something is put right, and governance a write.
REPAIR = "repair"


@dataclass(frozen=True, slots=True)
class Treated:
    """What a doctor did, or without `repaired` could do, and what a deep audit finds now."""

    cube: str
    repaired: bool
    repairs: tuple[Repair, ...]
    findings: tuple[Finding, ...]

    @property
    def damaged(self) -> bool:
        """Whether an audit finds damage now."""
        return any(finding.severity == DAMAGE for finding in self.findings)


def doctor(
    cube: str | Path,
    *,
    repair: bool = False,
    dry_run: bool = False,
    lock_timeout: float = TIMEOUT_SECONDS,
    home: Path | None = None,
    notify: frame.Notify | None = None,
) -> Treated:
    """Audits a cube byte by byte, with `repair` after putting right what can be; `dry_run` only says what that is.

    Raises NotFound, NotAllowed, Locked, and Damaged when no version of the cube is left.
    """
    from memos_cli.operation import audit

    desk = frame.desk(home, notify)
    acting = repair and not dry_run
    with frame.mending(desk, cube, REPAIR if repair else "doctor") as seen:
        if dry_run:
            seen.facts["dry_run"] = True
        found = repairs.repair(seen.root, lock_timeout=lock_timeout) if acting else repairs.plan(seen.root)
        seen.facts["repairs"] = len(found)
        findings = audit.audit(seen.root, deep=True).findings
        return Treated(cube=str(cube), repaired=acting, repairs=found, findings=findings)
