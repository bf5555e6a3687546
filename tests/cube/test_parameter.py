"""Adapters on disk: what is written comes back, and what is not a plain adapter does not."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from memos_cli.cube import parameter, parameter_config, parameter_sidecar, parameter_stack
from memos_cli.cube.parameter import Base, Rights
from memos_cli.cube.parameter_files import CONFIG, SIDECAR, WEIGHTS
from memos_cli.errors import CheckFailed, Damaged, MemosError, NotFound, Usage, WrongModel
from tests.cube import adapters


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the adapters of a version lie."""
    place = tmp_path / "version" / parameter.FOLDER
    place.parent.mkdir()
    return place


def test_what_is_written_comes_back(folder: Path) -> None:
    expires = datetime(2027, 5, 1, tzinfo=UTC)
    rights = Rights("confidential", licence="MIT", base_licence="Apache-2.0", expires=expires)
    made = adapters.write(folder, rights=rights, state="fresh", reason="")
    assert parameter.names(folder) == ["facts"]
    assert parameter.strays(folder) == []
    found = parameter.verify(folder, "facts")
    assert found == made == parameter.read(folder, "facts")
    assert found.about == adapters.about(rights=rights)
    assert (found.weights.rank, found.weights.alpha, found.weights.targets) == (4, 8.0, ("down_proj", "up_proj"))
    assert found.memory_ids == {adapters.MEMORY}
    assert found.bytes == sum(len(data) for data in adapters.contents(folder).values())
    assert dict(parameter.tensors_of(found)).keys() == adapters.tensors().keys()


def test_the_layout_is_that_of_peft_with_nothing_of_this_machine_in_it(folder: Path) -> None:
    made = adapters.write(folder)
    assert sorted(path.name for path in made.path.iterdir()) == [CONFIG, WEIGHTS, SIDECAR]
    said = json.loads((made.path / CONFIG).read_text())
    assert said["base_model_name_or_path"] == "nano"
    assert (said["r"], said["lora_alpha"], said["target_modules"]) == (4, 8, ["down_proj", "up_proj"])
    assert "ann" not in (made.path / CONFIG).read_text()


def test_equal_adapters_have_equal_bytes_and_another_scale_another_id(folder: Path, tmp_path: Path) -> None:
    first, second = adapters.write(folder, "a"), adapters.write(folder, "b")
    assert adapters.contents(first.path) == adapters.contents(second.path)
    lay = adapters.lay(tmp_path / "louder", lora_alpha=16)
    louder = parameter.write(folder, "c", made=lay, about=adapters.about())
    assert louder.weights.sha256 == first.weights.sha256
    assert louder.id != first.id


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_numbers_of_every_kind(folder: Path, tmp_path: Path, dtype: str) -> None:
    made = adapters.lay(tmp_path / "a", weights=adapters.tensors(dtype=dtype))
    assert parameter.write(folder, "a", made=made, about=adapters.about()).weights.dtype == dtype


def test_a_taken_name_is_never_passed_over(folder: Path, tmp_path: Path) -> None:
    before = adapters.write(folder)
    other = adapters.lay(tmp_path / "other", weights=adapters.tensors(seed=8))
    with pytest.raises(Usage, match="already"):
        parameter.write(folder, "facts", made=other, about=adapters.about())
    assert parameter.read(folder, "facts") == before
    after = parameter.write(folder, "facts", made=other, about=adapters.about(), anew=True)
    assert after.id != before.id
    assert parameter.names(folder) == ["facts"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "A", "-a", "a.b", "a b", "a\n", "ä", "a" * 65, "../a", "a\x00"])
def test_names_outside_the_grammar_are_refused(folder: Path, tmp_path: Path, name: str) -> None:
    made = adapters.lay(tmp_path / "made")
    for call in (
        lambda: parameter.write(folder, name, made=made, about=adapters.about()),
        lambda: parameter.read(folder, name),
        lambda: parameter_stack.remove(folder, name),
    ):
        with pytest.raises(Usage, match="name"):
            call()
    assert not folder.exists()


def test_files_that_versions_share_are_never_opened_for_writing(folder: Path, tmp_path: Path) -> None:
    made = adapters.write(folder)
    older = tmp_path / "older"
    older.mkdir()
    for path in made.path.iterdir():
        os.link(path, older / path.name)
    before = adapters.contents(older)
    parameter.revise(folder, "facts", replace(made.about, state="stale", reason="edited"))
    parameter_stack.mark_stale(folder, [adapters.MEMORY], "edited")
    adapters.lay(tmp_path / "anew", weights=adapters.tensors(seed=9))
    parameter.write(folder, "facts", made=tmp_path / "anew", about=adapters.about(), anew=True)
    parameter_stack.remove(folder, "facts")
    assert adapters.contents(older) == before


