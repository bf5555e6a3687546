"""What a Python program defines, by Python's own parser. Nothing of the program is run."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator

from memos_cli.interface.sources.languages import Definition
from memos_cli.interface.sources.opened import Opened

Defined = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def find_definitions(text: str, opened: Opened) -> list[Definition]:
    """Classes, their methods and functions, with decorators; functions inside functions stay with them.

    [] and a notice when the text is no Python of this interpreter's version.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        opened.notice(f"not parsed as Python ({error}): cut at blank lines")
        return []
    lines = text.split("\n")
    return list(_in_body(tree.body, "", lines))


def _in_body(body: list[ast.stmt], above: str, lines: list[str]) -> Iterator[Definition]:
    """What a body defines; a module's docstring, and a statement that blank lines would cut, are kept whole."""
    for index, node in enumerate(body):
        if isinstance(node, Defined):
            name = f"{above}.{node.name}" if above else node.name
            kind = "class" if isinstance(node, ast.ClassDef) else "function"
            yield Definition(kind, name, _first_line(node, lines), node.end_lineno or node.lineno)
            if isinstance(node, ast.ClassDef):
                yield from _in_body(node.body, name, lines)
        elif not above and index == 0 and _is_docstring(node):
            yield Definition("paragraph", "", node.lineno, node.end_lineno or node.lineno)
        elif isinstance(node, ast.If | ast.Try):
            # Definitions under `if TYPE_CHECKING` or `try: import` are the module's too.
            yield from _in_body(
                [inner for inner in ast.iter_child_nodes(node) if isinstance(inner, ast.stmt)], above, lines
            )
        elif not above and not all(map(str.strip, lines[node.lineno - 1 : node.end_lineno])):
            yield Definition("code", "", node.lineno, node.end_lineno or node.lineno)


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _first_line(node: Defined, lines: list[str]) -> int:
    """The line of the first decorator, or of the comment right above."""
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    while first > 1 and lines[first - 2].lstrip().startswith("#"):
        first -= 1
    return first
