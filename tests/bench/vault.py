"""A question to a vault of many cubes beside the same question to the right cube alone, and which cubes are picked.

A cube is a session of LoCoMo, or of LongMemEval (what its user said), where the data is there (`MEMOS_BENCH_DATA`),
else some turns of the chats in `bundles/`; each is made by `ingest` through the API, in one process that keeps its
embedder. Measured are whole commands (`memos query --vault TEXT`, the catalogue being up to date, beside
`memos query CUBE TEXT`), the same through the API in a process that is warm (a stream of questions, each with a right
cube of its own, so that both open a cube for every question), the share of questions whose right cube is among the
first, and `memos audit --vault` by one and by two processes, `memos list`, and the first look that makes the catalogue.

The bar is that of the design: at most twice the time of the right cube alone, for whole commands. CPU seconds are told
beside the clock's, for other work on the machine stretches only the latter. `--home` keeps the vault for the next run.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tests.bench import timing
from tests.bench.timing import Bar, Spread
from tests.bench.turns import ROOT, Turn, _locomo_turns, data_folder, locomo, turns

MEMOS = [sys.executable, "-m", "memos_cli"]
TOPS = (1, 3, 5, 10)
LONGEST = 1200


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and the cubes that hold its answer."""

    text: str
    right: frozenset[str]


def sessions() -> Iterator[tuple[str, list[Turn]]]:
    """The cubes there could be: names and their turns."""
    found: dict[str, list[Turn]] = {}
    for turn in _locomo_turns() if locomo() else ():
        found.setdefault(f"{turn.conversation}-{turn.session}", []).append(turn)
    yield from found.items()
    path = data_folder() / "longmemeval-s-dev.jsonl.gz"
    if path.is_file():
        yield from _longmemeval(path)
    if not found:
        # no text comes twice, so a question has one right cube
        rows = iter(turns(40_000))
        number = 0
        while part := list(islice(rows, 20)):
            yield f"part-{number:04}", part
            number += 1


def _longmemeval(path: Path) -> Iterator[tuple[str, list[Turn]]]:
    seen: set[str] = set()
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for told in map(json.loads, lines):
            for name, session in zip(told["haystack_session_ids"], told["haystack_sessions"], strict=True):
                said = [turn["content"][:LONGEST] for turn in session if turn["role"] == "user"]
                texts = [text for text in said if text.strip()]
                if texts and name not in seen:
                    seen.add(name)
                    yield name, [Turn(name, f"t{i}", name, "", "user", text) for i, text in enumerate(texts)]


def questions(names: Sequence[str]) -> list[Asked]:
    """Questions whose right cubes are all among `names`."""
    found = []
    for talk in locomo():
        for asked in talk["qa"]:
            told = {each.split(":")[0] for evidence in asked["evidence"] for each in evidence.split(";")}
            right = frozenset(f"{talk['sample_id']}-{_session(talk, each.strip())}" for each in told)
            if asked["category"] != 5 and right:
                found.append(Asked(asked["question"], right))
    path = data_folder() / "longmemeval-s-dev.jsonl.gz"
    if path.is_file():
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            found += [Asked(told["question"], frozenset(told["answer_session_ids"])) for told in map(json.loads, lines)]
    there = set(names)
    return [one for one in found if one.right <= there]


def _session(talk: dict[str, Any], evidence: str) -> str:
    """What `_locomo_turns` calls the session of evidence such as D3."""
    return f"session_{evidence.removeprefix('D').strip()}"


