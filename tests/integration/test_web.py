"""The URLs of jobs: a real ASGI server, real Redis, and browsers that come, look on, vanish and lie."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from importlib.resources import files
from typing import Any, Self

import httpx
import pytest
import uvicorn
from pydantic import SecretStr

from tasks_bridge import JobState
from tasks_bridge.callbacks import callback_url
from tasks_bridge.sandbox import SandboxServer
from tasks_bridge.store import Purpose, RedisStore
from tasks_bridge.store.redis import connect
from tasks_bridge.tokens import TokenPurpose, sign
from tasks_bridge.web.answers import Answer, Request, Stream
from tasks_bridge.web.asgi import JobsApp
from tasks_bridge.web.endpoints import CALLBACK_MAX_BYTES, Endpoints
from tasks_bridge.web.follow import follow
from tasks_bridge.web.hub import Hub, hub_of
from tasks_bridge.web.links import status_token
from tests.integration.lab import Lab, commands, eventually

SECRET = SecretStr("links are signed with these characters")
OTHER_SECRET = SecretStr("and somebody else signs with these instead")
STREAMS = 220
NOW = 1_800_000_000.0
OUTPUT = [{"type": "image", "url": "https://cdn.example/fox.png"}]


# -- what is looked at ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def web(redis_url: str, sandbox: SandboxServer) -> Iterator[Lab]:
    """An app whose jobs are moved by the tests themselves: no worker."""
    lab = Lab(
        redis_url,
        sandbox,
        secret_key=SECRET,
        callback_base_url="http://127.0.0.1:9/bytespike/callback",
        stream_limit=STREAMS,
        lease_s=60,
    )
    with lab.current():
        yield lab


class Page:
    """The endpoints as one page of an application calls them, without a server."""

    def __init__(self, lab: Lab) -> None:
        self._endpoints = Endpoints(lab.app)

    def __getattr__(self, name: str) -> Callable[..., Answer]:
        def call(*args: Any, method: str = "GET", **request: Any) -> Answer:
            answer: Answer = getattr(self._endpoints, name)(*args, Request(method, **request))
            return answer

        return call


def read(answer: Answer) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(answer.body)
    return content


@pytest.fixture
def page(web: Lab) -> Page:
    return Page(web)


def test_a_link_shows_its_job_and_offers_what_it_allows(web: Lab, page: Page) -> None:
    job_id = web.started()
    seeing = status_token(job_id, app=web.app)
    steering = status_token(job_id, may_cancel=True, app=web.app)

    document = read(page.status(seeing))
    assert (document["id"], document["state"]) == (job_id, "QUEUED")
    assert not {"events_url", "cancel_url"} & document.keys()
    assert read(page.status(seeing, can_stream=True))["events_url"] == f"{seeing}/events"
    assert read(page.status(steering))["cancel_url"] == f"{steering}/cancel"

    etag = page.status(seeing).headers["ETag"]
    assert page.status(seeing, if_none_match=etag).status == 304
    web.move(job_id, JobState.RUNNING)
    assert page.status(seeing, if_none_match=etag).status == 200


def test_a_link_that_is_none_shows_nothing_and_changes_nothing(web: Lab, page: Page) -> None:
    job_id = web.started()
    before = web.bridge.store.get([job_id])[0]
    assert before is not None
    good = sign(SECRET, TokenPurpose.CONTROL, job_id, expires_at=time.time() + 60)
    bad = [
        sign(SECRET, TokenPurpose.CALLBACK, job_id),
        sign(OTHER_SECRET, TokenPurpose.CONTROL, job_id, expires_at=time.time() + 60),
        sign(SECRET, TokenPurpose.CONTROL, job_id, expires_at=time.time() - 1),
        sign(SECRET, TokenPurpose.CONTROL, "never-seen", expires_at=time.time() + 60),
        good[:-1],
        good.replace(job_id, "another"),
        job_id,
        "é" * 1000,
        "",
    ]

    for token in bad:
        answers = [page.status(token), page.events(token), page.cancel(token, method="POST")]
        assert [answer.status for answer in answers] == [404] * 3
        assert {answer.body for answer in answers} == {answers[0].body}
        assert read(answers[0])["error"]["code"] == "not_found"
    after = web.bridge.store.get([job_id])[0]
    assert after is not None
    assert (after.cancel, after.due_at) == (None, before.due_at)


def test_a_link_cancels_only_if_it_was_made_to(web: Lab, page: Page) -> None:
    job_id = web.started()
    seeing, steering = (status_token(job_id, may_cancel=may, app=web.app) for may in (False, True))

    assert page.cancel(seeing, method="POST").status == 403
    assert page.cancel(steering, method="GET").status == 405
    assert read(page.status(seeing))["is_cancelling"] is False

    first, again = (page.cancel(steering, method="POST") for _ in range(2))
    assert (first.status, again.status) == (202, 202)
    assert read(again)["is_cancelling"] is True
    web.move(job_id, JobState.COMPLETED, output=OUTPUT)
    late = page.cancel(steering, method="POST")
    assert (late.status, read(late)["outputs"]) == (200, OUTPUT)


def test_every_endpoint_refuses_methods_that_are_not_its_own(web: Lab, page: Page) -> None:
    job_id = web.started()
    token = status_token(job_id, may_cancel=True, app=web.app)
    (before,) = web.bridge.store.get([job_id])

    for name, allowed in {
        "status": {"GET", "HEAD"},
        "events": {"GET"},
        "cancel": {"POST"},
        "callback": {"POST"},
        "script": {"GET", "HEAD"},
    }.items():
        for method in {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "MADE-UP"} - allowed:
            answer = getattr(page, name)(*([token] if name != "script" else []), method=method)
            assert (answer.status, set(answer.headers["Allow"].split(", "))) == (405, allowed)
    (after,) = web.bridge.store.get([job_id])
    assert before is not None
    assert after is not None
    assert (after.cancel, after.due_at) == (None, before.due_at)


@pytest.mark.parametrize("accepted", ["gzip, deflate, br, zstd", "br;q=1, x-gzip;q=0.5", "GZIP"])
def test_the_element_is_packed_for_browsers_that_unpack_it(page: Page, accepted: str) -> None:
    plain, packed = page.script(), page.script(accept_encoding=accepted)

    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body == (files("tasks_bridge.web") / "bytespike-job.js").read_bytes()
    assert plain.headers["ETag"] != packed.headers["ETag"]
    assert plain.headers["Vary"] == packed.headers["Vary"] == "Accept-Encoding"
    assert page.script(accept_encoding=accepted, if_none_match=packed.headers["ETag"]).status == 304


@pytest.mark.parametrize("accepted", ["", "identity", "gzip;q=0", "br, gzip; q=0.000", "*", "gzipped"])
def test_the_element_is_plain_for_everybody_else(page: Page, accepted: str) -> None:
    assert "Content-Encoding" not in page.script(accept_encoding=accepted).headers


def test_a_callback_makes_its_job_due_whatever_it_says(web: Lab, page: Page) -> None:
    job_id = web.started()
    store = web.bridge.store
    (lease,) = store.begin([job_id], Purpose.GENERATE, 60)
    store.write(lease, JobState.RUNNING, lease.record, delay_s=3600)
    token = callback_url(job_id, app=web.app).rpartition("/")[2]

    def due_in_s() -> float:
        entry = store.get([job_id])[0]
        assert entry is not None
        assert entry.due_at is not None
        return entry.due_at - entry.now

    too_long = page.callback(token, method="POST", content_length=str(CALLBACK_MAX_BYTES + 1))
    assert (too_long.status, due_in_s() > 3000) == (413, True)
    for length in ("", "12", "a lie", "-5", "٣"):
        assert page.callback(token, method="POST", content_length=length).status == 204
    assert due_in_s() < 1


def test_where_no_streams_are_wanted_every_page_polls(web: Lab, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = web.started()
    token = status_token(job_id, app=web.app)
    monkeypatch.setattr(web.bridge, "settings", web.settings.model_copy(update={"stream_limit": 0}))

    assert "events_url" not in read(page.status(token, can_stream=True))
    assert page.events(token, can_stream=True).body.startswith(b"retry: 2000\n\nid: ")


def test_a_server_without_redis_says_so_and_when_to_come_back(sandbox: SandboxServer) -> None:
    lab = Lab("redis://127.0.0.1:1/0", sandbox, secret_key=SECRET)
    page = Page(lab)
    token = status_token("some-job", may_cancel=True, app=lab.app)
    callback = sign(SECRET, TokenPurpose.CALLBACK, "some-job")

    answers = [page.status(token), page.cancel(token, method="POST"), page.callback(callback, method="POST")]

    assert [(answer.status, answer.headers["Retry-After"]) for answer in answers] == [(503, "5")] * 3
    assert not any(b"127.0.0.1" in answer.body for answer in answers)


def test_a_server_that_can_not_keep_streams_open_answers_each_look_with_one_event(web: Lab, page: Page) -> None:
    job_id = web.started()
    token = status_token(job_id, app=web.app)

    first = page.events(token)
    retry, _, event = first.body.decode().partition("\n\n")
    version, _, data = event.partition("\n")
    assert (first.status, retry) == (200, "retry: 2000")
    assert json.loads(data.removeprefix("data: "))["state"] == "QUEUED"
    known = version.removeprefix("id: ")
    assert page.events(token, last_event_id=known).body == b"retry: 2000\n\n"

    web.move(job_id, JobState.COMPLETED, output=OUTPUT)
    last = page.events(token, last_event_id=known).body.decode()
    known = last.partition("id: ")[2].partition("\n")[0]
    assert page.events(token, last_event_id=known).status == 204


# -- streams ----------------------------------------------------------------------------------------------------------


class Viewer:
    """One open stream, as a browser has it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.status = 0
        self.headers: dict[str, str] = {}

    @classmethod
    async def open(cls, port: int, path: str, **headers: str) -> Self:
        viewer = cls(*await asyncio.open_connection("127.0.0.1", port))
        named = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        viewer._writer.write(f"GET {path} HTTP/1.1\r\nHost: test\r\n{named}\r\n".encode())
        head = (await viewer._reader.readuntil(b"\r\n\r\n")).decode()
        status, *lines = head.strip().split("\r\n")
        viewer.status = int(status.split()[1])
        viewer.headers = dict(line.lower().split(": ", 1) for line in lines)
        return viewer

    async def block(self) -> str | None:
        """The next block of the stream; None at its end."""
        async with asyncio.timeout(20):
            size = int(await self._reader.readuntil(b"\r\n"), 16)
            chunk = (await self._reader.readexactly(size + 2))[:-2]
        return chunk.decode() if size else None

    async def document(self) -> dict[str, Any] | None:
        """The next document; None at the end of the stream."""
        while (block := await self.block()) is not None:
            for line in block.splitlines():
                if line.startswith("data: "):
                    document: dict[str, Any] = json.loads(line.removeprefix("data: "))
                    return document
        return None

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


