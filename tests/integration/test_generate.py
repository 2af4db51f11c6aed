"""Jobs in a real worker against a real Redis: what an application sees of them through Celery."""

from __future__ import annotations

import json
import logging
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import chain, chord, group
from celery.exceptions import ChordError
from celery.result import AsyncResult, allow_join_result
from celery.states import READY_STATES

from tasks_bridge import (
    BadRequest,
    InvalidRequest,
    JobCancelled,
    JobConflict,
    JobExpired,
    JobFailed,
    JobNotFinished,
    JobNotFound,
    JobState,
    RemoteTask,
    generate,
    statuses,
)
from tests.integration.lab import (
    API_KEY,
    END_S,
    MODEL,
    PROMPT,
    Events,
    Lab,
    apologise,
    apologise_by_id,
    assemble,
    become_job,
    calls,
    eventually,
    publish,
    receive,
    runs,
    start_job,
)

LONG = {"duration_s": 60, "pending_s": 0.1}
FAILS = {"outcome": "failed", "error_code": "content_policy_violation", "error_message": "rejected"}


def unique(name: str) -> str:
    return f"{name}-{uuid.uuid4().hex[:12]}"


def get(result: Any, **options: Any) -> Any:
    with allow_join_result():
        return result.get(timeout=END_S, **options)


# -- callbacks --------------------------------------------------------------------------------------------------------


def test_a_job_is_submitted_once_and_ends_in_its_completion_callback(lab: Lab) -> None:
    result = lab.submit()
    remote = get(result)
    lab.ended(result)

    task = RemoteTask.model_validate(remote)
    assert (task.status, task.out_task_id, task.to_json()) == ("completed", result.id, remote)
    call = eventually(lambda: calls(result.id), "a callback")
    assert [(one.name, one.value) for one in call] == [("publish", task)]
    assert [one["submits"] for one in lab.remote(result)] == [1]
    assert [one["task_id"] for one in lab.remote(result)] == [task.task_id]


def test_a_failed_job_ends_in_its_failure_callback(lab: Lab) -> None:
    result = lab.submit(FAILS)
    lab.ended(result)

    call = eventually(lambda: calls(result.id), "a callback")[0]
    assert (len(calls(result.id)), call.name) == (1, "apologise")
    assert isinstance(call.value, JobFailed)
    assert (call.value.job_id, call.value.code, call.value.message) == (
        result.id,
        "content_policy_violation",
        "rejected",
    )


def test_every_link_and_every_errback_is_called_with_its_own_arguments(lab: Lab) -> None:
    links = [publish.s(label="one"), receive.s(label="two"), publish.s() | receive.s(label="three")]
    errbacks = [apologise.s(label="one"), apologise_by_id.s(label="two")]

    good = lab.submit(link=links, link_error=errbacks)
    bad = lab.submit(FAILS, link=links, link_error=errbacks)

    eventually(lambda: len(calls(good.id)) == 4 and len(calls(bad.id)) == 2, "all callbacks")
    lab.ended(good)
    lab.ended(bad)
    assert {(call.name, call.label) for call in calls(good.id)} == {
        ("publish", "one"),
        ("receive", "two"),
        ("publish", None),
        ("receive", "three"),
    }
    assert {(call.name, call.label) for call in calls(bad.id)} == {("apologise", "one"), ("apologise_by_id", "two")}


def test_a_group_can_be_a_callback(lab: Lab) -> None:
    result = lab.submit(link=group(publish.s(label="left"), publish.s(label="right")))

    eventually(lambda: len(calls(result.id)) == 2, "both callbacks")
    assert {call.label for call in calls(result.id)} == {"left", "right"}


# -- canvas -----------------------------------------------------------------------------------------------------------


def test_a_chain_hands_the_remote_object_on(lab: Lab) -> None:
    result: Any = chain(lab.signature(), publish.s(label="first"), receive.s(label="second")).apply_async()
    remote = get(result)

    assert remote["status"] == "completed"
    assert [(call.name, call.label) for call in calls(remote["out_task_id"])] == [
        ("publish", "first"),
        ("receive", "second"),
    ]
    assert result.parent.parent.id == remote["out_task_id"]


