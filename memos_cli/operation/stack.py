"""Several adapters as one: exact algebra on their numbers, and what is then said of the whole.

That the deltas add up exactly does not say that the memories do: adapters of facts that were trained apart spoil one
another, and only their questions tell. So what comes out is not gated; who fuses asks, and then says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from memos_cli.cube import parameter, parameter_sidecar
from memos_cli.cube.parameter import DISTILLED, About, Adapter, Base, Rights, Source, strictest
from memos_cli.errors import CheckFailed, NotAllowed, Usage

CAT, SVD = "cat", "svd"
WAYS = (CAT, SVD)
# Servers load up to this rank by default.
SERVED_RANK = 16


@dataclass(frozen=True, slots=True)
class Fused:
    """An adapter made of others, in the folder `made`: what is said of it, its rank, and the largest relative error."""

    made: Path
    about: About
    members: tuple[Adapter, ...]
    rank: int
    error: float


def fuse(
    folder: Path, names: Sequence[str], made: Path, *, now: datetime, way: str = CAT, rank: int | None = None
) -> Fused:
    """One plain adapter in the new folder `made` of those called `names` in `folder`; put it in with `parameter.write`.

    `cat` puts them side by side, `svd` says the same at the least rank, or at `rank` above it. Raises Usage for less
    than two, one twice, a way that is none, or a layer left out between two; NotFound, Damaged; CheckFailed for one
    that is stale, NotAllowed for one past its time, WrongModel for adapters of several models.
    """
    from memos_cli.runtime import adapter_algebra

    if way not in WAYS or (way == CAT and rank is not None):
        raise Usage(f"adapters are fused by {' or '.join(WAYS)}, and only svd takes a rank; found {way!r}")
    if len(names) < 2 or len(set(names)) != len(names):
        raise Usage(f"expected two or more adapters, each once, found {', '.join(names) or 'none'}")
    members = in_order([parameter.verify(folder, name) for name in names])
    about = said_of(folder, members, now=now, way=way)
    folders = [one.path for one in members]
    if way == CAT:
        found = adapter_algebra.concatenate(folders, made, base=about.base.name)
    else:
        found = adapter_algebra.recompress(folders, made, rank=rank, base=about.base.name)
    return Fused(made, about, members, found.rank, found.error)


def in_order(members: Sequence[Adapter]) -> tuple[Adapter, ...]:
    """The lowest first; of equal height as they were given."""
    return tuple(sorted(members, key=lambda one: len(one.about.requires)))


def said_of(folder: Path, members: Sequence[Adapter], *, now: datetime, way: str) -> About:
    """What an adapter of these members is: their base, sources and rights together, and what they all stand on."""
    for one in members:
        check_usable(one.name, one.about, now)
    kinds = {one.about.kind for one in members}
    label, expires = strictest(
        [one.about.rights.sensitivity for one in members], [one.about.rights.expires for one in members]
    )
    return About(
        kind=parameter.FACTS if parameter.FACTS in kinds else parameter.CAPABILITY,
        base=_one_base(members),
        rights=Rights(
            label, _together([one.about.rights.licence for one in members]),
            _together([one.about.rights.base_licence for one in members]), expires,
        ),
        made_at=now,
        requires=_beneath(folder, members),
        sources=_sources(members),
        recipe={"tool": "memos distill --fuse", "way": way, "members": [one.reference for one in members]},
    )  # fmt: skip


def check_usable(name: str, about: About, now: datetime) -> None:
    """Raises CheckFailed for an adapter that is stale and NotAllowed for one past its time: it is not passed on."""
    if about.state != parameter.FRESH:
        raise CheckFailed(f"adapter {name} is stale: {about.reason}", hint=f"memos distill CUBE --name {name}")
    if about.rights.expires is not None and about.rights.expires <= now:
        raise NotAllowed(f"adapter {name} outlived its sources: it expired {about.rights.expires.isoformat()}")


def _one_base(members: Sequence[Adapter]) -> Base:
    first = members[0].about.base
    for one in members[1:]:
        parameter.check_model(one, name=first.name, hard=first.hard, soft=first.soft)
    return first


def _together(licences: Sequence[str]) -> str:
    """All licences that apply, as one SPDX expression."""
    found = sorted({licence for licence in licences if licence})
    joined = " AND ".join(f"({one})" if " " in one and len(found) > 1 else one for one in found)
    return joined[: parameter_sidecar.TEXT_LIMIT_CHARACTERS]


def _beneath(folder: Path, members: Sequence[Adapter]) -> tuple[str, ...]:
    """What the members stand on and is none of them, from the lowest. Raises for a layer left out between two."""
    inside = {one.reference for one in members}
    named = {one.name for one in members}
    outside = dict.fromkeys(requirement for one in members for requirement in one.about.requires)
    rest = [requirement for requirement in outside if requirement not in inside]
    heights: dict[str, int] = {}
    for requirement in rest:
        name, wanted = parameter_sidecar.split(requirement)
        if name in named:
            raise CheckFailed(f"a member was trained on {requirement[:80]}, which was made anew since")
        lower = parameter.read(folder, name)
        if lower.id != wanted:
            raise CheckFailed(f"a member was trained on {name}@{wanted[:12]}, found {name}@{lower.id[:12]}")
        if inside & set(lower.about.requires):
            raise Usage(f"{name} stands between the adapters to be fused", hint=f"--fuse {name} as well")
        heights[requirement] = len(lower.about.requires)
    return tuple(sorted(rest, key=lambda requirement: heights[requirement]))


def _sources(members: Sequence[Adapter]) -> tuple[Source, ...]:
    """Each memory once: as it was taught, where one of them was."""
    found: dict[str, Source] = {}
    for source in (source for one in members for source in one.about.sources):
        before = found.get(source.memory_id)
        if before is None or (source.standing == DISTILLED and before.standing != DISTILLED):
            found[source.memory_id] = source
    return tuple(found.values())
