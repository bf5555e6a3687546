"""How `memos schedule --self-test` tells what it found: a line a form, and a row for each memory that fell short."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memos_cli.console import Output
    from memos_cli.interface.tested import FormTested, Repaired, SelfTested


def show(out: Output, tested: SelfTested) -> None:
    """Prints a self-test."""
    if out.json:
        out.one(tested, ())
        return
    if tested.repairs or out.quiet:
        out.rows(
            tested.repairs,
            {
                "form": lambda one: one.form,
                "memory": lambda one: one.id[:8] if out.terminal else one.id,
                "text": lambda one: _cut(one.text) if out.terminal else one.text,
                "missed": lambda one: _cut(one.question, 50) if out.terminal else one.question,
                "repair": lambda one: one.repair,
                "before": lambda one: f"{one.before:.2f}",
                "after": lambda one: "" if one.after is None else f"{one.after:.2f}",
                "became": _became,
            },
            ids=lambda one: one.id,
        )
    for line in _summary(tested):
        out.say(line)


def _became(one: Repaired) -> str:
    if one.kept:
        return f"kept, as {len(one.made)} memories" if one.made else "kept"
    return f"not kept: {one.why}" if one.after is not None else one.why


def _summary(tested: SelfTested) -> Iterator[str]:
    for form in tested.forms:
        yield _line(form)
    if tested.untested:
        yield f"{tested.untested} memories state nothing that a question could be made of, and were not asked about"
    yield from tested.notes
    kept = sum(one.kept for one in tested.repairs)
    if not tested.applied:
        if tested.repairs:
            yield f"nothing was changed; to try repairs: memos schedule {tested.cube} --self-test --apply"
    elif kept:
        yield f"version {tested.number}: {kept} of {len(tested.repairs)} repairs helped held-out wordings and were kept"
        yield f"to take them back: memos rollback {tested.cube} {tested.tested}"
    else:
        yield "no repair helped, so nothing was changed" if tested.repairs else "nothing fell short"


def _line(form: FormTested) -> str:
    name = form.form if form.form != "parameter" else f"adapter {form.name}"
    held = f"{form.before:.3f}" + (f", {form.after:.3f} after repair" if form.after is not None else "")
    text = f" (its text gives {form.text:.3f})" if form.text is not None else ""
    short = f"{form.failing} of {form.memories} memories fall short" if form.failing else "none falls short"
    unusable = f", {form.unusable} could not be tested" if form.unusable else ""
    return f"{name}: {form.measure} {form.dev:.3f}, held-out wordings {held}{text}; {short}{unusable}"


def _cut(text: str, letters: int = 40) -> str:
    return text if len(text) <= letters else f"{text[: letters - 1]}…"
