"""What a cube does not take back, opened for a verb that would write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from memos_cli.cube import denied
from memos_cli.infrastructure.keyring import secret
from memos_cli.interface.frame import Desk
from memos_cli.operation.denial import KEY_FILE, Denial


def open_denial(desk: Desk, directory: Path) -> Denial:
    """What the version whose `plaintext/` this is does not take back, as far as this home can tell."""
    entries = denied.read(directory)
    denial = Denial(entries, secret(desk.home, KEY_FILE) if entries else b"")
    if denial.foreign:
        desk.notify(
            f"{denial.foreign} memories were forgotten for good from another home; only that home can keep them out"
        )
    return denial


def refusal(desk: Desk, directory: Path) -> Callable[[str], bool] | None:
    """Whether words were forgotten for good; None when none were."""
    denial = open_denial(desk, directory)
    return denial.refuses if denial else None


def tell_refused(desk: Desk, cube: str, count: int) -> None:
    """Says how many pieces of a source were left out, when some were."""
    if count:
        desk.notify(
            f"{count} {'piece was' if count == 1 else 'pieces were'} left out: forgotten for good "
            f"(memos forget {cube} --allow-again lets them in)"
        )
