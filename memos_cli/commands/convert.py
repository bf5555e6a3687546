"""memos convert: memories into another form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from memos_cli.commands.many import Cubes, Jobs, Vault, is_many, named_by, run_each
from memos_cli.commands.options import (
    DryRun,
    EngineName,
    GateExact,
    GateRecovered,
    GateTop1,
    Json,
    LockTimeout,
    Quiet,
    Reason,
    Workers,
    Yes,
    engine_of,
    insisted,
    limits,
    refuse,
    refuse_engine,
)  # fmt: skip

if TYPE_CHECKING:
    from memos_cli.console import Output
    from memos_cli.interface.results import Converted, Cost


# What says how activation memory is made.
MAKING = ("kind", "dtype", "quantize", "compress", "probes", "gate_top1", "gate_exact", "gate_recovered")
# What says how an adapter is read back, and the word that says that it is.
ASKING, PARAMETER = ("name", "subjects", "relations", "fdr"), "parameter"


def run(
    ctx: typer.Context,
    cubes: Cubes = None,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="FORM",
            help="activation (caches in the cube), parameter (the cube's adapters for another model), "
            "plaintext (what an adapter knows, with --from parameter), prompt (a pack for servers' prefix caches) "
            "or mlx (for mlx-lm).",
        ),
    ] = "activation",
    model: Annotated[
        str,
        typer.Option(
            "--model", metavar="MODEL", envvar="MEMOS_MODEL", help="nano (comes with memos), a folder or a hub id."
        ),
    ] = "nano",
    select: Annotated[
        str | None,
        typer.Option("--select", "--where", metavar="FILTER", help="Such as 'type=fact and topic=work/*'."),
    ] = None,
    ids: Annotated[
        list[str] | None, typer.Option("--ids", metavar="ID", help="This memory; may be given again.")
    ] = None,
    kind: Annotated[
        str,
        typer.Option(
            "--kind",
            metavar="KIND",
            help="segment (stands anywhere in a prompt) or prefix (begins it, and comes back bit for bit).",
        ),
    ] = "segment",
    dtype: Annotated[
        str | None,
        typer.Option("--dtype", metavar="TYPE", help="float32, float16 or bfloat16. [default: the model's]"),
    ] = None,
    quantize: Annotated[
        str | None, typer.Option("--quantize", metavar="BITS", help="int8 (about half of 16 bits) or int4.")
    ] = None,
    compress: Annotated[
        str | None,
        typer.Option(
            "--compress",
            metavar="METHOD:KEEP",
            help="Keep some tokens per head: kvzip:0.5, expected_attention:0.5, h2o:64, memory3, knorm or random.",
        ),
    ] = None,
    probes: Annotated[
        int | None,
        typer.Option(
            "--probes",
            metavar="N",
            min=1,
            max=32,
            help="Prove each memory with up to so many questions. [default: 1; 8 for int4 and --compress]",
        ),
    ] = None,
    gate_top1: GateTop1 = None,
    gate_exact: GateExact = None,
    gate_recovered: GateRecovered = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="FILE|parameter",
            help="Take in a prompt cache of mlx-lm, or the activation_memory.pickle of a MemOS cube, as the memory of "
            "--ids ID; or the word parameter: read an adapter back, with --to plaintext.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="The adapter to read back. [default: the only one]")
    ] = None,
    subjects: Annotated[
        str | None,
        typer.Option(
            "--subjects", metavar="FILE", help="Whom to ask it about, one a line. [default: those the cube names]"
        ),
    ] = None,
    relations: Annotated[
        str | None,
        typer.Option(
            "--relations", metavar="FILE", help="What to ask of each, one a line. [default: those the cube names]"
        ),
    ] = None,
    fdr: Annotated[
        float,
        typer.Option(
            "--fdr", metavar="X", min=0.001, max=0.5, help="How large a share of what is read back may be made up."
        ),
    ] = 0.05,
    rebind: Annotated[
        str | None,
        typer.Option(
            "--rebind",
            metavar="NAME",
            help="Bind this adapter to a model of nearly the same weights, if its own questions are answered there.",
        ),
    ] = None,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Where prompt and mlx go; - is standard output.")
    ] = "-",
    vault: Vault = False,
    jobs: Jobs = None,
    engine: EngineName = "local",
    workers: Workers = None,
    reason: Reason = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    lock_timeout: LockTimeout = 10.0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make activation memory: what a model made of a text, kept so that it need not read the text again.

    One file per memory and model, each proved against reading the text. A dry run tells bytes, seconds and after how
    many uses it pays.
    """
    from memos_cli.console import Output
    from memos_cli.interface import api

    out = Output(json=json, quiet=quiet)
    named = named_by(cubes, vault=vault)
    many, cube = is_many(named, vault=vault, jobs=jobs), named[0]
    back = from_ == PARAMETER or to == "plaintext"
    if from_ is not None or to != "activation":
        for flag in MAKING:
            refuse(insisted(ctx, flag), f"--{flag.replace('_', '-')} is for memory that is made here: --to activation")
        for flag in ("engine", "workers"):
            refuse(insisted(ctx, flag), f"--{flag} is for memory that is made here: --to activation")
    if from_ is not None or to in ("activation", "plaintext"):
        refuse(insisted(ctx, "output"), "--output is for --to prompt and --to mlx; other memory is in the cube")
    for flag in ASKING:
        refuse(not back and insisted(ctx, flag), f"--{flag} is for --to plaintext --from parameter")
    refuse(rebind is not None and to != "parameter", "--rebind NAME is for --to parameter")
    refuse(many and (back or to != "activation"), f"--to {to} is for one cube at a time")
    refuse(many and bool(from_ or ids), "--from and --ids are for one cube at a time")
    if many:
        refuse_engine(ctx, engine)
    if back:
        refuse(from_ != PARAMETER, "--to plaintext reads an adapter back: --from parameter")
        refuse(to != "plaintext", "--from parameter goes with --to plaintext")
        refuse(bool(select or ids), "an adapter is asked about --subjects FILE and --relations FILE")
        from memos_cli.commands.readback import read_back

        read_back(
            out, cube, model=model, name=name, subjects=subjects, relations=relations, fdr=fdr, dry_run=dry_run,
            reason=reason, lock_timeout=lock_timeout,
        )  # fmt: skip
        return
    if from_ is not None:
        refuse(to != "activation" or len(ids or []) != 1, "--from takes one file in as the memory of one --ids ID")
        refuse(dry_run, "--from makes one file, and has no dry run")
        done = api.import_cache(
            cube, from_, memory=(ids or [""])[0], model=model, reason=reason, lock_timeout=lock_timeout, notify=out.say,
        )  # fmt: skip
        out.say("taken in unverified: it is used as far as the gate lets it")
        out.one(done, _lines(done), ids=list(done.made))
        return
    if to == "parameter":
        refuse(dry_run, "--to parameter has no dry run; memos distill --dry-run tells what it costs")
        refuse(bool(select or ids), "--to parameter takes what the adapters were taught; memos distill takes others")
        _adapters(out, cube, model, rebind, reason=reason, lock_timeout=lock_timeout)
        return
    if to != "activation":
        refuse(dry_run, f"--to {to} changes nothing in the cube, and has no dry run")
        refuse(json and output == "-", "--json tells of the file that is written, so it needs -o FILE")
        wrote, text = api.export(cube, output, to=to, model=model, where=select, ids=ids or [], notify=out.say)
        if output == "-" and not json:
            typer.echo(text, nl=False)
            return
        label = f", {wrote.label}" if wrote.label else ""
        told = f"{wrote.path}: {len(wrote.memories)} memories, {wrote.tokens} tokens for {wrote.model}{label}"
        out.one(wrote, [told], ids=list(wrote.memories))
        return
    if many:
        run_each(
            out, "convert", named, jobs=jobs,
            options={
                "model": model, "where": select, "kind": kind, "dtype": dtype, "quantize": quantize,
                "compress": compress, "probes": probes, "limits": limits(gate_top1, gate_exact, gate_recovered),
                "dry_run": dry_run, "reason": reason, "lock_timeout": lock_timeout,
            },
        )  # fmt: skip
        return
    done = api.convert(
        cube, model=model, where=select, ids=ids or [], kind=kind, dtype=dtype, quantize=quantize, compress=compress,
        probes=probes, limits=limits(gate_top1, gate_exact, gate_recovered), dry_run=dry_run, reason=reason,
        engine=engine_of(ctx, out, engine, workers, yes=yes), lock_timeout=lock_timeout, notify=out.say,
        progress=out.progress("converting"),
    )  # fmt: skip
    for left in done.left_out[:5]:
        out.say(f"left out {left.id}: {left.reason}")
    out.one(done, _lines(done), ids=list(done.made))


