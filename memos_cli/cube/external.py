"""A table that lies in an object store, opened at the version that a cube pins, and no other.

`open_pinned()` compares the manifest of that version with the pin before anything is read. Nothing is ever taken out of
such a table: each write makes a version on top of the pinned one. The first write restores the pinned version as a new
one: Lance then refuses whatever another writer, who began before, still wants to commit, and ours when another begins
after us. So two writers never mix, whoever is first, and a crash leaves versions that no cube pins.

A table is opened only where `admit` was called for its URL: a file that came from somewhere must not make a program
call an address. Credentials and settings come from the environment, as `AWS_*`, `GOOGLE_*` and `AZURE_*`.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memos_cli.cube import heap, lance, metadata
from memos_cli.cube.pin import Pin
from memos_cli.errors import Damaged, Locked, MemosError, MissingExtra, NotAllowed, NotFound, StoreFailed, Usage

if TYPE_CHECKING:
    import pyarrow as pa

_NAME = lance.MEMORIES
# An address that does not answer is given up within half a minute.
_RETRIES, _RETRY_SECONDS, _CONNECT_SECONDS = 4, 20, 5
_OPTIONS = {
    "client_max_retries": str(_RETRIES),
    "client_retry_timeout": str(_RETRY_SECONDS),
    "connect_timeout": f"{_CONNECT_SECONDS}s",
}
# Lance would remove versions older than a week by the way, and some cube may pin one.
_NEVER = timedelta(days=36_500)
_WRITES = frozenset({"create_index", "add_columns", "delete", "update", "drop_index", "drop_columns", "alter_columns"})
_SECRETS = re.compile(r"SECRET|TOKEN|KEY|PASSWORD|SAS|CREDENTIAL|SIGNATURE", re.IGNORECASE)
_SHOWN_CHARACTERS = 240
_REFUSED = (
    " 401", " 403", "Forbidden", "Unauthorized", "AccessDenied", "PermissionDenied", "Unauthenticated",
    "InvalidAccessKeyId", "SignatureDoesNotMatch", "AuthenticationFailed", "redential", "InvalidToken",
)  # fmt: skip
_admitted: set[str] = set()
_made: ContextVar[list[str] | None] = ContextVar("_made", default=None)


def admit(url: str) -> None:
    """From now on this process may open the table at `url`."""
    _admitted.add(url)


def pin_beside(directory: Path) -> Pin | None:
    """The pin of the version whose `plaintext/` is `directory`; None where it has none. Raises Damaged."""
    if not (directory.parent / metadata.FILE).is_file():
        return None
    return metadata.load(directory.parent).plaintext.table


class Remote(lance.Table):
    """A table elsewhere, at its pinned version until the first write, and from then on at what was written last."""

    kept = True

    def __init__(self, pin: Pin, *, native: Any = None, whole: Any = None) -> None:
        super().__init__(Path(_NAME), _NAME, native=native, whole=whole)
        self._pin, self._begun, self._at = pin, whole is not None, pin.version

    @property
    def whole(self) -> Any:
        """lancedb's own table, which cannot be written while it stands at the pinned version."""
        if self._whole is None:
            opened = _connect(self._pin.url).open_table(_NAME)
            opened.checkout(self._pin.version)
            self._whole, self._native = opened, None
        return self._whole

    @property
    def idle(self) -> bool:
        """Whether nothing was written."""
        return not self._begun

    def pinned(self) -> Pin:
        """The pin of the table as it is now. Raises Locked when another writer got in between."""
        if self.idle:
            return self._pin
        with telling(self._pin.url):
            self._check()
            return Pin(self._pin.url, self._at, _manifest_digest(self._pin.url, self._at))

    def add(self, rows: Any) -> None:
        """Appends rows, as a new version."""
        with self._writing(most=1):
            self.whole.add(rows)

    def merge_insert(self, column: str) -> Any:
        """A merge to build, which makes one new version when it is executed."""
        with self._writing(most=1):
            return self.whole.merge_insert(column)

    def optimize(self, **settings: Any) -> None:
        """Merges fragments and brings indexes up to date; what earlier versions need stays, whatever is asked."""
        with self._arranging():
            self.whole.optimize(cleanup_older_than=_NEVER)

    def __getattr__(self, name: str) -> Any:
        return self._arranged(name) if name in _WRITES else super().__getattr__(name)

    def _arranged(self, name: str) -> Any:
        def do(*args: Any, **settings: Any) -> Any:
            with self._arranging():
                return getattr(self.whole, name)(*args, **settings)

        return do

    @contextmanager
    def _writing(self, *, most: int) -> Iterator[None]:
        with telling(self._pin.url):
            if not self._begun:
                self.whole.restore()
                self._begun, self._at = True, self.whole.version
            self._check()
            yield
            self._at += most

    @contextmanager
    def _arranging(self) -> Iterator[None]:
        """Around what makes as many versions as it likes and changes no row."""
        with self._writing(most=0):
            rows = self.whole.count_rows()
            yield
            if self.whole.count_rows() != rows:
                raise _mixed(self._pin.url)
            self._at = self.whole.version

    def _check(self) -> None:
        """Raises Locked when there are more versions than we made: Lance lets others append between two of ours."""
        found = self.whole.version
        if found > self._at:
            raise _mixed(self._pin.url)
        self._at = found


