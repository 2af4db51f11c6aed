from __future__ import annotations

import asyncio
import inspect
import json
import os
import socket
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tasks_bridge.client import AsyncClient, Client
from tasks_bridge.errors import (
    ApiConnectionError,
    ApiResponseError,
    ApiTimeout,
    AuthenticationError,
    BadRequest,
    Conflict,
    NotFound,
    RateLimited,
    ServerError,
)
from tasks_bridge.models import RemoteTask
from tasks_bridge.sandbox import SandboxServer
from tasks_bridge.wire import StreamEvent

KEY = "sk-byts-secret-0123456789"


class Twin:
    """Either client, with real connections, called the same way."""

    def __init__(self, kind: type[Client | AsyncClient], runner: asyncio.Runner) -> None:
        self.kind = kind
        self.runner = runner
        self.clients: list[Client | AsyncClient] = []

    def connect(self, url: str, key: str = KEY, **options: Any) -> Twin:
        self.clients.append(self.kind(key, url, **options))
        return self

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        result = getattr(self.clients[-1], method)(*args, **kwargs)
        return self.runner.run(result) if inspect.iscoroutine(result) else result

    def submit(self, out_task_id: str | None = None, **script: Any) -> RemoteTask:
        # An id of its own: the sandbox takes equal requests for repetitions, and counts their faults together.
        out_task_id = out_task_id or uuid.uuid4().hex
        task = self.call("submit", "sora-2", {"prompt": "a fox", "sandbox": script}, out_task_id=out_task_id)
        assert isinstance(task, RemoteTask)
        return task

    def stream_into(self, events: list[StreamEvent], *args: Any, **kwargs: Any) -> None:
        async def collect(client: AsyncClient) -> None:
            async for event in client.stream(*args, **kwargs):
                events.append(event)  # noqa: PERF401  what came before an error is wanted too

        client = self.clients[-1]
        if isinstance(client, AsyncClient):
            self.runner.run(collect(client))
        else:
            for event in client.stream(*args, **kwargs):
                events.append(event)  # noqa: PERF402

    def close(self) -> None:
        for client in self.clients:
            if isinstance(client, AsyncClient):
                self.runner.run(client.aclose())
            else:
                client.close()


@pytest.fixture(scope="module")
def server() -> Iterator[SandboxServer]:
    with SandboxServer(heartbeat_s=0.05) as running:
        yield running


@pytest.fixture(params=[Client, AsyncClient], ids=["sync", "async"])
def unconnected(request: pytest.FixtureRequest) -> Iterator[Twin]:
    with asyncio.Runner() as runner:
        twin = Twin(request.param, runner)
        yield twin
        twin.close()


@pytest.fixture
def twin(unconnected: Twin, server: SandboxServer) -> Twin:
    server.heal()
    return unconnected.connect(server.url)


def fault(on: str, kind: str, **members: Any) -> dict[str, Any]:
    return {"on": on, "kind": kind, **members}


def test_a_task_is_followed_from_submit_to_its_output(twin: Twin) -> None:
    submitted = twin.submit("life-1" + twin.kind.__name__, duration_s=0, estimate_s=35)
    task = twin.call("query", submitted.task_id)

    assert (submitted.status, submitted.out_task_id) == ("pending", "life-1" + twin.kind.__name__)
    assert task.status == "completed"
    assert task.credits_used is not None
    assert task.urls
    assert twin.call("query", out_task_id=task.out_task_id) == task


def test_the_same_bytes_are_the_same_task_and_others_are_a_conflict(twin: Twin) -> None:
    out_task_id = "same-1" + twin.kind.__name__

    first = twin.submit(out_task_id, outcome="hang")

    assert twin.submit(out_task_id, outcome="hang").task_id == first.task_id
    with pytest.raises(Conflict):
        twin.submit(out_task_id, outcome="failed")


