"""Requests: who comes in, what they may, what they get, and what is in the trail afterwards."""

from __future__ import annotations

import json
import re
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from memos_cli.infrastructure import clients, door
from memos_cli.interface.http.gate import Bounds
from memos_cli.interface.http.routes import ROUTES
from memos_cli.interface.schema import schema_of
from tests.conftest import Memos
from tests.interface.http.conftest import trail_of

Serving = Callable[..., Any]


def turned_away(home: Path) -> list[dict[str, Any]]:
    return list(door.entries(home))


@pytest.mark.many(2)
@pytest.mark.parametrize(
    "header", [{}, {"Authorization": "Bearer memos_wrong"}, {"Authorization": "Basic x"}, {"Authorization": "Bearer"}]
)
def test_without_a_key_there_is_nothing_and_it_is_in_the_trail(
    header: dict[str, str], site: Serving, home: Path
) -> None:
    with site() as one:
        for route in ROUTES:
            path = route.path.format(cube="team", memory="0123")
            got = one.http.request(route.method, path, headers=header, json={"text": "passport"})
            assert got.status_code == 401
            assert got.headers["www-authenticate"] == "Bearer"
            assert set(got.json()["error"]) == {"message", "hint", "code", "type"}
            assert "drawer" not in got.text
        for path in ("/metrics", "/openapi.json", "/v1/models"):
            assert one.http.get(path, headers=header).status_code == 401
        assert one.http.get("/healthz").json() == {"status": "ok"}
        assert one.http.get("/readyz").status_code in (200, 503)
    lines = turned_away(home)
    assert len(lines) == len(ROUTES) + 3
    assert {line["outcome"] for line in lines} == {"denied"}
    assert lines[0]["facts"]["why"] in ("no key", "wrong key")
    assert "wrong" not in json.dumps([line["facts"] | {"why": ""} for line in lines])


def test_a_client_that_is_revoked_is_nobody_at_once(site: Serving, home: Path, memos: Memos) -> None:
    with site() as one:
        assert one.get("/v1/cubes").status_code == 200
        assert memos("clients", "revoke", "asker").code == 0
        assert one.get("/v1/cubes").status_code == 401


def test_many_strangers_do_not_fill_the_disk(site: Serving, home: Path) -> None:
    with site() as one:
        for _ in range(80):
            assert one.http.get("/v1/cubes").status_code == 401
    assert len(turned_away(home)) == 60


def test_outside_its_scope_a_client_gets_nothing_and_it_is_in_the_trail(site: Serving, home: Path) -> None:
    with site(may=("read",), cubes=["team"]) as one:
        for path, body in (("memories", {"text": "New."}), ("forget", {"subject": "Ana"})):
            got = one.post(f"/v1/cubes/team/{path}", body)
            assert (got.status_code, got.json()["error"]["code"]) == (403, 5)
            last = trail_of(home, "team")[-1]
            assert (last["outcome"], last["actor"]["client"]) == ("denied", "asker")
        for cube in ("diary", "nonesuch"):
            got = one.post(f"/v1/cubes/{cube}/query", {"text": "diary"})
            assert got.status_code == 403
            assert got.json()["error"]["message"] == f"client 'asker' does not reach a cube '{cube}'"
        assert [line["facts"]["cube"] for line in turned_away(home)] == ["diary", "nonesuch"]
        assert [cube["name"] for cube in one.get("/v1/cubes").json()["cubes"]] == ["team"]
        assert [model["id"] for model in one.get("/v1/models").json()["data"]] == ["team"]


def test_a_label_above_its_bound_is_not_there(site: Serving) -> None:
    with site(name="low") as low, site(name="high", at_most="restricted") as high:
        asked = {"text": "what is the salary of Ana?"}
        for _ in range(2):  # the second time from what is ready
            assert "secret" not in low.post("/v1/cubes/team/query", asked).text
            assert "secret" in high.post("/v1/cubes/team/query", asked).text
        assert low.get("/v1/cubes/team/audit").status_code == 403


def test_clients_share_what_is_ready_and_not_what_they_see(site: Serving, home: Path) -> None:
    _, other = clients.add(home, clients.bounded("high", cubes=["*"], at_most="restricted"))
    with site() as one:

        def ask(number: int) -> tuple[bool, bool]:
            key = other if number % 2 else one.key
            got = one.http.post("/v1/cubes/team/query", headers={"Authorization": f"Bearer {key}"},
                                json={"text": f"salary of Ana {number}"})  # fmt: skip
            assert got.status_code == 200, got.text
            return "secret" in got.text, bool(number % 2)

        with ThreadPoolExecutor(6) as pool:
            seen = list(pool.map(ask, range(24)))
    assert all(told == may for told, may in seen)


