"""Made-up names and values of the reading world, drawn from a seeded generator.

A name is put together from syllables. One syllable in seven is held out: names for training have none of those, names
for testing have no others, so that a model which reads a test name right has copied it and not remembered it.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from random import Random
from zlib import crc32

LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"
HELD_ONE_IN = 7


@cache
def words(name: str) -> tuple[str, ...]:
    """A list of plain words, such as the foods; see words.toml."""
    lists = tomllib.loads((Path(__file__).parent / "words.toml").read_text(encoding="utf-8"))
    return tuple(str(lists[name]).split())


def is_held(onset: str, vowel: str) -> bool:
    """Whether a syllable is kept out of training."""
    return crc32(f"{onset}.{vowel}".encode()) % HELD_ONE_IN == 0


@cache
def syllables(held: bool) -> tuple[str, ...]:
    """All syllables of one side of the split, without codas. Spelt alike, `pha` of p-ha and of ph-a is one."""
    made = {onset + vowel: is_held(onset, vowel) for vowel in words("vowel") for onset in words("onset")}
    return tuple(syllable for syllable, out in made.items() if out is held)


class Names:
    """Draws names and values. With `held` only syllables kept out of training are used, and no word list at all."""

    def __init__(self, random: Random, *, held: bool = False) -> None:
        self.random = random
        self.held = held

    def chance(self, share: float) -> bool:
        """True with the probability `share`."""
        return self.random.random() < share

    def raw(self, syllables: int | None = None) -> str:
        """A made-up word in lower case, of 3 to 11 letters."""
        while True:
            count = syllables or self.random.choice((1, 2, 2, 2, 3))
            word = "".join(self._syllable() for _ in range(count))
            if 3 <= len(word) <= 11:
                return word

    def _syllable(self) -> str:
        coda = self.random.choice(words("coda")) if self.chance(0.4) else ""
        return self.random.choice(syllables(self.held)) + coda

    def name(self) -> str:
        """A made-up name with a capital letter."""
        return self.raw().capitalize()

    def listed(self, name: str, made: float = 0.3) -> str:
        """A word of a list, or with the probability `made` (always, when held out) a made-up one."""
        if self.held or self.chance(made):
            return self.raw(self.random.choice((1, 2, 2)))
        word = self.random.choice(words(name))
        return f"{self.random.choice(words('adjective'))} {word}" if self.chance(0.15) else word

    def first(self) -> str:
        """A first name, mostly made up."""
        return self.name() if self.held or self.chance(0.7) else self.random.choice(words("first"))

    def person(self) -> str:
        """A first name, both names, or a title and a name."""
        drawn = self.random.random()
        if drawn < 0.42:
            return self.first()
        if drawn < 0.95:
            return f"{self.first()} {self.name()}"
        return f"{self.random.choice(('Dr', 'Mrs', 'Mr', 'Professor'))} {self.name()}"

    def place(self) -> str:
        """A town, village or region."""
        name, drawn = self.name(), self.random.random()
        if drawn < 0.55:
            return name
        if drawn < 0.8:
            return name + self.random.choice(("ford", "ville", "burg", "ton", "stad", "heim", "by", "dale"))
        form = self.random.choice(("Port {}", "New {}", "{} Bay", "Lake {}", "San {}", "{} Hills", "North {}"))
        return form.format(name)

    def company(self) -> str:
        """A firm or institution."""
        kinds = [
            "Labs",
            "Systems",
            "Group",
            "Works",
            "Foods",
            "Bank",
            "Motors",
            "Media",
            "Clinic",
            "School",
            "Software",
            "Press",
        ]
        return self.name() if self.chance(0.4) else f"{self.name()} {self.random.choice([*kinds, 'and Sons'])}"

    def thing(self) -> str:
        """An object with its article, such as "the rusty lantern"."""
        noun = self.raw(2) if self.held or self.chance(0.2) else self.random.choice(words("noun"))
        drawn = self.random.random()
        if drawn < 0.3:
            return f"the {noun}"
        second = self.raw(2) if drawn > 0.85 else self.random.choice(words("adjective"))
        return f"the {second} {noun}"

    def subject(self, kind: str) -> str:
        """Something that facts are about, by kind."""
        random, drawn = self.random, self.random.random()
        if kind == "person":
            return "the user" if drawn < 0.05 and not self.held else self.person()
        if kind == "place":
            return self.place()
        if kind == "company":
            return self.company()
        if kind == "project":
            forms = (f"Project {self.name()}", f"the {self.name()} project", f"the {self.raw(2)} project", self.name())
            return random.choice(forms)
        if kind == "device":
            forms = (self.thing(), self.thing(), f"{self.name()}-{random.randint(1, 99)}", f"the {self.name()} printer")
            return random.choice(forms)
        if kind == "event":
            event = random.choice(words("event"))
            return random.choice(
                (f"the {self.name()} {event}", f"the {self.raw(2)} {event}", f"the {self.name()} fair")
            )
        if kind == "animal":
            return self.name() if drawn < 0.7 else f"{self.name()} the {random.choice(words('animal'))}"
        forms_of = {
            "book": ("The {} Garden", "The {} River", "{} and the Sea", "The Last {}", "A Year in {}"),
            "team": ("team {}", "the {} team", "the {} group", "the {} squad"),
            "vehicle": ("the {} van", "the {} truck", "{} Nine", "the {} tram"),
            "recipe": ("{} soup", "{} cake", "the {} stew", "{} bread"),
            "building": ("{} House", "the {} tower", "{} Hall", "the {} building"),
        }
        return random.choice(forms_of[kind]).format(self.name())

    def value(self, kind: str) -> str:
        """What is said of a subject, by the kinds of relations.toml."""
        maker = getattr(self, f"_{kind}", None)
        if maker is not None:
            return str(maker())
        if kind in ("person", "place", "company", "thing"):
            return str(getattr(self, kind)())
        return self.listed(kind)

    def _name(self) -> str:
        return self.first()

    def _number(self) -> str:
        random = self.random
        if self.chance(0.5):
            return str(random.randrange(100, 10 ** random.choice((3, 4, 5)) * 10))
        return random.choice(("{}-{}", "{} {}")).format(random.randrange(10, 1000), random.randrange(100, 10000))

    def _day(self) -> str:
        random, drawn = self.random, self.random.random()
        month, day, year = random.choice(words("month")), random.randint(1, 28), random.randint(1950, 2035)
        if drawn < 0.25:
            return f"{day} {month}"
        if drawn < 0.4:
            return f"{month} {day}"
        if drawn < 0.65:
            return f"{day} {month} {year}"
        if drawn < 0.85:
            return f"{year}-{words('month').index(month) + 1:02d}-{day:02d}"
        return random.choice(words("weekday"))

    def _code(self) -> str:
        random, drawn = self.random, self.random.random()
        if drawn < 0.4:
            return "".join(random.choice(LETTERS) for _ in range(2)) + f"-{random.randrange(100, 10000)}"
        if drawn < 0.6:
            return "".join(random.choice(LETTERS + "0123456789") for _ in range(random.randint(4, 6)))
        if drawn < 0.8:
            return str(random.randrange(1000, 999999))
        return f"{self.raw(2)}{random.randrange(10, 1000)}"

    def _year(self) -> str:
        return str(self.random.randint(1700, 2035))

    def _count(self) -> str:
        random = self.random
        return random.choice(
            (
                str(random.randint(2, 99)),
                str(random.randint(2, 999)),
                f"{random.randint(1, 99)},{random.randrange(1000):03d}",
            )
        )

    def _time(self) -> str:
        form = self.random.choice(("{}:{:02d}", "{}:{:02d}", "{} o'clock", "{} pm", "{} am"))
        return form.format(self.random.randint(1, 12), self.random.randrange(0, 60, 5))

    def _money(self) -> str:
        amount = self.random.choice(
            (str(self.random.randint(5, 999)), f"{self.random.randint(1, 99)},{self.random.randrange(0, 1000, 50):03d}")
        )
        return self.random.choice(("${}", "{} euros", "{} dollars", "{} pounds")).format(amount)

    def _room(self) -> str:
        random, number = self.random, self.random.randint(1, 499)
        place = random.choice(["room", "hall", "office", "cellar", "garage", "attic", "kitchen", "lab", "barn", "shed"])
        forms = (f"room {number}", f"office {number}", f"building {random.choice(LETTERS)}",
                 f"the {self.raw(2)} {place}",
                 f"the {random.choice(words('adjective'))} {place}", f"room {self.name()}")  # fmt: skip
        return random.choice(forms)

    def _vehicle(self) -> str:
        kind = self.random.choice(words("vehicle"))
        if self.held:
            return f"{self.name()} {kind}"
        return self.random.choice((f"{self.random.choice(words('adjective'))} {kind}", f"{self.name()} {kind}", kind))

    def _duration(self) -> str:
        unit = self.random.choice(("minutes", "hours", "days", "weeks", "months", "years"))
        return f"{self.random.randint(2, 90)} {unit}"

    def _length(self) -> str:
        return f"{self.random.randint(2, 900)} {self.random.choice(('km', 'm', 'cm', 'miles', 'metres'))}"

    def _weight(self) -> str:
        return f"{self.random.randint(2, 900)} {self.random.choice(('kg', 'g', 'pounds', 'tons'))}"

    def _percent(self) -> str:
        return f"{self.random.randint(2, 99)} percent"

    def _email(self) -> str:
        return f"{self.raw()}@{self.raw()}.{self.random.choice(('com', 'org', 'net'))}"

    def _url(self) -> str:
        host = f"{self.raw()}.{self.random.choice(('com', 'org', 'net', 'dev'))}"
        host = f"{self.raw(1)}.{host}" if self.chance(0.4) else host
        return f"{host}/{self.raw()}" if self.chance(0.7) else host

    def _title(self) -> str:
        return self.subject("book")

    def _reason(self) -> str:
        what = self.raw(2) if self.held else self.random.choice(words("noun"))
        form = self.random.choice(("a broken {}", "the heavy {}", "a lack of {}", "the old {}", "a missing {}"))
        return form.format(what)
