"""One move of a plan, carried out: which verb each kind of move is, and what comes of it. One version each, or none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from memos_cli.errors import Damaged, NotFound
from memos_cli.infrastructure import vault
from memos_cli.interface import archiving, frame, teaching
from memos_cli.interface.converting import convert
from memos_cli.interface.frame import Desk
from memos_cli.interface.releasing import release
from memos_cli.interface.tidying import expire
from memos_cli.interface.wording import ARCHIVE, COMPACT, DISCARD, DISTILL, EXPIRE, MERGE, REBUILD, RETEACH
from memos_cli.operation.schedule import DEMOTE, PROMOTE

if TYPE_CHECKING:
    from memos_cli.interface.planned import PlannedMove


@dataclass(frozen=True, slots=True)
class Order:
    """A move, for which model, and the words that its version is to be known by."""

    desk: Desk
    move: PlannedMove
    model: str
    reason: str
    lock_timeout: float

    @property
    def ids(self) -> list[str]:
        """What the move is about."""
        return [item.id for item in self.move.items]


@dataclass(frozen=True, slots=True)
class Performed:
    """The version that a cube has after a move, what the move touched, and what of that fell short of a gate."""

    version: int
    ids: tuple[str, ...]
    failing: tuple[str, ...] = ()


def perform(order: Order) -> Performed:
    """Carries a move out. Raises Damaged for a kind that there is not, and as the verb that it is."""
    if order.move.kind not in _KINDS:
        raise Damaged(f"expected a move of {', '.join(_KINDS)}, found {order.move.kind!r}")
    return _KINDS[order.move.kind](order)


def _make(order: Order) -> Performed:
    made = convert(
        order.move.cube, model=order.model, ids=order.ids, reason=order.reason, lock_timeout=order.lock_timeout,
        home=order.desk.home, notify=order.desk.notify,
    )  # fmt: skip
    return Performed(made.number, made.made, made.failing)


def _discard(order: Order) -> Performed:
    from memos_cli.runtime.model import LocalModel

    return _release(order, left_behind=LocalModel(order.model).name)


def _release(order: Order, *, left_behind: str = "") -> Performed:
    gone = release(
        order.move.cube, order.ids, weights=_weights(order), left_behind=left_behind, reason=order.reason,
        lock_timeout=order.lock_timeout, home=order.desk.home, notify=order.desk.notify,
    )  # fmt: skip
    return Performed(gone.number, gone.ids)


def _expire(order: Order) -> Performed:
    gone = expire(
        order.desk, order.move.cube, only=set(order.ids), reason=order.reason, lock_timeout=order.lock_timeout
    )
    return Performed(_number(order), gone)


def _archive(order: Order) -> Performed:
    gone = archiving.archive(
        order.desk, order.move.cube, order.ids, reason=order.reason, lock_timeout=order.lock_timeout
    )
    return Performed(_number(order), gone)


def _merge(order: Order) -> Performed:
    """What is there now is compared again, and of that those are put together that the move names."""
    from memos_cli.interface.comparing import CARRY_OUT, carry_out
    from memos_cli.interface.tending import merges_in

    with _changing(order, CARRY_OUT) as change:
        named = set(order.ids)
        _, found = merges_in(change)
        parts = (
            replace(one, absorbed=tuple(each for each in one.absorbed if each.id in named)) for one in found.merges
        )
        chosen = [one for one in parts if one.absorbed]
        if not chosen:
            return _left_alone(change)
        gone = tuple(each.id for one in chosen for each in one.absorbed)
        return Performed(carry_out(change, chosen), gone)


def _compact(order: Order) -> Performed:
    from memos_cli.operation import share

    with _changing(order, "reindex") as change:
        share.clean(change.path)
        change.reopen()
        return Performed(change.commit({"written_anew": change.whole.count()}).number, tuple(order.ids))


def _teach(order: Order) -> Performed:
    from memos_cli.interface.distilling import distill

    ids = order.ids
    try:
        made = distill(
            order.move.cube, model=order.model, name=teaching.name_of(ids), ids=ids, thorough=True, reason=order.reason,
            lock_timeout=order.lock_timeout, home=order.desk.home, notify=order.desk.notify,
        )  # fmt: skip
    except NotFound as error:
        # none of them can be taught to this model
        teaching.note_refusal(order.desk, _weights(order), ids, [error.message])
        return Performed(_number(order), (), tuple(ids))
    if made.published:
        return Performed(made.number, tuple(ids))
    teaching.note_refusal(order.desk, _weights(order), ids, made.failures)
    return Performed(made.number, (), tuple(ids))


def _teach_again(order: Order) -> Performed:
    from memos_cli.interface.rebuilding import rebuild, to_rebuild

    weights = _weights(order)
    with frame.reading(order.desk, order.move.cube, "distill") as seen:
        known = [one for one in teaching.adapters_of(seen, weights=weights) if one.name in order.ids]
    plan = to_rebuild(order.move.cube, names=order.ids, model=order.model, home=order.desk.home)
    done = rebuild(
        order.move.cube, plan, thorough=True, reason=order.reason, lock_timeout=order.lock_timeout,
        home=order.desk.home, notify=order.desk.notify,
    )  # fmt: skip
    short = {one.name: one.failures for one in done.made if not one.published}
    for one in known:
        if one.name in short:
            teaching.note_refusal(order.desk, weights, one.as_it_is, short[one.name])
    return Performed(_number(order), tuple(one for one in order.ids if one not in short), tuple(short))


def _changing(order: Order, verb: str) -> AbstractContextManager[frame.Changing]:
    return frame.changing(order.desk, order.move.cube, verb, reason=order.reason, lock_timeout=order.lock_timeout)


def _left_alone(change: frame.Changing) -> Performed:
    assert change.draft is not None
    change.draft.discard()
    return Performed(change.version.number, ())


def _number(order: Order) -> int:
    return vault.current_version(vault.locate(order.desk.path(order.move.cube))).number


def _weights(order: Order) -> str:
    from memos_cli.runtime.fingerprint import weights_digest
    from memos_cli.runtime.model import find

    return weights_digest(find(order.model), cache=order.desk.home / "cache")


_KINDS: dict[str, Callable[[Order], Performed]] = {
    PROMOTE: _make, REBUILD: _make, DEMOTE: _release, EXPIRE: _expire, MERGE: _merge, ARCHIVE: _archive,
    COMPACT: _compact, DISTILL: _teach, RETEACH: _teach_again, DISCARD: _discard,
}  # fmt: skip


def kinds() -> Sequence[str]:
    """The kinds of moves that there are."""
    return tuple(_KINDS)
