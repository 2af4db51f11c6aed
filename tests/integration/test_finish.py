"""The end of a job when Celery can't do its part at once: nothing is lost, and nothing else counts as the outcome."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from celery import shared_task
from celery.signals import before_task_publish
from kombu.exceptions import OperationalError

from tasks_bridge import JobFailed, JobState
from tasks_bridge.events import Change
from tasks_bridge.hooks import ENDING_TRIES, Hooks, NotYet, tell_ending
from tasks_bridge.record import JobRecord
from tests.integration.lab import CALLS, Lab, calls, eventually, publish


@contextmanager
def publishing_fails(task_name: str, times: int) -> Iterator[list[str]]:
    """The broker refuses the first messages of one task; gives the ids of those."""
    refused: list[str] = []

    def refuse(sender: str, headers: dict[str, Any], **_: Any) -> None:
        if sender == task_name and len(refused) < times:
            refused.append(headers["id"])
            raise OperationalError("the broker is away")

    before_task_publish.connect(refuse, weak=False)
    try:
        yield refused
    finally:
        before_task_publish.disconnect(refuse)


def test_a_callback_that_could_not_be_published_is_published_by_the_next_finish(lab: Lab) -> None:
    with publishing_fails(publish.name, times=1) as refused:
        result = lab.submit()
        eventually(lambda: refused, "the callback's first publication to fail")
        call = eventually(lambda: CALLS[:], "the callback to come all the same")[0]

    assert [call.name, call.task_id] == ["publish", refused[0]], "expected the same callback under the same id"
    lab.ended(result)
    assert result.state == "SUCCESS"
    assert [call.name for call in CALLS] == ["publish"], "expected no failure callback: the job has completed"


def test_a_finish_that_could_not_be_published_comes_after_the_lease(lab: Lab) -> None:
    result = lab.submit({"duration_s": 0.6})
    eventually(lambda: lab.job(result).remote, "the submit to be answered")
    with publishing_fails("tasks_bridge.generate", times=1) as refused:
        eventually(lambda: refused, "the finish's publication to fail")

    lab.ended(result)
    assert result.state == "SUCCESS"
    assert [call.name for call in CALLS] == ["publish"]


@pytest.mark.parametrize("outcome", ["completed", "failed"])
def test_a_failure_of_the_worker_itself_is_not_the_jobs(lab: Lab, outcome: str) -> None:
    """As after the loss of a pool process or a hard time limit, which Celery stores as the task's failure."""
    result = lab.submit({"duration_s": 0.6, "outcome": outcome})
    task = lab.app.tasks["tasks_bridge.generate"]

    task.backend.mark_as_failure(result.id, RuntimeError("the worker was lost"), call_errbacks=True)

    lab.ended(result)
    state, callback = {"completed": ("SUCCESS", "publish"), "failed": ("FAILURE", "apologise")}[outcome]
    assert result.state == state
    assert "worker was lost" not in str(result.info)
    assert [call.name for call in CALLS] == [callback]


@shared_task(bind=True)
def wants_three(self: Any, request: Any, exc: BaseException, traceback: Any) -> None:
    """A bound errback is called with the id alone: this one never fits."""


@shared_task
def falls_over(request: Any, exc: BaseException, traceback: Any) -> None:
    raise ValueError("the errback's own trouble")


@pytest.mark.parametrize("errback", [wants_three, falls_over])
def test_an_errback_that_fails_changes_nothing_about_how_the_job_ended(lab: Lab, errback: Any) -> None:
    result = lab.submit({"outcome": "failed", "error_code": "nsfw"}, link_error=errback.s())

    lab.ended(result)
    assert result.state == "FAILURE"
    assert isinstance(result.result, JobFailed), f"expected the job's own error, not {result.result!r}"
    assert result.result.code == "nsfw"


class Diary(Hooks):
    """Hears of every change, and isn't able to write the end down as often as it is told."""

    def __init__(self, *, refusals: int = 0, error: Exception | None = None) -> None:
        self.states: list[JobState] = []
        self.called_before_the_end: list[str] = []
        self._refusals, self._error = refusals, error

    def changed(self, changes: Sequence[Change]) -> None:
        self.states += [change.state for change in changes]
        if self._error:
            raise self._error

    def ending(self, change: Change) -> None:
        self.states.append(change.state)
        self.called_before_the_end += [call.name for call in calls(change.job_id)]
        if self._error:
            raise self._error
        if self._refusals:
            self._refusals -= 1
            raise NotYet("the database is away")


@contextmanager
def hooked(lab: Lab, diary: Diary) -> Iterator[Diary]:
    lab.bridge.hooks.append(diary)
    try:
        yield diary
    finally:
        lab.bridge.hooks.remove(diary)


@pytest.mark.parametrize("outcome", ["completed", "failed"])
def test_a_hook_hears_of_each_state_and_of_the_end_before_the_callbacks_run(lab: Lab, outcome: str) -> None:
    with hooked(lab, Diary()) as diary:
        result = lab.submit({"duration_s": 1, "outcome": outcome})
        lab.ended(result)
        eventually(lambda: calls(result.id), "the callback")

    end = {"completed": JobState.COMPLETED, "failed": JobState.FAILED}[outcome]
    assert diary.states == [JobState.PENDING, JobState.RUNNING, end]
    assert diary.called_before_the_end == []


def test_the_end_waits_for_a_hook_that_is_not_able_yet(lab: Lab) -> None:
    with hooked(lab, Diary(refusals=1)) as diary:
        result = lab.submit()
        lab.ended(result)
        eventually(lambda: calls(result.id), "the callback")

    assert diary.states.count(JobState.COMPLETED) == 2
    assert diary.called_before_the_end == []
    assert [call.name for call in calls(result.id)] == ["publish"]


def test_a_hook_that_fails_keeps_no_job_from_its_end(lab: Lab) -> None:
    with hooked(lab, Diary(error=ValueError("a bug of the hook's"))) as diary:
        result = lab.submit()
        lab.ended(result)
        eventually(lambda: calls(result.id), "the callback")

    assert diary.states[-1] is JobState.COMPLETED


def test_a_hook_that_is_never_able_is_waited_for_no_longer_in_the_end() -> None:
    diary = Diary(refusals=1000)
    change = Change("job", JobState.COMPLETED, JobRecord(version=1, model="m", key="k", digest="d", created_at=0))

    assert [tell_ending([diary], change, tries) for tries in (0, ENDING_TRIES - 1, ENDING_TRIES)] == [
        False,
        False,
        True,
    ]
