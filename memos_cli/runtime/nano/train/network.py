"""The network as it is trained: the Llama layer written out, because training guides single attention heads.

`to_llama` gives the same function as a stock `LlamaForCausalLM`; a test holds the two together. Two layers begin wired:
heads that look at the previous token, and heads that match a token with what stood before and copy what came after.
Without that start a small model spends most of its training on finding this circuit (the induction head of Olsson et
al. 2022, arXiv 2209.11895).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

HEAD = 32
EPSILON = 1e-5
# Layer and head of each guided step: gather the subject and the relation of a statement, carry its value to its end
# where the value comes first, then find the statement.
GATHER, CARRY, FIND = 1, 2, 3
GUIDED = {
    "subject": (GATHER, 4), "relation": (GATHER, 5), "value": (CARRY, 0), "source": (FIND, 0), "source too": (FIND, 2),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the network. Heads are 32 wide, and two of them share a key-value head."""

    vocabulary: int = 4096
    width: int = 192
    layers: int = 5
    inner: int = 512
    positions: int = 2048
    theta: float = 1e6

    @property
    def heads(self) -> int:
        """How many query heads."""
        return self.width // HEAD

    @property
    def pairs(self) -> int:
        """How many key-value heads."""
        return self.heads // 2


@dataclass(frozen=True, slots=True)
class Guide:
    """Where the named head should look: rows of (sequence, position), and the wanted places as ones [rows, tokens]."""

    name: str
    sequence: Tensor
    position: Tensor
    wanted: Tensor


