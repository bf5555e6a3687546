"""The verb `fuse` of the Memory API for cubes: two of them into a new one, three-way where they share a version.

The new cube is published as a whole or not at all, and the two stay as they are. Each memory keeps its id, source and
place; nobody may see, share or keep more of it than before, and what was forgotten for good from either stays out. Of
what was made of memories that goes along whose memories are the same. Vectors of another embedder are made anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memos_cli.cube import denied, exchanges, extracted, links, metadata
from memos_cli.cube import sources as catalogue
from memos_cli.cube.filters import quote
from memos_cli.errors import MemosError, Usage
from memos_cli.infrastructure import origin, vault
from memos_cli.interface import embedding, frame
from memos_cli.interface.changes import stem
from memos_cli.interface.comparing import opposed
from memos_cli.interface.denying import open_denial
from memos_cli.interface.frame import COPY, PLAINTEXT, Desk, Reading
from memos_cli.interface.querying import check_cubes
from memos_cli.interface.rows import PLACED
from memos_cli.interface.tidied import Opposed
from memos_cli.interface.united import FusedCubes, Marked
from memos_cli.operation import along, linking, mentioning, resolving, settle, uniting
from memos_cli.operation.along import Along
from memos_cli.operation.governing import united
from memos_cli.operation.naming import new_id
from memos_cli.operation.resolving import ASK, POLICIES, Dispute
from memos_cli.operation.rewindow import rewindow
from memos_cli.operation.uniting import United

if TYPE_CHECKING:
    from memos_cli.cube.metadata import Memcube
    from memos_cli.cube.plaintext import Memories
    from memos_cli.runtime.embed import Embedder

Ask = Callable[[Opposed], str]
Row = dict[str, Any]

_COLUMNS = tuple(dict.fromkeys((*uniting.COLUMNS, *resolving.COLUMNS, *PLACED, "content_key")))
_BATCH = 2_048


@dataclass(slots=True)
class _Side:
    """One of the two cubes: what of it may be taken along, as rows without vectors, and what was refused."""

    seen: Reading
    table: Memories
    rows: Mapping[str, Row]
    whole: bool
    refused: int
    renamed: Mapping[str, str] = field(default_factory=dict)

    @property
    def level(self) -> str:
        """The label of its memories that have none of their own."""
        return self.seen.said.governance.sensitivity


@dataclass(slots=True)
class _Work:
    """What is made of the two."""

    sides: tuple[_Side, _Side]
    meta: Memcube
    done: United
    disputes: Sequence[Dispute]
    base: str
    notes: list[str]
    along: Along = field(default_factory=Along)
    encoder: Embedder | None = None


def fuse_cubes(
    first: str | Path,
    second: str | Path,
    output: str | Path,
    *,
    resolve: str = "",
    ask: Ask | None = None,
    name: str | None = None,
    description: str = "",
    embedder: str | None = None,
    dry_run: bool = False,
    reason: str = "",
    home: Path | None = None,
    notify: frame.Notify | None = None,
) -> FusedCubes:
    """A new cube with the memories of two, yours to change.

    Where the two hold a version in common, what one of them changed since is taken. Memories of the two that cannot
    both hold are told with both sides, and decided where `resolve` says how: `newest`, `trust`, or `ask`, for which
    `ask` is called with each and gives the id of the side that stays ("" for both). Labels, scopes, ends and holds are
    the stricter of the two. Caches, adapters and questions go along where their memories are the same. Vectors are
    those of the first cube's embedder, or of `embedder`; rows that have others are embedded anew, which is told.
    Raises Usage when something is at `output`, NotFound, NotAllowed for a cube that may not be copied, MissingExtra for
    an embedder that is not installed.
    """
    desk = frame.desk(home, notify)
    if resolve and resolve not in POLICIES:
        raise Usage(f"conflicts are resolved by {', '.join(POLICIES)}, found {resolve!r}")
    if resolve == ASK and ask is None:
        raise Usage("conflicts are asked about when they are resolved", hint="memos fuse A B -o C --resolve newest")
    check_cubes(desk, [first, second])
    root = desk.path(output)
    if not vault.is_free(root):
        raise Usage(f"something is at {output} already", hint=f"memos tidy {output}, or another -o")
    with ExitStack() as stack:
        seen = [stack.enter_context(frame.reading(desk, cube, "fork")) for cube in (first, second)]
        for each in seen:
            each.facts |= {"dry_run": True} if dry_run else {}
        sides = _side(desk, seen[0]), _side(desk, seen[1])
        work = _work(desk, sides, root, resolve, ask, name=name, description=description, embedder=embedder)
        told = _told(work, str(output), (str(first), str(second)), resolve, dry_run=dry_run)
        for side in sides:
            side.seen.touched += list(side.rows)
        if dry_run:
            return told
        why = reason or f"fused of {_called(seen[0])} and {_called(seen[1])}"
        work.encoder = _open(desk, work, embedder, str(output))

        def fill(memories: Memories) -> None:
            _mark_origin(desk, root, seen)
            _fill(memories, work)

        version = frame.create(desk, root, work.meta, reason=why, fill=fill)
    return replace(told, path=str(root), number=version.number, digest=version.digest)


def _called(seen: Reading) -> str:
    return f"{seen.cube.name} version {seen.version.number} ({seen.version.digest[:19]})"


def _side(desk: Desk, seen: Reading) -> _Side:
    """What of a cube may be taken along, for its owner all of it; never what was forgotten for good."""
    owns = desk.actor.key == seen.said.governance.owner
    narrow = not owns or bool(seen.sight("fork", COPY).condition)
    table = seen.leaving(COPY, verb="fork").narrowed("state != 'forgotten'") if narrow else seen.whole
    level = seen.said.governance.sensitivity
    rows = {row["id"]: row for part in table.batches(columns=_COLUMNS, size=_BATCH) for row in part}
    denial = open_denial(desk, seen.path / PLAINTEXT)
    for row in rows.values():
        row["sensitivity"] = row["sensitivity"] or level
    kept = {identity: row for identity, row in rows.items() if not (denial and denial.refuses(row["text"]))}
    return _Side(seen, table, kept, not narrow, len(rows) - len(kept))


def _work(
    desk: Desk, sides: tuple[_Side, _Side], root: Path, resolve: str, ask: Ask | None, *, name: str | None,
    description: str, embedder: str | None,
) -> _Work:  # fmt: skip
    _drop_denied(desk, sides)
    _rename(*sides)
    first, second = sides
    meta = united(first.seen.said, second.seen.said, owner=desk.actor.key, user=desk.actor.user)
    fresh = metadata.new(
        name or stem(root), governance=meta.governance, description=description, licence=_licence(sides)
    )
    meta = replace(
        fresh, policy=meta.policy, access=meta.access, stamp=meta.stamp, requires=_requires(sides),
        created=meta.created if meta.governance.ttl_days else fresh.created,
        plaintext=replace(fresh.plaintext, embedder=_embedder(desk, sides, embedder)),
    )  # fmt: skip
    base, rows = _base(sides) if first.whole and second.whole else ("", None)
    done = uniting.unite(first.rows, second.rows, base=rows, policy=resolve)
    work = _Work(sides, meta, done, (), base, [])
    work.disputes = _disputes(work, resolve, ask)
    work.along = along.choose([_from(work, side) for side in sides])
    work.notes += [f"not taken along: {one}" for one in work.along.left]
    work.notes += _revectored(work)
    if not all(side.whole for side in sides):
        work.notes.append("of a cube that is not yours only what may be shared with you is taken")
    return work


def _drop_denied(desk: Desk, sides: tuple[_Side, _Side]) -> None:
    """What was forgotten for good from one of the two does not come in by the other."""
    for side, other in (sides, sides[::-1]):
        denial = open_denial(desk, other.seen.path / PLAINTEXT)
        if denial:
            kept = {identity: row for identity, row in side.rows.items() if not denial.refuses(row["text"])}
            side.refused += len(side.rows) - len(kept)
            side.rows = kept


def _rename(first: _Side, second: _Side) -> None:
    """Gives memories of the second cube ids of their own, where the first has other words under theirs."""
    taken = {*first.rows, *second.rows}

    def fresh(row: Mapping[str, Any]) -> str:
        identity = new_id(row["source"], row["content_key"], row["position"], taken=taken)
        taken.add(identity)
        return identity

    names = second.renamed = uniting.renamed(first.rows, second.rows, fresh)
    if names:
        links = ("id", "supersedes", "superseded_by")
        rows = ({**row, **{link: names.get(row[link], row[link]) for link in links}} for row in second.rows.values())
        second.rows = {row["id"]: row for row in rows}


def _licence(sides: tuple[_Side, _Side]) -> str:
    """The licence of both where it is one; else both are named."""
    found = dict.fromkeys(side.seen.cube.licence for side in sides if side.seen.cube.licence)
    return " AND ".join(found)


def _requires(sides: tuple[_Side, _Side]) -> tuple[tuple[str, str], ...]:
    first, second = (dict(side.seen.cube.requires) for side in sides)
    return tuple({**second, **first}.items())


def _embedder(desk: Desk, sides: tuple[_Side, _Side], spec: str | None) -> metadata.EmbedderIdentity | None:
    """The embedder that is asked for, else that of the first cube; none where one has no vectors."""
    if spec is not None:
        return embedding.identity_of(embedding.open_embedder(desk, spec))
    one, other = (side.table.embedder for side in sides)
    return one if one and other else None


def _open(desk: Desk, work: _Work, spec: str | None, output: str) -> Embedder | None:
    """The embedder of the new cube."""
    return embedding.for_cube(desk, work.meta.plaintext.embedder, spec=spec, cube=output)


def _revectored(work: _Work) -> Iterator[str]:
    """Which cubes' vectors are made anew, and which the new cube does not have."""
    mine = work.meta.plaintext.embedder
    for side in work.sides:
        has = side.table.embedder
        if mine and has != mine:
            theirs = f"those of {has.label}" if has else "none"
            yield f"vectors of {side.seen.cube.name} are made anew with {mine.label}: it has {theirs}"
        elif has and not mine:
            yield f"the new cube has no vectors, as not both have; --embedder {embedding.spec_of(has)} makes them"


