"""Clients: who reaches a home's memory through a running process, acting for its owner within bounds.

They stand in `$MEMOS_HOME/clients.toml`, mode 0600, each with the sha256 of its key. The key itself, 32 random bytes
behind `memos_`, is shown once, when it is made, and kept nowhere. What a client may do is what its bounds name and its
owner may: nothing by default but to read, of no cube but those that are named. Knows nothing of HTTP and MCP.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from memos_cli.cube.scopes import KINDS, SENSITIVITIES
from memos_cli.cube.toml import read_toml
from memos_cli.errors import Damaged, MemosError, NotAllowed, NotFound, Usage
from memos_cli.infrastructure.governance import GOVERN, READ, VERBS

FILE = "clients.toml"
PREFIX, KEY_BYTES = "memos_", 32
# The client that is a process of the owner's own, started by them and spoken to through its pipes: it has no key.
LOCAL = "local"
EVERY = "*"
MOST_CLIENTS, MOST_CUBES = 256, 256
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_CUBE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}|\*")
_HEX = re.compile(r"[0-9a-f]{64}")
_FIELDS = frozenset({"sha256", "made", "may", "cubes", "at_most", "expires"})


@dataclass(frozen=True, slots=True)
class Client:
    """One client: `may` are verbs or kinds of verbs, `cubes` names or `*`, `at_most` the highest label it may see.

    Without `at_most` that is what may go to a model elsewhere, for nobody knows what is behind a client. `digest` is
    the sha256 of its key.
    """

    name: str
    may: tuple[str, ...] = (READ,)
    cubes: tuple[str, ...] = ()
    at_most: str = ""
    digest: str = ""
    made: datetime | None = None
    expires: datetime | None = None

    def forbids(self, verb: str, kind: str) -> str | None:
        """The rule that keeps this client from a verb of this kind; None when none does."""
        if kind in KINDS and not {verb, kind}.isdisjoint(self.may):
            return None
        return f"client {self.name!r} may {', '.join(self.may)} only"

    def reaches(self, cube: str) -> bool:
        """Whether a cube of this name is within its bounds."""
        return EVERY in self.cubes or cube in self.cubes

    def is_over(self, now: datetime) -> bool:
        """Whether its time has ended."""
        return self.expires is not None and self.expires <= now


def bounded(
    name: str,
    *,
    may: Iterable[str] = (READ,),
    cubes: Iterable[str] = (),
    at_most: str = "",
    ttl_days: int | None = None,
) -> Client:
    """A client with these bounds, made now, without a key. Raises Usage for a word that is none."""
    if not _NAME.fullmatch(name):
        raise Usage(f"a client's name is of small letters, digits, _ and -, found {name[:80]!r}")
    words, named = tuple(sorted(set(may))), tuple(sorted(set(cubes)))
    if not words or any(not _is_word(word) for word in words):
        odd = next((word for word in words if not _is_word(word)), "nothing")
        raise Usage(f"a client may {', '.join(KINDS)}, or verbs of these kinds such as query, found {odd[:60]!r}")
    for cube in named:
        if not _CUBE.fullmatch(cube):
            raise Usage(f"a client reaches cubes by their names, or * for all, found {cube[:120]!r}")
    if len(named) > MOST_CUBES:
        raise Usage(f"a client names at most {MOST_CUBES} cubes, found {len(named)}", hint="--all-cubes")
    if at_most and at_most not in SENSITIVITIES:
        raise Usage(f"expected a label of {', '.join(SENSITIVITIES)}, found {at_most[:60]!r}")
    if ttl_days is not None and not 1 <= ttl_days <= 36_500:
        raise Usage(f"expected a time of 1 to 36,500 days, found {ttl_days}")
    now = datetime.now(UTC).replace(microsecond=0)
    return Client(
        name, words, named, at_most, made=now, expires=now + timedelta(days=ttl_days) if ttl_days else None
    )  # fmt: skip


def local(*, may: Iterable[str] = (READ,), cubes: Iterable[str] = (EVERY,), at_most: str = "") -> Client:
    """The client that speaks through the pipes of a process which the owner started: it reads, unless told more."""
    return bounded(LOCAL, may=may, cubes=cubes, at_most=at_most)


def _is_word(word: str) -> bool:
    return word in KINDS or VERBS.get(word, GOVERN) != GOVERN


def load(home: Path) -> list[Client]:
    """The clients of a home, by name. Raises Damaged naming the key; NotAllowed for a file others can write."""
    path = home / FILE
    try:
        if os.stat(path).st_mode & 0o022:
            raise NotAllowed(f"{path} can be written by others than its owner", hint=f"chmod 600 {path}")
        table = read_toml(path)
    except (FileNotFoundError, NotFound):
        return []
    except OSError as error:
        raise MemosError(f"{path} cannot be read: {error.strerror}", hint=f"chmod 600 {path}") from error
    given = table.get("clients", {})
    if set(table) - {"clients"} or not isinstance(given, dict):
        raise Damaged(f"{path}: expected tables [clients.NAME] and nothing else")
    return [_read(name, given[name], where=f"{path}: clients.{name[:80]}") for name in sorted(given)]


def find(home: Path, key: str) -> Client | None:
    """The client whose key this is and whose time is not over; None for nobody. Raises as `load` does."""
    return matching(load(home), key)


def matching(clients: Iterable[Client], key: str) -> Client | None:
    """The one of these clients whose key this is; takes as long for a key that is nearly right as for any other."""
    digest = digest_of(key)
    found = None
    for client in clients:
        if hmac.compare_digest(client.digest, digest):
            found = client
    return None if found is None or found.is_over(datetime.now(UTC)) else found


def digest_of(key: str) -> str:
    """What is kept of a key. It is random through and through, so no slow hash is needed."""
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()


def add(home: Path, client: Client) -> tuple[Client, str]:
    """Keeps a client under a new key; the client as it is kept, and the key, which is told this once. Raises Usage."""
    key = PREFIX + secrets.token_urlsafe(KEY_BYTES)
    kept = replace(client, digest=digest_of(key))
    with _changing(home) as held:
        _check_new(held, client.name)
        _write(home, [*held, kept])
    return kept, key


def check_new(home: Path, name: str) -> None:
    """Raises Usage when there is a client of this name, or no room for another."""
    _check_new(load(home), name)


def _check_new(held: list[Client], name: str) -> None:
    if name == LOCAL:
        raise Usage(f"{LOCAL!r} is the name of the client that needs no key", hint="another name")
    if any(one.name == name for one in held):
        raise Usage(f"there is a client {name!r} already", hint=f"memos clients revoke {name}")
    if len(held) >= MOST_CLIENTS:
        raise Usage(f"a home has at most {MOST_CLIENTS} clients", hint="memos clients")


def remove(home: Path, name: str, *, dry_run: bool = False) -> Client:
    """Takes a client's key away, from now on, and gives back what it could do. Raises NotFound."""
    with _changing(home) as held:
        found = next((one for one in held if one.name == name), None)
        if found is None:
            raise NotFound(f"no client {name[:80]!r}", hint="memos clients")
        if not dry_run:
            _write(home, [one for one in held if one is not found])
    return found


