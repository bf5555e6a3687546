"""Options that several commands share, written once."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

Cube = Annotated[str, typer.Argument(metavar="CUBE", help="A cube: a path (with a / or ending in .cube) or a name.")]
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
    Optional[str],  # noqa: UP045  typer reads it at run time
    typer.Option(
        "--embedder",
        metavar="NAME",
        envvar="MEMOS_EMBEDDER",
        help="minilm, a model folder or hub id, or none. [default: the cube's]",
    ),
]
Where = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--where", metavar="FILTER", help="Such as 'type=fact and time>=2024-05 and topic=work/*'."),
]
Version = Annotated[Optional[int], typer.Option("--version", metavar="N", help="As of this version.")]  # noqa: UP045
Type = Annotated[
    str | None, typer.Option("--type", metavar="TYPE", help="fact, preference, prompt, event, procedure, ...")
]  # noqa: UP045
Topic = Annotated[str | None, typer.Option("--topic", metavar="PATH", help="A topic path such as work/payroll/rates.")]  # noqa: UP045
Tags = Annotated[Optional[list[str]], typer.Option("--tag", metavar="TAG", help="A tag; may be given again.")]  # noqa: UP045
Sensitivity = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--sensitivity", metavar="LEVEL", help="public, internal, confidential or restricted."),
]
TtlDays = Annotated[
    int | None, typer.Option("--ttl", metavar="DAYS", min=1, help="Forget to recall after so many days.")
]  # noqa: UP045
Owner = Annotated[Optional[str], typer.Option("--owner", metavar="LABEL", help="Whose memories these are (a label).")]  # noqa: UP045
Priority = Annotated[
    int | None, typer.Option("--priority", metavar="N", min=0, max=9, help="0 to 9; high ones are kept longest.")
]  # noqa: UP045
