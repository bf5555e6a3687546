"""What a plan says in words: why a memory moves or stays, and what to know before believing the plan."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from memos_cli.operation.indicators import FOUND
from memos_cli.operation.policies import COST, GIGABYTE, Setting, uses_to_come
from memos_cli.operation.rates import ESTIMATED
from memos_cli.operation.schedule import DEMOTE, KEEP, LEAVE, PROMOTE, Choice

if TYPE_CHECKING:
    from memos_cli.interface.planned import PlannedMove
    from memos_cli.interface.surveying import Surveyed
    from memos_cli.operation.lifecycle import Due
    from memos_cli.operation.rates import Rates
    from memos_cli.operation.teaching import Lesson, Pupil, Verdict

_SAME = {"exact": "the same words", "near": "nearly the same words", "fact": "the same fact"}
EXPIRE, REBUILD = "expire", "rebuild"
MERGE, ARCHIVE, COMPACT, DISTILL, RETEACH = "merge", "archive", "compact", "distill", "reteach"
DISCARD = "discard"
REASONS = {
    EXPIRE: "mark what has outlived its time, so that it can be forgotten for good",
    PROMOTE: "keep what the model makes of these texts (activation memory), so that it need not read them again",
    DEMOTE: "take away activation memory that is not worth its place; the texts stay",
    REBUILD: "make activation memory anew whose text has changed",
    DISCARD: "take away activation memory that was made with other weights of this model; nothing reads it with these",
    MERGE: "let one memory stand for those that say the same; their words and places are kept",
    ARCHIVE: "set aside what nobody uses; memos edit --restore takes it back",
    COMPACT: "write the table anew without what no memory needs any more",
    DISTILL: "teach these texts to an adapter, so that a model answers without reading them",
    RETEACH: "teach an adapter anew whose memories have changed; until then it is not used",
}


def why(choice: Choice, policy: str, setting: Setting, *, stale: bool = False) -> str:
    """Why a memory moves or stays, with its numbers."""
    one = choice.candidate
    if one.fixed:
        return one.fixed
    if stale and choice.verdict == LEAVE:
        return "its file is of a text that has changed, and it is not worth making anew"
    said = _cost(choice, setting) if policy == COST else _terms(choice)
    changed = "its text has changed; " if stale else ""
    if choice.verdict in (PROMOTE, KEEP) or choice.score.value <= 0:
        return f"{changed}{said}" if choice.score.value > 0 or choice.verdict != KEEP else f"{choice.why}; {said}"
    return f"{choice.why}; {said}"


def over(one: Due) -> str:
    """Why a memory has ended."""
    how = "its time to live was over" if one.why == "ttl" else "nobody had used it for so long that it had faded"
    return f"{how} on {one.since:%Y-%m-%d}"


def outworn(model: str, made_with: Collection[str], now: str) -> str:
    """Why activation memory is of no use to a model of the same name."""
    before = " and ".join(sorted(one[:12] for one in made_with))
    return f"made with the weights {before} of {model}, which are {now[:12]} here"


def merged(how: str, heir: str) -> str:
    """Why a memory is put together with another, which is named and not quoted: a reason is kept in the log."""
    return f"{_SAME[how]} as memory {heir[:8]}, which stays and stands for it"


def idle(uses: int, by_use: bool, days: float) -> str:
    """Why a memory is set aside."""
    ago = f"{days:.0f} days ago"
    if by_use:
        return f"used {times(uses)}, last {ago}"
    return f"never used since it was made, {ago}" if not uses else f"used {times(uses)}, not since it changed {ago}"


def leavings(left: int, whole: int) -> str:
    """Why a table is written anew."""
    return (
        f"{left / whole:.0%} of its {whole:,} bytes are left from rows that changed or went; the disk is free of them "
        "when the versions before are gone"
    )


def stale_adapter(why: str) -> str:
    """Why an adapter is taught anew."""
    return f"the adapter is not used any more: {why}"


def taught(uses: int, one: Pupil, count: int, price: Lesson) -> str:
    """Why a memory is taught to an adapter."""
    basis = "as it took before" if price.measured else "at most, as far as one can tell before the first time"
    return (
        f"used {times(uses)}, {one.coming:.1f} uses to come save {seconds(one.gain)}; training all {count} of the "
        f"group takes {seconds(price.seconds)} {basis}"
    )


def unpaid(cube: str, verdict: Verdict, price: Lesson) -> str:
    """Why a group is not taught."""
    return (
        f"{len(verdict.pupils)} memories of {cube} are not worth an adapter: it would save {seconds(verdict.saved)} "
        f"beside what they are now, and takes {seconds(price.seconds)} of training"
    )


def no_time(cube: str, kind: str, taken: float) -> str:
    """Why a training is not in a plan."""
    return f"{cube}: the seconds that there are do not suffice to {kind}, which takes {seconds(taken)}"


def _cost(choice: Choice, setting: Setting) -> str:
    """The arithmetic of the cost policy in one line."""
    one = choice.candidate.standing
    saved = one.price.saved_seconds
    used = f"used {times(one.uses)}" if one.uses else "never used"
    if saved <= 0:
        return f"{used}; reading its text takes no longer than loading what would be kept of it"
    coming = uses_to_come(one, setting)
    save = "would save" if choice.verdict in (DEMOTE, LEAVE) else "save"
    said = f"{used}; about {coming:.1f} more uses in {setting.horizon_days:.0f} days {save} {seconds(coming * saved)}"
    if choice.score.value > 0:
        return f"{said}, and making it takes {seconds(one.price.write_seconds)} once" if not one.held else said
    rent = one.price.bytes / GIGABYTE * setting.rent * setting.horizon_days
    write = one.price.write_seconds
    least = max(rent - write * setting.keeping, rent / 2) if one.held else rent + write * (1 + setting.margin)
    return f"{said}; it pays from {least / saved:.1f} uses on"


def _terms(choice: Choice) -> str:
    """The steps of another policy in one line."""
    return ", ".join(f"{term.name} {amount(term.value, term.unit)}".strip() for term in choice.score.terms)


def brief(choice: Choice, policy: str) -> str:
    """Why a memory stays as it is, without its numbers, so that memories can be counted by it."""
    one = choice.candidate
    if one.fixed:
        return one.fixed
    if choice.verdict == KEEP:
        return "it is activation memory already" if choice.score.value > 0 else choice.why
    if choice.score.value > 0:
        return choice.why
    if policy == COST and one.standing.price.saved_seconds <= 0:
        return "reading the text takes no longer than loading what would be kept of it"
    return "not used often enough yet"


def notes(
    surveyed: Sequence[Surveyed], rates: Rates, budget_bytes: int | None, moves: Sequence[PlannedMove]
) -> Iterator[str]:
    """What to know before believing a plan."""
    if rates.kind == ESTIMATED:
        yield (
            "costs are guessed from the shape of the model and the speed of this machine; nothing was measured "
            "(without --estimate it is, once)"
        )
    for each in surveyed:
        told = each.told
        if not told.queries:
            yield (
                f"plans are made from use, and nobody has asked {told.cube} anything yet: "
                f"memos query {told.cube} TEXT --answer"
            )
        elif told.counted == FOUND:
            yield f"no model has answered from {told.cube} yet, so what queries found counts as used"
        if others := each.foreign_bytes - each.outworn_bytes:
            yield f"{told.cube} has {others:,} bytes of activation memory for other models, which stay"
        if each.outworn and not any(move.kind == DISCARD and move.cube == told.cube for move in moves):
            yield (
                f"{told.cube} has {each.outworn_bytes:,} bytes of activation memory made with other weights of "
                f"{rates.model}, which nothing reads with those here; --discard takes it away"
            )
    after = sum(each.told.held_bytes + each.foreign_bytes for each in surveyed) + activation_bytes(moves)
    if budget_bytes is not None and after > budget_bytes:
        yield f"what may not move takes {after:,} bytes, more than the budget of {budget_bytes:,}"


def activation_bytes(moves: Sequence[PlannedMove]) -> int:
    """The bytes of activation memory that moves add, below 0 for those they free."""
    return sum(move.bytes for move in moves if move.kind not in (COMPACT, DISTILL, RETEACH))


def times(count: int) -> str:
    """So many times, in words."""
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def seconds(value: float) -> str:
    """Seconds in a unit that reads well."""
    if abs(value) < 0.9995:
        return f"{1000 * value:.1f} ms"
    return f"{value:.1f} s" if abs(value) < 600 else f"{value / 60:.0f} min"


def amount(value: float, unit: str) -> str:
    """A number with its unit."""
    if unit == "s":
        return seconds(value)
    if value == float("inf"):
        return "never"
    told = f"{value:.0f}" if value == int(value) else f"{value:.2f}"
    return f"{told} {unit}".strip()