def test_a_job_can_follow_a_job_and_a_callback(lab: Lab) -> None:
    second = generate.si(MODEL, lab.params())
    result: Any = chain(lab.signature(), publish.s(), second, receive.s(label="end")).apply_async()
    remote = get(result)

    first_id = result.parent.parent.parent.id
    assert remote["out_task_id"] == result.parent.id != first_id
    assert len(calls(first_id, "publish")) == 1
    assert len(lab.remote(first_id)) == len(lab.remote(result.parent.id)) == 1


def test_a_failed_job_ends_its_chain(lab: Lab) -> None:
    label = unique("chain")
    step = publish.s(label=label).on_error(apologise.s(label=label))
    result: Any = chain(lab.signature(**FAILS).on_error(apologise.s(label=label)), step).apply_async()

    with pytest.raises(JobFailed):
        get(result, propagate=True)
    with pytest.raises(JobFailed):
        get(result.parent)
    assert [call.job_id for call in calls(label=label, name="apologise")] == [result.parent.id]
    assert not calls(name="publish", label=label)


def test_a_job_that_would_get_the_result_before_it_is_refused_at_once(lab: Lab) -> None:
    """`generate.s` after a job gets that job's result as its first argument: `generate.si` is meant."""
    label = unique("chain")
    submits = lab.sandbox.stats()["requests"].get("submit", 0)

    with pytest.raises(InvalidRequest, match=r"generate\.si"):
        chain(lab.signature().set(link=receive.s(label=label)), lab.signature()).apply_async()
    with pytest.raises(InvalidRequest, match=r"generate\.si"):
        lab.signature().apply_async(link=lab.signature())

    assert lab.sandbox.stats()["requests"].get("submit", 0) == submits
    assert not calls(label=label)


def test_a_group_has_the_result_of_each_job(lab: Lab) -> None:
    result = group(lab.signature(), lab.signature(**FAILS), lab.signature(count=2)).apply_async()
    with allow_join_result():
        done, failed, two = result.get(timeout=END_S, propagate=False)

    assert done["status"] == "completed"
    assert isinstance(failed, JobFailed)
    assert len(two["output"]) == 2


def test_a_chord_over_ten_jobs_of_different_lengths_runs_its_body_once_with_all_in_order(lab: Lab) -> None:
    label = unique("chord")
    header = [lab.signature(duration_s=0.1 + 0.15 * ((number * 7) % 10), count=number) for number in range(10)]
    result: Any = chord(header, assemble.s(label=label)).apply_async()

    outputs = get(result)

    assert [len(remote.get("output") or []) for remote in outputs] == list(range(10))
    ids = [remote["out_task_id"] for remote in outputs]
    for job_id in ids:
        lab.ended(job_id)
    assert len(calls(label=label)) == 1
    assert [len(lab.remote(job_id)) for job_id in ids] == [1] * 10
    assert len({task["queries"] for job_id in ids for task in lab.remote(job_id)}) > 1, "polled differently often"


def test_a_chord_with_a_failed_job_calls_the_errback_of_its_body(lab: Lab) -> None:
    label = unique("chord")
    body = assemble.s(label=label).on_error(apologise.s(label=label))
    result: Any = chord([lab.signature(), lab.signature(**FAILS), lab.signature()], body).apply_async()

    with pytest.raises((ChordError, JobFailed), match="content_policy_violation"):
        get(result)
    eventually(lambda: calls(label=label), "the errback")
    eventually(lambda: isinstance(result.result, ChordError), "the body to have failed")
    assert [call.name for call in calls(label=label)] == ["apologise"]


def test_canvases_nest(lab: Lab) -> None:
    label = unique("nested")
    inner: Any = chord(
        [generate.si(MODEL, lab.params()), chain(generate.si(MODEL, lab.params()), receive.s())],
        assemble.s(label=f"{label}-inner"),
    )
    result: Any = chain(lab.signature(), receive.s(), group(inner, publish.s()), assemble.s(label=f"{label}-outer"))
    from_inner, from_publish = get(result.apply_async())

    assert [remote["status"] for remote in [*from_inner, from_publish]] == ["completed"] * 3
    assert len(calls(label=f"{label}-inner")) == len(calls(label=f"{label}-outer")) == 1


