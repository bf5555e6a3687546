"""Gradients: an adapter is trained until the model answers without a text as it does with it.

Context distillation: the divergence of what the student finds likely, without the text, from what the teacher finds
likely with it, over the tokens of an answer (prompt distillation, arXiv 2412.14964; deep context distillation, arXiv
2503.08727 section 3). Beside it terms that hold the model where it was: on plain text, on other texts that it reads,
on questions that nobody taught it, and on those that
the adapters beneath it were taught. Token ids in, weights out; knows nothing of memories, cubes or how a question is
worded.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from random import Random
from time import perf_counter
from typing import TYPE_CHECKING, Any

from memos_cli.runtime import kv

if TYPE_CHECKING:
    import torch

# Of what the teacher finds likely only the likeliest tokens are kept, and the rest as one.
TOP_K = 20
# Tokens known this surely are answered with greedily, so they are practised less (arXiv 2605.30260).
SURE, SURE_WEIGHT = 0.5, 0.1
# Sequences of one pass: so many at least, then none longer than the shortest times this.
LEAST_GROUP, MOST_APART = 8, 1.25
# Numbers of logits that one pass may hold: 256 MB of float32.
MOST_LOGITS = 64_000_000
WARM_STEPS = 15
# Widths and the learning rates that go with them.
RATES = ((192, 1e-2), (1024, 2e-4))
LAST_RATE = 0.05
COOL_STEPS = 100
CLIP_NORM = 1.0
STATE = "state.safetensors"
# What AdamW keeps of each parameter.
_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True, slots=True)
class Turn:
    """Token ids of a prompt and of what follows on it."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


@dataclass(frozen=True, slots=True)
class Target:
    """A turn without the text, and what the teacher finds likely at each token of its answer.

    `values` are log-probabilities and `ids` tokens, both [answer, TOP_K].
    """

    turn: Turn
    values: torch.Tensor = field(repr=False)
    ids: torch.Tensor = field(repr=False)


@dataclass(frozen=True, slots=True)
class Share:
    """A target of one step: what a token of it counts, and whether such as are known count less."""

    target: Target
    weight: float
    practised: bool


@dataclass(frozen=True, slots=True)
class Recipe:
    """How an adapter is trained. The weights are those of the terms that hold the model where it was.

    Found on the default model (python -m tests.bench.distill); `rate_for` tells the rate of another.
    """

    rank: int = 16
    alpha: int = 32
    rate: float = 1e-2
    steps: int = 450
    batch: int = 32
    generic: float = 1.0
    reading: float = 4.0
    locality: float = 3.0
    beneath: float = 2.0
    look_steps: int = 25
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Lessons:
    """What is taught, and what must stay.

    `generic` is plain text, `reading` other texts that are read, `neighbours` questions that nobody taught, `beneath`
    those that the adapters it stands on were taught.
    """

    taught: Sequence[Target]
    generic: Sequence[Target] = ()
    reading: Sequence[Target] = ()
    neighbours: Sequence[Target] = ()
    beneath: Sequence[Target] = ()


@dataclass(frozen=True, slots=True)
class Trained:
    """How a training ended: steps done, seconds, why it stopped, and the share of `dev` at each look."""

    steps: int
    seconds: float
    stopped: str
    looks: tuple[tuple[int, float], ...]


def rate_for(network: Any) -> float:
    """The learning rate for a network of this width: as measured on the default model, as published for large ones.

    Between the two along a line of their logarithms (2e-4 for LoRA on 0.5 to 8 billion parameters: arXiv 2405.09673).
    """
    width = network.config.get_text_config().hidden_size
    (narrow, high), (wide, low) = RATES
    share = math.log(max(narrow, min(wide, width)) / narrow) / math.log(wide / narrow)
    return float(f"{high * (low / high) ** share:.2g}")


