"""Any other sentence model, a local folder or hub id, through transformers with mean pooling.

Slower to load than MiniLM on onnxruntime (it imports torch) and the same to the caller. Only safetensors weights and
only architectures that transformers itself knows are read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253  this room computes

from memos_cli.errors import MissingExtra, NotFound
from memos_cli.runtime.embed import LONGEST_CHARS, TokenVectors, length_groups

WINDOW_LIMIT = 512  # longer windows blur a vector and cost the square of their length


def open_hub(spec: str) -> HubEmbedder:
    """The model in the folder or of the hub id `spec`. Raises NotFound, MissingExtra."""
    try:
        import torch
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging
    except ImportError as error:
        raise MissingExtra(f"the embedder {spec} needs torch and transformers", hint="pip install memos") from error
    torch.set_num_threads(1)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        tokenizer = AutoTokenizer.from_pretrained(spec)
        model = AutoModel.from_pretrained(spec, use_safetensors=True).eval()
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise NotFound(f"expected a sentence model at {spec!r}: {first}", hint="--embedder minilm") from error
    return HubEmbedder(spec, tokenizer, model)


class HubEmbedder:
    """A transformers encoder whose token states are averaged."""

    def __init__(self, spec: str, tokenizer: Any, model: Any) -> None:
        self._tokenizer, self._model = tokenizer, model
        window = _window(spec, tokenizer, model)
        self._dim, self._window = int(model.config.hidden_size), window
        self._identity: dict[str, Any] = {
            "name": Path(spec).name if Path(spec).is_dir() else spec,
            "digest": _digest(model, tokenizer),
            "dim": self._dim,
            "window": window,
            "precision": str(model.dtype).removeprefix("torch."),
        }

    @property
    def identity(self) -> dict[str, Any]:
        return dict(self._identity)

    def count_tokens(self, text: str) -> int:
        return len(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def fits(self, text: str) -> bool:
        special = self._tokenizer.num_special_tokens_to_add()
        return len(text) <= LONGEST_CHARS and self.count_tokens(text) + special <= self._window

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        vectors = np.empty((len(texts), self._dim), np.float32)
        for group, _, states in self._states(texts):
            pooled = states.mean(1)
            vectors[group] = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        return vectors

    def tokens(self, texts: Sequence[str]) -> list[TokenVectors]:
        found: dict[int, TokenVectors] = {}
        special = set(self._tokenizer.all_special_ids)
        for group, ids, states in self._states(texts):
            unit = states / np.linalg.norm(states, axis=2, keepdims=True)
            for k, place in enumerate(group):
                kept = [i for i, token in enumerate(ids[k]) if int(token) not in special]
                found[place] = TokenVectors(ids[k][kept], unit[k][kept])
        return [found[place] for place in range(len(texts))]

    def _states(self, texts: Sequence[str]) -> Any:
        """As in MiniLM: batches of one length, so that there is no padding."""
        import torch

        rows = [self._ids(text) for text in texts]
        for group in length_groups([len(row) for row in rows]):
            ids = torch.tensor([rows[place] for place in group])
            with torch.inference_mode():
                states = self._model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
            yield group, ids.numpy(), states.float().numpy()

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text[: 100 * self._window], truncation=True, max_length=self._window)["input_ids"])


def _window(spec: str, tokenizer: Any, model: Any) -> int:
    """The smallest of what the sentence model's own file, its tokenizer and its positions allow."""
    known = [WINDOW_LIMIT, int(tokenizer.model_max_length)]
    positions = getattr(model.config, "max_position_embeddings", None)
    if isinstance(positions, int) and positions > 2:
        known.append(positions)
    own = Path(spec) / "sentence_bert_config.json"
    if own.is_file():
        known.append(int(json.loads(own.read_text("utf-8")).get("max_seq_length") or WINDOW_LIMIT))
    return min(known)


def _digest(model: Any, tokenizer: Any) -> str:
    """sha256 over the weights by name and the vocabulary: what decides the vectors."""
    seen = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        seen.update(name.encode())
        seen.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    seen.update(json.dumps(sorted(tokenizer.get_vocab().items())).encode())
    return f"sha256:{seen.hexdigest()}"
