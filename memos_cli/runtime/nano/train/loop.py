"""The training loop: examples made on the way, steps, a log, and checkpoints to go on from."""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, cast

import numpy
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from memos_cli.runtime.nano.train import evaluation
from memos_cli.runtime.nano.train.batches import Batch, Encoder, collate, grouped
from memos_cli.runtime.nano.train.frames import pattern_words
from memos_cli.runtime.nano.train.network import Network, Shape
from memos_cli.runtime.nano.train.schedule import Run, Stage, stage
from memos_cli.runtime.nano.train.team import Team
from memos_cli.runtime.nano.train.vocabulary import train_tokenizer
from memos_cli.runtime.nano.train.world import UNKNOWN, World

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZER_FILE, CHECKPOINT_FILE, LOG_FILE = "tokenizer.json", "checkpoint.pt", "log.jsonl"
WORD_WEIGHT = 60
LONGEST = 1600
GUIDE_TAIL = 0.002
Say = Callable[[str], None]


def make_tokenizer(run: Run) -> Tokenizer:
    """The tokenizer of a run, from texts of the training world."""
    return train_tokenizer(_texts(run), size=run.shape.vocabulary)


def _texts(run: Run) -> Iterator[str]:
    # Names would take all places of the vocabulary: the words of the patterns come often, so that each is one token.
    for word in pattern_words():
        yield " ".join([word] * WORD_WEIGHT)
    yield " ".join([UNKNOWN] * 20 * WORD_WEIGHT)
    world = World(Random(f"{run.seed} tokenizer"))
    for _ in range(run.tokenizer_examples):
        example = world.example(8, unknown=0.1)
        yield from filter(None, (example.memory, *(each.text for each in example.questions)))


class Steps(Dataset[list[Batch]]):
    """The batches of each step, made from the step's own seed: the same in any order, by any number of workers."""

    def __init__(self, run: Run, tokenizer: Tokenizer, begin: int, seen: int) -> None:
        self.run, self.begin, self.seen = run, begin, Count(run, begin, seen)
        self.encoder = Encoder(tokenizer)
        self.plain = plain_words(tokenizer)

    def __len__(self) -> int:
        return 1 << 30

    def __getitem__(self, index: int) -> list[Batch]:
        step = self.begin + index
        now = stage(self.run, self.seen[step], step)
        random, numbers = Random(f"{self.run.seed} step {step}"), numpy.random.default_rng([self.run.seed, step])
        world = World(random)
        lines, tokens = [], 0
        while tokens < now.step_tokens:
            line = self._line(world, now)
            if len(line.ids) <= LONGEST:
                lines.append(line)
                tokens += len(line.ids)
        size = self.run.shape.vocabulary
        return [collate(group, numbers, vocabulary=size) for group in grouped(lines, self.run.group_tokens)]

    def _line(self, world: World, now: Stage) -> Any:
        if world.chance(now.repeated):
            return self.encoder.repeated(world.random, self.run.shape.vocabulary)
        world.plain = self.plain if world.chance(now.plain) else ()
        return self.encoder.encode(
            world.example(now.most_facts, unknown=now.unknown, questions=12), guided=now.guide > GUIDE_TAIL
        )


def plain_words(tokenizer: Tokenizer) -> tuple[str, ...]:
    """Words of one token each, which stand for names in the simplest examples."""
    found = (token[1:] for token in tokenizer.get_vocab() if re.fullmatch("Ġ[A-Za-z]{3,9}", token))
    return tuple(sorted(word for word in found if word not in (UNKNOWN, "What", "Who", "Which", "The")))


class Count:
    """Tokens seen before each step. Steps grow with the stage, so they are counted along from where a run begins."""

    def __init__(self, run: Run, begin: int, seen: int) -> None:
        self.run, self.known = run, {begin: seen}

    def __getitem__(self, step: int) -> int:
        number = max(known for known in self.known if known <= step)
        while number < step:
            self.known[number + 1] = self.known[number] + stage(self.run, self.known[number], number).step_tokens
            number += 1
        return self.known[step]


