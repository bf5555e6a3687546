"""What an activation file says of itself: of which memory, made how, for which model, and which tensors it must hold.

On disk it is a set of text fields beginning `memos.`, those with parts as canonical JSON. Reading is strict: a field
that is missing, or holds what was never written there, is Damaged; one that is not known is passed over. Knows no
file and no tensor's content.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from memos_cli.cube.digest import canonical, encode
from memos_cli.cube.tensorfile import damaged
from memos_cli.errors import Damaged

FORMAT, VERSION = "kv", "1"
KINDS = ("segment", "prefix")
LAYER_KINDS = ("full", "sliding")
ROPE_STATES = ("post", "pre", "none")
NUMBERS = ("F32", "F16", "BF16")
# Of the model's fingerprint: one that is missing or differs is a refusal.
HARD_FIELDS = ("adapters", "architecture", "config", "layout", "rope", "tokenizer", "weights")
LAYER_LIMIT = 1000
COUNT_LIMIT = 2**31 - 1
FIELD_LIMIT_CHARACTERS = 512 * 1024
KEY_IN_NAME_CHARACTERS = 12

_MEMORY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")
_HEX = re.compile(r"[0-9a-f]{64}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_COUNT = re.compile(r"0|[1-9][0-9]{0,9}")
_FIGURE = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?(e[+-]?[0-9]{1,3})?")


class Shape(NamedTuple):
    """What a model's layer keeps for a token: heads, numbers of a key and of a value, and its window (0 for all)."""

    kind: str
    heads: int
    key_dim: int
    value_dim: int
    window: int = 0


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer with memory: its number in the model from 0, its shape, the tokens each head kept, and whether they
    were chosen per head (then their places are a tensor) or are the last ones."""

    index: int
    kind: str
    heads: int
    key_dim: int
    value_dim: int
    tokens: int
    window: int = 0
    sparse: bool = False

    @property
    def shape(self) -> Shape:
        """The layer as the model sees it."""
        return Shape(self.kind, self.heads, self.key_dim, self.value_dim, self.window)

    @property
    def prefix(self) -> str:
        """What the names of its tensors begin with; padded, so that order by name is order by layer."""
        return f"layers.{self.index:03d}"


@dataclass(frozen=True, slots=True)
class Scheme:
    """How keys or values are quantised: bits (4, 8), numbers of one `channel` or of one `token` share a scale,
    `group` of them at a time (0 for all)."""

    bits: int
    per: str
    group: int = 0


@dataclass(frozen=True, slots=True)
class Quantization:
    """The schemes of keys and of values (None: as they are), and the dtype of scales and zeros."""

    key: Scheme | None
    value: Scheme | None
    scales: str = "F16"


@dataclass(frozen=True, slots=True)
class Header:
    """All that an activation file says of itself. The last four fields are filled in when it is written.

    `content` is `sha256:<hex>` of the text; `position` that of the first token; `dtype` that in which keys and values
    enter the model, whatever they are stored as; `fidelity` figures by name. `rope` holds `state` and `type`; its
    parameters are a hard field, since the frequencies differ between processors in their last bit. `hard` and `soft`
    are the model's fingerprint; `compression` is empty or has a `method`; `source` tells where it comes from, at least
    `tool` and `made_at`; `parent` is the key it continues.
    """

    memory: str
    content: str
    kind: str
    tokens: int
    dtype: str
    model_layers: int
    layers: tuple[Layer, ...]
    rope: Mapping[str, Any]
    hard: Mapping[str, Any]
    soft: Mapping[str, Any]
    source: Mapping[str, Any]
    position: int = 0
    quantization: Quantization | None = None
    compression: Mapping[str, Any] = field(default_factory=dict)
    fidelity: Mapping[str, float] = field(default_factory=dict)
    parent: str = ""
    token_sha256: str = ""
    key: str = ""

    @property
    def name(self) -> str:
        """The name of its file."""
        return f"{self.memory}.{self.key[:KEY_IN_NAME_CHARACTERS]}.kv.safetensors"

    @property
    def key_of_content(self) -> str:
        """What `key` must be: the sha256 of all that makes the tensors what they are, the model's hard fields first."""
        said = {
            "compression": dict(self.compression), "dtype": self.dtype, "format": FORMAT, "kind": self.kind,
            "model": dict(self.hard), "parent": self.parent, "position": self.position,
            "quantization": _quantization_json(self.quantization), "rope": dict(self.rope),
            "token_sha256": self.token_sha256, "version": VERSION,
        }  # fmt: skip
        # what cannot be canonical is refused where it is written and where it is read
        return hashlib.sha256(encode(said)).hexdigest()


