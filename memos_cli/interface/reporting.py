"""The part of the verb `audit` that gathers what its page shows, and writes it.

Who may not take all of a cube's memories into a file gets the page without their texts: a page is made to be passed on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memos_cli import __version__
from memos_cli.cube import activation
from memos_cli.cube.digest import Manifest
from memos_cli.errors import NotAllowed
from memos_cli.infrastructure import trail, vault
from memos_cli.interface import frame, seeing
from memos_cli.interface.exporting import FILE
from memos_cli.interface.rows import place_of
from memos_cli.operation.findings import Audit
from memos_cli.operation.plots import Bar, Step
from memos_cli.operation.report import Facts, Hot, Made, render

if TYPE_CHECKING:
    from memos_cli.interface.frame import Reading

SHOWN_VERSIONS = 40
SHOWN_DAYS = 30
SHOWN_MONTHS = 24
HOTTEST = 10
_FORMS = ("plaintext", "activation", "parameter")
_PLACE = ["source", "page", "line_start", "line_end", "turn", "session"]
# A token of English is about so many words.
WORDS_A_TOKEN = 0.75


def write(path: Path, result: Audit, *, cube: str | Path, seen: Reading | None) -> Audit:
    """Writes the page; `seen` is None for a cube that is too damaged to be opened."""
    facts = _facts(seen, result) if seen and not result.damaged else _bare(cube, result)
    vault.write_bytes(path, render(facts, result).encode("utf-8", "replace"))
    return replace(result, report=str(path))


def _bare(cube: str | Path, result: Audit) -> Facts:
    """What can be told of a cube that is damaged."""
    return Facts(
        title=Path(cube).stem, made_at=_moment(frame.now()), program=f"memos {__version__}",
        about=(("place", str(cube)),), figures=_looked_at(result), quoted=False,
    )  # fmt: skip


def _facts(seen: Reading, result: Audit) -> Facts:
    cube, manifest = seen.cube, seen.version.manifest
    logged = list(trail.entries(trail.path_of(seen.root)))
    quoted = _may_quote(seen)
    return Facts(
        title=cube.name,
        made_at=_moment(frame.now()),
        program=f"memos {__version__}",
        about=tuple(_about(seen)),
        figures=(
            ("memories recalled", f"{cube.plaintext.live:,}"), ("sources", f"{cube.plaintext.sources:,}"),
            ("size of this version", _size(manifest.size_bytes)), *_looked_at(result),
        ),
        forms=tuple(_forms(manifest)),
        costs=tuple(_costs(seen, len(logged))),
        versions=tuple(_versions(seen)),
        kinds=tuple(_kinds(seen)),
        ages=tuple(_ages(seen)),
        reads=tuple(_reads(logged)),
        hot=tuple(_hottest(seen, logged, quoted=quoted)),
        quoted=quoted,
    )  # fmt: skip


def _may_quote(seen: Reading) -> bool:
    """Whether the actor may take every memory of the cube, but those that have ended, into a file."""
    try:
        leaving = seen.leaving(FILE)
    except NotAllowed:
        return False
    return leaving.count() == seen.memories.narrowed(seeing.alive(frame.now())).count()


def _about(seen: Reading) -> Iterator[tuple[str, str]]:
    cube, embedder = seen.cube, seen.cube.plaintext.embedder
    yield "description", cube.description
    yield "place", str(seen.root)
    yield "version", f"{cube.version}, commit {seen.version.number}"
    yield "digest", seen.version.digest
    yield "licence", cube.licence or "none"
    yield "owner", _who(cube.governance.owner, cube.governance.owner_user)
    yield "label", cube.governance.sensitivity
    yield "shared with", cube.governance.share_scope
    yield "embedder", embedder.label if embedder else "none"
    yield "updated", _moment(cube.updated)


def _looked_at(result: Audit) -> tuple[tuple[str, str], ...]:
    return (("versions kept", f"{result.versions:,}"), ("files looked at", f"{result.files:,}"))


def _forms(manifest: Manifest) -> Iterator[Bar]:
    for form in _FORMS:
        files = [entry for entry in manifest.files if entry.path.startswith(f"{form}/")]
        if files:
            size = sum(entry.size for entry in files)
            yield Bar(f"{form} ({len(files)} {'file' if len(files) == 1 else 'files'})", size, _size(size))


def _costs(seen: Reading, lines: int) -> Iterator[tuple[str, str]]:
    """What the memory takes: on disk by memory, and of a model's attention when it is read."""
    plain, manifest = seen.cube.plaintext, seen.version.manifest
    sizes = vault.measure(seen.root)
    if plain.live:
        stored = sum(entry.size for entry in manifest.files if entry.path.startswith("plaintext/"))
        yield "plaintext", f"{_size(stored / max(1, plain.memories))} a memory on disk, search indexes included"
        words = sum(_column(seen, "words"))
        yield "to read it all", f"{words:,} words, about {words / WORDS_A_TOKEN:,.0f} tokens at each use"
    files = [activation.read(path) for path in activation.find(seen.path / activation.FOLDER)]
    if files:
        tokens = sum(made.header.tokens for made in files)
        size = sum(made.path.stat().st_size for made in files)
        yield "activation", f"{_size(size / max(1, tokens))} a token, {tokens:,} tokens that are not read again"
    more = _size(sizes.all_bytes - sizes.current_bytes)
    yield "all versions", f"{_size(sizes.all_bytes)} for {sizes.versions} versions, {more} more than this one"
    yield "access log", f"{lines:,} lines"


