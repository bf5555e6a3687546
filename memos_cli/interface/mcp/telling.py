"""Results in words for a model: what it needs to go on, with ids and places, and no more.

The whole object goes along as structured content; these words are for clients that show a model text alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from memos_cli.interface.found import Answered, Found
from memos_cli.interface.results import Changed, CubeInfo, Ingested, Memory
from memos_cli.operation.findings import Audit


def tell(result: Any, notices: list[str]) -> str:
    """The words for a result, and what was noticed by the way."""
    told = [*_TELLING[type(result)](result), *(f"note: {notice}" for notice in notices)]
    return "\n".join(told)


def _found(found: Found) -> Iterator[str]:
    if not found.hits:
        yield "nothing was found"
    yield from _doubts(found)
    if found.context is not None:
        yield found.context
        return
    many = len(found.cubes) > 1
    for hit in found.hits:
        when = f" {hit.time.date().isoformat()}" if hit.time else ""
        cube = f" of {hit.cube}" if many else ""
        yield f"[{hit.rank}] {hit.place}{when}{cube} (id {hit.id})"
        yield f"{hit.speaker}: {hit.text}" if hit.speaker else hit.text


def _answered(answered: Answered) -> Iterator[str]:
    yield from _doubts(answered)
    if answered.answer is None:
        closest = f"; the closest is {answered.hits[0].place}" if answered.hits else ""
        yield f"the answer is not in memory{closest}"
        return
    yield answered.answer
    yield from (f"[{one.number}] {one.place} (id {one.id})" for one in answered.citations)


def _doubts(found: Found | Answered) -> Iterator[str]:
    yield from (f"without {signal}" for signal in found.missing)
    if found.untrusted:
        yield f"untrusted, for it came from elsewhere: {', '.join(found.untrusted)}"


def _lists(lists: dict[str, list[Any]]) -> Iterator[str]:
    for name, items in lists.items():
        if not items:
            yield f"no {name}"
        yield from map(_item, items)


def _item(item: CubeInfo | Memory) -> str:
    if isinstance(item, CubeInfo):
        about = f": {item.description}" if item.description else ""
        return f"{item.name}, {item.live} memories of {item.sources} sources, version {item.number}{about}"
    state = f" {item.state}" if item.state != "activated" else ""
    return f"{item.place} (id {item.id}{state}) {item.text}"


def _ingested(done: Ingested) -> Iterator[str]:
    if done.changed:
        yield f"remembered: {done.added} memories in version {done.number}"
    else:
        yield f"nothing changed: it was remembered before, in version {done.number}"


def _changed(done: Changed) -> Iterator[str]:
    if done.dry_run:
        yield f"would hide {len(done.ids)} memories: {', '.join(done.ids)}"
    else:
        yield f"version {done.number}: {done.message} ({', '.join(done.ids)})"


def _audit(found: Audit) -> Iterator[str]:
    if not found.findings:
        yield f"sound: {found.versions} versions, {found.files} files, {found.rows} rows"
    for one in found.findings:
        yield f"{one.severity} {one.code} {one.place}: {one.message} (remedy: {one.remedy})"


_TELLING: dict[type, Callable[[Any], Iterator[str]]] = {
    Found: _found, Answered: _answered, dict: _lists, Ingested: _ingested, Changed: _changed, Audit: _audit,
}  # fmt: skip
