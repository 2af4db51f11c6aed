"""The handle on a job: from any process that knows its id, now or after a restart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tasks_bridge import facts, steps
from tasks_bridge.bridge import bridge_of
from tasks_bridge.errors import JobNotFinished, JobNotFound
from tasks_bridge.record import JobState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from celery import Celery

    from tasks_bridge.bridge import Bridge
    from tasks_bridge.budget import Spending
    from tasks_bridge.models import RemoteTask
    from tasks_bridge.store import Entry

WAIT_POLL_S: Final = (0.05, 1.0)
"""`Job.wait` looks into Redis this often: soon at first, then at leisure."""


class Job:
    """
    One job, by its id: the Celery task id, which is ByteSpike's ``out_task_id`` too.

    Every property reads Redis anew; `refresh` reads once for several. Views should never `wait`.

    Raises:
        JobNotFound: From every property and method, if no job has this id (any more).
        StoreError: Likewise, if Redis can't be reached.
    """

    def __init__(self, job_id: str, *, app: Celery | None = None) -> None:
        """Refer to the job *job_id*; *app* is the Celery app it belongs to, by default the current one."""
        self.id = str(job_id)
        self._app = app

    def __repr__(self) -> str:
        return f"Job({self.id!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def status(self) -> JobState:
        """Where the job is in its life."""
        return self._entry().state

    @property
    def state(self) -> str:
        """The same in Celery's words, as `AsyncResult.state` has it."""
        return self.status.celery_state

    @property
    def is_terminal(self) -> bool:
        """True once the job has ended, one way or another."""
        return self.status.is_terminal

    @property
    def remote(self) -> RemoteTask | None:
        """What ByteSpike last said; None until it answered the submit."""
        return self._entry().record.remote_task

    @property
    def polls(self) -> int:
        """How often ByteSpike was asked so far."""
        return self._entry().record.polls

    @property
    def progress(self) -> float:
        """The share of the work done, in [0, 1]: a guess from the estimate, 1 only once the job has ended."""
        entry = self._entry()
        return facts.progress(entry.state, entry.record, entry.now)

    @property
    def eta_s(self) -> float | None:
        """Seconds that are probably left: 0 once it has ended, None before it is submitted."""
        entry = self._entry()
        return facts.eta_s(entry.state, entry.record, entry.now)

    def cancel(self, reason: str = "cancelled") -> bool:
        """
        Cancel the job, at ByteSpike too; durable, so that it works although no worker may be up.

        Returns:
            Whether the job was still open. It may yet turn out to have completed before the cancel got there.
        """
        state = bridge_of(self._app).store.request_cancel(self.id, reason)
        if state is None:
            raise JobNotFound(self.id)
        return not state.is_terminal

    def refresh(self) -> None:
        """Have a worker ask ByteSpike now instead of at the end of the countdown."""
        bridge_of(self._app).store.touch([self.id])

    def result(self) -> RemoteTask:
        """
        The completed remote task.

        Raises:
            JobNotFinished: It is still under way.
            JobFailed, JobCancelled, JobExpired, ApiStatusError: It ended otherwise.
        """
        entry = self._entry()
        if not entry.state.is_terminal:
            raise JobNotFinished(self.id, entry.state.value)
        remote = entry.record.remote_task
        if entry.state is JobState.COMPLETED and remote is not None:
            return remote
        raise steps.failure(self.id, entry.state, entry.record)

    def wait(self, timeout_s: float | None = None) -> RemoteTask:
        """
        Block until the job has ended, for scripts; returns or raises as `result` does.

        Raises:
            JobNotFinished: It is still under way after *timeout_s*.
        """
        bridge = bridge_of(self._app)
        give_up_at = None if timeout_s is None else bridge.monotonic() + timeout_s
        pause_s = WAIT_POLL_S[0]
        while True:
            try:
                return self.result()
            except JobNotFinished:
                left_s = pause_s if give_up_at is None else give_up_at - bridge.monotonic()
                if left_s <= 0:
                    raise
            bridge.pause(min(pause_s, left_s))
            pause_s = min(pause_s * 1.5, WAIT_POLL_S[1])

    def _entry(self) -> Entry:
        (entry,) = entries_of(bridge_of(self._app), [self.id])
        return entry


def entries_of(bridge: Bridge, ids: Sequence[str]) -> list[Entry]:
    """
    Jobs as Redis has them, in one round trip.

    Raises:
        JobNotFound: It doesn't know one of them.
    """
    found = []
    for job_id, entry in zip(ids, bridge.store.get(ids), strict=True):
        if entry is None:
            raise JobNotFound(job_id)
        found.append(entry)
    return found


def statuses(job_ids: Iterable[str], *, app: Celery | None = None) -> dict[str, JobState | None]:
    """The status of each job in one round trip; None for an unknown id."""
    ids = list(job_ids)
    entries = bridge_of(app).store.get(ids)
    return {job_id: entry.state if entry else None for job_id, entry in zip(ids, entries, strict=True)}


def spending(label: str | None = None, *, periods_ago: int = 0, app: Celery | None = None) -> Spending:
    """
    What the jobs of a period have used and reserved, and the limit: of all, or of those under *label*.

    Nothing is booked while no limit is set.

    Args:
        label: Whose jobs; default: all.
        periods_ago: 0 is the current period, 1 the one before. Older books may be gone.
        app: The Celery app, by default the current one.

    Raises:
        StoreError: Redis can't be reached.
    """
    return bridge_of(app).budget.books(label, periods_ago=periods_ago)


def spending_by_label(*, periods_ago: int = 0, app: Celery | None = None) -> list[Spending]:
    """
    The same of all jobs together, and after it of each label that has booked anything, by name.

    Raises:
        StoreError: Redis can't be reached.
    """
    return bridge_of(app).budget.all_books(periods_ago=periods_ago)
