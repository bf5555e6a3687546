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
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memos_cli.cube import activation, denied, digest, metadata
from memos_cli.cube.metadata import Memcube
from memos_cli.errors import Damaged, MemosError, NotAllowed, Usage
from memos_cli.infrastructure import governance, origin, repair, trail, vault, versions
from memos_cli.infrastructure.identity import Actor, default_home, me

if TYPE_CHECKING:
    from memos_cli.cube.plaintext import Memories

Notify = Callable[[str], None]
PLAINTEXT = "plaintext"
# Facts that say that text went to a host: what left the machine leaves a lasting trace.
_SENT = frozenset({"extract_host", "answer_host"})


@dataclass(frozen=True, slots=True)
class Desk:
    """From where the API is called: the home, the actor, and who hears notices."""

    home: Path
    actor: Actor
    notify: Notify = lambda text: None

    def path(self, cube: str | Path) -> Path:
        """Where the cube lies: a path as it is, a name under the home."""
        return vault.Vault(self.home).path(str(cube))

    def stamp(self, verb: str, reason: str = "") -> vault.Stamp:
        """Who does what, when and why, for a manifest. Raises Usage for a reason that is too long for one."""
        if len(reason) > digest.TEXT_LIMIT_CHARACTERS:
            raise Usage(f"a reason has at most {digest.TEXT_LIMIT_CHARACTERS:,} characters, found {len(reason):,}")
        return vault.Stamp(operation=verb, actor=self.actor.as_dict(), time=_now_text(), reason=reason)


def desk(home: Path | None, notify: Notify | None = None) -> Desk:
    """A desk at `home` (default: `$MEMOS_HOME` or `~/.memos`)."""
    place = home or default_home()
    return Desk(place, me(place), notify or (lambda text: None))


def now() -> datetime:
    """This moment, to the microsecond that a table keeps."""
    return datetime.now(UTC)


def _now_text() -> str:
    return now().replace(microsecond=0).isoformat().replace("+00:00", "Z")


@dataclass(slots=True)
class Reading:
    """A version that is being read, and what the trail will say of it."""

    desk: Desk
    root: Path
    cube: Memcube
    version: vault.Version
    path: Path
    touched: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    query: str | None = None
    _memories: Memories | None = None

    @property
    def memories(self) -> Memories:
        """The table of this version, opened on first use."""
        if self._memories is None:
            from memos_cli.cube.plaintext import Memories

            self._memories = Memories.open(self.path / PLAINTEXT)
        return self._memories

    @property
    def origin(self) -> origin.Origin | None:
        """Where the cube came from; None when it was made here."""
        return origin.read(self.root)

    def reopen(self) -> None:
        """Lets go of the table, after it was put anew in its place."""
        self._memories = None


@contextmanager
def reading(desk: Desk, cube: str | Path, verb: str, *, version: int | None = None) -> Iterator[Reading]:
    """A version of a cube to read from. Raises NotFound, Damaged, NotAllowed; all of it is in the trail."""
    root = desk.path(cube)
    with vault.snapshot(root, version) as snapshot:
        seen = Reading(desk, root, _metadata_of(snapshot.version), snapshot.version, snapshot.path)
        with _trailed(desk, seen, verb):
            # what an old version allowed does not matter: the rules of today decide
            rules = _as_held(desk, root, verb, seen.cube if version is None else _rules(root, version))
            governance.ask(desk.actor, verb, rules, place=str(root))
            if governance.expired(rules):
                raise NotAllowed(f"{rules.name} outlived its ttl of {rules.governance.ttl_days} days")
            yield seen


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
        _drop_orphans(self.path, self.memories)
        for name in settle(self.path, self.memories, label=self.cube.governance.sensitivity):
            self.desk.notify(f"adapter {name} is stale now: memos show {self.cube.name} tells why")
        compact(self.memories.table)
        ensure_indexes(self.memories.table)
        self.cube = _write_metadata(self.path, cube or self.cube, self.memories)
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
        change = Changing(desk, root, metadata.load(work.path), work.base, work.path, draft=work)
        with _trailed(desk, change, verb):
            asked = _as_held(desk, root, verb, change.cube if base is None else rules)
            governance.ask(desk.actor, verb, asked, place=str(root))
            yield change


def _rules(root: Path, base: int | None) -> Memcube:
    """The metadata that decides today. A rollback from a damaged version is decided by the one it goes back to."""
    try:
        return _metadata_of(vault.current_version(vault.locate(root)))
    except Damaged:
        if base is None:
            raise
        with vault.snapshot(root, base) as sound:
            return _metadata_of(sound.version)


def _as_held(desk: Desk, root: Path, verb: str, rules: Memcube) -> Memcube:
    """The rules as they are for who took the cube in: the copy is theirs, but not the right to hand it on."""
    came = origin.read(root)
    if came is None or came.holder != desk.actor.key or governance.VERBS.get(verb) == governance.SHARE:
        return rules
    return replace(rules, governance=replace(rules.governance, owner=desk.actor.key))


