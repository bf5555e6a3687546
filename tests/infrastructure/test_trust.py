"""Who is believed, what a source must bring, and what was seen before: each attack has its answer."""

from __future__ import annotations

import base64
import json
import stat
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from memos_cli.cube.digest import encode
from memos_cli.errors import Damaged, NotAllowed, NotFound, Usage
from memos_cli.infrastructure import keys, signing, trust
from memos_cli.infrastructure.keys import PublicKey
from memos_cli.infrastructure.signing import Release
from memos_cli.infrastructure.trust import Package

NOW = datetime(2026, 3, 1, tzinfo=UTC)
STORE = "oci://registry.example/team"
PACKAGE = Package(STORE, "team", "1.0.0", "c" * 32, 5, "sha256:" + "1" * 64)


@pytest.fixture
def ann(tmp_path: Path) -> Path:
    """The home of who signs."""
    return tmp_path / "ann"


def signer(home: Path, name: str = "release") -> tuple[PublicKey, Callable[[bytes], bytes]]:
    try:
        key = keys.public(home, name)
    except NotFound:
        key = keys.make(home, name)
    return key, lambda data: keys.sign(home, name, data)


def envelope(home: Path, package: Package = PACKAGE, *, days: int = 30, name: str = "release") -> bytes:
    key, sign = signer(home, name)
    release = Release(
        package.name, package.version, package.cube_id, package.sequence, package.digest, NOW + timedelta(days=days)
    )
    return signing.seal_release(release, key=key, sign=sign)


def check(home: Path, package: Package = PACKAGE, *envelopes: bytes, **more: Any) -> trust.Verdict:
    return trust.check(home, package, envelopes, now=NOW, **more)


def take(home: Path, package: Package = PACKAGE, *envelopes: bytes, **more: Any) -> trust.Verdict:
    verdict = check(home, package, *envelopes, **more)
    trust.remember(home, verdict, immutable=bool(more.get("immutable")))
    return verdict


def believing(home: Path, ann: Path, *, sources: tuple[str, ...] = ()) -> Path:
    trust.believe(home, signer(ann)[0], sources=sources)
    return home


def test_a_believed_signature_is_enough(home: Path, ann: Path) -> None:
    verdict = check(believing(home, ann), PACKAGE, envelope(ann))
    assert verdict.believed
    assert verdict.key == signer(ann)[0]


def test_unsigned_where_signed_is_required_is_an_error(home: Path, ann: Path) -> None:
    with pytest.raises(NotAllowed, match="must be signed, and team 1.0.0 is not"):
        check(home)
    with pytest.raises(NotAllowed, match="by a key that is believed") as refused:
        check(home, PACKAGE, envelope(ann))
    assert "memos keys trust" in str(refused.value.hint)


def test_files_need_no_signature_and_are_not_believed(home: Path, ann: Path) -> None:
    local = replace(PACKAGE, source="file:///srv/team.memcube")
    assert not check(home, local).believed
    verdict = check(home, local, envelope(ann, local))
    assert (verdict.believed, verdict.key) == (False, signer(ann)[0])


def test_one_s_own_key_is_believed(home: Path) -> None:
    assert check(home, PACKAGE, envelope(home, name="identity")).believed


@pytest.mark.parametrize(
    ("what", "value"),
    [("name", "bank"), ("version", "2.0.0"), ("cube_id", "d" * 32), ("sequence", 6), ("digest", "sha256:" + "2" * 64)],
)
@pytest.mark.parametrize("level", ["signed", "digest", "none"])
def test_a_signature_of_something_else_is_refused_everywhere(
    what: str, value: Any, level: str, home: Path, ann: Path
) -> None:
    other = replace(PACKAGE, **{what: value})
    with pytest.raises(NotAllowed, match="signed"):
        check(believing(home, ann), other, envelope(ann), level=level)


def test_a_signature_ends(home: Path, ann: Path) -> None:
    with pytest.raises(NotAllowed, match="ended on 2026-02-28"):
        check(believing(home, ann), PACKAGE, envelope(ann, days=-1))


def test_an_old_release_is_not_the_newest(home: Path, ann: Path) -> None:
    believing(home, ann)
    old, new = replace(PACKAGE, sequence=4, version="0.9.0", digest="sha256:" + "4" * 64), PACKAGE
    take(home, old, envelope(ann, old))
    take(home, new, envelope(ann, new))
    take(home, new, envelope(ann, new))
    with pytest.raises(NotAllowed, match="release 5 was seen before"):
        check(home, old, envelope(ann, old))
    assert check(home, old, envelope(ann, old), level="none").believed


def test_one_key_cannot_move_another_forward(home: Path, ann: Path, tmp_path: Path) -> None:
    bob = tmp_path / "bob"
    believing(home, ann)
    trust.believe(home, replace(signer(bob)[0], name="bob"))
    far = replace(PACKAGE, sequence=10**6, version="9.0.0", digest="sha256:" + "9" * 64)
    take(home, far, envelope(bob, far))
    assert take(home, PACKAGE, envelope(ann)).believed


