"""Every `--json` output validates against its schema, and so do the files of a cube."""

from __future__ import annotations

import json
import tomllib
from datetime import datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from docs import generate as reference
from memos_cli.errors import NotAllowed
from memos_cli.infrastructure.clients import Client
from memos_cli.infrastructure.identity import default_home
from memos_cli.interface import api
from memos_cli.interface.visiting import Visit
from memos_cli.operation import calibrate
from schemas import generate
from tests.conftest import Memos
from tests.runtime.decoders import save_parrot

SCHEMAS = Path(generate.__file__).parent


def validate(value: Any, stem: str) -> None:
    schema = json.loads((SCHEMAS / f"{stem}.schema.json").read_text())
    jsonschema.validate(value, schema, format_checker=jsonschema.FormatChecker())


@pytest.mark.long  # and make check
def test_schemas_and_reference_are_fresh() -> None:
    stale = [
        path.name for path, text in {**generate.written(), **reference.written()}.items() if path.read_text() != text
    ]
    assert not stale, "run: make docs schemas"


def test_every_schema_is_one() -> None:
    for path in SCHEMAS.glob("*.schema.json"):
        jsonschema.Draft202012Validator.check_schema(json.loads(path.read_text()))


@pytest.fixture
def cube(work: Path, memos: Memos) -> str:
    """A cube of three versions with an id in its list."""
    (work / "a.md").write_text("# H\n\n- One thought.\n- Another thought.\n")
    memos("ingest", "a.cube", "a.md", "--embedder", "none")
    (work / "a.md").write_text("# H\n\n- One thought.\n- Another idea.\n- The home town of Ana is Lindau.\n")
    memos("ingest", "a.cube", "a.md")
    return memos("list", "a.cube", "-q").lines[0]


def test_common_outputs_validate(cube: str, memos: Memos) -> None:
    """Those of the commands that are used most; `make test-long` has them all."""
    calls = {
        "ingest": ["ingest", "a.cube", "a.md"], "query": ["query", "a.cube", "thought"], "show": ["show", "a.cube"],
        "list-memories": ["list", "a.cube"], "log": ["log", "a.cube"], "audit": ["audit", "a.cube"],
        "edit": ["edit", "a.cube", cube, "--type", "fact"], "forget": ["forget", "a.cube", "--ids", cube],
    }  # fmt: skip
    for stem, arguments in calls.items():
        done = memos(*arguments, "--json")
        assert done.code == 0, done.err
        assert done.lines
        for line in done.lines:
            validate(json.loads(line), stem)


