"""What becomes of memories that two cubes have, and of the rules of the two."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from memos_cli.cube import metadata
from memos_cli.cube.access import Access, Rule
from memos_cli.cube.metadata import Governance
from memos_cli.errors import NotAllowed
from memos_cli.operation.governing import united
from memos_cli.operation.uniting import COLUMNS, United, unite

T0 = datetime(2026, 1, 1, tzinfo=UTC)
T1, T2 = T0 + timedelta(days=1), T0 + timedelta(days=2)


def row(identity: str = "x", **more: Any) -> dict[str, Any]:
    texts = dict.fromkeys(("supersedes", "superseded_by", "superseded_as", "type", "topic", "owner", "read_scope"), "")
    plain = {
        **dict.fromkeys(COLUMNS), **texts, "id": identity, "text": f"Text of {identity}.", "state": "activated",
        "valid_from": T0, "tags": [], "priority": 0, "decay_days": 0, "write_scope": "", "share_scope": "",
        "sensitivity": "internal", "legal_hold": False, "compliance": [], "uses": 0, "heat": 0.0, "updated_at": T0,
    }  # fmt: skip
    return {**plain, **more}


def of(*rows: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["id"]: each for each in rows}


def taken(done: United, first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """The row of `x` as it is in the new cube."""
    return {**(first if "x" in done.first else second), **done.columns.get("x", {})}


def both(first: dict[str, Any], second: dict[str, Any], base: dict[str, Any] | None = None, **more: Any) -> Any:
    done = unite(of(first), of(second), base=of(base) if base else None, **more)
    return taken(done, first, second), done


def test_each_alone_is_taken() -> None:
    done = unite(of(row("a")), of(row("b")))
    assert (done.first, done.second, done.both, done.gone) == (["a"], ["b"], 0, [])


def test_what_one_side_changed_is_taken() -> None:
    base = row(tags=["old", "kept"], topic="t")
    one, other = row(tags=["kept"], topic="t", type="fact", updated_at=T1), row(tags=["old", "kept", "new"], topic="u")
    found, done = both(one, other, base)
    assert (found["type"], found["topic"], found["tags"], done.clashes) == ("fact", "u", ["kept", "new"], [])


def test_what_both_changed_is_told() -> None:
    one, other = row(topic="a", updated_at=T1), row(topic="b", updated_at=T2)
    for base in (row(), None):
        found, done = both(one, other, base)
        assert (found["topic"], [clash.other for clash in done.clashes]) == ("a", ["b"])
        found, done = both(one, other, base, policy="newest")
        assert (found["topic"], done.clashes[0].why) == ("b", "changed later")


def test_what_one_took_out_is_out_unless_the_other_changed_it() -> None:
    assert unite({}, of(row()), base=of(row())).gone == ["x"]
    assert unite(of(row()), {}, base=of(row())).gone == ["x"]
    assert unite(of(row(topic="new")), {}, base=of(row())).first == ["x"]
    assert unite({}, of(row())).second == ["x"]


def test_nothing_is_loosened() -> None:
    key = "ed25519:" + "a" * 32
    one = row(sensitivity="restricted", read_scope=key, expires_at=T2, compliance=["gdpr"], updated_at=T0)
    other = row(sensitivity="public", read_scope="", legal_hold=True, expires_at=T1, updated_at=T1)
    for first, second in ((one, other), (other, one)):
        found, _ = both(first, second, row(sensitivity="restricted"))
        assert (found["sensitivity"], found["read_scope"], found["expires_at"]) == ("restricted", key, T1)
        assert (found["legal_hold"], found["compliance"]) == (True, ["gdpr"])
    found, _ = both(row(share_scope=key), row(share_scope="ed25519:" + "b" * 32))
    assert found["share_scope"] == "owner"


@pytest.mark.parametrize("state", ["forgotten", "frozen"])
def test_what_is_hidden_or_frozen_stays_so(state: str) -> None:
    for first, second in ((row(state=state), row(updated_at=T2)), (row(updated_at=T2), row(state=state))):
        assert both(first, second)[0]["state"] == state


def test_what_one_ended_has_ended() -> None:
    ended = row(state="archived", valid_to=T1, superseded_by="y", updated_at=T1)
    for first, second in ((ended, row()), (row(), ended)):
        found, _ = both(first, second, row())
        assert (found["state"], found["valid_to"], found["superseded_by"]) == ("archived", T1, "y")
    # it was taken back later
    assert both(row(updated_at=T2), ended)[0]["state"] == "activated"


def test_one_memory_in_two_new_wordings_is_a_dispute() -> None:
    def reworded(heir: str) -> dict[str, dict[str, Any]]:
        gone = row(state="archived", valid_to=T1, superseded_by=heir, updated_at=T1)
        return of(gone, row(heir, supersedes="x"))

    (found,) = unite(reworded("y"), reworded("z")).reworded
    assert found.ids == ("y", "z")
    assert unite(reworded("y"), reworded("y")).reworded == []


def cube(**rules: Any) -> metadata.Memcube:
    made = metadata.new("a", governance=Governance(owner="ed25519:" + "c" * 32))
    return replace(made, governance=replace(made.governance, **rules))


def test_the_rules_of_both_hold() -> None:
    one = cube(sensitivity="public", read_scope="anyone", share_scope="anyone", ttl_days=9, compliance=("gdpr",))
    other = cube(sensitivity="restricted", read_scope="owner", share_scope="anyone", legal_hold=True, decay_days=3)
    forbid, permit = Rule("no", "forbid", ("export",)), Rule("yes", "permit", ("query",))
    one = replace(one, access=Access((forbid, permit), {"file": "public"}))
    other = replace(other, access=Access((Rule("no", "forbid", ("pack",)),), {"store": "public"}))
    for first, second in ((one, other), (other, one)):
        made = united(first, second, owner="me", user="u")
        rules = made.governance
        assert (rules.owner, rules.sensitivity, rules.read_scope, rules.share_scope) == (
            "me", "restricted", "owner", "anyone",
        )  # fmt: skip
        assert (rules.ttl_days, rules.decay_days, rules.legal_hold, rules.compliance) == (9, 3, True, ("gdpr",))
        assert made.created == one.created
        assert {rule.verbs for rule in made.access.rules} == {("export",), ("pack",)}
        assert len({rule.name for rule in made.access.rules}) == 2
        assert made.access.maximum["file"] == made.access.maximum["store"] == "public"


def test_copies_for_two_people_are_not_fused() -> None:
    from memos_cli.cube.stamp import Stamp

    stamps = [Stamp(*("x" * number for number, _ in enumerate(Stamp.__dataclass_fields__, 1))) for _ in range(2)]
    one, other = replace(cube(), stamp=stamps[0]), replace(cube(), stamp=replace(stamps[1], recipient="other"))
    with pytest.raises(NotAllowed):
        united(one, other, owner="me", user="u")
    assert united(one, cube(), owner="me", user="u").stamp == united(cube(), one, owner="me", user="u").stamp
