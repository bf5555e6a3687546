"""The one frame that every verb of the Memory API passes.

Reading: find the cube, hold a version, ask governance, do it, write the trail. Changing: the same with a draft that
is committed or leaves no trace. A verb that fails or is refused is in the trail too. Nothing else opens a cube, so
there is no way round governance or the trail. (Who cannot get the lock never got in, and is told so at the door.)
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memos_cli.cube import denied, metadata
from memos_cli.cube.metadata import Memcube
from memos_cli.cube.scopes import GUARDS
from memos_cli.errors import Damaged, MemosError, NotAllowed
from memos_cli.infrastructure import declassified, governance, origin, repair, uses, vault, versions
from memos_cli.infrastructure.governance import HERE, Leaving
from memos_cli.infrastructure.sight import Sight
from memos_cli.interface import finishing, seeing, tables
from memos_cli.interface.desks import Desk, Notify, desk, now, now_text
from memos_cli.interface.ruling import as_held, metadata_of
from memos_cli.interface.seeing import PLAINTEXT
from memos_cli.interface.trailing import trailed

if TYPE_CHECKING:
    from memos_cli.cube.plaintext import Memories

__all__ = ["HERE", "PLAINTEXT", "Desk", "Notify", "desk", "now", "now_text"]

# What tends memories sees those that have faded too.
_TENDING = frozenset({"edit", "forget", "gc", "log", "govern", "declassify"})
# Where a copy of a cube goes.
COPY = "cube"
# The verb by which what is read is handed on to a model elsewhere, or to whatever is behind a client.
_HAND_ON = "send"


@dataclass(slots=True)
class Reading:
    """A version that is being read, and what the trail will say of it.

    `rules` is the metadata that decides today, `said` the same in the words of the cube, which decide on handing on;
    `closed` is a condition that leaves out what is over or was closed since, and `to` where goes what is read.
    """

    desk: Desk
    root: Path
    cube: Memcube
    version: vault.Version
    path: Path
    verb: str
    rules: Memcube
    said: Memcube
    closed: str = ""
    to: str = HERE
    touched: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    query: str | None = None
    _memories: Memories | None = None

    @property
    def memories(self) -> Memories:
        """The table of this version, as if it had no memories but those that the actor may see (where it goes)."""
        seen = self.whole.narrowed(self.shown)
        return seen if self.to == HERE else seen.narrowed(seeing.alive(now()))

    @property
    def shown(self) -> str:
        """What the actor may see of this version (where it goes), as an SQL condition; "" for all of it.

        Leaves to whoever asks what has outlived its time: that changes with the clock.
        """
        reads = self.verb if governance.VERBS.get(self.verb) == governance.READ else "show"
        leaves = self.sight("export", self.to).condition if self.to != HERE else ""
        parts = (self.sight(reads).condition, leaves, self.handed, self.closed)
        return " and ".join(f"({part})" for part in parts if part)

    @property
    def owns(self) -> bool:
        """Whether the owner acts, and not a client of theirs, who need not see all of it."""
        return self.desk.actor.client is None and self.desk.actor.key == self.rules.governance.owner

    @property
    def handed(self) -> str:
        """What may be handed to a client, as an SQL condition: who took a cube in gives on what its maker lets them."""
        if self.desk.actor.client is None:
            return ""
        owner, rules = replace(self.desk.actor, client=None), self.rules_for(_HAND_ON)
        return seeing.sight_of(owner, _HAND_ON, rules, self.cube, policy=self.desk.policy).condition

    def tell_bound(self) -> None:
        """Says that some of it stays, where what is read leaves and not all of it may."""
        if self.to != HERE and self.shown:
            most = governance.maximum(self.rules, self.to, policy=self.desk.policy)
            self.desk.notify(
                f"of {self.rules.name} only what may go to a {self.to} is told: at most {most!r}, and shared"
            )

    @property
    def whole(self) -> Memories:
        """The table with every memory, for what keeps it in order; nothing of it is shown. Opened on first use."""
        if self._memories is None:
            from memos_cli.cube.plaintext import Memories

            self._memories = Memories.open(self.path / PLAINTEXT)
        return self._memories

    def open(self) -> None:
        """Opens the table now. Raises Damaged, and what else a table that cannot be read raises."""
        assert self.whole.table is not None

    @property
    def origin(self) -> origin.Origin | None:
        """Where the cube came from; None when it was made here."""
        return origin.read(self.root)

    def sight(self, verb: str, to: str = HERE) -> Sight:
        """Which memories of this version the actor may do `verb` to."""
        return seeing.sight_of(self.desk.actor, verb, self.rules_for(verb), self.cube, policy=self.desk.policy, to=to)

    def rules_for(self, verb: str) -> Memcube:
        """Who took a cube in owns the copy, but hands it on only as its maker lets them."""
        return self.said if governance.VERBS.get(verb) == governance.SHARE else self.rules

    def leaving(self, to: str, *, verb: str = "export") -> Memories:
        """The table as if it had no memories but those that the actor may take to a destination, none of them expired.

        Raises NotAllowed when the cube as a whole is not theirs to share.
        """
        self.ask(verb)
        seen = self.whole.narrowed(self.sight(verb, to).condition).narrowed(self.closed)
        return seen.narrowed(seeing.alive(now()))

    def may_leave(self, ids: Collection[str], to: str, *, verb: str = "export") -> Leaving:
        """Which of these memories the actor may take to a destination. Raises NotAllowed as `leaving` does."""
        columns = ["id", "expires_at", *GUARDS]
        rows = self.memories.take(ids, columns=columns).to_pylist()
        actor, policy = self.desk.actor, self.desk.policy
        return governance.may_leave(actor, self.rules_for(verb), rows, to, verb=verb, policy=policy, now=now())

    def ask(self, verb: str) -> None:
        """Raises NotAllowed when the actor may not do `verb` to this cube at all."""
        place = self.desk.told(self.root)
        governance.ask(self.desk.actor, verb, self.rules_for(verb), place=place, policy=self.desk.policy)

    def check(self, rows: Collection[dict[str, Any]]) -> None:
        """Raises NotAllowed, naming the rule, when the actor may not do this verb to one of these memories."""
        sight = self.sight(self.verb)
        for row in rows:
            if rule := sight.why(row):
                raise NotAllowed(f"{self.verb} of memory {row['id']} is not allowed to {self.desk.actor.key}: {rule}")

    def reopen(self) -> None:
        """Lets go of the table, after it was put anew in its place."""
        self._memories = None


@contextmanager
def reading(
    desk: Desk, cube: str | Path, verb: str, *, version: int | None = None, to: str = HERE
) -> Iterator[Reading]:
    """A version of a cube to read from. Raises NotFound, Damaged, NotAllowed; all of it is in the trail.

    What leaves for a destination other than `here` passes the share gate, whatever the verb.
    """
    root = desk.path(cube)
    with vault.snapshot(root, version) as snapshot:
        meta = metadata_of(snapshot.version)
        # what an old version allowed does not matter: the rules of today decide
        said = meta if version is None else _rules(root, version)
        rules = as_held(desk.actor, root, said)
        seen = Reading(desk, root, meta, snapshot.version, snapshot.path, verb, rules, said, to=to)
        with trailed(desk, seen, verb), tables.opening(desk, seen.path, meta, said):
            _let_in(seen)
            closed = (_faded(seen), "" if version is None else closed_since(seen))
            seen.closed = " and ".join(part for part in closed if part)
            yield seen


def _let_in(seen: Reading) -> None:
    """Raises NotAllowed when the rules of today keep the actor, or anybody, from doing this."""
    seen.ask(seen.verb)
    if seen.desk.actor.client is not None:
        owner = replace(seen.desk.actor, client=None)
        rules = seen.rules_for(_HAND_ON)
        governance.ask(owner, _HAND_ON, rules, place=seen.desk.told(seen.root), policy=seen.desk.policy)
    if seen.to != HERE:
        seen.ask("export")
        seen.facts["to"] = seen.to
    rules = seen.rules
    if seen.verb not in governance.AFTER_END and governance.expired(rules, now=now()):
        raise NotAllowed(
            f"{rules.name} outlived its ttl of {rules.governance.ttl_days} days",
            hint=f"memos edit {seen.desk.told(seen.root)} --ttl DAYS, of its owner",
        )
    # the owner looks after all of it, and after a table that can hardly be read too
    if seen.verb in governance.WHOLE and not seen.owns:
        for condition in filter(None, (seen.sight(seen.verb).condition, seen.handed)):
            seeing.insist_whole(condition, seen.whole, seen.verb, rules.name)


def _faded(seen: Reading) -> str:
    """A condition that leaves out what nobody has used for so long that it has faded; changing is for it too."""
    rules = seen.rules
    if not (rules.governance.decay_days or seen.cube.plaintext.decaying) or seen.verb in _TENDING:
        return ""
    used = uses.of_cube(seen.root, home=seen.desk.home, cube_id=rules.id)
    return seeing.faded(seen.whole, decay_days=rules.governance.decay_days, used=used, now=now())


def closed_since(seen: Reading) -> str:
    """A condition that leaves out of an earlier version what the current one does not show."""
    try:
        latest = vault.current_version(vault.locate(seen.root))
        if latest.number == seen.version.number:
            return ""
        current = metadata_of(latest)
        sight = seeing.sight_of(seen.desk.actor, "show", current, current, policy=seen.desk.policy)
        return seeing.closed_since(seen.root, sight, now(), name=current.name)
    except Damaged:
        # the way back from a damaged version; those who see all of a cube are kept from nothing by it
        if seen.sight("show").condition:
            raise
        return ""


@dataclass(slots=True)
class Changing(Reading):
    """A draft that is being changed. `commit` publishes it; leaving without it leaves no trace."""

    draft: vault.Draft | None = None
    committed: vault.Version | None = None

    def commit(self, summary: dict[str, Any], *, cube: Memcube | None = None) -> vault.Version:
        """Writes the metadata with fresh counts, tidies the table and publishes the version."""
        from memos_cli.cube.search import compact, ensure_indexes
        from memos_cli.operation.settle import settle

        assert self.draft is not None
        finishing.drop_orphans(self.path, self.whole)
        for name in settle(self.path, self.whole, label=self.cube.governance.sensitivity):
            self.desk.notify(f"adapter {name} is stale now: memos show {self.cube.name} tells why")
        if not self.whole.table.idle:
            compact(self.whole.table)
            ensure_indexes(self.whole.table)
        self.cube = finishing.write_metadata(self.path, cube or self.cube, self.whole)
        self.committed = self.draft.commit(summary)
        self.version = self.committed
        return self.committed


@contextmanager
def changing(
    desk: Desk,
    cube: str | Path,
    verb: str,
    *,
    reason: str = "",
    resume: str | None = None,
    base: int | None = None,
    lock_timeout: float = 10.0,
) -> Iterator[Changing]:
    """A draft of a cube to change. Raises NotFound, Damaged, NotAllowed, Locked; all of it is in the trail."""
    root = desk.path(cube)
    rules = _rules(root, base)
    draft = vault.draft(
        root,
        stamp=desk.stamp(verb, reason),
        resume=resume,
        base=base,
        # a cube under legal hold loses no version by the way either
        keep=None if rules.governance.legal_hold else rules.policy.keep_versions,
        lock_timeout=lock_timeout,
    )
    with draft as work:
        meta = metadata.load(work.path)
        said = meta if base is None else rules
        asked = as_held(desk.actor, root, said)
        change = Changing(desk, root, meta, work.base, work.path, verb, asked, said, draft=work)
        with trailed(desk, change, verb), tables.opening(desk, change.path, meta, said, rules):
            _let_in(change)
            change.whole.extend()
            yield change


def _rules(root: Path, base: int | None) -> Memcube:
    """The metadata that decides today. A rollback from a damaged version is decided by the one it goes back to."""
    try:
        return metadata_of(vault.current_version(vault.locate(root)))
    except Damaged:
        if base is None:
            raise
        with vault.snapshot(root, base) as sound:
            return metadata_of(sound.version)


@contextmanager
def trying(
    desk: Desk, cube: str | Path, verb: str, *, dry_run: bool, reason: str, lock_timeout: float
) -> Iterator[Reading]:
    """A draft to change, or for a dry run the current version to read; the trail tells the two apart."""
    if dry_run:
        with reading(desk, cube, verb) as seen:
            seen.facts["dry_run"] = True
            yield seen
    else:
        with changing(desk, cube, verb, reason=reason, lock_timeout=lock_timeout) as change:
            yield change


def create(
    desk: Desk,
    cube: str | Path,
    meta: Memcube,
    *,
    verb: str = "init",
    reason: str = "",
    fill: Callable[[Memories], None] | None = None,
    beside: Collection[str] = (),
    url: str = "",
) -> vault.Version:
    """A new cube whose table, here or at `url`, `fill` may fill; the frame of `init` and `migrate`.

    Raises Usage when something is there already, other than the names `beside`.
    """
    root = desk.path(cube)
    governance.ask(desk.actor, verb, meta, place=str(root), policy=desk.policy)

    def write(path: Path) -> None:
        from memos_cli.cube.plaintext import Memories
        from memos_cli.cube.search import compact, ensure_indexes

        memories = Memories.create(path / PLAINTEXT, embedder=meta.plaintext.embedder, url=url)
        if fill:
            fill(memories)
            compact(memories.table)
        ensure_indexes(memories.table)
        tables.keep_folder(path, url)
        finishing.write_metadata(path, meta, memories)

    version = vault.create(root, stamp=desk.stamp(verb, reason), cube_id=meta.id, write=write, beside=beside)
    with trailed(desk, Reading(desk, root, meta, version, version.path, verb, meta, meta), verb):
        return version


def copy(desk: Desk, cube: str | Path, meta: Memcube, seen: Reading, *, reason: str) -> vault.Version:
    """A new cube with the files of the version that `seen` holds, under other metadata; the frame of a fork.

    Who is not the owner gets what may be shared with them and is not hidden or over, and no trace of the rest.
    """
    root = desk.path(cube)
    owns = desk.actor.key == seen.said.governance.owner
    only = seen.leaving(COPY, verb="fork").only if not owns or seen.sight("fork", COPY).condition else ""

    def write(path: Path) -> None:
        for entry in seen.version.manifest.files:
            (path / entry.path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(seen.path / entry.path, path / entry.path)
        # signed for that cube, and it names memories that may be kept from the new owner
        (path / declassified.FILE).unlink(missing_ok=True)
        if only:
            tables.insist_here(meta, "a copy of a part", path=seen.root)
            finishing.redact_copy(path, f"({only}) and state != 'forgotten'", meta)
        else:
            vault.write_bytes(path / metadata.FILE, metadata.dumps(meta))
        if seen.origin is not None:
            # a copy is no more to be believed than what it is of, from the first moment on that there is one
            origin.write(root, replace(seen.origin, holder=desk.actor.key))

    version = vault.create(root, stamp=desk.stamp("init", reason), cube_id=meta.id, write=write)
    with trailed(desk, Reading(desk, root, meta, version, version.path, "init", meta, meta), "init"):
        return version


def restore(
    desk: Desk,
    cube: str | Path,
    number: int,
    *,
    keep: Callable[[Changing], None],
    reason: str,
    lock_timeout: float,
) -> vault.Version:
    """The memories of version `number` as the newest version; the frame of a rollback.

    What the cube says of who may see it stays as it is today, and so does what `keep` puts back.
    """
    with changing(desk, cube, "rollback", reason=reason, base=number, lock_timeout=lock_timeout) as change:
        _keep_denials(change)
        keep(change)
        meta = replace(change.cube, governance=change.said.governance, access=change.said.access)
        return change.commit({"rolled_back_to": number}, cube=meta)


@contextmanager
def mending(desk: Desk, cube: str | Path, verb: str) -> Iterator[Reading]:
    """A cube that may be broken, by the rules of its newest version that can still be read; the frame of a repair.

    Nothing is held, for what should be read may not be there. Raises NotFound, NotAllowed, and Damaged when no version
    says whose the cube is.
    """
    root = repair.locate(desk.path(cube))
    version, rules = _surviving(root)
    seen = Reading(desk, root, rules, version, version.path, verb, as_held(desk.actor, root, rules), rules)
    with trailed(desk, seen, verb), tables.opening(desk, version.path, rules):
        seen.ask(verb)
        if not seen.owns and (seen.sight(verb).condition or seen.handed):
            raise NotAllowed(f"{verb} of {rules.name!r} is about the cube as a whole: ask its owner")
        yield seen


def _surviving(root: Path) -> tuple[vault.Version, Memcube]:
    """The current version and its metadata, or else the newest of which both can be read."""
    with suppress(MemosError, OSError):
        current = vault.current_version(root)
        return current, metadata_of(current)
    for name in versions.version_names(root):
        with suppress(MemosError, OSError):
            version = versions.read_version(root / versions.VERSIONS / name)
            return version, metadata_of(version)
    raise Damaged(f"no version of {root} can be read, so nothing says whose it is", hint="take the cube from a copy")


def _keep_denials(change: Changing) -> None:
    """What was forgotten for good stays so, whichever version the cube goes back to."""
    there = change.path / PLAINTEXT / denied.FILE
    # From a version that cannot be read there is nothing to keep.
    with suppress(MemosError):
        today = vault.current_version(vault.locate(change.root)).path / PLAINTEXT / denied.FILE
        if today.exists():
            vault.write_bytes(there, today.read_bytes())
        else:
            there.unlink(missing_ok=True)


def discard_new(root: Path, made: vault.Version) -> None:
    """Removes a cube that this very command made and could not fill; stays silent when somebody else uses it now."""
    with suppress(MemosError, OSError):
        vault.withdraw(root, made)