def chances(network: Any, turns: Sequence[Turn]) -> Iterator[torch.Tensor]:
    """For each turn the log-probabilities of all tokens at each place of its answer: [answer, vocabulary], float32."""
    import torch

    for group in _groups(turns, network.config.get_text_config().vocab_size):
        with torch.no_grad():
            rows = _chances(network, group)
        yield from rows


def _chances(network: Any, turns: Sequence[Turn]) -> list[torch.Tensor]:
    """The same in one pass, with gradients where they are on.

    All end at the same place, so that only the last logits are asked for; they are taken at once, for the gradient of a
    slice is as large as all of them.
    """
    import torch

    longest, device = max(map(len, turns)), next(network.parameters()).device
    answer = max(len(turn.answer) for turn in turns)
    ids = torch.zeros(len(turns), longest, dtype=torch.long)
    seen = torch.zeros_like(ids)
    wanted = torch.zeros(len(turns), answer, dtype=torch.bool)
    for row, turn in enumerate(turns):
        ids[row, longest - len(turn) :] = torch.tensor([*turn.prompt, *turn.answer])
        seen[row, longest - len(turn) :] = 1
        wanted[row, answer - len(turn.answer) :] = True
    places = (seen.cumsum(-1) - 1).clamp_min(0)
    found = network(
        input_ids=ids.to(device), attention_mask=seen.to(device), position_ids=places.to(device), use_cache=False,
        **({"logits_to_keep": answer + 1} if kv.keeps_logits(network) else {}),
    )  # fmt: skip
    rows = found.logits[:, -answer - 1 : -1][wanted.to(device)].float().log_softmax(-1)
    return list(rows.split([len(turn.answer) for turn in turns]))


def _groups(turns: Sequence[Any], vocabulary: int) -> Iterator[list[Any]]:
    """Neighbours together, as many as their logits have room for."""
    group: list[Any] = []
    longest = 0
    for turn in turns:
        longest = max(longest, _length(turn))
        if group and (len(group) + 1) * longest * vocabulary > MOST_LOGITS:
            yield group
            group, longest = [], _length(turn)
        group.append(turn)
    if group:
        yield group


def _length(one: Turn | Share) -> int:
    return len(one.target.turn) if isinstance(one, Share) else len(one)


def target_of(turn: Turn, rows: torch.Tensor) -> Target:
    """A turn with what a teacher finds likely at its answer; `rows` are log-probabilities [answer, vocabulary]."""
    values, ids = rows.topk(min(TOP_K, rows.shape[-1]), dim=-1)
    return Target(turn, values.clone(), ids.clone())


def divergence(target: Target, rows: torch.Tensor) -> torch.Tensor:
    """KL(teacher || student) at each answer token, [answer]: over the kept tokens, and all others as one."""
    import torch

    student = rows.gather(-1, target.ids)
    kept = (target.values.exp() * (target.values - student)).sum(-1)
    rest_teacher = (1 - target.values.exp().sum(-1)).clamp_min(1e-6)
    rest_student = (1 - student.exp().sum(-1)).clamp_min(1e-6)
    return kept + rest_teacher * (torch.log(rest_teacher) - torch.log(rest_student))


def known(rows: torch.Tensor, answer: Sequence[int]) -> bool:
    """Whether every token of an answer has a probability above one half, and so is what is written greedily."""
    import torch

    sure = rows.gather(-1, torch.tensor(list(answer), device=rows.device)[:, None])[:, 0]
    return bool((sure > math.log(SURE)).all())


def greedy(rows: torch.Tensor, answer: Sequence[int]) -> bool:
    """Whether every token of an answer is the likeliest one: just when it is what is written."""
    import torch

    return bool((rows.argmax(-1) == torch.tensor(list(answer), device=rows.device)).all())


