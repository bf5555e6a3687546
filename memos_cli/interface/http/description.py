"""The requests as OpenAPI 3.1: words from what requests may say, results by the schemas of `--json`."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel

from memos_cli import __version__
from memos_cli.interface.http import asked
from memos_cli.interface.http.routes import ROUTES, Route
from memos_cli.interface.schema import schema_of

ERRORS = {
    "401": "No key, or one that is nobody's.", "403": "The client may not.", "404": "Not there.",
    "409": "Locked by another writer, of another model, or a check fell short.", "413": "The body is too large.",
    "422": "The words are off, or the input is damaged.", "429": "Too often.", "503": "Too many at once, or not ready.",
    "504": "It took too long; a change may still be made.",
}  # fmt: skip
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "hint", "code", "type"],
            "properties": {
                "message": {"type": "string"},
                "hint": {"type": ["string", "null"]},
                "code": {"type": "integer", "description": "What the program would exit with."},
                "type": {"type": "string"},
            },
        }
    },
}


def openapi() -> dict[str, Any]:
    """The whole description."""
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {"Error": _ERROR}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    paths["/v1/models"] = {"get": _plain("list_models", "The cubes that the client reaches, as models.")}
    paths["/v1/models/{model}"] = {"get": _plain("get_model", "One of them.", path="/v1/models/{model}")}
    paths["/v1/chat/completions"] = {
        "post": {
            **_plain("chat_completions", "A chat completion that is answered from memory."),
            "requestBody": _body(asked.Chat, schemas),
        }
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "memos", "version": __version__, "description": "The memory of language models."},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
        "security": [{"key": []}],
    }


def _operation(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    name = route.result.__name__
    schemas.setdefault(name, schema_of(route.result))
    shown: dict[str, Any] = {"$ref": f"#/components/schemas/{name}"}
    if route.lists:
        items = {"type": "array", "items": shown}
        shown = {"type": "object", "required": [route.lists], "properties": {route.lists: items}}
    content: dict[str, Any] = {"application/json": {"schema": shown}}
    if "stream" in route.words.model_fields and route.name == "answer":
        content["text/event-stream"] = {"schema": {"type": "string"}}
    said = _plain(route.name, route.about, path=route.path, content=content)
    if route.method == "POST":
        return {**said, "requestBody": _body(route.words, schemas)}
    return {**said, "parameters": [*said.get("parameters", []), *_parameters(route.words)]}


def _plain(name: str, about: str, *, path: str = "", content: dict[str, Any] | None = None) -> dict[str, Any]:
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    done = {"description": "Done.", "content": content or {"application/json": {"schema": {"type": "object"}}}}
    said: dict[str, Any] = {
        "operationId": name,
        "summary": about,
        "responses": {"200": done, **{code: {"description": why, "content": error} for code, why in ERRORS.items()}},
    }
    if names := re.findall(r"{(\w+)}", path):
        said["parameters"] = [
            {"name": one, "in": "path", "required": True, "schema": {"type": "string"}} for one in names
        ]
    return said


def _body(kind: type[BaseModel], schemas: dict[str, Any]) -> dict[str, Any]:
    schema = kind.model_json_schema(ref_template="#/components/schemas/Asked{model}")
    for name, part in schema.pop("$defs", {}).items():
        schemas[f"Asked{name}"] = part
    schemas[f"Asked{kind.__name__}"] = schema
    shown = {"$ref": f"#/components/schemas/Asked{kind.__name__}"}
    return {"required": True, "content": {"application/json": {"schema": shown}}}


def _parameters(kind: type[BaseModel]) -> list[dict[str, Any]]:
    properties = kind.model_json_schema().get("properties", {})
    return [
        {"name": name, "in": "query", "required": False, "schema": _without_null(schema)}
        for name, schema in properties.items()
    ]


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A query string has no null: what may be null is what may be left out."""
    kinds = [one for one in schema.get("anyOf", []) if one.get("type") != "null"]
    return {**kinds[0]} if kinds else {name: value for name, value in schema.items() if name != "title"}
