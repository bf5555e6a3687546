"""The part of the verb `audit` that looks past the files: rules, privacy, drift, memory tests, and the page of it all.

What is wished for is read and opened before the cube is, so that a mistake in a file of rules costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from memos_cli.errors import Damaged, MissingExtra, NotFound, Usage, WrongModel
from memos_cli.infrastructure.engine import LOCAL
from memos_cli.interface import embedding, engines, frame, testing
from memos_cli.interface.engines import Engine
from memos_cli.operation import audit_policy, audit_private, audit_rules, memory_tests, private
from memos_cli.operation.audit_rules import PII_KINDS, Rules
from memos_cli.operation.findings import NOTICE, WARNING, Audit, Finding
from memos_cli.operation.memory_tests import PLAINTEXT, Missed, Scored, Suite

if TYPE_CHECKING:
    from memos_cli.interface.frame import Reading
    from memos_cli.operation.private import Detector


@dataclass(frozen=True, slots=True)
class Checks:
    """What an audit is asked to look at besides the files, with everything that it needs at hand."""

    deep: bool
    rules: Rules | None = None
    secrets: Detector | None = None
    pii: Detector | None = None
    suite: Suite | None = None
    model: str | None = None

    @classmethod
    def of(
        cls, *, deep: bool, policy: str | Path | None, tests: str | Path | None, secrets: bool, pii: bool,
        model: str | None,
    ) -> Checks:  # fmt: skip
        """Raises NotFound, Damaged and Usage for the files, MissingExtra when a detector is asked for and absent."""
        rules = audit_rules.load(Path(policy)) if policy else None
        kinds = PII_KINDS if pii else rules.pii if rules else ()
        return cls(
            deep=deep,
            rules=rules,
            secrets=private.secrets() if secrets or (rules and rules.secrets) else None,
            pii=private.personal(kinds) if kinds else None,
            suite=memory_tests.load(Path(tests)) if tests else None,
            model=model,
        )


def hashes(engine: Engine, seen: Reading, *, deep: bool) -> dict[tuple[int, int], str]:
    """The digests of files that workers computed; none where the audit hashes them itself. Raises NotAllowed."""
    from memos_cli.operation.hashing import hash_all

    if not deep or engine.name == LOCAL:
        return {}
    engine.settle()
    with engines.opened(engine, seen) as on:
        on.insist_whole()
        return hash_all(seen.root, on.on)


def look(checks: Checks, seen: Reading, result: Audit, *, cube: str | Path) -> Audit:
    """The audit with what these checks found besides; nothing is added to a cube that is damaged."""
    if result.damaged:
        return result
    return result.with_more(_findings(checks, seen, cube))


def _findings(checks: Checks, seen: Reading, cube: str | Path) -> Iterator[Finding]:
    if (seen.path / frame.PLAINTEXT).is_dir() or seen.cube.plaintext.table:
        yield from _of_rows(checks, seen, cube)
    if checks.deep:
        yield from _model_drift(seen, checks.model)


def _of_rows(checks: Checks, seen: Reading, cube: str | Path) -> Iterator[Finding]:
    yield from audit_policy.lifecycle(seen.root, seen.memories, now=frame.now())
    if checks.rules:
        yield from audit_policy.check(
            seen.root, seen.cube, seen.memories, checks.rules, size_bytes=seen.version.manifest.size_bytes,
            now=frame.now(),
        )  # fmt: skip
    if checks.secrets or checks.pii:
        yield from audit_private.check(seen.root, seen.memories, secrets=checks.secrets, pii=checks.pii)
    if checks.deep:
        yield from _drift(seen, cube)


def _drift(seen: Reading, cube: str | Path) -> Iterator[Finding]:
    """Whether the embedder here makes the vectors that the cube has."""
    from memos_cli.operation import audit_drift

    recorded = seen.memories.embedder
    if recorded is None:
        return
    try:
        embedder = embedding.for_cube(seen.desk, recorded, spec=None, cube=str(cube))
    except WrongModel as error:
        message = f"{error.message}: a query here is compared with vectors of another model"
        yield Finding(WARNING, "drift", str(seen.root), message, f"memos reindex {seen.root}")
    except (MissingExtra, NotFound) as error:
        message = f"vectors were not computed again: {error.message}"
        yield Finding(NOTICE, "embedder-absent", str(seen.root), message, error.hint or "install the embedder")
    else:
        if embedder:
            yield from audit_drift.check(seen.root, seen.memories, embedder)


def _model_drift(seen: Reading, spec: str | None) -> Iterator[Finding]:
    """Whether the models here, the named one and the one that comes along, are those of the activation files."""
    from memos_cli.cube import activation
    from memos_cli.runtime.fingerprint import weights_digest
    from memos_cli.runtime.model import LocalModel

    files = [activation.read(path) for path in activation.find(seen.path / activation.FOLDER)]
    for each in dict.fromkeys(filter(None, (spec, "nano"))):
        local = LocalModel(each)
        mine = [made for made in files if made.header.source.get("model") == local.name]
        here = weights_digest(local.folder, cache=seen.desk.home / "cache") if mine else ""
        other = [made for made in mine if made.header.hard.get("weights") != here]
        if other:
            message = f"{len(other)} of {len(mine)} files are of other weights than {local.name} has here, and not used"
            yield Finding(
                WARNING, "model-changed", str(other[0].path), message, f"memos convert {seen.root} --model {each}"
            )


def test(
    checks: Checks, result: Audit, cube: str | Path, *, tests: str | Path, update_baseline: bool, desk: frame.Desk
) -> Audit:
    """The audit with what memory tests gave; a form below its baseline is a finding, unless the baseline is written."""
    assert checks.suite is not None
    done = testing.run(cube, checks.suite, model=checks.model, home=desk.home, notify=desk.notify)
    more = replace(result, tests=done.scores, missed=done.missed)
    if update_baseline:
        return replace(more, baseline=str(testing.write_baseline(Path(tests), done.scores)))
    return more.with_more(_shortfall(cube, score, done.missed, tests) for score in done.scores if not score.passed)


def _shortfall(cube: str | Path, score: Scored, missed: tuple[Missed, ...], tests: str | Path) -> Finding:
    of_form = [one for one in missed if one.form == score.form]
    what = "finds" if score.form == PLAINTEXT else "answers"
    message = f"{score.form} {what} {score.share:.0%} of {score.questions}, its baseline is {score.baseline:.0%}"
    if not of_form:
        return Finding(WARNING, "recall", str(tests), message, f"memos audit {cube} --tests {tests}")
    first = of_form[0]
    message += f"; missed: {first.name!r}, expected {first.expected}"
    flags = "--explain" if score.form == PLAINTEXT else f"--answer --form {testing.form_of(score.form)} --explain"
    return Finding(WARNING, "recall", str(tests), message, f"memos query {cube} {quote(first.question)} {flags}")


def refuse_lone_baseline(tests: str | Path | None, update_baseline: bool) -> None:
    """Raises Usage for a baseline without tests."""
    if update_baseline and not tests:
        raise Usage("--update-baseline keeps what memory tests reach: name them with --tests FILE")


def place_for(report: str | Path, root: Path) -> Path:
    """Where a page is written. Raises Usage for a place in the cube, Damaged for one that is no file."""
    path = Path(report)
    if path.resolve().is_relative_to(root.resolve()):
        raise Usage(f"a report is written outside the cube, found {path}", hint="--report ../report.html")
    if path.exists() and not path.is_file():
        # a device that is replaced by a file is lost to all programs
        raise Damaged(f"expected a file for the report, found a folder or a device at {path}")
    return path
