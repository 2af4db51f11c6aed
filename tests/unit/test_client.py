from __future__ import annotations

import asyncio
import gc
import inspect
import json
import pickle
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest

import tasks_bridge
from tasks_bridge import wire
from tasks_bridge.client import AsyncClient, Client
from tasks_bridge.errors import (
    ApiConnectionError,
    ApiResponseError,
    ApiTimeout,
    AuthenticationError,
    InvalidRequest,
    NotFound,
    RateLimited,
    ServerError,
    SettingsError,
)

KEY = "sk-byts-secret-0123456789"
URL = "https://api.test"
PENDING = {"task_id": "task_1", "status": "pending", "estimated_seconds": 35}
EVENT = b'event: state\ndata: {"task_id": "task_1", "status": "running"}\n\n'

Handler = Callable[[httpx.Request], httpx.Response]


class Body(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that comes in the given chunks; an exception among them is raised."""

    def __init__(self, *chunks: bytes | Exception) -> None:
        self.chunks = chunks
        self.is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self.chunks:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self:
            yield chunk

    def close(self) -> None:
        self.is_closed = True

    async def aclose(self) -> None:
        self.is_closed = True


class Twin:
    """Either client, called the same way. ``requests`` are those the handler saw."""

    def __init__(self, kind: type[Client | AsyncClient], runner: asyncio.Runner) -> None:
        self.kind = kind
        self.runner = runner
        self.requests: list[httpx.Request] = []
        self.client: Client | AsyncClient

    def answer(self, handler: Handler | httpx.Response | Exception, base_url: str = URL, **options: Any) -> Twin:
        def handle(request: httpx.Request) -> httpx.Response:
            self.requests.append(request)
            if isinstance(handler, Exception):
                raise handler
            return handler if isinstance(handler, httpx.Response) else handler(request)

        self.client = self.kind(KEY, base_url, transport=httpx.MockTransport(handle), **options)
        return self

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        result = getattr(self.client, method)(*args, **kwargs)
        return self.runner.run(result) if inspect.iscoroutine(result) else result

    def stream(self, *args: Any, **kwargs: Any) -> list[wire.StreamEvent]:
        events: list[wire.StreamEvent] = []
        self.stream_into(events, *args, **kwargs)
        return events

    def stream_into(self, events: list[wire.StreamEvent], *args: Any, **kwargs: Any) -> None:
        async def collect(client: AsyncClient) -> None:
            async for event in client.stream(*args, **kwargs):
                events.append(event)  # noqa: PERF401  what came before an error is wanted too

        if isinstance(self.client, AsyncClient):
            self.runner.run(collect(self.client))
        else:
            for event in self.client.stream(*args, **kwargs):
                events.append(event)  # noqa: PERF402


@pytest.fixture(params=[Client, AsyncClient], ids=["sync", "async"])
def twin(request: pytest.FixtureRequest) -> Iterator[Twin]:
    with asyncio.Runner() as runner:
        yield Twin(request.param, runner)


CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("submit", ("sora-2", {"prompt": "a fox"}), {"out_task_id": "job-1"}),
    ("submit_bytes", (b'{"model":"sora-2"}',), {}),
    ("query", ("task_1",), {}),
    ("query", (), {"out_task_id": "job-1"}),
    ("cancel", ("task_1",), {}),
    ("cancel", (), {"out_task_id": "job-1"}),
    ("models", (), {}),
]
each_call = pytest.mark.parametrize(("method", "args", "kwargs"), CALLS)


OTHERS = {**PENDING, "task_id": "task_2", "out_task_id": "job-2"}


@pytest.mark.parametrize(
    ("method", "args", "kwargs"), [call for call in CALLS if call[0] not in ("models", "submit_bytes")]
)
def test_an_answer_about_another_task_is_none(
    twin: Twin, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Answers got mixed up: of replicas, of a proxy, or two on one connection."""
    twin.answer(httpx.Response(200, json=OTHERS))

    with pytest.raises(ApiResponseError, match="about another task"):
        twin.call(method, *args, **kwargs)


def test_an_answer_that_does_not_say_which_of_our_tasks_it_is_about_is_taken(twin: Twin) -> None:
    twin.answer(httpx.Response(200, json=PENDING))

    assert twin.call("submit", "sora-2", {"prompt": "a fox"}, out_task_id="job-1").task_id == "task_1"
    assert twin.call("query", out_task_id="job-1").task_id == "task_1"
    assert twin.call("submit_bytes", b"no JSON").task_id == "task_1"


# --- requests ---------------------------------------------------------------------------------------------


def test_submit_sends_the_canonical_body(twin: Twin) -> None:
    twin.answer(httpx.Response(202, json=PENDING))

    task = twin.call("submit", "sora-2", {"prompt": "ü"}, out_task_id="job-1", callback_url="https://app.test/h")

    assert task.to_json() == PENDING
    (request,) = twin.requests
    assert (request.method, str(request.url)) == ("POST", "https://api.test/v1/tasks/submit")
    assert request.content == wire.submit_body(
        "sora-2", {"prompt": "ü"}, out_task_id="job-1", callback_url="https://app.test/h"
    )


def test_stored_bytes_are_sent_as_they_are(twin: Twin) -> None:
    twin.answer(httpx.Response(200, json=PENDING))

    for _ in range(2):
        twin.call("submit_bytes", b'{ "model" : "sora-2" }')

    assert [request.content for request in twin.requests] == [b'{ "model" : "sora-2" }'] * 2


def test_query_and_cancel_name_one_identifier(twin: Twin) -> None:
    twin.answer(httpx.Response(200, json=PENDING))

    for method in ("query", "cancel"):
        twin.call(method, "task_1")
        twin.call(method, out_task_id="job-1")

    assert [(request.url.path, request.content) for request in twin.requests] == [
        ("/v1/tasks/query", b'{"task_id":"task_1"}'),
        ("/v1/tasks/query", b'{"out_task_id":"job-1"}'),
        ("/v1/tasks/cancel/task_1", b""),
        ("/v1/tasks/cancel", b'{"out_task_id":"job-1"}'),
    ]


@each_call
def test_every_request_carries_the_key_and_our_name(twin: Twin, method: str, args: Any, kwargs: Any) -> None:
    twin.answer(httpx.Response(200, json=PENDING | {"data": []}))

    twin.call(method, *args, **kwargs)

    headers = twin.requests[0].headers
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["user-agent"] == f"tasks-bridge/{tasks_bridge.__version__}"
    assert headers.get("content-type") == ("application/json" if twin.requests[0].content else None)
    assert "x-api-key" not in headers


def test_models_returns_the_catalogue(twin: Twin) -> None:
    twin.answer(httpx.Response(200, json={"object": "list", "data": [{"id": "sora-2"}]}))

    assert twin.call("models") == [{"id": "sora-2"}]
    assert (twin.requests[0].method, twin.requests[0].url.path) == ("GET", "/v1/models")


@pytest.mark.parametrize(
    ("method", "args", "kwargs"),
    [
        ("query", (), {}),
        ("query", ("task_1",), {"out_task_id": "job-1"}),
        ("cancel", (), {}),
        ("cancel", ("task_1",), {"out_task_id": "job-1"}),
        ("query", (), {"out_task_id": "job 1"}),
        ("submit", ("", {}), {}),
        ("submit", ("sora-2", {"a": object()}), {}),
        ("submit_bytes", (b"",), {}),
        ("query", ("task_1",), {"timeout_s": 0}),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_sent(twin: Twin, method: str, args: Any, kwargs: Any) -> None:
    twin.answer(httpx.Response(200, json=PENDING))

    with pytest.raises(InvalidRequest):
        twin.call(method, *args, **kwargs)

    assert twin.requests == []


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        ("https://api.test", "https://api.test/v1/tasks/query"),
        ("https://api.test/", "https://api.test/v1/tasks/query"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/v1/tasks/query"),
        ("https://api.test/gate/way/", "https://api.test/gate/way/v1/tasks/query"),
        ("https://api.test/v1", "https://api.test/v1/tasks/query"),
        ("https://api.test/gateway/v1/", "https://api.test/gateway/v1/tasks/query"),
    ],
)
def test_a_base_url_may_have_a_prefix_and_a_trailing_slash(twin: Twin, base_url: str, expected: str) -> None:
    twin.answer(httpx.Response(200, json=PENDING), base_url)

    twin.call("query", "task_1")

    assert str(twin.requests[0].url) == expected


# --- timeouts ---------------------------------------------------------------------------------------------


def timeouts(twin: Twin) -> list[tuple[float, float]]:
    settings = [request.extensions["timeout"] for request in twin.requests]
    return [(setting["connect"], setting["read"]) for setting in settings]


def test_a_submit_gets_more_time_than_a_query(twin: Twin) -> None:
    twin.answer(httpx.Response(200, json=PENDING | {"data": []}))

    for method, args, kwargs in CALLS:
        twin.call(method, *args, **kwargs)

    assert timeouts(twin) == [(5.0, 60.0)] * 2 + [(5.0, 30.0)] * 5


def test_the_timeouts_can_be_set_for_the_client_and_for_a_call(twin: Twin) -> None:
    twin.answer(httpx.Response(200, json=PENDING), connect_timeout_s=1, query_timeout_s=2, submit_timeout_s=3)

    twin.call("query", "task_1")
    twin.call("submit_bytes", b"{}")
    twin.call("query", "task_1", timeout_s=0.5)

    assert timeouts(twin) == [(1.0, 2.0), (1.0, 3.0), (0.5, 0.5)]


def test_an_answer_that_trickles_in_forever_is_a_timeout() -> None:
    async def trickle(request: httpx.Request) -> httpx.Response:
        class Drip(httpx.AsyncByteStream):
            async def __aiter__(self) -> AsyncIterator[bytes]:
                while True:
                    await asyncio.sleep(0.001)
                    yield b" "

        return httpx.Response(200, stream=Drip())

    client = AsyncClient(KEY, URL, transport=httpx.MockTransport(trickle))

    with pytest.raises(ApiTimeout, match="did not answer in time"):
        asyncio.run(client.query("task_1", timeout_s=0.05))


def test_an_answer_that_trickles_into_a_thread_forever_is_a_timeout() -> None:
    class Drip(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            while True:
                yield b" "

    client = Client(KEY, URL, transport=httpx.MockTransport(lambda _: httpx.Response(200, stream=Drip())))

    with pytest.raises(ApiTimeout, match="did not answer in time"):
        client.query("task_1", timeout_s=0.05)


# --- errors -----------------------------------------------------------------------------------------------


def transport_errors() -> list[type[httpx.TransportError]]:
    found = [httpx.TransportError]
    for kind in found:
        found += kind.__subclasses__()
    # Not the ones that other libraries derive: httpx's own are what a transport may raise.
    return [kind for kind in found if kind.__module__ == "httpx"]


@each_call
@pytest.mark.parametrize("kind", transport_errors())
def test_every_transport_error_is_ours(
    twin: Twin, kind: type[httpx.TransportError], method: str, args: Any, kwargs: Any
) -> None:
    twin.answer(kind("it broke"))

    with pytest.raises(ApiConnectionError, match=rf"{kind.__name__} it broke") as caught:
        twin.call(method, *args, **kwargs)

    assert isinstance(caught.value, ApiTimeout) is issubclass(kind, httpx.TimeoutException)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize("error", [OSError("broken"), TimeoutError(), ConnectionResetError(104, "reset")], ids=repr)
def test_errors_of_the_system_are_ours_too(twin: Twin, error: OSError) -> None:
    twin.answer(error)

    with pytest.raises(ApiConnectionError) as caught:
        twin.call("query", "task_1")

    assert isinstance(caught.value, ApiTimeout) is isinstance(error, TimeoutError)


def test_a_bug_of_ours_is_not_called_a_network_error(twin: Twin) -> None:
    twin.answer(ZeroDivisionError())

    with pytest.raises(ZeroDivisionError):
        twin.call("query", "task_1")


def test_a_connection_that_breaks_in_the_answer_is_a_connection_error(twin: Twin) -> None:
    body = Body(b'{"task_id": ', httpx.ReadError("reset"))
    twin.answer(httpx.Response(200, stream=body))

    with pytest.raises(ApiConnectionError, match="reset"):
        twin.call("query", "task_1")

    assert body.is_closed


def test_an_answer_that_cannot_be_decompressed_is_a_response_error(twin: Twin) -> None:
    twin.answer(lambda _: httpx.Response(200, headers={"content-encoding": "gzip"}, stream=Body(b"no gzip")))

    with pytest.raises(ApiResponseError, match="decompressed"):
        twin.call("query", "task_1")


@pytest.mark.parametrize("status_code", [200, 500])
def test_an_answer_larger_than_the_limit_is_not_read(twin: Twin, status_code: int) -> None:
    body = Body(*[b"x" * 1000] * 10)
    twin.answer(httpx.Response(status_code, stream=body), max_response_bytes=5000)

    with pytest.raises(ApiResponseError, match="larger than 5000 bytes"):
        twin.call("query", "task_1")

    assert body.is_closed


def test_an_answer_of_exactly_the_limit_is_read(twin: Twin) -> None:
    content = json.dumps(PENDING).encode()
    twin.answer(httpx.Response(200, stream=Body(content[:10], content[10:])), max_response_bytes=len(content))

    assert twin.call("query", "task_1").status == "pending"


@each_call
def test_a_refusal_is_typed_and_carries_the_hint(twin: Twin, method: str, args: Any, kwargs: Any) -> None:
    error = {"code": "rate_limit_exceeded", "message": "Slow down."}
    twin.answer(httpx.Response(429, json={"error": error}, headers={"Retry-After": "7"}))

    with pytest.raises(RateLimited) as caught:
        twin.call(method, *args, **kwargs)

    assert caught.value.args == ("Slow down.", 429, "rate_limit_exceeded", 7.0)
    assert len(twin.requests) == 1, "the client must not repeat a request by itself"


def test_a_redirect_is_not_followed_because_it_would_take_the_key_along(twin: Twin) -> None:
    twin.answer(httpx.Response(307, headers={"location": "https://elsewhere.test/"}))

    with pytest.raises(ApiResponseError, match="HTTP 307"):
        twin.call("query", "task_1")

    assert len(twin.requests) == 1


def test_a_key_quoted_by_the_server_or_the_network_stays_secret(twin: Twin) -> None:
    for answer in (
        httpx.Response(401, json={"error": {"code": "invalid_api_key", "message": f"{KEY} is unknown"}}),
        httpx.Response(200, text=f"you sent {KEY}"),
        httpx.LocalProtocolError(f"Illegal header value b'Bearer {KEY}'"),
    ):
        twin.answer(answer)
        with pytest.raises((AuthenticationError, ApiResponseError, ApiConnectionError)) as caught:
            twin.call("query", "task_1")

        assert KEY not in str(caught.value)
        assert KEY not in repr(caught.value)


# --- configuration ----------------------------------------------------------------------------------------


def test_the_representation_shows_the_address_and_not_the_key(twin: Twin) -> None:
    twin.answer(httpx.Response(200))

    assert repr(twin.client) == f"{twin.kind.__name__}('https://api.test')"


@pytest.mark.parametrize("key", ["", " ", "sk byts", "sk-byts\n", "\tsk", "sk-ü", "sk\0", None, 5, b"sk"], ids=repr)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_key_that_cannot_be_sent_is_refused_without_showing_it(kind: Any, key: Any) -> None:
    with pytest.raises(SettingsError, match="BYTESPIKE_API_KEY") as caught:
        kind(key)

    assert not key or str(key).strip() == "" or str(key) not in str(caught.value)


@pytest.mark.parametrize(
    "base_url",
    ["", "api.test", "ftp://api.test", "https://", "https://api.test?key=1", "https://api.test/#a", "https://[::1",
     "https://user:secret@api.test", "https://api.test:port", None, 5],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_base_url_that_cannot_be_right_is_refused(kind: Any, base_url: Any) -> None:
    with pytest.raises(SettingsError, match="base URL") as caught:
        kind(KEY, base_url)

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["connect_timeout_s", "query_timeout_s", "submit_timeout_s"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), None, "5", True], ids=repr)
def test_a_timeout_that_is_no_time_is_refused(name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=name):
        Client(KEY, **{name: value})


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_proxy_that_cannot_be_used_is_a_settings_error_without_its_password(
    kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "gopher://user:secret@proxy.test")

    with pytest.raises(SettingsError, match="HTTPS_PROXY") as caught:
        kind(KEY)

    assert "secret" not in str(caught.value)


def test_the_twins_have_the_same_methods_and_parameters() -> None:
    def surface(kind: type) -> dict[str, list[str]]:
        return {
            name.removeprefix("a"): list(inspect.signature(member).parameters)
            for name, member in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_") or name == "__init__"
        }

    assert surface(Client) == surface(AsyncClient)


def test_a_client_closes_its_connections_at_the_end_of_its_block(twin: Twin) -> None:
    async def use(client: AsyncClient) -> None:
        async with client:
            assert not client._http.is_closed

    twin.answer(httpx.Response(200))
    if isinstance(twin.client, AsyncClient):
        twin.runner.run(use(twin.client))
    else:
        with twin.client:
            assert not twin.client._http.is_closed

    assert twin.client._http.is_closed


def test_an_unused_client_leaves_nothing_to_close() -> None:
    AsyncClient(KEY)
    gc.collect()  # warnings are errors


def test_importing_the_client_does_not_import_aiohttp() -> None:
    code = "import sys, tasks_bridge.client; sys.exit('aiohttp' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- stream -----------------------------------------------------------------------------------------------


def event_stream(*chunks: bytes | Exception) -> httpx.Response:
    return httpx.Response(200, headers={"content-type": "text/event-stream; charset=utf-8"}, stream=Body(*chunks))


def test_a_stream_yields_events_and_ends_when_the_server_closes_it(twin: Twin) -> None:
    twin.answer(event_stream(b": heartbeat\n\n", EVENT[:9], EVENT[9:], b"data: what?\n\n", b"data: cut"))

    events = twin.stream("task_1")

    assert [(event.event, event.task and event.task.status) for event in events] == [
        ("state", "running"),
        ("message", None),
    ]
    request = twin.requests[0]
    assert (request.method, request.url.path) == ("GET", "/v1/tasks/stream/task_1")
    assert request.headers["accept"] == "text/event-stream"
    assert request.headers["authorization"] == f"Bearer {KEY}"


def test_a_stream_that_breaks_yields_what_came_and_then_raises(twin: Twin) -> None:
    events: list[wire.StreamEvent] = []
    twin.answer(event_stream(EVENT, httpx.ReadError("reset"), EVENT))

    with pytest.raises(ApiConnectionError, match="reset"):
        twin.stream_into(events, "task_1")

    assert len(events) == 1


def test_a_stream_that_falls_silent_is_a_timeout(twin: Twin) -> None:
    twin.answer(event_stream(httpx.ReadTimeout("")))

    with pytest.raises(ApiTimeout):
        twin.stream("task_1", silence_s=12)

    assert timeouts(twin) == [(5.0, 12.0)]


def test_an_endless_event_does_not_fill_the_memory(twin: Twin) -> None:
    twin.answer(event_stream(*[b"data: xxxxxxxxxx\n"] * 1000), max_response_bytes=5000)

    with pytest.raises(ApiResponseError, match="larger than 5000 bytes"):
        twin.stream("task_1")


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ({"status_code": 404, "json": {"error": {"code": "task_not_found", "message": "No."}}}, NotFound),
        ({"status_code": 503, "text": "busy", "headers": {"content-type": "text/event-stream"}}, ServerError),
        ({"status_code": 200, "json": PENDING}, ApiResponseError),
        ({"status_code": 302, "headers": {"location": "/"}}, ApiResponseError),
    ],
    ids=lambda value: str(value["status_code"]) if isinstance(value, dict) else "",
)
def test_an_answer_that_is_no_stream_is_typed_as_elsewhere(
    twin: Twin, answer: dict[str, Any], kind: type[Exception]
) -> None:
    twin.answer(httpx.Response(**answer))

    with pytest.raises(kind):
        twin.stream("task_1")


def test_leaving_a_stream_early_closes_it(twin: Twin) -> None:
    response = event_stream(EVENT, EVENT)

    async def leave(client: AsyncClient) -> None:
        events = client.stream("task_1")
        await anext(events)
        await events.aclose()

    twin.answer(response)
    if isinstance(twin.client, AsyncClient):
        twin.runner.run(leave(twin.client))
    else:
        events = twin.client.stream("task_1")
        next(events)
        events.close()

    assert response.is_closed
