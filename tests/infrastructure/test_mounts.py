"""Which file system a folder lies on, and that a network's is written only when that is asked for."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from memos_cli.errors import MemosError
from memos_cli.infrastructure import mounts, vault
from tests.infrastructure.cubes import commit, content, make

TABLE = """\
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 21 0:25 / /home rw shared:2 - nfs4 server:/home rw,vers=4.2
31 30 8:2 / /home/me/local\\040disk rw - xfs /dev/sdb1 rw
40 21 0:30 / /mnt rw - ext4 /dev/sdc1 rw
41 40 0:31 / /mnt rw master:3 propagate_from:2 - cifs //server/share rw
broken line
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"), ("/home", "nfs4"), ("/homework", "ext4"), ("/home/me/team.cube", "nfs4"),
        ("/home/me/local disk/team.cube", "xfs"), ("/mnt/x", "cifs"),
    ],
)  # fmt: skip
def test_the_nearest_mount_decides(path: str, kind: str) -> None:
    assert mounts.kind_in(TABLE, path) == kind


def test_nothing_is_said_without_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "TABLE", tmp_path / "none")
    assert mounts.filesystem(tmp_path) == ""
    make(tmp_path / "a.cube")


@pytest.mark.skipif(not mounts.TABLE.exists() or shutil.which("stat") is None, reason="needs /proc and stat")
def test_the_kernel_says_the_same(tmp_path: Path) -> None:
    said = subprocess.run(["stat", "-f", "-c", "%T", str(tmp_path)], capture_output=True, text=True, check=True)
    names = {"ext2/ext3": {"ext2", "ext3", "ext4"}, "overlayfs": {"overlay"}, "v9fs": {"9p"}}
    found = mounts.filesystem(tmp_path)
    assert found
    assert found in names.get(said.stdout.strip(), {said.stdout.strip(), found if "UNKNOWN" in said.stdout else ""})


def test_a_network_file_system_is_read_and_written_only_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cube = tmp_path / "a.cube"
    make(cube)
    table = tmp_path / "mountinfo"
    table.write_text(f"21 1 8:1 / / rw - ext4 x rw\n22 21 0:1 / {tmp_path.resolve()} rw - nfs4 server:/ rw\n")
    monkeypatch.setattr(mounts, "TABLE", table)
    monkeypatch.delenv("MEMOS_UNSAFE_NFS", raising=False)
    before = content(cube)
    for use in (lambda: commit(cube), lambda: vault.tag(cube, "x"), lambda: make(tmp_path / "b.cube")):
        with pytest.raises(MemosError, match="lies on nfs4") as caught:
            use()
        assert "MEMOS_UNSAFE_NFS=1" in str(caught.value.hint)
    assert content(cube) == before
    assert not (tmp_path / "b.cube").exists()
    monkeypatch.setenv("MEMOS_UNSAFE_NFS", "1")
    assert commit(cube).number == 2