def test_a_chord_of_chords_of_jobs_runs_each_body_once(lab: Lab) -> None:
    label = unique("chords")
    inner = [
        chord([lab.signature(duration_s=0.1 * number + 0.1) for number in range(3)], assemble.s(label=label))
        for _ in range(2)
    ]
    result: Any = chord(inner, assemble.s(label=f"{label}-outer")).apply_async()

    assert [[remote["status"] for remote in remotes] for remotes in get(result)] == [["completed"] * 3] * 2
    assert len(calls(label=label)) == 2
    assert len(calls(label=f"{label}-outer")) == 1


def test_a_task_can_be_replaced_by_a_job(lab: Lab) -> None:
    result = become_job.delay(MODEL, lab.params())

    assert get(result)["out_task_id"] == result.id
    assert len(lab.remote(result)) == 1


def test_a_task_in_a_chord_can_be_replaced_by_a_job(lab: Lab) -> None:
    label = unique("replaced")
    result: Any = chord([become_job.s(MODEL, lab.params()) for _ in range(3)], assemble.s(label=label)).apply_async()

    assert [remote["status"] for remote in get(result)] == ["completed"] * 3
    assert len(calls(label=label)) == 1


# -- results ----------------------------------------------------------------------------------------------------------


def test_the_result_shows_the_remote_state_all_along(lab: Lab) -> None:
    result = lab.submit({"pending_s": 0.7, "duration_s": 1.4, "estimate_s": 4})
    seen: list[str] = []
    infos: dict[str, Any] = {}

    def look() -> bool:
        meta = lab.app.backend.get_task_meta(result.id, cache=False)  # one read for all: the next may say more
        state, info = meta["status"], meta["result"]
        if not seen or seen[-1] != state:
            seen.append(state)
        if isinstance(info, dict):
            infos[state] = info
        return state in READY_STATES

    eventually(look, "the job to be ready")

    assert [state for state in seen if state != "QUEUED"] == ["PENDING_REMOTE", "RUNNING", "SUCCESS"]
    pending, running = infos["PENDING_REMOTE"], infos["RUNNING"]
    assert (pending["status"], running["status"]) == ("pending", "running")
    assert pending["task_id"] == running["task_id"] == infos["SUCCESS"]["task_id"]
    assert pending["estimated_seconds"] == 4
    assert 0 < pending["job"]["token"] < running["job"]["token"]
    assert 0 <= pending["job"]["progress"] <= running["job"]["progress"] < 1
    assert running["job"]["polls"] >= 1
    assert running["job"]["next_poll_at"] > time.time() - 60


def test_a_failed_job_raises_the_typed_error_with_all_it_knows(lab: Lab) -> None:
    result = lab.submit(FAILS)

    with pytest.raises(JobFailed) as caught:
        get(result)

    assert (caught.value.job_id, caught.value.code, caught.value.message) == (
        result.id,
        "content_policy_violation",
        "rejected",
    )
    assert caught.value.remote is not None
    assert caught.value.remote["status"] == "failed"
    assert result.state == "FAILURE"


def test_a_refused_request_raises_the_refusal(lab: Lab) -> None:
    result = generate.delay("no-such-model", {"prompt": PROMPT})

    with pytest.raises(BadRequest) as caught:
        get(result)

    assert (caught.value.code, caught.value.status_code) == ("model_not_found", 400)
    assert lab.ended(result).state is JobState.FAILED


# -- identity ---------------------------------------------------------------------------------------------------------


def test_the_task_id_is_the_out_task_id(lab: Lab) -> None:
    job_id = unique("my-render.001_X")
    result = lab.submit(task_id=job_id)
    get(result)

    assert result.id == job_id
    assert len(lab.remote(job_id)) == 1


