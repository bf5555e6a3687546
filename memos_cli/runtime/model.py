"""A decoder model on this machine, through transformers: which one a name means, how it wants to be asked, loading it.

`nano` (or `default`) is the model that comes with memos; anything else is a folder or a hub id. Only safetensors
weights and architectures that transformers itself knows are read. Torch is imported when a model is loaded. Knows
nothing of cubes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from memos_cli.errors import Damaged, MissingExtra, NotFound

NANO = Path(__file__).parent / "nano"
DEFAULT = "nano"
NAMES = frozenset({DEFAULT, "default"})
# What is fetched of a hub id: no code, no pickles.
FILES = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")
# A processor computes float32 fastest; weights beyond this are left as they are, for memory counts more then.
LARGEST_WIDENED_BYTES = 4 << 30
SPAN, INSTRUCTED = "span", "instructed"
MOST_MEMORIES = 64
# How a turn ends in the usual templates; not every model's settings say so.
_ENDS = ("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<end_of_turn>", "<|end_of_turn|>", "<|endoftext|>")


@dataclass(frozen=True, slots=True)
class Traits:
    """How a model wants to be asked: what its config.json has under `memos`.

    `reader` is `span` for one that copies its answer out of the text before it, and takes no instructions; `unknown`
    is the word it says when the answer is not there; `memories` is how many it reads best at a time.
    """

    reader: str = INSTRUCTED
    unknown: str = "unknown"
    memories: int = 8

    @property
    def spans(self) -> bool:
        """Whether it copies its answer, and takes no instructions."""
        return self.reader == SPAN


def folder_of(spec: str) -> Path | None:
    """The folder that a model's name means, or None for a hub id."""
    if spec in NAMES:
        return NANO
    path = Path(spec).expanduser()
    return path if path.is_dir() or spec.startswith((".", "~", os.sep)) else None


def find(spec: str, *, files: tuple[str, ...] = FILES) -> Path:
    """The folder that holds a model. Connects only for a hub id that is not on this machine yet. Raises NotFound."""
    folder = folder_of(spec)
    if folder is not None:
        return _checked(folder, spec)
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.utils import logging
    except ImportError as error:
        raise MissingExtra(f"the model {spec} needs huggingface_hub", hint="pip install memos") from error
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        return Path(snapshot_download(spec, allow_patterns=list(files), local_files_only=True))
    except (OSError, ValueError):
        try:
            return Path(snapshot_download(spec, allow_patterns=list(files)))
        except (OSError, ValueError) as error:
            raise _absent(spec, error) from error


def _checked(folder: Path, spec: str) -> Path:
    if (folder / "config.json").is_file():
        return folder
    if folder == NANO:
        raise NotFound("the model that comes with memos is not in this installation", hint="--model FOLDER")
    raise NotFound(
        f"expected a model in the folder {spec}, found no config.json there", hint="--model nano, a folder or a hub id"
    )


def _absent(spec: str, error: Exception) -> NotFound:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    hint = "give a folder that holds it, or for an ingest with --extract-url the server that knows it"
    return NotFound(f"expected a decoder model at {spec!r}: {first}"[:500], hint)


