"""memos audit as a person or a pipeline calls it: rules, privacy, drift, memory tests, the page, the exit codes."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from memos_cli.cube.plaintext import Memories
from memos_cli.infrastructure import vault
from memos_cli.interface import frame
from tests.conftest import Begin, Memos, ok
from tests.runtime.decoders import save_parrot

NOTES = """# House

- The boiler code is 4711.
- Bins go out on Tuesday.

# Travel

- The passport is in the drawer of the desk.
- The night train to Vienna leaves at nine.
"""
TESTS = """
k = 2

[[test]]
name = "passport"
question = "where is the passport?"
evidence = ["drawer of the desk"]

[[test]]
name = "train"
question = "when does the train to Vienna leave?"
evidence = [{text = "at nine", source = "notes.md"}]
"""
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def noted(memos: Memos) -> None:
    Path("notes.md").write_text(NOTES)
    ok(memos("ingest", "a.cube", "notes.md", "--embedder", "none"))


@pytest.fixture
def cube(begin: Begin) -> str:
    begin(noted)
    return "a.cube"


def codes(memos: Memos, *arguments: str) -> list[str]:
    return [finding["code"] for finding in memos("audit", *arguments, "--json").json["findings"]]


def test_a_sound_cube_ends_in_zero(cube: str, memos: Memos) -> None:
    done = memos("audit", cube, "--deep")
    assert done.code == 0, done.err
    assert done.out.startswith("sound: 2 versions")


def test_a_policy_that_is_broken_ends_in_nine_and_names_the_rule(cube: str, memos: Memos, work: Path) -> None:
    (work / "policy.toml").write_text('[require]\nlicence = ["MIT"]\n[forbid]\nwords = ["boiler"]\n')
    done = memos("audit", cube, "--policy", "policy.toml")
    assert done.code == 9
    assert [line.split("\t")[1] for line in done.lines] == ["policy", "policy"]
    assert "require.licence" in done.out
    assert "2 warnings" in done.err
    (work / "policy.toml").write_text(
        '[limit]\nsensitivity = "internal"\nmemories = 100\n[forbid]\nschemes = ["http"]\n'
    )
    assert memos("audit", cube, "--policy", "policy.toml").code == 0
    (work / "policy.toml").write_text("[limits]\n")
    assert memos("audit", cube, "--policy", "policy.toml").code == 2
    assert memos("audit", cube, "--policy", "none.toml").code == 3


def test_secrets_and_personal_data_are_looked_for_when_asked(work: Path, cube: str, memos: Memos) -> None:
    assert codes(memos, cube, "--secrets", "--pii") == []
    (work / "more.md").write_text("- The key is " + "AKIA" + "QRSTUVWXYZ234567.\n- Write to ana.lind@post.se.\n")
    assert memos("ingest", cube, "more.md").code == 0
    assert codes(memos, cube) == []
    assert codes(memos, cube, "--secrets") == ["secret"]
    assert codes(memos, cube, "--pii") == ["pii"]
    (work / "policy.toml").write_text('[forbid]\nsecrets = true\npii = ["email"]\n')
    done = memos("audit", cube, "--policy", "policy.toml")
    assert done.code == 9
    assert "post.se" not in done.out + done.err
    assert "memos forget" in done.out


def test_memory_tests_pass_fail_and_keep_a_baseline(work: Path, cube: str, memos: Memos) -> None:
    (work / "tests.toml").write_text(TESTS)
    done = memos("audit", cube, "--tests", "tests.toml")
    assert done.code == 0, done.err
    assert done.lines[0] == "tests\tplaintext\t1 of 2 questions, baseline 1\tpassed"
    (work / "tests.toml").write_text(
        TESTS + '[[test]]\nquestion = "who ate the cake?"\nevidence = ["Ruth ate the cake"]\n'
    )
    done = memos("audit", cube, "--tests", "tests.toml", "--json")
    assert done.code == 9
    assert [finding["code"] for finding in done.json["findings"]] == ["recall"]
    assert done.json["tests"][0]["share"] == 0.6667
    assert done.json["missed"][0]["question"] == "who ate the cake?"
    assert "memos query a.cube 'who ate the cake?' --explain" in done.json["findings"][0]["remedy"]
    done = memos("audit", cube, "--tests", "tests.toml", "--update-baseline")
    assert done.code == 0
    assert "plaintext = 0.6667" in (work / "tests.baseline.toml").read_text()
    assert memos("audit", cube, "--tests", "tests.toml").code == 0
    assert memos("forget", cube, "--where", "section~Travel").code == 0
    assert memos("audit", cube, "--tests", "tests.toml").code == 9
    assert memos("audit", cube, "--update-baseline").code == 2


@pytest.mark.long
def test_answers_are_tested_with_a_model(work: Path, cube: str, memos: Memos) -> None:
    save_parrot(work / "parrot", "4711")
    test = '[[test]]\nquestion = "what is the boiler code?"\nanswer = "4711"\n'
    (work / "tests.toml").write_text(
        f'model = "parrot"\n{test}[[test]]\nquestion = "{"zebra " * 3}?"\nanswer = false\n'
    )
    done = memos("audit", cube, "--tests", "tests.toml")
    assert done.code == 0, done.err
    assert done.lines[0].startswith("tests\tanswer\t1 of 2")
    save_parrot(work / "other", "1234")
    done = memos("audit", cube, "--tests", "tests.toml", "--model", "other", "--json")
    assert done.code == 9
    assert done.json["missed"][0]["expected"] == "'4711'"
    # the cube has neither, so neither has answered
    (work / "tests.toml").write_text(f'forms = ["activation", "parameter"]\nmodel = "parrot"\n{test}')
    done = memos("audit", cube, "--tests", "tests.toml", "--json")
    assert done.code == 9
    assert [score["form"] for score in done.json["tests"]] == ["activation", "parameter"]
    assert [score["share"] for score in done.json["tests"]] == [0.0, 0.0]
    assert memos("audit", cube, "--tests", "tests.toml", "--model", "nowhere/at-all").code != 0


@pytest.mark.long
def test_vectors_that_are_not_those_of_the_embedder_are_found(work: Path, memos: Memos, home: Path) -> None:
    (work / "notes.md").write_text(NOTES)
    assert memos("ingest", "v.cube", "notes.md").code == 0
    assert codes(memos, "v.cube", "--deep") == []
    with frame.changing(frame.desk(home), "v.cube", "edit") as change:
        table = change.memories
        ids = table.rows(columns=["id"])["id"].to_pylist()
        vectors = table.take(ids, columns=["id", "vector"]).to_pylist()
        table.change([vectors[0]["id"]], vector=[vectors[1]["vector"]])
        change.commit({})
    assert codes(memos, "v.cube") == []
    done = memos("audit", "v.cube", "--deep")
    assert done.code == 9
    assert "1 of" in done.out
    assert "memos reindex" in done.out


def test_a_cube_that_is_damaged_has_a_page_too(cube: str, memos: Memos, work: Path) -> None:
    next(Path(cube).resolve().glob("current/plaintext/memories.lance/data/*.lance")).unlink()
    done = memos("audit", cube, "--report", "out.html", "--policy", "/dev/null")
    assert done.code == 4
    page = (work / "out.html").read_text()
    assert "Damaged in" in page
    assert "missing-file" in page


def test_a_report_is_not_written_into_the_cube(cube: str, memos: Memos) -> None:
    assert memos("audit", cube, "--report", "a.cube/report.html").code == 2
    assert memos("audit", cube, "--report", ".").code == 4
    assert memos("audit", cube, "--report", "/dev/null").code == 4


def make_rich(memos: Memos, work: Path) -> None:
    """A cube with a history, tags, reads, a failing test and memories that would like to be code."""
    evil = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    (work / "evil.md").write_text(f"# {evil}\n\n- {evil} boiler\n- \u202eabc\n")
    memos("ingest", "a.cube", "evil.md", "-m", evil)
    memos("tag", "a.cube", "first", "--number", "1")
    memos("rollback", "a.cube", "1")
    memos("ingest", "a.cube", "evil.md")
    for question in ("boiler code", "passport", "boiler"):
        memos("query", "a.cube", question)
    (work / "tests.toml").write_text(TESTS + f'[[test]]\nquestion = "cake {"x" * 9}"\nevidence = ["{evil[:7]} cake"]\n')


def test_a_report_tells_all_of_a_cube(cube: str, memos: Memos, work: Path) -> None:
    make_rich(memos, work)
    done = memos("audit", cube, "--deep", "--tests", "tests.toml", "--report", "out.html", "--json")
    assert done.json["report"] == "out.html"
    page = (work / "out.html").read_text()
    for part in ("Findings", "Memory tests", "Forms and costs", "Versions", "Heat", "Memories", "plaintext", "boiler"):
        assert part in page
    assert "<script>" not in page


def test_a_report_quotes_nothing_of_a_cube_that_must_not_leave(cube: str, memos: Memos, work: Path) -> None:
    (identity,) = [row["id"] for row in map(json.loads, memos("list", cube, "--json").lines) if "boiler" in row["text"]]
    memos("query", cube, "boiler code")
    memos("audit", cube, "--report", "out.html")
    assert "4711" in (work / "out.html").read_text()
    assert memos("edit", cube, identity, "--sensitivity", "restricted").code == 0
    memos("audit", cube, "--report", "out.html")
    page = (work / "out.html").read_text()
    assert "4711" not in page
    assert "left out" in page


@pytest.mark.long
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt-get install chromium)")
def test_a_browser_shows_the_report_and_runs_nothing_in_it(cube: str, memos: Memos, work: Path) -> None:
    make_rich(memos, work)
    memos("audit", cube, "--tests", "tests.toml", "--report", "out.html")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={work / 'profile'}"]
    place = (work / "out.html").resolve().as_uri()
    shown = subprocess.run(
        [str(CHROMIUM), *flags, "--dump-dom", place], capture_output=True, text=True, timeout=180, check=True
    )
    assert "<title>a: memory audit</title>" in shown.stdout
    assert "owned</title>" not in shown.stdout
    for scheme in ("light", "dark"):
        picture = work / f"{scheme}.png"
        dark = ["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []
        subprocess.run(
            [str(CHROMIUM), *flags, *dark, f"--screenshot={picture}", "--window-size=1080,2400", place],
            capture_output=True, timeout=180, check=True,
        )  # fmt: skip
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert picture.stat().st_size > 20_000


def test_an_audit_is_in_the_log_with_what_it_found(cube: str, memos: Memos, work: Path) -> None:
    (work / "policy.toml").write_text('[forbid]\nwords = ["boiler"]\n')
    memos("audit", cube, "--policy", "policy.toml")
    last = json.loads(Path("a.cube/log/access.jsonl").read_text().splitlines()[-1])
    assert (last["verb"], last["facts"]["findings"]) == ("audit", 1)


@pytest.mark.long
def test_hidden_memories_are_still_looked_at_for_secrets(work: Path, cube: str, memos: Memos) -> None:
    (work / "more.md").write_text("- The key is " + "AKIA" + "QRSTUVWXYZ234567.\n")
    memos("ingest", cube, "more.md")
    root = vault.locate(Path(cube))
    table = Memories.open(root / "current" / "plaintext")
    (identity,) = [row["id"] for row in table.rows(columns=["id", "text"]).to_pylist() if "AKIA" in row["text"]]
    memos("forget", cube, "--ids", identity)
    assert codes(memos, cube, "--secrets") == ["secret"]
