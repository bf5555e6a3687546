"""Adapters as wholes, for the Memory API: several made one, one of somebody else taken in, one given out, one removed.

Sums of adapters are exact, what they know together is not: the questions of each are asked of the whole before it is
kept. Trying takes long and is done on a version that is held; the writer's lock is taken for the change alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING

from memos_cli.cube import parameter, parameter_stack
from memos_cli.cube.parameter import Rights
from memos_cli.errors import CheckFailed, NotFound, Usage
from memos_cli.interface import frame
from memos_cli.interface.frame import PLAINTEXT, Changing, Desk, Reading
from memos_cli.interface.models import open_model
from memos_cli.interface.parameters import Fused, Member
from memos_cli.interface.results import Changed
from memos_cli.interface.taught import insist_adapters

if TYPE_CHECKING:
    from memos_cli.cube.probes import Probe
    from memos_cli.operation import stack

Progress = Callable[[int, int | None, str], None]
# So much smaller may the share of a member's test questions be that the whole answers.
MOST_LOST = 0.05
# Ranks that a vLLM server can be told to make room for.
SERVED_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


# --- several made one


def fuse(
    cube: str | Path,
    members: Sequence[str],
    *,
    name: str = "fused",
    model: str = "nano",
    svd: bool = False,
    verify: bool = True,
    dry_run: bool = False,
    reason: str = "",
    lock_timeout: float = 10.0,
    home: Path | None = None,
    notify: frame.Notify | None = None,
    progress: Progress | None = None,
) -> Fused:
    """One new adapter `name` whose delta is the sum of those of `members`, beside them, with all their sources.

    Exact side by side, or with `svd` at the least rank that says the same. With `verify` each member's test questions
    are asked of it and of the whole; when one loses more than 5 points nothing is kept, and the result says so. Not
    verified it is marked ungated. Raises Usage, NotFound, CheckFailed for a stale one or one without questions,
    WrongModel, NotAllowed, Locked, Damaged.
    """
    from memos_cli.operation import stack

    begin, desk = perf_counter(), frame.desk(home, notify)
    parameter.check_name(name)
    with TemporaryDirectory() as beside:
        with frame.reading(desk, cube, "distill") as seen:
            seen.facts |= {"form": "parameter", "fused": list(members), "dry_run": True}
            folder = seen.path / parameter.FOLDER
            _check_free(folder, name)
            insist_adapters(seen, members)
            made = stack.fuse(
                folder, list(members), Path(beside) / "made", now=frame.now(), way=stack.SVD if svd else stack.CAT
            )
            probes = _probes_of(seen, made.members, name)
            asked = _verify(desk, seen, made, model, probes, progress) if verify else None
        lost = [one for one in asked.members if one.before - one.after > MOST_LOST] if asked else []
        gated = asked is not None and all(one.about.gated for one in made.members)
        about = replace(made.about, gated=gated, metrics=asked.metrics if asked else {})
        told = Fused(
            cube=str(cube), number=seen.version.number, dry_run=dry_run, name=name, model=about.base.name,
            way=stack.SVD if svd else stack.CAT, rank=made.rank, error=made.error, bytes=_size(made.made),
            max_lora_rank=served_rank(made.rank), verified=verify, members=asked.members if asked else (),
            failures=tuple(_loss(one) for one in lost), published=False, seconds=0.0,
        )  # fmt: skip
        if not (lost or dry_run):
            number = _put(desk, cube, name, made, about, probes, reason=reason, lock_timeout=lock_timeout)
            told = replace(told, number=number, published=True)
    return replace(told, seconds=round(perf_counter() - begin, 3))


def served_rank(rank: int) -> int | None:
    """What a vLLM server must be told as --max-lora-rank for an adapter of this rank; None where its default does."""
    from memos_cli.operation.stack import SERVED_RANK

    if rank <= SERVED_RANK:
        return None
    return next((one for one in SERVED_RANKS if one >= rank), SERVED_RANKS[-1])


def _loss(one: Member) -> str:
    return f"{one.name} answered {one.before:.3f} of its test questions, and {one.after:.3f} in the whole"


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def _check_free(folder: Path, name: str) -> None:
    if name in parameter.names(folder):
        raise Usage(f"there is an adapter {name} already", hint="--name ANOTHER")


def _probes_of(seen: Reading, members: Sequence[parameter.Adapter], name: str) -> list[Probe]:
    """The members' questions, as those of the whole."""
    from memos_cli.cube import probes

    held = probes.read(seen.path / PLAINTEXT)
    names = [one.name for one in members]
    return [replace(one, adapter=name) for member in names for one in held if one.adapter == member]