def test_the_same_id_with_the_same_request_is_the_same_job(lab: Lab) -> None:
    job_id = unique("same")
    first = lab.submit({"duration_s": 0.6}, task_id=job_id)
    during = lab.submit({"duration_s": 0.6}, task_id=job_id)
    remote = get(first)
    lab.ended(job_id)
    after = lab.submit({"duration_s": 0.6}, task_id=job_id)

    assert first.id == during.id == after.id
    assert get(during) == get(after) == remote
    assert [task["submits"] for task in lab.remote(job_id)] == [1]
    eventually(lambda: calls(job_id), "the callback")
    assert len(calls(job_id)) == 1


def test_the_same_id_with_another_request_is_refused(lab: Lab) -> None:
    job_id = unique("taken")
    result = lab.submit(task_id=job_id)

    with pytest.raises(JobConflict) as caught:
        lab.submit({"duration_s": 1.5}, task_id=job_id)
    with pytest.raises(JobConflict):
        generate.apply_async(("seedream-v4.5", lab.params()), task_id=job_id)
    assert caught.value.job_id == job_id
    # not result.get(): before 5.7, Celery stops waiting for an id once another handle on it is collected as garbage
    lab.ended(result)
    assert len(lab.remote(job_id)) == 1


# -- message options --------------------------------------------------------------------------------------------------


def test_queue_priority_headers_and_stamps_are_kept_until_the_callbacks(lab: Lab) -> None:
    signature = lab.signature(duration_s=0.8)
    signature.set(link=publish.s(), queue="special", priority=3, headers={"tenant": "acme"}, shadow="our.render")
    signature.stamp(order="o-17")
    result = signature.apply_async()
    get(result)
    lab.ended(result)

    first, *_, last = runs(result.id)
    for run in (first, last):
        assert run["delivery_info"]["routing_key"] == "special"
        assert run["delivery_info"]["priority"] == 3
        assert run["headers"]["tenant"] == "acme"
        assert (run["stamps"], run["stamped_headers"]) == ({"order": "o-17"}, ["order"])
    call = eventually(lambda: calls(result.id), "the callback")[0]
    assert call.request["stamps"] == {"order": "o-17"}


def test_root_and_parent_are_those_of_the_first_call(lab: Lab) -> None:
    job_id = unique("child")
    parent_id, _ = get(start_job.delay(job_id, MODEL, lab.params({"duration_s": 0.8})))
    lab.ended(job_id)

    assert len(runs(job_id)) == 2
    for run in runs(job_id):
        assert (run["root_id"], run["parent_id"]) == (parent_id, parent_id)
    call = eventually(lambda: calls(job_id), "the callback")[0]
    assert (call.request["root_id"], call.request["parent_id"]) == (parent_id, job_id)
    handle: Any = AsyncResult(parent_id, app=lab.app)
    assert [child.id for child in handle.children] == [job_id]


def test_a_job_of_its_own_is_its_own_root(lab: Lab) -> None:
    result = lab.submit({"duration_s": 0.8})
    lab.ended(result)

    assert [(run["root_id"], run["parent_id"]) for run in runs(result.id)] == [(result.id, None)] * 2


def test_a_countdown_waits_in_redis_and_not_in_a_message(lab: Lab) -> None:
    begun = time.time()
    by_countdown = lab.submit(countdown=2.0)
    by_eta = lab.submit(eta=datetime.now(UTC) + timedelta(seconds=2))

    assert lab.queued() == 0
    assert runs(by_countdown.id) == runs(by_eta.id) == []
    assert by_countdown.state == by_eta.state == "QUEUED"
    for result in (by_countdown, by_eta):
        get(result)
        assert lab.remote(result)[0]["created_s"] >= begun + 0.95


def test_a_job_not_submitted_in_time_expires(lab: Lab) -> None:
    result = lab.submit(countdown=1.0, expires=0.5)

    with pytest.raises(JobExpired):
        get(result)
    assert lab.ended(result).state is JobState.EXPIRED
    assert lab.remote(result) == []
    assert [call.name for call in eventually(lambda: calls(result.id), "the errback")] == ["apologise"]


