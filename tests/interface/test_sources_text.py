"""Markdown, plain text and html: what stands alone is a piece of its own, under its headings, with its lines."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.interface.samples import brief, lines, read

HANDBOOK = """---
title: Handbook
tags:
  - ops
  - people
---
# Handbook

Intro with **bold** words
that wrap, and a [link](https://a.b/c).

## Empty

## Steps

The steps are:

- stop
- deploy:
  - web
  - the database
    server
1. start

| name | port |
|------|------|
| web  | 80   |
| db   |      |

```py
x = 1

y = 2
```

Owner: Ann
Backup owner: Bob

Term
: its meaning
"""


def test_markdown_is_read_by_its_structure(tmp_path: Path) -> None:
    steps = "Handbook > Steps"
    assert brief(read(tmp_path, "a.md", HANDBOOK)) == [
        ("pair", "title: Handbook", ""),
        ("pair", "tags: ops, people", ""),
        ("paragraph", "Intro with bold words\nthat wrap, and a link (https://a.b/c).", "Handbook"),
        ("paragraph", "Empty", "Handbook"),
        ("paragraph", "The steps are:", steps),
        ("bullet", "stop", f"{steps} > The steps are"),
        ("bullet", "deploy:", f"{steps} > The steps are"),
        ("bullet", "web", f"{steps} > The steps are > deploy"),
        ("bullet", "the database\nserver", f"{steps} > The steps are > deploy"),
        ("bullet", "start", steps),
        ("row", "name: web; port: 80", steps),
        ("row", "name: db", steps),
        ("code", "x = 1\n\ny = 2", steps),
        ("pair", "Owner: Ann", steps),
        ("pair", "Backup owner: Bob", steps),
        ("pair", "Term: its meaning", steps),
    ]


def test_the_lines_of_markdown_pieces_hold_their_words(tmp_path: Path) -> None:
    text = HANDBOOK.split("\n")
    for piece in read(tmp_path, "a.md", HANDBOOK):
        assert piece.line_start is not None
        assert piece.line_end is not None
        named = " ".join(text[piece.line_start - 1 : piece.line_end])
        for word in (
            piece.text.replace("(", " ").replace(")", " ").replace(",", " ").replace(":", " ").replace(";", " ").split()
        ):
            assert word in named or word in ("name", "port"), (piece, named)


def test_a_note_in_markdown_is_no_transcript(tmp_path: Path) -> None:
    text = "# Guide\n\nNote: keep this.\n\nWarning: hot.\n\nNote: another one.\n\nText goes on here.\n"
    pieces = read(tmp_path, "a.md", text)
    assert {piece.kind for piece in pieces} == {"pair", "paragraph"}
    assert all(not piece.speaker for piece in pieces)


def test_a_markdown_chat_log_is_a_transcript(tmp_path: Path) -> None:
    text = "# Session 1\n\n**Ann:** hi\n\n**Bob:** hello\n\n**Ann:** bye\n\n**Bob:** see you\n"
    assert [(piece.speaker, piece.text) for piece in read(tmp_path, "a.md", text)] == [
        ("Ann", "hi"),
        ("Bob", "hello"),
        ("Ann", "bye"),
        ("Bob", "see you"),
    ]


def test_a_larger_markdown_file_is_read_as_plain_text(tmp_path: Path) -> None:
    from memos_cli.interface.sources import Limits
    from tests.interface.samples import source

    notices: list[str] = []
    found = source(tmp_path, "a.md", HANDBOOK, limits=Limits(tree_bytes=100))
    pieces = list(found.pieces(on_notice=notices.append))
    assert ("bullet", "stop", "Handbook > Steps > The steps are") not in brief(pieces)
    assert ("bullet", "stop", "Handbook > Steps") in brief(pieces)
    assert notices == ["a.md: larger than 100 bytes: read as plain text with headings"]


NOTES = """The door code is 4711.
Lunch is at noon.

OPENING HOURS

Monday: 9 to 5
Tuesday: 10 to 4

Prices
======

A paragraph of prose that goes on
over two lines.

* tea
  with milk
* coffee
   - black

wifi - hunter2
printer - room 4
"""


def test_plain_text_is_read_by_paragraph_fact_bullet_and_pair(tmp_path: Path) -> None:
    pieces = read(tmp_path, "a.txt", NOTES)
    assert brief(pieces) == [
        ("paragraph", "The door code is 4711.", ""),
        ("paragraph", "Lunch is at noon.", ""),
        ("pair", "Monday: 9 to 5", "OPENING HOURS"),
        ("pair", "Tuesday: 10 to 4", "OPENING HOURS"),
        ("paragraph", "A paragraph of prose that goes on\nover two lines.", "Prices"),
        ("bullet", "tea\nwith milk", "Prices"),
        ("bullet", "coffee", "Prices"),
        ("bullet", "black", "Prices > coffee"),
        ("paragraph", "wifi - hunter2", "Prices"),
        ("paragraph", "printer - room 4", "Prices"),
    ]
    assert lines(pieces)[4:8] == [(12, 13), (15, 16), (17, 17), (18, 18)]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text(st.sampled_from("ab:.\n -#*|`>[]()1=é\t"), max_size=200),
    suffix=st.sampled_from([".txt", ".md", ".html"]),
)
def test_any_text_is_read_and_its_letters_are_kept(tmp_path: Path, text: str, suffix: str) -> None:
    pieces = read(tmp_path, f"any{suffix}", "x\n" + text)
    if suffix == ".txt":
        kept = "".join(piece.text + "".join(piece.section) for piece in pieces)
        assert set(text) & set("é") <= set(kept)
    count = ("x\n" + text).count("\n") + 1
    for piece in pieces:
        assert piece.line_start is not None
        assert piece.line_end is not None
        assert 1 <= piece.line_start <= piece.line_end <= count


PAGE = """<!doctype html>
<html><head><title>T</title><style>p { color: red }</style></head><body>
<nav>Home | About</nav>
<h1>Guide</h1>
<p>Tea &amp; <b>cake</b>
for all, see <a href="https://a.b">here</a>.</p>
<p>You need:</p>
<ul><li>cups<li>pots
<ul><li>large ones</li></ul>
</ul>
<h2>Prices</h2>
<table><tr><th>item</th><th>price</th></tr>
<tr><td>tea</td><td>2</td></tr></table>
<dl><dt>wifi</dt><dd>hunter2</dd></dl>
<pre>x = 1

y = 2</pre>
<div>loose words<script>alert(1)</script></div>
<h2>Nothing here</h2>
"""


def test_html_is_read_by_its_blocks(tmp_path: Path) -> None:
    pieces = read(tmp_path, "a.html", PAGE)
    assert brief(pieces) == [
        ("paragraph", "Tea & cake\nfor all, see here (https://a.b).", "Guide"),
        ("paragraph", "You need:", "Guide"),
        ("bullet", "cups", "Guide > You need"),
        ("bullet", "pots", "Guide > You need"),
        ("bullet", "large ones", "Guide > You need > pots"),
        ("row", "item: tea; price: 2", "Guide > Prices"),
        ("pair", "wifi: hunter2", "Guide > Prices"),
        ("code", "x = 1\n\ny = 2", "Guide > Prices"),
        ("paragraph", "loose words", "Guide > Prices"),
        ("paragraph", "Nothing here", "Guide"),
    ]
    assert lines(pieces)[:5] == [(5, 6), (7, 7), (8, 8), (8, 8), (9, 9)]


@pytest.mark.parametrize(
    "mark", ["<!--", "<a ", "<p>", "<![CDATA[", '<a b="', "</", "<!", "<div>", "<ul><li>", "<a \n"]
)
def test_hostile_html_ends_soon(tmp_path: Path, mark: str) -> None:
    read(tmp_path, "a.html", "<html>" + mark * (100_000 // len(mark)))


@pytest.mark.parametrize("mark", ["[", "![", "<!--", "*", "`", "> ", "[a](", "#", "|-|-\n"])
def test_hostile_markdown_ends_soon(tmp_path: Path, mark: str) -> None:
    read(tmp_path, "a.md", mark * (40_000 // len(mark)))
