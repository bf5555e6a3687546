"""Which versions of several packages go together: resolvelib over what stores offer.

The newest version that fits everything is chosen, except that what is locked stays as long as it fits. A name is looked
up in the sources in their order, and the first that has it decides: a package says which others it needs, never where
they are to be had.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from memos_cli.cube import semver
from memos_cli.cube.semver import Range
from memos_cli.errors import CheckFailed, NotFound
from memos_cli.infrastructure.store import offer
from memos_cli.infrastructure.store.offer import Offer, Versions
from memos_cli.infrastructure.store.opening import Ways
from memos_cli.infrastructure.store.project import Locked, Wanted
from memos_cli.infrastructure.store.reference import Place, Reference
from memos_cli.infrastructure.store.transport import Transport

ROUNDS = 10_000


@dataclass(frozen=True, slots=True)
class Need:
    """A package that is needed in some versions, and by whom."""

    name: str
    range: Range
    by: str
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """One version of a package."""

    name: str
    version: str
    reference: Reference


@dataclass(slots=True)
class Shelf:
    """What the sources have, each asked once."""

    ways: Ways
    sources: Sequence[Place]
    _packages: dict[tuple[str, str | None], tuple[Reference, Transport, Versions]] = field(default_factory=dict)
    _offers: dict[str, Offer] = field(default_factory=dict)
    _yanked: dict[str, bool] = field(default_factory=dict)

    def find(self, name: str, source: Place | None = None) -> tuple[Reference, Transport, Versions]:
        """The package in the first source that has it. Raises NotFound."""
        key = (name, str(source) if source else None)
        if key not in self._packages:
            self._packages[key] = self._look(name, [source] if source else self.sources)
        return self._packages[key]

    def _look(self, name: str, sources: Sequence[Place]) -> tuple[Reference, Transport, Versions]:
        for place in sources:
            reference = place.package(name)
            transport = self.ways.package(reference)
            try:
                return reference, transport, offer.versions(transport)
            except NotFound:
                continue
        told = ", ".join(map(str, sources)) or "no source at all"
        raise NotFound(f"no package {name} in {told}", hint=f"memos search {name}")

    def offered(self, candidate: Candidate) -> Offer:
        """The candidate's small parts."""
        key = str(candidate.reference)
        if key not in self._offers:
            self._offers[key] = offer.open_offer(self.ways.package(candidate.reference), candidate.reference)
        return self._offers[key]

    def is_yanked(self, transport: Transport, known: Versions, version: str) -> bool:
        """Whether a version was taken back."""
        if version not in known.marked:
            return False
        key = f"{transport.place}:{version}"
        if key not in self._yanked:
            self._yanked[key] = offer.yanked(transport, version) is not None
        return self._yanked[key]


def resolve(
    shelf: Shelf, wanted: Iterable[Wanted], *, keep: Mapping[str, Locked], places: Mapping[str, Place]
) -> list[Offer]:
    """A version of each package that is wanted, and of each that one of them requires, sorted by name.

    `keep` are versions to stay with when they fit; `places` the stores that some names are bound to. Raises CheckFailed
    naming who needs what when nothing fits, NotFound, StoreFailed.
    """
    import resolvelib
    from resolvelib.resolvers import ResolutionImpossible, ResolutionTooDeep

    provider: Any = _Provider(shelf, keep, places)
    needs = [Need(one.name, one.range, "cubes.toml") for one in wanted]
    try:
        found: Any = resolvelib.Resolver(provider, resolvelib.BaseReporter()).resolve(needs, max_rounds=ROUNDS)
    except ResolutionImpossible as error:
        raise _impossible(shelf, places, [cause.requirement for cause in error.causes]) from error
    except ResolutionTooDeep as error:
        raise CheckFailed(f"no versions that go together were found in {ROUNDS:,} steps") from error
    return [shelf.offered(found.mapping[name]) for name in sorted(found.mapping)]


