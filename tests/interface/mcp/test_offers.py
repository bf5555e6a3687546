"""What is offered: schemas that are schemas, and to each client what it may do and no more."""

from __future__ import annotations

import json
import subprocess
import sys

import jsonschema
import pytest

from memos_cli.infrastructure.clients import bounded, local
from memos_cli.interface.mcp.doing import _DOING
from memos_cli.interface.mcp.offers import Offer, offers
from schemas import generate
from tests.interface.mcp.talking import environment

OFFERS = {offer.name: offer for offer in offers()}
# The schema of `--json` that a tool's result is of.
SCHEMAS = {"recall": "query", "answer": "query-answer", "audit": "audit", "remember": "ingest", "forget": "forget"}


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
@pytest.mark.parametrize("cubes", [[], ["team"], ["team", "other"], [f"c{n}" for n in range(99)]], ids=len)
def test_what_goes_in_has_a_schema(offer: Offer, cubes: list[str]) -> None:
    schema = offer.input(cubes)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert set(schema["required"]) <= set(schema["properties"])
    assert ("cube" in schema["required"]) == (len(cubes) != 1 and offer.name != "list")
    assert all(part["description"] for part in schema["properties"].values())


@pytest.mark.parametrize("name", SCHEMAS)
def test_what_comes_out_is_as_the_program_prints_it(name: str) -> None:
    assert OFFERS[name].gives == generate.schema_of(generate.OUTPUTS[SCHEMAS[name]])


def test_lists_are_of_what_the_program_prints() -> None:
    gives = OFFERS["list"].gives["properties"]
    assert gives["cubes"]["items"] == generate.schema_of(generate.OUTPUTS["list"])
    assert gives["memories"]["items"] == generate.schema_of(generate.OUTPUTS["list-memories"])


def test_a_few_cubes_are_named_and_many_are_not() -> None:
    assert OFFERS["recall"].input(["a", "b"])["properties"]["cube"]["enum"] == ["a", "b"]
    assert "enum" not in OFFERS["recall"].input([f"c{n}" for n in range(99)])["properties"]["cube"]
    assert "also" not in OFFERS["recall"].input(["a"])["properties"]


def test_every_tool_does_something() -> None:
    assert set(_DOING) == set(OFFERS) == {"remember", "recall", "answer", "forget", "list", "audit"}
    assert {name for name, offer in OFFERS.items() if offer.writes} == {"remember", "forget"}
    assert [name for name, offer in OFFERS.items() if offer.destroys] == ["forget"]


@pytest.mark.parametrize(
    ("may", "shown"),
    [
        (["read"], ["recall", "answer", "list", "audit"]),
        (["read", "write"], list(OFFERS)),
        (["query"], ["recall", "answer"]),
        (["ingest"], ["remember"]),
    ],
)
def test_a_client_is_offered_what_it_may_do(may: list[str], shown: list[str]) -> None:
    from tests.interface.mcp.talking import Host

    host = Host.__new__(Host)
    object.__setattr__(host, "offers", tuple(offers()))
    assert [offer.name for offer in host.offered(bounded("one", may=may))] == shown
    assert [offer.name for offer in host.offered(local(may=may))] == shown


@pytest.mark.long
def test_other_commands_do_not_import_the_protocol(tmp_path) -> None:
    program = (
        "import sys, runpy\nsys.argv = ['memos', 'list']\n"
        "try:\n    runpy.run_module('memos_cli', run_name='__main__')\nexcept SystemExit:\n    pass\n"
        "sys.exit(str({'mcp', 'pydantic', 'starlette', 'uvicorn', 'anyio'} & set(sys.modules) or ''))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment(tmp_path), check=False
    )
    assert done.stderr.strip() == "", json.dumps(done.stderr)


def test_behind_a_proxy_it_goes_by_the_name_that_was_told() -> None:
    from memos_cli.interface.mcp.streaming import Address

    told = Address("0.0.0.0", names=("memory.example.org",)).security(8011)
    assert {"memory.example.org", "memory.example.org:*", "127.0.0.1:8011"} <= set(told.allowed_hosts)
    assert "https://memory.example.org" in told.allowed_origins
    assert not [host for host in Address().security(8011).allowed_hosts if not host.endswith(":8011")]
