"""
Jobs that the application has kept as open, told anew: as Redis knows them, else as ByteSpike does.

What gets lost between a row and its job: the process died before it could start the job; the application's receivers
were not able for too long; Redis lost its data. ByteSpike knows a task by the job's id, so that is enough to find out.
What is found goes through the same signals as ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from tasks_bridge.contrib.flask.signals import announce
from tasks_bridge.contrib.flask.state import state_of
from tasks_bridge.errors import BridgeError
from tasks_bridge.events import Change
from tasks_bridge.hooks import NotYet
from tasks_bridge.record import JobState, advance
from tasks_bridge.recover import Service, look_up, record_of, record_of_lost
from tasks_bridge.settings import DEFAULT_KEY
from tasks_bridge.store import Entry
from tasks_bridge.wire import check_out_task_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flask import Flask

    from tasks_bridge.models import RemoteTask


class Verdict(StrEnum):
    """What was found, and done."""

    KNOWN = "known"  # Redis has it
    RECOVERED = "recovered"  # ByteSpike has it
    LOST = "lost"  # nobody knows it
    ENDED = "ended"  # the same, and it is told as failed, as it was asked for
    UNKNOWN = "unknown"  # ByteSpike could not be asked
    UNTOLD = "untold"  # a receiver wasn't able


@dataclass(frozen=True, slots=True)
class Finding:
    """One job, and what became of it."""

    job_id: str
    verdict: Verdict
    detail: str


def reconcile(
    app: Flask, job_ids: Sequence[str], *, key: str = DEFAULT_KEY, is_dry: bool = False, fail_lost: bool = False
) -> Iterator[Finding]:
    """
    Look at each of *job_ids*, and tell the receivers of *app* how it is.

    It may run at any time, and twice at a time: receivers bear to be told again.

    Args:
        app: The Flask app.
        job_ids: Jobs that the application has as open.
        key: Alias of the API key that ByteSpike is asked with for what Redis doesn't know.
        is_dry: Only say what would be told.
        fail_lost: Tell jobs that nobody knows as failed; otherwise nothing is told of them.

    Raises:
        InvalidRequest: One of them can't be a job's id. Nothing is told.
        SettingsError: There is no such key. Nothing is told.
        StoreError: Redis can't be reached.
    """
    ids = [check_out_task_id(job_id) for job_id in job_ids]
    bridge = state_of(app).bridge
    bridge.settings.key(key)
    with Service(bridge.settings) as service:
        for job_id, known in look_up(bridge.store, service, ids, key):
            finding, change = _found(job_id, known, key, fail_lost=fail_lost)
            yield finding if is_dry or change is None else _told(app, finding, change)


def _found(
    job_id: str, known: Entry | RemoteTask | BridgeError | None, key: str, *, fail_lost: bool
) -> tuple[Finding, Change | None]:
    if isinstance(known, Entry):
        return Finding(job_id, Verdict.KNOWN, known.state), Change(job_id, known.state, known.record)
    if isinstance(known, BridgeError):
        return Finding(job_id, Verdict.UNKNOWN, str(known)), None
    if known is not None:
        state = advance(JobState.QUEUED, known.status)
        return Finding(job_id, Verdict.RECOVERED, state), Change(job_id, state, record_of(known, key))
    if not fail_lost:
        return Finding(job_id, Verdict.LOST, "neither Redis nor ByteSpike knows it"), None
    lost = Change(job_id, JobState.FAILED, record_of_lost(job_id, key))
    return Finding(job_id, Verdict.ENDED, JobState.FAILED), lost


def _told(app: Flask, finding: Finding, change: Change) -> Finding:
    try:
        announce(app, change)
    except NotYet as error:
        return Finding(finding.job_id, Verdict.UNTOLD, str(error))
    return finding
