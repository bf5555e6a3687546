"""What of a cube is shared: a version made of a part of another, for a package.

Rows are chosen by a condition, forms by their folder. What is left out is in no file of what is made: the table is
written anew, caches and adapters that saw a row that stays behind stay behind too, and a file that this room does not
know how to take apart is not taken along. Knows nothing of archives, keys, or of who may share what.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from memos_cli.cube import activation, exchanges, links, metadata, parameter, probes, rewriting, sources
from memos_cli.cube.filters import quote
from memos_cli.cube.metadata import SENSITIVITIES, Memcube
from memos_cli.cube.search import drop_manifests, ensure_indexes
from memos_cli.errors import Usage

if TYPE_CHECKING:
    from memos_cli.cube.plaintext import Memories

PLAINTEXT, ACTIVATION, PARAMETER = FORMS = ("plaintext", "activation", "parameter")
# Hidden by their owner: nobody is given them by the way.
FORGOTTEN = "state = 'forgotten'"
NOTHING = "false"


@dataclass(frozen=True, slots=True)
class Choice:
    """What is shared: the forms, and rows up to a level of sensitivity (None for all) that satisfy `where`."""

    forms: tuple[str, ...] = FORMS
    level: str | None = None
    where: str = ""

    def condition(self, cube: Memcube) -> str:
        """The rows of `cube` that may be shared, in whatever form, as SQL."""
        parts = [f"not ({FORGOTTEN})"]
        if self.level is not None:
            parts.append(within(cube, self.level))
        if self.where:
            parts.append(f"({self.where})")
        return " and ".join(parts)

    @property
    def suffix(self) -> str:
        """What a version of this choice is called beyond the cube's own, for it is another package."""
        forms = [] if set(self.forms) == set(FORMS) else sorted(self.forms)
        return ".".join([*([self.level] if self.level else []), *forms])


def parse_forms(text: str | None) -> tuple[str, ...]:
    """The forms in a text such as `plaintext,activation`; all for None. Raises Usage."""
    if text is None:
        return FORMS
    found = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    wrong = [form for form in found if form not in FORMS]
    if wrong or not found:
        raise Usage(f"forms are {', '.join(FORMS)}, found {text[:80]!r}", hint="--forms plaintext,activation")
    if ACTIVATION in found and PLAINTEXT not in found:
        raise Usage(
            "activation memory is that of rows, so it travels with plaintext", hint="--forms plaintext,activation"
        )
    return found


def within(cube: Memcube, level: str) -> str:
    """Rows whose sensitivity is at most `level`, as SQL; a row without a label of its own has the cube's."""
    allowed = SENSITIVITIES[: SENSITIVITIES.index(metadata.check_sensitivity(level)) + 1]
    words = [*allowed, *([""] if cube.governance.sensitivity in allowed else [])]
    return f"sensitivity in ({', '.join(map(quote, words))})"


def is_clean(folder: Path) -> bool:
    """Whether the version in `folder` can be shared as it is: its files hold nothing that was deleted."""
    return rewriting.is_clean(folder / PLAINTEXT)


def clean(folder: Path) -> int:
    """Writes the table of a draft anew, so that its files hold nothing that was deleted; its rows."""
    return rewriting.rewrite(folder / PLAINTEXT)


@dataclass(frozen=True, slots=True)
class Left:
    """How much stayed behind: rows, and files of derived forms."""

    rows: int
    files: int


def left_out(folder: Path, cube: Memcube, choice: Choice) -> Left:
    """What `derive` would leave out of the version in `folder`."""
    from memos_cli.cube.plaintext import Memories

    memories = Memories.open(folder / PLAINTEXT)
    kept = _kept(memories, choice.condition(cube))
    rows = memories.count(choice.condition(cube)) if PLAINTEXT in choice.forms else 0
    return Left(memories.count() - rows, len(_derived(folder)) - len(_travelling(folder, choice, kept)))


def derive(
    folder: Path, target: Path, cube: Memcube, choice: Choice, *, plant: Callable[[Path], None] | None = None
) -> Left:
    """Makes the version that is shared of the one in `folder` in the empty `target`; its manifest is the caller's.

    `plant` may add rows to the table before it is indexed and counted. Files that stay as they are are links to those
    of `folder`. Raises Damaged, OSError.
    """
    from memos_cli.cube.plaintext import Memories

    old = Memories.open(folder / PLAINTEXT)
    (target / PLAINTEXT).mkdir()
    condition = choice.condition(cube)
    kept = _kept(old, condition)
    rows = rewriting.write(old.table, target / PLAINTEXT, where=condition if PLAINTEXT in choice.forms else NOTHING)
    if plant:
        plant(target / PLAINTEXT)
    fresh = Memories.open(target / PLAINTEXT)
    ensure_indexes(fresh.table)
    drop_manifests(fresh.table)
    _write_catalogues(folder / PLAINTEXT, target / PLAINTEXT, fresh)
    taken = _travelling(folder, choice, kept)
    # a question tells what its memory says, and may be about none
    asked = _files(folder, f"{PLAINTEXT}/{probes.TABLE}.lance") if kept is None and PLAINTEXT in choice.forms else []
    for path in (*taken, *asked):
        _link(folder / path, target / path)
    (target / metadata.FILE).write_bytes(metadata.dumps(_described(cube, choice, target, fresh)))
    return Left(old.count() - rows, len(_derived(folder)) - len(taken))


