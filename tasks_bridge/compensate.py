"""
Tasks that a worker has made, or may have made, and could not write down: its lease was lost, or the store is away.

If the job goes on, whoever has it finds the task under the job's id. But a job may have ended without it: cancelled,
expired or refused, because ByteSpike knew no such task at the time. Nobody waits for that task, so it must not be paid
for. What this leaves open is in the design, "A task that nobody knows of".
"""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from tasks_bridge.ask import ask
from tasks_bridge.cadence import backoff_s
from tasks_bridge.errors import BridgeError, NotFound, StoreError
from tasks_bridge.models import RemoteTask
from tasks_bridge.steps import Action

if TYPE_CHECKING:
    from tasks_bridge.bridge import Bridge
    from tasks_bridge.record import JobRecord
    from tasks_bridge.store import Lease

log = logging.getLogger("tasks_bridge.jobs")


async def compensate(bridge: Bridge, lease: Lease, record: JobRecord) -> None:
    """Once the job of *lease* has ended without the task in *record*, or one that is not known yet, cancel that."""
    while (is_wanted := await _is_wanted(bridge, lease.job_id, record.remote_id)) is None:  # noqa: ASYNC110 - in Redis
        await asyncio.sleep(bridge.settings.lease_s)
    if is_wanted:
        return
    answer = await _cancel(bridge, replace(lease, record=record))
    if isinstance(answer, RemoteTask) and answer.is_terminal:
        log.warning(
            "job %s: task %s came after the job's end, and is %s now: credits_used=%s",
            lease.job_id,
            answer.task_id,
            answer.status,
            answer.credits_used,
        )
        if answer.credits_used and bridge.budget.is_on:
            with suppress(StoreError):
                await bridge.reactor.blocking(bridge.budget.settle, lease.job_id, answer.credits_used)
    elif record.remote_id is not None or not isinstance(answer, NotFound):
        # the one place where it can still be seen
        task = record.remote_id or "there may be a task that"
        log.error("job %s: %s came after the job's end, and can't be cancelled: %s", lease.job_id, task, answer)


async def _is_wanted(bridge: Bridge, job_id: str, remote_id: str | None) -> bool | None:
    """Whether the job has this task (any, if its id is not known); None while that is open."""
    try:
        entry = (await bridge.reactor.blocking(bridge.store.get, [job_id]))[0]
    except StoreError:
        return None
    if entry is None:
        return False
    known = entry.record.remote_id
    if known is None:
        return False if entry.state.is_terminal else None
    return remote_id in (None, known)


async def _cancel(bridge: Bridge, lease: Lease) -> RemoteTask | BridgeError:
    """Cancel until that is confirmed, for as long as a job's cancel is insisted on; returns the last answer."""
    settings, clock, tries = bridge.settings, asyncio.get_running_loop().time, 0
    begun = clock()
    while True:
        answer = await ask(bridge, lease, Action.CANCEL)
        is_over = isinstance(answer, RemoteTask) and answer.is_terminal
        may_come = lease.record.remote_id is None and clock() < begun + settings.submit_timeout_s
        is_gone = isinstance(answer, NotFound) and not may_come
        if is_over or is_gone or clock() >= begun + settings.cancel_grace_s:
            return answer
        tries += 1
        chance = random.random()  # noqa: S311 - spreads requests, keeps no secret
        await asyncio.sleep(
            backoff_s(tries, retry_min_s=settings.retry_min_s, retry_max_s=settings.retry_max_s, random=chance)
        )
