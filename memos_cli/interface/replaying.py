"""The A/B of policies: a trace of use replayed on some memories of a cube, each measured on the real runtime.

What a policy decides by are the scheduler's costs, interpolated from a few sizes; what it is charged is what each
memory of the cube really took here. Changes nothing: files are made in a folder that is thrown away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from memos_cli.errors import NotFound, Usage
from memos_cli.infrastructure import uses
from memos_cli.interface import frame
from memos_cli.interface.converting import chosen
from memos_cli.interface.costing import rates_for
from memos_cli.interface.planned import PolicyPlayed, Replayed
from memos_cli.operation import indicators, replay, traces
from memos_cli.operation.indicators import Event
from memos_cli.operation.policies import COST, Price, policy_of

if TYPE_CHECKING:
    from memos_cli.interface.frame import Reading
    from memos_cli.interface.results import Memory
    from memos_cli.operation.calibrate import Measured
    from memos_cli.operation.rates import Point

Progress = Callable[[int, int | None, str], None]
LOG = "log"
# The share of what all memories take that there is room for, unless it is said.
ROOM = 0.25


def replay_trace(
    cube: str | Path,
    trace: str,
    *,
    policies: Sequence[str] = (COST, "lru", "lfu"),
    model: str = "nano",
    requests: int = 2000,
    memories: int = 24,
    seed: int = 0,
    budget_bytes: int | None = None,
    home: Path | None = None,
    notify: frame.Notify | None = None,
    progress: Progress | None = None,
) -> Replayed:
    """How these policies do on a trace: `zipf`, `bursts`, `drift`, or `log` for what the cube's own log tells.

    So many memories of the cube are measured at most. Room is a quarter of what they take unless `budget_bytes` says
    otherwise. Raises Usage for a trace or a policy that there is not, NotFound for a cube with nothing to replay.
    """
    if trace != LOG and trace not in traces.GENERATORS:
        raise Usage(f"expected a trace of {', '.join([*traces.GENERATORS, LOG])}, found {trace!r}")
    if not 1 <= requests <= 100_000 or not 1 <= memories <= 10_000:
        raise Usage(f"expected 1 to 100,000 requests and 1 to 10,000 memories, found {requests} and {memories}")
    chosen_policies = {name: policy_of(name) for name in dict.fromkeys(policies)}
    desk = frame.desk(home, notify)
    rates = rates_for(desk, model, estimate=False)
    with frame.reading(desk, cube, "schedule") as seen:
        seen.facts |= {"replay": trace, "model": rates.model}
        told = _log(seen) if trace == LOG else []
        some = _some(seen, told, memories) if told or trace != LOG else []
    measured = _measured(desk, model, some, progress) if some else {}
    played = told
    if trace != LOG and measured:
        played = traces.generate(trace, sorted(measured), requests=requests, seed=seed)
    played = [Event(one.age_days, tuple(each for each in one.ids if each in measured)) for one in played]
    played = [one for one in played if one.ids]
    if not measured or not played:
        raise NotFound(f"{cube} has nothing to replay", hint=f"memos schedule {cube} --replay zipf")
    true = {one: found.price for one, found in measured.items()}
    sizes = {one: price.bytes for one, price in true.items()}
    believed = {one: rates.price(_tokens(rates.points, size), bytes_held=size) for one, size in sizes.items()}
    room = round(ROOM * sum(price.bytes for price in true.values())) if budget_bytes is None else budget_bytes
    bound = replay.bound(played, true, budget_bytes=room)
    found = []
    for name, policy in chosen_policies.items():
        result = replay.play(played, believed, policy, name=name, budget_bytes=room)
        found.append(_told(name, result, played, true, measured, bound))
    return Replayed(
        str(cube), rates.model, trace, seed, len(played), len(measured), room,
        sum(true[one].plain_seconds for event in played for one in event.ids), bound,
        tuple(sorted(found, key=lambda one: one.seconds)),
    )  # fmt: skip


def _log(seen: Reading) -> list[Event]:
    log = uses.paths_of(seen.root, home=seen.desk.home, cube_id=seen.cube.id)
    return indicators.events(uses.accesses(log), now=frame.now())[0]


def _some(seen: Reading, told: Sequence[Event], count: int) -> list[Memory]:
    """Memories to measure: those that a log names most, or the first of the cube."""
    if not told:
        return list(islice(chosen(seen, "", ()), count))
    hot = indicators.fold(told, half_life_days=indicators.USUAL_HALF_LIFE_DAYS)
    wanted = set(sorted(hot, key=lambda one: -hot[one].uses)[:count])
    return [one for one in chosen(seen, "", ()) if one.id in wanted]


def _measured(
    desk: frame.Desk, model: str, some: Sequence[Memory], progress: Progress | None
) -> Mapping[str, Measured]:
    from memos_cli.operation.calibrate import measure_each
    from memos_cli.runtime.fingerprint import fingerprint
    from memos_cli.runtime.model import LocalModel

    local = LocalModel(model)
    made_with = fingerprint(local.load(), local.folder, cache=desk.home / "cache")
    return measure_each(local, made_with, some, progress=progress)


def _tokens(points: Sequence[Point], size: int) -> int:
    """How many tokens a file of so many bytes holds: that is nearly in step."""
    return max(1, round(size * points[-1].tokens / points[-1].bytes))


def _told(
    name: str,
    result: replay.Played,
    trace: Sequence[Event],
    true: Mapping[str, Price],
    measured: Mapping[str, Measured],
    bound: float,
) -> PolicyPlayed:
    reading, writing = replay.seconds_of(result, trace, true)
    kept = [
        measured[one].exact if held else 1.0
        for event, marks in zip(trace, result.held, strict=True)
        for one, held in zip(event.ids, marks, strict=True)
    ]
    return PolicyPlayed(
        name, result.hit_rate, result.writes, result.bytes, reading, writing, reading + writing,
        (reading + writing) / bound if bound else 1.0, sum(kept) / len(kept),
    )  # fmt: skip
