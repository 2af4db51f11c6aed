"""What a user of the library does, from one end to the other."""

from __future__ import annotations

import pytest
from celery import chain, chord, group

from tasks_bridge import Job, JobFailed
from tests.smoke import smoke_app
from tests.smoke.scene import Scene

REDIS_ONLY = pytest.mark.parametrize("celery_broker", ["redis"], indirect=True)


def test_a_job_is_submitted_once_polled_and_ends_in_its_completion_callback(scene: Scene):
    result = scene.submit({"duration_s": 1, "credits": 1.47}, link=smoke_app.completed.s(label="user 7"))
    scene.wait_for_state(result, "PENDING_REMOTE", "RUNNING")

    value = result.get(timeout=20)

    scene.assert_completed_once(result)
    [call] = scene.calls("completed")
    [remote] = scene.remote_tasks(result.id)
    assert call["label"] == "user 7"
    assert call["urls"] == [output["url"] for output in value["output"]]
    assert value["task_id"] == remote["task_id"]
    assert value["credits_used"] == pytest.approx(1.47)
    assert remote["submits"] == 1
    assert remote["queries"] >= 2
    assert Job(result.id).result().to_json() == value


@pytest.mark.parametrize(
    ("errback", "label"),
    [
        (smoke_app.failed.s(label="user 7"), "user 7"),
        (smoke_app.failed_by_id.s(), "by id"),
        (smoke_app.failed_bound.s(), "bound"),
    ],
    ids=["request, exc, traceback", "id", "bound"],
)
@REDIS_ONLY
def test_a_failed_job_ends_in_its_failure_callback_whatever_its_form(scene: Scene, errback, label):
    result = scene.submit({"outcome": "failed"}, link_error=errback)

    with pytest.raises(JobFailed) as failure:
        result.get(timeout=20)

    scene.wait_for_end(result)
    scene.wait_for_calls("failed")
    scene.wait_until_idle()
    [call] = scene.calls("failed")
    assert (call["job"], call["label"]) == (result.id, label)
    assert failure.value.job_id == result.id
    assert failure.value.code == "content_policy_violation"
    assert scene.calls("completed") == []
    assert len(scene.remote_tasks(result.id)) == 1


def test_a_failure_reaches_its_callback_as_the_typed_error(scene: Scene):
    result = scene.submit({"outcome": "failed", "error_code": "nsfw", "error_message": "no"})

    [call] = scene.wait_for_calls("failed")

    assert call["error"] == "JobFailed"
    assert call["args"][:3] == [result.id, "nsfw", "no"]


def test_a_chain_hands_the_remote_object_to_its_next_step_and_a_job_can_follow_a_job(scene: Scene):
    first, second = scene.signature(), scene.signature()
    result = chain(first, smoke_app.completed.s(label="between"), second.set(immutable=True)).apply_async()

    value = result.get(timeout=20)

    scene.wait_until_idle()
    assert value["out_task_id"] == second.id
    assert [(call["job"], call["label"]) for call in scene.calls("completed")] == [(first.id, "between")]
    assert len(scene.sandbox.tasks()) == 2


def test_a_failed_job_ends_its_chain_in_the_failure_callback(scene: Scene):
    first = scene.signature(outcome="failed")

    chain(first, smoke_app.completed.s()).on_error(smoke_app.failed.s()).apply_async()

    [call] = scene.wait_for_calls("failed")
    scene.wait_until_idle()
    assert (call["job"], call["error"]) == (first.id, "JobFailed")
    assert len(scene.calls("failed")) == 1
    assert scene.calls("completed") == []


def test_a_chord_over_ten_jobs_polled_different_numbers_of_times_runs_its_body_once(scene: Scene):
    jobs = [scene.signature(duration_s=0.1 + 0.2 * number) for number in range(10)]

    result = chord(jobs)(smoke_app.assemble.s())

    assert result.get(timeout=30) == [job.id for job in jobs]
    scene.wait_until_idle()
    assert [call["jobs"] for call in scene.calls("assembled")] == [[job.id for job in jobs]]
    polls = [task["queries"] for task in scene.sandbox.tasks()]
    assert len(polls) == 10
    assert len(set(polls)) > 2, f"expected different numbers of polls, got {polls}"


@REDIS_ONLY
def test_a_chord_with_a_failed_job_tells_the_errback_of_its_body(scene: Scene):
    jobs = [scene.signature(), scene.signature(outcome="failed"), scene.signature(duration_s=0.8)]

    chord(jobs)(smoke_app.assemble.s().on_error(smoke_app.failed.s(label="chord")))

    scene.wait_until(lambda: scene.bridge.store.open_count() == 0, "all three jobs ended")
    scene.wait_for_calls("failed")
    scene.wait_until_idle()
    assert scene.calls("assembled") == []
    assert {call["label"] for call in scene.calls("failed")} == {"chord"}


@REDIS_ONLY
def test_a_group_gives_each_job_its_result(scene: Scene):
    jobs = [scene.signature(duration_s=0.2 * number) for number in range(4)]

    values = group(jobs).apply_async().get(timeout=20)

    assert [value["out_task_id"] for value in values] == [job.id for job in jobs]


@pytest.mark.workers(1, "--concurrency", "4", "--pool", "threads")
@REDIS_ONLY
def test_jobs_run_in_a_pool_of_threads(scene: Scene):
    scene.assert_completed_once(*[scene.submit({"duration_s": 0.3 * number}) for number in range(5)])


@pytest.mark.workers(1, "--pool", "solo")
@REDIS_ONLY
def test_jobs_run_in_a_worker_without_pool(scene: Scene):
    scene.assert_completed_once(*[scene.submit({"duration_s": 0.3 * number}) for number in range(3)])


@REDIS_ONLY
def test_the_same_id_with_the_same_request_is_the_same_job(scene: Scene):
    first = scene.submit({"duration_s": 0.5}, task_id="my-render-001")
    second = scene.submit({"duration_s": 0.5}, task_id="my-render-001")

    assert first.id == second.id == "my-render-001"
    scene.assert_completed_once(first)
    third = scene.submit({"duration_s": 0.5}, task_id="my-render-001")
    assert third.get(timeout=5)["out_task_id"] == "my-render-001"
    scene.assert_completed_once(third)


class TestQuorumQueues:
    """An app of the user's own on RabbitMQ, with quorum queues."""

    pytestmark = pytest.mark.parametrize(
        "celery_broker", [pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)], indirect=True
    )

    @pytest.fixture
    def worker_app(self) -> str:
        return "tests.smoke.smoke_worker:app"

    @pytest.fixture
    def queue_type(self) -> str:
        return "quorum"

    def test_jobs_run_on_quorum_queues(self, scene: Scene):
        results = [scene.submit({"duration_s": 0.3 * number}) for number in range(5)]

        scene.assert_completed_once(*results)