def identify(header: Header, token_ids: bytes) -> Header:
    """`header` with its key, from the token ids as little-endian int32; so the file's name is known before it is."""
    known = replace(header, token_sha256=hashlib.sha256(token_ids).hexdigest())
    return replace(known, key=known.key_of_content)


def tensors_of(header: Header) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Dtype and shape of every tensor that a file with this header holds, by name."""
    expected: dict[str, tuple[str, tuple[int, ...]]] = {"token_ids": ("I32", (header.tokens,))}
    schemes = header.quantization or Quantization(None, None)
    for layer in header.layers:
        if layer.sparse:
            expected[f"{layer.prefix}.positions"] = ("I32", (layer.heads, layer.tokens))
        for part, dim, scheme in (("key", layer.key_dim, schemes.key), ("value", layer.value_dim, schemes.value)):
            name, shape = f"{layer.prefix}.{part}", (layer.heads, layer.tokens, dim)
            if scheme is None:
                expected[name] = (header.dtype, shape)
            else:
                expected |= _quantised(name, shape, scheme, schemes.scales)
    return expected


def _quantised(
    name: str, shape: tuple[int, int, int], scheme: Scheme, scales: str
) -> dict[str, tuple[str, tuple[int, ...]]]:
    heads, tokens, dim = shape
    along = tokens if scheme.per == "channel" else dim
    groups = math.ceil(along / (scheme.group or along))
    shared = (heads, groups, dim) if scheme.per == "channel" else (heads, tokens, groups)
    # Two to a byte, so an odd one has a byte of its own.
    packed = (heads, tokens, math.ceil(dim * scheme.bits / 8))
    return {f"{name}.q": ("U8", packed), f"{name}.scale": (scales, shared), f"{name}.zero": (scales, shared)}


def to_metadata(header: Header) -> dict[str, str]:
    """The text fields of `header`."""
    return {
        "format": "pt",
        "memos.format": FORMAT,
        "memos.version": VERSION,
        "memos.memory": header.memory,
        "memos.content": header.content,
        "memos.kind": header.kind,
        "memos.tokens": str(header.tokens),
        "memos.position": str(header.position),
        "memos.dtype": header.dtype,
        "memos.model_layers": str(header.model_layers),
        "memos.layers": _text([{f.name: getattr(layer, f.name) for f in fields(Layer)} for layer in header.layers]),
        "memos.rope": _text(dict(header.rope)),
        "memos.model": _text({"hard": dict(header.hard), "soft": dict(header.soft)}),
        "memos.quantization": _text(_quantization_json(header.quantization)),
        "memos.compression": _text(dict(header.compression)),
        "memos.fidelity": _text({name: repr(float(value)) for name, value in header.fidelity.items()}),
        "memos.source": _text(dict(header.source)),
        "memos.parent": header.parent,
        "memos.token_sha256": header.token_sha256,
        "memos.key": header.key,
    }


def from_metadata(metadata: Mapping[str, str], *, place: Path | str) -> Header:
    """The header that these fields say; raises Damaged, naming `place`, for any that `to_metadata` never writes."""
    read = _Fields(metadata, place)
    read.check_version()
    hard, soft = read.model()
    header = Header(
        memory=read.matching("memory", _MEMORY),
        content=read.matching("content", _DIGEST),
        kind=read.one_of("kind", KINDS),
        tokens=read.count("tokens", low=1),
        position=read.count("position"),
        dtype=read.one_of("dtype", NUMBERS),
        model_layers=read.count("model_layers", low=1, high=LAYER_LIMIT),
        layers=read.layers(),
        rope=read.rope(),
        hard=hard,
        soft=soft,
        quantization=read.quantization(),
        compression=read.compression(),
        fidelity=read.fidelity(),
        source=read.source(),
        parent=read.matching("parent", re.compile(rf"(?:{_HEX.pattern})?")),
        token_sha256=read.matching("token_sha256", _HEX),
        key=read.matching("key", _HEX),
    )
    _check_whole(header, place)
    return header


def _check_whole(header: Header, place: Path | str) -> None:
    """What one field says must fit the others."""
    indexes = [layer.index for layer in header.layers]
    if not indexes or indexes != sorted(set(indexes)) or indexes[-1] >= header.model_layers:
        raise damaged(place, f"some of {header.model_layers} layers in order, found {indexes!r:.80}")
    for layer in header.layers:
        most = min(header.tokens, layer.window - 1) if layer.kind == "sliding" else header.tokens
        if layer.tokens > most or not layer.sparse and layer.tokens < most:
            raise damaged(place, f"{most} tokens in layer {layer.index}, found {layer.tokens}")
    if header.kind == "segment" and header.parent:
        raise damaged(place, "no parent of a segment, which stands by itself")
    if header.position + header.tokens > COUNT_LIMIT:
        raise damaged(place, f"positions up to {COUNT_LIMIT}")
    if header.key != header.key_of_content:
        raise damaged(place, f"key {header.key_of_content[:16]}, found {header.key[:16]}: its fields were changed")


def _text(value: Any) -> str:
    return canonical(value).decode()


def _quantization_json(quantization: Quantization | None) -> Any:
    if quantization is None:
        return None
    schemes = {"key": quantization.key, "value": quantization.value}
    value: dict[str, Any] = {
        part: scheme and {f.name: getattr(scheme, f.name) for f in fields(Scheme)} for part, scheme in schemes.items()
    }
    return {**value, "scales": quantization.scales}


def _no_float(text: str) -> Any:
    raise ValueError(f"the number {text[:40]} is not whole")


class _Fields:
    """Text fields, read one by one; each method raises Damaged for what may not be there."""

    def __init__(self, metadata: Mapping[str, str], place: Path | str) -> None:
        self.metadata, self.place = metadata, place

    def check_version(self) -> None:
        if self.metadata.get("memos.format") != FORMAT:
            found = self.metadata.get("memos.format")
            raise damaged(self.place, f"{FORMAT!r} as memos.format, found {found!r:.40}: not an activation file")
        if self.metadata.get("memos.version") != VERSION:
            found = self.metadata.get("memos.version")
            raise Damaged(
                f"{self.place}: expected version {VERSION} of activation files, found {found!r:.40}",
                hint="a newer memos may read it",
            )

    def text(self, name: str) -> str:
        text = self.metadata.get(f"memos.{name}")
        if text is None or len(text) > FIELD_LIMIT_CHARACTERS:
            raise self.wrong(name, f"a text of at most {FIELD_LIMIT_CHARACTERS:,} characters", text)
        return text

    def wrong(self, name: str, expected: str, found: Any) -> Damaged:
        return damaged(self.place, f"{expected} as memos.{name}, found {found!r:.80}")

    def matching(self, name: str, pattern: re.Pattern[str]) -> str:
        text = self.text(name)
        if pattern.fullmatch(text) is None:
            raise self.wrong(name, "a well-formed text", text)
        return text

    def one_of(self, name: str, words: tuple[str, ...]) -> str:
        text = self.text(name)
        if text not in words:
            raise self.wrong(name, f"one of {', '.join(words)}", text)
        return text

    def count(self, name: str, *, low: int = 0, high: int = COUNT_LIMIT) -> int:
        text = self.matching(name, _COUNT)
        if not low <= int(text) <= high:
            raise self.wrong(name, f"a number from {low} to {high}", text)
        return int(text)

    def json(self, name: str, kind: type) -> Any:
        """The value of a field of canonical JSON."""
        text = self.text(name)
        try:
            value = json.loads(text, parse_float=_no_float, parse_constant=_no_float)
            same = encode(value) == text.encode()
        except (ValueError, RecursionError, Damaged) as error:
            raise self.wrong(name, "canonical JSON", text) from error
        if not same or not isinstance(value, kind):
            raise self.wrong(name, f"canonical JSON of a {kind.__name__}", text)
        return value

    def layers(self) -> tuple[Layer, ...]:
        return tuple(self.layer(value) for value in self.json("layers", list))

    def layer(self, value: Any) -> Layer:
        if not isinstance(value, dict) or value.keys() != {f.name for f in fields(Layer)}:
            raise self.wrong("layers", "the fields of a layer", value)
        numbers = {name: number for name, number in value.items() if name not in ("kind", "sparse")}
        if not all(type(number) is int and 0 <= number <= COUNT_LIMIT for number in numbers.values()):
            raise self.wrong("layers", "numbers", value)
        if not all(numbers[name] for name in ("heads", "key_dim", "value_dim", "tokens")):
            raise self.wrong("layers", "no 0 among heads, dimensions and tokens", value)
        if value["kind"] not in LAYER_KINDS or (value["kind"] == "sliding") != (value["window"] > 1):
            raise self.wrong("layers", "a full layer, or a sliding one with a window", value)
        if type(value["sparse"]) is not bool:
            raise self.wrong("layers", "true or false as sparse", value)
        return Layer(**value)

    def rope(self) -> dict[str, Any]:
        value = self.json("rope", dict)
        if value.keys() != {"state", "type"}:
            raise self.wrong("rope", "state and type", value)
        if value["state"] not in ROPE_STATES or not isinstance(value["type"], str):
            raise self.wrong("rope", f"a type, and one of {', '.join(ROPE_STATES)} as the state", value)
        return dict(value)

    def model(self) -> tuple[dict[str, Any], dict[str, Any]]:
        value = self.json("model", dict)
        if value.keys() != {"hard", "soft"} or not all(isinstance(part, dict) for part in value.values()):
            raise self.wrong("model", "the hard and soft fields of a fingerprint", value)
        if missing := [name for name in HARD_FIELDS if name not in value["hard"]]:
            raise self.wrong("model", f"{', '.join(missing)} among the hard fields", value)
        return value["hard"], value["soft"]

    def quantization(self) -> Quantization | None:
        value = self.json("quantization", object)
        if value is None:
            return None
        if not isinstance(value, dict) or value.keys() != {"key", "value", "scales"} or value["scales"] not in NUMBERS:
            raise self.wrong("quantization", "null, or the schemes of key and value and a dtype of scales", value)
        return Quantization(self.scheme(value["key"]), self.scheme(value["value"]), value["scales"])

    def scheme(self, value: Any) -> Scheme | None:
        if value is None:
            return None
        if not isinstance(value, dict) or value.keys() != {f.name for f in fields(Scheme)}:
            raise self.wrong("quantization", "bits, per and group", value)
        group = value["group"]
        whole = type(group) is int and 0 <= group <= COUNT_LIMIT and type(value["bits"]) is int
        if not whole or value["bits"] not in (4, 8) or value["per"] not in ("channel", "token"):
            raise self.wrong("quantization", "4 or 8 bits per channel or token, in groups", value)
        return Scheme(**value)

    def compression(self) -> dict[str, Any]:
        value: dict[str, Any] = self.json("compression", dict)
        if value and not isinstance(value.get("method"), str):
            raise self.wrong("compression", "nothing, or a method", value)
        return value

    def fidelity(self) -> dict[str, float]:
        value = self.json("fidelity", dict)
        if not all(isinstance(text, str) and _FIGURE.fullmatch(text) for text in value.values()):
            raise self.wrong("fidelity", "figures", value)
        figures = {name: float(text) for name, text in value.items()}
        if not all(math.isfinite(figure) for figure in figures.values()):
            raise self.wrong("fidelity", "finite figures", value)
        return figures

    def source(self) -> dict[str, Any]:
        value: dict[str, Any] = self.json("source", dict)
        if not all(isinstance(value.get(name), str) for name in ("tool", "made_at")):
            raise self.wrong("source", "at least tool and made_at", value)
        return value
