"""Activation files made to harm, or harmed: each is refused with its reason, before a tensor is touched."""

from __future__ import annotations

import json
import os
import struct
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253
import pytest

from memos_cli.cube import activation
from memos_cli.cube.activation import Activation, Layer
from memos_cli.errors import Damaged, MemosError
from tests.cube import activations
from tests.cube.activations import LAYERS, forge, header, join, split, write

Change = Callable[[dict[str, Any]], Any]


@pytest.fixture
def written(tmp_path: Path) -> Activation:
    return write(tmp_path)


def refusal(path: Path, *, read: Callable[[Path], Any] = activation.read) -> str:
    with pytest.raises(Damaged) as caught:
        read(path)
    assert caught.value.exit_code == 4
    assert caught.value.hint
    return caught.value.message


def entry(name: str, **fields: Any) -> Change:
    """Other fields for one tensor."""
    return lambda value: value[name].update(fields)


def said(name: str, text: str | None) -> Change:
    """Another text in the metadata."""
    if text is None:
        return lambda value: value["__metadata__"].pop(f"memos.{name}")
    return lambda value: value["__metadata__"].update({f"memos.{name}": text})


KEY = "layers.000.key"
# The file: token_ids 24 bytes, then four tensors of 96.
CONTAINER = {
    "parent folder": (lambda value: value.update({"../x": value.pop(KEY)}), "plain names"),
    "absolute name": (lambda value: value.update({"/x": value.pop(KEY)}), "plain names"),
    "long name": (lambda value: value.update({"x" * 500: value.pop(KEY)}), "plain names"),
    "overlap": (entry(KEY, data_offsets=[20, 116]), "overlap"),
    "gap": (entry("token_ids", shape=[5], data_offsets=[0, 20]), "leave a gap"),
    "past the end": (entry("layers.001.value", shape=[2, 6, 400], data_offsets=[312, 9912]), "cut short"),
    "far past the end": (entry(KEY, data_offsets=[2**40, 2**40 + 96]), "leave a gap"),
    "beyond 64 bits": (entry(KEY, data_offsets=[2**64, 2**64 + 96]), "begins and ends"),
    "backwards": (entry(KEY, data_offsets=[120, 24]), "96 bytes"),
    "negative": (entry(KEY, data_offsets=[-72, 24]), "begins and ends"),
    "three offsets": (entry(KEY, data_offsets=[24, 72, 120]), "begins and ends"),
    "true as an offset": (entry("token_ids", data_offsets=[False, 24]), "begins and ends"),
    "no offsets": (lambda value: value[KEY].pop("data_offsets"), "dtype, shape and data_offsets"),
    "another key": (entry(KEY, extra=1), "dtype, shape and data_offsets"),
    "no entry": (lambda value: value.update({KEY: [1]}), "dtype, shape and data_offsets"),
    "unknown dtype": (entry(KEY, dtype="F4"), "one of F32"),
    "dtype of no text": (entry(KEY, dtype=["BF16"]), "one of F32"),
    "wider dtype": (entry(KEY, dtype="F32"), "192 bytes"),
    "shape with 0": (entry(KEY, shape=[0, 6, 4]), "none of them 0"),
    "shape of text": (entry(KEY, shape="264"), "dimensions"),
    "huge shape": (entry(KEY, shape=[2**40, 2**40, 2**40]), "bytes of tensor"),
    "many dimensions": (entry(KEY, shape=[1] * 9), "from 1 to 8 dimensions"),
    "no dimensions": (entry(KEY, shape=[]), "from 1 to 8 dimensions"),
    "float": (entry(KEY, shape=[2.0, 6, 4]), "not whole"),
    "metadata of numbers": (lambda value: value["__metadata__"].update({"a": 1}), "texts"),
    "missing tensor": (
        lambda value: value.update({"x": value.pop("layers.001.value")}),
        "as tensor layers.001.value, found nothing",
    ),
    "other shape": (entry(KEY, shape=[2, 4, 6]), r"BF16 [2, 6, 4] as tensor layers.000.key, found BF16 [2, 4, 6]"),
    "other dtype of that size": (entry(KEY, dtype="F16"), "found F16"),
}


