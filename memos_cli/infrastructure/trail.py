"""The audit trail: who read, changed, exported or was refused, a line each, every line chained to the one before.

A line is a JSON object ending in `,"hash":"<64 hex>"}`. The hash is the sha256 of the line's bytes before that
ending; `prev` is the hash of the line before (64 zeros on the first), `seq` counts from 0. So an edited, removed or
inserted line is found by `verify`. Lines cut off at the end are not: only a checkpoint kept elsewhere tells
(`checkpoint.py`). Queries stand as keyed hashes; the key is the reader's own and never leaves their home.

A file that has grown large is put aside under a number, `access.00000001.jsonl`, and the chain goes on in a new one.
Appending reads the tail of the file only. Knows nothing of why something was allowed or refused.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from memos_cli.errors import Damaged, Locked, MemosError
from memos_cli.infrastructure import faults
from memos_cli.infrastructure.disk import is_writable
from memos_cli.infrastructure.keyring import secret

LOG = "log"
FILE = "access.jsonl"
KEY_FILE = "trail.key"
FIRST_PREV = "0" * 64
IDS_LIMIT = 100
LINE_LIMIT_BYTES = 32 << 10
LOCK_TIMEOUT_SECONDS = 5.0
# A file that is as large as this is put aside before the next line.
ROTATE_BYTES = 16 << 20
# What a line says was done: memory was read, put into a model's context, changed, taken out of the cube, or refused.
READ, INJECTION, CHANGE, EXPORT, DENIAL = KINDS = ("read", "injection", "change", "export", "denial")

_WINDOW_BYTES = 4 << 10
_ENDING = re.compile(rb',"hash":"([0-9a-f]{64})"\}')
ENDING_BYTES = 75
_SEGMENT = re.compile(r"\d{8}")
_CUBE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")
_READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


# Named tuples here, since the trail is in the path of every query and a dataclass takes a millisecond to define.
class Problem(NamedTuple):
    """Something wrong with a trail: the line (from 1), a code (torn, unreadable, edited, chain, order), in words."""

    line: int
    code: str
    message: str


class Tail(NamedTuple):
    """The end of a trail: where whole lines end, the next number, the hash to chain to, what had to be healed."""

    end: int
    seq: int
    prev: str
    healed: dict[str, Any] | None


def path_of(root: Path) -> Path:
    """The trail of the cube at `root`, whether or not there is one yet."""
    return root / LOG / FILE


def home_path(home: Path, cube_id: str) -> Path:
    """Where reads of a cube that cannot be written are logged."""
    name = cube_id if _CUBE_ID.fullmatch(cube_id) else hashlib.sha256(cube_id.encode("utf-8", "replace")).hexdigest()
    return home / LOG / f"{name}.jsonl"


def append(
    root: Path,
    *,
    home: Path,
    cube_id: str,
    actor: Mapping[str, str],
    verb: str,
    version: int,
    kind: str = READ,
    memories: Sequence[str] = (),
    outcome: str = "ok",
    query: str | None = None,
    facts: Mapping[str, Any] | None = None,
    durable: bool = False,
) -> Path:
    """Write one line, and say into which file: the cube's own, or one in `home` when the cube cannot be written.

    `durable` syncs it (for denials and exports). When the disk is full a line that need not be durable is lost
    and a durable one raises MemosError. Raises Locked when another process holds the file for seconds.
    """
    said = event(
        actor=actor, verb=verb, version=version, kind=kind, memories=memories, outcome=outcome, facts=facts,
        query=None if query is None else hash_query(query, home=home),
    )  # fmt: skip
    places = [path_of(root), home_path(home, cube_id)] if is_writable(root) else [home_path(home, cube_id)]
    return write(places, said, durable=durable)


def event(
    *, actor: Mapping[str, str], verb: str, version: int, kind: str, memories: Sequence[str] = (), outcome: str,
    query: str | None = None, facts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """What a line says, as of now; `query` is hashed already."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "actor": dict(actor),
        "verb": verb,
        "kind": kind,
        "version": version,
        "memories": list(memories[:IDS_LIMIT]),
        "count": len(memories),
        "outcome": outcome,
        "query": query,
        "facts": dict(facts or {}),
    }


def write(places: Sequence[Path], event: Mapping[str, Any], *, durable: bool = False) -> Path:
    """Appends an event to the first of these files that can be written, and says to which; otherwise as `append`."""
    for place in places:
        try:
            _append_line(place, event, durable=durable)
            return place
        except OSError as error:
            if error.errno in _READ_ONLY and place is not places[-1]:
                continue
            if error.errno in _FULL and not durable:
                return place
            raise MemosError(
                f"the access log {place} cannot be written: {error.strerror or error}",
                hint="free some space, or set MEMOS_HOME to a folder you can write",
            ) from error
    raise AssertionError("there is always a place")