@dataclass(slots=True)
class Training:
    """An adapter in training. `student` is a network whose parameters that want gradients are the adapter's."""

    student: Any
    lessons: Lessons
    recipe: Recipe
    folder: Path | None = None
    step: int = 0
    cooling: int | None = None
    looks: list[tuple[int, float]] = field(default_factory=list)
    _optimizer: Any = None

    def __post_init__(self) -> None:
        import torch

        self._optimizer = torch.optim.AdamW(
            [one for _, one in self._named()], lr=self.recipe.rate, betas=(0.9, 0.99), weight_decay=0.0
        )

    def _named(self) -> list[tuple[str, Any]]:
        return [(name, one) for name, one in self.student.named_parameters() if one.requires_grad]

    def run(
        self,
        dev: Callable[[], float],
        *,
        enough: float,
        most: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Trained:
        """Trains until `dev` says twice in a row that enough is known, or for the recipe's steps; keeps checkpoints.

        Before it ends the rate goes down to nothing over COOL_STEPS: what was held loosely at a high rate settles.
        `most` ends it after so many steps in all, whatever is known.
        """
        begin = perf_counter()
        while self.step < min(self._last(), most or self.recipe.steps):
            self._advance()
            if progress:
                progress(self.step, self.recipe.steps)
            if self.step % self.recipe.look_steps and self.step < self._last():
                continue
            self.looks.append((self.step, dev()))
            if self.cooling is None and len(self.looks) > 1 and min(share for _, share in self.looks[-2:]) >= enough:
                self.cooling = self.step
            self.save()
        stopped = "all steps done" if self.cooling is None else f"{enough:.0%} known in other wordings"
        return Trained(self.step, perf_counter() - begin, stopped, tuple(self.looks))

    def _last(self) -> int:
        """After how many steps it ends, as far as is known now."""
        steps = self.recipe.steps
        return steps if self.cooling is None else min(steps, self.cooling + COOL_STEPS)

    def _advance(self) -> None:
        """One step of all terms."""
        import torch

        for group in self._optimizer.param_groups:
            group["lr"] = self._rate()
        self._optimizer.zero_grad()
        recipe, lessons = self.recipe, self.lessons
        shares = _shared(self._drawn(lessons.taught, recipe.batch), 1.0, practised=True)
        for targets, count, weight in (
            (lessons.neighbours, recipe.batch * 3 // 4, recipe.locality),
            (lessons.reading, recipe.batch // 2, recipe.reading),
            (lessons.generic, recipe.batch // 5, recipe.generic),
            (lessons.beneath, recipe.batch // 2, recipe.beneath),
        ):
            if targets and weight:
                shares += _shared(self._drawn(targets, count), weight)
        self._learn(shares)
        torch.nn.utils.clip_grad_norm_([one for _, one in self._named()], CLIP_NORM)
        self._optimizer.step()
        self.step += 1

    def _rate(self) -> float:
        """The learning rate: up over the first steps, and down along a cosine."""
        steps, cooling = self.recipe.steps, self.cooling
        at = self.step if cooling is None else cooling
        falling = 0.5 * (1 + math.cos(math.pi * at / steps)) * (1 - LAST_RATE) + LAST_RATE
        if cooling is not None:
            falling *= 1 - (self.step - cooling) / (self._last() - cooling)
        return self.recipe.rate * min(1.0, (self.step + 1) / WARM_STEPS) * falling

    def _drawn(self, targets: Sequence[Target], count: int) -> list[Target]:
        """The step's own: all in turn, in each round's own order, so that a step can be done anew from its number."""
        count, first = min(count, len(targets)), self.step * min(count, len(targets))
        size, seed = len(targets), self.recipe.seed
        return [targets[_order(seed, size, at // size)[at % size]] for at in range(first, first + count)]

    def _learn(self, shares: Sequence[Share]) -> None:
        """Adds the gradients of the divergences of all terms, those of like length in one pass."""
        import torch

        for group in _alike(shares, self.student.config.get_text_config().vocab_size):
            losses = []
            for share, rows in zip(group, _chances(self.student, [one.target.turn for one in group]), strict=True):
                apart = divergence(share.target, rows) * share.weight
                losses.append(apart * _unsure(rows, share.target.turn.answer) if share.practised else apart)
            torch.cat(losses).sum().backward()  # type: ignore[no-untyped-call]

    # --- checkpoints

    def save(self) -> None:
        """Writes the weights and the optimizer's state, so that the training may go on from here; by rename."""
        if self.folder is None:
            return
        from safetensors.torch import save_file

        self.folder.mkdir(parents=True, exist_ok=True)
        tensors: dict[str, Any] = {}
        for name, one in self._named():
            state = self._optimizer.state[one]
            tensors[f"weight.{name}"] = one.detach().contiguous()
            tensors |= {f"{key}.{name}": state[key].contiguous() for key in _MOMENTS}
        told = json.dumps({"step": self.step, "looks": self.looks, "cooling": self.cooling})
        passing = self.folder / f"{STATE}.new"
        save_file(tensors, passing, metadata={"progress": told})
        passing.replace(self.folder / STATE)

    def restore(self) -> bool:
        """Goes on from a checkpoint of the same training, where there is one. One that does not read is passed over."""
        import torch
        from safetensors import SafetensorError, safe_open

        if self.folder is None or not (self.folder / STATE).is_file():
            return False
        keys = ("weight", *_MOMENTS)
        try:
            with safe_open(self.folder / STATE, framework="pt") as opened:
                told = json.loads((opened.metadata() or {})["progress"])
                step, looks = int(told["step"]), [(int(at), float(share)) for at, share in told["looks"]]
                cooling = None if told["cooling"] is None else int(told["cooling"])
                kept = {name: [opened.get_tensor(f"{key}.{name}") for key in keys] for name, _ in self._named()}
        except (SafetensorError, OSError, ValueError, KeyError, TypeError):
            return False
        if any(one.shape != tensor.shape for name, one in self._named() for tensor in kept[name]):
            return False
        for name, one in self._named():
            weight, *moments = (tensor.to(one.device) for tensor in kept[name])
            with torch.no_grad():
                one.copy_(weight)
            moved = dict(zip(_MOMENTS, moments, strict=True))
            self._optimizer.state[one] = {"step": torch.tensor(float(step)), **moved}
        self.step, self.looks, self.cooling = step, looks, cooling
        return True


def _shared(targets: Sequence[Target], weight: float, *, practised: bool = False) -> list[Share]:
    """The targets of a term, whose weight is that of the mean over all tokens of their answers."""
    total = sum(len(target.turn.answer) for target in targets)
    return [Share(target, weight / total, practised) for target in targets]


def _alike(shares: Sequence[Share], vocabulary: int) -> Iterator[list[Share]]:
    """Those of like length together, so that little is computed for what fills up the shorter ones."""
    told = sorted(shares, key=lambda one: len(one.target.turn))
    cuts = [0]
    for at, one in enumerate(told):
        if at - cuts[-1] >= LEAST_GROUP and len(one.target.turn) > MOST_APART * len(told[cuts[-1]].target.turn):
            cuts.append(at)
    for first, last in pairwise([*cuts, len(told)]):
        yield from _groups(told[first:last], vocabulary)


@lru_cache(maxsize=16)
def _order(seed: int, size: int, turn: int) -> list[int]:
    """The numbers below `size` in an order of their own for each turn through them."""
    order = list(range(size))
    Random(f"{seed} {size} {turn}").shuffle(order)
    return order


def _unsure(rows: torch.Tensor, answer: Sequence[int]) -> torch.Tensor:
    """What a token counts: one, or little once the student is sure of it."""
    import torch

    wanted = torch.tensor(list(answer), device=rows.device)[:, None]
    sure = rows.detach().gather(-1, wanted)[:, 0].exp() > SURE
    return torch.where(sure, SURE_WEIGHT, 1.0)