# --- the sidecar -----------------------------------------------------------------------------------------------------


def edit_sidecar(path: Path, old: str, new: str) -> None:
    text = (path / SIDECAR).read_text()
    assert old in text, old
    (path / SIDECAR).write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("format_version = 1", "format_version = 2", "format_version"),
        ('kind = "facts"', 'kind = "poem"', "kind"),
        ("rank = 4", "rank = 8", "rank"),
        ("rank = 4", "rank = true", "rank"),
        ("alpha = 8.0", "alpha = 16.0", "alpha"),
        ("alpha = 8.0", "alpha = nan", "alpha"),
        ("gated = true", 'gated = "yes"', "gated"),
        ('dtype = "F32"', 'dtype = "F16"', "dtype"),
        ('state = "fresh"', 'state = "odd"', "state"),
        ('"up_proj"', '"gate_proj"', "targets"),
        ("seed = 7", "seed = inf", "recipe"),
        ("recall_test = 0.975", "recall_test = nan", "recall_test"),
        ("recall_test = 0.975", 'recall_test = "good"', "recall_test"),
        ('adapters = "none"', 'adapters = "aa"', "bare model"),
        ('rope = "', 'rape = "', "rope"),
        ('sensitivity = "internal"', 'sensitivity = "secret"', "sensitivity"),
        ('standing = "distilled"', 'standing = "sort of"', "standing"),
        ("memory_id = ", "memory = ", "memory_id"),
        ('memory_id = "', 'memory_id = "../', "memory_id"),
        ("made_at = 2026-01-31 12:00:00+00:00", "made_at = 2026-01-31 12:00:00", "made_at"),
        ("requires = []", 'requires = ["a"]', "requires"),
        ("[rights]", "[rights]\nextra = 1", "extra"),
        ("[recipe]", "[unknown]\n[recipe]", "unknown"),
        ("format_version = 1", "a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r = 1", "parts"),
        ("format_version = 1", "= 1", "TOML"),
    ],
)
def test_a_sidecar_that_says_what_is_never_written_is_refused(folder: Path, old: str, new: str, word: str) -> None:
    made = adapters.write(folder)
    edit_sidecar(made.path, old, new)
    with pytest.raises(Damaged, match=word):
        parameter.read(folder, "facts")


def test_what_could_not_be_read_again_is_not_written(folder: Path) -> None:
    many = tuple(adapters.source(f"{number:020x}") for number in range(2000))
    odd: list[dict[str, Any]] = [
        {"sources": many}, {"sources": (adapters.source(), adapters.source())}, {"metrics": {"a": float("inf")}},
        {"recipe": {"x": float("nan")}}, {"kind": "odd"}, {"rights": Rights("odd")}, {"reason": "x" * 5000},
        {"base": Base("nano", {**adapters.HARD, "adapters": "ab"})}, {"base": Base("nano", {})},
    ]  # fmt: skip
    for fields in odd:
        with pytest.raises(Usage):
            adapters.write(folder, **fields)
    assert parameter.names(folder) == []


def test_the_strictest_of_some_rights() -> None:
    soon, late = adapters.WHEN, adapters.WHEN + timedelta(days=9)
    assert parameter.strictest(["public", "restricted", "internal"], [late, None, soon]) == ("restricted", soon)
    assert parameter.strictest([], []) == ("public", None)


def test_another_base_is_refused_by_both_names(folder: Path) -> None:
    made = adapters.write(folder)
    assert parameter.check_model(made, name="nano", hard=adapters.HARD, soft=adapters.SOFT) == ()
    (warning,) = parameter.check_model(made, name="nano", hard=adapters.HARD, soft={**adapters.SOFT, "device": "cuda"})
    assert "device" in warning
    with pytest.raises(WrongModel, match="nano@55555555.* Qwen@66666666.*weights") as caught:
        parameter.check_model(made, name="Qwen", hard={**adapters.HARD, "weights": "66" * 32}, soft={})
    assert caught.value.exit_code == 6
    with pytest.raises(WrongModel, match="rope"):
        parameter.check_model(made, name="nano", hard={k: v for k, v in adapters.HARD.items() if k != "rope"}, soft={})


# --- adapters on one another -----------------------------------------------------------------------------------------


