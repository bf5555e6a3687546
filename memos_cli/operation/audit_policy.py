"""The part of an audit that holds a cube against a policy file, and against its own lifecycle.

Each rule is one condition that Lance looks for, so that memory does not grow with the cube. Knows what the rules say
from `audit_rules`, and nothing of who may read the cube.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from memos_cli.cube.filters import quote
from memos_cli.cube.metadata import SENSITIVITIES, Memcube
from memos_cli.operation.audit_rules import Rules
from memos_cli.operation.findings import NOTICE, WARNING, Finding

if TYPE_CHECKING:
    from memos_cli.cube.plaintext import Memories

# Labels that `memos edit` sets; the others come from the source.
_EDITED = {
    "owner": "--owner LABEL", "sensitivity": "--sensitivity LEVEL", "tags": "--tag TAG", "topic": "--topic PATH",
    "type": "--type TYPE",
}  # fmt: skip
_STAMP = "%Y-%m-%d %H:%M:%S.%f"


def check(
    root: Path, cube: Memcube, memories: Memories, rules: Rules, *, size_bytes: int, now: datetime
) -> Iterator[Finding]:
    """Breaches of `rules` by the cube as a whole, and by memories that are recalled now."""
    for rule, message, remedy in _of_cube(root, cube, memories, rules, size_bytes):
        yield Finding(WARNING, "policy", str(root), f"{rule}: {message}", remedy)
    for rule, condition, message, remedy in _of_memories(root, rules, now):
        yield from _rows(root, memories, condition, f"{rule}: {message}", remedy)


def lifecycle(root: Path, memories: Memories, *, now: datetime) -> Iterator[Finding]:
    """Memories whose state is not what their own metadata asks for."""
    from memos_cli.cube.plaintext import LIVE

    expired = f"{LIVE} and expires_at <= timestamp '{now.strftime(_STAMP)}'"
    count, example = _count(memories, expired)
    if count:
        message = f"{count} {_memories(count)} outlived {_their(count)} time, {example} first; only hidden by that"
        yield Finding(NOTICE, "expired", str(root), message, f"memos forget {root} --ids {example}")
    count, example = _count(memories, "legal_hold and state in ('forgotten', 'expired')")
    if count:
        message = f"{count} {_memories(count)} under legal hold {_are(count)} hidden, {example} first"
        yield Finding(WARNING, "hold", str(root), message, f"memos log {root} --memory {example}")


def _of_cube(
    root: Path, cube: Memcube, memories: Memories, rules: Rules, size_bytes: int
) -> Iterator[tuple[str, str, str]]:
    governance = cube.governance
    if rules.licence and cube.licence not in rules.licence:
        found = repr(cube.licence) if cube.licence else "none"
        message = f"expected a licence of {', '.join(rules.licence)}, found {found}"
        yield "require.licence", message, f"memos init NEW.cube --from {root} --licence {rules.licence[0]}"
    if rules.description and not cube.description:
        message = "expected a description, found none"
        yield "require.description", message, f"memos init NEW.cube --from {root} --description TEXT"
    for tag in rules.compliance:
        if tag not in governance.compliance:
            yield "require.compliance", f"expected the compliance tag {tag!r}, found none", f"memos show {root}"
    if rules.ttl and not governance.ttl_days:
        yield "require.ttl", "expected a time to live, found none", f"memos ingest {root} SOURCE --ttl DAYS"
    if governance.share_scope in rules.share_scopes:
        message = f"the share scope is {governance.share_scope!r}"
        yield "forbid.share_scopes", message, f"memos init NEW.cube --from {root} --share-scope owner"
    if rules.sensitivity and governance.sensitivity in _above(rules.sensitivity):
        message = f"the cube is {governance.sensitivity}, at most {rules.sensitivity} is allowed here"
        yield "limit.sensitivity", message, f"memos show {root}"
    if rules.memories and (count := memories.count()) > rules.memories:
        message = f"expected at most {rules.memories:,} memories, found {count:,}"
        yield "limit.memories", message, f"memos forget {root} --where FILTER"
    if rules.bytes and size_bytes > rules.bytes:
        message = f"expected at most {rules.bytes:,} bytes, found {size_bytes:,}"
        yield "limit.bytes", message, f"memos gc {root} --keep 1 --yes"


def _of_memories(root: Path, rules: Rules, now: datetime) -> Iterator[tuple[str, str, str, str]]:
    """For each rule about memories: its name, who breaks it, in words, and what to do."""
    forget = f"memos forget {root} --ids {{example}}"
    for label in rules.labels:
        remedy = (
            f"memos edit {root} {{example}} {_EDITED[label]}" if label in _EDITED else f"memos show {root} {{example}}"
        )
        yield "require.labels", _without(label), f"has no {label}", remedy
    for scheme in rules.schemes:
        prefix = quote(f"{scheme}:%")
        yield "forbid.schemes", f"lower(source) like {prefix}", f"comes from a source by {scheme}:", forget
    for word in rules.words:
        yield "forbid.words", f"strpos(lower(text), {quote(word.lower())}) > 0", f"says {word!r}", forget
    if rules.sensitivity and (above := _above(rules.sensitivity)):
        condition = f"sensitivity in ({', '.join(map(quote, above))})"
        message = f"has a label above {rules.sensitivity}"
        yield "limit.sensitivity", condition, message, f"memos forget {root} --where 'sensitivity={above[-1]}'"
    if rules.age_days:
        oldest = (now - timedelta(days=rules.age_days)).strftime(_STAMP)
        message = f"was not touched for more than {rules.age_days} days"
        yield (
            "limit.age_days",
            f"updated_at < timestamp '{oldest}'",
            message,
            f"memos ingest {root} SOURCE, or {forget}",
        )


def _rows(root: Path, memories: Memories, condition: str, message: str, remedy: str) -> Iterator[Finding]:
    from memos_cli.cube.plaintext import LIVE

    count, example = _count(memories, f"{LIVE} and ({condition})")
    if count:
        more = f" ({count} such, this one first)" if count > 1 else ""
        yield Finding(WARNING, "policy", f"{root} memory {example}", message + more, remedy.format(example=example))


def _count(memories: Memories, condition: str) -> tuple[int, str]:
    """How many rows there are, and the id of one."""
    count = memories.count(condition)
    return count, str(memories.rows(condition, columns=["id"], limit=1)["id"][0]) if count else ""


def _without(label: str) -> str:
    if label == "tags":
        return "tags is null or cardinality(tags) is null or cardinality(tags) = 0"
    return "time is null" if label == "time" else f"{label} is null or {label} = ''"


def _above(level: str) -> list[str]:
    return list(SENSITIVITIES[SENSITIVITIES.index(level) + 1 :])


def _memories(count: int) -> str:
    return "memory" if count == 1 else "memories"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _their(count: int) -> str:
    return "its" if count == 1 else "their"
