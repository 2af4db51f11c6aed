"""
The sandbox against the API's documented requests and responses, over HTTP, with a client that is not ours.

"Seed" is the API's /tasks/query page; "section" refers to the contract.
"""

import json
import queue
import re
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from tasks_bridge.sandbox import SandboxServer

KEY = "sk-byts-0123456789"
OUT_TASK_ID = "my-render-2026-05-25-001"
PARAMS = {"prompt": "City skyline time lapse at dusk", "duration_seconds": 8, "aspect_ratio": "16:9"}
SEED_OUTPUT = [
    {
        "type": "video",
        "url": "https://cdn.bytespike.ai/multimodal/sora-2/2026-05-25/01HQX9F2P6Y8VEX3CRZ8GXJVD9.mp4",
        "duration_seconds": 8,
        "width": 1920,
        "height": 1080,
    }
]
PENDING = {"pending_s": 1000, "duration_s": 2000}
RUNNING = {"pending_s": 0, "duration_s": 1000}
COMPLETED = {"duration_s": 0}
FAILED = {"duration_s": 0, "outcome": "failed"}


@pytest.fixture(scope="module")
def running_server() -> Iterator[SandboxServer]:
    with SandboxServer(heartbeat_s=0.05) as server:
        yield server


@pytest.fixture
def server(running_server: SandboxServer) -> SandboxServer:
    running_server.reset()
    return running_server


@pytest.fixture
def http(server: SandboxServer) -> Iterator[httpx.Client]:
    with connect(server) as client:
        yield client


def connect(server: SandboxServer, key: str = KEY, **options: Any) -> httpx.Client:
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.Client(base_url=server.url, headers=headers, trust_env=False, timeout=10, **options)


def body(
    script: dict[str, Any] | None = None,
    *,
    model: str = "sora-2-pro",
    out_task_id: str | None = OUT_TASK_ID,
    **more: Any,
) -> dict[str, Any]:
    params = PARAMS if script is None else {**PARAMS, "sandbox": script}
    request = {"model": model, "params": params, **more}
    return request if out_task_id is None else request | {"out_task_id": out_task_id}


def submit(http: httpx.Client, script: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    response = http.post("/v1/tasks/submit", json=body(script, **more))
    assert response.status_code == 200, response.text
    task: dict[str, Any] = response.json()
    return task


def query(http: httpx.Client, **identifier: Any) -> httpx.Response:
    return http.post("/v1/tasks/query", json=identifier or {"out_task_id": OUT_TASK_ID})


def error(response: httpx.Response) -> tuple[int, str | None]:
    """
    The HTTP status and ``error.code`` of an error envelope.
    """
    envelope = response.json()
    assert set(envelope) == {"error"}
    assert {"message", "type"} <= set(envelope["error"]) <= {"message", "type", "code"}
    return response.status_code, envelope["error"].get("code")


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.01)
    raise AssertionError(f"not within 5 s: {what}")


# --- seed and section 3: submit


def test_a_first_submit_answers_as_documented(http: httpx.Client) -> None:
    response = http.post("/v1/tasks/submit", json=body(callback_url="http://127.0.0.1:9/nobody") | {"stream": True})
    task = response.json()

    assert response.status_code == 200
    assert re.fullmatch(r"task_[0-9A-HJKMNP-TV-Z]{26}", task.pop("task_id"))
    assert task == {
        "out_task_id": OUT_TASK_ID,
        "status": "pending",
        "estimated_credits": 1.50,
        "estimated_seconds": 35,
    }


def test_a_first_submit_is_pending_however_short_the_task(http: httpx.Client) -> None:
    assert submit(http, COMPLETED)["status"] == "pending"


def test_a_submit_without_an_id_of_ones_own_is_answered_without_one(http: httpx.Client) -> None:
    assert "out_task_id" not in submit(http, out_task_id=None)


def test_missing_estimates_are_absent(http: httpx.Client) -> None:
    task = submit(http, {"estimate_s": None, "estimated_credits": None})

    assert set(task) == {"task_id", "out_task_id", "status"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"params": {}}',
        b'{"model": "sora-2"}',
        b'{"model": "", "params": {}}',
        b'{"model": 1, "params": {}}',
        b'{"model": "sora-2", "params": []}',
        b'{"model": "sora-2", "prompt": "parameters at the top level"}',
        b'{"model": "sora-2", "params": {}, "out_task_id": 1}',
        b'{"model": "sora-2", "params": {}, "callback_url": "ftp://here"}',
        b'{"model": "sora-2", "params": {"sandbox": {"typo": 1}}}',
        b'{"model": "gpt-4o-mini", "params": {}}',
        b'{"model": "gemini-2.5-pro", "params": {}}',
        pytest.param(b"[" * 100_000, id="deep"),
    ],
)
def test_a_bad_submit_is_an_invalid_param(http: httpx.Client, server: SandboxServer, content: bytes) -> None:
    assert error(http.post("/v1/tasks/submit", content=content)) == (400, "invalid_param")
    assert server.tasks() == []


def test_a_text_model_is_refused_in_the_documented_words(http: httpx.Client) -> None:
    response = http.post("/v1/tasks/submit", json=body(model="claude-sonnet-4-6"))

    assert response.status_code == 400
    assert response.json() == {
        "error": {
            "code": "invalid_param",
            "message": 'model "claude-sonnet-4-6" is not a multimodal task model',
            "type": "invalid_request_error",
        }
    }


def test_an_unknown_model_is_not_found(http: httpx.Client) -> None:
    assert error(http.post("/v1/tasks/submit", json=body(model="dall-f"))) == (400, "model_not_found")


@pytest.mark.parametrize("path", ["submit", "query", "cancel"])
def test_a_body_may_have_a_mebibyte_and_no_more(http: httpx.Client, path: str) -> None:
    start = b'{"padding": "'
    largest = start + b"x" * (1024 * 1024 - len(start) - 2) + b'"}'

    assert len(largest) == 1024 * 1024
    assert error(http.post(f"/v1/tasks/{path}", content=largest)) == (400, "invalid_param")
    assert error(http.post(f"/v1/tasks/{path}", content=largest + b" ")) == (413, "request_entity_too_large")


