"""memos tidy: memories that say the same become one, and what cannot both hold is told and decided."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from memos_cli.commands.options import Cube, Json, LockTimeout, Quiet, Reason, Where, Yes, refuse, server_at

if TYPE_CHECKING:
    from memos_cli.console import Output
    from memos_cli.interface.tidied import Compared, Opposed, Tidied

_KINDS = {
    "value": "two values", "time": "two times", "update": "a value and a later one", "negation": "one denies the other",
    "judge": "they cannot both hold", "reworded": "one memory in two new wordings",
}  # fmt: skip


def run(
    cube: Cube,
    where: Where = None,
    resolve: Annotated[
        str,
        typer.Option(
            "--resolve",
            metavar="POLICY",
            help="Decide conflicts: newest (what was said later), trust (priority, then who said it), or ask.",
        ),
    ] = "",
    apply: Annotated[bool, typer.Option("--apply", help="Do it, in one version. [default: only show it]")] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Show also what says the same and is left alone, with the reason.")
    ] = False,
    judge: Annotated[
        str | None,
        typer.Option(
            "--judge",
            metavar="MODEL",
            help="Ask this model about pairs that rules leave open: a folder, a hub id, an installed judge, or a name "
            "that the server of --judge-url knows.",
        ),
    ] = None,
    judge_url: Annotated[
        str | None,
        typer.Option(
            "--judge-url",
            metavar="URL",
            help="An OpenAI-compatible server; the memories go there. The key is read from MEMOS_API_KEY.",
        ),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Decide also what you kept both sides of before, which is not asked again.")
    ] = False,
    yes: Yes = False,
    reason: Reason = "",
    lock_timeout: LockTimeout = 10.0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find memories that say the same or cannot both hold, and put them in order with --apply.

    One memory stays for those that say the same; the others are archived, with their words and places. Conflicts are
    shown with both sides, and decided only where --resolve says how.
    """
    from memos_cli.console import Output
    from memos_cli.interface import api

    out = Output(json=json, quiet=quiet)
    refuse(resolve == "ask" and not apply, "--resolve ask decides one by one: add --apply")
    refuse(judge_url is not None and judge is None, "--judge-url needs the name of a model: --judge MODEL")
    wish = None
    if judge is not None:
        wish = api.Judging(judge, server_at(out, judge_url, "memories", yes=yes) if judge_url else None)
    told = api.tidy(
        cube, where=where, resolve=resolve, ask=ask_person if resolve == "ask" else None, judge=wish,
        again=again, apply=apply, to=out.destination, reason=reason, lock_timeout=lock_timeout, notify=out.say,
    )  # fmt: skip
    if json:
        out.one(told, ())
        return
    if quiet:
        out.one(told, (), ids=told.archived)
        return
    if out.terminal:
        out.one(told, _blocks(told, everything=everything))
    else:
        _table(out, [*_rows(told, everything=everything), *(_left(told) if everything else ())])
    for line in _summary(told, everything=everything):
        out.say(line)


def _blocks(told: Tidied, *, everything: bool) -> Iterator[str]:
    """What a person reads: each finding with its memories below it."""
    done = "archived" if told.applied else "archive"
    for number, one in enumerate(told.merges, 1):
        yield f"{number} the same: {_flat(one.stays.text)}"
        yield _line("stays", one.stays, one.why)
        for each in one.same:
            said = each.why if each.how == "exact" else f"{each.why}: {_flat(each.memory.text)}"
            yield _line(done, each.memory, said)
    yield from of_conflicts(_told_of(told, everything), applied=told.applied, start=len(told.merges) + 1)
    for alike in told.left if everything else ():
        yield f"alike, but {alike.why}"
        for memory in (alike.one, alike.other):
            yield _line("stays", memory, _flat(memory.text))


def _told_of(told: Tidied, everything: bool) -> list[Opposed]:
    """The conflicts that are shown: those of which somebody kept both sides only where all is."""
    return [one for one in told.conflicts if everything or not one.kept]


def of_conflicts(conflicts: Iterable[Opposed], *, applied: bool, start: int = 1) -> Iterator[str]:
    """Each conflict with both sides and the reason below it."""
    done = "archived" if applied else "archive"
    for number, pair in enumerate(conflicts, start):
        yield f"{number} conflict, {_matter(pair)}"
        for memory in (pair.one, pair.other):
            becomes = (
                ("stays" if pair.kept else "undecided")
                if not pair.stays
                else "stays"
                if memory.id == pair.stays
                else done
            )
            yield _line(becomes, memory, _flat(memory.text))
        yield from [f"    {pair.why}"] if pair.why else []


def _line(becomes: str, memory: Compared, said: str) -> str:
    return f"    {becomes:<10}{memory.id[:8]}  {memory.place}  {said}"