def test_every_result_is_as_its_schema_says(site: Serving) -> None:
    with site(at_most="restricted") as one:
        given: dict[str, Any] = {
            "_note": {"text": "A note."}, "_query": {"text": "passport", "explain": True, "budget": 50},
            "_forget": {"subject": "Bob", "dry_run": True},
        }  # fmt: skip
        memory = one.get("/v1/cubes/team/memories").json()["memories"][0]["id"]
        for route in ROUTES:
            if route.do.__name__ in ("_answer", "_remember"):
                continue
            path = route.path.format(cube="team", memory=memory)
            got = one.post(path, given[route.do.__name__]) if route.method == "POST" else one.get(path)
            assert got.status_code == 200, got.text
            for item in got.json()[route.lists] if route.lists else [got.json()]:
                jsonschema.validate(item, schema_of(route.result))


def test_what_is_remembered_is_found_and_what_is_forgotten_is_not(site: Serving, home: Path) -> None:
    with site() as one:
        done = one.post("/v1/cubes/team/memories", {"text": "Cleo keeps bees.", "type": "fact", "tags": ["bees"]})
        assert done.json()["added"] == 1
        found = one.post("/v1/cubes/team/query", {"text": "who keeps bees?", "k": 1}).json()["hits"][0]
        assert (found["text"], found["type"], found["tags"]) == ("Cleo keeps bees.", "fact", ["bees"])
        assert one.get(f"/v1/cubes/team/memories/{found['id'][:8]}").json()["text"] == "Cleo keeps bees."
        assert one.post("/v1/cubes/team/forget", {"ids": [found["id"]]}).json()["ids"] == [found["id"]]
        assert "bees" not in json.dumps(one.post("/v1/cubes/team/query", {"text": "who keeps bees?"}).json()["hits"])
        lines = one.get("/v1/cubes/team/access-log", params={"actor": "asker", "kind": "change"})
        # who does not see all of a cube is not told who else did what
        assert lines.status_code == 403


@pytest.mark.many(6)
@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("team/query", {"text": "x", "where": "a b"}, 422, 2), ("team/query", {"text": "x", "as_of": "soon"}, 422, 2),
        ("team/query", {"text": "x", "nope": 1}, 422, 2), ("team/query", {"text": ""}, 422, 2),
        ("team/query", {"text": " "}, 422, 2), ("team/query", {"text": 7}, 422, 2),
        ("team/query", {"text": "x", "also": ["team"]}, 422, 2), ("team/query", {"text": "x", "k": 0}, 422, 2),
        ("team/query", {"text": "x", "also": ["/etc/x.cube"]}, 403, 5), ("none/query", {"text": "x"}, 404, 3),
        ("team/forget", {"ids": ["ffffffff"]}, 404, 3), ("team/forget", {}, 422, 2),
        ("team/forget", {"where": "source=none"}, 404, 3), ("..%2f..%2fx/query", {"text": "x"}, 404, 3),
        ("%00/query", {"text": "x"}, 422, 2), ("team/memories", {"text": " \n"}, 422, 2),
        ("team/memories", {"text": "x", "ttl_days": 4_000_000}, 422, 2),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_as_at_the_terminal(
    path: str, body: dict[str, Any], status: int, code: int, site: Serving, home: Path
) -> None:
    with site() as one:
        got = one.post(f"/v1/cubes/{path}", body)
        assert (got.status_code, got.json()["error"]["code"]) == (status, code), got.text
        assert str(home) not in got.text
        assert "Traceback" not in got.text


@pytest.mark.many(3)
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"text": "\\ud800"}', b"\xff\xfe", b"[" * 100_000])
def test_no_body_is_too_odd(body: bytes, site: Serving) -> None:
    with site() as one:
        for path in ("/v1/cubes/team/query", "/v1/chat/completions"):
            headers = {"Authorization": f"Bearer {one.key}"}
            assert one.http.post(path, headers=headers, content=body).status_code == 422