def _mixed(url: str) -> Locked:
    return Locked(
        f"another writer changed the table at {url} meanwhile; nothing of this cube was changed",
        hint="the same command again begins from the version that the cube pins",
    )


def open_pinned(pin: Pin) -> Remote:
    """The table at its pinned version.

    Raises NotAllowed where nobody admitted its URL, NotFound when the version is gone, Damaged when it is another than
    was pinned, StoreFailed when the store does not let us read it, MissingExtra without obstore.
    """
    if pin.url not in _admitted:
        raise NotAllowed(
            f"the memories of this cube lie at {pin.url}, an address that was not let in here",
            hint="memos trust CUBE --table  (when you know whose it is: memos calls it with your credentials)",
        )
    heap.bound()
    found = _manifest_digest(pin.url, pin.version)
    if found != pin.manifest:
        raise Damaged(
            f"version {pin.version} of the table at {pin.url} is not the one that was pinned: "
            f"expected a manifest of {pin.manifest[:23]}, found {found[:23]}",
            hint="memos rollback to a version of the cube that is sound, see memos log",
        )
    with telling(pin.url):
        table = Remote(pin, native=_native(pin))
        lance.refuse_unsafe(table.schema, where=pin.url)
    return table


def create(url: str, *, schema: pa.Schema) -> Remote:
    """A new empty table at `url`. Raises Usage when there is one, NotAllowed, StoreFailed, MissingExtra."""
    if url not in _admitted:
        raise NotAllowed(f"{url} was not let in here")
    heap.bound()
    _obstore()
    with telling(url):
        try:
            made = _connect(url).create_table(_NAME, schema=schema)
        except ValueError as error:
            if "already exists" not in str(error):
                raise
            raise Usage(
                f"there is a table at {url} already, and no other cube may lose it",
                hint="name a folder that is empty, or remove what is there with your store's own tools",
            ) from error
        if (mine := _made.get()) is not None:
            mine.append(url)
        return Remote(Pin(url, int(made.version), ""), whole=made)


@contextmanager
def making(is_pinned: Callable[[str], bool]) -> Iterator[None]:
    """Around work that makes tables: when it fails, those it made go, unless a cube pins them by then."""
    mine: list[str] = []
    token = _made.set(mine)
    try:
        yield
    except BaseException:
        for url in mine:
            if not is_pinned(url):
                with suppress(MemosError), telling(url):
                    _connect(url).drop_table(_NAME)
        raise
    finally:
        _made.reset(token)


def _connect(url: str) -> Any:
    return lance.load().connect(url, storage_options=_OPTIONS)


