"""What `memos run` gives back: a pipeline with its steps, and what became of each. The shape of its `--json`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ran", "failed", "done", "skipped", "waiting", "to run"]


@dataclass(frozen=True, slots=True)
class StepRun:
    """A step. `command` is what was run, with the names of variables in the place of their values.

    `status` is ran, failed, done (it ended before, and what it is given has not changed since), skipped (its condition
    does not hold), waiting (a step before it failed) or to run (a dry run); `why` tells more. `changed` is whether a
    cube that it names became another, null where it names none. `results` are the JSON lines that it told, 1,000 at
    most, of `lines` in all. `started` and `seconds` are of the last of its `attempts`.
    """

    name: str
    command: str
    status: Status
    exit_code: int | None
    started: str | None
    seconds: float
    attempts: int
    changed: bool | None
    why: str
    lines: int
    results: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Ran:
    """A run of a pipeline. `run` counts the runs with these inputs; `resumed` tells of one that goes on.

    `failed` is the step that ended it, "" for none, and `exit_code` that step's. Inputs stand as they were given, with
    the names of variables in the place of their values.
    """

    name: str
    path: str
    digest: str
    inputs: dict[str, str]
    run: int
    resumed: bool
    dry_run: bool
    steps: tuple[StepRun, ...]
    failed: str
    exit_code: int
    seconds: float
