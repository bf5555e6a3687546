"""On which engine a verb does its work, and whether memory may go there.

The workers of `ray` are processes of this machine. Those of `ray://HOST:PORT` are anywhere, also when the address is
this machine's, for tunnels begin here: they are an `endpoint` to governance, as a model at an address is. So somebody
agrees before anything starts, and only text goes that may be shared and whose label the policies let go.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memos_cli.cube import metadata
from memos_cli.cube.scopes import GUARDS
from memos_cli.errors import NotAllowed
from memos_cli.infrastructure import engine as engines
from memos_cli.infrastructure import governance
from memos_cli.infrastructure.engine import LOCAL
from memos_cli.infrastructure.governance import HERE
from memos_cli.interface import embedding, seeing, tables
from memos_cli.interface.frame import PLAINTEXT, Changing, Reading
from memos_cli.interface.sending import ENDPOINT, Destination

if TYPE_CHECKING:
    from memos_cli.cube.plaintext import Memories
    from memos_cli.operation.embedded import Held, Writer
    from memos_cli.operation.ingest import Embedder

_HINT = "--engine local, or --engine ray, whose workers are on this machine"


@dataclass(frozen=True, slots=True)
class Engine:
    """A wish: `local`, `ray` or `ray://HOST:PORT`, and how many workers at most (default: all there is room for).

    `agree` hears where text will go before any is sent, and raises when it must not.
    """

    name: str = LOCAL
    workers: int | None = None
    agree: Callable[[Destination], None] = lambda there: None

    def check(self) -> None:
        """Raises Usage for what is no engine."""
        engines.where(self.name)

    def settle(self) -> None:
        """Has somebody agree where text leaves for an address. Raises Usage for what is no engine."""
        place = engines.where(self.name)
        if place.address:
            encrypted = os.environ.get("RAY_USE_TLS", "").lower() in ("1", "true")
            self.agree(Destination("the workers of Ray there", place.host, True, encrypted))

    @property
    def to(self) -> str:
        """Where what is worked on goes, in governance's words. Raises Usage."""
        return ENDPOINT if engines.where(self.name).address else HERE


HERE_ALONE = Engine()


@dataclass(frozen=True, slots=True)
class Opened:
    """An engine for one verb on one cube."""

    on: engines.Engine
    to: str
    seen: Reading

    @property
    def far(self) -> bool:
        """Whether work leaves this process."""
        return self.on.far

    def permit(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Raises NotAllowed when one of these rows, which may not be in the table yet, must not go to the workers."""
        if self.to == HERE:
            return
        sight = self.seen.sight("send", self.to)
        for row in rows:
            if rule := sight.why({name: row.get(name) or "" for name in GUARDS}):
                raise NotAllowed(f"text of {row.get('source', '')} does not leave this machine: {rule}", hint=_HINT)

    def permit_ids(self, ids: Collection[str]) -> None:
        """Raises NotAllowed when one of these memories must not go to the workers."""
        if self.to != HERE:
            governance.insist(self.seen.may_leave(ids, self.to, verb="send"), self.to, hint=_HINT)

    def insist_whole(self) -> None:
        """Raises NotAllowed when a memory of the cube must not go to the workers, for a verb that takes all of them."""
        if self.to != HERE:
            seen = self.seen
            seeing.insist_whole(seen.sight("send", self.to).condition, seen.whole, "send", seen.rules.name)

    def writer(self, change: Changing, encoder: Embedder | None, *, spec: str | None) -> AbstractContextManager[Any]:
        """What takes batches of rows to workers; None where they are embedded and written here."""
        if not self.far:
            return nullcontext()
        from memos_cli.operation.embedded import write_rows

        tables.insist_here(change.cube, "--engine ray", path=change.root)
        assert change.draft is not None
        data = f"{PLAINTEXT}/memories.lance/data/"
        kept = {one.path.removeprefix(data) for one in change.draft.base.manifest.files if one.path.startswith(data)}
        return self.writer_to(change.whole, spec=spec, work=write_rows, permit=self.permit, keep=frozenset(kept))

    def writer_to(
        self,
        memories: Memories,
        *,
        spec: str | None,
        work: Callable[[Held, Any], Any],
        permit: Callable[[Any], None] = lambda rows: None,
        keep: frozenset[str] | None = None,
    ) -> Writer:
        """The same for any table and any work on what is put into it."""
        from memos_cli.operation.embedded import Target, Writer, set_up

        named = spec or embedding.spec_of(memories.embedder)
        # a worker stands in a folder of its own
        named = os.path.abspath(named) if Path(named).is_dir() else named
        target = Target(os.path.abspath(memories.directory), named, memories.embedder, str(self.seen.desk.home))
        cluster: Any = self.on
        call = partial(cluster.crew, work, setup=partial(set_up, target))
        return Writer(memories, call, permit=permit, keep=keep)


@contextmanager
def opened(wish: Engine, seen: Reading) -> Iterator[Opened]:
    """The engine of a wish for a verb on a cube, until the block ends. Raises Usage, MissingExtra, NotAllowed."""
    to = wish.to
    if to != HERE:
        seen.ask("send")
        seen.facts["engine"] = engines.where(wish.name).host
    shared = Path(os.path.abspath(seen.path / metadata.FILE))
    with engines.opened(wish.name, workers=wish.workers, shared=shared, notify=seen.desk.notify) as on:
        yield Opened(on, to, seen)
