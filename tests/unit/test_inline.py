from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from tasks_bridge.client import Client
from tasks_bridge.errors import BadRequest, JobCancelled, JobExpired, JobFailed
from tasks_bridge.inline import run_inline
from tasks_bridge.record import JobRecord
from tasks_bridge.settings import Settings
from tasks_bridge.wire import submit_body

SETTINGS = Settings(api_key=SecretStr("k"))
BODY = submit_body("m", {"prompt": "a fox"}, out_task_id="job")

Answer = httpx.Response | Exception


def task(status: str, **fields: Any) -> httpx.Response:
    return httpx.Response(200, json={"task_id": "task_1", "out_task_id": "job", "status": status, **fields})


def refusal(status: int, code: str) -> httpx.Response:
    return httpx.Response(status, json={"error": {"code": code, "message": "no"}})


class Service:
    """Answers as scripted, the last answer for ever; and a clock that only moves when somebody sleeps."""

    def __init__(self, *answers: Answer | Callable[[], Answer]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, bytes]] = []
        self.now = 1000.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.asked.append((request.url.path.removeprefix("/v1/tasks/"), request.content))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, httpx.Response)
        return httpx.Response(answer.status_code, content=answer.content)

    def run(self, *, deadline_s: float | None = None, settings: Settings = SETTINGS) -> dict[str, Any]:
        record = JobRecord(version=1, model="m", key="default", digest="d", created_at=self.now, deadline_s=deadline_s)
        client = Client("k", "https://api.test", transport=httpx.MockTransport(self.handle))
        return run_inline(settings, client, "job", record, BODY, clock=lambda: self.now, sleep=self.sleep)

    @property
    def endpoints(self) -> list[str]:
        return [endpoint for endpoint, _ in self.asked]


def test_a_job_is_submitted_once_and_queried_until_it_has_completed() -> None:
    service = Service(
        task("pending", estimated_seconds=60), task("pending"), task("running"), task("completed", credits_used=1.5)
    )

    result = service.run()

    assert result == {"task_id": "task_1", "out_task_id": "job", "status": "completed", "credits_used": 1.5}
    assert service.endpoints == ["submit", "query", "query", "query"]
    assert service.asked[0][1] == BODY
    assert json.loads(service.asked[1][1]) == {"task_id": "task_1"}
    assert all(9 <= seconds <= 11 for seconds in service.slept)


def test_a_lost_answer_to_the_submit_is_repaired_by_the_same_bytes() -> None:
    service = Service(httpx.ReadTimeout("late"), task("pending"), task("completed"))

    service.run()

    assert service.endpoints == ["submit", "submit", "query"]
    assert service.asked[1][1] == service.asked[0][1]


def test_a_failed_read_is_no_failed_job() -> None:
    service = Service(task("pending"), httpx.ConnectError("down"), refusal(503, "overloaded"), task("completed"))

    assert service.run()["status"] == "completed"


def test_a_failed_task_raises_what_the_service_said() -> None:
    service = Service(task("pending"), task("failed", error_code="content_policy_violation", error_message="rejected"))

    with pytest.raises(JobFailed) as caught:
        service.run()

    assert (caught.value.job_id, caught.value.code) == ("job", "content_policy_violation")
    assert caught.value.message == "rejected"


def test_a_refused_submit_raises_the_refusal() -> None:
    with pytest.raises(BadRequest) as caught:
        Service(refusal(400, "invalid_param")).run()

    assert caught.value.code == "invalid_param"


def test_a_task_cancelled_elsewhere_raises_that() -> None:
    with pytest.raises(JobCancelled):
        Service(task("pending"), task("cancelled")).run()


def test_a_job_past_its_deadline_is_cancelled_at_the_service() -> None:
    service = Service(task("pending", estimated_seconds=60), task("running"), task("cancelled"))

    with pytest.raises(JobExpired) as caught:
        service.run(deadline_s=15)

    assert service.endpoints == ["submit", "query", "cancel/task_1"]
    assert sum(service.slept) == pytest.approx(15)
    assert caught.value.deadline_s == 15


def test_a_job_that_completed_at_its_deadline_has_completed() -> None:
    service = Service(task("pending"), task("running"), task("completed"))

    assert service.run(deadline_s=7)["status"] == "completed"


def test_a_job_whose_service_never_answers_expires() -> None:
    service = Service(httpx.ConnectError("down"))

    with pytest.raises(JobExpired):
        service.run(deadline_s=30)

    assert service.now <= 1000 + 30 + SETTINGS.cancel_grace_s + SETTINGS.poll_max_s
