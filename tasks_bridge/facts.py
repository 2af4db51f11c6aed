"""What readers are told of a job: the facts beside the remote object. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tasks_bridge import outlook
from tasks_bridge.results import Report

if TYPE_CHECKING:
    from tasks_bridge.record import JobRecord, JobState


def progress(state: JobState, record: JobRecord, now: float) -> float:
    """The share of the work done in [0, 1]: 1 once the job is over, a guess until then."""
    return 1.0 if state.is_terminal else outlook.progress(record, now)


def eta_s(state: JobState, record: JobRecord, now: float) -> float | None:
    """Seconds that are probably left; 0 once the job is over, None before it is submitted."""
    return 0.0 if state.is_terminal else outlook.eta_s(record, now)


def is_late(state: JobState, record: JobRecord, now: float) -> bool:
    """Whether an open job takes unusually long."""
    return not state.is_terminal and outlook.is_late(record, now)


def report(
    job_id: str, state: JobState, record: JobRecord, *, token: int, now: float, next_poll_s: float | None
) -> Report:
    """
    The result backend's entry of an open job.

    Its `info` is the remote object with one more field::

        "job": {"token": 3, "polls": 2, "progress": 0.41, "eta_s": 20.6, "next_poll_at": 1795392000.25}
    """
    return Report(job_id, state.celery_state, info(state, record, token=token, now=now, next_poll_s=next_poll_s), token)


def info(state: JobState, record: JobRecord, *, token: int, now: float, next_poll_s: float | None) -> dict[str, Any]:
    """The remote object and our facts under ``job``, as `report` describes."""
    left_s = eta_s(state, record, now)
    job = {
        "token": token,
        "polls": record.polls,
        "progress": round(progress(state, record, now), 3),
        "eta_s": None if left_s is None else round(left_s, 1),
        "next_poll_at": None if next_poll_s is None else round(now + next_poll_s, 3),
    }
    return {**(record.remote or {}), "job": {name: value for name, value in job.items() if value is not None}}


def notice(job_id: str, state: JobState, record: JobRecord, *, token: int, now: float) -> str:
    """What is published on a job's channel at each change, as JSON: its id, state and `info`."""
    content = {
        "id": job_id,
        "state": state.value,
        **info(state, record, token=token, now=now, next_poll_s=None),
    }
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))
