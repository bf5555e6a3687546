"""Extraction by a model as a part of ingest: what it will cost, whether the text may go there, and the run itself.

Nothing here is reached unless a model was named. Text leaves this machine only to an address that was given, and only
text that is labelled `internal` or lower; both are told before the first word is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from memos_cli.cube.extracted import Asked, Estimate, Key
from memos_cli.cube.extracted import read as read_ledger
from memos_cli.cube.sources import read as read_catalogue
from memos_cli.errors import NotAllowed
from memos_cli.infrastructure import governance
from memos_cli.infrastructure.sight import Sight
from memos_cli.interface import embedding, frame
from memos_cli.interface.denying import refusal
from memos_cli.interface.frame import PLAINTEXT, Desk
from memos_cli.interface.sending import ENDPOINT, HIGHEST_SENT, Destination
from memos_cli.interface.touching import toucher
from memos_cli.operation.extract import Extraction, due
from memos_cli.operation.ingest import Ingest
from memos_cli.operation.marking import Marks
from memos_cli.operation.windows import Window, estimate

if TYPE_CHECKING:
    from memos_cli.interface.sources import Source
    from memos_cli.runtime.complete import Completer


@dataclass(frozen=True, slots=True)
class Extract:
    """A wish to have a model write memories. `model` is a folder or hub id, or with `url` a name the server knows.

    `agree` hears the cost before anything is spent and raises when it is too much. The key is sent to `url` and kept
    nowhere.
    """

    model: str
    url: str | None = None
    key: str | None = field(default=None, repr=False)
    agree: Callable[[Estimate], None] = lambda cost: None


_HERE = "--extract FOLDER, a model on this machine, without --extract-url"


@dataclass(frozen=True, slots=True)
class Reader:
    """The model that was wished for, opened but not connected, and where its text goes ("" for this process)."""

    completer: Completer
    host: str
    leaves_machine: bool
    encrypted: bool
    sight: Sight = Sight()
    most: str = HIGHEST_SENT

    def permit(self, window: Window, *, cube: str) -> None:
        """Raises NotAllowed when the window's label, or for want of one the cube's, is too high to be sent."""
        self.check(window.labels["sensitivity"] or cube)
        rule = self.sight.why(window.labels)
        if rule:
            raise NotAllowed(f"a part of the source does not leave this machine: {rule}", hint=_HERE)

    def check(self, level: str) -> None:
        """Raises NotAllowed when text of this label may not go where the model is."""
        there = Destination(self.completer.name, self.host, self.leaves_machine, self.encrypted)
        there.check(level, hint=_HERE, most=self.most)

    def bounded(self, seen: frame.Reading) -> Reader:
        """The same reader, as far as the rules of a cube let its text go. Raises NotAllowed."""
        if not self.leaves_machine:
            return self
        seen.ask("send")
        most = governance.maximum(seen.rules, ENDPOINT, policy=seen.desk.policy)
        return replace(self, sight=seen.sight("send", ENDPOINT), most=most)


def open_reader(wish: Extract) -> Reader:
    """The model of a wish. Connects to nothing. Raises Usage, NotFound."""
    from memos_cli.runtime.complete import address_of, open_completer

    completer = open_completer(wish.model, url=wish.url, key=wish.key)
    if wish.url is None:
        return Reader(completer, "", False, True)
    address = address_of(wish.url)
    return Reader(completer, address.host, not address.here, address.here or address.encrypted)


def cost(
    desk: Desk,
    root: Path,
    reader: Reader,
    sources: Sequence[Source],
    *,
    cube: str,
    marks: Marks,
    embedder: str | None,
    skip_bad: bool,
) -> Estimate:
    """What extraction from these sources would cost as the cube is now; they are read, and no model is asked.

    Raises NotAllowed when some of the text may not go to that model.
    """
    on_bad = (lambda bad: None) if skip_bad else None
    if not root.exists():
        reader = replace(reader, most=desk.policy.highest(ENDPOINT, base=HIGHEST_SENT))
        encoder = embedding.open_embedder(desk, embedder or embedding.DEFAULT)
        work = Ingest(None, encoder, marks, frame.now(), {}, dry_run=True, on_bad=on_bad)
        return _count(reader, work, sources, {}, level=marks.sensitivity or HIGHEST_SENT)
    with frame.reading(desk, root, "ingest") as seen:
        place = seen.path / PLAINTEXT
        reader = reader.bounded(seen)
        encoder = embedding.for_cube(desk, seen.memories.embedder, spec=embedder, cube=cube)
        work = Ingest(seen.whole, encoder, marks, frame.now(), read_catalogue(place), dry_run=True, on_bad=on_bad)
        work.refuses = refusal(desk, place)
        touch = toucher(seen, marks)
        for source in sources:
            touch(source.uri)
        told = _count(reader, work, sources, read_ledger(place), level=seen.cube.governance.sensitivity)
        seen.facts |= {"extract_model": reader.completer.name, "extract_host": reader.host, "calls_planned": told.calls}
        return told


def _count(
    reader: Reader, work: Ingest, sources: Sequence[Source], ledger: dict[Key, Asked], *, level: str
) -> Estimate:
    reader.check(level)
    reader.check(work.marks.sensitivity or level)
    windows = _permitted(reader, due(work, sources, ledger, model=reader.completer.name), level=level)
    return estimate(
        windows, model=reader.completer.name, host=reader.host, leaves_machine=reader.leaves_machine,
        encrypted=reader.encrypted,
    )  # fmt: skip


def _permitted(reader: Reader, windows: Iterator[Window], *, level: str) -> Iterator[Window]:
    for window in windows:
        reader.permit(window, cube=level)
        yield window


def begin(
    work: Ingest, ledger: dict[Key, Asked], *, reader: Reader | None, agreed: Estimate | None, level: str
) -> Extraction:
    """The run itself, for at most the calls that were agreed to; without a reader it only tidies up."""
    if reader is None or agreed is None:
        return Extraction(work, ledger)
    return Extraction(
        work, ledger, reader.completer, agreed.calls, permit=lambda window: reader.permit(window, cube=level)
    )