def test_a_body_too_large_without_a_length_is_refused_too(http: httpx.Client) -> None:
    response = http.post("/v1/tasks/submit", content=(b"x" * 65536 for _ in range(17)))

    assert error(response) == (413, "request_entity_too_large")


# --- seed and section 4: query


def test_a_running_task_answers_as_documented(http: httpx.Client) -> None:
    task_id = submit(http, RUNNING | {"estimate_s": 35})["task_id"]
    response = query(http, task_id=task_id)

    assert response.status_code == 200
    assert response.json() == {
        "task_id": task_id,
        "out_task_id": OUT_TASK_ID,
        "status": "running",
        "estimated_credits": 1.50,
        "estimated_seconds": 35,
    }
    assert query(http, out_task_id=OUT_TASK_ID).json() == response.json()


def test_a_completed_task_answers_as_documented(http: httpx.Client) -> None:
    task_id = submit(http, COMPLETED | {"output": SEED_OUTPUT})["task_id"]
    response = query(http)

    assert response.status_code == 200
    assert response.json() == {
        "task_id": task_id,
        "out_task_id": OUT_TASK_ID,
        "status": "completed",
        "credits_used": 1.47,
        "output": SEED_OUTPUT,
    }
    assert query(http).json() == response.json(), "re-querying a completed task changes nothing"


def test_a_failed_task_answers_as_documented_with_200(http: httpx.Client) -> None:
    task_id = submit(http, FAILED)["task_id"]
    response = query(http)

    assert response.status_code == 200
    assert response.json() == {
        "task_id": task_id,
        "out_task_id": OUT_TASK_ID,
        "status": "failed",
        "error_code": "content_policy_violation",
        "error_message": "The prompt was rejected under content policy.",
    }


def test_the_output_made_here_has_the_documented_shape(http: httpx.Client, server: SandboxServer) -> None:
    task_id = submit(http, COMPLETED)["task_id"]

    assert query(http).json()["output"] == [
        {**SEED_OUTPUT[0], "url": f"{server.url}/files/{task_id}.mp4"},
    ]


@pytest.mark.parametrize("path", ["query", "cancel"])
@pytest.mark.parametrize(
    "identifiers",
    [
        {},
        {"task_id": "", "out_task_id": ""},
        {"task_id": None},
        {"task_id": "task_1", "out_task_id": OUT_TASK_ID},
        {"task_id": 1},
        {"out_task_id": ["a"]},
    ],
)
def test_exactly_one_identifier_is_required(http: httpx.Client, path: str, identifiers: Any) -> None:
    assert error(http.post(f"/v1/tasks/{path}", json=identifiers)) == (400, "invalid_param")


@pytest.mark.parametrize("path", ["query", "cancel"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"task_1"'])
def test_a_body_that_is_no_object_is_an_invalid_param(http: httpx.Client, path: str, content: bytes) -> None:
    assert error(http.post(f"/v1/tasks/{path}", content=content)) == (400, "invalid_param")


@pytest.mark.parametrize("identifier", [{"task_id": "task_01HQX9F2P6Y8VEX3CRZ8GXJVD9"}, {"out_task_id": "x"}])
def test_an_unknown_task_is_not_found(http: httpx.Client, identifier: dict[str, str]) -> None:
    assert error(query(http, **identifier)) == (404, "task_not_found")
    assert error(http.post("/v1/tasks/cancel", json=identifier)) == (404, "task_not_found")


def test_a_task_goes_through_its_states_in_time(http: httpx.Client) -> None:
    submit(http, {"pending_s": 0.2, "duration_s": 0.4})
    seen: list[str] = []

    def is_over() -> bool:
        status: str = query(http).json()["status"]
        if status not in seen:
            seen.append(status)
        return status == "completed"

    wait_for(is_over, "completed")
    assert seen == ["pending", "running", "completed"]


# --- sections 1 and 2: keys and ownership


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/tasks/submit"),
        ("POST", "/v1/tasks/query"),
        ("POST", "/v1/tasks/cancel"),
        ("POST", "/v1/tasks/cancel/task_1"),
        ("GET", "/v1/tasks/stream/task_1"),
        ("GET", "/v1/models"),
        ("GET", "/api/v1/me/account"),
    ],
)
@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer"}, {"Authorization": "Basic abc"}, {"x-api-key": ""}]
)
def test_a_request_without_a_key_is_unauthorised(
    server: SandboxServer, method: str, path: str, headers: dict[str, str]
) -> None:
    response = httpx.request(method, server.url + path, headers=headers, trust_env=False)

    assert error(response) == (401, "invalid_api_key")
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_only_the_keys_given_are_accepted_if_any_are() -> None:
    with SandboxServer(keys=[KEY]) as server, connect(server) as http:
        assert http.get("/v1/models").status_code == 200
        response = httpx.get(f"{server.url}/v1/models", headers={"x-api-key": "sk-other"}, trust_env=False)
        assert response.json() == {
            "error": {"type": "invalid_request_error", "code": "invalid_api_key", "message": "invalid x-api-key"}
        }
        assert response.status_code == 401


def test_the_other_header_works_and_wins(http: httpx.Client, server: SandboxServer) -> None:
    task_id = submit(http)["task_id"]
    as_me = {"x-api-key": KEY, "Authorization": "Bearer somebody-else"}
    as_other = {"x-api-key": "somebody-else", "Authorization": f"Bearer {KEY}"}
    ask = {"url": f"{server.url}/v1/tasks/query", "json": {"task_id": task_id}}

    assert httpx.post(**ask, headers=as_me, trust_env=False).status_code == 200  # type: ignore[arg-type]
    assert httpx.post(**ask, headers=as_other, trust_env=False).status_code == 404  # type: ignore[arg-type]


