"""memos info: a package, before it is fetched."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from memos_cli.commands.options import Json, Offline, Quiet, RetryFor, Sources, travel
from memos_cli.commands.pull import PACKAGE

if TYPE_CHECKING:
    from memos_cli.interface.shipped import PackageInfo


def run(
    source: Annotated[str, typer.Argument(metavar="PACKAGE", help=PACKAGE)],
    sources: Sources = None,
    offline: Offline = False,
    retry_for: RetryFor = 60.0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show a package of a store: licence, provenance, signatures, versions.

    Nothing of it is fetched but its small parts.
    """
    from memos_cli.console import Output
    from memos_cli.interface import api

    out = Output(json=json, quiet=quiet)
    told = api.info(source, travel=travel(sources, offline, retry_for), notify=out.say)
    out.one(told, _lines(told), ids=[told.digest])


def _lines(told: PackageInfo) -> Iterator[str]:
    yield f"{told.name} {told.version}    {told.reference}"
    if told.description:
        yield told.description
    yield f"licence    {told.licence or '(none told)'}"
    yield f"holds      {told.memories} memories, {', '.join(told.forms)}; {told.bytes:,} bytes; {told.sensitivity}"
    yield f"digest     {told.digest}"
    yield f"owner      {told.owner}"
    for signer in told.signers:
        yield f"signed by  {signer.key} ({signer.name}), {'believed' if signer.believed else 'not believed here'}"
    if not told.signers:
        yield "signed by  nobody"
    if told.requires:
        yield f"requires   {', '.join(f'{name} {needed}' for name, needed in told.requires.items())}"
    for one in told.versions:
        yield f"version    {one.version}" + (f"  (taken back: {one.yanked})" if one.yanked is not None else "")
    if told.provenance:
        yield from _provenance(told.provenance)
    if told.refused:
        yield f"refused    a pull would refuse it: {told.refused}"


def _provenance(said: object, path: str = "") -> Iterator[str]:
    """What the provenance tells, a value a line."""
    if isinstance(said, dict):
        for name, value in said.items():
            yield from _provenance(value, f"{path}.{name}" if path else str(name))
    elif isinstance(said, list):
        for number, value in enumerate(said[:20]):
            yield from _provenance(value, f"{path}[{number}]")
    elif said not in ("", None):
        yield f"made of    {path}: {said}"
