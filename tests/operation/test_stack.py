"""Adapters fused into one, and adapters from elsewhere taken in and given out, on a real model."""

from __future__ import annotations

import json
import os
import pickle
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from memos_cli.cube import parameter, parameter_stack
from memos_cli.cube.parameter import About, Adapter, Rights
from memos_cli.cube.parameter_files import CONFIG, SIDECAR, WEIGHTS
from memos_cli.errors import CheckFailed, Damaged, NotAllowed, NotFound, Usage, WrongModel
from memos_cli.infrastructure import adapters as carried
from memos_cli.operation import capability, stack
from memos_cli.runtime import adapter as lora
from memos_cli.runtime.fingerprint import Fingerprint, fingerprint
from memos_cli.runtime.model import Loaded, load
from tests.cube import adapters
from tests.cube.adapters import source
from tests.runtime.adapters import logits, save_random, scatter
from tests.runtime.decoders import save_family

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("decoder")
    save_family(folder)
    return folder


@pytest.fixture(scope="module")
def model(place: Path) -> Loaded:
    return load(place, name="tiny")


@pytest.fixture(scope="module")
def bare(model: Loaded, place: Path, tmp_path_factory: pytest.TempPathFactory) -> Fingerprint:
    return fingerprint(model, place, cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "version" / parameter.FOLDER
    place.parent.mkdir()
    return place


@pytest.fixture
def tower(model: Loaded, bare: Fingerprint, folder: Path) -> Path:
    """`a` and `b` by themselves, `c` on `a`, `d` on both."""
    a = make(model, bare, folder, "a", seed=1, sources=(source("aaaa"), source("eeee", standing="known")))
    make(model, bare, folder, "b", seed=2, sources=(source("bbbb"), source("aaaa", standing="known")),
         rights=Rights("restricted", "MIT", "Apache-2.0", NOW + timedelta(days=2)))  # fmt: skip
    c = make(model, bare, folder, "c", seed=3, requires=(a.reference,), sources=(source("cccc"),),
             rights=Rights("public", "GPL-3.0-only OR MIT", "Apache-2.0"))  # fmt: skip
    make(model, bare, folder, "d", seed=4, requires=(a.reference, c.reference), sources=(source("dddd"),))
    return folder


def make(model: Loaded, bare: Fingerprint, folder: Path, name: str, *, seed: int, **fields: Any) -> Adapter:
    below = [parameter.read(folder, one.partition("@")[0]).path for one in fields.get("requires", ())]
    about = About(**{
        "kind": parameter.FACTS, "base": carried.base_of("tiny", bare), "rights": Rights("internal"), "made_at": NOW,
        "gated": True, **fields,
    })  # fmt: skip
    with lora.fresh(model.network, rank=2, seed=seed, beneath=below) as made:
        scatter(made, seed=seed)
        return carried.store(made, folder, name, about=about)


def say(model: Loaded, *folders: Path) -> Any:
    with lora.attach(model.network, list(folders)):
        return logits(model.network)


def near(one: Any, other: Any) -> bool:
    import torch

    return torch.allclose(one, other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))


@pytest.mark.many(1)
@pytest.mark.parametrize("way", stack.WAYS)
def test_two_by_themselves_are_one(model: Loaded, tower: Path, tmp_path: Path, way: str) -> None:
    fused = stack.fuse(tower, ["a", "b"], tmp_path / "made", now=NOW, way=way)
    assert fused.rank == 4
    assert fused.error < 1e-6
    assert near(say(model, fused.made), say(model, tower / "a", tower / "b"))
    assert {one.memory_id: one.standing for one in fused.about.sources} == {
        "aaaa": "distilled", "eeee": "known", "bbbb": "distilled"
    }  # fmt: skip
    assert fused.about.rights == Rights("restricted", "MIT", "Apache-2.0", NOW + timedelta(days=2))
    assert not fused.about.gated
    assert fused.about.requires == ()
    held = parameter.write(tower, "both", made=fused.made, about=replace(fused.about, gated=True))
    assert held.memory_ids == {"aaaa", "bbbb"}
    assert held.about.recipe["members"] == [one.reference for one in fused.members]


