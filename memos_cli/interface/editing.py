"""The verb `edit` of the Memory API: other words or other marks for memories, and leave to recall what a model wrote.

Labels rise by an edit and fall by a signed declassification alone; scopes and holds are for those who govern the cube.
What closes a memory closes its earlier wordings with it. What is frozen or held keeps its words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from memos_cli.cube import activation, filters, metadata
from memos_cli.cube.scopes import rank, within
from memos_cli.errors import NotAllowed, NotFound, Usage
from memos_cli.infrastructure import declassified
from memos_cli.interface import archiving, embedding, frame, seeing
from memos_cli.interface.changes import earlier_wordings, live_memory
from memos_cli.interface.denying import open_denial
from memos_cli.interface.frame import PLAINTEXT, Changing, Desk, Reading
from memos_cli.interface.results import Changed
from memos_cli.operation import lifecycle, mentioning, truth
from memos_cli.operation.context import WALLS
from memos_cli.operation.marking import Marks
from memos_cli.operation.naming import new_id
from memos_cli.operation.rewindow import rewindow

_SCOPES = ("read_scope", "write_scope", "share_scope")
# What an activation file says of itself too, so that one of another label or life is not left beside the memory.
_IN_FILES = frozenset({"sensitivity", "expires_at"})
_READ = (
    "id", "text", "source", "state", "supersedes", "superseded_by", "superseded_as", "expires_at", "legal_hold",
    "valid_from", "owner", "sensitivity", *truth.COLUMNS, *_SCOPES,
)  # fmt: skip


def edit(
    cube: str | Path,
    memory: str | Sequence[str] = (),
    *,
    where: str | None = None,
    text: str | None = None,
    marks: Marks | None = None,
    accept: bool = False,
    freeze: bool | None = None,
    archive: bool | None = None,
    declassify: bool = False,
    dry_run: bool = False,
    reason: str = "",
    lock_timeout: float = 10.0,
    home: Path | None = None,
    notify: frame.Notify | None = None,
) -> Changed:
    """Changes memories, named or those that `where` says. New words make a new memory that supersedes the old one; new
    marks change it in place.

    With `accept` what a model wrote is recalled from now on; words of your own need no acceptance. `freeze` keeps a
    memory as it is, or (False) lets go of it. `archive` sets it aside, so that only a past time recalls it, or
    (False) takes it back. A lower label needs `declassify` and a reason, and is signed. Several memories make one
    version. Raises NotFound when there is no such live memory, NotAllowed for what is not yours to
    change, frozen or held, Usage when nothing is asked, the text is empty or meant for several, what is to be accepted
    does not wait for it, or what is to come back was not archived or has an heir that is recalled.
    """
    desk = frame.desk(home, notify)
    columns = (marks or Marks()).columns(frame.now())
    named = [memory] if isinstance(memory, str) else list(dict.fromkeys(memory))
    state = [one for one in (accept or None, freeze, archive) if one is not None]
    _check_words(cube, named, where, text, bool(columns or state))
    if len(state) + (archive is not None and text is not None) > 1:
        raise Usage("a memory comes into one state at a time: one of --accept, --freeze, --thaw, --archive, --restore")
    if "sensitivity" in columns:
        metadata.check_sensitivity(columns["sensitivity"])
    if declassify:
        _check_declassify(columns, reason, other=text is not None or bool(state))
    verb = "declassify" if declassify else "edit"
    with frame.trying(desk, cube, verb, dry_run=dry_run, reason=reason, lock_timeout=lock_timeout) as seen:
        rows = _rows(seen, named, where, back=archive is False, cube=str(cube))
        ids = tuple(row["id"] for row in rows)
        seen.touched += ids
        seen.check(rows)
        for row in rows:
            truth.check(row, columns)
        if freeze is not None or not seeing.governed(seen.rules).isdisjoint(columns):
            seen.ask("govern")
        columns |= _moved(rows, accept=accept, freeze=freeze, columns=columns, text=text)
        if archive is not None:
            aside = archiving.set_aside(rows) if archive else archiving.taken_back(seen, rows, columns, cube=str(cube))
            columns |= aside
        was = _lowered(seen, rows, columns, declassify=declassify, cube=str(cube))
        if dry_run:
            return Changed(str(cube), verb, seen.version.number, True, ids, "nothing was changed")
        assert isinstance(seen, Changing)
        _close_earlier(seen, ids, columns)
        if text is None or text == rows[0]["text"]:
            _mark(desk, seen, rows, columns, cube=str(cube))
        else:
            ids = _reword(desk, seen, rows[0], text, columns)
        _link(seen, rows, ids, columns)
        done = _done(accept, declassify, archive)
        number = seen.commit({done: len(ids)} | _signed(desk, seen, was, columns, reason)).number
        return Changed(str(cube), verb, number, False, ids)


def _check_words(cube: str | Path, named: Sequence[str], where: str | None, text: str | None, something: bool) -> None:
    """Raises Usage for words that do not say what to change, or how."""
    first = named[0] if named else "ID"
    if text is not None and not text.strip():
        raise Usage("a memory cannot be empty", hint=f"memos forget {cube} --ids {first}")
    if text is not None and len(named) > 1:
        raise Usage(f"new words are for one memory, found {len(named)} ids")
    if bool(named) == bool(where and where.strip()):
        raise Usage("say which memories: either ids or --where", hint=f"memos edit {cube} ID --type fact")
    if text is not None and not named:
        raise Usage("new words are for one memory: name its id")
    if text is None and not something:
        raise Usage("nothing to change: give new text or a mark", hint=f"memos edit {cube} {first} --text 'new words'")


def _check_declassify(columns: Mapping[str, Any], reason: str, *, other: bool) -> None:
    if set(columns) != {"sensitivity"} or other:
        raise Usage("--declassify goes with --sensitivity LEVEL alone: one thing is signed at a time")
    if not reason.strip():
        raise Usage("--declassify needs a reason, which is signed with it", hint="--reason 'published on our site'")


def _rows(seen: Reading, named: Sequence[str], where: str | None, *, back: bool, cube: str) -> list[dict[str, Any]]:
    """The memories that are meant: those that stand, or those that may come `back`."""
    if named:
        found = (live_memory(seen, each, cube=cube, superseded=back) for each in named)
        return list({row["id"]: row for row in found}.values())
    standing = "state = 'archived'" if back else "state != 'forgotten' and valid_to is null"
    condition = f"{standing} and ({filters.to_sql(filters.parse(where or ''))})"
    rows: list[dict[str, Any]] = seen.memories.rows(condition, columns=_READ).to_pylist()
    if not rows:
        raise NotFound("no memory matches the filter", hint=f"memos list {cube} --where 'field=value'")
    return rows


def _moved(
    rows: Sequence[Mapping[str, Any]],
    *,
    accept: bool,
    freeze: bool | None,
    columns: Mapping[str, Any],
    text: str | None,
) -> dict[str, Any]:
    """Columns that follow from a new state. Raises NotAllowed where a memory keeps what is to be changed, Usage."""
    names = {*columns, *(["text"] if text is not None else [])}
    for row in rows:
        thawed = row["state"] == lifecycle.FROZEN and freeze is False
        let_go = columns.get("legal_hold") is False
        lifecycle.check_change(
            {
                **row,
                "state": lifecycle.ACTIVATED if thawed else row["state"],
                "legal_hold": not let_go and row["legal_hold"],
            },
            names,
        )
    if accept:
        return _acceptance(rows)
    if freeze is None:
        return _revived(rows, columns)
    to = lifecycle.FROZEN if freeze else lifecycle.ACTIVATED
    for row in rows:
        if freeze is False and row["state"] != lifecycle.FROZEN:
            raise Usage(f"memory {row['id']} is {row['state']}, not frozen")
        if row["state"] != to:
            lifecycle.move(row["state"], to)
    return {"state": to, **({"expires_at": None} if freeze else {})}


def _revived(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, Any]) -> dict[str, Any]:
    """What has outlived its time is recalled again when it is given another end."""
    if "expires_at" in columns and any(row["state"] == lifecycle.EXPIRED for row in rows):
        for row in rows:
            if row["state"] not in (lifecycle.EXPIRED, lifecycle.ACTIVATED):
                raise Usage(f"memory {row['id']} is {row['state']}: give those that are expired an end by themselves")
        return {"state": lifecycle.ACTIVATED}
    return {}


def _acceptance(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The columns that make generated memories recalled: they are valid from now on, not from when they were written.

    Raises Usage when one of them does not wait to be accepted.
    """
    other = next((row for row in rows if row["state"] != lifecycle.GENERATED), None)
    if other:
        raise Usage(f"memory {other['id']} is {other['state']}: only what a model wrote waits to be accepted")
    return {"state": lifecycle.move(lifecycle.GENERATED, lifecycle.ACTIVATED), "valid_from": frame.now()}


