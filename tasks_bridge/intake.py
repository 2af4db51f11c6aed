"""
From a call's arguments to jobs in the store: checked first, registered in one round trip, and not published here.

Crash before the registration: the caller has no id, and nothing happened. After it: a job whose message was about to be
published counts as lost at its first due time, and is published then; the others wait for that time anyway.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from tasks_bridge import facts
from tasks_bridge.callbacks import callback_url_if_on
from tasks_bridge.errors import JobConflict, StoreError, StoreUnreachable
from tasks_bridge.order import start_delay_s, submit_by
from tasks_bridge.publish import freeze
from tasks_bridge.record import JobState
from tasks_bridge.store.base import NO_MESSAGES, Registration

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from tasks_bridge.bridge import Bridge
    from tasks_bridge.order import Order
    from tasks_bridge.publish import SharedOptions
    from tasks_bridge.store.base import Message

CHUNK_JOBS: Final = 250
"""Registered in one round trip: enough to make its cost nothing, few enough for Redis to serve others meanwhile."""

CHUNK_BYTES: Final = 8 * 1024 * 1024
"""About the most of their requests that are sent at once."""

log = logging.getLogger("tasks_bridge.jobs")


def prepare(
    bridge: Bridge,
    job_id: str,
    order: Order,
    options: Mapping[str, Any],
    *,
    is_published: bool = True,
    shared: SharedOptions | None = None,
) -> Registration:
    """
    Check a call and make its job; nothing is written.

    Args:
        bridge: Whose job.
        job_id: Checked already.
        order: The arguments.
        options: Celery's options, with ``countdown`` or ``eta``, and ``expires``.
        is_published: Whether the caller publishes its message at once, unless it is to start later.
        shared: What *options* have in common with those of other calls: all but ``countdown``, ``eta`` and ``expires``.

    Raises:
        InvalidRequest: Something is wrong.
    """
    settings, zone = bridge.settings, bridge.app.timezone
    body = order.body(job_id)
    now = bridge.store.now()
    kept = {name: value for name, value in options.items() if name not in ("countdown", "eta", "expires")}
    delay_s = start_delay_s(options.get("countdown"), options.get("eta"), zone)
    callback_url = callback_url_if_on(settings, job_id)
    record = order.record(
        body,
        settings,
        now=now,
        delay_s=delay_s,
        submit_by=submit_by(options.get("expires"), now, zone),
        has_callback=callback_url is not None,
        options=freeze(bridge.app, kept) if shared is None else shared.freeze(kept),
    )
    if callback_url is not None:
        body = order.body(job_id, callback_url)
    is_published = is_published and not delay_s
    return Registration(job_id, record, body, settings.lease_s if is_published else delay_s, is_published)


def register(bridge: Bridge, jobs: Sequence[Registration], messages: Mapping[str, Message] = NO_MESSAGES) -> list[bool]:
    """
    Write *jobs* to the store and the result backend; returns which of them are new.

    Args:
        bridge: Whose jobs.
        jobs: What `prepare` made.
        messages: By job id, where the store is to publish them as well.

    Raises:
        JobConflict: The first whose id belongs to a job with another request. The others are registered.
        StoreError: Redis refuses: none is registered.
        StoreUnreachable: It doesn't answer: they may be.
    """
    reports = {
        job.job_id: facts.report(
            job.job_id, JobState.QUEUED, job.record, token=0, now=job.record.created_at, next_poll_s=None
        )
        for job in jobs
        if not job.record.options.get("ignore_result")
    }
    besides = bridge.results.besides(reports.values(), bridge.store)
    try:
        answers = bridge.store.register_many(jobs, besides, messages)
    except StoreUnreachable as error:
        raise StoreUnreachable(error.message, [job.job_id for job in jobs]) from None
    is_new = [answer.is_new for answer in answers]
    late = [
        reports[job.job_id]
        for job, new in zip(jobs, is_new, strict=True)
        if new and job.job_id in reports and job.job_id not in besides
    ]
    try:
        bridge.results.write(late)
    except StoreError as error:
        log.warning("%d jobs are registered, but the result backend doesn't know them yet: %s", len(late), error)
    for job, answer in zip(jobs, answers, strict=True):
        if not answer.is_new and answer.record.digest != job.record.digest:
            raise JobConflict(job.job_id)
    return is_new


def register_all(bridge: Bridge, jobs: Iterable[Registration]) -> Iterator[str]:
    """
    Register *jobs* as they come, many in one round trip, and yield their ids.

    Raises:
        As `register`, and what *jobs* raises: then nothing of its chunk is registered.
    """
    chunk: list[Registration] = []
    size = 0
    for job in jobs:
        chunk.append(job)
        size += len(job.body)
        if len(chunk) >= CHUNK_JOBS or size >= CHUNK_BYTES:
            register(bridge, chunk)
            yield from (job.job_id for job in chunk)
            chunk, size = [], 0
    register(bridge, chunk)
    yield from (job.job_id for job in chunk)
