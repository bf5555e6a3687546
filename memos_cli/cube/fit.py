"""How what a memory was made with differs from what is at hand, field by field. Knows no model: names and values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from memos_cli.cube.digest import canonical

SHORT = 8


def differences(made: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """A sentence for each field that is not the same, in order of name; one that only one side has differs too."""
    if made == given:
        return []
    # As canonical JSON, so that a tuple and the list it became are one.
    before = {name: canonical(value) for name, value in made.items()}
    now = {name: canonical(value) for name, value in given.items()}
    names = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    return [f"{name}: made with {made.get(name)!r:.80}, this model has {given.get(name)!r:.80}" for name in names]


def label(name: str, hard: Mapping[str, Any]) -> str:
    """A model for people: its name and the start of the digest of its weights."""
    return f"{name or 'a model'}@{str(hard.get('weights', 'unknown')).removeprefix('sha256:')[:SHORT]}"
