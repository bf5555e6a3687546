"""Why a memory ranks where it does, in words: what spoke for it most, what against, and what a better one had more of.

Takes what recall gives and makes sentences of it. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from memos_cli.operation.cues import content_words
from memos_cli.operation.hits import Hit
from memos_cli.operation.reading import Heard

# How many reasons are told of each kind, and how little a share is that nobody needs to hear of.
MOST_FOR, MOST_AGAINST, LEAST = 3, 1, 0.05
_FOR = {
    "vector": "close in meaning", "around": "close in meaning with what stands beside it",
    "near_vector": "close in meaning with its heading", "near": "what stands over or beside it has the words",
    "wide": "the talk around it has the words", "text": "has the words", "asked": "the user's words match",
    "length": "longer than most", "user": "said by the user", "use": "it helped answers before",
    "rerank": "matches word by word", "linked": "mentions what ranks high, or is mentioned by it",
}  # fmt: skip
_AGAINST = {
    "vector": "far in meaning", "around": "far in meaning with what stands beside it",
    "near_vector": "far in meaning with its heading", "near": "lacks the words, also over and beside it",
    "wide": "the talk around it lacks the words", "text": "lacks the words", "asked": "the user's words differ",
    "length": "shorter than most", "asks": "asks rather than answers", "use": "it stood in the way of answers before",
    "repeat": "better ones of its session come first", "rerank": "matches less word by word",
}  # fmt: skip
_NAMES = {
    "vector": "meaning", "around": "meaning around it", "near_vector": "meaning with its heading",
    "near": "words", "wide": "words around it", "text": "its own words",
    "asked": "words of the user", "speaker": "who said it", "date": "when it is of", "topic": "its topic",
    "length": "length", "asks": "asking, not answering", "user": "who said it", "use": "help to answers",
    "repeat": "repeating its session", "linked": "links",
    "rerank": "words one by one",
}  # fmt: skip


def reasons(hit: Hit, heard: Heard) -> str:
    """What spoke for a memory, strongest first, and what most against it, each with its share of the score."""
    ordered = sorted(hit.signals.items(), key=lambda one: -one[1])
    given = [f"{_for(name, hit, heard)} {share:+.2f}" for name, share in ordered if share >= LEAST][:MOST_FOR]
    taken = [f"{_against(name)} {share:+.2f}" for name, share in reversed(ordered) if share <= -LEAST][:MOST_AGAINST]
    told = "; ".join(given) or "nothing speaks for it much"
    return f"{told}; but {taken[0]}" if taken else told


def behind(hit: Hit, last: Hit) -> str:
    """What a memory that is not shown lacks, beside the last one that is."""
    gap = last.score - hit.score
    less = _furthest(hit.signals, last.signals)
    return f"{gap:.2f} behind the last one shown" + (f", most by {less}" if less else "")


def _furthest(mine: Mapping[str, float], theirs: Mapping[str, float]) -> str:
    names = {*mine, *theirs}
    gaps = {name: theirs.get(name, 0.0) - mine.get(name, 0.0) for name in sorted(names)}
    worst = max(gaps, key=lambda name: gaps[name], default="")
    return _NAMES.get(worst, worst) if worst and gaps[worst] > 0 else ""


def _for(name: str, hit: Hit, heard: Heard) -> str:
    if name == "speaker":
        return f"{heard.speaker} said it"
    if name == "topic":
        return f"under {heard.topic}"
    if name == "date" and heard.when:
        return "from then, or tells of then"
    shared = words_shared(heard.words, f"{hit.row['section']} {hit.row['text']}")
    if name in ("near", "text", "asked") and shared:
        return f"has the words {', '.join(shared[:4])}"
    return _FOR.get(name, name)


def _against(name: str) -> str:
    return _AGAINST.get(name, f"less {_NAMES.get(name, name)}")


def words_shared(words: str, text: str) -> list[str]:
    """The words of a question that a text has too, endings aside, as the question has them."""
    there = {word.casefold() for word in re.findall(r"[^\W_]+", text)}
    asked = dict.fromkeys(content_words(words).split())
    return [word for word in asked if any(_alike(word.casefold(), other) for other in there)]


def _alike(first: str, second: str) -> bool:
    """Whether two words are the same but for a short ending."""
    if first == second:
        return True
    short, long = sorted((first, second), key=len)
    stem = max(4, len(short) - 2)
    return len(short) >= 4 and len(long) - len(short) <= 3 and long[:stem] == short[:stem]
