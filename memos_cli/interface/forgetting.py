"""Forgetting for good, and letting in again: the verb `forget` with proof.

`changes.forget` hides. Here memories leave every file of the cube, with what was made of them and the versions that
held them, in one commit: a kill at any point leaves the old version or the new one, and whoever writes next drops what
is left of the old ones. Then every file is looked through for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from memos_cli.cube import activation, denied, filters, metadata
from memos_cli.cube import sources as catalogue
from memos_cli.cube.filters import quote
from memos_cli.cube.migrate import BEFORE_MIGRATION
from memos_cli.errors import MemosError, NotAllowed, NotFound, Usage
from memos_cli.infrastructure import drops, faults, vault
from memos_cli.infrastructure.keyring import secret
from memos_cli.infrastructure.versions import VERSION_NAME, version_names, version_number
from memos_cli.interface import cataloguing, frame, tables
from memos_cli.interface.changes import check_choice, check_loss, find_memory
from memos_cli.interface.denying import open_denial
from memos_cli.interface.evidence import Purged
from memos_cli.interface.frame import PLAINTEXT, Changing, Desk, Reading
from memos_cli.interface.packing import drop_parts
from memos_cli.interface.results import Changed
from memos_cli.operation import needles
from memos_cli.operation.denial import KEY_FILE, Denial
from memos_cli.operation.doomed import Doomed, about, gather
from memos_cli.operation.needles import FRAGMENT, TEXT, Haystack, Needle
from memos_cli.operation.proof import prove, prove_by_hashes, tells, unshared
from memos_cli.operation.purge import purge as take_out

PUBLISHED = "copies that were made before (packs, pushes, forks, exports, backups) are not reached"
_VECTORS = ("vector", "near_vector")
_PAUSE_SECONDS = 0.05


def purge(
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
) -> Purged:
    """Forgets memories for good, hidden ones too, and proves that no file of the cube tells of them any more.

    With them go the facts and answers that models made of them, caches, adapters and probes, and every version that
    held them. An ingest does not bring their words back. The proof may fall short: see `Proof.sound`. Raises NotFound,
    NotAllowed for memories under legal hold, and Usage for a reason that says what is to be forgotten.
    """
    desk = frame.desk(home, notify)
    check_choice(cube, ids, where, subject)
    condition = filters.to_sql(filters.parse(where)) if where else ""
    cut_short = _cut_short(desk, cube)
    with frame.trying(desk, cube, "forget", dry_run=dry_run, reason=reason, lock_timeout=lock_timeout) as seen:
        seen.facts["purge"] = True
        _refuse_away(seen, cube)
        named, before = _named(desk, seen, ids, condition, subject, cube=str(cube))
        if not named:
            if not before and not cut_short:
                raise NotFound("no memory is meant by that", hint=f"memos list {cube} --all")
            return _again(desk, seen, cube, before, dry_run=dry_run)
        doomed = gather(seen.whole, seen.path / PLAINTEXT, named)
        seen.touched += doomed.rows
        if doomed.held:
            raise NotAllowed(f"legal_hold keeps {', '.join(doomed.held[:5])} from being forgotten")
        check_loss(seen, list(doomed.rows))
        tokenise = _tokenizer()
        wanted = list(_needles(seen, doomed, tokenise))
        _check_reason(reason, wanted)
        names = tuple(_holding(seen, doomed, wanted))
        if dry_run:
            return _told(cube, seen.version.number, doomed, dropped=names, dry_run=True)
        assert isinstance(seen, Changing)
        return _carry_out(desk, seen, cube, doomed, wanted, names, tokenise, patience=lock_timeout)


def _refuse_away(seen: Reading, cube: str | Path) -> None:
    """Raises Usage while a version of the cube reads a table in an object store, which keeps what it held."""
    tables.insist_here(seen.cube, "forgetting for good", path=cube)
    for version in vault.versions(seen.root):
        pin = None
        with suppress(MemosError):
            pin = metadata.load(version.path).plaintext.table
        if pin:
            raise Usage(
                f"version {version.number} of {seen.cube.name} reads a table at {pin.url}, which keeps what it held",
                hint=f"memos gc {cube} --keep 1 --yes, and remove that folder with your store's own tools",
            )


def _carry_out(
    desk: Desk,
    change: Changing,
    cube: str | Path,
    doomed: Doomed,
    wanted: Sequence[Needle],
    names: Sequence[str],
    tokenise: Callable[[str], Sequence[int]],
    *,
    patience: float,
) -> Purged:
    assert change.draft is not None
    done = take_out(change.path, change.whole, doomed, Haystack(wanted))
    change.reopen()
    unseen = _unseen(change, wanted)
    _deny(desk, change, doomed)
    faults.point("purged")
    change.draft.drops = tuple(names)
    number = change.commit({"purged": len(doomed.rows)}).number
    drop_parts(desk.home, change.version.manifest.cube_id)
    cataloguing.forget(desk, change.root)
    held = _wait_for_readers(change.root, patience)
    proof = prove(change.root, wanted, tokenise=tokenise).without(unseen)
    change.facts["proof"] = proof.sound
    told = _told(cube, number, doomed, dropped=names, dry_run=False)
    return replace(
        told, rewindowed=done.rewindowed, activations=done.activations, adapters=done.adapters, others=done.others,
        held=tuple(_numbers(held)), dropped=tuple(n for n in told.dropped if n not in set(_numbers(held))), proof=proof,
    )  # fmt: skip


def _unseen(change: Changing, wanted: Sequence[Needle]) -> frozenset[str]:
    """Memories that say the same words and are not the actor's to see: nobody is told that they are there."""
    _, elsewhere, _ = unshared([change.whole], Haystack(wanted))
    seen = change.memories.take(elsewhere, columns=["id"])["id"].to_pylist() if elsewhere else []
    return frozenset(elsewhere) - frozenset(seen)


