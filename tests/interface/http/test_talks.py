"""Chat completions with turns before the question: what the model is given of them, and what the response tells."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.decoders import save_family, save_parrot

QUESTION = {"role": "user", "content": "Where does Ana live?"}
TURNS = [
    {"role": "user", "content": "Who is Ana?"},
    {"role": "assistant", "content": None, "tool_calls": []},
    {"role": "tool", "content": "a friend"},
    {"role": "assistant", "content": [{"type": "text", "text": "A friend."}, {"type": "image_url"}]},
]
SYSTEM = {"role": "system", "content": "Answer in rhymes."}


def asked(one: Any, *messages: dict[str, Any], status: int = 200, **memos: Any) -> dict[str, Any]:
    got = one.post("/v1/chat/completions", {"model": "team", "messages": list(messages), "memos": memos})
    assert got.status_code == status, got.text
    told: dict[str, Any] = got.json()
    return told


def test_the_model_reads_the_talk(site: Callable[..., Any], work: Path) -> None:
    save_family(work / "family", reader="instructed", brief=True, max_position_embeddings=4096)
    spec = str(work / "family")
    with site(model=spec) as one:
        alone = asked(one, QUESTION)
        loaded = one.app.warm.model(spec, lambda: None).load()
        read: list[str] = []
        hook = loaded.network.register_forward_pre_hook(
            lambda network, args, given: read.append(loaded.tokenizer.decode(given["input_ids"][0])), with_kwargs=True
        )
        told = asked(one, SYSTEM, *TURNS, QUESTION)
        hook.remove()
        insisted = asked(one, SYSTEM, QUESTION, form="activation", status=409)
    prompt = read[0]
    assert "<|user|>Who is Ana?<|end|><|assistant|>A friend.<|end|><|user|>Memories:" in prompt
    assert prompt.index("Answer in rhymes.") < prompt.index("Who is Ana?")
    assert "a friend<|" not in prompt
    assert (told["memos"]["turns"], told["memos"]["turns_dropped"], told["memos"]["form"]) == (2, 2, "plaintext")
    assert (alone["memos"]["turns"], alone["memos"]["turns_dropped"]) == (0, 0)
    assert told["usage"]["prompt_tokens"] > alone["usage"]["prompt_tokens"]
    assert told["memos"]["memories"] == alone["memos"]["memories"]
    assert "talk" in insisted["error"]["message"]


@pytest.mark.long
def test_the_oldest_turns_go_first_where_not_all_fit(site: Callable[..., Any], work: Path) -> None:
    save_parrot(work / "parrot", "In Lindau [1].", reader="instructed", window=680)
    talk = [
        {"role": ("user", "assistant")[number % 2], "content": f"turn {number} " + "word " * 20} for number in range(40)
    ]
    with site(model=str(work / "parrot")) as one:
        some = asked(one, *talk, QUESTION)
        streamed = one.post(
            "/v1/chat/completions", {"model": "team", "messages": [*talk, QUESTION], "stream": True}
        ).text
        none = asked(one, {"role": "user", "content": "word " * 700}, QUESTION)
        asked(one, {"role": "system", "content": "word " * 700}, QUESTION, status=422)
    assert some["choices"][0]["message"]["content"] == "In Lindau [1]."
    assert 0 < some["memos"]["turns"] < 10
    assert some["memos"]["turns"] + some["memos"]["turns_dropped"] == 40
    assert some["usage"]["prompt_tokens"] + 400 <= 680
    assert f'"turns": {some["memos"]["turns"]}' in streamed
    assert (none["memos"]["turns"], none["memos"]["turns_dropped"]) == (0, 1)


@pytest.mark.many(1)
@pytest.mark.parametrize("before", [[SYSTEM], [SYSTEM, *TURNS], [{"role": "assistant", "content": "Hi."}]])
def test_who_copies_answers_as_if_the_question_stood_alone(before: list[dict[str, Any]], site: Any, work: Path) -> None:
    save_parrot(work / "parrot", "Lindau")
    with site(model=str(work / "parrot")) as one:
        alone, told = asked(one, QUESTION), asked(one, *before, QUESTION)
    assert told["choices"] == alone["choices"]
    assert told["usage"] == alone["usage"]
    assert told["memos"] == {**alone["memos"], "turns_dropped": sum(one is not SYSTEM for one in before)}
