"""memos distill: memories into an adapter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from memos_cli.commands import adapters
from memos_cli.commands.options import (
    Cube,
    DryRun,
    EngineName,
    Json,
    LockTimeout,
    Quiet,
    Reason,
    Workers,
    Yes,
    engine_of,
    insisted,
    refuse,
)

if TYPE_CHECKING:
    from memos_cli.console import Output
    from memos_cli.interface.questioning import Writer
    from memos_cli.interface.rebuilding import Rebuilding
    from memos_cli.interface.results import Distilled


def run(
    ctx: typer.Context,
    cube: Cube,
    model: Annotated[
        str,
        typer.Option(
            "--model", metavar="MODEL", envvar="MEMOS_MODEL", help="nano (comes with memos), a folder or a hub id."
        ),
    ] = "nano",
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="What the adapter is called.")] = "facts",
    select: Annotated[
        str | None,
        typer.Option("--select", "--where", metavar="FILTER", help="Such as 'type=fact and topic=work/*'."),
    ] = None,
    ids: Annotated[
        list[str] | None, typer.Option("--ids", metavar="ID", help="This memory; may be given again.")
    ] = None,
    rank: Annotated[int, typer.Option("--rank", metavar="R", min=1, max=512, help="The rank of the LoRA.")] = 16,
    on_top_of: Annotated[
        str | None,
        typer.Option("--on-top-of", metavar="NAME", help="Train it with this adapter beneath, which it then requires."),
    ] = None,
    standalone: Annotated[
        bool, typer.Option("--standalone", help="Train it by itself; retrieval chooses it. The default.")
    ] = False,
    teacher: Annotated[
        str,
        typer.Option(
            "--teacher", metavar="FORM", help="What the model reads to teach: text, or kv (its activation memory)."
        ),
    ] = "text",
    locality: Annotated[
        float,
        typer.Option("--locality", metavar="X", min=0, help="How hard what nobody taught is held; more costs recall."),
    ] = 3.0,
    rate: Annotated[
        float | None,
        typer.Option("--rate", metavar="X", help="The learning rate. [default: by the model's width, 0.01 for nano]"),
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", metavar="N", min=1, help="Train at most so long. [default: 450]")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Another seed gives other numbers.")] = 0,
    replace: Annotated[bool, typer.Option("--replace", help="Make the adapter of this name anew.")] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Make the adapters anew that have gone stale, from what is remembered.")
    ] = False,
    writer: Annotated[
        str | None,
        typer.Option("--writer", metavar="MODEL", help="Have this model of --writer-url write questions too."),
    ] = None,
    writer_url: Annotated[
        str | None,
        typer.Option(
            "--writer-url",
            metavar="URL",
            help="An OpenAI-compatible address; memories go there. The key is read from MEMOS_API_KEY.",
        ),
    ] = None,
    engine: EngineName = "local",
    workers: Workers = None,
    yes: Yes = False,
    publish_ungated: Annotated[
        bool, typer.Option("--publish-ungated", help="Keep it though it falls short of a gate, and mark it so.")
    ] = False,
    fuse: adapters.Fuse = None,
    svd: adapters.Svd = False,
    verify: adapters.Verify = True,
    import_: adapters.Import = None,
    licence: adapters.Licence = "",
    export: adapters.Export = None,
    remove: adapters.Remove = None,
    with_above: adapters.WithAbove = False,
    reason: Reason = "",
    dry_run: DryRun = False,
    lock_timeout: LockTimeout = 10.0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Teach memories to an adapter (LoRA), so that the model answers about them without reading them.

    What comes out is examined in wordings that it was not taught in, and kept only if it passes its gates. Adapters
    that are there are made one (--fuse), taken in, given out or removed.
    """
    from memos_cli.console import Output
    from memos_cli.interface import api

    out = Output(json=json, quiet=quiet)
    asked = adapters.Asked(ctx, fuse, svd, verify, import_, licence, export, remove, with_above)
    if adapters.act(
        out, asked, cube, name=name, model=model, dry_run=dry_run, reason=reason, lock_timeout=lock_timeout
    ):
        return
    refuse(standalone and on_top_of is not None, "--standalone stands on nothing, found --on-top-of too")
    refuse((writer is None) != (writer_url is None), "--writer MODEL and --writer-url URL go together")
    if rebuild:
        refuse(dry_run or bool(select or ids), "--rebuild takes what each adapter was taught, and has no dry run")
        chosen = [name] if insisted(ctx, "name") else []
        plan = api.to_rebuild(cube, names=chosen, model=model if insisted(ctx, "model") else None)
        tell_rebuilt(out, cube, plan, reason=reason, lock_timeout=lock_timeout)
        return
    done = api.distill(
        cube, model=model, name=name, where=select, ids=ids or [], rank=rank, on_top_of=on_top_of, teacher=teacher,
        locality=locality, rate=rate, steps=steps, seed=seed, replace_adapter=replace,
        publish_ungated=publish_ungated, writer=_writer(out, writer, writer_url, yes=yes),
        dry_run=dry_run, engine=engine_of(ctx, out, engine, workers, yes=yes), reason=reason,
        lock_timeout=lock_timeout, notify=out.say, progress=out.progress("distilling"),
    )  # fmt: skip
    tell(out, done)