@pytest.mark.parametrize(("change", "reason"), CONTAINER.values(), ids=CONTAINER.keys())
def test_a_header_that_lies_about_tensors(written: Activation, change: Change, reason: str) -> None:
    assert reason in refusal(forge(written, change))


def layers(**fields: Any) -> str:
    first = {
        "index": 0, "kind": "full", "heads": 2, "key_dim": 4, "value_dim": 4, "tokens": 6, "window": 0, "sparse": False,
    }  # fmt: skip
    return activations.dump([{**first, **fields}, {**first, "index": 1}]).decode()


SAID = {
    "another format": (said("format", "lora"), "not an activation file"),
    "no format": (said("format", None), "not an activation file"),
    "newer version": (said("version", "2"), "expected version 1"),
    "no memory": (said("memory", None), "memos.memory"),
    "memory in another folder": (said("memory", "../../etc/passwd"), "memos.memory"),
    "memory of another name": (said("memory", "other"), "the name other."),
    "content of no digest": (said("content", "md5:00"), "memos.content"),
    "another kind": (said("kind", "suffix"), "segment, prefix"),
    "changed kind": (said("kind", "prefix"), "key"),
    "no tokens": (said("tokens", "0"), "memos.tokens"),
    "negative tokens": (said("tokens", "-1"), "memos.tokens"),
    "tokens in other digits": (said("tokens", "٦"), "memos.tokens"),
    "more tokens": (said("tokens", "7"), "7 tokens in layer 0"),
    "fewer tokens": (said("tokens", "5"), "5 tokens in layer 0"),
    "too many tokens": (said("tokens", "9999999999"), "memos.tokens"),
    "position too far": (said("position", str(2**31 - 1)), "positions up to"),
    "changed position": (said("position", "1"), "key"),
    "another dtype": (said("dtype", "F64"), "memos.dtype"),
    "changed dtype": (said("dtype", "F16"), "key"),
    "too many layers": (said("model_layers", "1001"), "memos.model_layers"),
    "fewer layers": (said("model_layers", "1"), "some of 1 layers"),
    "layers of no list": (said("layers", "{}"), "memos.layers"),
    "no layers": (said("layers", "[]"), "some of 2 layers"),
    "layers out of order": (said("layers", layers(index=1)), "some of 2 layers"),
    "layer of another kind": (said("layers", layers(kind="linear")), "a full layer"),
    "sliding without window": (said("layers", layers(kind="sliding")), "a full layer"),
    "full with window": (said("layers", layers(window=4)), "a full layer"),
    "sliding keeps too much": (said("layers", layers(kind="sliding", window=4)), "3 tokens in layer 0, found 6"),
    "no heads": (said("layers", layers(heads=0)), "no 0"),
    "heads of truth": (said("layers", layers(heads=True)), "numbers"),
    "many heads": (said("layers", layers(heads=2**31 - 1)), "as tensor layers.000.key"),
    "sparse of a number": (said("layers", layers(sparse=1)), "true or false"),
    "sparse without positions": (said("layers", layers(sparse=True, tokens=6)), "layers.000.positions"),
    "layer with more fields": (said("layers", layers(extra=1)), "the fields of a layer"),
    "json with spaces": (said("compression", "{ }"), "canonical JSON"),
    "json with a key twice": (said("compression", '{"method":"a","method":"a"}'), "canonical JSON"),
    "deep json": (said("compression", '{"method":' + "[" * 100_000 + "]" * 100_000 + "}"), "canonical JSON"),
    "no method": (said("compression", '{"keep":"0.5"}'), "a method"),
    "rope state": (said("rope", '{"state":"twisted","type":"default"}'), "post, pre, none"),
    "rope without type": (said("rope", '{"state":"post"}'), "state and type"),
    "rope with more": (said("rope", '{"inv_freq":"1","state":"post","type":"a"}'), "state and type"),
    "model without weights": (said("model", '{"hard":{},"soft":{}}'), "weights among the hard fields"),
    "model of text": (said("model", '"Qwen3"'), "memos.model"),
    "two bits": (
        said("quantization", '{"key":{"bits":2,"group":0,"per":"token"},"scales":"F16","value":null}'),
        "4 or 8 bits",
    ),
    "scales of whole numbers": (said("quantization", '{"key":null,"scales":"U8","value":null}'), "memos.quantization"),
    "figure of no number": (said("fidelity", '{"kl":"nan"}'), "figures"),
    "figure of infinity": (said("fidelity", '{"kl":"1e999"}'), "finite figures"),
    "no source": (said("source", "{}"), "tool and made_at"),
    "parent of a segment": (said("parent", "0f" * 32), "no parent of a segment"),
    "another token digest": (said("token_sha256", "0f" * 32), "key"),
    "a field too long": (said("source", "x" * 600_000), "memos.source"),
}


