"""MemReader: what a user says becomes a structured memory call (MemOS section 5.2).

Prompts come from lines or JSONL, each with the options that it sets for itself. What their words ask for is read by the
rules of `operation/reading.py`, or by a model where one is named (`Reads`); what only the cubes can tell, such as who
takes part in a talk, is added in `operation/recall`, where their tables are at hand.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from memos_cli.errors import Damaged, StoreFailed, Usage
from memos_cli.interface.sending import Destination, Server

if TYPE_CHECKING:
    from memos_cli.operation.reading import Heard

LONGEST_CHARS = 100_000
_TEXT = ("query", "text", "prompt", "question")
_OPTIONS = {"id": str, "where": str, "k": int, "as_of": str, "true_at": str, "mode": str, "time_scope": str}


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
    time_scope: str | None = None


@dataclass(frozen=True, slots=True)
class Reads:
    """A wish to have a model read prompts: a folder or hub id, or with `server` what it is called there.

    It is sent the prompts and today's date, and no memory.
    """

    model: str
    server: Server | None = None


# What makes a structured call of a prompt at some moment, and says what of it was not to be used.
Listener = Callable[[str, datetime], "tuple[Heard | None, tuple[str, ...]]"]


def listener(reads: Reads | None) -> Listener:
    """What reads prompts: nothing without a wish, so that recall's rules do; connects to nothing before the first.

    A server that does not answer is no reason to find nothing: the rules read the prompt, and it is said. Raises Usage.
    """
    if reads is None:
        return lambda text, now: (None, ())
    from memos_cli.operation.read_reply import LIMIT_TOKENS, ask_for, read_reply
    from memos_cli.operation.reading import hear
    from memos_cli.runtime.complete import address_of, open_completer

    server = reads.server
    completer = open_completer(reads.model, url=server.url if server else None, key=server.key if server else None)
    if server is not None:
        address = address_of(server.url)
        server.agree(Destination(reads.model, address.host, not address.here, address.here or address.encrypted))

    def listen(text: str, now: datetime) -> tuple[Heard, tuple[str, ...]]:
        heard = hear(text, now=now)
        try:
            written = completer.complete(ask_for(text, now=now), limit_tokens=LIMIT_TOKENS).text
        except StoreFailed as error:
            return heard, (f"reader: {error.message}",)
        found, faults = read_reply(written, text, heard, by=completer.name, now=now)
        return found, tuple(f"reader: {fault}" for fault in faults)

    return listen


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
