"""Trust: which keys are believed, what a source must bring, and what was seen before.

`trust.toml` in the home says, per source, whether packages must be `signed`, known by their `digest`, or `none` of
both; and lists the keys that are believed. `trust/seen.json` keeps what was seen: the highest sequence of each key and
package, so that an old release cannot be passed off as the newest; who signed a package, so that a signature cannot be
left away; and what a version was, so that it stays that. It is written only when all else was well.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from memos_cli.cube.digest import canonical
from memos_cli.cube.toml import read_toml
from memos_cli.errors import Damaged, MemosError, NotAllowed, NotFound, Usage
from memos_cli.infrastructure import disk, keys
from memos_cli.infrastructure.keys import PublicKey
from memos_cli.infrastructure.signing import Release, open_envelope

FILE = "trust.toml"
SIGNED, DIGEST, NONE = LEVELS = ("signed", "digest", "none")
# What needs no signature without being told: what lies on this machine.
LOCAL = "file://"
_SEEN = Path("trust") / "seen.json"
_SEEN_LIMIT_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Believed:
    """A key that is believed, for sources that begin with one of `sources` (none: for all)."""

    key: PublicKey
    sources: tuple[str, ...] = ()

    def covers(self, source: str) -> bool:
        """Whether it is believed of packages from `source`."""
        return not self.sources or any(_begins(source, prefix) for prefix in self.sources)


@dataclass(frozen=True, slots=True)
class Policy:
    """What `trust.toml` says: keys, and what is required of sources, the longest matching prefix deciding."""

    keys: tuple[Believed, ...] = ()
    sources: tuple[tuple[str, str], ...] = ()

    def required(self, source: str) -> str:
        """What packages from `source` must bring."""
        matching = [(len(prefix), level) for prefix, level in self.sources if _begins(source, prefix)]
        if matching:
            return max(matching)[1]
        return DIGEST if source.startswith(LOCAL) else SIGNED

    def believes(self, key: PublicKey, source: str) -> bool:
        """Whether a signature by `key` is believed of packages from `source`."""
        return any(one.key.raw == key.raw and one.covers(source) for one in self.keys)


@dataclass(frozen=True, slots=True)
class Package:
    """What came: from where, and what its own manifest and config say it is."""

    source: str
    name: str
    version: str
    cube_id: str
    sequence: int
    digest: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """That a package may be taken: by whose signature (None for nobody's), and whether that key is believed."""

    package: Package
    key: PublicKey | None
    believed: bool
    required: str


@dataclass(slots=True)
class _Seen:
    """What was seen before. Sequences by key and package; signers by source and by cube; digests by version."""

    sequences: dict[str, int] = field(default_factory=dict)
    signers: dict[str, str] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)


def load(home: Path) -> Policy:
    """The policy of a home. Raises Damaged naming what is wrong in trust.toml."""
    place = home / FILE
    try:
        said = read_toml(place)
    except NotFound:
        return Policy()
    if odd := sorted(said.keys() - {"key", "source"}):
        raise Damaged(f"{place}: expected tables named key and source, found {odd[0]!r:.60}")
    return Policy(
        tuple(_believed(one, place) for one in _tables(said, "key", place)),
        tuple(_source(one, place) for one in _tables(said, "source", place)),
    )


def save(home: Path, policy: Policy) -> None:
    """Writes trust.toml."""
    import tomli_w

    said = {
        "source": [{"prefix": prefix, "require": level} for prefix, level in policy.sources],
        "key": [
            {"name": one.key.name, "public": one.key.raw.hex(), "sources": list(one.sources)} for one in policy.keys
        ],
    }
    disk.write_bytes(home / FILE, tomli_w.dumps({name: value for name, value in said.items() if value}).encode())


def believe(home: Path, key: PublicKey, *, sources: Sequence[str] = ()) -> Policy:
    """Adds a key to those that are believed, or gives one other sources. Raises Usage for a name that another has."""
    with _locked(home):
        policy = load(home)
        others = tuple(one for one in policy.keys if one.key.raw != key.raw)
        if any(one.key.name == key.name for one in others):
            raise Usage(f"another key is called {key.name!r} already", hint="--name OTHER")
        changed = Policy((*others, Believed(key, tuple(sources))), policy.sources)
        save(home, changed)
    return changed


