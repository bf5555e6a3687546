"""MemLoader and MemDumper for parameter memory: from a version's folder onto a running model, and back.

An adapter is put on with all that it stands on, and only if each is whole, fresh, in force, and made for this model;
then it must change what the model says. Otherwise it is refused, with the reason.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from memos_cli.cube import parameter, parameter_stack
from memos_cli.cube.parameter import About, Adapter, Base
from memos_cli.errors import CheckFailed, NotAllowed, WrongModel
from memos_cli.runtime import adapter as lora
from memos_cli.runtime.adapter_files import peft_version
from memos_cli.runtime.fingerprint import NONE, Fingerprint, under

if TYPE_CHECKING:
    from memos_cli.runtime.adapter import Adapted


@dataclass(slots=True)
class Attached:
    """A model with the adapters of a cube on it, until `close`; use it as a context.

    `adapters` are from the lowest on, `fingerprint` is that of the model with them: activation memory that is made or
    read meanwhile is of both. `warnings` tell what is different here without harm, `differs` how much they change.
    """

    adapters: tuple[Adapter, ...]
    fingerprint: Fingerprint
    warnings: tuple[str, ...]
    differs: float
    adapted: Adapted = field(repr=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """The model as it was before."""
        self.adapted.close()


def check(folder: Path, name: str, *, model: str, fingerprint: Fingerprint, now: datetime) -> tuple[Adapter, ...]:
    """The adapters in `folder` that `name` needs on this model, itself the last; nothing is put on.

    `model` and `fingerprint` are those of the bare model. Raises NotFound, Damaged, WrongModel by both names,
    CheckFailed for one that is stale or was not trained on what is beneath it, NotAllowed for one past its time.
    """
    chain = parameter_stack.chain(folder, name)
    for one in chain:
        parameter.verify(folder, one.name)
        parameter.check_model(one, name=model, hard=fingerprint.hard, soft=fingerprint.soft)
        _check_state(one, now)
    return chain


def attach(folder: Path, name: str, network: Any, *, model: str, fingerprint: Fingerprint, now: datetime) -> Attached:
    """The adapter `name` in `folder` on a network, with those it stands on. Raises as `check`, CheckFailed for one that
    changes nothing, and Usage when the network carries adapters already."""
    chain = check(folder, name, model=model, fingerprint=fingerprint, now=now)
    warnings = [
        warning
        for one in chain
        for warning in parameter.check_model(one, name=model, hard=fingerprint.hard, soft=fingerprint.soft)
    ]
    # a skill has no questions of ours to pass
    ungated = [one.name for one in chain if not one.about.gated and one.about.kind == parameter.FACTS]
    warnings += [f"adapter {name} was published without passing its tests" for name in ungated]
    adapted = lora.attach(network, [one.path for one in chain])
    try:
        differs = lora.differs(adapted)
        if not differs > 0:
            raise CheckFailed(f"adapter {name} changes nothing that {model} says", hint=f"memos distill --name {name}")
    except BaseException:
        adapted.close()
        raise
    made = under(fingerprint, [one.id for one in chain])
    return Attached(chain, made, tuple(dict.fromkeys(warnings)), differs, adapted)


def store(
    adapted: Adapted, folder: Path, name: str, *, about: About, dtype: str = "float32", readme: str = "",
    anew: bool = False,
) -> Adapter:  # fmt: skip
    """Writes the adapter that was trained into `folder` as `name`, and reads it back. Raises as `parameter.write`."""
    with tempfile.TemporaryDirectory() as beside:
        made = Path(beside) / "made"
        lora.save(adapted, made, base=about.base.name, dtype=dtype)
        return parameter.write(
            folder, name, made=made, about=about, peft_version=peft_version(), readme=readme, anew=anew
        )


def base_of(model: str, fingerprint: Fingerprint) -> Base:
    """What an adapter says of the model it is made for. Raises WrongModel for one that carries adapters."""
    if fingerprint.hard["adapters"] != NONE:
        raise WrongModel(f"expected the fingerprint of {model} alone, found one with adapters on it")
    return Base(model, dict(fingerprint.hard), dict(fingerprint.soft))


def _check_state(one: Adapter, now: datetime) -> None:
    about = one.about
    if about.state != parameter.FRESH:
        raise CheckFailed(f"adapter {one.name} is stale: {about.reason}", hint=f"memos distill --name {one.name}")
    if about.rights.expires is not None and about.rights.expires <= now:
        raise NotAllowed(f"adapter {one.name} outlived its sources: it expired {about.rights.expires.isoformat()}")
