"""Errors as answers: a status, and a body with message, hint and the exit code that the program would end in."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memos_cli import errors
from memos_cli.errors import MemosError, NotAllowed, Usage

STATUS: dict[type[MemosError], int] = {
    errors.Usage: 422, errors.NotFound: 404, errors.Damaged: 422, errors.NotAllowed: 403, errors.WrongModel: 409,
    errors.Locked: 409, errors.CheckFailed: 409, errors.Partial: 422, errors.StoreFailed: 502,
}  # fmt: skip
# What is wrong here and not with the request: no room, no package, no time.
OTHERS = 503


class Refused(MemosError):
    """A request that is not even looked at, with its status and, where it may be tried again, after how long."""

    def __init__(self, status: int, message: str, hint: str | None = None, *, retry_seconds: int | None = None) -> None:
        super().__init__(message, hint)
        self.status = status
        # what the program would end in for the same
        self.exit_code = {401: NotAllowed.exit_code, 422: Usage.exit_code}.get(status, MemosError.exit_code)
        self.retry_seconds = retry_seconds


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is answered when something went wrong."""

    status: int
    body: bytes
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Teller:
    """Tells errors without telling where things lie on this machine."""

    home: Path
    served: Mapping[str, Path] | None

    def outcome(self, error: MemosError) -> Outcome:
        """The answer to a request that failed so."""
        status = error.status if isinstance(error, Refused) else STATUS.get(type(error), OTHERS)
        headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
        retry = error.retry_seconds if isinstance(error, Refused) else 1 if isinstance(error, errors.Locked) else None
        if retry is not None:
            headers["Retry-After"] = str(retry)
        return Outcome(status, json.dumps({"error": self.told(error)}).encode(), headers)

    def told(self, error: MemosError) -> dict[str, Any]:
        """What went wrong, as clients see it."""
        kind = "Refused" if isinstance(error, Refused) else type(error).__name__
        hint = None if error.hint is None else self.without_places(error.hint)
        return {"message": self.without_places(error.message), "hint": hint, "code": error.exit_code, "type": kind}

    def without_places(self, text: str) -> str:
        """A text in which cubes go by their names, and the home by its variable."""
        homes = {str(self.home), os.path.realpath(self.home)}
        places = [
            (each, name) for name, root in (self.served or {}).items() for each in {str(root), os.path.realpath(root)}
        ]
        places += [(f"{home}/cubes/", "") for home in homes] + [(home, "$MEMOS_HOME") for home in homes]
        for place, name in sorted(places, key=lambda one: -len(one[0])):
            text = text.replace(place, name)
        return text


UNKNOWN = Outcome(
    500,
    json.dumps(
        {"error": {"message": "something went wrong here, which is in the server's own log", "hint": None, "code": 1,
                   "type": "MemosError"}}
    ).encode(),
    {},
)  # fmt: skip
