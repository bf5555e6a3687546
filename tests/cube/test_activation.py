"""Activation files: what is written is read back by us and by safetensors, and only for the model it was made for."""

from __future__ import annotations

import hashlib
import json
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253  # the tests below are about arrays
import pytest

from memos_cli.cube import activation
from memos_cli.cube.activation import Header, Layer, Quantization, Scheme, Shape, Tensor
from memos_cli.errors import Damaged, NotFound, Usage, WrongModel
from tests.cube import activations
from tests.cube.activations import HARD, MEMORY, SOFT, header, ids, shapes, tensors, write

INT8 = Quantization(Scheme(8, "channel"), Scheme(8, "token"))
INT4 = Quantization(Scheme(4, "channel", 4), Scheme(4, "token", 2), "F32")
SPARSE = (Layer(0, "full", 2, 4, 4, 3, sparse=True),)
SLIDING = (Layer(0, "full", 2, 4, 4, 6), Layer(1, "sliding", 2, 4, 4, 3, window=4))
UNEVEN = (Layer(1, "full", 1, 6, 3, 6),)
HEADERS = {
    "bf16": header(),
    "fp32": header(dtype="F32"),
    "fp16": header(dtype="F16", compression={"method": "random", "keep": "1"}),
    "prefix": header(kind="prefix", position=40, parent="0f" * 32),
    "half the layers": header(layers=activations.LAYERS[:1]),
    "sliding": header(layers=SLIDING),
    "sparse": header(layers=SPARSE, compression={"method": "memory3", "keep": "0.5", "sinks": 1}),
    "unlike dimensions": header(layers=UNEVEN),
    "int8": header(quantization=INT8),
    "int4": header(quantization=INT4),
    "int8 keys only": header(quantization=Quantization(Scheme(8, "channel", 4), None)),
    "int4 of odd dimensions": header(layers=UNEVEN, quantization=INT4),
    "sparse int8": header(layers=SPARSE, quantization=INT8, compression={"method": "kvzip", "keep": "0.5"}),
}


@pytest.fixture(params=HEADERS.values(), ids=HEADERS.keys())
def made(request: pytest.FixtureRequest) -> Header:
    return request.param  # type: ignore[no-any-return]


def test_what_is_written_is_read_back(tmp_path: Path, made: Header) -> None:
    given = tensors(made)
    written = activation.write(tmp_path / "activation", made, token_ids=ids(made), tensors=given)
    assert replace(written.header, token_sha256="", key="") == made
    layers = activation.open_layers(written.path)
    assert layers.token_ids().tolist() == ids(made).tolist()
    for layer in made.layers:
        for name, part in layers.layer(layer).items():
            tensor = given.pop(f"{layer.prefix}.{name}")
            assert part.dtype == tensor.dtype
            np.testing.assert_array_equal(part.array, tensor.data)
    assert not given
    assert activation.verify(written.path) == written


def test_safetensors_reads_the_same(tmp_path: Path, made: Header) -> None:
    import torch
    from safetensors import safe_open

    written = write(tmp_path, made)
    layers = activation.open_layers(written.path)
    names = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "U8": torch.uint8}
    with safe_open(written.path, "pt") as file:
        assert set(file.keys()) == set(activation.tensors_of(made))
        assert file.metadata() == written.head.metadata
        assert file.metadata()["format"] == "pt"
        np.testing.assert_array_equal(file.get_tensor("token_ids").numpy(), layers.token_ids())
        for layer in made.layers:
            for name, part in layers.layer(layer).items():
                theirs = file.get_tensor(f"{layer.prefix}.{name}")
                ours = torch.from_numpy(part.array).view(names.get(part.dtype, torch.int32))
                assert theirs.dtype == ours.dtype
                assert torch.equal(theirs, ours)


def test_equal_memories_give_equal_bytes(tmp_path: Path) -> None:
    given = tensors(header())
    first = activation.write(tmp_path / "a", header(), token_ids=ids(header()), tensors=given)
    turned = dict(reversed(given.items()))
    second = activation.write(tmp_path / "b", header(), token_ids=ids(header()).tolist(), tensors=turned)
    assert first.path.read_bytes() == second.path.read_bytes()


