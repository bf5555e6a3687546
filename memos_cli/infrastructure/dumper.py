"""MemDumper: what a running model holds of a memory, into a file of the cube.

The one place where tensors of the runtime become those of the format. What it writes it has from the model itself:
shapes, rope and fingerprint; where the memory comes from is told by the caller.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memos_cli.cube import activation
from memos_cli.cube.activation import Activation, Header, Quantization, Scheme, Shape, Tensor
from memos_cli.errors import Usage
from memos_cli.runtime import quantize
from memos_cli.runtime.layout import SLIDING, layout_of, rope_parameters

if TYPE_CHECKING:
    import torch

    from memos_cli.runtime.fingerprint import Fingerprint
    from memos_cli.runtime.kv import Memory
    from memos_cli.runtime.sparse import SparseMemory

DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


@dataclass(frozen=True, slots=True)
class About:
    """What a file says of the memory that is in it: its id, the digest of its text, how it was read and made."""

    memory: str
    content: str
    kind: str
    source: Mapping[str, Any]
    compression: Mapping[str, Any] = field(default_factory=dict)
    parent: str = ""


@dataclass(frozen=True, slots=True)
class Storage:
    """What keys and values are stored as: a dtype (that of the memory by default), or so many bits of each number."""

    dtype: str | None = None
    bits: int | None = None


def shapes_of(network: Any) -> tuple[Shape, ...]:
    """The layers of a network, as a file describes them."""
    return tuple(
        Shape(one.kind, one.kv_heads, one.head_dim, one.head_dim, one.window or 0)
        for one in layout_of(network.config).layers
    )


def header_of(
    network: Any,
    ids: Sequence[int],
    about: About,
    *,
    fingerprint: Fingerprint,
    storage: Storage = Storage(),
    position: int = 0,
    kept: int | None = None,
) -> Header:
    """The header that the memory of the tokens `ids` under this network is stored with, before it is made.

    `kept` is how many tokens each head keeps about, where not all. The layers are filled in by `dump`; the name of the
    file is that of the header already. Raises Usage for a dtype that cannot be stored, and for a model whose memory
    cannot be quantised.
    """
    dtype = storage.dtype or str(network.dtype).removeprefix("torch.")
    if dtype not in DTYPES:
        raise Usage(f"keys and values are stored as {', '.join(DTYPES)}, found {dtype}", hint="--dtype float32")
    header = Header(
        memory=about.memory, content=about.content, kind=about.kind, tokens=len(ids), dtype=DTYPES[dtype],
        model_layers=len(shapes_of(network)), layers=(), rope=_rope(network), hard=dict(fingerprint.hard),
        soft=dict(fingerprint.soft), source=dict(about.source), position=position,
        quantization=_quantization(network, kept or len(ids), storage), compression=dict(about.compression),
        parent=about.parent,
    )  # fmt: skip
    return activation.identify(header, array("i", ids).tobytes())


def _rope(network: Any) -> dict[str, str]:
    ropes = rope_parameters(network.config)
    kinds = sorted({str(one.get("rope_type") or "default") for one in ropes.values()})
    return {"state": "post" if ropes else "none", "type": ", ".join(kinds)}


def _quantization(network: Any, tokens: int, storage: Storage) -> Quantization | None:
    if storage.bits is None:
        return None
    layers = layout_of(network.config).layers
    if any(layer.kind == SLIDING for layer in layers):
        raise Usage("a memory of a model with windows is not quantised", hint="leave --quantize out")
    key, value = quantize.schemes_for(storage.bits, tokens=tokens, dim=layers[0].head_dim)
    return Quantization(Scheme(*key), Scheme(*value))


def dump(
    folder: Path,
    header: Header,
    memory: Memory | SparseMemory,
    network: Any,
    *,
    fidelity: Mapping[str, float] | None = None,
) -> Activation:
    """Writes the memory into `folder` under its header, with the figures of its fidelity; returns it as read back.

    Raises Damaged for numbers that are infinite or none, also where a smaller dtype made them so.
    """
    header = replace(header, layers=_layers(network, memory), fidelity=dict(fidelity or {}))
    tensors: dict[str, Tensor] = {}
    for layer in header.layers:
        tensors |= _tensors(header, layer, memory)
    return activation.write(folder, header, token_ids=memory.ids, tensors=tensors)


def as_stored(header: Header, memory: Any) -> Any:
    """The memory as it will come back from its file: the same tensors, or what fewer bits leave of them."""
    schemes = header.quantization or Quantization(None, None)
    return replace(
        memory,
        keys=tuple(_settled(one, header.dtype, schemes.key) for one in memory.keys),
        values=tuple(_settled(one, header.dtype, schemes.value) for one in memory.values),
    )


def _settled(numbers: torch.Tensor | None, dtype: str, scheme: Scheme | None) -> torch.Tensor | None:
    if numbers is None:
        return None
    if scheme is None:
        return numbers.to(_kinds()[dtype]).to(numbers.dtype)
    packed = quantize.quantize(numbers, bits=scheme.bits, per=scheme.per, group=scheme.group)
    dim = numbers.shape[-1]
    return quantize.dequantize(
        packed, bits=scheme.bits, per=scheme.per, dim=dim, group=scheme.group, dtype=numbers.dtype
    )


def _layers(network: Any, memory: Any) -> tuple[activation.Layer, ...]:
    """The layers that have memory, as a header tells them."""
    sparse = getattr(memory, "positions", None) is not None
    return tuple(
        activation.Layer(
            index, shape.kind, shape.heads, shape.key_dim, shape.value_dim, keys.shape[1], shape.window, sparse=sparse
        )
        for index, (shape, keys) in enumerate(zip(shapes_of(network), memory.keys, strict=True))
        if keys is not None
    )


def _tensors(header: Header, layer: activation.Layer, memory: Any) -> Iterator[tuple[str, Tensor]]:
    import torch

    schemes = header.quantization or Quantization(None, None)
    parts = (("key", memory.keys, schemes.key), ("value", memory.values, schemes.value))
    for part, held, scheme in parts:
        name, numbers = f"{layer.prefix}.{part}", held[layer.index]
        if scheme is None:
            yield name, _plain(numbers, header.dtype)
            continue
        packed = quantize.quantize(numbers, bits=scheme.bits, per=scheme.per, group=scheme.group)
        yield f"{name}.q", _plain(packed.q, "U8")
        yield f"{name}.scale", _plain(packed.scale, "F16")
        yield f"{name}.zero", _plain(packed.zero, "F16")
    if layer.sparse:
        yield f"{layer.prefix}.positions", _plain(memory.positions[layer.index].to(torch.int32), "I32")


def _plain(tensor: torch.Tensor, dtype: str) -> Tensor:
    """A tensor as the format has it: bfloat16 has no type of numpy's, and travels as its bits."""
    import torch

    ready = tensor.detach().to("cpu", _kinds()[dtype]).contiguous()
    bits = ready.view(torch.uint16) if dtype == "BF16" else ready
    return Tensor(dtype, tuple(tensor.shape), bits.numpy())


def _kinds() -> dict[str, torch.dtype]:
    import torch

    return {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I32": torch.int32, "U8": torch.uint8}