@pytest.fixture(scope="module")
def port(web: Lab) -> Iterator[int]:
    """A real ASGI server in a thread; under /shop, as behind a prefix."""

    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await JobsApp(web.app)({**scope, "root_path": "/shop"}, receive, send)

    with served(mounted) as found:
        yield found


@contextmanager
def served(app: Any) -> Iterator[int]:
    config = uvicorn.Config(app, port=0, log_level="error", lifespan="off", ws="none", http="h11", loop="asyncio")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="web server")
    thread.start()
    try:
        eventually(lambda: server.started, "the web server to start")
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


def path_of(lab: Lab, job_id: str) -> str:
    return f"/shop/jobs/{status_token(job_id, app=lab.app)}"


async def soon(condition: Callable[[], object], expected: str) -> None:
    await asyncio.to_thread(eventually, condition, expected)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(60):
            await test()

    asyncio.run(limited())


def test_the_server_routes_each_url_under_its_prefix(web: Lab, port: int) -> None:
    job_id = web.started()
    path = path_of(web, job_id)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        shown = client.get(path)
        assert shown.json()["state"] == "QUEUED"
        assert client.get(path, headers={"If-None-Match": shown.headers["etag"]}).status_code == 304
        assert (client.head(path).status_code, client.head(path).content) == (200, b"")
        assert client.post(f"{path}/cancel").status_code == 403
        callback = callback_url(job_id, app=web.app).rpartition("/")[2]
        assert client.post(f"/shop/callback/{callback}", content=b"\xff" * 100_000).status_code == 204
        script = client.get("/shop/bytespike-job.js")
        assert script.headers["content-type"].startswith("text/javascript")
        assert (
            client.get("/shop/bytespike-job.js", headers={"If-None-Match": script.headers["etag"]}).status_code == 304
        )
        for nowhere in ("/shop", "/shop/jobs/", f"{path}/other", "/shop/jobs/a/b/c", "/shop/../etc/passwd"):
            assert client.get(nowhere).status_code == 404


