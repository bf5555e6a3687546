"""What schemathesis makes up from the description is answered, and never by a 500."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from starlette.testclient import TestClient

EXPECTED = frozenset({200, 401, 403, 404, 405, 409, 413, 422, 429})


def fuzz(one: Any, *, examples: int, mode: GenerationMode) -> int:
    """Asks so many times of every operation; how often it asked."""
    asked = 0
    headers = {"Authorization": f"Bearer {one.key}"}
    schema = schemathesis.openapi.from_dict(one.get("/openapi.json").json())
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


def send(http: TestClient, sent: dict[str, Any]) -> Any:
    known = {name: value for name, value in sent.items() if name in ("method", "url", "headers", "params", "json")}
    if "data" in sent:
        known["content"] = sent["data"] if isinstance(sent["data"], bytes) else str(sent["data"]).encode()
    return http.request(**known)


def test_a_few_of_every_request(site: Callable[..., Any]) -> None:
    with site(at_most="restricted") as one:
        asked = fuzz(one, examples=4, mode=GenerationMode.POSITIVE)
        asked += fuzz(one, examples=4, mode=GenerationMode.NEGATIVE)
    assert asked > 50
    assert not_a_server_error


@pytest.mark.slow
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_many_of_every_request(mode: GenerationMode, site: Callable[..., Any]) -> None:
    with site(at_most="restricted") as one:
        assert fuzz(one, examples=100, mode=mode) > 500
