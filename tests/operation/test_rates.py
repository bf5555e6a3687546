"""What memories take: between what was measured, from the shape of a model, and measured on a small one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from memos_cli.errors import Damaged
from memos_cli.infrastructure import measured
from memos_cli.operation import calibrate, estimate, rates
from memos_cli.operation.estimate import Shape, Speed
from memos_cli.operation.rates import Point, Rates
from memos_cli.runtime.fingerprint import fingerprint
from memos_cli.runtime.model import LocalModel
from tests.runtime.decoders import save_parrot

RATES = Rates(
    "measured", "nano", "w", "here", "2026-01-01T00:00:00Z",
    (Point(10, 1000, 1.0, 0.1, 0.05), Point(20, 2000, 2.0, 0.2, 0.06), Point(40, 4000, 3.0, 0.6, 0.06)), 0.5,
)  # fmt: skip


def test_between_sizes_it_is_straight_and_beyond_them_too() -> None:
    assert RATES.price(10).plain_seconds == pytest.approx(0.1)
    assert RATES.price(30).plain_seconds == pytest.approx(0.4)
    assert RATES.price(80).bytes == 8000
    assert RATES.price(1).plain_seconds == pytest.approx(0.01)
    assert RATES.price(0).plain_seconds == 0.0
    assert RATES.price(15).saved_seconds == pytest.approx(0.15 - 0.055)
    assert RATES.price(15, bytes_held=77).bytes == 77
    assert replace(RATES, points=RATES.points[:1]).price(400).write_seconds == 1.0


def test_what_was_measured_is_kept(tmp_path: Path) -> None:
    measured.write(tmp_path, "k", rates.to_json(RATES))
    assert rates.from_json(measured.read(tmp_path, "k")) == RATES
    assert measured.read(tmp_path, "other") is None
    for number in range(measured.MOST + 5):
        measured.write(tmp_path, f"k{number}", {})
    assert measured.read(tmp_path, "k") is None


@pytest.mark.parametrize("text", ["", "[]", "[" * 5000, '{"k": 7}', '{"k": {"points": []}}'])
def test_what_does_not_read_is_as_if_it_were_not_there(text: str, tmp_path: Path) -> None:
    (tmp_path / measured.FILE).write_text(text)
    with pytest.raises(Damaged):
        rates.from_json(measured.read(tmp_path, "k"))


def test_the_count_of_operations_is_that_of_the_paper() -> None:
    # Memory3's own model (appendix A): 44 layers, width 1920, 40 heads of 80 of which 8 have keys, an MLP of 5120
    shape = Shape(layers=22, width=1920, heads=24, kv_heads=8, head_width=80, mlp_width=5120)
    assert estimate.write_flops(shape, 128) == pytest.approx(0.308e12, rel=0.45)
    # reading what is stored is next to nothing beside reading the text, and grows in step with its length
    for tokens in (64, 512):
        assert estimate.read_flops(shape, tokens) < 0.02 * estimate.plain_flops(shape, tokens)
    assert estimate.read_flops(shape, 128) == 2 * estimate.read_flops(shape, 64)
    # attention makes longer texts dearer than in step
    assert estimate.plain_flops(shape, 8192) > 2 * estimate.plain_flops(shape, 4096)


def test_an_estimate_says_that_it_is_one() -> None:
    shape = Shape(layers=28, width=1024, heads=16, kv_heads=8, head_width=128, mlp_width=3072)
    found = estimate.rates_of(shape, Speed(60e9, 1e9), model="m", weights="w", machine="h", made_at="t")
    assert found.kind == "estimated"
    # 229,376 bytes a token in float32 (28 layers, 8 heads of 128)
    assert found.price(1000).bytes == pytest.approx(229_376_000, rel=0.01)
    assert found.price(1000).saved_seconds > 0


def test_a_machine_has_a_speed() -> None:
    speed = estimate.machine_speed()
    assert speed.flops > 1e8
    assert speed.bytes > 1e6


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"hidden_size": 8, "num_attention_heads": 0}'])
def test_a_model_that_does_not_tell_its_shape_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(Damaged, match="shape of a decoder"):
        estimate.shape_of(tmp_path)


@pytest.mark.long
def test_a_small_model_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "SIZES", (8, 24, 100_000))
    monkeypatch.setattr(calibrate, "RUNS", 2)
    save_parrot(tmp_path / "parrot", "idea")
    local = LocalModel(str(tmp_path / "parrot"))
    made_with = fingerprint(local.load(), tmp_path / "parrot", cache=tmp_path)
    found = calibrate.measure(local, made_with, machine="here", made_at="2026-01-01T00:00:00Z")
    small, large = found.points
    assert 8 <= small.tokens < 24 <= large.tokens
    assert small.bytes < large.bytes
    assert min(small.write_seconds, small.plain_seconds, small.read_seconds, found.group_seconds) > 0
    assert found.weights == made_with.hard["weights"]
    assert rates.from_json(json.loads(json.dumps(rates.to_json(found)))) == found
