"""How far a pipeline came: a file per pipeline and inputs in `$MEMOS_HOME/runs`, put anew after each step.

It lies in the home and not beside the pipeline, so that a pipeline from elsewhere brings no results along. What steps
were given stands there as keyed hashes, and of what they told only what other steps look at. Knows nothing of steps.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from memos_cli.errors import Damaged, Locked
from memos_cli.infrastructure.disk import write_bytes
from memos_cli.infrastructure.keyring import secret

FOLDER = "runs"
KEY_FILE = "runs.key"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Mark:
    """A step that ended well: in which run, as the how-manieth of all, and given what (a look at what its words name).

    `changed` is the tick at which a cube last changed through it, and `kept` has the values that other steps look at.
    """

    run: int
    tick: int
    changed: int
    key: str
    given: Sequence[str]
    code: int
    ended: str
    kept: Mapping[str, str | int | float | bool | None]


@dataclass(frozen=True, slots=True)
class Begun:
    """A step that was begun and has not ended well yet, and what there was before it began."""

    key: str
    given: Sequence[str]


@dataclass(slots=True)
class Course:
    """How far it came. `going` says that the last run has not ended well, `again` that in it nothing counts from
    before; `ticks` counts the steps that ever ended well."""

    place: Path
    run: int = 0
    going: bool = False
    again: bool = False
    ticks: int = 0
    marks: dict[str, Mark] = field(default_factory=dict)
    begun: dict[str, Begun] = field(default_factory=dict)

    def begin(self, *, again: bool) -> None:
        """Goes on with a run that did not end, or begins the next; `again` begins in any case."""
        if again or not self.going:
            self.run, self.going, self.again = self.run + 1, True, again

    def start(self, name: str, key: str, given: Sequence[str]) -> Begun:
        """Keeps what there is before a step; of one that was begun before, what there was then."""
        known = self.begun.get(name)
        if known is None or known.key != key or len(known.given) != len(given):
            known = self.begun[name] = Begun(key, given)
            self.save()
        return known

    def note(self, name: str, mark: Mark) -> None:
        """Keeps that a step has ended well, before the next one starts."""
        self.marks[name] = mark
        self.ticks = mark.tick
        self.begun.pop(name, None)
        self.save()

    def end(self) -> None:
        """Keeps that the run has ended well."""
        self.going = self.again = False
        self.save()

    def save(self) -> None:
        """Writes it, whole or not at all."""
        said = {
            "format": FORMAT, "run": self.run, "going": self.going, "again": self.again, "ticks": self.ticks,
            "steps": {name: asdict(mark) for name, mark in self.marks.items()},
            "begun": {name: asdict(begun) for name, begun in self.begun.items()},
        }  # fmt: skip
        write_bytes(self.place, json.dumps(said, indent=1).encode() + b"\n", durable=True)


@contextmanager
def hold(home: Path, key: str) -> Iterator[Course]:
    """How far the pipeline of this key came, for one process at a time. Raises Locked, Damaged."""
    from filelock import FileLock, Timeout

    place = home / FOLDER / f"{key}.json"
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = FileLock(place.with_suffix(".lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise Locked("this pipeline is being run with these inputs already", hint="wait for it to end") from error
    try:
        yield load(place)
    finally:
        lock.release()


def peek(home: Path, key: str) -> Course:
    """The same to look at only. Raises Damaged."""
    return load(home / FOLDER / f"{key}.json")


def load(place: Path) -> Course:
    """What the file says; nothing has been run where there is none. Raises Damaged."""
    try:
        said = json.loads(place.read_bytes())
    except FileNotFoundError:
        return Course(place)
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(place) from error
    try:
        if said["format"] != FORMAT:
            raise _damaged(place)
        marks = {name: Mark(**mark) for name, mark in said["steps"].items()}
        begun = {name: Begun(**begun) for name, begun in said["begun"].items()}
        given = [*(mark.given for mark in marks.values()), *(each.given for each in begun.values())]
        if not all(isinstance(each, list) and all(isinstance(one, str) for one in each) for each in given):
            raise _damaged(place)
        if not all(
            isinstance(mark.kept, dict) and type(mark.tick) is type(mark.changed) is int for mark in marks.values()
        ):
            raise _damaged(place)
        return Course(
            place, int(said["run"]), bool(said["going"]), bool(said["again"]), int(said["ticks"]), marks, begun
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(place) from error


def _damaged(place: Path) -> Damaged:
    return Damaged(f"{place}: expected what a run has noted, found something else", hint=f"rm {place}")


def keyed(home: Path, *texts: str) -> str:
    """A keyed hash of texts: the same for the same in this home, and of no use to anybody who does not know them."""
    told = json.dumps(texts).encode("utf-8", "surrogatepass")
    return hmac.digest(secret(home, KEY_FILE), told, "sha256").hex()[:32]