def _flat(text: str) -> str:
    """A text on one line."""
    return " ".join(text.split())


class _Row(NamedTuple):
    """A line of the table: a memory, and what becomes of it."""

    what: str
    becomes: str
    memory: Compared
    why: str


def _table(out: Output, rows: list[_Row]) -> None:
    out.rows(
        rows,
        {
            "what": lambda row: row.what,
            "becomes": lambda row: row.becomes,
            "memory": lambda row: row.memory.id,
            "text": lambda row: row.memory.text,
            "place": lambda row: row.memory.place,
            "why": lambda row: row.why,
        },
        ids=lambda row: row.memory.id,
    )


def _rows(told: Tidied, *, everything: bool) -> Iterator[_Row]:
    done = "archived" if told.applied else "archive"
    for number, one in enumerate(told.merges, 1):
        yield _Row(f"{number} same", "stays", one.stays, one.why)
        for each in one.same:
            yield _Row(f"{number} same", done, each.memory, each.why)
    for number, pair in enumerate(_told_of(told, everything), len(told.merges) + 1):
        becomes = (
            dict.fromkeys((pair.one.id, pair.other.id), "stays")
            if pair.kept
            else {pair.stays: "stays", pair.goes: done}
            if pair.stays
            else {}
        )
        yield _Row(f"{number} conflict", becomes.get(pair.one.id, "undecided"), pair.one, _matter(pair))
        yield _Row(f"{number} conflict", becomes.get(pair.other.id, "undecided"), pair.other, pair.why)


def _left(told: Tidied) -> Iterator[_Row]:
    for one in told.left:
        yield _Row("alike", "stays", one.one, one.why)
        yield _Row("alike", "stays", one.other, f"the same as {one.one.id[:8]}")


def _matter(pair: Opposed) -> str:
    """What two memories disagree about."""
    if pair.kind in ("negation", "judge", "reworded") or not any(pair.says):
        return _KINDS[pair.kind]
    return f"{_KINDS[pair.kind]}: {pair.says[0]} or {pair.says[1]}"


def ask_person(pair: Opposed) -> str:
    """The id of the side that a person takes; "" for both."""
    from memos_cli.console import choose

    told = "\n".join(
        f"  {number} {one.text}\n    {one.place}, {'said' if one.time else 'remembered'} "
        f"{one.time or one.created_at:%Y-%m-%d %H:%M}"
        for number, one in ((1, pair.one), (2, pair.other))
    )
    note = f" ({pair.why})" if pair.why else ""
    said = choose(
        f"{_matter(pair)}{note}\n{told}\nwhich one stays? b: both", ("1", "2", "b"),
        hint="memos tidy CUBE --resolve newest",
    )  # fmt: skip
    return {"1": pair.one.id, "2": pair.other.id, "b": ""}[said]


def _summary(told: Tidied, *, everything: bool) -> Iterator[str]:
    joined = sum(len(one.same) for one in told.merges)
    decided = sum(bool(one.stays) for one in told.conflicts)
    kept = sum(one.kept for one in told.conflicts)
    waiting = len(told.conflicts) - decided - kept
    yield f"{told.cube} version {told.number}: {_many(told.compared, 'memory')} compared"
    if joined:
        fate = "archived" if told.applied else "to be archived"
        yield f"{_many(joined, 'memory')} {fate}, for what stays says the same"
    if decided:
        who = "you" if told.resolve == "ask" else told.resolve
        yield f"{_many(decided, 'conflict')} {'decided' if told.applied else 'to be decided'} by {who}"
    if waiting:
        way = "" if told.resolve else "; --resolve newest, trust or ask decides such"
        yield f"{_many(waiting, 'conflict')} undecided, so both sides stay{way}"
    if kept:
        yield f"{_many(kept, 'conflict')} of which you kept both sides; --again decides such anew"
    if told.left and not everything:
        yield f"{_many(len(told.left), 'pair')} alike and left alone; --all shows them with the reasons"
    for relation in told.several:
        yield f"{relation!r} has several values for most, so that is no conflict"
    yield from told.notes
    if not (joined or told.conflicts):
        yield "nothing says the same or conflicts"
    elif not told.applied and told.archived and told.blocked:
        yield f"it cannot be carried out: {told.blocked}"
    elif not told.applied and told.archived:
        yield f"nothing was changed; to do this: {_again(told)}"


def _again(told: Tidied) -> str:
    return f"memos tidy {told.cube}{f' --resolve {told.resolve}' if told.resolve else ''} --apply"


def _many(count: int, name: str) -> str:
    if count == 1:
        return f"1 {name}"
    return f"{count} {name[:-1]}ies" if name.endswith("y") else f"{count} {name}s"
