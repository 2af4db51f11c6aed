"""Workers die with SIGKILL at every stage of a job: it ends all the same, paid once, with its callbacks called once."""

from __future__ import annotations

import pytest
from celery import chord

from tasks_bridge import JobState
from tests.smoke import smoke_app
from tests.smoke.scene import Scene

REDIS_ONLY = pytest.mark.parametrize("celery_broker", ["redis"], indirect=True)
HANG = {"on": "submit", "kind": "hang"}


def kill_and_replace(scene: Scene) -> None:
    scene.worker.kill()
    scene.start_worker("--concurrency", "2")


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


def test_a_worker_killed_before_it_submits_loses_no_job(scene: Scene):
    scene.halt_at("submit begins")
    result = scene.submit()
    scene.wait_for_halt()
    assert scene.sandbox.tasks() == []

    kill_and_replace(scene)

    scene.assert_completed_once(result)


@pytest.mark.parametrize("arrived", [True, False], ids=["the submit arrived", "the submit was lost"])
def test_a_worker_killed_while_it_submits_makes_no_second_task(scene: Scene, arrived: bool):
    result = scene.submit({"faults": [{**HANG, "work_done": arrived}]})
    scene.wait_for_request("submit")
    scene.wait_until(lambda: len(scene.sandbox.tasks()) == arrived, "the submit arrived, or not")
    assert scene.state(result) == "QUEUED"

    kill_and_replace(scene)

    scene.assert_completed_once(result)
    assert scene.sandbox.stats()["duplicate_submits"] == int(arrived)


def test_a_worker_killed_while_its_job_is_pending_loses_no_job(scene: Scene):
    result = scene.submit({"pending_s": 3, "duration_s": 3.5})
    scene.wait_for_state(result, "PENDING_REMOTE")

    kill_and_replace(scene)

    scene.assert_completed_once(result)
    assert scene.remote_tasks(result.id)[0]["submits"] == 1


def test_a_worker_killed_while_its_job_runs_loses_no_job(scene: Scene):
    result = scene.submit({"pending_s": 0, "duration_s": 3})
    scene.wait_for_state(result, "RUNNING")

    kill_and_replace(scene)

    scene.assert_completed_once(result)
    assert scene.remote_tasks(result.id)[0]["submits"] == 1


@REDIS_ONLY
def test_a_worker_killed_while_it_polls_loses_no_job(scene: Scene):
    result = scene.submit({"duration_s": 1, "faults": [{"on": "query", "kind": "hang", "after": 1}]})
    scene.wait_for_request("query", 2)

    kill_and_replace(scene)

    scene.assert_completed_once(result)


@REDIS_ONLY
def test_a_worker_killed_with_a_poll_message_in_its_hands_loses_no_job(scene: Scene):
    scene.halt_at("poll begins")
    result = scene.submit()
    scene.wait_for_halt()

    kill_and_replace(scene)

    scene.assert_completed_once(result)


def test_a_worker_killed_between_the_end_of_a_job_and_its_callbacks_is_followed_by_one_that_calls_them(
    scene: Scene,
):
    scene.halt_at("finish begins")
    result = scene.submit()
    scene.wait_for_halt()
    assert scene.job(result).status is JobState.COMPLETED
    assert scene.calls("completed") == []

    kill_and_replace(scene)

    scene.assert_completed_once(result)


@REDIS_ONLY
def test_a_failed_job_whose_worker_was_killed_before_the_errback_has_it_called(scene: Scene):
    scene.halt_at("finish begins")
    result = scene.submit({"outcome": "failed"})
    scene.wait_for_halt()
    assert scene.calls("failed") == []

    kill_and_replace(scene)

    scene.wait_for_end(result)
    scene.wait_until_idle()
    assert [(call["job"], call["error"]) for call in scene.calls("failed")] == [(result.id, "JobFailed")]
    assert scene.state(result) == "FAILURE"
    assert len(scene.remote_tasks(result.id)) == 1


@REDIS_ONLY
def test_callbacks_published_twice_around_a_kill_run_once_under_once(scene: Scene):
    scene.halt_at("callback published")
    result = scene.submit(link=smoke_app.completed_once.s().set(queue="callbacks"))
    scene.wait_for_halt()
    assert scene.state(result) != "SUCCESS", "expected the worker to stand before Celery stores the result"

    kill_and_replace(scene)
    scene.wait_for_end(result)
    scene.start_callback_worker()

    scene.assert_completed_once(result)
    scene.wait_for_log("has run before")


