"""What an audit says: findings, and how much it looked at."""

from __future__ import annotations

from dataclasses import dataclass, field

DAMAGE, WARNING, NOTICE = "damage", "warning", "notice"
# The worst first.
SEVERITIES = (DAMAGE, WARNING, NOTICE)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be: damage, warning or notice; where; in words; and what to do."""

    severity: str
    code: str
    place: str
    message: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Audit:
    """What was found (the worst first), and how much was looked at; `bytes` are those that were hashed."""

    findings: tuple[Finding, ...]
    versions: int
    files: int
    rows: int
    log_lines: int
    bytes: int
    deep: bool

    @property
    def damaged(self) -> bool:
        """Whether anything found is damage, rather than a warning or a notice."""
        return any(finding.severity == DAMAGE for finding in self.findings)


@dataclass(slots=True)
class Counts:
    """What has been looked at so far, and the hashes of files that several versions share."""

    files: int = 0
    rows: int = 0
    log_lines: int = 0
    bytes: int = 0
    hashes: dict[tuple[int, int], str] = field(default_factory=dict)
