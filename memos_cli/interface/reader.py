"""MemReader: what a user says becomes a structured memory call (MemOS section 5.2).

A first form of it: prompts from lines or JSONL, each with the options that it sets for itself. What the words of a
prompt mean (who and when it names) is read in `operation/recall`, where the table that is asked is at hand.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from memos_cli.errors import Damaged, Usage

LONGEST_CHARS = 100_000
_TEXT = ("query", "text", "prompt", "question")
_OPTIONS = {"id": str, "where": str, "k": int, "as_of": str, "true_at": str, "mode": str}


@dataclass(frozen=True, slots=True)
class Call:
    """A memory call: what is asked, and what the prompt sets for itself (None leaves the command's)."""

    text: str
    id: str = ""
    where: str | None = None
    k: int | None = None
    as_of: str | None = None
    true_at: str | None = None
    mode: str | None = None


def read(text: str) -> Call:
    """One prompt as it is. Raises Usage when it is empty or too long."""
    if not text.strip():
        raise Usage("the query is empty", hint='memos query CUBE "what do you want to know?"')
    if len(text) > LONGEST_CHARS:
        raise Usage(f"a query has at most {LONGEST_CHARS:,} characters, found {len(text):,}")
    return Call(text.strip())


def read_many(lines: Iterable[str]) -> Iterator[Call]:
    """A prompt a line: plain text, or a JSON object with `query` and what it sets. Empty lines are passed over.

    Raises Damaged with the number of a line that begins as JSON and is none, Usage when there is no prompt at all.
    """
    count = 0
    for number, line in enumerate(lines, 1):
        if line.strip():
            count += 1
            yield _from_json(line, number) if line.lstrip().startswith("{") else read(line)
    if not count:
        raise Usage("the query is empty: nothing came in on stdin", hint='memos query CUBE "what do you want to know?"')


def _from_json(line: str, number: int) -> Call:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"line {number} of the prompts: begins as JSON and is none ({error})") from error
    found = [value[name] for name in _TEXT if isinstance(value.get(name), str)]
    if not found:
        raise Damaged(
            f"line {number} of the prompts: expected one of {', '.join(_TEXT)}, found {', '.join(value)[:80]}"
        )
    options: dict[str, Any] = {}
    for name, kind in _OPTIONS.items():
        if name in value:
            if not isinstance(value[name], kind) or isinstance(value[name], bool):
                raise Damaged(f"line {number} of the prompts: expected {name} to be {kind.__name__}")
            options[name] = value[name]
    if options.get("k", 1) < 1:
        raise Damaged(f"line {number} of the prompts: expected k to be at least 1")
    return Call(read(found[0]).text, **options)