class Layer(nn.Module):
    """One Llama layer: attention with biases on queries, keys and values, then a gated feed-forward."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width, rows = shape.width, (shape.heads + 2 * shape.pairs) * HEAD
        spread, out = 0.6 / math.sqrt(width), 0.02 / math.sqrt(2 * shape.layers)
        self.shape = shape
        self.norm_in = nn.Parameter(torch.ones(width))
        self.norm_mid = nn.Parameter(torch.ones(width))
        self.qkv = nn.Parameter(torch.randn(rows, width) * spread)
        self.qkv.data[: (shape.heads + shape.pairs) * HEAD] *= 1.2
        self.bias = nn.Parameter(torch.zeros(rows))
        self.out = nn.Parameter(torch.randn(width, shape.heads * HEAD) * out * 5)
        self.gate_up = nn.Parameter(torch.randn(2 * shape.inner, width) * spread)
        self.down = nn.Parameter(torch.randn(width, shape.inner) * out * 3)

    def forward(
        self, x: Tensor, cosine: Tensor, sine: Tensor, mask: Tensor, *, weights: bool, only: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """The output [batch, tokens, width], and the attention weights [batch, heads, tokens, tokens] if asked for.

        With `only` (true for the places that matter) the output has just these: [places, width].
        """
        batch, tokens, width = x.shape
        heads, pairs = self.shape.heads, self.shape.pairs
        normed = functional.rms_norm(x, (width,), self.norm_in, EPSILON)
        parts = torch.split(
            functional.linear(normed, self.qkv, self.bias), [heads * HEAD, pairs * HEAD, pairs * HEAD], -1
        )
        query, key, value = (part.view(batch, tokens, -1, HEAD).transpose(1, 2) for part in parts)
        query, key = _turned(query, cosine, sine), _turned(key, cosine, sine)
        key, value = (part.repeat_interleave(heads // pairs, 1) for part in (key, value))
        attended, share = _attend(query, key, value, mask, weights=weights or not x.is_cuda)
        attended = attended.transpose(1, 2).reshape(batch, tokens, -1)
        if only is not None:
            x, attended = x[only], attended[only]
        x = x + functional.linear(attended, self.out)
        normed = functional.rms_norm(x, (width,), self.norm_mid, EPSILON)
        gate, up = functional.linear(normed, self.gate_up).chunk(2, -1)
        return x + functional.linear(functional.silu(gate) * up, self.down), share if weights else None


def _turned(part: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    first, second = part.chunk(2, -1)
    return part * cosine + torch.cat([-second, first], -1) * sine


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, *, weights: bool) -> tuple[Tensor, Tensor | None]:
    # Written out it is the faster one on a processor for the short sequences here, forward and backward.
    if weights:
        share = (query * HEAD**-0.5 @ key.transpose(-1, -2) + mask).softmax(-1)
        return share @ value, share
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask), None


class Network(nn.Module):
    """Token ids in, hidden states out; `logits` turns those into scores with the tied embedding."""

    def __init__(self, shape: Shape, *, wired: bool = True) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Parameter(torch.randn(shape.vocabulary, shape.width) * 0.1)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = nn.Parameter(torch.ones(shape.width))
        angles = torch.outer(torch.arange(shape.positions).float(), _frequencies(shape))
        self.register_buffer("cosine", torch.cat([angles, angles], -1).cos(), persistent=False)
        self.register_buffer("sine", torch.cat([angles, angles], -1).sin(), persistent=False)
        if wired:
            _wire(self)

    @property
    def stack(self) -> list[Layer]:
        """The layers, from the first."""
        return [cast("Layer", layer) for layer in self.layers]

    def forward(
        self, ids: Tensor, positions: Tensor, mask: Tensor, guides: Sequence[Guide] = (), *, only: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Hidden states [batch, tokens, width], and how far each guided head is off (0: just right).

        With `only` the last layer is finished for these places alone, and theirs are the states: [places, width].
        """
        cosine, sine = (cast("Tensor", part)[positions].unsqueeze(1) for part in (self.cosine, self.sine))
        x = functional.embedding(ids, self.embedding)
        lost: dict[str, Tensor] = {}
        for number, layer in enumerate(self.stack):
            here = [guide for guide in guides if GUIDED[guide.name][0] == number]
            last = only if number == self.shape.layers - 1 else None
            x, share = layer(x, cosine, sine, mask, weights=bool(here), only=last)
            for guide in here:
                lost[guide.name] = _distance(cast("Tensor", share), guide)
        return functional.rms_norm(x, (self.shape.width,), self.norm, EPSILON), lost

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of the next token [..., vocabulary]."""
        return functional.linear(hidden, self.embedding)


def _distance(share: Tensor, guide: Guide) -> Tensor:
    """Cross-entropy to an even spread over the wanted positions, less its least value.

    Asking only for the total would let a head settle on one of them.
    """
    rows = share[guide.sequence, GUIDED[guide.name][1], guide.position].float()
    count = guide.wanted.sum(-1)
    return (-(torch.log(rows + 1e-5) * guide.wanted).sum(-1) / count - torch.log(count)).mean()


def _frequencies(shape: Shape) -> Tensor:
    return 1.0 / shape.theta ** (torch.arange(0, HEAD, 2).float() / HEAD)


@torch.no_grad()
def _wire(network: Network) -> None:
    """Sets the starting circuit. Every weight stays trainable."""
    shape = network.shape
    heads, pairs, width, group = shape.heads, shape.pairs, shape.width, shape.heads // shape.pairs
    half, turn = HEAD // 2, _frequencies(shape)
    slow = [i for i in range(half) if turn[i] < 0.004]
    slow += [i + half for i in slow]
    first, second, fourth = (network.stack[number] for number in (0, GATHER, FIND))

    def q(head: int) -> slice:
        return slice(head * HEAD, (head + 1) * HEAD)

    def k(pair: int) -> slice:
        return q(heads + pair)

    def v(pair: int) -> slice:
        return q(heads + pairs + pair)

    basis = torch.linalg.qr(torch.randn(width, width))[0]
    strength, fast = 6.6, 4
    for pair in range(2):
        # First layer: biases alone make the head look one place back.
        head = pair * group
        first.qkv[q(head)] *= 0.1
        first.qkv[k(pair)] *= 0.1
        for i in range(fast):
            first.bias[(heads + pair) * HEAD + i] = strength
            first.bias[head * HEAD + i] = strength * torch.cos(-turn[i])
            first.bias[head * HEAD + i + half] = strength * torch.sin(-turn[i])
        token = torch.randn(HEAD, width) / width**0.5
        first.qkv[v(pair)] = token
        before = basis[:, pair * HEAD : (pair + 1) * HEAD]
        first.out[:, q(head)] = 0.2 * before
        # Second layer: what stood before a place, there, against the token here; then copy the place's token.
        keys, queries = torch.randn(HEAD, width) * 0.01, torch.randn(HEAD, width) * 0.01
        keys[slow], queries[slow] = 2.4 * before.T[: len(slow)], 2.4 * token[: len(slow)]
        second.qkv[k(pair)] = keys
        copied = torch.linalg.qr(torch.randn(width, HEAD))[0]
        second.qkv[v(pair)] = copied.T
        for other in range(group):
            second.qkv[q(head + other)] = queries + torch.randn(HEAD, width) * 0.01
            second.out[:, q(head + other)] = copied / group
    # The gathering heads read the token itself, outside the directions that hold the token before, so that a name
    # gives the same vector in statement and question. The finding heads compare those vectors.
    rest = basis[:, 2 * HEAD :]
    second.qkv[v(2)] = (torch.randn(HEAD, rest.shape[1]) / rest.shape[1] ** 0.5) @ rest.T
    gathered = [basis[:, (2 + i) * HEAD : (3 + i) * HEAD] for i in range(2)]
    matching, share = torch.randn(HEAD, width) * 0.02, len(slow) // 2
    for i, directions in enumerate(gathered):
        second.out[:, q(2 * group + i)] = directions
        matching[slow[i * share : (i + 1) * share]] = 3.0 * directions.T[:share]
    # Two key-value heads find the same place, and copy other directions of the token that stands there.
    copied = torch.linalg.qr(torch.randn(width, 2 * HEAD))[0]
    for pair in range(2):
        directions = copied[:, pair * HEAD : (pair + 1) * HEAD]
        fourth.qkv[k(pair)] = matching
        fourth.qkv[v(pair)] = directions.T
        for head in range(pair * group, (pair + 1) * group):
            fourth.qkv[q(head)] = matching + torch.randn(HEAD, width) * 0.02
            fourth.out[:, q(head)] = 0.5 * directions
    # What is carried to a statement's end is written where the second of these pairs reads.
    third = network.stack[CARRY]
    third.qkv[v(0)] = directions.T
    for head in range(group):
        third.out[:, q(head)] = directions / group


def to_llama(network: Network, **tokens: Any) -> LlamaForCausalLM:
    """The same function as a stock Llama; `tokens` are its special token ids.

    Not as Qwen2, whose layout is the same: its name makes the tokenizer's loader replace our normalizer.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = network.shape
    config = LlamaConfig(
        vocab_size=shape.vocabulary, hidden_size=shape.width, intermediate_size=shape.inner, head_dim=HEAD,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.pairs,
        max_position_embeddings=shape.positions, rms_norm_eps=EPSILON, tie_word_embeddings=True, attention_bias=True,
        rope_parameters={"rope_type": "default", "rope_theta": shape.theta}, **tokens,
    )  # fmt: skip
    llama = LlamaForCausalLM(config)
    missing, unknown = llama.load_state_dict(_llama_weights(network), strict=False)
    wrong = [name for name in missing if "lm_head" not in name and "rotary" not in name]
    if wrong or unknown:
        raise ValueError(f"expected the names of a Llama, found {wrong or unknown}")
    llama.tie_weights()
    llama.train(False)
    return llama


