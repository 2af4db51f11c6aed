"""What is lost, doubled or late on the way, and that the job ends once all the same. Workers come and go."""

from __future__ import annotations

import time
from typing import Any

import pytest
from celery.result import allow_join_result

from tasks_bridge import Client, JobCancelled, JobState, generate
from tasks_bridge.publish import publish_generate, publish_poll
from tasks_bridge.record import JobRecord
from tasks_bridge.results import Report
from tasks_bridge.store import Purpose
from tests.integration.lab import END_S, MODEL, Lab, apologise, calls, eventually, publish

LONG = {"duration_s": 60, "pending_s": 0.1}


def get(result: Any) -> Any:
    with allow_join_result():
        return result.get(timeout=END_S)


def lose_all_messages(lab: Lab) -> None:
    lab.bridge.store.client.delete(lab.queue, lab.settings.poll_queue)
    assert lab.queued() == 0


def record_of(lab: Lab, job_id: str) -> JobRecord:
    entry = lab.bridge.store.get([job_id])[0]

    assert entry is not None
    return entry.record


def test_a_job_whose_first_message_is_lost_is_published_again_after_the_lease(idle_lab: Lab) -> None:
    result = idle_lab.submit()
    lose_all_messages(idle_lab)

    begun = time.monotonic()
    with idle_lab.worker():
        assert get(result)["status"] == "completed"
        took = time.monotonic() - begun
        idle_lab.ended(result)

    assert took < idle_lab.settings.lease_s + 3, "the lease and a tick, beside the job itself"
    assert len(idle_lab.remote(result)) == 1


def test_a_broker_that_loses_its_messages_again_and_again_loses_no_job(idle_lab: Lab) -> None:
    results = [idle_lab.submit({"duration_s": 0.2 * number}) for number in range(5)]
    with idle_lab.worker():
        for _ in range(5):
            lose_all_messages(idle_lab)
            eventually(lambda: idle_lab.bridge.store.due_count() == 0, "what is due to be published")
        for result in results:
            assert get(result)["status"] == "completed"
            idle_lab.ended(result)

    assert sorted(task["out_task_id"] for task in idle_lab.sandbox.tasks()) == sorted(r.id for r in results)


def test_doubled_messages_change_nothing(idle_lab: Lab) -> None:
    result = idle_lab.submit({"duration_s": 0.5})

    def double() -> None:
        record = record_of(idle_lab, result.id)
        for _ in range(3):
            publish_generate(idle_lab.app, result.id, record)
            publish_poll(idle_lab.app, idle_lab.settings.poll_queue, [result.id, result.id])

    double()
    with idle_lab.worker():
        eventually(lambda: result.state == "RUNNING", "the job to run")
        double()
        get(result)
        idle_lab.ended(result)
        double()
        eventually(lambda: idle_lab.queued() == 0, "the doubles to be taken")

    assert [task["submits"] for task in idle_lab.remote(result)] == [1]
    assert len(calls(result.id)) == 1
    assert result.state == "SUCCESS"


@pytest.mark.parametrize("by", ["result", "control", "job"])
def test_a_job_cancelled_while_no_worker_is_up_is_never_submitted(idle_lab: Lab, by: str) -> None:
    result = idle_lab.submit()
    if by == "result":
        result.revoke()
    elif by == "control":
        idle_lab.app.control.revoke([result.id], terminate=True)
    else:
        assert idle_lab.job(result).cancel("changed my mind")

    with idle_lab.worker():
        with pytest.raises(JobCancelled):
            get(result)
        idle_lab.ended(result)
        assert [call.name for call in eventually(lambda: calls(result.id), "the errback")] == ["apologise"]

    assert idle_lab.sandbox.tasks() == []
    assert result.state == "REVOKED"


def test_a_job_survives_the_worker_that_submitted_it(idle_lab: Lab) -> None:
    result = idle_lab.submit({"duration_s": 1.0})
    with idle_lab.worker():
        eventually(lambda: result.state == "RUNNING", "the job to run")
    assert idle_lab.job(result).status is JobState.RUNNING

    with idle_lab.worker(pool="solo", concurrency=1):
        assert get(result)["status"] == "completed"
        idle_lab.ended(result)
        eventually(lambda: calls(result.id), "the callback")

    assert len(calls(result.id)) == len(idle_lab.remote(result)) == 1


