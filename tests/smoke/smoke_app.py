"""
An application as a user writes one: callbacks that leave a trace in Redis, and an app with the library installed.

A test can also halt a worker at an exact point of its work, to kill it there: see `halt`.
"""

from __future__ import annotations

import json
import time
from typing import Any

from celery import Celery, current_app, shared_task
from celery.signals import after_task_publish, task_prerun, task_success

from tasks_bridge import RemoteTask, Settings, install, once
from tasks_bridge.bridge import bridge_of

HALT_KEY = "smoke:halt-at"
HALTED_KEY = "smoke:halted-at"


def make_app(settings: Settings | None = None, *, queue_type: str = "classic") -> Celery:
    settings = settings or Settings()
    app = Celery("smoke", broker=settings.broker, backend=settings.backend)
    app.conf.update(broker_connection_retry_on_startup=True, task_default_queue_type=queue_type)
    install(app, settings)
    return app


def record(name: str, **facts: Any) -> None:
    """Append to the list that `calls` of a test reads."""
    bridge_of(current_app).store.client.rpush(f"smoke:{name}", json.dumps(facts))


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
    record("completed", call=self.request.id, job=video.out_task_id)


@shared_task
def failed(request: Any, exc: BaseException, traceback: Any, label: str = "") -> None:
    """An errback in Celery's present form, which runs in the place of the failed task."""
    record("failed", job=request.id, label=label, error=type(exc).__name__, args=list(exc.args))


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
def overtake_nothing() -> None:
    """A message that comes after those that were published before it."""


def halt(point: str, job_id: str) -> None:
    """Stand still here if a test asked for it: it kills the worker in this moment. The next one passes."""
    redis = bridge_of(current_app).store.client
    if redis.get(HALT_KEY) == point.encode() and redis.delete(HALT_KEY):
        redis.set(HALTED_KEY, job_id)
        time.sleep(600)


@task_prerun.connect(weak=False)
def _on_prerun(task_id: str = "", task: Any = None, **_: Any) -> None:
    if task.name == "tasks_bridge.generate":
        state = bridge_of(task.app).store.get([task_id])[0]
        if state is not None and state.state.is_terminal:
            halt("finish begins", task_id)
        else:
            halt("submit begins", task_id)
    if task.name == "tasks_bridge.poll":
        halt("poll begins", task_id)


@after_task_publish.connect(weak=False)
def _on_publish(sender: str = "", headers: Any = None, **_: Any) -> None:
    if sender.startswith("tests.smoke.smoke_app.completed"):
        halt("callback published", headers["id"])


@task_success.connect(weak=False)
def _on_success(sender: Any = None, **_: Any) -> None:
    if sender.name == "tasks_bridge.generate":
        halt("result stored", sender.request.id)
