"""How `memos audit --trace` prints whom something was made for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memos_cli.console import Output
    from memos_cli.interface.tracing import CopyFound, StampFound, Traced

_STANDING = {
    "verified": "signed by {key}, and of this table",
    "foreign": "signed by {key}, which is not known here",
    "moved": "signed by {key}, for another table: changed since, or put here from another copy",
    "forged": "not signed by the key that it names: it tells nothing",
}


def show_trace(out: Output, found: Traced) -> None:
    """What was found; raises CheckFailed when a stamp is forged, or stamps and canaries tell of different people."""
    from memos_cli.errors import CheckFailed

    out.one(found, _lines(found), ids=found.recipients)
    hint = "memos keys list tells which keys are known here"
    if any(one.standing == "forged" for one in found.stamps):
        raise CheckFailed(f"a stamp on {found.source} is not signed by the key that it names", hint=hint)
    stamped = {_who(one) for one in found.stamps}
    if found.copies and stamped and stamped.isdisjoint(found.recipients):
        raise CheckFailed(
            f"{found.source} has a stamp for {min(stamped)} and canaries of {found.recipients[0]}",
            hint="believe the canaries: a stamp can be moved from one copy to another",
        )


def _lines(found: Traced) -> Iterator[str]:
    for stamp in found.stamps:
        yield f"stamp\t{_who(stamp) or '-'}\t{stamp.place}\t{_STANDING[stamp.standing].format(key=stamp.key)}"
    for copy in found.copies:
        part = f" and {copy.part} in part" if copy.part else ""
        package = f"{copy.name} {', '.join(copy.versions)}"
        counts = f"{copy.whole}{part} of {copy.planted} canaries"
        yield f"canaries\t{_who(copy)}\t{package}\t{counts}, by chance at most {copy.chance:.1g}"
    if not (found.stamps or found.copies):
        yield f"nothing: no stamp, and no canary of {_told(found)}"


def _who(one: StampFound | CopyFound) -> str:
    from memos_cli.cube.stamp import label_of

    return label_of(one.recipient, one.recipient_key)


def _told(found: Traced) -> str:
    if not found.compared:
        return "any copy: this home has made none with canaries"
    return f"{found.compared} {'copy' if found.compared == 1 else 'copies'} in {found.words:,} words"
