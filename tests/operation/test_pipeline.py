"""Pipelines as they are written: what is read, what is refused and how that is told, and conditions."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memos_cli.errors import Damaged
from memos_cli.operation import pipeline, references, when
from memos_cli.operation.references import Filled, Reference

SCHEMA = json.loads((Path(__file__).parents[2] / "schemas" / "pipeline.schema.json").read_text())
WHOLE = """
name = "nightly"
about = "What runs at night."
environment = ["STORE"]

[inputs]
cube = "team.cube"
depth = 3
store = "${env.STORE}"
docs = { about = "a folder of notes" }

[[step]]
name = "ingest"
run = "ingest ${inputs.cube} ${inputs.docs} --reason 'as every night'"

[[step]]
name = "audit"
run = ["audit", "${inputs.cube}", "--deep"]
allow = [9]
timeout_seconds = 600

[[step]]
name = "push"
run = "push ${inputs.cube} ${inputs.store}"
needs = ["ingest", "audit"]
when = ["changed", "steps.audit.code == 0", "steps.ingest.result.added > 0"]
retries = 3
wait_seconds = 0.5
always = true
"""
ONE = '[[step]]\nname = "a"\nrun = "audit x.cube"\n'


def read(text: str) -> pipeline.Pipeline:
    return pipeline.read(text.encode(), where="p.toml")


def test_a_pipeline_is_read_whole() -> None:
    made = read(WHOLE)
    ingest, audit, push = made.steps
    assert (made.name, made.environment, ingest.verb) == ("nightly", ("STORE",), "ingest")
    assert made.inputs["docs"] is None
    assert made.inputs["depth"] == ("3",)
    assert made.inputs["store"] == (Reference("env", "STORE"),)
    assert ingest.words[-1] == ("as every night",)
    assert (audit.needs, audit.allow, audit.timeout_seconds) == (("ingest",), frozenset({9}), 600)
    assert (push.retries, push.wait_seconds, push.always, len(push.when)) == (3, 0.5, True, 3)
    assert made.looked_at("ingest") == (Reference("steps", "ingest", ("result", "added")),)
    assert made.before("push") == {"ingest", "audit"}
    jsonschema.validate(tomllib.loads(WHOLE), SCHEMA)


def test_steps_are_in_an_order_that_fits_what_they_need() -> None:
    made = read(
        '[[step]]\nname = "c"\nrun = "audit x"\nneeds = ["b"]\n[[step]]\nname = "a"\nrun = "audit x"\nneeds = []\n'
        '[[step]]\nname = "b"\nrun = "audit x"\nneeds = []\n'
    )
    assert [step.name for step in made.steps] == ["a", "b", "c"]


# What is wrong, what the error names, and whether the schema finds it too: it cannot see what texts say.
WRONG = [
    ("", "found none", True),
    ("step = 3", "found none", True),
    ("[[step]]\nname = 'a'", "p.toml:1: step a: expected run", True),
    ("\n\n[[step]]\nrun = 'audit x'", "p.toml:3: step 1: expected a name", True),
    ("[[step]]\nname = 'A b'\nrun = 'audit x'", "small letters", True),
    (ONE + "shell = 'rm -rf'", "step a: expected allow, always", True),
    (ONE + "[other]\n", "expected about, environment", True),
    (ONE + ONE, "two called 'a'", False),
    (ONE + "needs = ['b']", "no such step", False),
    (ONE + "needs = ['a']", "wait for each other: a", False),
    (ONE + "needs = 'a'", "list of names", True),
    (ONE + "allow = [0]", "exit codes from 1 to 10", True),
    (ONE + "allow = [true]", "exit codes from 1 to 10", True),
    (ONE + "retries = -1", "a whole number up to 20", True),
    (ONE + "retries = 1.5", "a whole number", True),
    (ONE + "timeout_seconds = 0", "timeout_seconds", True),
    (ONE + "timeout_seconds = inf", "timeout_seconds", False),
    (ONE + "wait_seconds = nan", "wait_seconds", False),
    (ONE + "always = 1", "true or false", True),
    (ONE + "when = 'changed'", "it needs none", False),
    (ONE + "when = []", "expected when", True),
    (ONE + "when = '__import__(1) == 1'", "expected inputs.NAME", False),
    (ONE + "when = 'steps.a.result.x'", "expected 'changed'", False),
    (ONE + "when = 'env.PATH == 1'", "on an input or a step", False),
    (ONE + "when = 'inputs.x == [1]'", "a value such as 9", False),
    (ONE + "when = 'inputs.x == NaN'", "a value such as 9", False),
    (ONE + "when = 'inputs.x == 1'", "no input 'x'", False),
    (ONE + "when = 'steps.b.code == 1'", "no such step", False),
    (ONE + "when = 'steps.b.env == 1'", "code, changed, lines", False),
    ("[[step]]\nname = 'a'\nrun = 'memos audit x'", "the word memos before it", False),
    ("[[step]]\nname = 'a'\nrun = ''", "expected run", True),
    ("[[step]]\nname = 'a'\nrun = []", "expected run", True),
    ("[[step]]\nname = 'a'\nrun = [1]", "expected run", True),
    ("[[step]]\nname = 'a'\nrun = \"audit 'x\"", "No closing quotation", False),
    ("[[step]]\nname = 'a'\nrun = '${inputs.x} x'", "no input 'x'|begin with a command", False),
    ("[[step]]\nname = 'a'\nrun = '--version'", "begin with a command", False),
    ("[[step]]\nname = 'a'\nrun = 'audit x --json'", "--json is not for a step", False),
    ("[[step]]\nname = 'a'\nrun = 'audit x --help'", "--help is not for a step", False),
    ("[[step]]\nname = 'a'\nrun = 'ingest x y --watch'", "--watch is not for a step", False),
    ("[inputs]\nx = '1'\n[[step]]\nname = 'a'\nrun = 'audit x --${inputs.x}'", "options to be written out", False),
    ("[[step]]\nname = 'a'\nrun = 'audit ${inputs.x'", "expected a }", False),
    ("[[step]]\nname = 'a'\nrun = 'audit ${HOME}'", "expected inputs.NAME", False),
    ("[[step]]\nname = 'a'\nrun = 'audit ${env.HOME}'", "to be listed", False),
    ("[[step]]\nname = 'a'\nrun = 'audit ${steps.a.code}'", "does not need", False),
    ("environment = ['A B']\n" + ONE, "names of variables", True),
    ("inputs = 3\n" + ONE, r"expected \[inputs\]", True),
    ("inputs = {x = []}\n" + ONE, "expected a text, a number", True),
    ("inputs = {x = {defualt = 1}}\n" + ONE, "expected about, default", True),
    ("inputs = {x = '${inputs.y}'}\n" + ONE, r"only \$\{env.NAME\}", False),
    ("a = 1\nb = = 2", "not valid TOML.*line 2", False),
]


@pytest.mark.parametrize(("text", "named", "by_schema"), WRONG, ids=[str(number) for number in range(len(WRONG))])
def test_what_is_wrong_is_named(text: str, named: str, by_schema: bool) -> None:
    with pytest.raises(Damaged, match=named) as caught:
        read(text)
    assert caught.value.message.startswith("p.toml")
    if by_schema:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(tomllib.loads(text), SCHEMA)


@pytest.mark.parametrize(
    "text",
    [
        "[[step]]\n" * 300, "a" * 300_000, "[" * 5_000, "\x00", "[[step]]\nname='a'\nrun=\"audit \\u0000\"", "\ud800",
        f"[[step]]\nname='a'\nrun='audit {'x ' * 900}'", f"[[step]]\nname='a'\nrun='audit {'x' * 9_000}'",
        f"[[step]]\nname='a'\nrun=\"audit x\"\nwhen='inputs.x == {'[' * 20_000}'", ONE + f"retries = {'9' * 4_000}",
    ],
)  # fmt: skip
def test_hostile_files_are_refused(text: str) -> None:
    with pytest.raises(Damaged):
        pipeline.read(text.encode("utf-8", "surrogatepass"), where="p.toml")


@given(st.text(max_size=200) | st.builds(lambda text: ONE + text, st.text(max_size=120)))
@settings(max_examples=60, deadline=None)
def test_any_text_is_a_pipeline_or_refused(text: str) -> None:
    try:
        made = read(text)
    except (Damaged, UnicodeEncodeError):
        return
    assert made.steps


@pytest.mark.parametrize("value", ["--yes", "-y", "-"])
def test_no_value_becomes_an_option(value: str) -> None:
    parts = references.split("${inputs.x}", where="p")
    with pytest.raises(Damaged, match="no option to come from"):
        references.fill(parts, lambda reference: Filled(value, value))
    assert references.fill(references.split("--reason=${inputs.x}", where="p"), lambda _: Filled(value, "s")) == Filled(
        f"--reason={value}", "--reason=s"
    )


def test_a_value_stays_one_word_and_is_filled_in_once() -> None:
    word = references.split("a ${inputs.x} $${inputs.x}", where="p")
    filled = references.fill(word, lambda reference: Filled("b c; ${env.HOME} $(id)", "shown"))
    assert filled == Filled("a b c; ${env.HOME} $(id) ${inputs.x}", "a shown ${inputs.x}")
    assert references.unfilled(word) == "a ${inputs.x} $${inputs.x}"


@pytest.mark.parametrize(
    ("text", "found", "so"),
    [
        ("steps.x.code == 9", 9, True), ("steps.x.code == 9", "9", False), ("steps.x.code != 9", "9", True),
        ("steps.x.code > 0.5", 1, True), ("steps.x.code<=1", 2, False), ('steps.x.code == "full"', "full", True),
        ("steps.x.code == true", True, True), ("steps.x.code == 1", True, False), ("steps.x.code == null", None, True),
        ("steps.x.code != null", 0, True), ('steps.x.code < "b"', "a", True),
    ],
)  # fmt: skip
def test_conditions(text: str, found: references.Scalar, so: bool) -> None:
    (condition,) = when.read(text, where="p")
    assert when.holds(condition, found) is so


@pytest.mark.parametrize("text", ["inputs.x == 3", "inputs.x > 2.5", 'inputs.x == "3"', "inputs.x != true"])
def test_an_input_is_the_number_that_it_says(text: str) -> None:
    (condition,) = when.read(text, where="p")
    assert when.holds(condition, "3")
    assert not when.holds(when.read("inputs.x == true", where="p")[0], "1")
    assert when.holds(when.read("inputs.x == true", where="p")[0], "true")


@pytest.mark.parametrize(
    ("text", "found"), [("steps.x.code > 0", None), ("steps.x.code > 0", "1"), ("inputs.x > true", True)]
)
def test_what_has_no_order_is_not_compared(text: str, found: references.Scalar) -> None:
    (condition,) = when.read(text, where="p")
    with pytest.raises(Damaged, match="two numbers or two texts"):
        when.holds(condition, found)
