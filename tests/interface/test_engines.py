"""Verbs on workers of Ray: what comes out is what this process makes, whatever becomes of a worker."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from memos_cli.cube import activation
from memos_cli.cube.plaintext import Memories
from memos_cli.errors import MemosError, NotAllowed, Usage
from memos_cli.infrastructure import governance
from memos_cli.interface import api
from tests import clusters
from tests.conftest import Memos, ok

RAY = api.Engine("ray", 2)
# What a table says of when it was made.
TIMES = ("valid_from", "created_at", "updated_at")
WORDS = (
    "river",
    "stone",
    "lamp",
    "quiet",
    "harbour",
    "engine",
    "copper",
    "letter",
    "winter",
    "garden",
    "gate",
    "bridge",
)


@pytest.fixture(scope="module")
def ray() -> Iterator[None]:
    """A cluster of two processors for this file."""
    pytest.importorskip("ray")
    pytest.importorskip("lance")
    with clusters.cluster():
        yield


def notes(folder: Path, *, files: int = 3, lines: int = 40, name: str = "notes") -> Path:
    """A folder of files with a note a line."""
    place = folder / name
    place.mkdir()
    for file in range(files):
        said = (
            f"Note {file}-{line}: the {WORDS[line % 12]} by the {WORDS[(line * 7 + file) % 12]}."
            for line in range(lines)
        )
        (place / f"{file}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in said))
    return place


def rows(cube: Path) -> list[dict[str, Any]]:
    """All rows in table order, without the times of the run."""
    table = Memories.open(cube / "current" / "plaintext").rows()
    return [{name: value for name, value in row.items() if name not in TIMES} for row in table.to_pylist()]


def tree(cube: Path) -> dict[str, bytes]:
    """Every published file, and where `current` points."""
    found = {
        str(path.relative_to(cube)): path.read_bytes() for path in (cube / "versions").rglob("*") if path.is_file()
    }
    return {**found, "current": os.readlink(cube / "current").encode()}


def after(number: int, act: Callable[[], None]) -> Callable[[int, int | None, str], None]:
    """A listener to progress that acts once, when it has heard so many."""
    heard = 0

    def listen(done: int, total: int | None, what: str) -> None:
        nonlocal heard
        heard += 1
        if heard == number:
            act()

    return listen


def test_an_address_needs_a_yes_before_anything_is_done(memos: Memos) -> None:
    Path("a.md").write_text("The badge opens the gate.\n")
    done = memos("ingest", "a.cube", "a.md", "--embedder", "none", "--engine", "ray://127.0.0.1:9")
    assert done.code == 2
    assert "memories leave this machine for 127.0.0.1:9, not encrypted on its way" in done.err
    assert "--yes" in done.err
    assert not Path("a.cube").exists()


def test_a_folder_does_not_decide_about_an_engine(memos: Memos) -> None:
    Path("memos.toml").write_text('[memos]\nengine = "ray://elsewhere:1"\n')
    Path("a.md").write_text("The badge opens the gate.\n")
    done = memos("ingest", "a.cube", "a.md")
    assert done.code == 2
    assert "for a person to decide" in done.err


@pytest.mark.parametrize("name", ["spark", "ray://", "ray://a b", "auto"])
def test_what_is_no_engine_is_told_at_once(name: str, memos: Memos) -> None:
    Path("a.md").write_text("The badge opens the gate.\n")
    done = memos("ingest", "a.cube", "a.md", "--dry-run", "--engine", name)
    assert done.code == 2
    assert "--engine ray" in done.err


def test_workers_are_of_ray(memos: Memos) -> None:
    done = memos("reindex", "a.cube", "--workers", "2")
    assert done.code == 2
    assert "--engine ray" in done.err


@pytest.mark.parametrize("verb", ["ingest", "reindex", "audit", pytest.param("convert", marks=pytest.mark.slow)])
def test_what_must_stay_goes_to_no_cluster(verb: str, memos: Memos) -> None:
    pytest.importorskip("ray")
    pytest.importorskip("lance")
    Path("a.md").write_text("The badge opens the gate.\n")
    ok(memos("ingest", "a.cube", "a.md", "--embedder", "none", "--sensitivity", "confidential"))
    before = tree(Path("a.cube"))
    Path("b.md").write_text("The alarm rings at ten.\n")
    words = {"ingest": ["b.md", "--sensitivity", "confidential"], "audit": ["--deep"]}.get(verb, [])
    done = memos(verb, "a.cube", *words, "--engine", "ray://127.0.0.1:9", "--yes")
    if verb == "convert":  # nothing is left that could go
        assert (done.code, "0 memories converted" in done.out) == (0, True), (done.out, done.err)
        assert "memories stay" in done.err
    else:
        assert done.code == 5, (done.out, done.err)
    assert tree(Path("a.cube")) == before
    (line,) = [one for one in api.access_log("a.cube") if one.facts.get("engine")]
    assert line.facts["engine"] == "127.0.0.1:9"


def test_a_cluster_that_is_not_there_ends_in_words(memos: Memos) -> None:
    pytest.importorskip("ray")
    pytest.importorskip("lance")
    Path("a.md").write_text("The badge opens the gate.\n")
    done = memos("ingest", "a.cube", "a.md", "--embedder", "none", "--engine", "ray://127.0.0.1:9", "--yes")
    assert done.code == 7, (done.out, done.err)
    assert "expected a Ray cluster at ray://127.0.0.1:9" in done.err
    assert not Path("a.cube").exists()


@pytest.mark.long
@pytest.mark.usefixtures("ray", "home")
def test_an_ingest_is_the_same_on_workers(work: Path) -> None:
    source = notes(work)
    one, two = (
        api.ingest(work / f"{name}.cube", [source], engine=engine) for name, engine in (("l", api.Engine()), ("r", RAY))
    )
    assert (two.added, two.chunks_embedded, two.texts_embedded) == (one.added, one.chunks_embedded, one.texts_embedded)
    assert rows(work / "r.cube") == rows(work / "l.cube")
    assert not api.audit(work / "r.cube", deep=True).findings
    # what was seen before: one source changes, one is new, one is gone
    (source / "0.jsonl").write_text((source / "0.jsonl").read_text().replace("Note 0-3", "Note 0-three"))
    (source / "3.jsonl").write_text(json.dumps({"text": "Quite another note."}) + "\n")
    (source / "2.jsonl").unlink()
    one, two = (
        api.ingest(work / f"{name}.cube", [source], engine=engine, prune=True)
        for name, engine in (("l", api.Engine()), ("r", RAY))
    )
    assert (one.added, one.superseded) == (two.added, two.superseded)
    by_id = [sorted(rows(work / f"{name}.cube"), key=lambda row: row["id"]) for name in "lr"]
    for row in (row for side in by_id for row in side):
        row.pop("valid_to")
    assert by_id[0] == by_id[1]
    assert api.ingest(work / "r.cube", [source], engine=RAY).changed is False


@pytest.mark.slow
@pytest.mark.usefixtures("ray", "home")
def test_a_worker_that_is_killed_changes_nothing(work: Path) -> None:
    source = notes(work, files=10)
    api.ingest(work / "l.cube", [source])
    api.ingest(work / "r.cube", [source], engine=RAY, progress=after(250, clusters.kill_one))
    assert rows(work / "r.cube") == rows(work / "l.cube")
    assert not api.audit(work / "r.cube", deep=True).findings


@pytest.mark.slow
@pytest.mark.usefixtures("ray", "home")
def test_a_job_that_fails_leaves_the_cube_as_it_was(work: Path) -> None:
    source = notes(work)
    api.ingest(work / "a.cube", [source])
    before = tree(work / "a.cube")
    bad = notes(work, name="bad")
    (bad / "9.jsonl").write_text('{"text": "well"}\n{"text": \n')
    with pytest.raises(MemosError):
        api.ingest(work / "a.cube", [bad], engine=RAY)
    assert tree(work / "a.cube") == before
    assert not list((work / "a.cube" / "staging").glob("*"))


@pytest.mark.slow
@pytest.mark.usefixtures("ray", "home")
def test_an_interrupted_ingest_is_gone_on_with(work: Path) -> None:
    source = notes(work, files=10)
    api.ingest(work / "l.cube", [source])

    def stop() -> None:
        raise KeyboardInterrupt

    api.init(work / "r.cube", embedder="minilm")
    before = tree(work / "r.cube")
    with pytest.raises(KeyboardInterrupt):
        api.ingest(work / "r.cube", [source], engine=RAY, progress=after(390, stop))
    assert tree(work / "r.cube") == before
    api.ingest(work / "r.cube", [source], engine=RAY)
    assert rows(work / "r.cube") == rows(work / "l.cube")
    assert not api.audit(work / "r.cube", deep=True).findings


@pytest.mark.slow
@pytest.mark.usefixtures("ray", "home")
def test_vectors_made_anew_are_the_same_on_workers(work: Path) -> None:
    source = notes(work)
    api.ingest(work / "a.cube", [source], embedder="none")
    for name, engine in (("l", api.Engine()), ("r", RAY)):
        api.init(work / f"{name}.cube", source=work / "a.cube")
        api.reindex(work / f"{name}.cube", embedder="minilm", engine=engine)
    assert rows(work / "r.cube") == rows(work / "l.cube")
    assert rows(work / "r.cube")[0]["vector"] is not None
    assert not api.audit(work / "r.cube", deep=True).findings


@pytest.mark.slow
@pytest.mark.usefixtures("ray", "home")
def test_activation_memory_is_the_same_on_workers(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = notes(work, files=1, lines=12)
    for name, engine in (("l", api.Engine()), ("r", RAY)):
        api.ingest(work / f"{name}.cube", [source], embedder="none")
        listen = after(3, clusters.kill_one) if engine is RAY else None
        made = api.convert(work / f"{name}.cube", engine=engine, progress=listen)
        assert (len(made.made), made.left_out) == (12, ())
    here, there = (
        {path.name: path for path in activation.find(work / f"{name}.cube/current/activation")} for name in "lr"
    )
    assert here.keys() == there.keys()
    for name in here:
        one, two = activation.verify(here[name]), activation.verify(there[name])
        assert one.header.fidelity == pytest.approx(two.header.fidelity)
        assert (one.header.content, one.header.tokens) == (two.header.content, two.header.tokens)
    assert not api.audit(work / "r.cube", deep=True).findings
    assert len(api.convert(work / "r.cube", engine=RAY).kept) == 12


@pytest.mark.slow
@pytest.mark.usefixtures("ray", "home")
def test_what_can_be_taught_is_judged_the_same_on_workers(work: Path) -> None:
    (work / "people.md").write_text(
        "- The home town of Ben Oster is Kinsale.\n- Dana Brook's boss is Ruth Lindgren.\n- Good morning to all!\n"
    )
    api.ingest(work / "a.cube", [work / "people.md"], embedder="none")
    one, two = (api.distill(work / "a.cube", dry_run=True, engine=engine) for engine in (api.Engine(), RAY))
    assert [lesson.standing for lesson in one.lessons] == ["distilled", "distilled", "unteachable"]
    assert two.lessons == one.lessons
    assert two.pairs == one.pairs


@pytest.mark.slow
@pytest.mark.usefixtures("ray", "home")
def test_a_deep_audit_finds_the_same_on_workers(work: Path) -> None:
    source = notes(work)
    api.ingest(work / "a.cube", [source], embedder="none")
    one, two = (api.audit(work / "a.cube", deep=True, engine=engine) for engine in (api.Engine(), RAY))
    assert replace(two, log_lines=one.log_lines) == one  # the audit before it is in the log
    assert one.bytes > 0
    harmed = max(
        (work / "a.cube" / "current").resolve().rglob("*.lance"),
        key=lambda path: path.is_file() and path.stat().st_size,
    )
    data = bytearray(harmed.read_bytes())
    data[len(data) // 2] ^= 1
    harmed.chmod(0o644)
    harmed.write_bytes(data)
    one, two = (api.audit(work / "a.cube", deep=True, engine=engine) for engine in (api.Engine(), RAY))
    assert [finding.code for finding in one.findings] == ["content"]
    assert two.findings == one.findings


def test_only_a_deep_audit_has_work_for_an_engine(memos: Memos) -> None:
    done = memos("audit", "a.cube", "--engine", "ray")
    assert done.code == 2
    assert "--deep" in done.err


@pytest.mark.parametrize("words", [["convert"], ["audit", "--deep"]])
@pytest.mark.parametrize("how", ["flag", "workers", "variable", "settings"])
def test_several_cubes_are_done_by_no_engine_and_say_so(
    words: list[str], how: str, memos: Memos, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = {"flag": ["--engine", "ray"], "workers": ["--workers", "2"]}.get(how, [])
    if how == "variable":
        monkeypatch.setenv("MEMOS_ENGINE", "ray")
    if how == "settings":
        home.mkdir(exist_ok=True)
        (home / "config.toml").write_text('[memos]\nengine = "ray"\n')
    done = memos(*words, "a.cube", "b.cube", *more)
    assert done.code == 2, (done.out, done.err)
    assert "--engine is for one cube at a time" in done.err
    assert "--engine local" in done.err
    assert ("MEMOS_ENGINE" in done.err) is (how in ("variable", "settings"))


def test_an_engine_that_has_nothing_to_do_is_in_nobodys_way(memos: Memos, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a.md").write_text("The badge opens the gate.\n")
    for name in ("a.cube", "b.cube"):
        ok(memos("ingest", name, "a.md", "--embedder", "none"))
    monkeypatch.setenv("MEMOS_ENGINE", "ray")
    ok(memos("audit", "a.cube", "b.cube"))
    ok(memos("audit", "a.cube", "b.cube", "--deep", "--engine", "local"))


def test_a_cluster_is_an_endpoint_to_governance() -> None:
    assert api.Engine("ray").to == governance.HERE == api.Engine().to
    assert api.Engine("ray://127.0.0.1:1").to == "endpoint"
    with pytest.raises(Usage):
        api.Engine("spark").settle()


def test_nobody_agreed(home: Path, work: Path) -> None:
    def no(there: object) -> None:
        raise NotAllowed("no")

    (work / "a.md").write_text("The badge opens the gate.\n")
    with pytest.raises(NotAllowed):
        api.ingest(work / "a.cube", [work / "a.md"], engine=api.Engine("ray://head", agree=no))
    assert not (work / "a.cube").exists()
