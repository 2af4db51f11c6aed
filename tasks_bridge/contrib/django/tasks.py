"""The Celery task of the Django part."""

from __future__ import annotations

from celery import shared_task

from tasks_bridge.bridge import bridge_of
from tasks_bridge.contrib.django.transitions import TRANSIENT, record_entry
from tasks_bridge.events import RECORD


@shared_task(
    name=RECORD,
    ignore_result=True,
    send_events=False,  # monitors show jobs, and would show little else
    autoretry_for=TRANSIENT,
    max_retries=3,
    default_retry_delay=5,
)
def record(job_ids: list[str]) -> None:
    """
    Bring the rows of *job_ids* up to date.

    The message only says where to look: what the rows come to stands in the store, so it may come late or twice.
    """
    for entry in bridge_of().store.get(job_ids):
        if entry is not None:
            record_entry(entry)
