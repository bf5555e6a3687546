"""Versions in their order, and ranges."""

from __future__ import annotations

import random

import pytest

from memos_cli.cube import semver
from memos_cli.errors import Usage

# the order of semver.org, section 11
ORDER = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11",
         "1.0.0-rc.1", "1.0.0", "1.0.1", "1.2.0", "1.10.0", "2.0.0"]  # fmt: skip


def test_order() -> None:
    mixed = random.Random(1).sample(ORDER, len(ORDER))
    assert semver.newest_first([*mixed, "latest", "sha256-00", "1.0", "v1.0.0", "1.0.0+build"]) == ORDER[::-1]


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("*", "0.0.1 1.0.0 9.9.9", "1.0.0-rc.1"),
        ("^1.4", "1.4.0 1.4.9 1.9.0", "1.3.9 2.0.0 2.0.0-rc.1 1.5.0-rc.1"),
        ("1.4", "1.4.0 1.9.0", "2.0.0 1.3.0"),
        ("^0.3.2", "0.3.2 0.3.9", "0.3.1 0.4.0"),
        ("^0.0.3", "0.0.3", "0.0.4 0.0.2"),
        ("^0", "0.0.1 0.9.9", "1.0.0"),
        ("~1.4.2", "1.4.2 1.4.9", "1.5.0 1.4.1"),
        ("~1", "1.0.0 1.9.0", "2.0.0"),
        ("=1.4.2", "1.4.2", "1.4.3 1.4.1"),
        ("=1.4", "1.4.0 1.4.7", "1.5.0"),
        (">=1.2, <2", "1.2.0 1.9.9", "1.1.9 2.0.0 2.0.1"),
        (">1.2", "1.3.0", "1.2.0 1.2.9"),
        (">1.2.3,<=1.4", "1.2.4 1.4.9", "1.2.3 1.5.0"),
        ("^1.4.0-rc.1", "1.4.0-rc.1 1.4.0-rc.2 1.4.0 1.5.0", "1.4.0-beta 1.5.0-rc.1"),
    ],
)
def test_ranges(text: str, inside: str, outside: str) -> None:
    found = semver.parse_range(text)
    for word, expected in ((inside, True), (outside, False)):
        for version in word.split():
            parsed = semver.parse(version)
            assert parsed is not None
            assert found.holds(parsed) is expected, version


@pytest.mark.parametrize("text", ["one", "^", ">=1.2 <2", "1.2.3.4", "^1.4-rc", "1.*", "==1", "^01.2", "1" * 200])
def test_what_no_range_is(text: str) -> None:
    with pytest.raises(Usage):
        semver.parse_range(text)
