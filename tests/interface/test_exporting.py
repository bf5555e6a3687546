"""Activation memory to other programs and from them, through the whole program."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from memos_cli.cube import activation, metadata
from memos_cli.interface import api, frame
from memos_cli.runtime.model import LocalModel
from tests.conftest import Begin, Done, Memos, ok
from tests.runtime.decoders import save_family

NOTES = "# House\n\n- Boiler code: 4711\n- Bins go out on Tuesday.\n\n# Ana\n\nAna moved to Lindau in May.\n"
CODE = "what is the boiler code?"
TINY = "models/tiny"


def three_notes(memos: Memos) -> None:
    save_family(Path(TINY), "llama")
    save_family(Path("models/other"), "qwen3")
    Path("n.md").write_text(NOTES)
    ok(memos("ingest", "n.cube", "n.md", "--embedder", "none"))


def with_a_prompt_cache(memos: Memos) -> None:
    three_notes(memos)
    (code,) = memos("query", "n.cube", CODE, "-k", "1", "-q").lines
    ok(memos("convert", "n.cube", "--model", TINY, "--ids", code, "--kind", "prefix"))
    words = ["convert", "n.cube", "--model", TINY, "--to", "mlx", "--ids", code, "-o", "code.safetensors", "--json"]
    told = ok(memos(*words)).json
    jsonschema.validate(told, schema("convert-export"))
    assert (told["label"], told["memories"]) == ("unverified", [code])


@pytest.fixture
def cube(begin: Begin, work: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cube of three memories, and two models beside it; with a prompt cache of one where that is asked for."""
    monkeypatch.delenv("MEMOS_MODEL", raising=False)
    begin(with_a_prompt_cache if "exported" in request.fixturenames else three_notes)
    return work / "n.cube"


Convert = Callable[..., Done]


@pytest.fixture
def convert(cube: Path, memos: Memos) -> Convert:
    return lambda *more, model=TINY: memos("convert", "n.cube", "--model", model, *more)


@pytest.fixture
def code(cube: Path, memos: Memos) -> str:
    """The id of the memory of the boiler's code."""
    (found,) = memos("query", "n.cube", CODE, "-k", "1", "-q").lines
    return found


def files(cube: Path) -> list[Path]:
    return activation.find(cube / "current" / "activation")


# Packs of prompts.


def test_a_pack_is_one_line_of_json_with_the_tokens_of_every_such_prompt(
    cube: Path, convert: Convert, memos: Memos, work: Path
) -> None:
    before = os.readlink(cube / "current")
    done = convert("--to", "prompt")
    assert done.code == 0, done.err
    pack = done.json
    assert [one["id"] for one in pack["memories"]] == memos("list", "n.cube", "-q").lines
    assert pack["tokens"] == len(pack["prefix_token_ids"]) > 0
    loaded = LocalModel(TINY).load()
    asked = [(one["role"], one["content"]) for one in pack["messages"]] + [("user", CODE)]
    whole = loaded.tokenizer.apply_chat_template(
        [{"role": role, "content": text} for role, text in asked], tokenize=False, add_generation_prompt=True
    )
    ids = loaded.tokenizer(whole, add_special_tokens=False)["input_ids"]
    assert ids[: pack["tokens"]] == pack["prefix_token_ids"]
    assert os.readlink(cube / "current") == before
    told = convert("--to", "prompt", "-o", "pack.json", "--json")
    jsonschema.validate(told.json, schema("convert-export"))
    assert (work / "pack.json").read_text() == done.out
    assert convert("--to", "prompt").out == done.out, "equal cubes give equal packs"


def schema(name: str) -> Any:
    from schemas import generate

    return generate.schema_of(generate.OUTPUTS[name])


def test_a_pack_of_some(convert: Convert, code: str, work: Path) -> None:
    pack = convert("--to", "prompt", "--ids", code).json
    assert [one["id"] for one in pack["memories"]] == [code]
    assert convert("--to", "prompt", "--ids", "ffff").code == 3
    assert convert("--to", "prompt", "--select", "section=Nobody").code == 3
    done = convert("--to", "prompt", "-o", "no/such/folder/pack.json")
    assert done.code == 1
    assert "Traceback" not in done.err
    assert not list(work.glob("*.tmp"))


