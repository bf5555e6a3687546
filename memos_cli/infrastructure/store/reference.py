"""References: `scheme://place/name[:version|@digest]`, or a bare name that a list of sources resolves.

    file:///srv/store/team:1.4.0        oci://ghcr.io/acme/team@sha256:0a1b...        team:1.4.0

A reference never holds a secret: a user or password in one is refused, since references are written into lock files
and logs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from memos_cli.errors import Usage

SCHEMES = ("file", "oci", "oci+http", "https", "http", "s3", "gs", "az", "hf")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::\d{1,5})?")
_PART = re.compile(r"[A-Za-z0-9_~%+=,. -]+")
_HINT = "such as file:///srv/store/team:1.4.0 or oci://ghcr.io/acme/team"


@dataclass(frozen=True, slots=True)
class Reference:
    """A package in a store: `place` is everything before the name, and empty for a bare name."""

    scheme: str
    place: str
    name: str
    version: str | None = None
    digest: str | None = None

    @property
    def package(self) -> str:
        """The reference without version."""
        return f"{self.scheme}://{self.place}/{self.name}" if self.scheme else self.name

    @property
    def host(self) -> str:
        """The host a reference goes to; empty on this machine."""
        return "" if self.scheme in ("", "file") else self.place.partition("/")[0]

    def at(self, *, version: str | None = None, digest: str | None = None) -> Reference:
        """The same package under a version, or pinned to a digest."""
        return replace(self, version=version, digest=digest)

    def __str__(self) -> str:
        if self.digest:
            return f"{self.package}@{self.digest}"
        return f"{self.package}:{self.version}" if self.version else self.package


@dataclass(frozen=True, slots=True)
class Place:
    """A store: what a package's name is added to."""

    scheme: str
    path: str

    def package(self, name: str) -> Reference:
        """The package `name` in it. Raises Usage for a name outside the grammar."""
        return parse(f"{self}/{name}" if self.path.strip("/") or self.scheme != "file" else f"file:///{name}")

    def __str__(self) -> str:
        return f"{self.scheme}://{self.path}"


def is_reference(text: str) -> bool:
    """Whether `text` names a store's scheme."""
    return "://" in text


def is_name(text: str) -> bool:
    """Whether `text` is the bare name of a package."""
    return _NAME.fullmatch(text) is not None


def parse(text: str) -> Reference:
    """The package that `text` refers to. Raises Usage, naming what is wrong."""
    rest, digest = _cut_digest(text)
    if "://" not in rest:
        name, version = _cut_version(rest)
        return Reference("", "", _checked_name(name, text), version, digest)
    scheme, path = _split(rest, text)
    if digest is None:
        path, version = _cut_version(path)
    else:
        version = None
    place, _, name = path.rstrip("/").rpartition("/")
    reference = Reference(scheme, place, _checked_name(name, text), version, digest)
    _check_place(scheme, place, text)
    return reference


def parse_place(text: str) -> Place:
    """The store that `text` names. Raises Usage."""
    scheme, path = _split(text, text)
    path = path.rstrip("/")
    _check_place(scheme, path, text)
    return Place(scheme, path)


def destination(text: str, *, name: str, version: str) -> Reference:
    """Where a push of `name` goes: `text` is a store, or already the package itself.

    Raises Usage when it names another package or version: what a cube is called is in its memcube.toml.
    """
    rest, digest = _cut_digest(text)
    path, tag = _cut_version(rest) if "://" in rest else (rest, None)
    if digest is not None:
        raise Usage(f"a push makes the digest, so {text[:200]!r} cannot ask for one", hint="leave out @sha256:...")
    _split(text, text)
    last = path.rstrip("/").rpartition("/")[2]
    if tag is not None and (last, tag) != (name, version):
        raise Usage(
            f"{text[:200]!r} asks for {last}:{tag}, and the cube is {name} {version}",
            hint="a package is called as its memcube.toml says",
        )
    store = parse(path) if last == name else parse_place(path).package(name)
    return store.at(version=version)


def _cut_digest(text: str) -> tuple[str, str | None]:
    rest, at, digest = text.rpartition("@")
    if not at or not digest.startswith("sha256:"):
        return text, None
    if _DIGEST.fullmatch(digest) is None:
        raise Usage(f"expected sha256:<64 hex> after @, found {digest[:80]!r}", hint=_HINT)
    return rest, digest


def _cut_version(text: str) -> tuple[str, str | None]:
    """The version after the last colon of the last part: a colon before that belongs to a port."""
    head, slash, last = text.rpartition("/")
    name, colon, version = last.partition(":")
    if not colon or head.endswith(":/"):  # a host alone has a port, never a version
        return text, None
    if _TAG.fullmatch(version) is None:
        raise Usage(f"expected a version such as 1.4.0 after the colon, found {version[:80]!r}", hint=_HINT)
    return f"{head}{slash}{name}", version


def _split(text: str, whole: str) -> tuple[str, str]:
    scheme, mark, path = text.partition("://")
    if not mark:
        raise Usage(f"expected scheme://place, found {whole[:200]!r}", hint=_HINT)
    if scheme not in SCHEMES:
        raise Usage(f"expected one of the schemes {', '.join(SCHEMES)}, found {scheme[:40]!r}", hint=_HINT)
    return scheme, path


def _checked_name(name: str, text: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise Usage(f"expected a package's name at the end of the reference, found {text[:200]!r}", hint=_HINT)
    return name


def _check_place(scheme: str, place: str, text: str) -> None:
    if scheme == "file":
        if not place.startswith("/") and place:
            raise Usage(f"expected an absolute path after file://, found {text[:200]!r}", hint=_HINT)
        if any(ord(letter) < 32 for letter in place) or ".." in place.split("/"):
            raise Usage(f"expected a plain path, found {text[:200]!r}", hint=_HINT)
        return
    host, slash, path = place.partition("/")
    if "@" in host:
        raise Usage("a reference holds no user or password: it is written to logs and lock files", hint="docker login")
    if _HOST.fullmatch(host) is None:
        raise Usage(f"expected a host or bucket after {scheme}://, found {host[:80]!r}", hint=_HINT)
    for part in path.split("/") if slash else ():
        if part in ("", ".", "..") or _PART.fullmatch(part) is None:
            raise Usage(f"expected plain parts between the slashes, found {part[:80]!r}", hint=_HINT)
