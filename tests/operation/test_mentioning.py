"""Which memory names what another is about: by headings, titles and file names, and only where that is meant."""

from __future__ import annotations

from typing import Any

from memos_cli.operation.mentioning import headings_of, index_of


def row(identity: str, section: str, source: str = "a.md", title: str = "") -> dict[str, Any]:
    return {"id": identity, "source": source, "section": section, "title": title}


def named(text: str, *rows: dict[str, Any]) -> list[str]:
    columns: dict[str, Any] = {name: [one[name] for one in rows] for name in rows[0]}
    index = index_of(headings_of({**columns, "position": range(len(rows))}))
    return [place.id for name in index.named_in(text) for place in index.targets[name]]


def test_a_heading_names_the_first_memory_below_it() -> None:
    rows = (row("1", "Guide > Release process"), row("2", "Guide > Release process"), row("3", "Guide > Going back"))
    assert named("See the release process, or going  back.", *rows) == ["1", "3"]
    assert named("The release of a process.", *rows) == []


def test_a_file_and_its_title_name_the_first_of_the_source() -> None:
    rows = (row("1", "", "docs/on-call.md", title="on-call"), row("2", "Rota", "docs/on-call.md", title="on-call"))
    assert named("it stands in on-call.md", *rows) == ["1"]
    assert named("who is on call?", *rows) == ["1"]


def test_one_word_is_a_name_only_where_it_is_one() -> None:
    rows = (row("1", "People > Ana"), row("2", "Setup"), row("3", "write_bytes"), row("4", "notes"))
    assert named("We met Ana there.", *rows) == ["1"]
    assert named("Ana was there. Setup takes long. Look at ana and setup.", *rows) == []
    assert named("It calls write_bytes first; take notes.", *rows) == ["3"]


def test_what_many_headings_are_called_names_none() -> None:
    rows = [row(str(i), "Getting started", f"{i}.md") for i in range(3)]
    assert named("read getting started", *rows[:2]) == ["0", "1"]
    assert named("read getting started", *rows) == []


def test_numbers_and_filling_words_are_no_names() -> None:
    rows = (row("1", "10 2024"), row("2", "what is it"), row("3", "???"))
    assert named("10 2024 what is it ???", *rows) == []


def test_the_longest_name_counts() -> None:
    rows = (row("1", "Release process"), row("2", "Release process of tools"))
    assert named("the release process of tools", *rows) == ["2"]