def test_a_task_is_cancelled_by_either_identifier_and_stays_cancelled(twin: Twin) -> None:
    out_task_id = "cancel-1" + twin.kind.__name__
    task = twin.submit(out_task_id, outcome="hang")

    assert twin.call("cancel", task.task_id).status == "cancelled"
    assert twin.call("cancel", out_task_id=out_task_id).status == "cancelled"


def test_a_task_in_the_older_dialect_reads_like_any_other(twin: Twin) -> None:
    submitted = twin.submit(dialect="old", duration_s=0)
    task = twin.call("query", submitted.task_id)

    assert submitted.status == "pending"
    assert task.status == "completed"
    assert task.urls
    assert task.credits_used is not None


def test_a_failed_task_is_a_good_answer(twin: Twin) -> None:
    task = twin.submit(duration_s=0, outcome="failed", error_code="content_policy_violation")

    assert twin.call("query", task.task_id).error_code == "content_policy_violation"


def test_an_unknown_status_is_not_terminal(twin: Twin) -> None:
    task = twin.submit(outcome="hang", pending_s=0, unknown_status="thinking")

    assert twin.call("query", task.task_id).status == "thinking"
    assert not twin.call("query", task.task_id).is_terminal


def test_the_catalogue_is_a_check_of_the_key(twin: Twin) -> None:
    assert all(row["id"] for row in twin.call("models"))


def test_a_wrong_key_is_an_authentication_error(unconnected: Twin) -> None:
    with SandboxServer(keys=["sk-byts-right"]) as strict:
        unconnected.connect(strict.url)

        with pytest.raises(AuthenticationError) as caught:
            unconnected.call("models")

    assert caught.value.code == "invalid_api_key"
    assert KEY not in str(caught.value)


def test_a_task_nobody_knows_is_not_found_whatever_its_id_looks_like(twin: Twin) -> None:
    for task_id in ("task_0", "../submit", "a/b?c=d#e%2F", "ä b"):
        for method in ("query", "cancel"):
            with pytest.raises(NotFound) as caught:
                twin.call(method, task_id)

            assert caught.value.code == "task_not_found"


def test_a_request_the_server_finds_wrong_is_a_bad_request(twin: Twin) -> None:
    with pytest.raises(BadRequest) as caught:
        twin.submit(outcome="nonsense")

    assert caught.value.code == "invalid_param"


@pytest.mark.parametrize("kind", ["refused", "lost_response", "half_close"])
def test_a_connection_lost_on_the_way_is_a_connection_error_and_no_timeout(twin: Twin, kind: str) -> None:
    task = twin.submit(outcome="hang", faults=[fault("query", kind)])

    with pytest.raises(ApiConnectionError) as caught:
        twin.call("query", task.task_id)

    assert not isinstance(caught.value, ApiTimeout)
    assert twin.call("query", task.task_id).task_id == task.task_id


@pytest.mark.parametrize("kind", ["hang", "slow"])
def test_an_answer_that_takes_too_long_is_a_timeout(twin: Twin, kind: str) -> None:
    task = twin.submit(outcome="hang", faults=[fault("query", kind, delay_s=5)])

    with pytest.raises(ApiTimeout):
        twin.call("query", task.task_id, timeout_s=0.2)


def test_garbage_is_a_response_error(twin: Twin) -> None:
    task = twin.submit(outcome="hang", faults=[fault("query", "garbage")])

    with pytest.raises(ApiResponseError):
        twin.call("query", task.task_id)


def test_a_wrong_label_on_a_good_answer_does_no_harm(twin: Twin) -> None:
    task = twin.submit(outcome="hang", faults=[fault("query", "wrong_content_type")])

    assert twin.call("query", task.task_id).task_id == task.task_id