def _adapters(out: Output, cube: str, model: str, rebind: str | None, *, reason: str, lock_timeout: float) -> None:
    """Adapters for another model: bound to it as they are, or taught anew."""
    from memos_cli.commands.distill import tell
    from memos_cli.interface import api

    if rebind is not None:
        done = api.rebind(cube, rebind, model=model, reason=reason, lock_timeout=lock_timeout, notify=out.say)
        told = f"version {done.number}: {done.name} is bound to {done.model}, recall {done.recall:.3f} there"
        out.one(done, [told], ids=[done.name])
        return
    for made in api.rematerialise(
        cube, model=model, reason=reason, lock_timeout=lock_timeout, notify=out.say, progress=out.progress("distilling")
    ):
        tell(out, made)


def _lines(done: Converted) -> Iterator[str]:
    there = f", {len(done.kept)} there already" if done.kept else ""
    if done.dry_run:
        yield f"{len(done.made)} memories to convert for {done.model}{there}, {done.tokens} tokens"
        if done.cost:
            yield from _cost_lines(done.cost)
        return
    size = f"{done.bytes / 1e6:.1f} MB" if done.bytes else "nothing new"
    made = f"version {done.number}: {len(done.made)} memories converted for {done.model}{there}"
    yield f"{made}; {size}, {done.seconds:.1f} s"
    if done.stale:
        yield f"{done.stale} files of texts that have changed were removed"
    if done.failing:
        yield f"{len(done.failing)} fail the gate and are not used: their text is read instead"
    if len(done.made) > 1:
        yield f"several at once: by {done.together}" if done.together else "several at once: none passes the gate"


def _cost_lines(cost: Cost) -> Iterator[str]:
    yield f"size       {cost.bytes / 1e6:.1f} MB"
    yield f"time       {cost.seconds:.1f} s, with the proof"
    saved = 1000 * cost.saved_seconds
    even = f"{cost.break_even_uses:.0f} uses" if cost.break_even_uses is not None else "never: the text is read as fast"
    yield (
        f"saves      {saved:.1f} ms a memory at each use" if saved > 0 else f"costs      {-saved:.1f} ms a memory more"
    )
    yield f"pays after {even} (measured on {cost.sampled} of them)"
