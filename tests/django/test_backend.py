from __future__ import annotations

from datetime import timedelta
from typing import Any

import django
import pytest

from tests.smoke.processes import LocalProcess, eventually

pytestmark = pytest.mark.skipif(django.VERSION < (6, 0), reason="not applicable: tasks came with Django 6.0")


@pytest.fixture
def jobs(shop: Any) -> Any:
    from tests.django.shop import jobs

    return jobs


def finished(result: Any, worker: LocalProcess) -> Any:
    def is_finished() -> bool:
        result.refresh()
        return bool(result.is_finished)

    eventually(is_finished, expected="the task to finish", show=worker.tail)
    return result


def test_a_task_of_django_s_own_is_a_job(jobs: Any, worker: LocalProcess) -> None:
    done, failed = jobs.picture.enqueue("a fox"), jobs.picture.enqueue("a fox", outcome="failed", error_code="nsfw")
    assert (done.status, done.args) == ("READY", ["a fox"])

    finished(done, worker)
    assert (done.status, done.return_value["status"]) == ("SUCCESSFUL", "completed")
    assert done.return_value["output"][0]["url"]
    assert done.finished_at >= done.started_at >= done.enqueued_at
    finished(failed, worker)
    assert (failed.status, failed.errors[0].exception_class.__name__) == ("FAILED", "JobFailed")
    assert "nsfw" in failed.errors[0].traceback
    with pytest.raises(ValueError, match="Task failed"):
        _ = failed.return_value


def test_a_task_may_wait_and_a_result_finds_its_task(shop: Any, jobs: Any) -> None:
    from django.tasks.exceptions import TaskResultDoesNotExist, TaskResultMismatch
    from django.utils import timezone

    later = jobs.picture.using(run_after=timezone.now() + timedelta(hours=1)).enqueue("a fox")

    assert jobs.picture.get_result(later.id).status == "READY"
    with pytest.raises(TaskResultMismatch):
        jobs.confused.get_result(later.id)
    row = shop.started(countdown=600)
    for job_id in ("unknown", row.job_id):
        with pytest.raises(TaskResultDoesNotExist):
            jobs.picture.get_result(job_id)
    for job_id in (later.id, row.job_id):
        shop.store().request_cancel(job_id, "the test is over")


def test_a_task_that_asks_for_nothing_starts_nothing(jobs: Any) -> None:
    from django.tasks.exceptions import InvalidTask

    with pytest.raises(InvalidTask, match="model and parameters"):
        jobs.confused.enqueue()