@pytest.fixture
def tower(folder: Path) -> Path:
    """Three adapters on one another, of a memory each, and one that stands alone."""
    first = adapters.write(folder, "first", seed=1, sources=(adapters.source("aaaa"),))
    second = adapters.write(folder, "second", seed=2, on=[first], sources=(adapters.source("bbbb"),))
    adapters.write(folder, "third", seed=3, on=[first, second], sources=(adapters.source("cccc"),))
    known = adapters.source("aaaa", standing="known")
    adapters.write(folder, "alone", seed=4, sources=(adapters.source("dddd"), known))
    return folder


def states(folder: Path) -> dict[str, str]:
    return {name: parameter.read(folder, name).about.state for name in parameter.names(folder)}


def test_a_chain_is_put_on_from_the_lowest(tower: Path) -> None:
    assert [one.name for one in parameter_stack.chain(tower, "third")] == ["first", "second", "third"]
    assert parameter_stack.above(tower, "first") == ("second", "third")
    assert parameter_stack.above(tower, "third") == parameter_stack.above(tower, "alone") == ()


def test_what_was_taught_goes_stale_with_all_above_it(tower: Path) -> None:
    assert parameter_stack.mark_stale(tower, ["eeee"], "deleted") == ()
    assert parameter_stack.mark_stale(tower, ["bbbb"], "memory bbbb was deleted") == ("second", "third")
    assert states(tower) == {"first": "fresh", "second": "stale", "third": "stale", "alone": "fresh"}
    assert parameter.read(tower, "second").about.reason == "memory bbbb was deleted"
    assert parameter.read(tower, "third").about.reason == "second beneath it: memory bbbb was deleted"
    # what the model knew by itself was not taught
    assert parameter_stack.mark_stale(tower, ["aaaa"], "edited") == ("first", "second", "third")
    assert parameter.read(tower, "third").about.reason == "second beneath it: memory bbbb was deleted"
    assert states(tower)["alone"] == "fresh"
    assert parameter.verify(tower, "third").about.gated


def test_the_newest_goes_first(tower: Path) -> None:
    with pytest.raises(Usage, match="second, third"):
        parameter_stack.remove(tower, "first")
    assert parameter_stack.remove(tower, "third") == ("third",)
    assert parameter_stack.remove(tower, "first", with_above=True) == ("second", "first")
    assert parameter.names(tower) == ["alone"]
    assert parameter_stack.remove(tower, "alone") == ("alone",)
    assert not tower.exists()
    with pytest.raises(NotFound):
        parameter_stack.remove(tower, "alone")


def test_a_layer_whose_ground_was_made_anew_is_not_used(tower: Path, tmp_path: Path) -> None:
    made = adapters.lay(tmp_path / "anew", weights=adapters.tensors(seed=9))
    parameter.write(tower, "first", made=made, about=adapters.about(), anew=True)
    with pytest.raises(CheckFailed, match="was trained on first@"):
        parameter_stack.chain(tower, "third")
    (tower / "first").rename(tmp_path / "gone")
    with pytest.raises(NotFound, match="first"):
        parameter_stack.chain(tower, "third")


@pytest.mark.parametrize(
    ("requires", "error"),
    [
        (("nobody@" + "0" * 64,), NotFound), (("first@" + "0" * 64,), CheckFailed), (("first",), Usage),
        (("new@" + "0" * 64,), NotFound),
    ],
)  # fmt: skip
def test_what_is_not_beneath_is_not_required(
    tower: Path, tmp_path: Path, requires: tuple[str, ...], error: type[MemosError]
) -> None:
    made = adapters.lay(tmp_path / "new")
    with pytest.raises(error):
        parameter.write(tower, "new", made=made, about=adapters.about(requires=requires))
    first, second = (parameter.read(tower, name).reference for name in ("first", "second"))
    for below in ((second,), (second, first)):
        with pytest.raises(Usage, match="itself stands on"):
            parameter.write(tower, "new", made=made, about=adapters.about(requires=below))


def test_an_id_is_of_all_that_counts() -> None:
    plain = parameter_config.Config(4, 8.0, ("up_proj",))
    ids = {
        parameter_sidecar.identify(config, weights)
        for config in (
            plain,
            replace(plain, alpha=9.0),
            replace(plain, targets=("x",)),
            replace(plain, transposed=True),
        )
        for weights in ("aa", "bb")
    }
    assert len(ids) == 8
    assert parameter_sidecar.identify(replace(plain, base="elsewhere"), "aa") in ids
