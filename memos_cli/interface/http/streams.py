"""An answer while it is written: pieces come from the thread that writes it, and stop when nobody listens any more."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, Protocol

from starlette.responses import Response, StreamingResponse

from memos_cli.errors import Interrupted, MemosError
from memos_cli.interface.found import Answered
from memos_cli.interface.http.outcome import UNKNOWN
from memos_cli.interface.http.routes import OnText

if TYPE_CHECKING:
    from memos_cli.interface.http.serving import Application

Task = Callable[[OnText], Answered]
Item = tuple[str, Any]


class Telling(Protocol):
    """How an answer is told piece by piece."""

    def begin(self) -> bytes:
        """What comes before all pieces."""
        return b""

    def text(self, text: str) -> bytes:
        """A piece."""
        ...

    def end(self, answered: Answered) -> bytes:
        """What comes after them."""
        ...

    def error(self, told: dict[str, Any]) -> bytes:
        """What comes instead, when something went wrong after the first piece."""
        ...


async def stream(app: Application, task: Task, telling: Telling) -> Response:
    """The answer as it comes. What goes wrong before the first piece is raised, and so has a status of its own."""
    loop, pieces, gone = asyncio.get_running_loop(), asyncio.Queue[Item](), threading.Event()

    def on_text(text: str) -> None:
        if gone.is_set():
            raise Interrupted("nobody listens any more")
        loop.call_soon_threadsafe(pieces.put_nowait, ("text", text))

    future = app.begin(lambda: task(on_text))
    future.add_done_callback(lambda done: pieces.put_nowait(("done", done)))
    try:
        first = await asyncio.wait_for(pieces.get(), app.bounds.timeout_seconds)
    except TimeoutError as error:
        gone.set()
        raise app.too_long() from error
    if first[0] == "done":
        first[1].result()
    told = _told(app, first, pieces, telling, gone)
    return StreamingResponse(told, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def _told(
    app: Application, item: Item, pieces: asyncio.Queue[Item], telling: Telling, gone: threading.Event
) -> AsyncIterator[bytes]:
    try:
        async with asyncio.timeout(app.bounds.timeout_seconds):
            yield telling.begin()
            while item[0] == "text":
                yield telling.text(item[1])
                item = await pieces.get()
            yield _ended(app, item[1], telling)
    except TimeoutError:
        yield telling.error(app.teller.told(app.too_long()))
    finally:
        gone.set()


def _ended(app: Application, done: asyncio.Future[Answered], telling: Telling) -> bytes:
    error = done.exception()
    if error is None:
        return telling.end(done.result())
    if isinstance(error, MemosError):
        return telling.error(app.teller.told(error))
    return telling.error(json.loads(UNKNOWN.body)["error"])
