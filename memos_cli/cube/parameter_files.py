"""The files of an adapter, before anything is believed of them: which there are, and what the headers of tensors say.

Knows the layout that peft writes, and nothing of what is said of an adapter.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from memos_cli.cube import parameter_config, parameter_sidecar, tensorfile
from memos_cli.cube.activation import Part, is_finite
from memos_cli.cube.parameter_config import Config, ends_of
from memos_cli.cube.tensorfile import Head, damaged
from memos_cli.errors import NotFound

CONFIG, WEIGHTS, SIDECAR, README = (
    parameter_config.FILE,
    "adapter_model.safetensors",
    parameter_sidecar.FILE,
    "README.md",
)
README_LIMIT_BYTES = 1 << 20

_NUMBERS = frozenset(parameter_sidecar.DTYPES)
_TENSOR = re.compile(r"base_model\.model\.(.+)\.lora_(A|B)\.weight")


def check_files(path: Path, *, sidecar: bool = True) -> None:
    """Whether the folder at `path` holds the files of an adapter and nothing else. Raises NotFound, Damaged."""
    try:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            raise damaged(path, "a folder, and no link to one")
        with os.scandir(path) as entries:
            found = {entry.name: entry.stat(follow_symlinks=False) for entry in entries}
    except FileNotFoundError as error:
        raise NotFound(f"no adapter at {path}") from error
    except OSError as error:
        raise damaged(path, f"a folder that can be read, found otherwise ({error.strerror})") from error
    wanted = {CONFIG, WEIGHTS, *([SIDECAR] if sidecar else [])}
    for name, facts in sorted(found.items()):
        if name not in wanted | {README}:
            raise damaged(path, f"only {', '.join(sorted(wanted))} and {README}, found {name!r:.80}")
        if not stat.S_ISREG(facts.st_mode):
            raise damaged(path / name, "an ordinary file, no link or folder")
        if name == README and facts.st_size > README_LIMIT_BYTES:
            raise damaged(path / name, f"at most {README_LIMIT_BYTES:,} bytes, found {facts.st_size:,}")
    if missing := sorted(wanted - found.keys()):
        raise damaged(path, f"a file {missing[0]}, found none")


def read_tensors(path: Path, config: Config) -> Head:
    """The header of the weights at `path`: pairs of lora_A [rank, in] and lora_B [out, rank] of the config's modules.

    Raises NotFound, Damaged.
    """
    head = tensorfile.read_head(path, sealed=False)
    modules, targets = pairs_of(head), set(config.targets)
    idle = set(targets)
    for module, shapes in modules.items():
        a, b = shapes.get("A", ()), shapes.get("B", ())
        if len(a) != 2 or len(b) != 2 or a[0] != config.rank or b[1] != config.rank:
            expected = f"lora_A [{config.rank}, in] and lora_B [out, {config.rank}] of {module}"
            raise damaged(path, f"{expected}, found {list(a)} and {list(b)}")
        ends = ends_of(module)
        if targets and targets.isdisjoint(ends):
            raise damaged(path, f"modules of {', '.join(config.targets)[:120]}, found {module}")
        idle -= ends
    if idle:
        raise damaged(path, f"weights of {min(idle)}, which {CONFIG} names, found none")
    dtype_of(head)
    return head


def pairs_of(head: Head) -> dict[str, dict[str, tuple[int, ...]]]:
    """The shapes of `A` and `B` by module. Raises Damaged for a tensor that is neither."""
    modules: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, span in head.spans.items():
        match = _TENSOR.fullmatch(name)
        if match is None:
            raise damaged(head.path, f"base_model.model.<module>.lora_A.weight or lora_B, found {name}")
        modules.setdefault(match[1], {})[match[2]] = span.shape
    if not modules:
        raise damaged(head.path, "weights of at least one module, found none")
    return modules


def check_numbers(path: Path) -> None:
    """Whether each number of the file at `path` is one, and none infinite. Raises Damaged."""
    mapped = tensorfile.open_mapped(path, sealed=False)
    for name, span in mapped.head.spans.items():
        if not is_finite(Part(span.dtype, mapped.array(name))):
            raise damaged(path, f"numbers in {name}, found one that is infinite or not a number")


def dtype_of(head: Head) -> str:
    """The one dtype of all tensors. Raises Damaged."""
    kinds = {span.dtype for span in head.spans.values()}
    if len(kinds) != 1 or not kinds <= _NUMBERS:
        raise damaged(head.path, f"tensors of one of {', '.join(sorted(_NUMBERS))}, found {', '.join(sorted(kinds))}")
    return next(iter(kinds))
