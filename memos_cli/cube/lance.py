"""LanceDB, as little of it as the work at hand needs.

`open_table()` and `create_table()` give a Table. It reads through lancedb's compiled part (`native.py`), which starts
in a tenth of the time, until it is asked for what only lancedb can do, such as writing; from then on lancedb does all.
`load()` imports lancedb without what a local table never uses: several hundred pydantic models of a REST client
(`lance_namespace_urllib3_client`, 60% of the import's CPU time), and `overrides`, a checker of signatures that takes
bytecode apart (half of the rest). Both are done for the releases they were checked with; in any other release, or when
they fail, lancedb is imported and used the plain way and nothing else changes. Knows nothing of cubes.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
import types
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memos_cli.cube import heap
from memos_cli.cube.native import Native, Words, open_native
from memos_cli.errors import Damaged, NotFound

if TYPE_CHECKING:
    import pyarrow as pa

    from memos_cli.cube.pin import Pin

# The table of the memories, whose own room is slow to import.
MEMORIES = "memories"

CHECKED_RELEASES = ("0.40.",)
UNUSED_PACKAGES = frozenset({"lance_namespace", "lance_namespace_urllib3_client", "overrides"})
# lancedb uses these names of `overrides`, as Python's own typing has them from 3.12 on.
_DECORATORS = {"override": lambda method: method, "EnforceOverrides": type("EnforceOverrides", (), {})}
# A schema with this key makes lancedb import and call a hub model named by the file: never from data we did not write.
UNSAFE_METADATA = (b"embedding_functions",)


class _Empty(types.ModuleType):
    """A module whose every public name is an empty class; names ending in Error are exceptions."""

    __path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if self.__name__ == "overrides":
            return _DECORATORS[name]
        made = type(name, (Exception,) if name.endswith("Error") else (), {})
        setattr(self, name, made)
        return made


class _Unused:
    """Finds the unused packages and loads them empty; without the base classes, whose module takes long to import."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] not in UNUSED_PACKAGES:
            return None
        loader: Any = self  # by what it can do
        return ModuleSpec(fullname, loader, is_package=True)

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        return _Empty(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """An empty module has nothing to run."""


def load() -> Any:
    """The lancedb module, imported the light way where that is known to work.

    `MEMOS_PLAIN_LANCEDB=1` asks for the plain import, to compare the two.
    """
    if "lancedb" in sys.modules or not is_checked() or UNUSED_PACKAGES & set(sys.modules):
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


def is_checked() -> bool:
    """Whether the installed release is one that the light way was tried with."""
    return not os.environ.get("MEMOS_PLAIN_LANCEDB") and _release().startswith(CHECKED_RELEASES)


@functools.cache
def _release() -> str:
    """Which lancedb is installed, "" for none, by the name of the folder that tells of it.

    importlib.metadata would look there too, and takes a twentieth of a cold query to import.
    """
    for place in filter(None, sys.path):
        with suppress(OSError):
            for name in os.listdir(place):
                if name.startswith("lancedb-") and name.endswith(".dist-info"):
                    return name.removeprefix("lancedb-").removesuffix(".dist-info")
    return ""


def _forget_since(before: set[str], *packages: str) -> None:
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in packages:
            del sys.modules[name]


class Table:
    """A table of lancedb, with all that one can be asked; reads alone do not import lancedb.

    `kept` says whether its earlier versions must stay.
    """

    kept = False

    def __init__(self, folder: Path, name: str, *, native: Native | None = None, whole: Any = None) -> None:
        self._folder, self._name, self._native, self._whole = folder, name, native, whole

    @property
    def whole(self) -> Any:
        """lancedb's own table."""
        if self._whole is None:
            self._whole, self._native = load().connect(str(self._folder)).open_table(self._name), None
        return self._whole

    @cached_property
    def uri(self) -> str:
        """Where the table lies; each question to Lance takes its time, and this never changes."""
        return str(self.__getattr__("uri"))

    @property
    def idle(self) -> bool:
        """Whether it is known that nothing was written."""
        return False

    def pinned(self) -> Pin | None:
        """Which version this is of a table elsewhere; None for one that is part of the cube."""
        return None

    def search(self, wanted: Any = None, **settings: Any) -> Any:
        """A query to build: for native.Words, for rows near a vector, or for all rows in their order."""
        if self._native is not None:
            return self._native.search(wanted, **settings)
        if isinstance(wanted, Words):
            match: Any = importlib.import_module("lancedb.query").MatchQuery
            wanted, settings = match(wanted.words, wanted.column), {**settings, "query_type": "fts"}
        return self.whole.search(wanted, **settings)

    def __getattr__(self, name: str) -> Any:
        native = self._native
        return getattr(native if native is not None and name in _READS else self.whole, name)


_READS = frozenset({"schema", "version", "uri", "count_rows", "list_indices", "take_row_ids"})


def create_table(folder: Path, name: str, *, schema: pa.Schema) -> Table:
    """A new empty table beneath `folder`."""
    heap.bound()
    return Table(folder, name, whole=load().connect(str(folder)).create_table(name, schema=schema))


def open_table(folder: Path, name: str) -> Table:
    """The table `name` beneath `folder`.

    Raises NotFound when there is none and Damaged when Lance cannot read it or its schema asks to run code.
    """
    heap.bound()
    if not (folder / f"{name}.lance").is_dir():
        raise NotFound(f"expected the table {name}.lance in {folder}, found none")
    try:
        table = Table(folder, name, native=_native(folder, name))
        schema = table.schema
    except (RuntimeError, ValueError, OSError) as error:
        raise Damaged(f"expected a readable table {name}.lance in {folder}, Lance says: {error}") from error
    refuse_unsafe(schema, where=str(folder / f"{name}.lance"))
    return table


def _native(folder: Path, name: str) -> Native | None:
    """A handle to read with, None where lancedb itself has to do it."""
    if not is_checked():
        return None
    try:
        return open_native(folder, name)
    except (ImportError, AttributeError, TypeError):
        return None


def refuse_unsafe(schema: pa.Schema, *, where: str) -> None:
    """Raises Damaged when the schema carries metadata that would make lancedb load code or models."""
    found = [key.decode() for key in UNSAFE_METADATA if key in (schema.metadata or {})]
    if found:
        raise Damaged(f"expected a plain table in {where}, its schema asks for {', '.join(found)}")


def strip_unsafe(schema: pa.Schema) -> pa.Schema:
    """The same schema without such metadata."""
    kept = {key: value for key, value in (schema.metadata or {}).items() if key not in UNSAFE_METADATA}
    return schema.with_metadata(kept or None)