def test_the_bytes_of_version_1_do_not_change(tmp_path: Path) -> None:
    made = header()
    given = {
        name: Tensor(dtype, shape, np.arange(np.prod(shape), dtype="<u2"))
        for name, (dtype, shape) in activation.tensors_of(made).items()
        if name != "token_ids"
    }
    data = activation.write(tmp_path, made, token_ids=ids(made), tensors=given).path.read_bytes()
    assert hashlib.sha256(data).hexdigest() == "d091d8da2e2d00e1dd3342e99c1384b9e36b0ed2c8a9d323ea08b5f14f324e3c"


def test_a_file_is_named_by_its_memory_and_its_key(tmp_path: Path) -> None:
    written = write(tmp_path)
    assert written.path.name == f"{MEMORY}.{written.header.key[:12]}.kv.safetensors"
    known = activation.identify(header(), ids(header()).astype("<i4").tobytes())
    assert known.name == written.path.name
    assert activation.find(tmp_path) == activation.find(tmp_path, memory=MEMORY) == [written.path]
    assert activation.find(tmp_path, memory="other") == activation.find(tmp_path / "none") == []


@pytest.mark.parametrize(
    "change",
    [
        {"hard": {**HARD, "weights": "sha256:" + "56" * 32}},
        {"kind": "prefix"},
        {"kind": "prefix", "position": 1},
        {"dtype": "F16"},
        {"quantization": INT8},
        {"compression": {"method": "knorm", "keep": "0.5"}},
        {"rope": {"state": "pre", "type": "default"}},
    ],
)
def test_the_key_covers_what_makes_the_tensors(change: dict[str, Any]) -> None:
    tokens = ids(header()).astype("<i4").tobytes()
    plain = activation.identify(header(), tokens).key
    assert activation.identify(header(**change), tokens).key != plain
    assert activation.identify(header(), tokens[:-4]).key != plain
    assert activation.identify(header(fidelity={}, soft={}), tokens).key == plain


def test_layers_lie_one_after_another(tmp_path: Path) -> None:
    many = tuple(Layer(index, "full", 2, 4, 4, 6) for index in range(12))
    written = write(tmp_path, header(layers=many, model_layers=12))
    spans = [span for layer in many for span in written.ranges(layer).values()]
    assert [span.offset for span in spans] == sorted(span.offset for span in spans)
    assert sum(span.size_bytes for span in spans) == spans[-1].offset + spans[-1].size_bytes - spans[0].offset
    assert written.head.data_offset % 64 == 0


def test_tensors_are_views_of_the_file(tmp_path: Path) -> None:
    written = write(tmp_path)
    layers = activation.open_layers(written.path)
    first, again = (layers.layer(written.header.layers[0])["key"].array for _ in range(2))
    assert np.shares_memory(first, again)
    before = written.path.read_bytes()
    first[:] = 0
    assert written.path.read_bytes() == before
    assert activation.open_layers(written.path).layer(written.header.layers[0])["key"].array.any()


def test_views_outlive_the_file_name(tmp_path: Path) -> None:
    written = write(tmp_path)
    array = activation.open_layers(written.path).layer(written.header.layers[1])["value"].array
    kept = array.copy()
    written.path.unlink()
    np.testing.assert_array_equal(array, kept)


def test_a_written_file_replaces_and_never_changes_another(tmp_path: Path) -> None:
    first = write(tmp_path)
    link = tmp_path / "linked"
    link.hardlink_to(first.path)
    before = link.read_bytes()
    second = write(tmp_path, seed=8)
    assert second.path == first.path
    assert second.path.read_bytes() != before
    assert link.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([link.name, first.path.name])


def test_eight_bits_are_half_and_four_a_third(tmp_path: Path) -> None:
    layers = (Layer(0, "full", 8, 128, 128, 512),)
    sizes = {}
    for name, quantization in {
        "bf16": None,
        "int8": Quantization(Scheme(8, "channel"), Scheme(8, "token")),
        "int4": Quantization(Scheme(4, "channel", 64), Scheme(4, "token", 64)),
    }.items():
        made = header(layers=layers, tokens=512, model_layers=1, quantization=quantization)
        sizes[name] = write(tmp_path, made).path.stat().st_size
    assert sizes["bf16"] / sizes["int8"] > 1.9
    assert sizes["bf16"] / sizes["int4"] > 3.2


def dequantise(parts: dict[str, Any], part: str, scheme: Scheme, dim: int) -> np.ndarray:
    """As the format page says it."""
    q = parts[f"{part}.q"].array
    if scheme.bits == 4:
        q = np.stack([q & 15, q >> 4], axis=-1).reshape(*q.shape[:2], -1)[..., :dim]
    axis = 1 if scheme.per == "channel" else 2
    along = q.shape[axis]
    groups = np.arange(along) // (scheme.group or along)
    scale, zero = (parts[f"{part}.{name}"].array.astype(np.float32).take(groups, axis) for name in ("scale", "zero"))
    return q * scale + zero


