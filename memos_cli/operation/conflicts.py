"""Memories that cannot both hold now: one subject and relation with two values, or one statement with and without not.

Claims are compared within their subject and relation only, so that the work grows with the memories. Whether a
relation has several values at a time is told by relations.toml; of one that is not in it, by the memories themselves:
if most of its subjects have several values, it is not a conflict to have them. Pure: memories in, disputes out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from memos_cli.operation.claims import PRONOUN, Claim, claims_of, plain, sentences
from memos_cli.operation.values import Value, differ, is_moment, keys

VALUE, TIME, NEGATION, UPDATE = "value", "time", "negation", "update"
# A relation that so many subjects, and such a share of them, have several values of has several values.
FEWEST_SUBJECTS, SHARE = 3, 0.5
# Sides of one dispute that are compared each with each; of more, each is compared with the first.
MOST_SIDES = 40
LEAST_WORDS = 3


@dataclass(frozen=True, slots=True)
class Statement:
    """A memory as it is compared: its words, and what it stands under. `table` is the source of a table's row."""

    id: str
    text: str
    kind: str = ""
    section: str = ""
    table: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class Side:
    """A memory of a dispute, and what it claims."""

    id: str
    claim: Claim
    table: str = ""


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two memories that cannot both hold. `later` is the id of the one that holds now, as their words say; or ""."""

    kind: str
    subject: str
    relation: str
    one: Side
    other: Side
    later: str


@dataclass(frozen=True, slots=True)
class Found:
    """The conflicts among some memories, and relations that were taken to have several values, for they have."""

    conflicts: tuple[Conflict, ...]
    several: tuple[str, ...]


def conflicts_among(statements: Iterable[Statement]) -> Found:
    """All conflicts, each pair of memories once, in the order of the memories."""
    blocks: dict[tuple[str, str], list[Side]] = defaultdict(list)
    forms: dict[str, list[Side]] = defaultdict(list)
    for one in statements:
        for claim in claims_of(one.text, kind=one.kind, section=one.section):
            blocks[claim.subject, claim.relation].append(Side(one.id, claim, one.table))
        for form, claim in _forms(one):
            forms[form].append(Side(one.id, claim, one.table))
    found = {block: list(_within(sides)) for block, sides in blocks.items()}
    several = _several(found, blocks)
    told = [conflict for (_, relation), each in found.items() if relation not in several for conflict in each]
    told += [
        one for block in forms.values() if len({side.claim.negated for side in block}) > 1 for one in _within(block)
    ]
    pairs: dict[frozenset[str], Conflict] = {}
    for each in told:
        pairs.setdefault(frozenset((each.one.id, each.other.id)), each)
    return Found(tuple(pairs.values()), tuple(sorted(several)))


def _forms(one: Statement) -> Iterator[tuple[str, Claim]]:
    """Each sentence as the words that it has without its negation, where those are enough to mean one thing."""
    for sentence in sentences(one.text):
        said = plain(sentence)
        words = [_trunk(key) for key in keys(said.text)]
        if len(words) >= LEAST_WORDS and not said.past and not PRONOUN.match(said.text):
            form = " ".join(words)
            claim = Claim(one.section if ":" in said.text else "", form, Value(tuple(words)), sentence, said.negated)
            yield f"{claim.subject}|{form}", replace(claim, since=said.since, news=said.news)


def _trunk(key: str) -> str:
    if key in ("has", "have"):
        return "have"
    if key in ("is", "are"):
        return "be"
    return key[:-1] if len(key) > 3 and key.endswith("s") and not key.endswith("ss") else key


def _within(sides: Sequence[Side]) -> Iterator[Conflict]:
    """The conflicts of one subject and relation."""
    pairs = combinations(sides, 2) if len(sides) <= MOST_SIDES else ((sides[0], one) for one in sides[1:])
    for one, other in pairs:
        if one.id != other.id and (kind := _kind(one, other)):
            yield Conflict(kind, one.claim.subject, one.claim.relation, one, other, _later(one, other))


def _kind(one: Side, other: Side) -> str:
    """How two claims of one subject and relation conflict; "" when they do not."""
    a, b = one.claim, other.claim
    if one.table and one.table == other.table:
        return ""  # two rows of a table are of two things
    if a.negated != b.negated:
        return NEGATION if a.value.core == b.value.core and a.value.tail == b.value.tail else ""
    if a.negated or a.several or not differ(a.value, b.value):
        return ""
    if a.news != b.news or (a.since and b.since and a.since != b.since):
        return UPDATE
    return TIME if all(map(is_moment, {*a.value.core} ^ {*b.value.core})) else VALUE


def _later(one: Side, other: Side) -> str:
    a, b = one.claim, other.claim
    if a.since and b.since and a.since != b.since:
        return one.id if a.since > b.since else other.id
    return one.id if a.news and not b.news else other.id if b.news and not a.news else ""


def _several(found: dict[tuple[str, str], list[Conflict]], blocks: dict[tuple[str, str], list[Side]]) -> frozenset[str]:
    """Relations of which most subjects have several values, negations and changes aside."""
    having: dict[str, int] = defaultdict(int)
    subjects: dict[str, int] = defaultdict(int)
    for (_, relation), sides in blocks.items():
        subjects[relation] += bool(sides)
    for (_, relation), each in found.items():
        having[relation] += any(one.kind in (VALUE, TIME) for one in each)
    return frozenset(
        name for name, count in having.items() if count >= FEWEST_SUBJECTS and count > SHARE * subjects[name]
    )
