"""Secrets and personal data are found by kind, in words of every day nothing is, and nothing found is ever quoted."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from memos_cli.cube.plaintext import Memories
from memos_cli.errors import MissingExtra
from memos_cli.operation import audit_private, private
from memos_cli.operation.audit_rules import PII_KINDS
from tests.operation.test_audit import make, row

# Made up, and in parts, so that no scanner of this project's own files takes them for real.
AWS = "AKIA" + "QRSTUVWXYZ234567"
GITHUB = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
PRIVATE_KEY = "-----BEGIN RSA " + "PRIVATE KEY-----"
SLACK = "xoxb-" + "123456789012-123456789012-abcdefABCDEF123456abcdef"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (f"deploy with {AWS} until Friday", "AWS Access Key"),
        (f"the token is {GITHUB}", "GitHub Token"),
        (f"line one\n{PRIVATE_KEY}\nabc", "Private Key"),
        (f"slack: {SLACK}", "Slack Token"),
        ("db = postgres://admin:" + "s3cr3tpassw0rd@db.internal/prod", "Basic Auth Credentials"),
        ('password = "' + 'Tr0ub4dor&3xyz"', "Secret Keyword"),
    ],
)
def test_secrets_are_found(text: str, kind: str) -> None:
    assert kind in private.secrets()(text)


@pytest.mark.parametrize(
    "text",
    [
        "The passport is in the drawer.", "commit 4b825dc642cb6eb9a060e54bf8d69288fbee4904 fixes it",
        "Ask for the password at the desk.", "password: {{ vault.password }}", "token = $TOKEN",
        "sha256:53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db", "",
    ],
)  # fmt: skip
def test_what_is_no_secret_is_not_found(text: str) -> None:
    assert private.secrets()(text) == set()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("write to ana.lind@post.se today", "email"),
        ("call +44 20 7946 0958 after nine", "phone"),
        ("pay to GB82 WEST 1234 5698 7654 32 please", "iban"),
        ("card 4111 1111 1111 1111, exp 12/30", "card"),
        ("card 378282246310005", "card"),
        ("her number is 536-90-4399", "ssn"),
    ],
)
def test_personal_data_is_found(text: str, kind: str) -> None:
    assert private.personal(PII_KINDS)(text) == {kind}
    assert private.personal([other for other in PII_KINDS if other != kind])(text) == set()


@pytest.mark.parametrize(
    "text",
    [
        "invoice 4111 1111 1111 1112", "order 0000 0000 0000 0000", "write to someone@example.com",
        "version 1.2.3.4 of 2026-11-21", "GB82 WEST 1234 5698 7654 33", "+1 + 2 = 3", "id 000-12-3456", "a@b",
        "the build of 20261121093015123 failed", "@ana is on call",
    ],
)  # fmt: skip
def test_what_only_looks_like_it_is_not_found(text: str) -> None:
    assert private.personal(PII_KINDS)(text) == set()


def test_long_and_odd_texts_take_no_time() -> None:
    for text in ("a@" * 20_000, "1 " * 20_000, "GB82" * 10_000, "+" * 20_000, "x" * 200_000, "a." * 20_000 + "@"):
        private.personal(PII_KINDS)(text)
        private.secrets()(text)


def test_a_missing_extra_is_told_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("phonenumbers", "detect_secrets.core.plugins.util"):
        monkeypatch.setitem(sys.modules, name, None)
    for ask in (private.secrets, lambda: private.personal(["email"])):
        with pytest.raises(MissingExtra) as caught:
            ask()
        assert caught.value.hint == "pip install 'memos[audit]'"


def test_findings_name_the_memory_and_never_the_thing(tmp_path: Path) -> None:
    many = [row(n + 10, text=f"write to person{n}@post.se") for n in range(audit_private.NAMED + 3)]
    hidden = row(1, text=f"key {AWS}", state="forgotten")
    root = make(tmp_path / "a.cube", [row(0), hidden, row(2, title="ana.lind@post.se"), *many])
    memories = Memories.open(root / "current" / "plaintext")
    found = list(audit_private.check(root, memories, secrets=private.secrets(), pii=private.personal(PII_KINDS)))
    secret = [one for one in found if one.code == "secret"]
    assert [row(1)["id"] in one.place for one in secret] == [True]
    assert AWS not in str(found)
    assert "@" not in str(found)
    assert len([one for one in found if one.code == "pii"]) == audit_private.NAMED + 1
    assert "4 more" in found[-1].message
    assert f"--ids {row(1)['id']}" in secret[0].remedy
