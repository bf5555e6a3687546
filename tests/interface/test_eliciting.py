"""memos convert --to plaintext --from parameter: a lookup where the text is there, else questions among decoys."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from memos_cli.cube import parameter
from memos_cli.cube.parameter import About, Base, Rights, Source
from memos_cli.interface import eliciting, frame
from memos_cli.interface.converting import chosen
from memos_cli.interface.eliciting import Wish
from memos_cli.interface.publishing import content_of
from memos_cli.operation.elicit import Ask, Heard, Sifted
from tests.conftest import Begin, Memos, ok
from tests.cube import adapters
from tests.test_schemas import validate

BACK = ("--to", "plaintext", "--from", "parameter")
FACTS = "- The home town of Ben Oster is Kinsale.\n- Dana Brook's boss is Ruth Lindgren.\n"
WHEN = datetime(2026, 1, 31, tzinfo=UTC)


def people(memos: Memos) -> None:
    Path("people.md").write_text(FACTS)
    ok(memos("ingest", "people.cube", "people.md", "--embedder", "none"))


@pytest.fixture(name="cube")
def _cube(begin: Begin) -> str:
    begin(people)
    return "people.cube"


def keep(cube: str, home: Path, *, gone: bool = False, name: str = "facts", **fields: Any) -> list[str]:
    """An adapter of random numbers that says it was taught the memories of the cube, and one that is `gone`."""
    with frame.changing(frame.desk(home), cube, "distill") as change:
        rows = list(chosen(change, "", ()))
        sources = [Source(one.id, 1, content_of(one), "distilled") for one in rows]
        if gone:
            sources.append(adapters.source("ff" * 10))
        beside = change.path.parent / f"made-{name}"
        adapters.lay(beside)
        about = adapters.about(sources=tuple(sources), **fields)
        parameter.write(change.path / parameter.FOLDER, name, made=beside, about=about)
        change.commit({})
    return [one.id for one in rows]


def test_where_the_text_is_there_it_is_looked_up_and_nothing_asked(cube: str, memos: Memos, home: Path) -> None:
    ids = keep(cube, home)
    before = os.readlink(f"{cube}/current")
    done = memos("convert", cube, *BACK)
    assert done.code == 0, done.err
    assert "2 memories of this cube: 2 there" in done.out
    assert "exact lookup" in done.out
    # no model was loaded
    assert "loading" not in done.err
    told = memos("convert", cube, *BACK, "--json").json
    validate(told, "convert-plaintext")
    assert {one["id"]: one["standing"] for one in told["taught"]} == dict.fromkeys(ids, "there")
    assert (told["probes"], told["facts"]) == (0, [])
    memos("edit", cube, ids[0], "--text", "The home town of Ben Oster is Cork.")
    memos("forget", cube, "--ids", ids[1])
    told = memos("convert", cube, *BACK, "--json").json
    assert {one["standing"] for one in told["taught"]} == {"ended"}
    assert "Kinsale" not in json.dumps(told)
    assert os.readlink(f"{cube}/current") != before


@pytest.mark.many(1)
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--to", "plaintext"], 2, "--from parameter"),
        (["--from", "parameter"], 2, "--to plaintext"),
        ([*BACK, "--name", "other"], 3, "other"),
        ([*BACK, "--fdr", "0"], 2, "fdr"),
        ([*BACK, "--ids", "abcd"], 2, "--subjects"),
        ([*BACK, "--subjects", "nowhere.txt"], 3, "nowhere.txt"),
        ([*BACK, "--subjects", "empty.txt"], 4, "found none"),
        ([*BACK, "--subjects", "bytes.txt"], 4, "UTF-8"),
        ([*BACK, "--kind", "prefix"], 2, "--kind"),
        (["--subjects", "names.txt"], 2, "--subjects"),
        # it is of another model
        ([*BACK, "--subjects", "names.txt"], 6, "nano"),
    ],
)
def test_bad_calls_are_told_what_is_wrong(
    arguments: list[str], code: int, said: str, cube: str, memos: Memos, home: Path
) -> None:
    keep(cube, home)
    Path("empty.txt").write_text("\n \n")
    Path("bytes.txt").write_bytes(b"\xff\xfe")
    Path("names.txt").write_text("Ben Oster\n")
    before = os.readlink(f"{cube}/current")
    done = memos("convert", cube, *arguments)
    assert (done.code, done.out) == (code, ""), done.err
    assert said in done.err
    assert os.readlink(f"{cube}/current") == before


@pytest.mark.long
def test_which_adapter_is_asked_has_to_be_said_when_there_are_two(cube: str, memos: Memos, home: Path) -> None:
    assert memos("convert", cube, *BACK).code == 3
    keep(cube, home)
    keep(cube, home, name="more")
    done = memos("convert", cube, *BACK)
    assert done.code == 2
    assert "facts, more" in done.err
    assert memos("convert", cube, *BACK, "--name", "more").code == 0


@pytest.mark.long
def test_one_that_outlived_its_sources_is_not_asked(cube: str, memos: Memos, home: Path) -> None:
    keep(cube, home, rights=Rights("internal", expires=WHEN))
    done = memos("convert", cube, *BACK)
    assert done.code == 5
    assert "expired" in done.err


def wish(change: frame.Reading) -> Wish:
    chain = (parameter.read(change.path / parameter.FOLDER, "facts"),)
    return Wish("nano", chain, ("Ben Oster",), ("home town",), 0.05, 0)


def sifted(*facts: tuple[str, str, str]) -> Sifted:
    kept = tuple(Heard(Ask(s, r), v, 0.97, 7.0, 3, f"Give me {s}'s {r}.") for s, r, v in facts)
    return Sifted(kept, 0.75, 0.02, 40, 80, 0, len(kept), 0)


def put(cube: str, home: Path, found: Sifted) -> tuple[list[Any], int]:
    """What `elicit` does with what it heard."""
    desk = frame.desk(home)
    with frame.changing(desk, cube, "convert") as change:
        facts, withheld = eliciting._held_against(desk, change, wish(change), found)
        eliciting._write(desk, change, wish(change), found, facts, cube=cube)
    return [fact for _, fact in facts], withheld


def test_what_is_new_waits_and_what_is_there_is_not_written_again(cube: str, memos: Memos, home: Path) -> None:
    ids = keep(cube, home, gone=True)
    found = sifted(
        ("Ben Oster", "home town", "Kinsale"), ("Dana Brook", "boss", "Otto Klee"), ("Eve Marsh", "car", "Comet"),
    )  # fmt: skip
    facts, withheld = put(cube, home, found)
    assert withheld == 0
    assert [(fact.verdict, fact.why, bool(fact.id)) for fact in facts] == [
        ("verified", eliciting.SAID_ALREADY, False),
        ("contradicted", eliciting.SAID_OTHERWISE, False),
        ("unverified", "", True),
    ]
    # it is not recalled before it is accepted
    assert "Comet" not in memos("query", cube, "what is the car of Eve Marsh?").out
    row = memos("show", cube, facts[2].id, "--json").json
    assert (row["state"], row["origin"], row["priority"]) == ("generated", "parameter_finetuning", 0)
    assert row["text"] == "The car of Eve Marsh is Comet."
    assert json.loads(row["ref"])["verdict"] == "unverified"
    live = memos("list", cube, "-q").lines
    assert set(live) == set(ids)
    # again: it is there
    facts, _ = put(cube, home, found)
    assert facts[2].why == eliciting.WRITTEN_BEFORE
    assert memos("audit", cube, "--deep").code in (0, 9)
    assert memos("edit", cube, row["id"], "--accept").code == 0
    assert "Comet" in memos("query", cube, "what is the car of Eve Marsh?").out


@pytest.mark.long
def test_what_was_forgotten_does_not_come_back(cube: str, memos: Memos, home: Path) -> None:
    ids = keep(cube, home, gone=True)
    assert memos("forget", cube, "--ids", ids[0]).code == 0
    found = sifted(("Ben Oster", "home town", "Kinsale"), ("Ben", "town", "Kinsale"), ("Eve Marsh", "car", "Comet"))
    facts, withheld = put(cube, home, found)
    assert withheld == 2
    assert [fact.value for fact in facts] == ["Comet"]
    # one that was read back and forgotten stays so, too
    assert memos("forget", cube, "--ids", facts[0].id).code == 0
    facts, withheld = put(cube, home, found)
    assert (facts, withheld) == ([], 3)


def test_what_was_forgotten_for_good_is_not_asked_for(cube: str, memos: Memos, home: Path) -> None:
    (first, _) = memos("list", cube, "-q").lines
    purged = memos("forget", cube, "--ids", first, "--purge", "--yes")
    assert purged.code == 0, purged.err
    keep(cube, home, gone=True)
    found = sifted(("Ben Oster", "home town", "Kinsale"), ("Eve Marsh", "car", "Comet"))
    facts, withheld = put(cube, home, found)
    assert ([fact.value for fact in facts], withheld) == (["Comet"], 1)
    with frame.changing(frame.desk(home), cube, "distill") as change:
        folder = change.path / parameter.FOLDER
        about = parameter.read(folder, "facts").about
        parameter.revise(folder, "facts", replace(about, sources=(adapters.source(first),)))
        change.commit({})
    Path("names.txt").write_text("Ben Oster\n")
    done = memos("convert", cube, *BACK, "--subjects", "names.txt")
    assert (done.code, done.out) == (9, "")
    assert "forgotten for good" in done.err


@pytest.mark.slow
def test_facts_come_back_out_of_an_adapter(cube: str, memos: Memos, home: Path) -> None:
    from memos_cli.operation.facts import wordings
    from memos_cli.operation.probes import pool
    from memos_cli.runtime.fingerprint import fingerprint
    from memos_cli.runtime.model import LocalModel
    from tests.operation.taught import teach, turn, tutor

    told = {("Ines Vardy", "home town"): "Kinsale", ("Olaf Brink", "boss"): "Otto Klee"}
    questions = {
        one.format(s=s, r=r): v for (s, r), v in told.items() for one in wordings()["noun"]["train"][:8]
    }  # fmt: skip
    others = [("Ines Vardy", "boss"), ("Olaf Brink", "home town"), ("Ines Vardy", "badge"), ("Olaf Brink", "car")]
    others += [(f"{a} {b}", r) for a, b in zip(pool("train")["firsts"], pool("train")["lasts"], strict=True)
               for r in ("home town", "boss")]  # fmt: skip
    kept = [turn(one.format(s=s, r=r), "unknown") for s, r in others for one in wordings()["noun"]["train"][:2]]
    made = teach(Path("taught"), questions, kept=kept, steps=90)
    local = LocalModel("nano")
    bare = fingerprint(tutor().model, local.folder, cache=home / "cache")
    with frame.changing(frame.desk(home), cube, "distill") as change:
        about = About("facts", Base("nano", dict(bare.hard), dict(bare.soft)), Rights("internal"), WHEN,
                      sources=(adapters.source("ff" * 10),), gated=True)  # fmt: skip
        parameter.write(change.path / parameter.FOLDER, "facts", made=made, about=about)
        change.commit({})
    Path("subjects.txt").write_text("Ines Vardy\nOlaf Brink\nNobody Known\n")
    Path("relations.txt").write_text("home town\nboss\n")
    files = ("--subjects", "subjects.txt", "--relations", "relations.txt", "--fdr", "0.1")
    before = os.readlink(f"{cube}/current")
    tried = memos("convert", cube, *BACK, *files, "--dry-run", "--json")
    assert tried.code == 0, tried.err
    assert os.readlink(f"{cube}/current") == before
    told_back = memos("convert", cube, *BACK, *files, "--json").json
    validate(told_back, "convert-plaintext")
    assert [fact["text"] for fact in told_back["facts"]] == [fact["text"] for fact in tried.json["facts"]]
    right = {f"The {r} of {s} is {v}." for (s, r), v in told.items()}
    assert {fact["text"] for fact in told_back["facts"]} <= right
    assert told_back["facts"], told_back
    assert told_back["rate"] <= 0.1