def _append_line(path: Path, event: Mapping[str, Any], *, durable: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    while not _append_here(path, event, durable=durable):
        pass


def _append_here(path: Path, event: Mapping[str, Any], *, durable: bool) -> bool:
    """Write the line; False, and it is to be tried again, when the file was put aside, by us or by another process."""
    fresh = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        _lock(descriptor, path)
        if not _is_still(path, descriptor):
            return False
        tail = read_tail(descriptor, path)
        if tail.healed and tail.healed["reason"] == "torn":
            os.ftruncate(descriptor, tail.end)
        elif tail.end >= ROTATE_BYTES:
            _put_aside(path)
            return False
        _write_whole(descriptor, encode(event, tail), end=tail.end)
        faults.point("trail_written")
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if durable and fresh:
        _sync_folder(path.parent)
    return True


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _put_aside(path: Path) -> None:
    """Give the file its number; its lock is held, so nobody writes into it any more."""
    number = max((int(old.name.split(".")[-2]) for old in segments(path)), default=0) + 1
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(path, path.with_name(f"{path.stem}.{number:08d}{path.suffix}"))
    faults.point("trail_rotated")
    _sync_folder(path.parent)


def segments(path: Path) -> list[Path]:
    """The files of this trail that were put aside, oldest first."""
    try:
        names = sorted(os.listdir(path.parent))
    except (FileNotFoundError, NotADirectoryError):
        return []
    parts = [(name, name.rsplit(".", 2)) for name in names]
    return [
        path.with_name(name)
        for name, part in parts
        if len(part) == 3 and (part[0], f".{part[2]}") == (path.stem, path.suffix) and _SEGMENT.fullmatch(part[1])
    ]


def files(path: Path) -> list[Path]:
    """All files of this trail, oldest first, whether or not they were put aside."""
    return [*segments(path), *([path] if os.path.lexists(path) else [])]


def _lock(descriptor: int, path: Path) -> None:
    deadline = time.monotonic() + LOCK_TIMEOUT_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise Locked(f"another process holds the access log {path}", hint="try again") from error
            time.sleep(0.001)


def _write_whole(descriptor: int, line: bytes, *, end: int) -> None:
    """Append `line`, or nothing: what got in before an error is taken back."""
    half = len(line) // 2
    try:
        for part in (line[:half], line[half:]):
            view = memoryview(part)
            while view:
                view = view[os.write(descriptor, view) :]
            faults.point("trail_half")
    except BaseException:
        os.ftruncate(descriptor, end)
        raise


def encode(event: Mapping[str, Any], tail: Tail) -> bytes:
    """The line of an event, newline included; facts that would make it too long are left out and say so."""
    value = {**event, "seq": tail.seq, "prev": tail.prev}
    if tail.healed:
        value["healed"] = tail.healed
    body = _dump(value)
    if len(body) > LINE_LIMIT_BYTES:
        body = _dump({**value, "facts": {"left_out_bytes": len(body)}})
    head = body[:-1]
    return head + f',"hash":"{hashlib.sha256(head).hexdigest()}"}}\n'.encode()


def _dump(value: Mapping[str, Any]) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    # A text from the command line may hold bytes that are no UTF-8, which Python keeps as lone surrogates.
    return text.encode("utf-8", "replace")


def head(path: Path) -> tuple[int, str]:
    """How many lines a trail has, and the hash of the last one (64 zeros when there is none); takes no lock."""
    for place in reversed(files(path)):
        descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            tail = read_tail(descriptor, place)
        finally:
            os.close(descriptor)
        if tail.end:
            return tail.seq, tail.prev
    return 0, FIRST_PREV


def read_tail(descriptor: int, path: Path) -> Tail:
    """What the next line needs to know, from the last bytes of the file; of an empty one, from the file before it."""
    size = os.fstat(descriptor).st_size
    window = _WINDOW_BYTES
    while True:
        start = max(0, size - window)
        data = os.pread(descriptor, size - start, start)
        end = data.rfind(b"\n") + 1
        before = data.rfind(b"\n", 0, max(0, end - 1)) + 1
        if start == 0 or (end and before):
            break
        window *= 4
    torn = len(data) - end
    healed = {"reason": "torn", "bytes": torn} if torn else None
    if end == 0:
        seq, prev = _before(path)
        return Tail(end=0, seq=seq, prev=prev, healed=healed)
    return _tail_after(descriptor, path, data[before : end - 1], end=start + end, healed=healed)


def _before(path: Path) -> tuple[int, str]:
    """The next number and the hash to chain to at the start of a file: those after the file that came before it."""
    whole = _trail_of(path)
    older = [place for place in segments(whole) if path == whole or place.name < path.name]
    if not older:
        return 0, FIRST_PREV
    descriptor = os.open(older[-1], os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        tail = read_tail(descriptor, older[-1])
    finally:
        os.close(descriptor)
    return tail.seq, tail.prev


def _trail_of(path: Path) -> Path:
    """The trail that a file belongs to, which is the file itself unless it was put aside."""
    stem, _, number = path.stem.rpartition(".")
    return path.with_name(f"{stem}{path.suffix}") if stem and _SEGMENT.fullmatch(number) else path


def _tail_after(descriptor: int, path: Path, line: bytes, *, end: int, healed: dict[str, Any] | None) -> Tail:
    try:
        value, digest = decode(line)
        return Tail(end=end, seq=int(value["seq"]) + 1, prev=digest, healed=healed)
    except (Damaged, KeyError, TypeError, ValueError):
        # The chain goes on over a line that cannot be read, bound to its bytes; verify will name that line.
        return Tail(
            end=end,
            seq=_before(path)[0] + _count_lines(descriptor),
            prev=hashlib.sha256(line).hexdigest(),
            healed=healed or {"reason": "unreadable", "bytes": len(line)},
        )


def _count_lines(descriptor: int) -> int:
    count = offset = 0
    while block := os.pread(descriptor, 1 << 20, offset):
        count += block.count(b"\n")
        offset += len(block)
    return count


def decode(line: bytes) -> tuple[dict[str, Any], str]:
    """A line (without its newline) as (fields, hash it states); raises Damaged when it is no line of a trail."""
    ending = _ENDING.fullmatch(line[-ENDING_BYTES:])
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Damaged("expected a JSON object on each line of the access log, found something else") from error
    if ending is None or not isinstance(value, dict):
        raise Damaged("expected a JSON object that ends in its hash on each line of the access log")
    return value, ending[1].decode()


def entries(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a trail, oldest first, as dicts; what cannot be read is left out (`verify` names it)."""
    for _, line, _ in _lines(path):
        try:
            yield decode(line.removesuffix(b"\n"))[0]
        except Damaged:
            continue


def hashes(path: Path) -> Iterator[str]:
    """The hash of each whole line, oldest first, as its bytes have it, whatever it says of itself."""
    for _, line, _ in _lines(path):
        if line.endswith(b"\n"):
            yield hash_of(line[:-1])


def hash_of(line: bytes) -> str:
    """The hash that the line after this one is chained to, worked out from its bytes (without its line break)."""
    try:
        decode(line)
        return hashlib.sha256(line[:-ENDING_BYTES]).hexdigest()
    except Damaged:
        return hashlib.sha256(line).hexdigest()


def verify(path: Path) -> Iterator[Problem]:
    """Walk the whole chain, through all its files, and yield what is wrong; nothing when it is sound or absent."""
    prev, seq = FIRST_PREV, 0
    for number, line, last in _lines(path):
        if not line.endswith(b"\n") and last:
            yield Problem(number, "torn", f"line {number} is cut off after {len(line)} bytes")
            return
        body = line.removesuffix(b"\n")
        try:
            value, digest = decode(body)
        except Damaged as error:
            yield Problem(number, "unreadable", f"line {number}: {error.message}")
            prev, seq = hashlib.sha256(body).hexdigest(), seq + 1
            continue
        yield from _check_line(number, body, value, prev=prev, seq=seq)
        prev, seq = digest, (value["seq"] if isinstance(value.get("seq"), int) else seq) + 1


def _check_line(number: int, body: bytes, value: dict[str, Any], *, prev: str, seq: int) -> Iterator[Problem]:
    stated = value.get("hash")
    if hashlib.sha256(body[:-ENDING_BYTES]).hexdigest() != stated:
        yield Problem(number, "edited", f"line {number} was changed: its hash does not fit its content")
    if value.get("prev") != prev:
        yield Problem(number, "chain", f"line {number} does not follow the line before it")
    if value.get("seq") != seq:
        yield Problem(number, "order", f"line {number} is number {value.get('seq')!r}, expected {seq}")


def _lines(path: Path) -> Iterator[tuple[int, bytes, bool]]:
    """Each line with its number from 1, through all files, and whether it stands in the last of them."""
    number = 0
    places = files(path)
    for place in places:
        try:
            with open(place, "rb") as stream:
                for line in stream:
                    number += 1
                    yield number, line, place == places[-1]
        except FileNotFoundError:
            continue


def hash_query(query: str, *, home: Path) -> str:
    """The keyed hash that stands for a query: the same query of the same home gives the same one."""
    # Imported here: most lines have no query.
    import hmac

    found = hmac.digest(secret(home, KEY_FILE), query.encode("utf-8", "surrogatepass"), "sha256").hex()
    return f"hmac-sha256:{found}"


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
