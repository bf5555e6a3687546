"""Parameter memory on disk: a folder for each adapter, in the plain layout that peft and servers load unchanged.

`parameter/<name>/` holds adapter_config.json, adapter_model.safetensors and memory.toml, and may hold a README.md;
whatever else is in it, a link or a pickle above all, has the whole folder refused. A folder is written beside its place
and renamed; only memory.toml is ever replaced in one. Knows no model. The format is told in docs/reference/format.md.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from memos_cli.cube import parameter_config, parameter_sidecar, tensorfile
from memos_cli.cube.activation import Part
from memos_cli.cube.digest import hash_file
from memos_cli.cube.fit import differences, label
from memos_cli.cube.parameter_config import Config, read_small
from memos_cli.cube.parameter_files import (
    CONFIG,
    README,
    SIDECAR,
    WEIGHTS,
    check_files,
    check_numbers,
    dtype_of,
    read_tensors,
)
from memos_cli.cube.parameter_sidecar import (
    CAPABILITY,
    DISTILLED,
    FACTS,
    FRESH,
    KNOWN,
    NAME,
    STALE,
    UNTEACHABLE,
    About,
    Base,
    Rights,
    Source,
    Weights,
    content_of,
    strictest,
)
from memos_cli.cube.tensorfile import Head, damaged
from memos_cli.cube.toml import MAX_BYTES
from memos_cli.errors import CheckFailed, NotFound, Usage, WrongModel

__all__ = [
    "CAPABILITY", "DISTILLED", "FACTS", "FOLDER", "FRESH", "KNOWN", "STALE", "UNTEACHABLE", "About", "Adapter",
    "Base", "Config", "Rights", "Source", "Weights", "check_base", "check_model", "check_name", "content_of",
    "discard", "measure", "names", "read", "revise", "strays", "strictest", "tensors_of", "verify", "write",
]  # fmt: skip

FOLDER = "parameter"


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter whose files were checked against one another: what its numbers are, and what is said of it."""

    name: str
    path: Path
    config: Config = field(repr=False)
    weights: Weights
    about: About = field(repr=False)

    @property
    def id(self) -> str:
        """The digest of what it does, 64 hex digits; what a fingerprint calls it."""
        return self.weights.id

    @property
    def reference(self) -> str:
        """What adapters above it name it by: `name@id`."""
        return f"{self.name}@{self.weights.id}"

    @property
    def memory_ids(self) -> frozenset[str]:
        """The memories whose content it was taught; those that were known or unteachable are not in it."""
        return frozenset(source.memory_id for source in self.about.sources if source.standing == DISTILLED)

    @property
    def bytes(self) -> int:
        """What its files take."""
        return sum(entry.stat(follow_symlinks=False).st_size for entry in os.scandir(self.path))


def check_name(name: str) -> str:
    """`name` itself. Raises Usage for one that no adapter can have."""
    if NAME.fullmatch(name) is None:
        raise Usage(f"an adapter's name is lower-case letters, digits, '_' and '-' (at most 64), found {name[:80]!r}")
    return name


