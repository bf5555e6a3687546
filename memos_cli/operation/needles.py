"""What to look for when something is to be gone: a memory's words, the parts of them, its token ids, its numbers.

Thousands of them are found in one pass over the bytes. Words are compared without case; of the rest every byte counts.
Pure: rows in, needles out; bytes in, places out. Knows no files and no tables.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np

    from memos_cli.cube.activation import Layers

TEXT, FRAGMENT, WORD, TOKENS, VECTOR, CACHE = KINDS = ("text", "fragment", "word", "token ids", "vector", "cache")
# What is looked for without regard to case; single words only where an index lists its words.
WORDY = frozenset({TEXT, FRAGMENT, WORD})
# A part of a text is so many words, and begins at every second one: whoever kept five in a row is found.
FRAGMENT_WORDS, FRAGMENT_STEP = 4, 2
# Shorter ones are in any large file by chance.
SHORTEST_BYTES = 5
LONG_WORD = 16
TOKEN_RUN, TOKEN_STEP, LONG_TOKEN_RUN = 8, 4, 16
CACHE_TOKENS, SHORTEST_CACHE_BYTES, CACHE_BYTES = 4, 16, 64
VECTOR_SLICE = 8
_ANCHOR = 8
_WORD = re.compile(r"\w+")
_MIX = 0x9E3779B97F4A7C15


class Needle(NamedTuple):
    """Something to look for: of which memory, what it is, its bytes, and which part of the memory it is of its kind.

    Those of one memory, kind and part are the same thing in several encodings.
    """

    memory: str
    kind: str
    data: bytes
    part: int = 0


def of_text(memory: str, text: str) -> Iterator[Needle]:
    """The text, its parts and its words, in the encodings that a file may have them in."""
    for form in _encodings(text) if is_telling(text) else ():
        yield Needle(memory, TEXT, form)
    spans = [match.span() for match in re.finditer(r"\S+", text)]
    for first in range(0, max(0, len(spans) - FRAGMENT_WORDS + 1), FRAGMENT_STEP):
        last = spans[first + FRAGMENT_WORDS - 1]
        part = text[spans[first][0] : last[1]]
        for form in {*_encodings(part), *_encodings(" ".join(part.split()))}:
            yield Needle(memory, FRAGMENT, form, first)
    for number, stem in enumerate(sorted(stems(text))):
        yield Needle(memory, WORD, stem.encode("utf-8", "replace"), number)


def is_telling(text: str) -> bool:
    """Whether a text can be looked for as it is: not a word such as a table's own columns and labels have."""
    return len(text.split()) > 1 or len(text) >= LONG_WORD or any(letter.isdigit() for letter in text)


def stems(text: str) -> set[str]:
    """The beginnings of a text's words that a text index would keep, whatever it cuts off their ends."""
    words = set(_WORD.findall(text.casefold())) | set(_WORD.findall(folded(text)))
    found = {word[: max(SHORTEST_BYTES, len(word) - 3)] for word in words}
    return {stem for stem in found if len(stem.encode("utf-8", "replace")) >= SHORTEST_BYTES}