def test_the_servers_hints_arrive(twin: Twin) -> None:
    busy = fault("query", "status", status=429, code="concurrency_limit", retry_after_s=2)
    empty = fault("query", "status", status=429, code="rate_limit_exceeded", reset_in_s=60)
    down = fault("query", "status", status=503, code="api_error")
    task = twin.submit(outcome="hang", faults=[busy, empty, down])

    caught = []
    for kind in (RateLimited, RateLimited, ServerError):
        with pytest.raises(kind) as info:
            twin.call("query", task.task_id)
        caught.append(info.value)

    assert isinstance(caught[0], RateLimited)
    assert caught[0].concurrency
    assert caught[0].retry_after_s == 2
    assert caught[1].retry_after_s == pytest.approx(60, abs=5)
    assert caught[2].retry_after_s is None


def test_a_server_that_is_not_there_is_a_connection_error_and_no_timeout(unconnected: Twin) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    unconnected.connect(f"http://127.0.0.1:{port}")

    with pytest.raises(ApiConnectionError) as caught:
        unconnected.call("query", "task_1")

    assert "Timeout" not in str(caught.value)
    assert not isinstance(caught.value, ApiTimeout)


@pytest.mark.parametrize(
    "answer", [b"hello\r\n\r\n", b"HTTP/1.1 2OO OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", b""]
)
def test_a_server_that_does_not_speak_http_is_a_connection_error(unconnected: Twin, answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        unconnected.connect(f"http://127.0.0.1:{listener.getsockname()[1]}")

        with pytest.raises(ApiConnectionError):
            unconnected.call("query", "task_1", timeout_s=5)

        thread.join()


def test_the_usual_proxy_variables_are_honoured_by_both(unconnected: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []
    body = json.dumps({"task_id": "task_1", "status": "running"}).encode()
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def proxy() -> None:
            connection, _ = listener.accept()
            with connection:
                seen.append(connection.recv(65536))
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body
                )

        thread = threading.Thread(target=proxy)
        thread.start()
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{listener.getsockname()[1]}")
        unconnected.connect("http://api.invalid")

        task = unconnected.call("query", "task_1", timeout_s=5)

        thread.join()
    assert task.status == "running"
    assert seen[0].startswith(b"POST http://api.invalid/v1/tasks/query ")


def test_a_hundred_and_more_queries_at_once_share_the_connections(server: SandboxServer) -> None:
    async def ask() -> list[RemoteTask]:
        async with AsyncClient(KEY, server.url, max_connections=10) as client:
            task = await client.submit("sora-2", {"prompt": "a fox", "sandbox": {"outcome": "hang"}})
            return await asyncio.gather(*[client.query(task.task_id) for _ in range(150)])

    assert len(asyncio.run(ask())) == 150


def test_a_stream_tells_of_changes_until_the_task_has_ended(twin: Twin) -> None:
    task = twin.submit(duration_s=0.4, pending_s=0.2)
    events: list[StreamEvent] = []

    twin.stream_into(events, task.task_id, silence_s=5)

    assert events
    assert all(event.task is not None and event.task.task_id == task.task_id for event in events)
    assert twin.call("query", task.task_id).is_terminal


def test_a_stream_of_an_unknown_task_is_not_found(twin: Twin) -> None:
    with pytest.raises(NotFound):
        twin.stream_into([], "task_0")


def test_heartbeats_keep_a_stream_alive_and_silence_ends_it(twin: Twin) -> None:
    events: list[StreamEvent] = []
    task = twin.submit(duration_s=0.6, faults=[fault("stream", "hang", after=1)])

    twin.stream_into(events, task.task_id, silence_s=0.3)  # longer than a heartbeat, shorter than the task
    with pytest.raises(ApiTimeout):
        twin.stream_into(events, task.task_id, silence_s=0.3)

    assert events


def test_a_stream_that_is_cut_is_a_connection_error(twin: Twin) -> None:
    task = twin.submit(outcome="hang", faults=[fault("stream", "half_close")])

    with pytest.raises(ApiConnectionError) as caught:
        twin.stream_into([], task.task_id, silence_s=5)

    assert not isinstance(caught.value, ApiTimeout)
