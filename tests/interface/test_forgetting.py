"""Forgetting for good: it reaches every form and version, survives a kill anywhere, and what it proves is so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from memos_cli.cube import activation, denied, exchanges, extracted, metadata, probes
from memos_cli.cube import sources as catalogue
from memos_cli.cube.plaintext import Memories, table_of
from memos_cli.errors import CheckFailed, NotAllowed, NotFound, Usage
from memos_cli.infrastructure import drops, faults, vault
from memos_cli.infrastructure.trail import path_of
from memos_cli.interface import api
from memos_cli.operation import windows
from memos_cli.operation.needles import Haystack, of_text
from memos_cli.operation.proof import look
from tests.conftest import Memos
from tests.cube import activations, adapters

SECRET = "Alice Zanzibar keeps the spare key under the blue flowerpot behind the garden shed."
NEIGHBOUR = "Trains to the coast leave every forty minutes until late in the evening."
NOTES = f"# Travel\n\nThe meeting moved to Thursday at nine.\n\n{SECRET}\n\n{NEIGHBOUR}\n\n- Pancakes need two eggs.\n"
STAMP = vault.Stamp("edit", {"key": "x", "user": "x"}, "2026-01-01T00:00:00Z")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _forget_hits() -> Iterator[None]:
    faults.reset()
    yield
    faults.reset()


@pytest.fixture
def cube(work: Path, home: Path) -> Path:
    """A cube of prose, without vectors."""
    (work / "a.md").write_text(NOTES)
    api.ingest("a.cube", ["a.md"], embedder="none")
    return work / "a.cube"


def identity(cube: Path, text: str = SECRET, **where: Any) -> str:
    (found,) = (row["id"] for row in rows(cube) if row["text"] == text)
    return str(found)


def rows(cube: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = Memories.open(cube / "current" / "plaintext").rows().to_pylist()
    return found


def change(cube: Path, work: Callable[[Path, Memories], None]) -> None:
    """One more version, with what `work` does to its tree."""
    with vault.draft(cube, stamp=STAMP) as draft:
        work(draft.path, Memories.open(draft.path / "plaintext"))
        draft.commit()


def traces(cube: Path, text: str = SECRET) -> set[str]:
    """The places of the cube that tell of a text."""
    return {trace.place for trace in look(cube, Haystack(of_text("x", text))).found}


def test_a_purge_reaches_every_file_and_proves_it(cube: Path, memos: Memos) -> None:
    assert traces(cube)
    done = memos("forget", "a.cube", "--ids", identity(cube), "--purge", "--yes", "--json")
    assert done.code == 0, done.err
    told = done.json
    assert (told["dropped"], told["rewindowed"], told["proof"]["sound"]) == ([2], 2, True)
    assert told["proof"]["looked_for"]["fragment"] > 5
    assert told["proof"]["controls_seen"] == told["proof"]["controls"] == 3
    assert traces(cube) == set()
    assert [row["text"] for row in rows(cube)].count(SECRET) == 0
    assert all("flowerpot" not in row["wide"] + row["near"] for row in rows(cube))
    assert memos("audit", "a.cube", "--deep").code == 0
    assert memos("rollback", "a.cube", "2").code == 3
    assert b"flowerpot" not in path_of(cube).read_bytes()


def test_a_dry_run_tells_and_changes_nothing(cube: Path, memos: Memos) -> None:
    before = os.readlink(cube / "current")
    done = memos("forget", "a.cube", "--subject", "the  spare KEY", "--purge", "--dry-run", "--json")
    assert done.json["ids"] == [identity(cube)]
    assert (done.json["dropped"], done.json["proof"]) == ([2], None)
    assert os.readlink(cube / "current") == before
    assert memos("forget", "a.cube", "--ids", identity(cube), "--purge").code == 2  # nobody said yes


def test_a_subject_is_words_and_hides_what_names_it(cube: Path, memos: Memos) -> None:
    assert memos("forget", "a.cube", "--subject", "anzibar").code == 3
    done = memos("forget", "a.cube", "--subject", "alice zanzibar", "-q")
    assert done.lines == [identity(cube)]
    assert memos("query", "a.cube", "flowerpot", "-q").lines == []
    assert traces(cube)  # hidden only
    assert memos("forget", "a.cube", "--subject", "alice zanzibar", "--purge", "-y").code == 0
    assert traces(cube) == set()


def test_what_was_forgotten_does_not_come_back_with_its_source(cube: Path, memos: Memos) -> None:
    known = identity(cube)
    api.purge("a.cube", ids=[known])
    again = memos("ingest", "a.cube", "a.md")
    assert "1 piece was left out" in again.err
    assert len(rows(cube)) == 3
    assert traces(cube) == set()
    wrapped = SECRET.replace("under the", "under\nthe").replace("Alice", "ALICE")
    Path("b.md").write_text(f"# Elsewhere\n\nAnother start here. {wrapped}\n\nNew words.\n")
    memos("ingest", "a.cube", "b.md")
    assert [row["text"] for row in rows(cube) if row["source"] == "b.md"] == ["New words."]
    assert traces(cube) == set()
    assert memos("rollback", "a.cube", "1").code == 0  # to before it was known
    memos("ingest", "a.cube", "a.md")
    assert traces(cube) == set()
    assert memos("forget", "a.cube", "--allow-again", "--ids", known).code == 0
    memos("ingest", "a.cube", "a.md")
    assert identity(cube) == known


@pytest.mark.long
def test_words_let_in_again_are_named_by_themselves_too(cube: Path, home: Path) -> None:
    api.purge("a.cube", ids=[identity(cube)])
    with pytest.raises(NotFound):
        api.allow_again("a.cube", text="other words")
    assert "1 may come back" in api.allow_again("a.cube", text=SECRET.upper()).message
    api.ingest("a.cube", ["a.md"])
    assert identity(cube)
    with pytest.raises(Usage):
        api.allow_again("a.cube")


def test_the_list_of_what_is_denied_tells_nothing(cube: Path) -> None:
    known = identity(cube)
    api.purge("a.cube", ids=[known])
    (entry,) = denied.read(cube / "current" / "plaintext")
    assert len(entry.runs) > 3
    data = (cube / "current" / "plaintext" / denied.FILE).read_bytes()
    assert known.encode() not in data
    assert b"Alice" not in data
    assert b"a.md" not in data


@pytest.mark.long
def test_another_home_cannot_keep_them_out_and_is_told(cube: Path, home: Path, memos: Memos) -> None:
    api.purge("a.cube", ids=[identity(cube)])
    (home / "keys" / "forget.key").unlink()
    done = memos("ingest", "a.cube", "a.md")
    assert "another home" in done.err
    assert identity(cube)


def test_facts_answers_caches_adapters_and_probes_go_too(cube: Path, home: Path) -> None:
    known, other = identity(cube), identity(cube, NEIGHBOUR)
    here = [row for row in rows(cube) if row["section"] == "Travel"]
    (part,) = windows.cut(sorted(here, key=lambda row: row["position"]))

    def add(tree: Path, memories: Memories) -> None:
        plaintext = tree / "plaintext"
        common = {"created_at": NOW, "updated_at": NOW, "words": 5, "kind": "memory", "valid_from": NOW}
        fact = {
            **common, "id": "f" * 20, "text": "Alice hides a key.", "near": "Travel\nAlice hides a key.",
            "wide": "Alice hides a key.", "source": "a.md", "section": "Travel", "position": 1 << 40,
            "origin": "inference_extraction", "content_key": extracted.content_key(part.key, "0" * 16),
        }  # fmt: skip
        uri = exchanges.uri_of("where is the key?", "in the garden")
        answer = {
            **common, "id": "e" * 20, "text": "It is in the garden.", "near": "x", "wide": "x", "source": uri,
            "section": "where is the key?", "position": 0, "origin": "inference_extraction", "content_key": "c" * 32,
        }  # fmt: skip
        memories.append(table_of([fact, answer], embedder=None))
        asked = extracted.Asked("a.md", part.key, "nano", 1, NOW)
        vault.write_bytes(plaintext / extracted.FILE, extracted.encode({asked.key: asked}))
        told = exchanges.Exchange(uri, "nano", "plaintext", (known,), ("c@2",), NOW)
        vault.write_bytes(plaintext / exchanges.FILE, exchanges.encode([told]))
        for seed, memory in enumerate((known, other)):
            head = activations.header(memory=memory)
            numbers = activations.tensors(head, seed=seed)
            ids = range(100 * seed, 100 * seed + head.tokens)
            activation.write(tree / "activation", head, token_ids=list(ids), tensors=numbers)
        adapters.write(tree / "parameter", "facts", sources=(adapters.source(known), adapters.source(other)))
        adapters.write(tree / "parameter", "trains", sources=(adapters.source(other),), seed=3)
        probes.append(
            plaintext,
            [
                probes.Probe(known, "Where is the key?", "under the blue flowerpot", "template", "test", NOW),
                probes.Probe(other, "Who keeps the spare key?", "n/a", "decoy", "test", NOW, evidence=SECRET),
                probes.Probe(other, "When do trains leave?", "every forty minutes", "template", "test", NOW),
            ],
        )
        (tree / "exports").mkdir()
        vault.write_bytes(tree / "exports" / "pack.jsonl", SECRET.upper().encode("utf-16-le"))
        vault.write_bytes(tree / "exports" / "other.jsonl", b"harmless")

    change(cube, add)
    told = api.purge("a.cube", ids=[known])
    assert set(told.along) == {"f" * 20, "e" * 20}
    assert told.proof is not None
    assert told.proof.sound, told.proof
    assert [name.split(".")[0] for name in told.activations] == [known]
    assert told.adapters == ("facts",)
    assert set(told.others) == {"exports/pack.jsonl", "plaintext/probes.lance: 2 rows"}
    tree = cube / "current"
    assert [activation.memory_of(path) for path in activation.find(tree / "activation")] == [other]
    assert os.listdir(tree / "parameter") == ["trains"]
    assert [probe.question for probe in probes.read(tree / "plaintext")] == ["When do trains leave?"]
    assert extracted.read(tree / "plaintext") == {}
    assert exchanges.read(tree / "plaintext") == {}
    assert (tree / "exports" / "other.jsonl").exists()
    assert told.proof.looked_for["cache"] > 0


@pytest.mark.long
def test_an_earlier_stay_of_the_same_words_goes_too_and_the_chain_closes(cube: Path) -> None:
    first = identity(cube)
    second = api.edit("a.cube", first, text="It was moved.").ids[0]
    third = api.edit("a.cube", second, text="It was moved again.").ids[0]
    told = api.purge("a.cube", ids=[second])
    assert told.ids == (second,)
    by_id = {row["id"]: row for row in rows(cube)}
    assert (by_id[third]["supersedes"], by_id[first]["superseded_by"]) == (first, third)
    assert api.audit("a.cube", deep=True).findings == ()
    assert api.purge("a.cube", ids=[first]).proof.sound  # type: ignore[union-attr]
    assert traces(cube) == set()


@pytest.mark.long
def test_other_memories_that_say_the_same_are_told(cube: Path, memos: Memos) -> None:
    Path("b.md").write_text(f"# B\n\n{SECRET}\n")
    memos("ingest", "a.cube", "b.md")
    first, second = (row["id"] for row in rows(cube) if row["text"] == SECRET)
    done = memos("forget", "a.cube", "--ids", first, "--purge", "--yes")
    assert done.code == 9
    assert f"--ids {second}" in done.err
    assert memos("forget", "a.cube", "--ids", second, "--purge", "--yes").code == 0
    assert traces(cube) == set()


def test_a_hold_keeps_them(cube: Path) -> None:
    known = identity(cube)
    change(cube, lambda tree, memories: memories.change([known], legal_hold=True))
    with pytest.raises(NotAllowed, match="hold"):
        api.purge("a.cube", ids=[known])

    def hold(tree: Path, memories: Memories) -> None:
        meta = metadata.load(tree)
        meta = replace(meta, governance=replace(meta.governance, owner=api_owner(), legal_hold=True))
        vault.write_bytes(tree / metadata.FILE, metadata.dumps(meta))

    def api_owner() -> str:
        return metadata.load(cube / "current").governance.owner

    change(cube, hold)
    with pytest.raises(NotAllowed, match="hold"):
        api.purge("a.cube", ids=[identity(cube, NEIGHBOUR)])
    assert traces(cube)


@pytest.mark.long
def test_a_reason_that_says_it_is_refused(cube: Path) -> None:
    before = os.readlink(cube / "current")
    with pytest.raises(Usage, match="reason"):
        api.purge("a.cube", ids=[identity(cube)], reason="remove: the blue flowerpot behind the garden shed")
    assert os.readlink(cube / "current") == before
    assert api.purge("a.cube", ids=[identity(cube)], reason="asked by mail").proof.sound  # type: ignore[union-attr]


def test_tags_drafts_and_what_a_migration_left_go_with_the_versions(cube: Path, memos: Memos) -> None:
    api.tag("a.cube", "good")
    api.tag("a.cube", "start", number=1)
    (cube / "before-migration").mkdir()
    (cube / "before-migration" / "memories.jsonl").write_text(f'{{"text":"{SECRET}"}}')
    with vault.draft(cube, stamp=STAMP, resume="ingest-1") as draft:
        draft.checkpoint({})
    assert any(place.startswith("staging/") for place in traces(cube))
    told = api.purge("a.cube", ids=[identity(cube)])
    assert told.proof
    assert told.proof.sound
    assert vault.tags(cube) == {"start": 1}
    assert not (cube / "before-migration").exists()
    assert memos("audit", "a.cube", "--deep").code == 0


def test_a_version_that_is_being_read_is_told_and_dropped_later(cube: Path, memos: Memos) -> None:
    known = identity(cube)
    with vault.snapshot(cube):
        done = memos("forget", "a.cube", "--ids", known, "--purge", "--yes", "--lock-timeout", "0.1")
        assert done.code == 9
        assert "still being read" in done.err
        assert memos("rollback", "a.cube", "2").code == 3
        assert memos("edit", "a.cube", identity(cube, NEIGHBOUR), "--type", "fact").code == 0
        assert traces(cube)
    assert memos("forget", "a.cube", "--ids", known, "--purge", "--yes").code == 0
    assert traces(cube) == set()
    assert drops.pending(cube) == ()


POINTS = ("purged", "sealed", "manifest_written", "published", "pointer_written", "committed", "dropping",
          "sweep_before", "sweep_moved", "dropped")  # fmt: skip


def killed_at(point: str, known: str) -> int:
    """The exit status of a purge that is killed there, in a process of its own: Lance is not to be forked."""
    words = ["forget", "a.cube", "--ids", known, "--purge", "--yes"]
    env = {**os.environ, faults.VARIABLE: f"{point}:kill"}
    return subprocess.run([sys.executable, "-m", "memos_cli", *words], env=env, capture_output=True).returncode


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_a_kill_anywhere_leaves_old_or_new_and_a_rerun_completes(point: str, cube: Path) -> None:
    known = identity(cube)
    api.edit("a.cube", identity(cube, NEIGHBOUR), text="Trains leave twice.")
    assert killed_at(point, known) == -signal.SIGKILL
    published = POINTS.index(point) >= POINTS.index("committed")
    assert vault.current_number(cube) == (4 if published else 3)
    there = [row["id"] for row in rows(cube)]
    assert (known in there) != published
    told = api.purge("a.cube", ids=[known])
    assert told.proof
    assert told.proof.sound
    assert traces(cube) == set()
    assert api.audit("a.cube", deep=True).findings == ()


SHORT = ("purged", "dropping", "dropped")


@pytest.mark.many(2)
@pytest.mark.parametrize("kind", ["enospc", "eio"])
@pytest.mark.parametrize("point", [pytest.param(one, marks=[pytest.mark.slow] * (one not in SHORT)) for one in POINTS])
def test_a_disk_that_fails_anywhere_leaves_old_or_new_and_a_rerun_completes(
    point: str, kind: str, cube: Path, memos: Memos, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = identity(cube)
    api.edit("a.cube", identity(cube, NEIGHBOUR), text="Trains leave twice.")
    words = ["forget", "a.cube", "--ids", known, "--purge", "--yes"]
    with monkeypatch.context() as patch:
        patch.setenv(faults.VARIABLE, f"{point}:{kind}:1+")
        done = memos(*words)
        published = POINTS.index(point) >= POINTS.index("committed")
        assert (done.code, "for good" in done.out) == (1, False)
        assert ("is published" in done.err or "are forgotten, but" in done.err) == published
        assert vault.current_number(cube) == (4 if published else 3)
        assert (known in [row["id"] for row in rows(cube)]) != published
        assert published or traces(cube)
    again = memos(*words)
    assert (again.code, "nothing was found" in again.out) == (0, True), again.err
    assert traces(cube) == set()
    assert drops.pending(cube) == ()
    assert api.audit("a.cube", deep=True).findings == ()


@pytest.mark.long
def test_any_other_writer_finishes_what_was_cut_short(cube: Path) -> None:
    known, other = identity(cube), identity(cube, NEIGHBOUR)
    assert killed_at("committed", known) == -signal.SIGKILL
    assert traces(cube)
    api.edit("a.cube", other, text="Trains leave twice.")
    assert traces(cube) == set()


def test_a_list_of_drops_from_elsewhere_reaches_nothing_else(cube: Path, tmp_path: Path) -> None:
    with vault.draft(cube, stamp=STAMP) as draft:
        odd = ["../../x", "00000003-" + "0" * 16, "00000099-" + "0" * 16, "current", 7, None]
        draft.commit({"drops": odd})
    assert drops.pending(cube) == ()
    api.edit("a.cube", identity(cube), text="still here")


def test_ids_that_never_were_are_not_found(cube: Path) -> None:
    with pytest.raises(NotFound):
        api.purge("a.cube", ids=["0" * 20])
    with pytest.raises(NotFound):
        api.purge("a.cube", where="type=fact")
    with pytest.raises(Usage):
        api.purge("a.cube")


@pytest.mark.long
def test_new_words_by_hand_do_not_bring_them_back(cube: Path) -> None:
    api.purge("a.cube", ids=[identity(cube)])
    with pytest.raises((NotAllowed, CheckFailed)):
        api.edit("a.cube", identity(cube, NEIGHBOUR), text=SECRET)
    assert traces(cube) == set()
    assert catalogue.read(cube / "current" / "plaintext")["a.md"].memories == 3


@pytest.mark.long
def test_all_of_a_cube_can_be_forgotten(cube: Path, memos: Memos) -> None:
    told = api.purge("a.cube", ids=[row["id"] for row in rows(cube)])
    assert told.proof
    assert told.proof.sound
    assert rows(cube) == []
    assert catalogue.read(cube / "current" / "plaintext") == {}
    assert memos("query", "a.cube", "where is the spare key?", "-q").lines == []
    assert api.audit("a.cube", deep=True).findings == ()