@REDIS_ONLY
def test_a_worker_killed_after_celery_stored_the_result_calls_nothing_twice(scene: Scene):
    scene.start_callback_worker()
    scene.halt_at("result stored")
    result = scene.submit(link=smoke_app.completed.s().set(queue="callbacks"))
    scene.wait_for_halt()
    assert scene.state(result) == "SUCCESS"
    assert scene.bridge.store.open_count() == 1, "expected the job still on the schedule"

    kill_and_replace(scene)

    scene.assert_completed_once(result)


@REDIS_ONLY
def test_a_pool_process_that_dies_while_it_submits_does_not_fail_the_job(scene: Scene):
    result = scene.submit({"faults": [{**HANG, "work_done": True, "times": 1}]})
    scene.wait_for_request("submit")

    for _ in range(2):
        scene.worker.kill(whom="child")

    scene.assert_completed_once(result)


@REDIS_ONLY
def test_a_pool_process_that_dies_while_it_finishes_does_not_fail_the_job(scene: Scene):
    scene.halt_at("finish begins")
    result = scene.submit()
    scene.wait_for_halt()

    for _ in range(2):
        scene.worker.kill(whom="child")

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

    scene.assert_completed_once(*results)


@pytest.mark.workers(2, "--concurrency", "1")
@REDIS_ONLY
def test_two_workers_share_the_jobs_and_one_goes_on_alone_when_the_other_is_killed(scene: Scene):
    results = [scene.submit({"duration_s": 3 + 0.1 * number}) for number in range(12)]
    for worker in scene.workers:
        worker.wait_for_log("tasks_bridge.poll", "both workers to poll")

    scene.worker.kill()

    scene.assert_completed_once(*results)
    lags = [task["seen_end_s"] - task["ended_s"] for task in scene.sandbox.tasks()]
    settings = scene.bridge.settings
    longest_s = settings.poll_min_s * 1.1 + settings.lease_s + settings.tick_s * 1.2
    slack_s = 2  # the tests share the machine
    assert max(lags) < longest_s + slack_s, f"expected no end seen later than a lease and a tick, got {lags}"


@REDIS_ONLY
def test_a_chord_whose_worker_is_killed_halfway_runs_its_body_once(scene: Scene):
    jobs = [scene.signature(duration_s=0.1 + 0.3 * number) for number in range(10)]
    result = chord(jobs)(smoke_app.assemble.s())
    scene.wait_until(lambda: scene.sandbox.stats()["status"].get("completed", 0) >= 3, "three jobs completed")

    kill_and_replace(scene)

    assert result.get(timeout=30) == [job.id for job in jobs]
    scene.wait_until_idle()
    assert len(scene.calls("assembled")) == 1
    assert len(scene.sandbox.tasks()) == 10


@pytest.mark.parametrize("finished", [0, 2], ids=["first part", "last part"])
@REDIS_ONLY
def test_a_chord_part_that_is_finished_twice_counts_once(scene: Scene, finished: int):
    jobs = [scene.signature(duration_s=0.2 + 0.6 * number) for number in range(3)]
    if not finished:
        scene.halt_at("result stored")
    scene.start_callback_worker()
    result = chord(jobs)(smoke_app.assemble.s().set(queue="callbacks"))
    if finished:
        scene.wait_until(lambda: scene.bridge.store.open_count() == 3 - finished, "two parts finished")
        scene.halt_at("result stored")
    scene.wait_for_halt()

    kill_and_replace(scene)

    assert result.get(timeout=30) == [job.id for job in jobs]
    scene.wait_until(lambda: scene.bridge.store.open_count() == 0, "no job left on the schedule")
    scene.wait_until_idle()
    assert len(scene.calls("assembled")) == 1


@pytest.mark.workers(1, "--concurrency", "2", "--max-tasks-per-child", "1")
@REDIS_ONLY
def test_pool_processes_that_are_replaced_after_each_task_submit_all_the_same(scene: Scene):
    slow = {"on": "submit", "kind": "slow", "delay_s": 1.5, "times": None}
    result = scene.submit({"faults": [slow]})

    scene.assert_completed_once(result)
