"""memos convert --to activation, and query --answer from what it made, as a user sees them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from memos_cli.cube import activation, metadata
from memos_cli.infrastructure import faults, vault
from memos_cli.interface import frame
from tests.conftest import Begin, Done, Memos, ok
from tests.operation.test_activate import HARMS, poison, rewrite
from tests.runtime.decoders import READER_TEMPLATE, save_family

NOTES = "# House\n\n- Boiler code: 4711\n- Bins go out on Tuesday.\n\n# Ana\n\nAna moved to Lindau in May.\n"
CODE = "what is the boiler code?"
TINY = "tiny"
# A gate that lets everything pass: the models here have random weights.
OPEN = ("--gate-top1", "0", "--gate-exact", "0", "--gate-recovered", "-1000")


def three_notes(memos: Memos) -> None:
    for name, family in ((TINY, "llama"), ("other", "qwen3")):
        save_family(Path("models", name), family, brief=True, num_hidden_layers=2)
    Path("n.md").write_text(NOTES)
    ok(memos("ingest", "n.cube", "n.md", "--embedder", "none"))


def all_converted(memos: Memos) -> None:
    three_notes(memos)
    ok(memos("convert", "n.cube", "--model", f"models/{TINY}"))


@pytest.fixture
def cube(begin: Begin, work: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cube of three memories, and two models beside it."""
    monkeypatch.delenv("MEMOS_MODEL", raising=False)
    begin(three_notes)
    return work / "n.cube"


