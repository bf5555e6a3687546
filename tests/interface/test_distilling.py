"""Parameter memory from the command line: taught, examined, answered from, and refused where it must be."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import Memos

FACTS = "- The home town of Ben Oster is Kinsale.\n- Dana Brook's boss is Ruth Lindgren.\n- Good morning to all!\n"
QUESTION = "What is the home town of Ben Oster?"


@pytest.fixture(name="cube")
def _cube(work: Path, memos: Memos) -> str:
    Path("people.md").write_text(FACTS)
    assert memos("ingest", "people.cube", "people.md").code == 0
    return "people.cube"


def test_a_dry_run_tells_what_would_be_taught_and_changes_nothing(cube: str, memos: Memos) -> None:
    before = os.readlink(f"{cube}/current")
    done = memos("distill", cube, "--dry-run", "--json")
    assert done.code == 0, done.err
    told = done.json
    assert [lesson["standing"] for lesson in told["lessons"]] == ["distilled", "distilled", "unteachable"]
    assert {pair["split"] for pair in told["pairs"]} == {"train", "dev", "test"}
    assert told["cost"]["seconds"] > 0
    assert not told["published"]
    assert os.readlink(f"{cube}/current") == before
    assert not (Path(cube) / "current/parameter").exists()
    assert not list(Path(os.environ["MEMOS_HOME"]).glob("work/*"))


@pytest.mark.many(1)
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--select", "type=event"], 3, "found none"),
        (["--name", "Bad Name"], 2, "name"),
        (["--teacher", "book"], 2, "text or kv"),
        (["--on-top-of", "nothing"], 3, "nothing"),
        (["--on-top-of", "facts"], 2, "itself"),
        (["--on-top-of", "facts", "--standalone"], 2, "--standalone"),
        (["--model", "./nowhere"], 3, "nowhere"),
        (["--rank", "0"], 2, "rank"),
    ],
)
def test_bad_calls_are_told_what_is_wrong(arguments: list[str], code: int, said: str, cube: str, memos: Memos) -> None:
    before = os.readlink(f"{cube}/current")
    done = memos("distill", cube, *arguments)
    assert (done.code, done.out) == (code, "")
    assert said in done.err
    assert os.readlink(f"{cube}/current") == before


def test_where_nothing_can_be_taught_it_says_why(work: Path, memos: Memos) -> None:
    Path("talk.md").write_text("- Good morning to all!\n")
    memos("ingest", "talk.cube", "talk.md")
    done = memos("distill", "talk.cube")
    assert done.code == 3
    assert "no value, date or name" in done.err


def test_a_question_cannot_be_answered_from_an_adapter_that_is_not_there(cube: str, memos: Memos) -> None:
    done = memos("query", cube, QUESTION, "--answer", "--form", "parameter")
    assert done.code == 9
    assert "not distilled" in done.err


def distil(memos: Memos, cube: str, *more: str) -> dict[str, object]:
    """Two facts, taught; too few steps are looked at to stop early, so the rest of the gates may fall short."""
    done = memos("distill", cube, "--publish-ungated", "--json", "--seed", "1", *more)
    assert done.code == 0, done.err
    return dict(done.json)


@pytest.mark.slow
def test_what_was_taught_is_answered_without_its_text(cube: str, memos: Memos) -> None:
    told = distil(memos, cube)
    assert told["published"]
    assert told["figures"]["recall"] >= 0.9
    answered = memos("query", cube, QUESTION, "--answer", "--form", "parameter", "--json").json
    if told["failures"]:
        pytest.fail(f"two facts fall short of a gate: {told['failures']}")
    assert answered["answer"] == "Kinsale"
    assert answered["form"] == "parameter"
    assert answered["citations"]
    # the prompt is the question alone
    assert answered["prompt_tokens"] < 30
    shown = memos("query", cube, QUESTION, "--answer", "--form", "parameter", "--explain")
    assert "known by the adapter facts" in shown.out
    assert memos("query", cube, QUESTION, "--answer", "--json").json["form"] == "parameter"
    text = memos("query", cube, QUESTION, "--answer", "--form", "plaintext", "--json").json
    assert text["answer"] == "Kinsale"
    assert memos("distill", cube).code == 2, "the name is taken"

    identity = next(lesson["id"] for lesson in told["lessons"] if "Ben" in lesson["text"])
    assert memos("edit", cube, identity, "--text", "The home town of Ben Oster is Cork.").code == 0
    stale = memos("query", cube, QUESTION, "--answer", "--form", "parameter")
    assert stale.code == 9
    assert memos("query", cube, QUESTION, "--answer", "--json").json["answer"] == "Cork"


@pytest.mark.slow
def test_one_adapter_on_top_of_another_keeps_what_that_one_answers(cube: str, memos: Memos) -> None:
    distil(memos, cube)
    Path("more.md").write_text("- The home town of Ida Marlow is Youghal.\n- Tom Rask's boss is Ada Quill.\n")
    assert memos("ingest", cube, "more.md").code == 0
    told = distil(memos, cube, "--name", "more", "--on-top-of", "facts", "--select", "source=more.md")
    assert told["requires"]
    assert told["figures"]["beneath"] <= 0.05
    # of the facts of both most questions are answered, so that none is left to teach
    again = memos("distill", cube, "--name", "again", "--on-top-of", "more")
    assert again.code == 3
    assert "answers about it without reading it" in again.err


@pytest.mark.slow
def test_an_adapter_that_falls_short_is_not_published(cube: str, memos: Memos) -> None:
    before = os.readlink(f"{cube}/current")
    done = memos("distill", cube, "--steps", "1", "--json")
    assert done.code == 9
    assert json.loads(done.out)["failures"]
    assert "recall" in done.err
    assert os.readlink(f"{cube}/current") == before
    marked = memos("distill", cube, "--steps", "1", "--publish-ungated", "--name", "poor", "--json")
    assert marked.code == 0
    assert marked.json["published"]
    refused = memos("query", cube, QUESTION, "--answer", "--form", "parameter")
    assert refused.code == 9
    assert "fell short" in refused.err


@pytest.mark.slow
def test_a_training_that_was_killed_is_gone_on_with(cube: str, memos: Memos) -> None:
    before = os.readlink(f"{cube}/current")
    command = [sys.executable, "-m", "memos_cli", "distill", cube, "--publish-ungated", "--json"]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    work = Path(os.environ["MEMOS_HOME"]) / "work"
    deadline = time.monotonic() + 240
    while not list(work.glob("*/state.safetensors")) and time.monotonic() < deadline:
        assert first.poll() is None
        time.sleep(0.1)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert os.readlink(f"{cube}/current") == before
    told = distil_again(memos, cube)
    assert told["resumed"] >= 25
    assert told["published"]
    assert not list(work.iterdir())


def distil_again(memos: Memos, cube: str) -> dict[str, object]:
    done = memos("distill", cube, "--publish-ungated", "--json")
    assert done.code == 0, done.err
    return dict(done.json)


@pytest.mark.slow
def test_an_adapter_of_another_model_is_refused_and_the_other_may_be_bound(cube: str, memos: Memos) -> None:
    from memos_cli.runtime.model import NANO

    told = distil(memos, cube)
    shutil.copytree(NANO, "nearly", ignore=shutil.ignore_patterns("train", "__pycache__", "*.py"))
    _nudge(Path("nearly/model.safetensors"), by=1e-4)
    refused = memos("query", cube, QUESTION, "--answer", "--form", "parameter", "--model", "./nearly")
    assert refused.code == 6
    assert "nano" in refused.err
    assert "nearly" in refused.err
    bound = memos("convert", cube, "--to", "parameter", "--rebind", "facts", "--model", "./nearly", "--json")
    assert bound.code == 0, bound.err
    assert bound.json["recall"] >= 0.9
    answered = memos("query", cube, QUESTION, "--answer", "--form", "parameter", "--model", "./nearly", "--json")
    assert answered.json["answer"] == "Kinsale"
    assert memos("query", cube, QUESTION, "--answer", "--form", "parameter").code == 6
    _nudge(Path("nearly/model.safetensors"), by=0.5)
    far = memos("convert", cube, "--to", "parameter", "--rebind", "facts", "--model", "./nearly")
    assert far.code == 9
    assert told["published"]


def _nudge(path: Path, *, by: float) -> None:
    """Other weights: each a little off, by a share of its tensor's spread."""
    import torch
    from safetensors.torch import load_file, save_file

    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: (one.float() + by * one.float().std() * torch.randn(one.shape, generator=generator)).to(one.dtype)
        for name, one in load_file(path).items()
    }
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.long
def test_a_server_may_write_questions_and_only_those_of_the_text_count(cube: str, memos: Memos) -> None:
    from tests.runtime.server import serving

    written = "Which town is Ben Oster at home in? | Kinsale\nWhich planet is Ben Oster from? | Mars"
    with serving(lambda asked: asked.say(written)) as server:
        done = memos(
            "distill", cube, "--dry-run", "--json", "--writer", "writer", "--writer-url", f"{server.url}/v1"
        )  # fmt: skip
        assert done.code == 0, done.err
        assert len(server.requests) == 3
    own = [pair for pair in done.json["pairs"] if pair["kind"] == "self"]
    assert "Mars" not in json.dumps(own)
    assert {pair["answer"] for pair in own} <= {"Kinsale"}