def folded(text: str) -> str:
    """The text without case and accents, as a text index keeps its words."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return plain if plain.isascii() else "".join(letter for letter in plain if not unicodedata.combining(letter))


def _encodings(text: str) -> set[bytes]:
    plain = text.encode("utf-8", "replace")
    forms = {plain, text.encode("utf-16-le", "replace"), json.dumps(text)[1:-1].encode()}
    forms.add(json.dumps(text, ensure_ascii=False)[1:-1].encode("utf-8", "replace"))
    return {form.lower() for form in forms if len(form) >= SHORTEST_BYTES}


def of_tokens(memory: str, ids: Sequence[int], *, run: int = TOKEN_RUN) -> Iterator[Needle]:
    """Runs of so many token ids, as the integers that files keep them in and as text."""
    import numpy as np

    if len(ids) < run:
        return
    for start in range(0, len(ids) - run + 1, TOKEN_STEP):
        part = np.asarray(ids[start : start + run], dtype=np.int64)
        kinds = ("<i4", "<i8") if part.max() >= 1 << 16 else ("<i4", "<i8", "<u2")
        for kind in kinds:
            yield Needle(memory, TOKENS, part.astype(kind).tobytes(), start)
        for joint in (",", ", "):
            yield Needle(memory, TOKENS, joint.join(map(str, part.tolist())).encode(), start)


def of_cache(memory: str, layers: Layers) -> Iterator[Needle]:
    """Of a cache of a memory: the end of its token ids, and what two of its layers keep of its last tokens.

    Never the first layer: what that keeps of a full stop is the same for all memories that end on one.
    """
    tokens = layers.token_ids().tolist()
    yield from of_tokens(memory, tokens[-LONG_TOKEN_RUN:], run=min(LONG_TOKEN_RUN, len(tokens)))
    deep = [layer for layer in layers.header.layers if layer.index]
    for layer in dict.fromkeys((deep[len(deep) // 2], deep[-1])) if deep else ():
        for name, part in layers.layer(layer).items():
            numbers = part.array
            if name in ("key", "value", "key.q", "value.q") and numbers.ndim == 3:
                data = numbers[0, -CACHE_TOKENS:].tobytes()[-CACHE_BYTES:]
                if len(data) >= SHORTEST_CACHE_BYTES and len(set(data)) > SHORTEST_CACHE_BYTES // 2:
                    yield Needle(memory, CACHE, data)


def of_vector(memory: str, vector: Any) -> Iterator[Needle]:
    """Parts of a vector, as it stands in a file of single or half precision."""
    import numpy as np

    numbers = np.asarray(vector, dtype="<f4")
    if not numbers.any():
        return
    for start in (0, numbers.size // 2, max(0, numbers.size - VECTOR_SLICE)):
        part = numbers[start : start + VECTOR_SLICE]
        if np.count_nonzero(part) >= VECTOR_SLICE // 2:
            yield Needle(memory, VECTOR, part.tobytes())
            yield Needle(memory, VECTOR, part.astype("<f2").tobytes())


class Haystack:
    """Needles that are ready to be looked for; equal ones are looked for once."""

    def __init__(self, needles: Iterable[Needle]) -> None:
        self.needles: list[Needle] = list(dict.fromkeys(needles))
        self._wordy = _Index({i: needle.data for i, needle in enumerate(self.needles) if needle.kind in WORDY})
        self._exact = _Index({i: needle.data for i, needle in enumerate(self.needles) if needle.kind not in WORDY})

    def __len__(self) -> int:
        return len(self.needles)

    @property
    def reach(self) -> int:
        """The bytes of the longest needle: what two blocks of a file have to share."""
        return max((len(needle.data) for needle in self.needles), default=0)

    def find(self, data: bytes) -> dict[int, list[int]]:
        """The needles that stand in `data`, by number, with the places they begin at."""
        return {**self._wordy.find(data.lower()), **self._exact.find(data)}

    def without(self, numbers: Iterable[int]) -> Haystack:
        """All but these, in whatever encoding."""
        gone = {(one.memory, one.kind, one.part) for one in (self.needles[i] for i in numbers)}
        return Haystack(one for one in self.needles if (one.memory, one.kind, one.part) not in gone)

    def counts(self) -> dict[str, int]:
        """How many of each kind."""
        return {kind: sum(needle.kind == kind for needle in self.needles) for kind in KINDS}


class _Index:
    """Byte strings by eight bytes of each, so that one pass over the data finds all of them."""

    def __init__(self, strings: Mapping[int, bytes]) -> None:
        import numpy as np

        self._short = {i: data for i, data in strings.items() if len(data) < _ANCHOR}
        self._anchored: dict[int, list[tuple[int, int, bytes]]] = {}
        for i, data in strings.items():
            if len(data) >= _ANCHOR:
                # The middle: many texts begin and end alike.
                at = (len(data) - _ANCHOR) // 2
                anchor = int.from_bytes(data[at : at + _ANCHOR], "little")
                self._anchored.setdefault(anchor, []).append((i, at, data))
        self._anchors = np.array(sorted(self._anchored), dtype="<u8")
        self._sieve = np.zeros(1 << 16, bool)
        self._sieve[_mixed(self._anchors)] = True

    def find(self, data: bytes) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for i, string in self._short.items():
            at = data.find(string)
            while at >= 0:
                found.setdefault(i, []).append(at)
                at = data.find(string, at + 1)
        for place, anchor in self._hits(data):
            for i, before, string in self._anchored[anchor]:
                start = place - before
                if start >= 0 and data.startswith(string, start):
                    found.setdefault(i, []).append(start)
        return found

    def _hits(self, data: bytes) -> Iterator[tuple[int, int]]:
        import numpy as np

        if not self._anchors.size:
            return
        for shift in range(_ANCHOR):
            count = (len(data) - shift) // _ANCHOR
            if count <= 0:
                continue
            values = np.frombuffer(data, dtype="<u8", offset=shift, count=count)
            near = np.flatnonzero(self._sieve[_mixed(values)])
            places = np.searchsorted(self._anchors[:-1], values[near])
            near = near[self._anchors[places] == values[near]]
            for index in near.tolist():
                yield index * _ANCHOR + shift, int(values[index])


def _mixed(values: np.ndarray) -> np.ndarray:
    """Sixteen bits that depend on all of a number's."""
    import numpy as np

    mixed: np.ndarray = (values * np.uint64(_MIX)) >> np.uint64(48)
    return mixed
