"""The verb `pack` of the Memory API: a version of a cube as one file, the same bytes wherever it is packed.

What a file of Lance still holds of deleted rows is rewritten away first, as a version of the cube. What is only a part
of a cube is made beside it, once, and kept in the home's cache. Nothing travels but files of a version: no log, no
lock, no staging.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memos_cli.cube import archive, bundle, metadata
from memos_cli.cube.digest import MANIFEST_NAME, Entry, build, canonical, hash_file
from memos_cli.cube.scopes import GUARDS
from memos_cli.errors import Damaged, MemosError, NotAllowed, Usage
from memos_cli.infrastructure import claims, disk, governance, keys, sealing, signing, trust, vault
from memos_cli.infrastructure.signing import Release
from memos_cli.interface import frame, watermarking
from memos_cli.interface.frame import PLAINTEXT, Desk, Reading
from memos_cli.interface.shared import Packed
from memos_cli.interface.watermarking import Mark
from memos_cli.operation import provenance, share
from memos_cli.operation.share import Choice, Left

if TYPE_CHECKING:
    from memos_cli.cube.metadata import Memcube
    from memos_cli.infrastructure.keys import PublicKey

SUFFIX = ".memcube"
CACHE = Path("cache") / "packs"
# With the parts of a cube that were made before, when what makes them changes.
_RECIPE = 1
_SPARE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Parcel:
    """A cube as it will travel: its image, the envelopes that sign it and by which key, and what stayed behind.

    `version` is what it is called. Of a dry run that would make something first, the image is of what there is.
    """

    image: bundle.Layout
    version: str
    settled: bool
    signatures: tuple[bytes, ...]
    key: PublicKey | None
    left: Left
    rewritten: bool
    forms: tuple[str, ...]

    @property
    def size_bytes(self) -> int:
        """The bytes of its blobs."""
        return sum(blob.descriptor.size for blob in self.image.blobs)


# What becomes of memories that lie in an object store: a package has them in it, or is not made.
FETCH, REFUSE = "fetch", "refuse"


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked of a package: what goes in, its version, the key that signs it, for so many days; whose it is.

    `table` says whether memories that lie elsewhere are fetched.
    """

    choice: Choice = Choice()
    version: str | None = None
    sign: str | None = None
    expires_days: int = signing.EXPIRES_DAYS
    dry_run: bool = False
    reason: str = ""
    lock_timeout: float = 10.0
    mark: Mark | None = None
    table: str = REFUSE


def pack(
    cube: str | Path,
    output: str | Path | None = None,
    *,
    version: str | None = None,
    forms: str | None = None,
    redact: str | None = None,
    sign: str | None = None,
    expires_days: int = signing.EXPIRES_DAYS,
    encrypt_to: Sequence[str] = (),
    recipient: str | None = None,
    canaries: int = 0,
    table: str = REFUSE,
    replace_file: bool = False,
    dry_run: bool = False,
    reason: str = "",
    lock_timeout: float = 10.0,
    home: Path | None = None,
    notify: frame.Notify | None = None,
    progress: bundle.Progress | None = None,
) -> Packed:
    """Writes the current version of a cube to a file, `<name>-<version>.memcube` here by default.

    `forms` such as `plaintext,activation` and `redact`, the highest sensitivity that goes along, leave something out;
    memories that were forgotten never go. `sign` names a key of the home; `encrypt_to` are age recipients.
    Memories that lie in an object store are fetched with `table="fetch"`, and else a reason not to pack.
    `recipient` is whom this copy is for, who is named in it, with so many `canaries` that are in no other. Raises Usage
    when the file is there, NotAllowed without the right to share, NotFound, Damaged.
    """
    desk = frame.desk(home, notify)
    choice = Choice(share.parse_forms(forms), redact and metadata.check_sensitivity(redact))
    mark = watermarking.wished(desk.home, recipient, canaries=canaries, key=sign, forms=choice.forms)
    wish = Wish(choice, version, sign, expires_days, dry_run, reason, lock_timeout, mark, check_fetch(table))
    recipients = sealing.parse_recipients(encrypt_to)
    with prepared(desk, cube, wish) as parcel:
        path = _place(output, parcel)
        if os.path.lexists(path) and not replace_file and not dry_run:
            raise Usage(f"{path} is there already", hint="the same command with --yes replaces it")
        size = parcel.size_bytes
        if not dry_run:
            size = _write(parcel, path, recipients, progress)
        return _told(str(cube), path, parcel, size, encrypted=bool(recipients), wish=wish)