@dataclass(frozen=True, slots=True)
class _Asked:
    members: tuple[Member, ...]
    metrics: dict[str, float]


def _verify(
    desk: Desk, seen: Reading, made: stack.Fused, model: str, probes: Sequence[Probe], progress: Progress | None
) -> _Asked:
    """Each member's test questions, asked of it with what it stands on, and of the whole."""
    from memos_cli.operation.distill import TRIAL, TRIED
    from memos_cli.operation.learned import trial
    from memos_cli.operation.probes import TEST, TRAIN
    from memos_cli.operation.tutor import Tutor
    from memos_cli.runtime import adapter
    from memos_cli.runtime.train import Turn

    opened = open_model(desk, model)
    local, folder = opened.local, seen.path / parameter.FOLDER
    base, place = made.about.base, seen.path / PLAINTEXT
    parameter.check_model(
        replace(made.members[0], about=made.about), name=local.name, hard=opened.made_with.hard,
        soft=opened.made_with.soft,
    )  # fmt: skip
    network, traits = local.load().network, local.traits

    def share(paths: Sequence[Path], member: str) -> float | None:
        with adapter.attach(network, paths):
            return trial(local.load(), traits, place, member, split=TEST, most=None)

    beneath = [parameter.read(folder, requirement.partition("@")[0]).path for requirement in made.about.requires]
    found = []
    for number, one in enumerate(made.members, 1):
        before = share([lower.path for lower in parameter_stack.chain(folder, one.name)], one.name)
        after = share([*beneath, made.made], one.name)
        if before is not None and after is not None:
            found.append(Member(one.name, one.id, round(before, 4), round(after, 4)))
        elif one.about.kind == parameter.FACTS:
            raise CheckFailed(
                f"no test questions of {one.name} are kept, so nothing tells whether the whole knows what it does",
                hint="--no-verify keeps it, marked as ungated",
            )
        if progress:
            progress(number, len(made.members), "adapters asked")
    taught = [one for one in probes if one.split == TRAIN][:TRIED]
    tutor = Tutor(local.load(), traits)
    with adapter.attach(network, [*beneath, made.made]):
        right = tutor.right([Turn(tutor.bare(one.question), tutor.coded(one.answer)) for one in taught])
    metrics = {"recall": sum(one.after for one in found) / len(found)} if found else {}
    if right:
        metrics[TRIAL] = round(sum(right) / len(right), 4)
    desk.notify(f"asked on {base.name}")
    return _Asked(tuple(found), metrics)


def _put(
    desk: Desk, cube: str | Path, name: str, made: stack.Fused, about: parameter.About, asked: Sequence[Probe], *,
    reason: str, lock_timeout: float,
) -> int:  # fmt: skip
    """The number of the version that has it. Raises CheckFailed when a member was changed meanwhile."""
    from memos_cli.cube import probes
    from memos_cli.runtime.adapter_files import peft_version

    with frame.changing(desk, cube, "distill", reason=reason, lock_timeout=lock_timeout) as change:
        folder = change.path / parameter.FOLDER
        held = {one: parameter.read(folder, one) for one in parameter.names(folder)}
        for one in made.members:
            now = held.get(one.name)
            if now is None or now.id != one.id or now.about.state != parameter.FRESH:
                raise CheckFailed(f"{one.name} was changed while it was fused; nothing was written")
        parameter.write(folder, name, made=made.made, about=about, peft_version=peft_version())
        probes.append(change.path / PLAINTEXT, asked)
        change.facts |= {"form": "parameter", "adapter": name}
        return change.commit({"fused": [one.name for one in made.members], "adapter": name}).number


# --- in and out