@pytest.mark.parametrize("scheme", [Scheme(8, "channel"), Scheme(8, "token", 2), Scheme(4, "channel", 4)])
def test_quantised_numbers_come_back_near(tmp_path: Path, scheme: Scheme) -> None:
    made = header(dtype="F32", layers=UNEVEN, quantization=Quantization(scheme, scheme, "F32"))
    given = {}
    plain = {part: np.random.default_rng(3).standard_normal((1, 6, dim)) for part, dim in (("key", 6), ("value", 3))}
    for part, numbers in plain.items():
        name = f"{UNEVEN[0].prefix}.{part}"
        shape = activation.tensors_of(made)[f"{name}.scale"][1]
        scale = np.full(shape, np.ptp(numbers) / (2**scheme.bits - 1), dtype="<f4")
        zero = np.full(shape, numbers.min(), dtype="<f4")
        q = np.round((numbers - zero.flat[0]) / scale.flat[0]).astype(np.uint8)
        if scheme.bits == 4:
            q = np.pad(q, ((0, 0), (0, 0), (0, q.shape[-1] % 2)))
            q = q[..., ::2] | q[..., 1::2] << 4
        given |= {f"{name}.q": Tensor("U8", q.shape, np.ascontiguousarray(q))}
        given |= {f"{name}.scale": Tensor("F32", shape, scale), f"{name}.zero": Tensor("F32", shape, zero)}
    written = activation.write(tmp_path, made, token_ids=ids(made), tensors=given)
    parts = activation.open_layers(written.path).layer(UNEVEN[0])
    for part, numbers in plain.items():
        found = dequantise(parts, part, scheme, numbers.shape[-1])
        assert np.abs(found - numbers).max() <= parts[f"{part}.scale"].array.max() * 0.51


# The official MemOS fails in these ways; here the file refuses.


@pytest.mark.parametrize("field", sorted(HARD))
def test_memos_failure_wrong_model_loads_silently(tmp_path: Path, field: str) -> None:
    written = write(tmp_path)
    other = {**HARD, field: "something else"}
    with pytest.raises(WrongModel, match=f"{field}: made with .*, this model has 'something else'") as caught:
        activation.check_model(written.header, hard=other, soft=SOFT, shapes=shapes(header()), place=written.path)
    assert caught.value.exit_code == 6
    assert caught.value.hint
    missing = {name: value for name, value in HARD.items() if name != field}
    with pytest.raises(WrongModel, match=field):
        activation.check_model(written.header, hard=missing, soft=SOFT, shapes=shapes(header()), place=written.path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([Shape("full", 2, 4, 4)], "made with 2, this model has 1"),
        ([Shape("full", 2, 4, 4), Shape("full", 1, 4, 4)], "layer 1"),
        ([Shape("full", 2, 4, 4), Shape("sliding", 2, 4, 4, 4)], "layer 1"),
    ],
)
def test_memos_failure_wrong_layout_loads_silently(tmp_path: Path, given: list[Shape], message: str) -> None:
    with pytest.raises(WrongModel, match=message):
        activation.check_model(write(tmp_path).header, hard=HARD, soft=SOFT, shapes=given, place="it")


def test_memos_failure_pickle_is_read(tmp_path: Path) -> None:
    import pickle

    path = tmp_path / write(tmp_path / "made").path.name
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        path.write_bytes(pickle.dumps({"keys": [1.5] * 100, "values": [2.5] * 100}, protocol=protocol))
        with pytest.raises(Damaged):
            activation.read(path)