def test_a_stream_shows_each_change_as_it_happens_and_ends_with_the_job(web: Lab, port: int) -> None:
    job_id = web.started()

    async def watch() -> None:
        viewer = await Viewer.open(port, f"{path_of(web, job_id)}/events")
        assert (viewer.status, viewer.headers["content-type"]) == (200, "text/event-stream")
        assert await viewer.block() == "retry: 3000\n\n"
        assert ((await viewer.document()) or {})["state"] == "QUEUED"
        for state in (JobState.PENDING, JobState.RUNNING):
            started_at = time.monotonic()
            await asyncio.to_thread(web.move, job_id, state)
            assert ((await viewer.document()) or {})["state"] == state
            assert time.monotonic() - started_at < 4, "expected the notice to be faster than the sweep"
        await asyncio.to_thread(web.move, job_id, JobState.COMPLETED, output=OUTPUT)
        assert ((await viewer.document()) or {})["outputs"] == OUTPUT
        assert await viewer.document() is None
        await viewer.close()

    run(watch)


def test_whoever_comes_back_gets_the_present_document_unless_it_has_it(web: Lab, port: int) -> None:
    job_id = web.started()
    path = f"{path_of(web, job_id)}/events"

    async def watch() -> None:
        viewer = await Viewer.open(port, path)
        await viewer.block()
        known = (await viewer.block() or "").split("\n")[0].removeprefix("id: ")
        await viewer.close()

        back = await Viewer.open(port, path, Last_Event_ID=known)
        await back.block()
        await asyncio.to_thread(web.move, job_id, JobState.COMPLETED, output=OUTPUT)
        last = await back.block() or ""
        assert '"state":"COMPLETED"' in last, "expected nothing of the document that is known already"
        await back.close()

        missed = await Viewer.open(port, path, Last_Event_ID="something old")
        assert ((await missed.document()) or {})["state"] == "COMPLETED"
        await missed.close()
        final = last.split("\n")[0].removeprefix("id: ")
        done = await Viewer.open(port, path, Last_Event_ID=final)
        assert done.status == 204
        await done.close()

    run(watch)