class _changing:  # noqa: N801  reads as a phrase: with _changing(home) as held
    """The clients while nobody else changes them."""

    def __init__(self, home: Path) -> None:
        from filelock import FileLock

        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._home, self._lock = home, FileLock(home / f".{FILE}.lock", timeout=10)

    def __enter__(self) -> list[Client]:
        self._lock.acquire()
        return load(self._home)

    def __exit__(self, *ending: object) -> None:
        self._lock.release()


def _write(home: Path, clients: Iterable[Client]) -> None:
    """Puts the file in its place, whole, readable by its owner alone from the first byte."""
    import tomli_w

    data = tomli_w.dumps({"clients": {one.name: _table(one) for one in clients}}).encode()
    path = home / FILE
    temporary = path.with_name(f".{FILE}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise MemosError(f"{path} cannot be written: {error.strerror}") from error


def _table(client: Client) -> dict[str, Any]:
    table: dict[str, Any] = {"sha256": client.digest, "may": list(client.may), "cubes": list(client.cubes)}
    times = {"made": client.made, "expires": client.expires}
    table |= {name: moment.isoformat().replace("+00:00", "Z") for name, moment in times.items() if moment}
    return table | ({"at_most": client.at_most} if client.at_most else {})


def _read(name: str, table: Any, *, where: str) -> Client:
    """A client from its table, read strictly: bounds that are half understood could be too wide."""
    if not isinstance(table, dict) or set(table) - _FIELDS:
        raise Damaged(f"{where}: expected a table of {', '.join(sorted(_FIELDS))}")
    digest = table.get("sha256")
    if not isinstance(digest, str) or not _HEX.fullmatch(digest):
        raise Damaged(f"{where}.sha256: expected 64 hex digits")
    try:
        may, cubes = (_texts(table, key, where=where) for key in ("may", "cubes"))
        known = bounded(name, may=may, cubes=cubes, at_most=_text(table, "at_most", where=where))
    except Usage as error:
        raise Damaged(f"{where}: {error.message}") from error
    made, expires = (_moment(table, key, where=where) for key in ("made", "expires"))
    return replace(known, digest=digest, made=made, expires=expires)


def _texts(table: dict[str, Any], key: str, *, where: str) -> tuple[str, ...]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise Damaged(f"{where}.{key}: expected a list of texts")
    return tuple(value)


def _text(table: dict[str, Any], key: str, *, where: str) -> str:
    value = table.get(key, "")
    if not isinstance(value, str):
        raise Damaged(f"{where}.{key}: expected a text")
    return value


def _moment(table: dict[str, Any], key: str, *, where: str) -> datetime | None:
    text = _text(table, key, where=where)
    try:
        found = datetime.fromisoformat(text) if text else None
    except ValueError as error:
        raise Damaged(f"{where}.{key}: expected a time such as 2026-01-31T00:00:00Z, found {text[:60]!r}") from error
    if found is not None and found.tzinfo is None:
        raise Damaged(f"{where}.{key}: expected a time with its zone, found {text[:60]!r}")
    return found