def _from(work: _Work, side: _Side) -> along.From:
    """What of a cube is the same in the new one: memories that are in force there, with the same words and id."""
    lost = {one.goes for one in work.disputes if one.stays}
    same = {identity for identity, row in _united(work).items() if identity not in lost and settle.is_in_force(row)}
    mine = same & side.rows.keys() - set(side.renamed.values())
    return along.From(side.seen.cube.name, side.seen.path, frozenset(mine), side.whole)


def _united(work: _Work) -> dict[str, Row]:
    """The rows of the new cube, as far as they are known before it is made."""
    done, (first, second) = work.done, work.sides
    rows = {identity: first.rows[identity] for identity in done.first}
    rows |= {identity: second.rows[identity] for identity in done.second}
    return {identity: {**row, **done.columns.get(identity, {})} for identity, row in rows.items()}


def _base(sides: tuple[_Side, _Side]) -> tuple[str, dict[str, Row] | None]:
    """The newest version of the first cube whose memories are those of a version of the second, and these memories."""
    from memos_cli.cube.plaintext import Memories

    held = {_content(version): version for version in vault.versions(sides[1].seen.root)}
    for version in vault.versions(sides[0].seen.root):
        content = _content(version)
        same = held.get(content)
        if same is None or not content:
            continue
        try:
            with vault.snapshot(sides[0].seen.root, version.number) as snapshot:
                rows = Memories.open(snapshot.path / PLAINTEXT).rows(columns=_COLUMNS).to_pylist()
        except MemosError:
            continue
        for row in rows:
            row["sensitivity"] = row["sensitivity"] or sides[0].level
        names = [side.seen.cube.name for side in sides]
        told = f"{names[0]} version {version.number} is {names[1]} version {same.number}"
        return told, {row["id"]: row for row in rows}
    return "", None