def test_expires_does_not_end_a_job_that_was_submitted_in_time(lab: Lab) -> None:
    result = lab.submit({"duration_s": 1.2}, expires=0.6)

    assert get(result)["status"] == "completed"


def test_a_job_can_be_sent_by_name(lab: Lab) -> None:
    job_id = unique("by-name")
    result = lab.app.send_task(
        "tasks_bridge.generate", (MODEL, lab.params()), task_id=job_id, link=publish.s(), priority=2
    )

    assert get(result)["out_task_id"] == job_id
    lab.ended(job_id)
    assert len(eventually(lambda: calls(job_id), "the callback")) == 1
    assert [task["submits"] for task in lab.remote(job_id)] == [1]
    assert {run["delivery_info"]["priority"] for run in runs(job_id)} == {2}


@pytest.mark.parametrize(
    ("arguments", "keywords"),
    [(("", {"prompt": "x"}), {}), ((MODEL, "x"), {}), ((MODEL, {"prompt": "x"}), {"deadline_s": -1})],
)
def test_a_bad_job_sent_by_name_fails_as_any_task_would(lab: Lab, arguments: Any, keywords: Any) -> None:
    result = lab.app.send_task("tasks_bridge.generate", arguments, keywords)

    with pytest.raises(InvalidRequest):
        get(result)
    assert lab.remote(result) == []


# -- cancelling -------------------------------------------------------------------------------------------------------


def running(lab: Lab, **script: Any) -> Any:
    result = lab.submit({**LONG, **script})
    eventually(lambda: result.state == "RUNNING", "the job to run")
    return result


def cancelled_everywhere(lab: Lab, result: Any) -> JobCancelled:
    with pytest.raises(JobCancelled) as caught:
        get(result)
    assert result.state == "REVOKED"
    assert lab.ended(result).state is JobState.CANCELLED
    assert [task["status"] for task in lab.remote(result)] == ["cancelled"]
    assert [call.name for call in eventually(lambda: calls(result.id), "the errback")] == ["apologise"]
    return caught.value


@pytest.mark.parametrize("terminate", [False, True])
def test_revoking_a_result_cancels_its_job_at_bytespike(lab: Lab, terminate: bool) -> None:
    result = running(lab)

    result.revoke(terminate=terminate)

    cancelled_everywhere(lab, result)


def test_revoking_by_control_cancels_jobs_and_still_revokes_other_tasks(lab: Lab) -> None:
    result, other = running(lab), unique("other")

    lab.app.control.revoke([result.id, other])

    cancelled_everywhere(lab, result)
    stranger: Any = receive.apply_async(({"out_task_id": None},), task_id=other)
    eventually(lambda: stranger.state == "REVOKED", "the other task to be revoked")


def test_a_revoke_broadcast_by_somebody_else_cancels_the_job(lab: Lab) -> None:
    """Flower of another deployment knows Celery, and nothing of this library."""
    result = running(lab)

    lab.app.control.broadcast("revoke", arguments={"task_id": result.id, "terminate": False, "signal": None})

    cancelled_everywhere(lab, result)


@pytest.mark.parametrize("cause", ["cancel", "deadline"])
def test_what_a_cancelled_job_cost_is_kept_wherever_one_can_look(lab: Lab, cause: str) -> None:
    script = {**LONG, "cancel": "billed", "cancel_credits": 0.25}
    deadline_s = 1.5 if cause == "deadline" else None
    result = generate.apply_async((MODEL, lab.params(script)), {"deadline_s": deadline_s}, link_error=apologise.s())
    eventually(lambda: str(result.state) == "RUNNING", "the job to run")

    if cause == "cancel":
        assert lab.job(result).cancel()

    ended = lab.ended(result)
    with pytest.raises(JobCancelled if cause == "cancel" else JobExpired) as caught:
        get(result)
    call = eventually(lambda: calls(result.id), "the errback")[0]
    remote = lab.job(result).remote
    assert remote is not None
    assert remote.credits_used == ended.record.cost == 0.25
    for error in (caught.value, call.value):
        assert isinstance(error, JobCancelled | JobExpired)
        assert error.remote == remote.to_json()
    assert [task["status"] for task in lab.remote(result)] == ["cancelled"]


