"""Source code: functions, methods and classes are pieces under their module; the rest is cut at blank lines."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.interface.samples import brief, lines, read, source

SHOP = '''"""A shop.

With a cart."""
import os

LIMIT = [
    1,

    2,
]


# Adds things.
@cached
@other(
    1
)
def add(a, b):
    """Sum of both."""

    def inner():
        return a

    return inner() + b


class Cart(Base):
    """Holds items."""

    size: int = 0

    def total(self):
        return 1

    class Line:
        price = 1

        async def net(self):
            return 2


if LIMIT:
    def late(): ...
'''


def test_python_is_read_by_its_own_parser(tmp_path: Path) -> None:
    pieces = read(tmp_path, "shop.py", SHOP)
    assert [(piece.kind, " > ".join(piece.section)) for piece in pieces] == [
        ("paragraph", "shop"),
        ("code", "shop"),
        ("code", "shop"),
        ("function", "shop > add"),
        ("class", "shop > Cart"),
        ("function", "shop > Cart.total"),
        ("class", "shop > Cart.Line"),
        ("function", "shop > Cart.Line.net"),
        ("code", "shop"),
        ("function", "shop > late"),
    ]
    texts = {" > ".join(piece.section): piece.text for piece in pieces}
    assert texts["shop > add"].startswith('# Adds things.\n@cached\n@other(\n    1\n)\ndef add(a, b):\n    """Sum')
    assert texts["shop > add"].endswith("return inner() + b")
    assert texts["shop > Cart"] == 'class Cart(Base):\n    """Holds items."""\n\n    size: int = 0'
    assert texts["shop > Cart.Line.net"] == "async def net(self):\n    return 2"
    assert lines(pieces)[:4] == [(1, 3), (4, 4), (6, 10), (13, 24)]
    assert pieces[2].text == "LIMIT = [\n    1,\n\n    2,\n]"


@pytest.mark.parametrize(
    "text", ["print 'old'\n\nx = 1\n", "def f(:\n\nx\n", "(" * 3000, "x = 1\n" * 3 + "\n\ny = '\\d'\n"]
)
def test_python_that_does_not_parse_is_cut_at_blank_lines(tmp_path: Path, text: str) -> None:
    notices: list[str] = []
    pieces = list(source(tmp_path, "a.py", text).pieces(on_notice=notices.append))
    assert {piece.kind for piece in pieces} <= {"code"}
    assert bool(notices) == ("\\d" not in text)


PROGRAMS = {
    "a.go": (
        "// Add adds.\nfunc Add(a int) int {\n\treturn a\n}\n\ntype Cart struct {\n\tN int\n}\n\n"
        "func (c *Cart) Total() int { return 0 }\n",
        ["function a.Add 1-4", "class a.Cart 6-8", "function a.Cart.Total 10-10"],
    ),
    "a.js": (
        "function one() {\n  return 1\n}\n\nexport const two = (a) => {\n  return a\n}\n",
        ["function a.one 1-3", "function a.two 5-7"],
    ),
    "a.ts": (
        "/** doc */\nexport class Cart {\n  n = 1;\n\n  total(): number {\n    return 1;\n  }\n}\n\n"
        "interface Item {\n  x: string;\n}\n",
        ["class a.Cart 1-8", "function a.Cart.total 5-7", "class a.Item 10-12"],
    ),
    "a.rs": (
        "struct A {\n    x: i32,\n}\n\nimpl A {\n    /// new\n    #[inline]\n    fn new() -> A { A { x: 1 } }\n}\n",
        ["class a.A 1-3", "function a.A.new 6-8"],
    ),
    "a.java": (
        "public class A {\n  int x;\n\n  /** d */\n  public int f() {\n    return x;\n  }\n}\n",
        ["class a.A 1-8", "function a.A.f 4-7"],
    ),
    "a.c": (
        "struct p {\n  int a;\n};\n\n/* sum */\nstatic int *sum(int a,\n  int b)\n{\n  return 0;\n}\n",
        ["class a.p 1-3", "function a.sum 5-10"],
    ),
    "a.cpp": (
        "namespace n {\nclass B {\n  int f() {\n    return 1;\n  }\n};\n\nint B::g() {\n  return 2;\n}\n}\n",
        ["class a.n.B 2-6", "function a.n.B.f 3-5", "function a.n.B.g 8-10"],
    ),
    "a.cs": (
        "namespace N {\n  class A {\n    int F() { return 1; }\n  }\n}\n",
        ["class a.N.A 2-4", "function a.N.A.F 3-3"],
    ),
    "a.rb": ("class A\n  # hi\n  def f\n    1\n  end\nend\n", ["class a.A 1-6", "function a.A.f 3-5"]),
    "a.sh": ("set -e\n\nfoo() {\n  echo\n}\n", ["function a.foo 3-5"]),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_other_languages_are_read_by_their_grammar(tmp_path: Path, name: str) -> None:
    pytest.importorskip("tree_sitter", reason="the code extra is not installed")
    text, expected = PROGRAMS[name]
    pieces = read(tmp_path, name, text)
    found = [f"{p.kind} {'.'.join(p.section)} {p.line_start}-{p.line_end}" for p in pieces if p.kind != "code"]
    assert found == expected


def test_no_line_with_words_is_lost(tmp_path: Path) -> None:
    for name, (text, _) in {**PROGRAMS, "shop.py": (SHOP, [])}.items():
        told = "\n".join(piece.text for piece in read(tmp_path, name, text))
        for line in text.split("\n"):
            assert not any(map(str.isalnum, line)) or line.strip() in told


def test_without_the_extra_programs_are_cut_at_blank_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memos_cli.interface.sources.grammars.find_spec", lambda name: None)
    notices: list[str] = []
    pieces = list(source(tmp_path, "a.go", PROGRAMS["a.go"][0]).pieces(on_notice=notices.append))
    assert [piece.kind for piece in pieces] == ["code", "code", "code"]
    assert notices == ["a.go: go is cut at blank lines; for functions as memories: pip install 'memos[code]'"]


def test_files_without_a_grammar_are_cut_at_blank_lines(tmp_path: Path) -> None:
    pieces = read(tmp_path, "app.yaml", "name: web\nport: 80\n\ndb:\n  host: h\n")
    assert brief(pieces) == [("code", "name: web\nport: 80", "app"), ("code", "db:\n  host: h", "app")]
    assert lines(pieces) == [(1, 2), (4, 5)]


def test_the_projects_own_code_is_read_whole() -> None:
    from memos_cli.interface import sources

    root = Path(sys.modules["memos_cli"].__file__ or "").parent
    found = list(sources.expand(["interface/sources"], base=root, stdin=None))
    assert len(found) > 20
    for one in found:
        assert one.format == "code:python"
        assert list(one.pieces())
