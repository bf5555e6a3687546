"""memcube.toml: round trips, and what is refused with which words."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memos_cli.cube import metadata
from memos_cli.cube.metadata import EmbedderIdentity, Governance, Plaintext
from memos_cli.cube.toml import MAX_BYTES, parse_toml
from memos_cli.errors import Damaged, NotFound, Usage

OWNER = Governance(owner="ed25519:" + "0" * 32)
EMBEDDER = EmbedderIdentity("m", "sha256:" + "0" * 64, 384, 256, "int8")


def write(path: Path, cube: metadata.Memcube) -> Path:
    (path / metadata.FILE).write_bytes(metadata.dumps(cube))
    return path


@settings(deadline=None)
@given(st.text(max_size=200), st.booleans(), st.integers(0, 3))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, text: str, hold: bool, level: int) -> None:
    rules = replace(OWNER, legal_hold=hold, sensitivity=metadata.SENSITIVITIES[level], compliance=("gdpr",))
    cube = replace(metadata.new("team", governance=rules, description=text), plaintext=Plaintext(3, 2, 1, EMBEDDER))
    assert metadata.load(write(tmp_path_factory.mktemp("cube"), cube)) == cube


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        ('name = "team"', 'name = "../x"', "cube.name"),
        ('version = "0.1.0"', 'version = "one"', "cube.version"),
        ('sensitivity = "internal"', 'sensitivity = "secret"', "governance.sensitivity"),
        ("keep_versions = 10", 'keep_versions = "ten"', "policy.keep_versions"),
        ("legal_hold = false", "legal_hold = 0", "governance.legal_hold"),
        ("memories = 0", "memories = true", "plaintext.memories"),
        ("format_version = 1", "format_version = 99", "newer"),
        ("[cube]", "[[cube]]", "cube"),
        ("[cube]", "[cube", "TOML"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, old: str, new: str, names: str) -> None:
    good = metadata.dumps(metadata.new("team", governance=OWNER)).decode()
    assert old in good
    (tmp_path / metadata.FILE).write_text(good.replace(old, new))
    with pytest.raises(Damaged, match=names):
        metadata.load(tmp_path)


def test_absent_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        metadata.load(tmp_path)


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "a b", "x" * 200])
def test_names_have_a_grammar(name: str) -> None:
    with pytest.raises(Usage):
        metadata.new(name, governance=OWNER)


@pytest.mark.parametrize(
    "raw",
    [
        b".".join([b"a"] * 8000) + b" = 1",
        b"x = " + b"[" * 5000,
        b"x = " + b"{a = " * 300,
        b"# " + b"x" * MAX_BYTES,
        b"x = \xff",
        b'a."b"."c".d.e.f.g.h.i.j.k.l.m.n.o.p.q = 1',
    ],
)
def test_hostile_toml_is_refused_before_it_is_parsed(raw: bytes) -> None:
    with pytest.raises(Damaged):
        parse_toml(raw, where="hostile")


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_parse_or_are_damaged(raw: bytes) -> None:
    with suppress(Damaged):
        parse_toml(raw, where="any")


def test_dots_in_text_are_not_key_parts() -> None:
    text = 'description = "' + "a.b." * 50 + '"  # c.' + "d." * 50
    assert parse_toml(text.encode(), where="x")["description"].startswith("a.b.")
