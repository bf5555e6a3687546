"""Which tokens of a memory each head keeps when it cannot keep all: scores from the model itself, nothing is trained.

kvzip reads the text to the model again and asks it to repeat it; expected_attention, h2o and memory3 read it once;
random and knorm do not read, and are what the others must beat. None knows the question that will be asked. Knows
nothing of cubes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from memos_cli.errors import Usage
from memos_cli.runtime.attend import Heard, Listener, attending
from memos_cli.runtime.kv import Memory, forward, frequencies_of
from memos_cli.runtime.sparse import SparseMemory, check, layout_for, pick, to_cache, whole

if TYPE_CHECKING:
    from torch import Tensor

KVZIP, EXPECTED, H2O, MEMORY3, RANDOM, KNORM = "kvzip", "expected_attention", "h2o", "memory3", "random", "knorm"
METHODS = (KVZIP, EXPECTED, H2O, MEMORY3, RANDOM, KNORM)
# Of each 128 tokens, 8 per head, in the first half of the layers (Memory3, Yang and others 2024).
CHUNK_TOKENS, CHUNK_KEPT = 128, 8
SINK_TOKENS = 4
FUTURE_TOKENS = 512
# How much is read again at a time, each time with a few tokens before it so that the model knows where it is.
REPEAT_TOKENS, REPEAT_BEFORE = 2048, 8
# Numbers of attention held at once: 64 MiB in float32.
BLOCK_NUMBERS = 1 << 24

Score = Callable[[Heard], "Tensor"]


def compress(
    network: Any,
    memory: Memory,
    *,
    method: str,
    keep: float | int | None = None,
    seed: int = 0,
    prompt: Sequence[int] = (),
) -> SparseMemory:
    """The memory with the tokens that a method finds worth keeping, each head its own; new tensors.

    `keep` is a share of the tokens (0.25), or how many at most (64); memory3 by itself keeps 8 of each 128. `prompt`
    are the tokens that ask kvzip's reader to repeat, `seed` is random's. Raises Usage for a method, an amount or a
    model that it cannot be, WrongModel for the memory of another model.
    """
    found = scores(network, memory, method=method, seed=seed, prompt=prompt)
    tokens = len(memory.ids)
    if method == MEMORY3:
        share = CHUNK_KEPT / CHUNK_TOKENS if keep is None else _count(keep, tokens) / tokens
        half = -(-len(found) // 2)
        return pick(memory, [_top_of_chunks(one, share) if n < half else None for n, one in enumerate(found)])
    if keep is None:
        raise Usage(f"expected how much {method} is to keep, found nothing", hint="a share such as 0.25")
    count = _count(keep, tokens)
    return pick(memory, [_top(one, count) for one in found])


def scores(
    network: Any, memory: Memory, *, method: str, seed: int = 0, prompt: Sequence[int] = ()
) -> tuple[Tensor, ...]:
    """How much a method would keep each token: per layer [kv_heads, tokens] in float32, the largest first to be kept.

    Raises as `compress` does.
    """
    if method not in METHODS:
        raise Usage(f"expected a method of {', '.join(METHODS)}, found {method!r}")
    check(layout_for(network), whole(memory))
    if method == RANDOM:
        return _random(memory, seed)
    if method == KNORM:
        return tuple(-one.float().norm(dim=-1) for one in memory.keys)
    if method == KVZIP:
        return _kvzip(network, memory, prompt)
    score = h2o if method == H2O else _before_rope(network, memory, method)
    return _listened(network, memory.ids, score, position=memory.base)


def _count(keep: float | int, tokens: int) -> int:
    """How many of so many tokens a share or a number means; at least one, at most all."""
    whole_number = isinstance(keep, int) and not isinstance(keep, bool)
    if not (keep >= 1 if whole_number else isinstance(keep, float) and 0 < keep <= 1):
        raise Usage(f"expected a share from 0 to 1 or a number of tokens to keep, found {keep!r}")
    return min(int(keep), tokens) if whole_number else max(1, round(keep * tokens))


def _top(found: Tensor, count: int) -> Tensor:
    """The places [kv_heads, count] of the largest scores of each head, rising; of equal ones the first."""
    import torch

    order = found.argsort(dim=-1, descending=True, stable=True)[:, :count]
    return order.sort(dim=-1).values.to(torch.int32)


def _top_of_chunks(found: Tensor, share: float) -> Tensor:
    """The same, a share of every chunk by itself."""
    import torch

    parts = torch.split(found, CHUNK_TOKENS, dim=-1)
    chosen = (_top(part, max(1, round(share * part.shape[-1]))) for part in parts)
    return torch.cat([places + number * CHUNK_TOKENS for number, places in enumerate(chosen)], dim=-1)


def _random(memory: Memory, seed: int) -> tuple[Tensor, ...]:
    import torch

    drawn = torch.Generator().manual_seed(seed)
    return tuple(torch.rand(one.shape[:2], generator=drawn).to(one.device) for one in memory.keys)


def _listened(
    network: Any, ids: Sequence[int], score: Score, *, position: int, cache: Any = None
) -> tuple[Tensor, ...]:
    """The scores of every layer while the network reads `ids`, in one pass."""
    found: dict[int, Tensor] = {}

    def listen(heard: Heard) -> None:
        found[heard.layer] = score(heard)

    _read(network, ids, listen, position=position, cache=cache)
    layers = len(layout_for(network).layers)
    if sorted(found) != list(range(layers)):
        raise Usage(
            f"{type(network).__name__} lets nobody listen to its attention: heard {len(found)} of {layers} layers"
        )
    return tuple(found[number] for number in range(layers))


def _read(network: Any, ids: Sequence[int], listen: Listener, *, position: int, cache: Any) -> None:
    with attending(network, listen):
        forward(network, ids, cache=cache, position=position, logits=1)


def _grouped(heard: Heard) -> tuple[Tensor, Tensor]:
    """Queries [kv_heads, heads that share it, asking, head_dim] and keys [kv_heads, 1, seen, head_dim], in float32."""
    heads, asking, width = heard.queries.shape
    kv_heads = heard.keys.shape[0]
    return heard.queries.float().view(kv_heads, heads // kv_heads, asking, width), heard.keys.float()[:, None]


def _attention(heard: Heard) -> Iterator[Tensor]:
    """Causal attention [kv_heads, heads that share it, asking, seen], of some queries at a time."""
    import torch

    queries, keys = _grouped(heard)
    asking, seen = queries.shape[2], keys.shape[2]
    block = max(1, BLOCK_NUMBERS // (len(heard.queries) * seen))
    places = torch.arange(seen, device=keys.device)
    for start in range(0, asking, block):
        part = queries[:, :, start : start + block]
        at = places[seen - asking + start :][: part.shape[2], None]
        products = part @ keys.transpose(2, 3) * heard.scale
        yield products.masked_fill_(places > at, -torch.inf).softmax(-1)


def h2o(heard: Heard) -> Tensor:
    """What a token is attended to by those that see it, on average (H2O, Zhang and others 2023; summed there).

    Read in one pass, so the last tokens are seen by few, and mostly by themselves: they score high.
    """
    import torch

    total = sum(part.sum(dim=2).mean(dim=1) for part in _attention(heard))
    assert isinstance(total, torch.Tensor)
    return total / torch.arange(total.shape[-1], 0, -1, device=total.device)


def _kvzip(network: Any, memory: Memory, prompt: Sequence[int]) -> tuple[Tensor, ...]:
    """The most that any token of a repetition attends to each token (KVzip, Kim and others 2025)."""
    import torch

    tokens, best = len(memory.ids), None

    def score(heard: Heard) -> Tensor:
        parts = (part[..., :tokens].amax(dim=(1, 2)) for part in _attention(heard))
        return torch.stack(list(parts)).amax(dim=0)

    for start, end in _repeated(network, tokens, len(prompt)):
        again = [*prompt, *memory.ids[max(0, start - REPEAT_BEFORE) : end]]
        cache = to_cache(network, whole(memory))
        found = _listened(network, again, score, position=tokens, cache=cache)
        best = found if best is None else tuple(a.maximum(b) for a, b in zip(best, found, strict=True))
    assert best is not None
    return best


def _repeated(network: Any, tokens: int, prompt: int) -> list[tuple[int, int]]:
    """The parts of a text that are repeated one at a time, each after all of it and within the model's window."""
    window = getattr(network.config.get_text_config(decoder=True), "max_position_embeddings", None)
    room = REPEAT_TOKENS if window is None else min(REPEAT_TOKENS, window - tokens - prompt - REPEAT_BEFORE)
    if room < min(tokens, 64):
        raise Usage(
            f"{KVZIP} reads the text twice: {tokens} tokens leave too few of the model's {window}",
            hint=f"{EXPECTED} reads it once",
        )
    return [(start, min(start + room, tokens)) for start in range(0, tokens, room)]


