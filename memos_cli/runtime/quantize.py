"""Keys and values in 8 or 4 bits: numbers that share a scale, and back again.

Asymmetric: x = q * scale + zero, with q from 0 to 255 or 15, scale and zero in float16. The zero of a group is rounded
down and its scale up, so no number falls outside and none is off by more than half a scale (and the rounding of the
dtype it is turned back into). The bytes are those of the file format: two numbers of 4 bits to a byte along the last
axis, the first in the low half; an odd one has a byte of its own. Knows nothing of files or cubes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from memos_cli.errors import Damaged, Usage

if TYPE_CHECKING:
    import torch
    from torch import Tensor

CHANNEL, TOKEN = "channel", "token"
BITS = (8, 4)
# Some channels of keys are large in every token (KIVI, Liu and others 2024), so each has scales of its own, over so
# many tokens; values have no such channels, so each token has. With 64 tokens in 8 bits a head of 64 or 128 numbers
# would be 1.88 times smaller than in 16 bits; with 128 it is 1.91 and 1.94, and as close.
GROUP_TOKENS = {8: 128, 4: 64}
GROUP_CHANNELS = {8: 0, 4: 64}
# Below this a token has too few numbers to share a scale; in 8 bits it matters little which ones do.
SMALL_DIM = 64


class Scheme(NamedTuple):
    """Numbers of one `channel` or of one `token` share a scale, `group` of them at a time (0 for all)."""

    bits: int
    per: str
    group: int = 0


@dataclass(frozen=True, slots=True)
class Packed:
    """Numbers in few bits: `q` in uint8 [heads, tokens, bytes]; `scale` and `zero` in float16.

    These are [heads, groups, dim] when per channel, and [heads, tokens, groups] when per token.
    """

    q: Tensor = field(repr=False)
    scale: Tensor = field(repr=False)
    zero: Tensor = field(repr=False)

    @property
    def size_bytes(self) -> int:
        """What its tensors take."""
        return self.q.nbytes + self.scale.nbytes + self.zero.nbytes


def schemes_for(bits: int, *, tokens: int, dim: int) -> tuple[Scheme, Scheme]:
    """The schemes of keys and of values for a memory of so many tokens. Raises Usage for other than 8 or 4 bits.

    A memory with fewer tokens than a head has numbers takes the scales of its keys per token too: per channel, they
    would take more than is saved.
    """
    if bits not in BITS:
        raise Usage(f"expected 8 or 4 bits, found {bits}")
    per_channel, per_token = Scheme(bits, CHANNEL, GROUP_TOKENS[bits]), Scheme(bits, TOKEN, GROUP_CHANNELS[bits])
    if tokens < min(dim, GROUP_TOKENS[bits]):
        return per_token, per_token
    small = bits == 8 and dim < SMALL_DIM <= tokens
    return per_channel, per_channel if small else per_token


def quantize(numbers: Tensor, *, bits: int, per: str, group: int = 0) -> Packed:
    """The numbers [heads, tokens, dim] in so many bits.

    Raises Usage for settings that are none, and for numbers that are not finite or too large for float16.
    """
    import torch

    _check(bits, per, group)
    if numbers.dim() != 3 or not numbers.numel():
        raise Usage(f"expected numbers [heads, tokens, dim], found a shape of {tuple(numbers.shape)}")
    axis = 1 if per == CHANNEL else 2
    wide, top = numbers.float(), torch.finfo(torch.float16).max
    low, high = (torch.cat(found, axis) for found in zip(*_extremes(wide, axis, group), strict=True))
    if not bool(((low >= -top) & (high <= top)).all()):
        raise Usage(f"expected numbers between {-top:g} and {top:g}, found others", hint="store them as they are")
    zero = _rounded(low, up=False)
    scale = _rounded((high - zero.float()) / (2**bits - 1), up=True)
    q = torch.empty_like(wide, dtype=torch.uint8, memory_format=torch.contiguous_format)
    for part, out, step, start in _with_scales(wide, q, scale, zero, axis, group):
        # where all are the same the step is 0, and so is q
        out.copy_((part - start).div_(step.where(step > 0, 1)).round_().clamp_(0, 2**bits - 1))
    return Packed(_in_pairs(q) if bits == 4 else q, scale, zero)


def dequantize(
    packed: Packed, *, bits: int, per: str, dim: int, group: int = 0, dtype: torch.dtype | None = None
) -> Tensor:
    """The numbers [heads, tokens, dim], computed in float32 and then rounded to the dtype (float32).

    Raises Usage for settings that are none, Damaged for tensors that are not what the settings make of such numbers.
    """
    import torch

    _check(bits, per, group)
    _check_shapes(packed, bits=bits, per=per, dim=dim, group=group)
    axis, q = (1 if per == CHANNEL else 2), packed.q
    whole = _from_pairs(q, dim) if bits == 4 else q
    numbers = torch.empty(whole.shape, dtype=dtype or torch.float32, device=q.device)
    for part, out, step, start in _with_scales(whole, numbers, packed.scale, packed.zero, axis, group):
        wide = out.copy_(part) if out.dtype == torch.float32 else part.float()
        # a product of 8 and 11 bits is exact in float32, so how it is added makes no difference
        wide.mul_(step).add_(start)
        if wide is not out:
            out.copy_(wide)
    return numbers


def _check(bits: int, per: str, group: int) -> None:
    if bits not in BITS or per not in (CHANNEL, TOKEN) or group < 0:
        raise Usage(f"expected 8 or 4 bits per channel or token, in groups, found {bits} per {per!r} in {group}")


def _check_shapes(packed: Packed, *, bits: int, per: str, dim: int, group: int) -> None:
    import torch

    if packed.q.dim() != 3 or packed.q.dtype != torch.uint8:
        raise Damaged(f"expected bytes [heads, tokens, bytes], found {packed.q.dtype} of {tuple(packed.q.shape)}")
    heads, tokens, width = packed.q.shape
    along = tokens if per == CHANNEL else dim
    groups = -(-along // (group or along)) if along else 0
    shared = (heads, groups, dim) if per == CHANNEL else (heads, tokens, groups)
    found = (width, tuple(packed.scale.shape), tuple(packed.zero.shape))
    if found != (expected := (-(-dim * bits // 8), shared, shared)):
        raise Damaged(f"expected bytes, scales and zeros of shape {expected}, found {found}")
    if not bool(packed.scale.isfinite().all() & packed.zero.isfinite().all()):
        raise Damaged("expected scales and zeros that are finite, found others")


def _groups(numbers: Tensor, axis: int, group: int) -> Iterator[Tensor]:
    """Views with the axis split into [groups, group]: of the whole groups, and of the smaller one at the end."""
    along = numbers.shape[axis]
    group = min(group or along, along)
    whole = along // group * group
    before, after = numbers.shape[:axis], numbers.shape[axis + 1 :]
    yield numbers.narrow(axis, 0, whole).view(*before, whole // group, group, *after)
    if whole < along:
        yield numbers.narrow(axis, whole, along - whole).view(*before, 1, along - whole, *after)


def _extremes(numbers: Tensor, axis: int, group: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The smallest and the largest number of each group."""
    return ((part.amin(axis + 1), part.amax(axis + 1)) for part in _groups(numbers, axis, group))


