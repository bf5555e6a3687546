"""Everything that can go wrong, with the exit code the program ends in.

MemosError                1   failed, for a reason with no code of its own
├── MissingExtra          1   an optional package is needed and absent
├── Usage                 2   the call's words are off
├── NotFound              3   no such cube, version, memory or file
├── Damaged               4   damaged, invalid or unsafe input
├── NotAllowed            5   governance, signature or trust says no
├── WrongModel            6   the memory was made for another model
├── StoreFailed           7   store or network
├── Locked                8   another writer holds the cube
├── CheckFailed           9   a check fell short
├── Partial              10   done in part; the message says what was left out
└── Interrupted         130   stopped by the user

The message names what was expected and what was found; `hint` is the next command to type.
They are caught once, in cli.py.
"""

from __future__ import annotations


class MemosError(Exception):
    """Failed, for a reason with no code of its own."""

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class MissingExtra(MemosError):
    """An optional package is needed and absent; the hint is the line that installs it."""


class Usage(MemosError):
    """The call's words are off."""

    exit_code = 2


class NotFound(MemosError):
    """No such cube, version, memory or file."""

    exit_code = 3


class Damaged(MemosError):
    """Damaged, invalid or unsafe input."""

    exit_code = 4


class NotAllowed(MemosError):
    """Governance, a signature or trust says no; the message names the rule."""

    exit_code = 5


class WrongModel(MemosError):
    """The memory was made for another model; the message names both."""

    exit_code = 6


class StoreFailed(MemosError):
    """The store or the network failed."""

    exit_code = 7


class Locked(MemosError):
    """Another writer holds the cube; the message names it."""

    exit_code = 8


class CheckFailed(MemosError):
    """A check fell short: audit findings that are not damage, a gate, memory tests."""

    exit_code = 9


class Partial(MemosError):
    """Done in part; the message says what was left out."""

    exit_code = 10


class Interrupted(MemosError):
    """Stopped by the user; what was finished is kept."""

    exit_code = 130
