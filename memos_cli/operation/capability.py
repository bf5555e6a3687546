"""Adapters that somebody else trained, into a cube and out again: a skill, a style.

What comes in is untrusted: it is checked as files before a number is read, and tried on the model it is said to be for
before it is kept. peft records its base as a name only, so that the shapes fit and the model changes is all that can be
seen; that it is of this base is what whoever brings it says.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from memos_cli.cube import parameter, parameter_config, parameter_files, parameter_sidecar, parameter_stack
from memos_cli.cube.digest import hash_file
from memos_cli.cube.parameter import About, Adapter, Base, Rights, strictest
from memos_cli.cube.parameter_files import CONFIG, README, SIDECAR, WEIGHTS
from memos_cli.cube.toml import MAX_BYTES
from memos_cli.errors import CheckFailed, Damaged, NotFound, Usage
from memos_cli.operation import stack

if TYPE_CHECKING:
    from memos_cli.runtime.fingerprint import Fingerprint

TOOL = "memos distill --import"


@dataclass(frozen=True, slots=True)
class Foreign:
    """An adapter from elsewhere whose files were checked: its config with modules named, and what came with it.

    `said_base` is what its config calls its model; `about` is what another cube said of it, None without a memory.toml.
    """

    folder: Path
    config: parameter_config.Config
    said_base: str
    about: About | None


def look(folder: Path) -> Foreign:
    """The adapter of peft in `folder`, checked as files; nothing is taken yet.

    Raises NotFound, and Damaged for anything but a plain LoRA: another file, a link, a pickle, numbers that are none.
    """
    there = os.path.lexists(folder / SIDECAR)
    try:
        parameter_files.check_files(folder, sidecar=there)
        config = parameter_config.read(folder / CONFIG, foreign=True)
        head = parameter_files.read_tensors(folder / WEIGHTS, config)
        parameter_files.check_numbers(folder / WEIGHTS)
    except Damaged as error:
        hint = f"a folder with only {CONFIG} and {WEIGHTS} of a plain LoRA is taken"
        raise Damaged(error.message, hint=hint) from error
    if not config.targets:
        # a pattern is not run: the tensors tell which modules it meant
        config = replace(config, targets=tuple(sorted(parameter_files.pairs_of(head))))
    return Foreign(folder, config, config.base, _said(folder, config) if there else None)


def _said(folder: Path, config: parameter_config.Config) -> About:
    """What came with it from another cube. Raises Damaged when it is of other weights."""
    data = parameter_config.read_small(folder / SIDECAR, limit_bytes=MAX_BYTES)
    weights, about = parameter_sidecar.parse(data, place=folder / SIDECAR)
    found = parameter_sidecar.identify(config, hash_file(folder / WEIGHTS))
    if weights.id != found:
        raise Damaged(f"{folder / SIDECAR}: is of the adapter {weights.id[:12]}, found {found[:12]} beside it")
    if about.requires:
        raise Usage(
            f"{folder} stands on {', '.join(about.requires)[:120]}, which did not come with it",
            hint="memos distill CUBE --export gives a chain out as one",
        )
    return about


def take_in(
    folder: Path, foreign: Foreign, *, name: str, network: Any, model: str, fingerprint: Fingerprint, rights: Rights,
    now: datetime, anew: bool = False,
) -> tuple[Adapter, float]:  # fmt: skip
    """The adapter as `name` in a version's `folder`, and how much it changes what the network says.

    `fingerprint` is that of the bare `model`. What another cube said of it keeps its label and its end. Raises
    WrongModel for one of another model, CheckFailed for one that changes nothing, Usage for a name that is taken.
    """
    about = About(
        kind=parameter.CAPABILITY, base=Base(model, dict(fingerprint.hard), dict(fingerprint.soft)), rights=rights,
        made_at=now, recipe={"tool": TOOL, "said_base": _short(foreign.said_base)},
    )  # fmt: skip
    if foreign.about is not None:
        about = _as_it_was(foreign.about, about, fingerprint, model, now)
    with TemporaryDirectory() as beside:
        made = Path(beside) / "adapter"
        made.mkdir()
        shutil.copyfile(foreign.folder / WEIGHTS, made / WEIGHTS, follow_symlinks=False)
        (made / CONFIG).write_bytes(parameter_config.encode(replace(foreign.config, base=model)))
        # the copy is what is checked and kept, whatever becomes of the original meanwhile
        parameter_files.read_tensors(made / WEIGHTS, foreign.config)
        differs = _try(made, network, model)
        return parameter.write(folder, name, made=made, about=about, anew=anew), differs


def _as_it_was(before: About, about: About, fingerprint: Fingerprint, model: str, now: datetime) -> About:
    """What is said of it here, with the label, end, licence and kind it had; its memories are not of this cube."""
    parameter.check_base(before.base, "from elsewhere", name=model, hard=fingerprint.hard, soft=fingerprint.soft)
    stack.check_usable("from elsewhere", before, now)
    label, expires = strictest(
        [before.rights.sensitivity, about.rights.sensitivity], [before.rights.expires, about.rights.expires]
    )
    rights = Rights(
        label, about.rights.licence or before.rights.licence, about.rights.base_licence or before.rights.base_licence,
        expires,
    )  # fmt: skip
    return replace(about, rights=rights, recipe={**before.recipe, **about.recipe}, metrics=before.metrics)


def _try(made: Path, network: Any, model: str) -> float:
    """How much it changes what a model says. Raises CheckFailed for nothing, and what `attach` raises."""
    from memos_cli.runtime import adapter

    with adapter.attach(network, [made]) as adapted:
        differs = adapter.differs(adapted)
    if not differs > 0:
        raise CheckFailed(f"the adapter changes nothing that {model} says")
    return differs


def give_out(folder: Path, name: str, target: Path, *, now: datetime) -> Adapter:
    """The adapter `name` of a version's `folder` as files of peft in the new folder `target`; a chain comes as one.

    Returns what was written out. Raises Usage when something is at `target`, CheckFailed for one that is stale,
    NotAllowed for one past its time, NotFound, Damaged.
    """
    if os.path.lexists(target):
        raise Usage(f"there is something at {target} already", hint="name a folder that is not there yet")
    if not target.absolute().parent.is_dir():
        raise NotFound(f"expected a folder {target.absolute().parent} to write {target.name} into, found none")
    chain = [parameter.verify(folder, one.name) for one in parameter_stack.chain(folder, name)]
    for one in chain:
        stack.check_usable(one.name, one.about, now)
    if len(chain) == 1:
        _copy(chain[0].path, target)
        return chain[0]
    with TemporaryDirectory() as beside:
        fused = stack.fuse(folder, [one.name for one in chain], Path(beside) / "made", now=now)
        top = chain[-1].about
        about = replace(fused.about, metrics=top.metrics, gated=all(one.about.gated for one in chain))
        whole = parameter.write(Path(beside) / "held", name, made=fused.made, about=about)
        _copy(whole.path, target)
        return replace(whole, path=target)


def _copy(source: Path, target: Path) -> None:
    """The files of an adapter in a new folder: there whole, or not at all."""
    beside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        beside.mkdir()
        for file in (CONFIG, WEIGHTS, SIDECAR, README):
            if (source / file).is_file():
                shutil.copyfile(source / file, beside / file, follow_symlinks=False)
        os.rename(beside, target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _short(text: str) -> str:
    """A name for a record: no folders of somebody's machine, and not long."""
    return "".join(letter for letter in text.replace("\\", "/").rstrip("/").split("/")[-1] if letter.isprintable())[
        :200
    ]
