"""The course of a pipeline, step by step: what runs, what is passed over and why, and what is kept of it."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from memos_cli.errors import Damaged
from memos_cli.infrastructure import given, runs
from memos_cli.infrastructure.child import Ended
from memos_cli.infrastructure.runs import Mark
from memos_cli.interface.desks import Notify, now_text
from memos_cli.interface.ran import Status, StepRun
from memos_cli.operation import references, when
from memos_cli.operation.pipeline import Pipeline, Step
from memos_cli.operation.references import ENV, INPUTS, STEPS, TEXT_LIMIT_CHARACTERS, Filled, Reference, Scalar

# What is passed over when it was done before and nothing it is given has changed. Others look at what changes by
# itself (the clock, the use of a cube, a store), or are there for what they tell.
MAKES = frozenset({
    "init", "ingest", "edit", "forget", "rollback", "tag", "migrate", "reindex", "convert", "distill", "tidy", "fuse",
    "export", "pack", "unpack", "push", "require",
})  # fmt: skip
# Exit codes of what may go better later: a store that does not answer, a cube that is being written.
PASSING = frozenset({7, 8})
RESULTS_LIMIT = 1_000
_SECRET_CHARACTERS = 4
_LONGEST_WAIT_SECONDS = 3_600.0


class _Missing(Exception):  # noqa: N818  ends in no error, but in a step that is passed over
    """A step that another looks at was passed over, and told nothing."""


@dataclass(frozen=True, slots=True)
class Values:
    """The inputs of a run, and the variables that its words may have."""

    inputs: Mapping[str, Filled]
    variables: Mapping[str, str]

    def look(self, reference: Reference) -> Filled:
        """The value of an input or a variable."""
        if reference.kind == INPUTS:
            return self.inputs[reference.name]
        return Filled(self.variables[reference.name], f"${{{reference}}}")

    def example(self, reference: Reference) -> Filled:
        """The same, and for what only a step will tell a word that may stand for it."""
        return Filled("1", f"${{{reference}}}") if reference.kind == STEPS else self.look(reference)

    def hide(self, said: Any) -> Any:
        """The same without what the variables hold, which is kept and shown nowhere."""
        if isinstance(said, str):
            for name, value in self.variables.items():
                if len(value) >= _SECRET_CHARACTERS:
                    said = said.replace(value, _hidden(name))
            return said
        if isinstance(said, list):
            return [self.hide(each) for each in said]
        return {self.hide(name): self.hide(each) for name, each in said.items()} if isinstance(said, dict) else said


def _hidden(name: str) -> str:
    return f"(env.{name})"


@dataclass(slots=True)
class Course:
    """A pipeline on its way. `told` are the steps whose values others may look at: they ran, or were done before."""

    made: Pipeline
    folder: Path
    home: Path
    known: runs.Course
    values: Values
    start: Callable[..., Ended]
    notify: Notify
    to: str
    told: set[str] = field(default_factory=set)

    def follow(self) -> tuple[StepRun, ...]:
        """Runs what is to be run, up to the first step that fails; a run without one has ended."""
        found: list[StepRun] = []
        stopped = ""
        for step in self.made.steps:
            found.append(self._untouched(step, "waiting", f"step {stopped} failed") if stopped else self._one(step))
            stopped = stopped or (step.name if found[-1].status == "failed" else "")
        if not stopped:
            self.known.end()
        return tuple(found)

    def plan(self) -> tuple[StepRun, ...]:
        """What would be run, and nothing is: no step's own dry run either, which could not see what comes before it."""
        found: list[StepRun] = []
        coming: set[str] = set()
        for step in self.made.steps:
            first = coming & self.made.before(step.name)
            try:
                words = self._fill(step)
                done = self._is_done(step, words)
            except (_Missing, Damaged):
                words, done = [references.fill(word, self.values.example) for word in step.words], False
            if done and not first:
                self.told.add(step.name)
                found.append(self._untouched(step, "done", self._when_done(step), words))
                continue
            coming.add(step.name)
            why = "; ".join(f"when {each.text}" for each in step.when)
            if done:
                why = f"if {', '.join(sorted(first))} changes what it is given"
            found.append(self._untouched(step, "to run", why, words))
        return tuple(found)

    def _one(self, step: Step) -> StepRun:
        words: Sequence[Filled] | None = None
        try:
            words = self._fill(step)
            if self._is_done(step, words):
                self.told.add(step.name)
                return self._untouched(step, "done", self._when_done(step), words)
            if why := self._hindrance(step):
                return self._untouched(step, "skipped", why, words)
        except _Missing as missing:
            return self._untouched(step, "skipped", str(missing), words)
        except Damaged as error:
            self.notify(f"{step.name}: {error.message}")
            return self._untouched(step, "failed", error.message, words, exit_code=error.exit_code)
        return self._run(step, words)

    def _run(self, step: Step, words: Sequence[Filled]) -> StepRun:
        """Runs it, again if it may go better then, and keeps how it ended."""
        key, before = self._key(words), self._look(step, words)
        begun = self.known.start(step.name, key, before)
        ended, attempts, started = self._tries(step, words)
        after = self._look(step, words)
        changed = given.has_changed(begun.given, after)
        results = _results(ended.out)
        results = [self.values.hide(each) for each in results]
        why = self._why(step, ended)
        well = not ended.timed_out and (ended.code == 0 or ended.code in step.allow)
        if well:
            self.told.add(step.name)
            last = self.known.marks.get(step.name)
            tick = self.known.ticks + 1
            kept = self._kept(step, ended.code, changed, results)
            seen = given.as_found(before, after) if step.verb == "ingest" else after
            self.known.note(
                step.name,
                Mark(
                    self.known.run, tick, (last.changed if last else 0) if changed is False else tick, key, seen,
                    ended.code, now_text(), kept,
                ),
            )  # fmt: skip
        told = "ended" if well else "failed"
        self.notify(f"{step.name}: {told} in {ended.seconds:.1f} s" + (f", {why}" if why else ""))
        return StepRun(
            step.name, _line(words), "ran" if well else "failed", ended.code, started, round(ended.seconds, 3),
            attempts, changed, why, len(results), tuple(results[:RESULTS_LIMIT]),
        )  # fmt: skip

    def _tries(self, step: Step, words: Sequence[Filled]) -> tuple[Ended, int, str]:
        """How the last attempt ended, how many there were, and when it started."""
        attempt = 0
        while True:
            attempt += 1
            started = now_text()
            self.notify(f"{step.name}: {_line(words)}")
            ended = self.start(
                [*(word.text for word in words), "--json"], folder=self.folder, home=self.home,
                timeout_seconds=step.timeout_seconds, to_file=self.to == "file",
                say=lambda text: self.notify(f"{step.name}: {self.values.hide(text.removeprefix('memos: '))}"),
            )  # fmt: skip
            if ended.code not in PASSING or ended.code in step.allow or attempt > step.retries:
                return ended, attempt, started
            wait = min(step.wait_seconds * 2 ** (attempt - 1), _LONGEST_WAIT_SECONDS)
            self.notify(f"{step.name}: exit code {ended.code}, again in {wait:g} s ({attempt} of {step.retries})")
            time.sleep(wait)

    def _why(self, step: Step, ended: Ended) -> str:
        if ended.timed_out:
            return f"it took longer than {step.timeout_seconds:g} s"
        if ended.code == 0:
            return "it told more than is kept" if ended.cut else ""
        if ended.code in step.allow:
            return f"exit code {ended.code} is allowed"
        # the line that says what, and not the one below it that says what to do
        said = [line for line in ended.talk if line.startswith("memos: ")] or list(ended.talk)
        return str(self.values.hide(said[-1].removeprefix("memos: "))) if said else f"exit code {ended.code}"

    def _hindrance(self, step: Step) -> str:
        """Why it is not run now; "" when nothing is in the way. Raises _Missing, Damaged."""
        for each in step.when:
            if each.reference is None:
                if not self._has_news(step):
                    return "nothing changed before it"
            elif not when.holds(each, self._value(each.reference)):
                return f"not so: {each.text}"
        return ""

    def _has_news(self, step: Step) -> bool:
        """Whether something it builds on has changed a cube since it last ended well, in this run or before."""
        mark = self.known.marks.get(step.name)
        changes = (self.known.marks[name].changed for name in self.made.before(step.name) if name in self.known.marks)
        return max(changes, default=0) > (mark.tick if mark else 0)

    def _is_done(self, step: Step, words: Sequence[Filled]) -> bool:
        mark = self.known.marks.get(step.name)
        if mark is None or mark.key != self._key(words) or step.name in self.known.begun:
            return False
        if mark.run != self.known.run and (self.known.again or step.always or step.verb not in MAKES):
            return False
        return tuple(mark.given) == self._look(step, words)

    def _when_done(self, step: Step) -> str:
        return f"ended {self.known.marks[step.name].ended}"

    def _look(self, step: Step, words: Sequence[Filled]) -> tuple[str, ...]:
        texts = [word.text for word in words[1:]]
        return given.look(texts, folder=self.folder, home=self.home, deep=step.verb == "ingest")

    def _key(self, words: Sequence[Filled]) -> str:
        return runs.keyed(self.home, *(word.text for word in words))

    def _fill(self, step: Step) -> list[Filled]:
        return [references.fill(word, self._look_up) for word in step.words]

    def _look_up(self, reference: Reference) -> Filled:
        if reference.kind != STEPS:
            return self.values.look(reference)
        text = references.as_text(self._value(reference), reference)
        if any(_hidden(name) in text for name in self.values.variables):
            raise Damaged(f"{reference} has what a variable holds, which is not kept: use ${{{ENV}.NAME}} itself")
        return Filled(text, text)

    def _value(self, reference: Reference) -> Scalar:
        """The value that a condition looks at. Raises _Missing when the step told nothing in this run."""
        if reference.kind == INPUTS:
            return self.values.inputs[reference.name].text
        if reference.name not in self.told:
            raise _Missing(f"step {reference.name} told nothing")
        return self.known.marks[reference.name].kept.get(".".join(reference.path))

    def _kept(self, step: Step, code: int, changed: bool | None, results: Sequence[Any]) -> dict[str, Scalar]:
        """What other steps look at of what it told."""
        facts = {"code": code, "changed": changed, "lines": len(results)}
        told = {"result": results[-1] if results else None, **facts}
        return {".".join(each.path): _at(told, each.path) for each in self.made.looked_at(step.name)}

    def _untouched(
        self,
        step: Step,
        status: Status,
        why: str,
        words: Sequence[Filled] | None = None,
        *,
        exit_code: int | None = None,
    ) -> StepRun:
        line = _line(words) if words else shlex.join(["memos", *map(references.unfilled, step.words)])
        if status == "done":
            exit_code = self.known.marks[step.name].code
        return StepRun(step.name, line, status, exit_code, None, 0.0, 0, None, why, 0, ())


def _line(words: Sequence[Filled]) -> str:
    return shlex.join(["memos", *(word.shown for word in words)])


def _results(out: bytes) -> list[Any]:
    """The JSON lines that a command told."""
    found = []
    for line in out.splitlines():
        try:
            found.append(json.loads(line))
        except (ValueError, RecursionError):  # cut off, or not for us
            continue
    return found


def _at(told: Any, path: Sequence[str]) -> Scalar:
    """What is at the end of a path; of several things how many, and nothing where there is nothing."""
    for key in path:
        if isinstance(told, dict):
            told = told.get(key)
        elif isinstance(told, list) and key.isascii() and key.isdigit() and len(key) < 7 and int(key) < len(told):
            told = told[int(key)]
        else:
            return None
    if isinstance(told, str):
        return told[: TEXT_LIMIT_CHARACTERS + 1]
    return len(told) if isinstance(told, list | dict) else told
