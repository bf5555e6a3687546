"""What a program defines, by tree-sitter, for the languages whose grammar is installed with the `code` extra.

The grammars are compiled into their packages: nothing is fetched or built when a file is read.
"""

from __future__ import annotations

import re
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from memos_cli.interface.sources.languages import Definition
from memos_cli.interface.sources.opened import Opened

if TYPE_CHECKING:
    from tree_sitter import Node

# Language -> the package of its grammar and the function in it that gives the grammar.
GRAMMARS = {
    "javascript": ("tree_sitter_javascript", "language"),
    "typescript": ("tree_sitter_typescript", "language_typescript"),
    "tsx": ("tree_sitter_typescript", "language_tsx"),
    "go": ("tree_sitter_go", "language"),
    "rust": ("tree_sitter_rust", "language"),
    "java": ("tree_sitter_java", "language"),
    "c": ("tree_sitter_c", "language"),
    "cpp": ("tree_sitter_cpp", "language"),
    "csharp": ("tree_sitter_c_sharp", "language"),
    "ruby": ("tree_sitter_ruby", "language"),
    "bash": ("tree_sitter_bash", "language"),
}
FUNCTION_NODES = """
function_declaration generator_function_declaration function_definition function_item function_signature_item
method_declaration method_definition constructor_declaration method singleton_method local_function_statement
"""
FUNCTIONS = frozenset(FUNCTION_NODES.split())
CLASS_NODES = """
class_declaration abstract_class_declaration interface_declaration enum_declaration struct_declaration
record_declaration type_declaration type_alias_declaration class_specifier struct_specifier enum_specifier
struct_item enum_item trait_item union_item class module annotation_type_declaration
"""
CLASSES = frozenset(CLASS_NODES.split())
# What adds a name to the path of what is in it without being a piece itself.
SCOPES = frozenset(("impl_item", "namespace_definition", "namespace_declaration", "mod_item", "internal_module"))
# const total = () => ...
VALUES = frozenset(("arrow_function", "function_expression", "generator_function"))
WRAPPERS = frozenset(("export_statement", "template_declaration", "lexical_declaration", "variable_declaration"))
# Mending wrong code can cost a grammar the square of its length; what people write themselves is shorter.
LARGEST_CHARACTERS = 1 << 20
COMMENTS = frozenset(("comment", "line_comment", "block_comment", "attribute_item", "decorator"))


def find_definitions(text: str, language: str, opened: Opened) -> list[Definition]:
    """Classes, methods and functions in the order of the text; [] and a notice when the grammar is not installed."""
    package, function = GRAMMARS[language]
    if len(text) > LARGEST_CHARACTERS:
        opened.notice("too large for its grammar: cut at blank lines")
        return []
    if find_spec("tree_sitter") is None or find_spec(package) is None:
        opened.notice(f"{language} is cut at blank lines; for functions as memories: pip install 'memos[code]'")
        return []
    from tree_sitter import Language, Parser

    parser = Parser(Language(getattr(import_module(package), function)()))
    # Surrogates cannot be encoded; one byte for another keeps the lines.
    tree = parser.parse(text.encode("utf-8", errors="replace"))
    return _walk(tree.root_node)


def _walk(root: Node) -> list[Definition]:
    """Without recursion, for a hostile file may nest deeper than Python's stack."""
    found: list[Definition] = []
    waiting: list[tuple[Node, str]] = [(root, "")]
    while waiting:
        node, above = waiting.pop()
        kind = _kind(node)
        name = _name(node) if kind or node.type in SCOPES else ""
        path = f"{above}.{name}" if above and name else name or above
        if kind and name and _has_body(node, kind):
            found.append(Definition(kind, path, _first_line(node), node.end_point[0] + 1))
        if kind != "function":
            waiting += [(child, path) for child in reversed(node.named_children)]
    return found


def _kind(node: Node) -> str:
    """'function', 'class', or '' for a node that defines nothing of its own."""
    if node.type in FUNCTIONS:
        return "function"
    if node.type == "variable_declarator":
        value = node.child_by_field_name("value")
        return "function" if value is not None and value.type in VALUES else ""
    return "class" if node.type in CLASSES else ""


def _has_body(node: Node, kind: str) -> bool:
    # 'struct point p;' names a struct but defines none, and 'module' is also a mere keyword in some grammars.
    return node.end_point[0] > node.start_point[0] or node.child_by_field_name("body") is not None or kind == "function"


def _name(node: Node) -> str:
    """The name that a node defines: its name, the type of an impl, or the name within a C declarator."""
    for field in ("name", "type"):
        if (inner := node.child_by_field_name(field)) is not None and (field == "name" or node.type == "impl_item"):
            return _receiver(node) + _text(inner)
    inner = node.child_by_field_name("declarator")
    while inner is not None:
        deeper = inner.child_by_field_name("declarator")
        if deeper is None:
            return _text(inner)
        inner = deeper
    # Go: the name of a type is in the one spec of its declaration.
    spec = next((child for child in node.named_children if child.type == "type_spec"), None)
    return _name(spec) if spec is not None else ""


def _receiver(node: Node) -> str:
    """'Cart.' for a Go method on Cart or *Cart, else ''."""
    receiver = node.child_by_field_name("receiver")
    words = re.findall(r"\w+", _text(receiver).split("[")[0]) if receiver is not None else []
    return f"{words[-1]}." if words else ""


def _text(node: Node) -> str:
    return (node.text or b"").decode("utf-8", errors="replace").replace("::", ".")


def _first_line(node: Node) -> int:
    """The line where a definition begins, with the comments, attributes and `export` right before it."""
    top = node
    while top.parent is not None and top.parent.type in WRAPPERS:
        top = top.parent
    first = top.start_point[0]
    before = top.prev_named_sibling
    while before is not None and before.type in COMMENTS and before.start_point[0] < first:
        # Some grammars end a comment at the start of the next line.
        if before.end_point[0] + 1 < first or _shares_line(before):
            break
        first = before.start_point[0]
        before = before.prev_named_sibling
    return first + 1


def _shares_line(comment: Node) -> bool:
    """Whether a comment stands behind other code on its line, to which it belongs."""
    before = comment.prev_sibling
    return before is not None and before.end_point[0] == comment.start_point[0] and before.end_point[1] > 0