@contextmanager
def prepared(desk: Desk, cube: str | Path, wish: Wish, *, to: str = "package") -> Iterator[Parcel]:
    """What a cube is as a package, held as long as it is read; the frame of everything that leaves as one.

    Raises NotFound, Damaged, Usage, and NotAllowed without the right to share.
    """
    if wish.version is not None:
        metadata.check_version(wish.version)
    with frame.reading(desk, cube, "pack") as seen:
        if wish.dry_run:
            seen.facts["dry_run"] = True
        away = _refuse_away(seen, wish, to)
        _refuse_kept(seen, wish.choice, to)
        _check_word(seen, wish)
        left = share.left_out(seen.path, seen.cube, wish.choice)
        whole = not (away or left.rows or left.files or wish.choice.suffix or wish.mark)
        with _whole(desk, cube, seen, wish) if whole else _part(desk, seen, wish) as made:
            image = bundle.layout(made.folder)
            seen.facts |= {"package": image.digest, "left_out": left.rows}
            if wish.mark:
                seen.facts["for"] = wish.mark.recipient.label
                if made.settled:
                    watermarking.note(desk, seen.cube.id, image, wish.mark)
            key = keys.public(desk.home, wish.sign) if wish.sign is not None else None
            envelopes = _sign(desk, made.folder, image, wish, key) if key and made.settled else ()
            forms = _forms(made.folder, wish.choice)
            yield Parcel(image, made.version, made.settled, envelopes, key, left, made.rewritten, forms)


def check_fetch(table: str) -> str:
    """`table` itself. Raises Usage when it is neither word."""
    if table not in (FETCH, REFUSE):
        raise Usage(f"--table is {FETCH} or {REFUSE}, found {table[:40]!r}")
    return table


def _refuse_away(seen: Reading, wish: Wish, to: str) -> bool:
    """Whether the memories lie in an object store, and are to be fetched. Raises Usage when they are not."""
    pin = seen.cube.plaintext.table
    if pin and wish.table != FETCH:
        raise Usage(
            f"the memories of {seen.cube.name} lie at {pin.url}, and a package has them in it or none: "
            f"{seen.cube.plaintext.memories:,} are to be fetched",
            hint=f"memos pack {seen.root} --table fetch" + (", and push that file" if to == "store" else ""),
        )
    return pin is not None


def _refuse_kept(seen: Reading, choice: Choice, to: str) -> None:
    """Raises NotAllowed, naming the rule, when something that would go along must not leave for this destination."""
    sight = seen.sight("pack", to)
    if not sight.condition:
        return
    going = seen.whole.narrowed(choice.condition(seen.cube))
    if going.count() > going.narrowed(sight.condition).count():
        rows = going.rows(f"not ({sight.condition})", columns=list(GUARDS), limit=1).to_pylist()
        rule = (sight.why(rows[0]) if rows else None) or "its labels are none"
        raise NotAllowed(
            f"not all of {seen.cube.name!r} may leave for a {to}: {rule}",
            hint=f"memos pack {seen.root} --redact LEVEL, or memos init COPY.cube --from {seen.root} and pack that",
        )


def _check_word(seen: Reading, wish: Wish) -> None:
    """Nobody gives their word for what they do not believe themselves."""
    if wish.sign is not None and seen.origin is not None and not seen.origin.trusted:
        raise NotAllowed(
            f"{seen.cube.name} came from {seen.origin.source[:200]} and is untrusted: it is not signed",
            hint=f"memos trust {seen.root}  (when you know what is in it)",
        )


@dataclass(frozen=True, slots=True)
class _Made:
    """The folder of the version that is packed, and what it is called; `settled` unless a dry run left it unmade."""

    folder: Path
    version: str
    rewritten: bool = False
    settled: bool = True


@contextmanager
def _whole(desk: Desk, cube: str | Path, seen: Reading, wish: Wish) -> Iterator[_Made]:
    """The version that is packed as it is, after a new one was made where it has to be."""
    version = wish.version or seen.cube.version
    if version == seen.cube.version and share.is_clean(seen.path):
        yield _Made(seen.path, version)
    elif wish.dry_run:
        yield _Made(seen.path, version, rewritten=True, settled=False)
    elif not _may_write(desk, seen):
        with _part(desk, seen, wish) as made:
            yield made
    else:
        number = _rewrite(desk, cube, wish)
        with vault.snapshot(seen.root, number) as held:
            seen.version = held.version
            yield _Made(held.path, version, rewritten=True)