def test_the_task_of_another_key_looks_like_none(http: httpx.Client, server: SandboxServer) -> None:
    task_id = submit(http, COMPLETED)["task_id"]
    with connect(server, key="somebody-else") as other:
        answers = [
            query(other, task_id=task_id),
            query(other, out_task_id=OUT_TASK_ID),
            other.post(f"/v1/tasks/cancel/{task_id}"),
            other.post("/v1/tasks/cancel", json={"out_task_id": OUT_TASK_ID}),
            other.get(f"/v1/tasks/stream/{task_id}"),
        ]
        unknown = query(other, task_id="task_unknown")
        theirs = submit(other)

    assert [error(answer) for answer in answers] == [(404, "task_not_found")] * 5
    assert {answer.content for answer in answers} == {unknown.content}, "nothing tells the two cases apart"
    assert theirs["task_id"] != task_id, "the same out_task_id is free for another key"


# --- section 5: cancel


def cancel_by_path(http: httpx.Client, task: dict[str, Any]) -> httpx.Response:
    return http.post(f"/v1/tasks/cancel/{task['task_id']}")


def cancel_by_own_id(http: httpx.Client, task: dict[str, Any]) -> httpx.Response:
    return http.post("/v1/tasks/cancel", json={"out_task_id": task["out_task_id"]})


def cancel_by_body(http: httpx.Client, task: dict[str, Any]) -> httpx.Response:
    return http.post("/v1/tasks/cancel", json={"task_id": task["task_id"]})


@pytest.mark.parametrize("cancel", [cancel_by_path, cancel_by_own_id, cancel_by_body])
@pytest.mark.parametrize("script", [PENDING, RUNNING])
def test_cancelling_answers_as_documented(
    http: httpx.Client,
    cancel: Callable[[httpx.Client, dict[str, Any]], httpx.Response],
    script: dict[str, Any],
) -> None:
    task = submit(http, script | {"estimate_s": 35})
    response = cancel(http, task)

    assert response.status_code == 200
    assert response.json() == {
        "task_id": task["task_id"],
        "out_task_id": OUT_TASK_ID,
        "status": "cancelled",
        "estimated_credits": 1.50,
        "estimated_seconds": 35,
    }
    assert cancel(http, task).json() == response.json(), "cancelling twice is cancelling once"
    assert query(http).json() == response.json()


@pytest.mark.parametrize("script", [COMPLETED, FAILED])
def test_cancelling_a_finished_task_answers_with_its_end(http: httpx.Client, script: dict[str, Any]) -> None:
    task = submit(http, script)

    assert cancel_by_path(http, task).json() == query(http).json()


@pytest.mark.parametrize(
    ("before", "policy", "status", "charged"),
    [
        (PENDING, "billed", "cancelled", None),
        (RUNNING, "billed", "cancelled", 0.5),
        (RUNNING, "refused", "running", None),
        (PENDING, "refused", "pending", None),
        (RUNNING, "completes", "completed", 1.47),
    ],
)
def test_cancelling_does_what_is_scripted(
    http: httpx.Client, before: dict[str, Any], policy: str, status: str, charged: float | None
) -> None:
    task = cancel_by_path(http, submit(http, before | {"cancel": policy, "cancel_credits": 0.5})).json()

    assert (task["status"], task.get("credits_used")) == (status, charged)
    assert ("estimated_credits" in task) == (charged is None), "the estimate goes when the charge is known"


def test_an_id_in_the_path_beats_one_in_the_body(http: httpx.Client) -> None:
    task = submit(http, RUNNING)
    response = http.post(f"/v1/tasks/cancel/{task['task_id']}", json={"task_id": "task_other"})

    assert response.json()["task_id"] == task["task_id"]


def test_an_id_in_the_path_and_an_own_id_are_both(http: httpx.Client) -> None:
    task = submit(http, RUNNING)
    response = http.post(f"/v1/tasks/cancel/{task['task_id']}", json={"out_task_id": OUT_TASK_ID})

    assert error(response) == (400, "invalid_param")


# --- section 6: push


def events(response: httpx.Response) -> Iterator[tuple[str, Any]]:
    name = ""
    for line in response.iter_lines():
        if line.startswith(":"):
            yield "comment", line
        elif line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


def test_a_stream_pushes_every_state_with_heartbeats_between_and_ends(http: httpx.Client) -> None:
    task_id = submit(http, {"pending_s": 0.2, "duration_s": 0.4})["task_id"]
    with http.stream("GET", f"/v1/tasks/stream/{task_id}") as response:
        received = list(events(response))
    states = [task for name, task in received if name == "status"]

    assert response.headers["content-type"] == "text/event-stream"
    assert [task["status"] for task in states] == ["pending", "running", "completed"]
    assert states[-1] == query(http).json()
    assert any(name == "comment" for name, _ in received), "heartbeats"


def test_a_stream_hears_of_a_cancel_at_once(http: httpx.Client) -> None:
    task = submit(http, RUNNING)
    with http.stream("GET", f"/v1/tasks/stream/{task['task_id']}") as response:
        received = (task for name, task in events(response) if name == "status")
        assert next(received)["status"] == "running"
        cancel_by_path(http, task)
        assert [task["status"] for task in received] == ["cancelled"]


def test_a_stream_of_a_finished_task_tells_its_end_and_closes(http: httpx.Client) -> None:
    task_id = submit(http, COMPLETED)["task_id"]
    with http.stream("GET", f"/v1/tasks/stream/{task_id}") as response:
        assert [(name, task["status"]) for name, task in events(response)] == [("status", "completed")]


