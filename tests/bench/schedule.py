"""The scheduler: policies on traces against what was possible, and whether a plan saves what it says.

Memories of the default model's world, of one to twenty facts, are each made, read and read back (warm-up, then the
median of some runs in turns). Policies decide by rates of a few other sizes, as a plan does, and are charged what each
memory took. The bound is for somebody who knows the whole trace (see operation/replay.py). With `--cheap` writing is
charged at a tenth too: where it costs next to nothing, who knows the future profits from every chance repetition.

`--invented` takes prices of memories of 40 to 300 tokens that nobody measured, and loads no model, so that many seeds
and short traces can be tried. Beside the policies stands the best fixed set: that of somebody who knows how often each
memory will be asked for, makes those that pay when they are asked for first, and changes nothing after; and on Zipf
traces a learner who is told everything but which memory is which (see learner.py). What lies between the fixed set and
the bound is chance, what lies between it and that learner is learning.

The last line is JSON.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from memos_cli.infrastructure.measured import machine
from memos_cli.operation import calibrate, replay, traces
from memos_cli.operation.calibrate import Sample
from memos_cli.operation.indicators import Event
from memos_cli.operation.policies import POLICIES, Price
from memos_cli.runtime.fingerprint import fingerprint
from memos_cli.runtime.model import LocalModel
from memos_cli.runtime.nano.train.world import World
from tests.bench import learner, timing

FIXED, TOLD = "best fixed set", "told learner"
NAMES = ("cost", "lru", "lfu", "decay")
ROOMS = (0.1, 0.3)
MOST_FACTS = 20
# The bound is one whatever the rounds; it stays the same to a thousandth from so many on.
ROUNDS = 150


def memories(count: int) -> list[Sample]:
    """Facts of the world, as many to a memory as chance has it."""
    world, chance = World(Random("schedule"), held_names=True), Random("sizes")
    texts = [world.state(world.facts(chance.randint(1, MOST_FACTS)), shape="lines")[0] for _ in range(count)]
    return [Sample(f"m{number}", " ".join(text.split())) for number, text in enumerate(texts)]


def main() -> None:
    """Measures and prints the tables."""
    options = argparse.ArgumentParser(prog="python -m tests.bench.schedule", description=__doc__)
    options.add_argument("--count", type=int, default=24)
    options.add_argument("--requests", type=int, default=4000)
    options.add_argument("--runs", type=int, default=5)
    options.add_argument("--cheap", action="store_true")
    options.add_argument("--seeds", type=int, default=1)
    options.add_argument("--invented", action="store_true")
    options.add_argument("--first", type=int, default=0, help="seed of the first trace")
    options.add_argument("--rooms", type=float, nargs="+", default=ROOMS)
    options.add_argument("--exponent", type=float, default=traces.EXPONENT, help="of the Zipf")
    given = options.parse_args()
    if given.invented:
        _invented(given)
        return
    local = LocalModel("nano")
    with TemporaryDirectory() as folder:
        made_with = fingerprint(local.load(), local.folder, cache=Path(folder))
        rates = calibrate.measure(local, made_with, machine=machine(), made_at="")
        found = calibrate.measure_each(local, made_with, memories(given.count), runs=given.runs)
    true = {one: each.price for one, each in found.items()}
    sizes = {one: price.bytes / rates.points[-1].bytes * rates.points[-1].tokens for one, price in true.items()}
    believed = {one: rates.price(round(size), bytes_held=true[one].bytes) for one, size in sizes.items()}
    savings = _savings(true, believed)
    timing.table(savings)
    rows = _rows(true, believed, {one: each.exact for one, each in found.items()}, given.requests, given.seeds)
    timing.table(rows)
    zipf = {
        row["room"]: row["of the bound"] for row in _means(rows) if (row["trace"], row["policy"]) == ("zipf", "cost")
    }  # fmt: skip
    bars = [
        timing.Bar("cost on Zipf, of the bound, least room", zipf[ROOMS[0]], 1.1),
        timing.Bar("cost on Zipf, of the bound, most room", zipf[ROOMS[-1]], 1.1),
        timing.Bar("cost beside the best of lru and lfu, at worst", _worst(rows), 1.02),
        timing.Bar("measured over estimated saving of what is promoted, off by", savings[-1]["off by"], 0.25),
    ]
    if given.cheap:
        cheap = {one: replace(price, write_seconds=price.write_seconds / 10) for one, price in true.items()}
        guess = {one: replace(price, write_seconds=price.write_seconds / 10) for one, price in believed.items()}
        more = _rows(cheap, guess, {one: each.exact for one, each in found.items()}, given.requests, given.seeds)
        timing.table(more)
        bars.append(timing.Bar("the same where writing is cheap", _worst(more), 1.02))
        rows += [{**row, "trace": f"{row['trace']}, cheap writing"} for row in more]
    timing.finish("schedule", {"count": given.count, "requests": given.requests, "rows": rows}, bars=bars)


def _savings(true: dict[str, Price], believed: dict[str, Price]) -> list[dict[str, Any]]:
    """What one use saves, as estimated and as measured, by size; the last row is of all that are worth promoting."""
    ordered = sorted((one for one in true if believed[one].saved_seconds > 0), key=lambda one: true[one].bytes)
    third = -(-len(ordered) // 3)
    groups = [("short", ordered[:third]), ("middling", ordered[third : 2 * third]), ("long", ordered[2 * third :])]
    return [_saving(name, group, true, believed) for name, group in (*groups, ("promoted", ordered)) if group]


def _saving(name: str, group: list[str], true: dict[str, Price], believed: dict[str, Price]) -> dict[str, Any]:
    estimated, measured = (sum(of[one].saved_seconds for one in group) / len(group) for of in (believed, true))
    each = timing.Spread.of([true[one].saved_seconds / believed[one].saved_seconds for one in group])
    return {
        "memories": name, "count": len(group), "estimated ms": round(1000 * estimated, 1),
        "measured ms": round(1000 * measured, 1), "off by": round(abs(measured / estimated - 1), 3),
        "each, median": each.median, "least": each.least, "most": each.most,
    }  # fmt: skip


def _invented(given: argparse.Namespace) -> None:
    """Policies on prices that nobody measured, for several seeds of the trace."""
    chance = Random("invented")
    traces.EXPONENT = given.exponent
    sizes = {f"m{number}": chance.randint(40, 300) for number in range(given.count)}
    # .9 ms to read a token, .2 s and 3 ms a token to make one
    prices = {
        one: Price(4000 * size, 0.2 + 0.003 * size, 0.01 + 0.0009 * size, 0.01) for one, size in sizes.items()
    }  # fmt: skip
    seeds = range(given.first, given.first + given.seeds)
    rows = [
        row
        for seed in seeds
        for row in _rows_of(prices, prices, dict.fromkeys(prices, 1.0), given.requests, seed, given.rooms)
    ]
    rows += _told(prices, rows, given, seeds)
    timing.table(_means(rows))
    timing.finish(
        "schedule-invented",
        {"count": given.count, "requests": given.requests, "exponent": given.exponent, "rows": rows},
        bars=[timing.Bar("cost beside the best of lru and lfu, at worst", _worst(rows), 1.02)],
    )


def _told(
    prices: dict[str, Price], rows: list[dict[str, Any]], given: argparse.Namespace, seeds: Sequence[int]
) -> list[dict[str, Any]]:
    """What a learner takes who is told all but which memory is which."""
    played = [traces.generate(traces.ZIPF, sorted(prices), requests=given.requests, seed=seed) for seed in seeds]
    whole = sum(price.bytes for price in prices.values())
    found = []
    for room in given.rooms:
        spent = learner.seconds(played, prices, exponent=given.exponent, budget_bytes=round(room * whole))
        for seed, together in zip(seeds, spent, strict=True):
            fixed = next(
                one for one in rows
                if (one["trace"], one["room"], one["seed"], one["policy"]) == (traces.ZIPF, room, seed, FIXED)
            )  # fmt: skip
            found.append({
                **fixed, "policy": TOLD, "together s": round(together, 1),
                "of the bound": round(fixed["of the bound"] * together / fixed["together s"], 3),
                "of reading all": round(fixed["of reading all"] * together / fixed["together s"], 3),
            })  # fmt: skip
    return found


def _means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each trace, room and policy the seconds over those of the bound, of all seeds."""
    together: dict[tuple[str, float, str], list[float]] = {}
    for row in rows:
        together.setdefault((row["trace"], row["room"], row["policy"]), []).append(row["of the bound"])
    return [
        {"trace": trace, "room": room, "policy": policy, "of the bound": round(sum(found) / len(found), 3),
         "each seed": " ".join(f"{one:.3f}" for one in found)}
        for (trace, room, policy), found in together.items()
    ]  # fmt: skip


