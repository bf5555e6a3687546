"""Recall on real tables with the real embedder: what it finds, what it never does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memos_cli.cube import search
from memos_cli.cube.plaintext import Memories, table_of
from memos_cli.errors import Usage
from memos_cli.operation import holding
from memos_cli.operation.recall import Recalled, Scoped, recall
from memos_cli.runtime.embed import open_embedder
from tests.cube.rows import MONDAY, make_table, turn, with_windows

NOW = datetime(2024, 1, 1, tzinfo=UTC)
LINES = """
Caroline: Hey Mel! Good to see you! How have you been?
Melanie: Hey Caroline! I'm swamped with the kids and work. What's up with you? Anything new?
Caroline: I went to a LGBTQ support group yesterday and it was so powerful.
Melanie: Wow, that's cool, Caroline! What happened that was so awesome? Did you hear any inspiring stories?
Caroline: The transgender stories were so inspiring! I was so happy and thankful for all the support.
Melanie: Wow, love that painting! So cool you found such a helpful group. What's it done for you?
Caroline: The support group has made me feel accepted and given me courage to embrace myself.
Melanie: That's really cool. You've got guts. What now?
Caroline: Gonna continue my edu and check out career options, which is pretty exciting!
Melanie: Wow, Caroline! What kinda jobs are you thinkin' of? Anything that stands out?
Caroline: I'm keen on counseling or working in mental health.
Melanie: You'd be a great counselor! Your empathy and understanding will really help people.
Caroline: Thanks, Mel! Is this your own painting?
Melanie: Yeah, I painted that lake sunrise last year! It's special to me.
Caroline: Wow, Melanie! The colors really blend nicely. Painting looks like a great outlet.
Melanie: Thanks, Caroline! I ran a charity race for mental health last Saturday. It was really rewarding.
Caroline: That charity race sounds great! Making a difference is so rewarding.
Melanie: We adopted a grey kitten called Oliver, he sleeps on the piano.
Caroline: I signed the lease of the new flat, the rent is 900 a month.
Melanie: My pottery class starts in July, I made a clay bowl for my son.
""".strip().splitlines()


def dialogue() -> list[dict[str, Any]]:
    rows = [turn(i, *line.split(": ", 1)) for i, line in enumerate(LINES)]
    return with_windows(rows)


@pytest.fixture(scope="module")
def minilm(cache: Path) -> Any:
    return open_embedder("minilm", home=cache.parent / "embed-home")


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory, minilm: Any) -> list[Scoped]:
    return [Scoped("talk", make_table(tmp_path_factory.mktemp("talk"), dialogue(), embedder=minilm).table)]


@pytest.fixture(scope="module")
def words_only(tmp_path_factory: pytest.TempPathFactory) -> list[Scoped]:
    return [Scoped("talk", make_table(tmp_path_factory.mktemp("words"), dialogue()).table)]


def places(found: Recalled) -> list[int]:
    return [hit.row["position"] for hit in found.hits]


QUESTIONS = [
    ("When did Caroline go to the support group?", 2),
    ("What did Melanie paint?", 13),
    ("What is the name of Melanie's cat?", 17),
    ("How much does Caroline pay for her apartment?", 18),
    ("Which charity event did Mel take part in?", 15),
]


@pytest.mark.many(2)
@pytest.mark.parametrize(("question", "place"), QUESTIONS)
def test_the_evidence_is_among_the_first_three(talk: list[Scoped], minilm: Any, question: str, place: int) -> None:
    found = recall(talk, text=question, embedder=minilm, now=NOW)
    assert found.profile == "dialogue"
    assert found.missing == {}
    assert place in places(found)[:3]


@pytest.mark.parametrize(("question", "place"), [QUESTIONS[0], QUESTIONS[1], QUESTIONS[4]])
def test_words_alone_find_it_too_and_say_what_is_missing(words_only: list[Scoped], question: str, place: int) -> None:
    found = recall(words_only, text=question, now=NOW)
    assert place in places(found)[:3]
    assert "meaning" in found.missing


def test_shares_add_up_to_the_score(talk: list[Scoped], minilm: Any) -> None:
    found = recall(talk, text="What did Melanie paint in May?", embedder=minilm, now=NOW)
    assert {"near", "wide", "vector", "around", "speaker", "date"} <= set(found.hits[0].signals)
    for hit in found.hits:
        assert sum(hit.signals.values()) == pytest.approx(hit.score, abs=1e-3)
    assert [hit.score for hit in found.hits] == sorted((hit.score for hit in found.hits), reverse=True)
    assert "vector" not in found.hits[0].row
    assert "near" not in found.hits[0].row


def test_late_interaction_reorders_the_best(talk: list[Scoped], minilm: Any) -> None:
    found = recall(talk, text="What did Melanie make out of clay?", embedder=minilm, rerank=True, now=NOW)
    assert places(found)[0] == 19
    assert "rerank" in found.hits[0].signals
    assert "rerank" in recall(talk, text="clay", rerank=True, now=NOW).missing


@pytest.mark.parametrize("mode", ["text", "vector"])
def test_a_mode_uses_its_own_signals(talk: list[Scoped], minilm: Any, mode: str) -> None:
    found = recall(talk, text="What did Melanie paint?", embedder=minilm, mode=mode, now=NOW)
    names = {name for hit in found.hits for name in hit.signals}
    assert ("vector" in names, "near" in names) == (mode == "vector", mode == "text")
    with pytest.raises(Usage):
        recall(talk, text="x", mode="magic")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text(min_size=1, max_size=80)
    | st.sampled_from(['"', "AND OR NOT", "Melanie's", "((", "May may 31 Feb", "0-0-0"])
)
def test_no_question_raises(talk: list[Scoped], words_only: list[Scoped], minilm: Any, question: str) -> None:
    if not question.strip():
        with pytest.raises(Usage):
            recall(talk, text=question)
        return
    assert recall(talk, text=question, embedder=minilm, now=NOW).hits
    recall(words_only, text=question, now=NOW)


def test_one_word_that_matches_is_enough(words_only: list[Scoped]) -> None:
    found = recall(
        words_only, text="Could anyone please tell me whether the xyzzy kitten has been frobnicated?", now=NOW
    )
    assert 17 in places(found)[:3]


def test_conditions_hold_for_every_signal(talk: list[Scoped], minilm: Any) -> None:
    found = recall(talk, text="What did Melanie paint?", embedder=minilm, where="speaker = 'Caroline'", now=NOW)
    assert found.hits
    assert {hit.row["speaker"] for hit in found.hits} == {"Caroline"}
    assert recall(talk, text="paint", embedder=minilm, where="speaker = 'Nobody'", now=NOW).hits == ()


def test_hidden_superseded_and_expired_memories_are_left_out_and_as_of_brings_them_back(
    tmp_path: Path, minilm: Any
) -> None:
    memories = make_table(tmp_path, dialogue(), embedder=minilm, indexed=False)
    then = MONDAY + timedelta(days=90)
    memories.change([f"{18:020x}"], valid_to=then, state="archived")
    memories.change([f"{17:020x}"], state="forgotten")
    memories.change([f"{15:020x}"], expires_at=then)
    search.ensure_indexes(memories.table)
    tables = [Scoped("talk", Memories.open(tmp_path).table)]
    for embedder in (minilm, None):
        seen = places(
            recall(tables, text="the rent of the flat, the kitten, the charity race", embedder=embedder, now=NOW)
        )
        assert not {15, 17, 18} & set(seen)
    before = recall(tables, text="the rent of the flat", embedder=minilm, as_of=then - timedelta(days=1))
    assert 18 in places(before)[:2]
    assert 17 not in places(before)


def test_the_same_words_come_once(tmp_path: Path, minilm: Any) -> None:
    rows = dialogue()
    rows.append({**rows[17], "id": "copy", "source": "copy.jsonl"})
    tables = [Scoped("talk", make_table(tmp_path, rows, embedder=minilm).table)]
    found = recall(tables, text="the kitten called Oliver", embedder=minilm, now=NOW)
    assert places(found).count(17) == 1
    first = next(hit for hit in found.hits if hit.row["position"] == 17)
    assert {first.id, *first.also} == {"copy", rows[17]["id"]}


def test_neighbours_stand_beside_a_hit_and_stay_in_its_session(talk: list[Scoped], minilm: Any) -> None:
    found = recall(talk, text="I'm keen on counseling", embedder=minilm, neighbours=2, limit=1, now=NOW)
    (hit,) = found.hits
    assert hit.row["position"] == 10
    assert [row["position"] for row in hit.before] == []  # turn 10 begins a session
    assert [row["position"] for row in hit.after] == [11, 12]


@pytest.mark.long
def test_two_halves_of_a_table_rank_as_the_whole(tmp_path: Path, minilm: Any) -> None:
    rows = dialogue()
    whole = [Scoped("whole", make_table(tmp_path / "whole", rows, embedder=minilm).table)]
    halves = [
        Scoped(name, make_table(tmp_path / name, part, embedder=minilm).table)
        for name, part in (("first", rows[:10]), ("second", rows[10:]))
    ]
    for embedder in (minilm, None):
        moved = []
        for question, _ in QUESTIONS:
            one = places(recall(whole, text=question, embedder=embedder, limit=20, now=NOW))
            two = places(recall(halves, text=question, embedder=embedder, limit=20, now=NOW))
            moved += [abs(i - two.index(place)) for i, place in enumerate(one[:10])]
        assert sum(moved) / len(moved) <= 1


@pytest.mark.long
def test_a_table_too_large_to_hold_gives_the_same_hits(
    tmp_path: Path, minilm: Any, talk: list[Scoped], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = [recall(talk, text=question, embedder=minilm, now=NOW) for question, _ in QUESTIONS]
    monkeypatch.setattr(holding, "HELD_ROWS", 5)
    monkeypatch.setattr(holding, "_held", type(holding._held)())
    for (question, _), before in zip(QUESTIONS, held, strict=True):
        found = recall(talk, text=question, embedder=minilm, now=NOW)
        assert places(found) == places(before)
        assert [hit.score for hit in found.hits] == pytest.approx([hit.score for hit in before.hits], abs=1e-3)


@pytest.mark.long
@pytest.mark.many(1)
@pytest.mark.parametrize(
    "asked", [{"limit": 1}, {"limit": 4}, {"mode": "text", "limit": 3}, {"rerank": True}, {"limit": 3, "neighbours": 1}]
)
def test_a_large_table_reads_less_and_says_the_same(
    minilm: Any, talk: list[Scoped], monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any]
) -> None:
    """Its texts are looked at for question marks only among the best, and columns that are all alike not at all."""
    questions = [
        *(question for question, _ in QUESTIONS),
        "What did Mel say on 8 May?",
        "stories, jobs, what happened?",
    ]
    held = [recall(talk, text=question, embedder=minilm, now=NOW, **asked) for question in questions]
    monkeypatch.setattr(holding, "HELD_ROWS", 5)
    monkeypatch.setattr(holding, "_held", type(holding._held)())
    for question, before in zip(questions, held, strict=True):
        found = recall(talk, text=question, embedder=minilm, now=NOW, **asked)
        assert places(found) == places(before)
        for one, other in zip(found.hits, before.hits, strict=True):
            assert one.signals == pytest.approx(other.signals, abs=1e-3)
            assert (one.row, one.before, one.after) == (other.row, other.before, other.after)
    assert "kind" in holding.hold(talk[0].table)._same


@pytest.mark.long
def test_a_large_table_and_a_held_one_are_one_ranking(
    tmp_path: Path, minilm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = dialogue()
    parts = {"large": rows[:14], "small": rows[14:]}
    tables = [Scoped(name, make_table(tmp_path / name, part, embedder=minilm).table) for name, part in parts.items()]
    before = recall(tables, text="What did Mel paint, what stories did she hear?", embedder=minilm, limit=8, now=NOW)
    monkeypatch.setattr(holding, "HELD_ROWS", 10)
    monkeypatch.setattr(holding, "_held", type(holding._held)())
    found = recall(tables, text="What did Mel paint, what stories did she hear?", embedder=minilm, limit=8, now=NOW)
    assert places(found) == places(before)
    assert [hit.score for hit in found.hits] == pytest.approx([hit.score for hit in before.hits], abs=1e-3)


def test_an_empty_table_gives_nothing(tmp_path: Path, minilm: Any) -> None:
    found = recall([Scoped("none", make_table(tmp_path, []).table)], text="anything", embedder=minilm, now=NOW)
    assert found.hits == ()


def test_a_chat_with_an_assistant_is_found_by_what_its_user_said(tmp_path: Path, minilm: Any) -> None:
    advice = "Here are some general tips for you to consider when you plan a trip to a city with a good camera. " * 4
    said = [
        ("user", "I bought a second-hand Nikon camera at the flea market."), ("assistant", advice + "Enjoy!"),
        ("user", "How do I clean a lens?"), ("assistant", advice + "Use a soft cloth for the camera lens."),
        ("user", "My sister moved to Lisbon in spring."), ("assistant", advice + "Lisbon is a lovely city."),
    ]  # fmt: skip
    rows = with_windows([turn(i * 10, "", text, role=role) for i, (role, text) in enumerate(said)])
    tables = [Scoped("chat", make_table(tmp_path, rows, embedder=minilm).table)]
    found = recall(tables, text="Which camera did I buy?", embedder=minilm, now=NOW)
    assert found.profile == "assistant"
    assert found.hits[0].row["position"] == 0


def test_notes_are_found_by_their_heading(tmp_path: Path, minilm: Any) -> None:
    notes = [
        ("Vault > Commit", "The rename of the symbolic link is what makes a version current."),
        ("Vault > Locks", "One writer at a time holds the file lock."),
        ("Embedder > Window", "Texts of more than 256 tokens are cut into parts."),
        ("Embedder > Cache", "The graph is made once and kept."),
    ]
    rows = [
        turn(
            i,
            "",
            text,
            kind="paragraph",
            section=head,
            near=f"{head}\n{text}",
            wide=f"{head}\n{text}",
            session="",
            time=None,
        )
        for i, (head, text) in enumerate(notes)
    ]
    tables = [Scoped("notes", make_table(tmp_path, rows, embedder=minilm).table)]
    for question, place in (("what is the commit point?", 0), ("how long may a text be for the embedder?", 2)):
        found = recall(tables, text=question, embedder=minilm, now=NOW)
        assert found.profile == "documents"
        assert found.hits[0].row["position"] == place


def test_rows_added_later_are_found_and_a_held_table_is_not_stale(tmp_path: Path, minilm: Any) -> None:
    memories = make_table(tmp_path, dialogue()[:10], embedder=minilm)
    assert 17 not in places(recall([Scoped("t", memories.table)], text="kitten", embedder=minilm, now=NOW))
    row = dialogue()[17]
    vector = minilm.embed([row["text"]])[0]
    memories.append(table_of([{**row, "vector": vector, "near_vector": vector}], embedder=memories.embedder))
    found = recall([Scoped("t", Memories.open(tmp_path).table)], text="kitten", embedder=minilm, now=NOW)
    assert 17 in places(found)[:3]


def test_rows_without_vectors_are_still_found_by_words(tmp_path: Path, minilm: Any) -> None:
    memories = make_table(tmp_path, dialogue()[:17], embedder=minilm, indexed=False)
    memories.append(table_of(dialogue()[17:18], embedder=memories.embedder))
    search.ensure_indexes(memories.table)
    found = recall([Scoped("t", Memories.open(tmp_path).table)], text="kitten", embedder=minilm, now=NOW)
    assert 17 in places(found)[:3]


@pytest.mark.long
def test_a_large_table_is_weighed_by_what_the_condition_leaves(
    tmp_path: Path, minilm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = [
        turn(100 + i, "", f"note number {i} about painting", kind="paragraph", session="", source="notes.md")
        for i in range(30)
    ]
    memories = make_table(tmp_path, [*notes, *dialogue()], embedder=minilm)
    tables = [Scoped("both", memories.table)]
    held = recall(tables, text="What did Melanie paint?", embedder=minilm, where="source = 'chat.jsonl'", now=NOW)
    monkeypatch.setattr(holding, "HELD_ROWS", 5)
    monkeypatch.setattr(holding, "_held", type(holding._held)())
    found = recall(tables, text="What did Melanie paint?", embedder=minilm, where="source = 'chat.jsonl'", now=NOW)
    assert (found.profile, places(found)) == ("dialogue", places(held))
    assert recall(tables, text="painting", embedder=minilm, now=NOW).profile == "documents"


def timed() -> list[dict[str, Any]]:
    """A price that changed, and notes that nobody said at any time."""
    said = [
        (0, "The rent of the flat is 900.", datetime(2022, 1, 1, tzinfo=UTC), datetime(2023, 1, 1, tzinfo=UTC)),
        (1, "The rent of the flat is 950.", datetime(2023, 1, 1, tzinfo=UTC), None),
        (2, "The flat has a piano.", datetime(2023, 6, 1, tzinfo=UTC), None),
    ]
    return [
        turn(n, "", text, kind="paragraph", time=None, session="", valid_from=begin, valid_to=end, created_at=begin,
             near=text, wide=text, topic="home/flat" if n < 2 else "music")
        for n, text, begin, end in said
    ]  # fmt: skip


@pytest.fixture(scope="module")
def prices(tmp_path_factory: pytest.TempPathFactory) -> list[Scoped]:
    return [Scoped("prices", make_table(tmp_path_factory.mktemp("prices"), timed()).table)]


@pytest.mark.parametrize(
    ("question", "scope", "found", "effect"),
    [
        ("the rent of the flat", "auto", [1, 2], "nothing"),
        ("as of 2022, the rent of the flat", "auto", [0], "filter"),
        ("as of 2022, the rent of the flat", "off", [1, 2], "nothing"),
        ("memories about the flat added in 2022", "auto", [], "filter"),
        ("memories added in January 2023 about the flat", "auto", [1], "filter"),
        ("the flat since May 2023", "auto", [2, 1], "raised"),
        ("the flat in May 2023", "only", [1], "filter"),
        ("the flat before 1990", "only", [], "filter"),
    ],
)
def test_a_time_in_the_prompt_is_a_filter_or_a_bonus(
    prices: list[Scoped], question: str, scope: str, found: list[int], effect: str
) -> None:
    told = recall(prices, text=question, now=NOW, time_scope=scope)
    assert (places(told), told.time) == (found, effect)


def test_what_the_caller_asks_for_goes_before_the_prompts_time(prices: list[Scoped]) -> None:
    asked = datetime(2023, 3, 1, tzinfo=UTC)
    told = recall(prices, text="as of 2022, the rent of the flat", now=NOW, as_of=asked)
    assert (places(told), told.as_of) == ([1], asked)
    with pytest.raises(Usage):
        recall(prices, text="x", time_scope="sometimes")


def test_a_topic_that_is_named_raises_what_is_under_it(prices: list[Scoped]) -> None:
    told = recall(prices, text="what of the flat and music?", now=NOW)
    assert told.heard.topic in ("home/flat", "music")
    shares = {hit.row["topic"]: hit.signals.get("topic", 0) for hit in told.hits}
    assert shares[told.heard.topic] == 0.5
    assert sorted(shares.values()) == [0, 0.5]


def test_a_large_table_is_read_by_time_and_topic_too(prices: list[Scoped], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holding, "HELD_ROWS", 1)
    holding._held.clear()
    told = recall(prices, text="the flat since May 2023, the piano music", now=NOW)
    holding._held.clear()
    assert told.heard.topic == "music"
    assert told.hits[0].row["position"] == 2
    assert {"topic", "date"} <= set(told.hits[0].signals)