def test_a_job_that_completed_before_the_cancel_got_there_has_completed(lab: Lab) -> None:
    result = running(lab, cancel="completes")

    result.revoke()

    assert get(result)["status"] == "completed"
    assert [call.name for call in eventually(lambda: calls(result.id), "the callback")] == ["publish"]


def test_a_cancel_that_bytespike_refuses_ends_at_the_remote_end(lab: Lab) -> None:
    result = running(lab, cancel="refused", duration_s=1.5)

    result.revoke()

    assert get(result)["status"] == "completed"
    assert lab.remote(result)[0]["cancels"] >= 1


def test_a_chord_with_a_cancelled_job_is_told(lab: Lab) -> None:
    label = unique("chord")
    header = group(lab.signature(), lab.signature(**LONG))
    result: Any = chord(header, assemble.s(label=label).on_error(apologise.s(label=label))).apply_async()
    long = result.parent.children[1]
    eventually(lambda: long.state == "RUNNING", "the long job to run")

    long.revoke()

    with pytest.raises((ChordError, JobCancelled)):
        get(result)
    assert [call.name for call in eventually(lambda: calls(label=label), "the errback")] == ["apologise"]
    eventually(lambda: isinstance(result.result, ChordError), "the body to have failed")


def test_a_job_past_its_deadline_is_cancelled_at_bytespike(lab: Lab) -> None:
    result = generate.apply_async((MODEL, lab.params(LONG)), {"deadline_s": 0.8}, link_error=apologise.s())

    with pytest.raises(JobExpired) as caught:
        get(result)

    assert caught.value.deadline_s == 0.8
    assert result.state == "FAILURE"
    assert lab.ended(result).state is JobState.EXPIRED
    assert [task["status"] for task in lab.remote(result)] == ["cancelled"]
    assert [call.name for call in eventually(lambda: calls(result.id), "the errback")] == ["apologise"]


# -- the handle -------------------------------------------------------------------------------------------------------


def test_the_handle_knows_the_job_from_its_id_alone(lab: Lab) -> None:
    result = lab.submit({"duration_s": 1.0, "estimate_s": 4})
    job = lab.job(result.id)
    eventually(lambda: job.status is JobState.RUNNING, "the job to run")

    assert (job.state, job.is_terminal) == ("RUNNING", False)
    assert job.remote is not None
    assert job.remote.status == "running"
    assert 0 < job.progress < 1
    assert job.eta_s is not None
    assert 0 < job.eta_s <= 4
    with pytest.raises(JobNotFinished):
        job.result()
    with pytest.raises(JobNotFinished):
        job.wait(timeout_s=0.01)
    assert job.wait(timeout_s=END_S).status == "completed"
    assert (job.status, job.progress, job.eta_s) == (JobState.COMPLETED, 1, 0)
    assert job.polls >= 1
    assert not job.cancel()
    assert statuses([result.id, "unknown"], app=lab.app) == {result.id: JobState.COMPLETED, "unknown": None}


def test_the_handle_raises_how_the_job_ended(lab: Lab) -> None:
    failed = lab.submit(FAILS)
    lab.ended(failed)

    with pytest.raises(JobFailed, match="content_policy_violation"):
        lab.job(failed).result()


@pytest.mark.parametrize("what", ["status", "remote", "progress", "eta_s", "cancel", "result", "wait", "polls"])
def test_the_handle_of_no_job_says_so(lab: Lab, what: str) -> None:
    with pytest.raises(JobNotFound):
        getattr(lab.job("nobody"), what)()


def test_refresh_asks_bytespike_now(lab: Lab) -> None:
    result = running(lab)
    lab.bridge.store.touch([result.id])
    before = lab.job(result).polls

    lab.job(result).refresh()

    eventually(lambda: lab.job(result).polls > before, "another poll")
    result.revoke()
    lab.ended(result)