@pytest.mark.parametrize(("change", "reason"), SAID.values(), ids=SAID.keys())
def test_a_header_that_lies_about_itself(written: Activation, change: Change, reason: str) -> None:
    assert reason in refusal(forge(written, change))


def test_unknown_fields_are_passed_over(written: Activation) -> None:
    path = forge(written, lambda value: value["__metadata__"].update({"memos.newer": "x", "other": "y"}))
    assert activation.verify(path).header == written.header


def bomb(path: Path, length: int, text: bytes = b"{") -> Path:
    """A file that says its header is `length` long, and is; sparse, so that it costs the disk nothing."""
    path.unlink()
    with open(path, "wb") as stream:
        stream.write(struct.pack("<Q", length) + text)
        stream.truncate(8 + length + 100)
    return path


def test_ninety_megabytes_of_metadata_are_not_read(written: Activation) -> None:
    path = bomb(written.path, 90_000_000, b'{"__metadata__":{"a":"')
    tracemalloc.start()
    assert "at most 4,194,304 bytes, found one of 90,000,000" in refusal(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 2**64 - 8])
def test_a_length_beyond_all_files(written: Activation, length: int) -> None:
    written.path.write_bytes(struct.pack("<Q", length) + b"{}" * 100)
    assert "a header of at most" in refusal(written.path)


@pytest.mark.long
@pytest.mark.parametrize(("count", "reason"), [(300_000, "a header of at most"), (50_000, "at most 8192 tensors")])
def test_three_hundred_thousand_tensors(written: Activation, count: int, reason: str) -> None:
    entries = {
        str(number): {"dtype": "U8", "shape": [1], "data_offsets": [number, number + 1]} for number in range(count)
    }
    written.path.write_bytes(join({"__metadata__": {}, **entries}, bytes(count)))
    assert reason in refusal(written.path)


SEALS = activations.dump({"memos.data_sha256": "0" * 64, "memos.header_sha256": "0" * 64})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'{"__metadata__":{},"a":{},"a":{}}', "'a' is there twice"),
        (b'{"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}', "'dtype' is there twice"),
        (b"[" * 300_000, "a header of JSON"),
        (b"[]", "an object as the header, found a list"),
        (b"{}", "texts under __metadata__"),
        (b'{"__metadata__":[]}', "texts under __metadata__"),
        (b'{"__metadata__":{}}', "64 hex digits as memos.data_sha256"),
        (b'{"a":' + b"9" * 5000 + b"}", "a header of JSON"),
        (b'{"__metadata__":' + SEALS[:-1] + b',"a":"\\ud800"}}', "canonical JSON can hold"),
        (b'{"__metadata__": ' + SEALS + b"}", "canonical JSON (sorted"),
        (b'{"__metadata__":' + SEALS + b"}", "the header was changed"),
        (b'{"a":NaN}', "not whole"),
        (b'{"a":1e3}', "not whole"),
        (b"\xff\xfe{}", "a header of JSON"),
        (b"\x80\x04\x95pickle", "a header of JSON"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_headers_that_are_none(written: Activation, text: bytes, reason: str) -> None:
    text += b" " * (-(8 + len(text)) % 64)
    # With no tensors there is no data; a header that gets past its shape is judged without any.
    written.path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(0 if SEALS[:-1] in text else 100))
    assert reason in refusal(written.path)


