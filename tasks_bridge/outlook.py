"""
How far a job is, and how long it will still take: guesses for people. Pure.

They follow from the job's record alone, so that every reader is told the same. Where the model's pace is known, each
look notes what is left by that time, and how far the job was said to be: the pace may change from there on, but
nothing is taken back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tasks_bridge import cadence
from tasks_bridge.cadence import assumed_s

if TYPE_CHECKING:
    from tasks_bridge.knowledge import Knowledge
    from tasks_bridge.record import JobRecord

SHORTEST_S: Final = 0.1
"""Less than this is no time left, but no job that is under way has none."""

LATE_ESTIMATES: Final = 2.0
"""A job of which nothing is known but the estimate is late after this many: estimates are often too low."""


def progress(record: JobRecord, now: float) -> float:
    """The share of the work done at *now*, in [0, 1)."""
    if record.seen_at is None or record.submitted_at is None:
        return 0.0
    if record.left_s is None or record.progress is None:
        return cadence.progress(now - record.submitted_at, record.estimated_s)
    return cadence.progress_from(record.progress, now - record.seen_at, record.left_s)


def eta_s(record: JobRecord, now: float) -> float | None:
    """Seconds that are probably left at *now*; None before the job is submitted."""
    if record.seen_at is None or record.submitted_at is None:
        return None
    if record.left_s is None:
        return cadence.eta_s(now - record.submitted_at, record.estimated_s)
    return max(record.left_s - (now - record.seen_at), 0.1 * record.left_s)


def is_late(record: JobRecord, now: float) -> bool:
    """Whether it takes unusually long at *now*: once it does, it stays so."""
    if record.submitted_at is None or record.left_s is not None:
        return record.is_late
    return record.is_late or now - record.submitted_at > LATE_ESTIMATES * assumed_s(record.estimated_s)


def noted(before: JobRecord, known: Knowledge | None, now: float) -> dict[str, Any]:
    """The fields that a look at *now* changes, so that the outlook goes on from it."""
    if before.submitted_at is None:
        submitted_at, done = now, 0.0
    else:
        submitted_at, done = before.submitted_at, progress(before, now)
    left_s = known.left_s(now - submitted_at, assumed_s(before.estimated_s)) if known else None
    if left_s is None:
        # nothing is known, or not any more
        left_s = None if before.left_s is None else eta_s(before, now)
    if left_s is None:
        return {}
    late = known.is_late(now - submitted_at, assumed_s(before.estimated_s)) if known else None
    return {
        "left_s": round(max(left_s, SHORTEST_S), 1),
        "progress": cadence.rounded_up(done),
        "is_late": before.is_late or bool(late),
    }