def _kept(memories: Memories, condition: str) -> frozenset[str] | None:
    """The rows that may be shared; None for all of them."""
    if memories.count(condition) == memories.count():
        return None
    return frozenset(memories.rows(condition, columns=["id"])["id"].to_pylist())


def _derived(folder: Path) -> list[str]:
    """The files of the derived forms, by their path below `folder`."""
    return [path for form in (ACTIVATION, PARAMETER) for path in _files(folder, form)]


def _files(folder: Path, below: str) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in (folder / below).rglob("*") if path.is_file())


def _travelling(folder: Path, choice: Choice, kept: frozenset[str] | None) -> list[str]:
    """The files of the derived forms that may go along: `kept` are the rows that may, None for all."""
    found: list[str] = []
    if ACTIVATION in choice.forms:
        found += [path for path in _files(folder, ACTIVATION) if kept is None or _saw_only(folder / path, kept)]
    if PARAMETER in choice.forms:
        names = parameter.names(folder / PARAMETER) if kept is None else _adapters(folder / PARAMETER, choice, kept)
        found += [path for name in names for path in _files(folder, f"{PARAMETER}/{name}")]
    return found


def _saw_only(path: Path, kept: Collection[str]) -> bool:
    """Whether a cache is of a row that goes along, and continues no other."""
    return activation.memory_of(path) in kept and not activation.read(path).header.parent


def _adapters(folder: Path, choice: Choice, kept: frozenset[str]) -> list[str]:
    """The adapters that were made of rows that go along alone, under a label that may, on others of that kind."""
    level = SENSITIVITIES.index(choice.level) if choice.level else len(SENSITIVITIES)
    about = {name: parameter.read(folder, name).about for name in parameter.names(folder)}
    # of one that does not say what it was made of nobody can tell
    fit = {
        name
        for name, said in about.items()
        if said.sources
        and {source.memory_id for source in said.sources} <= kept
        and SENSITIVITIES.index(said.rights.sensitivity) <= level
    }
    while wanting := {name for name in fit if any(one.partition("@")[0] not in fit for one in about[name].requires)}:
        fit -= wanting
    return sorted(fit)


def _write_catalogues(source: Path, target: Path, memories: Memories) -> None:
    """The catalogues beside the table, as far as they tell of rows that are in it."""
    import pyarrow.compute as pc

    counts = pc.value_counts(memories.rows(columns=["source"])["source"].combine_chunks()).to_pylist()
    given = {one["values"]: one["counts"] for one in counts}
    known = sources.read(source)
    rest = sources.Catalogue()
    for uri in known:
        if uri in given:
            rest[uri] = replace(known[uri], memories=given[uri])
    (target / sources.FILE).write_bytes(sources.encode(rest))
    asked = [one for uri, one in exchanges.read(source).items() if uri in given]
    if asked:
        ids = frozenset(memories.rows(columns=["id"])["id"].to_pylist())
        told = [replace(one, cited=tuple(cited for cited in one.cited if cited in ids)) for one in asked]
        (target / exchanges.FILE).write_bytes(exchanges.encode(told))
    if linked := links.read(source):
        ids = frozenset(memories.rows(columns=["id"])["id"].to_pylist())
        if inside := [one for one in linked if one.ends <= ids]:
            (target / links.FILE).write_bytes(links.encode(inside))


def _described(cube: Memcube, choice: Choice, target: Path, memories: Memories) -> Memcube:
    """The metadata of what is shared: its own counts, and a label no higher than what is in it."""
    from memos_cli.cube.plaintext import LIVE

    level = cube.governance.sensitivity
    if choice.level is not None:
        level = SENSITIVITIES[min(SENSITIVITIES.index(level), SENSITIVITIES.index(choice.level))]
    files = [file.stat().st_size for file in activation.find(target / activation.FOLDER)]
    return replace(
        cube,
        governance=replace(cube.governance, sensitivity=level),
        plaintext=replace(
            cube.plaintext, memories=memories.count(), live=memories.count(LIVE),
            sources=len(sources.read(target / PLAINTEXT)), table=None,
        ),
        activation=metadata.Activation(len(files), sum(files)),
        parameter=metadata.Parameter(*parameter.measure(target / PARAMETER)),
    )  # fmt: skip


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        import shutil

        shutil.copyfile(source, target, follow_symlinks=False)