def test_a_signature_cannot_be_left_away(home: Path, ann: Path, tmp_path: Path) -> None:
    believing(home, ann)
    take(home, PACKAGE, envelope(ann))
    local = replace(PACKAGE, source="file:///tmp/x.memcube", version="1.0.1", digest="sha256:" + "3" * 64)
    with pytest.raises(NotAllowed, match="was signed by"):
        check(home, local)
    with pytest.raises(NotAllowed, match="was signed by"):
        check(home, replace(PACKAGE, cube_id="d" * 32), level="digest")
    with pytest.raises(NotAllowed, match="was signed by"):
        check(home, local, envelope(tmp_path / "bob", local))
    assert not check(home, local, level="none").believed


def test_a_signed_version_stays_what_it_was(home: Path, ann: Path) -> None:
    believing(home, ann)
    take(home, PACKAGE, envelope(ann))
    moved = replace(PACKAGE, digest="sha256:" + "2" * 64, source="https://elsewhere.example/team")
    with pytest.raises(NotAllowed, match="a version never changes"):
        check(home, moved, envelope(ann, moved))


def test_a_version_of_a_store_stays_what_it_was(home: Path) -> None:
    store = replace(PACKAGE, source="file:///srv/store/team")
    take(home, store, immutable=True)
    take(home, store, immutable=True)
    with pytest.raises(NotAllowed, match="a version never changes"):
        check(home, replace(store, digest="sha256:" + "2" * 64), immutable=True)


def test_what_was_asked_for_is_what_must_come(home: Path) -> None:
    local = replace(PACKAGE, source="file:///srv/x")
    with pytest.raises(NotAllowed, match="calls itself 'team'"):
        check(home, local, name="bank")
    with pytest.raises(NotAllowed, match="asked for sha256:2"):
        check(home, local, digest="sha256:" + "2" * 64)
    assert check(home, local, name="team", digest=PACKAGE.digest)


def test_a_refused_package_leaves_nothing_to_remember(home: Path, ann: Path) -> None:
    believing(home, ann)
    far = replace(PACKAGE, sequence=99)
    with pytest.raises(NotAllowed):
        check(home, far, envelope(ann))
    assert not (home / "trust").exists()


def test_a_key_is_believed_where_it_was_said_to_be(home: Path, ann: Path) -> None:
    believing(home, ann, sources=(STORE,))
    assert check(home, PACKAGE, envelope(ann)).believed
    for source in ("oci://registry.example/teams", "oci://registry.example/te", "oci://evil.example/team"):
        other = replace(PACKAGE, source=source)
        with pytest.raises(NotAllowed, match="must be signed"):
            check(home, other, envelope(ann, other))
    below = replace(PACKAGE, source=f"{STORE}/deep")
    assert check(home, below, envelope(ann, below)).believed


def test_the_longest_prefix_decides(home: Path) -> None:
    (home / "trust.toml").write_text(
        '[[source]]\nprefix = "oci://registry.example"\nrequire = "none"\n'
        '[[source]]\nprefix = "oci://registry.example/team"\nrequire = "signed"\n'
        '[[source]]\nprefix = "file://"\nrequire = "signed"\n'
    )
    assert not check(home, replace(PACKAGE, source="oci://registry.example/other")).believed
    with pytest.raises(NotAllowed):
        check(home)
    with pytest.raises(NotAllowed):
        check(home, replace(PACKAGE, source="file:///srv/x"))


@pytest.mark.parametrize(
    "text",
    ["nonsense", "[other]\n", "key = 1\n", '[[source]]\nprefix = ""\nrequire = "none"\n',
     '[[source]]\nprefix = "x"\nrequire = "maybe"\n', '[[key]]\nname = "a"\npublic = "zz"\n',
     '[[key]]\nname = "A B"\npublic = "' + "0" * 64 + '"\n',
     '[[key]]\npublic = "' + "0" * 64 + '"\nname = "a"\nsources = "x"\n'],
)  # fmt: skip
def test_a_policy_that_is_wrong_stops_everything(text: str, home: Path) -> None:
    (home / "trust.toml").write_text(text)
    with pytest.raises(Damaged, match=r"trust\.toml"):
        check(home, replace(PACKAGE, source="file:///srv/x"))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"sequences": 1, "signers": 2, "digests": 3}', "[" * 100_000])
def test_a_spoilt_memory_of_what_was_seen_is_no_empty_one(text: str, home: Path) -> None:
    (home / "trust").mkdir()
    (home / "trust/seen.json").write_text(text)
    with pytest.raises(Damaged, match="seen"):
        check(home, replace(PACKAGE, source="file:///srv/x"))


