"""Ways to stores as the verbs need them: how a reference is spelled, which source has a name, how long to try."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from memos_cli.cube import semver
from memos_cli.errors import NotFound, Usage
from memos_cli.infrastructure.store import offer, reference
from memos_cli.infrastructure.store.offer import Offer
from memos_cli.infrastructure.store.opening import Ways
from memos_cli.infrastructure.store.reference import Place, Reference
from memos_cli.infrastructure.store.wire import RETRY_SECONDS, Wire
from memos_cli.interface.frame import Desk


@dataclass(frozen=True, slots=True)
class Travel:
    """How to travel: over the network or not, for how long to try again, and where names are looked up, in order."""

    sources: tuple[str, ...] = ()
    offline: bool = False
    retry_seconds: float = RETRY_SECONDS


PLAIN = Travel()


@contextmanager
def travelling(desk: Desk, travel: Travel) -> Iterator[Ways]:
    """The ways to stores, for as long as they are needed."""
    wire = Wire(offline=travel.offline, retry_seconds=travel.retry_seconds, notify=desk.notify)
    try:
        yield Ways(desk.home, wire)
    finally:
        wire.close()


def spelled(text: str) -> str:
    """A reference as it is written in full: a plain path is one to a folder on this machine."""
    if "://" in text or "/" not in text and text not in (".", ".."):
        return text
    return f"file://{os.path.abspath(os.path.expanduser(text))}"


def place_of(text: str) -> Place:
    """The store that a source names. Raises Usage."""
    return reference.parse_place(spelled(text))


def located(ways: Ways, text: str, travel: Travel, *, needs: str = "*") -> Reference:
    """The package that `text` refers to, in the first source that has it. Raises NotFound, Usage.

    `needs` is a range: a source that has the name and no such version is passed over.
    """
    wanted = reference.parse(spelled(text))
    if wanted.scheme:
        return wanted
    if not travel.sources:
        raise Usage(
            f"{wanted.name!r} is a name without a store, and there are no sources to look it up in",
            hint=f"memos pull file:///STORE/{wanted.name}, or --source file:///STORE",
        )
    missing: list[str] = []
    for source in travel.sources:
        found = place_of(source).package(wanted.name).at(version=wanted.version, digest=wanted.digest)
        try:
            if _has(ways, found, needs):
                return found
        except NotFound as error:
            missing.append(error.message)
    raise NotFound(
        f"no {wanted} in {', '.join(travel.sources)}" + (f" ({missing[-1]})" if missing else ""),
        hint=f"memos search {wanted.name}",
    )


def _has(ways: Ways, found: Reference, needs: str) -> bool:
    transport = ways.package(found)
    if found.digest or found.version:
        transport.manifest(found.digest or str(found.version))
        return True
    return bool(offer.candidates(offer.versions(transport), semver.parse_range(needs), pre=False))


def opened(ways: Ways, wanted: Reference, *, pre: bool = False) -> Offer:
    """The version that a reference means: the one it pins, or the newest. Raises NotFound, Damaged, StoreFailed."""
    transport = ways.package(wanted)
    if not (wanted.version or wanted.digest):
        wanted = wanted.at(version=offer.newest(transport, semver.parse_range("*"), pre=pre))
    return offer.open_offer(transport, wanted)


def is_package_file(text: str | Path) -> bool:
    """Whether what is to be pushed is a package's file, and not a cube."""
    return os.path.isfile(text)
