"""Options that several commands share, written once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from memos_cli.console import Output
    from memos_cli.interface.api import Engine, Limits, Server, Travel
    from memos_cli.interface.sending import Destination

Cube = Annotated[str, typer.Argument(metavar="CUBE", help="A cube: a path (with a / or ending in .cube) or a name.")]
OptionalCube = Annotated[
    str | None,
    typer.Argument(metavar="[CUBE]", help="A cube: a path (with a / or ending in .cube) or a name."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON that validates against schemas/.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print ids only, and no talk.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done; change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Reason = Annotated[str, typer.Option("--reason", "-m", metavar="TEXT", help="Why, for the log.")]
LockTimeout = Annotated[
    float,
    typer.Option(
        "--lock-timeout", metavar="SECONDS", min=0, envvar="MEMOS_LOCK_TIMEOUT", help="Wait so long for another writer."
    ),
]
Embedder = Annotated[
    str | None,
    typer.Option(
        "--embedder",
        metavar="NAME",
        envvar="MEMOS_EMBEDDER",
        help="minilm, a model folder or hub id, or none. [default: the cube's]",
    ),
]
EngineName = Annotated[
    str,
    typer.Option(
        "--engine",
        metavar="ENGINE",
        envvar="MEMOS_ENGINE",
        help="Where the work is done: local, ray (workers on this machine) or ray://HOST:PORT, a cluster.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        min=1,
        envvar="MEMOS_WORKERS",
        help="Use so many workers of Ray at most. [default: one per processor or accelerator]",
    ),
]

GateTop1 = Annotated[
    float | None,
    typer.Option(
        "--gate-top1",
        metavar="X",
        min=0,
        max=1,
        help="Use activation memory only if such a share of tokens is as with the text. [default: 0.9]",
    ),
]
GateExact = Annotated[
    float | None,
    typer.Option(
        "--gate-exact", metavar="X", min=0, max=1, help="And such a share of answers to its probes. [default: 0.9]"
    ),
]
GateRecovered = Annotated[
    float | None,
    typer.Option(
        "--gate-recovered",
        metavar="X",
        max=1,
        help="And if it keeps such a share of what the text gives. [default: 0.8]",
    ),
]

Sources = Annotated[
    list[str] | None,
    typer.Option(
        "--source",
        metavar="STORE",
        envvar="MEMOS_SOURCES",
        help="Look names up in this store; may be given again, in order. Such as file:///srv/store.",
    ),
]
Offline = Annotated[bool, typer.Option("--offline", help="Use no network: stores on this machine only.")]
RetryFor = Annotated[
    float,
    typer.Option("--retry-for", metavar="SECONDS", min=0, help="Try again so long when a store does not answer."),
]
Require = Annotated[
    str | None,
    typer.Option(
        "--require", metavar="LEVEL", help="signed, digest or none, in the place of what trust.toml says of the store."
    ),
]


def travel(sources: list[str] | None, offline: bool, retry_for: float) -> Travel:
    """How to travel to stores."""
    from memos_cli.interface import api

    return api.Travel(sources=tuple(sources or ()), offline=offline, retry_seconds=retry_for)


def refuse(wrong: bool, message: str) -> None:
    """Raises Usage for options that do not go together."""
    from memos_cli.errors import Usage

    if wrong:
        raise Usage(message)


def limits(top1: float | None, exact: float | None, recovered: float | None) -> Limits:
    """The gate that the options ask for; what is not given is as measured."""
    from memos_cli.interface import api

    asked = {"top1": top1, "exact": exact, "recovered": recovered}
    return api.Limits(**{name: value for name, value in asked.items() if value is not None})


def insisted(ctx: typer.Context, name: str) -> bool:
    """Whether an option was given on the command line, rather than set somewhere as a default."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