class Optimizers:
    """Muon (Jordan et al. 2024: the momentum made orthogonal) for the matrices, AdamW for all else."""

    def __init__(self, network: Network, rate: float) -> None:
        embedding = id(network.embedding)
        self.matrices = [p for p in network.parameters() if p.ndim == 2 and id(p) != embedding]
        self.momenta = [torch.zeros_like(p) for p in self.matrices]
        rest = [p for p in network.parameters() if p.ndim != 2]
        groups = [{"params": [network.embedding], "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}]
        self.adam = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), eps=1e-8)
        self.all = [network.embedding, *rest, *self.matrices]

    def step(self, rate: float) -> None:
        """One update at the given rate, then no gradients."""
        torch.nn.utils.clip_grad_norm_(self.all, 1.0)
        for group in self.adam.param_groups:
            group["lr"] = rate
        self.adam.step()
        self._muon(rate)
        for parameter in self.all:
            parameter.grad = None

    @torch.no_grad()
    def _muon(self, rate: float) -> None:
        for matrix, momentum in zip(self.matrices, self.momenta, strict=True):
            gradient = cast("Tensor", matrix.grad)
            momentum.mul_(0.95).add_(gradient)
            update = _orthogonal(gradient.add(momentum, alpha=0.95))
            matrix.mul_(1 - rate * 0.05).add_(update, alpha=-rate * 0.2 * math.sqrt(max(matrix.shape)))

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs."""
        return {"adam": self.adam.state_dict(), "momenta": self.momenta}

    def load(self, state: dict[str, Any]) -> None:
        """Takes up the state of a checkpoint."""
        self.adam.load_state_dict(state["adam"])
        for mine, saved in zip(self.momenta, state["momenta"], strict=True):
            mine.copy_(saved)


def _orthogonal(update: Tensor) -> Tensor:
    """The nearest half-orthogonal matrix, by five Newton-Schulz steps."""
    x: Tensor = update.T if update.shape[0] > update.shape[1] else update
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.775 * square + 2.0315 * square @ square) @ x
    return x.T if update.shape[0] > update.shape[1] else x


def train(
    run: Run,
    folder: Path,
    *,
    device: str,
    workers: int,
    say: Say,
    every_seconds: float = 300.0,
    team: Team = Team(),  # noqa: B008
) -> Network:
    """Trains to the end of the run, or goes on from the checkpoint in `folder`, and gives the network.

    Writes tokenizer.json, checkpoint.pt (every `every_seconds` and at the end) and log.jsonl there. Members of a team
    train the same network and need the tokenizer there before.
    """
    tokenizer = tokenizer_in(run, folder, say)
    torch.manual_seed(run.seed)
    network = Network(run.shape).to(device)
    optimizers = Optimizers(network, run.rate)
    begin, seen = _load(folder, network, optimizers, device)
    if team.leads:
        size = sum(parameter.numel() for parameter in network.parameters())
        say(f"{size:,} parameters, step {begin}, {seen:,} of {run.tokens:,} tokens")
    steps = DataLoader(Steps(run, tokenizer, begin, seen), batch_size=None, num_workers=workers)
    watch = Watch(folder, begin, seen)
    saved = time.monotonic()
    for number, batches in enumerate(steps, begin):
        if seen >= run.tokens:
            break
        now = stage(run, seen, number)
        watch.add(number, seen, now, *_step(network, batches, now, device, team))
        optimizers.step(now.rate)
        seen += now.step_tokens
        if not team.leads:
            continue
        if number % 20 == 0:
            say(watch.line())
        if time.monotonic() - saved > every_seconds:
            _save(folder, network, optimizers, number + 1, seen)
            watch.write(evaluation.quick(network, Encoder(tokenizer), device=device, most=now.most_facts), say)
            saved = time.monotonic()
    if team.leads:
        _save(folder, network, optimizers, number, seen)
        watch.write(evaluation.quick(network, Encoder(tokenizer), device=device, most=32), say)
    return network


def _step(
    network: Network, batches: list[Batch], now: Stage, device: str, team: Team
) -> tuple[float, float, dict[str, float]]:
    """Gradients of one step, the team's. Loss, share of right first answer tokens, how far the guided heads are off."""
    weight = sum(float(batch.weights.sum()) for batch in batches)
    loss_sum, right, count = 0.0, 0.0, 0.0
    off: dict[str, float] = {}
    for batch in team.share(batches):
        batch = moved(batch, device)
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            # the token that predicts is not the one before where a branch begins, but nothing is asked there
            chosen = batch.weights[:, 1:] > 0
            only = functional.pad(chosen, (0, 1))
            hidden, lost = network(batch.ids, batch.positions, batch.mask, batch.guides, only=only)
            scores = network.logits(hidden).float()
        wanted = batch.ids[:, 1:][chosen]
        loss = (
            functional.cross_entropy(scores, wanted, reduction="none") * batch.weights[:, 1:][chosen]
        ).sum() / weight
        total = loss + now.guide / len(batches) * sum(lost.values()) if lost else loss
        total.backward()
        first = batch.first[:, 1:][chosen]
        right += float((scores.argmax(-1) == wanted)[first].sum())
        count += float(first.sum())
        loss_sum += loss.item()
        off |= {name: value.item() for name, value in lost.items()}
    figures = torch.tensor([loss_sum, right, count])
    for parameter in network.parameters():
        # none of them where a step has fewer batches than the team has members
        parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    team.add_up([figures, *(cast("Tensor", parameter.grad) for parameter in network.parameters())])
    loss_sum, right, count = figures.tolist()
    return loss_sum, right / max(count, 1.0), off


