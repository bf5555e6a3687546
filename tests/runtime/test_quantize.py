"""Numbers in few bits: against a plain reading of the format in numpy, at every size, and their bounds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memos_cli.cube import activation_header
from memos_cli.errors import Damaged, Usage
from memos_cli.runtime.quantize import Packed, Scheme, dequantize, quantize, schemes_for

SETTINGS = [Scheme(bits, per, group) for bits in (8, 4) for per in ("channel", "token") for group in (0, 1, 3, 64)]


def numbers(heads: int, tokens: int, dim: int, *, seed: int = 0, large: float = 1.0) -> Any:
    import torch

    return torch.randn(heads, tokens, dim, generator=torch.Generator().manual_seed(seed)) * large


def read(packed: Packed, scheme: Scheme, dim: int) -> Any:
    """What the format says the numbers are, one by one."""
    import numpy as np

    q, scale, zero = (one.numpy() for one in (packed.q, packed.scale, packed.zero))
    heads, tokens, _width = q.shape
    out = np.zeros((heads, tokens, dim), dtype=np.float32)
    group = scheme.group or (tokens if scheme.per == "channel" else dim)
    for h in range(heads):
        for t in range(tokens):
            for c in range(dim):
                byte = int(q[h, t, c if scheme.bits == 8 else c // 2])
                number = byte if scheme.bits == 8 else (byte >> 4 if c % 2 else byte & 15)
                at = (h, t // group, c) if scheme.per == "channel" else (h, t, c // group)
                out[h, t, c] = np.float32(number) * np.float32(scale[at]) + np.float32(zero[at])
    return out


@pytest.mark.parametrize("scheme", SETTINGS, ids=str)
@pytest.mark.parametrize("shape", [(2, 7, 5), (1, 1, 8), (3, 70, 1), (1, 1, 1), (2, 66, 9)], ids=str)
def test_bytes_are_those_of_the_format(scheme: Scheme, shape: tuple[int, int, int]) -> None:
    import numpy as np

    given_ = numbers(*shape)
    packed = quantize(given_, bits=scheme.bits, per=scheme.per, group=scheme.group)
    names = {"q": packed.q, "scale": packed.scale, "zero": packed.zero}
    expected = activation_header._quantised("x", shape, activation_header.Scheme(*scheme), "F16")
    found = {f"x.{name}": (str(one.dtype), tuple(one.shape)) for name, one in names.items()}
    kinds = {"U8": "torch.uint8", "F16": "torch.float16"}
    assert found == {name: (kinds[kind], size) for name, (kind, size) in expected.items()}
    again = dequantize(packed, bits=scheme.bits, per=scheme.per, group=scheme.group, dim=shape[2])
    assert np.array_equal(again.numpy(), read(packed, scheme, shape[2]))
    assert all(one.is_contiguous() for one in names.values())


def steps(packed: Packed, scheme: Scheme, shape: tuple[int, int, int]) -> Any:
    """The scale of each number."""
    import torch

    axis = 1 if scheme.per == "channel" else 2
    each = packed.scale.float().repeat_interleave(scheme.group or shape[axis], dim=axis)
    return torch.narrow(each, axis, 0, shape[axis])


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(SETTINGS), st.integers(1, 3), st.integers(1, 70), st.integers(1, 9), st.integers(0, 99),
    st.sampled_from([1e-9, 1e-6, 1e-3, 1.0, 300.0, 9000.0]), st.sampled_from([0.0, 1.0, -777.7, 2000.0]),
)  # fmt: skip
def test_no_number_is_off_by_more_than_half_a_scale(
    scheme: Scheme, heads: int, tokens: int, dim: int, seed: int, large: float, away: float
) -> None:
    given_ = numbers(heads, tokens, dim, seed=seed, large=large) + away
    packed = quantize(given_, bits=scheme.bits, per=scheme.per, group=scheme.group)
    again = dequantize(packed, bits=scheme.bits, per=scheme.per, group=scheme.group, dim=dim)
    each = steps(packed, scheme, (heads, tokens, dim))
    rounding = given_.abs() * 2e-7
    assert bool(((again - given_).abs() <= each / 2 + rounding).all())
    # and a scale is no larger than the numbers ask for, but for what float16 cannot say
    levels = 2**scheme.bits - 1
    span, most = given_.max() - given_.min(), given_.abs().max()
    assert float(each.max()) <= float(span / levels * 1.002 + most * 2**-9 / levels + 2**-23)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("per", ["channel", "token"])
def test_bytes_are_the_nearest_ones(bits: int, per: str) -> None:
    import numpy as np

    given_ = numbers(2, 6, 4)
    packed = quantize(given_, bits=bits, per=per)
    axis = 1 if per == "channel" else 2
    exact = given_.numpy().astype(np.float32)
    low = exact.min(axis, keepdims=True)
    zero = packed.zero.numpy().astype(np.float32)
    scale = packed.scale.numpy().astype(np.float32)
    assert (zero <= low).all()
    assert (zero > low - np.abs(low) / 500).all()
    need = (exact.max(axis, keepdims=True) - zero) / (2**bits - 1)
    assert (scale >= need).all()
    assert (scale < need * 1.002).all()
    nearest = np.rint((exact - zero) / scale).astype(np.uint8)
    if bits == 4:
        nearest = nearest[..., 0::2] | nearest[..., 1::2] << 4
    assert np.array_equal(packed.q.numpy(), nearest)


def test_constant_numbers_stay_what_they_are() -> None:
    import torch

    for constant in (0.0, 1.5, -2.0, 65504.0, -65504.0):
        given_ = torch.full((2, 5, 3), constant)
        for bits, per in ((8, "channel"), (4, "token")):
            packed = quantize(given_, bits=bits, per=per)
            assert torch.equal(dequantize(packed, bits=bits, per=per, dim=3), given_)
    # one that float16 cannot say is off by no more than its step
    near = torch.full((1, 4, 4), 0.1)
    again = dequantize(quantize(near, bits=8, per="token"), bits=8, per="token", dim=4)
    assert float((again - near).abs().max()) < 1e-6


def test_the_widest_range_fits_and_what_is_beyond_is_refused() -> None:
    import torch

    ends = torch.tensor([[[-65504.0, 65504.0, 0.0], [-65490.0, 3.0, 65490.0]]])
    for bits in (8, 4):
        packed = quantize(ends, bits=bits, per="token")
        assert bool(packed.zero.isfinite().all() & packed.scale.isfinite().all())
        again = dequantize(packed, bits=bits, per="token", dim=3)
        assert bool(((again - ends).abs() <= packed.scale.float() / 2 + 0.01).all())
    for wrong in (65600.0, -1e9, float("inf"), float("nan")):
        with pytest.raises(Usage, match="between"):
            quantize(torch.tensor([[[0.0, wrong]]]), bits=8, per="channel")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_numbers_come_back_in_the_dtype_that_is_asked_for(dtype: str) -> None:
    import torch

    kind = getattr(torch, dtype)
    given_ = numbers(2, 9, 6).to(kind)
    packed = quantize(given_, bits=8, per="channel", group=4)
    wide = dequantize(packed, bits=8, per="channel", group=4, dim=6)
    assert torch.equal(dequantize(packed, bits=8, per="channel", group=4, dim=6, dtype=kind), wide.to(kind))


def test_what_is_cut_out_of_a_larger_tensor_is_read_right() -> None:
    import torch

    large = numbers(4, 30, 8)
    part = large.transpose(0, 1)[3:20, :, ::2].transpose(0, 1)
    first = quantize(part, bits=4, per="token", group=2)
    second = quantize(part.contiguous(), bits=4, per="token", group=2)
    assert torch.equal(first.q, second.q)
    assert torch.equal(first.scale, second.scale)


def test_settings_and_shapes_that_are_none_are_refused() -> None:
    import torch

    given_ = numbers(2, 4, 4)
    for bits, per, group in ((2, "token", 0), (8, "head", 0), (8, "token", -1)):
        with pytest.raises(Usage, match="8 or 4"):
            quantize(given_, bits=bits, per=per, group=group)
    for wrong in (given_[0], given_[:, :0]):
        with pytest.raises(Usage, match="shape"):
            quantize(wrong, bits=8, per="token")
    packed = quantize(given_, bits=4, per="channel", group=3)
    with pytest.raises(Damaged, match="shape"):
        dequantize(packed, bits=4, per="channel", group=1, dim=4)
    with pytest.raises(Damaged, match="shape"):
        dequantize(packed, bits=4, per="channel", group=3, dim=9)
    with pytest.raises(Damaged, match="bytes"):
        dequantize(Packed(packed.q.float(), packed.scale, packed.zero), bits=4, per="channel", group=3, dim=4)
    broken = Packed(packed.q, torch.full_like(packed.scale, float("nan")), packed.zero)
    with pytest.raises(Damaged, match="finite"):
        dequantize(broken, bits=4, per="channel", group=3, dim=4)


@pytest.mark.parametrize(("bits", "least"), [(8, 1.9), (4, 3.2)])
@pytest.mark.parametrize("dim", [32, 64, 128, 256])
@pytest.mark.parametrize("tokens", [128, 200, 256, 1000])
def test_the_usual_schemes_are_small(bits: int, least: float, dim: int, tokens: int) -> None:
    import torch

    given_ = numbers(2, tokens, dim).to(torch.bfloat16)
    packed = [quantize(given_, **scheme._asdict()) for scheme in schemes_for(bits, tokens=tokens, dim=dim)]
    assert 2 * given_.nbytes / sum(one.size_bytes for one in packed) >= least


def test_few_tokens_take_their_scales_per_token() -> None:
    assert [scheme.per for scheme in schemes_for(8, tokens=20, dim=64)] == ["token", "token"]
    assert [scheme.per for scheme in schemes_for(8, tokens=64, dim=64)] == ["channel", "token"]
    assert [scheme.per for scheme in schemes_for(8, tokens=300, dim=32)] == ["channel", "channel"]
    assert [scheme.per for scheme in schemes_for(4, tokens=300, dim=32)] == ["channel", "token"]
    with pytest.raises(Usage, match="8 or 4"):
        schemes_for(2, tokens=20, dim=64)
