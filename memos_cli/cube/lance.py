"""LanceDB, imported without the parts that a local table never uses.

`connect()` gives a LanceDB connection and `open_table()` a table. Importing lancedb the plain way builds several
hundred pydantic models of a REST client (`lance_namespace_urllib3_client`), 60% of the import's CPU time. For the
releases this was checked with, those packages are answered by empty modules while lancedb is imported; for any other
release, or when the light import fails, the plain import is used and nothing else changes. Knows nothing of cubes.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
import types
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memos_cli.errors import Damaged, NotFound

if TYPE_CHECKING:
    import pyarrow as pa

CHECKED_RELEASES = ("0.40.",)
UNUSED_PACKAGES = frozenset({"lance_namespace", "lance_namespace_urllib3_client"})
# A schema with this key makes lancedb import and call a hub model named by the file: never from data we did not write.
UNSAFE_METADATA = (b"embedding_functions",)


class _Empty(types.ModuleType):
    """A module whose every public name is an empty class; names ending in Error are exceptions."""

    __path__: list[str] = []

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        made = type(name, (Exception,) if name.endswith("Error") else (), {})
        setattr(self, name, made)
        return made


class _Unused(MetaPathFinder, Loader):
    """Finds the unused packages and loads them empty."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] not in UNUSED_PACKAGES:
            return None
        return ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        return _Empty(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """An empty module has nothing to run."""


def load() -> Any:
    """The lancedb module, imported the light way where that is known to work.

    `MEMOS_PLAIN_LANCEDB=1` asks for the plain import, to compare the two.
    """
    if "lancedb" in sys.modules or not _is_checked() or os.environ.get("MEMOS_PLAIN_LANCEDB"):
        return importlib.import_module("lancedb")
    before = set(sys.modules)
    finder = _Unused()
    sys.meta_path.insert(0, finder)
    try:
        return importlib.import_module("lancedb")
    except (ImportError, AttributeError, TypeError):
        _forget_since(before, "lancedb")
    finally:
        sys.meta_path.remove(finder)
        # The real packages stay importable for whoever wants them; lancedb keeps the empty classes it bound.
        _forget_since(before, *UNUSED_PACKAGES)
    return importlib.import_module("lancedb")


def _is_checked() -> bool:
    if UNUSED_PACKAGES & set(sys.modules):
        return False
    try:
        return importlib.metadata.version("lancedb").startswith(CHECKED_RELEASES)
    except importlib.metadata.PackageNotFoundError:
        return False


def _forget_since(before: set[str], *packages: str) -> None:
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in packages:
            del sys.modules[name]


def connect(folder: Path) -> Any:
    """A connection to the tables beneath `folder`."""
    return load().connect(str(folder))


def open_table(folder: Path, name: str) -> Any:
    """The table `name` beneath `folder`.

    Raises NotFound when there is none and Damaged when Lance cannot read it or its schema asks to run code.
    """
    if not (folder / f"{name}.lance").is_dir():
        raise NotFound(f"expected the table {name}.lance in {folder}, found none")
    try:
        table = connect(folder).open_table(name)
        schema = table.schema
    except (RuntimeError, ValueError, OSError) as error:
        raise Damaged(f"expected a readable table {name}.lance in {folder}, Lance says: {error}") from error
    refuse_unsafe(schema, where=str(folder / f"{name}.lance"))
    return table


def refuse_unsafe(schema: pa.Schema, *, where: str) -> None:
    """Raises Damaged when the schema carries metadata that would make lancedb load code or models."""
    found = [key.decode() for key in UNSAFE_METADATA if key in (schema.metadata or {})]
    if found:
        raise Damaged(f"expected a plain table in {where}, its schema asks for {', '.join(found)}")


def strip_unsafe(schema: pa.Schema) -> pa.Schema:
    """The same schema without such metadata."""
    kept = {key: value for key, value in (schema.metadata or {}).items() if key not in UNSAFE_METADATA}
    return schema.with_metadata(kept or None)