def traits_of(folder: Path) -> Traits:
    """How the model in a folder wants to be asked. Raises Damaged."""
    path = folder / "config.json"
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise Damaged(f"{path} does not read as JSON: {error}") from error
    given = told.get("memos") if isinstance(told, dict) else None
    given = given if isinstance(given, dict) else {}
    traits = Traits(**{name: given[name] for name in ("reader", "unknown", "memories") if name in given})
    words = isinstance(traits.unknown, str) and traits.unknown.strip()
    number = type(traits.memories) is int and 1 <= traits.memories <= MOST_MEMORIES
    if traits.reader not in (SPAN, INSTRUCTED) or not words or not number:
        raise Damaged(f"{path}: expected memos to be a reader, a word for unknown and memories, found {given}"[:500])
    return traits


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in memory: its tokenizer, and the network in float32 or as its weights are."""

    name: str
    tokenizer: Any = field(repr=False)
    network: Any = field(repr=False)

    @property
    def window(self) -> int | None:
        """How many tokens it takes, prompt and answer together; None when it does not say."""
        config = self.network.config.get_text_config()
        found = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
        return found if isinstance(found, int) else None

    @property
    def ends(self) -> tuple[int, ...]:
        """The tokens that end an answer: what its settings, its tokenizer and the usual templates say."""
        told = self.network.generation_config.eos_token_id
        told = self.tokenizer.eos_token_id if told is None else told
        ends = set(told) if isinstance(told, list) else set() if told is None else {told}
        if self.tokenizer.chat_template:
            known = self.tokenizer.get_vocab()
            ends |= {known[word] for word in _ENDS if word in known}
        return tuple(sorted(ends))


@dataclass(slots=True)
class LocalModel:
    """A model by name, loaded when it is first needed. Raises NotFound at once for a folder that holds none."""

    spec: str
    _loaded: Loaded | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        folder = folder_of(self.spec)
        if folder is not None:
            _checked(folder, self.spec)

    @property
    def name(self) -> str:
        """The hub id, or the folder's own name: where it lies is of this machine only."""
        folder = folder_of(self.spec)
        return folder.resolve().name if folder else self.spec

    @property
    def traits(self) -> Traits:
        """How it wants to be asked, without loading it."""
        return traits_of(find(self.spec))

    @property
    def folder(self) -> Path:
        """Where its files are. Raises NotFound."""
        return find(self.spec)

    @property
    def loaded(self) -> bool:
        """Whether it is in memory."""
        return self._loaded is not None

    def load(self) -> Loaded:
        """The model in memory, from the second call on at once. Raises MissingExtra, NotFound, Damaged."""
        if self._loaded is None:
            folder = find(self.spec)
            self._loaded = _kept.get(folder) if _kept is not None else None
        if self._loaded is None:
            self._loaded = load(folder, name=self.name, spec=self.spec)
            if _kept is not None:
                _kept[folder] = self._loaded
        return self._loaded


# Models that stay in memory for whoever asks for them next; None as long as nobody wants that.
_kept: dict[Path, Loaded] | None = None


def keep() -> None:
    """From now on a model stays in memory: for a process that does the same to one cube after another."""
    global _kept
    _kept = {} if _kept is None else _kept


@contextmanager
def kept() -> Iterator[None]:
    """The same for a while."""
    global _kept
    before = _kept
    keep()
    try:
        yield
    finally:
        _kept = before


def import_libraries(name: str) -> None:
    """Imports what a model runs on, which takes longer than loading a small one. Raises MissingExtra."""
    try:
        import torch  # noqa: F401
        from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401
    except ImportError as error:
        raise MissingExtra(f"the model {name} needs torch and transformers", hint="pip install memos") from error


def load(folder: Path, *, name: str, spec: str = "") -> Loaded:
    """The model in a folder, on the accelerator where there is one. Raises MissingExtra, NotFound, Damaged."""
    import_libraries(name)
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    widened = device == "cpu" and _weights_bytes(folder) <= LARGEST_WIDENED_BYTES
    try:
        # False, not absent: left open, transformers asks on a terminal whether to run a model's own code.
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        reads: Any = AutoModelForCausalLM
        network, told = reads.from_pretrained(
            folder, trust_remote_code=False, use_safetensors=True, output_loading_info=True,
            dtype=torch.float32 if widened else "auto",
        )  # fmt: skip
    except SafetensorError as error:
        raise Damaged(f"the weights of {name} do not read: {error}"[:500]) from error
    except (OSError, ValueError, KeyError) as error:
        raise _absent(spec or str(folder), error) from error
    if told["missing_keys"]:
        # transformers would fill them with random numbers, and say so in a log that nobody reads
        raise Damaged(f"the weights of {name} lack {', '.join(sorted(told['missing_keys']))}"[:500])
    return Loaded(name, tokenizer, network.to(device).eval())


def _weights_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))