def test_what_is_not_there_is_told_as_json(site: Serving) -> None:
    with site() as one:
        assert one.get("/v2/x").json()["error"]["type"] == "NotFound"
        assert one.http.put("/v1/cubes/team").status_code == 405


def test_a_body_that_is_too_large_is_refused(site: Serving) -> None:
    with site(bounds=Bounds(body_bytes=2000)) as one:
        headers = {"Authorization": f"Bearer {one.key}"}
        asked = json.dumps({"text": "x" * 3000}).encode()
        assert one.http.post("/v1/cubes/team/query", headers=headers, content=asked).status_code == 413
        pieces = (asked[start : start + 500] for start in range(0, len(asked), 500))
        assert one.http.post("/v1/cubes/team/query", headers=headers, content=pieces).status_code == 413


def test_who_asks_too_often_waits_and_nobody_else(site: Serving, home: Path) -> None:
    _, other = clients.add(home, clients.bounded("other", cubes=["*"]))
    with site(bounds=Bounds(rate="3/minute")) as one:
        assert [one.get("/v1/models").status_code for _ in range(4)] == [200, 200, 200, 429]
        assert 1 <= int(one.get("/v1/models").headers["retry-after"]) <= 60
        assert one.http.get("/v1/models", headers={"Authorization": f"Bearer {other}"}).status_code == 200


def test_no_more_at_once_than_there_are_places(site: Serving) -> None:
    with site(bounds=Bounds(at_once=1)) as one:
        one.app.gate.slots.take()
        got = one.post("/v1/cubes/team/query", {"text": "passport"})
        assert (got.status_code, got.headers["retry-after"]) == (503, "1")
        assert one.http.get("/healthz").status_code == 200
        one.app.gate.slots.leave()
        assert one.post("/v1/cubes/team/query", {"text": "passport"}).status_code == 200


def test_what_takes_too_long_is_told_and_keeps_its_place_until_it_is_done(site: Serving) -> None:
    with site(bounds=Bounds(timeout_seconds=0.3)) as one:
        with one.app.warm.recalling:
            got = one.post("/v1/cubes/team/query", {"text": "passport"})
            assert got.status_code == 504
            assert one.app.gate.slots.taken == 1
        deadline = time.monotonic() + 20
        while one.app.gate.slots.taken and time.monotonic() < deadline:
            time.sleep(0.01)
        assert one.app.gate.slots.taken == 0


def test_what_goes_wrong_here_is_told_without_a_traceback(site: Serving, home: Path) -> None:
    with site() as one:
        (home / "clients.toml").write_text("[[[")
        got = one.get("/v1/cubes")
        assert got.status_code == 422
        assert str(home) not in got.text


def test_measures_tell_routes_and_not_names(site: Serving) -> None:
    with site() as one:
        one.post("/v1/cubes/team/query", {"text": "passport"})
        one.post("/v1/cubes/none/query", {"text": "passport"})
        told = one.get("/metrics").text
    assert 'memos_requests_total{method="POST",route="/v1/cubes/{cube}/query",status="200"} 1.0' in told
    assert 'status="404"} 1.0' in told
    assert "passport" not in told
    assert "none" not in told


def test_only_what_was_named_is_served(site: Serving, work: Path, memos: Memos) -> None:
    assert memos("ingest", "./own.cube", "notes.md", "--embedder", "none").code == 0
    with site(named=("./own.cube", "diary")) as one:
        told = one.get("/v1/cubes").json()["cubes"]
        assert sorted(cube["path"] for cube in told) == ["diary", "own"]
        assert one.post("/v1/cubes/own/query", {"text": "passport"}).json()["cubes"] == ["own"]
        assert one.post("/v1/cubes/team/query", {"text": "passport"}).status_code == 403


def _remove(root: Path) -> None:
    shutil.rmtree(root)


def _lose_the_way(root: Path) -> None:
    (root / "current").unlink()


def _put_a_file(root: Path) -> None:
    shutil.rmtree(root)
    root.write_text("no cube\n")


def _lose_the_table(root: Path) -> None:
    shutil.rmtree((root / "current").resolve() / "plaintext")


