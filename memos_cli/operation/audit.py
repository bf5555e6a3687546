"""Checks of a cube that yield findings: is it whole, is it what it says, and what should be done about it.

The shallow audit compares pointers, manifests, names and sizes, the metadata, the table's schema, the chain of
versions, leavings and the access log. The deep one also re-hashes every file of every version kept, and re-reads
every row. It changes nothing and takes no lock; it knows nothing of who may read the cube.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from memos_cli.cube import digest, metadata
from memos_cli.cube.digest import MANIFEST_NAME, Entry
from memos_cli.cube.migrate import BEFORE_MIGRATION
from memos_cli.errors import Damaged, MemosError, NotFound
from memos_cli.infrastructure import declassified, disk, locks, origin, recovery, repair, trail
from memos_cli.infrastructure import versions as kept
from memos_cli.infrastructure.versions import Version
from memos_cli.operation import audit_declassified
from memos_cli.operation.findings import DAMAGE, NOTICE, SEVERITIES, WARNING, Audit, Counts, Finding

_ROOT_NAMES = frozenset(
    {
        kept.CURRENT,
        origin.FILE,
        kept.VERSIONS,
        kept.STAGING,
        kept.TAGS,
        kept.LOG,
        locks.LOCK_NAME,
        locks.HOLDER_NAME,
        repair.ASIDE,
        BEFORE_MIGRATION,
    }
)

# What a version is made of: see docs/reference/format.md.
_FOLDERS = frozenset({"plaintext", "activation", "parameter"})
_TABLE = re.compile(r"[a-z_]+\.(lance/|arrow$)")


def audit(root: Path, *, deep: bool = False, hashes: Mapping[tuple[int, int], str] | None = None) -> Audit:
    """Check the cube at `root`. `hashes` are sha256 of files, by device and inode, that were computed before.

    Raises NotFound when nothing is there and Damaged when it is not a cube at all.
    """
    root = _locate(root)
    counts = Counts(ahead=hashes or {})
    findings = list(_pointer(root))
    sound: list[Version] = []
    harmed: set[str] = set()
    for name in kept.version_names(root):
        found = list(_version(root, name, sound, counts, deep=deep))
        findings += found
        if any(finding.severity == DAMAGE for finding in found):
            harmed.add(name)
    findings += _chain(root, sound)
    findings += audit_declassified.continuity([version for version in sound if version.path.name not in harmed])
    findings += _content(root, sound, counts, harmed, deep=deep)
    findings += _leavings(root)
    findings += _log(root, counts)
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return Audit(
        findings=tuple(findings),
        versions=len(sound),
        files=counts.files,
        rows=counts.rows,
        log_lines=counts.log_lines,
        bytes=counts.bytes,
        deep=deep,
    )


def _locate(root: Path) -> Path:
    """The cube's real path; a cube whose pointer is lost is one that an audit should see."""
    try:
        return kept.locate(root)
    except Damaged:
        if root.is_dir() and kept.version_names(root):
            return Path(os.path.realpath(root))
        raise


def _found(severity: str, code: str, place: Path | str, message: str, remedy: str) -> Finding:
    return Finding(severity, code, str(place), message, remedy)


def _pointer(root: Path) -> Iterator[Finding]:
    try:
        kept.current_name(root)
    except MemosError as error:
        yield _found(DAMAGE, "pointer", root / kept.CURRENT, error.message, f"memos doctor {root} --repair")


def _version(root: Path, name: str, sound: list[Version], counts: Counts, *, deep: bool) -> Iterator[Finding]:
    """Check one version's manifest and files; a version with a good manifest is added to `sound`."""
    path = root / kept.VERSIONS / name
    try:
        with kept.held(path) as version:
            sound.append(version)
            yield from _files(root, version, counts, deep=deep)
    except OSError as error:
        yield _found(DAMAGE, "unreadable", path, f"cannot be read: {error.strerror}", _remedy(root, path))
    except NotFound:
        # Swept while the audit was on its way: then it is nothing to worry about.
        return
    except MemosError as error:
        yield _found(DAMAGE, "manifest", path / MANIFEST_NAME, error.message, _remedy(root, path))


