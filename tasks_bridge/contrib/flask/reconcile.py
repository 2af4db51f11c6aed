"""
Jobs that the application has kept as open, told anew: as Redis knows them, else as ByteSpike does.

What gets lost between a row and its job: the process died before it could start the job; the application's receivers
were not able for too long; Redis lost its data. ByteSpike knows a task by the job's id, so that is enough to find out.
What is found goes through the same signals as ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from tasks_bridge.contrib.flask.signals import announce
from tasks_bridge.contrib.flask.state import state_of
from tasks_bridge.errors import BridgeError
from tasks_bridge.events import Change
from tasks_bridge.hooks import NotYet
from tasks_bridge.record import JobState, advance
from tasks_bridge.recover import Service, record_of, record_of_lost
from tasks_bridge.settings import DEFAULT_KEY
from tasks_bridge.wire import check_out_task_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flask import Flask

BATCH: Final = 100
"""Jobs that are looked up in Redis at a time."""


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
        for start in range(0, len(ids), BATCH):
            batch = ids[start : start + BATCH]
            for job_id, entry in zip(batch, bridge.store.get(batch), strict=True):
                if entry is None:
                    finding, change = _recover(service, job_id, key, fail_lost=fail_lost)
                else:
                    finding = Finding(job_id, Verdict.KNOWN, entry.state)
                    change = Change(job_id, entry.state, entry.record)
                yield finding if is_dry or change is None else _told(app, finding, change)


def _recover(service: Service, job_id: str, key: str, *, fail_lost: bool) -> tuple[Finding, Change | None]:
    try:
        remote = service.task(job_id, key)
    except BridgeError as error:
        return Finding(job_id, Verdict.UNKNOWN, str(error)), None
    if remote is not None:
        state = advance(JobState.QUEUED, remote.status)
        return Finding(job_id, Verdict.RECOVERED, state), Change(job_id, state, record_of(remote, key))
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