def test_any_file_cut_short_is_refused_by_its_header(written: Activation) -> None:
    data = written.path.read_bytes()
    for length in range(len(data)):
        written.path.write_bytes(data[:length])
        refusal(written.path)
    written.path.write_bytes(data + b"\0")
    assert "after the last tensor" in refusal(written.path)


def test_any_flipped_bit_is_found(written: Activation) -> None:
    data = bytearray(written.path.read_bytes())
    for place in range(len(data)):
        data[place] ^= 1 << place % 8
        written.path.write_bytes(data)
        if place < written.head.data_offset:
            refusal(written.path)
        else:
            assert activation.read(written.path) == written
            assert "its tensors were changed" in refusal(written.path, read=activation.verify)
        data[place] ^= 1 << place % 8


def test_other_tokens_are_refused_on_opening(written: Activation) -> None:
    value, data = split(written.path.read_bytes())
    other = np.arange(200, 206, dtype="<i4").tobytes() + data[24:]
    path = forge(written, lambda _: value, other)
    activation.read(path)
    assert "tokens with sha256" in refusal(path, read=activation.open_layers)


@pytest.mark.parametrize("pattern", [0x7FC0, 0xFFC0, 0x7F80, 0xFF80, 0x7F81])
def test_a_sealed_number_that_is_none_is_found(written: Activation, pattern: int) -> None:
    _, data = split(written.path.read_bytes())
    path = forge(written, lambda _: None, data[:-2] + struct.pack("<H", pattern))
    activation.read(path)
    assert "layers.001.value: expected numbers" in refusal(path, read=activation.verify)


@pytest.mark.parametrize("places", [[0, 0, 1], [2, 1, 0], [0, 1, 6], [-1, 0, 1]])
def test_places_of_tokens_that_are_not_there(tmp_path: Path, places: list[int]) -> None:
    sparse = (Layer(0, "full", 2, 4, 4, 3, sparse=True), LAYERS[1])
    written = write(tmp_path, header(layers=sparse))
    span = written.ranges(sparse[0])["positions"]
    _, data = split(written.path.read_bytes())
    begin = span.offset - written.head.data_offset
    forged = data[:begin] + np.array([[0, 1, 2], places], "<i4").tobytes() + data[begin + span.size_bytes :]
    path = forge(written, lambda _: None, forged)
    assert "rising places below 6" in refusal(path, read=activation.verify)


def test_a_file_under_another_name_is_refused(written: Activation) -> None:
    other = written.path.with_name(written.path.name.replace(activations.MEMORY, "another"))
    written.path.rename(other)
    assert "another memory's or another model's" in refusal(other)


def test_what_is_no_file_is_refused(written: Activation, tmp_path: Path) -> None:
    content = written.path.read_bytes()
    (tmp_path / "real").write_bytes(content)
    written.path.unlink()
    written.path.symlink_to(tmp_path / "real")
    assert "a file that can be read" in refusal(written.path)
    written.path.unlink()
    os.mkfifo(written.path)
    assert "an ordinary file" in refusal(written.path)
    written.path.unlink()
    written.path.mkdir()
    assert "an ordinary file" in refusal(written.path)


def test_a_plain_safetensors_file_is_not_an_activation(written: Activation) -> None:
    from safetensors.numpy import save_file

    written.path.unlink()
    save_file({"layers.000.key": np.zeros((2, 6, 4), np.float16)}, written.path, metadata={"format": "pt"})
    refusal(written.path)


def test_no_refusal_is_anything_but_ours(written: Activation) -> None:
    """Random headers over a sound file end in a result or in one of our errors."""
    value, data = split(written.path.read_bytes())
    random = np.random.default_rng(5)
    odd = [None, True, -1, 2**70, "", "x", [], {}, [[]], {"a": 1}, ["a"] * 3]
    for _ in range(400):
        changed = json.loads(json.dumps(value))
        name = list(changed)[random.integers(len(changed))]
        inner = list(changed[name])[random.integers(len(changed[name]))]
        changed[name][inner] = odd[random.integers(len(odd))]
        if "memos.data_sha256" not in changed["__metadata__"]:
            continue
        written.path.write_bytes(join(changed, data))
        with suppress(MemosError):
            activation.verify(written.path)
