"""A tree of files in a bucket: S3, Google Cloud Storage, Azure, through obstore (the extra `objects`).

Credentials and addresses come from the environment as each of them has it (`AWS_*`, `GOOGLE_*`, `AZURE_*`). A blob
appears whole or not at all; one that was under way when a push stopped begins anew, those before it are there. What
arrives is hashed here, whatever the library says of it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from memos_cli.errors import MissingExtra, NotFound, StoreFailed
from memos_cli.infrastructure.store.transport import Outgoing, Stream
from memos_cli.infrastructure.store.wire import Dropped

PART_BYTES = 8 << 20
READ_BYTES = 1 << 20


class Objects:
    """The files below a prefix of a bucket."""

    def __init__(self, url: str, *, retry_seconds: float) -> None:
        """Raises MissingExtra without obstore, StoreFailed for settings that do not make a store."""
        try:
            import obstore
            from obstore.store import from_url
        except ImportError as error:
            raise MissingExtra("buckets need the extra objects", hint="pip install 'memos[objects]'") from error
        from datetime import timedelta

        self.place, self._obstore = url, obstore
        with _telling(url):
            retry: Any = {"retry_timeout": timedelta(seconds=retry_seconds), "max_retries": 8}
            self._store: Any = from_url(url, retry_config=retry)

    def size(self, path: str) -> int | None:
        with _telling(self.place):
            try:
                return int(self._obstore.head(self._store, path)["size"])
            except FileNotFoundError:
                return None

    def read(self, path: str, offset: int) -> Stream:
        with _telling(self.place):
            try:
                # from the very end on there is nothing that could be asked for
                options: Any = {"range": {"offset": offset}} if offset else None
                found = self._obstore.get(self._store, path, options=options)
            except FileNotFoundError as error:
                raise NotFound(f"no {path} in {self.place}") from error
        return Stream(offset, self._pieces(found))

    def write(self, path: str, out: Outgoing, sent: Callable[[int], None]) -> None:
        with _telling(self.place):
            writer = self._obstore.open_writer(self._store, path, buffer_size=PART_BYTES)
            for piece in out.pieces(0, out.blob.size):
                writer.write(bytes(piece))
                sent(len(piece))
            # until it is closed nothing is there, so wrong bytes never are
            out.check()
            writer.close()

    def small(self, path: str, limit_bytes: int) -> tuple[bytes, str] | None:
        with _telling(self.place):
            try:
                found = self._obstore.get(self._store, path)
            except FileNotFoundError:
                return None
            if found.meta["size"] > limit_bytes:
                raise StoreFailed(f"{self.place}/{path}: expected at most {limit_bytes:,} bytes, found more")
            return bytes(found.bytes()), _state(found.meta)

    def swap(self, path: str, data: bytes, state: str | None) -> bool:
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        mode: Any = "create" if state is None else _version(state)
        with _telling(self.place):
            try:
                self._obstore.put(self._store, path, data, mode=mode)
            except (AlreadyExistsError, PreconditionError):
                return False
        return True

    def folders(self) -> Sequence[str]:
        with _telling(self.place):
            found = self._obstore.list_with_delimiter(self._store)
            return sorted(str(name).strip("/").rpartition("/")[2] for name in found["common_prefixes"])

    def _pieces(self, found: Any) -> Generator[bytes, None, None]:
        with _telling(self.place):
            for piece in found.stream(min_chunk_size=READ_BYTES):
                yield bytes(piece)


def _state(meta: Any) -> str:
    """What tells one state of an object from another: S3 and Azure go by the tag, Google by the number."""
    return f"{meta['e_tag'] or ''}\n{meta['version'] or ''}"


def _version(state: str) -> dict[str, str]:
    """The same as obstore asks for it."""
    tag, _, number = state.partition("\n")
    return {name: value for name, value in (("e_tag", tag), ("version", number)) if value}


@contextmanager
def _telling(place: str) -> Iterator[None]:
    """The library's refusals in our words: the first line of each, which names no secret."""
    from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

    try:
        yield
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise StoreFailed(
            f"{place} refuses: {_first(error)}", hint="check the credentials in the environment"
        ) from error
    except FileNotFoundError as error:
        # of an object that may be absent its caller knows
        raise StoreFailed(
            f"{place}: its bucket is not there", hint="check its name, or make it: memos does not"
        ) from error
    except (BaseError, OSError, ValueError) as error:
        raise Dropped(f"{place}: {_first(error)}") from error


def _first(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:200]
