"""
Jobs as tasks of the framework that Django has from version 6 on.

    TASKS = {"bytespike": {"BACKEND": "tasks_bridge.contrib.django.backend.JobBackend"}}

    @task(backend="bytespike")
    def picture(prompt):
        return "seedream-v4", {"prompt": prompt}        # what to ask for; called by `enqueue`

    result = picture.enqueue("a fox")                   # starts the job result.id
    picture.get_result(result.id).return_value          # ByteSpike's task object, once it is there

Arguments are not kept: a result that is read later has none.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from celery.utils import uuid
from django.tasks import TaskResult, TaskResultStatus
from django.tasks.backends.base import BaseTaskBackend
from django.tasks.base import TaskError
from django.tasks.exceptions import InvalidTask, TaskResultDoesNotExist
from django.tasks.signals import task_enqueued

from tasks_bridge import steps
from tasks_bridge.bridge import bridge_of
from tasks_bridge.record import JobState
from tasks_bridge.tasks import generate

if TYPE_CHECKING:
    from tasks_bridge.store import Entry

_STATUSES: Final = {
    JobState.QUEUED: TaskResultStatus.READY,
    JobState.PENDING: TaskResultStatus.READY,
    JobState.RUNNING: TaskResultStatus.RUNNING,
    JobState.COMPLETED: TaskResultStatus.SUCCESSFUL,
}

_tasks: Final[dict[str, Any]] = {}
"""
The tasks of this backend that this process has imported, by their mark: the start of the ids of their jobs. So a result
finds its task, and nothing needs to be kept for that.
"""


class JobBackend(BaseTaskBackend):
    """A job for each task that is enqueued."""

    supports_defer = True
    supports_get_result = True

    def validate_task(self, task: Any) -> None:
        """Django's hook for each task that is made: remember it."""
        super().validate_task(task)
        _tasks.setdefault(_mark(task), task)  # the first is the one at its function, later ones are its variants

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """
        Ask *task* what it wants, and start that as a job.

        Raises:
            InvalidTask: Its function returns no model and parameters.
            BridgeError: As from ``generate.apply_async``.
        """
        self.validate_task(task)
        request = task.call(*args, **kwargs)
        if not (isinstance(request, tuple) and len(request) == 2):  # noqa: PLR2004
            raise InvalidTask("The task's function must return a tuple: model and parameters.")
        job_id = f"{_mark(task)}-{uuid()}"
        result = TaskResult(
            task=task,
            id=job_id,
            status=TaskResultStatus.READY,
            enqueued_at=datetime.now(UTC),
            started_at=None,
            finished_at=None,
            last_attempted_at=None,
            args=list(args),
            kwargs=kwargs,
            backend=self.alias,
            errors=[],
            worker_ids=[],
        )
        generate.apply_async(request, task_id=job_id, eta=task.run_after)
        task_enqueued.send(type(self), task_result=result)
        return result

    def get_result(self, result_id: str) -> Any:
        """
        The job as a result.

        Raises:
            TaskResultDoesNotExist: There is no such job, or no task that this process knows started it.
        """
        task = _tasks.get(str(result_id).partition("-")[0])
        entry = None if task is None else bridge_of().store.get([result_id])[0]
        if entry is None:
            raise TaskResultDoesNotExist(result_id)
        return _result(entry, task)


def _mark(task: Any) -> str:
    return hashlib.blake2b(task.module_path.encode(), digest_size=6).hexdigest()


def _result(entry: Entry, task: Any) -> Any:
    state, record = entry.state, entry.record
    errors = []
    if state.is_terminal and state is not JobState.COMPLETED:
        error = steps.failure(entry.job_id, state, record)
        kind = type(error)
        errors = [TaskError(exception_class_path=f"{kind.__module__}.{kind.__qualname__}", traceback=str(error))]
    result = TaskResult(
        task=task,
        id=entry.job_id,
        status=_STATUSES.get(state, TaskResultStatus.FAILED),
        enqueued_at=_moment(record.created_at),
        started_at=_moment(record.submitted_at),
        finished_at=_moment(record.polled_at) if state.is_terminal else None,
        last_attempted_at=_moment(record.submitted_at),
        args=[],
        kwargs={},
        backend=task.backend,
        errors=errors,
        worker_ids=[],
    )
    object.__setattr__(result, "_return_value", record.remote)  # as Django's own backends do
    return result


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