def _native(pin: Pin) -> Any:
    """A handle to read with, None where lancedb itself has to do it."""
    if not lance.is_checked():
        return None
    from memos_cli.cube.native import open_native

    try:
        return open_native(pin.url, _NAME, version=pin.version, storage=_OPTIONS)
    except (ImportError, AttributeError, TypeError):
        return None


def _obstore() -> Any:
    try:
        import obstore
    except ImportError as error:
        raise MissingExtra(
            "tables in object stores need the extra objects", hint="pip install 'memos[objects]'"
        ) from error
    return obstore


def _manifest_digest(url: str, version: int) -> str:
    """`sha256:<hex>` of the manifest that Lance wrote for a version. Raises NotFound, StoreFailed, MissingExtra."""
    obstore = _obstore()
    from obstore.store import from_url

    retry: Any = {"retry_timeout": timedelta(seconds=_RETRY_SECONDS), "max_retries": _RETRIES}
    with telling(url):
        store = from_url(f"{url}/{_NAME}.lance", retry_config=retry)
        # Lance counts the names down, so that the newest is listed first; tables of old releases count up.
        for name in (f"{2**64 - 1 - version:020d}", str(version)):
            try:
                found = obstore.get(store, f"_versions/{name}.manifest")
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error) or "ContainerNotFound" in str(error):
                    raise
                continue
            digest = hashlib.sha256()
            for piece in found.stream(min_chunk_size=1 << 20):
                digest.update(bytes(piece))
            return f"sha256:{digest.hexdigest()}"
    raise NotFound(
        f"version {version} of the table at {url} is gone: somebody removed it, or the table",
        hint="restore it in the store, or memos rollback to a version whose table is there, see memos log",
    )


@contextmanager
def telling(url: str) -> Iterator[None]:
    """What Lance and the store's client say, in our words and without secrets; "" for a table that lies here."""
    if not url:
        yield
        return
    try:
        yield
    except _classes() as error:
        if not _is_theirs(error):
            raise
        raise told(error, url) from error


def _classes() -> tuple[type[Exception], ...]:
    """What Lance raises, and the client of the store where it was asked."""
    if "obstore" not in sys.modules:
        return (RuntimeError, ValueError, OSError)
    from obstore.exceptions import BaseError

    return (RuntimeError, ValueError, OSError, BaseError)


def _is_theirs(error: Exception) -> bool:
    known = ("lance", "Generic ", "ObjectStore", "object store", "Failed to connect to namespace", "Not found:")
    return not isinstance(error, RuntimeError | ValueError) or any(mark in str(error) for mark in known)


def told(error: Exception, url: str) -> MemosError:
    """The same as an error of ours."""
    said = str(error)
    if "Incompatible transaction" in said or "Commit conflict" in said or "concurrent transaction" in said:
        return _mixed(url)
    if any(mark in said for mark in ("NoSuchBucket", "ContainerNotFound", "bucket does not exist")):
        return StoreFailed(f"{url}: its bucket is not there", hint="check its name, or make it: memos does not")
    if any(mark in said for mark in _REFUSED):
        return StoreFailed(
            f"{url} refuses: {_plain(said)}", hint="check the credentials in the environment: AWS_*, GOOGLE_*, AZURE_*"
        )
    if "Not found" in said or "NotFound" in said or " 404" in said:
        return Damaged(f"a file of the table at {url} is gone: {_plain(said)}", hint="restore it in the store")
    return StoreFailed(f"{url} cannot be read: {_plain(said)}", hint="try again when the store answers")


def _plain(said: str, environment: Mapping[str, str] | None = None) -> str:
    """The beginning of a message, without what a signed request or the environment would give away."""
    short = re.sub(r"\?[^\s\"')]*", "?...", " ".join(said.split()))
    for name, value in (os.environ if environment is None else environment).items():
        if len(value) >= 6 and _SECRETS.search(name):
            short = short.replace(value, "...")
    # Lance ends with the line of its source that gave up
    return re.sub(r",? /\S+\.rs:\d+.*$", "", short)[:_SHOWN_CHARACTERS]
