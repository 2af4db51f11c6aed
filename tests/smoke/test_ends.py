"""Jobs that are ended from outside: cancelled, revoked, out of time; and services that go away and come back."""

from __future__ import annotations

import pytest

from tasks_bridge import JobCancelled, JobExpired, JobState
from tasks_bridge.bridge import DRAIN_S
from tasks_bridge.tasks import SLOT_S
from tests.smoke.scene import Scene

REDIS_ONLY = pytest.mark.parametrize("celery_broker", ["redis"], indirect=True)
LONG = {"pending_s": 0, "duration_s": 600}


def assert_cancelled_once(scene: Scene, *results, error: str = "JobCancelled") -> None:
    scene.wait_for_end(*results)
    scene.wait_for_calls("failed", len(results))
    scene.wait_until_idle()
    ids = sorted(result.id for result in results)
    assert sorted((call["job"], call["error"]) for call in scene.calls("failed")) == [(one, error) for one in ids]
    assert scene.calls("completed") == []
    assert sorted((task["out_task_id"], task["status"]) for task in scene.sandbox.tasks()) == [
        (one, "cancelled") for one in ids
    ], scene.show()


def test_jobs_that_are_cancelled_or_revoked_in_whatever_way_are_cancelled_at_bytespike(scene: Scene):
    """A broadcast alone is what Flower's button makes when Flower runs without this library."""
    cancelled, revoked, broadcast = results = [scene.submit(LONG) for _ in range(3)]
    for result in results:
        scene.wait_for_state(result, "RUNNING")

    assert scene.job(cancelled).cancel() is True
    revoked.revoke()
    scene.app.control.broadcast("revoke", arguments={"task_id": broadcast.id, "terminate": True})

    assert_cancelled_once(scene, *results)
    assert {scene.state(result) for result in results} == {"REVOKED"}
    assert {scene.job(result).status for result in results} == {JobState.CANCELLED}
    for result in results:
        with pytest.raises(JobCancelled):
            scene.job(result).result()


@pytest.mark.workers(0)
@REDIS_ONLY
def test_jobs_cancelled_or_revoked_before_any_worker_is_up_are_never_submitted(scene: Scene):
    cancelled, revoked, terminated = results = [scene.submit() for _ in range(3)]
    scene.job(cancelled).cancel()
    revoked.revoke()
    scene.app.control.revoke([terminated.id], terminate=True)

    scene.start_worker("--concurrency", "2")

    scene.wait_for_end(*results)
    failed = scene.wait_for_calls("failed", 3)
    assert {call["job"]: call["error"] for call in failed} == {result.id: "JobCancelled" for result in results}
    assert {scene.state(result) for result in results} == {"REVOKED"}
    assert scene.sandbox.tasks() == []


@REDIS_ONLY
def test_a_cancel_survives_the_worker_that_was_to_carry_it_out(scene: Scene):
    result = scene.submit({**LONG, "faults": [{"on": "cancel", "kind": "hang"}]})
    scene.wait_for_state(result, "RUNNING")
    scene.job(result).cancel()
    scene.wait_for_request("cancel")

    scene.worker.kill()
    scene.start_worker("--concurrency", "2")

    assert_cancelled_once(scene, result)


@REDIS_ONLY
def test_a_job_that_completed_in_spite_of_its_cancel_ends_as_completed(scene: Scene):
    result = scene.submit({**LONG, "cancel": "completes"})
    scene.wait_for_state(result, "RUNNING")

    scene.job(result).cancel()

    scene.assert_completed_once(result)


def test_a_job_past_its_deadline_is_cancelled_at_bytespike_and_expires(scene: Scene):
    result = scene.submit(LONG, kwargs={"deadline_s": 1.5})

    with pytest.raises(JobExpired) as expired:
        result.get(timeout=20)

    assert_cancelled_once(scene, result, error="JobExpired")
    assert expired.value.args[:2] == (result.id, 1.5)
    assert scene.state(result) == "FAILURE"
    assert scene.job(result).status is JobState.EXPIRED