class Receiver:
    """
    A real web server that keeps what is POSTed to it.
    """

    def __init__(self) -> None:
        received: queue.Queue[tuple[str, bytes]] = queue.Queue()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                received.put((self.path, content))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.received = received
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook/token"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.mark.parametrize("script", [COMPLETED, FAILED, {"duration_s": 0.2}])
def test_the_callback_comes_when_the_task_has_ended(
    http: httpx.Client, server: SandboxServer, receiver: Receiver, script: dict[str, Any]
) -> None:
    submit(http, script, callback_url=receiver.url)
    path, content = receiver.received.get(timeout=5)

    assert path == "/hook/token"
    assert json.loads(content) == query(http).json()
    delivered = wait_for(lambda: server.tasks()[0]["callbacks"], "the delivery is recorded")
    assert [delivery["status"] for delivery in delivered] == [204]


def test_a_cancelled_task_calls_back_too_and_a_running_one_does_not(http: httpx.Client, receiver: Receiver) -> None:
    task = submit(http, RUNNING, callback_url=receiver.url)
    with pytest.raises(queue.Empty):
        receiver.received.get(timeout=0.1)
    cancel_by_path(http, task)

    assert json.loads(receiver.received.get(timeout=5)[1])["status"] == "cancelled"


def test_a_repeated_submit_calls_back_once_at_the_first_address(http: httpx.Client, receiver: Receiver) -> None:
    first = submit(http, {"duration_s": 0.1}, callback_url=receiver.url)
    assert submit(http, {"duration_s": 0.1}, callback_url="http://127.0.0.1:9/")["task_id"] == first["task_id"]
    receiver.received.get(timeout=5)

    with pytest.raises(queue.Empty):
        receiver.received.get(timeout=0.1)


def test_a_callback_nobody_takes_is_recorded_and_harms_nothing(http: httpx.Client, server: SandboxServer) -> None:
    submit(http, COMPLETED, callback_url="http://127.0.0.1:9/")

    (delivery,) = wait_for(lambda: server.tasks()[0]["callbacks"], "the attempt is recorded")
    assert "error" in delivery
    assert query(http).json()["status"] == "completed"


@pytest.mark.parametrize(("kind", "times"), [("duplicate", 2), ("refused", 0), ("garbage", 1), ("slow", 1)])
def test_a_callback_may_be_doubled_lost_late_or_nonsense(
    http: httpx.Client, server: SandboxServer, receiver: Receiver, kind: str, times: int
) -> None:
    fault = {"on": "callback", "kind": kind, "delay_s": 0.1}
    submit(http, COMPLETED | {"faults": [fault]}, callback_url=receiver.url)
    wait_for(lambda: len(server.tasks()[0]["callbacks"]) == max(1, times), "the attempts are recorded")

    contents = [receiver.received.get(timeout=5)[1] for _ in range(times)]
    assert receiver.received.empty()
    if kind == "garbage":
        assert contents == [b"<html></html>"]
    else:
        assert all(json.loads(content)["status"] == "completed" for content in contents)


# --- section 7: idempotency


def test_the_same_submit_again_is_the_same_task_in_its_current_state(http: httpx.Client, server: SandboxServer) -> None:
    first = submit(http, COMPLETED)
    again = submit(http, COMPLETED)

    assert first["status"] == "pending"
    assert (again["task_id"], again["status"]) == (first["task_id"], "completed")
    assert len(server.tasks()) == 1
    assert server.stats()["duplicate_submits"] == 1


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_a_dead_task_still_owns_its_id(http: httpx.Client, end: str) -> None:
    script = FAILED if end == "failed" else RUNNING
    first = submit(http, script)
    cancel_by_path(http, first)
    again = submit(http, script)

    assert (again["task_id"], again["status"]) == (first["task_id"], end)


@pytest.mark.parametrize("change", [{"model": "sora-2"}, {"params": {**PARAMS, "duration_seconds": 9}}, {"params": {}}])
def test_another_submit_under_the_same_id_is_a_conflict(http: httpx.Client, change: dict[str, Any]) -> None:
    submit(http)

    response = http.post("/v1/tasks/submit", json=body() | change)
    assert error(response) == (409, "duplicate_out_task_id")


def test_concurrent_equal_submits_make_one_task(server: SandboxServer, http: httpx.Client) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: submit(http), range(64)))

    assert len({answer["task_id"] for answer in answers}) == 1
    assert (server.stats()["tasks"], server.tasks()[0]["submits"]) == (1, 64)


def test_hundreds_of_tasks_at_once_keep_apart(server: SandboxServer, http: httpx.Client) -> None:
    def one(number: int) -> tuple[int, dict[str, Any]]:
        submit(http, COMPLETED | {"credits": number}, out_task_id=f"job-{number}")
        return number, query(http, out_task_id=f"job-{number}").json()

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(one, range(300)))

    assert all((task["out_task_id"], task["credits_used"]) == (f"job-{number}", number) for number, task in answers)
    assert server.stats()["status"] == {"completed": 300}


# --- section 8: errors


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/tasks/query", "POST"),
        ("GET", "/v1/tasks/submit", "POST"),
        ("DELETE", "/v1/tasks/cancel/task_1", "POST"),
        ("POST", "/v1/tasks/stream/task_1", "GET"),
        ("POST", "/v1/models", "GET"),
        ("PUT", "/files/x.png", "GET, HEAD"),
    ],
)
def test_a_wrong_method_is_refused_in_the_envelope(http: httpx.Client, method: str, path: str, allowed: str) -> None:
    response = http.request(method, path)

    assert error(response) == (405, "method_not_allowed")
    assert response.headers["allow"] == allowed


@pytest.mark.parametrize("path", ["/", "/v1/balance", "/v1/tasks", "/v1/tasks/query/", "/v1/videos/generations"])
def test_a_wrong_route_is_not_found(http: httpx.Client, path: str) -> None:
    assert error(http.post(path)) == (404, "not_found")


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (402, "insufficient_balance"),
        (403, "permission_denied"),
        (422, None),
        (429, "rate_limit_exceeded"),
        (451, None),
        (500, "internal_error"),
        (502, "api_error"),
        (503, "api_error"),
        (504, "timeout"),
    ],
)
def test_every_documented_error_can_be_had(http: httpx.Client, status: int, code: str | None) -> None:
    fault = {"on": "submit", "kind": "status", "status": status}
    response = http.post("/v1/tasks/submit", json=body({"faults": [fault]}))

    assert error(response) == (status, code)