def _lowered(
    seen: Reading, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, Any], *, declassify: bool, cube: str
) -> dict[str, str]:
    """The labels, by id, that these columns lower. Raises NotAllowed when that was not asked for, Usage for none."""
    if "sensitivity" not in columns:
        return {}
    level, to = seen.rules.governance.sensitivity, columns["sensitivity"]
    was = {row["id"]: row["sensitivity"] or level for row in rows}
    lower = {identity: label for identity, label in was.items() if rank(label) > rank(to)}
    if lower and not declassify:
        identity, label = next(iter(lower.items()))
        raise NotAllowed(
            f"memory {identity} is {label}, and a lower label is a declassification, which is signed",
            hint=f"memos edit {cube} {identity} --sensitivity {to} --declassify --reason WHY",
        )
    if declassify and len(lower) < len(was):
        raise Usage(
            f"there is nothing to declassify about {next(i for i in was if i not in lower)}: it is not above {to}"
        )
    return lower


def _signed(
    desk: Desk, seen: Changing, was: Mapping[str, str], columns: Mapping[str, Any], reason: str
) -> dict[str, Any]:
    """Puts a signed line of what was declassified into the draft; the same for the summary."""
    return (
        sign(desk, seen, ids=sorted(was), was=list(was.values()), to=columns["sensitivity"], reason=reason)
        if was
        else {}
    )


