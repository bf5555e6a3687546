"""The format's versions: which one this program writes, and how to read the older ones.

FORMAT_VERSION is what every manifest says. A cube that says more was made by a newer memos and is refused
in words; one that says less is read by its own reader here. A reader yields plain values (metadata and
rows), so that the rewriting is done by the ordinary commit protocol and not by a path of its own.
"""

from __future__ import annotations

from typing import Any

from memos_cli.errors import Damaged

FORMAT_VERSION = 1


def check_format(found: Any, *, place: str = "cube") -> int:
    """`found`, when this program reads and writes that format; raises Damaged for a newer, older or odd one."""
    if not isinstance(found, int) or isinstance(found, bool) or found < 0:
        raise Damaged(f"{place}: expected a format version, found {found!r:.40}")
    if found > FORMAT_VERSION:
        raise Damaged(
            f"{place}: format {found} was made by a newer memos; this one reads up to {FORMAT_VERSION}",
            hint="pip install --upgrade memos",
        )
    if found < FORMAT_VERSION:
        raise Damaged(f"{place}: format {found} is older than {FORMAT_VERSION}", hint="memos migrate CUBE")
    return found