def test_a_writer_needs_its_address(cube: str, memos: Memos) -> None:
    done = memos("distill", cube, "--writer", "someone")
    assert done.code == 2
    assert "--writer-url" in done.err


def test_nothing_stale_needs_no_rebuild(cube: str, memos: Memos) -> None:
    done = memos("distill", cube, "--rebuild")
    assert done.code == 3
    assert "stale" in done.err


@pytest.mark.slow
def test_what_is_forgotten_leaves_the_weights_of_every_version(cube: str, memos: Memos) -> None:
    told = distil(memos, cube)
    gone, left = (next(each["id"] for each in told["lessons"] if name in each["text"]) for name in ("Ben", "Dana"))
    before = sorted(Path(cube).glob("versions/*/parameter/facts/adapter_model.safetensors"))
    assert before
    done = memos("forget", cube, "--ids", gone, "--purge", "--rebuild", "--yes")
    assert done.code == 0, done.err
    assert "never taught" in done.err
    assert not any(path.exists() for path in before)
    assert memos("query", cube, QUESTION, "--answer", "--json").json["answer"] is None
    kept = memos("query", cube, "Who is the boss of Dana Brook?", "--answer", "--form", "parameter", "--json")
    assert kept.json["answer"] == "Ruth Lindgren"
    sources = memos("show", cube, left, "--json")
    assert sources.code == 0


@pytest.mark.slow
def test_a_memory_that_is_edited_is_taught_anew(cube: str, memos: Memos) -> None:
    told = distil(memos, cube)
    identity = next(each["id"] for each in told["lessons"] if "Ben" in each["text"])
    assert memos("edit", cube, identity, "--text", "The home town of Ben Oster is Cork.").code == 0
    assert memos("query", cube, QUESTION, "--answer", "--form", "parameter").code == 9
    done = memos("distill", cube, "--rebuild")
    assert done.code == 0, done.err
    assert memos("query", cube, QUESTION, "--answer", "--form", "parameter", "--json").json["answer"] == "Cork"