class _Rope(NamedTuple):
    """What turns keys and queries back to where they were before the rope, and queries on to an average later place."""

    back: tuple[Tensor, Tensor]
    later: tuple[Tensor, Tensor]


def _before_rope(network: Any, memory: Memory, method: str) -> Score:
    """The score of a method that needs queries as they were before the rope."""
    import torch

    if reason := layout_for(network).shift_refusal:
        raise Usage(f"{method} needs queries from before the rope of {type(network).__name__}: {reason}")
    frequencies = frequencies_of(network).to(memory.keys[0].device)
    tokens, device = len(memory.ids), frequencies.device
    here = torch.arange(memory.base, memory.base + tokens, device=device)[:, None] * frequencies
    then = memory.base + tokens + torch.arange(FUTURE_TOKENS, device=device)
    later = then[:, None] * frequencies
    rope = _Rope((here.cos(), -here.sin()), (later.cos().mean(0), later.sin().mean(0)))
    score = memory3 if method == MEMORY3 else expected_attention
    return lambda heard: score(heard, rope)


def _turned(numbers: Tensor, by: tuple[Tensor, Tensor]) -> Tensor:
    """Numbers [..., head_dim] turned by angles of these cosines and sines; what is beyond them stays."""
    import torch

    cosine, sine = by
    half = cosine.shape[-1]
    first, second, rest = numbers[..., :half], numbers[..., half : 2 * half], numbers[..., 2 * half :]
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine, rest), dim=-1)


