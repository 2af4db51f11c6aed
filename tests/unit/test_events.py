from __future__ import annotations

from tasks_bridge.events import describe, describe_args
from tasks_bridge.record import JobRecord

RECORD = JobRecord(version=1, model="sora-2-pro", key="k", digest="d", created_at=0, polls=3)


def test_monitors_see_the_model_and_not_the_prompt() -> None:
    assert describe_args("sora-2-pro") == "('sora-2-pro', {…})"


def test_a_job_is_described_in_one_line_by_what_is_known_of_it() -> None:
    remote = {"task_id": "task_1", "status": "running", "estimated_seconds": 35, "output": [{"url": "https://x"}]}

    assert describe(RECORD) == "polls=3"
    assert describe(RECORD.but(remote=remote)) == "polls=3 status=running estimated_seconds=35"


def test_a_cost_of_nothing_is_shown() -> None:
    assert describe(RECORD.but(remote={"status": "cancelled", "credits_used": 0})) == (
        "polls=3 status=cancelled credits_used=0"
    )