def test_hundreds_of_viewers_take_no_thread_each_and_leave_nothing_behind(web: Lab, port: int) -> None:
    jobs = [web.started() for _ in range(4)]
    paths = [f"{path_of(web, job_id)}/events" for job_id in jobs]
    hub = hub_of(web.bridge)

    def threads() -> int:
        return len(
            [thread for thread in threading.enumerate() if thread.name.startswith(("asyncio", "tasks-bridge-hub"))]
        )

    def connections() -> int:
        return len([one for one in web.bridge.store.client.client_list() if one["sub"] != "0"])

    async def watch() -> None:
        await soon(lambda: not len(hub), "earlier viewers to have left")
        viewers = [await Viewer.open(port, paths[number % 4]) for number in range(STREAMS)]
        assert {viewer.status for viewer in viewers} == {200}
        documents = await asyncio.gather(*(viewer.document() for viewer in viewers))
        assert {(document or {})["state"] for document in documents} == {"QUEUED"}
        assert len(hub) == STREAMS
        assert threads() < 40, "expected the threads of the event loop's pool and one hub, not one for each viewer"
        assert connections() == 1

        refused = await Viewer.open(port, paths[0])
        assert (refused.status, refused.headers["retry-after"]) == (503, "5")
        await refused.close()

        for job_id in jobs:
            await asyncio.to_thread(web.move, job_id, JobState.RUNNING)
        changed = await asyncio.gather(*(viewer.document() for viewer in viewers))
        assert {(document or {})["state"] for document in changed} == {"RUNNING"}

        for viewer in viewers:
            await viewer.close()
        await soon(lambda: not len(hub), "all viewers to be forgotten")
        await soon(lambda: not connections(), "the connection to Redis to be closed")
        assert not hub._listeners

    run(watch)


