"""Whether words were forgotten for good, told by keyed hashes of them.

Words are compared without case, spacing and punctuation. A longer text is recognised in parts too, so that it does not
come back because a line was broken elsewhere or a word was added: by the runs of words that it shares. Knows nothing of
files, or of what is done with words that are refused.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from memos_cli.cube.denied import Denied

KEY_FILE = "forget.key"
# A text of at least so many words is also known by its runs of RUN words; it is refused when half of them are known.
LONG_WORDS, RUN, SHARE, FEWEST_RUNS = 10, 6, 0.5, 2
_WORD = re.compile(r"\w+")


class Denial:
    """What a cube does not take back, as far as this home's key can tell."""

    def __init__(self, entries: Iterable[Denied], key: bytes) -> None:
        self.entries = list(entries)
        self._key = key
        self.name = hashlib.sha256(b"memos forget key\0" + key).hexdigest()[:16]
        own = [entry for entry in self.entries if entry.key == self.name]
        self.foreign = len(self.entries) - len(own)
        self._words = {entry.words for entry in own}
        self._ids = {entry.id for entry in own}
        self._runs: dict[str, set[int]] = {}
        self._sizes = [len(entry.runs) for entry in own]
        for number, entry in enumerate(own):
            for run in entry.runs:
                self._runs.setdefault(run, set()).add(number)

    def __bool__(self) -> bool:
        return bool(self._words)

    def refuses(self, text: str) -> bool:
        """Whether these words, or most of them, were forgotten for good."""
        if not self._words:
            return False
        words = _words(text)
        return self._hash("words", " ".join(words)) in self._words or self._shares(words)

    def knows(self, identity: str) -> bool:
        """Whether the memory with this id was forgotten for good."""
        return self._hash("id", identity) in self._ids

    def entry(self, *, identity: str, text: str, source: str, now: datetime) -> Denied:
        """What is kept of a memory that is forgotten."""
        words = _words(text)
        return Denied(
            id=self._hash("id", identity),
            words=self._hash("words", " ".join(words)),
            runs=tuple(dict.fromkeys(self._hashes(words))),
            source=self._hash("source", source),
            key=self.name,
            denied_at=now,
        )

    def lifted(self, *, ids: Iterable[str] = (), text: str | None = None) -> list[Denied]:
        """The entries that stay when these memories, or these words, are let in again."""
        known = {self._hash("id", identity) for identity in ids}
        words = None if text is None else self._hash("words", " ".join(_words(text)))
        return [entry for entry in self.entries if entry.id not in known and entry.words != words]

    def sources(self, entries: Iterable[Denied], uris: Iterable[str]) -> set[str]:
        """Which of these sources the entries are of."""
        wanted = {entry.source for entry in entries}
        return {uri for uri in uris if self._hash("source", uri) in wanted}

    def _shares(self, words: Sequence[str]) -> bool:
        if not self._runs or len(words) < RUN:
            return False
        shared: dict[int, int] = {}
        runs = set(self._hashes(words, shortest=RUN))
        for run in runs:
            for number in self._runs.get(run, ()):
                shared[number] = shared.get(number, 0) + 1
        return any(
            count >= max(FEWEST_RUNS, SHARE * min(len(runs), self._sizes[number])) for number, count in shared.items()
        )

    def _hashes(self, words: Sequence[str], *, shortest: int = LONG_WORDS) -> Iterator[str]:
        if len(words) >= shortest:
            for start in range(len(words) - RUN + 1):
                yield self._hash("run", " ".join(words[start : start + RUN]), size=8)

    def _hash(self, what: str, text: str, *, size: int = 16) -> str:
        data = text.encode("utf-8", "replace")
        return hashlib.blake2b(data, key=self._key, digest_size=size, person=what.encode()).hexdigest()


def _words(text: str) -> list[str]:
    """The words of a text without case and punctuation; of one that has none, the text itself."""
    return _WORD.findall(text.casefold()) or [text.strip()]
