"""How `memos audit` prints the access log and checkpoints."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memos_cli.console import Output
    from memos_cli.interface.evidence import AccessLine, Checkpointed


def show_log(out: Output, lines: Iterable[AccessLine]) -> None:
    """The lines of the log, oldest first."""
    out.rows(
        lines,
        {
            "line": lambda e: e.seq, "time": lambda e: e.time, "who": lambda e: _who(e.actor),
            "key": lambda e: e.actor.get("key", "")[:16], "kind": lambda e: e.kind, "verb": lambda e: e.verb,
            "version": lambda e: e.version, "memories": lambda e: e.count, "outcome": lambda e: e.outcome,
            "facts": lambda e: _facts(e.facts),
        },
        ids=lambda e: str(e.seq),
    )  # fmt: skip


def _who(actor: dict[str, str]) -> str:
    """The user, and the client that acted for them."""
    client = actor.get("client", "")
    return f"{actor.get('user', '')} by {client}" if client else actor.get("user", "")


def _facts(facts: dict[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items() if value)


def show_checkpoint(out: Output, made: Checkpointed, text: str) -> None:
    """Where a checkpoint was written; printed to stdout it is the checkpoint alone."""
    if made.path == "-":
        out.one(made, [text.rstrip("\n")], ids=[text.rstrip("\n")])
        return
    line = f"{made.path}: version {made.version} and {made.lines} lines of the access log, signed by {made.key}"
    out.one(made, [line], ids=[made.head])
