"""The part of an audit that looks at parameter memory and probes: are they whole, and do they still say what is so?

Whether the bytes are those of the manifest is looked at elsewhere. Knows files of one version, and no model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from memos_cli.cube import metadata, parameter, parameter_stack
from memos_cli.cube.parameter import Adapter, content_of
from memos_cli.errors import MemosError
from memos_cli.operation import lifecycle, settle
from memos_cli.operation.answer import line_of
from memos_cli.operation.findings import DAMAGE, NOTICE, WARNING, Finding

if TYPE_CHECKING:
    from memos_cli.cube.plaintext import Memories

_SAID = ("text", "kind", "speaker", "role", "section")
_ANEW = "memos distill CUBE --name {name} makes it anew; until then it is not loaded"


def check(version: Path, *, deep: bool, remedy: str) -> Iterator[Finding]:
    """Findings about the adapters and the probes of the version at `version`; one without any has none."""
    folder = version / parameter.FOLDER
    yield from _counts(version, folder, remedy)
    for name in parameter.strays(folder):
        message = "expected only folders of adapters here, named in lower case"
        yield Finding(WARNING, "parameter-name", str(folder / name), message, "nothing: no adapter is loaded from it")
    sound = []
    for name in parameter.names(folder):
        try:
            sound.append(parameter.verify(folder, name) if deep else parameter.read(folder, name))
        except MemosError as error:
            yield Finding(DAMAGE, "parameter", str(folder / name), error.message, remedy)
    for adapter in sound:
        yield from _states(folder, adapter)
    yield from _sources(version, sound, deep=deep)
    yield from _probes(version, deep=deep, remedy=remedy)


def _counts(version: Path, folder: Path, remedy: str) -> Iterator[Finding]:
    try:
        said = metadata.load(version).parameter
    # the audit has said so already
    except MemosError:
        return
    found = metadata.Parameter(*parameter.measure(folder))
    if said != found:
        message = (
            f"says {said.adapters} adapters of {said.bytes:,} bytes, there are {found.adapters} of {found.bytes:,}"
        )
        yield Finding(DAMAGE, "counts", str(version / metadata.FILE), message, remedy)


def _states(folder: Path, adapter: Adapter) -> Iterator[Finding]:
    about, place, remedy = adapter.about, str(adapter.path), _ANEW.format(name=adapter.name)
    if about.state != parameter.FRESH:
        yield Finding(WARNING, "parameter-stale", place, f"is stale: {about.reason}", remedy)
    if about.rights.expires is not None and about.rights.expires <= datetime.now(UTC):
        message = f"outlived its memories: it expired {about.rights.expires.isoformat()}"
        yield Finding(WARNING, "parameter-expired", place, message, remedy)
    if not about.gated and about.kind == parameter.FACTS:
        message = "was published without passing its tests"
        yield Finding(NOTICE, "parameter-ungated", place, message, remedy.partition(";")[0])
    try:
        parameter_stack.chain(folder, adapter.name)
    except MemosError as error:
        yield Finding(WARNING, "parameter-stack", place, error.message, remedy)


def _sources(version: Path, sound: list[Adapter], *, deep: bool) -> Iterator[Finding]:
    """Adapters of memories that are no longer so: what was deleted can still be told from them."""
    memories = _table(version) if sound else None
    if memories is None:
        return
    columns = (*settle.COLUMNS, *(_SAID if deep else ()))
    rows = settle.rows_of(memories, sound, columns=columns)
    try:
        label = metadata.load(version).governance.sensitivity
    except MemosError:
        label = ""
    for adapter in sound:
        remedy = _ANEW.format(name=adapter.name)
        place = str(adapter.path)
        why = settle.why_stale(adapter, rows) or (_other_words(adapter, rows) if deep else "")
        if why:
            message = f"{why}; what it said can still be told from this adapter"
            yield Finding(WARNING, "parameter-foreign", place, message, remedy)
        if label and settle.rights_of(adapter, rows, label=label) != adapter.about.rights:
            message = "has a lower label or a longer life than the memories it was taught"
            yield Finding(WARNING, "parameter-rights", place, message, "any change of the cube sets it right")


def _other_words(adapter: Adapter, rows: dict[str, settle.Row]) -> str:
    """Which memory a prompt would show in other words than it was taught in; "" for none."""
    for source in adapter.about.sources:
        row = rows.get(source.memory_id)
        if source.memory_id not in adapter.memory_ids or row is None:
            continue
        if content_of(line_of(_Said(**{name: row[name] for name in _SAID}))) != source.content:
            return f"memory {source.memory_id} has other words than it was taught in"
    return ""


@dataclass(frozen=True, slots=True)
class _Said:
    """What a prompt shows of a memory."""

    text: str
    kind: str
    speaker: str
    role: str
    section: str
    time: datetime | None = None


def _probes(version: Path, *, deep: bool, remedy: str) -> Iterator[Finding]:
    directory = version / settle.PLAINTEXT
    if not (directory / settle.PROBES).is_dir():
        return
    from memos_cli.cube import probes

    place = str(directory / settle.PROBES)
    try:
        asked = probes.memory_ids(directory)
        wrong = list(probes.faults(directory)) if deep else []
    except MemosError as error:
        yield Finding(DAMAGE, "probes", place, error.message, remedy)
        return
    # Lance reports what it cannot read as one of these.
    except (RuntimeError, ValueError, OSError) as error:
        yield Finding(DAMAGE, "probes", place, f"the table cannot be read: {error}"[:500], remedy)
        return
    for key, message in wrong:
        yield Finding(DAMAGE, "probe-row", f"{place} probe {key}", message, remedy)
    memories = _table(version)
    if memories is None:
        return
    rows = memories.take(asked, columns=["id", "state"]).to_pylist()
    if lost := sorted(asked - {row["id"] for row in rows if row["state"] != lifecycle.FORGOTTEN}):
        message = f"has questions about {lost[0]}, which is not remembered ({len(lost)} such memories)"
        yield Finding(WARNING, "probe-foreign", place, message, "any change of the cube removes them")


def _table(version: Path) -> Memories | None:
    """The table of memories, None where the part that looks at it has found fault."""
    from memos_cli.cube.plaintext import Memories

    try:
        return Memories.open(version / settle.PLAINTEXT)
    except (MemosError, RuntimeError, ValueError, OSError):
        return None