def test_an_error_may_carry_a_code_and_headers_of_ones_choice(http: httpx.Client) -> None:
    fault = {"status": 429, "code": "slow_down", "message": "Slow down.", "retry_after_s": 2.5, "reset_in_s": 60}
    submit(http, {"faults": [{"on": "query", "kind": "status", **fault, "headers": {"X-Odd": "yes"}}]})
    response = query(http)

    assert error(response) == (429, "slow_down")
    assert response.json()["error"]["message"] == "Slow down."
    assert response.headers["retry-after"] == "3"
    assert 50 <= int(response.headers["x-ratelimit-reset"]) - time.time() <= 62
    assert response.headers["x-odd"] == "yes"


# --- sections 9 and 10: limits, headers, account


def test_every_answer_has_the_spend_headers(http: httpx.Client) -> None:
    for response in (query(http), http.get("/v1/models"), http.get("/nowhere")):
        assert re.fullmatch(r"\d+\.\d\d", response.headers["x-ratelimit-limit"])
        assert re.fullmatch(r"\d+\.\d\d", response.headers["x-ratelimit-remaining"])
        assert int(response.headers["x-ratelimit-reset"]) > time.time()
        assert "x-quota-remaining-credits" in response.headers


def test_too_many_submits_in_flight_are_refused_and_queries_are_not() -> None:
    with SandboxServer(concurrency=1) as server, connect(server) as http, ThreadPoolExecutor(1) as pool:
        submit(http, RUNNING)
        slow = {"faults": [{"on": "submit", "kind": "slow", "delay_s": 1.5}]}
        in_flight = pool.submit(submit, http, slow, out_task_id="slow")
        wait_for(lambda: server.stats()["faults"].get("slow"), "the slow submit is in flight")
        refused = http.post("/v1/tasks/submit", json=body(out_task_id="refused"))

        assert error(refused) == (429, "concurrency_limit")
        assert "x-ratelimit-reset" not in refused.headers
        assert query(http).status_code == 200
        assert in_flight.result()["status"] == "pending"
        assert submit(http, out_task_id="refused")["status"] == "pending"


def test_the_catalogue_lists_models_and_can_be_filtered(http: httpx.Client) -> None:
    def slugs(**filters: Any) -> set[str]:
        return {row["id"] for row in http.get("/v1/models", params=filters).json()["data"]}

    assert {"sora-2-pro", "seedream-v4"} <= slugs()
    assert slugs(capability="video_gen") | slugs(capability="image_gen") == slugs()
    assert slugs(capability=["video_gen", "image_gen"]) == set()
    assert slugs(family="sora") == {"sora-2", "sora-2-pro"}


def test_the_account_shows_a_balance(http: httpx.Client) -> None:
    account = http.get("/api/v1/me/account").json()

    assert account["balance"]["available_usd"] > 0
    assert account["balance"]["low_balance_flagged"] is False
    assert "sora-2-pro" in account["allowed_models"]


# --- section 11: files


def file_of(http: httpx.Client, **more: Any) -> str:
    submit(http, COMPLETED, **more)
    url: str = query(http).json()["output"][0]["url"]
    return url


def test_the_picture_behind_the_url_is_a_png_of_the_size_told(http: httpx.Client) -> None:
    params = {"prompt": "a fox", "n": 2, "size": "320x200", "sandbox": COMPLETED}
    http.post("/v1/tasks/submit", json=body(model="seedream-v4") | {"params": params})
    output = query(http).json()["output"]
    pictures = [httpx.get(element["url"], trust_env=False) for element in output]

    assert [(element["type"], element["width"], element["height"]) for element in output] == [("image", 320, 200)] * 2
    assert len({picture.content for picture in pictures}) == 2
    for picture in pictures:
        assert picture.headers["content-type"] == "image/png"
        assert struct.unpack(">II", picture.content[16:24]) == (320, 200)
        start = picture.content.index(b"IDAT")
        (length,) = struct.unpack(">I", picture.content[start - 4 : start])
        assert len(zlib.decompress(picture.content[start + 4 : start + 4 + length])) == 321 * 200


def test_the_clip_behind_the_url_is_an_mp4_and_needs_no_key(http: httpx.Client, server: SandboxServer) -> None:
    response = httpx.get(file_of(http), trust_env=False)

    assert response.headers["content-type"] == "video/mp4"
    assert response.content[4:8] == b"ftyp"
    assert b"moov" in response.content
    assert server.stats()["keys_sent_to_files"] == 0


def test_a_key_sent_to_the_files_is_told_on(http: httpx.Client, server: SandboxServer) -> None:
    http.get(file_of(http))

    assert server.stats()["keys_sent_to_files"] == 1


def test_files_can_be_had_in_parts(http: httpx.Client) -> None:
    url = file_of(http)
    whole = http.get(url).content
    head = http.head(url)
    part = http.get(url, headers={"Range": "bytes=10-19"})
    rest = http.get(url, headers={"Range": f"bytes={len(whole) - 5}-"})
    beyond = http.get(url, headers={"Range": f"bytes={len(whole)}-"})

    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(whole))
    assert head.headers["accept-ranges"] == "bytes"
    assert (part.status_code, part.content) == (206, whole[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(whole)}"
    assert (rest.status_code, rest.content) == (206, whole[-5:])
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(whole)}")


@pytest.mark.parametrize("script", [RUNNING, FAILED])
def test_there_is_no_file_of_a_task_that_is_not_completed(http: httpx.Client, script: dict[str, Any]) -> None:
    task_id = submit(http, script)["task_id"]

    assert error(http.get(f"/files/{task_id}.mp4")) == (404, "not_found")


