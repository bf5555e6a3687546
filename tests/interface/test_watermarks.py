"""Copies that tell whom they were made for: by a stamp, and by canaries when the stamp is gone."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from memos_cli.cube import activation, metadata, parameter, tensorfile
from memos_cli.cube.plaintext import Memories
from memos_cli.infrastructure import ledger, stamping, vault
from memos_cli.interface import api, frame
from tests.conftest import Begin, Memos, ok
from tests.cube import activations, adapters
from tests.interface.people import People, Person

ANN, BOB = "Ann Lee <ann@example.org>", "Bob"


def texts(cube: str) -> set[str]:
    return set(Memories.open(Path(cube) / "current" / "plaintext").rows(columns=["text"])["text"].to_pylist())


def open_to_all(memos: Memos) -> None:
    Path("a.md").write_text("# Home\n\n- The passport is in the drawer.\n- The home town of Ana is Lindau.\n")
    Path("b.md").write_text("The release train leaves at noon.\n\nNobody deploys on a holiday.\n")
    ok(memos("init", "team.cube", "--embedder", "none", "--share-scope", "anyone"))
    ok(memos("ingest", "team.cube", "a.md", "b.md"))


@pytest.fixture
def cube(begin: Begin) -> str:
    """A cube of two sources that anybody may have."""
    begin(open_to_all)
    return "team.cube"


@pytest.fixture
def ann(home: Path, memos: Memos, monkeypatch: pytest.MonkeyPatch) -> Person:
    return People(home, memos, monkeypatch)("ann")


def copied(memos: Memos, who: str, name: str, *, canaries: int = 5) -> None:
    """The copy of somebody, as a package and as a cube."""
    ok(memos("pack", "team.cube", "--for", who, "--canaries", str(canaries), "-o", f"{name}.memcube"))
    ok(memos("unpack", f"{name}.memcube", f"{name}.cube"))


def packed(memos: Memos, home: Path, who: str, *, canaries: int = 5) -> Path:
    """The copy of somebody as a package, named after them, and the folder that it was packed from."""
    found = ok(memos("pack", "team.cube", "--for", who, "--canaries", str(canaries), "--json", "--yes")).json
    cube_id = metadata.load(Path("team.cube/current")).id
    made = [folder for folder in (home / "cache" / "packs").glob(f"{cube_id}-*")]
    return next(one for one in made if metadata.load(one).version == found["version"])


def planted_in(folder: Path) -> set[str]:
    rows = Memories.open(folder / "plaintext").rows(columns=["text"])
    return set(rows["text"].to_pylist()) - texts("team.cube")


def rewritten(person: Person, cube: str, change: Callable[[metadata.Memcube], metadata.Memcube]) -> None:
    """A version of a cube with other metadata, made by somebody who knows memos."""
    with frame.changing(frame.desk(person.home), cube, "edit") as draft:
        draft.commit({}, cube=change(draft.cube))


def test_a_copy_names_its_recipient_in_every_place_and_is_sound(cube: str, memos: Memos, ann: Person) -> None:
    before = (Path(cube) / "current").readlink(), texts(cube)
    done = ok(memos("pack", cube, "--for", "  Ann Lee\t<ann@example.org>", "--json")).json
    assert (done["recipient"], done["canaries"], done["version"][:10]) == (ANN, 0, "0.1.0-for-")
    assert ((Path(cube) / "current").readlink(), texts(cube)) == before
    one = Path(done["path"]).read_bytes()
    assert ok(memos("pack", cube, "--for", ANN, "-o", "again.memcube", "--json")).json["digest"] == done["digest"]
    assert Path("again.memcube").read_bytes() == one
    traced = ok(memos("audit", done["path"], "--trace", "--json")).json
    assert [(one["place"], one["standing"], one["recipient"]) for one in traced["stamps"]] == [
        ("manifest", "verified", ANN), ("memcube.toml", "verified", ANN),
    ]  # fmt: skip
    assert (traced["kind"], traced["recipients"], traced["copies"]) == ("package", [ANN], [])
    ok(ann.run("unpack", done["path"], "got.cube"))
    assert ok(ann.run("show", "got.cube", "--json")).json["made_for"] == ANN
    ok(ann.run("audit", "got.cube", "--deep"))
    ok(ann.run("init", "fork.cube", "--from", "got.cube"))
    assert ok(ann.run("show", "fork.cube", "--json")).json["made_for"] == ANN
    # who does not know the maker's key is told so
    assert ok(ann.run("audit", "got.cube", "--trace", "--json")).json["stamps"][0]["standing"] == "foreign"


def test_caches_and_adapters_carry_the_stamp_and_stay_what_they_are(home: Path, tmp_path: Path) -> None:
    cache = activations.write(tmp_path / "activation")
    lower = adapters.write(tmp_path / "parameter", "facts")
    adapters.write(tmp_path / "parameter", "more", seed=8, on=[lower])
    numbers = {path.name: path.read_bytes()[-64:] for path in tmp_path.rglob("*.safetensors")}
    made = stamping.seal(home, "identity", unsigned())
    stamping.put(tmp_path, made)
    assert activation.verify(cache.path).header == cache.header
    assert parameter.verify(tmp_path / "parameter", "more").about.requires == (lower.reference,)
    assert tensorfile.read_head(cache.path).metadata["memos.stamp"] == made.text
    assert {path.name: path.read_bytes()[-64:] for path in tmp_path.rglob("*.safetensors")} == numbers
    found = [one for one in stamping.find(tmp_path) if one.place != metadata.FILE]
    assert [one.place.split("/")[0] for one in found] == ["activation", "parameter"]
    assert {(one.stamp, one.key == stamping.signer(made) != "") for one in found} == {(made, True)}


def unsigned() -> stamping.Stamp:
    zero = "sha256:" + "0" * 64
    return stamping.Stamp("Ann", "", "0" * 32, "team", "0.1.0", zero, zero, "")


@pytest.mark.long
def test_each_copy_has_canaries_of_its_own_and_the_cube_has_none(cube: str, memos: Memos) -> None:
    own = texts(cube)
    copied(memos, ANN, "ann")
    copied(memos, BOB, "bob")
    of_ann, of_bob = texts("ann.cube") - own, texts("bob.cube") - own
    assert (len(of_ann), len(of_bob), of_ann & of_bob) == (5, 5, set())
    assert texts(cube) == own
    # two who compare their copies see what is in one alone: the page says so
    assert texts("ann.cube") ^ texts("bob.cube") == of_ann | of_bob
    table = Memories.open(Path("ann.cube/current/plaintext"))
    assert table.table.stats()["fragment_stats"]["num_fragments"] == 1
    sources = table.rows(columns=["source"])["source"].to_pylist()
    assert len({sources[0], sources[-1]}) == 2
    assert sources == sorted(sources, key=sources.index)  # each beside its neighbours, not at the end
    version = Path("ann.cube/current").resolve()
    assert b"canar" not in b"".join(path.read_bytes() for path in version.rglob("*") if path.is_file())
    audit = ok(memos("audit", "ann.cube", "--deep", "--json")).json
    assert audit["findings"] == []
    assert "passport" in ok(memos("query", "ann.cube", "where is the passport?", "-k", "1")).out


def test_the_ledger_is_private_and_tells_no_words(cube: str, home: Path, memos: Memos) -> None:
    planted = planted_in(packed(memos, home, ANN))
    path = ledger.path_of(home)
    assert [stat.S_IMODE(place.stat().st_mode) for place in (path, path.parent)] == [0o600, 0o700]
    kept = path.read_text()
    assert ANN in kept
    names = {word.strip(".,") for text in planted for word in text.split() if word[0].isupper()}
    assert not [name for name in names if len(name) > 5 and name.lower() in kept.lower()]
    for text in planted:
        assert hashlib.sha256(text.encode()).hexdigest()[:32] not in kept
    packed(memos, home, ANN)
    assert path.read_text() == kept  # the same copy is noted once
    path.write_text(kept + kept[:100])  # a process died there
    packed(memos, home, BOB)
    assert len(path.read_text().splitlines()) == 2
    assert [copy.recipient for copy in ledger.read(home)] == [ANN, BOB]
    path.write_text("no copy\n")
    assert memos("audit", cube, "--trace").code == 4


@pytest.mark.long
def test_a_copy_whose_stamp_was_cut_off_is_traced_by_its_canaries(cube: str, memos: Memos, ann: Person) -> None:
    copied(memos, BOB, "bob")
    ok(memos("pack", cube, "--for", ANN, "--canaries", "5", "-o", "ann.memcube"))
    ok(ann.run("unpack", "ann.memcube", "leak.cube"))
    rewritten(ann, "leak.cube", lambda meta: replace(meta, stamp=None))
    ok(ann.run("edit", "leak.cube", "--read-scope", "anyone", "--share-scope", "anyone"))
    ok(ann.run("pack", "leak.cube", "-o", "leak.memcube"))
    for leak in ("leak.memcube", "leak.cube"):
        found = ok(memos("audit", leak, "--trace", "--json")).json
        assert (found["stamps"], found["recipients"]) == ([], [ANN])
        (copy,) = found["copies"]
        assert (copy["planted"], copy["whole"], copy["part"]) == (5, 5, 0)
        assert copy["chance"] < 1e-20


def test_a_forged_stamp_names_nobody(cube: str, memos: Memos, ann: Person) -> None:
    copied(memos, ANN, "ann", canaries=0)
    ok(ann.run("unpack", "ann.memcube", "leak.cube"))
    rewritten(ann, "leak.cube", lambda meta: replace(meta, stamp=replace(meta.stamp, recipient=BOB)))  # type: ignore[type-var,arg-type]
    ok(ann.run("edit", "leak.cube", "--read-scope", "anyone"))
    done = memos("audit", "leak.cube", "--trace", "--json")
    assert (done.code, done.json["recipients"], done.json["stamps"][0]["standing"]) == (9, [], "forged")
    assert "Bob" not in done.out
    # signed anew by somebody else it is theirs, and their key is told
    desk = frame.desk(ann.home)
    rewritten(
        ann, "leak.cube", lambda meta: replace(meta, stamp=stamping.seal(desk.home, "identity", meta.stamp))  # type: ignore[arg-type]
    )  # fmt: skip
    found = ok(memos("audit", "leak.cube", "--trace", "--json")).json
    assert (found["recipients"], found["stamps"][0]["standing"], found["stamps"][0]["key"]) == ([], "foreign", ann.key)


@pytest.mark.long
def test_a_stamp_moved_to_another_copy_is_seen_and_canaries_are_believed(cube: str, memos: Memos, ann: Person) -> None:
    copied(memos, BOB, "bob")
    ok(memos("pack", cube, "--for", ANN, "--canaries", "5", "-o", "ann.memcube"))
    ok(ann.run("unpack", "ann.memcube", "leak.cube"))
    bobs = metadata.load(Path("bob.cube/current")).stamp
    rewritten(ann, "leak.cube", lambda meta: replace(meta, stamp=bobs))
    ok(ann.run("edit", "leak.cube", "--read-scope", "anyone"))
    done = memos("audit", "leak.cube", "--trace", "--json")
    assert (done.code, done.json["recipients"]) == (9, [ANN])
    assert [(one["recipient"], one["standing"]) for one in done.json["stamps"]] == [(BOB, "moved")]
    assert "canaries of Ann Lee" in done.err


def test_a_leak_of_words_alone_is_traced(cube: str, home: Path, work: Path, memos: Memos) -> None:
    packed(memos, home, BOB)
    planted = sorted(planted_in(packed(memos, home, ANN)))
    every = [*texts(cube), *planted]
    (work / "list.jsonl").write_text("".join(json.dumps({"id": 1, "text": text}) + "\n" for text in every))
    (work / "one.json").write_text(json.dumps({"dump": [{"memory": text} for text in every]}, indent=1))
    words = " ".join(f"* {text.upper()}" for text in planted).split()
    (work / "wrapped.txt").write_text("\n".join(" ".join(words[at : at + 3]) for at in range(0, len(words), 3)))
    for name in ("list.jsonl", "one.json", "wrapped.txt"):
        found = ok(memos("audit", name, "--trace", "--json")).json
        assert (found["kind"], found["recipients"]) == ("text", [ANN])
        assert found["copies"][0]["whole"] == 5
    (work / "notes.md").write_text("# Theirs\n\n" + "\n".join(f"- {text}" for text in every))
    ok(memos("ingest", "theirs.cube", "notes.md", "--embedder", "none"))
    assert ok(memos("audit", "theirs.cube", "--trace", "--json")).json["copies"][0]["whole"] == 5
    (work / "some.txt").write_text("It was said that " + planted[0] + " And more.")
    (copy,) = ok(memos("audit", "some.txt", "--trace", "--json")).json["copies"]
    assert (copy["whole"], copy["planted"]) == (1, 5)
    done = ok(memos("audit", "a.md", "--trace"))
    assert done.out.startswith("nothing: no stamp, and no canary of 2 copies in")


@pytest.mark.long
def test_names_and_numbers_together_are_traced_in_other_sentences(
    cube: str, home: Path, work: Path, memos: Memos
) -> None:
    planted = planted_in(packed(memos, home, ANN, canaries=8))
    kept = [[word.strip(".,") for word in text.split() if word.strip(".,").isdigit()] for text in planted]
    names = [[word.strip(".,") for word in text.split()[1:] if word[0].isupper() and len(word) > 6] for text in planted]
    lines = [
        f"we heard of {' and '.join(name)}, of all things {number[0]}" for name, number in zip(names, kept, strict=True)
    ]
    (work / "told.txt").write_text("\n".join(lines))
    (copy,) = ok(memos("audit", "told.txt", "--trace", "--json")).json["copies"]
    assert copy["whole"] == 0
    assert copy["part"] >= 3
    assert copy["chance"] < 1e-6


@pytest.mark.long
def test_frames_of_ones_own_are_used(cube: str, home: Path, memos: Memos) -> None:
    (home / "canaries.txt").write_text("# mine\nDer Schlüssel von {given} {name} hat die Nummer {n6}.\n")
    planted = planted_in(packed(memos, home, ANN, canaries=3))
    assert all(text.startswith("Der Schlüssel von") for text in planted)
    Path("leak.json").write_text(json.dumps(sorted(planted)))  # escaped letters are letters
    assert ok(memos("audit", "leak.json", "--trace", "--json")).json["copies"][0]["whole"] == 3
    for frame_ in ("No places here.", "{name} alone", "{odd} {name} {n5}", "{name {n5}"):
        (home / "canaries.txt").write_text(f"{frame_}\n")
        done = memos("pack", cube, "--for", BOB, "--canaries", "2")
        assert (done.code, "canaries.txt:1" in done.err) == (2, True), frame_


@pytest.mark.many(3)
@pytest.mark.parametrize(
    "flags",
    [
        ["--canaries", "3"], ["--for", " "], ["--for", "a\x1b[31m"], ["--for", "x" * 300], ["--for", "‮evil"],
        ["--for", ANN, "--canaries", "101"], ["--for", ANN, "--canaries", "2", "--forms", "parameter"],
    ],
)  # fmt: skip
def test_wishes_that_make_no_sense_are_refused(cube: str, home: Path, memos: Memos, flags: list[str]) -> None:
    assert memos("pack", cube, *flags).code == 2
    assert not list(Path().glob("*.memcube"))
    assert not ledger.path_of(home).exists()


def test_a_dry_run_notes_nothing(cube: str, home: Path, memos: Memos) -> None:
    done = ok(memos("pack", cube, "--for", ANN, "--canaries", "3", "--dry-run", "--json")).json
    assert (done["recipient"], done["canaries"], done["digest"]) == (ANN, 3, "")
    assert not ledger.path_of(home).exists()


def test_a_key_names_a_recipient(cube: str, home: Path, memos: Memos, ann: Person) -> None:
    line = ok(ann.run("keys", "export")).out.strip()
    made = packed(memos, home, line, canaries=2)
    said = metadata.load(made).stamp
    assert said
    assert (said.recipient, said.recipient_key) == ("identity", ann.key)
    Path("leak.txt").write_text("\n".join(planted_in(made)))
    assert ok(memos("audit", "leak.txt", "--trace", "-q")).lines == [f"identity ({ann.key})"]


@pytest.mark.slow
def test_a_signed_copy_verifies_like_any_other(cube: str, memos: Memos, ann: Person) -> None:
    for who in (ANN, BOB):
        ok(memos("pack", cube, "--for", who, "--canaries", "2", "--sign", "identity", "-o", f"{who[:3]}.memcube"))
    line = ok(memos("keys", "export")).out.strip()
    ok(ann.run("keys", "trust", line, "--name", "maker"))
    assert ok(ann.run("unpack", "Ann.memcube", "got.cube", "--require", "signed", "--json")).json["trusted"]
    assert ok(ann.run("audit", "got.cube", "--trace", "--json")).json["recipients"] == [ANN]
    assert vault.current_version(Path("got.cube")).manifest.operation == "pack"


def test_what_cannot_be_traced_is_refused_in_words(cube: str, work: Path, memos: Memos) -> None:
    assert memos("audit", "nowhere.txt", "--trace").code == 3
    assert memos("audit", cube, "--trace", "--deep").code == 2
    (work / "half.memcube").write_bytes(b"oci-layout" + b"\0" * 2000)
    assert memos("audit", "half.memcube", "--trace").code == 4
    (work / "sealed.memcube").write_bytes(b"age-encryption.org/v1\n")
    assert memos("audit", "sealed.memcube", "--trace").code == 2
    (work / "noise.bin").write_bytes(bytes(range(256)) * 40)
    assert "nothing" in ok(memos("audit", "noise.bin", "--trace")).out


@pytest.mark.slow
def test_canaries_take_no_true_answers_place(cube: str, work: Path, memos: Memos) -> None:
    """What is asked of a copy is found in it as in the cube: canaries are about nobody who is asked about."""
    copied(memos, ANN, "ann", canaries=20)
    for question in ("where is the passport?", "home town of Ana", "when does the release train leave?"):
        first = [ok(memos("query", each, question, "-k", "1", "--json")).json["hits"][0]["text"] for each in
                 (cube, "ann.cube")]  # fmt: skip
        assert first[0] == first[1]
    assert api.trace("ann.cube").copies[0].whole == 20
