"""The same questions to one home at the terminal, over HTTP and over the Model Context Protocol: one table.

A question says how it is put at each of them. What they answer must be the same object, apart from seconds, and from
what tells whom they answer: where a cube lies and what one may do to it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

# What differs from run to run, and what is of the one who asks.
SECONDS = frozenset({"seconds", "estimated_seconds"})
ABOUT_WHO = frozenset({"path", "may"})
# What a reading adds to its own log is not what it tells.
GROWING = frozenset({"log_lines"})


@dataclass(frozen=True)
class Question:
    """One question. `lists` is the name under which many objects stand where one object is wanted."""

    name: str
    words: tuple[str, ...]
    tool: str
    arguments: dict[str, Any] = field(default_factory=dict)
    stdin: str | None = None
    lists: str = ""


NOTE = "- Cleo plays chess on Mondays.\n- Dora likes tea.\n"
INGEST = ("ingest", "team", "-", "--format", "markdown", "--type", "fact", "--tag", "games")
NOTED = {"cube": "team", "text": NOTE, "type": "fact", "tags": ["games"]}
QUESTIONS = (
    Question("who", ("query", "team", "who may roll back a release?"), "recall",
             {"cube": "team", "query": "who may roll back a release?"}),
    Question("some", ("query", "team", "Ana", "-k", "2"), "recall", {"cube": "team", "query": "Ana", "k": 2}),
    Question("packed", ("query", "team", "passport", "--budget", "60"), "recall",
             {"cube": "team", "query": "passport", "budget": 60}),
    Question("filtered", ("query", "team", "where is it?", "--where", "source=notes.md"), "recall",
             {"cube": "team", "query": "where is it?", "where": "source=notes.md"}),
    Question("as of", ("query", "team", "passport", "--as-of", "2999"), "recall",
             {"cube": "team", "query": "passport", "as_of": "2999"}),
    Question("of two", ("query", "team", "passport", "--with", "more"), "recall",
             {"cube": "team", "also": ["more"], "query": "passport"}),
    Question("nothing", ("query", "team", "passport", "--where", "source=none.md"), "recall",
             {"cube": "team", "query": "passport", "where": "source=none.md"}),
    Question("odd", ("query", "team", "\u202epassport \U0001f9e0 ' -- \\x"), "recall",
             {"cube": "team", "query": "\u202epassport \U0001f9e0 ' -- \\x"}),
    Question("cubes", ("list",), "list", lists="cubes"),
    Question("memories", ("list", "team", "--limit", "50"), "list", {"cube": "team"}, lists="memories"),
    Question("some memories", ("list", "team", "-n", "1", "--where", "kind=bullet", "--all"), "list",
             {"cube": "team", "limit": 1, "where": "kind=bullet", "all": True}, lists="memories"),
    Question("sound", ("audit", "team"), "audit", {"cube": "team"}),
    Question("deeply sound", ("audit", "team", "--deep"), "audit", {"cube": "team", "deep": True}),
    Question("remember", INGEST, "remember", NOTED, stdin=NOTE),
    Question("remember again", INGEST, "remember", NOTED, stdin=NOTE),
    Question("would forget", ("forget", "team", "--subject", "Cleo", "--dry-run"), "forget",
             {"cube": "team", "subject": "Cleo", "dry_run": True}),
    Question("forget", ("forget", "team", "--subject", "Cleo"), "forget", {"cube": "team", "subject": "Cleo"}),
    Question("forgotten", ("query", "team", "who plays chess?"), "recall",
             {"cube": "team", "query": "who plays chess?"}),
)  # fmt: skip
# The same with a model that answers, which takes longer to load than all of the above.
ANSWERED = (
    Question("answered", ("query", "team", "What is the home town of Ana?", "--answer"), "answer",
             {"cube": "team", "question": "What is the home town of Ana?"}),
    Question("not there", ("query", "team", "Who won the cup in 1974?", "--answer"), "answer",
             {"cube": "team", "question": "Who won the cup in 1974?"}),
)  # fmt: skip
# What is wrong, with the exit code of its error.
WRONG = (
    (Question("no filter", ("query", "team", "x", "--where", "a b"), "recall",
              {"cube": "team", "query": "x", "where": "a b"}), 2),
    (Question("no time", ("query", "team", "x", "--as-of", "soon"), "recall",
              {"cube": "team", "query": "x", "as_of": "soon"}), 2),
    (Question("no memory", ("forget", "team", "--ids", "ffffffff"), "forget",
              {"cube": "team", "ids": ["ffffffff"]}), 3),
    (Question("nothing named", ("forget", "team"), "forget", {"cube": "team"}), 2),
    (Question("no match", ("forget", "team", "--where", "source=none"), "forget",
              {"cube": "team", "where": "source=none"}), 3),
)  # fmt: skip


def told(out: str, question: Question) -> Any:
    """What the program printed with `--json`, as the others answer it."""
    lines = [json.loads(line) for line in out.splitlines()]
    if question.lists:
        return {question.lists: lines}
    (one,) = lines
    return one


def same(value: Any) -> Any:
    """A value without what may differ."""
    left_out = SECONDS | ABOUT_WHO | GROWING
    if isinstance(value, dict):
        return {name: same(part) for name, part in value.items() if name not in left_out}
    return [same(part) for part in value] if isinstance(value, list) else value
