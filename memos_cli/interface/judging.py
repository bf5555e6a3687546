"""Who judges pairs of memories for `tidy`, whether the memories may go there, and the judging itself.

A judge is a function of an installed package, a model on this machine, or a model behind an OpenAI-compatible address.
Memories leave this machine only as `sending` has it; those that may not go are not judged.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from memos_cli.cube.scopes import rank
from memos_cli.errors import Usage
from memos_cli.infrastructure import governance
from memos_cli.interface.frame import Reading
from memos_cli.interface.sending import ENDPOINT, Destination, Server
from memos_cli.operation import judging
from memos_cli.operation.judging import MOST_JUDGED, Judge, Note, Pair
from memos_cli.operation.merging import APART, UNMERGED, Merges
from memos_cli.operation.resolving import UNSURE, Dispute

if TYPE_CHECKING:
    import numpy as np

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Judging:
    """A wish to have pairs judged: by an installed judge, a model's folder or hub id, or what a server knows it by."""

    model: str
    server: Server | None = None


def judge_of(wish: Judging | Judge, seen: Reading) -> tuple[Judge, Destination | None]:
    """The judge of a wish, and where it is when that is not this process. Asks for leave; connects to nothing.

    Raises Usage, NotFound for a folder that holds no model.
    """
    if not isinstance(wish, Judging):
        return wish, None
    from memos_cli.runtime.complete import address_of, open_completer

    if wish.server is None:
        found = judging.installed(wish.model)
        return found or judging.by_model(open_completer(wish.model)), None
    address = address_of(wish.server.url, flag="--judge-url")
    there = Destination(wish.model, address.host, not address.here, address.here or address.encrypted)
    wish.server.agree(there)
    seen.facts["answer_host"] = there.host
    return judging.by_model(open_completer(wish.model, url=wish.server.url, key=wish.server.key)), there


def judge(
    wish: Judging | Judge,
    seen: Reading,
    rows: Mapping[str, Row],
    found: Merges,
    disputes: Sequence[Dispute],
    vectors: Mapping[str, np.ndarray] | None,
) -> tuple[dict[frozenset[str], str], list[str]]:
    """The verdicts on what was found and on the nearest of the rest, and what to say about it.

    Raises NotAllowed when nothing of the cube may go where the judge is, and as the judge does.
    """
    asked, there = judge_of(wish, seen)
    pairs = dict.fromkeys(_found(found, disputes))
    pairs |= dict.fromkeys(_near(rows, vectors or {}, known={frozenset(pair) for pair in pairs}))
    may = _may_go(seen, there, rows, {identity for pair in pairs for identity in pair})
    going = [pair for pair in pairs if set(pair) <= may]
    notes = []
    if kept := len(pairs) - len(going):
        notes.append(f"{kept} pairs were not judged, for a memory of theirs may not go there")
    if len(going) > MOST_JUDGED:
        notes.append(
            f"of {len(going)} pairs {MOST_JUDGED} were judged, what rules found first; tidy again for the rest"
        )
    read = {identity: note_of(rows[identity]) for pair in going[:MOST_JUDGED] for identity in pair}
    told = judging.ask(asked, going[:MOST_JUDGED], read)
    notes.append(f"{len(told)} pairs were judged by {_name(wish)}")
    return told, notes


def _name(wish: Judging | Judge) -> str:
    return wish.model if isinstance(wish, Judging) else getattr(wish, "__name__", "a judge")


def note_of(row: Row) -> Note:
    """A memory as a judge reads it."""
    return Note(row["text"], row["section"], row["source"], row["time"])


def _found(found: Merges, disputes: Iterable[Dispute]) -> Iterable[Pair]:
    """What rules found by more than the same words, or left alone for where it stands."""
    for one in found.merges:
        yield from ((one.id, each.id) for each in one.absorbed if each.how != "exact")
    yield from ((one.one, one.other) for one in found.left)
    yield from (one.ids for one in disputes if one.open or one.why == UNSURE)


def _near(
    rows: Mapping[str, Row], vectors: Mapping[str, np.ndarray], *, known: Collection[frozenset[str]]
) -> Iterable[Pair]:
    """The nearest pairs that rules did not find, among what may be put together."""
    kept = [identity for identity, row in rows.items() if row["kind"] not in UNMERGED]
    for _, (one, other) in judging.nearest(kept, vectors):
        apart = any(rows[one][name] != rows[other][name] for name in APART)
        if not apart and frozenset((one, other)) not in known and rows[one]["text"] != rows[other]["text"]:
            yield one, other


def _may_go(seen: Reading, there: Destination | None, rows: Mapping[str, Row], ids: Collection[str]) -> frozenset[str]:
    """Which memories may be read where the judge is."""
    if there is None or not there.leaves_machine:
        return frozenset(ids)
    level = seen.rules.governance.sensitivity
    most = governance.maximum(seen.rules, ENDPOINT, policy=seen.desk.policy)
    low = [identity for identity in ids if rank(rows[identity]["sensitivity"] or level) <= rank(most)]
    return frozenset(seen.may_leave(low, ENDPOINT, verb="send").allowed)


def check(wish: Judging | Judge | None) -> None:
    """Raises Usage for a wish that names no model."""
    if isinstance(wish, Judging) and not wish.model.strip():
        raise Usage("expected the name of a judge, found an empty one")