def _versions(seen: Reading) -> Iterator[Made]:
    """The versions that are kept, oldest first."""
    tags: dict[int, list[str]] = {}
    for name, number in vault.tags(seen.root).items():
        tags.setdefault(number, []).append(name)
    before: set[str] = set()
    for version in reversed(vault.versions(seen.root)[:SHOWN_VERSIONS]):
        manifest = version.manifest
        new = sum(entry.size for entry in manifest.files if entry.sha256 not in before)
        before |= {entry.sha256 for entry in manifest.files}
        back_to = manifest.summary.get("rolled_back_to")
        told = f"version {version.number}: {manifest.operation}, {_size(manifest.size_bytes)}, {_size(new)} new"
        step = Step(
            version.number, manifest.size_bytes, new, told, back_to if isinstance(back_to, int) else None,
            tuple(tags.get(version.number, ())), version.number == seen.version.number,
        )  # fmt: skip
        who = _who(str(manifest.actor.get("key", "")), str(manifest.actor.get("user", "")))
        yield Made(step, manifest.operation, manifest.time.replace("T", " ").removesuffix("Z"), who, manifest.reason)


def _kinds(seen: Reading) -> Iterator[Bar]:
    """How many memories there are of each type; where none has one, of each kind of piece they come from."""
    types = _column(seen, "type")
    counts = Counter(kind or "no type" for kind in types) if any(types) else Counter(_column(seen, "kind"))
    for kind, count in counts.most_common(HOTTEST):
        yield Bar(str(kind), count, f"{count:,}")


def _ages(seen: Reading) -> Iterator[Bar]:
    """How many of the memories that are recalled were made in each month, of the last two years."""
    counts = Counter(moment.strftime("%Y-%m") for moment in _column(seen, "created_at") if moment)
    if len(counts) > 1:
        for month in list(_months(min(counts), max(counts)))[-SHOWN_MONTHS:]:
            yield Bar(month, counts[month], f"{counts[month]:,}")


def _months(first: str, last: str) -> Iterator[str]:
    year, month = map(int, first.split("-"))
    while f"{year:04d}-{month:02d}" <= last:
        yield f"{year:04d}-{month:02d}"
        year, month = (year + 1, 1) if month == 12 else (year, month + 1)


def _column(seen: Reading, name: str) -> list[Any]:
    from memos_cli.cube.plaintext import LIVE

    values = seen.memories.rows(LIVE, columns=[name])[name].to_pylist()
    return [value for value in values if value is not None]


def _reads(logged: Iterable[dict[str, Any]]) -> Iterator[Bar]:
    """How many memories were read on each of the last days, by the access log."""
    days: Counter[str] = Counter()
    for entry in logged:
        count = entry.get("count")
        if entry.get("outcome") == "ok" and isinstance(count, int) and count > 0:
            days[str(entry.get("time", ""))[:10]] += count
    if days:
        today = datetime.now(UTC).date()
        for back in range(SHOWN_DAYS - 1, -1, -1):
            day = (today - timedelta(days=back)).isoformat()
            yield Bar(day[5:], days[day], f"{days[day]:,}")


def _hottest(seen: Reading, logged: Iterable[dict[str, Any]], *, quoted: bool) -> Iterator[Hot]:
    """The memories that were read most, of those that are still there."""
    reads: Counter[str] = Counter()
    for entry in logged:
        told = entry.get("memories")
        if entry.get("outcome") == "ok" and isinstance(told, list):
            reads.update({str(identity) for identity in told})
    most = [identity for identity, _ in reads.most_common(4 * HOTTEST)]
    rows = (
        {row["id"]: row for row in seen.memories.take(most, columns=["id", "text", *_PLACE]).to_pylist()}
        if most
        else {}
    )
    for identity in [each for each in most if each in rows][:HOTTEST]:
        row = rows[identity]
        yield Hot(identity, reads[identity], place_of(row), " ".join(row["text"].split()) if quoted else "")


def _who(key: str, user: str) -> str:
    short = key[:20]
    return f"{user} ({short})" if user else short


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