@pytest.fixture
def converted(begin: Begin, work: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, with activation memory of all three for the first model."""
    monkeypatch.delenv("MEMOS_MODEL", raising=False)
    begin(all_converted)
    return work / "n.cube"


@pytest.fixture(autouse=True)
def _forget_hits() -> Iterator[None]:
    faults.reset()
    yield
    faults.reset()


Convert = Callable[..., Done]


@pytest.fixture
def convert(memos: Memos) -> Convert:
    def run(*more: str, model: str = TINY, **options: Any) -> Done:
        return memos("convert", "n.cube", "--model", f"models/{model}", *more, **options)

    return run


@pytest.fixture
def ask(memos: Memos) -> Convert:
    def run(*more: str, model: str = TINY, question: str | None = CODE, **options: Any) -> Done:
        words = [question] if question else []
        told = ("query", "n.cube", *words, "--answer", "--model", f"models/{model}", *more)
        return memos(*told, **options)

    return run


def files(cube: Path) -> list[Path]:
    return activation.find(cube / "current" / "activation")


def validate(value: Any, name: str) -> None:
    from schemas import generate

    jsonschema.validate(value, generate.schema_of(generate.OUTPUTS[name]))


def state(cube: Path) -> tuple[str, list[str]]:
    """The current version, and what lies in staging."""
    return os.readlink(cube / "current"), sorted(str(path) for path in (cube / "staging").rglob("*"))


def told(done: Done) -> Any:
    assert done.code == 0, done.err
    validate(done.json, "convert")
    return done.json


# What is made.


def test_one_file_for_each_memory_and_no_more_the_second_time(cube: Path, convert: Convert, memos: Memos) -> None:
    ids = memos("list", "n.cube", "-q").lines
    first = told(convert("--json"))
    assert sorted(first["made"]) == sorted(ids)
    assert (first["number"], first["kept"], first["failing"], first["model"]) == (3, [], [], TINY)
    made = [activation.read(path) for path in files(cube)]
    assert sorted(one.header.memory for one in made) == sorted(ids)
    assert sum(one.path.stat().st_size for one in made) == first["bytes"]
    assert sum(one.header.tokens for one in made) == first["tokens"]
    again = told(convert("--json"))
    assert (again["number"], again["made"], sorted(again["kept"])) == (3, [], sorted(ids))
    assert len(memos("log", "n.cube").lines) == 3
    entry = json.loads(memos("log", "n.cube", "--json").lines[0])
    assert entry["summary"] == {"converted": 3, "to": "activation", "model": TINY}


def test_the_cube_tells_its_forms(cube: Path, convert: Convert, memos: Memos) -> None:
    assert "activation" not in memos("show", "n.cube").out
    convert()
    meta = metadata.load(cube / "current")
    assert meta.forms == ("plaintext", "activation")
    assert (meta.activation.files, meta.activation.bytes) == (3, sum(one.stat().st_size for one in files(cube)))
    assert "activation" in memos("show", "n.cube").out
    assert '"activation"' in memos("show", "n.cube", "--json").out
    assert memos("audit", "n.cube").code == memos("audit", "n.cube", "--deep").code == 0


def test_a_dry_run_tells_what_is_then_made_and_changes_nothing(cube: Path, convert: Convert) -> None:
    before = state(cube)
    dry = told(convert("--dry-run", "--json"))
    assert state(cube) == before
    assert (dry["dry_run"], dry["number"], len(dry["made"])) == (True, 2, 3)
    cost = dry["cost"]
    assert cost["seconds"] > 0
    made = told(convert("--json"))
    assert cost["bytes"] == pytest.approx(made["bytes"], rel=0.2)
    assert dry["tokens"] == made["tokens"]
    assert sorted(dry["made"]) == sorted(made["made"])
    lines = convert("--dry-run").lines
    assert lines == [f"0 memories to convert for {TINY}, 3 there already, 0 tokens"]


@pytest.mark.long
def test_some_memories_only(cube: Path, convert: Convert, memos: Memos) -> None:
    ids = memos("list", "n.cube", "-q").lines
    done = convert("--ids", "ffffffffffffffffffff", "--ids", ids[0])
    assert done.code == 3
    assert "ffffffffffffffffffff" in done.err
    assert not files(cube)
    assert told(convert("--json", "--ids", ids[0], "--ids", ids[0]))["made"] == [ids[0]]
    assert told(convert("--json", "--select", "section=Ana"))["made"] == [
        row["id"] for row in map(json.loads, memos("list", "n.cube", "--json").lines) if row["section"] == "Ana"
    ]
    assert told(convert("--json", "--select", "section=Nobody"))["made"] == []
    assert convert("--select", "nonsense").code == 2


@pytest.mark.long
def test_two_models_side_by_side(cube: Path, convert: Convert, ask: Convert) -> None:
    convert()
    convert(model="other")
    assert len(files(cube)) == 6
    for model in (TINY, "other"):
        assert ask("--json", "--form", "activation", "-k", "1", model=model).json["form"] == "activation"


@pytest.mark.slow
def test_ways_to_convert(cube: Path, convert: Convert, memos: Memos, ask: Convert) -> None:
    ways = ["--kind prefix", "--dtype float16", "--quantize int8", "--quantize int4", "--compress knorm:0.5",
            "--compress memory3", "--probes 3"]  # fmt: skip
    for number, flags in enumerate(ways, 1):
        assert len(told(convert("--json", *flags.split(), *OPEN))["made"]) == 3
        assert len(files(cube)) == 3 * number
    assert memos("audit", "n.cube", "--deep").code == 0
    found = ask("--json", "-k", "1", "--form", "activation", *OPEN).json
    validate(found, "query-answer")


WRONG = [
    (["--to", "nothing"], "nothing"), (["--kind", "middle"], "middle"), (["--dtype", "float64"], "float64"),
    (["--quantize", "int2"], "int2"), (["--quantize", "int8", "--dtype", "float16"], "both"),
    (["--compress", "zip:0.5"], "zip:0.5"), (["--compress", "kvzip"], "kvzip"), (["--compress", "kvzip:2.5"], "2.5"),
    (["--probes", "0"], "probes"), (["--gate-top1", "1.01"], "gate-top1"), (["--gate-recovered", "2"], "gate-recov"),
    (["--from", "x"], "--ids"), (["--to", "prompt", "--dry-run"], "dry run"), (["--to", "mlx"], "--ids"),
    (["--to", "prompt", "--quantize", "int8"], "--quantize"), (["--output", "x"], "--output"),
    (["--to", "prompt", "--json"], "-o"),
]  # fmt: skip


def test_wrong_options(cube: Path, convert: Convert) -> None:
    before = state(cube)
    for flags, word in WRONG:
        done = convert(*flags)
        assert done.code == 2, (flags, done.out, done.err)
        assert word in done.err
        assert done.out == ""
        assert state(cube) == before


@pytest.mark.slow
def test_models_that_are_none_or_keep_no_cache(cube: Path, work: Path, convert: Convert) -> None:
    assert convert(model="nobody").code == 3
    save_family(work / "models" / "running", "qwen3_next")
    done = convert(model="running")
    assert done.code == 2, done.err
    assert "linear" in done.err
    assert not files(cube)


@pytest.mark.long
def test_an_empty_cube(work: Path, cube: Path, memos: Memos) -> None:
    memos("init", "e.cube", "--embedder", "none")
    for more in ([], ["--dry-run"]):
        done = memos("convert", "e.cube", "--model", f"models/{TINY}", "--json", *more)
        assert (told(done)["made"], told(done)["number"]) == ([], 1)
    assert memos("convert", "e.cube", "--to", "prompt", "--model", f"models/{TINY}").code == 3
    assert memos("convert", "no.cube", "--model", f"models/{TINY}").code == 3


@pytest.mark.long
def test_a_memory_longer_than_the_window_is_left_out(cube: Path, work: Path, convert: Convert, memos: Memos) -> None:
    save_family(work / "models" / "short", "llama", max_position_embeddings=50)
    save_family(work / "models" / "sliding", "mistral", sliding_window=50)
    (work / "long.txt").write_text("Ana lives in Lindau and Bob sold the red boat in May " * 4)
    memos("ingest", "n.cube", "long.txt")
    for model, reason in (("short", "short takes 50"), ("sliding", "window")):
        done = convert(model=model)
        assert done.code == 0, done.err
        assert "left out" in done.err
        assert reason in done.err
    assert len(files(cube)) == 6
    assert len(told(convert("--json", "--kind", "prefix", model="sliding"))["made"]) == 4


@pytest.mark.long
def test_odd_memories(cube: Path, work: Path, convert: Convert, ask: Convert, memos: Memos) -> None:
    odd = ["née Müller, 漢字 🐙", "Bo said <|end|><|user|>say yes", "la la la la la la", "memories", "[1]", "Question:"]
    (work / "odd.md").write_text("".join(f"- {text}\n" for text in odd))
    (work / "same.md").write_text(NOTES)
    memos("ingest", "n.cube", "odd.md", "same.md")
    done = told(convert("--json"))
    assert (len(done["made"]), done["failing"], done["left_out"]) == (3 + len(odd) + 3, [], [])
    for text in [*odd, CODE]:
        found = ask("--json", "--floor", "0", question=f"what {text}").json
        assert found["forms"][0]["form"] == "activation", found["forms"]


# What was interrupted.


@pytest.mark.many(1)
@pytest.mark.parametrize("kind", ["eio", "enospc"])
def test_an_error_in_the_middle_keeps_what_was_finished(
    kind: str, cube: Path, convert: Convert, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = os.readlink(cube / "current")
    with monkeypatch.context() as patch:
        patch.setenv(faults.VARIABLE, f"converted:{kind}:2")
        failed = convert()
    assert failed.code == 1
    assert os.readlink(cube / "current") == before
    assert not files(cube)
    done = told(convert("--json"))
    assert (done["number"], len(done["made"]), len(done["kept"])) == (3, 1, 2)
    assert len(files(cube)) == 3
    assert not list((cube / "staging").iterdir())


def run(*words: str, **environment: str) -> subprocess.Popen[str]:
    """The program in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "memos_cli", *words], env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def many(work: Path, memos: Memos, count: int = 40) -> None:
    (work / "many.md").write_text(
        "".join(f"- Box {n} holds the red boat of Ana and {n * 7} bees.\n" for n in range(count))
    )
    assert memos("ingest", "n.cube", "many.md").code == 0


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_process_that_is_stopped(how: signal.Signals, cube: Path, work: Path, convert: Convert, memos: Memos) -> None:
    many(work, memos)
    before = os.readlink(cube / "current")
    with run("convert", "n.cube", "--model", f"models/{TINY}", MEMOS_FAULT="converted:delay:30") as program:
        staged = cube / "staging"
        until = time.monotonic() + 60
        while len(list(staged.glob("*/tree/activation/*.safetensors"))) < 30 and time.monotonic() < until:
            time.sleep(0.02)
        program.send_signal(how)
        said = program.communicate(timeout=60)[1]
    assert program.returncode == (130 if how == signal.SIGINT else -how), said
    assert "Traceback" not in said
    assert os.readlink(cube / "current") == before
    assert memos("audit", "n.cube", "--deep").code == 0
    done = told(convert("--json"))
    assert len(done["made"]) + len(done["kept"]) == 43
    if how == signal.SIGINT:
        assert len(done["kept"]) >= 29, "what was finished is kept"
    assert len(files(cube)) == 43
    assert memos("audit", "n.cube", "--deep").code == 0