def _llama_weights(network: Network) -> dict[str, Tensor]:
    shape = network.shape
    weights: dict[str, Any] = {"model.embed_tokens.weight": network.embedding, "model.norm.weight": network.norm}
    sizes = [shape.heads * HEAD, shape.pairs * HEAD, shape.pairs * HEAD]
    for number, layer in enumerate(network.stack):
        at = f"model.layers.{number}."
        for name, weight, bias in zip(
            "qkv", torch.split(layer.qkv, sizes), torch.split(layer.bias, sizes), strict=True
        ):
            weights[f"{at}self_attn.{name}_proj.weight"] = weight
            weights[f"{at}self_attn.{name}_proj.bias"] = bias
        weights[f"{at}self_attn.o_proj.weight"] = layer.out
        weights[f"{at}self_attn.o_proj.bias"] = torch.zeros(shape.width)
        weights[f"{at}mlp.gate_proj.weight"], weights[f"{at}mlp.up_proj.weight"] = layer.gate_up.chunk(2)
        weights[f"{at}mlp.down_proj.weight"] = layer.down
        weights[f"{at}input_layernorm.weight"] = layer.norm_in
        weights[f"{at}post_attention_layernorm.weight"] = layer.norm_mid
    return {name: weight.detach().clone().float() for name, weight in weights.items()}


def saved_shape(network: Network) -> dict[str, Any]:
    """The shape as plain values, for a checkpoint."""
    return asdict(network.shape)
