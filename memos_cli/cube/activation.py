"""Activation memory on disk: the key-value cache of a memory under one model, in a safetensors file.

A file is written whole and never changed. It is read in steps, each refusing what is wrong before the next: the
header (`read`), the model it was made for (`check_model`), tensors as views of the file (`open_layers`); `verify`
hashes and looks at every number. Keys and values are [heads, tokens, dim], one layer after another. The tensors come
and go as plain buffers: what computes with them is not known here. The format is told in docs/reference/format.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from memos_cli.cube import tensorfile
from memos_cli.cube.activation_header import (
    Header,
    Layer,
    Quantization,
    Scheme,
    Shape,
    from_metadata,
    identify,
    tensors_of,
    to_metadata,
)
from memos_cli.cube.fit import differences
from memos_cli.cube.tensorfile import Head, Span, Tensor, damaged
from memos_cli.errors import Usage, WrongModel

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "FOLDER", "Activation", "Header", "Layer", "Layers", "Part", "Quantization", "Scheme", "Shape", "Tensor",
    "check_model", "find", "identify", "is_finite", "open_layers", "read", "tensors_of", "verify", "write",
]  # fmt: skip

FOLDER = "activation"
NAME = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_-]{0,63})\.([0-9a-f]{12})\.kv\.safetensors")

_TOKENS = "token_ids"
# The bits of a number that are all set when it is infinite or none at all, and the type they are seen through.
_EXPONENTS = {"F32": ("<u4", 0x7F800000), "F16": ("<u2", 0x7C00), "BF16": ("<u2", 0x7F80)}
_BLOCK_NUMBERS = 4 << 20


class Part(NamedTuple):
    """A tensor of a layer: its dtype in the file, and a view of it; BF16 is seen as uint16."""

    dtype: str
    array: np.ndarray


@dataclass(frozen=True, slots=True)
class Activation:
    """An activation file whose header was checked: what it says, and where its tensors lie."""

    path: Path
    header: Header
    head: Head
    parts: Mapping[str, dict[str, Span]] = field(repr=False)

    def ranges(self, layer: Layer) -> dict[str, Span]:
        """Where the tensors of `layer` lie in the file, by what follows the layer's name: `key`, `value`, ..."""
        return self.parts[layer.prefix]


class Layers:
    """An open activation file: its tensors are views of the file, made layer by layer when they are asked for.

    Treat the views as read-only, and copy before changing: two views of a tensor share what is written into one.
    """

    def __init__(self, activation: Activation, mapped: tensorfile.Mapped) -> None:
        self.activation = activation
        self._mapped = mapped
        self._tokens: np.ndarray | None = None

    @property
    def header(self) -> Header:
        """What the file says of itself."""
        return self.activation.header

    def token_ids(self) -> np.ndarray:
        """The tokens whose cache this is, int32 [tokens]. Raises Damaged unless they are those of the key."""
        if self._tokens is not None:
            return self._tokens
        found = self._mapped.array(_TOKENS)
        known = identify(self.header, found.tobytes())
        if known.token_sha256 != self.header.token_sha256 or int(found.min()) < 0:
            raise damaged(self.activation.path, f"tokens with sha256 {self.header.token_sha256[:16]}, found others")
        self._tokens = found
        return found

    def layer(self, layer: Layer) -> dict[str, Part]:
        """The tensors of `layer` by the rest of their names: `key`, `value`, `positions`, `key.q`, `key.scale`, ..."""
        spans = self.activation.ranges(layer)
        return {part: Part(span.dtype, self._mapped.array(f"{layer.prefix}.{part}")) for part, span in spans.items()}


def read(path: Path) -> Activation:
    """The checked header of the file at `path`; no tensor is read. Raises NotFound, Damaged."""
    return _checked(tensorfile.read_head(path))


def open_layers(path: Path) -> Layers:
    """The file at `path` with its header and its tokens checked, mapped. Raises NotFound, Damaged."""
    mapped = tensorfile.open_mapped(path)
    layers = Layers(_checked(mapped.head), mapped)
    layers.token_ids()
    return layers


def verify(path: Path) -> Activation:
    """Read all of the file at `path`: digest, tokens, positions, no number infinite or none. Raises Damaged."""
    tensorfile.check_data(path)
    layers = open_layers(path)
    for layer in layers.header.layers:
        for name, part in layers.layer(layer).items():
            _check_numbers(f"{path}: {layer.prefix}.{name}", name, part, layers.header)
    return layers.activation


def find(folder: Path, *, memory: str | None = None) -> list[Path]:
    """The activation files in `folder` (of one memory), by name; none when there is no such folder."""
    if not folder.is_dir():
        return []
    matches = [NAME.fullmatch(path.name) for path in folder.iterdir()]
    return sorted(folder / match[0] for match in matches if match and memory in (None, match[1]))


def memory_of(path: Path) -> str:
    """The id of the memory whose file is called so; "" for a name that no activation file has."""
    match = NAME.fullmatch(path.name)
    return match[1] if match else ""


