"""
There is no worker, or all die at once, or only a part of one: every job ends all the same, paid once.

Deaths at exact points of a job's life are in `tests/faults/test_crashes.py`.
"""

from __future__ import annotations

import pytest

from tests.smoke.scene import Scene

REDIS_ONLY = pytest.mark.parametrize("celery_broker", ["redis"], indirect=True)


@pytest.mark.workers(0)
def test_a_job_queued_before_any_worker_is_up_waits_for_one(scene: Scene):
    result = scene.submit()

    assert scene.state(result) == "QUEUED"
    scene.start_worker("--concurrency", "2")
    scene.assert_completed_once(result)


@pytest.mark.workers(0)
def test_a_job_whose_message_the_broker_lost_is_published_again(scene: Scene):
    result = scene.submit()
    scene.lose_messages()

    scene.start_worker("--concurrency", "2")
    scene.assert_completed_once(result)


@REDIS_ONLY
def test_a_main_process_that_dies_alone_loses_no_job(scene: Scene):
    results = [scene.submit({"duration_s": 2 + 0.5 * number}) for number in range(4)]
    scene.wait_for_request("submit")

    scene.worker.kill(whom="main")
    scene.start_worker("--concurrency", "2")

    scene.assert_completed_once(*results)


@pytest.mark.workers(2, "--concurrency", "2")
def test_all_workers_killed_at_once_and_started_again_lose_no_job(scene: Scene):
    results = [scene.submit({"pending_s": 0.2 * number, "duration_s": 0.3 + number // 2}) for number in range(12)]
    scene.wait_for_calls("completed", 2)
    for worker in scene.workers:
        worker.kill()
    assert any(result.state not in ("SUCCESS", "FAILURE") for result in results)

    for worker in scene.workers:
        worker.restart()

    scene.assert_completed_once(*results, is_twice_fine=True)


@pytest.mark.workers(2, "--concurrency", "1")
@REDIS_ONLY
def test_two_workers_share_the_jobs_and_one_goes_on_alone_when_the_other_is_killed(scene: Scene):
    results = [scene.submit({"duration_s": 3 + 0.1 * number}) for number in range(12)]
    for worker in scene.workers:
        worker.wait_for_log("tasks_bridge.poll", "both workers to poll")

    scene.worker.kill()

    scene.assert_completed_once(*results, is_twice_fine=True)
    lags = [task["seen_end_s"] - task["ended_s"] for task in scene.sandbox.tasks()]
    settings = scene.bridge.settings
    longest_s = settings.poll_min_s * 1.1 + settings.lease_s + settings.tick_s * 1.2
    slack_s = 2  # the tests share the machine
    assert max(lags) < longest_s + slack_s, f"expected no end seen later than a lease and a tick, got {lags}"


@pytest.mark.workers(1, "--concurrency", "2", "--max-tasks-per-child", "1")
@REDIS_ONLY
def test_pool_processes_that_are_replaced_after_each_task_submit_all_the_same(scene: Scene):
    slow = {"on": "submit", "kind": "slow", "delay_s": 1.5, "times": None}
    result = scene.submit({"faults": [slow]})

    scene.assert_completed_once(result)
