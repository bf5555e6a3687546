"""Stores of all kinds to test against."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from memos_cli.infrastructure.store.opening import Ways
from memos_cli.infrastructure.store.wire import Wire
from tests.infrastructure.store.fake import Fake, registry


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No logins and no proxies but the test's own."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name in ("REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))


@pytest.fixture
def ways(tmp_path: Path) -> Iterator[Ways]:
    """The ways to stores, impatient."""
    found = Ways(tmp_path / "home", Wire(retry_seconds=3))
    yield found
    found.wire.close()


@pytest.fixture
def fake() -> Iterator[Fake]:
    with registry() as served:
        yield served


def debian_registry(folder: Path) -> subprocess.Popen[bytes] | None:
    """Debian's docker-registry on a free port of loopback, which is its attribute `host`; None where there is none."""
    program = shutil.which("docker-registry")
    if program is None:
        return None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = folder / "registry.yml"
    settings.write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {folder / 'registry'}}}}}\n"
        f"http: {{addr: 127.0.0.1:{port}}}\n"
    )
    log = open(folder / "registry.log", "wb")  # noqa: SIM115  the process's own
    process = subprocess.Popen([program, "serve", str(settings)], stdout=log, stderr=log)
    log.close()
    process.host = f"127.0.0.1:{port}"  # type: ignore[attr-defined]
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process
        time.sleep(0.05)
    process.kill()
    raise AssertionError((folder / "registry.log").read_text())


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The host of a real registry."""
    process = debian_registry(tmp_path_factory.mktemp("registry"))
    if process is None:
        pytest.skip("needs Debian's docker-registry")
    yield process.host  # type: ignore[attr-defined]
    process.terminate()
    process.wait(10)
