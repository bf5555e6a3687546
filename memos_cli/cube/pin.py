"""Which version of which table in an object store is a cube's plaintext: the pin that memcube.toml holds.

A URL names the folder that has `memories.lance` in it, the way `plaintext/` has; the version is Lance's own number, and
the digest is of the manifest that Lance wrote for it, which names every file of that version. Knows no network, and
nothing of who may open what.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from memos_cli.errors import Damaged, Usage

SCHEMES = ("s3", "gs", "az")
_CHARACTERS_LIMIT = 1_024
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.=+-]{0,254}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Pin:
    """A version of a table elsewhere: its folder's URL, Lance's number, and `sha256:<hex>` of Lance's manifest."""

    url: str
    version: int
    manifest: str


def check_url(url: str) -> str:
    """The URL of a table's folder in its one spelling. Raises Usage, and repeats nothing that may be a secret."""
    shape = "expected a URL such as s3://bucket/folder (or gs://, az://)"
    try:
        parts = urlsplit(url)
        secret = parts.username is not None or parts.password is not None or "@" in parts.netloc
    except ValueError:
        raise Usage(f"{shape}, found another one") from None
    if not url.isprintable() or " " in url:
        raise Usage(f"{shape}, found one with spaces in it")
    if secret or parts.query or parts.fragment or "?" in url or "#" in url:
        raise Usage(
            f"{shape}, found one with more in it: credentials and settings are not part of it",
            hint="put them into the environment: AWS_*, GOOGLE_* or AZURE_*",
        )
    path = parts.path.strip("/")
    good = parts.scheme in SCHEMES and _HOST.fullmatch(parts.netloc) and path and len(url) <= _CHARACTERS_LIMIT
    if not good or not all(_PART.fullmatch(part) for part in path.split("/")):
        raise Usage(f"{shape} of letters, digits, '_', '.', '=', '+' and '-', found {url[:120]!r}")
    return f"{parts.scheme}://{parts.netloc}/{path}"


def from_table(table: object, *, place: str) -> Pin:
    """The pin written in a table of memcube.toml. Raises Damaged, naming `place`."""
    if not isinstance(table, dict):
        raise Damaged(f"{place}: expected a table, found {type(table).__name__}")
    url, version, manifest = table.get("url"), table.get("version"), table.get("manifest")
    if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version < 2**63:
        raise Damaged(f"{place}.version: expected a number from 1 on, found {str(version)[:80]!r}")
    if not isinstance(manifest, str) or not _DIGEST.fullmatch(manifest):
        raise Damaged(f"{place}.manifest: expected sha256: and 64 hex digits, found {str(manifest)[:80]!r}")
    try:
        plain = isinstance(url, str) and check_url(url) == url
    except Usage as error:
        raise Damaged(f"{place}.url: {error.message}") from error
    if not plain:
        raise Damaged(f"{place}.url: expected a URL such as s3://bucket/folder, found another spelling")
    return Pin(str(url), version, manifest)