def _content(version: vault.Version) -> frozenset[tuple[str, str]]:
    """What tells whether two versions hold the same memories."""
    table = f"{PLAINTEXT}/memories.lance/"
    here = frozenset((each.path, each.sha256) for each in version.manifest.files if each.path.startswith(table))
    if here:
        return here
    with suppress(MemosError):
        if pin := metadata.load(version.path).plaintext.table:
            return frozenset({(pin.url, f"{pin.version} {pin.manifest}")})
    return frozenset()


def _disputes(work: _Work, resolve: str, ask: Ask | None) -> list[Dispute]:
    """What cannot both hold of the two cubes, and what both gave other words, as it is decided."""
    done, (first, second) = work.done, work.sides
    rows = _united(work)
    live = [row for row in rows.values() if row["valid_to"] is None and row["state"] in _live_states()]
    found = resolving.disputes(live).disputes
    told = [*done.reworded, *uniting.between(found, done, first.rows, second.rows)]
    told = [one for one in told if all(identity in rows for identity in one.ids)]
    chosen = {}
    if ask and resolve == ASK:
        chosen = {frozenset(one.ids): ask(opposed(one, rows, None)) for one in told if len(one.fast) < 2}  # noqa: PLR2004
    doubted = {identity for side in work.sides if _is_doubted(side.seen) for identity in side.rows}
    judged = {
        identity: {**row, "origin": "external_retrieval"}
        if identity in doubted and row["origin"] == "user_input"
        else row
        for identity, row in rows.items()
    }
    return uniting.one_wording(resolving.decide(told, judged, policy=resolve, chosen=chosen))


