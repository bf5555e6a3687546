"""The verbs of the Memory API that only look: list, show, log, diff, audit. Each passes the frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memos_cli.cube import filters, metadata
from memos_cli.errors import Damaged, MemosError, NotAllowed, NotFound
from memos_cli.infrastructure import vault
from memos_cli.interface import frame, seeing
from memos_cli.interface.changes import find_memory
from memos_cli.interface.engines import HERE_ALONE, Engine
from memos_cli.interface.frame import HERE, Desk, Reading
from memos_cli.interface.linked import changed_links, linked
from memos_cli.interface.results import (
    AdapterInfo,
    CubeInfo,
    Differed,
    FormChange,
    LogEntry,
    Memory,
    MemoryEvent,
    RowChange,
)
from memos_cli.interface.rights import line_of, may_of
from memos_cli.interface.rows import SHOWN, memory, place_of
from memos_cli.interface.taught import open_adapters
from memos_cli.interface.tidied import StoodFor
from memos_cli.operation.absorbed import behind

if TYPE_CHECKING:
    from memos_cli.cube.plaintext import Memories
    from memos_cli.operation.findings import Audit

# Columns whose change is news to a person; places and search texts move with every edit of a file.
_COMPARED = (
    "text", "kind", "type", "topic", "tags", "source", "section", "speaker", "time", "state", "valid_to",
    "true_from", "true_to", "superseded_by", "owner", "read_scope", "write_scope", "share_scope", "sensitivity",
    "priority", "expires_at", "legal_hold", "compliance", "decay_days",
)  # fmt: skip
_PLACE = ("page", "line_start", "line_end", "turn", "session")


def cubes(*, home: Path | None = None, notify: frame.Notify | None = None) -> Iterator[CubeInfo]:
    """The cubes under the home that the actor may see; one that is damaged is told to `notify` and left out."""
    desk = frame.desk(home, notify)
    for path in desk.cubes():
        try:
            with frame.reading(desk, path, "list") as seen:
                yield _info(seen)
        except MemosError as error:
            desk.notify(f"{path.name} is left out: {error.message}")


def show(
    cube: str | Path, *, version: int | None = None, home: Path | None = None, notify: frame.Notify | None = None
) -> CubeInfo:
    """What a cube says of itself, as of a version, with its adapters."""
    with frame.reading(frame.desk(home, notify), cube, "show", version=version) as seen:
        return replace(_info(seen), adapters=tuple(_adapters(seen)))


def show_memory(
    cube: str | Path,
    identity: str,
    *,
    version: int | None = None,
    to: str = HERE,
    home: Path | None = None,
    notify: frame.Notify | None = None,
) -> Memory:
    """One memory by id, or by the start of its id. Raises NotFound, Usage, NotAllowed for one that is over."""
    with frame.reading(frame.desk(home, notify), cube, "show", version=version, to=to) as seen:
        seen.tell_bound()
        row = find_memory(seen, identity, cube=str(cube))
        seen.touched.append(row["id"])
        if row["state"] == "expired" or (row["expires_at"] is not None and row["expires_at"] <= frame.now()):
            raise NotAllowed(
                f"memory {row['id']} has outlived its time", hint=f"memos edit {cube} {row['id']} --ttl DAYS"
            )
        seeing.shown_links(seen.memories, [row])
        return replace(memory(row), stands_for=tuple(_stood_for(seen, row["id"])), links=linked(seen, row["id"]))


def _stood_for(seen: Reading, identity: str) -> Iterator[StoodFor]:
    """What was archived for a memory, as far as it may be seen and is not over."""
    shown = seen.memories.narrowed(seeing.alive(frame.now()))
    names = ("id", "superseded_as", "text", "source", "page", "line_start", "line_end", "turn", "session")
    for row in shown.take(behind(shown, [identity]), columns=names).to_pylist():
        yield StoodFor(row["id"], row["superseded_as"], place_of(row), row["text"])


def memories(
    cube: str | Path,
    *,
    where: str = "",
    limit: int | None = None,
    everything: bool = False,
    version: int | None = None,
    to: str = HERE,
    home: Path | None = None,
    notify: frame.Notify | None = None,
) -> Iterator[Memory]:
    """The memories of a cube that are recalled now, or with `everything` all rows; in table order, in batches.

    What has outlived its time is listed for the owner alone, who looks after it.
    """
    from memos_cli.cube.plaintext import both, live_at

    condition = filters.to_sql(filters.parse(where))
    with frame.reading(frame.desk(home, notify), cube, "list", version=version, to=to) as seen:
        seen.tell_bound()
        time = (seeing.alive(frame.now()) if not seen.owns else "") if everything else live_at(frame.now())
        count = 0
        for rows in seen.memories.batches(both(time, condition), columns=SHOWN, limit=limit):
            seeing.shown_links(seen.memories, rows)
            count += len(rows)
            yield from map(memory, rows)
        seen.facts["memories"] = count


def log(
    cube: str | Path, *, limit: int | None = None, home: Path | None = None, notify: frame.Notify | None = None
) -> list[LogEntry]:
    """The versions of a cube, newest first: who made each, when, how and why.

    What each did is told in numbers to those alone who see all of it, for the numbers count what is hidden too.
    """
    with frame.reading(frame.desk(home, notify), cube, "log") as seen:
        names: dict[int, list[str]] = {}
        for name, number in vault.tags(seen.root).items():
            names.setdefault(number, []).append(name)
        entries = []
        for version in vault.versions(seen.root)[:limit]:
            manifest = version.manifest
            entries.append(
                LogEntry(
                    version.number,
                    version.digest,
                    manifest.parent,
                    manifest.operation,
                    dict(manifest.actor),
                    manifest.time,
                    manifest.reason,
                    dict(manifest.summary) if _sees_all(seen, version) else {},
                    tuple(names.get(version.number, ())),
                )  # fmt: skip
            )
        return entries


def _sees_all(seen: Reading, version: vault.Version) -> bool:
    """Whether the actor may see every memory of a version that is kept; a damaged one is told to the owner alone."""
    try:
        cube = metadata.load(version.path)
    except MemosError:
        return seen.owns
    rules = seeing.sight_of(seen.desk.actor, "log", seen.rules, cube, policy=seen.desk.policy)
    return not (rules.condition or seen.handed) or seen.owns


def memory_log(
    cube: str | Path,
    identity: str,
    *,
    to: str = HERE,
    home: Path | None = None,
    notify: frame.Notify | None = None,
) -> list[MemoryEvent]:
    """What happened to a memory and to those it supersedes or is superseded by, oldest first.

    Follows the chain through every version that is kept; what happened before the oldest of them is told by it.
    """
    with frame.reading(frame.desk(home, notify), cube, "log", to=to) as seen:
        row = find_memory(seen, identity, cube=str(cube))
        chain = _chain(seen, row)
        seen.touched += chain
        events = _follow(seen, chain)
        over = set(chain) - set(
            seen.memories.narrowed(seeing.alive(frame.now())).take(chain, columns=["id"])["id"].to_pylist()
        )
        return [replace(event, text="") if event.id in over else event for event in events]


def _chain(seen: Reading, row: dict[str, Any]) -> list[str]:
    """Ids from the first of a memory's line to the last."""
    ids = [str(row["id"])]
    for direction, end in (("supersedes", 0), ("superseded_by", len(ids))):
        at = row
        while at[direction] and at[direction] not in ids:
            rows = seen.memories.take([at[direction]], columns=["id", "supersedes", "superseded_by"]).to_pylist()
            if not rows:
                break
            at = rows[0]
            ids.insert(0 if end == 0 else len(ids), at["id"])
    return [*(each for each in behind(seen.memories, ids) if each not in ids), *ids]


