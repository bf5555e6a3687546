"""A local model that adapters are made for or put on: in memory, and told apart from every other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memos_cli.interface.frame import Desk
    from memos_cli.runtime.fingerprint import Fingerprint
    from memos_cli.runtime.model import LocalModel


@dataclass(frozen=True, slots=True)
class Opened:
    """A model in memory and what it is."""

    local: LocalModel
    made_with: Fingerprint


def open_model(desk: Desk, model: str) -> Opened:
    """The model of this name (`nano`, a folder or a hub id), ready. Raises NotFound, Damaged, MissingExtra."""
    from memos_cli.runtime.fingerprint import fingerprint
    from memos_cli.runtime.model import LocalModel

    local = LocalModel(model)
    desk.notify(f"loading {local.name}")
    return Opened(local, fingerprint(local.load(), local.folder, cache=desk.home / "cache"))