def _may_write(desk: Desk, seen: Reading) -> bool:
    """Whether the cube can get a version that is fit to be packed."""
    try:
        governance.ask(desk.actor, "reindex", seen.cube, place=str(seen.root))
    except NotAllowed:
        return False
    return disk.is_writable(seen.root)


def _rewrite(desk: Desk, cube: str | Path, wish: Wish) -> int:
    """A version of the cube without anything in its files that is not in it; its number."""
    reason = wish.reason or "rewritten, so that nothing that was deleted is packed"
    with frame.changing(desk, cube, "reindex", reason=reason, lock_timeout=wish.lock_timeout) as change:
        rows = share.clean(change.path)
        change.reopen()
        version = wish.version or change.cube.version
        return change.commit({"rewritten": rows}, cube=replace(change.cube, version=version)).number


@contextmanager
def _part(desk: Desk, seen: Reading, wish: Wish) -> Iterator[_Made]:
    """A version that is made of a part of the one that is read; made once, and kept in the cache."""
    meta = replace(seen.cube, version=_version_of(seen.cube, wish, desk.home))
    if wish.dry_run:
        yield _Made(seen.path, meta.version, settled=False)
        return
    condition = wish.choice.condition(seen.cube)
    said = {"recipe": _RECIPE, "forms": list(wish.choice.forms), "where": condition, "version": meta.version}
    said |= {"for": wish.mark.facts(desk.home)} if wish.mark else {}
    key = hashlib.sha256(canonical(said)).hexdigest()[:16]
    cube_id = seen.version.manifest.cube_id
    base = f"{cube_id}-{seen.version.digest.removeprefix('sha256:')[:16]}"
    folder = desk.home / CACHE / f"{base}-{key}"
    if not (folder / MANIFEST_NAME).is_file():
        _make_part(desk, seen, meta, wish, folder)
        drop_parts(desk.home, cube_id, besides=base)
    yield _Made(folder, meta.version)


def _make_part(desk: Desk, seen: Reading, meta: Memcube, wish: Wish, folder: Path) -> None:
    claims.clear(folder)
    os.makedirs(folder.parent, mode=0o700, exist_ok=True)
    with claims.folder_beside(folder, mode=0o700) as temporary:
        mark = wish.mark
        plant = watermarking.planter(desk, seen, mark, cube=str(seen.root)) if mark else None
        left = share.derive(seen.path, temporary, meta, wish.choice, plant=plant)
        manifest = seen.version.manifest
        if mark:
            watermarking.stamp_copy(desk, seen, temporary, mark, list(_entries(temporary, {}, below=PLAINTEXT)))
        made = build(
            _entries(temporary, {} if mark else manifest.entries()), cube_id=manifest.cube_id,
            version=manifest.version, parent=seen.version.digest, operation="pack", actor=manifest.actor,
            time=manifest.time, summary={"left_out": left.rows},
        )  # fmt: skip
        vault.write_bytes(temporary / MANIFEST_NAME, made.to_bytes())
        os.replace(temporary, folder)


def _entries(folder: Path, known: dict[str, Entry], *, below: str = "") -> Iterator[Entry]:
    """The files of a version that was made (in one folder of it); known ones of derived forms are as they were."""
    for path, facts in disk.walk_files(folder):
        old = known.get(path)
        linked = old is not None and not path.startswith(f"{PLAINTEXT}/") and path != metadata.FILE
        if not below or path.startswith(f"{below}/"):
            yield old if old and linked else Entry(path, facts.st_size, hash_file(folder / path))


def drop_parts(home: Path, cube_id: str, *, besides: str = "") -> None:
    """Removes what was made of a cube to be packed, besides that of one version: its text may be gone from the cube."""
    claims.clear_all(home / CACHE, beginning=f"{cube_id}-")
    for path in (home / CACHE).glob(f"{cube_id}-*"):
        if not besides or not path.name.startswith(besides):
            with suppress(OSError, MemosError):
                disk.remove_tree(path)