@REDIS_ONLY
def test_a_worker_told_to_stop_leaves_its_waiting_jobs_to_the_next_at_once(scene: Scene):
    results = [scene.submit({"duration_s": 3 + 0.1 * number}) for number in range(8)]
    scene.wait_for_request("submit", 8)

    scene.worker.kill("SIGTERM", whom="main")

    assert scene.worker.wait_for_exit(timeout_s=10) == 0
    assert not any(result.ready() for result in results)
    scene.start_worker("--concurrency", "2")
    scene.assert_completed_once(*results)
    assert scene.sandbox.stats()["requests"]["submit"] == 8


@REDIS_ONLY
@pytest.mark.workers(1, "--concurrency", "1")
def test_a_worker_told_to_stop_hears_that_a_task_it_has_just_handed_out_is_running(scene: Scene):
    """Celery forgot such a task: its pool process waited half a minute for its answer to be counted."""
    scene.worker.kill("SIGSTOP", whom="child")
    result = scene.submit()
    scene.wait_until(lambda: scene.redis.llen("celery") == 0, "the worker to take the message")
    assert scene.app.control.ping(timeout=5, limit=1), "expected the main process to go on, and so to hand out the task"

    scene.worker.kill("SIGTERM", whom="main")
    scene.wait_for_log("Warm shutdown")
    scene.worker.kill("SIGCONT", whom="child")

    assert scene.worker.wait_for_exit(timeout_s=10) == 0
    scene.start_worker("--concurrency", "2")
    scene.assert_completed_once(result)
    assert scene.sandbox.stats()["requests"]["submit"] == 1


@REDIS_ONLY
def test_a_worker_told_to_stop_while_it_submits_makes_no_second_task(scene: Scene):
    result = scene.submit({"faults": [{"on": "submit", "kind": "hang", "work_done": True}]})
    scene.wait_for_request("submit")

    scene.worker.kill("SIGTERM", whom="main")

    # Celery's two seconds, the slot's and the drain's, and two for a busy machine
    assert scene.worker.wait_for_exit(timeout_s=2 + SLOT_S + DRAIN_S + 2) == 0
    scene.start_worker("--concurrency", "2")
    scene.assert_completed_once(result)


@REDIS_ONLY
def test_a_redis_killed_and_restarted_from_its_append_only_file_loses_no_job(celery_backend, scene: Scene):
    results = [scene.submit({"duration_s": 3 + 0.2 * number}) for number in range(6)]
    scene.wait_for_request("submit", 6)

    celery_backend.kill()
    celery_backend.restart()
    # as a process manager would: a connection that is refused at the wrong moment ends Celery's consumer
    scene.start_worker("--concurrency", "2")

    scene.assert_completed_once(*results)


@REDIS_ONLY
def test_jobs_wait_while_bytespike_is_away(scene: Scene):
    running = scene.submit({"duration_s": 1.5})
    scene.wait_for_state(running, "PENDING_REMOTE", "RUNNING")
    scene.sandbox.fail("down", for_s=2)
    queued = scene.submit()

    scene.assert_completed_once(running, queued)


@REDIS_ONLY
def test_a_submit_whose_response_is_lost_is_repeated_and_makes_one_task(scene: Scene):
    result = scene.submit({"faults": [{"on": "submit", "kind": "lost_response", "times": 2}]})

    scene.assert_completed_once(result)
    assert scene.sandbox.stats()["duplicate_submits"] == 2


@REDIS_ONLY
def test_messages_that_come_twice_change_nothing(scene: Scene):
    """What a broker's redelivery does."""
    result = scene.submit({"duration_s": 1})
    scene.wait_for_request("submit")
    for _ in range(5):
        scene.publish_again(result)
    scene.wait_for_end(result)
    scene.publish_again(result)

    scene.assert_completed_once(result)
