"""Activation memory as a prompt cache of mlx-lm, and back: the same keys and values, under other names.

mlx-lm keeps a cache in a safetensors file: `{layer}.0` and `{layer}.1` are keys and values, [1, heads, tokens, dim],
and its metadata are lists that are flattened into `list.item`. Since 0.32 `{layer}.2` says how many of the tokens count
and the lists are what a user notes, the classes of the layers' caches, and which tensors are single numbers; before,
every token counts, and the lists are the caches' settings (none for these), the notes, and the classes. Both are read.

Such a file says neither which model nor which tokens it is of. What memos writes notes its own header and the tokens,
so that it comes back as it was, bit for bit. None of it is proof: what is read from such a file is unverified.
After mlx_lm/models/cache.py of mlx-lm 0.31.3 and 0.32.2.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from memos_cli.cube import tensorfile
from memos_cli.cube.activation import Header, Layer, Layers, Part, Tensor, identify, is_finite, tensors_of
from memos_cli.cube.activation_header import (
    COUNT_LIMIT,
    LAYER_LIMIT,
    NUMBERS,
    from_metadata,
    to_metadata,
)
from memos_cli.cube.digest import canonical
from memos_cli.cube.tensorfile import Mapped
from memos_cli.errors import Damaged, Usage

if TYPE_CHECKING:
    import numpy as np

CLASS = "KVCache"
UNVERIFIED = "unverified"
# The first version of mlx-lm that lays a file out as it does now.
CHANGED_IN = "0.32"
_PARTS = ("key", "value")
_OURS = "memos."
_TOKENS, _SUM = "memos.token_ids", "memos.numbers_sha256"
_HINT = "save the prompt cache anew with mlx_lm.models.cache.save_prompt_cache"


@dataclass(frozen=True, slots=True)
class PromptCache:
    """What a prompt cache of mlx-lm holds: keys and values under the names and in the shapes of an activation file.

    `header` and `token_ids` are what memos noted when it wrote the file; None in a file of anybody else's. `notes` are
    the notes of whoever wrote it. Nothing proves what model and text it is of, so it is always labelled unverified.
    """

    dtype: str
    tokens: int
    layers: tuple[Layer, ...]
    tensors: Mapping[str, Tensor] = field(repr=False)
    header: Header | None
    token_ids: tuple[int, ...] | None = field(repr=False)
    notes: Mapping[str, str] = field(repr=False)
    label: str = UNVERIFIED


def encode(
    header: Header,
    *,
    token_ids: Sequence[int],
    parts: Mapping[str, Part],
    model: str = "",
    before_change: bool = False,
) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a prompt cache with these keys and values, `parts` being named as in an activation file.

    `model` is the name by which mlx-lm knows the model; its own command wants one. With `before_change` the file is for
    mlx-lm before 0.32. Raises Usage for a memory that such a cache cannot hold.
    """
    _check_dense(header)
    tensors: dict[str, Tensor] = {}
    for layer in header.layers:
        for number, part in enumerate(_PARTS):
            given = parts[f"{layer.prefix}.{part}"]
            tensors[f"{layer.index}.{number}"] = Tensor(given.dtype, (1, *given.array.shape), given.array)
        if not before_change:
            tensors[f"{layer.index}.2"] = Tensor("I32", (), _number(header.tokens))
    notes = {"tokenizer_config": "{}", **({"model": model} if model else {}), **_notes(header, token_ids, parts)}
    return _flattened(notes, len(header.layers), before_change=before_change), tensors


def write(layers: Layers, path: Path, *, model: str = "", before_change: bool = False) -> None:
    """Write an open activation file as a prompt cache to `path`, whole or not at all. Raises Usage, Damaged."""
    parts = {
        f"{layer.prefix}.{name}": part for layer in layers.header.layers for name, part in layers.layer(layer).items()
    }
    ids = layers.token_ids().tolist()
    metadata, tensors = encode(layers.header, token_ids=ids, parts=parts, model=model, before_change=before_change)
    tensorfile.write(path, metadata, tensors, sealed=False)


def read(path: Path) -> PromptCache:
    """The prompt cache at `path`, checked through. Raises NotFound, Damaged, and Usage for one of another kind.

    Tensors are views of the file where they can be, so do not shorten it while they are used.
    """
    try:
        mapped = tensorfile.open_mapped(path, sealed=False)
        notes, layers = _lists(path, mapped.head.metadata)
        return _Reading(path, mapped, notes, layers).cache()
    except Damaged as error:
        raise Damaged(error.message, hint=_HINT) from error


def header_of(cache: PromptCache, like: Header, *, token_ids: Sequence[int], whose: str = "mlx-lm") -> Header:
    """The header for a file of somebody else's: `like` says memory and model, the user which tokens it is of.

    Its source tells that it is unverified. Raises Usage for another number of tokens or of layers.
    """
    if len(token_ids) != cache.tokens:
        raise Usage(f"the prompt cache is of {cache.tokens} tokens, the text has {len(token_ids)}")
    if len(cache.layers) != like.model_layers:
        raise Usage(f"the prompt cache has {len(cache.layers)} layers, the model {like.model_layers}")
    source = {**like.source, "from": whose, "label": cache.label}
    return replace(
        like, kind="segment", tokens=cache.tokens, position=0, dtype=cache.dtype, layers=cache.layers, source=source,
        quantization=None, compression={}, fidelity={}, parent="", token_sha256="", key="",
    )  # fmt: skip