def test_layers_are_one_on_what_is_beneath_them(model: Loaded, tower: Path, tmp_path: Path) -> None:
    chain = [tower / name for name in ("a", "c", "d")]
    upper = stack.fuse(tower, ["d", "c"], tmp_path / "upper", now=NOW)
    assert [one.name for one in upper.members] == ["c", "d"]
    assert upper.about.requires == (parameter.read(tower, "a").reference,)
    assert near(say(model, chain[0], upper.made), say(model, *chain))
    whole = stack.fuse(tower, ["a", "c", "d"], tmp_path / "whole", now=NOW)
    assert whole.about.requires == ()
    assert near(say(model, whole.made), say(model, *chain))
    assert whole.about.rights.licence == "GPL-3.0-only OR MIT"


def test_what_is_not_fused(tower: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    for names, more, word in (
        (["a"], {}, "two or more"), (["a", "a"], {}, "each once"), (["a", "b"], {"way": "linear"}, "cat or svd"),
        (["a", "b"], {"rank": 4}, "only svd"), (["a", "b"], {"way": "svd", "rank": 3}, "is 4, found 3"),
        (["a", "d"], {}, "c stands between"),
    ):  # fmt: skip
        with pytest.raises(Usage, match=word):
            stack.fuse(tower, names, made, now=NOW, **more)
    with pytest.raises(NotAllowed, match="expired"):
        stack.fuse(tower, ["a", "b"], made, now=NOW + timedelta(days=3))
    adapters.write(tower, "other", sources=())
    with pytest.raises(WrongModel, match="nano"):
        stack.fuse(tower, ["a", "other"], made, now=NOW)
    parameter_stack.mark_stale(tower, ["bbbb"], "it was deleted")
    with pytest.raises(CheckFailed, match="stale: it was deleted"):
        stack.fuse(tower, ["a", "b"], made, now=NOW)
    assert not made.exists()


# --- from elsewhere --------------------------------------------------------------------------------------------------


@pytest.fixture
def skill(model: Loaded, tmp_path: Path) -> Path:
    """An adapter as peft itself saves it, with all its keys and a card."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=3, lora_alpha=7, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    theirs = get_peft_model(model.network, config)
    import torch

    made = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, one in theirs.named_parameters():
            if "lora_" in name:
                one.copy_(torch.randn(one.shape, generator=made) * 0.3)
    theirs.save_pretrained(tmp_path / "skill")
    theirs.unload()
    return tmp_path / "skill"


def take(folder: Path, skill: Path, model: Loaded, bare: Fingerprint, name: str = "skill", **more: Any) -> Adapter:
    given: dict[str, Any] = {"rights": Rights("internal", "MIT", "Apache-2.0"), "now": NOW, **more}
    made, differs = capability.take_in(
        folder, capability.look(skill), name=name, network=model.network, model="tiny", fingerprint=bare, **given
    )
    assert differs > 0
    return made


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_what_peft_saved_comes_in_and_goes_out_the_same(
    model: Loaded, bare: Fingerprint, folder: Path, skill: Path, tmp_path: Path
) -> None:
    said = json.loads((skill / CONFIG).read_text())
    assert said["base_model_name_or_path"]
    made = take(folder, skill, model, bare)
    assert (made.about.kind, made.about.rights.licence, made.config.alpha) == ("capability", "MIT", 7.0)
    assert made.config.base == "tiny"
    assert "/" not in made.about.recipe["said_base"]
    assert (made.path / WEIGHTS).read_bytes() == (skill / WEIGHTS).read_bytes()
    with carried.attach(folder, "skill", model.network, model="tiny", fingerprint=bare, now=NOW) as attached:
        assert attached.warnings == ()
    out = tmp_path / "out"
    assert capability.give_out(folder, "skill", out, now=NOW).name == "skill"
    assert adapters.contents(out) == adapters.contents(made.path)
    again = take(folder, out, model, bare, "again", rights=Rights("public"))
    assert again.id == made.id
    assert again.about.rights == replace(made.about.rights)
    with pytest.raises(Usage, match="already"):
        capability.give_out(folder, "skill", out, now=NOW)
    with pytest.raises(NotFound, match="nowhere"):
        capability.give_out(folder, "skill", tmp_path / "nowhere" / "out", now=NOW)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("more", [{"target_modules": ".*(q|v)_proj"}, {"layers_to_transform": [0, 1, 2]}], ids=str)
def test_a_pattern_is_never_run_the_tensors_tell(
    model: Loaded, bare: Fingerprint, folder: Path, skill: Path, more: dict[str, Any]
) -> None:
    said = json.loads((skill / CONFIG).read_text())
    (skill / CONFIG).write_text(json.dumps({**said, **more}))
    made = take(folder, skill, model, bare)
    assert "model.layers.0.self_attn.q_proj" in made.config.targets
    assert near(say(model, made.path), say(model, take_plain(folder, skill, said, model, bare).path))


def take_plain(folder: Path, skill: Path, said: dict[str, Any], model: Loaded, bare: Fingerprint) -> Adapter:
    (skill / CONFIG).write_text(json.dumps(said))
    return take(folder, skill, model, bare, "plain")


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_what_is_hostile_stays_outside(
    model: Loaded, bare: Fingerprint, folder: Path, skill: Path, tmp_path: Path
) -> None:
    (skill / "adapter_model.bin").write_bytes(pickle.dumps(print))
    with pytest.raises(Damaged, match="adapter_model.bin") as caught:
        take(folder, skill, model, bare)
    assert caught.value.exit_code == 4
    assert WEIGHTS in str(caught.value.hint)
    (skill / "adapter_model.bin").unlink()
    said = json.loads((skill / CONFIG).read_text())
    (skill / CONFIG).write_text(json.dumps({**said, "auto_mapping": {"parent_library": "os"}}))
    with pytest.raises(Damaged, match="auto_mapping"):
        take(folder, skill, model, bare)
    (skill / CONFIG).write_text(json.dumps(said))
    os.symlink(skill, tmp_path / "link")
    with pytest.raises(Damaged, match="no link"):
        take(folder, tmp_path / "link", model, bare)
    assert not folder.exists()


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_another_model_is_seen_by_its_shapes_or_by_what_came_with_it(
    model: Loaded, bare: Fingerprint, folder: Path, skill: Path, tmp_path: Path
) -> None:
    from tests.runtime.test_layout import new_model

    other = save_random(new_model("llama", hidden_size=48), tmp_path / "other", seed=1)
    with pytest.raises(WrongModel, match="numbers"):
        take(folder, other, model, bare)
    take(folder, skill, model, bare)
    capability.give_out(folder, "skill", tmp_path / "out", now=NOW)
    moved = Fingerprint({**bare.hard, "weights": "66" * 32}, bare.soft)
    with pytest.raises(WrongModel, match="tiny@66666666"):
        take(folder, tmp_path / "out", model, moved, "again")
    text = (tmp_path / "out" / SIDECAR).read_text()
    (tmp_path / "out" / SIDECAR).write_text(text.replace(parameter.read(folder, "skill").id, "0" * 64))
    with pytest.raises(Damaged, match="beside it"):
        capability.look(tmp_path / "out")
    assert parameter.names(folder) == ["skill"]


@pytest.mark.long
def test_a_chain_goes_out_as_one(model: Loaded, bare: Fingerprint, tower: Path, tmp_path: Path) -> None:
    before = say(model, *(tower / name for name in ("a", "c", "d")))
    out = capability.give_out(tower, "d", tmp_path / "out", now=NOW)
    assert (out.weights.rank, out.about.requires, out.about.gated) == (6, (), True)
    assert near(say(model, tmp_path / "out"), before)
    taken = take(tower, tmp_path / "out", model, bare)
    assert taken.about.sources == ()
    parameter_stack.mark_stale(tower, ["aaaa"], "it was deleted")
    with pytest.raises(CheckFailed, match="stale"):
        capability.give_out(tower, "d", tmp_path / "again", now=NOW)
    assert not (tmp_path / "again").exists()
    with pytest.raises(NotAllowed, match="expired"):
        capability.give_out(tower, "b", tmp_path / "again", now=NOW + timedelta(days=9))
