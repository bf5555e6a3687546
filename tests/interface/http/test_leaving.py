"""Who asks for a stream and goes away: the model stops, over a real socket."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.decoders import save_parrot

WORDS = 60
PAUSE_SECONDS = 0.05
ASKED = {"model": "team", "messages": [{"role": "user", "content": "Where does Ana live?"}]}


@contextmanager
def listening(app: Any) -> Iterator[int]:
    """The port at which the application is served."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


@pytest.mark.network
def test_the_model_stops_when_the_one_who_asked_goes_away(site: Callable[..., Any], work: Path) -> None:
    save_parrot(work / "parrot", " ".join(f"word{number}" for number in range(WORDS)), reader="instructed")
    spec = str(work / "parrot")
    with site(model=spec) as one, listening(one.app.asgi()) as port:
        assert one.post("/v1/chat/completions", ASKED).status_code == 200
        network = one.app.warm.model(spec, lambda: None).load().network
        passes: list[float] = []
        hook = network.register_forward_pre_hook(lambda *given: passes.append(time.monotonic()))
        assert one.post("/v1/chat/completions", ASKED).json()["usage"]["completion_tokens"] == WORDS
        whole = len(passes)
        assert whole >= WORDS
        hook.remove()
        passes.clear()

        def slow(*given: Any) -> None:
            passes.append(time.monotonic())
            time.sleep(PAUSE_SECONDS)

        hook = network.register_forward_pre_hook(slow)
        connection = HTTPConnection("127.0.0.1", port)
        headers = {"Authorization": f"Bearer {one.key}", "Content-Type": "application/json"}
        connection.request("POST", "/v1/chat/completions", json.dumps({**ASKED, "stream": True}), headers)
        response = connection.getresponse()
        while b"word" not in response.readline():
            pass
        response.close()
        connection.close()
        deadline = time.monotonic() + 60
        while one.app.gate.slots.taken and time.monotonic() < deadline:
            time.sleep(0.01)
        hook.remove()
        assert one.app.gate.slots.taken == 0
        assert 0 < len(passes) < whole / 2
        # and it answers the next one
        assert one.post("/v1/chat/completions", ASKED).status_code == 200
