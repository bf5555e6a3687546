"""Word search over one table or several, on one scale.

BM25 weighs a word by how rare it is in its table, so scores of two tables do not compare. For several tables each
word is looked up by itself, its score is divided by the weight that the table gave it and multiplied by its weight
in all tables together. For one table that is what Lance computes in one call.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np  # noqa: TID253  this file computes

from memos_cli.cube import search

if TYPE_CHECKING:
    from memos_cli.operation.holding import Scope

# Rows past this depth get the score of the last one in the list.
DEPTH = 400
# A large table's rows are read from disk for each question, so fewer of them are asked for.
DEPTH_LARGE = 100
MOST_WORDS = 64
MOST_ROWS = 100_000


@dataclass(frozen=True, slots=True)
class WordList:
    """Row ids and their BM25 scores, best first; `floor` is what a row that is not in the list has at most."""

    rowids: np.ndarray
    scores: np.ndarray
    floor: float


EMPTY = WordList(np.empty(0, np.int64), np.empty(0, np.float64), 0.0)


def word_lists(scopes: Sequence[Scope], words: str, *, column: str, where: str = "") -> list[WordList]:
    """A list for each table. A table without a text index on the column has an empty one."""
    usable = [column in scope.holding.indexed for scope in scopes]
    if len(scopes) == 1:
        return [_one_list(scopes[0], words, column=column, where=where) if usable[0] else EMPTY]
    return _common_lists(scopes, words, column=column, where=where, usable=usable)


def _one_list(scope: Scope, words: str, *, column: str, where: str) -> WordList:
    depth = DEPTH if scope.holding.held else DEPTH_LARGE
    condition = _both(scope.prefilter, where)
    found = search.text_list(scope.holding.table, words, column=column, limit=depth, where=condition)
    rowids, scores = found["_rowid"].to_numpy().astype(np.int64), found["_score"].to_numpy().astype(np.float64)
    floor = float(scores[-1]) if len(scores) >= depth else 0.0
    if scope.where and not scope.prefilter:
        kept = scope.mask[scope.holding.rows.find(rowids)]
        rowids, scores = rowids[kept], scores[kept]
    return WordList(rowids, scores, floor)


def _common_lists(
    scopes: Sequence[Scope], words: str, *, column: str, where: str, usable: Sequence[bool]
) -> list[WordList]:
    rows = [scope.holding.count for scope in scopes]
    sums: list[dict[int, float]] = [{} for _ in scopes]
    for word in split_words(words):
        hits = [
            search.text_list(scope.holding.table, word, column=column, limit=MOST_ROWS) if use else None
            for scope, use in zip(scopes, usable, strict=True)
        ]
        counts = [hit.num_rows if hit is not None else 0 for hit in hits]
        weight = rarity(sum(counts), sum(rows))
        for total, hit, count, size in zip(sums, hits, counts, rows, strict=True):
            if hit is not None and count:
                factor = weight / rarity(count, size)
                scores = hit["_score"].to_numpy() * factor
                for rowid, score in zip(hit["_rowid"].to_pylist(), scores.tolist(), strict=True):
                    total[rowid] = total.get(rowid, 0.0) + score
    return [_ranked(scope, total, where=where) for scope, total in zip(scopes, sums, strict=True)]


def _ranked(scope: Scope, total: dict[int, float], *, where: str) -> WordList:
    rowids = np.fromiter(total.keys(), np.int64, len(total))
    scores = np.fromiter(total.values(), np.float64, len(total))
    condition = _both(scope.where, where)
    if condition and len(rowids):
        allowed = search.scan(scope.holding.table, ["id"], where=condition)["_rowid"].to_numpy().astype(np.int64)
        kept = np.isin(rowids, allowed)
        rowids, scores = rowids[kept], scores[kept]
    order = np.argsort(-scores, kind="stable")[:DEPTH]
    return WordList(rowids[order], scores[order], float(scores[order[-1]]) if len(order) >= DEPTH else 0.0)


def split_words(text: str) -> list[str]:
    """The different words of a question, in order."""
    return list(dict.fromkeys(re.findall(r"[^\W_]+", text.lower())))[:MOST_WORDS]


def rarity(count: int, rows: int) -> float:
    """BM25's weight of a word that `count` of `rows` rows have."""
    return math.log(1 + (rows - count + 0.5) / (count + 0.5))


def _both(first: str, second: str) -> str:
    return " and ".join(f"({part})" for part in (first, second) if part)
