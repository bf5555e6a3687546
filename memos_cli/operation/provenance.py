"""Of what and by what a package was made, in the words of SLSA provenance: sources, models, operation, tool.

A function of a version's files and of what was asked for, so that equal packages say the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from memos_cli.cube import activation, sources
from memos_cli.cube.digest import Manifest, hash_file
from memos_cli.cube.metadata import Memcube
from memos_cli.cube.toml import read_toml

BUILD_TYPE = "urn:memos:pack:v1"
# Beyond so many the catalogue's own digest speaks for them, so that a statement stays small.
MOST_SOURCES = 100


def of_version(
    folder: Path, cube: Memcube, manifest: Manifest, *, asked: Mapping[str, Any], tool: str
) -> dict[str, Any]:
    """The predicate of a provenance statement for the version in `folder`."""
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": dict(asked),
            "internalParameters": {"operation": manifest.operation, "version": manifest.version, "cube_id": cube.id},
            "resolvedDependencies": [*_sources(folder), *_models(folder, cube)],
        },
        "runDetails": {"builder": {"id": tool}, "metadata": {"startedOn": manifest.time}},
    }


def _sources(folder: Path) -> Iterator[dict[str, Any]]:
    known = sources.read(folder / "plaintext")
    catalogue = folder / "plaintext" / sources.FILE
    if catalogue.is_file():
        said = {"sources": len(known)}
        yield {"name": "catalogue", "digest": {"sha256": hash_file(catalogue)}, "annotations": said}
    for uri in list(known)[:MOST_SOURCES]:
        digest = known[uri].digest.removeprefix("sha256:")
        yield {"name": "source", "uri": uri[:500], "digest": {"sha256": digest}}


def _models(folder: Path, cube: Memcube) -> Iterator[dict[str, Any]]:
    """The models that made what is in the version: the embedder, those of caches, those of adapters."""
    if embedder := cube.plaintext.embedder:
        yield {"name": "embedder", "uri": embedder.name, "digest": {"sha256": embedder.digest.removeprefix("sha256:")}}
    found: dict[str, str] = {}
    for path in activation.find(folder / activation.FOLDER):
        header = activation.read(path).header
        found[str(header.hard.get("weights", ""))] = str(header.source.get("model", ""))
    for place in sorted((folder / "parameter").glob("*/memory.toml")):
        base = read_toml(place).get("base")
        if isinstance(base, dict):
            hard = base.get("hard")
            weights = hard.get("weights", "") if isinstance(hard, dict) else ""
            found[str(weights)] = str(base.get("name", ""))
    for weights, name in sorted(found.items()):
        yield {"name": "base model", "uri": name[:200], "digest": {"sha256": weights.removeprefix("sha256:")}}