@pytest.mark.parametrize("name", ["{}.png", "{}-2.mp4", "{}", "x.mp4", "..%2Fsandbox.py"])
def test_there_are_no_other_files(http: httpx.Client, name: str) -> None:
    task_id = submit(http, COMPLETED)["task_id"]

    assert http.get(f"/files/{name.format(task_id)}").status_code == 404


def test_a_part_of_a_file_that_has_changed_is_not_given(http: httpx.Client) -> None:
    url = file_of(http)
    whole = http.get(url)

    for tag, status in ((whole.headers["etag"], 206), ('"another"', 200)):
        part = http.get(url, headers={"Range": "bytes=10-", "If-Range": tag})
        assert (part.status_code, part.content) == (status, whole.content[10 if status == 206 else 0 :])


def test_a_file_can_be_of_any_length(http: httpx.Client) -> None:
    url = file_of(http, params={"prompt": "x", "sandbox": COMPLETED | {"file_bytes": 3_000_000}})

    assert http.head(url).headers["content-length"] == "3000000"
    assert len(http.get(url).content) == 3_000_000


def test_a_url_that_expires_is_signed_and_the_next_answer_tells_another(http: httpx.Client) -> None:
    url = file_of(http, params={"prompt": "x", "sandbox": COMPLETED | {"url_life_s": 0.3}})
    assert http.get(url).status_code == 200
    assert error(http.get(url.replace("expires=1", "expires=9"))) == (403, "forbidden")
    assert error(http.get(url.partition("?")[0])) == (403, "forbidden")

    deadline = time.monotonic() + 5
    while http.get(url).status_code == 200:
        assert time.monotonic() < deadline, "expected the URL to expire"
    assert error(http.get(url)) == (403, "forbidden")
    fresh = query(http).json()["output"][0]["url"]
    assert fresh != url
    assert http.get(fresh).status_code == 200


def faulty_file(http: httpx.Client, kind: str, **members: Any) -> str:
    fault = {"on": "files", "kind": kind, **members}
    script = COMPLETED | {"file_bytes": 1_000_000, "faults": [fault]}
    return file_of(http, params={"prompt": "x", "sandbox": script})


@pytest.mark.parametrize(("kind", "status"), [("status", 503), ("not_found", 404)])
def test_a_file_may_be_refused(http: httpx.Client, kind: str, status: int) -> None:
    url = faulty_file(http, kind, **({"status": status} if kind == "status" else {}))

    assert [http.get(url).status_code for _ in range(2)] == [status, 200]


@pytest.mark.parametrize("kind", ["lost_response", "refused", "half_close"])
def test_the_connection_to_a_file_may_be_cut(http: httpx.Client, kind: str, server: SandboxServer) -> None:
    url = faulty_file(http, kind)

    with pytest.raises(httpx.RemoteProtocolError):
        http.get(url)
    assert http.get(url).status_code == 200
    assert server.stats()["faults"] == {kind: 1}


def test_the_type_of_a_file_may_be_wrong(http: httpx.Client) -> None:
    url = faulty_file(http, "wrong_content_type")

    assert [http.get(url).headers["content-type"] for _ in range(2)] == ["text/html", "video/mp4"]


def test_a_file_may_be_garbage(http: httpx.Client) -> None:
    assert http.get(faulty_file(http, "garbage")).text.startswith("<html>")


def test_a_file_may_come_slowly(http: httpx.Client) -> None:
    url = faulty_file(http, "trickle", delay_s=0.5)
    started_s = time.monotonic()

    assert len(http.get(url).content) == 1_000_000
    assert time.monotonic() - started_s >= 0.4


def test_a_file_may_have_no_end(http: httpx.Client) -> None:
    with http.stream("GET", faulty_file(http, "endless")) as response:
        assert "content-length" not in response.headers
        seen = 0
        for chunk in response.iter_raw():
            seen += len(chunk)
            if seen > 5_000_000:
                break


def test_a_server_of_files_may_not_know_parts(http: httpx.Client) -> None:
    response = http.get(faulty_file(http, "ignore_range"), headers={"Range": "bytes=10-19"})

    assert (response.status_code, len(response.content)) == (200, 1_000_000)


def test_the_tag_of_a_file_may_change(http: httpx.Client) -> None:
    url = faulty_file(http, "new_etag", times=2)
    tags = [http.get(url, headers={"If-Range": '"x"'}).headers["etag"] for _ in range(3)]

    assert len(set(tags)) == 3


def test_every_request_for_a_file_is_noted_with_its_task(http: httpx.Client, server: SandboxServer) -> None:
    url = faulty_file(http, "status", status=403)
    http.get(url)
    http.get(url, headers={"Range": "bytes=999990-"})

    (task,) = server.tasks()
    name = url.rpartition("/")[2]
    assert task["downloads"] == [
        {"name": name, "range": None, "status": 403, "bytes": 0},
        {"name": name, "range": "bytes=999990-", "status": 206, "bytes": 10},
    ]


# --- section 12: the older dialect, and things no documentation names


def test_the_older_dialect_can_be_had(http: httpx.Client, server: SandboxServer) -> None:
    script = {"duration_s": 0, "dialect": "old"}
    task = submit(http, script)
    seen = query(http).json()

    assert task["status"] == "queued"
    assert seen["result"] == {"video_url": f"{server.url}/files/{task['task_id']}.mp4"}
    assert (seen["status"], seen["credits"]) == ("completed", 1.47)
    assert {"submitted_at", "completed_at"} <= set(seen)
    assert not {"output", "credits_used"} & set(seen)


def test_unknown_fields_and_statuses_can_be_had(http: httpx.Client) -> None:
    submit(http, RUNNING | {"unknown_field": True, "unknown_status": "upscaling"})
    seen = query(http).json()

    assert seen["status"] == "upscaling"
    assert "upstream_provider" in seen


