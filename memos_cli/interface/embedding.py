"""Which embedder a verb uses: the cube's own, or the one asked for when the cube is still free to choose.

Vectors of two embedders never mix, so a cube that has vectors decides; asking for another is refused and names both.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from memos_cli.cube.metadata import EmbedderIdentity
from memos_cli.errors import MissingExtra, NotFound, WrongModel

if TYPE_CHECKING:
    from memos_cli.interface.frame import Desk
    from memos_cli.runtime.embed import Embedder

DEFAULT = "minilm"


# The embedder that comes with memos, once it is open: it stays the same for as long as a process lives.
_opened: dict[Path, Embedder | None] = {}


def open_embedder(desk: Desk, spec: str) -> Embedder | None:
    """The embedder that `spec` names; None for "none". Raises MissingExtra, Damaged."""
    from memos_cli.runtime import embed

    def make() -> Embedder | None:
        return embed.open_embedder(spec, home=desk.home, notice=desk.notify)

    if desk.warm:
        return desk.warm.embedder(spec, make)
    if spec != DEFAULT:
        return make()
    if desk.home not in _opened:
        _opened[desk.home] = make()
    return _opened[desk.home]


def identity_of(embedder: Embedder | None) -> EmbedderIdentity | None:
    """What a table records of an embedder."""
    return EmbedderIdentity(**embedder.identity) if embedder else None


def for_cube(desk: Desk, recorded: EmbedderIdentity | None, *, spec: str | None, cube: str) -> Embedder | None:
    """The embedder for a cube whose table records `recorded`; `spec` is what the caller asks for, None for the cube's.

    Raises WrongModel when the two differ, naming both and the command that moves the cube from one to the other.
    """
    if spec is None:
        spec = spec_of(recorded)
        if recorded and spec not in (DEFAULT, "none") and "/" not in spec:
            # a table records a folder's name, not where it lay on the machine that made it
            raise NotFound(
                f"cube {cube} has vectors of {recorded.label}, a model in a folder that has to be named",
                hint="the same command with --embedder FOLDER",
            )
    embedder = open_embedder(desk, spec)
    asked = identity_of(embedder)
    if asked != recorded:
        names = [identity.label if identity else "no embedder" for identity in (recorded, asked)]
        raise WrongModel(
            f"cube {cube} has vectors of {names[0]}, you asked for {names[1]}",
            hint=f"memos reindex {cube} --embedder {spec}",
        )
    return embedder


def for_query(
    desk: Desk, recorded: EmbedderIdentity | None, *, spec: str | None, cube: str
) -> tuple[Embedder | None, str]:
    """As for_cube, but an embedder that is not installed leaves search by words, and the second value says so."""
    if recorded is None and spec in (None, "none"):
        return None, f"vectors: cube {cube} was made without an embedder"
    if spec == "none":
        return None, "vectors: switched off by --embedder none"
    try:
        return for_cube(desk, recorded, spec=spec, cube=cube), ""
    except (MissingExtra, NotFound) as error:
        if spec is not None:
            raise
        return None, f"vectors: {error.message} ({error.hint})"


def spec_of(recorded: EmbedderIdentity | None) -> str:
    """The word that names an embedder on the command line."""
    if recorded is None:
        return "none"
    return DEFAULT if recorded.name == "all-MiniLM-L6-v2" else recorded.name
