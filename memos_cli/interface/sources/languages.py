"""Programming languages by file name, and what their parsers tell of a program. Knows no grammar."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

WITHOUT_GRAMMAR = """
zsh fish ps1 bat cmd php pl pm lua r jl scala kt kts swift m mm dart ex exs erl hrl hs ml mli clj cljs lisp el
scm vim sql graphql proto thrift tf hcl nix cmake mk gradle groovy zig nim v vhd sv asm s css scss sass less
vue svelte xml xsl xsd svg plist yaml yml toml ini cfg conf env properties lock tex bib
"""
BY_SUFFIX = {
    ".py": "python",
    ".pyi": "python",
    ".js": "javascript",
    ".mjs": "javascript",
    ".cjs": "javascript",
    ".jsx": "javascript",
    ".ts": "typescript",
    ".mts": "typescript",
    ".cts": "typescript",
    ".tsx": "tsx",
    ".go": "go",
    ".rs": "rust",
    ".java": "java",
    ".c": "c",
    ".h": "c",
    ".cc": "cpp",
    ".cpp": "cpp",
    ".cxx": "cpp",
    ".hh": "cpp",
    ".hpp": "cpp",
    ".cs": "csharp",
    ".rb": "ruby",
    ".sh": "bash",
    ".bash": "bash",
    **{f".{suffix}": "plain" for suffix in WITHOUT_GRAMMAR.split()},
}
BY_NAME = {"makefile": "plain", "dockerfile": "plain", "cmakelists.txt": "plain", "gemfile": "ruby", "rakefile": "ruby"}
BY_INTERPRETER = {
    "python": "python",
    "python3": "python",
    "node": "javascript",
    "ruby": "ruby",
    "sh": "bash",
    "bash": "bash",
}


def of(name: str, text: str) -> str:
    """The language of a file with this name and beginning: '' for none, 'plain' for one without a grammar here."""
    path = PurePath(name.lower())
    if found := BY_SUFFIX.get(path.suffix) or BY_NAME.get(path.name):
        return found
    if path.suffix or not text.startswith("#!"):
        return ""
    words = text[: text.find("\n") + 1 or None].replace("/", " ").split()
    return BY_INTERPRETER.get(words[-1], "plain") if words else ""


@dataclass(frozen=True, slots=True)
class Definition:
    """Something with a name in a program: its lines, from 1, and the dotted name within the module."""

    kind: str
    name: str
    first: int
    last: int
