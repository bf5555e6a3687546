"""The pages of docs/ hold: commands, links, names, and a reader of cubes that knows nothing but the format page.

Everything below `A reader by the page` uses the standard library only, no memos: it is the proof that
docs/reference/format.md is enough to read a cube by.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memos_cli import cli
from tests.conftest import Memos

PROJECT = Path(__file__).parent.parent
DOCS = PROJECT / "docs"
PAGES = sorted([PROJECT / "README.md", PROJECT / "CHANGELOG.md", PROJECT / "bundles/README.md", *DOCS.rglob("*.md")])
HANDBOOK = PROJECT / "bundles" / "handbook.cube"
LINK = re.compile(r"(?<!!)\[[^\]\n]+\]\(([^)\s]+)\)")
FENCE = re.compile(r"^(```+|~~~+).*?^\1\s*$", re.MULTILINE | re.DOTALL)


def read(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as code forges make them."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    found = re.findall(r"^#{1,6}\s+(.+?)\s*$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and there.suffix == ".md" and anchor not in anchors(there)):
            broken.append(target)
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_no_page_names_the_machine_it_was_written_on(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"/(?:work|root|tmp/[a-z])\b", text)


def test_every_command_is_in_the_reference() -> None:
    headings = anchors(DOCS / "reference" / "cli.md")
    assert [name for name in cli.COMMANDS if f"memos-{name}" not in headings] == []


def test_every_page_is_reached_from_the_readme() -> None:
    seen, waiting = set(), [PROJECT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        links = [target.partition("#")[0] for target in LINK.findall(page.read_text(encoding="utf-8"))]
        waiting += [(page.parent / link).resolve() for link in links if link and ":" not in link]
    assert sorted(set(DOCS.rglob("*.md")) - seen) == []


def test_every_column_is_in_the_format() -> None:
    from memos_cli.cube.metadata import EmbedderIdentity
    from memos_cli.cube.plaintext import schema

    page = read("reference/format.md")
    names = schema(EmbedderIdentity("a", "b", 4, 8, "c")).names
    assert [name for name in names if f"`{name}`" not in page] == []


def test_every_verb_of_the_api_is_explained() -> None:
    from memos_cli.interface import api

    page = read("reference/python-api.md")
    assert [name for name in api.__all__ if f"`{name}(" not in page] == []


def test_every_error_is_explained() -> None:
    from memos_cli import errors

    page = read("reference/errors-and-exit-codes.md")
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert [kind.__name__ for kind in kinds if f"| {kind.exit_code} | `{kind.__name__}` |" not in page] == []


def test_every_finding_of_an_audit_is_explained() -> None:
    page = read("reference/errors-and-exit-codes.md")
    code = re.compile(r'(?:DAMAGE|WARNING|NOTICE|_note\()(?:, )?"([a-z-]+)"')
    codes: set[str] = set()
    for path in (PROJECT / "memos_cli/operation").glob("audit*.py"):
        codes |= set(code.findall(path.read_text(encoding="utf-8")))
    assert len(codes) > 20
    assert sorted(code for code in codes if f"`{code}`" not in page) == []


def test_every_variable_is_explained() -> None:
    page = read("reference/settings.md")
    found: set[str] = set()
    for path in (PROJECT / "memos_cli").rglob("*.py"):
        found |= set(re.findall(r"\bMEMOS_[A-Z][A-Z_]*[A-Z]\b", path.read_text(encoding="utf-8")))
    assert sorted(name for name in found if f"`{name}`" not in page) == []


def test_every_format_and_field_name_is_explained() -> None:
    from memos_cli.interface.sources import FORMATS, messages

    page = read("how-to/ingest-formats.md")
    names = [*FORMATS, *messages.SPEAKERS, *messages.TEXTS, *messages.SESSIONS, *messages.TIMES, *messages.REFS]
    names += [*messages.CAPTIONS, *messages.LISTS, *messages.GROUPS]
    assert [name for name in names if f"`{name}`" not in page] == []


def test_every_weight_of_a_profile_is_told() -> None:
    from memos_cli.operation.profile import PROFILES

    page = read("explanation/retrieval.md")
    for name, profile in PROFILES.items():
        (row,) = (line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
        weights = {**profile.words, **profile.meaning, **profile.priors}
        weights |= {"repeat": profile.repeat} if profile.repeat else {}
        assert [signal for signal, weight in weights.items() if f"`{signal}` {weight:g}" not in row] == []
        assert row.count("` ") == len(weights) + 1


def test_every_field_of_a_filter_is_explained() -> None:
    from memos_cli.cube.filters import FIELDS

    page = read("how-to/search-from-scripts.md")
    assert [name for name in FIELDS if f"`{name}`" not in page] == []


def test_every_schema_is_listed() -> None:
    page = read("reference/schemas.md")
    found = [path.name for path in (PROJECT / "schemas").glob("*.schema.json")]
    assert sorted(name for name in found if name not in page) == []


# A reader by the page: standard library only.

VERSION = re.compile(r"versions/(\d{8})-([0-9a-f]{16})")
PART = r"[A-Za-z0-9_][A-Za-z0-9_.+=@-]{0,254}"
PATH = re.compile(rf"{PART}(/{PART}){{0,15}}")


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def open_version(cube: Path) -> tuple[Path, dict[str, Any]]:
    """The current version's folder and its manifest, checked as the page says."""
    match = VERSION.fullmatch(os.readlink(cube / "current"))
    assert match
    folder = cube / match[0]
    assert not (cube / "versions").is_symlink()
    assert not folder.is_symlink()
    data = (folder / "MANIFEST.json").read_bytes()
    assert hashlib.sha256(data).hexdigest().startswith(match[2])
    manifest = json.loads(data)
    assert canonical(manifest) == data
    assert manifest["format_version"] == 1
    assert manifest["version"] == int(match[1])
    return folder, manifest