def memory3(heard: Heard, rope: _Rope) -> Tensor:
    """What a token is attended to by all of its chunk, without rope and order (Memory3, Yang and others 2024)."""
    import torch

    queries, keys = (_turned(one, rope.back) for one in _grouped(heard))
    chunks = zip(*(torch.split(one, CHUNK_TOKENS, dim=2) for one in (queries, keys)), strict=True)
    weights = ((asks @ asked.transpose(2, 3) * heard.scale).softmax(-1) for asks, asked in chunks)
    return torch.cat([one.sum(dim=(1, 2)) for one in weights], dim=-1)


def expected_attention(heard: Heard, rope: _Rope) -> Tensor:
    """What later queries should attend to each token, times its value's norm (Devoto and others 2025).

    Later queries are taken to be normal, with the mean and covariance of those here before the rope, turned on to an
    average of the next 512 positions. The first tokens, which draw attention whatever they are, are always kept.
    """
    import torch

    first = min(SINK_TOKENS, heard.keys.shape[1])
    queries, keys = _grouped(heard)
    past, asked = _turned(queries, rope.back)[:, :, first:], keys[:, :, first:]
    if not past.shape[2]:
        return torch.full(heard.keys.shape[:2], torch.inf, device=keys.device)
    mean = past.mean(dim=2, keepdim=True)
    spread = (past - mean).transpose(2, 3) @ (past - mean) / past.shape[2]
    mean = _turned(mean, rope.later)
    spread = _turned(_turned(spread, rope.later).transpose(2, 3), rope.later)
    products = (mean @ asked.transpose(2, 3))[:, :, 0] * heard.scale
    products = products + ((asked @ spread) * asked).sum(-1) * heard.scale**2 / 2
    expected = products.softmax(-1).mean(dim=1) * heard.values[:, first:].float().norm(dim=-1)
    return torch.nn.functional.pad(expected, (first, 0), value=torch.inf)
