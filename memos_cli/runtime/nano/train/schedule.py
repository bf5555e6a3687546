"""What is trained when: the sizes of a run and its stages, by the share of tokens seen. Numbers only."""

from __future__ import annotations

from dataclasses import dataclass

from memos_cli.runtime.nano.train.network import Shape


@dataclass(frozen=True, slots=True)
class Run:
    """A training run. `falls` are the tokens after which the learning rate has come down, the last of them all of it.

    It stays up until the last `decay` of what a fall ends, and is up again behind it.
    """

    shape: Shape
    falls: tuple[int, ...]
    step_tokens: int
    group_tokens: int
    rate: float
    decay: float = 0.4
    seed: int = 1
    tokenizer_examples: int = 6_000

    @property
    def tokens(self) -> int:
        """All that it reads."""
        return self.falls[-1]

    def fall(self, seen: int) -> int:
        """Where the fall ends that comes after `seen` tokens."""
        return next((end for end in self.falls if seen < end), self.tokens)


RUNS = {
    # about two hours on one core; with one fall at the end it read sixteen facts and more far worse
    "cpu": Run(Shape(), falls=(12_500_000, 18_500_000), step_tokens=4096, group_tokens=768, rate=3e-3),
    # minutes on a GPU
    "gpu": Run(
        Shape(width=256, layers=6, inner=704), falls=(800_000_000,), step_tokens=32_768, group_tokens=65_536, rate=3e-3
    ),
    # seconds: does it run at all?
    "smoke": Run(
        Shape(vocabulary=1024, layers=4, inner=256), falls=(20_000,), step_tokens=2048, group_tokens=2048, rate=3e-3,
        tokenizer_examples=100,
    ),
}  # fmt: skip

BINDING_TOKENS = 1_100_000
GUIDED_TOKENS = 6_500_000
GROWTH_BEGINS, GROWTH_TOKENS = 2_400_000, 5_000_000
FEW, MANY = 3, 32


@dataclass(frozen=True, slots=True)
class Stage:
    """What holds at one moment of a run."""

    most_facts: int
    unknown: float
    guide: float
    plain: float
    repeated: float
    step_tokens: int
    rate: float


def stage(run: Run, seen: int, step: int) -> Stage:
    """The stage after `seen` tokens.

    First few facts and strongly guided attention, until a question finds the statement with its subject; then ever
    more facts, and less guidance: at full weight it would starve the answers. `unknown` grows late: early on it is an
    answer that is too easily learnt.
    """
    grown = min(1.0, max(0.0, (seen - GROWTH_BEGINS) / GROWTH_TOKENS))
    binding = seen < min(BINDING_TOKENS, run.tokens // 4)
    end = run.fall(seen)
    left = 1.0 - seen / end
    return Stage(
        most_facts=FEW if binding else round(FEW + 1 + grown * (MANY - FEW - 1)),
        unknown=0.05 if binding else 0.10 + 0.08 * grown,
        guide=1.0 if binding else 0.3 if seen < GUIDED_TOKENS else 0.1 * max(0.0, 1.0 - seen / (0.8 * end)),
        plain=0.22 if binding else 0.02,
        repeated=0.12 if binding else 0.03,
        step_tokens=run.step_tokens if grown < 0.5 else run.step_tokens * 2,
        rate=run.rate
        * min(1.0, (step + 1) / 60)
        * (1.0 if left > run.decay else 0.03 + 0.97 * max(0.0, left / run.decay)),
    )
