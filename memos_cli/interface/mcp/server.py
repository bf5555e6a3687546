"""The questions of the protocol, answered: which tools there are for this client, what a call gives, what is where."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from memos_cli import __version__
from memos_cli.errors import MemosError, NotAllowed, Usage
from memos_cli.infrastructure.clients import LOCAL, Client
from memos_cli.infrastructure.governance import VERBS
from memos_cli.interface.http.outcome import Teller
from memos_cli.interface.mcp import doing, pages, telling
from memos_cli.interface.mcp.offers import INSTRUCTIONS, WRITING, Offer, offers
from memos_cli.interface.mcp.reach import check, told
from memos_cli.interface.visiting import Visit
from memos_cli.interface.warming import Warm

if TYPE_CHECKING:
    import mcp_types as types
    from anyio import CapacityLimiter
    from jsonschema import Draft202012Validator
    from mcp.server.context import ServerRequestContext
    from mcp.server.lowlevel import Server

T = TypeVar("T")

# So many calls at a time. A model answers one after another, and changes wait for each other rather than for a lock.
CALLS, ANSWERS, CHANGES = 4, 1, 1
# What is said of a value that is not as its schema says is shown this far.
SHOWN_CHARS = 300


@dataclass(frozen=True, slots=True)
class Host:
    """What is served: these cubes of a home (None: all that have names), with a model for answers.

    `encode` makes JSON values of a result; `who` tells the client that a request is from. `warm` is ready for all. What
    models remember waits to be accepted, unless it is `accepted` at once.
    """

    home: Path
    served: Mapping[str, Path] | None
    model: str
    encode: Callable[[Any], Any]
    who: Callable[[Any], Client]
    offers: tuple[Offer, ...] = field(default_factory=lambda: tuple(offers()))
    warm: Warm = field(default_factory=Warm)
    accepted: bool = False

    def visit(self, client: Client) -> Visit:
        """The visit of a client."""
        return Visit.to(self.home, client, served=self.served, warm=self.warm)

    def in_words(self, error: MemosError | OSError) -> str:
        """The message of an error and what to try, without the places of this machine."""
        if isinstance(error, OSError):
            return f"{Path(error.filename or 'the disk').name}: {(error.strerror or type(error).__name__).lower()}"
        words = f"{error.message}\n  try: {error.hint}" if error.hint else error.message
        return Teller(self.home, self.served).without_places(words)

    def offered(self, client: Client) -> list[Offer]:
        """The tools that a client may have: what it may not do is not even told."""
        return [offer for offer in self.offers if client.forbids(offer.verb, VERBS[offer.verb]) is None]


def build(host: Host, *, client: Client | None = None) -> Server[Any]:
    """A server of the protocol. `client` is whom all of it is for, where that is known before it begins."""
    from anyio import CapacityLimiter
    from mcp.server.lowlevel import Server

    work = _Work(host, CapacityLimiter(CALLS), CapacityLimiter(ANSWERS), CapacityLimiter(CHANGES))
    return Server(
        "memos",
        version=__version__,
        title="memos",
        instructions=_instructions(host, client),
        on_list_tools=work.list_tools,
        on_call_tool=work.call_tool,
        on_list_resources=work.list_resources,
        on_list_resource_templates=work.list_templates,
        on_read_resource=work.read_resource,
        on_list_prompts=work.list_prompts,
        on_get_prompt=work.get_prompt,
    )


def _instructions(host: Host, client: Client | None) -> str:
    """What a model is told before it calls anything. Where several clients may come, no cube is named."""
    if client is None:
        return INSTRUCTIONS.format(writing="", cubes="see the tool list")
    writes = any(offer.writes for offer in host.offered(client))
    return INSTRUCTIONS.format(writing=WRITING if writes else "", cubes=told(host.visit(client).names()))


@dataclass(frozen=True, slots=True)
class _Work:
    """The handlers. What opens a cube runs in a thread, as the client that asked."""

    host: Host
    calls: CapacityLimiter
    answers: CapacityLimiter
    changes: CapacityLimiter

    async def list_tools(self, ctx: ServerRequestContext[Any, Any], params: object) -> types.ListToolsResult:
        import mcp_types as types

        client = self.host.who(ctx)
        cubes = self.host.visit(client).names()
        return types.ListToolsResult(tools=[_tool(offer, cubes) for offer in self.host.offered(client)])

    async def call_tool(
        self, ctx: ServerRequestContext[Any, Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        offer = next((one for one in self.host.offers if one.name == params.name), None)
        if offer is None:
            raise _unknown(f"no tool {params.name[:80]!r}", name=params.name[:80])
        visit = self.host.visit(self.host.who(ctx))
        try:
            return await self._run(lambda: self._call(visit, offer, params.arguments or {}), offer)
        except NotAllowed as error:
            ours = visit.client.name == LOCAL and offer not in self.host.offered(visit.client)
            return self._failed(NotAllowed(error.message, hint="memos mcp --write, of its owner") if ours else error)
        except (MemosError, OSError) as error:
            return self._failed(error)

    def _call(self, visit: Visit, offer: Offer, arguments: Mapping[str, Any]) -> types.CallToolResult:
        """What a tool gives, as data and in words."""
        import mcp_types as types

        cubes, notices = visit.names(), list[str]()
        check_arguments(arguments, offer, cubes, visit)
        how = doing.Doing(visit, cubes, self.host.model, notices.append, self.host.accepted)
        result = doing.do(offer.name, arguments, how)
        words = types.TextContent(type="text", text=telling.tell(result, notices))
        return types.CallToolResult(content=[words], structured_content=self.host.encode(result))

    def _failed(self, error: MemosError | OSError) -> types.CallToolResult:
        """A call that failed, in words that a model can go on with; the kind and exit code of the error beside them."""
        import mcp_types as types

        kind = {"error": type(error).__name__, "exit_code": error.exit_code if isinstance(error, MemosError) else 1}
        words = types.TextContent(type="text", text=self.host.in_words(error))
        return types.CallToolResult(content=[words], is_error=True, _meta={"memos/error": kind})

    async def list_resources(self, ctx: ServerRequestContext[Any, Any], params: object) -> types.ListResourcesResult:
        import mcp_types as types

        found = pages.pages(self.host.visit(self.host.who(ctx)).names())
        resources = [
            types.Resource(
                uri=one.address, name=one.name, title=one.title, description=one.description, mime_type=pages.TYPE
            )
            for one in found
        ]
        return types.ListResourcesResult(resources=resources)

    async def list_templates(
        self, ctx: ServerRequestContext[Any, Any], params: object
    ) -> types.ListResourceTemplatesResult:
        import mcp_types as types

        templates = [
            types.ResourceTemplate(
                uri_template=one.address,
                name=one.name,
                title=one.title,
                description=one.description,
                mime_type=pages.TYPE,
            )  # fmt: skip
            for one in (pages.CUBE, pages.MEMORY)
        ]
        return types.ListResourceTemplatesResult(resource_templates=templates)

    async def read_resource(
        self, ctx: ServerRequestContext[Any, Any], params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        import mcp_types as types

        visit, address = self.host.visit(self.host.who(ctx)), str(params.uri)
        found = await self._told(lambda: pages.read(address, visit), address)
        text = json.dumps(self.host.encode(found), ensure_ascii=False)
        return types.ReadResourceResult(
            contents=[types.TextResourceContents(uri=address, mime_type=pages.TYPE, text=text)]
        )

    async def list_prompts(self, ctx: ServerRequestContext[Any, Any], params: object) -> types.ListPromptsResult:
        import mcp_types as types

        asks_cube = len(self.host.visit(self.host.who(ctx)).names()) != 1
        arguments = [
            types.PromptArgument(name="question", description="What you want to know.", required=True),
            types.PromptArgument(name="cube", description="The cube to ask.", required=asks_cube),
        ]
        prompt = types.Prompt(
            name=pages.PROMPT, title="Ask memory", description=pages.PROMPT_ABOUT, arguments=arguments
        )
        return types.ListPromptsResult(prompts=[prompt])

    async def get_prompt(
        self, ctx: ServerRequestContext[Any, Any], params: types.GetPromptRequestParams
    ) -> types.GetPromptResult:
        import mcp_types as types

        visit, said = self.host.visit(self.host.who(ctx)), params.arguments or {}
        if params.name != pages.PROMPT:
            raise _unknown(f"no prompt {params.name[:80]!r}", name=params.name[:80])
        cubes = visit.names()
        cube = said.get("cube") or (cubes[0] if len(cubes) == 1 else "")
        if not said.get("question") or not cube:
            raise _unknown("expected the arguments question and cube", name=params.name)
        text = await self._told(lambda: pages.ask_memory(said["question"], cube, visit), params.name)
        message = types.PromptMessage(role="user", content=types.TextContent(type="text", text=text))
        return types.GetPromptResult(description=pages.PROMPT_ABOUT, messages=[message])

    async def _told(self, work: Callable[[], T], what: str) -> T:
        """As `_run`, where the protocol has no result for what failed: it is an error of the protocol then."""
        try:
            return await self._run(work)
        except (MemosError, OSError) as error:
            raise _unknown(self.host.in_words(error), name=what) from error

    async def _run(self, work: Callable[[], T], offer: Offer | None = None) -> T:
        """What `work` gives, in a thread. Who stops waiting leaves a reader behind, but never half a change."""
        from anyio import CancelScope, to_thread

        writes = offer is not None and offer.writes
        answers = offer is not None and offer.name == "answer"
        limiter = self.changes if writes else self.answers if answers else self.calls
        # one that waits for its turn can still be given up; one that has begun is made to its end
        async with limiter:
            with CancelScope(shield=writes):
                found = await to_thread.run_sync(work, limiter=_unlimited(), abandon_on_cancel=not writes)
        return found  # noqa: RET504  a scope may end what is in it, as types have it


def _unlimited() -> CapacityLimiter:
    """For work that has had its turn already."""
    from anyio import CapacityLimiter

    return CapacityLimiter(1)


def check_arguments(arguments: Mapping[str, Any], offer: Offer, cubes: list[str], visit: Visit) -> None:
    """Raises Usage for arguments that are not as the schema says, NotAllowed for a cube out of the client's reach."""
    from jsonschema.exceptions import best_match

    for name in (arguments.get("cube"), *_texts(arguments.get("also"))):
        if isinstance(name, str):
            check(visit, name)
    error = best_match(_validator(offer.name, tuple(cubes)).iter_errors(dict(arguments)))
    if error is not None:
        where = f"{error.json_path.removeprefix('$.')}: " if error.path else ""
        message = error.message if len(error.message) <= SHOWN_CHARS else _shortened(error.message)
        raise Usage(f"{where}{message}", hint="the input schema of the tool says what it takes")