def check_files(folder: Path, manifest: dict[str, Any]) -> Iterator[str]:
    """The paths whose bytes are not what the manifest says, and those that it does not list."""
    paths = [entry["path"] for entry in manifest["files"]]
    assert paths == sorted(set(paths))
    assert all(PATH.fullmatch(path) for path in paths)
    for entry in manifest["files"]:
        data = (folder / entry["path"]).read_bytes()
        if (len(data), hashlib.sha256(data).hexdigest()) != (entry["size"], entry["sha256"]):
            yield entry["path"]
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    yield from there - {*paths, "MANIFEST.json"}


def check_log(lines: list[bytes]) -> int:
    """How many lines of an access log follow one another, by the rule of the page."""
    prev = "0" * 64
    for seq, line in enumerate(lines):
        value = json.loads(line)
        assert line[-75:] == f',"hash":"{value["hash"]}"}}'.encode()
        assert hashlib.sha256(line[:-75]).hexdigest() == value["hash"]
        assert (value["prev"], value["seq"]) == (prev, seq)
        prev = value["hash"]
    return len(lines)


def test_the_handbook_reads_by_the_page() -> None:
    folder, manifest = open_version(HANDBOOK)
    assert list(check_files(folder, manifest)) == []
    about = tomllib.loads((folder / "memcube.toml").read_text(encoding="utf-8"))
    assert about["format_version"] == 1
    assert about["cube"]["id"] == manifest["cube_id"]
    assert about["cube"]["name"] == "handbook"
    assert about["plaintext"]["live"] > 100


def test_a_changed_byte_is_found_by_the_page(tmp_path: Path) -> None:
    copy = tmp_path / "copy.cube"
    shutil.copytree(HANDBOOK, copy, symlinks=True)
    folder, manifest = open_version(copy)
    path = folder / manifest["files"][-1]["path"]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(bytes(data))
    assert list(check_files(folder, manifest)) == [manifest["files"][-1]["path"]]


def test_the_log_of_a_new_cube_is_chained_as_the_page_says(memos: Memos, work: Path) -> None:
    (work / "notes.md").write_text("# Notes\n\n- the spare key is with Ruth\n", encoding="utf-8")
    for words in (["ingest", "a.cube", "notes.md", "--embedder", "none"], ["show", "a.cube"], ["log", "a.cube"]):
        done = memos(*words)
        assert done.code == 0, done.err
    lines = (work / "a.cube" / "log" / "access.jsonl").read_bytes().removesuffix(b"\n").split(b"\n")
    assert check_log(lines) == 4
    folder, manifest = open_version(work / "a.cube")
    assert list(check_files(folder, manifest)) == []


def test_the_worked_examples_of_the_page_are_right() -> None:
    page = read("reference/format.md")
    manifest, log = re.findall(r"```json\n(.*?)\n```", page, re.DOTALL)
    assert canonical(json.loads(manifest)) == manifest.encode()
    digest = hashlib.sha256(manifest.encode()).hexdigest()
    assert digest in page
    assert f"versions/00000001-{digest[:16]}" in page
    assert check_log(log.encode().split(b"\n")) == 2


def test_the_example_of_an_id_is_right(memos: Memos, work: Path) -> None:
    text = "Time it takes: under four minutes"
    parts = ("pair", "\x1f".join(("Release process", "Going back")), "", "", "", text)
    key = hashlib.sha256("\x1e".join(parts).encode()).hexdigest()[:32]
    place = f"corpus/handbook/release-process.md\x1e{key}\x1e8\x1e0"
    identity = hashlib.sha256(place.encode()).hexdigest()[:20]
    page = read("reference/format.md")
    assert f"`{key}`" in page
    assert f"`{identity}`" in page
    shutil.copytree(HANDBOOK, work / "handbook.cube", symlinks=True)
    done = memos("show", "handbook.cube", identity, "--json")
    assert (done.json["id"], done.json["text"]) == (identity, text)
