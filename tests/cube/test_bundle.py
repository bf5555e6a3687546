"""A version becomes an image and comes back byte for byte; an image that differs anywhere does not."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memos_cli.cube import archive, bundle, oci
from memos_cli.errors import Damaged
from tests.cube.packages import FILES, SMALL, contents, packed, unpacked, version

paths = st.sampled_from(["plaintext", "activation", "parameter/facts"]).flatmap(
    lambda folder: st.from_regex(r"[a-z][a-z0-9]{0,8}\.arrow", fullmatch=True).map(lambda name: f"{folder}/{name}")
)


def test_what_is_packed_comes_back(tmp_path: Path) -> None:
    folder = version(tmp_path / "v")
    packed(folder, tmp_path / "a.memcube")
    assert unpacked(tmp_path / "a.memcube", tmp_path / "out") == contents(folder)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=st.dictionaries(paths, st.binary(max_size=3000), max_size=8))
def test_any_files_come_back(files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> None:
    place = tmp_path_factory.mktemp("any")
    folder = version(place / "v", files)
    packed(folder, place / "a.memcube")
    assert unpacked(place / "a.memcube", place / "out") == contents(folder)


def test_equal_versions_make_equal_archives(tmp_path: Path) -> None:
    folder = version(tmp_path / "v")
    packed(folder, tmp_path / "a")
    packed(folder, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_small_files_share_blobs_and_large_ones_are_in_parts(tmp_path: Path) -> None:
    image = bundle.layout(version(tmp_path / "v"), limits=SMALL)
    kinds = [blob.descriptor.media_type for blob in image.blobs]
    assert kinds[:2] == [oci.CONFIG, bundle.VERSION_LAYER]
    assert kinds.count(bundle.PART_LAYER) == 3  # 2,504 bytes, at most 1,000 in each
    assert kinds.count(bundle.BUNDLE_LAYER) == 1
    # memcube.toml is past what is small here
    assert "application/vnd.memos.memcube.file.v1" in kinds


def test_what_is_small_grows_with_the_number_of_blobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "MOST_BLOBS", 3)
    folder = version(tmp_path / "v")
    image = packed(folder, tmp_path / "a.memcube", limits=SMALL)
    assert len(image.blobs) <= 5
    assert unpacked(tmp_path / "a.memcube", tmp_path / "out") == contents(folder)


def test_other_programs_read_the_archive(tmp_path: Path) -> None:
    image = packed(version(tmp_path / "v"), tmp_path / "a.memcube")
    with tarfile.open(tmp_path / "a.memcube") as tar:
        members = tar.getmembers()
        assert [member.name for member in members[:2]] == ["oci-layout", "index.json"]
        assert {(member.mode, member.uid, member.mtime, member.isreg()) for member in members} == {(0o644, 0, 0, True)}
        for member in members[2:]:
            stream = tar.extractfile(member)
            assert stream is not None
            assert hashlib.sha256(stream.read()).hexdigest() == member.name.rpartition("/")[2]
    assert f"blobs/sha256/{image.digest[7:]}" == members[2].name


def test_a_file_that_changed_after_it_was_published_is_not_packed(tmp_path: Path) -> None:
    folder = version(tmp_path / "v")
    image = bundle.layout(folder, limits=SMALL)
    (folder / "activation/m1.0123456789ab.kv.safetensors").write_bytes(b"x" * 900)
    with pytest.raises(Damaged, match="expected the digest"), open(tmp_path / "a.memcube", "wb") as stream:
        archive.write(image, stream)


@pytest.mark.parametrize("path", FILES)
def test_a_file_that_is_damaged_is_never_packed(path: str, tmp_path: Path) -> None:
    folder = version(tmp_path / "v")
    (folder / path).write_bytes(FILES[path][:-1] + b"?")
    with pytest.raises(Damaged):
        packed(folder, tmp_path / "a.memcube")


def test_layers_that_the_version_does_not_call_for_are_refused(tmp_path: Path) -> None:
    """The manifest of another division into blobs, with every digest right, is not the one that memos makes."""
    folder = version(tmp_path / "v", {"plaintext/a.arrow": b"a" * 300, "plaintext/b.arrow": b"b" * 300})
    one = bundle.layout(folder, limits=SMALL)
    other = bundle.layout(folder, limits=bundle.Limits())
    blobs = {blob.descriptor.digest: blob for blob in (*one.blobs, *other.blobs)}
    first, second = oci.parse_manifest(one.manifest), oci.parse_manifest(other.manifest)
    mixed = oci.build_manifest(name=first.name, version=first.version, config=first.config, layers=second.layers)

    def fetch(wanted: oci.Descriptor) -> bundle.Span:
        path = tmp_path / wanted.hex
        path.write_bytes(b"".join(bytes(piece) for piece in blobs[wanted.digest].chunks()))
        return bundle.Span(path, 0, wanted.size)

    (tmp_path / "out").mkdir()
    with pytest.raises(Damaged, match="layers"):
        bundle.assemble(mixed, fetch, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_config_that_tells_another_name_is_refused(tmp_path: Path) -> None:
    one = bundle.layout(version(tmp_path / "v"), limits=SMALL)
    config = one.blobs[0]
    said = b"".join(bytes(piece) for piece in config.chunks()).replace(b'"owner":"ed25519:a', b'"owner":"ed25519:b')
    image = oci.parse_manifest(one.manifest)
    lie = oci.Descriptor(oci.CONFIG, oci.digest_of(said), len(said))
    manifest = oci.build_manifest(name=image.name, version=image.version, config=lie, layers=image.layers)
    blobs = {blob.descriptor.digest: blob.chunks for blob in one.blobs}

    def fetch(wanted: oci.Descriptor) -> bundle.Span:
        path = tmp_path / wanted.hex
        path.write_bytes(said if wanted.digest == lie.digest else b"".join(map(bytes, blobs[wanted.digest]())))
        return bundle.Span(path, 0, wanted.size)

    (tmp_path / "out").mkdir()
    with pytest.raises(Damaged, match="owner"):
        bundle.assemble(manifest, fetch, tmp_path / "out")


def test_the_blobs_are_told_when_they_are_needed_no_more(tmp_path: Path) -> None:
    folder = version(tmp_path / "v", {**FILES, "plaintext/again.arrow": FILES["plaintext/sources.arrow"] * 9,
                                      "plaintext/twice.arrow": FILES["plaintext/sources.arrow"] * 9})  # fmt: skip
    packed(folder, tmp_path / "a.memcube")
    opened = archive.open_archive(tmp_path / "a.memcube")
    (tmp_path / "out").mkdir()
    gone: list[str] = []
    bundle.assemble(opened.manifest, opened.fetch, tmp_path / "out", consumed=lambda blob: gone.append(blob.digest))
    assert len(gone) == len(set(gone))
    assert contents(tmp_path / "out") == contents(folder)
