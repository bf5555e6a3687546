"""What an audit says: findings, and how much it looked at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from memos_cli.operation.memory_tests import Missed, Scored

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
    """What was found (the worst first), and how much was looked at; `bytes` are those that were hashed.

    `tests` and `missed` are of memory tests, `report` and `baseline` where a page and a baseline were written.
    """

    findings: tuple[Finding, ...]
    versions: int
    files: int
    rows: int
    log_lines: int
    bytes: int
    deep: bool
    tests: tuple[Scored, ...] = ()
    missed: tuple[Missed, ...] = ()
    report: str = ""
    baseline: str = ""

    def with_more(self, findings: Iterable[Finding]) -> Audit:
        """The same with more findings, the worst first."""
        every = [*self.findings, *findings]
        return replace(self, findings=tuple(sorted(every, key=lambda one: SEVERITIES.index(one.severity))))

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
    ahead: Mapping[tuple[int, int], str] = field(default_factory=dict)  # those that somebody else computed