def _told(cube: str | Path, number: int, doomed: Doomed, *, dropped: Iterable[str], dry_run: bool) -> Purged:
    count = f"{len(doomed.rows)} {'memory' if len(doomed.rows) == 1 else 'memories'}"
    message = f"{count} {'would be forgotten' if dry_run else 'forgotten'} for good; {PUBLISHED}"
    return Purged(
        str(cube), number, dry_run, tuple(doomed.rows), dict(doomed.along), dropped=tuple(_numbers(dropped)),
        message=message,
    )  # fmt: skip


def _numbers(names: Iterable[str]) -> Iterator[int]:
    return (version_number(name) for name in names if VERSION_NAME.fullmatch(name))


def _cut_short(desk: Desk, cube: str | Path) -> bool:
    """Whether a purge was killed before all that held the memories was gone."""
    try:
        return bool(drops.pending(vault.locate(desk.path(cube))))
    except MemosError:
        return False


def _named(
    desk: Desk, seen: Reading, ids: Sequence[str], condition: str, subject: str | None, *, cube: str
) -> tuple[list[str], tuple[str, ...]]:
    """Ids of the memories that are meant, whatever their state, and of those that were forgotten for good before."""
    if subject:
        return about(seen.memories, subject), ()
    if condition:
        return seen.memories.rows(condition, columns=["id"])["id"].to_pylist(), ()
    denial = open_denial(desk, seen.path / PLAINTEXT)
    before = tuple(identity for identity in ids if denial and denial.knows(identity))
    there = [find_memory(seen, identity, cube=cube)["id"] for identity in ids if identity not in before]
    return list(dict.fromkeys(there)), before


def _again(desk: Desk, seen: Reading, cube: str | Path, ids: tuple[str, ...], *, dry_run: bool) -> Purged:
    """What there is to say of memories that are gone already: recovery has finished what was cut short."""
    if not dry_run:
        drop_parts(desk.home, seen.version.manifest.cube_id)
        cataloguing.forget(desk, seen.root)
    proof = prove_by_hashes(seen.root, open_denial(desk, seen.path / PLAINTEXT).refuses)
    seen.facts["proof"] = proof.sound
    message = f"these were forgotten for good before; {PUBLISHED}"
    held = tuple(_numbers(drops.pending(seen.root)))
    return Purged(str(cube), seen.version.number, dry_run, ids, message=message, held=held, proof=proof)


def _tokenizer() -> Callable[[str], Sequence[int]]:
    from memos_cli.runtime.tokens import open_tokenizer

    return open_tokenizer("nano")


def _needles(seen: Reading, doomed: Doomed, tokenise: Callable[[str], Sequence[int]]) -> Iterator[Needle]:
    """What the proof looks for: words, token ids, vectors, and what caches made of them keep."""
    for identity, row in doomed.rows.items():
        yield from needles.of_text(identity, row["text"])
        yield from needles.of_tokens(identity, tokenise(row["text"]))
    columns = [name for name in _VECTORS if name in seen.whole.schema.names]
    if columns:
        for row in seen.whole.take(doomed.rows, columns=["id", *columns]).to_pylist():
            for name in columns:
                if row[name]:
                    yield from needles.of_vector(row["id"], row[name])
    for path in activation.find(seen.path / activation.FOLDER):
        memory = activation.memory_of(path)
        if memory in doomed.rows:
            try:
                yield from needles.of_cache(memory, activation.open_layers(path))
            except MemosError:
                continue  # damaged: it is removed all the same


