"""Verbs on a cluster of Ray that runs by itself: what comes out is what this process makes, and only for its token."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from memos_cli.cube import activation
from memos_cli.interface import api
from tests import clusters
from tests.interface.test_engines import notes, rows, tree

pytestmark = pytest.mark.slow
Program = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def head() -> Iterator[clusters.Head]:
    """A cluster of two processors for this file."""
    pytest.importorskip("ray")
    pytest.importorskip("lance")
    with clusters.head() as one:
        yield one


@pytest.fixture
def program(head: clusters.Head, home: Path, work: Path) -> Program:
    """Runs the program on the cluster, with its token or another; Ray keeps to a token as long as a process lives."""

    def run(*words: str, token: str = head.token) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
        shown = {"RAY_AUTH_TOKEN": token} if token else {}
        command = [sys.executable, "-m", "memos_cli", *words, "--engine", head.engine, "--yes"]
        # nobody's token is at home there
        return subprocess.run(command, env={**kept, **shown, "HOME": str(work)}, capture_output=True, text=True)

    return run


def well(done: subprocess.CompletedProcess[str]) -> Any:
    """What was told, by what ended well."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_vectors_and_activation_memory_are_the_same_from_a_cluster(program: Program, work: Path) -> None:
    api.ingest(work / "a.cube", [notes(work, files=1, lines=6)], embedder="none")
    for name in "lr":
        api.init(work / f"{name}.cube", source=work / "a.cube")
    api.reindex(work / "l.cube", embedder="minilm")
    made = api.convert(work / "l.cube")
    well(program("reindex", "r.cube", "--embedder", "minilm", "--json"))
    assert rows(work / "r.cube") == rows(work / "l.cube")
    assert rows(work / "r.cube")[0]["vector"] is not None
    assert len(well(program("convert", "r.cube", "--json"))["made"]) == len(made.made) == 6
    here, there = (
        {path.name: activation.verify(path) for path in activation.find(work / f"{name}.cube/current/activation")}
        for name in "lr"
    )
    assert here.keys() == there.keys()
    for name, one in here.items():
        assert (one.header.content, one.header.tokens) == (there[name].header.content, there[name].header.tokens)
        assert one.header.fidelity == pytest.approx(there[name].header.fidelity)
    assert not api.audit(work / "r.cube", deep=True).findings


def test_an_adapter_is_the_same_from_a_cluster(program: Program, work: Path) -> None:
    (work / "people.md").write_text("- The home town of Ben Oster is Kinsale.\n- Good morning to all!\n")
    for name in "lr":
        api.ingest(work / f"{name}.cube", [work / "people.md"], embedder="none")
    here = api.distill(work / "l.cube", steps=4, publish_ungated=True)
    there = well(program("distill", "r.cube", "--steps", "4", "--publish-ungated", "--json"))
    assert here.published is there["published"] is True
    assert [one["standing"] for one in there["lessons"]] == [one.standing for one in here.lessons]
    assert {one.standing for one in here.lessons} == {"distilled", "unteachable"}
    one, two = ((work / f"{name}.cube/current/parameter").resolve() for name in "lr")
    weights = {path.relative_to(one): path.read_bytes() for path in one.rglob("*.safetensors")}
    assert weights
    assert weights == {path.relative_to(two): path.read_bytes() for path in two.rglob("*.safetensors")}


@pytest.mark.parametrize(("token", "why"), [("0" * 64, "takes another token"), ("", "asks for a token")])
@pytest.mark.parametrize("verb", ["ingest", "reindex"])
def test_a_wrong_token_is_refused_and_nothing_is_changed(
    verb: str, token: str, why: str, program: Program, work: Path
) -> None:
    api.ingest(work / "a.cube", [notes(work, files=1, lines=3)], embedder="none")
    before = tree(work / "a.cube")
    (work / "b.md").write_text("The alarm rings at ten.\n")
    begin = time.monotonic()
    done = program(verb, "a.cube", *(["b.md"] if verb == "ingest" else ["--embedder", "minilm"]), token=token)
    assert done.returncode == 7, (done.stdout, done.stderr)
    assert why in done.stderr
    assert "export RAY_AUTH_TOKEN" in done.stderr
    assert "Traceback" not in done.stderr
    assert time.monotonic() - begin < 60  # Ray itself asks on for longer
    assert tree(work / "a.cube") == before
    assert not list((work / "a.cube" / "staging").glob("*"))


def certificates(folder: Path) -> dict[str, str]:
    """An authority and a certificate of this machine that it signed, as Ray's variables name them."""
    from ray.util import get_node_ip_address

    # Ray's own programs reach each other by the address that others would use
    (folder / "names").write_text(f"subjectAltName=IP:127.0.0.1,IP:{get_node_ip_address()}\n")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    new = ("req", "-newkey", "rsa:2048", "-nodes")
    openssl(*new, "-x509", "-days", "2", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.crt")
    openssl(*new, "-subj", "/CN=node", "-keyout", "node.key", "-out", "node.csr")
    openssl("x509", "-req", "-days", "2", "-in", "node.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
            "-extfile", "names", "-out", "node.crt")  # fmt: skip
    files = {"CA_CERT": "ca.crt", "SERVER_CERT": "node.crt", "SERVER_KEY": "node.key"}
    return {"RAY_USE_TLS": "1", **{f"RAY_TLS_{name}": str(folder / file) for name, file in files.items()}}


@pytest.mark.skipif(shutil.which("openssl") is None, reason="certificates are made with openssl")
@pytest.mark.usefixtures("home")
def test_what_goes_to_a_cluster_with_tls_is_encrypted_and_others_are_not_let_in(work: Path) -> None:
    pytest.importorskip("ray")
    pytest.importorskip("lance")
    made, kept = certificates(work), {name: value for name, value in os.environ.items() if "RAY" not in name}
    (work / "b.md").write_text("The alarm rings at ten.\n")
    words = [sys.executable, "-m", "memos_cli", "ingest", "a.cube", "b.md", "--json"]
    with clusters.head(**made) as head:
        shown = {**kept, "RAY_AUTH_TOKEN": head.token, "HOME": str(work)}
        asked = subprocess.run([*words, "--engine", head.engine], env=shown | made, capture_output=True, text=True)
        assert asked.returncode == 2
        assert "not encrypted" not in asked.stderr
        words += ["--engine", head.engine, "--yes"]
        assert well(subprocess.run(words, env=shown | made, capture_output=True, text=True))["added"] == 1
        words[words.index("a.cube")] = "b.cube"
        plain = subprocess.run(words, env=shown, capture_output=True, text=True)
        assert (plain.returncode, "RAY_USE_TLS=1" in plain.stderr) == (7, True), plain.stderr
        assert not (work / "b.cube").exists()
