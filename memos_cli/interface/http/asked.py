"""What requests may say: bodies and query strings, checked before anything is done. Unknown words are refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from memos_cli.interface.http.outcome import Refused

Text = Annotated[str, Field(min_length=1, max_length=100_000)]
Words = Annotated[str, Field(max_length=4_000)]
Names = Annotated[list[Annotated[str, Field(max_length=200)]], Field(max_length=64)]
Ids = Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=1_000)]
Many = Annotated[int, Field(ge=1, le=1000)]


class Asked(BaseModel):
    """A request's words."""

    model_config = ConfigDict(extra="forbid")


class Recalling(Asked):
    """What a query and an answer have in common."""

    text: Text
    also: Names = []
    where: Words | None = None
    as_of: Words | None = None
    true_at: Words | None = None
    mode: Literal["hybrid", "vector", "text"] = "hybrid"
    budget: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    rerank: bool = False
    time_scope: Literal["auto", "only", "off"] = "auto"
    by_use: bool = False
    k: Many | None = None


class Query(Recalling):
    """As `memos query`."""

    context: Annotated[int, Field(ge=0, le=5)] = 0
    explain: bool = False


class Answer(Recalling):
    """As `memos query --answer`; `stream` gives it as server-sent events."""

    form: Literal["auto", "plaintext", "activation", "parameter"] = "auto"
    floor: Annotated[float, Field(ge=0, le=1)] | None = None
    stream: bool = False


class Remember(Answer):
    """As `memos query --answer --remember`."""

    stream: Literal[False] = False
    reason: Words = ""


class Note(Asked):
    """As `memos ingest CUBE - --format markdown`, with the text here."""

    text: Annotated[str, Field(min_length=1, max_length=1_000_000)]
    type: Annotated[str, Field(max_length=100)] | None = None
    topic: Annotated[str, Field(max_length=400)] | None = None
    tags: Names | None = None
    sensitivity: Literal["public", "internal", "confidential", "restricted"] | None = None
    ttl_days: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    dry_run: bool = False
    reason: Words = ""


class Forget(Asked):
    """As `memos forget`: memories by one of ids, where and subject."""

    ids: Ids = []
    where: Words | None = None
    subject: Words | None = None
    dry_run: bool = False
    reason: Words = ""


class Listing(Asked):
    """As `memos list CUBE`."""

    where: Words = ""
    limit: Annotated[int, Field(ge=1, le=10_000)] = 100
    all: bool = False


class Auditing(Asked):
    """As `memos audit CUBE`."""

    deep: bool = False


class Log(Asked):
    """As `memos audit CUBE --log`."""

    since: Words | None = None
    actor: Words | None = None
    kind: Literal["read", "injection", "change", "export", "denial"] | None = None


class Nothing(Asked):
    """Nothing more than the path says."""


class Part(BaseModel):
    """A part of a message; of others than text nothing is read."""

    model_config = ConfigDict(extra="ignore")

    type: str
    text: Text | None = None


class Message(BaseModel):
    """One turn."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Annotated[str, Field(max_length=1_000_000)] | Annotated[list[Part], Field(max_length=64)] | None = None


class Injected(Asked):
    """How memory is injected: more cubes, and as an answer has it."""

    cubes: Names = []
    where: Words | None = None
    k: Many | None = None
    budget: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    form: Literal["auto", "plaintext", "activation", "parameter"] = "auto"
    floor: Annotated[float, Field(ge=0, le=1)] | None = None


class Chat(BaseModel):
    """A chat completion as OpenAI's clients ask for it; what this server has no use for is passed over."""

    model_config = ConfigDict(extra="ignore")

    model: Annotated[str, Field(min_length=1, max_length=4_000)]
    messages: Annotated[list[Message], Field(min_length=1, max_length=1_000)]
    stream: bool = False
    n: Literal[1] | None = None
    memos: Injected = Injected()


def of_body(kind: type[BaseModel], body: bytes) -> Any:
    """The words of a body of JSON. Raises Refused (422) that names what is wrong."""
    try:
        return kind.model_validate_json(body or b"{}", strict=True)
    except ValidationError as error:
        raise Refused(422, _told(error)) from error


def of_query(kind: type[BaseModel], given: dict[str, str]) -> Any:
    """The words of a query string. Raises Refused (422) that names what is wrong."""
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise Refused(422, _told(error)) from error


def _told(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])[:200]
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{place or 'the body'}: {first['msg'][:300]}{more}"
