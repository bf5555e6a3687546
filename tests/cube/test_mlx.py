"""Prompt caches of mlx-lm: those that it wrote itself, those that memos writes, and those made to harm."""

from __future__ import annotations

import base64
import json
import os
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253
import pytest

from memos_cli.cube import activation, mlx
from memos_cli.cube.activation import Activation, Header, Layer, Quantization, Scheme
from memos_cli.cube.mlx import PromptCache
from memos_cli.errors import Damaged, MemosError, NotFound, Usage
from tests.cube import activations
from tests.cube.activations import dump, header, split, write

# As mlx-lm 0.31.3 and 0.32.2 wrote them with mlx 0.32.4: two layers, [1, 2, 3, 2] numbers of F16 from 0 and from 100
# on, values negative. The later one keeps room for 256 tokens.
BEFORE = (
    "c-oDTJ8r^25I`qa*?L918w-e)!pet$(oju<kg@POSP9sQU4&Sc_6Qt-BXEEeR+JBPR8w;Vju3m5B83a4ny1m5(ac0=U?OK$%VJK>"
    "0zdP;I1E#jrOX+1B)@ErISaC7qL{;aqRlu<XMRm1!6m=oa$N9A7Y(}I<sEs7E*hsxo7>&f^rq<+m-Z>P=gn2-8`-"
    "Pdm{TzJw^W^o);tc>a|N&GOT$_Gq!!Vedhw?5B8(oZQeIRQY1{|A@uxFoSp4InaA`;rN=Va+*0iCL_H>{lxj4iLCa7_RYusRodpz"
    "I~LBl(g@ByFj1>f)kTfK#y-c>)l0vE2~7Ve-2_t4jU80f(-xeSpe"
)
NOW = (
    "c-rllJ8r^25Qay|O}0q2BD)(vk(C1FK|pD!wn4~PU;+wYgk6LnOM3*4kRxz_6e!9AI;yQX0!N6~P`I!n`kk-"
    "x?9BX{`Q?=*Uz|b8oUj5T&YX0;$a8~UFZ833IL$II33@FUYf;jTW)q({q{_>LlCbZYsL83IqEx1$71Kn7=ZF+JD^jC$s))!JVbmy"
    "PMCw-}BVu}a?iPY2TNr`U2H^QyP$P4yLf#6={QnN`x+6dG(k9omv%)Co`opC5^>RjxF;Vd1j|Xr5)a?Z0-"
    "rzY&&0}(0n>@)ouhaL*af3`O(tP@GC^a4*B2yT4yrDNu4-S?5m=@V|9G@p|N<}wxTTiso3k?W@SjD?u>XqK=o!;a9M-"
    "a=X$cAjoiBxhS(G3K#?E5d5awWHNC--"
    ">&5yUdgKLAkh0W0`~FZf1B5X3Tm;1||v4I8yVGZ4f&ZlD6Ua1Re?1%g;c6&|6cYEV~oGy_5G;t!iZ!l("
)

Change = Callable[[dict[str, Any]], Any]
BOTH = pytest.mark.parametrize("before_change", [False, True], ids=["now", "before"])


def unpack(folder: Path, text: str) -> Path:
    path = folder / "cache.safetensors"
    path.write_bytes(zlib.decompress(base64.b85decode(text)))
    return path


@pytest.mark.parametrize("text", [NOW, BEFORE], ids=["now", "before"])
def test_a_file_of_mlx_lm_is_read(tmp_path: Path, text: str) -> None:
    cache = mlx.read(unpack(tmp_path, text))
    assert (cache.dtype, cache.tokens, cache.label) == ("F16", 3, "unverified")
    assert (cache.header, cache.token_ids) == (None, None)
    assert cache.layers == (Layer(0, "full", 2, 2, 2, 3), Layer(1, "full", 2, 2, 2, 3))
    assert cache.notes == {"model": "x/y", "tokenizer_config": "{}"}
    for layer in cache.layers:
        numbers = np.arange(12).reshape(2, 3, 2) + 100 * layer.index
        assert np.array_equal(cache.tensors[f"{layer.prefix}.key"].data, numbers)
        assert np.array_equal(cache.tensors[f"{layer.prefix}.value"].data, -numbers)