def test_a_lost_connection_to_redis_costs_a_stream_no_change(web: Lab, port: int) -> None:
    job_id = web.started()
    client = web.bridge.store.client

    async def watch() -> None:
        viewer = await Viewer.open(port, f"{path_of(web, job_id)}/events")
        await viewer.document()
        await soon(lambda: [one for one in client.client_list() if one["sub"] != "0"], "the hub to listen")
        client.client_kill_filter(_type="pubsub")
        # without a notice, as if it had been published while nobody listened
        await asyncio.to_thread(web.move, job_id, JobState.RUNNING, notice="")
        assert ((await viewer.document()) or {})["state"] == "RUNNING"
        await viewer.close()

    run(watch)


@asynccontextmanager
async def followed(lab: Lab, job_id: str, hub: Hub, **options: Any) -> AsyncIterator[AsyncIterator[bytes]]:
    first = lab.bridge.store.get([job_id])[0]
    assert first is not None
    async with aclosing(follow(hub, first, lambda entry: {"state": entry.state}, **options)) as chunks:  # type: ignore[type-var]
        yield chunks


def test_a_silent_stream_beats_and_a_long_one_ends_so_that_its_viewer_comes_back(web: Lab) -> None:
    job_id = web.started()
    hub = Hub(web.bridge.store, 1, sweep_s=0.05)

    async def watch() -> None:
        async with followed(web, job_id, hub, heartbeat_s=0.2, lifetime_s=1) as chunks:
            got = [chunk async for chunk in chunks]
        assert got[0] == b"retry: 3000\n\n"
        assert got[1].endswith(b'data: {"state":"QUEUED"}\n\n')
        assert got[2:] in ([b":\n\n"] * 4, [b":\n\n"] * 3), (
            "expected sweeps without news to be silent, and a beat in time"
        )

    run(watch)


def test_a_stream_holds_no_place_before_it_is_read_and_none_once_it_is_left(web: Lab) -> None:
    job_id = web.started()
    hub = Hub(web.bridge.store, 1)

    async def watch() -> None:
        async with followed(web, job_id, hub):
            assert len(hub) == 0
        async with followed(web, job_id, hub) as chunks:
            await anext(chunks)
            await anext(chunks)
            assert hub.is_full
            async with followed(web, job_id, hub) as late:
                assert [chunk async for chunk in late] == [b"retry: 3000\n\n"]
        assert len(hub) == 0

    run(watch)


def test_a_stream_whose_job_is_forgotten_ends(web: Lab) -> None:
    job_id = web.started()
    hub = Hub(web.bridge.store, 1, sweep_s=0.05)

    async def watch() -> None:
        async with followed(web, job_id, hub) as chunks:
            await anext(chunks)
            await anext(chunks)
            store = web.bridge.store
            store.client.delete(store.key("job", job_id))
            assert [chunk async for chunk in chunks] == []
            store.client.zrem(store.key("due", "").rstrip(":"), job_id)

    run(watch)