def _impossible(shelf: Shelf, places: Mapping[str, Place], causes: Sequence[Need]) -> CheckFailed:
    told = "; ".join(dict.fromkeys(f"{need.by} needs {need.name} {need.range}" for need in causes))
    first = causes[0]
    _, transport, known = shelf.find(first.name, places.get(first.name))
    fine = [text for text in known.all if not shelf.is_yanked(transport, known, text)]
    return CheckFailed(
        f"no versions go together: {told}; there are {', '.join(fine[:8]) or 'none'} of {first.name}",
        hint=f"memos info {transport.place}",
    )


class _Provider:
    """What resolvelib asks."""

    def __init__(self, shelf: Shelf, keep: Mapping[str, Locked], places: Mapping[str, Place]) -> None:
        self._shelf, self._keep, self._places = shelf, keep, places

    def identify(self, requirement_or_candidate: Need | Candidate) -> str:
        return requirement_or_candidate.name

    def get_preference(self, identifier: str, resolutions: Any, candidates: Any, information: Any, backtrack_causes: Any) -> Any:  # noqa: E501  # fmt: skip
        return identifier not in self._keep, identifier

    def narrow_requirement_selection(self, identifiers: Iterable[str], *rest: Any, **more: Any) -> Iterable[str]:
        return identifiers

    def find_matches(
        self,
        identifier: str,
        requirements: Mapping[str, Iterator[Need]],
        incompatibilities: Mapping[str, Iterator[Candidate]],
    ) -> list[Candidate]:
        needs = list(requirements[identifier])
        bad = {candidate.version for candidate in incompatibilities[identifier]}
        reference, transport, known = self._shelf.find(identifier, self._places.get(identifier))
        kept = self._keep.get(identifier)
        fitting = [
            text for text in offer.candidates(known, semver.parse_range("*"), pre=True)
            if text not in bad and all(_fits(need.range, text, known) for need in needs)
            and (not self._shelf.is_yanked(transport, known, text) or (kept is not None and kept.version == text))
        ]  # fmt: skip
        if kept is not None and kept.version in fitting:
            fitting = [kept.version, *(text for text in fitting if text != kept.version)]
        return [Candidate(identifier, text, reference.at(version=text)) for text in fitting]

    def is_satisfied_by(self, requirement: Need, candidate: Candidate) -> bool:
        version = semver.parse(candidate.version)
        return version is not None and (requirement.range.holds(version) or bool(version.pre))

    def get_dependencies(self, candidate: Candidate) -> list[Need]:
        by = f"{candidate.name} {candidate.version}"
        needed = offer.requires(self._shelf.offered(candidate).config)
        return [Need(name, semver.parse_range(text), by) for name, text in needed.items()]


def _fits(wanted: Range, text: str, known: Versions) -> bool:
    """Whether a version will do: a pre-release only where it is named, or where a package has nothing else."""
    return text in offer.candidates(known, wanted)


def unfit(wanted: Iterable[Wanted], lock: Sequence[Locked], places: Mapping[str, Place]) -> str | None:
    """Why a lock does not answer to what is wanted; None when it does."""
    known = {one.name: one for one in lock}
    waiting = [(one.name, one.range, "cubes.toml") for one in wanted]
    reached: set[str] = set()
    while waiting:
        name, needed, by = waiting.pop()
        found = known.get(name)
        if found is None:
            return f"{by} needs {name} {needed}, which is not in it"
        version = semver.parse(found.version)
        if version is None or not (needed.holds(version) or (version.pre and needed.spans(version))):
            return f"{by} needs {name} {needed}, and it has {found.version}"
        if name in places and str(places[name].package(name)) != found.package:
            return f"{name} comes from {places[name]} now"
        if name not in reached:
            reached.add(name)
            by = f"{name} {found.version}"
            waiting += [(one, semver.parse_range(text), by) for one, text in found.requires.items()]
    extra = sorted(known.keys() - reached)
    return f"nothing needs {extra[0]} any more" if extra else None