def _check_dense(header: Header) -> None:
    """Raises Usage unless a plain cache of mlx-lm can hold all of it."""
    whole = len(header.layers) == header.model_layers
    reasons = {
        "it is quantised": header.quantization is not None,
        "it was compressed": bool(header.compression) or any(layer.sparse for layer in header.layers),
        "it does not begin at position 0": header.position != 0 or bool(header.parent),
        "its keys are not turned by the rope": header.rope["state"] == "pre",
        "some of its layers have a window": any(layer.kind != "full" for layer in header.layers),
        "some layers of its model keep another kind of memory": not whole,
    }
    wrong = [reason for reason, holds in reasons.items() if holds]
    if wrong:
        raise Usage(f"{header.memory} cannot be a prompt cache of mlx-lm: {', and '.join(wrong)}")


def _number(value: int) -> np.ndarray:
    import numpy as np

    return np.array([value], dtype="<i4")


def _notes(header: Header, token_ids: Sequence[int], parts: Mapping[str, Part]) -> dict[str, str]:
    """What memos notes of its own: all text fields of an activation file, the tokens, and a digest of the numbers."""
    fields = {name: text for name, text in to_metadata(header).items() if name.startswith(_OURS)}
    arrays = (parts[f"{layer.prefix}.{name}"].array for layer in header.layers for name in _PARTS)
    return {**fields, _TOKENS: canonical(list(token_ids)).decode(), _SUM: _digest(arrays)}


def _digest(arrays: Iterator[np.ndarray]) -> str:
    sha256 = hashlib.sha256()
    for array in arrays:
        sha256.update(array.data.cast("B"))
    return sha256.hexdigest()


def _flattened(notes: Mapping[str, str], layers: int, *, before_change: bool) -> dict[str, str]:
    """The three lists of the metadata, as mlx-lm flattens them."""
    classes = [CLASS] * layers
    if before_change:
        return {
            **{f"0.{index}": "" for index in range(layers)},
            **{f"1.{name}": text for name, text in notes.items()},
            **{f"2.{index}": name for index, name in enumerate(classes)},
        }
    singles = {f"2.{index + 1}.0": f"{index}.2" for index in range(layers)}
    return {
        **{f"0.{name}": text for name, text in notes.items()},
        **{f"1.{index}": name for index, name in enumerate(classes)},
        "2.0": "",
        **singles,
        **{f"2.{index + 1}.1": "scalar" for index in range(layers)},
    }