def _fixed(trace: Sequence[Event], prices: dict[str, Price], budget_bytes: int) -> float:
    """Seconds of the best fixed set, as far as taking the best for its room first finds it."""
    uses = Counter(one for event in trace for one in event.ids)
    worth = {one: (uses[one] - 1) * price.saved_seconds - price.write_seconds for one, price in prices.items()}
    kept: set[str] = set()
    for one in sorted(prices, key=lambda one: -worth[one] / prices[one].bytes):
        if worth[one] > 0 and prices[one].bytes + sum(prices[other].bytes for other in kept) <= budget_bytes:
            kept.add(one)
    return sum(uses[one] * price.plain_seconds for one, price in prices.items()) - sum(worth[one] for one in kept)


def _rows(
    true: dict[str, Price], believed: dict[str, Price], exact: dict[str, float], requests: int, seeds: int
) -> list[dict[str, Any]]:
    return [row for seed in range(seeds) for row in _rows_of(true, believed, exact, requests, seed)]


def _rows_of(
    true: dict[str, Price],
    believed: dict[str, Price],
    exact: dict[str, float],
    requests: int,
    seed: int,
    rooms: Sequence[float] = ROOMS,
) -> list[dict[str, Any]]:
    rows = []
    whole = sum(price.bytes for price in true.values())
    for kind in traces.GENERATORS:
        trace = traces.generate(kind, sorted(true), requests=requests, seed=seed)
        plain = sum(true[one].plain_seconds for event in trace for one in event.ids)
        for room in rooms:
            bound = replay.bound(trace, true, budget_bytes=round(room * whole), rounds=ROUNDS)
            fixed = _fixed(trace, true, round(room * whole))
            rows.append({
                "trace": kind, "room": room, "policy": FIXED, "seed": seed, "together s": round(fixed, 1),
                "of the bound": round(fixed / bound, 3), "of reading all": round(fixed / plain, 3),
            })  # fmt: skip
            for name in NAMES:
                played = replay.play(trace, believed, POLICIES[name], name=name, budget_bytes=round(room * whole))
                reading, writing = replay.seconds_of(played, trace, true)
                kept = [
                    exact[one] if held else 1.0
                    for event, marks in zip(trace, played.held, strict=True)
                    for one, held in zip(event.ids, marks, strict=True)
                ]
                rows.append({
                    "trace": kind, "room": room, "policy": name, "seed": seed, "hits": round(played.hit_rate, 3),
                    "written": played.writes, "reading s": round(reading, 1), "writing s": round(writing, 1),
                    "together s": round(reading + writing, 1), "of the bound": round((reading + writing) / bound, 3),
                    "of reading all": round((reading + writing) / plain, 3),
                    "as with the text": round(sum(kept) / len(kept), 3),
                })  # fmt: skip
    return rows


def _worst(rows: list[dict[str, Any]]) -> float:
    """The seconds of `cost` over those of the better of lru and lfu, where it does worst."""
    worst = 0.0
    for row in rows:
        if row["policy"] == "cost":
            same = [one for one in rows if all(one[name] == row[name] for name in ("trace", "room", "seed"))]
            rivals = min(one["together s"] for one in same if one["policy"] in ("lru", "lfu"))
            worst = max(worst, row["together s"] / rivals)
    return round(worst, 3)


if __name__ == "__main__":
    main()
