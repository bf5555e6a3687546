"""The verbs `search`, `info` and `index` of the Memory API: what stores have, told before anything is fetched."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from memos_cli.errors import Damaged, MemosError, NotAllowed, NotFound, Usage
from memos_cli.infrastructure import signing, trust
from memos_cli.infrastructure.store import catalogue, offer
from memos_cli.infrastructure.store.catalogue import Entry
from memos_cli.infrastructure.store.offer import Offer
from memos_cli.infrastructure.store.opening import Ways
from memos_cli.infrastructure.store.reference import Place
from memos_cli.infrastructure.trust import Package
from memos_cli.interface import frame
from memos_cli.interface.frame import Desk
from memos_cli.interface.shipped import Indexed, Known, Listed, PackageInfo, Signer
from memos_cli.interface.stores import PLAIN, Travel, located, opened, place_of, travelling


def search(
    words: Sequence[str] = (),
    *,
    travel: Travel = PLAIN,
    home: Path | None = None,
    notify: frame.Notify | None = None,
) -> Iterator[Listed]:
    """The packages of the sources whose name or description has all the words, in the order of the sources.

    A store with an index is asked nothing else; of others each package's newest version is looked at. A source that
    fails is told and passed over, unless all fail. Raises Usage without sources, StoreFailed.
    """
    desk = frame.desk(home, notify)
    if not travel.sources:
        raise Usage("there are no sources to search", hint="memos search --source file:///STORE")
    wanted = [word.casefold() for word in words]
    failed: list[MemosError] = []
    with travelling(desk, travel) as ways:
        for source in travel.sources:
            try:
                for entry in _entries(desk, ways, place_of(source)):
                    text = f"{entry.name} {entry.description}".casefold()
                    if all(word in text for word in wanted):
                        yield _listed(place_of(source), entry)
            except MemosError as error:
                failed.append(error)
                desk.notify(f"{source}: {error.message}")
    if len(failed) == len(travel.sources):
        raise failed[0]


def _entries(desk: Desk, ways: Ways, place: Place) -> Sequence[Entry]:
    """What a store has: by its index, or by a look at each package."""
    if place.scheme not in ("oci", "oci+http", "hf"):
        found = catalogue.read(ways.files(place.scheme, place.path))
        if found is not None:
            return found
    names = ways.packages(place)
    if not names and place.scheme in ("http", "https", "oci", "oci+http", "hf"):
        raise NotFound(f"{place} does not tell what it has", hint=f"memos info {place}/NAME")
    return [entry for name in names if (entry := _look(desk, ways, place, name)) is not None]


def _look(desk: Desk, ways: Ways, place: Place, name: str) -> Entry | None:
    """A package as an index would have it; None, and told, when it is none of ours or damaged."""
    try:
        reference = place.package(name)
        transport = ways.package(reference)
        known = offer.versions(transport)
        fine = tuple(text for text in known.all if text not in known.marked or offer.yanked(transport, text) is None)
        if not fine:
            return None
        newest = next((text for text in fine if "-" not in text), fine[0])
        return catalogue.entry_of(offer.open_offer(transport, reference.at(version=newest)), fine)
    except (NotFound, Damaged, Usage) as error:
        desk.notify(f"{place}/{name} is passed over: {error.message}")
        return None


def _listed(place: Place, entry: Entry) -> Listed:
    return Listed(
        entry.name, str(place.package(entry.name).at(version=entry.version)), entry.version, entry.description,
        entry.licence, entry.sensitivity, entry.memories, entry.bytes, len(entry.versions), entry.updated, entry.digest,
    )  # fmt: skip


def info(
    source: str, *, travel: Travel = PLAIN, home: Path | None = None, notify: frame.Notify | None = None
) -> PackageInfo:
    """All that is told of a package: licence, provenance, who signed it, its versions, and whether it may come in.

    Raises NotFound, Damaged for a package that is not what it says, StoreFailed.
    """
    desk = frame.desk(home, notify)
    with travelling(desk, travel) as ways:
        found = opened(ways, located(ways, source, travel))
        known = offer.versions(found.transport)
        versions = tuple(
            Known(text, offer.yanked(found.transport, text) if text in known.marked else None) for text in known.all
        )
    signed = [signing.open_envelope(data, place=f"a signature of {found.reference}") for data in found.envelopes]
    policy = trust.load(desk.home)
    place = found.reference.package
    signers = {one.key.fingerprint: Signer(one.key.fingerprint, one.key.name, policy.believes(one.key, place))
               for one in signed if one.release is not None}  # fmt: skip
    said = found.config.said
    told = next((dict(one.said) for one in signed if one.release is None and one.digest == found.image.digest), None)
    return PackageInfo(
        found.image.name, str(found.reference), found.image.version, found.image.digest, found.config.sequence,
        said["description"], said["licence"], said["sensitivity"], said["owner"], tuple(said["forms"]),
        said["memories"], found.image.size_bytes, offer.requires(found.config), versions, tuple(signers.values()),
        told, _refusal(desk, found),
    )  # fmt: skip


def _refusal(desk: Desk, found: Offer) -> str | None:
    """Why a pull would refuse the package as things are; None when it would not."""
    config = found.config
    package = Package(found.reference.package, config.name, config.version, config.cube_id, config.sequence,
                      found.image.digest)  # fmt: skip
    try:
        trust.check(desk.home, package, found.envelopes, now=frame.now(), name=found.reference.name, immutable=True)
    except (NotAllowed, Damaged) as error:
        return error.message
    return None


def index(
    folder: str | Path, *, dry_run: bool = False, home: Path | None = None, notify: frame.Notify | None = None
) -> Indexed:
    """Writes the index of a store in a folder, so that any web server with that folder can be searched.

    Each package's newest version is verified as far as its small parts go. Raises NotFound when nothing is there.
    """
    desk = frame.desk(home, notify)
    place = Place("file", os.path.abspath(folder))
    with travelling(desk, PLAIN) as ways:
        names = ways.packages(place)
        entries = [entry for name in names if (entry := _look(desk, ways, place, name)) is not None]
        if not entries:
            raise NotFound(f"no packages in {folder}", hint=f"memos push CUBE {place}")
        if not dry_run:
            catalogue.write(ways.files(place.scheme, place.path), entries)
    versions = sum(len(entry.versions) for entry in entries)
    return Indexed(str(Path(folder) / catalogue.FILE), len(entries), versions, dry_run)