def _is_doubted(seen: Reading) -> bool:
    """Whether what a user said in this cube is somebody's whom nobody here vouched for."""
    return seen.origin is not None and not seen.origin.trusted


def _live_states() -> Sequence[str]:
    from memos_cli.cube.plaintext import RECALLED

    return RECALLED


def _fill(memories: Memories, work: _Work) -> None:
    """The rows of the new cube, and what lies beside them; in its staging folder."""
    done, kept = work.done, {*work.done.first, *work.done.second}
    for side, ids in zip(work.sides, (done.first, done.second), strict=True):
        _take(memories, side, frozenset(ids), kept, work)
    resolving.settle(memories, work.disputes, now=frame.now())
    # neighbours may be of the other cube now, or gone, or under another label
    rewindow(memories, memories.uris(), embedder=work.encoder)
    _beside(memories, work, kept)
    tree = memories.directory.parent
    along.put(tree, work.along)
    settle.settle(tree, memories, label=work.meta.governance.sensitivity)


def _take(memories: Memories, side: _Side, ids: frozenset[str], kept: set[str], work: _Work) -> None:
    from memos_cli.cube.plaintext import with_columns
    from memos_cli.operation.embedded import embed_table
    from memos_cli.operation.redact import unlinked

    columns, level = work.done.columns, work.meta.governance.sensitivity
    for part in side.table.parts(_BATCH):
        if side.renamed:
            links = ("id", "supersedes", "superseded_by")
            part = with_columns(part, **{link: _renamed(part[link].to_pylist(), side.renamed) for link in links})
        part = part.filter([identity in ids for identity in part["id"].to_pylist()])
        if not part.num_rows:
            continue
        if side.level != level:
            part = with_columns(part, sensitivity=[own or side.level for own in part["sensitivity"].to_pylist()])
        part = unlinked(part, kept)
        if work.encoder and side.table.embedder != memories.embedder:
            part = part.drop_columns([name for name in ("vector", "near_vector") if name in part.column_names])
            part = embed_table(part, embedder=work.encoder, identity=memories.embedder)
        memories.append(part.select(memories.schema.names).cast(memories.schema))
    for identity in ids & columns.keys():
        changed = dict(columns[identity])
        for link in ("supersedes", "superseded_by"):
            if changed.get(link) and changed[link] not in kept:
                changed |= {link: ""} | ({"superseded_as": ""} if link == "superseded_by" else {})
        memories.change([identity], **changed)