@pytest.mark.many(2)
@pytest.mark.parametrize("harm", [_remove, _lose_the_table, _lose_the_way, _put_a_file])
@pytest.mark.parametrize("named", [(), ("team", "diary")])
def test_a_cube_that_is_gone_is_told_and_takes_no_other_along(
    named: tuple[str, ...], harm: Callable[[Path], None], site: Serving, home: Path
) -> None:
    with site(named=named) as one:
        assert one.post("/v1/cubes/team/query", {"text": "passport"}).status_code == 200
        harm(home / "cubes" / "team.cube")
        asked = [
            one.post("/v1/cubes/team/query", {"text": "Ana"}), one.post("/v1/cubes/team/memories", {"text": "More."}),
            one.get("/v1/cubes/team/audit"), one.get("/v1/cubes/team/memories"), one.get("/v1/cubes/team"),
            one.get("/v1/cubes"), one.get("/v1/models"),
        ]  # fmt: skip
        for got in asked:
            assert got.status_code in (200, 404, 422), (got.url, got.status_code, got.text)
            assert str(home) not in got.text
            if got.status_code != 200:
                assert re.search("cube|team", got.json()["error"]["message"])
        assert one.post("/v1/cubes/diary/query", {"text": "diary"}).status_code == 200


def test_an_answer_is_written_once_streamed_and_completed(site: Serving, home: Path) -> None:
    asked = {"text": "Where does Ana live?"}
    with site() as one:
        whole = one.post("/v1/cubes/team/answer", asked).json()
        assert whole["answer"] == "Lindau"
        with one.http.stream(
            "POST",
            "/v1/cubes/team/answer",
            headers={"Authorization": f"Bearer {one.key}"},
            json={**asked, "stream": True},
        ) as streamed:
            lines = [line for line in streamed.iter_lines() if line]
        assert streamed.headers["content-type"].startswith("text/event-stream")
        events = dict(zip(lines[::2], lines[1::2], strict=True))
        assert json.loads(events["event: text"].removeprefix("data: ")) == {"text": "Lindau"}
        assert json.loads(events["event: answer"].removeprefix("data: "))["answer"] == "Lindau"
        wrong = one.post("/v1/cubes/none/answer", {**asked, "stream": True})
        assert wrong.status_code == 404
        said = [{"type": "text", "text": asked["text"]}]
        turns = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": said}]
        chat = {"model": "team", "messages": turns, "temperature": 0.2}
        done = one.post("/v1/chat/completions", chat).json()
        assert done["choices"][0]["message"]["content"] == "Lindau"
        assert done["memos"]["form"] == "plaintext"
        assert done["memos"]["memories"][0]["cited"]
        assert done["usage"]["total_tokens"] == done["usage"]["prompt_tokens"] + done["usage"]["completion_tokens"]
        pieces = one.post("/v1/chat/completions", {**chat, "stream": True}).text.split("\n\n")
        assert pieces[-2:] == ["data: [DONE]", ""]
        chunks = [json.loads(piece.removeprefix("data: ")) for piece in pieces[:-2]]
        assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == "Lindau"
        assert chunks[-1]["memos"]["answered"]
        unknown = {"model": "team+diary", "messages": [{"role": "user", "content": "Who won the cup in 1974?"}]}
        told = one.post("/v1/chat/completions", unknown).json()
        assert (told["choices"][0]["message"]["content"], told["memos"]["answered"]) == ("not in memory", False)
        kept = one.post("/v1/cubes/team/remember", asked).json()
        assert kept["remembered"]["fresh"]
        # what a model wrote is not recalled before a person accepted it
        assert one.post("/v1/cubes/team/query", asked).json()["hits"][0]["state"] == "activated"
        for body in ({"model": "memos", "messages": [{"role": "user", "content": "x"}]},
                     {"model": "team", "messages": [{"role": "system", "content": "x"}]},
                     {"model": "team", "messages": []}, {**chat, "n": 2}):  # fmt: skip
            assert one.post("/v1/chat/completions", body).status_code == 422
    asked_lines = [line for line in trail_of(home, "team") if line["kind"] == "injection"]
    assert {line["actor"]["client"] for line in asked_lines} == {"asker"}


def test_an_answer_that_nobody_waits_for_gives_its_place_back(site: Serving) -> None:
    with site(bounds=Bounds(timeout_seconds=0.3, at_once=2)) as one:
        with one.app.warm.answering:
            got = one.post("/v1/cubes/team/answer", {"text": "Where does Ana live?", "stream": True})
            assert got.status_code == 504
        deadline = time.monotonic() + 60
        while one.app.gate.slots.taken and time.monotonic() < deadline:
            time.sleep(0.01)
        assert one.app.gate.slots.taken == 0
        assert threading.active_count() < 40
