"""What `memos schedule --replay` prints, and its plot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memos_cli.console import Output
    from memos_cli.interface.planned import Replayed

STYLE = """<style>
text{font:13px sans-serif;fill:#222}.track{fill:#eee}.bar{fill:#3b6ea5}.mark{stroke:#c33;stroke-width:2}
</style>"""


def show(out: Output, done: Replayed, *, plot: str | None) -> None:
    """Prints how the policies did, and writes the plot when one is wanted."""
    if plot is not None:
        Path(plot).write_text(drawn(done), encoding="utf-8")
        out.say(f"wrote {plot}")
    if out.json:
        out.one(done, ())
        return
    out.rows(
        done.policies,
        {
            "policy": lambda one: one.policy,
            "hits": lambda one: f"{one.hit_rate:.3f}",
            "written": lambda one: one.writes,
            "bytes": lambda one: one.bytes,
            "reading s": lambda one: f"{one.read_seconds:.2f}",
            "writing s": lambda one: f"{one.write_seconds:.2f}",
            "together s": lambda one: f"{one.seconds:.2f}",
            "of the bound": lambda one: f"{one.over_bound:.3f}",
            "as with the text": lambda one: f"{one.quality:.3f}",
        },
        ids=lambda one: one.policy,
    )
    for line in _summary(done):
        out.say(line)


def _summary(done: Replayed) -> Iterator[str]:
    yield (
        f"{done.trace} trace of {done.requests} requests for {done.memories} memories of {done.cube}, room for "
        f"{done.budget_bytes:,} bytes"
    )
    yield f"reading every text takes {done.plain_seconds:.2f} s; each memory was measured with {done.model} here"
    yield f"whoever knew the whole trace could not have done with less than {done.bound_seconds:.2f} s"


def drawn(done: Replayed) -> str:
    """The seconds of each policy as SVG; the mark is the bound."""
    from memos_cli.operation.plots import Bar, bars

    rows = [Bar(one.policy, one.seconds, f"{one.seconds:.1f} s", done.bound_seconds) for one in done.policies]
    rows.append(Bar("every text read", done.plain_seconds, f"{done.plain_seconds:.1f} s", done.bound_seconds))
    picture = bars(rows, what=f"seconds by policy on a {done.trace} trace; the mark is the clairvoyant bound")
    start, inner = picture.split(">", 1)
    return f'{start} xmlns="http://www.w3.org/2000/svg">{STYLE}{inner}\n'
