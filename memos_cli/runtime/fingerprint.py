"""What a memory was made with: the fields that must agree before a model may use it, and those that should.

A wrong model gives wrong answers without an error, so everything that decides keys and values is hashed: SHA-256 of
canonical JSON or of files, never Python's own `hash`, which differs between processes. Knows nothing of cubes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memos_cli.errors import NotFound, Usage
from memos_cli.runtime.layout import layout_of, rope_parameters
from memos_cli.runtime.model import Loaded

FORMAT_VERSION = "1"
NONE = "none"
# Where a model lies, how it computes and how it is asked: its keys and values stay the same.
_VOLATILE = frozenset(
    {
        "_name_or_path", "name_or_path", "dtype", "torch_dtype", "transformers_version", "attn_implementation",
        "_attn_implementation", "_attn_implementation_internal", "use_cache", "output_attentions",
        "output_hidden_states", "return_dict", "id2label", "label2id", "problem_type", "memos",
        "chunk_size_feed_forward", "is_encoder_decoder", "quantization_config",
    }
)  # fmt: skip
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """`hard` fields must agree, `soft` ones may differ with a warning; names and values are text."""

    hard: Mapping[str, str]
    soft: Mapping[str, str]

    @property
    def digest(self) -> str:
        """SHA-256 of the hard fields, in hexadecimal."""
        return digest_of(dict(self.hard))


@dataclass(frozen=True, slots=True)
class Difference:
    """A field that is not the same: as stored, and as it is here; None where one side lacks it."""

    field: str
    stored: str | None
    here: str | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """How two fingerprints differ. With any hard difference the memory must be refused."""

    hard: tuple[Difference, ...]
    soft: tuple[Difference, ...]

    @property
    def fits(self) -> bool:
        return not self.hard


def compare(stored: Fingerprint, here: Fingerprint) -> Comparison:
    """Which fields differ, in order of name; a field that only one side has differs too."""
    return Comparison(_differences(stored.hard, here.hard), _differences(stored.soft, here.soft))


def _differences(stored: Mapping[str, str], here: Mapping[str, str]) -> tuple[Difference, ...]:
    names = sorted({*stored, *here})
    return tuple(
        Difference(name, stored.get(name), here.get(name)) for name in names if stored.get(name) != here.get(name)
    )


def fingerprint(model: Loaded, folder: Path, *, cache: Path, adapters: Sequence[str] = ()) -> Fingerprint:
    """The fingerprint of a loaded model whose files are in `folder`; `cache` keeps digests of weights between runs.

    `adapters` are the digests of the adapters on it, in order. Raises Usage when it carries some and not as many are
    given, NotFound for a folder without weights.
    """
    carried = len(getattr(model.network, "peft_config", None) or ())
    if carried and carried != len(adapters):
        raise Usage(f"{model.name} carries adapters: expected the digest of each of {carried}, found {len(adapters)}")
    config = model.network.config.get_text_config(decoder=True)
    # an adapter wraps the network in a class of its own, and is told apart by its digest
    plain = getattr(model.network, "get_base_model", lambda: model.network)()
    hard = {
        "architecture": type(plain).__name__,
        "config": config_digest(config),
        "layout": _layout_digest(config),
        "rope": _rope_digest(model.network),
        "weights": weights_digest(folder, cache=cache),
        "adapters": ",".join(adapters) or NONE,
        "tokenizer": tokenizer_digest(model.tokenizer),
        "format": FORMAT_VERSION,
        "quantization": _quantization(model.network.config),
    }
    return Fingerprint(hard, _soft(model, config))


def under(bare: Fingerprint, adapters: Sequence[str]) -> Fingerprint:
    """The fingerprint of the same model with adapters on it, by their digests from the lowest on.

    Every key and value of a layer above the first is another one under an adapter, so their memory is of both. Raises
    Usage when `bare` has adapters already.
    """
    if bare.hard["adapters"] != NONE:
        raise Usage(f"expected the fingerprint of a bare model, found one with adapters {bare.hard['adapters'][:80]}")
    return Fingerprint({**bare.hard, "adapters": ",".join(adapters) or NONE}, bare.soft)


def digest_of(value: object) -> str:
    """SHA-256, in hexadecimal, of a value as JSON with its keys in order and no spaces."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def config_digest(config: Any) -> str:
    """The digest of what a configuration says of the network, without where it lies and how it is run."""
    told = config.get_text_config(decoder=True).to_dict()
    return digest_of({name: value for name, value in told.items() if name not in _VOLATILE})


def _layout_digest(config: Any) -> str:
    return digest_of([[one.kind, one.kv_heads, one.head_dim, one.window, one.rope] for one in layout_of(config).layers])


def _rope_digest(network: Any) -> str:
    """Of the parameters, not of the frequencies: their last bit is another on another processor.

    But frequencies that were rounded (`network.to(bfloat16)` does that) turn keys otherwise, so their type counts.
    """
    types = sorted({str(buffer.dtype) for name, buffer in network.named_buffers() if name.endswith("inv_freq")})
    return digest_of([rope_parameters(network.config), types])


def _quantization(config: Any) -> str:
    given = getattr(config, "quantization_config", None)
    if given is None:
        return NONE
    return digest_of(given if isinstance(given, Mapping) else given.to_dict())


def _soft(model: Loaded, config: Any) -> dict[str, str]:
    import torch
    import transformers

    template = model.tokenizer.chat_template
    return {
        "dtype": str(model.network.dtype).removeprefix("torch."),
        "attention": str(config._attn_implementation),
        "device": model.network.device.type,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "chat_template": digest_of(template) if template else NONE,
    }


def tokenizer_digest(tokenizer: Any) -> str:
    """The digest of how text becomes token ids: the whole tokenizer, without what a last call set in it."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return digest_of([tokenizer.get_vocab(), tokenizer.special_tokens_map])
    told = json.loads(backend.to_str())
    # a call with padding or truncation leaves both behind
    told.pop("padding", None)
    told.pop("truncation", None)
    return digest_of([told, tokenizer.special_tokens_map])


def weights_digest(folder: Path, *, cache: Path) -> str:
    """The digest of the safetensors files in a folder by name and content.

    Each file is read once: `cache/weights.json` remembers its digest by path, size and time of change. Raises NotFound.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise NotFound(f"expected weights in {folder}, found no safetensors file there")
    known = _remembered(cache)
    found = {_key(path): known.get(_key(path)) or _file_digest(path) for path in files}
    if any(known.get(key) != value for key, value in found.items()):
        _remember(cache, {**known, **found})
    return digest_of([[path.name, found[_key(path)]] for path in files])


def _key(path: Path) -> str:
    stat = path.stat()
    return f"{path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}"


def _file_digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _remembered(cache: Path) -> dict[str, str]:
    """What was remembered; nothing when it does not read, for it can always be made again."""
    try:
        told = json.loads((cache / "weights.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(told, dict):
        return {}
    return {key: value for key, value in told.items() if isinstance(value, str) and len(value) == 64}


def _remember(cache: Path, known: Mapping[str, str]) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    draft = cache / f"weights.json.{os.getpid()}"
    draft.write_text(json.dumps(known, indent=0, sort_keys=True), encoding="utf-8")
    draft.replace(cache / "weights.json")