def sign(desk: Desk, seen: Changing, *, ids: Sequence[str], was: Iterable[str], to: str, reason: str) -> dict[str, Any]:
    """Puts a signed line of a declassification into the draft, of the cube when there are no ids."""
    labels = list(was)
    record = {
        "cube": seen.rules.id, "memories": list(ids), "was": {label: labels.count(label) for label in set(labels)},
        "to": to, "reason": reason, "actor": desk.actor.as_dict(), "time": frame.now_text(),
        "parent": seen.version.digest,
    }  # fmt: skip
    declassified.append(seen.path, record, home=desk.home)
    return {"to": to}


def _done(accept: bool, declassify: bool, archive: bool | None) -> str:
    if archive is not None:
        return "archived" if archive else "restored"
    return "accepted" if accept else "declassified" if declassify else "edited"


def _mark(
    desk: Desk, change: Changing, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, Any], *, cube: str
) -> None:
    ids = [row["id"] for row in rows]
    change.memories.change(ids, **columns, updated_at=frame.now())
    if not _IN_FILES.isdisjoint(columns):
        _drop_files(desk, change, ids)
    if not columns.keys().isdisjoint({*WALLS, "valid_to"}):
        archiving.rewindow_sources(desk, change, [row["source"] for row in rows], cube=cube)


