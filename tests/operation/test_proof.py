"""The look that finds what is still there: with LanceDB's own delete as the case where it must find something."""

from __future__ import annotations

from pathlib import Path

import numpy as np  # noqa: TID253  # vectors are arrays
import pytest

from memos_cli.cube import activation, search
from memos_cli.cube.denied import Denied
from memos_cli.cube.metadata import EmbedderIdentity
from memos_cli.cube.plaintext import Memories, table_of
from memos_cli.operation import needles
from memos_cli.operation.denial import Denial
from memos_cli.operation.needles import Haystack, Needle
from memos_cli.operation.proof import look, unshared
from tests.cube import activations
from tests.cube.test_lancefile import written

SECRET = "Alice Zanzibar keeps the spare key under the blue flowerpot behind the garden shed."
EMBEDDER = EmbedderIdentity(name="x", digest="sha256:" + "0" * 64, dim=64, window=256, precision="f32")


def kinds(folder: Path, wanted: list[Needle]) -> set[str]:
    return {trace.kind for trace in look(folder, Haystack(wanted)).found}


@pytest.mark.many(1)
@pytest.mark.parametrize("count", [30, 1500])
def test_a_usual_delete_leaves_the_text_and_the_index_words(count: int, tmp_path: Path) -> None:
    """The control: LanceDB deletes the row, optimizes and removes all earlier versions of the table."""
    texts = written(tmp_path, count=count, words=12)
    memories = Memories.open(tmp_path)
    gone, stays = texts[count // 2], texts[0]
    memories.table.delete(f"id = '{count // 2:020x}'")
    search.tidy(memories.table)
    assert memories.count(f"text = '{gone}'") == 0
    wanted, _, _ = unshared([memories], Haystack(needles.of_text("x", gone)))
    found = {trace.kind for trace in look(tmp_path, wanted).found}
    assert {"text", "fragment"} <= found
    assert kinds(tmp_path, list(needles.of_text("y", stays))) >= {"text", "fragment", "word"}


def test_vectors_are_seen_in_a_table_and_not_by_chance(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    vectors = random.standard_normal((200, 64)).astype("f4")
    memories = Memories.create(tmp_path, embedder=EMBEDDER)
    rows = [
        {"id": f"{i:020x}", "text": f"row {i}", "near": "", "wide": "", "kind": "paragraph", "source": "a.md",
         "content_key": "", "position": i, "words": 2, "vector": vector, "near_vector": vector}
        for i, vector in enumerate(vectors)
    ]  # fmt: skip
    memories.append(table_of(rows, embedder=EMBEDDER))
    assert kinds(tmp_path, list(needles.of_vector("x", vectors[77]))) == {"vector"}
    assert kinds(tmp_path, list(needles.of_vector("x", random.standard_normal(64)))) == set()
    half = tmp_path / "half.bin"
    half.write_bytes(b"odd" + random.standard_normal(64).astype("<f2").tobytes() + vectors[3].astype("<f2").tobytes())
    assert kinds(half.parent, list(needles.of_vector("x", vectors[3]))) == {"vector"}


@pytest.mark.parametrize(
    "data",
    [
        SECRET.encode(), SECRET.upper().encode(), b"x" + SECRET.encode("utf-16-le"),
        b"... under the blue flowerpot behind ...", b"{\"a\":\"spare key under the blue\"}",
    ],
)  # fmt: skip
def test_words_are_seen_in_other_clothes(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\0" * 1001 + data + b"\0" * 7)
    assert kinds(tmp_path, list(needles.of_text("x", SECRET)))


def test_escapes_names_and_block_ends_are_no_hiding_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from memos_cli.operation import proof

    text = "Das Schlüsselversteck ist hinter dem Gartenhäuschen."
    (tmp_path / "a.json").write_text('{"a": "Das Schl\\u00fcsselversteck ist hinter dem Gartenh\\u00e4uschen."}')
    assert kinds(tmp_path, list(needles.of_text("x", text))) >= {"text"}
    (tmp_path / "a.json").unlink()
    (tmp_path / "pin 4711 of the card.txt").write_text("nothing")
    assert kinds(tmp_path, list(needles.of_text("x", "PIN 4711 of the card"))) >= {"text"}
    monkeypatch.setattr(proof, "BLOCK_BYTES", 64)
    for shift in range(0, 64, 9):
        (tmp_path / "b").write_bytes(b"." * shift + SECRET.encode() + b"." * 90)
        assert "text" in kinds(tmp_path, list(needles.of_text("x", SECRET)))


@pytest.mark.long
def test_thousands_are_looked_for_at_once(tmp_path: Path) -> None:
    texts = written(tmp_path, count=200, words=30, seed=9)
    hidden = Haystack(needle for i, text in enumerate(texts) for needle in needles.of_text(str(i), text))
    assert len(hidden) > 5_000
    assert {trace.memory for trace in look(tmp_path, hidden).found} == {str(i) for i in range(200)}


def test_token_ids_are_seen_as_integers_and_as_text(tmp_path: Path) -> None:
    ids = list(range(500, 520))
    wanted = list(needles.of_tokens("x", ids))
    for name, data in (
        ("a", np.asarray(ids, "<i4").tobytes()), ("b", np.asarray(ids, "<i8").tobytes()), ("c", str(ids).encode()),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(b"???" + data)
        assert kinds(tmp_path, wanted) == {"token ids"}
        (tmp_path / name).unlink()
    assert list(needles.of_tokens("x", ids[:3])) == []


def entry_of(text: str, key: bytes = b"k" * 32) -> list[Denied]:
    from datetime import UTC, datetime

    return [Denial([], key).entry(identity="a", text=text, source="s", now=datetime(2026, 1, 1, tzinfo=UTC))]


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        (SECRET, True), (SECRET.upper() + "!", True), (SECRET.replace(" ", "\n  "), True),
        (f"As you know, {SECRET} So there.", True), ("the spare key under the blue flowerpot behind the", True),
        ("The spare key under the blue sky.", False), ("Alice Zanzibar", False), ("", False),
        ("A garden shed needs paint behind the blue door, and a spare key as well.", False),
    ],
)  # fmt: skip
def test_words_that_were_forgotten_are_known_again(text: str, refused: bool) -> None:
    assert Denial(entry_of(SECRET), b"k" * 32).refuses(text) == refused
    assert not Denial(entry_of(SECRET), b"other" + b"k" * 27).refuses(text)


def test_short_words_are_denied_as_a_whole_only() -> None:
    denial = Denial(entry_of("PIN 4711"), b"k" * 32)
    assert denial.refuses("pin: 4711.")
    assert not denial.refuses("The PIN 4711 is for the card")
    assert Denial(entry_of("!!!"), b"k" * 32).refuses(" !!! ")
    assert not Denial(entry_of("!!!"), b"k" * 32).refuses("?")


def test_words_of_an_index_are_compared_without_accents(tmp_path: Path) -> None:
    memories = Memories.create(tmp_path, embedder=None)
    texts = ["Im Ötztaler Gästehaus liegt der Schlüssel.", "Das Gästehaus der Nachbarn ist leer."]
    rows = [
        {"id": f"{i:020x}", "text": text, "near": text, "wide": text, "kind": "paragraph", "source": "a.md",
         "content_key": "", "position": i, "words": 6}
        for i, text in enumerate(texts)
    ]  # fmt: skip
    memories.append(table_of(rows, embedder=None))
    search.ensure_indexes(memories.table)
    places = {trace.place: trace.kind for trace in look(tmp_path, Haystack(needles.of_text("x", texts[0]))).found}
    assert any("words of a text index" in place for place in places)
    memories.table.delete(f"id = '{0:020x}'")
    own, _, _ = unshared([memories], Haystack(needles.of_text("x", texts[0])))
    left = {needle.data for needle in own.needles if needle.kind == "word"}
    assert b"otzta" in left
    assert b"gasteh" not in left  # the other memory has it too


def test_what_every_cache_keeps_of_a_full_stop_is_no_trace(tmp_path: Path) -> None:
    """The first layer of a model knows a token and not what came before it."""
    one, other = activations.header(), activations.header(memory="0" * 20)
    gone = activations.write(tmp_path / "gone", one, seed=1)
    same = {name: tensor for name, tensor in activations.tensors(one, seed=1).items() if name.startswith("layers.000")}
    numbers = {**activations.tensors(other, seed=2), **same}
    left = activation.write(tmp_path / "left", other, token_ids=activations.ids(other) + 500, tensors=numbers)
    wanted = list(needles.of_cache("gone", activation.open_layers(gone.path)))
    assert len([needle for needle in wanted if needle.kind == needles.CACHE]) == 2
    assert not Haystack(wanted).find(left.path.read_bytes())
    assert Haystack(wanted).find(gone.path.read_bytes())