# -- what others see --------------------------------------------------------------------------------------------------


def test_monitors_see_one_row_per_job_with_its_remote_state(lab: Lab) -> None:
    with Events(lab.app) as events:
        result = lab.submit({"pending_s": 0.4, "duration_s": 0.9})
        lab.ended(result)
        eventually(lambda: any(e["type"] == "task-succeeded" for e in events.of(result.id)), "the last event")
        ours = [event for event in events.tasks() if event.get("name", "").startswith("tasks_bridge")]
        state = lab.app.events.State()
        for event in events.of(result.id):
            state.event(dict(event))

    # progress may make another of the same kind
    kinds = dict.fromkeys(event["type"] for event in events.of(result.id))
    assert [k for k in kinds if k in ("task-pending_remote", "task-running", "task-succeeded")] == [
        "task-pending_remote",
        "task-running",
        "task-succeeded",
    ]
    assert {event["uuid"] for event in ours} == {result.id}, "polls are no rows"
    assert {event["name"] for event in ours} == {"tasks_bridge.generate"}
    assert [task.state for task in state.tasks.values()] == ["SUCCESS"]
    running_event = next(event for event in events.of(result.id) if event["type"] == "task-running")
    assert "status=running" in running_event["result"]
    for event in events.of(result.id):
        assert PROMPT not in json.dumps(event, default=str)
        assert API_KEY not in json.dumps(event, default=str)


def test_monitors_see_a_cancelled_job_as_revoked(lab: Lab) -> None:
    with Events(lab.app) as events:
        result = running(lab)
        result.revoke()
        lab.ended(result)
        eventually(lambda: any(e["type"] == "task-revoked" for e in events.of(result.id)), "the last event")
        state = lab.app.events.State()
        for event in events.of(result.id):
            state.event(dict(event))

    assert [task.state for task in state.tasks.values()] == ["REVOKED"]


def test_neither_key_nor_prompt_stay_behind(
    lab: Lab, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    # not that of other tests, some of whose jobs were left waiting with it
    prompt = unique("a fox that nobody else may read about")
    monkeypatch.setattr("tests.integration.lab.PROMPT", prompt)
    client = lab.bridge.store.client
    client.config_set("rdbcompression", "no")  # DUMP would compress, and nothing be found in it

    def everything() -> bytes:
        return b"".join(key + (client.dump(key) or b"") for key in client.scan_iter("*"))

    result = running(lab)
    refused = generate.delay("no-such-model", lab.params())
    failed = lab.submit({**FAILS, "error_message": "no"})
    lab.ended(refused)
    lab.ended(failed)
    waiting = everything()
    result.revoke()
    lab.ended(result)

    secret = API_KEY.encode()
    assert secret not in waiting
    assert prompt.encode() not in waiting
    assert secret not in everything()
    logged = [record for record in caplog.records if not record.name.startswith(("asyncio", "aiohttp.access"))]
    for record in logged:
        assert API_KEY not in record.getMessage()
        assert prompt not in record.getMessage(), f"{record.name} shows the prompt"


def test_followers_of_a_job_are_told_of_each_change(lab: Lab) -> None:
    job_id = unique("followed")
    with lab.bridge.store.client.pubsub(ignore_subscribe_messages=True) as followed:

        def told() -> dict[str, Any]:
            message = eventually(lambda: followed.get_message(timeout=1), "a notice")
            return dict(json.loads(message["data"]))

        followed.subscribe(lab.bridge.store.channel(job_id))
        followed.get_message(timeout=5)
        lab.submit({"pending_s": 600, "duration_s": 1200, "estimate_s": 1}, task_id=job_id)
        notices = [told()]
        lab.sandbox.start_task(job_id)
        notices.append(told())
        lab.sandbox.end_task(job_id)
        notices.append(told())
        lab.ended(job_id)
        assert followed.get_message(timeout=0.2) is None

    assert [notice["state"] for notice in notices] == ["PENDING", "RUNNING", "COMPLETED"]
    assert {notice["id"] for notice in notices} == {job_id}