def _remedy(root: Path, path: Path) -> str:
    """What to do about a damaged version: leave it behind when it is current, else let it go."""
    try:
        is_current = kept.current_name(root) == path.name
    except MemosError:
        is_current = True
    if is_current:
        return f"memos doctor {root} --repair; else memos rollback {root} to a version without findings, or a copy"
    return f"do not roll back to version {kept.version_number(path.name)}; memos gc {root} removes old versions"


def _files(root: Path, version: Version, counts: Counts, *, deep: bool) -> Iterator[Finding]:
    expected = version.manifest.entries()
    remedy = _remedy(root, version.path)
    try:
        for path, facts in disk.walk_files(version.path):
            entry = expected.pop(path, None)
            place = version.path / path
            if path == MANIFEST_NAME:
                continue
            counts.files += 1
            if entry is None:
                yield _found(DAMAGE, "extra-file", place, "this file is not in the manifest", remedy)
            elif facts.st_size != entry.size:
                message = f"expected {entry.size} bytes, found {facts.st_size}"
                yield _found(DAMAGE, "size", place, message, remedy)
            elif deep:
                yield from _hash(place, entry, facts, counts, remedy)
    except Damaged as error:
        yield _found(DAMAGE, "odd-file", version.path, error.message, remedy)
    for path in expected:
        yield _found(DAMAGE, "missing-file", version.path / path, "this file is in the manifest but not there", remedy)


def _hash(place: Path, entry: Entry, facts: os.stat_result, counts: Counts, remedy: str) -> Iterator[Finding]:
    identity = (facts.st_dev, facts.st_ino)
    if identity not in counts.hashes:
        try:
            counts.hashes[identity] = counts.ahead.get(identity) or digest.hash_file(place)
        except OSError as error:
            yield _found(DAMAGE, "unreadable", place, f"cannot be read: {error.strerror}", remedy)
            return
        counts.bytes += facts.st_size
    if counts.hashes[identity] != entry.sha256:
        message = f"expected sha256 {entry.sha256[:16]}, found {counts.hashes[identity][:16]}"
        yield _found(DAMAGE, "content", place, message, remedy)


def _chain(root: Path, sound: list[Version]) -> Iterator[Finding]:
    """Whether the versions follow one another; those between two that are kept may have been swept."""
    older_first = sorted(sound, key=lambda version: version.number)
    for before, after in zip(older_first, older_first[1:], strict=False):
        manifest = after.manifest
        if after.number == before.number:
            message = f"two folders hold a version {after.number}"
            yield _found(WARNING, "chain", after.path, message, f"memos gc {root} removes what is not current")
        elif manifest.cube_id != before.manifest.cube_id:
            message = f"belongs to cube {manifest.cube_id}, the version before it to {before.manifest.cube_id}"
            yield _found(DAMAGE, "identity", after.path, message, _remedy(root, after.path))
        elif after.number == before.number + 1 and manifest.parent not in (before.digest, None):
            message = f"expected {before.digest[:23]} as its parent, found {str(manifest.parent)[:23]}"
            yield _found(DAMAGE, "chain", after.path, message, _remedy(root, after.path))
    for version in older_first:
        if version.number > 1 and version.manifest.parent is None:
            message = "names no parent: it was made when the version before it was damaged"
            yield _found(NOTICE, "chain", version.path, message, "nothing to do")


def _content(
    root: Path, sound: list[Version], counts: Counts, harmed: Collection[str], *, deep: bool
) -> Iterator[Finding]:
    """Metadata and memories of the current version; of one whose files are damaged the metadata alone."""
    try:
        name = kept.current_name(root)
    except MemosError:
        return
    for version in sound:
        if version.path.name == name:
            # Imported here: the table needs pyarrow and lancedb, and a damaged cube may have none to open.
            from memos_cli.operation import audit_activation, audit_links, audit_parameter, audit_rows

            yield from _metadata(root, version)
            yield from _orphans(version)
            yield from audit_declassified.check(version, remedy=_remedy(root, version.path))
            if name in harmed:
                # What is wrong is known, and nothing is learnt by giving damaged bytes to a reader of tables.
                return
            yield from audit_rows.check(version.path, counts, deep=deep, remedy=_remedy(root, version.path))
            yield from audit_links.check(version.path, deep=deep, remedy=_remedy(root, version.path))
            yield from audit_activation.check(version.path, deep=deep, remedy=_remedy(root, version.path))
            yield from audit_parameter.check(version.path, deep=deep, remedy=_remedy(root, version.path))


