"""The remote state as Celery events, so that Flower and ``celery events`` show it in the job's own row."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tasks_bridge import outlook
from tasks_bridge.record import JobState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celery import Celery

    from tasks_bridge.record import JobRecord

log = logging.getLogger(__name__)

GENERATE: Final = "tasks_bridge.generate"
POLL: Final = "tasks_bridge.poll"
RECORD: Final = "tasks_bridge.record"
"""Of Django's leaf: it brings the application's rows up to date."""
TELL: Final = "tasks_bridge.tell"
"""Of Flask's leaf: it tells the application's receivers."""

# Anything after "task-" that Celery doesn't know becomes the state, in capitals (celery.events.state, Task.event).
# REVOKED alone would not replace such a state, which ranks above it: only RETRY gives way to everything.
_TYPES: Final = {
    JobState.QUEUED: ("task-queued",),
    JobState.PENDING: ("task-pending_remote",),
    JobState.RUNNING: ("task-running",),
    JobState.CANCELLED: ("task-retried", "task-revoked"),
}


@dataclass(frozen=True, slots=True)
class Change:
    """A job that has just changed."""

    job_id: str
    state: JobState
    record: JobRecord


def send(app: Celery, changes: Sequence[Change], *, node: str | None) -> None:
    """
    Tell monitors of *changes*. Best effort: a monitor's trouble is never a job's.

    Args:
        app: Whose broker.
        changes: What has changed.
        node: The name of this worker, which monitors show; None if it is not known yet.
    """
    told = [change for change in changes if change.state in _TYPES]
    if not told:
        return
    try:
        with app.events.default_dispatcher(hostname=node) as dispatcher:
            for change in told:
                for kind in _TYPES[change.state]:
                    dispatcher.send(
                        kind,
                        uuid=change.job_id,
                        name=GENERATE,
                        args=describe_args(change.record.model),
                        kwargs="{}",
                        result=describe(change),
                        **({"terminated": False, "signum": None, "expired": False} if kind == "task-revoked" else {}),
                    )
    except Exception as error:  # noqa: BLE001 - whatever the broker's client raises
        log.debug("monitors were not told of %d changes: %s", len(told), error)


def describe_args(model: str) -> str:
    """What monitors show for the task's arguments: the model, never the prompt."""
    return f"({model!r}, {{…}})"


def has_moved(before: JobRecord, after: JobRecord) -> bool:
    """Whether a job has come a quarter further between two looks: monitors hear of that too, and not of every look."""
    return int(4 * _progress(before)) != int(4 * _progress(after))


def describe(change: Change) -> str:
    """One line on a job for people: ``polls=3 progress=41% status=running estimated_credits=1.5``."""
    record = change.record
    remote = record.remote or {}
    shown = ("status", "estimated_seconds", "estimated_credits", "credits_used", "error_code")
    facts = [f"{name}={remote[name]}" for name in shown if remote.get(name) is not None]
    progress = [] if change.state.is_terminal else [f"progress={_progress(record):.0%}"]
    return " ".join([f"polls={record.polls}", *progress, *facts])


def _progress(record: JobRecord) -> float:
    """As it was at the latest look."""
    return 0.0 if record.seen_at is None else outlook.progress(record, record.seen_at)
