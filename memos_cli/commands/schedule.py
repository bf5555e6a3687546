"""memos schedule: which memories should be in which form, and moving them there."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from memos_cli.commands.many import Jobs, Vault, named_by, run_each
from memos_cli.commands.options import Json, LockTimeout, Quiet, refuse

if TYPE_CHECKING:
    from memos_cli.console import Output
    from memos_cli.interface.planned import Explained, Planned, PlannedItem, PlannedMove

_VERDICTS = {
    "promote": "make activation memory of it", "keep": "keep it as activation memory",
    "demote": "take its activation memory away", "leave": "leave it as text",
}  # fmt: skip
SUFFIXES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def run(
    cubes: Annotated[
        list[str] | None, typer.Argument(metavar="CUBE...", help="Cubes to plan for, together: paths or names.")
    ] = None,
    each: Annotated[bool, typer.Option("--each", help="Plan for each cube by itself, several at a time.")] = False,
    vault: Vault = False,
    jobs: Jobs = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy",
            metavar="NAME",
            help="cost, lru, lfu, decay, semantic, or one that is installed; for --replay several. [default: cost]",
        ),
    ] = None,
    budget_bytes: Annotated[
        str | None,
        typer.Option("--budget-bytes", metavar="N", help="At most so much activation memory, such as 200M or 2G."),
    ] = None,
    budget_seconds: Annotated[
        float | None,
        typer.Option("--budget-seconds", metavar="N", min=0, help="Work at most so long to make what is planned."),
    ] = None,
    model: Annotated[
        str,
        typer.Option("--model", metavar="MODEL", envvar="MEMOS_MODEL", help="Who reads: nano, a folder or a hub id."),
    ] = "nano",
    rent: Annotated[
        float,
        typer.Option("--rent", metavar="SECONDS", min=0, help="What keeping a gigabyte for a day is worth."),
    ] = 5.0,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Guess costs from the model's shape; measure and load nothing.")
    ] = False,
    archive: Annotated[
        float | None,
        typer.Option("--archive", metavar="DAYS", min=1, help="Also set aside what nobody has used for so many days."),
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Also let one memory stand for those that say the same.")
    ] = False,
    distill: Annotated[
        bool, typer.Option("--distill", help="Also teach adapters, where training pays: takes long.")
    ] = False,
    discard: Annotated[
        bool, typer.Option("--discard", help="Also take away what was made with other weights of the model.")
    ] = False,
    explain: Annotated[
        str | None, typer.Option("--explain", metavar="ID", help="Show the arithmetic for this memory.")
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Carry the plan out, or go on with one that was interrupted.")
    ] = False,
    plan: Annotated[
        str | None, typer.Option("--plan", metavar="ID", help="With --apply: this plan, as it was printed.")
    ] = None,
    watch: Annotated[
        float | None,
        typer.Option("--watch", metavar="SECONDS", help="Look again so often, until a SIGTERM ends it."),
    ] = None,
    replay: Annotated[
        str | None,
        typer.Option(
            "--replay",
            metavar="TRACE",
            help="Try policies on a trace of use: zipf, bursts, drift, or log for what was asked of the cube.",
        ),
    ] = None,
    requests: Annotated[int, typer.Option("--requests", metavar="N", min=1, help="Of a trace that is made up.")] = 2000,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of a trace that is made up.")] = 0,
    plot: Annotated[
        str | None, typer.Option("--plot", metavar="FILE", help="With --replay: draw it too, as SVG.")
    ] = None,
    self_test: Annotated[
        bool,
        typer.Option(
            "--self-test",
            help="Ask the cube what its memories say, in each form; with --apply repair what is missed.",
        ),
    ] = False,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, help="Of a self-test: memories, those used most first.")
    ] = 200,
    redistil: Annotated[
        bool, typer.Option("--redistil", help="Of a self-test: adapters that fall short are made anew; minutes each.")
    ] = False,
    lock_timeout: LockTimeout = 10.0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Plan which memories a model should keep as activation memory, and carry the plan out with --apply.

    Uses are taken from the access log, costs are measured on this machine once. Without --apply nothing is changed.
    """
    from memos_cli.commands.moves import next_words
    from memos_cli.commands.replay import show
    from memos_cli.console import Output
    from memos_cli.interface import api

    out = Output(json=json, quiet=quiet)
    refuse(plan is not None and not apply, "--plan ID goes with --apply")
    refuse(explain is not None and apply, "--explain changes nothing: without --apply")
    refuse(watch is not None and bool(plan or explain), "--watch makes plans of its own: without --plan and --explain")
    refuse(replay is None and len(policy or ()) > 1, "a plan has one policy; several are for --replay")
    refuse(plot is not None and replay is None, "--plot FILE goes with --replay")
    refuse(redistil and not (self_test and apply), "--redistil goes with --self-test --apply")
    cubes = named_by(cubes, vault=vault)
    each = each or vault or jobs is not None
    refuse(
        each and bool(self_test or replay or explain or plan or watch),
        "--each, --vault and --jobs plan and --apply; without --self-test, --replay, --explain, --plan, --watch",
    )
    if self_test:
        from memos_cli.commands.self_test import show as show_tested

        refuse(len(cubes) != 1 or bool(policy or plan or explain or watch or replay), "--self-test is for one cube")
        asked_itself = api.self_test(
            cubes[0], model=model, limit=limit, apply=apply, redistil=redistil, lock_timeout=lock_timeout,
            notify=out.say, progress=out.progress("asking"),
        )  # fmt: skip
        show_tested(out, asked_itself)
        return
    if replay is not None:
        no_plan = bool(explain or watch or estimate or archive or merge or distill or discard)
        refuse(apply or no_plan, "--replay changes nothing and makes no plan")
        refuse(len(cubes) != 1, "--replay is for one cube")
        tried = api.replay_trace(
            cubes[0], replay, policies=policy or ("cost", "lru", "lfu"), model=model, requests=requests, seed=seed,
            budget_bytes=_bytes(budget_bytes), notify=out.say, progress=out.progress("measuring"),
        )  # fmt: skip
        show(out, tried, plot=plot)
        return
    asked: dict[str, Any] = {
        "policy": (policy or ["cost"])[0], "model": model, "budget_bytes": _bytes(budget_bytes),
        "budget_seconds": budget_seconds, "rent": rent, "estimate": estimate, "to": out.destination, "notify": out.say,
    }  # fmt: skip
    more: dict[str, Any] = {"archive_days": archive, "merge": merge, "distill": distill, "discard": discard}
    if each:
        wishes = {name: value for name, value in asked.items() if name != "notify"}
        wishes |= more | {"apply": apply, "lock_timeout": lock_timeout}
        run_each(out, "schedule", cubes, jobs=jobs, options=wishes)
        return
    if explain is not None:
        refuse(
            any(more.values()),
            "--explain shows how activation memory is decided: without --archive, --merge, --distill, --discard",
        )
        refuse(len(cubes) != 1, "--explain ID is for one cube")
        told = api.explain(cubes[0], explain, **asked)
        out.one(told, _arithmetic(told), ids=[told.id])
        return
    if watch is not None:
        with _ended_by_signal() as stop:
            api.watch(
                cubes, every_seconds=watch, stop=stop, show=lambda one: _show(out, one), apply=apply,
                lock_timeout=lock_timeout, **asked, **more,
            )  # fmt: skip
        out.say("stopped")
        return
    if not apply:
        made = api.schedule(cubes, **asked, **more)
        if made.moves:
            api.keep_plan(made)
        _show(out, made)
        for line in next_words(made):
            out.say(line)
        return
    chosen = api.kept_plan(plan) if plan else api.unfinished_plan(cubes)
    if chosen is None:
        chosen = api.schedule(cubes, **asked, **more)
    elif plan is None:
        out.say(f"going on with plan {chosen.id}, which was interrupted")
    refuse(
        {one.cube for one in chosen.cubes} != set(cubes),
        f"plan {chosen.id} is for {' '.join(one.cube for one in chosen.cubes)}, found {' '.join(cubes)}",
    )
    done = api.carry_out(
        chosen, model=model, lock_timeout=lock_timeout, notify=out.say, progress=out.progress("moving")
    )
    _show(out, done)