def test_packs_go_to_who_may_share(cube: Path, convert: Convert, home: Path, code: str, work: Path) -> None:
    convert("--ids", code, "--kind", "prefix")
    with frame.changing(frame.desk(home), str(cube), "edit") as change:
        mine = replace(change.cube.governance, owner="ed25519:" + "f" * 32, read_scope="anyone", write_scope="anyone")
        change.commit({}, cube=replace(change.cube, governance=mine))
    for words in (["--to", "prompt", "-o", "x"], ["--to", "mlx", "--ids", code, "-o", "x"]):
        done = convert(*words)
        assert done.code == 5
        assert "share_scope" in done.err
        assert not (work / "x").exists()
    last = json.loads((cube / "log" / "access.jsonl").read_text().splitlines()[-1])
    assert (last["verb"], last["outcome"]) == ("export", "denied")


# mlx-lm.


@pytest.fixture
def exported(cube: Path, work: Path) -> Path:
    """A prompt cache of the memory of the boiler's code, as it was exported from the cube."""
    return work / "code.safetensors"


def test_there_and_back_is_the_same(exported: Path, cube: Path, convert: Convert, code: str, memos: Memos) -> None:
    (path,) = files(cube)
    before = activation.open_layers(path)
    kept = {f"{layer.index}.{name}": part.array.tobytes() for layer in before.header.layers
            for name, part in before.layer(layer).items()}  # fmt: skip
    fidelity = before.header.fidelity
    assert memos("rollback", "n.cube", "2").code == 0
    assert not files(cube)
    done = convert("--from", str(exported), "--ids", code, "--json")
    assert done.code == 0, done.err
    jsonschema.validate(done.json, schema("convert"))
    assert (done.json["made"], done.json["failing"]) == ([code], [])
    (path,) = files(cube)
    back = activation.open_layers(path)
    assert back.header.kind == "prefix"
    assert back.header.source["label"] == "unverified"
    assert back.header.fidelity["top1"] == fidelity["top1"] == 1.0
    assert kept == {f"{layer.index}.{name}": part.array.tobytes() for layer in back.header.layers
                    for name, part in back.layer(layer).items()}  # fmt: skip
    assert memos("audit", "n.cube", "--deep").code == 0
    found = memos("query", "n.cube", CODE, "--answer", "--model", TINY, "-k", "1", "--form", "activation", "--json")
    assert found.json["form"] == "activation"


def strip(path: Path, change: Callable[[dict[str, Any]], Any] = lambda tensors: None) -> Path:
    """The prompt cache as somebody else's program would have written it: without our notes."""
    from safetensors import safe_open
    from safetensors.numpy import save_file

    with safe_open(path, "np") as file:
        notes = {name: text for name, text in file.metadata().items() if ".memos." not in name}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(tensors)
    foreign = path.with_name("foreign.safetensors")
    save_file(tensors, foreign, metadata=notes)
    return foreign


def test_a_foreign_cache_is_proved(exported: Path, cube: Path, convert: Convert, code: str) -> None:
    done = convert("--from", str(strip(exported)), "--ids", code, "--json")
    assert done.code == 0, done.err
    assert done.json["failing"] == []
    assert "unverified" in done.err


def test_a_cache_of_an_official_cube_is_proved(
    exported: Path, cube: Path, convert: Convert, code: str, memos: Memos, monkeypatch: pytest.MonkeyPatch, work: Path
) -> None:
    from safetensors.torch import load_file

    from tests.cube.official_pickles import classes, generation

    tensors = load_file(exported)
    count = len([name for name in tensors if name.endswith(".0")])
    both = [(tensors[f"{index}.0"], tensors[f"{index}.1"]) for index in range(count)]
    # the real class is needed again to convert, once the file is written
    with monkeypatch.context() as patch:
        (work / "cache.pickle").write_bytes(generation("layers", classes(patch), both))
    memos("rollback", "n.cube", "2")
    done = convert("--from", "cache.pickle", "--ids", code, "--json")
    assert done.code == 0, done.err
    assert (done.json["made"], done.json["failing"]) == ([code], [])
    (path,) = files(cube)
    assert activation.read(path).header.source["from"] == "MemOS"
    import pickle

    (work / "evil.pickle").write_bytes(pickle.dumps(os.getcwd, protocol=5))
    done = convert("--from", "evil.pickle", "--ids", code)
    assert done.code == 4
    assert "posix.getcwd" in done.err
    assert "nothing of it was run" in done.err


@pytest.mark.long
def test_a_foreign_cache_of_other_weights_is_never_used(
    exported: Path, cube: Path, convert: Convert, code: str, memos: Memos
) -> None:
    import numpy as np

    def other(tensors: dict[str, Any]) -> None:
        random = np.random.default_rng(3)
        for name, tensor in tensors.items():
            if tensor.ndim == 4:
                tensors[name] = random.normal(0, 3, tensor.shape).astype(tensor.dtype)

    memos("rollback", "n.cube", "2")
    done = convert("--from", str(strip(exported, other)), "--ids", code, "--json")
    assert done.code == 0, done.err
    assert done.json["failing"] == [code]
    asked = ("query", "n.cube", CODE, "--answer", "--model", TINY, "-k", "1")
    assert memos(*asked, "--json").json["form"] == "plaintext"
    assert memos(*asked, "--form", "activation").code == 9


