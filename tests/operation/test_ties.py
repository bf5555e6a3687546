"""Links among what was found: a bounded share for what the best mention, and an order for what belongs together."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np  # noqa: TID253  # what it tests is arrays

from memos_cli.operation.fuse import Fused
from memos_cli.operation.hits import Hit
from memos_cli.operation.ties import BEST, WEIGHT, Edges, raised, together


def found(ids: str) -> Any:
    holding = SimpleNamespace(held=True, places={identity: place for place, identity in enumerate(ids)})
    return SimpleNamespace(scope=SimpleNamespace(holding=holding))


def ranking(scores: list[float]) -> Fused:
    count = len(scores)
    return Fused(np.zeros(count, np.int64), np.arange(count), np.array(scores), {"near": np.array(scores)})


def hit(identity: str) -> Hit:
    return Hit("a", identity, 1.0, {}, {})


def test_what_the_best_mentions_is_raised_by_no_more_than_the_bound() -> None:
    fused = raised(ranking([2.0, 1.0, 0.9]), [found("abc")], [Edges([("a", "c", 1.0)])])
    assert fused.place.tolist() == [0, 2, 1]
    assert fused.score.tolist() == [2.0 + WEIGHT, 0.9 + WEIGHT, 1.0]
    assert fused.shares["linked"].tolist() == [WEIGHT, WEIGHT, 0.0]


def test_links_of_the_rest_and_of_what_was_not_found_say_nothing() -> None:
    ids = "abcdefgh"
    plain = ranking([8.0 - number for number in range(len(ids))])
    below = [(ids[BEST], ids[BEST + 1], 1.0), ("a", "x", 1.0), ("y", "b", 1.0)]
    assert raised(plain, [found(ids)], [Edges(below)]) is plain
    assert raised(plain, [found(ids)], [None]) is plain


def test_a_doubtful_mention_weighs_half() -> None:
    fused = raised(ranking([2.0, 1.0]), [found("ab")], [Edges([("b", "a", 0.5)])])
    assert fused.shares["linked"].tolist() == [WEIGHT / 2, WEIGHT / 2]


def test_what_contradicts_stands_together_and_what_was_superseded_below() -> None:
    hits = [hit(each) for each in "abcd"]
    assert [one.id for one in together(hits, {"a": {"d"}, "d": {"a"}}, {})] == ["a", "d", "b", "c"]
    assert [one.id for one in together(hits, {}, {"a": "c"})] == ["b", "c", "a", "d"]
    assert [one.id for one in together(hits, {}, {"c": "a"})] == ["a", "b", "c", "d"]
    assert [one.id for one in together(hits, {}, {"a": "b", "b": "a"})] == ["a", "b", "c", "d"]
    assert [one.id for one in together(hits, {}, {"a": "x"})] == ["a", "b", "c", "d"]
