"""What memories take under a model on this machine: as it was measured once, or as its shape lets one guess."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from memos_cli.errors import Damaged
from memos_cli.infrastructure import measured
from memos_cli.interface import frame
from memos_cli.operation import rates as known
from memos_cli.operation.rates import ESTIMATED, MEASURED, Rates

if TYPE_CHECKING:
    from memos_cli.interface.frame import Desk
    from memos_cli.runtime.model import LocalModel


def rates_for(desk: Desk, model: str, *, estimate: bool) -> Rates:
    """The rates of a model on this machine, from the home's cache or, once, from a measurement.

    With `estimate` the model is not loaded. Raises NotFound, Usage for a model without activation memory.
    """
    from memos_cli.runtime.fingerprint import weights_digest
    from memos_cli.runtime.model import LocalModel

    local, cache = LocalModel(model), desk.home / "cache"
    weights, here = weights_digest(local.folder, cache=cache), measured.machine()
    key = key_of(local, weights, estimate=estimate)
    try:
        return known.from_json(measured.read(cache, key))
    except Damaged:
        found = _estimated(local, weights, here) if estimate else _measured(desk, local, here)
        measured.write(cache, key, known.to_json(found))
        return found


def key_of(local: LocalModel, weights: str, *, estimate: bool) -> str:
    """Under which name the rates of a model on this machine are kept."""
    config = hashlib.sha256((local.folder / "config.json").read_bytes()).hexdigest()
    return measured.key_of(ESTIMATED if estimate else MEASURED, weights, config, measured.machine())


def _estimated(local: LocalModel, weights: str, here: str) -> Rates:
    from memos_cli.operation.estimate import machine_speed, rates_of, shape_of

    shape = shape_of(local.folder)
    return rates_of(
        shape, machine_speed(), model=local.name, weights=weights, machine=here, made_at=frame.now_text()
    )  # fmt: skip


def _measured(desk: Desk, local: LocalModel, here: str) -> Rates:
    from memos_cli.errors import Usage
    from memos_cli.operation.calibrate import measure
    from memos_cli.runtime.fingerprint import fingerprint
    from memos_cli.runtime.layout import layout_of

    desk.notify(f"measuring what memories of {local.name} take on this machine, once")
    loaded = local.load()
    if refusal := layout_of(loaded.network.config).store_refusal:
        raise Usage(f"{local.name} has no activation memory: {refusal}", hint="its text can be read")
    made_with = fingerprint(loaded, local.folder, cache=desk.home / "cache")
    return measure(local, made_with, machine=here, made_at=frame.now_text())
