"""Parameter memory for another model: made anew from the plaintext, or bound to a model that is nearly the same.

Weights of an adapter mean nothing to other weights, so it is taught again from what it was taught. Only where a base
was changed a little may it be kept, and only if its own questions say so, not its name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from memos_cli.cube import parameter, parameter_stack
from memos_cli.errors import CheckFailed, NotFound, WrongModel
from memos_cli.interface import frame
from memos_cli.interface.converting import chosen
from memos_cli.interface.distilling import ADAPTER, distill
from memos_cli.interface.models import open_model
from memos_cli.interface.results import Distilled, Rebound

if TYPE_CHECKING:
    from memos_cli.cube.parameter import Adapter
    from memos_cli.runtime.fingerprint import Fingerprint
    from memos_cli.runtime.model import LocalModel

Progress = Callable[[int, int | None, str], None]
# What must be the same for an adapter's numbers to fit at all; weights are what a small change changes.
FITTING = ("architecture", "layout", "rope", "tokenizer", "format")


def rematerialise(
    cube: str | Path,
    *,
    model: str,
    names: Sequence[str] = (),
    reason: str = "",
    lock_timeout: float = 10.0,
    home: Path | None = None,
    notify: frame.Notify | None = None,
    progress: Progress | None = None,
) -> list[Distilled]:
    """Teaches what the adapters of a cube were taught to another model, one new adapter for each, the lowest first.

    All of the cube's by default, or those in `names`; the new one of `facts` for the model `big` is `facts-big`. Each
    is a `distill` of its own with its gates; the first that falls short ends it. Raises NotFound where there is none.
    """
    desk = frame.desk(home, notify)
    with frame.reading(desk, cube, "distill") as seen:
        folder = seen.path / parameter.FOLDER
        held = [parameter.read(folder, name) for name in names or parameter.names(folder)]
        live = {one.id for one in chosen(seen, "", (), to=ADAPTER)}
    found = sorted((one for one in held if one.about.kind == parameter.FACTS), key=lambda one: len(one.about.requires))
    if not found:
        raise NotFound(
            f"expected adapters of facts in {cube}, found none", hint=f"memos distill {cube} --model {model}"
        )
    ending = re.sub(r"[^a-z0-9_-]+", "-", Path(model).name.lower()).strip("-") or "new"
    done = []
    for one in found:
        below = [requirement.partition("@")[0] for requirement in one.about.requires]
        made = distill(
            cube, model=model, name=f"{one.name}-{ending}"[:64], ids=_sources(one, live), rank=one.config.rank,
            on_top_of=f"{below[-1]}-{ending}"[:64] if below else None,
            locality=float(one.about.recipe.get("locality", 3.0)), replace_adapter=True, reason=reason,
            lock_timeout=lock_timeout, home=home, notify=notify, progress=progress,
        )  # fmt: skip
        done.append(made)
        if not made.published:
            break
    return done


def _sources(one: Adapter, live: set[str]) -> list[str]:
    """The memories that an adapter was taught and that are remembered still."""
    ids = [source.memory_id for source in one.about.sources if source.memory_id in live]
    if not ids:
        raise NotFound(
            f"what {one.name} was taught is no longer in the cube", hint="memos convert --to plaintext --from parameter"
        )
    return ids


def rebind(
    cube: str | Path,
    name: str,
    *,
    model: str,
    reason: str = "",
    lock_timeout: float = 10.0,
    home: Path | None = None,
    notify: frame.Notify | None = None,
) -> Rebound:
    """Binds an adapter to a model that differs from its own in weights only, if it answers its test questions there.

    Its fingerprint is that of the new model afterwards, and its recipe tells what it was made for. Raises WrongModel
    for a model of another shape or tokenizer, CheckFailed when too few are answered or another stands on it.
    """
    from memos_cli.operation.distill import Gates

    desk = frame.desk(home, notify)
    opened = open_model(desk, model)
    local, made_with = opened.local, opened.made_with
    with frame.changing(desk, cube, "distill", reason=reason, lock_timeout=lock_timeout) as change:
        folder = change.path / parameter.FOLDER
        one = parameter.read(folder, name)
        _check_fitting(one, local, made_with)
        if one.about.requires or parameter_stack.above(folder, name):
            raise CheckFailed(
                f"{name} is one of a chain, which is made anew as a whole", hint="memos convert --to parameter"
            )
        share = _share(change, one, local)
        if share < Gates().recall:
            raise CheckFailed(
                f"{name} answers {share:.2f} of its test questions on {local.name}, {Gates().recall:.2f} are needed",
                hint=f"memos convert {cube} --to parameter --model {model} teaches it anew",
            )
        recipe = {**one.about.recipe, "rebound_from": one.about.base.hard["weights"], "rebound_recall": share}
        base = parameter.Base(local.name, dict(made_with.hard), dict(made_with.soft))
        parameter.revise(folder, name, replace(one.about, base=base, recipe=recipe))
        change.facts |= {"form": "parameter", "adapter": name, "model": local.name}
        number = change.commit({"rebound": name, "model": local.name}).number
    return Rebound(str(cube), number, name, local.name, round(share, 4))


def _check_fitting(one: Adapter, local: LocalModel, made_with: Fingerprint) -> None:
    other = [field for field in FITTING if one.about.base.hard.get(field) != made_with.hard[field]]
    if other:
        raise WrongModel(
            f"adapter {one.name!r} was made for {one.about.base.name}, {local.name} has another {', '.join(other)}",
            hint="memos convert CUBE --to parameter --model M teaches it anew",
        )


def _share(change: frame.Changing, one: Adapter, local: LocalModel) -> float:
    """The share of its test questions that the model answers with it. Raises CheckFailed where none are kept."""
    from memos_cli.operation.learned import trial
    from memos_cli.operation.probes import TEST
    from memos_cli.runtime import adapter

    with adapter.attach(local.load().network, [one.path]):
        share = trial(local.load(), local.traits, change.path / frame.PLAINTEXT, one.name, split=TEST, most=None)
    if share is None:
        raise CheckFailed(f"no questions of {one.name} are kept, so nothing tells whether it still knows them")
    return share
