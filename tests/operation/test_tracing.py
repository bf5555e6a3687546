"""Canaries follow from a key, and are found again with a figure for chance."""

from __future__ import annotations

import random

import pytest

from memos_cli.errors import Usage
from memos_cli.infrastructure.ledger import Copy
from memos_cli.operation import canaries, tracing

KEY = b"k" * 32


def grown(who: str, count: int = 6) -> list[canaries.Canary]:
    return canaries.make(KEY, recipient=who, cube_id="cube-1234", count=count)


def copy(who: str, count: int = 6, version: str = "0.1.0") -> Copy:
    planted = tuple(tracing.planted(one, key=KEY) for one in grown(who, count))
    return Copy(who, "", "cube-1234", "team", version, "sha256:" + "0" * 64, "2026-01-01T00:00:00Z", "", planted)


def pair() -> list[str]:
    """The rare words of a canary that has two."""
    return next([word for _, word in one.rare] for one in grown("ann") if len(one.rare) == 2)


def test_canaries_are_the_same_again_and_others_for_others() -> None:
    assert grown("ann") == grown("ann")
    assert grown("ann", 3) == grown("ann")[:3]
    others = [
        grown("bob"),
        canaries.make(b"x" * 32, recipient="ann", cube_id="cube-1234", count=6),
        canaries.make(KEY, recipient="ann", cube_id="cube-9999", count=6),
    ]
    for other in others:
        assert not {one.text for one in grown("ann")} & {one.text for one in other}
    many = {one.text for who in map(str, range(200)) for one in grown(who)}
    assert len(many) == 1200
    assert len({one.text for one in grown("ann", 100)}) == 100


def test_every_frame_says_where_its_rare_words_are() -> None:
    canaries.check_frames(canaries.FRAMES, place="frames")
    for one in grown("ann", len(canaries.FRAMES)):
        assert [one.words[at] for at, _ in one.rare] == [word for _, word in one.rare]
        assert one.bits >= one.rare_bits >= canaries.FEWEST_BITS
        assert one.text == one.text.strip()
        assert "{" not in one.text


def test_a_frame_with_too_little_in_it_is_refused() -> None:
    with pytest.raises(Usage, match="mine:1"):
        canaries.check_frames(["{given} came on {day}."], place="mine")


def test_nothing_is_found_where_nothing_is() -> None:
    rng = random.Random(3)
    text = " ".join(str(rng.randint(1000, 999_999)) for _ in range(50_000))
    found, words = tracing.trace([text], [copy("ann", 100)], key=KEY)
    assert (found, words) == ([], 50_000)
    assert tracing.trace([], [copy("ann")], key=KEY) == ([], 0)
    other, _ = tracing.trace((one.text for one in grown("ann")), [copy("ann")], key=b"y" * 32)
    assert other == []


def test_rare_words_that_are_far_apart_are_no_canary() -> None:
    first, second = pair()
    far, _ = tracing.trace([first, "word " * 60, second], [copy("ann")], key=KEY)
    assert far == []
    near, _ = tracing.trace([first, "word " * 20, second], [copy("ann")], key=KEY)
    assert (near[0].whole, near[0].part) == (0, 1)


def test_the_bound_grows_with_the_text_and_the_copies_and_falls_with_what_is_found() -> None:
    told = [one.text for one in grown("ann")]

    def chance(texts: list[str], copies: int = 1) -> float:
        others = [copy(f"other {number}") for number in range(copies - 1)]
        found, _ = tracing.trace(texts, [copy("ann"), *others], key=KEY)
        return found[0].chance

    assert chance(told) < chance(told[:3]) < chance(told[:1]) < 1e-6
    assert chance(told[:1]) < chance([told[0], "word " * 100_000])
    assert chance(told[:1]) * 9 < chance(told[:1], copies=10) < chance(told[:1]) * 11
    # one name and one number in a long text: told as what it is worth
    assert chance([*pair(), "word " * 300_000]) > 0.01


def test_two_copies_in_one_text_are_both_told_the_most_found_first() -> None:
    texts = [one.text for one in (*grown("ann")[:2], *grown("bob"))]
    found, _ = tracing.trace(texts, [copy("ann"), copy("bob"), copy("eve")], key=KEY)
    assert [(one.copy.recipient, one.whole) for one in found] == [("bob", 6), ("ann", 2)]
