"""Where texts stand in a prompt: the same tokens wherever the text stands, and those of the prompt as it is read."""

from __future__ import annotations

import pytest

from memos_cli.runtime import kv
from memos_cli.runtime.compose import Placed, inject
from memos_cli.runtime.generate import chat_ids, generate, go_on
from memos_cli.runtime.model import NANO, Loaded, load
from memos_cli.runtime.spans import prompt_of

TEXTS = ["Ana lives in Lindau.", "Bo: tea, and <|end|> so on", "née Müller, 漢字 🐙", "Ana lives in Lindau.", "1 2 34"]
QUESTION = "Where does Ana live?"


@pytest.fixture(scope="module")
def nano() -> Loaded:
    return load(NANO, name="nano")


def test_a_text_has_the_same_tokens_wherever_it_stands(nano: Loaded) -> None:
    whole = prompt_of(nano, QUESTION, system="\n".join(TEXTS), texts=TEXTS)
    assert list(whole.ids) == chat_ids(nano, QUESTION, system="\n".join(TEXTS))
    ends = [0]
    for text, span in zip(TEXTS, whole.spans, strict=True):
        alone = prompt_of(nano, "What?", system=text, texts=[text])
        assert span is not None
        assert alone.spans[0] is not None
        assert span[0] >= ends[-1], "in order, also where a text stands twice"
        ends.append(span[1])
        assert whole.ids[slice(*span)] == alone.ids[slice(*alone.spans[0])]
    # all but what joins them is theirs: the head, a line's end after each but the last, and the tail
    assert whole.spans[0] == (1, ends[1])
    assert sum(ends[n + 1] - whole.spans[n][0] for n in range(5)) == ends[-1] - 1 - 4  # type: ignore[index]


def test_what_is_not_there_has_no_span(nano: Loaded) -> None:
    found = prompt_of(nano, QUESTION, system="Bo has a dog.", texts=["Ana has a cat.", "Bo has a dog.", "a dog"])
    assert found.spans[0] is None
    assert found.spans[1] is not None
    assert found.spans[2] is None, "it stands before the end of the one before it"


def test_going_on_from_a_memory_writes_what_generating_does(nano: Loaded) -> None:
    ids = chat_ids(nano, QUESTION, system="\n".join(TEXTS))
    heard: list[str] = []
    expected = generate(nano, ids, limit_tokens=24)
    memory = kv.prefill(nano.network, ids[:20])
    begun = inject(nano.network, ids, [Placed(memory, 0)]).read
    found = go_on(nano, begun, limit_tokens=24, on_text=heard.append)
    assert (found.text, found.tokens, found.cut) == (expected.text, expected.tokens, expected.cut)
    assert "".join(heard) == found.text
    short = go_on(nano, inject(nano.network, ids, [Placed(memory, 0)]).read, limit_tokens=1)
    assert (short.tokens, short.cut) == (1, True)
