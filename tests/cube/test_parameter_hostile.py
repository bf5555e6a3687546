"""Hostile adapters: each is refused with its reason, before anything of it is used."""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253  # tensors that no writer makes
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memos_cli.cube import parameter, parameter_config, tensorfile
from memos_cli.cube.parameter_files import CONFIG, README, WEIGHTS
from memos_cli.cube.tensorfile import Tensor
from memos_cli.errors import Damaged
from tests.cube import adapters


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the adapters of a version lie."""
    place = tmp_path / "version" / parameter.FOLDER
    place.parent.mkdir()
    return place


def plant(name: str, data: bytes = b"x") -> Callable[[Path], object]:
    return lambda path: (path / name).write_bytes(data)


def link_weights(path: Path) -> None:
    (path / WEIGHTS).rename(path.parent / "elsewhere")
    (path / WEIGHTS).symlink_to(path.parent / "elsewhere")


def change_config(**fields: Any) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        said = json.loads((path / CONFIG).read_text())
        (path / CONFIG).write_text(json.dumps({**said, **fields}))

    return change


def rewrite(change: Callable[[dict[str, Tensor]], object]) -> Callable[[Path], object]:
    def do(path: Path) -> None:
        made = adapters.tensors()
        change(made)
        tensorfile.write(path / WEIGHTS, {"format": "pt"}, made, sealed=False)

    return do


def spoil(value: float) -> Callable[[dict[str, Tensor]], object]:
    def change(made: dict[str, Tensor]) -> None:
        name = min(made)
        numbers = made[name].data.copy()
        numbers[0, 0] = value
        made[name] = made[name]._replace(data=numbers)

    return change


def reshape(name: str, shape: tuple[int, ...]) -> Callable[[dict[str, Tensor]], object]:
    return lambda made: made.update({name: Tensor("F32", shape, np.ones(shape, "<f4"))})


def drop(half: str) -> Callable[[dict[str, Tensor]], object]:
    return lambda made: made.pop(min(name for name in made if half in name))


def header(text: bytes, length: int | None = None, data: bytes = b"") -> Callable[[Path], object]:
    packed = struct.pack("<Q", len(text) if length is None else length)
    return lambda path: (path / WEIGHTS).write_bytes(packed + text + data)


_UP = "base_model.model.model.layers.0.mlp.up_proj.lora_A.weight"
HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "pickle beside": (plant("adapter_model.bin", pickle.dumps(print)), "adapter_model.bin"),
    "torch pickle": (plant("adapter_model.pt", pickle.dumps(print)), "adapter_model.pt"),
    "python": (plant("modeling.py", b"import os"), "modeling.py"),
    "training state": (plant("optimizer.pt"), "optimizer.pt"),
    "tokenizer": (plant("tokenizer.json", b"{}"), "tokenizer.json"),
    "hidden file": (plant(".hidden"), ".hidden"),
    "subfolder": (lambda path: (path / "default").mkdir(), "default"),
    "folder as readme": (lambda path: (path / README).mkdir(), "ordinary file"),
    "huge readme": (plant(README, b"x" * ((1 << 20) + 1)), "at most"),
    "link as weights": (link_weights, "ordinary file"),
    "link as config": (lambda path: ((path / CONFIG).unlink(), (path / CONFIG).symlink_to("/etc/passwd")), "ordinary"),
    "pipe as weights": (lambda path: ((path / WEIGHTS).unlink(), os.mkfifo(path / WEIGHTS)), "ordinary file"),
    "no weights": (lambda path: (path / WEIGHTS).unlink(), WEIGHTS),
    "no config": (lambda path: (path / CONFIG).unlink(), CONFIG),
    "config no json": (plant(CONFIG, b"{"), "JSON"),
    "config no utf-8": (plant(CONFIG, b"\xff{}"), "JSON"),
    "config a list": (plant(CONFIG, b"[]"), "an object"),
    "config deep": (plant(CONFIG, b"[" * 60_000), "JSON"),
    "config huge": (plant(CONFIG, b" " * (257 * 1024)), "at most"),
    "config long number": (plant(CONFIG, b'{"r": ' + b"1" * 9000 + b"}"), "JSON"),
    "config key twice": (plant(CONFIG, b'{"r": 1, "r": 2}'), "twice"),
    "config nan": (plant(CONFIG, b'{"lora_alpha": NaN}'), "JSON"),
    "config without rank": (plant(CONFIG, b'{"peft_type": "LORA", "lora_alpha": 1}'), "r, found"),
    "rslora": (change_config(use_rslora=True), "use_rslora"),
    "dora": (change_config(use_dora=True), "use_dora"),
    "lora bias": (change_config(lora_bias=True), "lora_bias"),
    "bias": (change_config(bias="lora_only"), "bias"),
    "modules to save": (change_config(modules_to_save=["lm_head"]), "modules_to_save"),
    "target parameters": (change_config(target_parameters=["experts.down_proj"]), "target_parameters"),
    "rank pattern": (change_config(rank_pattern={"up_proj": 2}), "rank_pattern"),
    "alpha pattern": (change_config(alpha_pattern={"up_proj": 2}), "alpha_pattern"),
    "init that changes the base": (change_config(init_lora_weights="pissa"), "init_lora_weights"),
    "loftq": (change_config(loftq_config={"loftq_bits": 4}), "loftq_config"),
    "auto mapping": (change_config(auto_mapping={"base_model_class": "X", "parent_library": "os"}), "auto_mapping"),
    "megatron": (change_config(megatron_config={"a": 1}, megatron_core="os"), "megatron"),
    "unknown key": (change_config(brand_new=1), "brand_new"),
    "zero is not off": (change_config(layer_replication=0), "layer_replication"),
    "another method": (change_config(peft_type="IA3"), "peft_type"),
    "another task": (change_config(task_type="SEQ_CLS"), "task_type"),
    "rank nought": (change_config(r=0), "r,"),
    "rank huge": (change_config(r=10**9), "r,"),
    "rank true": (change_config(r=True), "r,"),
    "alpha negative": (change_config(lora_alpha=-8), "lora_alpha"),
    "alpha text": (change_config(lora_alpha="8"), "lora_alpha"),
    "alpha endless": (change_config(lora_alpha=1e300), "lora_alpha"),
    "targets a pattern": (change_config(target_modules="(a+)+$"), "target_modules"),
    "targets none": (change_config(target_modules=[]), "target_modules"),
    "targets odd": (change_config(target_modules=["../up"]), "target_modules"),
    "targets of which there are no weights": (change_config(target_modules=["down_proj", "up_proj", "x"]), "of x"),
    "rank of other weights": (change_config(r=8), r"lora_A \[8, in\]"),
    "not a number": (rewrite(spoil(float("nan"))), "infinite or not"),
    "infinite": (rewrite(spoil(float("inf"))), "infinite or not"),
    "A without B": (rewrite(drop("lora_B")), "lora_B"),
    "B without A": (rewrite(drop("lora_A")), "lora_A"),
    "a vector": (rewrite(reshape(_UP, (32,))), "lora_A"),
    "another module": (rewrite(reshape(_UP.replace("up_proj", "gate_proj"), (4, 8))), "gate_proj"),
    "a base's tensor": (rewrite(reshape("base_model.model.lm_head.weight", (4, 8))), "lm_head"),
    "an embedding": (rewrite(reshape(_UP.replace("lora_A.weight", "lora_embedding_A"), (4, 8))), "embedding"),
    "a magnitude": (rewrite(reshape(_UP.replace("lora_A", "lora_magnitude_vector"), (4, 8))), "magnitude"),
    "numbers of two kinds": (
        rewrite(lambda made: made.update({_UP: Tensor("F16", (4, 8), np.ones((4, 8), "<f2"))})), "F16, F32"
    ),
    "whole numbers": (
        rewrite(lambda made: made.update({n: t._replace(dtype="I32") for n, t in made.items()})), "I32"
    ),
    "nothing in it": (header(b"{}"), "at least one module"),
    "empty file": (plant(WEIGHTS, b""), "from 10"),
    "header bomb": (header(b"{}", length=1 << 60), "a header of at most"),
    "header longer than the file": (header(b"{}", length=1 << 20), "cut short"),
    "many tensors": (
        header(json.dumps({f"t{i}": {"dtype": "F32", "shape": [], "data_offsets": [0, 0]} for i in range(9000)})
        .encode()), "at most 8192"
    ),
    "tensor beyond the end": (
        header(json.dumps({_UP: {"dtype": "F32", "shape": [4, 8], "data_offsets": [0, 128]}}).encode()), "cut short"
    ),
    "overlapping": (
        header(json.dumps({
            _UP: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
            _UP.replace("lora_A", "lora_B"): {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
        }).encode(), data=b"\0" * 4),
        "overlap",
    ),
    "cut short": (lambda path: os.truncate(path / WEIGHTS, os.path.getsize(path / WEIGHTS) - 4), "cut short"),
    "something after": (
        lambda path: (path / WEIGHTS).write_bytes((path / WEIGHTS).read_bytes() + b"\0"), "after the last"
    ),
}  # fmt: skip


@pytest.mark.many(24)
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_folder_is_refused_and_nothing_is_taken_from_it(folder: Path, tmp_path: Path, kind: str) -> None:
    adapters.write(folder)
    before = adapters.contents(folder)
    harm, word = HOSTILE[kind]
    made = adapters.lay(tmp_path / "hostile")
    harm(made)
    with pytest.raises(Damaged, match=word) as caught:
        parameter.write(folder, "new", made=made, about=adapters.about())
    assert caught.value.exit_code == 4
    assert adapters.contents(folder) == before
    assert parameter.names(folder) == ["facts"]
    assert os.listdir(folder) == ["facts"]


@pytest.mark.many(24)
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_stored_adapter_that_became_hostile_is_refused(folder: Path, kind: str) -> None:
    made = adapters.write(folder)
    HOSTILE[kind][0](made.path)
    with pytest.raises(Damaged):
        parameter.verify(folder, "facts")


@pytest.mark.long
def test_names_of_many_modules_that_have_no_weights_are_told(folder: Path, tmp_path: Path) -> None:
    paths = [f"model.layers.{number}.mlp.up_proj" for number in range(2000)]
    one = np.ones((1, 1), "<f4")
    weights = {
        f"base_model.model.{path}.lora_{half}.weight": Tensor("F32", (1, 1), one) for path in paths for half in "AB"
    }
    idle = [f"x{number}" for number in range(2000)]
    made = adapters.lay(tmp_path / "many", weights=weights, r=1, target_modules=paths + idle)
    with pytest.raises(Damaged, match="weights of x0"):
        parameter.write(folder, "many", made=made, about=adapters.about())


def test_a_link_in_the_place_of_an_adapter_is_refused(folder: Path, tmp_path: Path) -> None:
    made = adapters.write(folder)
    made.path.rename(tmp_path / "moved")
    made.path.symlink_to(tmp_path / "moved")
    assert parameter.names(folder) == []
    assert parameter.strays(folder) == ["facts"]
    with pytest.raises(Damaged, match="no link"):
        parameter.read(folder, "facts")


@settings(max_examples=60, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_every_flipped_bit_is_found(tmp_path_factory: pytest.TempPathFactory, place: float, bit: int) -> None:
    folder = tmp_path_factory.mktemp("flip") / parameter.FOLDER
    made = adapters.write(folder)
    data = bytearray((made.path / WEIGHTS).read_bytes())
    data[int(place * len(data))] ^= 1 << bit
    (made.path / WEIGHTS).write_bytes(bytes(data))
    with pytest.raises(Damaged):
        parameter.verify(folder, "facts")


def test_what_a_foreign_config_may_say_besides(tmp_path: Path) -> None:
    for fields in ({"target_modules": ".*up_proj"}, {"layers_to_transform": [0, 1]}, {"exclude_modules": "lm_head"}):
        made = adapters.lay(tmp_path / next(iter(fields)), **fields)
        with pytest.raises(Damaged):
            parameter_config.read(made / CONFIG)
        assert parameter_config.read(made / CONFIG, foreign=True).targets == ()
    whole = {
        "auto_mapping": None, "use_dora": False, "loftq_config": {}, "rank_pattern": {}, "layers_pattern": None,
        "megatron_core": "megatron.core", "qalora_group_size": 16, "peft_version": "0.21.2", "eva_config": None,
    }  # fmt: skip
    assert parameter_config.read(adapters.lay(tmp_path / "whole", **whole) / CONFIG).targets == adapters.TARGETS
