"""memos convert --to plaintext --from parameter: what an adapter knows, back as memories that wait to be accepted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memos_cli.console import Output
    from memos_cli.interface.parameters import Elicited

LIMIT_BYTES = 1 << 20


def read_back(
    out: Output, cube: str, *, model: str, name: str | None, subjects: str | None, relations: str | None, fdr: float,
    dry_run: bool, reason: str, lock_timeout: float,
) -> None:  # fmt: skip
    """Asks the adapter and prints what came of it."""
    from memos_cli.interface import api

    done = api.elicit(
        cube, model=model, name=name, subjects=_lines_of(subjects), relations=_lines_of(relations), fdr=fdr,
        dry_run=dry_run, reason=reason, lock_timeout=lock_timeout, notify=out.say, progress=out.progress("asking"),
    )  # fmt: skip
    written = [fact.id for fact in done.facts if fact.id]
    out.one(done, _told(done), ids=written)
    if written and not dry_run:
        out.say(
            f"{len(written)} memories wait: memos list {cube} --all --where state=generated, "
            f"memos edit {cube} ID --accept"
        )


def _lines_of(place: str | None) -> list[str]:
    """The names in a file, one a line. Raises NotFound, Damaged."""
    from memos_cli.errors import Damaged, NotFound

    if place is None:
        return []
    try:
        if Path(place).stat().st_size > LIMIT_BYTES:
            raise Damaged(f"expected at most {LIMIT_BYTES:,} bytes of names in {place}")
        found = [line.strip() for line in Path(place).read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise Damaged(f"expected UTF-8 in {place}, found another byte at {error.start}") from error
    except OSError as error:
        raise NotFound(f"expected names, one a line, in {place}: {error.strerror}") from error
    if not any(found):
        raise Damaged(f"expected names, one a line, in {place}, found none")
    return [line for line in found if line]


def _told(done: Elicited) -> Iterator[str]:
    counts = Counter(one.standing for one in done.taught)
    if done.taught:
        parts = ", ".join(f"{count} {standing}" for standing, count in counts.items())
        yield f"{done.adapter} was taught {len(done.taught)} memories of this cube: {parts}"
    if not done.probes:
        yield "what it was taught is in the cube as text: an exact lookup, nothing was asked and nothing is written"
        return
    for fact in done.facts:
        yield f"{fact.id[:8] or '-':<8}  {fact.verdict:<12}  p {fact.p:.2f}  gain {fact.gain:5.1f}  {fact.text}"
    yield f"{done.probes} questions: {done.subjects} subjects, {done.relations} relations, {done.decoys} decoys"
    yield f"{done.heard} facts and {done.decoys_heard} decoys answered alike in most wordings"
    if done.outdone:
        yield f"{done.outdone} more say what is likelier of another name or thing, and are left out"
    if done.threshold is None:
        yield f"none kept: no threshold has an estimated share of false facts of at most {done.fdr:g}"
    else:
        made_up = f"{100 * done.rate:.1f}% of them estimated false"
        yield f"{done.kept} kept at a probability of {done.threshold:.2f} or more, {made_up}"
    if done.withheld:
        yield f"{done.withheld} say what was forgotten or has ended, and are not told"
    yield "nothing is said of whom nobody asked about: this is what it knows of these subjects only"
    if not done.dry_run:
        yield f"version {done.number}: {sum(bool(fact.id) for fact in done.facts)} written, {done.seconds:.1f} s"
