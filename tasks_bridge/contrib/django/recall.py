"""What a row still knows of its job: so a page about it works as long as the row is there, and not only for a day."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tasks_bridge.contrib.django.transitions import job_models
from tasks_bridge.record import RECORD_VERSION, JobRecord, JobState
from tasks_bridge.store import Entry
from tasks_bridge.web.document import MESSAGES

if TYPE_CHECKING:
    from tasks_bridge.contrib.django.models import RemoteJobModel


def entry_of_row(job_id: str) -> Entry | None:
    """The job as its row has it; None without a row."""
    for model in job_models():
        row = model._base_manager.filter(job_id=job_id).first()
        if row is not None and row.job_state:
            return _entry(row)
    return None


def _entry(row: RemoteJobModel) -> Entry:
    state, now = JobState(row.job_state), time.time()
    remote = {
        "task_id": "",
        "status": state.value.lower(),
        "output": row.job_outputs,
        "credits_used": row.job_credits,
        # of the row's codes, some are of how the application stands with ByteSpike: not for end users
        "error_code": row.job_error_code if row.job_error_code in MESSAGES else None,
    }
    record = JobRecord(
        version=RECORD_VERSION,
        model="",
        key=row.job_key,
        digest="",
        created_at=now,
        remote=remote if state.is_terminal else None,
    )
    return Entry(str(row.job_id), state, record, cancel=None, due_at=None, now=now)
