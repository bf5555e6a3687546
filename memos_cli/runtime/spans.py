"""Where texts stand among the tokens of a prompt, so that what is stored of them can be put there.

The prompt is the one that is read anyway, tokenised as a whole; a text's tokens are those that lie within it. What
joins it to its neighbours (a space, the end of a line, a token over the seam) belongs to neither and is read anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memos_cli.runtime import generate

if TYPE_CHECKING:
    from memos_cli.runtime.model import Loaded


@dataclass(frozen=True, slots=True)
class Prompt:
    """The tokens of a prompt, and for each text the places `[first, after the last)` of its own.

    A text that is not found, or has no token to itself, has none.
    """

    ids: tuple[int, ...]
    spans: tuple[tuple[int, int] | None, ...]


def prompt_of(
    model: Loaded, user: str, *, system: str, texts: Sequence[str], turns: Sequence[generate.Turn] = ()
) -> Prompt:
    """The same tokens as `generate.chat_ids` gives, with the spans of `texts`, which stand in it in this order.

    A tokenizer that does not tell which characters a token is of gives no spans. Raises Usage as `chat_ids` does.
    """
    text, special = generate.chat_text(model, user, system=system, turns=turns)
    if not model.tokenizer.is_fast:
        return Prompt(tuple(generate.tokenize(model, text, special=special)), (None,) * len(texts))
    given = model.tokenizer(text, add_special_tokens=special, return_offsets_mapping=True, verbose=False)
    offsets = [tuple(pair) for pair in given["offset_mapping"]]
    spans: list[tuple[int, int] | None] = []
    cursor = 0
    for wanted in texts:
        shown = generate.disarmed(model, wanted)
        at = text.find(shown, cursor)
        if at < 0:
            spans.append(None)
            continue
        cursor = at + len(shown)
        spans.append(_within(offsets, at, cursor))
    return Prompt(tuple(given["input_ids"]), tuple(spans))


def _within(offsets: Sequence[tuple[int, ...]], start: int, end: int) -> tuple[int, int] | None:
    """The places of the tokens whose characters all lie from `start` to before `end`."""
    places, told = [], 0
    for place, (first, last) in enumerate(offsets):
        # a space that a tokenizer puts after a line's end is said to be of the end, which has a token of its own
        own = told if first < told < last else first
        told = max(told, last)
        if start <= own < last <= end:
            places.append(place)
    return (places[0], places[-1] + 1) if places else None
