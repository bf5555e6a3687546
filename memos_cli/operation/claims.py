"""What a memory claims, so that claims of two memories compare: of whom, what is told, which value, and since when.

Facts by their shape come from facts.py; here they get one name for each relation, a polarity and a time, and two more
shapes join them: a sentence that is the same but for a number, a date or a time, and one that says where a thing is.
What is past, of a pronoun, or of one among several (`a colleague of Ana`) claims nothing. Pure; reads English.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from memos_cli.operation.facts import LONGEST_NAME_WORDS, LONGEST_VALUE_WORDS, Fact, facts_of
from memos_cli.operation.values import Value, folded, is_moment, keys, tokens, value_of

# Longer texts are prose, in which a sentence stands for what it says there.
LONGEST_WORDS = 40
_ROW = re.compile(r"[\w ]{1,30}: [^;:]+(?:; [\w ]{1,30}: [^;:]+)+")
_MARK = re.compile(r"^\s*(?:[-*+•>]|\d{1,3}[.)])\s+")
DATE_WORDS = (
    r"(?:\d{4}-\d\d(?:-\d\d)?|(?:(?:\d{1,2}(?:st|nd|rd|th)? )?[A-Z][a-z]{2,8} )?\d{4}|[A-Z][a-z]{2,8} \d{1,2},? \d{4})"
)
_LEAD = re.compile(
    rf"^(?P<how>as of|since|from|starting|effective|until|till|up to) (?P<when>{DATE_WORDS})(?: on| onwards)?,? ",
    re.IGNORECASE,
)
_TRAIL = re.compile(
    rf",? (?P<how>as of|since|from|starting|effective|until|till|up to) (?P<when>{DATE_WORDS})(?: on| onwards)?$",
    re.IGNORECASE,
)
_ENDING = frozenset({"until", "till", "up to"})
_NOW = re.compile(r",? ?\b(?:now|currently|at present|these days|at the moment|meanwhile|as of now|today)\b,? ?", re.I)
_PAST = re.compile(r"\b(?:used to|formerly|previously|was once|had been|no more than)\b", re.IGNORECASE)
_NO_MORE = re.compile(r"\bno longer |\bnot (?=[^.]* any ?more)| any ?more\b", re.IGNORECASE)
_DO_NOT = re.compile(
    r"\b(?P<do>does|do|did) ?(?:not|n['’]t) (?P<verb>\w+)|\b(?P<short>does|do|did)n['’]t (?P<verb2>\w+)", re.I
)
_IS_NOT = re.compile(
    r"\b(?P<is>is|are|was|were|has|have|can|will|must|may|should)(?: not|n['’]t|not)\b|\bcan['’]t\b"
    r"|\b(?P<never>never) ",
    re.IGNORECASE,
)
_HAS_NO = re.compile(r"\b(?P<v>has|have|is|are|there is|there are) no (?=\w)", re.IGNORECASE)
PRONOUN = re.compile(
    r"^(?:he|she|it|they|this|that|these|those|there|here|we|you|i|who|what|which|one|some|most|many|all|both|each"
    r"|every|any|another|nobody|somebody|everyone|if|when|because|although)\b",
    re.IGNORECASE,
)
_AMONG = re.compile(r"^(?:an?|one|some|another|many|most) ", re.IGNORECASE)
_HEAD_OF = re.compile(r"^(?P<v>[^,;:.]{1,60}?) is the (?P<r>[\w' -]{2,40}?) of (?P<s>[^,;:.]{1,60})$")
_PLACE = re.compile(
    r"^(?P<s>(?:the|my|our|[A-Z])[^,;:.]{1,60}?) (?:is|are) (?:kept |stored |located |hidden |parked )?"
    r"(?P<at>in|on|at|under|behind|with|next to) (?P<v>(?:the |my |our )?[^,;:]{2,60})$",
    re.IGNORECASE,
)
_ROLE = re.compile(r"^(?P<s>(?:The|My|Our) [^,;:.]{1,80}?) is (?P<v>(?:the \w+ )?[^,;:.]{1,60})$")
_FROM_TO = re.compile(r" (?:has )?(?:moved|relocated) from [^,;:.]{1,60}? to ")
_SURE_VERB = re.compile(
    r"\b(?:is|are|was|has|have|costs?|weighs?|starts?|ends?|opens?|closes?|leaves?|arrives?|runs?|takes? place|begins?"
    r"|expires?|listens|took place|contains?|holds?|measures?|lasts?|needs?|allows?|will|can|must)\b"
)
_PLAIN_VERB = re.compile(r"(?<=\s)[a-z]{2,}(?<!s)s\b(?=\s(?:at|on|in|by|from|to|for|every|about|\d))")
# What happened may have happened more than once, but for these.
_ONCE = re.compile(
    r"\b(?:was|were) (?:born|founded|built|signed|released|established|created|launched)\b|\btook place\b"
)
_HAPPENED = re.compile(r"\b(?:was|were|had|did)\b|\b[a-z]{3,}ed\b(?! (?:for|in a|with a)\b)")
_STILL = re.compile(r"\b(?:is|are|has been) [a-z]+(?:ed|en)\b")
_COPULA = re.compile(
    r"\b(?:is|are|was|were)\b(?! (?:living|employed|born|run|headed|managed|directed))|:", re.IGNORECASE
)
_LABEL_BEFORE = re.compile(r"\b(?:on|in|at|from|to|is|are|has|uses) (?:the )?(?:[a-z]+ )?$")


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim. `since` is a moment it names (year, month, day; zeros for what it leaves out), () for none.

    `said` is the value as it stands there; `news` says that the sentence tells of a change, `several` that the relation
    may have many values at a time.
    """

    subject: str
    relation: str
    value: Value
    said: str
    negated: bool = False
    since: tuple[int, ...] = ()
    news: bool = False
    several: bool = False


