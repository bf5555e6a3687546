"""The verbs of the Memory API that change a cube, besides ingest. Each passes the frame and makes one version."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from memos_cli.cube import filters, metadata
from memos_cli.cube.metadata import EmbedderIdentity, Governance, Plaintext
from memos_cli.cube.scopes import GUARDS, canonical, rank, within
from memos_cli.errors import MemosError, NotAllowed, NotFound, Usage
from memos_cli.infrastructure import vault
from memos_cli.interface import embedding, engines, frame, tables, tidying
from memos_cli.interface.engines import HERE_ALONE, Engine, Opened
from memos_cli.interface.frame import PLAINTEXT, Changing, Desk
from memos_cli.interface.results import Changed, Collected, Created
from memos_cli.operation import lifecycle, mentioning
from memos_cli.operation.absorbed import absorbed_by
from memos_cli.operation.doomed import about
from memos_cli.operation.rewindow import rewindow

Progress = Callable[[int, int | None, str], None]


def make(
    desk: Desk,
    root: Path,
    *,
    name: str | None = None,
    description: str = "",
    licence: str = "",
    sensitivity: str = "internal",
    scopes: Mapping[str, str | None] | None = None,
    embedder: str | None = None,
    table: str = "",
) -> vault.Version:
    """A new, empty cube at `root`, owned by who asks; its memories will lie at the URL `table`, if one is given."""
    owner = Governance(owner=desk.actor.key, owner_user=desk.actor.user, sensitivity=sensitivity)
    owner = metadata.scoped(owner, **(scopes or {}))
    encoder = embedding.open_embedder(desk, embedder or embedding.DEFAULT)
    meta = metadata.new(name or stem(root), governance=owner, description=description, licence=licence)
    meta = replace(meta, plaintext=Plaintext(embedder=embedding.identity_of(encoder)))
    with tables.making(desk, root, table) as url:
        return frame.create(desk, root, meta, url=url)


def init(
    cube: str | Path,
    *,
    name: str | None = None,
    description: str = "",
    licence: str = "",
    sensitivity: str | None = None,
    read_scope: str | None = None,
    write_scope: str | None = None,
    share_scope: str | None = None,
    embedder: str | None = None,
    source: str | Path | None = None,
    table: str = "",
    home: Path | None = None,
    notify: frame.Notify | None = None,
) -> Created:
    """An empty cube, or with `source` a copy of another cube's current version that is yours to change.

    `sensitivity` is `internal` by default, or the copied cube's; a copy may have a stricter one. Scopes are
    `owner`, `anyone` or a key; a copy is not shared with more than the cube was. With `table`, the URL of an empty
    folder in an object store, the memories lie there. Raises Usage when something is there already or the name is
    not one, NotAllowed for a copy under a lower label or a wider share scope.
    """
    desk = frame.desk(home, notify)
    root = desk.path(cube)
    scopes = {"read": read_scope, "write": write_scope, "share": share_scope}
    if source is None:
        version = make(
            desk, root, name=name, description=description, licence=licence, sensitivity=sensitivity or "internal",
            scopes=scopes, embedder=embedder, table=table,
        )  # fmt: skip
    elif table:
        raise Usage("a copy begins with the memories of its cube", hint=f"memos migrate {cube} --table URL, after it")
    else:
        version = _fork(
            desk, root, source, name=name, description=description, licence=licence, sensitivity=sensitivity,
            scopes=scopes, embedder=embedder,
        )  # fmt: skip
    meta = metadata.load(version.path)
    return Created(meta.name, str(root), meta.id, version.number, version.digest)


def _fork(
    desk: Desk,
    root: Path,
    source: str | Path,
    *,
    name: str | None,
    description: str,
    licence: str,
    sensitivity: str | None,
    scopes: Mapping[str, str | None],
    embedder: str | None,
) -> vault.Version:
    with frame.reading(desk, source, "fork") as seen:
        old = seen.cube
        label = _label_of_copy(old, sensitivity)
        if embedder not in (None, embedding.spec_of(old.plaintext.embedder)):
            desk.notify(f"the copy keeps its vectors; for others: memos reindex {root} --embedder {embedder}")
        most = old.governance.share_scope
        if scopes["share"] is not None and not within(canonical(scopes["share"]), most):
            raise NotAllowed(f"a copy of {old.name} is shared with {most} at most")
        owner = replace(old.governance, owner=desk.actor.key, owner_user=desk.actor.user, sensitivity=label)
        owner = metadata.scoped(owner, **scopes)
        fresh = metadata.new(
            name or stem(root), governance=owner, description=description or old.description,
            licence=licence or old.licence,
        )  # fmt: skip
        fresh = replace(
            fresh, version=old.version, policy=old.policy, plaintext=old.plaintext, activation=old.activation,
            parameter=old.parameter, access=old.access, stamp=old.stamp,
            created=old.created if old.governance.ttl_days else fresh.created,
        )  # fmt: skip
        return frame.copy(desk, root, fresh, seen, reason=f"copied from {old.name} version {seen.version.number}")


def _label_of_copy(old: metadata.Memcube, asked: str | None) -> str:
    level = old.governance.sensitivity
    if asked is None or metadata.check_sensitivity(asked) == level:
        return level
    if rank(asked) < rank(level):
        raise NotAllowed(f"{old.name} is {level}, and a copy is not less: found --sensitivity {asked}")
    return asked


def forget(
    cube: str | Path,
    *,
    ids: Sequence[str] = (),
    where: str | None = None,
    subject: str | None = None,
    dry_run: bool = False,
    reason: str = "",
    lock_timeout: float = 10.0,
    home: Path | None = None,
    notify: frame.Notify | None = None,
) -> Changed:
    """Hides memories from every query, of any time. Their text stays in the files until `purge` takes it out of them.

    They are named by `ids`, by a filter, or by a `subject`: all that name it in their text, heading, title or topic.

    What they superseded is not hidden with them, for it may say something else: `notify` is told what it is. Raises
    NotFound when an id is not there or the filter matches nothing, Usage when neither is given.
    """
    desk = frame.desk(home, notify)
    check_choice(cube, ids, where, subject)
    condition = filters.to_sql(filters.parse(where)) if where else ""
    with frame.trying(desk, cube, "forget", dry_run=dry_run, reason=reason, lock_timeout=lock_timeout) as seen:
        chosen = _chosen(seen, ids, condition, subject, cube=str(cube))
        doomed = list(chosen)
        seen.touched += doomed
        check_loss(seen, doomed)
        for state in set(chosen.values()):
            lifecycle.move(state, lifecycle.FORGOTTEN)
        if earlier := earlier_wordings(seen, chosen):
            desk.notify(
                f"{len(earlier)} earlier wordings are still found as of a past time; to hide them too: "
                f"memos forget {cube} --ids {','.join(earlier)}"
            )
        message = f"{len(doomed)} memories hidden; their text stays in the files of this cube until it is purged"
        if dry_run:
            return Changed(str(cube), "forget", seen.version.number, True, tuple(doomed), "nothing was changed")
        assert isinstance(seen, Changing)
        seen.memories.change(doomed, state=lifecycle.FORGOTTEN, updated_at=frame.now())
        uris = seen.memories.take(doomed, columns=["source"])["source"].to_pylist()
        encoder = embedding.for_cube(desk, seen.memories.embedder, spec=None, cube=str(cube))
        rewindow(seen.whole, uris, embedder=encoder)
        number = seen.commit({"forgotten": len(doomed)}).number
        return Changed(str(cube), "forget", number, False, tuple(doomed), message)


def check_choice(cube: str | Path, ids: Sequence[str], where: str | None, subject: str | None) -> None:
    """Raises Usage unless memories are named in exactly one way."""
    if sum(map(bool, (ids, where and where.strip(), subject and subject.strip()))) != 1:
        raise Usage("say which memories: one of --ids, --where and --subject", hint=f"memos forget {cube} --ids ID")


def check_loss(seen: frame.Reading, ids: Sequence[str]) -> None:
    """Raises NotAllowed, naming the rule, when one of these memories is not the actor's to hide, end or remove.

    Every verb that loses memory asks this first: scopes and rules of writing, frozen memories, and legal holds.
    """
    rows = seen.whole.take(ids, columns=["id", "state", "legal_hold", *GUARDS]).to_pylist()
    if len(rows) > seen.memories.take(ids, columns=["id"]).num_rows:
        raise NotAllowed("what was made of these memories is not all yours to forget", hint="ask the owner of the cube")
    seen.check(rows)
    for row in rows:
        lifecycle.check_loss(row)


def _chosen(
    seen: frame.Reading, ids: Sequence[str], condition: str, subject: str | None, *, cube: str
) -> dict[str, str]:
    """Id to state of the memories that are meant."""
    if subject:
        named = seen.memories.take(about(seen.memories, subject), columns=["id", "state"]).to_pylist()
        rows = [row for row in named if row["state"] != lifecycle.FORGOTTEN]
        if not rows:
            raise NotFound(f"no memory names {subject!r}", hint=f"memos query {cube} {subject!r}")
    elif ids:
        rows = [live_memory(seen, memory, cube=cube, superseded=True) for memory in dict.fromkeys(ids)]
    else:
        where = f"state != '{lifecycle.FORGOTTEN}' and ({condition})"
        rows = seen.memories.rows(where, columns=["id", "state"]).to_pylist()
        if not rows:
            raise NotFound("no memory matches the filter", hint=f"memos list {cube} --where 'field=value'")
    return {row["id"]: row["state"] for row in rows}


def earlier_wordings(seen: frame.Reading, ids: Iterable[str]) -> list[str]:
    """Ids of what these memories superseded or stand for, step by step, and what is not hidden."""
    known, found = set(ids), []
    after = list(known)
    while after:
        heirs = seen.memories.take(after, columns=["id", "supersedes"])["supersedes"].to_pylist()
        before = {old for old in heirs if old} | absorbed_by(seen.memories, after).keys()
        rows = seen.memories.take(before - known, columns=["id", "state"]).to_pylist()
        after = [row["id"] for row in rows]
        found += [row["id"] for row in rows if row["state"] != lifecycle.FORGOTTEN]
        known |= set(after)
    return found


def live_memory(seen: frame.Reading, memory: str, *, cube: str, superseded: bool = False) -> dict[str, Any]:
    """The row of a memory by id or by the start of one (at least 4 digits)."""
    row = find_memory(seen, memory, cube=cube)
    if row["state"] == "forgotten" or (row["valid_to"] is not None and not superseded):
        heir = seen.memories.take([row["superseded_by"]], columns=["id"])["id"].to_pylist()
        state = "forgotten" if row["state"] == "forgotten" else f"superseded by {(heir or ['nothing'])[0]}"
        raise NotFound(f"memory {row['id']} is {state}", hint=f"memos log {cube} --memory {row['id']}")
    return row


def find_memory(seen: frame.Reading, memory: str, *, cube: str) -> dict[str, Any]:
    """The row with this id, or the only one whose id begins so. Raises NotFound, Usage when several do."""
    if len(memory) < 4 or not all(letter in "0123456789abcdef" for letter in memory):
        raise Usage(f"a memory's id is 20 hex digits (at least the first 4), found {memory[:40]!r}")
    rows = seen.memories.rows(f"id like '{memory}%'", limit=2).to_pylist()
    if not rows:
        raise NotFound(f"no memory {memory} in {cube}", hint=f"memos list {cube}")
    if len(rows) > 1:
        raise Usage(f"several memories begin with {memory}", hint="give more digits of the id")
    return dict(rows[0])


def tag(
    cube: str | Path,
    name: str,
    *,
    number: int | None = None,
    delete: bool = False,
    dry_run: bool = False,
    lock_timeout: float = 10.0,
    home: Path | None = None,
    notify: frame.Notify | None = None,
) -> Changed:
    """Names a version (default the current one), which keeps it from being swept; `delete` takes the name away."""
    desk = frame.desk(home, notify)
    vault.check_tag(name)
    with frame.reading(desk, cube, "tag", version=number) as seen:
        seen.facts |= {"tag": name, "dry_run": dry_run}
        at = seen.version.number
        if delete and name not in vault.tags(seen.root):
            raise NotFound(f"no tag {name!r} in {cube}", hint=f"memos show {cube}")
        if not dry_run and delete:
            vault.untag(seen.root, name, lock_timeout=lock_timeout)
        elif not dry_run:
            vault.tag(seen.root, name, at, lock_timeout=lock_timeout)
    message = f"no version is tagged {name} any more" if delete else f"version {at} is tagged {name}"
    return Changed(str(cube), "tag", at, dry_run, (), "nothing was changed" if dry_run else message)


def gc(
    cube: str | Path,
    *,
    keep: int | None = None,
    prune_days: float | None = None,
    dry_run: bool = False,
    lock_timeout: float = 10.0,
    home: Path | None = None,
    notify: frame.Notify | None = None,
) -> Collected:
    """Marks what has ended as expired, and removes old versions but the newest `keep` (default: the cube's policy) and
    the tagged; spares what is read. With `prune_days` the memories go too that ended so long ago (see `tidying`)."""
    desk = frame.desk(home, notify)
    if keep is not None and keep < 1:
        raise Usage(f"at least one version is kept, found --keep {keep}")
    over = () if dry_run else _expire(desk, cube, keep=keep, lock_timeout=lock_timeout)
    pruned: tuple[str, ...] = ()
    if prune_days is not None:
        pruned = tidying.prune(desk, cube, days=prune_days, dry_run=dry_run, lock_timeout=lock_timeout)
    with frame.reading(desk, cube, "gc") as seen:
        seen.facts["dry_run"] = dry_run
        over = tuple(one.id for one in tidying.due_in(seen)) if dry_run else over
        keep = seen.cube.policy.keep_versions if keep is None else keep
        swept = vault.sweep(seen.root, keep=keep, dry_run=dry_run, lock_timeout=lock_timeout)
        kept = tuple(version.number for version in vault.versions(seen.root) if version.number not in swept.removed)
        return Collected(str(cube), dry_run, swept.removed, kept, swept.held, swept.bytes, over, pruned)


def _expire(desk: Desk, cube: str | Path, *, keep: int | None, lock_timeout: float) -> tuple[str, ...]:
    """Marks what has ended. On a full disk old versions go first, and nothing is written where nothing has ended."""
    with frame.reading(desk, cube, "gc") as seen:
        seen.facts["dry_run"] = True
        root, kept = seen.root, seen.cube.policy.keep_versions if keep is None else keep
        if not tidying.due_in(seen):
            return ()
    try:
        return tidying.expire(desk, cube, lock_timeout=lock_timeout)
    except MemosError as error:
        # of a refusal, or a lock, nothing is made up for by another try
        if type(error) is not MemosError:
            raise
    vault.sweep(root, keep=kept, lock_timeout=lock_timeout)
    return tidying.expire(desk, cube, lock_timeout=lock_timeout)


def reindex(
    cube: str | Path,
    *,
    embedder: str | None = None,
    dry_run: bool = False,
    engine: Engine = HERE_ALONE,
    reason: str = "",
    lock_timeout: float = 10.0,
    home: Path | None = None,
    notify: frame.Notify | None = None,
    progress: Progress | None = None,
) -> Changed:
    """Makes all vectors and indexes anew, with another embedder than the cube's if asked; needs no source files.

    Also rewrites the table, so what was deleted from it is gone from the new version's files.
    """
    desk = frame.desk(home, notify)
    if not dry_run:
        engine.settle()
    with frame.trying(desk, cube, "reindex", dry_run=dry_run, reason=reason, lock_timeout=lock_timeout) as seen:
        tables.insist_here(seen.cube, "reindex", path=cube)
        encoder = embedding.open_embedder(desk, embedder or embedding.spec_of(seen.memories.embedder))
        identity = embedding.identity_of(encoder)
        fate = f"embedded with {identity.label}" if identity else "written without vectors"
        if dry_run:
            message = f"{seen.whole.count()} memories would be {fate}"
            return Changed(str(cube), "reindex", seen.version.number, True, (), message)
        assert isinstance(seen, Changing)
        with engines.opened(engine, seen) as on:
            on.insist_whole()
            rows = _rebuild(seen, encoder, identity, on, spec=embedder, progress=progress)
        number = seen.commit({"reindexed": rows}).number
        return Changed(str(cube), "reindex", number, False, (), f"{rows} memories {fate}")


def _rebuild(
    change: Changing, encoder: Any, identity: EmbedderIdentity | None, on: Opened, *, spec: str | None,
    progress: Progress | None,
) -> int:  # fmt: skip
    """A new table in the place of the old one, row by row in table order; returns how many."""
    from memos_cli.operation.embedded import write_table
    from memos_cli.operation.reindex import rewrite

    directory = change.path / PLAINTEXT
    total = change.whole.count()
    rows = 0
    writer = partial(on.writer_to, spec=spec, work=write_table) if on.far else lambda fresh: nullcontext()
    for rows in rewrite(directory, embedder=encoder, identity=identity, writer=writer):
        if progress:
            progress(rows, total, f"{rows} memories")
    on.on.let_go()
    change.reopen()
    # a cube of an earlier program has none yet
    mentioning.link(change.whole, directory, now=frame.now())
    return rows


def stem(root: Path) -> str:
    """The name a cube takes from its folder: without accents, and with a dash for what no name may have."""
    said = unicodedata.normalize("NFKD", Path(root.name or root.resolve().name).stem)
    plain = "".join(letter for letter in said if not unicodedata.combining(letter))
    return re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-._")[:100] or "cube"
