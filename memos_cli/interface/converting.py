"""The verb `convert` of the Memory API: memories of a cube into another form, one version out."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any

from memos_cli.cube import activation, filters
from memos_cli.errors import Damaged, MemosError, NotFound, Usage
from memos_cli.infrastructure import faults, governance
from memos_cli.infrastructure.governance import HERE
from memos_cli.interface import engines, frame
from memos_cli.interface.engines import HERE_ALONE, Engine, Opened
from memos_cli.interface.frame import Changing, Desk, Reading
from memos_cli.interface.results import Converted, Cost, Left, Memory
from memos_cli.interface.rows import SHOWN, memory
from memos_cli.operation.gate import Limits, passing

if TYPE_CHECKING:
    from memos_cli.operation.convert import Converter, Item, Made, Way
    from memos_cli.operation.making import Order, Refused

Progress = Callable[[int, int | None, str], None]
ACTIVATION = "activation"
# Memories that are proved beside one another at least, where the cube has so many.
COMPOSED = 4
BITS = {"int8": 8, "int4": 4}
# What was made is durable this often: an interrupted run loses at most so many seconds of work.
CHECKPOINT_SECONDS = 1.0
LOSSY_PROBES = 8


@dataclass(slots=True)
class Run:
    """What is remembered while one conversion goes on."""

    model: str
    fingerprint: str = ""
    made: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    failing: list[str] = field(default_factory=list)
    left_out: list[Left] = field(default_factory=list)
    stale: int = 0
    bytes: int = 0
    tokens: int = 0
    together: str | None = None
    cost: Cost | None = None
    started: float = field(default_factory=perf_counter)

    def told(self, cube: str | Path, number: int, *, dry_run: bool) -> Converted:
        """The result."""
        return Converted(
            cube=str(cube), number=number, dry_run=dry_run, to=ACTIVATION, model=self.model,
            fingerprint=self.fingerprint, made=tuple(self.made), kept=tuple(self.kept), failing=tuple(self.failing),
            left_out=tuple(self.left_out), stale=self.stale, bytes=self.bytes, tokens=self.tokens,
            seconds=round(perf_counter() - self.started, 3), together=self.together, cost=self.cost,
        )  # fmt: skip


def convert(
    cube: str | Path,
    *,
    model: str = "nano",
    where: str | None = None,
    ids: Sequence[str] = (),
    kind: str = "segment",
    dtype: str | None = None,
    quantize: str | None = None,
    compress: str | None = None,
    probes: int | None = None,
    limits: Limits | None = None,
    dry_run: bool = False,
    engine: Engine = HERE_ALONE,
    reason: str = "",
    lock_timeout: float = 10.0,
    home: Path | None = None,
    notify: frame.Notify | None = None,
    progress: Progress | None = None,
) -> Converted:
    """Makes activation memory of the memories of a cube: those `where` says, or `ids`, or all that are recalled now.

    One file per memory for `model` (`nano`, a folder or a hub id), each proved against reading the text. Files that are
    there are kept, those of a text that has changed are made anew. Interrupted work is kept and taken up by the same
    call. A dry run makes a few in a folder that is thrown away, and tells what all would cost. `engine` is where they
    are made. Raises Usage for a model
    whose cache cannot be kept, NotFound for ids that there are not, NotAllowed, Locked, Damaged.
    """
    way = _way(kind, dtype=dtype, quantize=quantize, compress=compress, probes=probes, limits=limits)
    condition = filters.to_sql(filters.parse(where)) if where else ""
    desk = frame.desk(home, notify)
    run = Run(model)
    if dry_run:
        with frame.reading(desk, cube, "convert") as seen:
            seen.facts["dry_run"] = True
            converter = converter_for(desk, run, model, way)
            items = _items(run, converter, chosen(seen, condition, ids), seen.path / activation.FOLDER)
            _reckon(run, converter, items)
            return run.told(cube, seen.version.number, dry_run=True)
    engine.settle()
    key = _resume_key(model, condition, ids, way)
    with (
        frame.changing(desk, cube, "convert", reason=reason, resume=key, lock_timeout=lock_timeout) as change,
        engines.opened(engine, change) as on,
        _workshop(change, on, model, way) as order,
    ):
        converter = converter_for(desk, run, model, way)
        number = _fill(run, change, converter, chosen(change, condition, ids, to=on.to), on, order, progress=progress)
        return run.told(cube, number, dry_run=False)


def _way(
    kind: str,
    *,
    dtype: str | None,
    quantize: str | None,
    compress: str | None,
    probes: int | None,
    limits: Limits | None,
) -> Way:
    from memos_cli.infrastructure.dumper import DTYPES, Storage
    from memos_cli.operation.convert import KINDS, Compression, Way

    limits = limits or Limits()
    limits.check()
    if kind not in KINDS:
        raise Usage(f"expected a kind of {' or '.join(KINDS)}, found {kind!r}")
    if dtype is not None and dtype not in DTYPES:
        raise Usage(f"expected a dtype of {', '.join(DTYPES)}, found {dtype!r}")
    if quantize is not None and quantize not in BITS:
        raise Usage(f"expected int8 or int4 as what to quantise to, found {quantize!r}")
    if quantize is not None and dtype is not None:
        raise Usage("expected --dtype or --quantize, found both: quantised numbers have no other dtype")
    if probes is not None and probes < 1:
        raise Usage(f"expected at least one probe, found {probes}")
    if probes is None:
        # what leaves something out must be looked at more closely than what does not
        probes = LOSSY_PROBES if compress or quantize == "int4" else 1
    storage = Storage(dtype, BITS[quantize] if quantize else None)
    return Way(kind, storage, Compression.parse(compress) if compress else None, probes, limits)


def _resume_key(model: str, condition: str, ids: Sequence[str], way: Way) -> str:
    """The same call finds what an interrupted one left; another call does not."""
    said = json.dumps([model, condition, list(ids), asdict(way)])
    return "convert-" + hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def chosen(seen: Reading, condition: str, ids: Sequence[str], *, to: str = HERE) -> Iterator[Memory]:
    """The memories to convert, in table order, each with the label that it has in effect: those that may leave.

    A derived form tells its text to who can run the model, so making one passes the share gate, wherever it stays.
    Raises NotFound for an id that is not recalled now, NotAllowed for one that must stay.
    """
    from memos_cli.cube.plaintext import both, live_at

    if ids:
        named = f"id in ({', '.join(filters.quote(one) for one in dict.fromkeys(ids))})"
        condition = both(condition, named)
    where, found = both(live_at(frame.now()), condition), set()
    level = seen.rules.governance.sensitivity
    for rows in seen.leaving(to).batches(where, columns=SHOWN):
        for row in rows:
            found.add(row["id"])
            yield memory({**row, "sensitivity": row["sensitivity"] or level})
    tell_left(seen, where, found, ids, to=to)


def tell_left(seen: Reading, where: str, found: set[str], ids: Sequence[str], *, to: str) -> None:
    """Says what stays of the memories that were meant and may be seen. Raises NotAllowed, NotFound for ids."""
    seen_too = seen.memories.rows(where, columns=["id"])["id"].to_pylist()
    if stays := [one for one in seen_too if one not in found]:
        leaving = seen.may_leave(stays, to)
        if ids:
            governance.insist(leaving, to)
        rules = ", ".join(sorted(set(leaving.kept.values())))
        seen.desk.notify(f"{len(stays)} memories stay, for they may not go to {to!r}: {rules}")
    if missing := [one for one in ids if one not in found]:
        raise NotFound(f"expected memories that are recalled now, found no {', '.join(missing[:5])}", hint="memos list")


def converter_for(desk: Desk, run: Run, spec: str, way: Way) -> Converter:
    """The model, ready. Raises Usage for one whose cache cannot be kept."""
    from memos_cli.operation.making import open_converter
    from memos_cli.runtime.layout import layout_of
    from memos_cli.runtime.model import LocalModel
    from memos_cli.runtime.sparse import layout_for

    local = LocalModel(spec)
    desk.notify(f"loading {local.name}")
    loaded = local.load()
    layout = layout_of(loaded.network.config)
    if layout.store_refusal:
        raise Usage(f"{local.name} has no activation memory: {layout.store_refusal}", hint="its text can be read")
    if way.compression:
        layout_for(loaded.network)
    if layout.shift_refusal:
        desk.notify(f"memories of {local.name} can only be used one at a time: {layout.shift_refusal}")
    converter = open_converter(spec, way, _stamp(), home=desk.home, loaded=loaded)
    run.model, run.fingerprint = local.name, converter.fingerprint.digest
    return converter


def _stamp() -> str:
    """Now, as a file says when it was made."""
    return frame.now().replace(microsecond=0).isoformat().replace("+00:00", "Z")


def _items(run: Run, converter: Converter, memories: Iterator[Memory], folder: Path) -> list[Item]:
    """What is still to be made; what has its file already is noted, and what cannot be made with the reason."""
    items, made = [], []
    for one in memories:
        item = converter.item(one)
        if isinstance(item, str):
            run.left_out.append(Left(one.id, item))
        elif _is_made(folder / converter.header(item).name, item):
            made.append(item)
        else:
            items.append(item)
    if items and len(made) == 1 and not _is_composed(folder / converter.header(made[0]).name):
        # it was the only one, and nothing is known of it beside others
        items.append(made.pop())
    run.kept = [item.memory.id for item in made]
    return items


def _reckon(run: Run, converter: Converter, items: Sequence[Item]) -> None:
    if items:
        run.cost = Cost(**asdict(converter.estimate(items)))
        run.bytes = run.cost.bytes
    for item in items:
        first, last = item.stored(converter.way.kind)
        run.tokens += last - first
        run.made.append(item.memory.id)


def _fill(
    run: Run,
    change: Changing,
    converter: Converter,
    memories: Iterator[Memory],
    on: Opened,
    order: Order | None,
    *,
    progress: Progress | None,
) -> int:
    from memos_cli.operation.convert import WAYS

    assert change.draft is not None
    folder = change.path / activation.FOLDER
    items = _items(run, converter, memories, folder)
    run.stale = sum(_drop_stale(folder, item) for item in items)
    try:
        if items:
            together = converter.prove_together(_beside(change, converter, items))
            run.together = passing([together], WAYS, converter.way.limits)
        with closing(_make(on, order, converter, items, folder)) as made:
            _make_all(run, change.draft, made, len(items), progress=progress)
        on.on.let_go()
    except BaseException:
        # what was made until now is right, and is taken up by the next call; a disk that is full may not keep it
        with suppress(OSError, MemosError):
            change.draft.checkpoint({"made": len(run.made)})
        raise
    if not (run.made or run.stale or change.draft.progress):
        change.draft.discard()
        return change.version.number
    change.touched = [*run.made]
    change.facts |= {"form": ACTIVATION, "model": run.model, "made": len(run.made)}
    return change.commit({"converted": len(run.made), "to": ACTIVATION, "model": run.model}).number


@contextmanager
def _workshop(change: Changing, on: Opened, spec: str, way: Way) -> Iterator[Order | None]:
    """What workers are told, who begin to load the model at once; None where there are none.

    They write beside the draft: what one that died left behind is not published, nor is what is half written kept by a
    checkpoint.
    """
    from memos_cli.operation import making

    if not on.far:
        yield None
        return
    spec = os.path.abspath(spec) if Path(spec).is_dir() else spec
    with TemporaryDirectory(dir=change.path.parent, prefix="workers-", ignore_cleanup_errors=True) as beside:
        order = making.Order(spec, way, _stamp(), os.path.abspath(beside), str(change.desk.home))
        on.on.soon(making.make, setup=partial(making.set_up, order), gpu=True)
        yield order


def _make(
    on: Opened, order: Order | None, converter: Converter, items: Sequence[Item], folder: Path
) -> Generator[Made | Refused]:
    """The files of items, one after the other in their order, made here or by the workers of an engine."""
    from memos_cli.operation import making
    from memos_cli.operation.convert import Made

    tasks = (making.Task(item, converter.fingerprint.digest, dict(converter.composed)) for item in items)
    if order is None:
        yield from on.on.map(making.make, tasks, setup=lambda: making.Bench(converter, folder))
        return
    with closing(on.on.map(making.make, tasks, setup=partial(making.set_up, order), gpu=True)) as results:
        for made in results:
            if isinstance(made, Made):
                folder.mkdir(exist_ok=True)
                os.replace(Path(order.folder) / made.name, folder / made.name)
            yield made


def _make_all(run: Run, draft: Any, made: Iterator[Any], total: int, *, progress: Progress | None) -> None:
    from memos_cli.operation.making import Refused

    saved = perf_counter()
    for done, one in enumerate(made, 1):
        if isinstance(one, Refused):
            run.left_out.append(Left(one.memory, one.reason))
            continue
        run.made.append(one.memory)
        run.bytes += one.bytes
        run.tokens += one.tokens
        if one.refusal:
            run.failing.append(one.memory)
        faults.point("converted")
        if perf_counter() - saved > CHECKPOINT_SECONDS:
            draft.checkpoint({"made": done})
            saved = perf_counter()
        if progress:
            progress(done, total, "memories")


def _beside(change: Changing, converter: Converter, items: list[Item]) -> list[Item]:
    """The memories to prove together: those that are made, and where they are few, others of the cube with them."""
    if len(items) >= COMPOSED:
        return items
    known = {item.memory.id for item in items}
    others = (converter.item(one) for one in chosen(change, "", ()) if one.id not in known)
    found = (item for item in others if not isinstance(item, str))
    return [*items, *islice(found, COMPOSED - len(items))]


def _is_made(path: Path, item: Item) -> bool:
    """Whether there is a sound file of this text."""
    from memos_cli.operation.convert import content_of

    try:
        return activation.read(path).header.content == content_of(item.line)
    except (NotFound, Damaged):
        return False


def _is_composed(path: Path) -> bool:
    """Whether the file tells how near it is to its text beside others."""
    return any("." in name for name in activation.read(path).header.fidelity)


def _drop_stale(folder: Path, item: Item) -> int:
    """Removes the files of a memory that are of another text or damaged; how many there were."""
    stale = [path for path in activation.find(folder, memory=item.memory.id) if not _is_made(path, item)]
    for path in stale:
        path.unlink()
    return len(stale)