def check(
    home: Path,
    package: Package,
    envelopes: Sequence[bytes],
    *,
    now: datetime,
    name: str | None = None,
    digest: str | None = None,
    level: str | None = None,
    immutable: bool = False,
) -> Verdict:
    """Whether a package may be taken. Writes nothing: `remember` does, when all else was well.

    `name` and `digest` are what was asked for; `level` stands in the place of the policy's; with `immutable` a version
    of this source is what it was when it was seen first. Raises NotAllowed, naming the rule; Damaged for signatures
    that are none.
    """
    policy, seen = load(home), _read_seen(home)
    required = level or policy.required(package.source)
    _check_asked(package, name, digest)
    found = list(_releases(package, envelopes, now))
    mine = {one.raw for one in keys.own(home)} if found else set()
    believing = [key for key in found if key.raw in mine or policy.believes(key, package.source)]
    believed = next(iter(believing), None)
    if required != NONE:
        for key in believing:
            _check_sequence(seen, key, package)
    if required == SIGNED and believed is None:
        raise _unsigned(package, found)
    if required != NONE:
        _check_stripped(seen, package, believed)
        if immutable or believed is not None:
            _check_moved(seen, package, believed)
    return Verdict(package, believed or next(iter(found), None), believed is not None, required)


def remember(home: Path, verdict: Verdict, *, immutable: bool = False) -> None:
    """Keeps what was seen of a package that was taken."""
    package = verdict.package
    with _locked(home):
        seen = _read_seen(home)
        if verdict.key is not None and verdict.believed:
            place = _of_key(verdict.key, package)
            seen.sequences[place] = max(package.sequence, seen.sequences.get(place, 0))
            for signer in _signed_places(package):
                seen.signers[signer] = verdict.key.fingerprint
            seen.digests[_version_of(package, verdict.key)] = package.digest
        if immutable:
            seen.digests[_version_of(package, None)] = package.digest
        _write_seen(home, seen)


def check_own(home: Path, key: PublicKey, package: Package) -> None:
    """Raises NotAllowed when this key signed another package as this version: what is signed never changes."""
    _check_moved(_read_seen(home), package, key)


def remember_own(home: Path, key: PublicKey, package: Package) -> None:
    """Keeps what a key of this home signed."""
    with _locked(home):
        seen = _read_seen(home)
        seen.digests[_version_of(package, key)] = package.digest
        _write_seen(home, seen)


def _releases(package: Package, envelopes: Sequence[bytes], now: datetime) -> Iterator[PublicKey]:
    """The keys whose signatures are of this very package. Raises NotAllowed for one that is of another, or too old."""
    for envelope in envelopes:
        signed = open_envelope(envelope, place=f"a signature of {package.name}")
        if signed.digest != package.digest:
            raise NotAllowed(
                f"{signed.key.fingerprint} signed {signed.digest[:23]}, this package is {package.digest[:23]}"
            )
        if signed.release is not None:
            _check_release(signed.release, package, signed.key, now)
            yield signed.key


def _check_release(release: Release, package: Package, key: PublicKey, now: datetime) -> None:
    for what in ("name", "version", "cube_id", "sequence", "digest"):
        said, found = getattr(release, what), getattr(package, what)
        if said != found:
            raise NotAllowed(
                f"{key.fingerprint} signed {what} {said!r:.90}, this package has {found!r:.90}",
                hint="do not use it: a signature of one package was put on another",
            )
    if release.expires <= now:
        raise NotAllowed(
            f"the signature of {package.name} {package.version} ended on {release.expires:%Y-%m-%d}",
            hint="get a newer release, or ask its maker to sign this one again",
        )


def _check_asked(package: Package, name: str | None, digest: str | None) -> None:
    if digest is not None and digest != package.digest:
        raise NotAllowed(
            f"asked for {digest}, found {package.digest}", hint="the package was changed since it was named"
        )
    if name is not None and name != package.name:
        raise NotAllowed(f"asked for the package {name!r}, found one that calls itself {package.name!r}")


def _check_sequence(seen: _Seen, key: PublicKey, package: Package) -> None:
    highest = seen.sequences.get(_of_key(key, package), 0)
    if package.sequence < highest:
        raise NotAllowed(
            f"{package.name} {package.version} is release {package.sequence} of {key.fingerprint}, "
            f"and release {highest} was seen before: an old one is not taken for the newest",
            hint="--require none takes it all the same",
        )


