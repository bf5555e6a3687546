"""The JSON schema of a result, from its dataclass: what `--json` prints, and what tools and requests answer."""

from __future__ import annotations

import dataclasses
import types
import typing
from datetime import datetime
from typing import Any


def schema_of(kind: Any) -> dict[str, Any]:
    """The JSON schema of a type annotation. Raises TypeError for one that has no JSON form here."""
    simple = {str: "string", int: "integer", float: "number", bool: "boolean", types.NoneType: "null"}
    if kind in simple:
        return {"type": simple[kind]}
    if kind is datetime:
        return {"type": "string", "format": "date-time"}
    if kind in (object, Any):
        return {}
    if dataclasses.is_dataclass(kind):
        return _object(typing.cast("type", kind))
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (tuple, list):
        return {"type": "array", "items": schema_of(args[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": schema_of(args[1])}
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [schema_of(arg) for arg in args]}
    if origin is typing.Literal:
        return {"enum": list(args)}
    raise TypeError(f"no JSON schema for {kind}")


def _object(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]
    return {
        "type": "object",
        "description": (kind.__doc__ or "").strip().replace("\n    ", "\n"),
        "properties": {name: schema_of(hints[name]) for name in names},
        "required": names,
        "additionalProperties": False,
    }
