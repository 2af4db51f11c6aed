"""
What there is to measure: every metric by its name, and what makes one more of it. Pure.

Names and units follow Prometheus' conventions (its documentation, "Metric and label naming"): base units, ``_total``
behind what only grows. Labels have few values: models are ByteSpike's, the others are listed where they are counted.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Final, Literal

Key = tuple[str, tuple[str, ...], int]
"""One number to add up: the metric, the values of its labels, and of a histogram the bucket; `SUM` for its sum."""

Increment = tuple[Key, float]

SUM: Final = -1


@dataclass(frozen=True)
class Metric:
    """One metric. *labels* in the order of their values."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    kind: Literal["counter", "gauge", "histogram"] = "gauge"


@dataclass(frozen=True)
class Counter(Metric):
    """What only grows."""

    kind: Literal["counter", "gauge", "histogram"] = "counter"

    def more(self, *labels: str, by: float = 1.0) -> Increment:
        """*by* more."""
        return (self.name, labels, 0), by


@dataclass(frozen=True)
class Histogram(Metric):
    """How often values fell into which of *buckets*: upper bounds, without the last, which has none."""

    buckets: tuple[float, ...] = ()
    kind: Literal["counter", "gauge", "histogram"] = "histogram"

    def seen(self, value: float, *labels: str) -> tuple[Increment, Increment]:
        """One more *value*."""
        return ((self.name, labels, bisect_left(self.buckets, value)), 1.0), ((self.name, labels, SUM), value)


_REQUEST_S: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_WAIT_S: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 900.0)
_LAG_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0)
_JOB_S: Final = (1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
_RATIO: Final = (0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 4.0, 8.0)

# -- counted where it happens, by each worker of its own --------------------------------------------------------------

POLLS: Final = Counter(
    "tasks_bridge_polls_total",
    "Jobs whose status was to be read: unchanged, changed, ended, failed, rate_limited, held_back, fenced",
    ("model", "outcome"),
)
SUBMITS: Final = Counter(
    "tasks_bridge_submits_total",
    "Jobs to be submitted: accepted, found, absent, refused, unanswered, rate_limited, held_back, fenced",
    ("model", "outcome"),
)
JOBS_ENDED: Final = Counter("tasks_bridge_jobs_ended_total", "Jobs that came to their end", ("model", "state"))
REQUEST_S: Final = Histogram(
    "tasks_bridge_request_duration_seconds",
    "Requests to ByteSpike: submit, lookup, query, cancel; answered, or failed for want of an answer",
    ("operation", "outcome"),
    buckets=_REQUEST_S,
)
SUBMIT_WAIT_S: Final = Histogram(
    "tasks_bridge_submit_wait_seconds",
    "From when a job was to be submitted until ByteSpike had accepted it",
    buckets=_WAIT_S,
)
DETECTION_LAG_S: Final = Histogram(
    "tasks_bridge_detection_lag_bracket_seconds",
    "The most that may lie between a job's end at ByteSpike and the read that saw it",
    ("model",),
    buckets=_LAG_S,
)
JOB_S: Final = Histogram(
    "tasks_bridge_job_duration_seconds",
    "From when a job was to be submitted until its end was seen",
    ("model", "state"),
    buckets=_JOB_S,
)
CREDITS_ESTIMATED: Final = Counter(
    "tasks_bridge_credits_estimated_total", "What ByteSpike expected the jobs that it accepted to cost", ("model",)
)
CREDITS_USED: Final = Counter("tasks_bridge_credits_used_total", "What jobs that are over have cost", ("model",))
CREDITS_RATIO: Final = Histogram(
    "tasks_bridge_credits_estimate_ratio",
    "What a job has cost, as a multiple of what ByteSpike expected",
    ("model",),
    buckets=_RATIO,
)
DURATION_RATIO: Final = Histogram(
    "tasks_bridge_duration_estimate_ratio",
    "How long a completed job took after its submit, as a multiple of what ByteSpike expected",
    ("model",),
    buckets=_RATIO,
)
LEASES_RECOVERED: Final = Counter(
    "tasks_bridge_leases_recovered_total", "Jobs taken over because whoever had them was silent for a whole lease"
)
MESSAGES_REPEATED: Final = Counter(
    "tasks_bridge_messages_repeated_total", "Jobs whose message was published again because nobody had begun with it"
)
DUPLICATES: Final = Counter(
    "tasks_bridge_duplicates_suppressed_total",
    "What came twice or too late and did nothing: message, write, callback",
    ("kind",),
)

COUNTED: Final[tuple[Counter | Histogram, ...]] = (
    POLLS,
    SUBMITS,
    JOBS_ENDED,
    REQUEST_S,
    SUBMIT_WAIT_S,
    DETECTION_LAG_S,
    JOB_S,
    CREDITS_ESTIMATED,
    CREDITS_USED,
    CREDITS_RATIO,
    DURATION_RATIO,
    LEASES_RECOVERED,
    MESSAGES_REPEATED,
    DUPLICATES,
)

# -- read from the store when somebody asks: the same from every worker and every web process -------------------------

REDIS_UP: Final = Metric("tasks_bridge_redis_up", "Whether Redis answered; if not, what follows is missing")
JOBS: Final = Metric("tasks_bridge_jobs", "Open jobs", ("state", "model"))
SCHEDULE: Final = Metric("tasks_bridge_schedule_jobs", "Jobs on the schedule: submit, poll", ("purpose",))
OVERDUE: Final = Metric("tasks_bridge_overdue_jobs", "Jobs that were due more than 2 s ago and that nobody has claimed")
OVERDUE_S: Final = Metric("tasks_bridge_overdue_seconds", "For how long the earliest of the due jobs has been due")
NEWER: Final = Metric("tasks_bridge_newer_jobs", "Jobs that wait for workers of a newer version")
BREAKER: Final = Metric("tasks_bridge_breaker_open", "Whether requests are held back because ByteSpike does not answer")
BREAKER_FAILURES: Final = Metric("tasks_bridge_breaker_failures", "Failed requests in a row, by all workers")
SUBMITTING: Final = Metric("tasks_bridge_submits_in_progress", "Submits under way, where their number is capped")
BUDGET: Final = Metric(
    "tasks_bridge_budget_credits",
    "The books of this period, where there is a limit on all jobs: used, reserved, limit",
    ("kind",),
)
INFO: Final = Metric("tasks_bridge_info", "1, and the version", ("version",))

SHARED: Final[tuple[Metric, ...]] = (
    REDIS_UP,
    JOBS,
    SCHEDULE,
    OVERDUE,
    OVERDUE_S,
    NEWER,
    BREAKER,
    BREAKER_FAILURES,
    SUBMITTING,
    BUDGET,
    INFO,
)
