"""The keys of a home: named ed25519 pairs in `$MEMOS_HOME/keys`, mode 0600; one of them, `identity`, is who acts.

A public key travels as one line, `memos-ed25519 <64 hex> <name>`. Knows nothing of what is signed, or of whose keys
are trusted.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memos_cli.errors import Damaged, MemosError, NotFound, Usage
from memos_cli.infrastructure.identity import fingerprint_of, me

FOLDER = "keys"
IDENTITY = "identity"
WORD = "memos-ed25519"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_LINE = re.compile(rf"{WORD} ([0-9a-f]{{64}})(?: ({_NAME.pattern}))?")
_SECRET_LIMIT_BYTES = 4096
_BEGIN = b"-----BEGIN PRIVATE KEY-----"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A name and the 32 bytes of a public key."""

    name: str
    raw: bytes

    @property
    def fingerprint(self) -> str:
        """`ed25519:` and the first 32 hex digits of the sha256 of the raw key."""
        return fingerprint_of(self.raw)

    @property
    def line(self) -> str:
        """The key as it is given to others."""
        return f"{WORD} {self.raw.hex()} {self.name}"


def check_name(name: str) -> str:
    """`name` itself. Raises Usage for one that no key may have."""
    if _NAME.fullmatch(name) is None:
        raise Usage(f"a key's name is of small letters, digits, _ and -, found {name[:80]!r}")
    return name


def parse_line(text: str, *, name: str | None = None) -> PublicKey:
    """The key in a line as `PublicKey.line` is, under another name if one is given. Raises Damaged, Usage."""
    match = _LINE.fullmatch(text.strip())
    if match is None:
        raise Damaged(f"expected a public key such as '{WORD} <64 hex> name', found {text[:80]!r}")
    return PublicKey(check_name(name or match[2] or match[1][:12]), bytes.fromhex(match[1]))


def make(home: Path, name: str) -> PublicKey:
    """A new key pair of this name. Raises Usage when there is one."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    path = _path(home, check_name(name))
    secret = Ed25519PrivateKey.generate().private_bytes(
        form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(secret)
            stream.flush()
            os.fsync(stream.fileno())
    except FileExistsError as error:
        raise Usage(f"there is a key {name!r} already", hint="memos keys list") from error
    except OSError as error:
        raise MemosError(f"no key could be made in {path.parent}: {error.strerror}") from error
    return public(home, name)


def public(home: Path, name: str) -> PublicKey:
    """The public half of the key of this name; `identity` is made on first use. Raises NotFound, Damaged."""
    from cryptography.hazmat.primitives import serialization as form

    raw = _load(home, name).public_key().public_bytes(form.Encoding.Raw, form.PublicFormat.Raw)
    return PublicKey(name, raw)


def own(home: Path) -> list[PublicKey]:
    """All keys of this home that can sign, by name."""
    folder = home / FOLDER
    found = sorted(path for path in folder.glob("*.key")) if folder.is_dir() else []
    return [public(home, path.stem) for path in found if _NAME.fullmatch(path.stem) and _is_pair(path)]


def sign(home: Path, name: str, data: bytes) -> bytes:
    """The signature of `data` by the key of this name, 64 bytes. Raises NotFound, Damaged."""
    signature: bytes = _load(home, name).sign(data)
    return signature


def _is_pair(path: Path) -> bool:
    """Whether a file of the folder is a key pair: keys of other kinds lie there too."""
    with open(path, "rb") as stream:
        return stream.read(len(_BEGIN)) == _BEGIN


def _path(home: Path, name: str) -> Path:
    return home / FOLDER / f"{name}.key"


def _load(home: Path, name: str) -> Any:
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    if check_name(name) == IDENTITY:
        me(home)
    path = _path(home, name)
    try:
        with open(path, "rb") as stream:
            found = form.load_pem_private_key(stream.read(_SECRET_LIMIT_BYTES), password=None)
    except FileNotFoundError as error:
        raise NotFound(f"no key {name!r} in {path.parent}", hint=f"memos keys new {name}") from error
    except OSError as error:
        raise MemosError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise Damaged(f"{path} is not the key it should be: {error}") from error
    if not isinstance(found, Ed25519PrivateKey):
        raise Damaged(f"{path}: expected an ed25519 key, found another kind")
    return found