def _check_stripped(seen: _Seen, package: Package, believed: PublicKey | None) -> None:
    if believed is not None:
        return
    for place in _signed_places(package):
        if place in seen.signers:
            raise NotAllowed(
                f"{package.name} was signed by {seen.signers[place]} before, and now by no key that is believed",
                hint="do not use it before you know why; --require none takes it all the same",
            )


def _check_moved(seen: _Seen, package: Package, believed: PublicKey | None) -> None:
    for key in (believed, None) if believed else (None,):
        known = seen.digests.get(_version_of(package, key))
        if known not in (None, package.digest):
            raise NotAllowed(
                f"{package.name} {package.version} was {known} before, and now is {package.digest}: "
                "a version never changes",
                hint="memos pack CUBE --version X.Y.Z gives what changed a version of its own",
            )


def _unsigned(package: Package, found: Sequence[PublicKey]) -> NotAllowed:
    if found:
        return NotAllowed(
            f"packages from {package.source} must be signed by a key that is believed, this one is by "
            f"{found[0].fingerprint}",
            hint=f"when you know whose it is: memos keys trust '{found[0].line}'",
        )
    return NotAllowed(
        f"packages from {package.source} must be signed, and {package.name} {package.version} is not",
        hint="ask its maker to sign it (memos pack --sign), or see docs/explanation/trust.md",
    )


def _of_key(key: PublicKey, package: Package) -> str:
    return f"{key.fingerprint} {package.cube_id}"


def _signed_places(package: Package) -> tuple[str, str]:
    """Where a signature is expected once there was one: of a package at a source, and of a cube."""
    return f"{package.source} {package.name}", f"cube {package.cube_id}"


def _version_of(package: Package, key: PublicKey | None) -> str:
    return f"{key.fingerprint if key else package.source} {package.name} {package.version}"


def _begins(source: str, prefix: str) -> bool:
    """Whether a source is at or below a prefix: `oci://host/team` is not below `oci://host/te`."""
    rest = source[len(prefix) :]
    return source.startswith(prefix) and (not rest or prefix.endswith("/") or rest[0] in "/:@")


def _tables(said: dict[str, Any], name: str, place: Path) -> list[dict[str, Any]]:
    found = said.get(name, [])
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise Damaged(f"{place}: expected [[{name}]] tables")
    return found


def _believed(said: dict[str, Any], place: Path) -> Believed:
    sources = said.get("sources", [])
    if not isinstance(sources, list) or not all(isinstance(one, str) for one in sources):
        raise Damaged(f"{place}: expected a list of texts as the sources of a key")
    try:
        key = keys.parse_line(f"{keys.WORD} {said.get('public')} {said.get('name')}")
    except MemosError as error:
        raise Damaged(f"{place}: a key: {error.message}") from error
    return Believed(key, tuple(sources))


def _source(said: dict[str, Any], place: Path) -> tuple[str, str]:
    prefix, level = said.get("prefix"), said.get("require")
    if not isinstance(prefix, str) or not prefix or level not in LEVELS:
        raise Damaged(f"{place}: expected a prefix and one of {', '.join(LEVELS)} as require, found {level!r:.40}")
    return prefix, str(level)


def _read_seen(home: Path) -> _Seen:
    try:
        with open(home / _SEEN, "rb") as stream:
            data = stream.read(_SEEN_LIMIT_BYTES + 1)
    except FileNotFoundError:
        return _Seen()
    try:
        said = json.loads(data)
        return _Seen(dict(said["sequences"]), dict(said["signers"]), dict(said["digests"]))
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise Damaged(
            f"{home / _SEEN}: expected what was seen of packages, found otherwise",
            hint=f"put back a copy; without it old releases are not recognised: rm {home / _SEEN}",
        ) from error


def _write_seen(home: Path, seen: _Seen) -> None:
    data = canonical({"sequences": seen.sequences, "signers": seen.signers, "digests": seen.digests})
    (home / _SEEN).parent.mkdir(parents=True, exist_ok=True)
    disk.write_bytes(home / _SEEN, data, durable=True)


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    from filelock import FileLock

    os.makedirs(home, exist_ok=True)
    with FileLock(home / f".{FILE}.lock"):
        yield