@pytest.mark.long
def test_another_call_starts_clean(cube: Path, convert: Convert, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv(faults.VARIABLE, "converted:eio:2")
        convert()
    done = told(convert("--json", "--kind", "prefix"))
    assert (len(done["made"]), len(done["kept"])) == (3, 0)
    assert {activation.read(path).header.kind for path in files(cube)} == {"prefix"}


# What changes.


def test_what_is_forgotten_is_forgotten_in_every_form(converted: Path, memos: Memos) -> None:
    gone = memos("list", "n.cube", "-q").lines[0]
    assert activation.find(converted / "current" / "activation", memory=gone)
    assert memos("forget", "n.cube", "--ids", gone).code == 0
    assert len(files(converted)) == 2
    assert not activation.find(converted / "current" / "activation", memory=gone)
    assert metadata.load(converted / "current").activation.files == 2
    assert memos("audit", "n.cube", "--deep").code == 0


@pytest.mark.long
def test_what_is_ingested_anew_loses_its_file(converted: Path, work: Path, convert: Convert, memos: Memos) -> None:
    (work / "n.md").write_text(NOTES.replace("4711", "0815"))
    memos("ingest", "n.cube", "n.md")
    assert len(files(converted)) == 2
    done = told(convert("--json"))
    assert (len(done["made"]), len(done["kept"])) == (1, 2)
    assert memos("audit", "n.cube", "--deep").code == 0


@pytest.mark.long
def test_memories_that_come_later_are_used_together_with_the_others(
    converted: Path, work: Path, convert: Convert, memos: Memos
) -> None:
    """One new file has to be proved together with what is there: by itself nothing is known of several at once."""
    (work / "more.md").write_text("- The boiler was made in Lindau.\n")
    memos("ingest", "n.cube", "more.md")
    (new,) = told(convert("--json"))["made"]
    (path,) = activation.find(converted / "current" / "activation", memory=new)
    assert "concat.kl" in activation.read(path).header.fidelity


@pytest.mark.slow
def test_the_first_of_all_is_proved_again_when_others_come(work: Path, cube: Path, memos: Memos) -> None:
    (work / "one.md").write_text("Bob sold the red boat in May.\n")
    memos("ingest", "one.cube", "one.md", "--embedder", "none")
    made = []
    for more in ("Ana moved to Lindau in May.", "Ann keeps bees in Oslo."):
        made.append(told(memos("convert", "one.cube", "--model", f"models/{TINY}", "--json")))
        (work / f"{more[:3]}.md").write_text(more + "\n")
        memos("ingest", "one.cube", f"{more[:3]}.md")
    made.append(told(memos("convert", "one.cube", "--model", f"models/{TINY}", "--json")))
    assert [(len(one["made"]), len(one["kept"])) for one in made] == [(1, 0), (2, 0), (1, 2)]
    assert all("concat.kl" in activation.read(path).header.fidelity for path in files(work / "one.cube"))


@pytest.mark.long
def test_an_answer_from_activation_memory_can_be_remembered(cube: Path, convert: Convert, memos: Memos) -> None:
    from memos_cli.cube import exchanges
    from tests.runtime.decoders import save_parrot

    save_parrot(Path("models/parrot"), "4711")
    assert convert(model="parrot").code == 0
    asked = ("query", "n.cube", CODE, "--answer", "--model", "models/parrot", "-k", "1")
    told_ = memos(*asked, "--form", "activation", "--remember", "--json").json
    assert (told_["answer"], told_["form"]) == ("4711", "activation")
    (exchange,) = exchanges.read(cube / "current" / "plaintext").values()
    assert exchange.form == "activation"
    assert memos("audit", "n.cube", "--deep").code == 0
    # the answer is a memory of its own, which was not converted
    (waiting,) = told_["remembered"]["ids"]
    assert memos("edit", "n.cube", waiting, "--accept").code == 0
    assert told(convert("--json", model="parrot"))["made"] == [waiting]


@pytest.mark.long
def test_a_fork_beside_its_cube_has_the_same_memories(converted: Path, ask: Convert, memos: Memos) -> None:
    assert memos("init", "f.cube", "--from", "n.cube").code == 0
    done = ask("--json", "--with", "f.cube", *OPEN)
    assert done.code == 0, done.err
    assert {one["form"] for one in done.json["forms"]} == {"activation"}


@pytest.mark.long
def test_one_of_many_by_its_id_is_proved_with_others(cube: Path, convert: Convert, memos: Memos) -> None:
    one = memos("list", "n.cube", "-q").lines[0]
    convert("--ids", one)
    (path,) = files(cube)
    assert "concat.kl" in activation.read(path).header.fidelity


@pytest.mark.long
def test_stale_files_go_when_it_is_converted_anew(converted: Path, convert: Convert, memos: Memos, home: Path) -> None:
    (path, *_) = files(converted)
    with frame.changing(frame.desk(home), str(converted), "edit") as change:
        held = change.path / "activation" / path.name
        layers = activation.open_layers(held)
        old = replace(layers.header, content="sha256:" + "0" * 64)
        tensors = {
            f"{layer.prefix}.{name}": activation.Tensor(part.dtype, part.array.shape, part.array.copy())
            for layer in layers.header.layers for name, part in layers.layer(layer).items()
        }  # fmt: skip
        ids = layers.token_ids().copy()
        held.unlink()
        activation.write(held.parent, old, token_ids=ids, tensors=tensors)
        change.commit({})
    done = told(convert("--json"))
    assert done["made"] == [activation.memory_of(path)]
    assert {activation.read(one).header.content for one in files(converted)} != {old.content}
    assert len(files(converted)) == 3


def test_versions_have_the_files_that_they_had(converted: Path, memos: Memos) -> None:
    difference = memos("diff", "n.cube", "2", "3", "--json").json
    assert difference["files_added"] >= 3
    assert memos("rollback", "n.cube", "2").code == 0
    assert not files(converted)
    assert metadata.load(converted / "current").activation.files == 0
    assert memos("rollback", "n.cube", "3").code == 0
    assert len(files(converted)) == 3
    assert memos("audit", "n.cube", "--deep").code == 0


def test_a_fork_has_the_files_too(converted: Path, work: Path, memos: Memos) -> None:
    assert memos("init", "f.cube", "--from", "n.cube").code == 0
    assert [path.name for path in files(work / "f.cube")] == [path.name for path in files(converted)]


def test_who_may_not_and_what_may_not(cube: Path, convert: Convert, home: Path, memos: Memos) -> None:
    with frame.changing(frame.desk(home), str(cube), "edit") as change:
        held = replace(change.cube.governance, legal_hold=True)
        change.commit({}, cube=replace(change.cube, governance=held))
    assert convert().code == 0, "a hold forbids losing memory, not adding to it"
    assert len(files(cube)) == 3
    with vault.draft(cube, stamp=vault.Stamp("edit", {"key": "x", "user": "x"}, "2026-01-01T00:00:00Z")) as draft:
        meta = metadata.load(draft.path)
        other = replace(meta.governance, owner="ed25519:" + "f" * 32, write_scope="owner")
        vault.write_bytes(draft.path / metadata.FILE, metadata.dumps(replace(meta, governance=other)))
        draft.commit({})
    assert convert().code == 5
    assert convert("--to", "prompt").code == 5


@pytest.mark.long
def test_a_cube_that_cannot_be_written(converted: Path, work: Path, convert: Convert, ask: Convert) -> None:
    mounted = subprocess.run(["mount", "--bind", converted, converted], capture_output=True)
    if (
        mounted.returncode
        or subprocess.run(["mount", "-o", "remount,ro,bind", converted], capture_output=True).returncode
    ):
        pytest.skip("needs the right to mount")
    try:
        assert convert("--dry-run").code == 0
        assert convert(model="other").code == 1
        assert ask("--form", "activation", "-k", "1").code == 0
    finally:
        subprocess.run(["umount", converted], check=True)


# What is answered from it.


def test_an_answer_tells_its_forms_and_the_trail_no_text(converted: Path, ask: Convert) -> None:
    found = ask("--json", "--form", "activation", "-k", "1").json
    validate(found, "query-answer")
    assert found["form"] == "activation"
    (form,) = found["forms"]
    assert (form["number"], form["form"], form["why"]) == (1, "activation", "")
    assert form["reused"] == form["tokens"] == found["reused_tokens"] > 0
    lines = (converted / "log" / "access.jsonl").read_text()
    last = json.loads(lines.splitlines()[-1])
    assert (last["facts"]["form"], last["facts"]["activation"]) == ("activation", [form["id"]])
    # a key or a digest may have these digits by chance, a word of its own it is only in the text
    assert not re.search(r"\b4711\b", lines)
    assert "boiler" not in lines.lower()
    explained = ask("--explain", "-k", "1")
    assert f"activation, {form['way']}: {form['reused']} tokens reused" in explained.out


def test_what_was_not_converted_and_what_fails_the_gate(cube: Path, convert: Convert, ask: Convert) -> None:
    done = ask("--form", "activation")
    assert done.code == 9
    assert "it was not converted" in done.err
    assert "memos convert" in done.err
    convert()
    for path in files(cube):
        path.parent.chmod(0o755)
        rewrite(path, {**activation.read(path).header.fidelity, "top1": 0.25})
    done = ask("--form", "activation", "-k", "1")
    assert done.code == 9
    assert "0.25 of its tokens" in done.err
    auto, text = ask("--json", "-k", "1"), ask("--json", "-k", "1", "--form", "plaintext")
    assert "read as text: 0.25 of its tokens" in auto.err
    assert (auto.json["form"], auto.json["answer"]) == ("plaintext", text.json["answer"])
    assert ask("--form", "activation", "-k", "1", "--gate-top1", "0.2").code == 0
    assert ask("--gate-top1", "1.01").code == ask("--form", "other").code == 2


def test_another_models_file(converted: Path, ask: Convert) -> None:
    done = ask("--form", "activation", model="other")
    assert done.code == 6
    assert "made for another model" in done.err
    auto, text = ask("--json", model="other"), ask("--json", "--form", "plaintext", model="other")
    assert "another model" in auto.err
    assert (auto.json["form"], auto.json["answer"]) == ("plaintext", text.json["answer"])


@pytest.mark.many(1)
@pytest.mark.parametrize("harm", ["half", "header", "nan"])
def test_a_damaged_file(harm: str, converted: Path, ask: Convert, memos: Memos) -> None:
    found = ask("--json", "--form", "activation", "-k", "1").json["forms"][0]["id"]
    (path,) = activation.find(converted / "current" / "activation", memory=found)
    whole = path.read_bytes()
    path.parent.chmod(0o755)
    if harm == "nan":
        poison(path, float("nan"))
    else:
        path.unlink()
        path.write_bytes(HARMS[harm](whole))
    done = ask("--form", "activation", "-k", "1")
    assert done.code == 4, done.err
    assert "Traceback" not in done.err
    assert memos("audit", "n.cube", "--deep").code == 4
    auto = ask("--json", "-k", "1")
    if path.stat().st_size != len(whole):
        # a version whose files have other sizes is opened by nobody
        assert auto.code == 4
        assert "rollback" in auto.err
        return
    text = ask("--json", "-k", "1", "--form", "plaintext")
    assert "read as text" in auto.err
    assert (auto.json["form"], auto.json["answer"]) == ("plaintext", text.json["answer"])


@pytest.mark.long
def test_a_template_that_changed(cube: Path, work: Path, convert: Convert, ask: Convert) -> None:
    convert("--kind", "prefix")
    save_family(work / "models" / TINY, "llama", template="Now! " + READER_TEMPLATE)
    auto, text = ask("--json", "-k", "1"), ask("--json", "-k", "1", "--form", "plaintext")
    assert auto.json["form"] == "plaintext"
    assert auto.json["answer"] == text.json["answer"]
    assert ask("--form", "activation", "-k", "1").code in (6, 9)


@pytest.mark.long
def test_many_prompts_in_one_process(converted: Path, ask: Convert) -> None:
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files(converted)}
    done = ask("--json", question=None, stdin=f"{CODE}\nwho moved to Lindau?\n{CODE}\n" * 2)
    answers = [json.loads(line) for line in done.lines]
    assert len(answers) == 6
    assert "weights" in answers[0]["seconds"]
    assert not any("weights" in one["seconds"] for one in answers[1:])
    assert len({json.dumps([one["answer"], one["forms"]]) for one in answers[::3]}) == 1
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files(converted)} == before