def moved(batch: Batch, device: str) -> Batch:
    """The batch on the device that trains."""
    if device == "cpu":
        return batch
    guides = tuple(
        type(g)(g.name, g.sequence.to(device), g.position.to(device), g.wanted.to(device)) for g in batch.guides
    )
    parts = ("ids", "positions", "mask", "weights", "first")
    return replace(batch, guides=guides, **{name: getattr(batch, name).to(device, non_blocking=True) for name in parts})


class Watch:
    """Running means of what training shows, and the log."""

    def __init__(self, folder: Path, step: int, seen: int) -> None:
        self.log, self.step, self.seen, self.first = folder / LOG_FILE, step, seen, seen
        self.start = time.monotonic()
        self.means: dict[str, float] = {}
        self.now: Stage | None = None

    def add(self, step: int, seen: int, now: Stage, loss: float, right: float, off: dict[str, float]) -> None:
        """One step's figures."""
        self.step, self.seen, self.now = step, seen, now
        for name, value in {"loss": loss, "first": right, **off}.items():
            self.means[name] = 0.95 * self.means.get(name, value) + 0.05 * value

    def line(self) -> str:
        """One line for people."""
        seconds = time.monotonic() - self.start
        means = " ".join(f"{name} {value:.3f}" for name, value in self.means.items())
        speed = (self.seen - self.first) / max(seconds, 1e-9)
        done = f"{seconds:6.0f} s step {self.step} {self.seen / 1e6:.2f} M tokens {speed:.0f}/s"
        return f"{done} facts {self.now.most_facts if self.now else 0} {means}"

    def write(self, cells: dict[str, float], say: Say) -> None:
        """A line of the log, with the evaluation."""
        seconds = round(time.monotonic() - self.start, 1)
        figures = {name: round(value, 4) for name, value in (self.means | cells).items()}
        spent = {"seconds": seconds, "cpu_seconds": round(time.process_time(), 1)}
        entry: dict[str, Any] = {**spent, "step": self.step, "tokens": self.seen, **figures}
        if self.now:
            entry |= {"stage": asdict(self.now)}
        with self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        say("eval " + " ".join(f"{name} {value:.2f}" for name, value in cells.items()))


def tokenizer_in(run: Run, folder: Path, say: Say) -> Tokenizer:
    """The tokenizer in the folder of a run, made first if it is not there."""
    from tokenizers import Tokenizer

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / TOKENIZER_FILE
    if not path.exists():
        say("tokenizer")
        make_tokenizer(run).save(str(path))
    return Tokenizer.from_file(str(path))


def _save(folder: Path, network: Network, optimizers: Optimizers, step: int, seen: int) -> None:
    saved = {
        "shape": asdict(network.shape),
        "network": network.state_dict(),
        "optimizers": optimizers.state(),
        "step": step,
        "seen": seen,
    }
    part = folder / f"{CHECKPOINT_FILE}.part"
    torch.save(saved, part)
    os.replace(part, folder / CHECKPOINT_FILE)


def _load(folder: Path, network: Network, optimizers: Optimizers, device: str) -> tuple[int, int]:
    path = folder / CHECKPOINT_FILE
    if not path.exists():
        return 0, 0
    saved = torch.load(path, map_location=device, weights_only=True)
    if saved["shape"] != asdict(network.shape):
        raise ValueError(f"expected a checkpoint of {asdict(network.shape)}, found {saved['shape']} in {path}")
    network.load_state_dict(saved["network"])
    optimizers.load(saved["optimizers"])
    return int(saved["step"]), int(saved["seen"])


def load_network(folder: Path) -> Network:
    """The network of the checkpoint in `folder`, on the CPU."""
    saved = torch.load(folder / CHECKPOINT_FILE, map_location="cpu", weights_only=True)
    network = Network(Shape(**saved["shape"]), wired=False)
    network.load_state_dict(saved["network"])
    return network.eval()