def _orphans(version: Version) -> Iterator[Finding]:
    """Files that were published and that no form of memory knows: they travel with the cube, unread."""
    for entry in version.manifest.files:
        top, _, rest = entry.path.partition("/")
        known = entry.path in (metadata.FILE, declassified.FILE) or (rest and top in _FOLDERS)
        if top == "plaintext" and not _TABLE.match(rest):
            known = False
        if not known:
            message = (
                "of no form of memory that this version of memos knows; it is published with the cube, and not read"
            )
            yield _found(NOTICE, "orphan", version.path / entry.path, message, "nothing: look at it before sharing")


def _metadata(root: Path, version: Version) -> Iterator[Finding]:
    place = version.path / metadata.FILE
    try:
        cube = metadata.load(version.path)
    except MemosError as error:
        yield _found(DAMAGE, "metadata", place, error.message, _remedy(root, version.path))
        return
    if cube.id != version.manifest.cube_id:
        message = f"says cube {cube.id}, the manifest says {version.manifest.cube_id}"
        yield _found(DAMAGE, "identity", place, message, _remedy(root, version.path))


def _leavings(root: Path) -> Iterator[Finding]:
    for name in (kept.VERSIONS, kept.STAGING, kept.TAGS, kept.LOG):
        if (root / name).is_symlink():
            message = "a link in the place of a folder of the cube; it could lead anywhere"
            yield _found(DAMAGE, "link", root / name, message, "take the cube from a copy")
    busy = locks.is_held(root)
    if locks.has_stale_note(root):
        message = "the note of a writer that is gone; its lock ended with it"
        yield _found(
            NOTICE, "lock", root / locks.HOLDER_NAME, message, f"nothing: the next change of {root} removes it"
        )
    for name in _list(root / repair.ASIDE):
        message = "a version that was not whole, put aside by a repair"
        yield _found(WARNING, "aside", root / repair.ASIDE / name, message, f"rm -r {root / repair.ASIDE / name}")
    for name in sorted(os.listdir(root)):
        if recovery.is_temporary(name):
            message = "left by a write that was cut short"
            yield _found(NOTICE, "staging", root / name, message, f"nothing: the next change of {root} removes it")
        elif name not in _ROOT_NAMES:
            message = "memos did not put this here"
            yield _found(WARNING, "stray", root / name, message, f"mv {root / name} elsewhere")
    for name in _list(root / kept.STAGING):
        place = root / kept.STAGING / name
        message = "a writer is at work" if busy else "left by work that was cut short; it may be taken up again"
        yield _found(NOTICE, "staging", place, message, f"nothing: the next change of {root} takes it up or removes it")
    yield from _past(root)
    yield from _tags(root)


def _past(root: Path) -> Iterator[Finding]:
    try:
        current = kept.current_name(root)
    except MemosError:
        return
    for name in _list(root / kept.VERSIONS):
        place = root / kept.VERSIONS / name
        if kept.VERSION_NAME.fullmatch(name) is None:
            message = "expected only folders named <number>-<digest> here"
            yield _found(WARNING, "stray", place, message, f"mv {place} elsewhere")
        elif name != current and kept.version_number(name) >= kept.version_number(current):
            message = "this version was never published, or `current` was set back by hand"
            yield _found(NOTICE, "unpublished", place, message, f"nothing: the next change of {root} removes it")


def _tags(root: Path) -> Iterator[Finding]:
    for name in _list(root / kept.TAGS):
        place = root / kept.TAGS / name
        target = kept.tag_target(place)
        if target is None or not (root / kept.VERSIONS / target).is_dir():
            yield _found(WARNING, "tag", place, "this tag points to no version of the cube", f"rm {place}")


def _log(root: Path, counts: Counts) -> Iterator[Finding]:
    path = trail.path_of(root)
    counts.log_lines = sum(1 for _ in trail.entries(path))
    for problem in trail.verify(path):
        place = f"{path}:{problem.line}"
        if problem.code == "torn":
            yield _found(NOTICE, "log-torn", place, problem.message, "nothing: the next line heals it and says so")
        else:
            remedy = "compare it with a copy from before; what follows the place is still chained"
            yield _found(DAMAGE, f"log-{problem.code}", place, problem.message, remedy)


def _list(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
