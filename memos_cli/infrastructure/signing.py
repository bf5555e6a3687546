"""What a signature of a package says: in-toto statements in DSSE envelopes, signed with ed25519.

Two statements are made of a package. The release binds name, version, sequence and expiry to the digest of the
manifest, for a signature of the digest alone would let anyone who has it choose the name. The provenance says of what
and by what it was made. Knows keys by their bytes; whether one is trusted is decided elsewhere.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from memos_cli.cube import oci
from memos_cli.cube.digest import canonical
from memos_cli.errors import Damaged, NotAllowed
from memos_cli.infrastructure.identity import is_signed
from memos_cli.infrastructure.keys import PublicKey

PAYLOAD = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
RELEASE = "urn:memos:release:v1"
PROVENANCE = "https://slsa.dev/provenance/v1"
LIMIT_BYTES = oci.INDEX_LIMIT_BYTES
EXPIRES_DAYS = 365
_HEX = re.compile(r"[0-9a-f]{64}")
_TIME = "%Y-%m-%dT%H:%M:%SZ"

Sign = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Release:
    """What a release statement binds together."""

    name: str
    version: str
    cube_id: str
    sequence: int
    digest: str
    expires: datetime


@dataclass(frozen=True, slots=True)
class Signed:
    """A statement whose signature is right, the key it is by, and the digest of what it is about.

    Nothing says that the key is trusted.
    """

    key: PublicKey
    digest: str
    release: Release | None
    said: Mapping[str, Any]


def expiry(now: datetime, days: int) -> datetime:
    """The end of a signature made now: a whole day, so that two made on one day are equal."""
    return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=days + 1)


def seal_release(release: Release, *, key: PublicKey, sign: Sign) -> bytes:
    """The envelope of a release statement."""
    return _seal(release, RELEASE, _bound(release), key, sign)


def seal_provenance(release: Release, said: Mapping[str, Any], *, key: PublicKey, sign: Sign) -> bytes:
    """The envelope of a provenance statement: `said` is its predicate."""
    return _seal(release, PROVENANCE, dict(said), key, sign)


def open_envelope(data: bytes, *, place: str = "a signature") -> Signed:
    """The statement in an envelope, when its signature is that of the key it names.

    Raises Damaged for what is no such envelope, NotAllowed for a signature that is not of this statement.
    """
    value = oci.parse_object(data, place=place, limit_bytes=LIMIT_BYTES)
    _expect(value.keys() == {"payload", "payloadType", "signatures"}, place, "a DSSE envelope")
    _expect(value["payloadType"] == PAYLOAD, place, f"the payload type {PAYLOAD}")
    signatures = value["signatures"]
    _expect(isinstance(signatures, list) and len(signatures) == 1, place, "exactly one signature")
    _expect(
        isinstance(signatures[0], dict) and signatures[0].keys() == {"keyid", "sig"}, place, "a key and a signature"
    )
    payload, signature = _decoded(value["payload"], place), _decoded(signatures[0]["sig"], place)
    statement = oci.parse_object(payload, place=place, limit_bytes=LIMIT_BYTES)
    key = _key(statement, place)
    if signatures[0]["keyid"] != key.fingerprint:
        raise NotAllowed(f"{place} names the key {signatures[0]['keyid']!r:.60}, and carries {key.fingerprint}")
    if not is_signed(key.raw, signature, _encoded(payload)):
        raise NotAllowed(f"{place} is not of this statement: it was changed after {key.fingerprint} signed it")
    kind, said = statement["predicateType"], statement["predicate"]
    return Signed(key, _subject(statement, place), _release(statement, place) if kind == RELEASE else None, said)


def _seal(release: Release, kind: str, said: dict[str, Any], key: PublicKey, sign: Sign) -> bytes:
    payload = canonical(
        {
            "_type": STATEMENT,
            "subject": [{"name": release.name, "digest": {"sha256": release.digest.removeprefix("sha256:")}}],
            "predicateType": kind,
            "predicate": said,
            "key": {"public": key.raw.hex(), "name": key.name},
        }
    )
    entry = {"keyid": key.fingerprint, "sig": base64.b64encode(sign(_encoded(payload))).decode()}
    return canonical({"payload": base64.b64encode(payload).decode(), "payloadType": PAYLOAD, "signatures": [entry]})


def _encoded(payload: bytes) -> bytes:
    """What DSSE signs: the type and the payload, each with its length before it."""
    kind = PAYLOAD.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _bound(release: Release) -> dict[str, Any]:
    return {
        "name": release.name, "version": release.version, "cube_id": release.cube_id, "sequence": release.sequence,
        "digest": release.digest, "expires": release.expires.strftime(_TIME),
    }  # fmt: skip


def _release(statement: Mapping[str, Any], place: str) -> Release:
    said = statement["predicate"]
    kinds = {"name": str, "version": str, "cube_id": str, "sequence": int, "digest": str, "expires": str}
    _expect(said.keys() == kinds.keys(), place, "name, version, cube_id, sequence, digest and expires")
    _expect(all(type(said[name]) is kind for name, kind in kinds.items()), place, "texts, and a number as sequence")
    _expect(said["sequence"] > 0, place, "a sequence from 1 on")
    try:
        expires = datetime.strptime(said["expires"], _TIME).replace(tzinfo=UTC)
    except ValueError as error:
        raise Damaged(
            f"{place}: expected a moment such as 2027-01-01T00:00:00Z, found {said['expires']!r:.40}"
        ) from error
    subject = {"name": said["name"], "digest": {"sha256": said["digest"].removeprefix("sha256:")}}
    _expect(statement["subject"] == [subject], place, "a subject that is the package it tells of")
    return Release(**{**said, "expires": expires})


def _subject(statement: Mapping[str, Any], place: str) -> str:
    """The digest of what a statement is about."""
    subjects = statement["subject"]
    _expect(isinstance(subjects, list) and len(subjects) == 1 and isinstance(subjects[0], dict), place, "one subject")
    digest = subjects[0].get("digest")
    sha256 = digest.get("sha256") if isinstance(digest, dict) else None
    _expect(isinstance(sha256, str) and _HEX.fullmatch(sha256), place, "the sha256 of its subject")
    return f"sha256:{sha256}"


def _key(statement: Mapping[str, Any], place: str) -> PublicKey:
    fields = {"_type", "subject", "predicateType", "predicate", "key"}
    _expect(statement.keys() == fields and statement["_type"] == STATEMENT, place, "an in-toto statement of memos")
    _expect(isinstance(statement["predicate"], dict), place, "an object as predicate")
    _expect(statement["predicateType"] in (RELEASE, PROVENANCE), place, "a release or a provenance")
    key = statement["key"]
    _expect(isinstance(key, dict) and key.keys() == {"public", "name"}, place, "the public key and its name")
    _expect(isinstance(key["public"], str) and _HEX.fullmatch(key["public"]), place, "64 hex digits as public key")
    _expect(isinstance(key["name"], str) and len(key["name"]) <= 64, place, "a short name of the key")
    return PublicKey(key["name"], bytes.fromhex(key["public"]))


def _decoded(text: Any, place: str) -> bytes:
    _expect(isinstance(text, str), place, "base64")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Damaged(f"{place}: expected base64, found otherwise") from error


def _expect(held: object, place: str, expected: str) -> None:
    if not held:
        raise Damaged(f"{place}: expected {expected}", hint="ask who made the package to sign it again")