def _version_of(cube: Memcube, wish: Wish, home: Path) -> str:
    """What a part of a package is called: it is not what the whole is, and one version is one thing."""
    version = wish.version or cube.version
    marked = [wish.mark.suffix(home, cube.id)] if wish.mark else []
    # of a part whose version was said it is that one
    parts = [*([wish.choice.suffix] if wish.choice.suffix and not wish.version else []), *marked]
    return version if not parts else f"{version}{'.' if '-' in version else '-'}{'.'.join(parts)}"


def _sign(desk: Desk, folder: Path, image: bundle.Layout, wish: Wish, key: PublicKey) -> tuple[bytes, ...]:
    """The envelopes that sign an image. Raises NotAllowed when the key signed another one as this version."""
    meta, version = metadata.load(folder), vault.read_manifest(folder)
    expires = signing.expiry(frame.now(), wish.expires_days)
    release = Release(image.name, image.version, version.cube_id, image.sequence, image.digest, expires)
    package = trust.Package("", release.name, release.version, release.cube_id, release.sequence, release.digest)
    trust.check_own(desk.home, key, package)
    said = provenance.of_version(folder, meta, version, asked=_asked(wish), tool=_tool())

    def sign(data: bytes) -> bytes:
        return keys.sign(desk.home, key.name, data)

    envelopes = (signing.seal_release(release, key=key, sign=sign),
                 signing.seal_provenance(release, said, key=key, sign=sign))  # fmt: skip
    if not wish.dry_run:
        trust.remember_own(desk.home, key, package)
    return envelopes


def _asked(wish: Wish) -> dict[str, Any]:
    return {"forms": list(wish.choice.forms), "redact": wish.choice.level or ""}


def _tool() -> str:
    from memos_cli import __version__

    return f"memos/{__version__}"


def _forms(folder: Path, choice: Choice) -> tuple[str, ...]:
    """The forms that are in a version, of those that were chosen."""
    return tuple(form for form in share.FORMS if form in choice.forms and any((folder / form).glob("*")))


def _place(output: str | Path | None, parcel: Parcel) -> Path:
    name = f"{parcel.image.name}-{parcel.version}{SUFFIX}"
    path = Path(output) if output is not None else Path(name)
    return path / name if path.is_dir() else path


def _write(parcel: Parcel, path: Path, recipients: Sequence[Any], progress: bundle.Progress | None) -> int:
    """Writes the file whole or not at all; its bytes."""
    _check_room(path, parcel.size_bytes)
    claims.clear(path)
    try:
        with claims.file_beside(path) as temporary:
            with open(temporary, "wb", buffering=0) as stream:
                if recipients:
                    pieces = archive.pieces(parcel.image, signatures=parcel.signatures, progress=progress)
                    sealing.encrypt(pieces, stream, recipients)
                else:
                    archive.write(parcel.image, disk.Steady(stream), signatures=parcel.signatures, progress=progress)
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        disk.sync(path.parent)
    except Damaged as error:
        if error.hint is None:
            raise Damaged(error.message, hint="memos audit CUBE --deep") from error
        raise
    return path.stat().st_size


def _check_room(path: Path, size_bytes: int) -> None:
    folder = path.parent
    if not folder.is_dir():
        raise Usage(f"expected a folder to put {path.name} into, found none at {folder}")
    free = shutil.disk_usage(folder).free
    if free < size_bytes + _SPARE_BYTES:
        raise MemosError(f"{path} takes {size_bytes:,} bytes, and {folder} has {free:,} left", hint="-o OTHER/FOLDER/")


def _told(cube: str, path: Path, parcel: Parcel, size_bytes: int, *, encrypted: bool, wish: Wish) -> Packed:
    image = parcel.image
    return Packed(
        cube=cube, path=str(path), name=image.name, version=parcel.version, number=image.sequence,
        digest=image.digest if parcel.settled else "",
        bytes=size_bytes, blobs=len(image.blobs) + 1, forms=parcel.forms, rows_left_out=parcel.left.rows,
        files_left_out=parcel.left.files, rewritten=parcel.rewritten,
        key=parcel.key.fingerprint if parcel.key else None, encrypted=encrypted,
        recipient=wish.mark.recipient.label if wish.mark else None, canaries=wish.mark.canaries if wish.mark else 0,
        dry_run=wish.dry_run,
    )  # fmt: skip
