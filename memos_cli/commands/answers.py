"""How the answers of `memos query --answer` are told: the answer, what it rests on, and with --explain what it took."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from memos_cli.commands.query import heading, say_missing, understood

if TYPE_CHECKING:
    from memos_cli.console import Output
    from memos_cli.interface.found import Answered, MemoryForm

# The stages up to the first token, in their order, and what only a process's first question waits for.
STAGES = ("parse", "retrieve", "closeness", "prompt", "load", "rotate", "recompute", "question", "first_token")
COLD = ("imports", "weights")
QUIET = ("it was not converted", "as it was asked for")


def tell(
    out: Output, answers: Iterator[Answered], *, explain: bool, many: bool, aloud: bool, wait: bool
) -> list[Answered]:
    """Prints each answer as it comes, unless it is to `wait` for what becomes of it; all of them."""
    told: set[str] = set()
    done = []
    try:
        for answered in answers:
            out.end_line()
            say_missing(out, answered, told)
            if not wait:
                lines = _answer_lines(answered, explain=explain, many=many, aloud=aloud)
                out.one(answered, lines, ids=[citation.id for citation in answered.citations])
            _say_why(out, answered)
            done.append(answered)
    finally:
        out.end_line()
    return done


def _answer_lines(answered: Answered, *, explain: bool, many: bool, aloud: bool) -> Iterator[str]:
    if many:
        yield f"? {answered.query}"
    if answered.answer is None:
        yield "not in memory"
    elif not aloud:  # else it stands there already
        yield answered.answer
    hits = {hit.rank: hit for hit in answered.hits}
    for citation in answered.citations:
        cube = f"{citation.cube}  " if len(answered.cubes) > 1 else ""
        yield f"[{citation.number}] {cube}{heading(hits[citation.number])}"
    if explain:
        yield from _explained(answered)


def _explained(answered: Answered) -> Iterator[str]:
    yield from understood(answered.prompt)
    forms = {one.number: one for one in answered.forms}
    for hit in answered.hits:
        yield f"given [{hit.rank}] {hit.place}: {' '.join(hit.text.split())}"
        if hit.rank in forms:
            yield f"      {_form(forms[hit.rank])}"
    about = "about " if answered.tokens_by.startswith("estimate") else ""
    reused, again = answered.reused_tokens, answered.recomputed_tokens
    stored = f", {reused} reused, {again} read again, {answered.prompt_tokens - reused - again} read" if reused else ""
    yield f"tokens      {about}{answered.prompt_tokens} in the prompt{stored}; {answered.answer_tokens} written"
    if "ttft" in answered.seconds:
        yield f"first token {_ms(answered, 'ttft')}: {', '.join(_spent(answered, STAGES))}"
        yield f"whole       {_ms(answered, 'total')}, of it writing {_ms(answered, 'write')}"
    if cold := list(_spent(answered, COLD)):
        yield f"cold start  {', '.join(cold)}, once a process"
    who = f"{answered.model} at {answered.host}" if answered.host else answered.model
    yield f"closeness   {answered.closeness:.2f}, floor {answered.floor:.2f}; {who}, form {answered.form}"


def _form(one: MemoryForm) -> str:
    if one.form == "plaintext":
        return f"text: {one.why}"
    if one.form == "parameter":
        return f"parameter: known by the adapter {one.way}, no token of it in the prompt"
    if not one.form:
        return f"not used: {one.why}"
    return f"{one.form}, {one.way}: {one.reused} tokens reused"


def _ms(answered: Answered, stage: str) -> str:
    return f"{1000 * answered.seconds.get(stage, 0.0):.1f} ms"


def _spent(answered: Answered, stages: tuple[str, ...]) -> Iterator[str]:
    names = (stage for stage in stages if stage in answered.seconds)
    return (f"{stage.replace('_', ' ')} {_ms(answered, stage)}" for stage in names)


def _say_why(out: Output, answered: Answered) -> None:
    if answered.reason == "floor":
        near = f"the closest memory is {answered.closeness:.2f} close, the floor is {answered.floor:.2f}"
        out.say(near if answered.hits else "nothing found to answer from")
    elif answered.reason == "model":
        out.say(f"{answered.model} does not find it in the {len(answered.hits)} closest memories")
    elif answered.reason == "unfounded":
        out.say(f"{answered.model} wrote what is in none of the {len(answered.hits)} closest memories")
    elif answered.cited_by == "given":
        out.say(f"{answered.model} names none of the memories: these are all that it was given")
    # that nothing was converted is how a cube begins; anything else somebody should hear
    whys = [one.why for one in answered.forms if one.form == "plaintext" and one.why not in QUIET]
    if whys and not answered.host:
        out.say(f"{len(whys)} of {len(answered.forms)} memories are read as text: {whys[0]}")
    if answered.cut:
        out.say("the answer is cut: it is longer than the limit")


def remember_all(out: Output, cube: str, done: list[Answered], *, embedder: str | None, lock_timeout: float) -> None:
    """Writes the answers back, and prints those that waited for it, however it ends."""
    from memos_cli.interface import api

    try:
        if any(answered.answer is not None for answered in done):
            done = api.remember(cube, done, embedder=embedder, lock_timeout=lock_timeout, notify=out.say)
        else:
            out.say("nothing to remember: there is no answer")
    finally:
        for answered in done if out.json else ():
            out.one(answered, [])
    kept = [answered.remembered for answered in done if answered.remembered]
    fresh = [identity for each in kept if each.fresh for identity in each.ids]
    if fresh:
        shown = " ".join(fresh[:5]) + (" ..." if len(fresh) > 5 else "")
        out.say(
            f"version {kept[0].number}: remembered, not recalled until accepted: memos edit {cube} {shown} --accept"
        )
    elif kept:
        out.say("remembered already; no new version")
