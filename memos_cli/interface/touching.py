"""Before an ingest touches what is remembered of a source: whether all of it is the actor's to change.

An ingest compares a file with what is remembered of it and says how many memories it kept, so of a source with a single
memory that is not open to the actor it says nothing at all: else a guess could be tried against it. Nor does an ingest
lower a label or widen a scope by the way. Both are settled before the source is read.
"""

from __future__ import annotations

from collections.abc import Callable

from memos_cli.cube.access import at_most_sql
from memos_cli.cube.filters import quote
from memos_cli.errors import NotAllowed
from memos_cli.interface import frame
from memos_cli.interface.frame import Reading
from memos_cli.interface.seeing import governed
from memos_cli.operation.marking import Marks


def toucher(seen: Reading, marks: Marks) -> Callable[[str], None]:
    """A callable that raises NotAllowed for a source whose memories the actor must not change so."""
    open_to = seen.sight("ingest").condition
    given = marks.columns(frame.now())

    def touch(uri: str) -> None:
        of = f"source = {quote(uri)}"
        if open_to and seen.whole.count(of) > seen.whole.narrowed(open_to).count(of):
            raise NotAllowed(
                f"what is remembered of {uri} is not all yours to change", hint="ask the owner of the cube"
            )
        if "sensitivity" in given:
            _refuse_lower(seen, uri, of, given["sensitivity"])
        other = [f"{name} != {_literal(given[name])}" for name in sorted(governed(seen.rules) & given.keys())]
        if other and seen.whole.count(f"{of} and valid_to is null and ({' or '.join(other)})"):
            seen.ask("govern")

    return touch


def _literal(value: str | bool) -> str:
    return quote(value) if isinstance(value, str) else str(value).lower()


def _refuse_lower(seen: Reading, uri: str, of: str, level: str) -> None:
    low = at_most_sql(level, level=seen.rules.governance.sensitivity)
    if seen.whole.count(f"{of} and valid_to is null and not ({low})"):
        raise NotAllowed(
            f"what is remembered of {uri} has a higher label than {level!r}",
            hint=f"memos edit {seen.root} --where 'source={uri}' --sensitivity {level} --declassify --reason WHY",
        )


def open_to(seen: Reading, uris: tuple[str, ...]) -> tuple[str, ...]:
    """Of some sources, those of which the actor may see something."""
    return tuple(uri for uri in uris if uri in seen.memories.uris()) if uris and seen.shown else uris