def _follow(seen: Reading, chain: list[str]) -> list[MemoryEvent]:
    events: list[MemoryEvent] = []
    before: dict[str, dict[str, Any]] = {}
    for version in reversed(vault.versions(seen.root)):
        with vault.snapshot(seen.root, version.number) as snapshot:
            after = _rows_of(snapshot.path, chain)
        for identity in chain:
            event = _event(before.get(identity), after.get(identity), chain)
            row = after.get(identity) or before.get(identity)
            if event and row:
                manifest = version.manifest
                events.append(
                    MemoryEvent(
                        version.number, manifest.operation, manifest.time, identity, event, row["text"], row["state"]
                    )
                )
        before = after
    return events


def _rows_of(path: Path, ids: list[str]) -> dict[str, dict[str, Any]]:
    from memos_cli.cube.plaintext import Memories

    columns = list(dict.fromkeys(("id", *_COMPARED)))
    return {row["id"]: row for row in Memories.open(path / frame.PLAINTEXT).take(ids, columns=columns).to_pylist()}


def _event(before: dict[str, Any] | None, after: dict[str, Any] | None, chain: list[str]) -> str:
    if before is None or after is None:
        return "" if before is after else "added" if after else "absent"
    changed = [name for name in _COMPARED if before[name] != after[name]]
    if not changed:
        return ""
    if after["superseded_by"] and not before["superseded_by"]:
        return f"superseded by {after['superseded_by']}" if after["superseded_by"] in chain else "superseded"
    if after["state"] != before["state"]:
        return str(after["state"])
    return "changed: " + ", ".join(changed)