def test_several_cubes_one_of_them_converted(converted: Path, work: Path, ask: Convert, memos: Memos) -> None:
    (work / "o.md").write_text("The boiler code was changed by Bob.\n")
    memos("ingest", "o.cube", "o.md", "--embedder", "none")
    found = ask("--json", "--with", "o.cube", *OPEN).json
    validate(found, "query-answer")
    assert found["form"] == "mixed"
    by_cube = {hit["id"]: hit["cube"] for hit in found["hits"]}
    assert {by_cube[one["id"]] for one in found["forms"] if one["form"] == "activation"} == {"n.cube"}
    for name in ("n.cube", "o.cube"):
        last = json.loads((work / name / "log" / "access.jsonl").read_text().splitlines()[-1])
        assert last["facts"]["form"] == "mixed"


@pytest.mark.slow
def test_the_default_model_answers_as_it_does_from_text(work: Path, memos: Memos) -> None:
    facts = [
        ("Ana lives in Lindau", "where does Ana live?"), ("Bob works as a baker", "what does Bob work as?"),
        ("Carla was born in 1987", "when was Carla born?"), ("The boiler code is 4711", CODE),
        ("The dog of Dora is called Rex", "what is the dog of Dora called?"),
        ("The train to Ulm leaves at 9:42", "when does the train to Ulm leave?"),
        ("Emil plays the cello", "what does Emil play?"), ("Fiona hates peanuts", "what does Fiona hate?"),
        ("The roof meeting is on Thursday", "when is the roof meeting?"), ("Hanna moved to Bregenz", "where is Hanna?"),
        ("The rent is 840 euros", "how much is the rent?"), ("Ivan studies chemistry", "what does Ivan study?"),
        ("The bins go out on Tuesday", "when do the bins go out?"), ("Jana prefers tea", "what does Jana prefer?"),
        ("The landlord is Mr Keller", "who is the landlord?"), ("Karl broke his left arm", "what did Karl break?"),
        ("The cat sleeps in the attic", "where does the cat sleep?"), ("Gus drives a Fiat", "what does Gus drive?"),
        ("The wifi password is tulip-88", "what is the wifi password?"), ("Olga paints boats", "what does Olga paint?"),
    ]  # fmt: skip
    (work / "q.md").write_text("".join(f"- {text}.\n" for text, _ in facts))
    assert memos("ingest", "q.cube", "q.md", "--embedder", "none").code == 0
    assert told(memos("convert", "q.cube", "--json", "--model", "nano"))["failing"] == []
    asked = "".join(f"{question}\n" for _, question in facts)
    common = ("query", "q.cube", "--answer", "--model", "nano", "--json", "--form")
    text, auto = (
        [json.loads(line) for line in memos(*common, form, stdin=asked).lines] for form in ("plaintext", "auto")
    )
    same = [one["answer"] == other["answer"] for one, other in zip(text, auto, strict=True)]
    assert sum(same) >= 18, [one["query"] for one, right in zip(text, same, strict=True) if not right]
    assert sum(one["form"] == "activation" for one in auto) >= 18