@dataclass(frozen=True, slots=True)
class Plain:
    """A sentence without its time, its negation and its marks of now."""

    text: str
    negated: bool
    since: tuple[int, ...]
    news: bool
    past: bool


@cache
def _relations() -> tuple[dict[str, str], frozenset[str], dict[str, tuple[str, str]]]:
    """Relation by name; those of several values; how each verb tells it (`verbs`, `inverse` or `moves`)."""
    told = tomllib.loads((Path(__file__).parent / "relations.toml").read_text(encoding="utf-8"))
    names = {name: relation for relation, entry in told.items() for name in entry.get("names", ())}
    several = frozenset(relation for relation, entry in told.items() if entry.get("several"))
    verbs = {
        verb: (how, relation)
        for relation, entry in told.items()
        for how in ("verbs", "inverse", "moves")
        for verb in entry.get(how, ())
    }
    return names, several, dict(sorted(verbs.items(), key=lambda pair: -len(pair[0])))


def claims_of(text: str, *, kind: str = "", section: str = "") -> list[Claim]:
    """The claims of a memory, each once; none of a text that is too long to be a few statements."""
    if len(text.split()) > LONGEST_WORDS:
        return []
    if kind in ("row", "record") or _ROW.fullmatch(text.strip()):
        found = [_named(fact) for fact in facts_of(text, kind="row", section=section)]
    else:
        found = [claim for part in sentences(text) for claim in _of_sentence(part, section)]
    return [*{(one.subject, one.relation): one for one in found if _is_of_somebody(one)}.values()]


def is_relation(word: str) -> bool:
    """Whether a word is what something is called that is told of others: `owner`, `price`."""
    return word in _relations()[0]


def is_told_by_verb(text: str, relation: str) -> bool:
    """Whether a sentence tells a relation by a verb of its own (`lives in`), as one does of who has a name."""
    known = relation in _relations()[0].values() or any(relation == to for _, to in _relations()[2].values())
    return known and not _COPULA.search(text)