def diff(
    cube: str | Path,
    old: int,
    new: int | None = None,
    *,
    to: str = HERE,
    home: Path | None = None,
    notify: frame.Notify | None = None,
) -> Differed:
    """What changed between two versions (default: up to the current one): rows, metadata and files."""
    desk = frame.desk(home, notify)
    with (
        frame.reading(desk, cube, "diff", version=new, to=to) as after,
        vault.snapshot(after.root, old) as before,
    ):
        files = digest_diff(before.version, after.version)
        earlier = metadata.load(before.path)
        links_added, links_removed = changed_links(before.path, after.path)
        whole = _sees_all(after, before.version) and _sees_all(after, after.version)
        return Differed(
            cube=str(cube),
            old=before.version.number,
            new=after.version.number,
            rows=tuple(_row_changes(_earlier(after, before, earlier), after.memories)),
            metadata=tuple(_metadata_changes(earlier, after.cube, counts=whole)),
            forms=_form_changes(files, before, after) if whole else (),
            links_added=links_added if whole else 0,
            links_removed=links_removed if whole else 0,
            files_added=len(files.added),
            files_removed=len(files.removed),
            bytes_added=sum(entry.size for entry in files.added),
            bytes_removed=sum(entry.size for entry in files.removed),
        )


def _form_changes(files: Any, before: vault.Snapshot, after: Reading) -> tuple[FormChange, ...]:
    """What differs in caches and adapters; of caches, those of memories that may be seen in one of the two."""
    from memos_cli.operation import differing

    ids = differing.memories_of(files)
    shown = set(after.memories.take(ids, columns=["id"])["id"].to_pylist()) if ids else set()
    shown |= {row["id"] for row in _rows_of(before.path, sorted(ids)).values()} if ids else set()
    changes = differing.forms(files, before.version.manifest, after.version.manifest, shown=shown)
    return tuple(FormChange(*one) for one in changes)


def digest_diff(old: vault.Version, new: vault.Version) -> Any:
    """The difference of two manifests."""
    from memos_cli.cube import digest

    return digest.diff(old.manifest, new.manifest)


def _earlier(seen: Reading, before: vault.Snapshot, cube: metadata.Memcube) -> Memories:
    """The table of an earlier version, as if it had no memories but those that may be seen of it now."""
    past = replace(seen, cube=cube, version=before.version, path=before.path)
    past.reopen()
    past.closed = frame.closed_since(past)
    return past.memories


def _row_changes(before: Memories, after: Memories) -> Iterator[RowChange]:
    columns = list(dict.fromkeys(("id", *_COMPARED, *_PLACE)))
    shown = seeing.alive(frame.now())
    old = {row["id"]: row for row in before.rows(shown, columns=columns).to_pylist()}
    for row in after.rows(shown, columns=columns).to_pylist():
        was = old.pop(row["id"], None)
        changed = tuple(name for name in _COMPARED if was is not None and was[name] != row[name])
        if was is None:
            yield RowChange("added", row["id"], (), "", row["text"], place_of(row))
        elif changed:
            yield RowChange("changed", row["id"], changed, was["text"], row["text"], place_of(row))
    for row in old.values():
        yield RowChange("removed", row["id"], (), row["text"], "", place_of(row))


def _metadata_changes(old: metadata.Memcube, new: metadata.Memcube, *, counts: bool) -> Iterator[str]:
    """What differs; without `counts` not how many memories there are, for these count what is hidden too."""
    before, after = asdict(old), asdict(new)
    for table in sorted(after):
        if table in ("plaintext", "activation") and not counts:
            continue
        if table != "updated" and before[table] != after[table]:
            yield f"{table}: {_short(before[table], after[table])}"


def _short(old: Any, new: Any) -> str:
    if isinstance(old, dict) and isinstance(new, dict):
        return ", ".join(f"{key} {old[key]} -> {new[key]}" for key in new if old.get(key) != new[key])
    return f"{old} -> {new}"