@pytest.mark.parametrize("text", [NOW, BEFORE], ids=["now", "before"])
def test_with_its_tokens_a_file_of_mlx_lm_becomes_an_activation_file(tmp_path: Path, text: str) -> None:
    cache = mlx.read(unpack(tmp_path, text))
    made = mlx.header_of(cache, header(), token_ids=[7, 8, 9])
    written = activation.write(tmp_path, made, token_ids=[7, 8, 9], tensors=cache.tensors)
    assert activation.verify(written.path).header.source["label"] == "unverified"
    assert (written.header.dtype, written.header.tokens, written.header.fidelity) == ("F16", 3, {})
    with pytest.raises(Usage, match="is of 3 tokens, the text has 2"):
        mlx.header_of(cache, header(), token_ids=[7, 8])
    with pytest.raises(Usage, match="has 2 layers, the model 3"):
        mlx.header_of(cache, header(model_layers=3), token_ids=[7, 8, 9])


def export(folder: Path, head: Header | None = None, **options: Any) -> tuple[Activation, Path]:
    """An activation file, and the same as a prompt cache."""
    made = write(folder, head)
    path = folder / "out.safetensors"
    mlx.write(activation.open_layers(made.path), path, **options)
    return made, path


def rewritten(folder: Path, cache: PromptCache) -> Activation:
    """An activation file from what was read, in a folder of its own."""
    assert cache.header
    return activation.write(folder / "again", cache.header, token_ids=cache.token_ids, tensors=cache.tensors)


@BOTH
@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
def test_there_and_back_is_the_same_to_the_bit(tmp_path: Path, dtype: str, before_change: bool) -> None:
    made, path = export(tmp_path, header(dtype=dtype), before_change=before_change)
    cache = mlx.read(path)
    assert cache.header == made.header
    assert cache.token_ids == tuple(range(100, 106))
    assert cache.label == "unverified"
    assert rewritten(tmp_path, cache).path.read_bytes() == made.path.read_bytes()


def test_keys_and_values_may_differ_in_width_and_layers_in_heads(tmp_path: Path) -> None:
    layers = (Layer(0, "full", 2, 4, 3, 6), Layer(1, "full", 1, 5, 2, 6))
    made, path = export(tmp_path, header(layers=layers))
    assert rewritten(tmp_path, mlx.read(path)).path.read_bytes() == made.path.read_bytes()


def test_equal_memories_give_equal_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert export(tmp_path / "a")[1].read_bytes() == export(tmp_path / "b")[1].read_bytes()
    assert sorted(path.name for path in (tmp_path / "a").iterdir())[-1] == "out.safetensors"


def test_the_file_is_laid_out_as_mlx_lm_does(tmp_path: Path) -> None:
    _, path = export(tmp_path, model="org/model")
    value, _ = split(path.read_bytes())
    said = value.pop("__metadata__")
    assert {name: (entry["dtype"], entry["shape"]) for name, entry in value.items()} == {
        **{f"{layer}.{part}": ("BF16", [1, 2, 6, 4]) for layer in (0, 1) for part in (0, 1)},
        **{f"{layer}.2": ("I32", []) for layer in (0, 1)},
    }
    ours = {name: said.pop(name) for name in list(said) if name.startswith("0.memos.")}
    assert said == {
        "0.model": "org/model", "0.tokenizer_config": "{}", "1.0": "KVCache", "1.1": "KVCache", "2.0": "",
        "2.1.0": "0.2", "2.1.1": "scalar", "2.2.0": "1.2", "2.2.1": "scalar",
    }  # fmt: skip
    assert ours["0.memos.token_ids"] == "[100,101,102,103,104,105]"
    assert ours["0.memos.content"] == header().content
    assert json.loads(ours["0.memos.model"])["hard"] == activations.HARD


