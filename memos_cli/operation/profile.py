"""How to weigh the signals of recall, chosen from what a table holds.

People talking, a person and an assistant, and documents need different weights: windows of neighbouring turns find a
short remark and bury a long reply. The choice is made from counts (kinds, roles, words), never from a name. Weights
are rounded; docs/explanation/retrieval.md says what each is worth. Pure: knows nothing of tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# An assistant that answers in fewer words than this talks like a person.
LONG_REPLY_WORDS = 40
# A name that labels a smaller share of the turns than this still tells one turn from another.
COMMON_NAME = 0.1
# What being under a topic adds that the question names.
TOPIC = 0.5
ROLES = frozenset({"user", "assistant", "system", "tool", "human", "ai", "bot", "model", "developer"})


@dataclass(frozen=True, slots=True)
class Stats:
    """What was counted in the rows that can be recalled."""

    rows: int = 0
    turns: int = 0
    replies: int = 0
    reply_words: float = 0.0
    speakers: Mapping[str, int] = field(default_factory=dict)

    def participants(self) -> dict[str, bool]:
        """The named speakers; True for those whose name is too common to tell turns apart."""
        named = {name: count for name, count in self.speakers.items() if name and name.casefold() not in ROLES}
        return {name: count >= COMMON_NAME * max(1, self.turns) for name, count in named.items()}


def add(parts: list[Stats]) -> Stats:
    """The statistics of several tables together; the words of a reply are averaged by their number."""
    replies = sum(part.replies for part in parts)
    speakers: dict[str, int] = {}
    for part in parts:
        for name, count in part.speakers.items():
            speakers[name] = speakers.get(name, 0) + count
    return Stats(
        rows=sum(part.rows for part in parts),
        turns=sum(part.turns for part in parts),
        replies=replies,
        reply_words=sum(part.reply_words * part.replies for part in parts) / max(1, replies),
        speakers=speakers,
    )


@dataclass(frozen=True, slots=True)
class Profile:
    """Weights by signal.

    `words`: text lists by column, in standard deviations of BM25 over the candidates (`asked` is the text of what the
    user said). `meaning`: cosines likewise:
    `vector` of the text itself, `around` of the mean of a turn and its neighbours, `near_vector` of the text under
    its heading. `priors` are added as they are: `speaker`, `date` and `topic` when the question names one, `length` per
    standard deviation of log words, `asks` for a turn that ends in a question, `user` for what the user said.
    `repeat` is what a hit loses for each better one of its session; `rerank` weighs late interaction.
    `alone` are word lists that join the others when there are no cosines to say which turn of a window it is.
    """

    name: str
    words: Mapping[str, float]
    meaning: Mapping[str, float]
    priors: Mapping[str, float]
    rerank: float
    repeat: float = 0.0
    alone: Mapping[str, float] = field(default_factory=dict)


DIALOGUE = Profile(
    "dialogue",
    words={"near": 0.25, "wide": 0.5},
    meaning={"vector": 0.75, "around": 0.25},
    priors={"speaker": 2.0, "date": 2.0, "topic": TOPIC, "length": 0.35, "asks": -0.5},
    rerank=0.5,
    alone={"text": 0.1},
)
ASSISTANT = Profile(
    "assistant",
    words={"asked": 0.5, "text": 0.25},
    meaning={"vector": 0.75, "around": 0.25},
    priors={"user": 1.0, "date": 1.0, "topic": TOPIC},
    rerank=0.5,
    repeat=0.75,
)
DOCUMENTS = Profile(
    "documents",
    words={"near": 0.5},
    meaning={"vector": 0.5, "near_vector": 1.0},
    priors={"date": 0.5, "topic": TOPIC},
    rerank=0.5,
)
PROFILES = {profile.name: profile for profile in (DIALOGUE, ASSISTANT, DOCUMENTS)}


def choose(stats: Stats) -> Profile:
    """The profile: by whether most rows are turns, and whether an assistant's long replies are among them."""
    if stats.turns * 2 < stats.rows or not stats.turns:
        return DOCUMENTS
    if stats.replies * 10 >= stats.turns and stats.reply_words >= LONG_REPLY_WORDS:
        return ASSISTANT
    return DIALOGUE
