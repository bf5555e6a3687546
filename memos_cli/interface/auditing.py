"""The parts of the verb `audit` that are about the access log: its lines, and checkpoints to compare it with."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from memos_cli.errors import Damaged, NotFound, Usage
from memos_cli.infrastructure import checkpoint as signed
from memos_cli.infrastructure import trail, vault
from memos_cli.interface import frame
from memos_cli.interface.evidence import AccessLine, Checkpointed
from memos_cli.interface.frame import Desk
from memos_cli.operation import audit_log
from memos_cli.operation.findings import Finding


def access_log(
    cube: str | Path,
    *,
    since: str | None = None,
    actor: str | None = None,
    kinds: Collection[str] = (),
    home: Path | None = None,
    notify: frame.Notify | None = None,
) -> Iterator[AccessLine]:
    """Who read, changed, exported or was refused, oldest first; of a cube that was read-only, from this home's own log.

    `since` is a date, a time, or an age such as `7d`; `actor` a user's name, or the start of a key's fingerprint.
    Raises Usage for another kind or time, and, when all lines are out, Damaged for a log whose chain is broken.
    """
    if odd := set(kinds) - set(trail.KINDS):
        raise Usage(f"a line's kind is one of {', '.join(trail.KINDS)}, found {', '.join(sorted(odd))}")
    start = audit_log.moment(since, now=frame.now()) if since else None
    desk = frame.desk(home, notify)
    with frame.reading(desk, cube, "audit") as seen:
        who = actor.removeprefix("ed25519:") if actor and actor.startswith("ed25519:") else actor
        for line in audit_log.lines(
            seen.root, home=desk.home, cube_id=seen.cube.id, since=start, actor=who, kinds=kinds
        ):
            seen.facts["lines"] = int(seen.facts.get("lines", 0)) + 1
            yield line_of(line)
        problem = next(trail.verify(trail.path_of(seen.root)), None)
        if problem and problem.code != "torn":
            raise Damaged(f"the log is not what was written: {problem.message}", hint=f"memos audit {cube}")


def line_of(value: dict[str, Any]) -> AccessLine:
    """A line as it may be shown, whatever stands in it: who can write the folder can write the log."""
    who, facts, memories = value.get("actor"), value.get("facts"), value.get("memories")
    query = value.get("query")
    return AccessLine(
        seq=_number(value.get("seq")),
        time=str(value.get("time", "")),
        actor={str(name): str(said) for name, said in who.items()} if isinstance(who, dict) else {},
        verb=str(value.get("verb", "")),
        kind=audit_log.kind_of(value),
        version=_number(value.get("version")),
        memories=tuple(map(str, memories)) if isinstance(memories, list) else (),
        count=_number(value.get("count")),
        outcome=str(value.get("outcome", "")),
        query=None if query is None else str(query),
        facts=facts if isinstance(facts, dict) else {},
        hash=str(value.get("hash", "")),
    )


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else -1


def checkpoint(
    cube: str | Path, path: str | Path, *, home: Path | None = None, notify: frame.Notify | None = None
) -> tuple[Checkpointed, str]:
    """Writes a signed checkpoint of the cube and its log to `path`, or for `-` gives its text alone.

    Raises Usage for a place inside the cube: who changes the one would change the other.
    """
    desk = frame.desk(home, notify)
    with frame.reading(desk, cube, "audit") as seen:
        if str(path) != "-" and Path(path).resolve().is_relative_to(seen.root.resolve()):
            raise Usage(f"a checkpoint is kept outside the cube, found {path}", hint="--checkpoint ../checkpoint.json")
        made = signed.make(seen.root, home=desk.home)
        text = signed.encode(made)
        if str(path) != "-":
            vault.write_bytes(Path(path), text, durable=True)
        seen.facts |= {"checkpoint": made.lines}
        said = {name: value for name, value in asdict(made).items() if name in Checkpointed.__slots__}
        return Checkpointed(cube=str(cube), path=str(path), **said), text.decode()


def compare(desk: Desk, root: Path, path: str | Path, *, owner: str | None) -> list[Finding]:
    """What the checkpoint at `path` says of the cube at `root`. Raises NotFound, Damaged when it is none."""
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"no checkpoint at {path}", hint=f"memos audit {root} --checkpoint {path} writes one") from error
    trusted = {desk.actor.key, owner or desk.actor.key}
    before = signed.decode(data, place=str(path))
    return list(audit_log.against(root, before, trusted=trusted, place=str(path)))
