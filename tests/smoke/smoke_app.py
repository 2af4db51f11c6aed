"""An application as a user writes one: callbacks that leave a trace in Redis, and an app with the library installed."""

import json
import sys
import time
from typing import Any

from celery import Celery, current_app, shared_task

from tasks_bridge import RemoteTask, Settings, install, once
from tasks_bridge.bridge import bridge_of


def make_app(settings: Settings | None = None, *, queue_type: str = "classic") -> Celery:
    settings = settings or Settings()
    app = Celery("smoke", broker=settings.broker, backend=settings.backend)
    app.conf.update(broker_connection_retry_on_startup=True, task_default_queue_type=queue_type)
    install(app, settings)
    return app


def record(name: str, **facts: Any) -> None:
    """Append to the list that `calls` of a test reads."""
    bridge_of(current_app).store.client.rpush(f"smoke:{name}", json.dumps({**facts, "at": time.time()}))


@shared_task(bind=True, pydantic=True)
def completed(self: Any, video: RemoteTask, label: str = "") -> RemoteTask:
    """A completion callback, and a step of a chain: what it returns is the next one's argument."""
    record(
        "completed",
        call=self.request.id,
        worker=self.request.hostname,
        label=label,
        job=video.out_task_id,
        status=video.status,
        urls=video.urls,
    )
    return video


@shared_task(bind=True, pydantic=True)
@once
def completed_once(self: Any, video: RemoteTask) -> None:
    """A completion callback that suppresses its own doubles."""
    record("completed", call=self.request.id, label="once", job=video.out_task_id)


@shared_task
def failed(request: Any, exc: BaseException, traceback: Any, label: str = "") -> None:
    """An errback in Celery's present form, which runs in the place of the failed task."""
    record("failed", job=request.id, label=label, error=type(exc).__name__, args=list(exc.args))


@shared_task
@once
def failed_once(request: Any, exc: BaseException, traceback: Any) -> None:
    """An errback that suppresses its own doubles."""
    record("failed", job=request.id, label="once", error=type(exc).__name__, args=list(exc.args))


@shared_task
def failed_by_id(job_id: str) -> None:
    """An errback in the old form, which has a message of its own."""
    record("failed", job=job_id, label="by id", error=None, args=[])


@shared_task(bind=True)
def failed_bound(self: Any, job_id: str) -> None:
    """A bound errback: called with the id alone."""
    record("failed", job=job_id, label="bound", error=None, args=[])


@shared_task
def assemble(videos: list[dict[str, Any]]) -> list[str]:
    """The body of a chord; Celery makes models of single arguments only."""
    jobs = [RemoteTask.model_validate(video).out_task_id or "" for video in videos]
    record("assembled", jobs=jobs)
    return jobs


@shared_task
@once
def assemble_once(videos: list[dict[str, Any]]) -> list[str]:
    """The body of a chord that suppresses its own doubles."""
    return assemble(videos)


@shared_task
def has_imported(name: str) -> bool:
    """Whether the process that runs this has a module already."""
    return name in sys.modules


@shared_task
def overtake_nothing() -> None:
    """A message that comes after those that were published before it."""
