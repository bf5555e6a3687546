"""The verb `ingest` of the Memory API: sources in, one version out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, BinaryIO

from memos_cli.cube import extracted, heap, metadata
from memos_cli.cube.losses import together
from memos_cli.cube.sources import FILE as CATALOGUE
from memos_cli.cube.sources import SourceReport, encode
from memos_cli.cube.sources import read as read_catalogue
from memos_cli.errors import MemosError, NotAllowed, StoreFailed, Usage
from memos_cli.infrastructure import vault
from memos_cli.interface import embedding, engines, extracting, frame, named, sources, tables
from memos_cli.interface.denying import refusal, tell_refused
from memos_cli.interface.engines import HERE_ALONE, Engine, Opened
from memos_cli.interface.extracting import Extract, Reader
from memos_cli.interface.frame import PLAINTEXT, Changing, Desk
from memos_cli.interface.named import Named
from memos_cli.interface.results import Ingested
from memos_cli.interface.resuming import Journal
from memos_cli.interface.touching import open_to, toucher
from memos_cli.operation import mentioning
from memos_cli.operation.ingest import Ingest, estimate_seconds
from memos_cli.operation.marking import Marks

# Sources of so many bytes, read for their words alone, are read with as little memory as it takes.
LARGE_BYTES = 16_000_000

Progress = Callable[[int, int | None, str], None]


@dataclass(slots=True)
class _Run:
    """What is remembered while one ingest goes on."""

    desk: Desk
    cube: str
    named: Named
    reports: list[SourceReport] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)
    resumed: int = 0
    embedder: str | None = None
    reader: Reader | None = None
    agreed: extracted.Estimate | None = None
    extracted: int = 0
    waits: bool = False  # whether a model wrote the sources
    keep: bool = False  # what was paid for is worth keeping, though the run failed
    started: float = field(default_factory=perf_counter)


def ingest(
    cube: str | Path,
    args: Sequence[str],
    *,
    marks: Marks | None = None,
    format: str | None = None,
    embedder: str | None = None,
    default_embedder: str | None = None,
    extract: Extract | None = None,
    prune: bool = False,
    skip_bad: bool = False,
    dry_run: bool = False,
    engine: Engine = HERE_ALONE,
    reason: str = "",
    stdin: BinaryIO | None = None,
    written_by: str = "",
    lock_timeout: float = 10.0,
    home: Path | None = None,
    notify: frame.Notify | None = None,
    progress: Progress | None = None,
) -> Ingested:
    """Brings a cube up to date with its sources, making the cube when there is none.

    Unchanged sources cost nothing, edited ones their edited chunks. Publishes one version, or none when nothing
    changed. Interrupted work is kept and taken up by the same call. With `extract` a model writes memories too, which
    are not recalled until `edit` accepts them. `embedder` is insisted on, `default_embedder` is for a cube that is
    made now. What is on stdin was `written_by` the model of a client of this name, where one is named: it waits to be
    accepted, too. `engine` is where texts are embedded and written. Raises Damaged for input that does not parse (with
    `skip_bad` it is left out and listed), NotFound, Locked, NotAllowed, WrongModel, StoreFailed.
    """
    desk = frame.desk(home, notify)
    root = desk.path(cube)
    embedder = embedder or (None if root.exists() else default_embedder)
    marks = marks or Marks()
    marks.columns(frame.now())  # what they cannot be is said before anything is read
    if marks.sensitivity is not None:
        metadata.check_sensitivity(marks.sensitivity)
    run = _Run(desk, str(cube), named.look(args, root=root, stdin=stdin, format=format))
    for source in run.named.sources if written_by else ():
        source.uri = f"client:{written_by}/{source.digest().removeprefix('sha256:')[:12]}"
    run.waits = bool(written_by)
    run.reader = extracting.open_reader(extract) if extract else None
    if run.reader:
        run.agreed = extracting.cost(
            desk, root, run.reader, run.named.sources, cube=run.cube, marks=marks, embedder=embedder, skip_bad=skip_bad
        )
    if dry_run:
        return _rehearse(run, root, marks, embedder, skip_bad=skip_bad, prune=prune)
    if extract and run.agreed and run.agreed.calls:
        extract.agree(run.agreed)
    engine.settle()
    with _made_if_absent(run, root, embedder):
        key = _resume_key(
            run.named.labels, marks, format, prune, skip_bad, *([extract.model, extract.url] if extract else [])
        )
        with (
            frame.changing(desk, root, "ingest", reason=reason, resume=key, lock_timeout=lock_timeout) as change,
            engines.opened(engine, change) as on,
        ):
            return _fill(run, change, marks, embedder, on, skip_bad=skip_bad, prune=prune, progress=progress)


@contextmanager
def _made_if_absent(run: _Run, root: Path, embedder: str | None) -> Iterator[None]:
    """Makes the cube when there is none, and removes it again when it could not be filled at all."""
    from memos_cli.interface.changes import make

    made = None
    if not root.exists() and not root.is_symlink():
        try:
            made = make(run.desk, root, embedder=embedder)
        except Usage:
            if not (root / "current").is_symlink():  # else somebody was faster, and there is a cube to fill
                raise
    try:
        yield
    except MemosError:
        if made and not run.keep:
            frame.discard_new(root, made)
        raise


def _fill(
    run: _Run,
    change: Changing,
    marks: Marks,
    embedder: str | None,
    on: Opened,
    *,
    skip_bad: bool,
    prune: bool,
    progress: Progress | None,
) -> Ingested:
    assert change.draft is not None
    memories = change.whole
    journal = Journal(change.draft, run, settle=lambda: tables.settle(change))
    if on.far and any(journal.is_news(source) for source in run.named.sources):
        on.on.soon()
    encoder = embedding.for_cube(run.desk, memories.embedder, spec=embedder, cube=run.cube)
    run.embedder = _label(memories.embedder)
    total = sum(source.size for source in run.named.sources)
    work = Ingest(
        memories, encoder, marks, frame.now(), journal.catalogue, on_bad=_collector(run) if skip_bad else None,
        on_notice=run.desk.notify, checkpoint=journal.batch, refuses=refusal(run.desk, change.path / PLAINTEXT),
        touch=toucher(change, marks), waits=run.waits,
    )  # fmt: skip
    try:
        _rename(run, work, journal)
        with _lean(total, encoder), on.writer(change, encoder, spec=embedder) as work.writer:
            journal.gather = work.settle
            _take_all(run, work, journal, total=total, progress=progress)
            work.settle()
        on.on.let_go()
        work.writer = None
        vanished = open_to(change, run.named.vanished(journal.catalogue))
        if prune:
            run.reports += [work.drop(uri) for uri in vanished]
        _extract(run, change, work, journal, progress=progress)
    except MemosError:
        if not run.keep:
            change.draft.discard()  # bad input: nothing of this run is kept
        raise
    tell_refused(run.desk, run.cube, len(work.refused))
    changed = bool(work.tally.added or work.tally.superseded or work.tally.updated or run.resumed)
    number = change.version.number
    catalogue_moved = journal.catalogue != journal.before or journal.ledger != journal.ledger_before
    if changed or catalogue_moved:
        vault.write_bytes(change.path / PLAINTEXT / CATALOGUE, encode(journal.catalogue))
        journal.write_ledger()
        uris = None if run.resumed else _moved(run)
        mentioning.link(memories, change.path / PLAINTEXT, now=work.now, uris=uris, ids=work.beside)
        number = change.commit(_summary(run, work)).number
    else:
        change.draft.discard()
    change.facts |= {"added": work.tally.added, "superseded": work.tally.superseded}
    return _result(run, work, number, changed=changed or catalogue_moved, vanished=() if prune else vanished)


def _moved(run: _Run) -> set[str]:
    return {report.uri for report in run.reports if report.status != "unchanged"}


def _lean(total: int, encoder: object) -> AbstractContextManager[None]:
    return heap.returning() if encoder is None and total >= LARGE_BYTES else nullcontext()


def _take_all(run: _Run, work: Ingest, journal: Journal, *, total: int, progress: Progress | None) -> None:
    """Takes one source after the other, the sizes of all being `total` bytes."""
    done = 0
    for source in run.named.sources:
        skip = journal.begin(source)
        if progress:
            work.progress = _counting(progress, done, total, source.uri)
        run.reports.append(work.take(source, skip=skip))
        journal.end()
        done += source.size
        if progress:
            progress(done, total, source.uri)


def _rename(run: _Run, work: Ingest, journal: Journal | None = None) -> None:
    """Files that only have another name keep their memories."""
    for old, source in list(run.named.renamed(work.catalogue)):
        try:
            work.touch(old)
        except NotAllowed:
            continue  # to say so would tell that such a file is remembered, and by which name
        run.desk.notify(f"{old} is now {source.uri}")
        work.rename(old, source)
        if journal:
            journal.rename(old, source.uri)


def _extract(run: _Run, change: Changing, work: Ingest, journal: Journal, *, progress: Progress | None) -> None:
    """Lets the model read what it has not read yet, and ends what it took from words that are gone."""
    if run.reader is None and not journal.ledger:
        return
    level = change.cube.governance.sensitivity
    reader = run.reader.bounded(change) if run.reader else None
    extraction = extracting.begin(work, journal.ledger, reader=reader, agreed=run.agreed, level=level)
    planned, before = extraction.calls, run.extracted

    def asked() -> None:
        run.extracted = before + extraction.made
        journal.asked(work)
        if progress:
            progress(planned - extraction.calls, planned, f"{run.extracted} memories extracted")

    extraction.asked = asked
    moved = _moved(run)
    try:
        for source in run.named.sources:
            if run.reader or work.marks != Marks() or source.uri in moved:
                extraction.take(source)
        for uri in {report.uri for report in run.reports if report.status == "pruned"}:
            extraction.drop(uri)
        work.flush()
    except StoreFailed:
        if journal.marked or journal.ledger != journal.ledger_before:
            journal.keep(work)
            run.keep = True
            run.desk.notify("what was done so far is kept; the same command goes on from there")
        raise
    finally:
        if run.reader:
            told = {"extract_model": run.reader.completer.name, "extract_host": run.reader.host}
            change.facts |= {**told, "calls": planned - extraction.calls, "extracted": run.extracted}
    if extraction.left:
        run.desk.notify(f"{extraction.left} parts were not asked about: they came after the cost was agreed to")


def _label(identity: metadata.EmbedderIdentity | None) -> str | None:
    return identity.label if identity else None


def _counting(progress: Progress, done: int, total: int, uri: str) -> Callable[[int], None]:
    """Progress within a source: how many memories so far, while the bytes that are done stand still."""

    def count(memories: int) -> None:
        progress(done, total, f"{memories} {uri}")

    return count


def _collector(run: _Run) -> Callable[[Any], None]:
    def collect(bad: sources.Bad) -> None:
        run.bad.append(f"{bad.uri} {bad.place}: {bad.message}")

    return collect


def _resume_key(places: Sequence[str], marks: Marks, *flags: object) -> str:
    """The same call finds what an interrupted one left; another call does not."""
    said = json.dumps([list(places), asdict(marks), [str(flag) for flag in flags]], default=str)
    return "ingest-" + hashlib.sha256(said.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def _summary(run: _Run, work: Ingest) -> dict[str, Any]:
    """For the manifest: what `memos log` tells of this version."""
    tally = work.tally
    return {
        "added": tally.added + run.resumed,
        "superseded": tally.superseded,
        "updated": tally.updated,
        "sources": len([report for report in run.reports if report.status != "unchanged"]),
        "left_out": len(run.bad),
        **({"extracted": run.extracted} if run.extracted else {}),
    }


def _rehearse(run: _Run, root: Path, marks: Marks, embedder: str | None, *, skip_bad: bool, prune: bool) -> Ingested:
    """The same walk with nothing written: counts, bytes, and seconds from a timed sample of embeddings."""
    if not root.exists():
        encoder = embedding.open_embedder(run.desk, embedder or embedding.DEFAULT)
        run.embedder = _label(embedding.identity_of(encoder))
        on_bad = _collector(run) if skip_bad else None
        work = Ingest(None, encoder, marks, frame.now(), {}, dry_run=True, on_bad=on_bad, on_notice=run.desk.notify)
        return _rehearsed(run, work, 0, prune=prune)
    with frame.reading(run.desk, root, "ingest") as seen:
        encoder = embedding.for_cube(run.desk, seen.memories.embedder, spec=embedder, cube=run.cube)
        catalogue = read_catalogue(seen.path / PLAINTEXT)
        run.embedder = _label(seen.memories.embedder)
        on_bad = _collector(run) if skip_bad else None
        work = Ingest(seen.whole, encoder, marks, frame.now(), catalogue, dry_run=True, on_bad=on_bad)
        work.on_notice, work.touch = run.desk.notify, toucher(seen, marks)
        work.refuses = refusal(run.desk, seen.path / PLAINTEXT)
        seen.facts["dry_run"] = True
        return _rehearsed(run, work, seen.version.number, prune=prune, seen=seen)


def _rehearsed(run: _Run, work: Ingest, number: int, *, prune: bool, seen: frame.Reading | None = None) -> Ingested:
    _rename(run, work)
    run.reports += [work.take(source) for source in run.named.sources]
    vanished = run.named.vanished(work.catalogue)
    vanished = open_to(seen, vanished) if seen else vanished
    if prune:
        run.reports += [work.drop(uri) for uri in vanished]
    seconds = estimate_seconds(work.embedder, texts=work.tally.texts_embedded, sample=work.sample)
    changed = bool(work.tally.added or work.tally.superseded or work.tally.updated)
    return _result(run, work, number, changed=changed, vanished=() if prune else vanished, estimated=seconds)


def _result(
    run: _Run, work: Ingest, number: int, *, changed: bool, vanished: tuple[str, ...], estimated: float | None = None
) -> Ingested:
    return Ingested(
        cube=run.cube,
        number=number,
        changed=changed,
        dry_run=work.dry_run,
        added=work.tally.added + run.resumed,
        kept=work.tally.kept,
        superseded=work.tally.superseded,
        chunks_embedded=work.tally.chunks_embedded,
        texts_embedded=work.tally.texts_embedded,
        text_bytes=work.tally.text_bytes,
        seconds=round(perf_counter() - run.started, 3),
        estimated_seconds=None if estimated is None else round(estimated, 1),
        embedder=run.embedder,
        resumed=run.resumed,
        sources=tuple(run.reports),
        vanished=vanished,
        skipped=run.named.skipped,
        bad=tuple(run.bad),
        extracted=run.extracted,
        extraction=run.agreed,
        losses=together(loss for source in run.named.sources for loss in source.losses.told()),
    )