def sentences(text: str) -> list[str]:
    """The sentences of a text, without the mark of a list and the full stop."""
    return [
        part.strip().rstrip(".!").strip()
        for part in re.split(r"(?<=[.!?])\s+(?=[\"“A-Z])|\n+", _MARK.sub("", text))
        if part.strip() and not part.rstrip().endswith("?")
    ]


def plain(sentence: str) -> Plain:
    """A sentence without what says when, whether now and whether not."""
    text, past = sentence, bool(_PAST.search(sentence))
    since: tuple[int, ...] = ()
    for pattern in (_LEAD, _TRAIL):
        if found := pattern.search(text):
            text = f"{text[: found.start()]}{text[found.end() :]}"
            past = past or found["how"].lower() in _ENDING
            since = since or moment_of(found["when"])
    fresh = _NOW.sub(" ", text).strip()
    positive, ended = _NO_MORE.subn("", fresh)
    positive, turned = _positive(positive)
    return Plain(positive, bool(ended or turned), since, bool(ended) or fresh != text.strip(), past)


def _positive(text: str) -> tuple[str, int]:
    """The sentence without its negation, and how many it had."""
    text, done = _DO_NOT.subn(
        lambda found: _third(found["verb"] or found["verb2"], found["do"] or found["short"]), text
    )
    text, are = _IS_NOT.subn(lambda found: found["is"] or ("" if found["never"] else "can"), text)
    text, no = _HAS_NO.subn(lambda found: f"{found['v']} a ", text)
    return text, done + are + no


def _third(verb: str, do: str) -> str:
    """`does not support`: `supports`."""
    if do.casefold() != "does":
        return verb
    if verb == "have":
        return "has"
    return f"{verb}es" if verb.endswith(("s", "sh", "ch", "x", "o")) else f"{verb}s"


def moment_of(text: str) -> tuple[int, ...]:
    """Year, month and day of a written date, zeros for what it leaves out; () for none."""
    found = {key[0]: int(key[2:]) for key in keys(text) if is_moment(key) and key[0] in "ymd"}
    if iso := re.fullmatch(r"(\d{4})-(\d\d)", text):
        found = {"y": int(iso[1]), "m": int(iso[2])}
    return tuple(found.get(part, 0) for part in "ymd")


def _of_sentence(sentence: str, section: str) -> Iterator[Claim]:
    said = plain(sentence)
    if said.past or PRONOUN.match(said.text):
        return
    for claim in _positive_claims(said.text, section):
        yield replace(claim, negated=said.negated, since=said.since, news=said.news or claim.news)


def _positive_claims(text: str, section: str) -> list[Claim]:
    """By the first of the shapes that fits: verbs of a change, what is known of facts, places, and the rest."""
    for shape in (_by_verb, _by_inverse, _by_fact, _by_key, _by_place, _by_frame, _by_role):
        if found := shape(text, section):
            return found
    return []


def _by_verb(text: str, section: str) -> list[Claim]:
    text = _FROM_TO.sub(" moved to ", text)
    for verb, (how, relation) in _relations()[2].items():
        subject, mark, value = text.partition(f" {verb} ")
        if mark and how != "inverse" and _are_short(subject, value):
            return [Claim(_subject(subject), relation, value_of(value), value, news=how == "moves")]
    return []


def _by_inverse(text: str, section: str) -> list[Claim]:
    if found := _HEAD_OF.match(text):
        fact = Fact(found["s"], found["r"], found["v"])
        return [] if _AMONG.match(text) else [_named(fact)]
    for verb, (how, relation) in _relations()[2].items():
        value, mark, subject = text.partition(f" {verb} ")
        # `Ana runs the branch of Acme`, but `Ana runs in the morning` and `the job runs at 9:00`
        told = how == "inverse" and mark and _are_short(value, subject) and re.match(r"the |[A-Z]", subject)
        if told and value[0].isupper() and not value.startswith("The "):
            return [Claim(_subject(subject), relation, value_of(value), value)]
    return []