def _lists(path: Path, metadata: Mapping[str, str]) -> tuple[dict[str, str], int]:
    """The user's notes, and how many layers there are. Raises Damaged, and Usage for caches of another class."""
    lists: dict[str, dict[str, str]] = {"0": {}, "1": {}, "2": {}}
    for name, text in metadata.items():
        number, _, rest = name.partition(".")
        if number not in lists:
            raise _damaged(path, f"three lists as the metadata of a prompt cache, found {name!r:.80}")
        lists[number][rest] = text
    # since the change the last list begins with an empty text, before it with a class
    now = lists["2"].get("0") == ""
    notes, classes, rest_of = (lists["0"], lists["1"], "2") if now else (lists["1"], lists["2"], "0")
    layers = _layers_of(path, classes)
    expected = _flattened({}, layers, before_change=not now)
    wanted = {name[2:]: text for name, text in expected.items() if name[0] == rest_of}
    found = lists[rest_of]
    if found != wanted:
        wrong = min(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
        expected_text, found_text = (repr(items[wrong]) if wrong in items else "nothing" for items in (wanted, found))
        raise _damaged(path, f"{expected_text} as item {rest_of}.{wrong}, found {found_text}"[:300])
    return notes, layers


def _layers_of(path: Path, classes: Mapping[str, str]) -> int:
    layers = len(classes)
    if not 1 <= layers <= LAYER_LIMIT or classes.keys() != {str(index) for index in range(layers)}:
        raise _damaged(path, f"the classes of 1 to {LAYER_LIMIT} layers, found {sorted(classes)!r:.80}")
    others = sorted({name for name in classes.values() if name != CLASS})
    if others:
        raise Usage(
            f"{path}: only a prompt cache of {CLASS} can be read, found {', '.join(others)!r:.80}",
            hint="save it without --kv-bits and --max-kv-size",
        )
    return layers


def _damaged(place: Path | str, expected: str) -> Damaged:
    return Damaged(f"{place}: expected {expected}", hint=_HINT)


@dataclass(slots=True)
class _Reading:
    """A file whose header and metadata are sound, on its way to a cache."""

    path: Path
    mapped: Mapped
    notes: dict[str, str]
    count: int

    def cache(self) -> PromptCache:
        names = {f"{index}.{number}" for index in range(self.count) for number in (0, 1)}
        singles = {f"{index}.2" for index in range(self.count)}
        found = set(self.mapped.head.spans)
        if found not in (names, names | singles):
            wrong = min(found ^ names - singles, default="0.2")
            raise _damaged(self.path, f"keys and values of {self.count} layers, found otherwise at {wrong!r:.40}")
        read = [self._layer(index, counted=found != names) for index in range(self.count)]
        layers = tuple(layer for layer, _, _ in read)
        dtypes, tokens = {key.dtype for _, key, _ in read}, {layer.tokens for layer in layers}
        if len(dtypes) > 1 or len(tokens) > 1:
            raise _damaged(self.path, f"one type and one number of tokens, found {sorted(dtypes)} and {sorted(tokens)}")
        parts = {
            f"{layer.prefix}.{name}": part for layer, *both in read for name, part in zip(_PARTS, both, strict=True)
        }
        tensors = {name: Tensor(part.dtype, part.array.shape, part.array) for name, part in parts.items()}
        header, ids = self._ours(layers, parts)
        notes = {name: text for name, text in self.notes.items() if not name.startswith(_OURS)}
        return PromptCache(dtypes.pop(), tokens.pop(), layers, tensors, header, ids, notes)

    def _layer(self, index: int, *, counted: bool) -> tuple[Layer, Part, Part]:
        """A layer with its keys and values, cut to the tokens that count."""
        (dtype, shape), (other, like) = (self._shape(f"{index}.{number}") for number in (0, 1))
        if dtype != other or shape[:3] != like[:3]:
            raise _damaged(self.path, f"keys and values alike in layer {index}, found {dtype} {shape}, {other} {like}")
        tokens = self._counted(index, most=shape[2]) if counted else shape[2]
        key, value = (self._part(f"{index}.{number}", tokens) for number in (0, 1))
        return Layer(index, "full", shape[1], shape[3], like[3], tokens), key, value

    def _shape(self, name: str) -> tuple[str, tuple[int, ...]]:
        span = self.mapped.head.spans[name]
        if span.dtype not in NUMBERS or len(span.shape) != 4 or span.shape[0] != 1 or max(span.shape) > COUNT_LIMIT:
            said = f"found {span.dtype} {list(span.shape)!r:.80}"
            raise _damaged(self.path, f"[1, heads, tokens, dim] of {', '.join(NUMBERS)} as tensor {name}, {said}")
        return span.dtype, span.shape

    def _counted(self, index: int, *, most: int) -> int:
        """How many of a layer's tokens count; mlx-lm keeps room for more."""
        span = self.mapped.head.spans[f"{index}.2"]
        tokens = int(self.mapped.array(f"{index}.2")) if (span.dtype, span.shape) == ("I32", ()) else 0
        if not 1 <= tokens <= most:
            raise _damaged(self.path, f"from 1 to {most} as tensor {index}.2, found {tokens}")
        return tokens

    def _part(self, name: str, tokens: int) -> Part:
        import numpy as np

        # copied where tokens do not count, or where the file has numbers at odd bytes
        array = np.require(self.mapped.array(name)[0, :, :tokens], requirements=["C", "A"])
        part = Part(self.mapped.head.spans[name].dtype, array)
        if not is_finite(part):
            raise _damaged(self.path, f"numbers in tensor {name}, found one that is infinite or not a number")
        return part

    def _ours(
        self, layers: tuple[Layer, ...], parts: Mapping[str, Part]
    ) -> tuple[Header | None, tuple[int, ...] | None]:
        """The header and the tokens that memos noted, when they fit the file. Raises Damaged when they do not."""
        if _TOKENS not in self.notes:
            return None, None
        header = from_metadata(self.notes, place=self.path)
        ids = _token_ids(self.path, self.notes[_TOKENS])
        _check_dense(header)
        expected = {name: shape for name, shape in tensors_of(header).items() if name != "token_ids"}
        if {name: (part.dtype, part.array.shape) for name, part in parts.items()} != expected:
            raise _damaged(self.path, f"the keys and values of {header.tokens} tokens that memos noted, found others")
        if len(ids) != header.tokens or identify(header, _bytes(ids)) != header:
            raise _damaged(self.path, "the tokens that memos noted, found others")
        if _digest(part.array for part in parts.values()) != self.notes.get(_SUM):
            raise _damaged(self.path, "the numbers that memos wrote, found others")
        return header, ids


def _token_ids(path: Path, text: str) -> tuple[int, ...]:
    if len(text) > tensorfile.HEADER_LIMIT_BYTES or re.fullmatch(r"\[[0-9]{1,10}(,[0-9]{1,10})*\]", text) is None:
        raise _damaged(path, f"whole numbers as {_TOKENS}, found {text!r:.80}")
    try:
        ids = json.loads(text)
    except ValueError as error:
        raise _damaged(path, f"whole numbers as {_TOKENS}, found {text!r:.80}") from error
    if max(ids) > COUNT_LIMIT:
        raise _damaged(path, f"tokens up to {COUNT_LIMIT}, found {max(ids)}")
    return tuple(ids)


def _bytes(ids: Sequence[int]) -> bytes:
    import numpy as np

    return np.asarray(ids, dtype="<i4").tobytes()
