"""Canaries: made-up memories that one recipient's copy has and no other, so that a leak of their words tells whose.

Each is a sentence of a frame whose places are filled by a keyed hash of the recipient, the cube and its number: who has
the key makes the same again, and nobody else can tell beforehand what they will be. They are about people and things
that do not exist, so that no true question has one as its answer. The frames below stand in public code, and whoever
knows them can look for them; frames of one's own are known to nobody. Pure; knows no table and no file.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from memos_cli.cube.digest import canonical
from memos_cli.errors import Usage

MOST = 100
FRAME_LIMIT_CHARACTERS = 400
# So unlikely, at least, are the rare words of a canary by chance; the bits of a guess.
FEWEST_BITS = 27.0
WORD = re.compile(r"[^\W_]+")
_SLOT = re.compile(r"\{([a-z0-9]+)\}")


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_GIVEN = _words(
    "Ada Alma Anton Astrid Basil Bela Birgit Bruno Cecil Clara Conrad Dagmar Dora Edgar Edith Elias Elsa Emil "
    "Esther Felix Flora Frieda Gerda Greta Gustav Hanna Hector Hugo Ida Igor Ines Iris Ivo Jakob Jana Jonas "
    "Judith Karl Kira Klara Lars Lena Leo Lydia Magda Marek Marta Milo Mira Nadia Nils Nora Olga Oskar Paula "
    "Petra Rosa Runa Selma Silas Thea Vera Viktor Wanda"
)
_MONTHS = _words("January February March April May June July August September October November December")
_DAYS = _words("Monday Tuesday Wednesday Thursday Friday")
_HEAD = _words(
    "Bal Ber Bran Cal Dorn Ed Fal Fen Gar Gold Hal Har Hel Kal Kel Lang Lin Mar Mer Nor Os Pel Quin Rad Ros San "
    "Sel Stor Tam Tor Ul Win"
)
_HEART = _words("a ab ad al am an ar as e eb ed el em en er es i ib id il im in ir is o ob od ol om on or os")
_TAIL = _words(
    "bach berg brook by dahl dorf feld ford gard ham hart holm hurst ley lind low mark mer mont ner rick ridge "
    "row sen stad stein stone ton vik ward well wick worth"
)


def _invented(draw: Draw) -> str:
    return draw.one(_HEAD) + draw.one(_HEART) + draw.one(_TAIL)


# What fills a slot, how many bits that is, and whether it is rare: a word that is met nowhere else.
_SLOTS: dict[str, tuple[Callable[[Draw], str], float, bool]] = {
    "given": (lambda draw: draw.one(_GIVEN), math.log2(len(_GIVEN)), False),
    "month": (lambda draw: draw.one(_MONTHS), math.log2(len(_MONTHS)), False),
    "day": (lambda draw: draw.one(_DAYS), math.log2(len(_DAYS)), False),
    "name": (_invented, math.log2(len(_HEAD) * len(_HEART) * len(_TAIL)), True),
    "place": (_invented, math.log2(len(_HEAD) * len(_HEART) * len(_TAIL)), True),
    "n4": (lambda draw: str(draw.number(1_000, 9_999)), math.log2(9_000), True),
    "n5": (lambda draw: str(draw.number(10_000, 99_999)), math.log2(90_000), True),
    "n6": (lambda draw: str(draw.number(100_000, 999_999)), math.log2(900_000), True),
}
SLOTS = tuple(_SLOTS)

FRAMES = (
    "{given} {name} keeps the spare key of locker {n5}.",
    "The meeting with {given} {name} moved to the {place} room, booking {n5}.",
    "Invoice {n6} from {name} and Sons was paid in {month}.",
    "{given} {name} collects the parcels for {place} House, box {n4}.",
    "The old scanner with the number {n6} went to {given} {name} in {month}.",
    "{given} {name} asked for seat {n4} near the {place} entrance.",
    "The allotment at {place} Lane has the number {n4}.",
    "Order {n6} for the {place} kitchen arrives on a {day}.",
    "The piano tuner is {given} {name}, on extension {n5}.",
    "{given} {name} left bicycle {n5} at the {place} shelter.",
    "The {place} archive keeps the file {n6} until {month}.",
    "On {day} {given} {name} waters the plants of office {n5}.",
    "The contract with {name} Carpets ends in {month}, reference {n6}.",
    "{given} {name} won raffle ticket {n5} at the {place} fair.",
    "The projector of the {place} hall has the stock number {n5}.",
    "{given} {name} drives the van with the permit {n6} on {day}.",
    "A spare battery for door {n5} is with {given} {name}.",
    "The {place} bakery delivers under customer number {n6}.",
    "{given} {name} reserved the {place} cabin, confirmation {n5}.",
    "Badge {n6} was made again for {given} {name} in {month}.",
)


@dataclass(frozen=True, slots=True)
class Canary:
    """A made-up memory: its text, its rare words with their places among all words, and how unlikely both are.

    `bits` is the logarithm of how many sentences it could have been, `rare_bits` that of its rare words alone.
    """

    text: str
    rare: tuple[tuple[int, str], ...]
    bits: float
    rare_bits: float

    @property
    def words(self) -> tuple[str, ...]:
        """Its words as they are compared."""
        return tuple(words_of(self.text))


def words_of(text: str) -> Iterator[str]:
    """The words of a text as they are compared: without case and punctuation, in one form of Unicode."""
    return (match[0] for match in WORD.finditer(unicodedata.normalize("NFKC", text).casefold()))


def check_frames(frames: Sequence[str], *, place: str) -> tuple[str, ...]:
    """The frames themselves, each good for a canary. Raises Usage, naming `place`, for one that is not."""
    for number, frame in enumerate(frames, 1):
        where = f"{place}:{number}"
        unknown = [name for name in _SLOT.findall(frame) if name not in _SLOTS]
        left = _SLOT.sub("", frame)
        if unknown or "{" in left or "}" in left:
            raise Usage(f"{where}: places are {', '.join(f'{{{name}}}' for name in SLOTS)}; found {frame[:80]!r}")
        if len(frame) > FRAME_LIMIT_CHARACTERS or not frame.isprintable():
            raise Usage(f"{where}: a frame is one line of at most {FRAME_LIMIT_CHARACTERS} characters")
        rare = [name for name in _SLOT.findall(frame) if _SLOTS[name][2]]
        if len(rare) < 2 or sum(_SLOTS[name][1] for name in rare) < FEWEST_BITS:
            raise Usage(
                f"{where}: a frame has two rare places, such as {{name}} and {{n5}}; else others may say the same"
            )
    return tuple(frames)


def make(key: bytes, *, recipient: str, cube_id: str, count: int, frames: Sequence[str] = FRAMES) -> list[Canary]:
    """The first `count` canaries of a recipient's copies of a cube; the same for the same arguments."""
    seed = hmac.new(key, b"memos canaries v1\n" + canonical([recipient, cube_id]), hashlib.sha256).digest()
    order = sorted(range(len(frames)), key=lambda number: hmac.new(seed, b"%d" % number, hashlib.sha256).digest())
    return [_fill(frames[order[number % len(order)]], Draw(seed, number)) for number in range(count)]


class Draw:
    """Choices that follow from a seed and a number alone."""

    def __init__(self, seed: bytes, number: int) -> None:
        self._seed, self._number, self._drawn = seed, number, 0

    def one(self, among: Sequence[str]) -> str:
        """One of some words."""
        return among[self.number(0, len(among) - 1)]

    def number(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`; of 64 bits, so that none of so few is likelier than another by much."""
        said = b"%d.%d" % (self._number, self._drawn)
        self._drawn += 1
        return low + int.from_bytes(hmac.new(self._seed, said, hashlib.sha256).digest()[:8]) % (high - low + 1)


def _fill(frame: str, draw: Draw) -> Canary:
    text, rare, bits, rare_bits, end = "", [], 0.0, 0.0, 0
    for slot in _SLOT.finditer(frame):
        text += frame[end : slot.start()]
        end = slot.end()
        fill, worth, is_rare = _SLOTS[slot[1]]
        word = fill(draw)
        bits += worth
        if is_rare:
            rare.append((len(list(words_of(text))), next(words_of(word))))
            rare_bits += worth
        text += word
    return Canary(text + frame[end:], tuple(rare), bits, rare_bits)
