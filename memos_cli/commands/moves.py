"""A plan of moves as a person reads it: what each move is, what it takes and saves, and why each memory is in it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memos_cli.interface.planned import Outcome, Planned, PlannedCube, PlannedItem, PlannedMove

COST = "cost"
ID_DIGITS, SHORT_DIGITS = 20, 8
# Memories of one move that are shown to a person; a pipe gets all of them.
MOST_SHOWN = 20
WIDEST, NARROWEST = 100, 40
LEAST_SECONDS = 0.0005
# The word with which a memory's line begins is as wide as a short id.
_INDENT = 2 + SHORT_DIGITS + 2


def pages(plan: Planned, *, width: int) -> Iterator[str]:
    """The moves in lines of at most `width` letters: what is done, at what price, and the memories with their reasons.

    A name that is longer than a line is broken.
    """
    width = max(NARROWEST, min(width, WIDEST))
    for move in plan.moves:
        yield from _wrapped(f"move {move.number}: {move.kind} {_what(move)} of {move.cube}", width, "", "    ")
        yield from _wrapped(f"{move.reason}.", width, "  ", "  ")
        yield from _wrapped(_price(move, plan.horizon_days), width, "  ", "  ")
        yield ""
        for item in move.items[:MOST_SHOWN]:
            yield from _memory(item, width, several=len(move.items) > 1)
        if len(move.items) > MOST_SHOWN:
            yield f"  and {len(move.items) - MOST_SHOWN:,} more; | cat lists them all"
        yield ""


def _what(move: PlannedMove) -> str:
    ids = [item.id for item in move.items]
    if all(len(one) == ID_DIGITS for one in ids):
        return many(len(ids), "memory")
    return "the table" if ids == ["plaintext"] else many(len(ids), "adapter")


def _price(move: PlannedMove, days: float) -> str:
    from memos_cli.interface.wording import seconds

    work = f"{seconds(move.seconds)} of work, once" if move.seconds >= LEAST_SECONDS else "no time to speak of"
    said = f"Takes {work}"
    if move.bytes > 0:
        said += f", and {move.bytes:,} bytes of disk"
    if move.bytes < 0:
        said += f", and gives back {-move.bytes:,} bytes of disk"
    if move.saved_seconds > 0:
        said += f"; saves about {seconds(move.saved_seconds)} of reading in {days:.0f} days"
    if move.saved_seconds < 0:
        said += f"; costs about {seconds(-move.saved_seconds)} of reading in {days:.0f} days"
    return f"{said}."


def _memory(item: PlannedItem, width: int, *, several: bool) -> Iterator[str]:
    """A memory of a move: its words, on one line, and why it moves."""
    name = short(item.id)
    words = " ".join(item.text.split())
    if words:
        yield f"  {name:<{SHORT_DIGITS}}  {_cut(words, width - _INDENT)}"
        yield from _wrapped(_why(item, several=several), width, " " * _INDENT, " " * _INDENT)
    else:
        yield from _wrapped(_why(item, several=several), width, f"  {name:<{SHORT_DIGITS}}  ", " " * _INDENT)


def _why(item: PlannedItem, *, several: bool) -> str:
    if not several or not item.bytes:
        return item.reason
    return f"{item.reason}; {f'gives back {-item.bytes:,}' if item.bytes < 0 else f'{item.bytes:,}'} bytes"


def _wrapped(text: str, width: int, first: str, rest: str) -> list[str]:
    text = text[:1].upper() + text[1:] if first == "  " and rest == "  " else text
    return textwrap.wrap(text, width, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)


def _cut(text: str, letters: int) -> str:
    return text if len(text) <= letters else f"{text[: letters - 1]}…"


def short(identity: str) -> str:
    """The first digits of a memory's id; the name of what is no memory is told as it is."""
    return identity[:SHORT_DIGITS] if len(identity) == ID_DIGITS else identity