def _writer(out: Output, model: str | None, url: str | None, *, yes: bool) -> Writer | None:
    from memos_cli.commands.options import server_at
    from memos_cli.interface import api

    return api.Writer(model, server_at(out, url, "memories", yes=yes)) if model and url else None


def tell_rebuilt(out: Output, cube: str, plan: Rebuilding, *, reason: str, lock_timeout: float) -> None:
    """Makes adapters anew and prints what became of each. Raises CheckFailed for a gate, or what is not forgotten."""
    from memos_cli.errors import CheckFailed
    from memos_cli.interface import api

    done = api.rebuild(
        cube, plan, reason=reason, lock_timeout=lock_timeout, notify=out.say, progress=out.progress("distilling")
    )
    for removed in done.removed:
        out.say(f"{removed} was removed: nothing that it was taught is remembered")
    for leak in done.leaks:
        out.say(
            f"{leak.adapter}: {leak.questions} questions about what was forgotten have answers of probability "
            f"{leak.now:.4f}, and {leak.never:.4f} where it was never taught"
        )
    for made in done.made:
        tell(out, made)
    if left := [leak.adapter for leak in done.leaks if not leak.gone]:
        raise CheckFailed(f"{', '.join(left)} still knows what was forgotten", hint=f"memos distill {cube} --rebuild")


def tell(out: Output, done: Distilled) -> None:
    """Prints what became of it. Raises CheckFailed when it fell short of its gates and was not kept."""
    from memos_cli.errors import CheckFailed

    out.one(done, _lines(done), ids=[done.name] if done.published else [])
    if done.failures and not done.published:
        raise CheckFailed(
            f"{done.name} was not published: {'; '.join(done.failures)}",
            hint="other memories (--select), a higher --rank or more --steps; --publish-ungated keeps it, marked",
        )


def _lines(done: Distilled) -> Iterator[str]:
    for lesson in done.lessons:
        share = "" if lesson.after is None else f"  {lesson.before:.2f} -> {lesson.after:.2f}"
        yield f"{lesson.id[:8]}  {lesson.standing:<11}{share}  {lesson.why or lesson.text[:70]}"
    taught = sum(lesson.standing == "distilled" for lesson in done.lessons)
    yield f"{taught} of {len(done.lessons)} memories for {done.model}, rank {done.rank}"
    if done.dry_run:
        yield from _plan_lines(done)
        return
    yield from _figure_lines(done)
    if done.published:
        marked = ", marked as ungated" if done.failures else ""
        yield f"version {done.number}: {done.name}, {done.bytes / 1e6:.2f} MB, {done.seconds:.1f} s{marked}"


def _plan_lines(done: Distilled) -> Iterator[str]:
    for pair in done.pairs:
        yield f"{pair.memory[:8]}  {pair.split:<5}  {pair.kind:<8}  {pair.question}  {pair.answer}"
    cost = done.cost
    assert cost is not None
    yield f"size       {cost.bytes / 1e6:.2f} MB"
    yield f"time       {cost.seconds:.0f} s at most, {done.steps} steps"
    even = "never: its text is read as fast" if cost.pays_after_uses is None else f"{cost.pays_after_uses:.0f} uses"
    yield f"pays after {even} of each memory, against reading its text ({1000 * cost.saved_seconds:.1f} ms)"


def _figure_lines(done: Distilled) -> Iterator[str]:
    found = done.figures
    yield f"recall in other wordings   {found['recall']:.3f} of {found['questions']:.0f} questions"
    yield f"other text's perplexity    {100 * found['drift']:+.1f}%"
    yield f"lost of what it reads      {found['reading']:.3f}"
    yield f"obeys contradicting texts  {found['obey']:.3f}"
    yield f"answers what nobody taught {found['asserts']:.3f}"
    if "beneath" in found:
        yield f"lost of those beneath it   {found['beneath']:.3f}"
    yield f"{done.steps} steps: {done.stopped}" + (f", gone on with from {done.resumed}" if done.resumed else "")