@pytest.mark.parametrize("may_subscribe", [True, False])
def test_a_redis_user_of_little_rights_hears_of_changes_at_once_or_at_the_next_sweep(
    web: Lab, redis_url: str, *, may_subscribe: bool
) -> None:
    job_id = web.started()
    channels = f"&{{{web.settings.namespace}}}:*" if may_subscribe else ""
    rights = f"on >pw resetkeys ~{{{web.settings.namespace}}}:* resetchannels {channels} -@all +@read +@scripting"
    more = "+@connection +@transaction +@pubsub +time"
    web.bridge.store.client.execute_command("ACL", "SETUSER", "looker", "reset", *rights.split(), *more.split())
    store = RedisStore(connect(SecretStr(redis_url.replace("://", "://looker:pw@"))), namespace=web.settings.namespace)
    hub = Hub(store, 1, sweep_s=60 if may_subscribe else 0.05)

    async def watch() -> None:
        async with followed(web, job_id, hub) as chunks:
            await anext(chunks)
            assert b"QUEUED" in await anext(chunks)
            await asyncio.to_thread(web.move, job_id, JobState.RUNNING)
            assert b"RUNNING" in await anext(chunks)

    run(watch)
    eventually(lambda: hub._thread is None, "the hub to end")
    store.client.close()
    web.bridge.store.client.execute_command("ACL", "DELUSER", "looker")


def test_a_stream_is_what_the_endpoint_gives_a_server_that_can_hold_it(web: Lab) -> None:
    job_id = web.started()
    endpoints = Endpoints(web.app)

    assert isinstance(endpoints.stream(job_id, Request("GET", can_stream=True)), Stream)
    assert isinstance(endpoints.stream(job_id, Request("GET")), Answer)
    assert isinstance(endpoints.show("unknown", Request("GET")), Answer)


# -- metrics ----------------------------------------------------------------------------------------------------------

METRICS_TOKEN = "metrics are for whoever has these characters"


@pytest.fixture(scope="module")
def measured(redis_url: str, sandbox: SandboxServer) -> Iterator[Lab]:
    lab = Lab(redis_url, sandbox, secret_key=SECRET, metrics_token=SecretStr(METRICS_TOKEN), spend_limit=7.0)
    with lab.current():
        yield lab


def test_metrics_are_nowhere_unless_a_token_is_set(page: Page) -> None:
    assert page.metrics().status == 404
    assert page.metrics(authorization="Bearer ").status == 404


def test_metrics_tell_of_all_jobs_to_whoever_has_the_token(measured: Lab) -> None:
    page = Page(measured)
    for _ in range(3):
        measured.started()
    measured.move(measured.started(), JobState.RUNNING)

    answer = page.metrics(authorization=f"Bearer {METRICS_TOKEN}")

    assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store")
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    lines = answer.body.decode().splitlines()
    assert 'tasks_bridge_jobs{model="seedream-v4",state="QUEUED"} 3.0' in lines
    assert 'tasks_bridge_jobs{model="seedream-v4",state="RUNNING"} 1.0' in lines
    assert 'tasks_bridge_schedule_jobs{purpose="submit"} 3.0' in lines
    assert 'tasks_bridge_budget_credits{kind="limit"} 7.0' in lines
    assert "tasks_bridge_breaker_open 0.0" in lines
    assert "tasks_bridge_polls_total" not in answer.body.decode(), "nobody polls here"


def test_a_scrape_takes_few_round_trips_however_many_jobs_there_are(measured: Lab) -> None:
    page, sent = Page(measured), []
    page.metrics(authorization=f"Bearer {METRICS_TOKEN}")
    for jobs in (1, 40):
        for _ in range(jobs):
            measured.started()
        with commands(measured.bridge.store.client) as seen:
            page.metrics(authorization=f"Bearer {METRICS_TOKEN}")
        sent.append([name for name in seen if name != "PING"])

    assert sent[0] == sent[1]
    assert len(sent[0]) == 3


@pytest.mark.parametrize("given", ["", METRICS_TOKEN, f"Basic {METRICS_TOKEN}", f"Bearer {METRICS_TOKEN}x", "Bearer é"])
def test_metrics_are_refused_to_everybody_else(measured: Lab, given: str) -> None:
    answer = Page(measured).metrics(authorization=given)

    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert read(answer)["error"]["code"] == "unauthorized"
    assert Page(measured).metrics(method="POST").status == 405
