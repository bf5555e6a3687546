"""Which model a name means, how it wants to be asked, and that what cannot be loaded whole is not loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from memos_cli.errors import Damaged, NotFound
from memos_cli.runtime import model as models
from memos_cli.runtime.model import LocalModel, Traits, folder_of, load, traits_of
from memos_cli.runtime.tokens import open_counter
from tests.runtime.decoders import save_parrot, save_random

shipped = pytest.mark.skipif(
    not (models.NANO / "model.safetensors").is_file(), reason="the weights of nano are not in this checkout"
)


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    (tmp_path / "nano").mkdir()
    assert folder_of("nano") == folder_of("default") == models.NANO
    assert folder_of("./nano") == Path("nano")
    assert folder_of("tiny") == Path("tiny")
    assert folder_of("owner/model") is None


def test_a_folder_without_a_model_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no config.json"):
        LocalModel(str(tmp_path))


@pytest.mark.parametrize("told", [None, {}, {"memos": "span"}, {"memos": {}}])
def test_a_model_that_says_nothing_gets_instructions(tmp_path: Path, told: Any) -> None:
    (tmp_path / "config.json").write_text(json.dumps(told))
    assert traits_of(tmp_path) == Traits("instructed", "unknown", 8)


def test_a_reader_of_spans_says_so(tmp_path: Path) -> None:
    save_parrot(tmp_path / "parrot", "Lindau", memories=3)
    assert LocalModel(str(tmp_path / "parrot")).traits == Traits("span", "unknown", 3)


@pytest.mark.parametrize(
    "given",
    [{"reader": "magic"}, {"unknown": ""}, {"unknown": 7}, {"memories": 0}, {"memories": True}, {"memories": "4"}],
)
def test_what_is_no_way_to_be_asked(tmp_path: Path, given: dict[str, Any]) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"memos": given}))
    with pytest.raises(Damaged):
        traits_of(tmp_path)


def test_weights_with_a_hole_are_not_filled_with_chance(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    save_random(tmp_path / "tiny")
    path = tmp_path / "tiny" / "model.safetensors"
    weights = load_file(path)
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(Damaged, match=r"lack model.layers.1.mlp.up_proj.weight"):
        load(tmp_path / "tiny", name="tiny")


def test_weights_that_are_cut_short(tmp_path: Path) -> None:
    save_random(tmp_path / "tiny")
    path = tmp_path / "tiny" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(Damaged, match="do not read"):
        load(tmp_path / "tiny", name="tiny")


def test_weights_are_widened_on_a_processor(tmp_path: Path) -> None:
    import torch

    _, network = save_random(tmp_path / "tiny")
    network.to(torch.bfloat16).save_pretrained(tmp_path / "tiny")
    loaded = load(tmp_path / "tiny", name="tiny")
    assert loaded.network.dtype == (torch.bfloat16 if torch.cuda.is_available() else torch.float32)
    assert loaded.window == 2048
    assert loaded.ends == (2,)


def test_tokens_are_counted_without_the_model(tmp_path: Path) -> None:
    tokenizer, _ = save_random(tmp_path / "tiny")
    text = "Ann keeps bees in Oslo."
    assert open_counter(str(tmp_path / "tiny"))(text) == len(tokenizer(text, add_special_tokens=False)["input_ids"])


@shipped
def test_nano_is_in_the_installation() -> None:
    local = LocalModel("nano")
    assert (local.name, local.traits.reader, local.traits.unknown) == ("nano", "span", "unknown")
    assert sum(path.stat().st_size for path in models.NANO.glob("*.safetensors")) <= 16 << 20


@shipped
def test_any_text_survives_the_tokens_of_nano() -> None:
    tokenizer = LocalModel("nano").load().tokenizer
    for text in ("Ana moved to Lindau.", "Übergröße, naïve: 東京 🐝", "a\x00b\x7f", "one  two"):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids, skip_special_tokens=True).strip() == text