def import_adapter(
    cube: str | Path,
    folder: str | Path,
    *,
    name: str,
    licence: str,
    model: str = "nano",
    dry_run: bool = False,
    reason: str = "",
    lock_timeout: float = 10.0,
    home: Path | None = None,
    notify: frame.Notify | None = None,
) -> Changed:
    """Takes a plain LoRA of peft in `folder`, a skill or a style, into a cube as that of `model`, under its licence.

    Its files are checked before a number is read, and it must change what the model says. What came from another cube
    keeps its label and end. Raises Damaged for anything but a plain LoRA, WrongModel, CheckFailed, Usage, NotFound.
    """
    from memos_cli.operation import capability

    parameter.check_name(name)
    if not licence.strip():
        raise Usage("an adapter from elsewhere needs its licence", hint="--licence MIT, or as its card says")
    desk = frame.desk(home, notify)
    with frame.reading(desk, cube, "distill") as seen:
        seen.facts |= {"form": "parameter", "adapter": name, "dry_run": True}
        _check_free(seen.path / parameter.FOLDER, name)
        foreign = capability.look(Path(folder))
        opened = open_model(desk, model)
        rights = Rights(seen.cube.governance.sensitivity, licence=licence.strip())
    with frame.trying(desk, cube, "distill", dry_run=dry_run, reason=reason, lock_timeout=lock_timeout) as work:
        work.facts |= {"form": "parameter", "adapter": name, "model": opened.local.name}
        with TemporaryDirectory() as beside:
            held = work.path / parameter.FOLDER if isinstance(work, Changing) else Path(beside) / "tried"
            made, differs = capability.take_in(
                held, foreign, name=name, network=opened.local.load().network, model=opened.local.name,
                fingerprint=opened.made_with, rights=rights, now=frame.now(),
            )  # fmt: skip
        number = work.version.number
        if isinstance(work, Changing):
            number = work.commit({"imported": name, "licence": made.about.rights.licence}).number
    told = (
        f"{name}: rank {made.weights.rank}, {made.about.rights.licence}, changes {opened.local.name} by {differs:.3g}"
    )
    return Changed(str(cube), "distill", number, dry_run, (name,), told)


def export_adapter(
    cube: str | Path,
    name: str,
    folder: str | Path,
    *,
    home: Path | None = None,
    notify: frame.Notify | None = None,
) -> Changed:
    """The adapter `name` as files of peft in the new `folder`, byte for byte as it lies in the cube; a chain as one.

    It is asked for as for any sharing. Raises NotFound, NotAllowed, Usage when something is at `folder`, CheckFailed
    for a stale one, Damaged.
    """
    from memos_cli.operation import capability

    desk = frame.desk(home, notify)
    with frame.reading(desk, cube, "export") as seen:
        seen.facts |= {"to": "peft", "adapter": name}
        insist_adapters(
            seen, [one.name for one in parameter_stack.chain(seen.path / parameter.FOLDER, name)], "adapter"
        )
        one = capability.give_out(seen.path / parameter.FOLDER, name, Path(folder), now=frame.now())
        seen.touched = sorted(one.memory_ids)
        rank = served_rank(one.weights.rank)
        served = f"; vLLM needs --max-lora-rank {rank}" if rank else ""
        told = f"{folder}: {name} for {one.about.base.name}, rank {one.weights.rank}{served}"
        return Changed(str(cube), "export", seen.version.number, False, (name,), told)


def remove_adapter(
    cube: str | Path,
    name: str,
    *,
    with_above: bool = False,
    dry_run: bool = False,
    reason: str = "",
    lock_timeout: float = 10.0,
    home: Path | None = None,
    notify: frame.Notify | None = None,
) -> Changed:
    """Removes an adapter and its questions from the newest version; its memories stay, and so do older versions.

    The last goes first: with others on it, it is refused, or all of them go `with_above`. Raises NotFound, Usage.
    """
    desk = frame.desk(home, notify)
    with frame.trying(desk, cube, "distill", dry_run=dry_run, reason=reason, lock_timeout=lock_timeout) as seen:
        folder, number = seen.path / parameter.FOLDER, seen.version.number
        gone = tuple(_going(folder, name, cube=str(cube), with_above=with_above))
        seen.facts |= {"form": "parameter", "removed": list(gone)}
        if isinstance(seen, Changing):
            from memos_cli.cube import probes

            parameter_stack.remove(folder, name, with_above=with_above)
            probes.delete(seen.path / PLAINTEXT, adapters=gone)
            number = seen.commit({"removed": list(gone)}).number
    message = "nothing was changed" if dry_run else f"removed {', '.join(gone)}; older versions still have them"
    return Changed(str(cube), "distill", number, dry_run, gone, message)


def _going(folder: Path, name: str, *, cube: str, with_above: bool) -> Iterator[str]:
    """The adapters that go, the highest first. Raises as `remove_adapter`."""
    if parameter.check_name(name) not in parameter.names(folder):
        raise NotFound(f"no adapter {name} in {cube}", hint=f"memos show {cube}")
    higher = parameter_stack.above(folder, name)
    if higher and not with_above:
        raise Usage(
            f"{name} carries {', '.join(higher)}, which would answer wrongly without it",
            hint=f"--remove {higher[-1]} first, or all of them: --with-above",
        )
    yield from (*reversed(higher), name)
