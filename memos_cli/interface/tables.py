"""Cubes whose memories lie in an object store: who may call its address, and moving the memories out and back."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from memos_cli.cube import metadata, pin, sources
from memos_cli.cube.metadata import Memcube
from memos_cli.errors import Damaged, MemosError, Usage
from memos_cli.infrastructure import disk, tables, vault, versions
from memos_cli.interface.seeing import PLAINTEXT

if TYPE_CHECKING:
    from memos_cli.interface.desks import Desk, Notify
    from memos_cli.interface.frame import Changing
    from memos_cli.interface.results import Changed

LOCAL = "local"
_TABLE = "memories.lance"


@contextmanager
def opening(desk: Desk, path: Path, *cubes: Memcube) -> Iterator[None]:
    """Around work on the version at `path`: the addresses that this home let in may be called, and their stores' errors
    are told in our words. Costs nothing where the memories lie in the cube. Raises Damaged for one that has both.
    """
    pins = [cube.plaintext.table for cube in cubes if cube.plaintext.table]
    if not pins:
        yield
        return
    from memos_cli.cube import external

    if cubes[0].plaintext.table and (path / PLAINTEXT / _TABLE).exists():
        raise Damaged(f"{path} names a table elsewhere and has one of its own", hint=f"memos audit {path} --deep")
    for one in pins:
        if tables.is_let_in(desk.home, one.url):
            external.admit(one.url)
    with external.telling(pins[0].url):
        yield


def admit(desk: Desk, url: str) -> str:
    """The URL in its one spelling, which may be called from now on: its owner named it. Raises Usage."""
    from memos_cli.cube import external

    url = pin.check_url(url)
    with disk.guard(desk.home):
        tables.let_in(desk.home, url)
    external.admit(url)
    return url


@contextmanager
def making(desk: Desk, root: Path, url: str) -> Iterator[str]:
    """Around what makes a table at `url` and a version of a cube that pins it: a table that none pins goes again.

    Yields the URL in its one spelling; "" for none.
    """
    if not url:
        yield ""
        return
    from memos_cli.cube import external

    with external.making(lambda made: _may_pin(root, made)):
        yield admit(desk, url)


def _may_pin(root: Path, url: str) -> bool:
    """Whether the current version of a cube pins a table at `url`, for all that can be read of it."""
    if not os.path.lexists(root / versions.CURRENT):
        return False
    try:
        now = metadata.load(root / versions.CURRENT).plaintext.table
    except (MemosError, OSError):
        return True
    return now is not None and now.url == url


def insist_here(cube: Memcube, what: str, *, path: object) -> None:
    """Raises Usage for what can only be done to a table that is part of the cube."""
    if cube.plaintext.table:
        raise Usage(
            f"{what} needs the memories in the cube, and those of {cube.name} lie at {cube.plaintext.table.url}",
            hint=f"memos migrate {path} --table local",
        )


def keep_folder(path: Path, url: str) -> None:
    """Gives a version whose table lies at `url` the files that stay beside it; "" for one that has its own."""
    if not url:
        return
    place = path / PLAINTEXT
    place.mkdir(parents=True, exist_ok=True)
    if not (place / sources.FILE).exists():
        vault.write_bytes(place / sources.FILE, sources.encode({}))


def settle(change: Changing) -> None:
    """Notes in a draft how far its table elsewhere has come, for whoever takes the draft up again."""
    if not change.whole.table.idle and (now := change.whole.table.pinned()):
        note(change.path, change.cube, now)


def note(path: Path, cube: Memcube, table: pin.Pin | None) -> None:
    """Writes into a draft's memcube.toml where its table is now, so that it can be opened again from there."""
    vault.write_bytes(
        path / metadata.FILE, metadata.dumps(replace(cube, plaintext=replace(cube.plaintext, table=table)))
    )


def trust_table(
    cube: str | Path, *, dry_run: bool = False, home: Path | None = None, notify: Notify | None = None
) -> Changed:
    """Lets this home call the address at which a cube says its memories lie. Raises Usage where it names none."""
    from memos_cli.interface import frame
    from memos_cli.interface.results import Changed

    desk = frame.desk(home, notify)
    with frame.reading(desk, cube, "show") as seen:
        named = seen.cube.plaintext.table
        if named is None:
            raise Usage(f"the memories of {cube} lie in the cube itself", hint=f"memos trust {cube}")
        seen.facts |= {"table": "let in", "dry_run": dry_run}
        if not dry_run:
            admit(desk, named.url)
    said = "would be called" if dry_run else "is called from now on"
    return Changed(
        str(cube), "trust", seen.version.number, dry_run, (), f"{named.url} {said} for whoever uses this home"
    )


def move_table(
    cube: str | Path,
    to: str,
    *,
    dry_run: bool = False,
    reason: str = "",
    lock_timeout: float = 10.0,
    home: Path | None = None,
    notify: Notify | None = None,
) -> Changed:
    """Moves the memories of a cube to an empty folder of an object store, or back with `local`, in one new version.

    What was there stays: earlier versions of the cube still read it. Raises Usage when there is a table already.
    """
    from memos_cli.interface import frame
    from memos_cli.interface.results import Changed

    desk = frame.desk(home, notify)
    url = "" if to == LOCAL else pin.check_url(to)
    with frame.trying(desk, cube, "migrate", dry_run=dry_run, reason=reason, lock_timeout=lock_timeout) as seen:
        now = seen.cube.plaintext.table
        _refuse_same(now, url, cube=str(cube))
        place = url or "the cube's own folder"
        if dry_run:
            message = f"{seen.whole.count()} memories would be moved to {place}"
            return Changed(str(cube), "migrate", seen.version.number, True, (), message)
        assert isinstance(seen, frame.Changing)
        with making(desk, seen.root, url):
            rows = _carry(seen, url)
            number = seen.commit({"moved": rows, "to": url or LOCAL}).number
    left = f"; {now.url} keeps its own, for earlier versions of this cube" if now else ""
    return Changed(str(cube), "migrate", number, False, (), f"{rows} memories moved to {place}{left}")


def _refuse_same(now: pin.Pin | None, url: str, *, cube: str) -> None:
    if now and url:
        raise Usage(f"the memories lie at {now.url} already", hint=f"memos migrate {cube} --table local, then there")
    if not now and not url:
        raise Usage(f"the memories of {cube} lie in the cube itself", hint=f"memos migrate {cube} --table s3://...")


def _carry(change: Changing, url: str) -> int:
    """Writes the table of a draft at the other place; its rows."""
    from memos_cli.cube import external, rewriting
    from memos_cli.cube.search import ensure_indexes

    old, place = change.whole.table, change.path / PLAINTEXT
    if not url:
        rows = rewriting.write(old, place)
        note(change.path, change.cube, None)
    else:
        fresh = external.create(url, schema=old.schema)
        rows = rewriting.fill(fresh, old)
        ensure_indexes(fresh)
        note(change.path, change.cube, fresh.pinned())
        shutil.rmtree(place / _TABLE)
        keep_folder(change.path, url)
    change.reopen()
    return rows
