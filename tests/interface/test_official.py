"""Official MemOS cubes come in, and go out again as they were: every memory, id, source and unknown field."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memos_cli.errors import Damaged
from memos_cli.interface import sources
from memos_cli.interface.sources import Source
from memos_cli.interface.sources.official import sources as decoded
from memos_cli.operation.told import decode
from tests.conftest import Memos
from tests.interface import official
from tests.interface.official import ONE, SHAPES, TWO, config, layers, slot, turn

CONFIGS = {"naive": "naive_text", "general": "general_text", "tree": "tree_text", "preference": "pref_text"}


def found(folder: Path, name: str = "theirs") -> list[Source]:
    return list(sources.expand([name], base=folder, stdin=None))


@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_is_told_by_itself_and_by_its_config(tmp_path: Path, shape: str) -> None:
    official.cube(tmp_path / "theirs", SHAPES[shape](), said=config(CONFIGS[shape]))
    (whole,) = found(tmp_path)
    (alone,) = found(tmp_path, "theirs/textual_memory.json")
    assert whole.format == alone.format == "memos-cube"
    pieces = list(whole.pieces())
    assert pieces == list(alone.pieces())
    assert len(pieces) == 2
    assert {decode(piece.extra)["memos"]["shape"] for piece in pieces} == {shape}


def test_a_tree_has_each_memory_once_and_its_sources_decoded(tmp_path: Path) -> None:
    for count in (0, 1, 2, 5):
        name = f"cube{count}"
        official.cube(tmp_path / name, official.tree(count), said=config("tree_text"))
        (source,) = found(tmp_path, name)
        pieces = list(source.pieces())
        assert len(pieces) == 2
        for number, piece in enumerate(pieces):
            told = decode(piece.extra)["memos"]
            assert [one["type"] for one in told["metadata"]["sources"]] == ["chat", "chat"]
            assert told["metadata"]["sources"][0] == turn("user", f"words {number}")
            assert [copy["id"][:8] for copy in told["copies"]] == ["c1e20001"]
            assert piece.section == ("Trying Out",)
            assert piece.time is not None
            assert piece.time.isoformat() == "2026-01-13T20:51:42.394870+00:00"
        lost = {(loss.kind, loss.field): loss.count for loss in source.losses.told()}
        assert lost["node", "WorkingMemory"] == 2
        assert lost["memory", "embedding"] == 4


def test_what_is_said_of_a_memory_becomes_its_columns(tmp_path: Path) -> None:
    official.cube(tmp_path / "theirs", official.naive())
    (source,) = found(tmp_path)
    first, second = (dict(piece.said) for piece in source.pieces())
    assert first == {"type": "event", "tags": ["sport"], "owner": "u1"}
    assert second == {"state": "archived", "read_scope": "owner", "share_scope": "owner"}


@pytest.mark.parametrize(
    ("name", "said", "expected"),
    [
        ("outside", config(text_mem=slot("naive_text", "../x.json")), "the name of a file in the cube"),
        ("absolute", config(text_mem=slot("naive_text", "/etc/passwd")), "the name of a file in the cube"),
        ("absent", config(text_mem=slot("naive_text", "other.json")), "found no such file"),
        ("a link", config(text_mem=slot("naive_text", "link.json")), "expected a regular file"),
        ("the folder", config(text_mem=slot("naive_text", "..")), "the name of a file in the cube"),
    ],
)
def test_a_config_that_leads_elsewhere_is_refused(tmp_path: Path, name: str, said: Any, expected: str) -> None:
    cube = official.cube(tmp_path / "theirs", official.naive(), said=said)
    (tmp_path / "x.json").write_text("[]")
    os.symlink("/etc/passwd", cube / "link.json")
    with pytest.raises(Damaged, match=expected):
        found(tmp_path)


def test_settings_secrets_and_placeholders_stay_behind_and_are_told(work: Path, memos: Memos) -> None:
    keyed = slot("general_text", "textual_memory.json", extractor_llm={"config": {"api_key": "sk-secret"}})
    official.cube(
        work / "theirs", official.general(),
        said=config(text_mem=keyed, para_mem=slot("lora", "parametric_memory.adapter")),
        files={"parametric_memory.adapter": b"Placeholder", "README.md": b"# Not memory\n"},
    )  # fmt: skip
    done = memos("ingest", "ours.cube", "theirs", "--embedder", "none", "--json")
    assert done.code == 0, done.err
    lost = {(loss["kind"], loss["field"]): loss for loss in done.json["losses"]}
    assert lost["config", "api_key"]["count"] == 1
    assert "placeholder" in lost["adapter", "parametric_memory.adapter"]["why"]
    assert lost["memory", "vector"]["count"] == 2
    assert done.json["added"] == 2
    assert "README.md" in done.err
    for path in Path("ours.cube").rglob("*"):
        assert path.is_dir() or b"sk-secret" not in path.read_bytes()


def textual(folder: Path) -> Any:
    return json.loads((folder / "textual_memory.json").read_text())


def plain(value: Any) -> Any:
    """What an official cube says, without vectors and with sources as they are under all layers."""
    if isinstance(value, list):
        return [plain(one) for one in value]
    if not isinstance(value, dict):
        return value
    kept = {name: plain(inner) for name, inner in value.items() if name not in ("vector", "embedding")}
    if "sources" in kept:
        kept["sources"] = decoded(kept["sources"])
    return kept


@pytest.mark.many(2)
@pytest.mark.parametrize("shape", ["naive", "tree", "preference"])
def test_a_round_trip_keeps_every_memory_id_and_source(work: Path, memos: Memos, shape: str) -> None:
    official.cube(work / "theirs", SHAPES[shape](), said=config(CONFIGS[shape]))
    assert memos("ingest", "ours.cube", "theirs", "--embedder", "none").code == 0
    done = memos("export", "ours.cube", "--to", "memos", "-o", "back", "--all", "--json")
    assert done.code == 0, done.err
    assert done.json["shape"] == shape
    before, after = plain(textual(work / "theirs")), plain(textual(work / "back"))
    if shape == "tree":
        before["nodes"].sort(key=lambda node: str(node["id"]))
        after["nodes"].sort(key=lambda node: str(node["id"]))
    assert after == before
    # and again: nothing is added on the way
    assert memos("ingest", "again.cube", "back", "--embedder", "none").code == 0
    assert memos("export", "again.cube", "--to", "memos", "-o", "twice", "--all").code == 0
    assert textual(work / "twice") == textual(work / "back")


def test_a_general_cube_without_vectors_goes_back_as_naive_and_says_so(work: Path, memos: Memos) -> None:
    official.cube(work / "theirs", official.general(), said=config("general_text"))
    memos("ingest", "ours.cube", "theirs", "--embedder", "none")
    done = memos("export", "ours.cube", "--to", "memos", "-o", "back", "--json").json
    assert done["shape"] == "naive"
    assert [loss["field"] for loss in done["losses"] if "naive" in loss["why"]] == ["shape"]
    items = {item["id"]: item for item in textual(work / "back")}
    for item in official.general():
        assert items[item["id"]]["memory"] == item["payload"]["memory"]
        assert items[item["id"]]["metadata"] == item["payload"]["metadata"]
    assert memos("export", "ours.cube", "--to", "memos", "-o", "b", "--shape", "general").code == 2


@pytest.mark.long
def test_what_was_changed_here_is_in_what_goes_out(work: Path, memos: Memos) -> None:
    official.cube(work / "theirs", official.naive())
    memos("ingest", "ours.cube", "theirs", "--embedder", "none")
    rows = [json.loads(line) for line in memos("list", "ours.cube", "--all", "--json").lines]
    first = next(row["id"] for row in rows if row["ref"] == ONE)
    edited = ["--text", "User plays badminton.", "--tag", "racket", "--ttl", "9"]
    assert memos("edit", "ours.cube", first, *edited).code == 0
    done = memos("export", "ours.cube", "--to", "memos", "-o", "back", "--json")
    (item,) = textual(work / "back")
    assert (item["id"], item["memory"]) == (ONE, "User plays badminton.")
    assert item["metadata"]["tags"] == ["racket"]
    assert item["metadata"]["colour"] == {"of": "no known field"}
    assert "expires_at" in item["metadata"]["info"]["memos"]
    assert "expires_at" in [loss["field"] for loss in done.json["losses"]]
    assert TWO not in (work / "back" / "textual_memory.json").read_text()


def test_a_long_memory_is_cut_here_and_whole_there(work: Path, memos: Memos) -> None:
    text = "  ".join(f"Sentence number {number} has a few words of its own.\n" for number in range(60))
    item = {"id": ONE, "memory": f"{text}\n\n  The end. ", "metadata": {"status": "activated", "sources": []}}
    official.cube(work / "theirs", [item])
    assert memos("ingest", "ours.cube", "theirs", "--embedder", "none", "--json").json["added"] > 2
    assert memos("export", "ours.cube", "--to", "memos", "-o", "back").code == 0
    assert textual(work / "back") == [item]


def test_an_export_is_what_memos_reads(work: Path, memos: Memos) -> None:
    """The fields that the official reader insists on: a UUID as id, text, metadata, and a config with its schema."""
    import uuid

    (work / "a.md").write_text("# Garden\n\n- Ana waters the plants.\n- Ben waters the grass.\n")
    memos("ingest", "ours.cube", "a.md", "--embedder", "none", "--tag", "home", "--sensitivity", "internal")
    memos("export", "ours.cube", "--to", "memos")
    items = textual(work / "ours-memos")
    assert [item["memory"] for item in items] == ["Ana waters the plants.", "Ben waters the grass."]
    assert all(item.keys() == {"id", "memory", "metadata"} and uuid.UUID(item["id"]) for item in items)
    assert items[0]["metadata"]["tags"] == ["home"]
    assert items[0]["metadata"]["info"]["memos"]["source"] == "a.md"
    said = json.loads((work / "ours-memos" / "config.json").read_text())
    assert said["model_schema"] == official.SCHEMA
    assert said["text_mem"]["backend"] == "naive_text"
    # labels that went out come back
    memos("ingest", "back.cube", "ours-memos", "--embedder", "none")
    row = json.loads(memos("list", "back.cube", "--json").lines[0])
    assert (row["sensitivity"], row["tags"]) == ("internal", ["home"])


def test_bad_items_are_refused_whole_or_left_out(work: Path, memos: Memos) -> None:
    official.cube(work / "theirs", [*official.naive(), {"id": 7, "memory": None, "metadata": {"status": "activated"}}])
    done = memos("ingest", "ours.cube", "theirs", "--embedder", "none")
    assert done.code == 4
    assert "expected id, memory and metadata" in done.err
    assert not Path("ours.cube").exists()
    assert memos("ingest", "ours.cube", "theirs", "--embedder", "none", "--skip-bad").code == 10
    assert len(memos("list", "ours.cube", "--all", "-q").lines) == 2


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from([
    "id", "memory", "metadata", "payload", "vector", "nodes", "edges", "sources", "status", "tags", "key", "info",
    "memos", "source", "embedding", "explicit_preference", "implicit_preference", "visibility", "memory_type",
])  # fmt: skip
ODD = st.recursive(JSON, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=5))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=ODD)
def test_odd_values_are_refused_in_words_or_read(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "odd.json"
    path.write_text(json.dumps(value))
    (source,) = sources.expand(["odd.json"], base=tmp_path, stdin=None, format="memos-cube")
    said = ""
    try:
        for piece in source.pieces():
            assert isinstance(piece.text, str)
            assert isinstance(piece.ref, str)
            assert isinstance(decode(piece.extra), dict)
    except Damaged as error:
        said = error.message
    assert not said or "odd.json" in said


SOURCE = st.dictionaries(st.sampled_from(["role", "content", "type", "url"]), st.text(max_size=8), min_size=1)


@settings(max_examples=80, deadline=None)
@given(said=st.lists(SOURCE, max_size=3), count=st.integers(0, 4), outer=st.integers(0, 2))
def test_sources_are_the_same_under_any_number_of_layers(said: list[Any], count: int, outer: int) -> None:
    wrapped = layers([layers(one, count) for one in said], outer)
    once = decoded(wrapped)
    assert [{name: one[name] for name in before} for one, before in zip(once, said, strict=True)] == said
    assert decoded(once) == once


def test_a_plain_text_is_a_source_by_itself() -> None:
    assert decoded(["a note", '"quoted"', "{broken", 7, "7"]) == ["a note", "quoted", "{broken", 7, "7"]


@pytest.mark.long
def test_caches_of_a_cube_are_told_and_hostile_ones_refused(
    work: Path, memos: Memos, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pickle

    import torch  # noqa: TID253  the pickles are torch's

    from tests.cube.official_pickles import classes, generation

    tensor = torch.ones(1, 2, 7, 4, dtype=torch.bfloat16)
    with monkeypatch.context() as patch:
        good = generation("first", classes(patch), [(tensor, tensor)] * 3)
    said = config(act_mem=slot("kv_cache", "activation_memory.pickle"))
    official.cube(work / "good", official.naive(), said=said, files={"activation_memory.pickle": good})
    done = memos("ingest", "ours.cube", "good", "--embedder", "none", "--json")
    assert done.code == 0, done.err
    (told,) = [loss for loss in done.json["losses"] if loss["kind"] == "KV cache"]
    assert told["field"] == "one (3 layers, 7 tokens)"
    assert "memos convert" in told["why"]
    evil = {"shell": pickle.dumps(os.getcwd, protocol=5), "short": good[:-9]}
    for name, data in evil.items():
        official.cube(work / name, official.naive(), said=said, files={"activation_memory.pickle": data})
        done = memos("ingest", f"{name}.cube", name, "--embedder", "none")
        assert done.code == 4
        assert "nothing of it was run" in done.err
        assert not Path(f"{name}.cube").exists()
    done = memos("ingest", "part.cube", "shell", "--embedder", "none", "--skip-bad")
    assert done.code == 10
    assert "posix.getcwd" in done.err
    assert len(memos("list", "part.cube", "--all", "-q").lines) == 2
