from typing import Any

import pytest

from tasks_bridge.sandbox.timeline import Task

INFINITY = float("inf")


def a_task(**changes: Any) -> Task:
    """
    Submitted at 100, running from 110, completed at 200.
    """
    members: dict[str, Any] = {
        "task_id": "task_1",
        "out_task_id": None,
        "owner": "me",
        "model": "sora-2-pro",
        "digest": "d",
        "created_s": 100.0,
        "started_s": 110.0,
        "ended_s": 200.0,
        "outcome": "completed",
        "estimated_credits": 1.5,
        "estimated_seconds": 35,
        "credits": 1.47,
        "error_code": "content_policy_violation",
        "error_message": "The prompt was rejected under content policy.",
        "kind": "video",
        "width": 1920,
        "height": 1080,
        "length_s": 8,
        "count": 1,
        "base_url": "http://here",
    }
    return Task(**members | changes)


@pytest.mark.parametrize(
    ("now_s", "state"),
    [
        (100, "pending"),
        (109.9, "pending"),
        (110, "running"),
        (199.9, "running"),
        (200, "completed"),
        (9e9, "completed"),
    ],
)
def test_the_state_follows_the_clock(now_s: float, state: str) -> None:
    assert a_task().state(now_s) == state


def test_a_task_may_end_without_ever_running() -> None:
    task = a_task(started_s=300.0, outcome="failed")

    assert [task.state(now_s) for now_s in (199, 200, 301)] == ["pending", "failed", "failed"]
    assert task.next_change_s(150) == 200


def test_the_next_change_is_the_start_then_the_end_then_never() -> None:
    task = a_task()

    assert [task.next_change_s(now_s) for now_s in (100, 110, 200)] == [110, 200, INFINITY]
    assert a_task(ended_s=INFINITY).next_change_s(110) == INFINITY


def test_fields_are_present_exactly_when_documented() -> None:
    estimates = {"estimated_credits", "estimated_seconds"}
    always = {"task_id", "out_task_id", "status"}
    failing = a_task(out_task_id="mine", outcome="failed")
    completing = a_task(out_task_id="mine")

    assert set(completing.view(100)) == always | estimates
    assert set(completing.view(110)) == always | estimates
    assert set(completing.view(200)) == always | {"credits_used", "output"}
    assert set(failing.view(200)) == always | {"error_code", "error_message"}
    assert "out_task_id" not in a_task().view(100)


def test_missing_estimates_are_left_out() -> None:
    task = a_task(estimated_credits=None, estimated_seconds=None)

    assert task.view(110) == {"task_id": "task_1", "status": "running"}


def test_cancelling_is_free_by_default_and_keeps_the_estimates() -> None:
    task = a_task()

    assert task.cancel(150)
    assert task.view(150) == {
        "task_id": "task_1",
        "status": "cancelled",
        "estimated_credits": 1.5,
        "estimated_seconds": 35,
    }


def test_a_billed_cancel_charges_the_share_that_ran() -> None:
    task = a_task(cancel_policy="billed", credits=2.0)

    task.cancel(155)
    assert task.view(155) == {
        "task_id": "task_1",
        "status": "cancelled",
        "credits_used": 1.0,
        "estimated_seconds": 35,
    }


def test_a_billed_cancel_charges_what_is_scripted() -> None:
    task = a_task(cancel_policy="billed", cancel_credits=0.4)

    task.cancel(150)
    assert task.view(150)["credits_used"] == 0.4


def test_a_billed_cancel_of_an_endless_task_charges_all() -> None:
    task = a_task(cancel_policy="billed", ended_s=INFINITY)

    task.cancel(150)
    assert task.view(150)["credits_used"] == 1.47


def test_cancelling_while_pending_never_charges() -> None:
    task = a_task(cancel_policy="billed")

    task.cancel(105)
    assert task.view(105)["status"] == "cancelled"
    assert "credits_used" not in task.view(105)


def test_a_refused_cancel_changes_nothing() -> None:
    task = a_task(cancel_policy="refused")

    assert not task.cancel(150)
    assert [task.state(now_s) for now_s in (150, 200)] == ["running", "completed"]


@pytest.mark.parametrize("now_s", [105, 150])
def test_a_cancel_may_find_the_task_complete(now_s: float) -> None:
    task = a_task(cancel_policy="completes")

    assert task.cancel(now_s)
    assert task.view(now_s)["credits_used"] == 1.47


@pytest.mark.parametrize("outcome", ["completed", "failed"])
def test_cancelling_a_finished_task_is_a_no_op(outcome: str) -> None:
    task = a_task(outcome=outcome)
    before = task.view(200)

    assert not task.cancel(200)
    assert task.view(300) == before


def test_cancelling_twice_is_cancelling_once() -> None:
    task = a_task(cancel_policy="billed")
    task.cancel(150)
    before = task.view(150)

    assert not task.cancel(180)
    assert task.view(300) == before


def test_the_older_dialect_renames_what_the_model_pages_name_otherwise() -> None:
    task = a_task(dialect="old")

    assert task.view(100)["status"] == "queued"
    assert task.view(110)["submitted_at"] == "1970-01-01T00:01:40Z"
    assert task.view(200) == {
        "task_id": "task_1",
        "status": "completed",
        "credits": 1.47,
        "result": {"video_url": "http://here/files/task_1.mp4"},
        "submitted_at": "1970-01-01T00:01:40Z",
        "completed_at": "1970-01-01T00:03:20Z",
    }
    assert a_task(dialect="old", kind="image").view(200)["result_url"] == "http://here/files/task_1.png"


def test_an_unknown_status_stands_in_for_running_only() -> None:
    task = a_task(unknown_status="queued_for_upscale")

    assert [task.view(now_s)["status"] for now_s in (100, 110, 200)] == [
        "pending",
        "queued_for_upscale",
        "completed",
    ]


def test_unknown_fields_are_added_to_the_known_ones() -> None:
    assert set(a_task(unknown_field=True).view(110)) - set(a_task().view(110)) == {
        "upstream_provider",
        "sandbox_note",
    }


def test_several_outputs_have_names_of_their_own() -> None:
    urls = [element["url"] for element in a_task(kind="image", count=3).outputs(0)]

    assert urls == [f"http://here/files/task_1{suffix}.png" for suffix in ("", "-2", "-3")]
