"""
What the log says of jobs: one line for each transition, as text for people or as JSON for machines.

A line about one job begins with ``job <id>``; one about a transition goes on with ``name=value``, and has the same as
attributes of its record, for formatters of your own: see `TRANSITION`. Nothing quotes a request, and reasons, which may
quote an answer of ByteSpike's, are cut off.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from celery import current_task
from celery.signals import after_setup_logger, after_setup_task_logger
from celery.utils.log import get_multiprocessing_logger

if TYPE_CHECKING:
    from tasks_bridge.settings import Settings
    from tasks_bridge.steps import Step
    from tasks_bridge.store import Lease

TRANSITION: Final = ("job_id", "remote_id", "model", "state_before", "state", "attempt", "reason")
"""Attributes of the log record of a transition. ``attempt`` is the fencing token: who had the job, counted."""

REASON_CHARS: Final = 300
"""Most of a reason: an answer may quote a prompt."""

jobs: Final = logging.getLogger("tasks_bridge.jobs")
"""Of transitions, and of whatever else happens to one job."""

reads: Final = logging.getLogger("tasks_bridge.reads")
"""Of looks at a job that changed nothing; there are many."""

_ABOUT_A_JOB: Final = "job %s"
_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", *TRANSITION}


def transition(lease: Lease, step: Step) -> None:
    """
    Log what a look at a job came to.

    Levels: WARNING where an operator should read it, INFO once for each job, at its end, and DEBUG for the rest.
    """
    is_change = step.state is not lease.state
    level = logging.DEBUG
    if step.is_trouble:
        level = logging.WARNING
    elif is_change and step.state.is_terminal:
        level = logging.INFO
    log = jobs if is_change or step.is_trouble else reads
    if not log.isEnabledFor(level):
        return
    values = (
        lease.job_id,
        step.record.remote_id or "-",
        step.record.model,
        lease.state.value,
        step.state.value,
        lease.token,
        _short(step.reason),
    )
    message = "job %s remote=%s model=%s from=%s to=%s attempt=%d reason=%r"
    log.log(level, message, *values, extra=dict(zip(TRANSITION, values, strict=True)))


def set_up(settings: Settings) -> None:
    """
    Have Celery's own logging set-up write JSON, if *settings* say so.

    An application that sets logging up by itself, by Celery's signal ``setup_logging``, is left alone: it may use
    `JsonFormatter`.
    """
    for signal in (after_setup_logger, after_setup_task_logger):
        if settings.log_format == "json":
            signal.connect(_write_json, dispatch_uid="tasks-bridge-json")


def _write_json(logger: logging.Logger, **_: Any) -> None:
    billiards = get_multiprocessing_logger()
    for handler in (*logger.handlers, *(billiards.handlers if billiards else ())):
        handler.setFormatter(JsonFormatter())


class JsonFormatter(logging.Formatter):
    """
    One JSON object on one line for each record, of whichever logger.

    For example::

        {"time": "2026-11-29T18:03:00.123456+00:00", "level": "INFO", "logger": "tasks_bridge.jobs",
         "message": "job 7f… remote=task_1 …", "process": 4711, "job_id": "7f…", "remote_id": "task_1",
         "model": "sora-2", "state_before": "RUNNING", "state": "COMPLETED", "attempt": 5, "reason": "ByteSpike says …"}

    Beside the first five, only what there is: of a job, of the Celery task that runs (``task_id``, ``task_name``), of
    an ``exception``, and ``extra`` attributes that are text, numbers or booleans.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Python's hook."""
        content: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        if isinstance(record.msg, str) and record.msg.startswith(_ABOUT_A_JOB) and isinstance(record.args, tuple):
            content["job_id"] = record.args[0]
        content.update({name: getattr(record, name) for name in TRANSITION if hasattr(record, name)})
        if content.get("remote_id") == "-":
            del content["remote_id"]
        task: Any = current_task
        if task and task.request.id:
            content.update(task_id=task.request.id, task_name=task.name)
        added = {name: value for name, value in vars(record).items() if name not in _OWN}
        content.update({name: value for name, value in added.items() if isinstance(value, str | int | float)})
        if record.exc_info:
            content["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            content["stack"] = self.formatStack(record.stack_info)
        return json.dumps(content, ensure_ascii=False, default=str)


def _short(reason: str) -> str:
    return reason if len(reason) <= REASON_CHARS else f"{reason[:REASON_CHARS]}…"
