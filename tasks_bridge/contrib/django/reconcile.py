"""
Rows whose job nobody follows any more, brought back to the truth: to that of Redis, else to that of ByteSpike.

What gets lost between a row and its job: the process died between the commit and the start; the workers' reports did
not arrive, and the job has been forgotten since; Redis lost its data. ByteSpike knows a task by the job's id, which is
its ``out_task_id``, so the row is enough to find out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from django.utils import timezone

from tasks_bridge.bridge import bridge_of
from tasks_bridge.contrib.django.models import sorted_options
from tasks_bridge.contrib.django.transitions import job_models, record_change, record_entry
from tasks_bridge.errors import BridgeError
from tasks_bridge.events import Change
from tasks_bridge.record import OPEN_STATES, JobState, advance
from tasks_bridge.recover import Service, record_of, record_of_lost
from tasks_bridge.settings import DEFAULT_KEY
from tasks_bridge.tasks import generate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tasks_bridge.bridge import Bridge
    from tasks_bridge.contrib.django.models import RemoteJobModel

BATCH: Final = 100
"""Rows that are looked up in Redis at a time."""


class Verdict(StrEnum):
    """What was found, and done."""

    UNDER_WAY = "under way"  # the row is as far as the job
    UPDATED = "updated"  # the row was behind the job
    RECOVERED = "recovered"  # Redis doesn't know the job, ByteSpike does: the row has its word
    STARTED = "started"  # nobody knew it: it is started under its id
    LOST = "lost"  # nobody knows it, and nothing says how to start it
    ENDED = "ended"  # the same, and the row is failed now, as it was asked for
    UNKNOWN = "unknown"  # ByteSpike could not be asked


@dataclass(frozen=True, slots=True)
class Finding:
    """One row, and what became of it."""

    row: RemoteJobModel
    verdict: Verdict
    detail: str


def reconcile(older_than_s: float, *, is_dry: bool = False, fail_lost: bool = False) -> Iterator[Finding]:
    """
    Look at all rows with an open job that have not changed for *older_than_s*.

    It may run at any time, and twice at a time: what it writes is a transition as any other, and what it starts is
    started under the row's own id, which makes it the same job.

    Args:
        older_than_s: Younger rows are left to the workers, and to whoever is just starting them.
        is_dry: Only say what would be done.
        fail_lost: Fail rows whose job nobody knows; otherwise they are told of each time.

    Raises:
        StoreError: Redis can't be reached.
    """
    bridge = bridge_of()
    before = timezone.now() - timedelta(seconds=older_than_s)
    with Service(bridge.settings) as service:
        for model in job_models():
            rows = model._base_manager.filter(
                job_state__in=[state.value for state in OPEN_STATES], job_changed_at__lt=before
            )
            # the keys first: the rows are changed on the way
            keys = list(rows.order_by("job_changed_at").values_list("pk", flat=True))
            for start in range(0, len(keys), BATCH):
                batch = list(rows.filter(pk__in=keys[start : start + BATCH]).order_by("job_changed_at"))
                yield from _reconcile(bridge, service, batch, is_dry=is_dry, fail_lost=fail_lost)


def _reconcile(
    bridge: Bridge, service: Service, rows: Sequence[RemoteJobModel], *, is_dry: bool, fail_lost: bool
) -> Iterator[Finding]:
    entries = bridge.store.get([str(row.job_id) for row in rows])
    for row, entry in zip(rows, entries, strict=True):
        if entry is None:
            yield _recover(service, row, is_dry=is_dry, fail_lost=fail_lost)
        elif entry.state == row.job_state:
            yield Finding(row, Verdict.UNDER_WAY, entry.state)
        elif is_dry or record_entry(entry):
            yield Finding(row, Verdict.UPDATED, f"{row.job_state} -> {entry.state}")
        else:
            yield Finding(row, Verdict.UNDER_WAY, row.job_state)  # a worker was quicker, or the row is ahead


def _recover(service: Service, row: RemoteJobModel, *, is_dry: bool, fail_lost: bool) -> Finding:
    job_id = str(row.job_id)
    try:
        remote = service.task(job_id, row.job_key or DEFAULT_KEY)
        state = JobState.FAILED if remote is None else advance(JobState(row.job_state), remote.status)
        if remote is None:
            return _lost(row, is_dry=is_dry, fail_lost=fail_lost)
        request = row.job_request()
        if not state.is_terminal and request is not None and not is_dry:
            # the same request under the same id is the same task: so the workers follow it again
            _start(row, request)
    except BridgeError as error:
        return Finding(row, Verdict.UNKNOWN, str(error))
    if not is_dry:
        record_change(Change(job_id, state, record_of(remote, row.job_key or DEFAULT_KEY)))
    return Finding(row, Verdict.RECOVERED, f"{row.job_state} -> {state}")


def _lost(row: RemoteJobModel, *, is_dry: bool, fail_lost: bool) -> Finding:
    request = row.job_request()
    # One that was accepted may have been paid for, and is not started again. Nor is one that may have run to its end
    # and been forgotten since, unheard of here: for as long as Redis remembers its like, it has not.
    age_s = (timezone.now() - row.job_changed_at).total_seconds()
    remembered_s = bridge_of().settings.result_ttl_s
    if row.job_state == JobState.QUEUED and request is not None and age_s < remembered_s:
        if not is_dry:
            _start(row, request)
        return Finding(row, Verdict.STARTED, f"it was never submitted: {row.job_id}")
    if not fail_lost:
        return Finding(row, Verdict.LOST, "neither Redis nor ByteSpike knows it")
    if not is_dry:
        job_id = str(row.job_id)
        record_change(Change(job_id, JobState.FAILED, record_of_lost(job_id, row.job_key or DEFAULT_KEY)))
    return Finding(row, Verdict.ENDED, f"{row.job_state} -> {JobState.FAILED}")


def _start(row: RemoteJobModel, request: tuple[str, dict[str, Any]]) -> None:
    arguments, options = sorted_options(row.job_options())
    generate.apply_async(request, {**arguments, "key": row.job_key or None}, **{**options, "task_id": row.job_id})
