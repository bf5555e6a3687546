"""What was made of memories goes along where they do: caches, adapters and questions, from a cube into another.

A cache is bound to one model and the words of one memory, an adapter to a model and the words of several; both are
valid as they are in any cube that has these memories. One that continues, or stands on, something that stays
behind stays behind too. `choose` reads, `put` writes into a folder that it was handed.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from memos_cli.cube import activation, parameter, probes
from memos_cli.cube.parameter import Adapter
from memos_cli.cube.parameter_sidecar import BARE, CAPABILITY
from memos_cli.cube.probes import Probe
from memos_cli.errors import MemosError
from memos_cli.operation import settle

PLAINTEXT = "plaintext"


@dataclass(frozen=True, slots=True)
class From:
    """A version to take from, the memories that are the same in the new cube, and whether all of it may be taken."""

    name: str
    folder: Path
    same: frozenset[str]
    whole: bool


@dataclass(frozen=True, slots=True)
class Along:
    """Files of caches, folders of adapters and questions that go along, and what stays behind, in words."""

    caches: tuple[Path, ...] = ()
    adapters: tuple[Path, ...] = ()
    probes: tuple[Probe, ...] = ()
    left: tuple[str, ...] = ()


def choose(sides: Sequence[From]) -> Along:
    """What of some versions goes along; of two of one name that of the first."""
    adapters: dict[str, Path] = {}
    ids: dict[str, str] = {}
    caches: dict[str, Path] = {}
    asked: dict[str, Probe] = {}
    left: list[str] = []
    for side in sides:
        mine = _adapters(side, adapters, ids, left)
        _caches(side, caches, frozenset(ids.values()), left)
        for probe in probes.read(side.folder / PLAINTEXT):
            known = probe.memory_id in side.same or (not probe.memory_id and side.whole)
            if known and (not probe.adapter or probe.adapter in mine):
                asked.setdefault(probe.id, probe)
    return Along(tuple(caches.values()), tuple(adapters.values()), tuple(asked.values()), tuple(left))


def _adapters(side: From, taken: dict[str, Path], ids: dict[str, str], left: list[str]) -> frozenset[str]:
    """Adds the adapters of a version that go along; the names of these."""
    folder = side.folder / parameter.FOLDER
    held = {one.name: one for one in settle.readable(folder)}
    fit = {name for name, one in held.items() if _is_fit(one, side)}
    left += [
        f"adapter {name} of {side.name}: it cannot be read" for name in parameter.names(folder) if name not in held
    ]
    left += [
        f"adapter {name} of {side.name}: not all that it was taught is the same" for name in sorted(held.keys() - fit)
    ]
    clashing = {name for name in fit if name in taken and ids[name] != held[name].weights.id}
    left += [f"adapter {name} of {side.name}: another one has that name" for name in sorted(clashing)]
    fit -= clashing
    while lost := {name for name in fit if not {one.partition("@")[0] for one in held[name].about.requires} <= fit}:
        left += [f"adapter {name} of {side.name}: it stands on one that stays behind" for name in sorted(lost)]
        fit -= lost
    for name in sorted(fit):
        taken.setdefault(name, folder / name)
        ids.setdefault(name, held[name].weights.id)
    return frozenset(fit)


def _is_fit(one: Adapter, side: From) -> bool:
    """Whether all that an adapter was taught is the same; what was taught nothing goes with the whole of a cube."""
    return one.memory_ids <= side.same if one.memory_ids else side.whole and one.about.kind == CAPABILITY


def _caches(side: From, taken: dict[str, Path], adapters: Collection[str], left: list[str]) -> None:
    """Adds the caches of a version that go along."""
    fit: dict[Path, activation.Header] = {}
    gone = 0
    for path in activation.find(side.folder / activation.FOLDER):
        try:
            header = activation.read(path).header
        except MemosError:
            gone += 1
            continue
        under = header.hard.get("adapters") or BARE
        on = set() if under == BARE else set(str(under).split(","))
        if header.memory in side.same and on <= set(adapters):
            fit[path] = header
        else:
            gone += 1
    while lost := _hanging(fit):
        gone += len(lost)
        fit = {path: one for path, one in fit.items() if path not in lost}
    for path in fit:
        taken.setdefault(path.name, path)
    if gone:
        left.append(
            f"{gone} caches of {side.name}: their memories are not the same, or they stand on what stays behind"
        )


def _hanging(fit: Mapping[Path, activation.Header]) -> list[Path]:
    """Caches that continue one that is not among them."""
    keys = {header.key for header in fit.values()}
    return [path for path, header in fit.items() if header.parent and header.parent not in keys]


def put(tree: Path, chosen: Along) -> None:
    """Copies what goes along into the version that is made in `tree`."""
    if chosen.caches:
        (tree / activation.FOLDER).mkdir(exist_ok=True)
    for path in chosen.caches:
        shutil.copyfile(path, tree / activation.FOLDER / path.name)
    for folder in chosen.adapters:
        shutil.copytree(folder, tree / parameter.FOLDER / folder.name, copy_function=shutil.copyfile)
    if chosen.probes:
        probes.append(tree / PLAINTEXT, chosen.probes)
