"""The matrix: every verb, by every actor, of every scope and label, against the tables of docs/reference/access.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path

import pytest

from memos_cli import cli
from memos_cli.cube import access, metadata, scopes
from memos_cli.cube.access import Access, Rule
from memos_cli.cube.metadata import Governance, Memcube, Plaintext
from memos_cli.errors import Damaged, NotAllowed, Usage
from memos_cli.infrastructure import governance
from memos_cli.infrastructure.governance import VERBS, decide, may_leave, sight
from memos_cli.infrastructure.identity import Actor
from tests.cube.rows import make_table, turn
from tests.interface.test_frame import WITHOUT_A_CUBE

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "access.md"
KEYS = {
    name: f"ed25519:{digit * 32}" for name, digit in {"owner": "a", "friend": "b", "stranger": "c", "foe": "d"}.items()
}
ACTORS = {name: Actor(key, name) for name, key in KEYS.items()}
KINDS = ("read", "write", "share")
PLAIN = {
    "id": "1",
    "owner": "",
    "sensitivity": "",
    "read_scope": "",
    "write_scope": "",
    "share_scope": "",
    "expires_at": None,
}


def table(heading: str) -> list[dict[str, str]]:
    """The rows of the first table under a heading of the page, by the names of its columns."""
    part = PAGE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if not set(line) <= set("|-")]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[1:]]


def words(cell: str) -> str:
    """A scope as the page has it, with keys in the place of names."""
    return " ".join(
        "!" * word.startswith("!") + KEYS.get(word.removeprefix("!"), word.removeprefix("!"))
        if word.removeprefix("!") in ("friend", "foe")
        else word
        for word in cell.strip("`").split()
    )


def cube(level: str = "internal", **settings: object) -> Memcube:
    rules = Governance(owner=KEYS["owner"], sensitivity=level, **settings)  # type: ignore[arg-type]
    return metadata.new("team", governance=rules)


def scoped(cube_scope: str) -> Memcube:
    return cube(read_scope=cube_scope, write_scope=cube_scope, share_scope=cube_scope)


def test_the_page_has_every_command_and_every_verb() -> None:
    rows = table("Verbs")
    commands = {name.split()[0] for row in rows for name in re.findall(r"`([a-z][^`]*)`", row["command"])}
    assert commands | WITHOUT_A_CUBE == set(cli.COMMANDS)
    assert {row["verb"].strip("`"): row["kind"] for row in rows} == VERBS


def test_the_page_has_every_destination() -> None:
    assert {row["destination"].strip("`") for row in table("Labels and destinations")} == set(access.DESTINATIONS)


def cases() -> Iterator[tuple[str, str, dict[str, bool]]]:
    for row in table("Scopes"):
        yield (
            words(row["scope of the cube"]),
            words(row["of the memory"]),
            {name: row[name] == "yes" for name in ACTORS},
        )


def test_every_verb_for_every_actor_scope_and_label() -> None:
    labels = {row["destination"].strip("`"): row for row in table("Labels and destinations")}
    checked = 0
    for (cube_scope, memory_scope, may), level, (verb, kind) in product(cases(), scopes.SENSITIVITIES, VERBS.items()):
        meta = scoped(cube_scope)
        row = {**PLAIN, "sensitivity": level, **{f"{name}_scope": memory_scope for name in KINDS}}
        for (name, actor), to in product(ACTORS.items(), access.DESTINATIONS if kind == "share" else ["here"]):
            leaves = labels[to][f"`{level}`"] == "yes"
            expected = (name == "owner" if kind == "govern" else may[name]) and leaves
            allowed = decide(actor, verb, meta).allowed
            found = allowed and sight(actor, verb, meta, to=to).why(row) is None
            assert found == expected, (name, verb, cube_scope, memory_scope, level, to)
            checked += 1
    assert checked > 8_000


def test_each_kind_has_a_scope_of_its_own() -> None:
    for kind in KINDS:
        settings = {f"{each}_scope": "anyone" if each == kind else "owner" for each in KINDS}
        meta = cube(**settings)
        for verb, each in VERBS.items():
            assert decide(ACTORS["stranger"], verb, meta).allowed == (each == kind), (verb, kind)


def test_who_may_not_read_may_not_write_or_share() -> None:
    meta = scoped("anyone")
    row = {**PLAIN, "read_scope": "owner"}
    for verb in ("edit", "export"):
        assert sight(ACTORS["stranger"], verb, meta, to="file").why(row) == "its read_scope does not name this key"


def test_what_the_program_says_in_sql_it_says_in_python(tmp_path: Path) -> None:
    """Every scope, label and rule of the matrix over one table: both ways of asking give the same rows."""
    texts = ["", "owner", "anyone", KEYS["friend"], words("anyone !foe"), words("friend foe"), "nonsense", "anyone x"]
    levels = ["", "public", "confidential", "restricted", "odd"]
    rows = [
        turn(number, "Ann", f"row {number}", read_scope=scope, share_scope=other, sensitivity=level, owner=owner)
        for number, (scope, other, level, owner) in enumerate(
            product(texts, ["", "owner", words("anyone !foe")], levels, ["", "hr"])
        )
    ]
    memories = make_table(tmp_path / "plaintext", rows, indexed=False)
    rules = (
        Rule("hr-stays", "forbid", ("share",), owners=("hr",)),
        Rule("no-secrets", "forbid", ("read",), who=(KEYS["stranger"],), at_least="confidential"),
        Rule("public-for-foes", "permit", ("any",), who=(KEYS["foe"],), at_most="public"),
    )
    for level, cube_scope, given, to in product(
        ("internal", "restricted"), ("owner", "anyone", words("friend")), ((), rules), ("here", "file")
    ):
        meta = replace(cube(level, read_scope=cube_scope, share_scope=cube_scope), access=Access(given))
        for actor, verb in product(ACTORS.values(), ("query", "export")):
            seen = sight(actor, verb, meta, to=to)
            there = set(memories.narrowed(seen.condition).rows(columns=["id"])["id"].to_pylist())
            assert there == {row["id"] for row in rows if seen.why({**PLAIN, **row}) is None}, (seen.condition, actor)


def test_a_forbid_beats_a_permit_and_says_its_name() -> None:
    permit = Rule("all-welcome", "permit", ("any",))
    forbid = Rule("not-you", "forbid", ("export",), who=(KEYS["friend"],))
    meta = replace(scoped("anyone"), access=Access((forbid, permit)))
    decision = decide(ACTORS["friend"], "export", meta)
    assert (decision.allowed, "not-you" in decision.rule) == (False, True)
    assert decide(ACTORS["stranger"], "export", meta).allowed
    everybody = replace(meta, access=Access((Rule("closed", "forbid", ("export",)), permit)))
    assert "closed" in decide(ACTORS["owner"], "export", everybody).rule


def test_a_rule_permits_what_no_scope_does() -> None:
    rule = Rule("friends-see-public", "permit", ("read",), who=(KEYS["friend"],), at_most="public")
    meta = replace(scoped("owner"), access=Access((rule,)))
    assert decide(ACTORS["friend"], "query", meta).allowed
    assert not decide(ACTORS["stranger"], "query", meta).allowed
    assert not decide(ACTORS["friend"], "edit", meta).allowed
    seen = sight(ACTORS["friend"], "query", meta)
    assert [seen.why({**PLAIN, "sensitivity": level}) is None for level in ("public", "internal", "")] == [
        True,
        False,
        False,
    ]


def test_a_policy_of_ones_own_only_narrows() -> None:
    mine = Access((Rule("everything", "permit", ("any",)),))
    assert not decide(ACTORS["stranger"], "query", scoped("owner"), policy=mine).allowed
    closed = Access(default="deny")
    assert not decide(ACTORS["owner"], "query", scoped("anyone"), policy=closed).allowed
    reader = Access((Rule("read", "permit", ("read",), cubes=("team",)),), default="deny")
    assert decide(ACTORS["stranger"], "query", scoped("anyone"), policy=reader).allowed
    assert not decide(ACTORS["stranger"], "edit", scoped("anyone"), policy=reader).allowed
    other = replace(scoped("anyone"), name="other")
    assert not decide(ACTORS["stranger"], "query", other, policy=reader).allowed


def test_a_foreign_cube_lowers_a_maximum_and_raises_none() -> None:
    greedy = replace(cube(), access=Access(maximum={"endpoint": "restricted", "file": "public"}))
    assert governance.maximum(greedy, "endpoint") == "internal"
    assert governance.maximum(greedy, "file") == "public"
    mine = Access(maximum={"endpoint": "confidential"})
    assert governance.maximum(greedy, "endpoint", policy=mine) == "confidential"
    assert governance.maximum(cube(), "nowhere") == "public"


def test_the_owner_can_always_change_the_rules() -> None:
    rule = Rule("locked", "forbid", ("any",))
    meta = replace(cube(legal_hold=True, frozen=True), access=Access((rule,)))
    assert decide(ACTORS["owner"], "govern", meta).allowed
    assert not decide(ACTORS["owner"], "edit", meta).allowed
    assert not decide(ACTORS["owner"], "query", meta).allowed
    assert not decide(ACTORS["owner"], "govern", meta, policy=Access((rule,))).allowed


def test_holds_and_freezes_are_forbids() -> None:
    for verb in ("forget", "gc", "rollback"):
        assert not decide(ACTORS["owner"], verb, cube(legal_hold=True)).allowed
    for verb, kind in VERBS.items():
        assert decide(ACTORS["owner"], verb, cube(frozen=True)).allowed == (kind != "write" or verb == "tag"), verb


def test_what_may_leave_is_told_row_by_row_with_the_rule() -> None:
    now = datetime(2030, 1, 1, tzinfo=UTC)
    rows = [
        {**PLAIN, "id": "open"},
        {**PLAIN, "id": "high", "sensitivity": "confidential"},
        {**PLAIN, "id": "over", "expires_at": now - timedelta(days=1)},
        {**PLAIN, "id": "kept", "share_scope": "owner"},
    ]
    found = may_leave(ACTORS["friend"], scoped("anyone"), rows, "file", now=now)
    assert found.allowed == ("open",)
    assert set(found.kept) == {"high", "over", "kept"}
    assert "'internal'" in found.kept["high"]
    with pytest.raises(NotAllowed, match="high.*2 more"):
        governance.insist(found, "file")
    with pytest.raises(NotAllowed, match="share_scope"):
        may_leave(ACTORS["friend"], cube(share_scope="owner"), rows, "file", now=now)


def test_no_labels_of_their_own_cost_no_look_at_the_table() -> None:
    meta = replace(cube("confidential", read_scope="anyone"), plaintext=Plaintext(guarded=0))
    assert sight(ACTORS["stranger"], "query", meta).condition == ""
    assert sight(ACTORS["owner"], "export", meta, to="file").condition == "false"
    assert sight(ACTORS["stranger"], "query", replace(meta, plaintext=Plaintext())).condition


@pytest.mark.parametrize(
    "text",
    ["everybody", "!" + KEYS["foe"], "ed25519:1", "", "owner !anyone", f"{KEYS['foe']}x", "anyone; drop", "a" * 999],
)
def test_a_scope_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Usage):
        scopes.canonical(text)


def test_a_scope_is_written_in_one_way() -> None:
    assert scopes.canonical(f"!{KEYS['foe']}, anyone,anyone") == f"anyone !{KEYS['foe']}"
    assert scopes.is_scope(f"anyone !{KEYS['foe']}")
    assert not scopes.is_scope(f"!{KEYS['foe']} anyone")


@pytest.mark.parametrize(
    ("inner", "outer", "expected"),
    [
        ("owner", "owner", True), ("anyone", "owner", False), ("friend", "anyone", True), ("friend", "friend", True),
        ("anyone", "anyone !foe", False), ("anyone !foe", "anyone !foe", True), ("foe", "anyone !foe", False),
        ("friend foe", "friend", False), ("owner", "friend", True),
    ],
)  # fmt: skip
def test_a_scope_within_another(inner: str, outer: str, expected: bool) -> None:
    assert scopes.within(words(inner), words(outer)) == expected


@pytest.mark.parametrize(
    "change",
    [
        {"effect": "allow"}, {"verbs": []}, {"verbs": ["READ"]}, {"who": ["bob"]}, {"who": ["user:bob"]},
        {"cubes": ["x"]}, {"at_least": "secret"}, {"name": "a b"}, {"wher": "topic=x"}, {"owners": "hr"},
    ],
)  # fmt: skip
def test_a_rule_that_is_not_understood_is_refused(change: dict[str, object]) -> None:
    rule = {"name": "a", "effect": "forbid", "verbs": ["read"], **change}
    with pytest.raises(Damaged):
        access.read({"rules": [rule]}, where="access", local=False)


def test_rules_are_kept_as_they_are_written() -> None:
    rules = (Rule("a", "forbid", ("share",), owners=("hr",), at_least="internal"), Rule("b", "permit", ("any",)))
    given = Access(rules, {"file": "public"})
    meta = replace(cube(), access=given)
    table = access.as_table(given)
    assert access.read(table, where="x", local=False) == given
    assert "[[access.rules]]" in metadata.dumps(meta).decode()