def many(count: int, name: str) -> str:
    """`1 memory`, `2 memories`."""
    if count == 1:
        return f"1 {name}"
    return f"{count:,} {name[:-1]}ies" if name.endswith("y") else f"{count:,} {name}s"


def summary(plan: Planned, *, kinds: bool) -> Iterator[str]:
    """What is to be known about a plan besides its moves; with `kinds`, what each kind of move does."""
    from memos_cli.interface.wording import seconds

    for one in plan.cubes:
        yield _found(one)
    for kind in dict.fromkeys(move.kind for move in plan.moves) if kinds else ():
        yield f"{kind}: {next(move.reason for move in plan.moves if move.kind == kind)}"
    by = f"by the policy {plan.policy}, for the model {plan.model}"
    if plan.moves:
        size = sum(move.bytes for move in plan.moves)
        room = f"{abs(size):,} bytes {'more' if size > 0 else 'less'}" if size else "no bytes more or less"
        yield f"plan {plan.id}, {by}: {many(len(plan.moves), 'move')}, about {seconds(plan.seconds)} of work, {room}"
        gain = "saves" if plan.saved_seconds >= 0 else "costs"
        if plan.saved_seconds:
            weighs = "" if plan.saved_seconds > 0 or plan.policy == COST else f"; --policy {COST} would weigh that"
            yield (
                f"if use goes on as lately, that {gain} about {seconds(abs(plan.saved_seconds))} of reading "
                f"in {plan.horizon_days:.0f} days{weighs}"
            )
    else:
        yield f"nothing is worth moving now, {by}"
    for why, count in plan.stays.items():
        stay = "stays as it is" if count == 1 else "stay as they are"
        yield f"{many(count, 'memory')} {stay}: {why}"
    if rest := _not_looked_at(plan):
        yield f"{many(rest, 'memory')} {'was' if rest == 1 else 'were'} not looked at: never used so far"
    yield from plan.notes
    for done in plan.outcomes:
        yield from _outcome(done)


def _not_looked_at(plan: Planned) -> int:
    """Memories that a policy does not decide about, for nobody used them and nothing is kept of them."""
    named = {item.id for move in plan.moves if move.kind in _OF_ITS_OWN for item in move.items}
    return max(0, sum(one.memories for one in plan.cubes) - sum(plan.stays.values()) - len(named))


def _found(one: PlannedCube) -> str:
    held = (
        f"{one.held} kept as activation memory too ({one.held_bytes:,} bytes)" if one.held
        else "none kept as activation memory"
    )  # fmt: skip
    counted = many(one.queries, "answer" if one.counted == "given" else "query")
    return f"{one.cube}, version {one.number}: {many(one.memories, 'memory')}, {held}; {counted} in its log"


def _outcome(done: Outcome) -> Iterator[str]:
    if done.state == "nothing":
        yield f"move {done.move}: nothing was left to do"
        return
    state = "was done before, in" if done.state == "before" else "done:"
    yield f"move {done.move} {state} version {done.version}, {many(len(done.ids), 'memory')}"
    if done.failing:
        yield f"  {len(done.failing)} of them fall short of the fidelity gate, so their text is read instead"


def next_words(plan: Planned) -> Iterator[str]:
    """What to type next, after a plan that changed nothing."""
    named = " ".join(one.cube for one in plan.cubes)
    if not plan.moves:
        if any(one.queries for one in plan.cubes):
            yield f"plans follow use: look again when more was asked, or let it: memos schedule {named} --watch 600"
        return
    yield f"nothing was changed; to do this: memos schedule {named} --apply --plan {plan.id}"
    explained = next((item.id for move in plan.moves if move.kind in _EXPLAINED for item in move.items), "")
    if explained and len(plan.cubes) == 1:
        yield f"the arithmetic behind a memory: memos schedule {named} --explain {short(explained)}"


# Moves whose memories `--explain` can tell of, for a policy decides about them; and all that no other reason counts.
_EXPLAINED = frozenset({"promote", "demote", "rebuild"})
_OF_ITS_OWN = _EXPLAINED | {"merge", "archive"}
