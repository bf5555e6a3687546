"""Adapters of a cube on a running model: put on only where they belong."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from memos_cli.cube import activation, parameter, parameter_stack
from memos_cli.cube.parameter import About, Rights
from memos_cli.errors import CheckFailed, Damaged, NotAllowed, Usage, WrongModel
from memos_cli.infrastructure import adapters, dumper, loader
from memos_cli.runtime import adapter as lora
from memos_cli.runtime import kv
from memos_cli.runtime.fingerprint import Fingerprint, fingerprint, under
from memos_cli.runtime.model import Loaded, load
from tests.cube.adapters import source
from tests.runtime.adapters import logits, scatter
from tests.runtime.decoders import save_family, save_random

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


def about(bare: Fingerprint, **fields: Any) -> About:
    values: dict[str, Any] = {
        "kind": parameter.FACTS, "base": adapters.base_of("tiny", bare), "rights": Rights("internal"), "made_at": NOW,
        "sources": (source(),), "gated": True,
    }  # fmt: skip
    return About(**{**values, **fields})


def make(model: Loaded, bare: Fingerprint, folder: Path, name: str, *, seed: int = 1, **fields: Any) -> Any:
    below = [parameter.read(folder, one.partition("@")[0]).path for one in fields.get("requires", ())]
    with lora.fresh(model.network, rank=2, seed=seed, beneath=below) as made:
        scatter(made, seed=seed)
        return adapters.store(made, folder, name, about=about(bare, **fields))


def attach(folder: Path, name: str, model: Loaded, bare: Fingerprint, **more: Any) -> adapters.Attached:
    return adapters.attach(folder, name, model.network, **{"model": "tiny", "fingerprint": bare, "now": NOW, **more})


def test_a_chain_of_a_cube_is_put_on_and_taken_off(model: Loaded, bare: Fingerprint, folder: Path) -> None:
    import torch

    before = logits(model.network)
    first = make(model, bare, folder, "first")
    second = make(model, bare, folder, "second", seed=2, requires=(first.reference,))
    with lora.attach(model.network, [first.path, second.path]):
        both = logits(model.network)
    with attach(folder, "second", model, bare) as attached:
        assert torch.equal(logits(model.network), both)
        assert attached.adapters == (first, second)
        assert attached.warnings == ()
        assert attached.differs > 0
        assert attached.fingerprint.hard["adapters"] == f"{first.id},{second.id}"
    assert torch.equal(logits(model.network), before)


# peft asks transformers in a way that transformers has given up
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_peft_itself_loads_the_folder_as_it_lies_in_a_cube(model: Loaded, bare: Fingerprint, folder: Path) -> None:
    import torch
    from peft import PeftModel

    first = make(model, bare, folder, "first")
    (first.path / "README.md").write_text("A card.")
    with attach(folder, "first", model, bare):
        ours = logits(model.network)
    theirs = PeftModel.from_pretrained(model.network, str(first.path)).eval()
    assert torch.equal(logits(theirs), ours)
    theirs.unload()


def test_a_model_that_carries_adapters_is_not_the_bare_one(model: Loaded, bare: Fingerprint, place: Path, folder: Path,
                                                           tmp_path: Path) -> None:  # fmt: skip
    first = make(model, bare, folder, "first")
    with attach(folder, "first", model, bare) as attached:
        for given in ((), ("aa", "bb")):
            with pytest.raises(Usage, match="carries adapters"):
                fingerprint(model, place, cache=tmp_path, adapters=given)
        assert fingerprint(model, place, cache=tmp_path, adapters=(first.id,)).digest == attached.fingerprint.digest
        with pytest.raises(WrongModel):
            adapters.base_of("tiny", attached.fingerprint)
        with pytest.raises(Usage, match="bare"):
            under(attached.fingerprint, ["aa"])
    assert under(bare, []).digest == bare.digest


def test_another_model_is_refused_by_both_names(model: Loaded, bare: Fingerprint, folder: Path, tmp_path: Path) -> None:
    import torch

    make(model, bare, folder, "first")
    save_random(tmp_path / "other")
    other = load(tmp_path / "other", name="other")
    before = logits(other.network, [1, 2, 3])
    found = fingerprint(other, tmp_path / "other", cache=tmp_path)
    with pytest.raises(WrongModel, match=r"made for tiny@\w{8}, this is other@\w{8}") as caught:
        adapters.attach(folder, "first", other.network, model="other", fingerprint=found, now=NOW)
    assert caught.value.exit_code == 6
    assert torch.equal(logits(other.network, [1, 2, 3]), before)


def test_what_is_stale_ungated_or_past_its_time(model: Loaded, bare: Fingerprint, folder: Path) -> None:
    rights = Rights("internal", expires=NOW + timedelta(days=1))
    first = make(model, bare, folder, "first", rights=rights, gated=False)
    with attach(folder, "first", model, bare) as attached:
        assert attached.warnings == ("adapter first was published without passing its tests",)
    with pytest.raises(NotAllowed, match="expired"):
        attach(folder, "first", model, bare, now=NOW + timedelta(days=1))
    parameter_stack.mark_stale(folder, first.memory_ids, "a memory was deleted")
    with pytest.raises(CheckFailed, match="stale: a memory was deleted"):
        attach(folder, "first", model, bare)


def test_one_that_changes_nothing_is_refused(model: Loaded, bare: Fingerprint, folder: Path) -> None:
    with lora.fresh(model.network, rank=2) as made:
        adapters.store(made, folder, "idle", about=about(bare))
    with pytest.raises(CheckFailed, match="changes nothing"):
        attach(folder, "idle", model, bare)
    assert not hasattr(model.network, "peft_config")


def test_a_flipped_bit_is_found_before_use(model: Loaded, bare: Fingerprint, folder: Path) -> None:
    made = make(model, bare, folder, "first")
    path = made.path / "adapter_model.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(Damaged, match="changed"):
        attach(folder, "first", model, bare)


def test_memory_that_was_made_under_adapters_is_refused_without_them_and_the_other_way_round(
    model: Loaded, bare: Fingerprint, folder: Path, tmp_path: Path
) -> None:
    import torch

    make(model, bare, folder, "first")
    ids = list(range(3, 15))

    def keep(name: str, made_with: Fingerprint) -> tuple[Path, Any]:
        memory = kv.prefill(model.network, ids)
        said = dumper.About("aaaa", "sha256:" + "ab" * 32, "segment", {"tool": "t", "made_at": "2026-01-31T12:00:00Z"})
        header = dumper.header_of(model.network, ids, said, fingerprint=made_with)
        return dumper.dump(tmp_path / name, header, memory, model.network).path, memory

    plain, without = keep("plain", bare)
    with attach(folder, "first", model, bare) as attached:
        under_it, within = keep("under", attached.fingerprint)
        assert loader.load(under_it, model.network, fingerprint=attached.fingerprint).header.key
        with pytest.raises(WrongModel, match="adapters"):
            loader.load(plain, model.network, fingerprint=attached.fingerprint)
    assert loader.load(plain, model.network, fingerprint=bare).header.key
    with pytest.raises(WrongModel, match="adapters"):
        loader.load(under_it, model.network, fingerprint=bare)
    assert activation.read(plain).header.key != activation.read(under_it).header.key
    assert torch.equal(without.keys[0], within.keys[0])
    assert not torch.equal(without.keys[1], within.keys[1])


def test_what_is_stored_is_written_once(model: Loaded, bare: Fingerprint, folder: Path) -> None:
    first = make(model, bare, folder, "first")
    with pytest.raises(Usage, match="already"):
        make(model, bare, folder, "first", seed=2)
    assert parameter.read(folder, "first") == first
    assert replace(first.about, gated=False) != first.about
