"""Adapters made one, taken in, given out and removed, from the command line, on the default model."""

from __future__ import annotations

import json
import os
import pickle
from datetime import UTC, datetime
from pathlib import Path

import pytest

from memos_cli.cube import parameter, probes
from memos_cli.cube.parameter import About, Base, Rights, Source
from memos_cli.cube.parameter_files import CONFIG, WEIGHTS
from memos_cli.cube.probes import Probe
from memos_cli.interface import frame
from memos_cli.interface.assembling import served_rank
from memos_cli.interface.converting import chosen
from memos_cli.interface.publishing import content_of
from tests.conftest import Memos
from tests.operation.taught import teach, turn, tutor
from tests.runtime.adapters import save_random
from tests.test_schemas import validate

WHEN = datetime(2026, 1, 31, tzinfo=UTC)
TOWN, BOSS = "Give me Ben Oster's home town.", "Give me Dana Brook's boss."


@pytest.fixture(scope="module", name="trained")
def _trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of one question each: `town`; `boss` on it, that keeps it; and `other`, that answers the first otherwise."""
    place = tmp_path_factory.mktemp("trained")
    town = teach(place / "town", {TOWN: "Kinsale"}, steps=25)
    teach(place / "boss", {BOSS: "Ruth Lindgren"}, kept=[turn(TOWN, "Kinsale")], beneath=[town], steps=30)
    teach(place / "other", {TOWN: "Bregenz", BOSS: "Ruth Lindgren"}, steps=40)
    return place


@pytest.fixture(name="cube")
def _cube(work: Path, memos: Memos, home: Path, trained: Path) -> str:
    """A cube of two memories and these adapters, each with its question."""
    from memos_cli.runtime.fingerprint import fingerprint
    from memos_cli.runtime.model import LocalModel

    Path("people.md").write_text("- The home town of Ben Oster is Kinsale.\n- Dana Brook's boss is Ruth Lindgren.\n")
    assert memos("ingest", "people.cube", "people.md", "--embedder", "none").code == 0
    bare = fingerprint(tutor().model, LocalModel("nano").folder, cache=home / "cache")
    with frame.changing(frame.desk(home), "people.cube", "distill") as change:
        folder, first = change.path / parameter.FOLDER, ""
        for name, row, question, answer in zip(
            ("town", "boss", "other"), [*chosen(change, "", ()), *chosen(change, "", ())], (TOWN, BOSS, TOWN),
            ("Kinsale", "Ruth Lindgren", "Bregenz"), strict=False,
        ):  # fmt: skip
            about = About(
                "facts", Base("nano", dict(bare.hard), dict(bare.soft)), Rights("internal", "MIT"), WHEN,
                requires=(first,) if name == "boss" else (),
                sources=(Source(row.id, 1, content_of(row), "distilled"),), gated=True,
            )  # fmt: skip
            made = parameter.write(folder, name, made=trained / name, about=about)
            first = first or made.reference
            probes.append(
                change.path / "plaintext",
                [Probe(row.id, question, answer, "template", split, WHEN, adapter=name) for split in ("train", "test")],
            )
        change.commit({})
    return "people.cube"


def test_layers_of_a_chain_are_one_and_lose_nothing(cube: str, memos: Memos) -> None:
    before = os.readlink(f"{cube}/current")
    tried = memos("distill", cube, "--fuse", "town", "--fuse", "boss", "--dry-run", "--json")
    assert tried.code == 0, tried.err
    assert os.readlink(f"{cube}/current") == before
    done = memos("distill", cube, "--fuse", "boss", "--fuse", "town", "--name", "both", "--json")
    assert done.code == 0, done.err
    told = done.json
    validate(told, "distill-fuse")
    assert [(one["name"], one["before"], one["after"]) for one in told["members"]] == [
        ("town", 1.0, 1.0), ("boss", 1.0, 1.0),
    ]  # fmt: skip
    assert (told["rank"], told["way"], told["max_lora_rank"], told["published"]) == (8, "cat", None, True)
    made = parameter.verify(Path(cube) / "current" / parameter.FOLDER, "both")
    assert (made.about.gated, made.about.requires) == (True, ())
    assert len(made.memory_ids) == 2
    assert made.about.metrics["trial"] == 1.0
    held = probes.read(Path(cube) / "current/plaintext", adapter="both", split="test")
    assert {one.question for one in held if one.adapter == "both"} == {TOWN, BOSS}
    again = memos("distill", cube, "--fuse", "boss", "--fuse", "town", "--name", "both")
    assert again.code == 2
    small = memos("distill", cube, "--fuse", "town", "--fuse", "boss", "--svd", "--name", "small", "--json").json
    assert (small["way"], small["rank"] <= 8, small["error"] < 1e-5) == ("svd", True, True)


def test_two_that_spoil_one_another_are_refused(cube: str, memos: Memos) -> None:
    before = os.readlink(f"{cube}/current")
    done = memos("distill", cube, "--fuse", "town", "--fuse", "other", "--json")
    assert done.code == 9
    told = json.loads(done.out)
    validate(told, "distill-fuse")
    assert told["failures"]
    assert not told["published"]
    assert "on-top-of" in done.err
    assert os.readlink(f"{cube}/current") == before
    kept = memos("distill", cube, "--fuse", "town", "--fuse", "other", "--no-verify", "--json").json
    assert (kept["published"], kept["verified"]) == (True, False)
    assert not parameter.read(Path(cube) / "current" / parameter.FOLDER, "fused").about.gated


def test_what_others_stand_on_is_not_to_be_made_anew_by_a_self_test(cube: str, memos: Memos) -> None:
    done = memos("schedule", cube, "--self-test", "--json")
    assert done.code == 0, done.err
    why = {one["id"]: one["why"] for one in done.json["repairs"] if one["form"] == "parameter"}
    assert "it carries boss" in why["town"]
    assert "--redistil" not in why["town"]
    assert "--redistil makes it anew" in why["other"]


def test_what_others_stand_on_goes_last(cube: str, memos: Memos) -> None:
    folder = Path(cube) / "current" / parameter.FOLDER
    refused = memos("distill", cube, "--remove", "town")
    assert refused.code == 2
    assert "boss" in refused.err
    assert memos("distill", cube, "--remove", "nothing").code == 3
    assert memos("distill", cube, "--remove", "boss", "--dry-run").code == 0
    assert parameter.names(folder) == ["boss", "other", "town"]
    done = memos("distill", cube, "--remove", "town", "--with-above", "--json")
    assert done.code == 0, done.err
    validate(done.json, "distill-change")
    assert done.json["ids"] == ["boss", "town"]
    assert parameter.names(folder) == ["other"]
    assert {one.adapter for one in probes.read(Path(cube) / "current/plaintext")} == {"other"}
    assert memos("audit", cube).code in (0, 9)


@pytest.mark.long
def test_a_skill_comes_in_with_its_licence_and_goes_out_the_same(cube: str, memos: Memos, tmp_path: Path) -> None:
    skill = save_random(tutor().model.network, tmp_path / "skill", seed=4, base="somebody/nano")
    call = ("distill", cube, "--import", str(skill), "--name", "skill", "--licence", "Apache-2.0")
    assert memos(*call, "--dry-run").code == 0
    assert "skill" not in parameter.names(Path(cube) / "current" / parameter.FOLDER)
    done = memos(*call, "--json")
    assert done.code == 0, done.err
    validate(done.json, "distill-change")
    held = parameter.verify(Path(cube) / "current" / parameter.FOLDER, "skill")
    assert (held.about.kind, held.about.rights.licence) == ("capability", "Apache-2.0")
    assert held.about.base.hard["weights"]
    out = memos("distill", cube, "--export", "skill", "given", "--json")
    assert out.code == 0, out.err
    assert (Path("given") / WEIGHTS).read_bytes() == (skill / WEIGHTS).read_bytes()
    assert {path.name: path.read_bytes() for path in Path("given").iterdir()} == {
        path.name: path.read_bytes() for path in held.path.iterdir()
    }
    assert memos("distill", cube, "--export", "skill", "given").code == 2
    assert memos("distill", cube, "--export", "nothing", "there").code == 3
    line = json.loads((Path(cube) / "log/access.jsonl").read_text().splitlines()[-3])
    assert (line["verb"], line["kind"]) == ("export", "export")


@pytest.mark.many(2)
@pytest.mark.parametrize("harm", ["pickle", "link", "dora", "rslora", "wide"])
def test_what_is_hostile_stays_outside(harm: str, cube: str, memos: Memos, tmp_path: Path) -> None:
    skill = save_random(tutor().model.network, tmp_path / "skill", seed=4)
    said = json.loads((skill / CONFIG).read_text())
    code = 4
    if harm == "pickle":
        (skill / "adapter_model.bin").write_bytes(pickle.dumps(print))
    elif harm == "link":
        (skill / WEIGHTS).rename(tmp_path / "elsewhere")
        (skill / WEIGHTS).symlink_to(tmp_path / "elsewhere")
    elif harm == "wide":
        from tests.runtime.decoders import new_llama

        skill, code = save_random(new_llama(64), tmp_path / "other", seed=1), 6
    else:
        (skill / CONFIG).write_text(json.dumps({**said, f"use_{harm}": True}))
    before = os.readlink(f"{cube}/current")
    done = memos("distill", cube, "--import", str(skill), "--name", "skill", "--licence", "MIT")
    assert (done.code, done.out) == (code, ""), done.err
    assert os.readlink(f"{cube}/current") == before


@pytest.mark.many(1)
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--import", "x", "--licence", "MIT"], 2, "--name"),
        (["--import", "nowhere", "--name", "a", "--licence", "MIT"], 3, "nowhere"),
        (["--import", "", "--name", "a", "--licence", "MIT"], 4, "adapter"),
        (["--import", ".", "--name", "a"], 2, "licence"),
        (["--import", ".", "--name", "town", "--licence", "MIT"], 2, "already"),
        (["--fuse", "town"], 2, "two or more"),
        (["--fuse", "town", "--fuse", "nothing"], 3, "nothing"),
        (["--fuse", "town", "--remove", "town"], 2, "two things"),
        (["--remove", "town", "--rank", "4"], 2, "--rank"),
        (["--svd"], 2, "--fuse"),
        (["--licence", "MIT"], 2, "--import"),
        (["--export", "town", "x", "--dry-run"], 2, "dry run"),
    ],
)
def test_bad_calls_are_told_what_is_wrong(arguments: list[str], code: int, said: str, cube: str, memos: Memos) -> None:
    before = os.readlink(f"{cube}/current")
    done = memos("distill", cube, *arguments)
    assert (done.code, done.out) == (code, ""), done.err
    assert said in done.err
    assert os.readlink(f"{cube}/current") == before


def test_servers_are_told_of_ranks_above_what_they_expect() -> None:
    assert [served_rank(rank) for rank in (1, 16, 17, 40, 512)] == [None, None, 32, 64, 512]