def test_a_job_revoked_while_it_runs_and_no_worker_is_up_is_cancelled_at_bytespike(idle_lab: Lab) -> None:
    result = idle_lab.submit(LONG)
    with idle_lab.worker():
        eventually(lambda: result.state == "RUNNING", "the job to run")
    result.revoke()

    with idle_lab.worker():
        with pytest.raises(JobCancelled):
            get(result)
        idle_lab.ended(result)

    assert [task["status"] for task in idle_lab.remote(result)] == ["cancelled"]


def test_a_holder_that_died_after_its_submit_is_followed_without_a_second_task(idle_lab: Lab) -> None:
    """The dead worker's request got through, its answer was never written down."""
    store = idle_lab.bridge.store
    result = idle_lab.submit({"duration_s": 0.5})
    lose_all_messages(idle_lab)
    lease = store.begin([result.id], Purpose.GENERATE, 0.2)[0]
    assert lease.body is not None
    with Client(idle_lab.settings.key("default"), idle_lab.sandbox.url) as client:
        client.submit_bytes(lease.body)

    with idle_lab.worker():
        assert get(result)["status"] == "completed"
        idle_lab.ended(result)

    assert [task["submits"] for task in idle_lab.remote(result)] == [2]


def test_a_late_report_never_covers_a_newer_one_nor_the_outcome(idle_lab: Lab) -> None:
    result = idle_lab.submit()

    def write(token: int, state: str) -> None:
        idle_lab.bridge.results.write([Report(result.id, state, {"status": state, "job": {"token": token}}, token)])

    write(3, "RUNNING")
    write(2, "PENDING_REMOTE")
    assert (result.state, result.info["job"]["token"]) == ("RUNNING", 3)

    write(3, "RUNNING")
    write(4, "PENDING_REMOTE")
    assert (result.state, result.info["job"]["token"]) == ("PENDING_REMOTE", 4)

    backend: Any = idle_lab.app.backend
    for outcome in ("SUCCESS", "FAILURE", "REVOKED"):
        backend.client.delete(backend.get_key_for_task(result.id))
        backend.store_result(result.id, {"x": 1} if outcome == "SUCCESS" else ValueError("x"), outcome)
        write(99, "RUNNING")
        assert idle_lab.app.AsyncResult(result.id).state == outcome


def test_reports_expire_as_celerys_own_results_do(idle_lab: Lab) -> None:
    result = idle_lab.submit()
    backend: Any = idle_lab.app.backend

    ttl = backend.client.ttl(backend.get_key_for_task(result.id))
    assert 0 < ttl <= backend.expires


def test_a_job_put_off_survives_a_lost_broker(idle_lab: Lab) -> None:
    result = idle_lab.submit(countdown=0.8)
    with idle_lab.worker():
        lose_all_messages(idle_lab)
        assert get(result)["status"] == "completed"
        idle_lab.ended(result)


def test_two_apps_in_one_redis_do_not_touch_each_others_jobs(idle_lab: Lab, redis_url: str) -> None:
    other = Lab(redis_url, idle_lab.sandbox)
    mine, theirs = idle_lab.submit(), generate.app.AsyncResult("theirs")
    record = record_of(idle_lab, mine.id)
    other.bridge.store.register("theirs", record, b"{}", delay_s=0, published=False)

    with idle_lab.worker():
        get(mine)
        idle_lab.ended(mine)

    assert other.bridge.store.due_count() == 1
    assert theirs.state == "PENDING"
    other.bridge.store.client.close()
    other.app.close()


def test_callbacks_published_twice_have_the_same_ids(idle_lab: Lab) -> None:
    """A worker that dies between the callbacks and the end of the job is followed by another finish."""
    result = idle_lab.submit({"outcome": "failed"}, link_error=apologise.s())
    good = generate.apply_async((MODEL, idle_lab.params()), link=publish.s())

    links = {job_id: record_of(idle_lab, job_id).options for job_id in (result.id, good.id)}

    assert links[result.id]["link_error"][0]["options"]["task_id"]
    assert links[good.id]["link"][0]["options"]["task_id"]
