"""What the forked processes do to a cube: one change, changes without end, reads without end."""

from __future__ import annotations

import io
import json
import os
import random
import time
from pathlib import Path
from typing import Any

from memos_cli.interface import api
from memos_cli.interface.results import Memory

LOCK_SECONDS = 120.0


class Journal:
    """What a process says of itself, a line at a time; a line is there whole or not at all."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(self, kind: str, **facts: Any) -> None:
        os.write(self._file, (json.dumps({"kind": kind, **facts}) + "\n").encode())


def read_journal(path: str | Path) -> list[dict[str, Any]]:
    """The lines of a journal; none when nothing was written yet."""
    try:
        return [json.loads(line) for line in Path(path).read_text().splitlines()]
    except FileNotFoundError:
        return []


def add(cube: str, *texts: str) -> None:
    """Makes a memory of each text, in one version."""
    lines = "".join(f"- {text}\n" for text in texts)
    api.ingest(
        cube, ["-"], stdin=io.BytesIO(lines.encode()), format="markdown", embedder="none", lock_timeout=LOCK_SECONDS
    )


def live(cube: str, name: str = "") -> dict[str, Memory]:
    """The memories of a cube that are recalled, by text; those of one writer, when it is named."""
    return {memory.text: memory for memory in api.memories(cube) if memory.text.startswith(name)}


def change(cube: str, verb: str) -> None:
    """One change, that is the same whenever it is made on the same cube."""
    if verb == "ingest":
        add(cube, "a new note", "another new note")
        return
    there = live(cube)
    first = there[min(there)]
    if verb == "edit":
        api.edit(cube, first.id, text=f"{first.text}, as corrected")
    elif verb == "forget":
        api.forget(cube, ids=[first.id])
    elif verb == "purge":
        api.purge(cube, ids=[first.id])
    elif verb == "govern":
        api.govern(cube, ttl_days=9)
    elif verb == "rollback":
        api.rollback(cube, 2)
    elif verb == "reindex":
        api.reindex(cube)
    elif verb == "tidy":
        api.tidy(cube, apply=True, lock_timeout=LOCK_SECONDS)
    elif verb == "gc":
        api.gc(cube, keep=1)
    else:
        api.tag(cube, verb, number=1)


def fuse(first: str, second: str, output: str) -> None:
    """A new cube of two."""
    api.fuse_cubes(first, second, output)


def carry(plan: str, model: str) -> None:
    """Carries out a plan that was written down."""
    api.carry_out(api.kept_plan(plan), model=model, lock_timeout=LOCK_SECONDS)


def write(cube: str, name: str, journal: str, seed: int) -> None:
    """Changes of all kinds to memories of this writer's own, each told before it is made and after."""
    told = Journal(journal)
    chance = random.Random(seed)
    done = 0
    while True:
        mine = live(cube, f"{name} ")
        kinds = ["add", "add", "add", "tag", "gc"] + ["forget", "edit"] * (len(mine) > 3)
        kind = chance.choice(kinds)
        text, fresh = chance.choice(sorted(mine)) if mine else "", f"{name} {seed} {done}"
        done += 1
        told.write("try", op=kind, text=text, fresh=fresh)
        if kind == "add":
            add(cube, fresh)
        elif kind == "edit":
            api.edit(cube, mine[text].id, text=fresh, lock_timeout=LOCK_SECONDS)
        elif kind == "forget":
            api.forget(cube, ids=[mine[text].id], lock_timeout=LOCK_SECONDS)
        elif kind == "gc":
            api.gc(cube, keep=3, lock_timeout=LOCK_SECONDS)
        else:
            api.tag(cube, f"tag-{name}", lock_timeout=LOCK_SECONDS)
        told.write("ack", op=kind, text=text, fresh=fresh)


def write_pairs(cube: str, name: str, journal: str, seconds: float) -> None:
    """Versions that each add two memories, so that half of one is seen."""
    told = Journal(journal)
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        begin = time.monotonic()
        add(cube, f"{name} pair {number} left", f"{name} pair {number} right")
        told.write("wrote", seconds=time.monotonic() - begin, writer=name)
        number += 1


def read_pairs(cube: str, name: str, journal: str, seconds: float) -> None:
    """Reads that must each see both of every pair, as many as the cube says it has, and never fewer than before."""
    told = Journal(journal)
    end, seen = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        begin = time.monotonic()
        try:
            with_number = api.show(cube)
            texts = set(live(cube))
            halves = {text.rpartition(" ")[0] for text in texts}
            torn = [half for half in halves if not {f"{half} left", f"{half} right"} <= texts]
            hits = api.query(cube, f"pair {seen}", k=3, embedder="none").hits
            told.write(
                "read", seconds=time.monotonic() - begin, torn=len(torn) + (len(texts) < max(seen, with_number.live)),
                hits=len(hits), reader=name,
            )  # fmt: skip
            seen = len(texts)
        except BaseException as error:
            told.write("error", message=repr(error))
            raise
