"""What is logged of a job, and how it is written."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from tasks_bridge import logs
from tasks_bridge.logs import REASON_CHARS, TRANSITION, JsonFormatter
from tasks_bridge.record import RECORD_VERSION, JobRecord, JobState
from tasks_bridge.steps import Step
from tasks_bridge.store.base import Lease

RECORD = JobRecord(
    version=RECORD_VERSION,
    model="sora-2",
    key="default",
    digest="d",
    created_at=1.0,
    remote={"task_id": "task_1", "status": "running"},
)


@pytest.fixture(autouse=True)
def all_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "tasks_bridge")


def transition(before: JobState, after: JobState, reason: str = "because", *, is_trouble: bool = False) -> None:
    lease = Lease("my-render-001", 3, 0, before, RECORD, None, None, now=1.0)
    logs.transition(lease, Step(after, RECORD, 1.0, reason, is_trouble=is_trouble))


@pytest.mark.parametrize(
    ("before", "after", "is_trouble", "expected"),
    [
        (JobState.QUEUED, JobState.PENDING, False, ("jobs", "DEBUG")),
        (JobState.PENDING, JobState.RUNNING, False, ("jobs", "DEBUG")),
        (JobState.RUNNING, JobState.RUNNING, False, ("reads", "DEBUG")),
        (JobState.RUNNING, JobState.RUNNING, True, ("jobs", "WARNING")),
        (JobState.RUNNING, JobState.COMPLETED, False, ("jobs", "INFO")),
        (JobState.RUNNING, JobState.FAILED, False, ("jobs", "INFO")),
        (JobState.QUEUED, JobState.CANCELLED, False, ("jobs", "INFO")),
        (JobState.RUNNING, JobState.EXPIRED, True, ("jobs", "WARNING")),
    ],
)
def test_ends_are_info_trouble_is_a_warning_and_the_rest_is_debug(
    before: JobState,
    after: JobState,
    is_trouble: bool,
    expected: tuple[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    transition(before, after, is_trouble=is_trouble)

    assert [(r.name, r.levelname) for r in caplog.records] == [(f"tasks_bridge.{expected[0]}", expected[1])]


def test_a_transition_is_one_line_that_says_which_job_what_and_why(caplog: pytest.LogCaptureFixture) -> None:
    transition(JobState.RUNNING, JobState.COMPLETED, "ByteSpike says\ncompleted")

    (record,) = caplog.records
    assert record.getMessage() == (
        "job my-render-001 remote=task_1 model=sora-2 from=RUNNING to=COMPLETED attempt=3 "
        "reason='ByteSpike says\\ncompleted'"
    )
    assert {name: getattr(record, name) for name in TRANSITION} == {
        "job_id": "my-render-001",
        "remote_id": "task_1",
        "model": "sora-2",
        "state_before": "RUNNING",
        "state": "COMPLETED",
        "attempt": 3,
        "reason": "ByteSpike says\ncompleted",
    }


def test_an_answer_that_quotes_a_long_prompt_is_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    transition(JobState.QUEUED, JobState.FAILED, "refused: " + "a fox " * 10_000)

    (record,) = caplog.records
    assert len(record.getMessage()) < REASON_CHARS + 200
    assert len(record.__dict__["reason"]) == REASON_CHARS + 1


def written(record: logging.LogRecord) -> dict[str, Any]:
    line = JsonFormatter().format(record)
    assert "\n" not in line
    found: dict[str, Any] = json.loads(line)
    return found


def test_json_has_a_member_for_each_part_of_a_transition(caplog: pytest.LogCaptureFixture) -> None:
    transition(JobState.RUNNING, JobState.COMPLETED)

    found = written(caplog.records[0])
    assert {name: found[name] for name in TRANSITION} == {
        "job_id": "my-render-001",
        "remote_id": "task_1",
        "model": "sora-2",
        "state_before": "RUNNING",
        "state": "COMPLETED",
        "attempt": 3,
        "reason": "because",
    }
    assert (found["level"], found["logger"]) == ("INFO", "tasks_bridge.jobs")
    assert found["time"].endswith("+00:00")


def test_json_knows_the_job_of_every_line_about_one_and_keeps_what_applications_add(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logs.jobs.warning("job %s: left to its lease: %s", "my-render-001", "Redis\nis away")
    extra = {"tenant": "acme", "count": 2, "is_new": True, "thing": object()}
    logging.getLogger("tasks_bridge.shop").info("sold %d", 2, extra=extra)
    try:
        int("no")
    except ValueError:
        logging.getLogger("tasks_bridge.shop").exception("it broke")

    lease, sold, broke = map(written, caplog.records)
    assert (lease["job_id"], lease["message"]) == (
        "my-render-001",
        "job my-render-001: left to its lease: Redis\nis away",
    )
    assert {name: sold.get(name) for name in extra} == {"tenant": "acme", "count": 2, "is_new": True, "thing": None}
    assert set(sold) == {"time", "level", "logger", "message", "process", "tenant", "count", "is_new"}
    assert broke["exception"].endswith("invalid literal for int() with base 10: 'no'")
