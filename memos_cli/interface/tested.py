"""What `schedule --self-test` gives back: how each form answers a cube's own questions, and what repairs did.

Frozen dataclasses, the shapes of its `--json`. Knows nothing of printing.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FormTested:
    """One form: memories and questions that tested it, and what `measure` came to.

    `dev` is what decides who fails, `before` the same of wordings that no repair sees, `after` that with the repairs
    that were kept; `text` is what the text of the memory itself gives a model, null for recall. `failing` memories fell
    short, and `unusable` ones could not be tested in this form.
    """

    form: str
    name: str
    measure: str
    memories: int
    questions: int
    dev: float
    before: float
    after: float | None
    text: float | None
    failing: int
    unusable: int


@dataclass(frozen=True, slots=True)
class Repaired:
    """A memory that fell short, one question that it fell short of, and what was done about it.

    `before` and `after` are of its held-out wordings: for recall the mean of 1 / rank, for a model the probability of
    the answer; `after` is null for a repair that was not tried. `made` are memories that it was parted into. `id` is
    the name of an adapter where the form is parameter memory.
    """

    id: str
    form: str
    repair: str
    text: str
    question: str
    before: float
    after: float | None
    kept: bool
    why: str
    made: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SelfTested:
    """A self-test of a cube at version `tested`. `untested` memories have no questions to tell anything by.

    With `applied`, repairs were tried; `number` is the version that holds those that were kept, which is `tested` when
    none was. Going back to `tested` takes all of them back.
    """

    cube: str
    tested: int
    number: int
    model: str
    k: int
    untested: int
    forms: tuple[FormTested, ...]
    repairs: tuple[Repaired, ...]
    applied: bool
    notes: tuple[str, ...]
    seconds: float