Where = Annotated[
    str | None,
    typer.Option("--where", metavar="FILTER", help="Such as 'type=fact and time>=2024-05 and topic=work/*'."),
]
Version = Annotated[int | None, typer.Option("--version", metavar="N", help="As of this version.")]
Type = Annotated[
    str | None, typer.Option("--type", metavar="TYPE", help="fact, preference, prompt, event, procedure, ...")
]
Topic = Annotated[str | None, typer.Option("--topic", metavar="PATH", help="A topic path such as work/payroll/rates.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", metavar="TAG", help="A tag; may be given again.")]
Sensitivity = Annotated[
    str | None,
    typer.Option("--sensitivity", metavar="LEVEL", help="public, internal, confidential or restricted."),
]
TtlDays = Annotated[
    int | None, typer.Option("--ttl", metavar="DAYS", min=0, help="Refuse to recall after so many days; 0 for no end.")
]
DecayDays = Annotated[
    int | None,
    typer.Option(
        "--decay", metavar="DAYS", min=0, help="Halve what it is worth each so many days without use; 0 for not at all."
    ),
]


TrueFrom = Annotated[
    str | None,
    typer.Option(
        "--true-from", metavar="WHEN", help="It is true from then on, such as 2019-03; unknown takes it back."
    ),
]
TrueTo = Annotated[
    str | None, typer.Option("--true-to", metavar="WHEN", help="It was true until the end of then; unknown: no end.")
]


def _scope(flag: str, may: str) -> Any:
    return typer.Option(flag, metavar="WHO", help=f"Who may {may}: owner, anyone, keys, !key to forbid; cube.")


ReadScope = Annotated[str | None, _scope("--read-scope", "read these")]
WriteScope = Annotated[str | None, _scope("--write-scope", "change these")]
ShareScope = Annotated[str | None, _scope("--share-scope", "take these elsewhere")]
Owner = Annotated[str | None, typer.Option("--owner", metavar="LABEL", help="Whose memories these are (a label).")]
Priority = Annotated[
    int | None, typer.Option("--priority", metavar="N", min=0, max=9, help="0 to 9; high ones are kept longest.")
]


def server_at(out: Output, url: str, what: str, *, yes: bool) -> Server:
    """The OpenAI-compatible server at an address; somebody agrees before `what` leaves this machine for it."""
    import os

    from memos_cli.interface import api

    key = os.environ.get("MEMOS_API_KEY") or os.environ.get("OPENAI_API_KEY")
    return api.Server(url, key or None, lambda there: _agree(out, there, what, yes=yes))


def _agree(out: Output, there: Destination, what: str, *, yes: bool) -> None:
    from memos_cli.console import confirm

    if there.leaves_machine:
        plainly = "" if there.encrypted else ", not encrypted on its way"
        told = f"{what} leave this machine for {there.host}{plainly}, to be read by {there.model};"
        if yes:
            out.say(told.removesuffix(";"))
        confirm(told, yes=yes)


def refuse_engine(ctx: typer.Context, name: str) -> None:
    """Raises Usage for an engine where several cubes are done, however it was chosen."""
    if name == "local" and not insisted(ctx, "workers"):
        return
    from memos_cli.errors import Usage

    told = "--engine is for one cube at a time; several are done by --jobs N"
    if not insisted(ctx, "engine") and not insisted(ctx, "workers"):
        told += f", and MEMOS_ENGINE or a settings file says {name[:200]!r}"
    raise Usage(told, hint="--engine local, or one cube for each command")


def engine_of(ctx: typer.Context, out: Output, name: str, workers: int | None, *, yes: bool) -> Engine:
    """The engine to work on; somebody agrees before memories leave this machine for a cluster. Raises Usage."""
    from memos_cli.interface import api

    refuse(name == "local" and insisted(ctx, "workers"), "--workers is for --engine ray; local works in this process")
    wish = api.Engine(name, workers, lambda there: _agree(out, there, "memories", yes=yes))
    wish.check()
    return wish
