"""The way to a store by the scheme of its reference."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from memos_cli.errors import StoreFailed, Usage
from memos_cli.infrastructure.store.reference import Place, Reference
from memos_cli.infrastructure.store.transport import Files, Transport
from memos_cli.infrastructure.store.wire import Wire


@dataclass(frozen=True, slots=True)
class Ways:
    """What is needed to get to any store: the wire, and the home's folder for unfinished uploads."""

    home: Path
    wire: Wire = field(default_factory=Wire)

    def package(self, reference: Reference, *, writing: bool = False) -> Transport:
        """The package that a reference names, whatever its version. Raises Usage, MissingExtra, StoreFailed."""
        if reference.scheme in ("oci", "oci+http"):
            from memos_cli.infrastructure.store.registry import Registry

            return Registry(reference, wire=self.wire, state=self.home / "cache" / "uploads", writing=writing)
        from memos_cli.infrastructure.store.layout import Layout

        if writing and reference.scheme in ("http", "https"):
            raise StoreFailed(f"{reference.package} is on a web server, and can only be read",
                              hint="push to the folder that it serves: file:///...")  # fmt: skip
        return Layout(self.files(reference.scheme, f"{reference.place}/{reference.name}"))

    def files(self, scheme: str, path: str) -> Files:
        """The tree of files at a place. Raises Usage, MissingExtra, StoreFailed."""
        place = f"{scheme}://{path}"
        if scheme == "file":
            from memos_cli.infrastructure.store.folder import Folder

            return Folder(Path(os.path.abspath(path)), place=place)
        self._check_network(scheme, place)
        if scheme == "hf":
            from memos_cli.infrastructure.store.hub import Hub

            return Hub(path, wire=self.wire)
        if scheme in ("http", "https"):
            from memos_cli.infrastructure.store.web import Web

            return Web(place, wire=self.wire)
        if scheme in ("s3", "gs", "az"):
            from memos_cli.infrastructure.store.objects import Objects

            return Objects(place, retry_seconds=self.wire.retry_seconds)
        raise Usage(f"{scheme}:// is a registry, not a tree of files")

    def packages(self, place: Place) -> Sequence[str]:
        """The names of the packages at a place, as far as it can tell."""
        if place.scheme in ("oci", "oci+http"):
            from memos_cli.infrastructure.store.registry import repositories

            return repositories(place.scheme, place.path, wire=self.wire)
        if place.scheme == "hf":
            from memos_cli.infrastructure.store import hub

            self._check_network(place.scheme, str(place))
            return hub.repositories(place.path, wire=self.wire)
        files = self.files(place.scheme, place.path)
        return [name for name in files.folders() if files.size(f"{name}/index.json") is not None]

    def _check_network(self, scheme: str, place: str) -> None:
        """Raises StoreFailed when the network is not to be used for this place."""
        if self.wire.offline:
            raise StoreFailed(f"--offline, and {place} is on the network", hint="the same without --offline")
        if scheme == "hf":
            from memos_cli.infrastructure.store.hubline import is_switched_off

            if is_switched_off():
                raise StoreFailed(f"HF_HUB_OFFLINE is set, and {place} is on the hub", hint="HF_HUB_OFFLINE=0")