@pytest.mark.long
def test_a_foreign_cache_of_another_number_of_tokens(exported: Path, cube: Path, convert: Convert, code: str) -> None:
    import numpy as np

    def cut(tensors: dict[str, Any]) -> None:
        for name, tensor in tensors.items():
            if tensor.ndim == 4:
                tensors[name] = np.ascontiguousarray(tensor[:, :, :-2])
            else:
                tensors[name] = np.asarray(tensor - 2, dtype=tensor.dtype)

    before = os.readlink(cube / "current")
    done = convert("--from", str(strip(exported, cut)), "--ids", code)
    assert done.code == 2
    assert "tokens" in done.err
    assert os.readlink(cube / "current") == before


@pytest.mark.long
def test_a_cache_of_another_memory_or_another_model(
    exported: Path, cube: Path, convert: Convert, memos: Memos, code: str
) -> None:
    other = next(one for one in memos("list", "n.cube", "-q").lines if one != code)
    before = os.readlink(cube / "current")
    assert convert("--from", str(exported), "--ids", other).code in (2, 4)
    assert convert("--from", str(exported), "--ids", "ffff").code == 3
    assert convert("--from", "nothing.safetensors", "--ids", code).code == 3
    assert os.readlink(cube / "current") == before
    # by its numbers of layers, heads and tokens it could be of this model; only its figures tell
    done = convert("--from", str(strip(exported)), "--ids", code, "--json", model="models/other")
    if done.code == 0:
        assert done.json["failing"] == [code]


HOSTILE = {
    "empty": lambda data: b"", "cut": lambda data: data[: len(data) // 2], "text": lambda data: b"not a cache at all",
    "length": lambda data: b"\xff" * 8 + data[8:], "pickle": lambda data: b"\x80\x04\x95" + data,
    "nan": lambda data: data[:-4] + b"\x00\x00\xc0\x7f",
}  # fmt: skip


@pytest.mark.many(2)
@pytest.mark.parametrize("harm", HOSTILE)
def test_a_hostile_file_is_refused(harm: str, exported: Path, cube: Path, convert: Convert, code: str) -> None:
    foreign = strip(exported)
    foreign.write_bytes(HOSTILE[harm](foreign.read_bytes()))
    before = os.readlink(cube / "current")
    done = convert("--from", str(foreign), "--ids", code)
    assert done.code == 4, (done.code, done.err)
    assert "Traceback" not in done.err
    assert os.readlink(cube / "current") == before
    assert not list((cube / "staging").iterdir())


@pytest.mark.long
def test_what_no_prompt_cache_can_hold(cube: Path, convert: Convert, code: str, work: Path) -> None:
    done = convert("--to", "mlx", "--ids", code, "-o", "x.safetensors")
    assert done.code == 3
    assert "--kind prefix" in done.err
    assert convert("--to", "mlx", "-o", "x.safetensors").code == 2
    assert convert("--to", "mlx", "--ids", code).code == 2
    convert("--ids", code, "--kind", "prefix", "--compress", "knorm:0.5")
    assert convert("--to", "mlx", "--ids", code, "-o", "x.safetensors").code in (2, 3)
    assert not (work / "x.safetensors").exists()


@pytest.mark.long
def test_the_cache_of_the_model_that_was_asked_for_is_exported(
    exported: Path, cube: Path, convert: Convert, code: str, work: Path
) -> None:
    """Two models have made a prefix of it; each comes out under its own name."""
    convert("--ids", code, "--kind", "prefix", model="models/other")
    save_family(Path("models/third"), "phi")
    assert convert("--to", "mlx", "--ids", code, "-o", "third.safetensors", model="models/third").code == 3
    for name in ("tiny", "other"):
        done = convert("--to", "mlx", "--ids", code, "-o", f"{name}.safetensors", "--json", model=f"models/{name}")
        assert done.json["model"] == name
    assert (work / "tiny.safetensors").read_bytes() != (work / "other.safetensors").read_bytes()


def test_the_api_gives_the_same(cube: Path, home: Path, work: Path) -> None:
    wrote, text = api.export(cube, "-", model=TINY, home=home)
    assert json.loads(text)["tokens"] == wrote.tokens
    assert metadata.load(cube / "current").activation.files == 0
