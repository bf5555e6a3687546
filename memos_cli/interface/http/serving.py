"""The application: from a request to a call of the Memory API, done in a thread, and back as JSON or a stream.

Whoever comes is let in by the gate, and what they ask is done by their visit. All requests share one `Warm`: open
tables, one embedder, one model.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as Path_

from memos_cli.errors import MemosError, NotFound, Usage
from memos_cli.interface.desks import Notify
from memos_cli.interface.found import Answered
from memos_cli.interface.http import asked, chat
from memos_cli.interface.http.description import openapi
from memos_cli.interface.http.gate import Bounds, Gate
from memos_cli.interface.http.measures import Measures
from memos_cli.interface.http.outcome import UNKNOWN, Outcome, Refused, Teller
from memos_cli.interface.http.routes import ROUTES, Call, OnText, Route
from memos_cli.interface.http.streams import Telling, stream
from memos_cli.interface.visiting import Visit
from memos_cli.interface.warming import Warm

JSON = "application/json"
T = TypeVar("T")
Encode = Callable[[Any], str]
Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Host:
    """What is served: a home, its cubes by name (None: all that have names), the model that answers, and how results
    become JSON. With `lazy` the model is loaded when it is first asked."""

    home: Path
    served: dict[str, Path] | None
    model: str
    encode: Encode
    lazy: bool = False
    notify: Notify = lambda text: None


class Application:
    """One application, with what it keeps ready."""

    def __init__(self, host: Host, bounds: Bounds) -> None:
        self.host, self.bounds = host, bounds
        self.gate, self.measures, self.warm = Gate(host.home, bounds), Measures(), Warm()
        self.teller = Teller(host.home, host.served)
        self.pool = ThreadPoolExecutor(max_workers=bounds.at_once, thread_name_prefix="memos-serve")
        self._ready = threading.Event()
        self._description = JSONResponse(openapi())

    def asgi(self) -> Starlette:
        """What a server runs."""
        plain: list[tuple[str, str, Handler]] = [
            ("/healthz", "GET", self._alive), ("/readyz", "GET", self._whether_ready),
            ("/metrics", "GET", self._metrics), ("/openapi.json", "GET", self._openapi),
            ("/v1/models", "GET", self._models),
            ("/v1/models/{model}", "GET", self._model), ("/v1/chat/completions", "POST", self._chat),
        ]  # fmt: skip
        called = [(route.path, route.method, self._calling(route)) for route in ROUTES]
        return Starlette(
            routes=[Path_(path, self._counted(path, do), methods=[method]) for path, method, do in [*called, *plain]],
            exception_handlers={HTTPException: _refused_by_route, Exception: _unknown},
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        preparing = asyncio.get_running_loop().run_in_executor(None, self._prepare)
        yield
        self._ready.clear()
        await preparing
        # what was begun is finished, also where nobody waits for it any more
        await asyncio.get_running_loop().run_in_executor(None, self.pool.shutdown)

    def _prepare(self) -> None:
        """Loads the model, so that the first who asks does not wait for it."""
        from memos_cli.interface.respondents import respondent
        from memos_cli.operation.gate import Limits

        try:
            if not self.host.lazy:
                who = respondent(
                    self.host.model, None, form="auto", limits=Limits(), home=self.host.home, warm=self.warm
                )
                with self.warm.answering:
                    who.load()
            self._ready.set()
        except MemosError as error:
            self.host.notify(f"not ready: {error.message}")

    def _counted(self, path: str, do: Handler) -> Handler:
        async def counted(request: Request) -> Response:
            start, status = perf_counter(), UNKNOWN.status
            try:
                response = await self._answered(request, do)
                status = response.status_code
                return response
            finally:
                self.measures.note(path, request.method, status, perf_counter() - start)

        return counted

    async def _answered(self, request: Request, do: Handler) -> Response:
        try:
            return await do(request)
        except MemosError as error:
            return _response(self.teller.outcome(error))
        except ClientDisconnect:
            return Response(status_code=400)
        except OSError as error:
            return _response(self.teller.outcome(MemosError(f"a file of the server: {error.strerror or 'unreadable'}")))

    def _calling(self, route: Route) -> Handler:
        async def calling(request: Request) -> Response:
            visit = self._visit(request)
            said = await self._said(route, request)
            path = {name: str(value) for name, value in request.path_params.items()}

            def task(on_text: OnText | None = None) -> Any:
                return route.do(Call(visit, path, said, self.host.model, on_text))

            if getattr(said, "stream", False):
                return await stream(self, task, _Events(self))
            result = await self.work(task)
            if isinstance(result, Answered):
                self.measures.note_answer(result.form, result.answer_tokens)
            return Response(self._encoded(result, route.lists), media_type=JSON)

        return calling

    async def _said(self, route: Route, request: Request) -> Any:
        if route.method == "GET":
            return asked.of_query(route.words, dict(request.query_params))
        return asked.of_body(route.words, await self._body(request))

    def _encoded(self, result: Any, lists: str) -> str:
        """A result as `--json` prints it; many of them as a list that has a name."""
        if not lists:
            return self.host.encode(result)
        return f'{{"{lists}":[{",".join(self.host.encode(one) for one in result)}]}}'

    async def _chat(self, request: Request) -> Response:
        visit = self._visit(request)
        said: asked.Chat = asked.of_body(asked.Chat, await self._body(request))
        wanted = chat.Completion.of(said, visit, model=self.host.model)

        def task(on_text: OnText | None = None) -> Answered:
            return wanted.answer(visit, model=self.host.model, on_text=on_text)

        if said.stream:
            return await stream(self, task, _Chunks(self, wanted))
        answered = await self.work(task)
        self.measures.note_answer(answered.form, answered.answer_tokens)
        return JSONResponse(wanted.whole(answered))

    def _visit(self, request: Request) -> Visit:
        client = self.gate.enter(request)
        return Visit.to(self.host.home, client, served=self.host.served, warm=self.warm)

    async def _body(self, request: Request) -> bytes:
        """The body of a request. Raises Refused for one that is too large (413) or takes too long to come (408)."""
        most = self.bounds.body_bytes
        hint = "send it in parts; whoever runs the server sets the bound: memos serve --max-body BYTES"
        too_large = Refused(413, f"expected a body of at most {most:,} bytes, found more", hint)
        length = request.headers.get("content-length", "0")
        if length.isdigit() and int(length) > most:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(self.bounds.timeout_seconds):
                async for part in request.stream():
                    body += part
                    if len(body) > most:
                        raise too_large
        except TimeoutError as error:
            raise Refused(408, "the body did not come in time") from error
        return bytes(body)

    async def work(self, task: Callable[[], T]) -> T:
        """What the task gives. Raises Refused when there is no place (503), or it takes too long (504)."""
        future = self.begin(task)
        try:
            return await asyncio.wait_for(asyncio.shield(future), self.bounds.timeout_seconds)
        except TimeoutError as error:
            raise self.too_long() from error

    def begin(self, task: Callable[[], T]) -> asyncio.Future[T]:
        """The task, begun in a thread; it is finished whether or not somebody waits for it."""
        self.gate.slots.take()
        self.measures.working.set(self.gate.slots.taken)

        def held() -> T:
            try:
                return task()
            finally:
                self.gate.slots.leave()
                self.measures.working.set(self.gate.slots.taken)

        future = asyncio.get_running_loop().run_in_executor(self.pool, held)
        future.add_done_callback(lambda done: None if done.cancelled() else done.exception())
        return future

    def too_long(self) -> Refused:
        """What is answered when a task takes too long."""
        seconds = self.bounds.timeout_seconds
        return Refused(504, f"not done within {seconds:g} seconds; a change that was asked for may still be made")

    async def _alive(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _whether_ready(self, request: Request) -> Response:
        ready = self._ready.is_set()
        return JSONResponse({"ready": ready}, status_code=200 if ready else 503)

    async def _metrics(self, request: Request) -> Response:
        self.gate.enter(request)
        return Response(self.measures.told(), media_type=self.measures.kind)

    async def _openapi(self, request: Request) -> Response:
        self.gate.enter(request)
        return self._description

    async def _models(self, request: Request) -> Response:
        return JSONResponse(chat.models(self._visit(request)))

    async def _model(self, request: Request) -> Response:
        return JSONResponse(chat.model(self._visit(request), str(request.path_params["model"])))


@dataclass(frozen=True, slots=True)
class _Events(Telling):
    """An answer as server-sent events: `text` for each piece, `answer` for the whole object, `error`."""

    app: Application

    def text(self, text: str) -> bytes:
        return self._event("text", self.app.host.encode({"text": text}))

    def end(self, answered: Answered) -> bytes:
        self.app.measures.note_answer(answered.form, answered.answer_tokens)
        return self._event("answer", self.app.host.encode(answered))

    def error(self, told: dict[str, Any]) -> bytes:
        return self._event("error", self.app.host.encode({"error": told}))

    def _event(self, name: str, data: str) -> bytes:
        return f"event: {name}\ndata: {data}\n\n".encode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class _Chunks(Telling):
    """A completion in chunks, as OpenAI's clients read them."""

    app: Application
    wanted: chat.Completion

    def begin(self) -> bytes:
        return chat.event(self.wanted.first())

    def text(self, text: str) -> bytes:
        return chat.event(self.wanted.piece(text))

    def end(self, answered: Answered) -> bytes:
        self.app.measures.note_answer(answered.form, answered.answer_tokens)
        nothing = chat.event(self.wanted.piece(chat.UNKNOWN)) if answered.answer is None else b""
        return nothing + chat.event(self.wanted.last(answered)) + b"data: [DONE]\n\n"

    def error(self, told: dict[str, Any]) -> bytes:
        return chat.event({"error": told}) + b"data: [DONE]\n\n"


def _response(outcome: Outcome) -> Response:
    return Response(outcome.body, status_code=outcome.status, headers=outcome.headers, media_type=JSON)


async def _refused_by_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    told = {"message": error.detail, "hint": "GET /openapi.json", "code": NotFound.exit_code, "type": "NotFound"}
    told |= {"code": Usage.exit_code, "type": "Usage"} if error.status_code != 404 else {}
    return JSONResponse({"error": told}, status_code=error.status_code, headers=error.headers)


async def _unknown(request: Request, error: Exception) -> Response:
    # the traceback is the server's own: it goes to its log, and to nobody else
    return _response(UNKNOWN)
