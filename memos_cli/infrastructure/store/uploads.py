"""Where an upload to a registry stood when it was interrupted, so that the next process goes on there.

One small file per repository and blob under the home's cache, mode 0600: the address that the registry gave. Without
it an upload begins anew; nothing else is lost.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from pathlib import Path

from memos_cli.infrastructure.disk import write_bytes

KEPT_SECONDS = 7 * 86_400


class Uploads:
    """The uploads that are under way to one repository."""

    def __init__(self, folder: Path, repository: str) -> None:
        self._folder, self._repository = folder, repository

    def find(self, digest: str) -> str | None:
        """The address of the session that was begun for a blob, if any."""
        try:
            told = json.loads(self._path(digest).read_bytes())
            address, began = told["address"], told["began"]
        except (OSError, ValueError, LookupError, TypeError):
            return None
        fresh = isinstance(began, int) and 0 <= time.time() - began < KEPT_SECONDS
        return address if fresh and isinstance(address, str) else None

    def save(self, digest: str, address: str) -> None:
        """Keeps the address; a disk that will not have it costs only the resuming."""
        told = json.dumps({"address": address, "began": int(time.time())}).encode()
        with suppress(OSError):
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            write_bytes(self._path(digest), told)

    def forget(self, digest: str) -> None:
        """The upload is done or given up; old ones of others go with it."""
        with suppress(OSError):
            self._path(digest).unlink()
        with suppress(OSError):
            for path in self._folder.glob("*.json"):
                if time.time() - path.stat().st_mtime > KEPT_SECONDS:
                    path.unlink()

    def _path(self, digest: str) -> Path:
        return self._folder / (hashlib.sha256(f"{self._repository}\n{digest}".encode()).hexdigest()[:40] + ".json")