def build(home: Path, count: int) -> dict[str, list[Turn]]:
    """A vault of so many cubes, those of the questions first; what is there already is left as it is."""
    from memos_cli.infrastructure.vault import Vault
    from memos_cli.interface import api

    there = set(Vault(home).pointers())
    chosen = dict(islice(sessions(), count))
    begin, cpu = time.perf_counter(), time.process_time()
    fresh = [name for name in chosen if name not in there]
    with tempfile.TemporaryDirectory() as folder:
        for name in fresh:
            source = Path(folder) / f"{name}.jsonl"
            source.write_text("".join(turn.line() for turn in chosen[name]), encoding="utf-8")
            api.ingest(name, [str(source)], home=home)
    if fresh:
        wall, used = time.perf_counter() - begin, time.process_time() - cpu
        timing.say(f"built {len(fresh)} cubes in {wall:.0f} s, {used:.0f} CPU seconds")
    return chosen


def commands(home: Path, asked: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Whole processes: the vault and the right cube, in turns, a question each."""
    env = timing.light(MEMOS_HOME=str(home), PYTHONPATH=str(ROOT))
    pairs: list[tuple[timing.Run, timing.Run]] = []
    for lap, (text, right) in enumerate([asked[0], *asked]):
        calls = [[*MEMOS, "query", "--vault", text], [*MEMOS, "query", right, text]]
        order = (0, 1) if lap % 2 else (1, 0)
        done = {number: timing.run(calls[number], env=env) for number in order}
        if any(run.code for run in done.values()):
            raise SystemExit("\n".join(run.out for run in done.values()))
        if lap:
            pairs.append((done[0], done[1]))
    return {
        "vault_ms": Spread.of([vault.wall_s for vault, _ in pairs], scale=1e3, digits=0),
        "alone_ms": Spread.of([alone.wall_s for _, alone in pairs], scale=1e3, digits=0),
        "vault_cpu_ms": Spread.of([vault.cpu_s for vault, _ in pairs], scale=1e3, digits=0),
        "alone_cpu_ms": Spread.of([alone.cpu_s for _, alone in pairs], scale=1e3, digits=0),
        "ratio": Spread.of([vault.wall_s / alone.wall_s for vault, alone in pairs]),
        "cpu_ratio": Spread.of([vault.cpu_s / alone.cpu_s for vault, alone in pairs]),
    }


def warm(home: Path, asked: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """The same in one process: for each question the vault, and its right cube, opened anew."""
    from memos_cli.interface import api
    from memos_cli.operation.holding import let_go

    stream = api.query_vault((text for text, _ in [asked[0], *asked]), home=home)
    next(stream)
    rows = []
    for text, right in asked:
        times = []
        for work in (lambda: next(stream), lambda name=right, said=text: api.query(name, said, home=home)):
            let_go()
            begin, cpu = time.perf_counter(), time.process_time()
            found = work()
            times.append((time.perf_counter() - begin, time.process_time() - cpu, found))
        rows.append(times)
    return {
        "vault_ms": Spread.of([row[0][0] for row in rows], scale=1e3, digits=1),
        "alone_ms": Spread.of([row[1][0] for row in rows], scale=1e3, digits=1),
        "ratio": Spread.of([row[0][0] / row[1][0] for row in rows]),
        "cpu_ratio": Spread.of([row[0][1] / max(row[1][1], 1e-9) for row in rows]),
        "opened": Spread.of([float(len(row[0][2].cubes)) for row in rows]),
        "picking_ms": Spread.of([row[0][2].vault.seconds for row in rows], scale=1e3, digits=1),
    }


def accuracy(home: Path, asked: Sequence[Asked]) -> dict[str, Any]:
    """For how many questions a right cube is among the first so many, and among those that would be opened."""
    from memos_cli.interface import frame
    from memos_cli.interface.vaulting import OPENED, Shelf, lowest

    shelf = Shelf.of(frame.desk(home), words_only=False)
    hits: dict[str, int] = {f"@{top}": 0 for top in TOPS} | {"opened": 0}
    for one in asked:
        ranking = shelf.rank(one.text)
        names = [shelf.catalogue.entries[each.place].name for each in ranking]
        near = [each for each in ranking[:OPENED] if each.score >= lowest(ranking)]
        for top in TOPS:
            hits[f"@{top}"] += not one.right.isdisjoint(names[:top])
        hits["opened"] += not one.right.isdisjoint(names[: len(near)])
    return {"questions": len(asked), **{name: round(count / max(1, len(asked)), 3) for name, count in hits.items()}}


def audits(home: Path, runs: int) -> dict[str, Any]:
    """`memos audit --vault` by one process and by two, in turns; and `memos list`."""
    env = timing.light(MEMOS_HOME=str(home), PYTHONPATH=str(ROOT))
    found: dict[str, list[timing.Run]] = {}
    for lap in range(runs + 1):
        for name, arguments in {
            "audit, 1 job": ["audit", "--vault", "--jobs", "1"], "audit, 2 jobs": ["audit", "--vault", "--jobs", "2"],
            "list": ["list", "-q"],
        }.items():  # fmt: skip
            done = timing.run([*MEMOS, *arguments], env=env)
            if done.code:
                raise SystemExit(done.out)
            if lap:
                found.setdefault(name, []).append(done)
    return {
        name: {"s": Spread.of([run.wall_s for run in runs]), "cpu_s": Spread.of([run.cpu_s for run in runs])}
        for name, runs in found.items()
    }


def first_look(home: Path) -> dict[str, float]:
    """What it takes to make the catalogue of all cubes."""
    from memos_cli.infrastructure import catalogue
    from memos_cli.interface import frame
    from memos_cli.interface.cataloguing import up_to_date

    catalogue.path_of(home).unlink(missing_ok=True)
    begin, cpu = time.perf_counter(), time.process_time()
    found, _ = up_to_date(frame.desk(home))
    told = {"s": time.perf_counter() - begin, "cpu_s": time.process_time() - cpu}
    begin = time.perf_counter()
    up_to_date(frame.desk(home))
    told |= {"again_ms": 1e3 * (time.perf_counter() - begin), "kb": catalogue.path_of(home).stat().st_size / 1e3}
    return {"cubes": len(found.entries), **{name: round(value, 3) for name, value in told.items()}}


def pairs_of(asked: Sequence[Asked], cubes: dict[str, list[Turn]], runs: int) -> list[tuple[str, str]]:
    """Questions, each with one right cube; words of a turn where there are no questions."""
    chance = random.Random(0)
    told = [(one.text, min(one.right)) for one in asked if len(one.right) == 1]
    if not told:
        told = [(rows[len(rows) // 2].text, name) for name, rows in cubes.items()]
    return [chance.choice(told) for _ in range(runs)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cubes", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--audits", type=int, default=5, help="runs of audit and list; 0 for none")
    parser.add_argument("--home", type=Path, help="where the vault is kept; else it is made anew and removed")
    given = parser.parse_args()
    timing.compile_program()
    place = nullcontext(str(given.home)) if given.home else tempfile.TemporaryDirectory()
    with place as folder:
        home = Path(folder)
        cubes = build(home, given.cubes)
        asked = questions(list(cubes))
        pairs = pairs_of(asked, cubes, given.runs)
        look = first_look(home)
        picked = accuracy(home, asked or [Asked(text, frozenset({name})) for text, name in pairs])
        result: dict[str, Any] = {"cubes": len(cubes), "first_look": look, "picked": picked}
        result |= {"commands": commands(home, pairs), "warm": warm(home, pairs)}
        if given.audits:
            result["many"] = audits(home, given.audits)
    timing.table([{"": "first look", **look}])
    timing.table([{"": "picked", **picked}])
    timing.table([{"": name, **result[name]} for name in ("commands", "warm")])
    timing.table([{"": name, **row} for name, row in result.get("many", {}).items()])
    bar = Bar("memos query --vault beside the right cube alone", result["commands"]["ratio"].median, 2.0)
    cpu = Bar("the same in CPU seconds", result["commands"]["cpu_ratio"].median, 2.0)
    timing.finish("vault", result, bars=[bar, cpu])


if __name__ == "__main__":
    main()
