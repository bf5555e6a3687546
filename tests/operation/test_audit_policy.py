"""Rules of a policy file, on a real table: each is kept by a cube that keeps it, and its breach is named."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from memos_cli.cube import metadata
from memos_cli.cube.metadata import Governance, Memcube
from memos_cli.cube.plaintext import Memories
from memos_cli.errors import Damaged, NotFound, Usage
from memos_cli.operation import audit_policy, audit_rules
from memos_cli.operation.findings import NOTICE, WARNING, Finding
from tests.operation.test_audit import NOW, make, row

GOOD = row(0, type="fact", tags=["a"], source="https://example.org/a", owner="team", text="The door is green.")


def opened(tmp_path: Path, *rows: dict[str, Any]) -> tuple[Path, Memcube, Memories]:
    root = make(tmp_path / "a.cube", list(rows))
    return root, metadata.load(root / "current"), Memories.open(root / "current" / "plaintext")


def breaches(opened: tuple[Path, Memcube, Memories], rules: dict[str, Any], **cube: Any) -> list[Finding]:
    root, meta, memories = opened
    found = audit_policy.check(
        root, replace(meta, **cube), memories, audit_rules.parse(rules, where="p.toml"), size_bytes=5_000,
        now=NOW + timedelta(days=10),
    )  # fmt: skip
    return list(found)


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Memcube, Memories]:
    """One memory that keeps every rule, three that break some, and one that is archived and so does not count."""
    bare = row(1, type="", tags=[], source="http://old.example.org", text="Project Bluebird % is secret_ish.")
    return opened(
        tmp_path_factory.mktemp("policy"), GOOD, bare, row(2, sensitivity="restricted", tags=["x"], type="t"),
        row(3, type="", tags=[], state="archived", source="http://x", valid_to=NOW),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("rules", "rule", "memory"),
    [
        ({"require": {"labels": ["type"]}}, "require.labels: has no type", 1),
        ({"require": {"labels": ["tags"]}}, "require.labels: has no tags", 1),
        ({"require": {"labels": ["owner"]}}, "require.labels: has no owner", 1),
        ({"require": {"labels": ["time"]}}, "require.labels: has no time", 0),
        ({"forbid": {"schemes": ["http"]}}, "forbid.schemes: comes from a source by http:", 1),
        ({"forbid": {"schemes": ["https"]}}, "forbid.schemes: comes from a source by https:", 0),
        ({"forbid": {"words": ["project BLUEBIRD"]}}, "forbid.words: says 'project BLUEBIRD'", 1),
        ({"forbid": {"words": ["d %"]}}, "forbid.words", 1),
        ({"limit": {"sensitivity": "confidential"}}, "limit.sensitivity: has a label above confidential", 2),
        ({"limit": {"age_days": 9}}, "limit.age_days: was not touched for more than 9 days", 0),
    ],
)
def test_a_memory_that_breaks_a_rule_is_named(
    cube: tuple[Path, Memcube, Memories], rules: dict[str, Any], rule: str, memory: int
) -> None:
    (finding,) = breaches(cube, rules)
    assert (finding.severity, finding.code) == (WARNING, "policy")
    assert finding.message.startswith(rule)
    assert row(memory)["id"] in finding.place or "such, this one first" in finding.message
    assert finding.remedy


@pytest.mark.parametrize(
    "rules",
    [
        {"require": {"labels": ["source"]}}, {"forbid": {"schemes": ["ftp", "htt"]}}, {"limit": {"age_days": 11}},
        {"forbid": {"words": ["bluebirds", "d_%", "secretXish"]}}, {"limit": {"memories": 4, "bytes": 5000}},
        {"forbid": {"words": ["it's", "\\", "');--"]}}, {"limit": {"sensitivity": "restricted"}},
        {"require": {"licence": [], "labels": []}, "forbid": {"pii": False, "secrets": True}}, {},
    ],
)  # fmt: skip
def test_rules_that_are_kept_find_nothing(cube: tuple[Path, Memcube, Memories], rules: dict[str, Any]) -> None:
    assert breaches(cube, rules) == []


@pytest.mark.parametrize(
    ("rules", "broken", "kept"),
    [
        ({"require": {"licence": ["CC-BY-4.0", "MIT"]}}, {"licence": "GPL-3.0"}, {"licence": "MIT"}),
        ({"require": {"description": True}}, {}, {"description": "notes"}),
        ({"require": {"compliance": ["gdpr"]}}, {}, {"governance": Governance("k", compliance=("gdpr",))}),
        ({"require": {"ttl": True}}, {}, {"governance": Governance("k", ttl_days=3)}),
        ({"forbid": {"share_scopes": ["anyone"]}}, {"governance": Governance("k", share_scope="anyone")}, {}),
        ({"limit": {"sensitivity": "restricted"}}, None, {"governance": Governance("k", sensitivity="restricted")}),
    ],
)
def test_rules_about_the_cube_as_a_whole(
    cube: tuple[Path, Memcube, Memories], rules: dict[str, Any], broken: dict[str, Any] | None, kept: dict[str, Any]
) -> None:
    assert breaches(cube, rules, **kept) == []
    if broken is not None:
        (finding,) = breaches(cube, rules, **broken)
        assert finding.place == str(cube[0])


@pytest.mark.parametrize("rules", [{"limit": {"memories": 3}}, {"limit": {"bytes": 4999}}])
def test_a_cube_that_is_too_large_is_found(cube: tuple[Path, Memcube, Memories], rules: dict[str, Any]) -> None:
    (finding,) = breaches(cube, rules)
    assert "expected at most" in finding.message


def test_a_cube_above_the_highest_label_is_found(cube: tuple[Path, Memcube, Memories]) -> None:
    found = breaches(cube, {"limit": {"sensitivity": "public"}})
    assert [finding.place for finding in found][0] == str(cube[0])
    assert len(found) == 2


@pytest.mark.parametrize(
    "table",
    [
        {"requires": {}}, {"require": []}, {"require": {"license": ["MIT"]}}, {"require": {"licence": "MIT"}},
        {"require": {"labels": ["colour"]}}, {"require": {"ttl": 1}}, {"forbid": {"schemes": ["ht tp"]}},
        {"forbid": {"pii": ["names"]}}, {"forbid": {"words": [""]}}, {"forbid": {"secrets": "yes"}},
        {"limit": {"sensitivity": "secret"}}, {"limit": {"age_days": 0}}, {"limit": {"bytes": True}},
    ],
)  # fmt: skip
def test_a_rule_that_is_off_is_refused_by_name(table: dict[str, Any]) -> None:
    with pytest.raises(Usage, match=r"p\.toml"):
        audit_rules.parse(table, where="p.toml")


def test_a_file_of_rules_is_read(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text('[forbid]\npii = true\nschemes = ["http"]\n[limit]\nage_days = 365\n')
    rules = audit_rules.load(path)
    assert (rules.pii, rules.schemes, rules.age_days) == (audit_rules.PII_KINDS, ("http",), 365)
    path.write_text("[forbid")
    with pytest.raises(Damaged):
        audit_rules.load(path)
    with pytest.raises(NotFound):
        audit_rules.load(tmp_path / "none.toml")


def test_what_outlived_its_time_or_is_held_and_hidden_is_told(tmp_path: Path) -> None:
    past = datetime(2025, 1, 1, tzinfo=UTC)
    root, _, memories = opened(
        tmp_path, row(0, expires_at=past), row(1, expires_at=NOW + timedelta(days=1)),
        row(2, legal_hold=True, state="forgotten"), row(3, legal_hold=True),
    )  # fmt: skip
    found = list(audit_policy.lifecycle(root, memories, now=NOW))
    assert [(one.severity, one.code) for one in found] == [(NOTICE, "expired"), (WARNING, "hold")]
    assert row(0)["id"] in found[0].message
    assert row(2)["id"] in found[1].message