def _link(change: Changing, rows: Sequence[Mapping[str, Any]], ids: Sequence[str], columns: Mapping[str, Any]) -> None:
    """Links what has other words now, is recalled from now on, or no more."""
    from memos_cli.cube.plaintext import RECALLED

    before = {row["id"]: row["state"] for row in rows}
    moved = {state for state in before.values() if (state in RECALLED) != (columns.get("state", state) in RECALLED)}
    if moved or tuple(before) != tuple(ids):
        mentioning.link(change.whole, change.path / PLAINTEXT, now=frame.now(), uris=(), ids={*before, *ids})


def _drop_files(desk: Desk, change: Changing, ids: Sequence[str]) -> None:
    """Removes activation files that say another label or end than their memory has now."""
    wanted = set(ids)
    files = [
        path for path in activation.find(change.path / activation.FOLDER) if activation.memory_of(path) in wanted
    ]  # fmt: skip
    for path in files:
        path.unlink()
    if files:
        desk.notify(f"{len(files)} activation files were of another label or life; memos convert makes them anew")


def _close_earlier(change: Changing, ids: Sequence[str], columns: Mapping[str, Any]) -> None:
    """Gives earlier wordings what is stricter than they have: closing a memory is no use while they are open."""
    given = {name: columns[name] for name in (*_SCOPES, "sensitivity") if name in columns}
    if not given:
        return
    level = change.rules.governance.sensitivity
    names = ["id", *given]
    for row in change.whole.take(earlier_wordings(change, ids), columns=names).to_pylist():
        if stricter := {name: value for name, value in given.items() if _is_stricter(name, value, row[name], level)}:
            change.whole.change([row["id"]], **stricter)


def _is_stricter(name: str, value: str, was: str, level: str) -> bool:
    if name == "sensitivity":
        return rank(value) > rank(was or level)
    return bool(value) and value != was and (not was or within(value, was))


def _reword(desk: Desk, change: Changing, row: dict[str, Any], text: str, columns: dict[str, Any]) -> tuple[str, ...]:
    """A new row in the old one's place; search windows of both sides follow the new words."""
    from memos_cli.cube.plaintext import table_of

    now, memories = frame.now(), change.whole
    if open_denial(desk, change.path / PLAINTEXT).refuses(text):
        raise NotAllowed(
            "these words were forgotten for good", hint=f"memos forget {change.root} --allow-again --subject WORDS"
        )
    encoder = embedding.for_cube(desk, memories.embedder, spec=None, cube=change.cube.name)
    if encoder and not encoder.fits(text):
        raise Usage(f"a memory holds at most {encoder.identity['window']} tokens, found {encoder.count_tokens(text)}")
    taken = set(memories.of_source(row["source"], columns=["id", "position"])["id"].to_pylist())
    state = lifecycle.ACTIVATED if row["state"] == lifecycle.GENERATED else row["state"]
    fresh = {
        **row, **dict.fromkeys(truth.COLUMNS), **truth.said(text), "state": state, **columns, "text": text,
        "words": len(text.split()), "id": new_id(row["source"], row["content_key"], row["position"], taken=taken),
        "supersedes": row["id"], "valid_from": now, "created_at": now, "updated_at": now, "origin": "user_input",
    }  # fmt: skip
    if encoder:
        fresh["vector"] = fresh["near_vector"] = encoder.embed([text])[0]
    level = change.rules.governance.sensitivity
    closed = {
        name: columns[name] for name in (*_SCOPES, "sensitivity")
        if name in columns and _is_stricter(name, columns[name], row[name], level)
    }  # fmt: skip
    ended = lifecycle.ended(columns.get("state", row["state"]))
    memories.change(
        [row["id"]], state=ended, valid_to=now, updated_at=now, superseded_by=fresh["id"], **closed
    )  # fmt: skip
    memories.append(table_of([fresh], embedder=memories.embedder))
    rewindow(memories, [row["source"]], embedder=encoder)
    change.touched.append(fresh["id"])
    return (fresh["id"],)
