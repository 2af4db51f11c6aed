"""What the tests do with the project. It needs Django set up, so tests get it from the fixture `shop`."""

from __future__ import annotations

from typing import Any

from django.db import connection, transaction

from tasks_bridge import JobState
from tasks_bridge.bridge import bridge_of
from tasks_bridge.contrib.django.transitions import RowHooks, job_models, record_change
from tasks_bridge.events import Change
from tasks_bridge.record import JobRecord, RecordedError
from tests.django.shop.models import MODEL, Clip, Fault, LargeClip, Note, Render
from tests.django.shop.tasks import keep, publish
from tests.smoke.processes import LocalProcess, eventually

__all__ = [
    "MODEL",
    "OUTPUT",
    "Clip",
    "LargeClip",
    "Note",
    "Render",
    "RowHooks",
    "change",
    "connection",
    "ended",
    "fails",
    "job_models",
    "keep",
    "notes",
    "publish",
    "record_change",
    "row",
    "started",
    "store",
    "transaction",
]

OUTPUT = [{"type": "image", "url": "https://cdn.example/fox.png"}]


def store() -> Any:
    return bridge_of().store


def row(**fields: Any) -> Any:
    """A render whose process died between the commit and the start of its job."""
    found = Render(**{"prompt": "a fox", **fields})
    with transaction.atomic():
        found.start_job()
        connection.run_on_commit.clear()
    return found


def started(*, countdown: float = 0, **script: Any) -> Any:
    """A render with a job and a callback."""
    found = Render(prompt="a fox", script=script)
    found.start_job(link=publish.s(), countdown=countdown)
    return found


def change(job_id: str, state: JobState, *, error: RecordedError | None = None, **told: Any) -> Change:
    """What a worker reports."""
    remote = {"task_id": "task_1", "status": state.value.lower(), **told}
    record = JobRecord(version=1, model="m", key="default", digest="d", created_at=0, remote=remote, error=error)
    return Change(job_id, state, record)


def notes(job_id: str) -> list[str]:
    """What receivers and callbacks wrote of a job."""
    return list(Note.objects.filter(job_id=job_id).order_by("pk").values_list("text", flat=True))


def fails(job_id: str, kind: str) -> None:
    """Have receivers fail when they hear of the job."""
    Fault.objects.create(job_id=job_id, kind=kind)


def ended(found: Any, worker: LocalProcess) -> Any:
    """Wait until the row is over and its job off the schedule."""

    def is_over() -> bool:
        found.refresh_from_db()
        (entry,) = store().get([found.job_id])
        return found.job_is_over and entry is not None and entry.due_at is None

    eventually(is_over, expected=f"the row of {found.job_id} to end", show=worker.tail)
    return found
