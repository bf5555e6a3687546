"""Late interaction: the best candidates again, token by token.

Each token of the question looks for the most similar token of a candidate; rare tokens count more. A turn may borrow
a token from the turns beside it at a small price, since an answer often leaves out what was asked. The vectors are
the embedder's own, made when asked: some hundred short texts, about a second. Knows nothing of tables.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np  # noqa: TID253  this file computes

if TYPE_CHECKING:
    from memos_cli.runtime.embed import Embedder, TokenVectors

# What a token found in a neighbouring turn loses, in cosine.
BORROWED = 0.1
# Token vectors that are kept in memory: about 60 kB for a turn of forty words.
KEPT_TEXTS = 2048


def late_interaction(
    question: str, texts: Sequence[str], beside: Sequence[Sequence[str]], *, embedder: Embedder
) -> np.ndarray:
    """How well each text, with the texts beside it, covers the question's tokens: about 0 to 1."""
    unique = list(dict.fromkeys([*texts, *(other for others in beside for other in others)]))
    asked = embedder.tokens([question])[0]
    encoded = _encode(unique, embedder=embedder)
    weights = _rarities(asked, list(encoded.values()))
    best = {text: _best(asked, tokens) for text, tokens in encoded.items()}
    scores = np.empty(len(texts))
    for i, (text, others) in enumerate(zip(texts, beside, strict=True)):
        found = best[text]
        for other in others:
            found = np.maximum(found, best[other] - BORROWED)
        scores[i] = float(weights @ found)
    return scores


_encoded: OrderedDict[tuple[str, str], TokenVectors] = OrderedDict()


def _encode(texts: Sequence[str], *, embedder: Embedder) -> dict[str, TokenVectors]:
    """The tokens of each text; those of the last texts asked for are kept, since questions come back to them."""
    model = str(embedder.identity["digest"])
    fresh = [text for text in texts if (model, text) not in _encoded]
    found = dict(zip(fresh, embedder.tokens(fresh), strict=True))
    found |= {text: _encoded[model, text] for text in texts if text not in found}
    for text in texts:
        _encoded[model, text] = found[text]
        _encoded.move_to_end((model, text))
    while len(_encoded) > KEPT_TEXTS:
        _encoded.popitem(last=False)
    return found


def _best(asked: TokenVectors, tokens: TokenVectors) -> np.ndarray:
    """Per token of the question, the highest cosine with a token of the text."""
    if not len(tokens.ids):
        return np.zeros(len(asked.ids), np.float32)
    highest: np.ndarray = (asked.vectors @ tokens.vectors.T).max(1)
    return highest


def _rarities(asked: TokenVectors, texts: Sequence[TokenVectors]) -> np.ndarray:
    """Weights of the question's tokens that add up to 1: a token that most candidates have says little."""
    count = Counter(token for text in texts for token in set(text.ids.tolist()))
    weights = np.array([math.log(1 + (len(texts) - count[t] + 0.5) / (count[t] + 0.5)) for t in asked.ids.tolist()])
    total = float(weights.sum())
    return weights / total if total > 0 else weights
