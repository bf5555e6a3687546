"""Scopes and labels: who may see, change or share, and how much a text is guarded.

A scope is words with a space between them: first who is permitted (`owner`, `anyone`, fingerprints of keys), then who
is forbidden all the same (`!` and a fingerprint). An empty one, of a memory, means that of its cube. It is written in
one way only, so that two scopes are equal when their texts are. Says what the words mean for a key, in Python and in
SQL; knows nothing of verbs, rules and tables.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from memos_cli.errors import Usage

SENSITIVITIES = ("public", "internal", "confidential", "restricted")
OWNER, ANYONE = "owner", "anyone"
KINDS = ("read", "write", "share")
# What tells who may see a memory, apart from rules of the cube.
GUARDS = ("owner", "sensitivity", "read_scope", "write_scope", "share_scope")
MOST_WORDS = 64
_KEY = re.compile(r"ed25519:[0-9a-f]{32}")


def rank(level: str) -> int:
    """How much a label guards: 0 for none of its own; one that is not known counts as the highest."""
    levels = ("", *SENSITIVITIES)
    return levels.index(level) if level in levels else len(levels)


def highest(levels: Collection[str], *, default: str = "") -> str:
    """The strictest of some labels."""
    return max(levels, key=rank, default=default)


def is_key(word: str) -> bool:
    """Whether a word is the fingerprint of a key."""
    return _KEY.fullmatch(word) is not None


def canonical(scope: str) -> str:
    """`scope`, given with spaces or commas, as it is kept. Raises Usage for a word that is none."""
    words = scope.replace(",", " ").split()
    for word in words:
        if word not in (OWNER, ANYONE) and not is_key(word.removeprefix("!")):
            raise Usage(f"a scope is owner, anyone or keys such as ed25519:0123... (!key forbids), found {word[:60]!r}")
    permitted = sorted({word for word in words if not word.startswith("!")})
    forbidden = sorted({word for word in words if word.startswith("!")})
    if not permitted or len(words) > MOST_WORDS:
        raise Usage(f"a scope names who is permitted, at most {MOST_WORDS} words: owner, anyone or keys")
    return " ".join([*permitted, *forbidden])


def is_scope(text: str) -> bool:
    """Whether a text is a scope in the one way it is written."""
    try:
        return canonical(text) == text
    except Usage:
        return False


def forbids(scope: str, key: str) -> bool:
    """Whether a scope shuts this key out, whoever else may."""
    return f"!{key}" in scope.split(" ")


def permits(scope: str, key: str) -> bool:
    """Whether a scope lets this key in; a forbid beats it. Knows nothing of who owns what."""
    words = scope.split(" ")
    return (ANYONE in words or key in words) and not forbids(scope, key)


def lets(scope: str, key: str, *, owns: bool) -> bool:
    """Whether a memory's scope lets a key in that its cube lets in; an owner is shut out by a forbid alone."""
    if owns:
        return not forbids(scope, key)
    return not scope or permits(scope, key)


def lets_sql(column: str, key: str, *, owns: bool) -> str:
    """`lets` as an SQL condition on the column that holds the scope."""
    shut = f"({column} = '!{key}' or {_beside(column, f'!{key}')})"
    if owns:
        return f"not {shut}"
    words = " or ".join(f"{column} = '{word}' or {_beside(column, word)}" for word in (ANYONE, key))
    return f"({column} = '' or (({words}) and not {shut}))"


def _beside(column: str, word: str) -> str:
    """Whether a column has a word among others."""
    return f"{column} like '{word} %' or {column} like '% {word}' or {column} like '% {word} %'"


def within(scope: str, outer: str) -> bool:
    """Whether a scope lets in nobody whom `outer` does not (an owner apart)."""
    words, outer_words = scope.split(" "), outer.split(" ")
    let_in = {word for word in words if not word.startswith("!")} - {OWNER}
    if ANYONE in let_in:
        shut = {word for word in outer_words if word.startswith("!")}
        return ANYONE in outer_words and shut <= set(words)
    return all(permits(outer, word) or f"!{word}" in words for word in let_in)


def common(scopes: Collection[str]) -> str:
    """A scope that lets in nobody whom one of these does not: theirs when all are alike, else the owner's."""
    kept = set(scopes)
    return kept.pop() if len(kept) == 1 else OWNER
