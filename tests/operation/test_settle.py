"""Adapters and probes follow the memories they are of, in real cubes and through the frame of every change."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from memos_cli.cube import metadata, parameter, probes
from memos_cli.cube.parameter import Adapter, Rights
from memos_cli.cube.parameter_files import WEIGHTS
from memos_cli.errors import MemosError
from memos_cli.infrastructure import vault
from memos_cli.interface import api
from memos_cli.operation.audit import audit
from memos_cli.operation.findings import DAMAGE, NOTICE, WARNING
from memos_cli.operation.marking import Marks
from tests.conftest import Memos
from tests.cube import adapters
from tests.cube.test_probes import probe

STAMP = vault.Stamp("distill", {"key": "ed25519:00", "user": "tester"}, "2026-01-31T12:00:00Z")
NOTES = "# Boiler\n\nThe boiler's code is 4711.\n\n# Bins\n\nThe bins go out on Tuesday.\n"


@pytest.fixture
def cube(home: Path, work: Path) -> Path:
    """A cube of two memories, and two adapters: of the first, and of the second on top of it."""
    (work / "notes.md").write_text(NOTES)
    api.ingest("a.cube", [Path("notes.md")], embedder="none")
    one, two = sorted(rows(Path("a.cube")), key=lambda row: row.line_start or 0)
    with vault.draft(Path("a.cube").resolve(), stamp=STAMP) as draft:
        folder = draft.path / parameter.FOLDER
        first = store(folder, "first", [one])
        store(folder, "second", [two], seed=8, on=[first])
        made = [probe(row.id, answer=row.text) for row in (one, two)] + [probe("", kind="decoy")]
        probes.append(draft.path / "plaintext", made)
        count(draft.path)
        draft.commit()
    return work / "a.cube"


def rows(cube: Path) -> list[Any]:
    return list(api.memories(cube))


def store(folder: Path, name: str, taught: Sequence[Any], **more: Any) -> Adapter:
    sources = tuple(adapters.source(row.id, text=row.text) for row in taught)
    (folder.parent / "made").mkdir(exist_ok=True)
    made = adapters.write(folder, name, sources=sources, **more)
    shutil.rmtree(folder.parent / "made")
    return made


def count(tree: Path) -> None:
    """Counts in memcube.toml, as every change writes them."""
    cube = metadata.load(tree)
    counts = metadata.Parameter(*parameter.measure(tree / parameter.FOLDER))
    vault.write_bytes(tree / metadata.FILE, metadata.dumps(replace(cube, parameter=counts)))


def states(cube: Path) -> dict[str, str]:
    folder = cube / "current" / parameter.FOLDER
    return {name: parameter.read(folder, name).about.state for name in parameter.names(folder)}


def asked(cube: Path) -> set[str]:
    return set(probes.memory_ids(cube / "current" / "plaintext"))


def found(cube: Path, *, deep: bool = True) -> list[tuple[str, str]]:
    return [(finding.severity, finding.code) for finding in audit(cube, deep=deep).findings]


def test_a_cube_tells_of_its_adapters(cube: Path) -> None:
    assert api.show(cube).forms == ("plaintext", "parameter")
    said = metadata.load(cube / "current").parameter
    assert said.adapters == 2
    assert said.bytes == sum(parameter.read(cube / "current" / "parameter", name).bytes for name in ("first", "second"))
    assert found(cube) == found(cube, deep=False) == []


def test_show_tells_what_each_is_for_and_why_it_is_not_used(cube: Path, memos: Memos) -> None:
    one = min(rows(cube), key=lambda row: row.line_start or 0)
    first, second = api.show(cube).adapters
    assert (first.name, first.model, first.memories, first.state, first.requires) == ("first", "nano", 1, "fresh", ())
    assert (second.requires, second.gated, second.kind) == (("first",), True, "facts")
    api.forget(cube, ids=[one.id])
    change(cube, lambda tree: (tree / "parameter" / "second" / WEIGHTS).unlink())
    lines = [line for line in memos("show", cube).lines if line.startswith("adapter ")]
    assert lines[0].startswith(f"adapter first\tstale: memory {one.id} is forgotten of 1; 1 memories for nano, rank 4")
    assert lines[1].startswith("adapter second\tdamaged: ")
    assert [one["state"] for one in memos("show", cube, "--json").json["adapters"]] == ["stale", "damaged"]
    assert next(iter(api.cubes()), None) is None


def test_forgetting_a_memory_reaches_its_adapters_and_probes(cube: Path) -> None:
    one, two = sorted(rows(cube), key=lambda row: row.line_start or 0)
    told: list[str] = []
    api.forget(cube, ids=[two.id], notify=told.append)
    assert states(cube) == {"first": "fresh", "second": "stale"}
    assert any("adapter second is stale" in text for text in told)
    assert asked(cube) == {one.id}
    api.forget(cube, ids=[one.id])
    assert states(cube) == {"first": "stale", "second": "stale"}
    first = parameter.read(cube / "current" / parameter.FOLDER, "first").about
    assert first.reason == f"memory {one.id} is forgotten of 1"
    assert asked(cube) == set()
    assert probes.count(cube / "current" / "plaintext") == 1
    assert {(WARNING, "parameter-stale"), (WARNING, "parameter-foreign")} == set(found(cube))


def test_new_words_reach_the_adapters_above_too(cube: Path) -> None:
    one = min(rows(cube), key=lambda row: row.line_start or 0)
    api.edit(cube, one.id, text="The boiler's code is 1234.")
    assert states(cube) == {"first": "stale", "second": "stale"}
    second = parameter.read(cube / "current" / parameter.FOLDER, "second").about
    assert second.reason.startswith("first beneath it: memory ")


def test_a_source_that_is_gone_does_too(cube: Path, work: Path) -> None:
    (work / "notes.md").write_text(NOTES.partition("# Bins")[0])
    api.ingest(cube, [work / "notes.md"])
    assert states(cube) == {"first": "fresh", "second": "stale"}


def test_what_has_nothing_to_do_with_them_leaves_them(cube: Path, work: Path) -> None:
    before = adapters.contents(cube / "current" / "parameter")
    (work / "more.md").write_text("A new thing.")
    api.ingest(cube, [work / "more.md"])
    assert adapters.contents(cube / "current" / "parameter") == before


def test_labels_and_lives_follow_the_memories_and_never_fall(cube: Path) -> None:
    one = min(rows(cube), key=lambda row: row.line_start or 0)
    api.edit(cube, one.id, marks=Marks(sensitivity="restricted", ttl_days=9))
    rights = parameter.read(cube / "current" / parameter.FOLDER, "first").about.rights
    assert rights.sensitivity == "restricted"
    assert rights.expires is not None
    assert 8 < (rights.expires - datetime.now(UTC)).total_seconds() / 86_400 <= 9
    api.edit(cube, one.id, marks=Marks(ttl_days=99))
    api.edit(cube, one.id, marks=Marks(sensitivity="public"), declassify=True, reason="told to all")
    again = parameter.read(cube / "current" / parameter.FOLDER, "first").about
    assert again.rights == rights
    assert again.state == "fresh"
    assert found(cube) == []


@pytest.mark.long
def test_an_old_version_comes_back_with_its_adapters(cube: Path) -> None:
    before = api.show(cube).number
    one = min(rows(cube), key=lambda row: row.line_start or 0)
    api.forget(cube, ids=[one.id])
    api.rollback(cube, before)
    assert states(cube) == {"first": "fresh", "second": "fresh"}
    assert len(asked(cube)) == 2
    assert found(cube) == []


def test_a_copy_has_them_and_says_so(cube: Path) -> None:
    api.init("copy.cube", source=cube)
    assert api.show("copy.cube").forms == ("plaintext", "parameter")
    assert states(Path("copy.cube")) == {"first": "fresh", "second": "fresh"}


def change(cube: Path, work: Any) -> None:
    with vault.draft(cube, stamp=STAMP) as draft:
        work(draft.path)
        count(draft.path)
        draft.commit()


@pytest.mark.long
def test_a_damaged_adapter_is_told_and_stops_nothing_else(cube: Path) -> None:
    def harm(tree: Path) -> None:
        path = tree / "parameter" / "first" / WEIGHTS
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data[:-4])

    change(cube, harm)
    assert found(cube, deep=False)[0] == (DAMAGE, "parameter")
    two = max(rows(cube), key=lambda row: row.line_start or 0)
    api.forget(cube, ids=[two.id])
    assert parameter.read(cube / "current" / "parameter", "second").about.state == "stale"
    with pytest.raises(MemosError):
        parameter.read(cube / "current" / "parameter", "first")


def test_a_changed_number_is_found_by_a_deep_audit(cube: Path) -> None:
    def harm(tree: Path) -> None:
        path = tree / "parameter" / "first" / WEIGHTS
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.unlink()
        path.write_bytes(bytes(data))

    change(cube, harm)
    assert found(cube, deep=False) == []
    assert found(cube) == [(DAMAGE, "parameter")]


def test_what_an_audit_tells_of_adapters(cube: Path) -> None:
    def harm(tree: Path) -> None:
        folder = tree / parameter.FOLDER
        first, second = (parameter.read(folder, name) for name in ("first", "second"))
        odd = (adapters.source("ffff"),)
        rights = Rights("public", expires=datetime(2026, 1, 1, tzinfo=UTC))
        parameter.revise(folder, "first", replace(first.about, gated=False, rights=rights))
        parameter.revise(folder, "second", replace(second.about, sources=odd, requires=("gone@" + "0" * 64,)))
        (folder / "Odd").mkdir()
        (folder / "Odd" / "file").write_text("x")

    change(cube, harm)
    assert set(found(cube, deep=False)) == {
        (WARNING, "parameter-name"), (WARNING, "parameter-expired"), (NOTICE, "parameter-ungated"),
        (WARNING, "parameter-rights"), (WARNING, "parameter-stack"), (WARNING, "parameter-foreign"),
    }  # fmt: skip


def test_other_words_than_were_taught_are_found(cube: Path) -> None:
    def harm(tree: Path) -> None:
        folder = tree / parameter.FOLDER
        second = parameter.read(folder, "second")
        (source,) = second.about.sources
        parameter.revise(
            folder, "second", replace(second.about, sources=(source._replace(content="sha256:" + "0" * 64),))
        )

    change(cube, harm)
    assert found(cube, deep=False) == []
    assert found(cube) == [(WARNING, "parameter-foreign")]


def test_counts_and_probes_that_do_not_agree_are_told(cube: Path) -> None:
    with vault.draft(cube, stamp=STAMP) as draft:
        probes.append(draft.path / "plaintext", [probe("ffff")])
        meta = metadata.load(draft.path)
        odd = metadata.Parameter(adapters=3, bytes=meta.parameter.bytes)
        vault.write_bytes(draft.path / metadata.FILE, metadata.dumps(replace(meta, parameter=odd)))
        draft.commit()
    assert found(cube, deep=False) == [(DAMAGE, "counts"), (WARNING, "probe-foreign")]
