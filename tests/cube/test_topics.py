"""The topic path of a memory: as SQL and in Python the same, and a filter that finds by it."""

from __future__ import annotations

from pathlib import Path

from memos_cli.cube import filters, topics
from memos_cli.cube.plaintext import Memories
from memos_cli.interface import api
from memos_cli.operation.marking import Marks
from tests.conftest import Memos

PAGE = (
    "# Release process\n\n## Going back\n\n- Time it takes: under four minutes\n- Ask Ana / Bela > first.\n\n"
    "Ärger im Büro.\n"
)


def test_the_path_is_the_same_in_sql(work: Path, memos: Memos) -> None:
    (work / "Hand Book.md").write_text(PAGE)
    (work / "talk.jsonl").write_text('{"speaker": "Ana", "text": "It\'s a/b: odd"}\n')
    assert memos("ingest", "a.cube", "Hand Book.md", "talk.jsonl", "--embedder", "none").code == 0
    first = next(api.memories("a.cube"))
    api.edit("a.cube", first.id, marks=Marks(topic="work/Payroll"))
    memories = Memories.open(Path("a.cube/current/plaintext").resolve())
    paths = {row["id"]: topics.path_of(row) for row in memories.rows(columns=["id", *topics.COLUMNS]).to_pylist()}
    assert len(set(paths.values())) >= 3
    for identity, path in paths.items():
        where = topics.condition(lambda column, path=path: f"{column} = {filters.quote(path)}")  # type: ignore[misc]
        assert identity in memories.rows(where, columns=["id"])["id"].to_pylist(), path


def test_a_filter_finds_by_the_path(work: Path, memos: Memos) -> None:
    (work / "handbook.md").write_text(PAGE)
    assert memos("ingest", "a.cube", "handbook.md", "--embedder", "none").code == 0

    def found(where: str) -> list[str]:
        return [one.text for one in api.memories("a.cube", where=where)]

    time = "Time it takes: under four minutes"
    assert found("topic=handbook/release-process/going-back/time-it-takes") == [time]
    assert len(found("topic=handbook/release-process/*")) == 3
    assert found("topic=handbook/nothing/*") == []
    assert found("topic~time-it") == [time]
    identity = next(one.id for one in api.memories("a.cube") if one.text == time)
    assert api.show_memory("a.cube", identity).path == "handbook/release-process/going-back/time-it-takes"
    api.edit("a.cube", identity, marks=Marks(topic="speed"))
    assert found("topic=speed") == [time]
    assert len(found("topic=handbook/*")) == 2
    assert len(found('topic=""')) == 2
    assert api.query("a.cube", "the time it takes", where="topic=speed", embedder="none").hits[0].text == time
