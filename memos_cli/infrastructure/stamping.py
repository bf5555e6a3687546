"""Stamps in the files of a copy: put there when it is made for somebody, and read back wherever they still stand.

A stamp tells openly whom a copy was made for. It shows that the holder of the maker's key said so, and that the table
beside it is the one of which they said it. It shows nothing once it is cut off, which takes a text editor.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from memos_cli.cube import activation, metadata, parameter, stamp, tensorfile
from memos_cli.cube.stamp import RECIPIENT_LIMIT_CHARACTERS, Stamp
from memos_cli.errors import MemosError, Usage
from memos_cli.infrastructure import keys
from memos_cli.infrastructure.identity import fingerprint_of, is_signed

MANIFEST = "manifest"
_FINGERPRINT = re.compile(r"ed25519:[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Recipient:
    """Whom a copy is for: a name, the fingerprint of a key, or both."""

    name: str
    key: str = ""

    @property
    def label(self) -> str:
        """For people."""
        return stamp.label_of(self.name, self.key)


@dataclass(frozen=True, slots=True)
class Seen:
    """A stamp as it was found: where, what it says, and by which key; `key` is "" when the signature is not right.

    What cannot be read as a stamp has none (`stamp` is None).
    """

    place: str
    stamp: Stamp | None
    key: str


def recipient_of(text: str) -> Recipient:
    """Who is meant by a name, a key's fingerprint, or a line as `memos keys export` prints it. Raises Usage, Damaged.

    Names are compared as they are kept: composed, with single spaces.
    """
    said = " ".join(unicodedata.normalize("NFC", text).split())
    if said.startswith(f"{keys.WORD} "):
        key = keys.parse_line(said)
        return Recipient(key.name, key.fingerprint)
    if _FINGERPRINT.fullmatch(said):
        return Recipient("", said)
    if not said or not said.isprintable() or len(said) > RECIPIENT_LIMIT_CHARACTERS:
        raise Usage(
            f"a recipient is a name of at most {RECIPIENT_LIMIT_CHARACTERS} printable characters, a key's fingerprint "
            f"or a line of memos keys export; found {text[:80]!r}",
            hint="--for 'Ann Lee <ann@example.org>'",
        )
    return Recipient(said)


def seal(home: Path, key: str, unsigned: Stamp) -> Stamp:
    """The stamp, signed with the key of this name. Raises NotFound, Damaged."""
    given = replace(unsigned, public=keys.public(home, key).raw.hex())
    return replace(given, signature=keys.sign(home, key, given.signed).hex())


def signer(found: Stamp) -> str:
    """The fingerprint of the key that signed a stamp; "" when it did not sign these words."""
    public = bytes.fromhex(found.public)
    return fingerprint_of(public) if is_signed(public, bytes.fromhex(found.signature), found.signed) else ""


def put(folder: Path, made: Stamp) -> None:
    """Puts a stamp on the activation files and beside the adapters of a version that is being made.

    The weights of an adapter stay as they are: their digest is what adapters above it name. memcube.toml is whoever's
    who writes the metadata. Raises Damaged, OSError.
    """
    for path in activation.find(folder / activation.FOLDER):
        tensorfile.annotate(path, stamp.FIELD, made.text)
    for name in parameter.names(folder / parameter.FOLDER):
        about = parameter.read(folder / parameter.FOLDER, name).about
        recipe = {**about.recipe, stamp.RECIPE: made.text}
        parameter.revise(folder / parameter.FOLDER, name, replace(about, recipe=recipe))


def find(folder: Path, *, annotation: str = "") -> Iterator[Seen]:
    """The stamps of a version, and of the image it came in; of equal ones in one form the first. Raises nothing."""
    if annotation:
        yield _seen(MANIFEST, annotation)
    try:
        found = metadata.load(folder).stamp
        if found:
            yield Seen(metadata.FILE, found, signer(found))
    except MemosError:
        yield Seen(metadata.FILE, None, "")
    yield from _told_once(_of_caches(folder))
    yield from _told_once(_of_adapters(folder))


def _told_once(found: Iterator[tuple[str, str]]) -> Iterator[Seen]:
    known: set[str] = set()
    for place, text in found:
        if text not in known:
            known.add(text)
            yield _seen(place, text)


def _of_caches(folder: Path) -> Iterator[tuple[str, str]]:
    for path in activation.find(folder / activation.FOLDER):
        try:
            text = tensorfile.read_head(path).metadata.get(stamp.FIELD, "")
        except MemosError:
            continue
        if text:
            yield f"{activation.FOLDER}/{path.name}", text


def _of_adapters(folder: Path) -> Iterator[tuple[str, str]]:
    for name in parameter.names(folder / parameter.FOLDER):
        try:
            text = parameter.read(folder / parameter.FOLDER, name).about.recipe.get(stamp.RECIPE, "")
        except MemosError:
            continue
        if text:
            yield f"{parameter.FOLDER}/{name}", str(text)


def _seen(place: str, text: str) -> Seen:
    try:
        found = stamp.parse(text, place=place)
    except MemosError:
        return Seen(place, None, "")
    return Seen(place, found, signer(found))
