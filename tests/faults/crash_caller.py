"""
A process that starts a job, and dies while it does: ``python -m tests.faults.crash_caller {first,later} ID``.

``later``: not in the first call of the process. From the second on, a job and its message are written in one step.
"""

from __future__ import annotations

import sys

from tasks_bridge import generate
from tests.faults import crash
from tests.smoke import smoke_app
from tests.smoke.scene import MODEL

DURATION_S = 0.3
CANCEL_CREDITS = 0.25


def params(outcome: str = "completed") -> dict[str, object]:
    """Of a job that takes `DURATION_S`; one that hangs completes when it is cancelled."""
    script = {"duration_s": DURATION_S, "estimate_s": 1, "outcome": outcome, "cancel": "completes"}
    if outcome == "cancelled":
        script |= {"outcome": "hang", "pending_s": 0, "cancel": "billed", "cancel_credits": CANCEL_CREDITS}
    return {"prompt": "a fox", "sandbox": script}


def first_id(job_id: str) -> str:
    """The id of the job before it."""
    return f"{job_id}-first"


def start(job_id: str, outcome: str = "completed") -> None:
    """Start a job that has callbacks of every kind, for either end."""
    generate.apply_async(
        (MODEL, params(outcome)),
        task_id=job_id,
        link=[smoke_app.completed.s().set(queue="callbacks"), smoke_app.completed_once.s().set(queue="callbacks")],
        link_error=[smoke_app.failed.s(), smoke_app.failed_once.s(), smoke_app.failed_by_id.s().set(queue="callbacks")],
    )


if __name__ == "__main__":
    app = smoke_app.make_app()
    app.set_current()
    if sys.argv[1] == "later":
        generate.apply_async((MODEL, params()), task_id=first_id(sys.argv[2]))
    crash.instrument(app)
    start(sys.argv[2])
