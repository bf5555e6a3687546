"""The stamp of a copy: whom it was made for, in words that its maker signed.

It stands in memcube.toml, in the annotations of the image, in the header of each activation file and beside each
adapter, the same everywhere. Read strictly. Knows its form and where it stands, and nothing of keys: whether the
signature is right, and whose it is, is decided elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from memos_cli.cube.digest import Entry, canonical
from memos_cli.errors import Damaged

# The field of a safetensors header, and the key of an adapter's recipe.
FIELD, RECIPE = "memos.stamp", "stamp"
RECIPIENT_LIMIT_CHARACTERS = 200
TEXT_LIMIT_CHARACTERS = 4_000
_SIGNED = b"memos stamp v1\n"
_KEY = re.compile(r"ed25519:[0-9a-f]{32}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_SHAPES = {
    "recipient": re.compile(rf".{{0,{RECIPIENT_LIMIT_CHARACTERS}}}"),
    "recipient_key": re.compile(rf"(?:{_KEY.pattern})?"),
    "cube_id": re.compile(r"[A-Za-z0-9-]{8,64}"),
    "name": re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"),
    "version": re.compile(r"[0-9A-Za-z.-]{5,128}"),
    "source": _DIGEST,
    "memories": _DIGEST,
    "public": re.compile(r"[0-9a-f]{64}"),
    "signature": re.compile(r"[0-9a-f]{128}"),
}


@dataclass(frozen=True, slots=True)
class Stamp:
    """For whom (a name, the fingerprint of a key, or both), which package, and what its maker signed with.

    `source` is the digest of the version that the copy was made of, `memories` that of the copy's own table, so that a
    stamp moved to another table is seen to be. `public` is the maker's key, `signature` that of all the rest.
    """

    recipient: str
    recipient_key: str
    cube_id: str
    name: str
    version: str
    source: str
    memories: str
    public: str
    signature: str = ""

    @property
    def signed(self) -> bytes:
        """The bytes that the maker signs."""
        return _SIGNED + canonical({name: said for name, said in asdict(self).items() if name != "signature"})

    @property
    def text(self) -> str:
        """All of it on one line of printable ASCII."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @property
    def label(self) -> str:
        """Whom it names, for people."""
        return label_of(self.recipient, self.recipient_key)


def label_of(recipient: str, key: str) -> str:
    """A recipient for people: the name, the key, or the name with the key behind it."""
    return f"{recipient} ({key})" if recipient and key else recipient or key


def parse(text: str, *, place: str) -> Stamp:
    """The stamp in a line as `Stamp.text` is. Raises Damaged, naming `place`."""
    try:
        value = json.loads(text) if len(text) <= TEXT_LIMIT_CHARACTERS else None
    except (ValueError, RecursionError) as error:
        raise _wrong(place, "one line of JSON") from error
    return from_table(value, place=place)


def from_table(value: Any, *, place: str) -> Stamp:
    """The stamp in a table of texts. Raises Damaged, naming `place`."""
    if not isinstance(value, dict) or value.keys() != _SHAPES.keys():
        raise _wrong(place, f"the fields {', '.join(_SHAPES)}")
    for name, shape in _SHAPES.items():
        if not isinstance(value[name], str) or shape.fullmatch(value[name]) is None:
            raise _wrong(place, f"{name} as memos writes it")
    if not value["recipient"].isprintable() or not (value["recipient"] or value["recipient_key"]):
        raise _wrong(place, "a recipient's name or key")
    return Stamp(**value)


def _wrong(place: str, expected: str) -> Damaged:
    return Damaged(f"{place}: expected a stamp with {expected}", hint="take the cube from a copy, or from its maker")


def memories_of(entries: Iterable[Entry]) -> str:
    """The digest of a version's plaintext files, which no stamp is in."""
    said = sorted([entry.path, entry.sha256] for entry in entries if entry.path.startswith("plaintext/"))
    return f"sha256:{hashlib.sha256(canonical(said)).hexdigest()}"
