"""What becomes of memories in a prompt: their files where they may be used, text where not, never a wrong answer."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from memos_cli.cube import activation
from memos_cli.errors import CheckFailed, Damaged, Usage, WrongModel
from memos_cli.infrastructure.dumper import Storage
from memos_cli.operation.activate import Activations, whole_form
from memos_cli.operation.convert import PREFIX, Compression, Converter, Way
from memos_cli.operation.gate import Limits
from tests.cube import activations
from tests.operation.memories import QUESTION, TEXTS, ask, converter, drafted, make, told
from tests.runtime.decoders import READER_TEMPLATE, save_family
from tests.runtime.test_layout import FAMILIES, SHIFTABLE

ANY = Limits(top1=0, exact=0, recovered=-1000)
OPEN = Way(limits=ANY)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model of each family."""
    folder = tmp_path_factory.mktemp("models")
    for family in FAMILIES:
        more = {"sliding_window": 120} if family in ("mistral", "gemma3_text") else {}
        save_family(folder / family, family, **more)
    return folder


@pytest.fixture
def llama(models: Path) -> Converter:
    return converter(models / "llama", OPEN)


def forms(answer: Any) -> list[str]:
    return [one.form for one in answer.formed]


def whys(answer: Any) -> list[str]:
    return [one.why for one in answer.formed]


@pytest.mark.many(2)
@pytest.mark.parametrize("kind", ["segment", "prefix"])
@pytest.mark.parametrize("family", FAMILIES)
def test_one_memory_is_as_its_text(family: str, kind: str, models: Path, tmp_path: Path) -> None:
    use = converter(models / family, Way(kind=kind))
    make(use, tmp_path, one := told(TEXTS[0]))
    text = ask(use, tmp_path, one, form="plaintext")
    found = ask(use, tmp_path, one, form="activation")
    assert found.written.text == text.written.text
    assert (forms(text), forms(found)) == (["plaintext"], ["activation"])
    assert (text.reused, text.recomputed) == (0, 0)
    assert found.reused == found.formed[0].tokens > 0
    assert whole_form(found.formed) == "activation"
    assert set(found.seconds) == {"load", "rotate", "recompute", "question", "first_token"}


@pytest.mark.many(1)
@pytest.mark.parametrize("family", FAMILIES)
def test_several_memories_come_back_where_keys_can_be_moved(family: str, models: Path, tmp_path: Path) -> None:
    use = converter(models / family, OPEN)
    make(use, tmp_path, four := told(*TEXTS))
    text = ask(use, tmp_path, four, form="plaintext")
    found = ask(use, tmp_path, four)
    if family in SHIFTABLE:
        assert forms(found) == ["activation"] * 4
        assert found.reused + found.recomputed == sum(one.tokens for one in found.formed)
    else:
        assert forms(found)[1:] == ["plaintext"] * 3
        assert found.written.text == text.written.text
        with pytest.raises(CheckFailed, match="m2 as activation memory: several at once"):
            ask(use, tmp_path, four, form="activation")


@pytest.mark.long
def test_a_prompt_longer_than_a_window_reads_what_would_move_as_text(models: Path, tmp_path: Path) -> None:
    use = converter(models / "mistral", OPEN)
    many = told(*TEXTS, *(f"{text} Then {text} And {text}" for text in TEXTS))
    make(use, tmp_path, many)
    found = ask(use, tmp_path, many)
    assert len(drafted(use, many).ids) > 120
    assert forms(found) == ["plaintext"] * 8
    assert all("window" in why for why in whys(found))
    assert found.written.text == ask(use, tmp_path, many, form="plaintext").written.text


def test_a_memory_longer_than_a_window(models: Path, tmp_path: Path) -> None:
    use = converter(models / "mistral", Way(kind=PREFIX))
    make(use, tmp_path, long := told(" ".join(TEXTS * 5)))
    found = ask(use, tmp_path, long)
    assert found.formed[0].tokens > 120
    assert forms(found) == ["activation"]
    assert found.written.text == ask(use, tmp_path, long, form="plaintext").written.text


# What the published MemOS does wrong with activation memory, and what must not happen here.