@contextmanager
def _ended_by_signal() -> Iterator[Event]:
    """An event that a SIGTERM sets, in the place of ending the program at once."""
    stop = Event()
    before = signal.signal(signal.SIGTERM, lambda number, where: stop.set())
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)


def _bytes(text: str | None) -> int | None:
    """`200M`, `2GB` or a plain number. Raises Usage."""
    from memos_cli.errors import Usage

    if text is None:
        return None
    plain = text.strip().lower().removesuffix("b")
    unit = plain[-1:] if plain[-1:].isalpha() else ""
    number = plain.removesuffix(unit).strip()
    try:
        found = float(number) * SUFFIXES[unit]
        if not 0 <= found < 2**63:
            raise ValueError(text)
    except (ValueError, KeyError) as error:
        raise Usage(f"expected bytes such as 500000, 200M or 2G, found {text[:40]!r}") from error
    return int(found)


class _Row(NamedTuple):
    """A line of the list: a memory and the move that it is part of."""

    move: PlannedMove
    item: PlannedItem


def _show(out: Output, plan: Planned) -> None:
    import shutil

    from memos_cli.commands.moves import pages, summary

    rows = [_Row(move, item) for move in plan.moves for item in move.items]
    if out.json or (out.terminal and not out.quiet):
        out.one(plan, pages(plan, width=shutil.get_terminal_size().columns))
    elif rows:
        out.rows(
            rows,
            {
                "move": lambda row: f"{row.move.number} {row.move.kind}",
                **({"cube": lambda row: row.move.cube} if len(plan.cubes) > 1 else {}),
                "memory": lambda row: row.item.id,
                "text": lambda row: row.item.text,
                "why": lambda row: row.item.reason,
                "bytes": lambda row: row.item.bytes,
                "takes": lambda row: row.item.seconds,
                "saves": lambda row: row.item.saved_seconds,
            },
            ids=lambda row: row.item.id,
        )
    if not out.json:
        for line in summary(plan, kinds=not out.terminal):
            out.say(line)


def _arithmetic(told: Explained) -> Iterator[str]:
    from memos_cli.interface.wording import amount

    yield f"{told.id}  {told.form}, {told.tokens} tokens for {told.model}, priority {told.priority}"
    yield told.text
    yield ""
    score = "score (above 0: it is wanted)"
    wide = max(len(name) for name in (score, *(step.name for step in told.steps)))
    for step in told.steps:
        yield f"{step.name:<{wide}}  {amount(float('inf') if step.value is None else step.value, step.unit)}"
    yield f"{score:<{wide}}  {told.score:.4g}"
    yield ""
    yield f"by the policy {told.policy}: {_VERDICTS.get(told.verdict, told.verdict)}. {told.why}"