def _renamed(ids: Sequence[str], names: Mapping[str, str]) -> list[str]:
    return [names.get(identity, identity) for identity in ids]


def _beside(memories: Memories, work: _Work, kept: set[str]) -> None:
    """Sources, answers and what models were asked, of memories that are there; and what stays out for good."""
    uris = memories.uris()
    folders = [side.seen.path / PLAINTEXT for side in work.sides[::-1]]
    known = {uri: state for folder in folders for uri, state in catalogue.read(folder).items() if uri in uris}
    # a source may read otherwise than either cube knew it: the next ingest looks at all of them
    fresh = {
        uri: replace(state, digest="", memories=memories.count(f"source = {quote(uri)} and valid_to is null"))
        for uri, state in known.items()
    }
    vault.write_bytes(memories.directory / catalogue.FILE, catalogue.encode(fresh))
    told = {uri: each for folder in folders for uri, each in exchanges.read(folder).items() if uri in uris}
    if told:
        mine = [replace(one, cited=tuple(each for each in one.cited if each in kept)) for one in told.values()]
        vault.write_bytes(memories.directory / exchanges.FILE, exchanges.encode(mine))
    asked = {key: one for folder in folders for key, one in extracted.read(folder).items() if one.source in uris}
    if asked:
        vault.write_bytes(memories.directory / extracted.FILE, extracted.encode(asked))
    _link(memories, work, kept)
    out = list(dict.fromkeys(entry for folder in folders for entry in denied.read(folder)))
    if out:
        vault.write_bytes(memories.directory / denied.FILE, denied.encode(out))


def _link(memories: Memories, work: _Work, kept: set[str]) -> None:
    """The links of both cubes between what is there, and what of their conflicts nobody, or somebody, decided."""
    directory = memories.directory
    first, second = work.sides
    stay = kept - {one.goes for one in work.disputes if one.stays}
    told = {
        **linking.between(links.read(second.seen.path / PLAINTEXT), second.renamed, stay),
        **linking.between(links.read(first.seen.path / PLAINTEXT), {}, stay),
    }
    for pair in work.disputes:
        one, other = sorted(pair.ids)
        if not pair.stays and {one, other} <= stay:
            maker = links.PERSON if pair.kept else links.TIDY
            fresh = links.Link(one, other, links.CONTRADICTS, "both stay" if pair.kept else "", 1.0, maker, frame.now())
            told.setdefault(fresh.key, fresh)
    linking.write(directory, told.values())
    mentioning.link(memories, directory, now=frame.now())


def _mark_origin(desk: Desk, root: Path, seen: Sequence[Reading]) -> None:
    """The new cube is no more to be believed than the less trusted of the two."""
    came = [each.origin for each in seen if each.origin is not None]
    if came:
        origin.write(root, replace(min(came, key=lambda one: one.trusted), holder=desk.actor.key))


def _told(work: _Work, output: str, names: tuple[str, str], resolve: str, *, dry_run: bool) -> FusedCubes:
    done, (first, second) = work.done, work.sides
    rows: dict[str, Row] = {**second.rows, **first.rows}
    rules = work.meta.governance
    return FusedCubes(
        cube=output, path="", id=work.meta.id, number=0, digest="", dry_run=dry_run, sources=names, base=work.base,
        memories=len(done.first) + len(done.second), first=len(first.rows.keys() - second.rows.keys() - set(done.gone)),
        second=len(second.rows.keys() - first.rows.keys() - set(done.gone)), both=done.both, gone=tuple(done.gone),
        refused=first.refused + second.refused, resolve=resolve,
        conflicts=tuple(opposed(one, rows, None) for one in work.disputes),
        marks=tuple(
            Marked(one.id, one.column, str(one.taken), str(one.other), one.why) for one in done.clashes
        ),
        sensitivity=rules.sensitivity, share_scope=rules.share_scope, caches=len(work.along.caches),
        adapters=tuple(path.name for path in work.along.adapters), probes=len(work.along.probes),
        notes=tuple(work.notes),
    )  # fmt: skip
