"""Who acts: a key made on first use, and the OS user beside it; never a name in a flag.

The private key stays in `$MEMOS_HOME/keys` with mode 0600. Its fingerprint stands in a file of its own, and must be
that of the private key beside it: nobody is somebody else by writing a fingerprint into a file.
"""

from __future__ import annotations

import base64
import hashlib
import os
import pwd
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from memos_cli.errors import Damaged, MemosError, Usage
from memos_cli.infrastructure.curve import public_of

if TYPE_CHECKING:
    from memos_cli.infrastructure.clients import Client

_PRIVATE, _PUBLIC = "identity.key", "identity.pub"
_ELSEWHERE = "export MEMOS_HOME=/a/folder/you/can/write"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: the fingerprint of their key (`ed25519:` and 32 hex) and the OS user.

    A `client` acts for them through a running process, within its bounds.
    """

    key: str
    user: str
    client: Client | None = None

    def as_dict(self) -> dict[str, str]:
        """For manifests and the trail."""
        said = {"key": self.key, "user": self.user}
        return said if self.client is None else said | {"client": self.client.name}


def default_home() -> Path:
    """`$MEMOS_HOME`, or `~/.memos`. Raises Usage when there is neither."""
    try:
        return Path(os.environ.get("MEMOS_HOME") or Path.home() / ".memos")
    except RuntimeError as error:  # a user without an entry in passwd, and no $HOME
        raise Usage("expected MEMOS_HOME or a home folder, found neither", hint=_ELSEWHERE) from error


def me(home: Path) -> Actor:
    """The actor of this home; its key is made on first use.

    Raises Damaged when the fingerprint is not that of the key, MemosError when home is not writable.
    """
    public = home / "keys" / _PUBLIC
    try:
        fingerprint = public.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        fingerprint = _make_key(home / "keys")
    except UnicodeDecodeError as error:
        raise Damaged(f"{public} is not the text it should be: {error}") from error
    except OSError as error:
        raise MemosError(f"{public} cannot be read: {error.strerror}", hint=_ELSEWHERE) from error
    if not fingerprint.startswith("ed25519:") or len(fingerprint) != 40:
        raise Damaged(f"{public}: expected 'ed25519:' and 32 hex digits, found {fingerprint[:60]!r}")
    if fingerprint != fingerprint_of(public_of(_secret(home))):
        raise Damaged(
            f"{public}: expected the fingerprint of the key beside it, found {fingerprint}",
            hint=f"rm {public}, and it is written anew",
        )
    return Actor(fingerprint, _user())


def public_key(home: Path) -> bytes:
    """The 32 bytes of this home's public key, which is made on first use. Raises Damaged, MemosError."""
    me(home)
    return public_of(_secret(home))


def sign(home: Path, data: bytes) -> bytes:
    """The ed25519 signature of `data` by this home's key, 64 bytes. Raises Damaged, MemosError."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    me(home)
    signature: bytes = Ed25519PrivateKey.from_private_bytes(_secret(home)).sign(data)
    return signature


def is_signed(public: bytes, signature: bytes, data: bytes) -> bool:
    """Whether `signature` is that of `data` by the key `public`."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
        return True
    except (InvalidSignature, ValueError):
        return False


def fingerprint_of(public: bytes) -> str:
    """The fingerprint of a public key: `ed25519:` and the first 32 hex digits of its sha256."""
    return f"ed25519:{hashlib.sha256(public).hexdigest()[:32]}"


def _secret(home: Path) -> bytes:
    """The 32 bytes of the private key, which PKCS 8 has at its end. Raises Damaged, MemosError."""
    path = home / "keys" / _PRIVATE
    try:
        lines = path.read_text(encoding="ascii").splitlines()
        secret = base64.b64decode("".join(line for line in lines if not line.startswith("-----")), validate=True)
    except OSError as error:
        raise MemosError(f"{path} cannot be read: {error.strerror}", hint=_ELSEWHERE) from error
    except ValueError as error:  # not ASCII, or not base64
        raise Damaged(f"{path} is not the key it should be: {error}") from error
    if len(secret) != 48:
        raise Damaged(f"{path}: expected an ed25519 key in PKCS 8 of 48 bytes, found {len(secret)}")
    return secret[-32:]


def _user() -> str:
    # by number and not by $USER or $LOGNAME, which anybody can set
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # no passwd entry, as in a bare container
        return str(os.getuid())


def _make_key(directory: Path) -> str:
    """Makes the key pair once, safe against two first uses at a time; returns the fingerprint."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from filelock import FileLock

    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with FileLock(directory / ".lock"):
            public = directory / _PUBLIC
            if public.exists():
                return public.read_text(encoding="ascii").strip()
            if not (directory / _PRIVATE).exists():
                key = Ed25519PrivateKey.generate()
                secret = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
                _write(directory / _PRIVATE, secret, mode=0o600)
            fingerprint = fingerprint_of(public_of(_secret(directory.parent)))
            # the fingerprint comes last: while it is absent the pair counts as not made
            _write(public, f"{fingerprint}\n".encode(), mode=0o644)
            return fingerprint
    except OSError as error:
        raise MemosError(
            f"no identity could be made in {directory}: {error.strerror}",
            hint=_ELSEWHERE,
        ) from error


def _write(path: Path, data: bytes, *, mode: int) -> None:
    temporary = path.with_suffix(".tmp")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