def test_memos_failure_a_load_that_fails_is_an_empty_memory(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        activation.open_layers(tmp_path / "none")


def test_memos_failure_the_stored_memory_grows_with_use(tmp_path: Path) -> None:
    written = write(tmp_path)
    layers = activation.open_layers(written.path)
    grown = np.concatenate([layers.layer(written.header.layers[0])["key"].array] * 2, axis=1)
    assert grown.shape[1] == 2 * layers.layer(written.header.layers[0])["key"].array.shape[1]
    assert activation.verify(written.path) == written


def test_soft_differences_are_told(tmp_path: Path) -> None:
    written = write(tmp_path)
    now = {**SOFT, "attention": "eager", "transformers": "5.23.0"}
    model: dict[str, Any] = {"hard": HARD, "shapes": shapes(header()), "place": written.path}
    warnings = activation.check_model(written.header, soft=now, **model)
    assert warnings == (
        "attention: made with 'sdpa', this model has 'eager'",
        "transformers: made with None, this model has '5.23.0'",
    )
    assert activation.check_model(written.header, soft=SOFT, **model) == ()


def test_adapters_may_be_given_as_a_tuple(tmp_path: Path) -> None:
    made = header(hard={**HARD, "adapters": ("sha256:" + "77" * 32, "sha256:" + "88" * 32)})
    written = write(tmp_path, made)
    given: dict[str, Any] = {"soft": SOFT, "shapes": shapes(made), "place": "it"}
    assert activation.check_model(written.header, hard=made.hard, **given) == ()
    turned = {**HARD, "adapters": made.hard["adapters"][::-1]}
    with pytest.raises(WrongModel, match="adapters"):
        activation.check_model(written.header, hard=turned, **given)


def test_the_wrong_tensors_are_not_written(tmp_path: Path) -> None:
    given = tensors(header())
    name, wrong = "layers.000.key", given["layers.000.key"]
    for tensor in (wrong._replace(dtype="F16"), wrong._replace(shape=(2, 4, 6)), wrong._replace(data=b"\0" * 4)):
        with pytest.raises(Usage, match=name):
            activation.write(tmp_path, header(), token_ids=ids(header()), tensors={**given, name: tensor})
    with pytest.raises(Usage, match=r"layers\.009\.key"):
        activation.write(tmp_path, header(), token_ids=ids(header()), tensors={**given, "layers.009.key": wrong})
    for tokens in ([], [0.5], [[1]], [-1], [2**31]):
        with pytest.raises(Usage, match="token ids"):
            activation.write(tmp_path, header(), token_ids=tokens, tensors=given)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_not_written(tmp_path: Path, dtype: str, number: float) -> None:
    made = header(dtype=dtype)
    given = tensors(made)
    array = given["layers.001.value"].data
    array.flat[3] = np.array(number, "<f4").view("<u4") >> 16 if dtype == "BF16" else number
    with pytest.raises(Damaged, match=r"layers\.001\.value.*infinite"):
        activation.write(tmp_path, made, token_ids=ids(made), tensors=given)
    assert list(tmp_path.iterdir()) == []


def test_a_cube_reads_activation_without_torch(tmp_path: Path) -> None:
    path = write(tmp_path).path
    program = (
        "import sys, pathlib; from memos_cli.cube import activation; "
        f"activation.read(pathlib.Path({str(path)!r})); "
        "print([name for name in ('torch', 'numpy', 'pyarrow', 'safetensors') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_reader_by_the_page_alone(tmp_path: Path) -> None:
    """With the standard library only, as a reader in another language would."""
    data = write(tmp_path, header(dtype="F32")).path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    entries = json.loads(data[8 : 8 + length])
    body, fields = data[8 + length :], entries["__metadata__"]
    assert (fields["memos.format"], fields["memos.version"]) == ("kv", "1")
    assert hashlib.sha256(body).hexdigest() == fields["memos.data_sha256"]
    seal = fields.pop("memos.header_sha256")
    plain = json.dumps(entries, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert hashlib.sha256(plain.encode()).hexdigest() == seal
    begin, end = entries["token_ids"]["data_offsets"]
    assert hashlib.sha256(body[begin:end]).hexdigest() == fields["memos.token_sha256"]
    said = {
        "format": "kv", "version": "1", "model": json.loads(fields["memos.model"])["hard"],
        "position": int(fields["memos.position"]),
        **{name: fields[f"memos.{name}"] for name in ("kind", "dtype", "parent", "token_sha256")},
        **{name: json.loads(fields[f"memos.{name}"]) for name in ("rope", "quantization", "compression")},
    }  # fmt: skip
    key = hashlib.sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    assert key == fields["memos.key"]


def test_every_field_is_in_the_format(tmp_path: Path) -> None:
    from memos_cli.cube.activation_header import HARD_FIELDS

    page = (Path(__file__).parents[2] / "docs/reference/format.md").read_text(encoding="utf-8")
    names = [*write(tmp_path).head.metadata, *HARD_FIELDS, *Layer.__dataclass_fields__, *Scheme.__dataclass_fields__]
    assert [name for name in names if f"`{name}`" not in page and f'"{name}"' not in page] == []