def audit(
    cube: str | Path,
    *,
    deep: bool = False,
    against: str | Path | None = None,
    policy: str | Path | None = None,
    tests: str | Path | None = None,
    update_baseline: bool = False,
    secrets: bool = False,
    pii: bool = False,
    model: str | None = None,
    report: str | Path | None = None,
    engine: Engine = HERE_ALONE,
    home: Path | None = None,
    notify: frame.Notify | None = None,
) -> Audit:
    """Checks a cube; the findings have place and remedy. A cube too damaged to be opened is audited all the same.

    `against` is a checkpoint kept elsewhere, `policy` a file of rules, `tests` one of memory tests, whose baseline
    `update_baseline` writes; `secrets` and `pii` look for what should not be in a memory; `model` answers the tests;
    `report` is where a page is written, `engine` where files are hashed. Raises NotFound, Damaged, Usage, MissingExtra.
    """
    from memos_cli.interface import checking, reporting
    from memos_cli.operation import audit as operation

    desk = frame.desk(home, notify)
    checking.refuse_lone_baseline(tests, update_baseline)
    page = checking.place_for(report, desk.path(cube)) if report else None
    checks = checking.Checks.of(deep=deep, policy=policy, tests=tests, secrets=secrets, pii=pii, model=model)
    opened = False
    try:
        with frame.reading(desk, cube, "audit") as seen:
            opened = True
            result = operation.audit(seen.root, deep=deep, hashes=checking.hashes(engine, seen, deep=deep))
            result = _compared(result, desk, seen.root, against, owner=seen.cube.governance.owner)
            result = checking.look(checks, seen, result, cube=cube)
            if tests and not result.damaged:
                result = checking.test(checks, result, cube, tests=tests, update_baseline=update_baseline, desk=desk)
            seen.facts["findings"] = len(result.findings)
            return reporting.write(page, result, cube=cube, seen=seen) if page else result
    except MemosError as error:
        if opened or not _damaged(desk, cube, error):
            raise
    result = _compared(operation.audit(desk.path(cube), deep=deep), desk, desk.path(cube), against, owner=None)
    return reporting.write(page, result, cube=cube, seen=None) if page else result


def _compared(result: Audit, desk: Desk, root: Path, against: str | Path | None, *, owner: str | None) -> Audit:
    """An audit with what a checkpoint adds to it."""
    if against is None:
        return result
    from memos_cli.interface.auditing import compare

    return result.with_more(compare(desk, root, against, owner=owner))


def _damaged(desk: Desk, cube: str | Path, error: MemosError) -> bool:
    """Whether opening failed on a cube that is there: its audit tells what is wrong, and tells no client, for nothing
    says any more what of it they may see."""
    root = desk.path(cube)
    there = root.is_dir() and any((root / part).exists() for part in ("versions", "current"))
    return isinstance(error, Damaged | NotFound) and desk.actor.client is None and there


def _adapters(seen: Reading) -> Iterator[AdapterInfo]:
    """The adapters of a version that the actor may use; one that cannot be read is told as damaged."""
    from memos_cli.cube import parameter

    folder, opened = seen.path / parameter.FOLDER, open_adapters(seen)
    for name in parameter.names(folder):
        if opened is not None and name not in opened:
            continue
        try:
            one = parameter.read(folder, name)
        except MemosError as error:
            yield AdapterInfo(name, "", "", 0, 0, 0, (), False, "damaged", error.message, "", "", None, None)
            continue
        about, rights = one.about, one.about.rights
        yield AdapterInfo(
            name=name, kind=about.kind, model=about.base.name, rank=one.weights.rank, bytes=one.bytes,
            memories=len(one.memory_ids), requires=tuple(each.partition("@")[0] for each in about.requires),
            gated=about.gated, state=about.state, reason=about.reason, sensitivity=rights.sensitivity,
            licence=rights.licence, expires=rights.expires, made_at=about.made_at,
        )  # fmt: skip


def _info(seen: Reading) -> CubeInfo:
    cube, rules = seen.cube, seen.said.governance
    embedder = cube.plaintext.embedder
    memories, live, sources = _counts(seen)
    return CubeInfo(
        name=cube.name, path=seen.desk.told(seen.root), id=cube.id, version=cube.version, number=seen.version.number,
        digest=seen.version.digest, description=cube.description, licence=cube.licence, owner=rules.owner,
        sensitivity=rules.sensitivity, read_scope=rules.read_scope, write_scope=rules.write_scope,
        share_scope=rules.share_scope, may=may_of(seen), rules=tuple(map(line_of, seen.rules.access.rules)),
        maximum=dict(seen.rules.access.maximum), ttl_days=rules.ttl_days, decay_days=rules.decay_days,
        legal_hold=rules.legal_hold, frozen=rules.frozen, forms=cube.forms, memories=memories, live=live,
        sources=sources, embedder=embedder.label if embedder else None,
        size_bytes=seen.version.manifest.size_bytes, created=cube.created, updated=cube.updated,
        versions=vault.count_versions(seen.root), tags=vault.tags(seen.root),
        made_for=cube.stamp.label if cube.stamp else "",
        table=f"{cube.plaintext.table.url} version {cube.plaintext.table.version}" if cube.plaintext.table else "",
    )  # fmt: skip


def _counts(seen: Reading) -> tuple[int, int, int]:
    """How many memories, live ones and sources the actor may see."""
    counts = seen.cube.plaintext
    if not seen.shown:
        return counts.memories, counts.live, counts.sources
    from memos_cli.cube.plaintext import LIVE

    return seen.memories.count(), seen.memories.count(LIVE), len(seen.memories.uris())