def names(folder: Path) -> list[str]:
    """The names of the adapters in `folder` (a version's `parameter/`), in order; none when there is no such folder."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(one.name for one in entries if NAME.fullmatch(one.name) and one.is_dir(follow_symlinks=False))


def measure(folder: Path) -> tuple[int, int]:
    """How many adapters there are in `folder`, and the bytes they take; nothing is read."""
    held = names(folder)
    return len(held), sum(
        entry.stat(follow_symlinks=False).st_size for name in held for entry in os.scandir(folder / name)
    )


def strays(folder: Path) -> list[str]:
    """What lies in `folder` and is no adapter."""
    known = set(names(folder))
    return sorted(name for name in (os.listdir(folder) if folder.is_dir() else []) if name not in known)


def read(folder: Path, name: str) -> Adapter:
    """The adapter `name` in `folder`: its files, its config and the headers of its tensors checked, no number read.

    Raises NotFound, and Damaged for a folder that is not as it must be.
    """
    path = folder / check_name(name)
    check_files(path)
    config = parameter_config.read(path / CONFIG)
    head = read_tensors(path / WEIGHTS, config)
    weights, about = parameter_sidecar.parse(read_small(path / SIDECAR, limit_bytes=MAX_BYTES), place=path / SIDECAR)
    for key, said, found in (
        ("rank", weights.rank, config.rank),
        ("alpha", weights.alpha, config.alpha),
        ("targets", weights.targets, config.targets),
        ("bytes", weights.bytes, head.size_bytes),
        ("dtype", weights.dtype, dtype_of(head)),
        ("id", weights.id, parameter_sidecar.identify(config, weights.sha256)),
    ):
        if said != found:
            raise damaged(path / SIDECAR, f"{key} {found!r:.80}, as its other files have it, found {said!r:.80}")
    return Adapter(name, path, config, weights, about)


def verify(folder: Path, name: str) -> Adapter:
    """Read all of the adapter `name`: the digest of its weights, and that no number is infinite or none.

    Raises NotFound, Damaged.
    """
    adapter = read(folder, name)
    found = hash_file(adapter.path / WEIGHTS)
    if found != adapter.weights.sha256:
        expected = f"weights with sha256 {adapter.weights.sha256[:16]}, found {found[:16]}: they were changed"
        raise damaged(adapter.path / WEIGHTS, expected)
    check_numbers(adapter.path / WEIGHTS)
    return adapter


def write(
    folder: Path, name: str, *, made: Path, about: About, peft_version: str = "", readme: str = "", anew: bool = False
) -> Adapter:
    """The adapter in the folder `made` (its config and weights) as `name` in `folder`, with what is said of it.

    `anew` puts it in the place of one of that name. The adapters that it requires must be there already. Raises Usage
    when the name is taken or what is said could not be read again, NotFound, Damaged for files that may not be used.
    """
    target = folder / check_name(name)
    if os.path.lexists(target) and not anew:
        raise Usage(f"there is an adapter {name} already", hint=f"memos distill CUBE --name {name}-2")
    check_files(made, sidecar=False)
    config = parameter_config.read(made / CONFIG)
    head = read_tensors(made / WEIGHTS, config)
    check_numbers(made / WEIGHTS)
    _check_beneath(folder, name, about)
    weights = _weigh(made / WEIGHTS, head, config, peft_version)
    sidecar = parameter_sidecar.encode(weights, about)
    config = replace(config, base=about.base.name)

    def fill(beside: Path) -> None:
        shutil.copyfile(made / WEIGHTS, beside / WEIGHTS, follow_symlinks=False)
        for file, data in ((CONFIG, parameter_config.encode(config)), (SIDECAR, sidecar), (README, readme.encode())):
            if data:
                _put(beside / file, data)

    _in_place(target, fill)
    return verify(folder, name)


def revise(folder: Path, name: str, about: About) -> Adapter:
    """The same numbers with other things said of them. Raises as `read`, and Usage for what could not be read again."""
    adapter = read(folder, name)
    _put(adapter.path / SIDECAR, parameter_sidecar.encode(adapter.weights, about))
    return read(folder, name)


def check_model(adapter: Adapter, *, name: str, hard: Mapping[str, Any], soft: Mapping[str, Any]) -> tuple[str, ...]:
    """Refuse any model but the one it was made for; what differs softly comes back, as sentences to warn with.

    `hard` and `soft` are the fingerprint of the bare model. Raises WrongModel, naming both models.
    """
    return check_base(adapter.about.base, adapter.name, name=name, hard=hard, soft=soft)


def check_base(
    base: Base, adapter: str, *, name: str, hard: Mapping[str, Any], soft: Mapping[str, Any]
) -> tuple[str, ...]:
    """The same for what an adapter, called so, says of its model."""
    if wrong := differences(base.hard, hard):
        more = f" (and {len(wrong) - 2} more)" if len(wrong) > 2 else ""
        raise WrongModel(
            f"adapter {adapter!r} was made for {label(base.name, base.hard)}, this is {label(name, hard)}: "
            f"{'; '.join(wrong[:2])}{more}",
            hint="memos convert CUBE --to parameter --model M makes it for this model",
        )
    return tuple(differences(base.soft, soft))


def tensors_of(adapter: Adapter) -> Iterator[tuple[str, Part]]:
    """The tensors of an adapter by name, as views of its file."""
    mapped = tensorfile.open_mapped(adapter.path / WEIGHTS, sealed=False)
    return ((name, Part(span.dtype, mapped.array(name))) for name, span in mapped.head.spans.items())


def _weigh(path: Path, head: Head, config: Config, peft_version: str) -> Weights:
    sha256 = hash_file(path)
    return Weights(
        parameter_sidecar.identify(config, sha256), sha256, config.rank, config.alpha, config.targets,
        dtype_of(head), head.size_bytes, peft_version,
    )  # fmt: skip


def _check_beneath(folder: Path, name: str, about: About) -> None:
    """Whether what an adapter requires is there, in its order."""
    for height, requirement in enumerate(about.requires):
        lower, wanted = parameter_sidecar.split(requirement)
        if lower == name or lower not in names(folder):
            raise NotFound(f"expected the adapter {lower} beneath {name}, found none")
        adapter = read(folder, lower)
        if adapter.id != wanted:
            raise CheckFailed(f"expected {lower}@{wanted[:12]} beneath {name}, found {lower}@{adapter.id[:12]}")
        if missing := set(adapter.about.requires) - set(about.requires[:height]):
            raise Usage(f"{lower} itself stands on {', '.join(sorted(missing))[:120]}: name these first")


def _put(path: Path, data: bytes) -> None:
    """A new file in the place of the one at `path`: versions share files, so none is opened for writing."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(beside, "xb") as stream:
            stream.write(data)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _in_place(target: Path, fill: Callable[[Path], None]) -> None:
    """A folder made by `fill` in the place of `target`: there whole, or not at all."""
    target.parent.mkdir(exist_ok=True)
    beside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    discard(beside)
    try:
        beside.mkdir()
        fill(beside)
        discard(target)
        os.rename(beside, target)
    finally:
        discard(beside)


def discard(path: Path) -> None:
    """Takes the folder or file at `path` away, if there is one; what other versions share of it stays theirs."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
