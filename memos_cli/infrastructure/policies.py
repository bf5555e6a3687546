"""The policy of a user: `policy.toml` in their home, with a table `[access]` as in memcube.toml.

It is read for every call, so that what it forbids is forbidden from the next one on. A file that is wrong stops the
call: passing over a rule that cannot be read would allow what it forbids.
"""

from __future__ import annotations

from pathlib import Path

from memos_cli.cube import access
from memos_cli.cube.access import Access
from memos_cli.cube.toml import read_toml
from memos_cli.errors import Damaged, NotFound

FILE = "policy.toml"


def local(home: Path) -> Access:
    """The user's own rules; those that permit what cubes permit when there is no file. Raises Damaged."""
    try:
        return load(home / FILE, own=True)
    except NotFound:
        return Access()


def load(path: Path, *, own: bool) -> Access:
    """The rules in a file: a user's `own`, or those for a cube. Raises NotFound, Damaged naming the key."""
    table = read_toml(path)
    unknown = sorted(set(table) - {"access"})
    if unknown:
        raise Damaged(f"{path}: expected one table [access], found {unknown[0][:60]!r}")
    return access.read(table.get("access", {}), where=f"{path}: access", local=own)
