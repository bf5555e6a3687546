"""How close a model with a memory comes to the same model that reads the text: the figures a gate is made of.

Against split prefill of the same tokens, on the answers that it writes to probes; beside the noise floor (reading all
in one pass, which differs by rounding only) and the ceiling (no memory at all). Knows nothing of cubes or thresholds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from memos_cli.errors import Usage
from memos_cli.runtime.kv import Pass, forward, split_prefill, write

if TYPE_CHECKING:
    from torch import Tensor

ANSWER_TOKENS = 16
# The pass over tokens that follow the memory, made anew at each call: logits of all of them.
Read = Callable[[Sequence[int]], Pass]


@dataclass(frozen=True, slots=True)
class Divergence:
    """How far one way of reading is from the reference, over the tokens of all answers.

    KL in nats, of the reference from it; `top1` the share of tokens where both find the same one likeliest;
    `exact` the share of answers that it writes word for word; `first` per answer the first token that is another
    one, None where none is.
    """

    mean_kl: float
    p95_kl: float
    max_kl: float
    top1: float
    exact: float
    first: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Fidelity:
    """The memory's divergence, that of one pass (noise floor) and that of no memory (ceiling)."""

    memory: Divergence
    noise: Divergence
    ceiling: Divergence
    probes: int
    tokens: int

    @property
    def recovered(self) -> float:
        """1 for a memory as good as the text, 0 for one as bad as none; 1 too where the text changes nothing."""
        return 1.0 if self.ceiling.mean_kl <= 0 else 1.0 - self.memory.mean_kl / self.ceiling.mean_kl


@dataclass(frozen=True, slots=True)
class Compared:
    """The divergence of several ways of reading by name, beside the noise floor and the ceiling that they share."""

    ways: Mapping[str, Divergence]
    noise: Divergence
    ceiling: Divergence
    probes: int
    tokens: int

    def of(self, way: str) -> Fidelity:
        """The fidelity of one of them."""
        return Fidelity(self.ways[way], self.noise, self.ceiling, self.probes, self.tokens)


@dataclass(slots=True)
class _Seen:
    """What one way of reading gave so far: KL and agreement per token, the first difference per answer."""

    kl: list[float] = field(default_factory=list)
    same: list[bool] = field(default_factory=list)
    first: list[int | None] = field(default_factory=list)


def measure(
    network: Any, ids: Sequence[int], probes: Sequence[Sequence[int]], read: Read, *, answer_tokens: int = ANSWER_TOKENS
) -> Fidelity:
    """The fidelity of `read` to a model that reads the text `ids` first, on questions `probes` (token ids).

    As `compare` does, which raises what this does.
    """
    return compare(network, ids, probes, {"memory": read}, answer_tokens=answer_tokens).of("memory")


def compare(
    network: Any,
    ids: Sequence[int],
    probes: Sequence[Sequence[int]],
    ways: Mapping[str, Read],
    *,
    answer_tokens: int = ANSWER_TOKENS,
    ends: Collection[int] = (),
) -> Compared:
    """How far several ways of reading are from a model that reads the text `ids` first, on questions `probes`.

    Every reading is given the reference's own answer, token by token; that tells too where its own would begin to
    differ. An answer is over at a token of `ends`: what would come after it nobody reads. Raises Usage without text,
    probes or tokens to answer with.
    """
    if not ids or not probes or not all(probes) or answer_tokens < 1:
        raise Usage("expected a text, probes and at least one token of answer, found none")

    def refer(following: Sequence[int]) -> Pass:
        return split_prefill(network, ids, following)

    def at_once(following: Sequence[int]) -> Pass:
        whole = [*ids, *following]
        return forward(network, whole, cache=_empty(network), position=0, logits=len(following))

    def alone(following: Sequence[int]) -> Pass:
        return forward(network, following, cache=_empty(network), position=0, logits=len(following))

    reads: list[Read] = [*ways.values(), at_once, alone]
    seen = [_Seen() for _read in reads]
    for probe in probes:
        _probe(network, list(probe), refer, reads, seen, limit=answer_tokens, ends=ends)
    *found, noise, ceiling = (_summed(one) for one in seen)
    named = dict(zip(ways, found, strict=True))
    return Compared(named, noise, ceiling, len(probes), len(seen[0].kl))


def _empty(network: Any) -> Any:
    from transformers import DynamicCache

    return DynamicCache(config=network.config)


def _probe(
    network: Any, probe: list[int], refer: Read, ways: Sequence[Read], seen: Sequence[_Seen], *, limit: int,
    ends: Collection[int],
) -> None:  # fmt: skip
    answer = write(network, refer(probe), limit_tokens=limit)
    over = next((at for at, token in enumerate(answer, 1) if token in ends), len(answer))
    taught = [*probe, *answer[: over - 1]]
    expected = refer(taught).logits[-over:]
    for way, so_far in zip(ways, seen, strict=True):
        found = way(taught).logits[-over:]
        so_far.kl += divergences(expected, found).tolist()
        so_far.same += (expected.argmax(-1) == found.argmax(-1)).tolist()
        # up to the first token that it finds another one likelier than, it writes what the reference does
        so_far.first.append(first_difference(expected.argmax(-1).tolist(), found.argmax(-1).tolist()))


def divergences(expected: Tensor, found: Tensor) -> Tensor:
    """KL of the distributions that the logits [tokens, vocabulary] mean, in nats, per token; computed in float64."""
    wanted, given = expected.double().log_softmax(-1), found.double().log_softmax(-1)
    # a distribution against itself may come out a rounding below nothing
    return (wanted.exp() * (wanted - given)).sum(-1).clamp(min=0)


def first_difference(expected: Sequence[int], found: Sequence[int]) -> int | None:
    """The first place where two answers of the same length differ; None where none does."""
    return next((at for at, (a, b) in enumerate(zip(expected, found, strict=True)) if a != b), None)


def _summed(seen: _Seen) -> Divergence:
    ordered = sorted(seen.kl)
    # the nearest rank: a value that was measured, not one between two
    p95 = ordered[-(-95 * len(ordered) // 100) - 1]
    exact = sum(first is None for first in seen.first) / len(seen.first)
    mean, top1 = sum(ordered) / len(ordered), sum(seen.same) / len(seen.same)
    return Divergence(mean, p95, ordered[-1], top1, exact, tuple(seen.first))