def _check_reason(reason: str, wanted: Iterable[Needle]) -> None:
    telling = Haystack(needle for needle in wanted if needle.kind in (TEXT, FRAGMENT))
    if reason and telling.find(reason.encode("utf-8", "replace")):
        raise Usage("the reason says what is to be forgotten, and would be kept", hint="--reason 'asked by mail'")


def _holding(seen: Reading, doomed: Doomed, wanted: Sequence[Needle]) -> Iterator[str]:
    """The versions that hold one of the doomed, or its words; and what a migration put aside, when it does."""
    for name in version_names(seen.root):
        if version_number(name) <= seen.version.number and _holds(seen.root / "versions" / name, doomed):
            yield name
    aside = seen.root / BEFORE_MIGRATION
    telling = Haystack(needle for needle in wanted if needle.kind in (TEXT, FRAGMENT))
    if aside.is_dir() and any(tells(path, telling) for path in aside.rglob("*") if path.is_file()):
        yield BEFORE_MIGRATION


def _holds(version: Path, doomed: Doomed) -> bool:
    from memos_cli.cube.plaintext import Memories

    try:
        memories = Memories.open(version / PLAINTEXT)
        if memories.take(doomed.rows, columns=["id"]).num_rows:
            return True
        texts = sorted({row["text"] for row in doomed.rows.values()})
        parts = (texts[start : start + 100] for start in range(0, len(texts), 100))
        return any(memories.count(f"text in ({', '.join(map(quote, part))})") for part in parts)
    except (MemosError, RuntimeError, ValueError, OSError):
        return True  # what cannot be looked into may hold them


def _deny(desk: Desk, change: Changing, doomed: Doomed) -> None:
    directory = change.path / PLAINTEXT
    denial = Denial(denied.read(directory), secret(desk.home, KEY_FILE))
    now = frame.now()
    fresh = [
        denial.entry(identity=identity, text=row["text"], source=row["source"], now=now)
        for identity, row in doomed.rows.items()
    ]
    vault.write_bytes(directory / denied.FILE, denied.encode([*denial.entries, *fresh]))


def _wait_for_readers(root: Path, patience: float) -> tuple[str, ...]:
    """Drops what a reader held when the version was published; returns what is still held when patience ends.

    Raises MemosError when the disk does not let it go: forgetting is published, and is finished by the next change.
    """
    end = monotonic() + patience
    try:
        while held := drops.finish(root):
            if monotonic() > end:
                return held
            sleep(_PAUSE_SECONDS)
    except OSError as error:
        raise MemosError(
            f"the memories are forgotten, but versions of {root} that held them cannot be removed: {error}",
            hint=f"memos doctor {root} --repair, or the same command again, when the disk works",
        ) from error
    return ()


def allow_again(
    cube: str | Path,
    *,
    ids: Sequence[str] = (),
    text: str | None = None,
    dry_run: bool = False,
    reason: str = "",
    lock_timeout: float = 10.0,
    home: Path | None = None,
    notify: frame.Notify | None = None,
) -> Changed:
    """Lets in again what was forgotten for good, by the ids it had or by its exact words; the next ingest may bring it.

    Raises NotFound when nothing of that kind was forgotten from this home.
    """
    desk = frame.desk(home, notify)
    if bool(ids) == bool(text):
        raise Usage(
            "say what is let in again: its ids, or its words", hint=f"memos forget {cube} --allow-again --ids ID"
        )
    with frame.trying(desk, cube, "forget", dry_run=dry_run, reason=reason, lock_timeout=lock_timeout) as seen:
        directory = seen.path / PLAINTEXT
        denial = open_denial(desk, directory)
        left = denial.lifted(ids=ids, text=text) if denial else denial.entries
        gone = [entry for entry in denial.entries if entry not in left]
        if not gone:
            raise NotFound(f"nothing of that was forgotten for good from {cube}", hint=f"memos log {cube}")
        seen.facts["let_in_again"] = len(gone)
        message = f"{len(gone)} may come back with the next ingest"
        if dry_run:
            return Changed(str(cube), "forget", seen.version.number, True, tuple(ids), message)
        assert isinstance(seen, Changing)
        vault.write_bytes(directory / denied.FILE, denied.encode(left))
        _read_again(directory, denial, gone)
        number = seen.commit({"let_in_again": len(gone)}).number
        return Changed(str(cube), "forget", number, False, tuple(ids), message)


def _read_again(directory: Path, denial: Denial, gone: Sequence[denied.Denied]) -> None:
    """The sources that had them count as not read, so that the next ingest looks at them."""
    states: Any = catalogue.read(directory)
    for uri in denial.sources(gone, list(states)):
        states[uri] = replace(states[uri], digest="")
    vault.write_bytes(directory / catalogue.FILE, catalogue.encode(states))
