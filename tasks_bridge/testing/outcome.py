"""How a job is at this moment, whichever way it was run, in the words of a failed assertion."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from celery.result import EagerResult

from tasks_bridge import facts, steps
from tasks_bridge.bridge import bridge_of
from tasks_bridge.errors import JobCancelled, JobExpired, JobFailed
from tasks_bridge.models import RemoteTask
from tasks_bridge.record import JobState

if TYPE_CHECKING:
    from tasks_bridge.store import Entry

_LOOK_S: Final = 0.02


@dataclass(frozen=True)
class Outcome:
    """A job that is over, or not yet."""

    job_id: str
    state: JobState | None
    """None: nobody knows of such a job."""
    remote: RemoteTask | None = None
    error: BaseException | None = None
    progress: float = 0.0

    def __str__(self) -> str:
        """As it reads behind the job's name: ``is FAILED: nsfw: Not that.``."""
        if self.state is None:
            return "is not known: it was not started here"
        if self.error is not None:
            return f"is {self.state}: {_reason(self.error)}"
        if self.state.is_terminal:
            return f"is {self.state}"
        if self.state is JobState.QUEUED:
            return "is QUEUED: ByteSpike has not accepted it yet"
        return f"is {self.state} at ByteSpike, by estimate {self.progress:.0%} done"

    @property
    def code(self) -> str | None:
        """ByteSpike's error code, or the name of the error where it gave none."""
        if self.error is None:
            return None
        code = getattr(self.error, "code", None)
        return code if isinstance(code, str) else type(self.error).__name__


def of_entry(entry: Entry) -> Outcome:
    """A job as the store has it."""
    state, record = entry.state, entry.record
    is_bad = state.is_terminal and state is not JobState.COMPLETED
    error = steps.failure(entry.job_id, state, record) if is_bad else None
    progress = facts.progress(state, record, entry.now)
    return Outcome(entry.job_id, state, record.remote_task, error, progress)


def of_eager(result: EagerResult[Any]) -> Outcome:
    """A job that ran where it was called."""
    value = result.result
    if not isinstance(value, BaseException):
        return Outcome(str(result.id), JobState.COMPLETED, RemoteTask.model_validate(value))
    states = {JobCancelled: JobState.CANCELLED, JobExpired: JobState.EXPIRED}
    return Outcome(str(result.id), states.get(type(value), JobState.FAILED), error=value)


def of_worker(job_id: str, within_s: float) -> Outcome:
    """A job of real workers, once its callbacks are published or *within_s* have passed."""
    give_up_at = time.monotonic() + within_s
    while True:
        (entry,) = bridge_of().store.get([job_id])
        if entry is None:
            return Outcome(job_id, None)
        if entry.due_at is None or time.monotonic() > give_up_at:
            return of_entry(entry)
        time.sleep(_LOOK_S)


def _reason(error: BaseException) -> str:
    if isinstance(error, JobFailed):
        return ": ".join(part for part in (error.code, error.message) if part) or "no reason given"
    return f"{type(error).__name__}: {error}"
