"""Whether an outcome is stored is said by the call, on each Celery that there is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from celery.result import allow_join_result

from tasks_bridge import JobFailed, generate
from tests.integration.lab import END_S, Lab, calls, eventually

FAILS = {"outcome": "failed", "error_code": "content_policy_violation", "error_message": "rejected"}
LONG = {"duration_s": 60, "pending_s": 0.1}


def is_stored(lab: Lab, job_id: str) -> bool:
    backend: Any = lab.app.backend
    return lab.bridge.store.client.get(backend.get_key_for_task(job_id)) is not None


@pytest.fixture
def working(idle_lab: Lab) -> Callable[..., Any]:
    """The lab with a worker that has known from its start what the task says, such as ``ignore_result``."""

    @contextmanager
    def working(**said: Any) -> Iterator[Lab]:
        for name, value in said.items():
            setattr(idle_lab.app.tasks[generate.name], name, value)
        with idle_lab.worker():
            yield idle_lab

    return working


def test_a_job_without_result_still_has_its_callbacks(working: Callable[..., Any]) -> None:
    with working() as lab:
        completed = lab.submit(ignore_result=True)
        failed = lab.submit(FAILS, ignore_result=True)
        cancelled = lab.submit(LONG, ignore_result=True)
        lab.job(cancelled).cancel()
        for result in (completed, failed, cancelled):
            lab.ended(result)

        assert [call.name for call in eventually(lambda: calls(completed.id), "a callback")] == ["publish"]
        assert [call.name for call in eventually(lambda: calls(failed.id), "a callback")] == ["apologise"]
        assert [call.name for call in eventually(lambda: calls(cancelled.id), "a callback")] == ["apologise"]
        assert [is_stored(lab, result.id) for result in (completed, failed, cancelled)] == [False] * 3


def test_a_result_asked_for_is_kept_where_results_are_ignored_by_default(working: Callable[..., Any]) -> None:
    with working(ignore_result=True) as lab, allow_join_result():
        completed, failed = lab.submit(ignore_result=False), lab.submit(FAILS, ignore_result=False)

        assert completed.get(timeout=END_S)["status"] == "completed"
        with pytest.raises(JobFailed):
            failed.get(timeout=END_S)


def test_failures_are_kept_although_results_are_ignored_where_celery_is_told_so(working: Callable[..., Any]) -> None:
    with working(store_errors_even_if_ignored=True) as lab:
        completed = lab.submit(ignore_result=True)
        failed = lab.submit(FAILS, ignore_result=True)
        lab.ended(completed)
        lab.ended(failed)

        assert [is_stored(lab, result.id) for result in (completed, failed)] == [False, True]
