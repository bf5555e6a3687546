"""What schemathesis makes up from the description is answered, and never by a 500."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.generation import GenerationMode
from starlette.testclient import TestClient

EXPECTED = frozenset({200, 401, 403, 404, 405, 409, 413, 422, 429})


def fuzz(one: Any, *, examples: int, mode: GenerationMode) -> int:
    """Asks so many times of every operation; how often it asked."""
    asked = 0
    headers = {"Authorization": f"Bearer {one.key}"}
    schema = schemathesis.openapi.from_dict(named(one.get("/openapi.json").json()))
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(max_examples=examples, deadline=None, database=None, derandomize=True,
                  suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate])  # fmt: skip
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            nonlocal asked
            asked += 1
            sent = case.as_transport_kwargs(base_url="http://testserver", headers=headers)
            got = send(one.http, sent)
            assert got.status_code in EXPECTED, (sent, got.status_code, got.text[:500])
            if got.status_code != 200:
                assert set(got.json()["error"]) >= {"message", "hint", "code", "type"}

        ask()
    return asked


def named(described: dict[str, Any]) -> dict[str, Any]:
    """The description with names that are there, or nothing would be asked but what is not."""
    for path in described["paths"].values():
        for operation in path.values():
            for one in operation.get("parameters", []):
                if one["in"] == "path":
                    one["schema"] = (
                        {"enum": ["team", "diary"]} if one["name"] != "memory" else {"pattern": "^[0-9a-f]{4}$"}
                    )
    described["components"]["schemas"]["AskedChat"]["properties"]["model"] = {"enum": ["team", "team+diary", "memos"]}
    return described


def send(http: TestClient, sent: dict[str, Any]) -> Any:
    known = {name: value for name, value in sent.items() if name in ("method", "url", "headers", "params", "json")}
    if "data" in sent:
        known["content"] = sent["data"] if isinstance(sent["data"], bytes) else str(sent["data"]).encode()
    return http.request(**known)


def test_a_few_of_every_request(site: Callable[..., Any]) -> None:
    with site(at_most="restricted") as one:
        assert fuzz(one, examples=2, mode=GenerationMode.POSITIVE) >= 20


@pytest.mark.long
def test_a_few_wrong_ones_of_every_request(site: Callable[..., Any]) -> None:
    with site(at_most="restricted") as one:
        assert fuzz(one, examples=6, mode=GenerationMode.NEGATIVE) > 50


@pytest.mark.slow
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_many_of_every_request(mode: GenerationMode, site: Callable[..., Any]) -> None:
    with site(at_most="restricted") as one:
        assert fuzz(one, examples=100, mode=mode) > 500
