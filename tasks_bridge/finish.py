"""The end of a job as Celery's: return or raise the outcome once, and take the job off the schedule after that."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NoReturn

import redis
from celery import states
from celery.exceptions import BackendError, Ignore
from kombu.exceptions import EncodeError, OperationalError

from tasks_bridge import chord, events, steps, tracing
from tasks_bridge.bridge import bridge_of
from tasks_bridge.errors import BridgeError, StoreError
from tasks_bridge.events import GENERATE, Change
from tasks_bridge.hooks import tell_ending
from tasks_bridge.record import JobState

if TYPE_CHECKING:
    from celery import Celery, Task

    from tasks_bridge.bridge import Bridge
    from tasks_bridge.store import Lease

log = logging.getLogger("tasks_bridge.jobs")

_AWAY: Final = (OperationalError, BackendError, redis.RedisError, OSError, StoreError)
"""Broker or backend can't be reached: the finish is repeated."""

_finishing: Final[dict[str, Finishing]] = {}
"""Jobs of this process between the return of `generate` and Celery's `after_return`."""


def finish(bridge: Bridge, task: Task[Any, Any], lease: Lease) -> dict[str, Any]:
    """
    Return or raise the outcome: Celery stores it and publishes the callbacks, then `after_return` ends the job.

    A worker that dies in between is followed by another finish, with the same callbacks under the same ids. The one
    case in which that is known to be needless, Celery having stored a success after publishing all, is left out.
    """
    job_id, state, record = lease.job_id, lease.state, lease.record
    if lease.claims and not record.options.get("chord") and _is_stored(task, job_id):
        _end(bridge, lease)
        raise Ignore
    if task.request.chord and task.request.group:
        chord.release_claim(bridge.app.backend, task.request.group)
    error = None if state is JobState.COMPLETED else steps.failure(job_id, state, record)
    _finishing[job_id] = Finishing(bridge, lease, error)
    if not tell_ending(bridge.hooks, Change(job_id, state, record), lease.claims):
        abandoned(job_id)
        raise Ignore
    if error is None:
        return record.remote or {}
    if state is JobState.CANCELLED:
        _revoke(bridge, task, lease, error)
    raise error


def finished(job_id: str) -> None:
    """Celery has stored the outcome and published the callbacks: take the job off the schedule."""
    finishing = _finishing.pop(job_id, None)
    if finishing is not None:
        finishing.end()


def abandoned(job_id: str) -> None:
    """Celery could not do its part: the lease runs out, and the finish is repeated."""
    finishing = _finishing.pop(job_id, None)
    if finishing is not None:
        finishing.stop()


def _revoke(bridge: Bridge, task: Task[Any, Any], lease: Lease, error: BridgeError) -> NoReturn:
    """End as Celery ends revoked tasks, but with errbacks, chord and chain told."""
    task.backend.mark_as_failure(lease.job_id, error, request=task.request, state=states.REVOKED)
    events.send(bridge.app, [Change(lease.job_id, lease.state, lease.record)], node=bridge.node)
    finished(lease.job_id)
    raise Ignore


def _end(bridge: Bridge, lease: Lease) -> None:
    try:
        if bridge.budget.is_on or lease.record.is_booked:
            # here, where every job's end is repeated until it succeeds
            bridge.budget.settle(lease.job_id, lease.record.cost)
        bridge.store.end(lease, bridge.settings.result_ttl_s)
    except StoreError as error:
        log.warning("job %s: is over, but not off the schedule yet: %s", lease.job_id, error)


class Finishing:
    """A lease that holds while Celery publishes the callbacks, which takes long only if broker or backend hang."""

    MOST_RENEWALS = 20
    """Bounded, so that a finish that never comes to its end is repeated elsewhere."""

    def __init__(self, bridge: Bridge, lease: Lease, outcome: BridgeError | None) -> None:
        self.outcome = outcome
        self._bridge = bridge
        self._lease = lease
        self._span = tracing.finishing(lease)
        self._stop = bridge.reactor.start(self._renew())

    def stop(self) -> None:
        """Celery could not do its part, or has."""
        self._stop()
        self._span.close()

    def end(self) -> None:
        """Celery has done its part."""
        self.stop()
        _end(self._bridge, self._lease)

    async def _renew(self) -> None:
        lease_s = self._bridge.settings.lease_s
        for _ in range(self.MOST_RENEWALS):
            await asyncio.sleep(lease_s / 3)
            with suppress(StoreError):
                await self._bridge.reactor.blocking(self._bridge.store.renew, [self._lease], lease_s)


def _is_stored(task: Task[Any, Any], job_id: str) -> bool:
    return bool(task.AsyncResult(job_id).state == states.SUCCESS)


class OutcomesOnly:
    """
    A result backend seen through one filter.

    Celery marks a task as failed for its own troubles as well: a pool process was lost, a time limit hit, a callback
    could not be published. None of these is how the job ended; the store has it, and the lease brings it back.
    """

    def __init__(self, backend: Any, app: Celery) -> None:
        self._backend = backend
        self._app = app

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def mark_as_failure(self, task_id: str, exc: BaseException, *args: Any, **kwargs: Any) -> None:
        """Celery's hook: passed on for the job's own outcome, dropped for nearly everything else."""
        finishing = _finishing.get(task_id)
        is_outcome = finishing is not None and exc is finishing.outcome
        # without a finish: a message sent by name that never became a job, and not a stranger's with a job's id
        if not is_outcome and not (_is_permanent(exc) and (finishing is not None or self._is_no_job(task_id))):
            log.warning("job %s: left to its lease, which brings it back: %r", task_id, exc)
            abandoned(task_id)
            return
        kwargs["store_result"] = self._is_kept(
            kwargs.get("request"), kwargs.get("store_result", True), or_failures=True
        )
        try:
            self._backend.mark_as_failure(task_id, exc, *args, **kwargs)
        except _AWAY:
            raise
        except Exception:
            # Errbacks come last, and some Celery versions let their errors through. One that is called with arguments
            # it doesn't take, or that fails by itself, is no reason to lose the outcome or to call it for ever.
            log.exception("job %s: an errback failed; the job ends as it did", task_id)
        if not is_outcome:
            finished(task_id)  # Celery doesn't come to after_return then

    def mark_as_done(self, task_id: str, result: Any, request: Any, store_result: Any, **kwargs: Any) -> None:
        """Celery's hook for a success."""
        self._backend.mark_as_done(task_id, result, request, self._is_kept(request, store_result), **kwargs)

    def _is_kept(self, request: Any, otherwise: Any, *, or_failures: bool = False) -> bool:
        """
        Whether an outcome is stored: as the call's ``ignore_result`` says.

        Celery before 5.7 goes by the task's alone, for every failure, and for a success where that says True
        (https://github.com/celery/celery/pull/10184).
        """
        is_ignored = None if request is None or request.is_eager else vars(request).get("ignore_result")
        if is_ignored is None:
            return bool(otherwise)
        return not is_ignored or (or_failures and bool(self._app.tasks[GENERATE].store_errors_even_if_ignored))

    def _is_no_job(self, task_id: str) -> bool:
        try:
            return bridge_of(self._app).store.get([task_id]) == [None]
        except BridgeError:
            return False


def _is_permanent(error: BaseException) -> bool:
    """
    Whether a finish that was stopped by *error* would be stopped by it each time: a next step with wrong arguments.

    It fails the task then, as any Celery task whose callbacks can't be published fails; repeated for ever, it would
    publish the callbacks before the wrong one for ever.
    """
    if isinstance(error, BridgeError):
        return not isinstance(error, StoreError)
    return isinstance(error, TypeError | EncodeError)
