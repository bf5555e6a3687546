"""Policies and the bonus of a topic on cubes as `memos ingest` makes them, with vectors and logged use."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from memos_cli.cube import activation
from memos_cli.infrastructure import trail
from memos_cli.interface import api
from memos_cli.interface.planned import Planned
from tests.conftest import Memos, Start
from tests.interface import used
from tests.runtime.decoders import save_parrot

NOTES = """# Notes

- The cat sleeps on the sofa in the front room, from noon until somebody opens a tin.
- Kittens play with a ball of wool and bite the tail of their mother.
- The tax return is due in May, and the papers for it lie in the blue folder.
"""
ASKED = {"cat": "where does the cat sleep?", "kittens": "what do kittens play with?", "tax": "when is the tax due?"}


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Start:
    """Three memories with vectors, and a tiny model."""

    def build(memos: Memos) -> None:
        Path("a.md").write_text(NOTES)
        assert memos("ingest", "a.cube", "a.md").code == 0
        save_parrot(Path(used.MODEL), "idea")
        used.keep_costs(cache, model=used.MODEL)

    return Start.make(tmp_path_factory.mktemp("policies"), cache, build)


@pytest.fixture
def named(start: Start, home: Path, work: Path) -> dict[str, str]:
    """Each memory's name by its id."""
    start.copy(home, work)
    ids = {one.text: one.id for one in api.memories("a.cube")}
    return {next(ids[text] for text in ids if name in text.casefold()): name for name in ASKED}


def promoted(plan: Planned, named: dict[str, str]) -> set[str]:
    return {named[item.id] for move in plan.moves if move.kind == "promote" for item in move.items}


def held(named: dict[str, str]) -> set[str]:
    return {named[activation.memory_of(path)] for path in activation.find(Path("a.cube/current/activation"))}


def test_semantic_takes_what_is_near_to_what_is_asked_about(named: dict[str, str]) -> None:
    used.ask(1, ASKED["tax"], ASKED["kittens"])
    used.ask(10, ASKED["cat"])
    plan = used.plan(policy="semantic")
    assert promoted(plan, named) == {"cat", "kittens"}
    told = {named[item.id]: item.reason for move in plan.moves for item in move.items}
    assert all("similarity to recent questions" in why and "wanted from 0.6" in why for why in told.values())
    used.carry_out(plan)
    assert held(named) == {"cat", "kittens"}
    assert used.plan(policy="semantic").moves == ()
    # when something else is asked about, what is near to that comes, and what is far from it goes
    used.ask(200, ASKED["tax"])
    after = used.plan(policy="semantic")
    assert promoted(after, named) == {"tax"}


class _Before(datetime):
    """A clock that is thirty days slow."""

    @classmethod
    def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
        return datetime.now(UTC) - timedelta(days=30)


@pytest.mark.long
def test_decay_forgets_old_use_and_lfu_does_not(named: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as slow:
        slow.setattr(trail, "datetime", _Before)
        used.ask(20, ASKED["tax"])
    used.ask(3, ASKED["cat"])
    assert promoted(used.plan(policy="decay"), named) == {"cat"}
    assert promoted(used.plan(policy="lfu"), named) == {"cat", "tax"}
    (tax,) = [one for one, name in named.items() if name == "tax"]
    steps = {step.name: step.value for step in api.explain("a.cube", tax, model=used.MODEL, policy="decay").steps}
    # twenty uses, each halved four times and a little more
    assert steps["heat"] == pytest.approx(20 * 0.5 ** (30 / 7), rel=0.01)
    room = max(item.bytes for move in used.plan(policy="lfu").moves for item in move.items)
    assert promoted(used.plan(policy="lfu", budget_bytes=room), named) == {"tax"}
    assert promoted(used.plan(policy="decay", budget_bytes=room), named) == {"cat"}


def test_a_topic_that_is_named_raises_what_was_taken_in_under_it(work: Path, home: Path, memos: Memos) -> None:
    for topic, room in (("house/garden", "shed"), ("house/kitchen", "pantry")):
        Path(f"{room}.md").write_text(f"- The key of the {room} hangs behind the door.\n")
        assert memos("ingest", "t.cube", f"{room}.md", "--topic", topic).code == 0
    for topic in ("garden", "kitchen"):
        told = memos("query", "t.cube", f"{topic}: where does the key hang?", "--explain", "--json").json
        assert told["prompt"]["topic"] == f"house/{topic}"
        shares = {one["id"]: one["signals"].get("topic", 0) for one in told["candidates"]}
        named = {"garden" if "shed" in one.text else "kitchen": shares[one.id] for one in api.memories("t.cube")}
        assert named == {"garden": 0, "kitchen": 0, topic: pytest.approx(0.5)}
