"""memos run at a terminal: processes of its own, a kill, hostile pipelines, and the pages that show it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from memos_cli.infrastructure import locks
from memos_cli.infrastructure.child import Ended
from memos_cli.interface import api
from tests.conftest import Memos, ok, runner

PROJECT = Path(__file__).parents[2]
PAGE = PROJECT / "docs/how-to/pipelines.md"
SCHEMA = json.loads((PROJECT / "schemas/pipeline.schema.json").read_text())
LIGHT = '[[step]]\nname = "a"\nrun = "init a.cube --embedder none"\n[[step]]\nname = "b"\nrun = "tag a.cube b"\n'


def pipeline(text: str, place: str = "p.toml") -> Path:
    Path(place).write_text(text)
    return Path(place)


def test_steps_are_processes_and_the_report_is_one_object(work: Path, memos: Memos) -> None:
    pipeline(LIGHT)
    done = ok(memos("run", "p.toml", "--json"))
    assert [step["status"] for step in done.json["steps"]] == ["ran", "ran"]
    assert done.json["steps"][0]["results"][0]["path"].endswith("a.cube")
    assert "a: memos init a.cube" in done.err
    again = ok(memos("run", "p.toml"))
    assert [line.split("\t")[:3] for line in again.lines] == [["a", "done", "0"], ["b", "done", "0"]]
    assert ok(memos("run", "p.toml", "-q")).lines == ["a", "b"]


def test_a_failure_ends_with_the_code_of_the_step(work: Path, memos: Memos) -> None:
    pipeline(
        '[[step]]\nname = "a"\nrun = "audit nowhere.cube"\n[[step]]\nname = "b"\nrun = "audit x.cube"\nneeds = []\n'
    )
    done = memos("run", "p.toml", "--json")
    assert (done.code, done.json["failed"], done.json["exit_code"]) == (3, "a", 3)
    assert [step["status"] for step in done.json["steps"]] == ["failed", "waiting"]
    assert "step a failed with exit code 3: no cube" in done.err
    assert "try: memos run p.toml" in done.err


def test_a_step_that_takes_too_long_is_ended(work: Path, memos: Memos) -> None:
    pipeline('[[step]]\nname = "a"\nrun = "init a.cube"\ntimeout_seconds = 0.01\n')
    done = memos("run", "p.toml", "--json")
    assert done.code != 0
    assert done.json["steps"][0]["why"] == "it took longer than 0.01 s"


@pytest.mark.many(5)
@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("ingest a.cube x --nosuch", "No such option"), ("tag", "Missing argument"), ("ls -l", "runs unattended"),
        ("run q.toml", "runs unattended"), ("keys new x", "runs unattended"), ("trust a.cube", "runs unattended"),
        ("clients", "runs unattended"), ("serve", "runs unattended"), ("mcp", "runs unattended"),
        ("options", "runs unattended"), ("os.system", "runs unattended"), ("../x y", "runs unattended"),
        ("query a.cube x -k many", "is not a valid int"), ("gc a.cube b.cube", "unexpected extra argument"),
    ],
)  # fmt: skip
def test_words_that_no_command_takes_end_it_before_it_begins(work: Path, memos: Memos, line: str, named: str) -> None:
    pipeline(LIGHT + f'[[step]]\nname = "bad"\nrun = "{line}"\n')
    done = memos("run", "p.toml", "--json")
    assert (done.code, done.out) == (2, ""), done.err
    assert "step bad: " in done.err
    assert named.lower() in done.err.lower()
    assert "  try: memos " in done.err
    assert not Path("a.cube").exists()


@pytest.mark.parametrize(
    ("text", "concern"),
    [
        (LIGHT + '[[step]]\nname = "gone"\nrun = "forget a.cube --where type=fact --yes"\n', "step gone says --yes"),
        (LIGHT + '[[step]]\nname = "open"\nrun = "edit a.cube --share-scope=anyone"\n', "step open says --share-scope"),
        ('environment = ["HOME"]\n' + LIGHT, "it reads HOME of the environment"),
    ],
)
def test_what_a_person_decides_needs_a_yes(work: Path, memos: Memos, text: str, concern: str) -> None:
    pipeline(text)
    done = memos("run", "p.toml")
    assert (done.code, done.out) == (2, "")
    assert concern in done.err
    assert "--yes" in done.err
    assert not Path("a.cube").exists()
    assert f"wants a yes: {concern}" in ok(memos("run", "p.toml", "--dry-run")).err


def test_a_folder_from_elsewhere_brings_no_code_and_no_notes_along(work: Path, memos: Memos, home: Path) -> None:
    """Modules beside the pipeline are not imported, by the names of ours or of the library."""
    there = work / "there"
    there.mkdir()
    for name in ("memos_cli.py", "typer.py", "json.py", "sitecustomize.py"):
        (there / name).write_text("open('ran', 'w').close()\nraise SystemExit(0)\n")
    (there / "p.toml").write_text(LIGHT)
    ok(memos("run", "there/p.toml"))
    assert not (there / "ran").exists()
    assert (there / "a.cube").is_dir()
    (note,) = (home / "runs").glob("*.json")
    assert note.stat().st_mode & 0o077 == 0 or note.parent.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LIGHT + '[[step]]\nname = "c"\nrun = "audit a.cube"\nneeds = ["d"]\n', "no such step"),
        ('[[step]]\nname = "a"\nrun = "audit a.cube"\nneeds = ["b"]\n'
         '[[step]]\nname = "b"\nrun = "audit a.cube"\nneeds = ["a"]\n', "wait for each other: a, b"),
        ('[[step]]\nname = "a"\nrun = "audit ${steps.b.result.x}"\n', "'b', and there is no such step"),
        ("", "found none"), ("[[[", "p.toml"),
    ],
)  # fmt: skip
def test_what_is_no_pipeline_is_told_with_what_to_type(text: str, said: str, work: Path, memos: Memos) -> None:
    pipeline(text)
    done = memos("run", "p.toml")
    assert (done.code, done.out) == (4, "")
    assert said in done.err
    assert "try: memos run p.toml --dry-run" in done.err


@pytest.mark.many(1)
@pytest.mark.parametrize("words", [["--set", "x"], ["--set", "=x"], ["--set", "cube=a", "--set", "cube=b"]])
def test_inputs_are_given_once_and_by_name(work: Path, memos: Memos, words: list[str]) -> None:
    pipeline(LIGHT)
    assert memos("run", "p.toml", *words).code == 2


KILLED = """
import os, signal, sys
from memos_cli.interface import api
left = int(sys.argv[1])
def count(text):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
api.run("p.toml", notify=count)
"""


# at each boundary: as a step begins, and after the note that it has ended
@pytest.mark.parametrize("said", [2, *(pytest.param(said, marks=pytest.mark.long) for said in (1, 3, 4))])
def test_a_run_that_is_killed_goes_on(work: Path, memos: Memos, said: int) -> None:
    pipeline(LIGHT)
    done = subprocess.run([sys.executable, "-c", KILLED, str(said)], capture_output=True)
    assert done.returncode == -signal.SIGKILL
    report = ok(memos("run", "p.toml", "--json")).json
    assert report["resumed"] is True
    assert [step["status"] for step in report["steps"]] == ["done"] * (said // 2) + ["ran"] * (2 - said // 2)
    assert (work / "a.cube/tags/b").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.long)])
def test_a_signal_ends_the_step_too(work: Path, home: Path, number: signal.Signals) -> None:
    """The step waits for a lock that a writer holds, and does not outlive the run."""
    runner()("init", "a.cube", "--embedder", "none")
    pipeline('[inputs]\nnote = ""\n[[step]]\nname = "a"\nrun = "tag a.cube b --lock-timeout 60"\n')
    words = [sys.executable, "-m", "memos_cli", "run", "p.toml", "--set", "note=a b"]
    with (
        locks.writing(Path("a.cube"), operation="test"),
        subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process,
    ):
        assert process.stderr is not None
        assert b"a: memos tag" in process.stderr.readline()
        time.sleep(1.0)
        process.send_signal(number)
        # stderr ends when nobody has it any more: neither the run nor its step
        told = process.stderr.read()
        assert b"interrupted" in told
        assert b"try: memos run p.toml --set 'note=a b', which goes on from there" in told
        assert process.wait(20) == 130


@pytest.mark.long
def test_what_a_step_told_into_a_file_needs_the_share_scope(work: Path, home: Path) -> None:
    runner()("init", "a.cube", "--embedder", "none", "--sensitivity", "confidential")
    Path("notes.md").write_text("- A confidential thought.\n")
    ok(runner()("ingest", "a.cube", "notes.md", "--sensitivity", "confidential"))
    pipeline('[[step]]\nname = "a"\nrun = "list a.cube"\n')
    words = [sys.executable, "-m", "memos_cli", "run", "p.toml", "--json"]
    piped = subprocess.run(words, capture_output=True, text=True)
    assert "confidential thought" in piped.stdout
    with open("report.json", "w") as file:
        subprocess.run(words, stdout=file, stderr=subprocess.DEVNULL)
    assert "confidential thought" not in Path("report.json").read_text()
    assert "confidential thought" not in "".join(path.read_text() for path in (home / "runs").glob("*.json"))


def inside(words: list[str], *, folder: Path, say: Callable[[str], None], **_: object) -> Ended:
    before = os.getcwd()
    os.chdir(folder)
    done = runner()(*words)
    os.chdir(before)
    return Ended(done.code, done.out.encode(), tuple(done.err.splitlines()), 0.1)


@pytest.mark.long
def test_the_example_runs_and_does_nothing_twice(home: Path, work: Path) -> None:
    text = (PROJECT / "bundles/nightly.toml").read_text()
    jsonschema.validate(tomllib.loads(text), SCHEMA)
    shutil.copytree(PROJECT / "bundles/corpus/handbook", "corpus/handbook")
    (work / "memos.toml").write_text('[memos]\nembedder = "none"\n')
    inputs = {"cube": "team.cube", "store": "./store"}
    pipeline(text)
    assert [step.status for step in api.run("p.toml", inputs=inputs, start=inside).steps] == ["ran"] * 4
    # the push made a version of its own, so what looks at the cube looks once more
    later = [api.run("p.toml", inputs=inputs, start=inside) for _ in range(2)]
    assert [step.status for step in later[1].steps] == ["done", "skipped", "ran", "skipped"]
    assert {step.changed for ran in later for step in ran.steps} == {False, None}


def test_the_pipeline_of_the_page_does_what_the_page_says(home: Path, work: Path, memos: Memos) -> None:
    page = PAGE.read_text()
    (text,) = re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    jsonschema.validate(tomllib.loads(text), SCHEMA)
    pipeline(text, "nightly.toml")
    Path("notes").mkdir()
    Path("notes/a.md").write_text("- A thought.\n")
    Path("memos.toml").write_text('[memos]\nembedder = "none"\n')
    shown = ok(memos("run", "nightly.toml", "--dry-run")).out
    for line in shown.splitlines():
        assert f"{line.rstrip()}\n" in page
    ran = api.run("nightly.toml", start=inside)
    for step in ran.steps:
        assert f"{step.name}\tran\t0\t...\t{step.command}\n" in page


@pytest.mark.parametrize("language", ["python", "yaml"])
def test_what_the_page_shows_for_others_can_be_read(language: str) -> None:
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        if language == "python":
            compile(block, "page", "exec")
        else:
            assert "jobs" in pytest.importorskip("yaml").safe_load(block)