@lru_cache(maxsize=256)
def _validator(tool: str, cubes: tuple[str, ...]) -> Draft202012Validator:
    """What checks the arguments of a tool for one who reaches these cubes; made once for many calls."""
    from jsonschema import Draft202012Validator

    offer = next(one for one in offers() if one.name == tool)
    return Draft202012Validator(offer.input(cubes))


def _shortened(message: str) -> str:
    """Its beginning and end: the value stands first, and what is wrong with it last."""
    return f"{message[: SHOWN_CHARS // 3]}...{message[-SHOWN_CHARS // 2 :]}"


def _texts(value: object) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _unknown(message: str, *, name: str) -> Exception:
    """An error of the protocol: the request names or says what is not there."""
    import mcp_types as types
    from mcp.shared.exceptions import MCPError

    return MCPError(code=types.INVALID_PARAMS, message=message, data={"name": name})


def _tool(offer: Offer, cubes: list[str]) -> types.Tool:
    import mcp_types as types

    hints = types.ToolAnnotations(
        title=offer.title, read_only_hint=not offer.writes, destructive_hint=offer.destroys,
        idempotent_hint=offer.repeats, open_world_hint=False,
    )  # fmt: skip
    return types.Tool(
        name=offer.name, title=offer.title, description=offer.description, input_schema=offer.input(cubes),
        output_schema=offer.gives, annotations=hints,
    )  # fmt: skip