@pytest.mark.long
def test_every_output_validates(cube: str, memos: Memos, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "SIZES", (8, 24))
    monkeypatch.setattr(calibrate, "RUNS", 1)
    calls: dict[str, list[str]] = {
        "init": ["init", "b.cube", "--embedder", "none"],
        "ingest": ["ingest", "a.cube", "a.md"],
        "query": ["query", "a.cube", "thought", "--budget", "50", "--context", "1"],
        "schedule-self-test": ["schedule", "a.cube", "--self-test"],
        "query-answer": ["query", "a.cube", "which thought is it?", "--answer", "--model", "parrot"],
        "list-memories": ["list", "a.cube", "--all"],
        "show": ["show", "a.cube"],
        "show-memory": ["show", "a.cube", cube],
        "log": ["log", "a.cube"],
        "log-memory": ["log", "a.cube", "--memory", cube],
        "edit CUBE": ["edit", "a.cube", "--ttl", "900"],
        "edit --declassify": ["edit", "a.cube", cube, "--sensitivity", "public", "--declassify", "--reason", "why"],
        "log-declassified": ["log", "a.cube", "--declassified"],
        "diff": ["diff", "a.cube", "1"],
        "edit": ["edit", "a.cube", cube, "--type", "fact"],
        "convert": ["convert", "a.cube", "--ids", cube],
        "convert-export": ["convert", "a.cube", "--to", "prompt", "--ids", cube, "-o", "pack.jsonl"],
        "distill": ["distill", "a.cube", "--dry-run"],
        "fuse": ["fuse", "a.cube", "t.cube", "-o", "f.cube"],
        "tidy": ["tidy", "t.cube", "--resolve", "newest", "--apply"],
        "schedule": ["schedule", "a.cube", "--estimate", "--policy", "lru", "--apply"],
        "schedule-explain": ["schedule", "a.cube", "--estimate", "--explain", cube],
        "schedule-replay": ["schedule", "a.cube", "--replay", "zipf", "--model", "./parrot", "--requests", "9"],
        "forget": ["forget", "a.cube", "--ids", cube],
        "rollback": ["rollback", "a.cube", "2"],
        "tag": ["tag", "a.cube", "good"],
        "reindex": ["reindex", "a.cube", "--embedder", "none"],
        "migrate": ["migrate", "a.cube"],
        "export": ["export", "a.cube", "-o", "a.jsonl"],
        "pack": ["pack", "a.cube", "-o", "a.memcube", "--sign", "identity"],
        "unpack": ["unpack", "a.memcube", "c.cube"],
        "trust": ["trust", "c.cube"],
        "keys": ["keys"],
        "clients": ["clients", "new", "editor", "--cube", "work"],
        "clients-log": ["clients", "log"],
        "push": ["push", "s.cube", "./store", "--version", "0.2.0"],
        "pull": ["pull", "./store/s", "d.cube"],
        "search": ["search", "--source", "./store"],
        "info": ["info", "./store/s"],
        "install": ["install"],
        "upgrade": ["upgrade"],
        "outdated": ["outdated"],
        "require": ["require", "d.cube", "b", "^1.0"],
        "index": ["index", "store"],
        "yank": ["yank", "./store/s:0.1.0"],
        "gc": ["gc", "a.cube", "--yes"],
        "forget-purge": ["forget", "a.cube", "--ids", cube, "--purge", "--yes"],
        "audit": ["audit", "a.cube", "--deep"],
        "audit-log": ["audit", "a.cube", "--log"],
        "audit-checkpoint": ["audit", "a.cube", "--checkpoint", "checkpoint.json"],
        "audit-trace": ["audit", "a.cube", "--trace"],
        "doctor": ["doctor", "a.cube", "--repair"],
        "run": ["run", "p.toml", "--dry-run"],
    }
    save_parrot(Path("parrot"), "idea")
    # those of adapters are validated where there is one to call them with, those of many cubes where there are many
    elsewhere = {"convert-plaintext", "distill-change", "distill-fuse", "rebind", "serve"}
    elsewhere |= {f"{verb}-{what}" for verb in ("audit", "convert", "schedule") for what in ("each", "summary")}
    assert {stem.split()[0] for stem in calls} == set(generate.OUTPUTS) - {"list", *elsewhere}
    Path("p.toml").write_text('[[step]]\nname = "audit"\nrun = "audit a.cube"\n')
    Path("t.md").write_text("- Ana lives in Lindau.\n- Ana lives in Lindau.\n- Ana lives in Bonn.\n")
    memos("ingest", "t.cube", "t.md", "--embedder", "none")
    memos("init", "s.cube", "--embedder", "none")
    memos("push", "s.cube", "./store")
    Path("cubes.toml").write_text('sources = ["./store"]\nfolder = "memory"\n[cubes]\ns = "=0.1.0"\n')
    assert memos("install").code == 0
    guest = Client("guest", cubes=("named",))
    with pytest.raises(NotAllowed):
        Visit.to(default_home(), guest).do(api.show, "other")
    for stem, arguments in calls.items():
        done = memos(*arguments, "--json")
        assert done.code == 0, done.err
        assert done.lines
        for line in done.lines:
            validate(json.loads(line), stem.split()[0])
    memos("ingest", "named", "a.md", "--embedder", "none")
    validate(memos("list", "--json").json, "list")


def test_the_files_of_a_cube_validate(cube: str) -> None:
    current = Path("a.cube/current")
    validate(json.loads((current / "MANIFEST.json").read_text()), "manifest")
    table = tomllib.loads((current / "memcube.toml").read_text())
    plain = json.loads(
        json.dumps(table, default=lambda value: value.isoformat() if isinstance(value, datetime) else None)
    )
    validate(plain, "memcube")
