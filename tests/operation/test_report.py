"""The page of an audit: well formed, in need of nothing, and harmless whatever stands in the memories."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from memos_cli.operation import plots
from memos_cli.operation.findings import DAMAGE, NOTICE, WARNING, Audit, Finding
from memos_cli.operation.memory_tests import Missed, Scored
from memos_cli.operation.plots import Bar, Step
from memos_cli.operation.report import Facts, Hot, Made, render

EVIL = "\"><script>fetch('//evil')</script><img src=x onerror=alert(1)>\u202egnp.exe\x00</style></svg>"
VOID = {"meta", "br", "img", "link", "hr"}


class Page(HTMLParser):
    """Checks that tags close in order, and keeps which there are and what stands in their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.names: set[str] = set()
        self.links: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.names |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def facts(word: str = "plain", *, quoted: bool = True) -> Facts:
    """Facts in which every text is `word`."""
    steps = [
        Step(n, 1000 * n, 300, word, 1 if n == 3 else None, (word,) if n == 2 else (), n == 4) for n in range(1, 5)
    ]
    bars = (Bar(word, 3, word), Bar("b", 1, "1", 0.5, "bad"))
    return Facts(
        title=word, made_at=word, program=word, about=((word, word),), figures=((word, word),), forms=bars,
        costs=((word, word),), versions=tuple(Made(step, word, word, word, word) for step in steps), kinds=bars,
        ages=bars, reads=bars, hot=(Hot(word, 9, word, word), Hot("b", 1, "p", "t")), quoted=quoted,
    )  # fmt: skip


def audit(word: str = "plain") -> Audit:
    findings = tuple(Finding(severity, word, word, word, word) for severity in (DAMAGE, WARNING, NOTICE))
    return Audit(
        findings, 4, 10, 20, 3, 999, True,
        tests=(Scored("plaintext", 5, 0.4, 0.8, False), Scored("answer", 2, 1.0, 1.0, True)),
        missed=(Missed("plaintext", word, word, word, word),),
    )  # fmt: skip


def test_hostile_text_is_only_text() -> None:
    page = render(facts(EVIL), audit(EVIL))
    parsed = Page(page)
    assert not parsed.tags & {"script", "img", "iframe", "object", "link", "form", "a", "base"}
    assert not [name for name in parsed.names if name.startswith("on")]
    assert parsed.links == []
    assert page.count("<style>") == page.count("</style>") == 1
    assert "\u202e" not in page
    assert "\x00" not in page
    assert "&lt;script&gt;" in page


def test_the_page_needs_nothing_and_forbids_itself_the_rest() -> None:
    page = render(facts(), audit())
    assert "default-src &#x27;none&#x27;" in page
    assert not re.search(r"https?://|url\(|@import", page)
    assert "prefers-color-scheme:dark" in page


@pytest.mark.parametrize("word", ["plain", EVIL, "", "é" * 3000, "]]>", "&amp;", "'"])
def test_a_page_is_well_formed_whatever_is_in_it(word: str) -> None:
    Page(render(facts(word), audit(word)))


def test_an_empty_cube_and_a_damaged_one_have_a_page() -> None:
    bare = Facts("t", "now", "memos")
    sound = Audit((), 1, 1, 0, 0, 0, False)
    assert "Sound" in render(bare, sound)
    assert "Nothing was found" in render(bare, sound)
    damaged = sound.with_more([Finding(DAMAGE, "content", "here", "differs", "fix")])
    assert "Damaged in 1 place" in render(bare, damaged)
    assert "1 warning" in render(bare, sound.with_more([Finding(WARNING, "c", "p", "m", "r")]))
    for page in (render(bare, sound), render(bare, damaged)):
        Page(page)


def test_texts_are_left_out_where_they_must_not_leave() -> None:
    page = render(facts("the spare key is under the mat", quoted=False), Audit((), 1, 1, 0, 0, 0, False))
    hot = page[page.index("<h2>Heat") :]
    assert "left out" in hot
    row = hot[hot.index("<tbody>") : hot.index("</tbody>")]
    # the place is made of a source's name, not of what a memory says
    assert row.count("spare key") == 2


def test_plots_of_nothing_and_of_much() -> None:
    assert plots.bars([]) == plots.columns([]) == plots.lineage([]) == ""
    for drawn in (
        plots.bars([Bar("a", 0, "0")]),
        plots.columns([Bar("a", 0, "0")] * 400),
        plots.lineage([Step(1, 0, 0, "", None)]),
    ):
        Page(drawn)
        assert "nan" not in drawn
    many = plots.lineage([Step(n, n, n, "t", n - 5 if n > 5 else None, ("x" * 50,)) for n in range(200)])
    Page(many)
    assert many.count("<circle") == 200