def _by_fact(text: str, section: str) -> list[Claim]:
    if _AMONG.match(text) or re.match(r"[^:]{1,40}: (?![^:]+: )", text):
        return []
    return [_named(fact) for fact in facts_of(text)]


def _by_key(text: str, section: str) -> list[Claim]:
    """`Wifi: hunter2` under the heading it is told of."""
    key, mark, value = text.partition(": ")
    if not (mark and section and _are_short(key, value)) or len(key.split()) > 4:
        return []
    return [_named(Fact(section, key, value))]


def _by_place(text: str, section: str) -> list[Claim]:
    found = _PLACE.match(text)
    if not found or not re.match(r"the |my |our |[A-Z]", found["v"]) or any(map(is_moment, keys(found["v"]))):
        return []
    if any(key.startswith("n:") for key in keys(found["v"])) or not _are_short(found["s"], found["v"]):
        return []
    return [Claim(_subject(found["s"]), f"is {found['at']}", value_of(found["v"]), found["v"])]


def _by_role(text: str, section: str) -> list[Claim]:
    """`The contact at Acme is Ana`: of a thing with an article there is one."""
    found = _ROLE.match(text)
    if not found or not re.search(r"[A-Z]|\d", found["v"]) or len(found["v"].split()) > LONGEST_VALUE_WORDS:
        return []
    return [Claim(_subject(found["s"]), "is", value_of(found["v"]), found["v"])]


def _by_frame(text: str, section: str) -> list[Claim]:
    """A sentence that says a number, date or time of a thing: the rest of its words are the relation."""
    verb = _SURE_VERB.search(text) or _PLAIN_VERB.search(text)
    if not verb or not verb.start() or (_HAPPENED.search(text) and not _ONCE.search(text) and not _STILL.search(text)):
        return []
    slots = [
        one for one in tokens(text) if one.typed and one.start >= verb.start() and _is_told(text, one.start, one.key)
    ]
    if not slots:
        return []
    measured = [one for one in slots if not is_moment(one.key)]
    # of a number with a date the date says when it is so
    chosen = {one.start for one in (measured or slots)}
    if len(chosen) > 1 and measured:
        return []
    rest = [one.key for one in tokens(text) if one.start >= verb.start() and one.start not in chosen]
    spans = [text[one.start : one.end] for one in slots if one.start in chosen]
    core = tuple(one.key for one in slots if one.start in chosen)
    subject = text[: verb.start()].strip()
    return [Claim(_subject(subject), " ".join(rest), Value(core), " ".join(dict.fromkeys(spans)))]


def _is_told(text: str, start: int, key: str) -> bool:
    """Whether a number says something, and is not the name of something (`ticket 4711`, `every Monday`, `Mondays`)."""
    before = text[:start]
    if re.search(r"\b(?:every|each|per|until|since|before|after) $", before, re.IGNORECASE):
        return False
    if key.startswith("n:") and re.search(r"[a-z] $", before):
        return bool(_LABEL_BEFORE.search(before)) or bool(_SURE_VERB.search(before.split()[-1]))
    return True


def _named(fact: Fact) -> Claim:
    names, several, _ = _relations()
    noun = folded(fact.relation).removeprefix("the ").strip()
    relation = names.get(noun, noun)
    return Claim(_subject(fact.subject), relation, value_of(fact.value), fact.value, several=relation in several)


def _subject(text: str) -> str:
    return " ".join(keys(text))


def _are_short(name: str, value: str) -> bool:
    return 0 < len(name.split()) <= LONGEST_NAME_WORDS + 2 and 0 < len(value.split()) <= LONGEST_VALUE_WORDS


def _is_of_somebody(claim: Claim) -> bool:
    """A subject is a name or a thing, not a number or a date alone."""
    return bool(re.search(r"[^\W\d_]{2,}", claim.subject.replace("n:", ""))) and bool(claim.value.core)
