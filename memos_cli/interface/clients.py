"""The verbs of the Memory API about clients: who may reach this home through `memos serve` and `memos mcp`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from memos_cli.infrastructure import clients as known
from memos_cli.infrastructure import door
from memos_cli.infrastructure.clients import Client
from memos_cli.interface import frame
from memos_cli.interface.auditing import line_of
from memos_cli.interface.evidence import AccessLine
from memos_cli.interface.shared import ClientInfo
from memos_cli.operation import audit_log


def new_client(
    name: str,
    *,
    may: Sequence[str] = ("read",),
    cubes: Sequence[str] = (),
    at_most: str = "",
    ttl_days: int | None = None,
    dry_run: bool = False,
    home: Path | None = None,
) -> ClientInfo:
    """A client with these bounds and a new key, which is told this once. Raises Usage for a name that is taken.

    `may` are verbs or kinds of verbs, `cubes` names of cubes or `*`, `at_most` the highest label it may see (by
    default what may go to a model elsewhere).
    """
    desk = frame.desk(home)
    client = known.bounded(name, may=may, cubes=cubes, at_most=at_most, ttl_days=ttl_days)
    if dry_run:
        known.check_new(desk.home, client.name)
        return _info(client)
    kept, key = known.add(desk.home, client)
    return _info(kept, key=key)


def list_clients(*, home: Path | None = None) -> list[ClientInfo]:
    """The clients of this home, by name."""
    return [_info(client) for client in known.load(frame.desk(home).home)]


def revoke_client(name: str, *, dry_run: bool = False, home: Path | None = None) -> ClientInfo:
    """Takes the key of a client away: what it asks from now on is refused. Raises NotFound."""
    return _info(known.remove(frame.desk(home).home, name, dry_run=dry_run))


def door_log(*, since: str | None = None, client: str | None = None, home: Path | None = None) -> Iterator[AccessLine]:
    """Who was turned away before any cube was opened, oldest first: no key, a wrong one, or a cube out of bounds.

    `since` is a date, a time, or an age such as `7d`. What clients did stands in the log of each cube.
    """
    desk = frame.desk(home)
    start = audit_log.moment(since, now=frame.now()) if since else None
    for line in door.entries(desk.home):
        if audit_log.is_wanted(line, since=start, actor=client, kinds=()):
            yield line_of(line)


def _info(client: Client, *, key: str | None = None) -> ClientInfo:
    return ClientInfo(
        client.name, client.may, client.cubes, client.at_most, client.made, client.expires,
        client.is_over(datetime.now(UTC)), key,
    )  # fmt: skip