@pytest.mark.long
def test_official_failure_the_cache_grows_every_turn(llama: Converter, tmp_path: Path) -> None:
    make(llama, tmp_path, four := told(*TEXTS))
    before = {path: path.read_bytes() for path in activation.find(tmp_path)}
    using = Activations(llama.model, llama.fingerprint, ANY)
    answers = [ask(llama, tmp_path, four, using=using) for _ in range(6)]
    assert len({(one.written.text, one.reused, one.recomputed) for one in answers}) == 1
    assert {path: path.read_bytes() for path in activation.find(tmp_path)} == before


@pytest.mark.long
def test_official_failure_the_merged_memory_has_no_length(llama: Converter, tmp_path: Path) -> None:
    make(llama, tmp_path, four := told(*TEXTS))
    found = ask(llama, tmp_path, four)
    spans = [span for span in drafted(llama, four).spans if span]
    assert [one.tokens for one in found.formed] == [last - first for first, last in spans]
    assert found.reused + found.recomputed == sum(one.tokens for one in found.formed)


def test_official_failure_keys_are_not_turned_to_where_they_stand(
    llama: Converter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Moved keys are as if read there; left as they were, the answer's probabilities are others."""
    import torch

    from memos_cli.runtime import compose, kv
    from memos_cli.runtime.compose import Placed, inject

    four = told(*TEXTS)
    prompt = drafted(llama, four)
    span = prompt.spans[3]
    assert span is not None
    apart = kv.prefill(llama.model.network, prompt.ids[slice(*span)])
    there = kv.prefill(llama.model.network, prompt.ids[slice(*span)], base=span[0])
    expected = inject(llama.model.network, prompt.ids, [Placed(there, span[0])], mode="concat").read.logits
    moved = inject(llama.model.network, prompt.ids, [Placed(apart, span[0])], mode="concat").read.logits
    monkeypatch.setattr(compose, "shift", lambda network, memory, *, base: replace(memory, base=base))
    left = inject(llama.model.network, prompt.ids, [Placed(apart, span[0])], mode="concat").read.logits
    assert torch.allclose(moved, expected, atol=1e-3)
    assert not torch.allclose(left, expected, atol=1e-1)


def test_official_failure_another_models_cache_loads_without_a_word(models: Path, tmp_path: Path) -> None:
    make(converter(models / "llama"), tmp_path, one := told(TEXTS[0]))
    for family in ("qwen3", "gpt_neox", "gemma"):
        other = converter(models / family)
        with pytest.raises(WrongModel, match="made for another model"):
            ask(other, tmp_path, one, form="activation")
        found = ask(other, tmp_path, one)
        assert "made for another model" in whys(found)[0]
        assert found.written.text == ask(other, tmp_path, one, form="plaintext").written.text


def test_official_failure_the_same_name_and_shape_with_other_weights(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    for name in ("a", "b"):
        save_family(tmp_path / name / "model", "llama")
    make(converter(tmp_path / "a" / "model"), tmp_path / "kv", one := told(TEXTS[0]))
    weights = load_file(tmp_path / "b/model/model.safetensors")
    weights["model.layers.1.mlp.down_proj.weight"][3, 3] += 0.01
    save_file(weights, tmp_path / "b/model/model.safetensors", {"format": "pt"})
    with pytest.raises(WrongModel, match="weights"):
        ask(converter(tmp_path / "b" / "model"), tmp_path / "kv", one, form="activation")


@pytest.mark.long
def test_two_models_side_by_side(models: Path, tmp_path: Path) -> None:
    one = told(TEXTS[0])
    for family in ("llama", "qwen3", "phi"):
        make(converter(models / family), tmp_path, one)
    assert len(activation.find(tmp_path, memory="m1")) == 3
    for family in ("llama", "qwen3", "phi"):
        assert forms(ask(converter(models / family), tmp_path, one)) == ["activation"]


@pytest.mark.long
def test_the_reason_is_that_of_the_own_model(models: Path, tmp_path: Path) -> None:
    """With another model's file beside it, a file that fails the gate is told as that."""
    one = told(TEXTS[0])
    for family in ("llama", "qwen3", "phi", "gemma"):
        make(converter(models / family), tmp_path, one)
    for family in ("llama", "qwen3", "phi", "gemma"):
        refused = Way(limits=Limits(top1=1, recovered=1))
        use = converter(models / family, refused)
        low(tmp_path, use)
        assert "of its tokens are the same" in whys(ask(use, tmp_path, one))[0]
        with pytest.raises(CheckFailed, match="of its tokens are the same"):
            ask(use, tmp_path, one, form="activation")


def low(folder: Path, use: Converter) -> None:
    """Writes a low figure into the file of this model."""
    for path in activation.find(folder):
        made = activation.read(path)
        if made.header.hard == dict(use.fingerprint.hard):
            rewrite(path, {**made.header.fidelity, "top1": 0.5})


def rewrite(path: Path, fidelity: dict[str, float]) -> None:
    layers = activation.open_layers(path)
    tensors = {
        f"{layer.prefix}.{name}": activation.Tensor(part.dtype, part.array.shape, part.array.copy())
        for layer in layers.header.layers
        for name, part in layers.layer(layer).items()
    }
    ids = layers.token_ids().copy()
    activation.write(path.parent, replace(layers.header, fidelity=fidelity), token_ids=ids, tensors=tensors)


def test_what_was_not_converted_is_text(llama: Converter, tmp_path: Path) -> None:
    four = told(*TEXTS)
    for folder in (tmp_path / "none", tmp_path):
        found = ask(llama, folder, four)
        assert whys(found) == ["it was not converted"] * 4
        assert whole_form(found.formed) == "plaintext"
    with pytest.raises(CheckFailed, match="m1 as activation memory: it was not converted"):
        ask(llama, tmp_path, four, form="activation")


@pytest.mark.long
def test_some_as_text_and_some_not(llama: Converter, tmp_path: Path) -> None:
    four = told(*TEXTS)
    make(llama, tmp_path, four)
    for path in activation.find(tmp_path, memory="m2"):
        path.unlink()
    found = ask(llama, tmp_path, four)
    assert forms(found) == ["activation", "plaintext", "activation", "activation"]
    assert whole_form(found.formed) == "mixed"


def test_a_text_that_has_changed(llama: Converter, tmp_path: Path) -> None:
    make(llama, tmp_path, told(TEXTS[0]))
    found = ask(llama, tmp_path, told("Boiler code: 4712"))
    assert whys(found) == ["its text has changed since it was converted"]


@pytest.mark.long
def test_a_template_that_has_changed_gives_other_tokens_or_the_same(tmp_path: Path) -> None:
    """A segment is used where its tokens are; a prefix has the old beginning and is not."""
    for kind in ("segment", "prefix"):
        save_family(tmp_path / kind, "llama")
        use = converter(tmp_path / kind, Way(kind=kind))
        make(use, tmp_path / f"{kind}-kv", one := told(TEXTS[0]))
        save_family(tmp_path / kind, "llama", template="Listen! " + READER_TEMPLATE)
        changed = converter(tmp_path / kind, Way(kind=kind, limits=ANY))
        found = ask(changed, tmp_path / f"{kind}-kv", one)
        assert found.written.text == ask(changed, tmp_path / f"{kind}-kv", one, form="plaintext").written.text or (
            kind == "segment"
        )
        if kind == "prefix":
            assert forms(found) == ["plaintext"]


def test_a_prefix_begins_and_others_follow_it(models: Path, tmp_path: Path) -> None:
    four = told(*TEXTS)
    make(converter(models / "llama", Way(kind=PREFIX, limits=ANY)), tmp_path, four[:2])
    use = converter(models / "llama", OPEN)
    make(use, tmp_path, four[2:])
    found = ask(use, tmp_path, [four[0], *four[2:]])
    assert forms(found)[0] == "activation"
    second = ask(use, tmp_path, [four[2], four[1]])
    assert second.formed[1].why == "it begins a prompt, and here another memory does"


@pytest.mark.many(1)
@pytest.mark.parametrize(
    "way",
    [Way(storage=Storage(bits=8), limits=ANY), Way(storage=Storage(bits=4), limits=ANY),
     Way(storage=Storage("float16"), limits=ANY), Way(compression=Compression("knorm", 0.5), limits=ANY),
     Way(compression=Compression("memory3"), limits=ANY), Way(PREFIX, compression=Compression("h2o", 6), limits=ANY)],
    ids=["int8", "int4", "float16", "knorm", "memory3", "prefix-h2o"],
)  # fmt: skip
def test_smaller_memories_come_back_too(way: Way, models: Path, tmp_path: Path) -> None:
    use = converter(models / "llama", way)
    many = told(*(f"{text} {TEXTS[0]}" for text in TEXTS))
    make(use, tmp_path, many)
    assert forms(ask(use, tmp_path, many[:1])) == ["activation"]
    found = forms(ask(use, tmp_path, many))
    assert found == (["activation", *["plaintext"] * 3] if way.kind == PREFIX else ["activation"] * 4)


Harm = Callable[[bytes], bytes]
HARMS: dict[str, Harm] = {
    "cut": lambda whole: whole[:-1], "empty": lambda whole: b"", "header": lambda whole: whole[:60] + b"\xff" +
    whole[61:], "longer": lambda whole: whole + b"\x00", "half": lambda whole: whole[: len(whole) // 2],
}  # fmt: skip


@pytest.mark.many(2)
@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_file_is_text_or_an_error(harm: str, llama: Converter, tmp_path: Path) -> None:
    make(llama, tmp_path, one := told(TEXTS[0]))
    (path,) = activation.find(tmp_path)
    whole = path.read_bytes()
    path.unlink()
    path.write_bytes(HARMS[harm](whole))
    found = ask(llama, tmp_path, one)
    assert forms(found) == ["plaintext"]
    assert found.written.text == ask(llama, tmp_path, one, form="plaintext").written.text
    with pytest.raises(Damaged):
        ask(llama, tmp_path, one, form="activation")


@pytest.mark.long
@pytest.mark.many(1)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_sealed_file_with_numbers_that_are_none(bad: float, llama: Converter, tmp_path: Path) -> None:
    """Its digests are right: only computing with it tells."""
    four = told(*TEXTS)
    made = make(llama, tmp_path, four)
    path = tmp_path / made[1].name
    poison(path, bad)
    found = ask(llama, tmp_path, four)
    assert found.formed[1].form == "plaintext"
    assert found.written.text == ask(llama, tmp_path, four, form="plaintext").written.text
    with pytest.raises(Damaged):
        ask(llama, tmp_path, four, form="activation")
    with pytest.raises(Damaged):
        activation.verify(path)


def poison(path: Path, bad: float) -> None:
    made = activation.read(path)
    _, data = activations.split(path.read_bytes())
    name = f"{made.header.layers[-1].prefix}.value"
    span = made.head.spans[name]
    start = span.offset - (path.stat().st_size - len(data))
    forged = data[:start] + struct.pack("<f", bad) + data[start + 4 :]
    path.chmod(0o644)
    activations.forge(made, lambda value: value, forged)


def test_a_file_of_another_memory_under_this_ones_name(llama: Converter, tmp_path: Path) -> None:
    made = make(llama, tmp_path, four := told(*TEXTS))
    (tmp_path / made[0].name).unlink()
    (tmp_path / made[1].name).rename(tmp_path / made[0].name)
    found = ask(llama, tmp_path, four[:1])
    assert forms(found) == ["plaintext"]
    assert "found" in whys(found)[0] or "expected" in whys(found)[0]


@pytest.mark.long
@pytest.mark.many(1)
@pytest.mark.parametrize("texts", [[TEXTS[0], TEXTS[0]], ["la la la", "la la"], ["la", "la la la", "la la"]])
def test_memories_that_repeat(texts: Sequence[str], llama: Converter, tmp_path: Path) -> None:
    make(llama, tmp_path, many := told(*texts))
    found = ask(llama, tmp_path, many)
    spans = [span for span in drafted(llama, many).spans if span]
    assert len(spans) == len(texts)
    assert all(one[1] <= other[0] for one, other in zip(spans, spans[1:], strict=False))
    assert forms(found) == ["activation"] * len(texts)


def test_no_question_and_no_room(llama: Converter, tmp_path: Path) -> None:
    make(llama, tmp_path, one := told(TEXTS[0]))
    assert forms(ask(llama, tmp_path, one, question="")) == ["activation"]
    with pytest.raises(Usage, match="takes 512"):
        ask(llama, tmp_path, one, limit_tokens=512)
    assert ask(llama, tmp_path, [], question=QUESTION).formed == ()
