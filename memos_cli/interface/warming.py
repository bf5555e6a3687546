"""What a process that stays keeps ready between calls: embedders, open tables and models, safe for its threads.

A desk has one when a server set it; a command's has none, and opens what it needs. Nothing here says who may see what:
a bench is taken again only by who sees the same of the same versions, and every call asks governance itself.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memos_cli.interface.frame import Reading
    from memos_cli.interface.querying import Bench
    from memos_cli.interface.respondents import Respondent
    from memos_cli.runtime.embed import Embedder
    from memos_cli.runtime.model import LocalModel

MOST_BENCHES, MOST_RESPONDENTS = 32, 8


@dataclass(slots=True)
class Warm:
    """Ready things by what they are for. `recalling` and `answering` are held by the one who does so: tables are held
    for all threads together, and a model writes one answer at a time."""

    recalling: threading.Lock = field(default_factory=threading.Lock)
    answering: threading.Lock = field(default_factory=threading.Lock)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _benches: OrderedDict[Hashable, Bench] = field(default_factory=OrderedDict)
    _embedders: dict[str, Embedder | None] = field(default_factory=dict)
    _models: dict[str, LocalModel] = field(default_factory=dict)
    _respondents: OrderedDict[Hashable, Respondent] = field(default_factory=OrderedDict)

    def bench(
        self,
        names: Sequence[str],
        seen: Sequence[Reading],
        *,
        embedder: str | None,
        model: str | None,
        make: Callable[[], Bench],
    ) -> Bench:
        """The tables of these versions as they are shown to who reads; made when nobody like them has asked before."""
        roots = tuple(str(each.root) for each in seen)
        versions = tuple(each.version.digest for each in seen)
        key = (tuple(names), roots, versions, tuple(each.shown for each in seen), embedder, model)
        with self._lock:
            if key not in self._benches:
                self._drop_older(roots, versions)
                self._benches[key] = make()
                while len(self._benches) > MOST_BENCHES:
                    self._benches.popitem(last=False)
            self._benches.move_to_end(key)
            return self._benches[key]

    def embedder(self, spec: str, make: Callable[[], Embedder | None]) -> Embedder | None:
        """The embedder of this name, loaded once."""
        with self._lock:
            if spec not in self._embedders:
                self._embedders[spec] = make()
            return self._embedders[spec]

    def model(self, spec: str, make: Callable[[], LocalModel]) -> LocalModel:
        """The model of this name, which is in memory once whatever it is asked for."""
        with self._lock:
            if spec not in self._models:
                self._models[spec] = make()
            return self._models[spec]

    def respondent(self, key: Hashable, make: Callable[[], Respondent]) -> Respondent:
        """Who answers in this way; to be asked under `answering`, after its `renew`."""
        with self._lock:
            if key not in self._respondents:
                self._respondents[key] = make()
                while len(self._respondents) > MOST_RESPONDENTS:
                    self._respondents.popitem(last=False)
            self._respondents.move_to_end(key)
            return self._respondents[key]

    def _drop_older(self, roots: tuple[str, ...], versions: tuple[str, ...]) -> None:
        """Lets go of tables of other versions: what was forgotten for good is not kept open either."""
        for key, bench in list(self._benches.items()):
            if isinstance(key, tuple) and key[1] == roots and tuple(bench.versions) != versions:
                del self._benches[key]
