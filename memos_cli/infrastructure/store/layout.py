"""A package as a tree of files: an OCI image layout, the same in a folder, on a web server and in a bucket.

    team/oci-layout
    team/index.json              which manifests there are, and the tag of each
    team/blobs/sha256/<hex>

Other tools read it (`skopeo copy oci:/srv/store/team:1.4.0 ...`). index.json is replaced under the state it was read
in, so two pushes at once lose nothing of each other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from memos_cli.cube.digest import digest_of, encode
from memos_cli.errors import Damaged, MemosError, NotFound, StoreFailed
from memos_cli.infrastructure.store.transport import (
    MANIFEST_LIMIT_BYTES,
    MANIFEST_TYPE,
    Blob,
    Content,
    Files,
    Named,
    Outgoing,
    Stream,
    Taken,
    check_digest,
)

INDEX = "index.json"
MARK = "oci-layout"
MARK_BYTES = b'{"imageLayoutVersion":"1.0.0"}'
TAG = "org.opencontainers.image.ref.name"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
ENTRIES_LIMIT = 100_000
_TRIES = 20


class Layout:
    """One package in a tree of files."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self.place = files.place

    def has(self, blob: Blob) -> bool:
        return self._files.size(_path(blob.digest)) == blob.size

    def read(self, blob: Blob, offset: int) -> Stream:
        return self._files.read(_path(blob.digest), offset)

    def write(self, blob: Blob, content: Content, sent: Callable[[int], None]) -> None:
        self._files.write(_path(blob.digest), Outgoing(blob, content), sent)

    def manifest(self, name: str) -> Named:
        digest, media_type, notes = name, MANIFEST_TYPE, {}
        if not name.startswith("sha256:"):
            entry = _tagged(self._index()[0], name)
            if entry is None:
                raise NotFound(f"no {name} in {self.place}", hint=f"memos info {self.place}")
            digest, media_type, notes = entry["digest"], str(entry.get("mediaType", "")), _notes(entry)
        found = self._files.small(_path(check_digest(digest, place=self.place)), MANIFEST_LIMIT_BYTES)
        if found is None:
            raise NotFound(f"no manifest {digest} in {self.place}", hint=f"memos info {self.place}")
        return Named(found[0], digest_of(found[0]), media_type, notes)

    def tags(self) -> Sequence[str]:
        return [tag for entry in self._index()[0] if (tag := _tag_of(entry)) is not None]

    def tag(self, name: str | None, data: bytes, *, media_type: str, artifact_type: str = "", replace: bool) -> None:
        blob = Blob(digest_of(data), len(data))
        if not self.has(blob):
            self.write(blob, lambda offset: iter([data[offset:]]), lambda sent: None)
        if self._files.small(MARK, 1 << 10) is None:
            self._files.swap(MARK, MARK_BYTES, None)
        entry: dict[str, Any] = {"mediaType": media_type, "digest": blob.digest, "size": blob.size}
        entry |= {"artifactType": artifact_type} if artifact_type else {}
        entry |= {"annotations": {TAG: name}} if name else {}
        for _ in range(_TRIES):
            entries, state = self._index()
            fresh = self._with(entries, entry, name, replace)
            if fresh == entries or self._files.swap(INDEX, _dumped(fresh), state):
                return
        raise StoreFailed(f"{self.place}: {INDEX} is changed by others all the time", hint="the same command again")

    def _with(self, entries: list[dict[str, Any]], entry: dict[str, Any], name: str | None, replace: bool) -> list[dict[str, Any]]:  # noqa: E501  # fmt: skip
        """The entries with one more, in the place of the one that had its tag. Raises Taken."""
        old = _tagged(entries, name) if name else None
        if old is not None and old["digest"] != entry["digest"] and not replace:
            raise Taken.by(self.place, str(name), old["digest"], entry["digest"])
        if any(known["digest"] == entry["digest"] and _tag_of(known) == name for known in entries):
            return entries
        return [known for known in entries if known is not old] + [entry]

    def _index(self) -> tuple[list[dict[str, Any]], str | None]:
        """What index.json lists, and its state; nothing and None when there is none. Raises Damaged."""
        found = self._files.small(INDEX, MANIFEST_LIMIT_BYTES)
        if found is None:
            return [], None
        return parse_index(found[0], place=f"{self.place}/{INDEX}"), found[1]


def parse_index(data: bytes, *, place: str) -> list[dict[str, Any]]:
    """The entries of an index.json, each with a digest and a size that are ones. Raises Damaged."""
    try:
        entries = json.loads(data)["manifests"]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise Damaged(f"{place}: expected an OCI image index, found otherwise ({type(error).__name__})") from error
    if not isinstance(entries, list) or len(entries) > ENTRIES_LIMIT:
        raise Damaged(f"{place}: expected a list of at most {ENTRIES_LIMIT:,} manifests")
    for entry in entries:
        if not isinstance(entry, dict) or type(entry.get("size")) is not int or entry["size"] < 0:
            raise Damaged(f"{place}: expected a size and a digest for every manifest")
        check_digest(entry.get("digest"), place=place)
    return entries


def _notes(entry: dict[str, Any]) -> dict[str, str]:
    notes = entry.get("annotations")
    return {str(key): str(value) for key, value in notes.items()} if isinstance(notes, dict) else {}


def _tag_of(entry: dict[str, Any]) -> str | None:
    return _notes(entry).get(TAG)


def _tagged(entries: Sequence[dict[str, Any]], name: str | None) -> dict[str, Any] | None:
    return next((entry for entry in entries if _tag_of(entry) == name), None)


def _dumped(entries: list[dict[str, Any]]) -> bytes:
    data = encode({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": entries})
    if len(data) > MANIFEST_LIMIT_BYTES:
        raise MemosError(f"{INDEX} would be larger than {MANIFEST_LIMIT_BYTES:,} bytes: too many versions in one place")
    return data


def _path(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"