def _payload(change: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
    def apply(held: dict[str, Any]) -> Any:
        statement = json.loads(base64.b64decode(held["payload"]))
        return {**held, "payload": base64.b64encode(encode(change(statement))).decode()}

    return apply


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], Any], type[Exception]]] = {
    "a number": (lambda held: 7, Damaged),
    "nothing": (lambda held: {}, Damaged),
    "no signature": (lambda held: {**held, "signatures": []}, Damaged),
    "two signatures": (lambda held: {**held, "signatures": held["signatures"] * 2}, Damaged),
    "a signature that is a text": (lambda held: {**held, "signatures": ["x"]}, Damaged),
    "another payload type": (lambda held: {**held, "payloadType": "application/json"}, Damaged),
    "a payload that is no base64": (lambda held: {**held, "payload": "***"}, Damaged),
    "a payload that is empty": (lambda held: {**held, "payload": ""}, Damaged),
    "a short signature": (lambda held: {**held, "signatures": [{**held["signatures"][0], "sig": "AAAA"}]}, NotAllowed),
    "zeros as a signature": (
        lambda held: {**held, "signatures": [{**held["signatures"][0], "sig": base64.b64encode(bytes(64)).decode()}]},
        NotAllowed,
    ),
    "another key's name": (
        lambda held: {**held, "signatures": [{**held["signatures"][0], "keyid": "ed25519:" + "0" * 32}]}, NotAllowed
    ),
    "another version": (
        _payload(lambda said: {**said, "predicate": {**said["predicate"], "version": "2.0.0"}}), NotAllowed
    ),
    "another key": (_payload(lambda said: {**said, "key": {"public": "0" * 64, "name": "x"}}), NotAllowed),
    "no key": (_payload(lambda said: {name: said[name] for name in said if name != "key"}), Damaged),
    "another type": (_payload(lambda said: {**said, "_type": "https://example.com/x"}), Damaged),
    "another predicate": (_payload(lambda said: {**said, "predicateType": "x"}), Damaged),
    "a list as predicate": (_payload(lambda said: {**said, "predicate": []}), Damaged),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_an_envelope_that_was_changed_is_refused(case: str, home: Path, ann: Path) -> None:
    change, error = BROKEN[case]
    whole = json.loads(envelope(ann))
    with pytest.raises(error):
        check(believing(home, ann), PACKAGE, encode(change(whole)), level="none")


def test_an_envelope_that_is_no_canonical_json_is_refused(home: Path, ann: Path) -> None:
    for data in (b"", b"x", b"[" * 70_000, b" " + envelope(ann), b"0" * 100_000):
        with pytest.raises(Damaged):
            check(home, PACKAGE, data, level="none")


def test_provenance_alone_signs_nothing(home: Path, ann: Path) -> None:
    key, sign = signer(ann)
    release = Release("team", "1.0.0", "c" * 32, 5, PACKAGE.digest, NOW)
    said = signing.seal_provenance(release, {"builder": "x"}, key=key, sign=sign)
    assert signing.open_envelope(said).release is None
    with pytest.raises(NotAllowed, match="must be signed"):
        check(believing(home, ann), PACKAGE, said)
    with pytest.raises(NotAllowed, match="signed sha256:1"):
        check(home, replace(PACKAGE, digest="sha256:" + "2" * 64), said)


def test_a_key_signs_a_version_once(ann: Path) -> None:
    key, _ = signer(ann)
    trust.check_own(ann, key, PACKAGE)
    trust.remember_own(ann, key, PACKAGE)
    trust.check_own(ann, key, PACKAGE)
    with pytest.raises(NotAllowed, match="a version never changes"):
        trust.check_own(ann, key, replace(PACKAGE, digest="sha256:" + "2" * 64))


def test_keys_are_for_their_owner_alone(ann: Path) -> None:
    key = keys.make(ann, "release")
    assert stat.S_IMODE((ann / "keys/release.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((ann / "keys").stat().st_mode) == 0o700
    assert keys.parse_line(key.line) == key
    assert [one.name for one in keys.own(ann)] == ["release"]
    with pytest.raises(Usage, match="already"):
        keys.make(ann, "release")
    for name in ("", "../x", "A", ".x", "x" * 65, "a b"):
        with pytest.raises(Usage):
            keys.make(ann, name)
    with pytest.raises(NotFound):
        keys.public(ann, "other")
    (ann / "keys/broken.key").write_text("-----BEGIN PRIVATE KEY-----\nnonsense\n")
    with pytest.raises(Damaged):
        keys.public(ann, "broken")


@pytest.mark.parametrize(
    "line", ["", "memos-ed25519", "memos-ed25519 zz", "ssh-ed25519 AAAA x", "memos-ed25519 " + "0" * 64 + " A B"]
)  # noqa: E501
def test_a_line_that_is_no_key_is_refused(line: str) -> None:
    with pytest.raises(Damaged, match="public key"):
        keys.parse_line(line)


def test_two_keys_have_two_names(home: Path, ann: Path, tmp_path: Path) -> None:
    believing(home, ann)
    with pytest.raises(Usage, match="another key is called"):
        trust.believe(home, signer(tmp_path / "bob")[0])
    trust.believe(home, signer(ann)[0], sources=("oci://x",))
    assert [one.sources for one in trust.load(home).keys] == [("oci://x",)]
