"""Jobs without broker and worker: `task_always_eager`, `apply` and a direct call run them inline."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from celery import chain

from tasks_bridge import InvalidRequest, JobExpired, JobFailed, JobState, RemoteTask, SettingsError, generate
from tasks_bridge.events import Change
from tasks_bridge.hooks import Hooks
from tests.integration.lab import MODEL, Lab, calls, publish, receive

FAILS = {"outcome": "failed", "error_code": "content_policy_violation"}


@pytest.fixture
def eager(idle_lab: Lab) -> Iterator[Lab]:
    idle_lab.app.conf.task_always_eager = True
    before = set(idle_lab.bridge.store.client.keys("*"))

    yield idle_lab

    # what earlier tests left may expire meanwhile
    assert set(idle_lab.bridge.store.client.keys("*")) <= before, "an eager job should leave nothing in Redis"


def test_an_eager_job_runs_inline_with_its_callbacks(eager: Lab) -> None:
    result = eager.submit(task_id="eager-1")

    remote = RemoteTask.model_validate(result.get())
    assert (remote.status, remote.out_task_id, result.state) == ("completed", "eager-1", "SUCCESS")
    assert [(call.name, call.value) for call in calls("eager-1")] == [("publish", remote)]
    assert [task["submits"] for task in eager.remote("eager-1")] == [1]


def test_a_hook_hears_of_an_eager_job_s_end_too(eager: Lab) -> None:
    heard: list[Change] = []
    hook = Hooks()
    hook.ending = heard.append  # type: ignore[assignment,method-assign]
    eager.bridge.hooks.append(hook)

    eager.submit(task_id="eager-hooked")

    assert [(change.job_id, change.state) for change in heard] == [("eager-hooked", JobState.COMPLETED)]


def test_an_eager_job_that_fails_calls_its_errback(eager: Lab) -> None:
    result = eager.submit(FAILS)

    assert result.state == "FAILURE"
    with pytest.raises(JobFailed, match="content_policy_violation"):
        result.get()
    assert [call.name for call in calls(result.id)] == ["apologise"]


def test_an_eager_job_propagates_if_told_to(eager: Lab) -> None:
    eager.app.conf.task_eager_propagates = True

    with pytest.raises(JobFailed):
        eager.submit(FAILS, link_error=None)


def test_an_eager_chain_hands_on(eager: Lab) -> None:
    result: Any = chain(eager.signature(), publish.s(), receive.s()).apply_async()

    assert result.get()["status"] == "completed"


def test_an_eager_job_has_a_deadline(eager: Lab) -> None:
    result = generate.apply_async((MODEL, eager.params({"duration_s": 60})), {"deadline_s": 0.5})

    with pytest.raises(JobExpired):
        result.get()
    assert [task["status"] for task in eager.remote(result)] == ["cancelled"]


def test_a_bad_eager_job_is_refused_like_any_other(eager: Lab) -> None:
    with pytest.raises(InvalidRequest):
        generate.delay("", {"prompt": "x"})
    with pytest.raises(InvalidRequest):
        generate.apply_async((MODEL, {"prompt": "x"}), task_id="a b")


def test_without_a_key_nothing_is_sent(eager: Lab) -> None:
    result = generate.apply_async((MODEL, eager.params()), {"key": "other"})

    with pytest.raises(SettingsError, match="'other'"):
        result.get()
    assert eager.remote(result) == []


def test_a_direct_call_runs_the_job(idle_lab: Lab) -> None:
    remote = RemoteTask.model_validate(generate(MODEL, idle_lab.params()))

    assert remote.status == "completed"
    assert remote.urls
    with pytest.raises(JobFailed):
        generate(MODEL, idle_lab.params(FAILS))


def test_apply_runs_the_job(idle_lab: Lab) -> None:
    assert generate.apply((MODEL, idle_lab.params())).get()["status"] == "completed"