# --- faults


def spoilt(kind: str, *, on: str = "query", **members: Any) -> dict[str, Any]:
    return RUNNING | {"faults": [{"on": on, "kind": kind, **members}]}


@pytest.mark.parametrize("kind", ["refused", "lost_response"])
def test_a_connection_may_close_without_an_answer(http: httpx.Client, kind: str) -> None:
    submit(http, spoilt(kind))

    with pytest.raises(httpx.RemoteProtocolError):
        query(http)
    assert query(http).json()["status"] == "running"


def test_a_lost_answer_to_a_submit_leaves_a_task_and_a_refused_submit_none(
    http: httpx.Client, server: SandboxServer
) -> None:
    for kind, tasks in (("refused", 0), ("lost_response", 1)):
        server.reset()
        with pytest.raises(httpx.RemoteProtocolError):
            submit(http, spoilt(kind, on="submit"))
        assert server.stats()["tasks"] == tasks

        assert submit(http, spoilt(kind, on="submit"))["status"] == ("running" if tasks else "pending")
        assert server.stats()["tasks"] == 1


def test_an_error_to_a_submit_may_hide_that_it_took_effect(http: httpx.Client, server: SandboxServer) -> None:
    script = spoilt("status", on="submit", status=502, work_done=True)

    assert error(http.post("/v1/tasks/submit", json=body(script))) == (502, "api_error")
    assert server.stats()["tasks"] == 1


def test_a_lost_answer_to_a_cancel_leaves_the_task_cancelled_and_a_refused_one_does_not(
    http: httpx.Client,
) -> None:
    for kind, status in (("refused", "running"), ("lost_response", "cancelled")):
        task = submit(http, spoilt(kind, on="cancel"), out_task_id=kind)
        with pytest.raises(httpx.RemoteProtocolError):
            cancel_by_path(http, task)
        assert query(http, out_task_id=kind).json()["status"] == status


def test_a_task_may_not_be_found_for_a_while(http: httpx.Client) -> None:
    submit(http, spoilt("not_found", times=2, after=1))

    assert [query(http).status_code for _ in range(4)] == [200, 404, 404, 200]


def test_an_answer_may_be_late(http: httpx.Client) -> None:
    submit(http, spoilt("slow", delay_s=0.3))
    started_s = time.monotonic()

    assert query(http).json()["status"] == "running"
    assert time.monotonic() - started_s >= 0.3


def test_an_answer_may_never_come(http: httpx.Client) -> None:
    submit(http, spoilt("hang"))

    with pytest.raises(httpx.ReadTimeout):
        http.post("/v1/tasks/query", json={"out_task_id": OUT_TASK_ID}, timeout=0.2)
    assert query(http).json()["status"] == "running"


def test_a_hanging_connection_may_close_after_a_while(http: httpx.Client) -> None:
    submit(http, spoilt("hang", hang_s=0.2))

    with pytest.raises(httpx.RemoteProtocolError):
        query(http)


def test_an_answer_may_be_no_json(http: httpx.Client) -> None:
    submit(http, spoilt("garbage"))
    response = query(http)

    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    with pytest.raises(json.JSONDecodeError):
        response.json()


def test_an_answer_may_be_labelled_wrongly(http: httpx.Client) -> None:
    submit(http, spoilt("wrong_content_type"))
    response = query(http)

    assert response.headers["content-type"].startswith("text/html")
    assert response.json()["status"] == "running"


def test_an_answer_may_break_off(http: httpx.Client) -> None:
    submit(http, spoilt("half_close"))

    with pytest.raises(httpx.RemoteProtocolError, match=r"incomplete|without"):
        query(http)


@pytest.mark.parametrize(
    ("kind", "lines"),
    [("lost_response", 2), ("half_close", 1), ("garbage", 2), ("wrong_content_type", 2), ("slow", 2)],
)
def test_a_stream_may_be_spoilt(http: httpx.Client, kind: str, lines: int) -> None:
    script = COMPLETED | {"faults": [{"on": "stream", "kind": kind, "delay_s": 0.1}]}
    task_id = submit(http, script)["task_id"]
    received: list[str] = []
    broken = False
    with http.stream("GET", f"/v1/tasks/stream/{task_id}") as response:
        try:
            for line in response.iter_lines():
                received += [line] if line else []
        except httpx.RemoteProtocolError:
            broken = True

    assert broken == (kind in {"lost_response", "half_close"})
    assert len(received) == lines
    assert ("not json" in received[-1]) == (kind == "garbage")
    assert response.headers["content-type"].startswith("text/html") == (kind == "wrong_content_type")


@pytest.mark.parametrize("kind", ["hang", "refused"])
def test_a_stream_may_stay_silent_or_not_open(http: httpx.Client, kind: str) -> None:
    task_id = submit(http, spoilt(kind, on="stream", hang_s=0.1))["task_id"]

    with (
        pytest.raises(httpx.RemoteProtocolError),
        http.stream("GET", f"/v1/tasks/stream/{task_id}") as response,
    ):
        response.read()


@pytest.mark.parametrize(("kind", "status"), [("status", 500), ("not_found", 404)])
def test_a_stream_may_be_refused(http: httpx.Client, kind: str, status: int) -> None:
    task_id = submit(http, spoilt(kind, on="stream"))["task_id"]

    assert http.get(f"/v1/tasks/stream/{task_id}").status_code == status


# --- the control API, which is not ByteSpike's


def test_the_whole_server_may_fail_for_a_while(http: httpx.Client) -> None:
    submit(http, RUNNING)
    armed = http.post("/_sandbox/faults", json={"on": "query", "kind": "status", "status": 503, "for_s": 0.2})

    assert armed.status_code == 200
    assert error(query(http)) == (503, "api_error")
    assert cancel_by_own_id(http, {"out_task_id": OUT_TASK_ID}).status_code == 200, "only queries fail"
    wait_for(lambda: query(http).status_code == 200, "queries work again")


