from __future__ import annotations

import pytest

from tasks_bridge.events import Change, describe, describe_args, has_moved
from tasks_bridge.record import JobRecord, JobState

RECORD = JobRecord(version=1, model="sora-2-pro", key="k", digest="d", created_at=0, polls=3)


def test_monitors_see_the_model_and_not_the_prompt() -> None:
    assert describe_args("sora-2-pro") == "('sora-2-pro', {…})"


def described(record: JobRecord, state: JobState = JobState.RUNNING) -> str:
    return describe(Change("a", state, record))


def test_a_job_is_described_in_one_line_by_what_is_known_of_it() -> None:
    remote = {"task_id": "task_1", "status": "running", "estimated_seconds": 35, "output": [{"url": "https://x"}]}
    seen = RECORD.but(remote=remote, submitted_at=10.0, polled_at=20.0, progress=0.4, left_s=15.0)

    assert described(RECORD) == "polls=3 progress=0%"
    assert described(seen) == "polls=3 progress=40% status=running estimated_seconds=35"


def test_a_cost_of_nothing_is_shown() -> None:
    assert described(RECORD.but(remote={"status": "cancelled", "credits_used": 0}), JobState.CANCELLED) == (
        "polls=3 status=cancelled credits_used=0"
    )


@pytest.mark.parametrize(("before", "after", "expected"), [(0.1, 0.2, False), (0.2, 0.3, True), (0.7, 0.76, True)])
def test_monitors_hear_of_each_quarter_of_the_progress(before: float, after: float, *, expected: bool) -> None:
    seen = RECORD.but(submitted_at=10.0, polled_at=20.0, left_s=15.0)

    assert has_moved(seen.but(progress=before), seen.but(progress=after)) is expected
