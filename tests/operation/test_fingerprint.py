"""Fingerprints of cubes and what is picked by them: arrays and words, no cube."""

from __future__ import annotations

import numpy as np  # noqa: TID253  arrays are what is tested
import pytest

from memos_cli.infrastructure.catalogue import Catalogue, Entry, Record
from memos_cli.operation import fingerprint
from memos_cli.operation.fingerprint import LEAST_TOGETHER, centres_of, participants, sketch, words_of
from memos_cli.operation.picking import as_said, pick

KEY, DIM = b"k" * 32, 8
NONE = np.empty((0, 0), np.float32)


def axis(*numbers: int) -> np.ndarray:
    """Vectors of length 1, each along one axis."""
    return np.eye(DIM, dtype=np.float32)[list(numbers)]


def record(
    name: str, texts: list[str], vectors: np.ndarray = NONE, *, about: str = "", guarded: np.ndarray = NONE,
    speakers: tuple[str, ...] = (), closed: bool = False,
) -> Record:  # fmt: skip
    made = sketch(texts, about=about, speakers=speakers, vectors=vectors, guarded=guarded, key=KEY)
    entry = Entry(
        name, "00000001-aa", rows=made.rows, embedder="e" if made.centres.size else "", centres=len(made.centres),
        dim=made.centres.shape[1], closed=closed,
    )  # fmt: skip
    return Record(entry, made.centres, made.words, made.counts)


def shelf(*records: Record) -> Catalogue:
    return Catalogue.empty("me").changed(keep=(), more=records)


def names(catalogue: Catalogue, text: str, vector: np.ndarray | None = None) -> list[str]:
    vectors = {} if vector is None else {"e": vector}
    return [catalogue.entries[one.place].name for one in pick(catalogue, text, vectors=vectors, key=KEY)]


@pytest.mark.parametrize(
    ("one", "other"),
    [("parties", "party"), ("Painted", "paint"), ("running", "runs"), ("Café", "cafe"), ("houses", "house")],
)
def test_forms_of_a_word_are_one(one: str, other: str) -> None:
    assert words_of(one) == words_of(other)


def test_function_words_say_nothing() -> None:
    assert words_of("what was it that they did with the boat?") == ["boat"]


def test_what_is_written_down_has_no_word_in_it() -> None:
    made = sketch(["the passport is in Lindau"], about="", speakers=("Ana",), vectors=NONE, guarded=NONE, key=KEY)
    data = made.words.tobytes() + made.counts.tobytes()
    assert b"passport" not in data
    assert b"lindau" not in data.lower()
    other = sketch(["the passport is in Lindau"], about="", speakers=(), vectors=NONE, guarded=NONE, key=b"x" * 32)
    assert not set(made.words.tolist()) & set(other.words.tolist())


def test_few_vectors_are_their_own_centres_and_many_are_not() -> None:
    assert len(centres_of(axis(0, 1, 2))) == 3
    rng = np.random.default_rng(0)
    cloud = np.concatenate([axis(i).repeat(50, 0) + rng.normal(0, 0.05, (50, DIM)) for i in range(DIM)])
    cloud = (cloud / np.linalg.norm(cloud, axis=1, keepdims=True)).astype(np.float32)
    centres = centres_of(cloud, most=DIM)
    assert len(centres) == DIM
    assert np.allclose(np.linalg.norm(centres, axis=1), 1, atol=1e-3)
    # one for each of the clouds
    assert sorted((centres @ axis(*range(DIM)).T).argmax(1).tolist()) == list(range(DIM))


def test_labelled_memories_leave_no_word_and_only_a_mean_of_several() -> None:
    few = record("few", [], np.empty((0, DIM), np.float32), guarded=axis(*[0] * (LEAST_TOGETHER - 1)))
    assert few.centres.size == 0
    assert few.entry.rows == LEAST_TOGETHER - 1
    enough = record("enough", [], np.empty((0, DIM), np.float32), guarded=axis(0, 1, 2, 3, 4))
    assert enough.centres.shape == (1, DIM)
    assert enough.centres[0].max() < 0.5


def test_rare_words_pick_the_cube_that_has_them() -> None:
    common = [record(f"c{i}", ["the meeting is on Monday", "the report is late"]) for i in range(20)]
    found = shelf(*common, record("boat", ["the meeting is on Monday", "the boat is called Marlin"]))
    assert names(found, "what is the boat called at the meeting?")[0] == "boat"
    best = pick(found, "what is the boat called at the meeting?", vectors={}, key=KEY)[0]
    assert best.words[0] in ("boat", "call")
    assert best.words[-1] == "meet"
    assert best.closeness is None


def test_meaning_picks_where_no_word_is_shared() -> None:
    cubes = [record(f"c{i}", [f"word{i}"], axis(i)) for i in range(6)]
    assert names(shelf(*cubes), "something else", axis(4)[0])[0] == "c4"


def test_a_cube_without_vectors_is_picked_by_its_words() -> None:
    cubes = [record(f"c{i}", [f"word{i}"], axis(i)) for i in range(6)]
    plain = record("plain", ["the zeppelin lands at noon"])
    assert names(shelf(*cubes, plain), "when does the zeppelin land?", axis(7)[0])[0] == "plain"


def test_a_closed_cube_and_an_empty_one_are_never_picked() -> None:
    found = shelf(record("a", ["boat"]), record("shut", ["boat"], closed=True), record("empty", []))
    assert names(found, "boat") == ["a"]


def test_an_empty_catalogue_picks_nothing() -> None:
    assert pick(Catalogue.empty("me"), "boat", vectors={"e": axis(0)[0]}, key=KEY) == []


def test_who_talks_somewhere_is_named_as_they_speak_of_themselves() -> None:
    found = shelf(record("talk", ["I painted a lake"], speakers=("Caroline", "user")))
    assert as_said(found, "What did Caroline paint?", key=KEY) == "What did I paint?"
    assert as_said(found, "What did the user paint for Berta?", key=KEY) == "What did the user paint for Berta?"
    assert participants("Caroline", knows=lambda word: False, key=KEY) == {}


def test_a_name_with_a_sign_of_patterns_in_it_does_no_harm() -> None:
    made = record("a", ["x"], speakers=("C++ (Ana)", "", "  ", "🙂"))
    assert as_said(shelf(made), "what did Ana (C++ say?", key=KEY)


def test_of_a_large_vocabulary_the_most_used_words_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "MOST_WORDS", 2)
    made = record("a", ["alpha beta", "alpha beta", "gamma"])
    assert len(made.words) == 2
    assert names(shelf(made, record("b", ["gamma"])), "gamma")[0] == "b"
