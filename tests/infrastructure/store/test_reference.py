"""References: what they mean, and what none is."""

from __future__ import annotations

import pytest

from memos_cli.errors import Usage
from memos_cli.infrastructure.store import reference

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("text", "package", "version", "digest"),
    [
        ("file:///srv/store/team", "file:///srv/store/team", None, None),
        ("file:///srv/store/team:1.4.0", "file:///srv/store/team", "1.4.0", None),
        ("file:///srv/my store/team", "file:///srv/my store/team", None, None),
        ("oci://localhost:5000/team", "oci://localhost:5000/team", None, None),
        ("oci://localhost:5000/team:1.4.0-rc.1", "oci://localhost:5000/team", "1.4.0-rc.1", None),
        (f"oci://ghcr.io/acme/team@{DIGEST}", "oci://ghcr.io/acme/team", None, DIGEST),
        ("oci://[::1]:5000/team:1.0.0", "oci://[::1]:5000/team", "1.0.0", None),
        ("https://example.org/store/team/", "https://example.org/store/team", None, None),
        ("s3://bucket/some/prefix/team:2.0.0", "s3://bucket/some/prefix/team", "2.0.0", None),
        ("team", "team", None, None),
        ("team:1.0.0", "team", "1.0.0", None),
    ],
)
def test_parsed_and_written_again(text: str, package: str, version: str | None, digest: str | None) -> None:
    found = reference.parse(text)
    assert (found.package, found.version, found.digest) == (package, version, digest)
    assert str(found) == text.rstrip("/")


@pytest.mark.parametrize(
    "text",
    [
        "", "file://", "file:///", "ftp://host/team", "file://srv/store/team", "file:///srv/../etc/team", "oci://team",
        "oci://user:secret@host/team", "oci://host/../team", "oci://host//team", "oci://host/a/./team",
        "oci://host/te am", "oci://host/team:", "oci://host/team:a b", "oci://host/team@sha256:12", "oci://ho st/team",
        "https://host/%00/..", "team:../x", "a/b", "-team", "oci://host/team\n", "oci://host/te\x1b[31mam",
    ],
)  # fmt: skip
def test_refused(text: str) -> None:
    with pytest.raises(Usage) as caught:
        reference.parse(text)
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("text", "goes"),
    [
        ("file:///srv/store", "file:///srv/store/team:1.4.0"),
        ("file:///srv/store/", "file:///srv/store/team:1.4.0"),
        ("file:///srv/store/team", "file:///srv/store/team:1.4.0"),
        ("file:///srv/store/team:1.4.0", "file:///srv/store/team:1.4.0"),
        ("oci://localhost:5000", "oci://localhost:5000/team:1.4.0"),
        ("oci://ghcr.io/acme", "oci://ghcr.io/acme/team:1.4.0"),
        ("oci://ghcr.io/acme/team:1.4.0", "oci://ghcr.io/acme/team:1.4.0"),
    ],
)
def test_where_a_push_goes(text: str, goes: str) -> None:
    assert str(reference.destination(text, name="team", version="1.4.0")) == goes


@pytest.mark.parametrize("text", ["oci://ghcr.io/acme/team:1.5.0", "oci://ghcr.io/acme/other:1.4.0", "team"])
def test_a_push_renames_nothing(text: str) -> None:
    with pytest.raises(Usage):
        reference.destination(text, name="team", version="1.4.0")