def write(folder: Path, header: Header, *, token_ids: Any, tensors: Mapping[str, Tensor]) -> Activation:
    """Write a file of `tensors` into `folder` and return it as read back; equal arguments give equal bytes.

    `token_ids` are whole numbers; the header's key and digests are made here. Raises Usage for tensors that are not
    those of the header, and Damaged for numbers that are infinite or none, and for a header that could not be read.
    """
    tokens = _tokens(token_ids)
    header = identify(header, tokens.tobytes())
    metadata = to_metadata(header)
    from_metadata(metadata, place=header.name)
    tensors = {_TOKENS: Tensor("I32", (len(tokens),), tokens), **tensors}
    _check_given(header, tensors)
    folder.mkdir(exist_ok=True)
    tensorfile.write(folder / header.name, metadata, tensors)
    return read(folder / header.name)


def check_model(
    header: Header, *, hard: Mapping[str, Any], soft: Mapping[str, Any], shapes: Sequence[Shape], place: Path | str
) -> tuple[str, ...]:
    """Refuse any model but the one it was made for; what differs softly comes back, as sentences to warn with.

    `shapes` are all layers of the model, in order. Raises WrongModel, naming the fields and both their values.
    """
    wrong = differences(header.hard, hard)
    if header.model_layers != len(shapes):
        wrong.append(f"layers: made with {header.model_layers}, this model has {len(shapes)}")
    for layer in header.layers:
        if layer.index < len(shapes) and layer.shape != shapes[layer.index]:
            wrong.append(f"layer {layer.index}: made with {tuple(layer.shape)}, this model's is {shapes[layer.index]}")
    if wrong:
        more = f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""
        raise WrongModel(
            f"{place} was made for another model; {'; '.join(wrong[:3])}{more}",
            hint="memos convert CUBE --to activation --model M makes it for this model",
        )
    return tuple(differences(header.soft, soft))


def is_finite(part: Part) -> bool:
    """Whether each number of a tensor is one, and none infinite; whole numbers always are."""
    if part.dtype not in _EXPONENTS:
        return True
    seen_as, bits = _EXPONENTS[part.dtype]
    flat = part.array.reshape(-1).view(seen_as)
    blocks = (flat[start : start + _BLOCK_NUMBERS] for start in range(0, flat.size, _BLOCK_NUMBERS))
    return not any(((block & bits) == bits).any() for block in blocks)


def _checked(head: Head) -> Activation:
    header = from_metadata(head.metadata, place=head.path)
    if head.path.name != header.name:
        raise damaged(head.path, f"the name {header.name}: this file is another memory's or another model's")
    found = {name: (span.dtype, span.shape) for name, span in head.spans.items()}
    expected = tensors_of(header)
    if found != expected:
        wrong = min(name for name in {*found, *expected} if found.get(name) != expected.get(name))
        said = f"found {_label(found.get(wrong))}"
        raise damaged(head.path, f"{_label(expected.get(wrong))} as tensor {wrong}, {said}")
    return Activation(head.path, header, head, _by_layer(head.spans))


def _by_layer(spans: Mapping[str, Span]) -> dict[str, dict[str, Span]]:
    """The tensors of each layer, `layers.003.key.q` as `key.q` of `layers.003`."""
    parts: dict[str, dict[str, Span]] = {}
    for name, span in spans.items():
        room, number, part = [*name.split(".", 2), "", ""][:3]
        parts.setdefault(f"{room}.{number}", {})[part] = span
    return parts


def _label(tensor: tuple[str, tuple[int, ...]] | None) -> str:
    return f"{tensor[0]} {list(tensor[1])}" if tensor else "nothing"


def _tokens(token_ids: Any) -> np.ndarray:
    import numpy as np

    ids = np.asarray(token_ids)
    if ids.ndim != 1 or not ids.size or ids.dtype.kind not in "iu" or ids.min() < 0 or ids.max() >= 2**31:
        raise Usage(f"token ids are whole numbers in one row, found {ids.dtype} {list(ids.shape)}")
    return np.ascontiguousarray(ids, dtype="<i4")


def _check_given(header: Header, tensors: Mapping[str, Tensor]) -> None:
    """Whether these are the tensors that the header promises, with numbers in them."""
    import numpy as np

    found = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
    expected = tensors_of(header)
    for name in sorted({*found, *expected}):
        if found.get(name) != expected.get(name):
            wrong = f"found {_label(found.get(name))}"
            raise Usage(f"this activation memory has {_label(expected.get(name))} as tensor {name}, {wrong}")
        dtype, shape = expected[name]
        numbers = np.frombuffer(memoryview(tensors[name].data).cast("B"), tensorfile.DTYPES[dtype][1])
        if numbers.size != np.prod(shape):
            raise Usage(f"tensor {name} has {np.prod(shape)} numbers, found {numbers.size}")
        part = Part(dtype, numbers.reshape(shape))
        _check_numbers(f"{header.name}: {name}", name.rpartition(".")[2], part, header)


def _check_numbers(place: str, name: str, part: Part, header: Header) -> None:
    """No number infinite or none; places of chosen tokens rising within the memory."""
    if name == "positions":
        rising = (part.array[:, 1:] > part.array[:, :-1]).all()
        if not rising or part.array.min() < 0 or part.array.max() >= header.tokens:
            raise damaged(place, f"rising places below {header.tokens} for each head")
    elif not is_finite(part):
        raise damaged(place, "numbers, found one that is infinite or not a number")