def _metadata_of(version: vault.Version) -> Memcube:
    """The metadata of a version, checked against its manifest: who owns a cube is not left to a flipped bit."""
    expected = version.manifest.entries().get(metadata.FILE)
    # one that is not there, or cannot be read, is no more the published one than one that differs
    found = None
    with suppress(OSError):
        found = digest.hash_file(version.path / metadata.FILE)
    if expected is None or found != expected.sha256:
        raise Damaged(
            f"{version.path / metadata.FILE} is not the file that version {version.number} was published with",
            hint=f"memos rollback {version.path.parent.parent} to a sound version, see memos log",
        )
    return metadata.load(version.path)


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
) -> vault.Version:
    """A new cube whose table `fill` may fill; the frame of `init` and `migrate`.

    Raises Usage when something is there already, other than the names `beside`.
    """
    root = desk.path(cube)
    governance.ask(desk.actor, verb, meta, place=str(root))

    def write(path: Path) -> None:
        from memos_cli.cube.plaintext import Memories
        from memos_cli.cube.search import compact, ensure_indexes

        memories = Memories.create(path / PLAINTEXT, embedder=meta.plaintext.embedder)
        if fill:
            fill(memories)
            compact(memories.table)
        ensure_indexes(memories.table)
        _write_metadata(path, meta, memories)

    version = vault.create(root, stamp=desk.stamp(verb, reason), cube_id=meta.id, write=write, beside=beside)
    with _trailed(desk, Reading(desk, root, meta, version, version.path), verb):
        return version


def _drop_orphans(path: Path, memories: Memories) -> None:
    """Removes the derived forms of what is no longer remembered: a cache tells its text to who can run the model."""
    from memos_cli.operation.settle import DERIVED_STATES

    files = activation.find(path / activation.FOLDER)
    if not files:
        return
    rows = memories.take({activation.memory_of(file) for file in files}, columns=["id", "state", "valid_to"])
    known = {row["id"] for row in rows.to_pylist() if row["valid_to"] is None and row["state"] in DERIVED_STATES}
    for file in files:
        if activation.memory_of(file) not in known:
            file.unlink()


def _write_metadata(path: Path, cube: Memcube, memories: Memories) -> Memcube:
    """memcube.toml with counts as the table now has them."""
    from memos_cli.cube import parameter, sources
    from memos_cli.cube.plaintext import LIVE

    counts = metadata.Plaintext(
        memories=memories.count(),
        live=memories.count(LIVE),
        sources=len(sources.read(path / PLAINTEXT)),
        embedder=memories.embedder,
    )
    files = [file.stat().st_size for file in activation.find(path / activation.FOLDER)]
    fresh = metadata.touched(
        cube, plaintext=counts, activation=metadata.Activation(len(files), sum(files)),
        parameter=metadata.Parameter(*parameter.measure(path / parameter.FOLDER)),
    )  # fmt: skip
    vault.write_bytes(path / metadata.FILE, metadata.dumps(fresh))
    return fresh


def copy(desk: Desk, cube: str | Path, meta: Memcube, seen: Reading, *, reason: str) -> vault.Version:
    """A new cube with the files of the version that `seen` holds, under other metadata; the frame of a fork."""
    root = desk.path(cube)

    def write(path: Path) -> None:
        for entry in seen.version.manifest.files:
            (path / entry.path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(seen.path / entry.path, path / entry.path)
        vault.write_bytes(path / metadata.FILE, metadata.dumps(meta))

    version = vault.create(root, stamp=desk.stamp("init", reason), cube_id=meta.id, write=write)
    with _trailed(desk, Reading(desk, root, meta, version, version.path), "init"):
        return version


def restore(desk: Desk, cube: str | Path, number: int, *, reason: str, lock_timeout: float) -> vault.Version:
    """The files of version `number` as the newest version; the frame of a rollback."""
    with changing(desk, cube, "rollback", reason=reason, base=number, lock_timeout=lock_timeout) as change:
        assert change.draft is not None
        _keep_denials(change)
        change.version = change.draft.commit({"rolled_back_to": number})
        return change.version


@contextmanager
def mending(desk: Desk, cube: str | Path, verb: str) -> Iterator[Reading]:
    """A cube that may be broken, by the rules of its newest version that can still be read; the frame of a repair.

    Nothing is held, for what should be read may not be there. Raises NotFound, NotAllowed, and Damaged when no version
    says whose the cube is.
    """
    root = repair.locate(desk.path(cube))
    version, rules = _surviving(root)
    seen = Reading(desk, root, rules, version, version.path)
    with _trailed(desk, seen, verb):
        governance.ask(desk.actor, verb, rules, place=str(root))
        yield seen


def _surviving(root: Path) -> tuple[vault.Version, Memcube]:
    """The current version and its metadata, or else the newest of which both can be read."""
    with suppress(MemosError, OSError):
        current = vault.current_version(root)
        return current, _metadata_of(current)
    for name in versions.version_names(root):
        with suppress(MemosError, OSError):
            version = versions.read_version(root / versions.VERSIONS / name)
            return version, _metadata_of(version)
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


@contextmanager
def _trailed(desk: Desk, seen: Reading, verb: str) -> Iterator[None]:
    """Writes one line of the access log, however the body ends."""
    outcome = "ok"
    try:
        yield
    except MemosError as error:
        outcome = "denied" if isinstance(error, NotAllowed) else type(error).__name__
        raise
    except BaseException as error:
        outcome = type(error).__name__
        raise
    finally:
        trail.append(
            seen.root,
            home=desk.home,
            cube_id=seen.cube.id,
            actor=desk.actor.as_dict(),
            verb=verb,
            kind=_kind(verb, outcome, seen.facts),
            version=seen.version.number,
            memories=seen.touched,
            outcome=outcome,
            query=seen.query,
            facts=seen.facts,
            durable=outcome == "denied" or not _SENT.isdisjoint(seen.facts),
        )


def _kind(verb: str, outcome: str, facts: dict[str, Any]) -> str:
    """What a line of the trail says was done, in one word of `trail.KINDS`."""
    if outcome == "denied":
        return trail.DENIAL
    if facts.get("injected"):
        return trail.INJECTION
    wanted = governance.VERBS.get(verb, governance.READ)
    if wanted == governance.READ or facts.get("dry_run"):
        return trail.READ
    return trail.EXPORT if wanted == governance.SHARE else trail.CHANGE
