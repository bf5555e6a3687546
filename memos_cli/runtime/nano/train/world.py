"""The reading world: facts, memories that state them in many shapes, and questions about them.

A context has few subjects and few relations, so that nearly every fact has neighbours of the same subject and of the
same relation: to answer, both must be read. Spans of subject and value are kept, as training guides attention by them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from random import Random

from memos_cli.runtime.nano.train.frames import Patterns, Relation, make_relation, relations
from memos_cli.runtime.nano.train.names import Names, words

UNKNOWN = "unknown"
SUBJECTS = ("person",) * 6 + ("animal", "company", "project", "project", "device", "device", "place", "event", "book",
                              "team", "vehicle", "recipe", "building")  # fmt: skip
FREE_VALUES = ("person", "place", "number", "food", "colour", "code", "product", "day", "name", "count", "thing")
SHAPES = ("prose", "lines", "bullets", "keys", "chat")
# Marks around a subject and a value while a sentence is put together.
S0, S1, V0, V1 = "\ue000", "\ue001", "\ue002", "\ue003"
_FIRST_PERSON = (
    (r"^does the user\b", "do I"), (r"\bdoes the user\b", "do I"), (r"\bdid the user\b", "did I"),
    (r"\bis the user\b", "am I"), (r"\bwas the user\b", "was I"), (r"\bthe user's\b", "my"),
    (r"\bof the user\b", "of mine"),
)  # fmt: skip
_SELF = {"is": "am", "has": "have", "does": "do", "was": "was"}
INTROS = (
    "I met {s} last week.", "{s} came by today.", "Let me tell you about {s}.", "You asked about {s}.",
    "Here is what we know about {s}.", "{s} is well known here.", "A note about {s}.", "We talked about {s} again.",
)  # fmt: skip
CHATTER = (
    "Hi!", "Hello, how are you?", "That is nice.", "Really?", "I did not know that.", "Thanks!", "See you soon.",
    "Good to know.",
    "What a day.", "I am tired today.", "The weather is good.", "Let us talk later.", "Yes.", "No, not yet.", "Wow.",
)  # fmt: skip
LEADS = ("These days ", "Now ", "This year ", "By the way, ", "As of today, ", "So, ", "Also, ", "In fact, ", "Today ")
POLITE = ("Please: ", "Hey, ", "One question: ", "Sorry, ", "Quick question: ", "So ", "And ")


@dataclass(frozen=True, slots=True)
class Fact:
    """A subject, a relation and the value it has."""

    subject: str
    relation: Relation
    value: str


@dataclass(frozen=True, slots=True)
class Stated:
    """Where in a memory a fact stands: character spans of its subject (None for a pronoun), value and sentence."""

    fact: Fact
    subject: tuple[int, int] | None
    value: tuple[int, int]
    sentence: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Question:
    """A question, its answer, and the fact behind it (None where there is none to point at)."""

    text: str
    answer: str
    fact: Fact | None = None
    subject: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """A memory (None: no memory is given) and questions about it, each to be answered by itself."""

    memory: str | None
    questions: tuple[Question, ...]
    stated: tuple[Stated, ...] = ()


@dataclass(slots=True)
class World:
    """Draws examples. `held_words` takes the patterns kept out of training, `held_names` the syllables kept out."""

    random: Random
    held_names: bool = False
    held_words: bool = False
    plain: tuple[str, ...] = ()
    names: Names = field(init=False)

    def __post_init__(self) -> None:
        self.names = Names(self.random, held=self.held_names)

    def chance(self, share: float) -> bool:
        """True with the probability `share`."""
        return self.random.random() < share

    def _patterns(self, relation: Relation) -> Patterns:
        if self.held_words and relation.held.says and relation.held.asks:
            return relation.held
        return relation.train

    # --- facts

    def facts(self, count: int, *, own: float = 0.72) -> list[Fact]:
        """`count` facts of few subjects and relations; of the share 1 - `own` the relation is a bare noun or verb."""
        random = self.random
        kind = random.choice([each for each in SUBJECTS if self._known(each)])
        subjects = max(1, min(count, random.choice((1, 2, 3, count // 4, count // 2, count // 2, count))))
        pool = self._relations(kind, max(1, -(-count // subjects) + random.choice((0, 0, 1, 2))), own=own)
        subjects = max(subjects, -(-count // len(pool)))
        grid = [(subject, relation) for subject in self._subjects(kind, subjects) for relation in pool]
        random.shuffle(grid)
        return [self._fact(subject, relation) for subject, relation in grid[:count]]

    def _known(self, kind: str) -> list[Relation]:
        """The relations of a kind of subject, such as have held patterns where those are wanted."""
        pool = [each for each in relations() if each.subject == kind]
        return [each for each in pool if each.held.says and each.held.asks] if self.held_words else pool

    def _relations(self, kind: str, count: int, *, own: float) -> list[Relation]:
        if self.held_words or self.chance(own):
            pool = self._known(kind)
            return self.random.sample(pool, min(count, len(pool)))
        if kind == "person" and self.chance(0.35):
            return list({verb: _deed(verb) for verb in (self._verb() for _ in range(count))}.values())
        return [_attribute(self._noun(), self.random.choice(FREE_VALUES), kind) for _ in range(count)]

    def _noun(self) -> str:
        noun = self.names.raw(2) if self.chance(0.25) else self.random.choice(words("attribute"))
        return (
            f"{self.random.choice(('favourite', 'new', 'old', 'first', 'secret'))} {noun}"
            if self.chance(0.12)
            else noun
        )

    def _verb(self) -> str:
        if self.chance(0.2):
            base = self.names.raw(1)
            return f"{base}:{base}ed"
        return self.random.choice(words("verb"))

    def _subjects(self, kind: str, count: int) -> list[str]:
        drawn: dict[str, None] = {}
        while len(drawn) < count:
            subject = self._plain() or self.names.subject(kind)
            last = next(reversed(drawn), "")
            if kind == "person" and " " in last and last != "the user" and self.chance(0.15):
                first, family = last.rsplit(" ", 1)
                subject = f"{first} {self.names.name()}" if self.chance(0.5) else f"{self.names.first()} {family}"
            drawn[subject] = None
        return list(drawn)

    def _plain(self) -> str:
        return self.random.choice(self.plain) if self.plain else ""

    def _fact(self, subject: str, relation: Relation) -> Fact:
        while (value := self._plain() or self.names.value(relation.value)) == subject:
            pass
        return Fact(subject, relation, value)

    # --- memories

    def state(self, facts: Sequence[Fact], *, shape: str | None = None) -> tuple[str, list[Stated]]:
        """A memory that states the facts, and where each stands in it."""
        random = self.random
        shape = shape or random.choices(SHAPES, (0.4, 0.16, 0.14, 0.12, 0.18))[0]
        order = list(facts)
        random.shuffle(order) if self.chance(0.5) else order.sort(key=lambda fact: fact.subject)
        if shape == "keys" and all(fact.relation.nouns for fact in order):
            return _unmarked(self._keys(order), order)
        if shape == "chat" and order[0].relation.subject == "person":
            return _unmarked(self._chat(order), order)
        return _unmarked(self._sentences(order, shape), order)

    def _sentences(self, order: Sequence[Fact], shape: str) -> str:
        lines: list[str] = []
        pronoun, last = "", ""
        for fact in order:
            fresh = fact.subject != last
            if fresh:
                pronoun = self._pronoun(fact)
                if self.chance(0.06):
                    lines.append(self.random.choice(INTROS).replace("{s}", fact.subject))
                    fresh = False
            lines.append(self._sentence(fact, pronoun, again=not fresh))
            last = fact.subject
        if shape == "prose":
            return " ".join(line if line[-1] in ".?!" else f"{line}." for line in lines)
        mark = self.random.choice(("- ", "- ", "* ", "{}. ")) if shape == "bullets" else ""
        return "\n".join(mark.format(number) + line for number, line in enumerate(lines, 1))

    def _pronoun(self, fact: Fact) -> str:
        return self.random.choice(("He", "She")) if fact.relation.subject == "person" else "It"

    def _sentence(self, fact: Fact, pronoun: str, *, again: bool) -> str:
        pattern = self.random.choice(self._patterns(fact.relation).says)
        pattern = pattern.replace("{P}", pronoun).replace("{p}", pronoun.lower())
        if again and self.chance(0.35):
            owner = {"He": "His", "She": "Her", "It": "Its"}[pronoun]
            if pattern.startswith("{s}'s "):
                return _filled(pattern.replace("{s}'s", owner, 1), fact)
            if pattern.startswith("{s} ") and pattern.count("{s}") == 1:
                return _filled(pattern.replace("{s}", pronoun, 1), fact)
        if not self.held_words and pattern.startswith("{s} ") and self.chance(0.1):
            return self.random.choice(LEADS) + _filled(pattern, fact, capital=False)
        return _filled(pattern, fact)

    def _keys(self, order: Sequence[Fact]) -> str:
        """Records: a line for each fact, or all of a subject under its name, or answers after their questions."""
        form = self.random.randrange(5)
        lines: list[str] = []
        last = ""
        for fact in sorted(order, key=lambda fact: fact.subject):
            noun, subject = self.random.choice(fact.relation.nouns), f"{S0}{fact.subject}{S1}"
            pair = f"{noun}: {V0}{fact.value}{V1}"
            if form == 0:
                lines.append(f"{subject}: {pair}" if fact.subject != last else f"- {pair}")
            elif form == 1:
                lines.append(f"{subject} > {pair}")
            elif form == 4:
                asked = self.random.choice(self._patterns(fact.relation).asks)
                lines.append(f"{asked.replace('{s}', subject)} {V0}{fact.value}{V1}")
            elif form == 2:
                lines.append(f"{noun} of {subject}: {V0}{fact.value}{V1}")
            else:
                lines.append(f"{subject}, {pair}")
            last = fact.subject
        return "\n".join(lines)

    def _chat(self, order: Sequence[Fact]) -> str:
        """Turns: the subject speaks, or somebody else speaks of it."""
        other = self.names.first()
        lines: list[str] = []
        for fact in order:
            if self.chance(0.15):
                lines.append(f"{self.random.choice((other, fact.subject))}: {self.random.choice(CHATTER)}")
            spoken = self._spoken(fact) if self.chance(0.75) else None
            if spoken and fact.subject != "the user":
                lead = self.random.choice(CHATTER) + " " if self.chance(0.12) else ""
                lines.append(f"{S0}{fact.subject}{S1}: {lead}{spoken}")
            else:
                lines.append(f"{other}: {self._sentence(fact, 'He', again=False)}")
        return "\n".join(lines)

    def _spoken(self, fact: Fact) -> str | None:
        """The fact in the first person, or None where the pattern drawn has no such form."""
        pattern = self.random.choice(self._patterns(fact.relation).says)
        if pattern.count("{s}") != 1 or "{p}" in pattern or "{P}" in pattern:
            return None
        if "{s}'s " in pattern:
            text = pattern.replace("{s}'s", "my")
        elif " of {s}" in pattern:
            text = re.sub(r"\b[Tt]he ([\w ]+?) of \{s\}", r"my \1", pattern)
        elif pattern.startswith("{s} "):
            text = self._first_person(pattern, fact.relation)
        else:
            return None
        return None if "{s}" in text or not text else _filled(text, fact)

    def _first_person(self, pattern: str, relation: Relation) -> str:
        for finite, base, _ in relation.verbs:
            if pattern.startswith(f"{{s}} {finite} "):
                head, *rest = finite.split()
                own = (
                    base
                    if base and f"{head}" != base.split()[0] and finite.startswith(base[:1]) and _present(finite, base)
                    else " ".join([_SELF.get(head, head), *rest])
                )
                return f"I {own} " + pattern[len(f"{{s}} {finite} ") :]
        head = pattern.split(" ", 2)[1] if pattern.count(" ") > 1 else ""
        return f"I {_SELF[head]} " + pattern.split(" ", 2)[2] if head in _SELF else ""

    # --- questions

    def ask(self, fact: Fact, *, answer: str | None = None, called: str | None = None) -> Question:
        """A question for the fact's value; `called` is how it names the subject."""
        pattern = self.random.choice(self._patterns(fact.relation).asks)
        return self._question(pattern, fact, answer or fact.value, called=called or fact.subject)

    def ask_who(self, fact: Fact) -> Question | None:
        """A question for the fact's subject, where the relation has such."""
        if not fact.relation.who:
            return None
        return Question(self.random.choice(fact.relation.who).replace("{v}", fact.value), fact.subject)

    def _question(self, pattern: str, fact: Fact, answer: str, *, called: str) -> Question:
        text = pattern
        if fact.subject == "the user" and self.chance(0.6):
            for found, own in _FIRST_PERSON:
                text = re.sub(found, own, text.replace("{s}", "the user"))
            text = text[0].upper() + text[1:]
        if not self.held_words and self.chance(0.06):
            text = self.random.choice(POLITE) + text[0].lower() + text[1:]
        if not self.held_words and self.chance(0.05):
            text = text[0].lower() + text[1:].rstrip("?.")
        marked = _filled(text, replace(fact, subject=called))
        start = marked.find(S0)
        clean = _strip(marked)
        span = (start, start + len(called)) if start >= 0 else None
        return Question(clean, answer, fact, span)

    def ask_unknown(self, facts: Sequence[Fact]) -> Question | None:
        """A question the memory does not answer: a subject that is not in it, or a relation its subject has not."""
        fact = self.random.choice(facts)
        known = {(each.subject, each.relation.name) for each in facts}
        if self.chance(0.5):
            subject = self._subjects(fact.relation.subject if fact.relation.subject in SUBJECTS else "person", 1)[0]
            other = Fact(subject, fact.relation, fact.value)
        else:
            pool = [each for each in relations() if each.subject == fact.relation.subject]
            if fact.relation in pool:
                others = [each for each in pool if self._patterns(each).asks]
            else:
                others = [_attribute(self._noun(), "name", fact.relation.subject)]
            other = Fact(fact.subject, self.random.choice(others), fact.value)
        return None if (other.subject, other.relation.name) in known else self.ask(other, answer=UNKNOWN)

    def questions(
        self,
        facts: Sequence[Fact],
        count: int,
        *,
        unknown: float,
        who: float = 0.1,
        told: Mapping[int, str] | None = None,
    ) -> list[Question]:
        """`count` questions; the share `unknown` has no answer in the facts. `told` is what `as_told` gives."""
        told = told or {}
        asked: list[Question] = []
        order = list(facts)
        self.random.shuffle(order)
        while len(asked) < count:
            fact = order[len(asked) % len(order)]
            question = self.ask_unknown(facts) if self.chance(unknown) else None
            if question is None and self.chance(who) and _alone(fact, facts):
                question = self.ask_who(fact)
            called = _short(fact, facts) if self.chance(0.15) else None
            asked.append(question or self.ask(fact, answer=told.get(id(fact)), called=called))
        return asked

    def example(self, most: int, *, unknown: float, questions: int = 8) -> Example:
        """An example of up to `most` facts."""
        random = self.random
        if self.chance(0.03):
            return Example(None, tuple(self.ask(fact, answer=UNKNOWN) for fact in self.facts(random.randint(1, 3))))
        # few facts as often as many, by the order of their number: few are what retrieval hands over
        count = (
            random.choice((1, 2, most // 4, most // 2, most))
            if self.chance(0.3)
            else int((most + 1) ** random.random())
        )
        facts = self.facts(max(1, count))
        memory, stated = self.state(facts)
        wanted = max(2, min(2 * len(facts), questions))
        asked = self.questions(facts, wanted, unknown=unknown, told=as_told(memory, stated))
        return Example(memory, tuple(asked), tuple(stated))


def as_told(memory: str, stated: Sequence[Stated]) -> dict[int, str]:
    """Each fact's value as the memory has it, by the fact's id: a sentence that begins with it hides its own case."""
    return {id(each.fact): memory[slice(*each.value)] for each in stated}


def _present(finite: str, base: str) -> bool:
    first, root = finite.split()[0], base.split()[0]
    return first in {root + "s", root + "es", root[:-1] + "ies"} or (first, root) == ("has", "have")


def _short(fact: Fact, facts: Sequence[Fact]) -> str | None:
    """A person's first name, where nobody else has it."""
    first, _, rest = fact.subject.partition(" ")
    if fact.relation.subject != "person" or not rest or first in ("the", "Dr", "Mrs", "Mr", "Professor"):
        return None
    others = {each.subject for each in facts} - {fact.subject}
    return None if any(first in other.split() for other in others) else first


def _alone(fact: Fact, facts: Sequence[Fact]) -> bool:
    return sum(each.value == fact.value for each in facts) == 1


@cache
def _attribute(noun: str, value: str, subject: str) -> Relation:
    """A relation that is one bare noun."""
    return make_relation(f"has {noun}", {"subject": subject, "value": value, "nouns": [noun]}, split=False)


@cache
def _deed(verb: str) -> Relation:
    """A relation that is one verb in the past."""
    base, past = verb.split(":")
    entry: dict[str, object] = {
        "subject": "person", "value": "thing", "verbs": [f"{past}|{base}|"], "pronouns": ["what"], "kinds": ["thing"],
        "who": [f"Who {past} {{v}}?"],
    }  # fmt: skip
    return make_relation(f"did {base}", entry, split=False)


def _filled(pattern: str, fact: Fact, *, capital: bool = True) -> str:
    text = pattern.replace("{s}", f"{S0}{fact.subject}{S1}").replace("{v}", f"{V0}{fact.value}{V1}")
    text = re.sub(rf"\b([Aa]) (?=[{S0}{V0}]?[aeiouAEIOU])", r"\1n ", text)
    at = 1 if text[0] in (S0, V0) else 0
    return text[:at] + text[at].upper() + text[at + 1 :] if capital else text


def _strip(marked: str) -> str:
    return re.sub(f"[{S0}{S1}{V0}{V1}]", "", marked)


def _unmarked(marked: str, facts: Sequence[Fact]) -> tuple[str, list[Stated]]:
    """The text without its marks, and the place of each fact whose value was marked."""
    by_value = {fact.value: fact for fact in facts}
    done: list[Stated] = []
    open_facts: list[Stated] = []
    text, start, opened, subject = "", 0, 0, None

    def close() -> None:
        done.extend(replace(each, sentence=(each.sentence[0], len(text.rstrip()))) for each in open_facts)
        open_facts.clear()

    for piece in re.split(f"([{S0}{S1}{V0}{V1}\n]|(?<=[.?!]) )", marked):
        if piece in (S0, V0):
            opened = len(text)
        elif piece == S1:
            subject = (opened, len(text))
            open_facts = [_named(each, text, subject) for each in open_facts]
        elif piece == V1:
            value = text[opened:]
            fact = by_value.get(value) or by_value.get(value[0].lower() + value[1:])
            if fact:
                stated = Stated(fact, None, (opened, len(text)), (start, len(text)))
                # a pronoun stands for who was named last; a line under a heading speaks of the heading
                open_facts.append(_named(stated, text, subject))
        else:
            if piece in ("\n", " "):
                close()
                start = len(text) + 1
            text += piece
    close()
    return text, done


def _named(stated: Stated, text: str, subject: tuple[int, int] | None) -> Stated:
    """The statement with this span as its subject, if it has none yet and the span says so."""
    if stated.subject or not subject or text[slice(*subject)].lower() != stated.fact.subject.lower():
        return stated
    return replace(stated, subject=subject)
