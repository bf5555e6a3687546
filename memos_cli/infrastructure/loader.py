"""MemLoader: a file of the cube, into what a running model continues from.

In this order, each step before the next touches more: the header, the tokens, the model it was made for, and then
tensors as views of the file. Nothing is copied that the model can use as it is, and the file's own pages are read when
they are needed. What comes back is new each time and never the stored object: a cache grows as a model writes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memos_cli.cube import activation
from memos_cli.cube.activation import Header, Layer, Layers, Part, Quantization, Scheme
from memos_cli.infrastructure.dumper import shapes_of
from memos_cli.runtime import quantize
from memos_cli.runtime.kv import Memory
from memos_cli.runtime.sparse import SparseMemory

if TYPE_CHECKING:
    import numpy as np
    import torch

    from memos_cli.runtime.fingerprint import Fingerprint


@dataclass(frozen=True, slots=True)
class Opened:
    """A file whose header, model and tokens were checked; its tensors are not looked at before they are asked for.

    `warnings` tell what is different here without harm.
    """

    layers: Layers = field(repr=False)
    ids: tuple[int, ...]
    warnings: tuple[str, ...]

    @property
    def header(self) -> Header:
        """What the file says of itself."""
        return self.layers.header

    def memory(self, network: Any) -> Memory | SparseMemory:
        """Its memory, of views of the file where the network can use them; new at each call."""
        header = self.header
        # a network looks through all of its weights each time that it is asked for its device or its dtype
        device, dtype = network.device, network.dtype
        held = {layer.index: _Tensors.of(self.layers, layer, device, dtype) for layer in header.layers}
        if len(held) == header.model_layers and not any(layer.sparse for layer in header.layers):
            whole = [held[number] for number in range(header.model_layers)]
            keys, values = tuple(one.keys for one in whole), tuple(one.values for one in whole)
            return Memory(self.ids, keys, values, header.position)
        each = [held.get(number) for number in range(header.model_layers)]
        return SparseMemory(
            self.ids,
            tuple(one.keys if one else None for one in each),
            tuple(one.values if one else None for one in each),
            tuple(one.positions(device) if one else None for one in each),
            header.position,
        )


@dataclass(frozen=True, slots=True)
class Stored:
    """A memory from a file, what the file says of it, and what is different here without harm."""

    header: Header
    memory: Memory | SparseMemory = field(repr=False)
    warnings: tuple[str, ...]


def open_file(path: Path, network: Any, *, fingerprint: Fingerprint) -> Opened:
    """The file at `path`, checked for the network that has this fingerprint.

    Raises NotFound, Damaged for a file that is not as it must be, WrongModel for one that another model made. The
    numbers are not looked at here: `activation.verify` does it for a file from elsewhere.
    """
    layers = activation.open_layers(path)
    warnings = activation.check_model(
        layers.header, hard=fingerprint.hard, soft=fingerprint.soft, shapes=shapes_of(network), place=path
    )
    return Opened(layers, tuple(layers.token_ids().tolist()), warnings)


def load(path: Path, network: Any, *, fingerprint: Fingerprint) -> Stored:
    """The memory in the file at `path`; raises as `open_file` does."""
    opened = open_file(path, network, fingerprint=fingerprint)
    return Stored(opened.header, opened.memory(network), opened.warnings)


@dataclass(frozen=True, slots=True)
class _Tensors:
    """What a file holds of a layer, as the network takes it."""

    layer: Layer
    keys: torch.Tensor
    values: torch.Tensor
    places: np.ndarray | None

    @classmethod
    def of(cls, layers: Layers, layer: Layer, device: torch.device, dtype: torch.dtype) -> _Tensors:
        schemes = layers.header.quantization or Quantization(None, None)
        parts = layers.layer(layer)
        keys = _numbers(parts, "key", schemes.key, layer.key_dim, device, dtype)
        values = _numbers(parts, "value", schemes.value, layer.value_dim, device, dtype)
        return cls(layer, keys, values, parts["positions"].array if "positions" in parts else None)

    def positions(self, device: torch.device) -> torch.Tensor:
        """The places of the tokens that each head kept; of a layer that kept all, every place."""
        import torch

        if self.places is not None:
            return torch.from_numpy(self.places).to(device)
        every = torch.arange(self.layer.tokens, dtype=torch.int32, device=device)
        return every.expand(self.layer.heads, -1)


def _numbers(
    parts: dict[str, Part], name: str, scheme: Scheme | None, dim: int, device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    if scheme is None:
        return _tensor(parts[name]).to(device, dtype)
    q, scale, zero = (_tensor(parts[f"{name}.{part}"]).to(device) for part in ("q", "scale", "zero"))
    return quantize.dequantize(
        quantize.Packed(q, scale, zero), bits=scheme.bits, per=scheme.per, dim=dim, group=scheme.group, dtype=dtype
    )


def _tensor(part: Part) -> torch.Tensor:
    import torch

    array: np.ndarray = part.array
    tensor = torch.from_numpy(array)
    return tensor.view(torch.bfloat16) if part.dtype == "BF16" else tensor
