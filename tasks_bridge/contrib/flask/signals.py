"""
What the application may be told of its jobs.

Receivers are called with the Flask app as their sender, in a context of it, in a worker, and with

- ``job_id``: str;
- ``state``: the `JobState` that the job has come into;
- ``remote``: ByteSpike's word, a `RemoteTask`, or None if it has said nothing yet;
- ``error``: why it ended without outputs, as `Job.result` raises it, or None.

The end of each job is told at least once, before its callbacks run: again only after a crash, or while a receiver
raises `NotYet`, for which the end waits a quarter of an hour at most. The states between are told by a message of their
own: they may be missed or come late, and now and then twice. What a receiver does must bear that; one statement that
names the states before makes each transition happen once. Receivers are told apart from each other: one that fails
is logged.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from blinker import Namespace
from celery import Task

from tasks_bridge import steps
from tasks_bridge.bridge import bridge_of
from tasks_bridge.contrib.flask.state import state_of
from tasks_bridge.events import TELL, Change
from tasks_bridge.hooks import Hooks, NotYet
from tasks_bridge.record import JobState

if TYPE_CHECKING:
    from celery import Celery
    from flask import Flask

log = logging.getLogger(__name__)

_signals = Namespace()

job_changed = _signals.signal("job-changed", "Into any other state.")
job_completed = _signals.signal("job-completed", "The outputs are there.")
job_failed = _signals.signal("job-failed", "It failed, or its deadline passed: ``state`` is FAILED or EXPIRED.")
job_cancelled = _signals.signal("job-cancelled", "It was cancelled.")

_ENDINGS: Final = {
    JobState.COMPLETED: job_completed,
    JobState.FAILED: job_failed,
    JobState.EXPIRED: job_failed,
    JobState.CANCELLED: job_cancelled,
}


def announce(app: Flask, change: Change) -> None:
    """
    Tell the receivers of *app* that a job has come into another state.

    Raises:
        NotYet: One of them isn't able yet. The others have been told, and are told again with it.
    """
    job_id, state, record = change.job_id, change.state, change.record
    is_failure = state.is_terminal and state is not JobState.COMPLETED
    news = {
        "job_id": job_id,
        "state": state,
        "remote": record.remote_task,
        "error": steps.failure(job_id, state, record) if is_failure else None,
    }
    late: NotYet | None = None
    for signal in (job_changed, _ENDINGS.get(state)):
        for receiver in signal.receivers_for(app) if signal is not None else ():
            try:
                # a context each: what is left of one that fails, such as a broken transaction, is not the next one's
                with app.app_context():
                    app.ensure_sync(receiver)(app, **news)
            except NotYet as error:
                late = error
            except Exception:
                log.exception("job %s: a receiver of its change to %s failed", job_id, state)
    if late is not None:
        raise late


class SignalHooks(Hooks):
    """What the workers of a Flask app do when a job changes."""

    def __init__(self, app: Flask) -> None:
        self._app = app

    def changed(self, changes: Sequence[Change]) -> None:
        """Have the receivers told by a task: here, a slow one would hold up the polling."""
        if job_changed.has_receivers_for(self._app):
            news = [(change.job_id, change.state.value) for change in changes]
            state_of(self._app).celery.tasks[TELL].apply_async((news,), retry=False, add_to_parent=False)

    def ending(self, change: Change) -> None:
        """
        Tell the receivers before the callbacks run.

        Raises:
            NotYet: One of them isn't able yet.
        """
        announce(self._app, change)


def tell_by_task(celery: Celery) -> None:
    """Give *celery* the task that tells of the states between."""
    celery.task(
        bind=True,
        base=Task,  # no context around it: each receiver gets one
        name=TELL,
        ignore_result=True,
        send_events=False,  # monitors show jobs, and would show little else
        autoretry_for=(NotYet,),
        max_retries=3,
        default_retry_delay=5,
    )(_tell)


def _tell(task: Any, news: Sequence[tuple[str, str]]) -> None:
    """Tell of jobs that have come into other states, unless they have left these since: the next message tells that."""
    entries = bridge_of(task.app).store.get([job_id for job_id, _ in news])
    for entry, (job_id, state) in zip(entries, news, strict=True):
        if entry is not None and entry.state.value == state:
            announce(task.app.Task.flask_app, Change(job_id, entry.state, entry.record))