def test_faults_of_the_whole_server_can_be_counted_and_lifted(http: httpx.Client, server: SandboxServer) -> None:
    submit(http, RUNNING)
    server.fail("status", on="query", status=500, times=1)
    assert [query(http).status_code for _ in range(2)] == [500, 200]

    server.fail("status", times=None)
    assert [http.get("/v1/models").status_code, query(http).status_code] == [500, 500]
    http.delete("/_sandbox/faults")
    assert query(http).status_code == 200


@pytest.mark.parametrize("over_http", [True, False])
def test_the_server_may_be_down_for_a_while_and_keeps_its_tasks(
    server: SandboxServer, http: httpx.Client, over_http: bool
) -> None:
    submit(http, RUNNING)
    if over_http:
        assert http.post("/_sandbox/faults", json={"kind": "down", "for_s": 0.4}).status_code == 200
    else:
        server.fail("down", for_s=0.4)

    def is_down() -> bool:
        try:
            http.get("/v1/models")
        except httpx.TransportError:
            return True
        return False

    wait_for(is_down, "the server is down")
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url, trust_env=False)
    wait_for(lambda: not is_down(), "the server is up")
    assert query(http).json()["status"] == "running"


@pytest.mark.parametrize(
    "fault", [{}, [], {"kind": "explode"}, {"kind": "hang", "typo": 1}, {"kind": "down"}, {"kind": 1}]
)
def test_a_wrong_fault_is_refused(http: httpx.Client, fault: Any) -> None:
    assert http.post("/_sandbox/faults", json=fault).status_code == 400
    assert http.get("/v1/models").status_code == 200


def test_the_truth_about_tasks_and_requests_can_be_read(http: httpx.Client) -> None:
    task_id = submit(http, {"pending_s": 1, "duration_s": 10})["task_id"]
    for _ in range(3):
        query(http)
    cancel_by_own_id(http, {"out_task_id": OUT_TASK_ID})
    (task,) = http.get("/_sandbox/tasks").json()["tasks"]
    stats = http.get("/_sandbox/stats").json()

    assert (task["task_id"], task["out_task_id"], task["status"]) == (task_id, OUT_TASK_ID, "cancelled")
    assert (task["submits"], task["queries"], task["cancels"], task["streams"]) == (1, 3, 1, 0)
    assert task["started_s"] is None, "cancelled before it ran"
    assert 0 <= task["ended_s"] - task["created_s"] < 1
    assert abs(task["created_s"] - time.time()) < 5
    assert stats["requests"] == {"submit": 1, "query": 3, "cancel": 1}
    assert (stats["tasks"], stats["status"]) == (1, {"cancelled": 1})
    assert KEY not in json.dumps([task, stats])


def test_a_reset_forgets_everything(http: httpx.Client) -> None:
    submit(http, COMPLETED)
    http.post("/_sandbox/faults", json={"kind": "hang", "times": None})
    http.post("/_sandbox/reset")

    assert http.get("/_sandbox/tasks").json() == {"tasks": []}
    assert http.get("/_sandbox/stats").json()["requests"] == {}
    assert error(query(http)) == (404, "task_not_found")


# --- the server itself


def test_the_server_keeps_its_port_and_tasks_when_it_is_stopped_and_started() -> None:
    server = SandboxServer()
    with server, connect(server) as http:
        url = server.url
        submit(http, RUNNING)
    assert server.stats()["tasks"] == 1, "can be read after the end"

    with server, connect(server) as http:
        assert server.url == url
        assert query(http).json()["status"] == "running"


def test_tasks_survive_another_process_in_a_file(tmp_path: Path) -> None:
    state = tmp_path / "tasks.jsonl"
    with SandboxServer(state=state) as server, connect(server) as http:
        task = submit(http, RUNNING)
        submit(http, RUNNING, out_task_id="other")
        cancelled = cancel_by_own_id(http, {"out_task_id": "other"}).json()
    with SandboxServer(state=state) as server, connect(server) as http:
        assert query(http).json()["task_id"] == task["task_id"]
        assert query(http, out_task_id="other").json() == cancelled
        assert submit(http, RUNNING)["task_id"] == task["task_id"], "still the same task"
        server.reset()
    assert not state.exists()
    assert KEY not in task


def test_a_taken_port_is_an_error_and_leaves_nothing_behind() -> None:
    with SandboxServer() as server:
        port = int(server.url.rpartition(":")[2])
        second = SandboxServer(port=port)
        with pytest.raises(OSError, match="in use"):
            second.start()
        second.stop()


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_announces_its_address_and_stops_at_once(signal_number: int) -> None:
    command = "from tasks_bridge.sandbox import serve; serve(port=0)"
    with subprocess.Popen([sys.executable, "-c", command], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        url = line.split()[-1]
        with httpx.Client(base_url=url, headers={"x-api-key": KEY}, trust_env=False) as http:
            task_id = submit(http, RUNNING)["task_id"]
            with http.stream("GET", f"/v1/tasks/stream/{task_id}") as stream:
                next(stream.iter_lines())
                process.send_signal(signal_number)
                assert process.wait(timeout=3) == 0, "an open stream does not hold it up"

    assert line == f"ByteSpike sandbox on {url}\n"


def test_files_are_where_the_public_url_says() -> None:
    with SandboxServer(public_url="http://media.example/") as server, connect(server) as http:
        assert file_of(http).startswith("http://media.example/files/task_")


def test_added_latency_is_taken() -> None:
    with SandboxServer(latency_s=0.2) as server, connect(server) as http:
        started_s = time.monotonic()
        submit(http)
        assert time.monotonic() - started_s >= 0.2


@pytest.mark.parametrize("speed", [0, -1, float("nan"), float("inf")])
def test_a_speed_that_is_none_is_refused(speed: float) -> None:
    with pytest.raises(ValueError, match="speed"):
        SandboxServer(speed=speed)
