"""The verbs `unpack`, `trust` and `keys` of the Memory API: what comes from elsewhere, and who is believed.

A package is taken apart beside its place, verified whole, and put there by one rename; its maker's own rules stay in
it, and whose copy it is stands outside of it. It is untrusted until a believed key signed it or somebody says so.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from memos_cli.cube import archive, bundle
from memos_cli.cube.bundle import Contents
from memos_cli.cube.oci import Descriptor
from memos_cli.errors import Damaged, MemosError, NotFound, Usage
from memos_cli.infrastructure import arrival, claims, disk, keys, sealing, trust, vault
from memos_cli.infrastructure import origin as origins
from memos_cli.infrastructure.keys import PublicKey
from memos_cli.infrastructure.origin import Origin
from memos_cli.infrastructure.trust import Package, Verdict
from memos_cli.interface import frame
from memos_cli.interface.frame import Desk
from memos_cli.interface.shared import KeyInfo, Trusted, Unpacked


@dataclass(frozen=True, slots=True)
class Demand:
    """What is demanded of a package: the name and digest that were asked for, and what its source must bring.

    `level` stands in the place of the policy's; `immutable`: a version of this source is what it was at first.
    """

    source: str
    name: str | None = None
    digest: str | None = None
    level: str | None = None
    immutable: bool = False


def unpack(
    file: str | Path,
    cube: str | Path | None = None,
    *,
    identity: str | Path | None = None,
    require: str | None = None,
    dry_run: bool = False,
    home: Path | None = None,
    notify: frame.Notify | None = None,
    progress: bundle.Progress | None = None,
) -> Unpacked:
    """Makes a cube of a package: at `cube`, or `<name>.cube` here. Nothing is there until all of it is verified.

    `identity` is a file with the key to an encrypted one; `require` (`signed`, `digest`, `none`) stands in the place of
    what `trust.toml` says. Raises NotFound, Usage when something is there, Damaged, NotAllowed.
    """
    desk = frame.desk(home, notify)
    if require is not None and require not in trust.LEVELS:
        raise Usage(f"--require is one of {', '.join(trust.LEVELS)}, found {require[:60]!r}")
    path = _ordinary(Path(file))
    with _readable(desk, path, identity) as plain:
        opened = archive.open_archive(plain)
        root = desk.path(cube) if cube is not None else Path(f"{opened.image.name}.cube")
        demand = Demand(source=f"{trust.LOCAL}{os.path.realpath(path)}", level=require)
        if dry_run:
            arrival.refuse_taken(root)
            held = bundle.contents(opened.manifest, opened.fetch)
            verdict = judge(desk, held, opened.signatures, demand)
            return _told(root, held, verdict, held.manifest.version, dry_run=True)
        return take_in(desk, root, opened.manifest, opened.fetch, opened.signatures, demand, progress=progress)


def take_in(
    desk: Desk,
    root: Path,
    manifest: bytes,
    fetch: bundle.Fetch,
    signatures: Sequence[bytes],
    demand: Demand,
    *,
    consumed: Callable[[Descriptor], None] | None = None,
    progress: bundle.Progress | None = None,
) -> Unpacked:
    """Makes a cube at `root` of an image that came from anywhere; the frame of everything that comes in as one.

    `consumed` hears when a blob is not needed any more.
    """
    kept: list[tuple[Contents, Verdict]] = []

    def came(held: Contents) -> Origin:
        verdict = judge(desk, held, signatures, demand)
        kept.append((held, verdict))
        key = verdict.key.fingerprint if verdict.key else ""
        return Origin(
            source=demand.source, name=held.image.name, version=held.image.version, digest=held.image.digest, key=key,
            holder=desk.actor.key, arrived=desk.stamp("unpack").time, trusted=verdict.believed,
        )  # fmt: skip

    if root.parent == desk.home / vault.CUBES:
        os.makedirs(root.parent, exist_ok=True)
    version = arrival.receive(root, manifest, fetch, origin=came, consumed=consumed, progress=progress)
    ((held, verdict),) = kept
    try:
        with frame.reading(desk, root, "unpack") as seen:
            seen.facts |= {"package": held.image.digest, "key": verdict.key.fingerprint if verdict.key else ""}
    except MemosError:
        # what may not be here does not stay here
        with suppress(OSError, MemosError):
            disk.remove_tree(root)
        raise
    trust.remember(desk.home, verdict, immutable=demand.immutable)
    return _told(root, held, verdict, version.number, dry_run=False)


def judge(desk: Desk, held: Contents, signatures: Sequence[bytes], demand: Demand) -> Verdict:
    """Whether what is in an image may be taken. Raises NotAllowed naming the rule, Damaged."""
    image, config = held.image, held.config
    package = Package(demand.source, image.name, image.version, config.cube_id, config.sequence, image.digest)
    return trust.check(
        desk.home, package, signatures, now=frame.now(), name=demand.name, digest=demand.digest, level=demand.level,
        immutable=demand.immutable,
    )  # fmt: skip


def trust_cube(
    cube: str | Path, *, dry_run: bool = False, home: Path | None = None, notify: frame.Notify | None = None
) -> Trusted:
    """Says that the memories of a cube that was taken in may be believed. Raises Usage for one that was made here."""
    desk = frame.desk(home, notify)
    with frame.reading(desk, cube, "trust") as seen:
        before = seen.origin
        if before is None:
            raise Usage(f"{cube} was made here, and is trusted", hint=f"memos show {cube}")
        seen.facts |= {"dry_run": True} if dry_run else {"package": before.digest}
        if not dry_run:
            with disk.guard(seen.root):
                origins.trust(vault.locate(seen.root))
        return Trusted(str(cube), before.source, before.digest, before.key or None, before.trusted, dry_run)


def new_key(name: str, *, home: Path | None = None) -> KeyInfo:
    """A new key pair of this name, to sign with. Raises Usage when there is one."""
    desk = frame.desk(home)
    return _info(keys.make(desk.home, name))


def list_keys(*, home: Path | None = None) -> list[KeyInfo]:
    """The keys of this home: its own, then those that are believed."""
    desk = frame.desk(home)
    believed = trust.load(desk.home).keys
    return [
        *(_info(key) for key in keys.own(desk.home)),
        *(_info(one.key, own=False, sources=one.sources) for one in believed),
    ]


def export_key(name: str = keys.IDENTITY, *, home: Path | None = None) -> KeyInfo:
    """The public half of a key, to give to others. Raises NotFound."""
    desk = frame.desk(home)
    return _info(keys.public(desk.home, name))


def trust_key(
    key: str, *, name: str | None = None, sources: Sequence[str] = (), dry_run: bool = False, home: Path | None = None
) -> KeyInfo:
    """Believes what a key signs, of packages from these sources (none: from all).

    `key` is a line as `export_key` gives it, or a file that holds one. Raises Damaged, NotFound, Usage.
    """
    desk = frame.desk(home)
    wanted = keys.parse_line(key if key.startswith(keys.WORD) else _line_of(Path(key)), name=name)
    if not dry_run:
        trust.believe(desk.home, wanted, sources=sources)
    return _info(wanted, own=False, sources=tuple(sources))


def _info(key: PublicKey, *, own: bool = True, sources: tuple[str, ...] = ()) -> KeyInfo:
    return KeyInfo(key.name, key.fingerprint, own, sources, key.line)


def _line_of(path: Path) -> str:
    try:
        with open(path, "rb") as stream:
            return stream.read(1_000).decode("ascii")
    except OSError as error:
        raise NotFound(
            f"expected a key such as '{keys.WORD} <64 hex> name', or a file of one, found {str(path)[:100]!r}",
            hint="its owner gives it with: memos keys export",
        ) from error
    except UnicodeDecodeError as error:
        raise Damaged(f"{path}: expected one line of ASCII, found otherwise") from error


def _ordinary(path: Path) -> Path:
    """`path` itself. Raises NotFound, Usage when it is no file that can be read in any order."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError as error:
        raise NotFound(f"no package at {path}", hint="memos pack CUBE makes one") from error
    if not stat.S_ISREG(mode):
        raise Usage(f"expected a package, which is a file, found something else at {path}")
    return path


@contextmanager
def _readable(desk: Desk, path: Path, identity: str | Path | None) -> Iterator[Path]:
    """The package as it can be read: itself, or while it is needed what an encrypted one holds."""
    if not sealing.is_sealed(path):
        yield path
        return
    if identity is None:
        raise Usage(f"{path} is encrypted", hint=f"memos unpack {path} --identity KEY.txt")
    here = Path(path.name)
    # what was decrypted by a process that was killed does not stay either
    claims.clear(here)
    with claims.file_beside(here, mode=0o600) as temporary:
        with open(temporary, "wb", buffering=0) as stream:
            sealing.decrypt(path, stream, sealing.read_identity(Path(identity)))
        yield temporary


def _told(root: Path, held: Contents, verdict: Verdict, number: int, *, dry_run: bool) -> Unpacked:
    return Unpacked(
        cube=str(root), source=verdict.package.source, name=held.image.name, version=held.image.version, number=number,
        digest=held.image.digest, bytes=held.manifest.size_bytes, memories=held.config.said["memories"],
        key=verdict.key.fingerprint if verdict.key else None, trusted=verdict.believed, dry_run=dry_run,
    )  # fmt: skip