def test_the_file_before_the_change_is_laid_out_as_mlx_lm_did(tmp_path: Path) -> None:
    _, path = export(tmp_path, before_change=True)
    value, _ = split(path.read_bytes())
    said = value.pop("__metadata__")
    assert sorted(value) == ["0.0", "0.1", "1.0", "1.1"]
    rest = {name: text for name, text in said.items() if not name.startswith("1.memos.")}
    assert rest == {"0.0": "", "0.1": "", "1.tokenizer_config": "{}", "2.0": "KVCache", "2.1": "KVCache"}


def test_any_reader_of_safetensors_opens_it(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    _, path = export(tmp_path, header(dtype="F32"))
    assert load_file(path)["0.2"].shape == ()
    assert load_file(path)["1.1"].shape == (1, 2, 6, 4)


SPARSE = (Layer(0, "full", 2, 4, 4, 3, sparse=True), activations.LAYERS[1])
SLIDING = (Layer(0, "sliding", 2, 4, 4, 6, window=9), activations.LAYERS[1])


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"quantization": Quantization(Scheme(8, "channel"), None)}, "it is quantised"),
        ({"layers": SPARSE, "compression": {"method": "h2o"}}, "it was compressed"),
        ({"compression": {"method": "h2o"}}, "it was compressed"),
        ({"position": 3}, "position 0"),
        ({"kind": "prefix", "parent": "0f" * 32}, "position 0"),
        ({"rope": {"state": "pre", "type": "default"}}, "rope"),
        ({"layers": SLIDING}, "a window"),
        ({"model_layers": 3}, "another kind of memory"),
    ],
)
def test_what_such_a_cache_cannot_hold(tmp_path: Path, fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(Usage, match=reason):
        export(tmp_path, header(**fields))
    assert not (tmp_path / "out.safetensors").exists()


# --- files made to harm


def refusal(path: Path) -> str:
    with pytest.raises(Damaged) as caught:
        mlx.read(path)
    assert caught.value.hint
    return caught.value.message


def join(value: Any, data: bytes) -> bytes:
    text = dump(value)
    return struct.pack("<Q", len(text)) + text + data


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    return unpack(tmp_path, BEFORE)


@pytest.fixture
def recent(tmp_path: Path) -> Path:
    return unpack(tmp_path, NOW)


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    return export(tmp_path)[1]


def forge(path: Path, change: Change) -> Path:
    value, data = split(path.read_bytes())
    change(value)
    path.write_bytes(join(value, data))
    return path


def entry(name: str, **fields: Any) -> Change:
    return lambda value: value[name].update(fields)


def said(name: str, text: Any) -> Change:
    if text is None:
        return lambda value: value["__metadata__"].pop(name)
    return lambda value: value["__metadata__"].update({name: text})


LIES = {
    "overlap": (entry("0.0", data_offsets=[24, 48]), "overlap"),
    "gap": (lambda value: value.pop("0.1"), "leave a gap"),
    "past the end": (entry("0.0", shape=[1, 2, 300, 2], data_offsets=[72, 2472]), "cut short"),
    "beyond 64 bits": (entry("0.0", data_offsets=[2**64, 2**64 + 24]), "begins and ends"),
    "unknown dtype": (entry("0.0", dtype="U32"), "one of F32"),
    "whole numbers": (entry("0.0", dtype="U8", shape=[1, 2, 3, 4]), "as tensor 0.0"),
    "three dimensions": (entry("0.0", shape=[2, 3, 2]), "[1, heads, tokens, dim]"),
    "no dimensions": (entry("0.0", shape=[]), "bytes of tensor 0.0"),
    "a batch": (entry("0.0", shape=[2, 1, 3, 2]), "[1, heads, tokens, dim]"),
    "a 0": (entry("0.0", shape=[1, 0, 3, 2]), "none of them 0"),
    "other heads": (entry("0.0", shape=[1, 1, 6, 2]), "alike in layer 0"),
    "other dtype of that size": (entry("0.0", dtype="BF16"), "alike in layer 0"),
    "another name": (lambda value: value.update({"0.x": value.pop("0.1")}), "keys and values of 2 layers"),
    "parent folder": (lambda value: value.update({"../x": value.pop("0.1")}), "plain names"),
    "metadata of numbers": (said("2.0", 1), "texts"),
    "a fourth list": (said("3.0", "x"), "three lists"),
    "no list": (said("format", "mlx"), "three lists"),
    "no classes": (lambda value: value["__metadata__"].clear(), "the classes of 1 to 1000 layers"),
    "a class too few": (said("2.1", None), "nothing as item 0.1"),
    "a class that is missing": (said("2.0", None), "the classes of"),
    "a class of another number": (said("2.01", "KVCache"), "the classes of"),
    "settings": (said("0.0", "5"), "item 0.0"),
    "settings of no layer": (said("0.2", ""), "item 0.2"),
}


@pytest.mark.parametrize(("change", "reason"), LIES.values(), ids=LIES.keys())
def test_a_file_that_lies(foreign: Path, change: Change, reason: str) -> None:
    assert reason in refusal(forge(foreign, change))


RECENT = {
    "no count": (said("2.1.1", "none"), "item 2.1.1"),
    "a count of another tensor": (said("2.1.0", "0.0"), "item 2.1.0"),
    "one more single": (said("2.3.0", "0.1"), "item 2.3.0"),
    "a count of 4 bytes": (entry("0.2", dtype="F32"), "as tensor 0.2"),
    "a count in a row": (entry("0.2", shape=[1]), "as tensor 0.2"),
}


@pytest.mark.parametrize(("change", "reason"), RECENT.values(), ids=RECENT.keys())
def test_a_recent_file_that_lies(recent: Path, change: Change, reason: str) -> None:
    assert reason in refusal(forge(recent, change))


@pytest.mark.parametrize("count", [0, -1, 257, 2**31 - 1])
def test_a_count_of_tokens_that_are_not_there(recent: Path, count: int) -> None:
    value, data = split(recent.read_bytes())
    begin, end = value["0.2"]["data_offsets"]
    recent.write_bytes(join(value, data[:begin] + struct.pack("<i", count) + data[end:]))
    assert "from 1 to 256 as tensor 0.2" in refusal(recent)


def test_layers_of_different_length(recent: Path) -> None:
    value, data = split(recent.read_bytes())
    begin, end = value["1.2"]["data_offsets"]
    recent.write_bytes(join(value, data[:begin] + struct.pack("<i", 2) + data[end:]))
    assert "one type and one number of tokens" in refusal(recent)


@pytest.mark.parametrize("name", ["RotatingKVCache", "QuantizedKVCache", "os.system", "kvcache"])
def test_caches_of_another_class_are_not_read(foreign: Path, name: str) -> None:
    with pytest.raises(Usage, match=name):
        mlx.read(forge(foreign, said("2.1", name)))


@pytest.mark.parametrize("pattern", [0x7C00, 0xFC00, 0x7E00, 0x7C01])
def test_a_number_that_is_none_is_found(foreign: Path, recent: Path, pattern: int) -> None:
    data = unpack(foreign.parent, BEFORE).read_bytes()
    foreign.write_bytes(data[:-2] + struct.pack("<H", pattern))
    assert "infinite or not a number" in refusal(foreign)


def test_numbers_beyond_those_that_count_do_not_matter(recent: Path) -> None:
    value, data = split(recent.read_bytes())
    _, end = value["0.0"]["data_offsets"]
    recent.write_bytes(join(value, data[: end - 2] + struct.pack("<H", 0x7E00) + data[end:]))
    assert mlx.read(recent).tokens == 3


OURS = {
    "other tokens": (said("0.memos.token_ids", "[1,2,3,4,5,6]"), "the tokens that memos noted"),
    "fewer tokens": (said("0.memos.token_ids", "[100]"), "the tokens that memos noted"),
    "tokens of text": (said("0.memos.token_ids", '["a"]'), "whole numbers"),
    "tokens with a sign": (said("0.memos.token_ids", "[-1]"), "whole numbers"),
    "tokens with zeros": (said("0.memos.token_ids", "[01]"), "whole numbers"),
    "no token": (said("0.memos.token_ids", "[]"), "whole numbers"),
    "tokens too large": (said("0.memos.token_ids", "[4294967296]"), "up to"),
    "another content": (said("0.memos.content", "x"), "memos.content"),
    "another model": (said("0.memos.dtype", "F16"), "key"),
    "no header": (said("0.memos.format", None), "memos.format"),
    "other numbers": (said("0.memos.numbers_sha256", "0" * 64), "the numbers that memos wrote"),
    "no digest": (said("0.memos.numbers_sha256", None), "the numbers that memos wrote"),
    "other heads": (
        lambda value: [value[f"{at}.{part}"].update(shape=[1, 4, 3, 4]) for at in (0, 1) for part in (0, 1)],
        "from 1 to 3",
    ),
    "other width": (
        lambda value: [value[f"{at}.{part}"].update(shape=[1, 1, 6, 8]) for at in (0, 1) for part in (0, 1)],
        "that memos noted",
    ),
}


@pytest.mark.parametrize(("change", "reason"), OURS.values(), ids=OURS.keys())
def test_what_memos_noted_must_fit(exported: Path, change: Change, reason: str) -> None:
    assert reason in refusal(forge(exported, change))


def test_notes_that_are_not_ours_are_passed_on(foreign: Path) -> None:
    path = forge(foreign, said("1.memos.content", "x"))
    assert mlx.read(path).notes == {"model": "x/y", "tokenizer_config": "{}"}
    assert mlx.read(forge(path, said("1.a.b", "c"))).notes["a.b"] == "c"


def test_a_flipped_bit_is_found_in_our_own(exported: Path) -> None:
    data = bytearray(exported.read_bytes())
    begin = len(data) - 4 * 96
    for place in range(begin, len(data)):
        data[place] ^= 1 << place % 8
        exported.write_bytes(data)
        refusal(exported)
        data[place] ^= 1 << place % 8


def test_a_file_cut_short(foreign: Path) -> None:
    data = foreign.read_bytes()
    for length in range(0, len(data), 7):
        foreign.write_bytes(data[:length])
        refusal(foreign)
    foreign.write_bytes(data + b"\0")
    assert "after the last tensor" in refusal(foreign)


def test_what_is_no_file(foreign: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        mlx.read(tmp_path / "none")
    (tmp_path / "link").symlink_to(foreign)
    assert "a file that can be read" in refusal(tmp_path / "link")
    os.mkfifo(tmp_path / "pipe")
    assert "an ordinary file" in refusal(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(struct.pack("<Q", 90_000_000) + b"{}")
    assert "a header of at most" in refusal(tmp_path / "large")
    (tmp_path / "deep").write_bytes(struct.pack("<Q", 300_000) + b"[" * 300_000)
    assert "a header of JSON" in refusal(tmp_path / "deep")


def test_no_refusal_is_anything_but_ours(recent: Path) -> None:
    """Random headers over a sound file end in a result or in one of our errors."""
    value, data = split(recent.read_bytes())
    random = np.random.default_rng(5)
    odd = [None, True, -1, 2**70, "", "x", [], {}, [[]], {"a": 1}, ["a"] * 3, "0.2", [0, 4]]
    for _ in range(400):
        changed = json.loads(json.dumps(value))
        name = list(changed)[random.integers(len(changed))]
        inner = list(changed[name])[random.integers(len(changed[name]))]
        changed[name][inner] = odd[random.integers(len(odd))]
        recent.write_bytes(join(changed, data))
        with suppress(MemosError):
            mlx.read(recent)