def _with_scales(
    first: Tensor, second: Tensor, scale: Tensor, zero: Tensor, axis: int, group: int
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Views of two tensors, split into the same groups, each with their scales and zeros in float32."""
    begun = 0
    for one, other in zip(_groups(first, axis, group), _groups(second, axis, group), strict=True):
        step, start = (each.narrow(axis, begun, one.shape[axis]).unsqueeze(axis + 1).float() for each in (scale, zero))
        yield one, other, step, start
        begun += one.shape[axis]


def _rounded(numbers: Tensor, *, up: bool) -> Tensor:
    """Numbers in float16, none of them smaller (up) or larger than it was."""
    import torch

    near, top = numbers.half(), torch.finfo(torch.float16).max
    sign = 1 if up else -1
    # one part in 1024, or the smallest float16 there is, is at least one step of float16 and at most two
    further = (numbers + sign * (numbers.abs() * 2**-10 + 2**-24)).clamp(-top, top).half()
    return torch.where((near.float() - numbers) * sign < 0, further, near)


def _in_pairs(q: Tensor) -> Tensor:
    """Two numbers of 4 bits to a byte, the first in the low half."""
    import torch

    even = torch.nn.functional.pad(q, (0, q.shape[-1] % 2))
    return even[..., 0::2] | (even[..., 1::2] << 4)


def _from_pairs(packed: Tensor, dim: int) -> Tensor:
    import torch

    return torch.stack((packed & 15, packed >> 4), dim=-1).flatten(-2)[..., :dim]
