"""
Rows follow their jobs: each transition of a row happens once, whoever reports it and however often.

A row's state only rises; the statement that writes the next one names the one before. So of any number
of reports, late, doubled, from several workers, one writes, and it alone sends the signals, in the same transaction.

Who reports, and what a crash leaves:

1. At each change of an open job a message with ids for the task `record`. Lost: the row is late until the next report.
2. At the end `RowHooks.ending`, before any callback is published. Killed before the commit: the lease brings the finish
   back, and with it this. The database away: the finish waits for it, for about a quarter of an hour.
3. ``manage.py bytespike_reconcile``, for what all of that missed.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from django.apps import apps
from django.db import InterfaceError, OperationalError, router, transaction
from django.utils import timezone

from tasks_bridge import steps
from tasks_bridge.contrib.django import signals
from tasks_bridge.contrib.django.models import RemoteJobModel
from tasks_bridge.errors import JobFailed
from tasks_bridge.events import Change
from tasks_bridge.hooks import Hooks, NotYet
from tasks_bridge.record import JobState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.dispatch import Signal

    from tasks_bridge.record import JobRecord
    from tasks_bridge.store import Entry

log = logging.getLogger(__name__)

TRANSIENT: Final = (OperationalError, InterfaceError)
"""The database is away or busy: nothing was written, and the same will work later."""

_TRIES: Final = 5
"""More than there are steps: each time another report was quicker, the row has risen."""


@cache
def job_models() -> tuple[type[RemoteJobModel], ...]:
    """The models with a table of their own for the fields."""
    return tuple(
        model
        for model in apps.get_models()
        if issubclass(model, RemoteJobModel) and model._meta.get_field("job_id").model is model
    )


def record_entry(entry: Entry) -> int:
    """Bring the rows of *entry*'s job to its state. Returns how many made a transition."""
    return record_change(Change(entry.job_id, entry.state, entry.record))


def record_change(change: Change) -> int:
    """
    Bring the rows of *change*'s job to its state: none, or one of each model. Returns how many made a transition.

    Raises:
        OperationalError, InterfaceError: The database is away; repeat it later.
    """
    return sum(_advance(model, change) for model in job_models())


def _advance(model: type[RemoteJobModel], change: Change) -> bool:
    using = router.db_for_write(model)
    rows = model._base_manager.using(using)
    for _ in range(_TRIES):
        found = rows.filter(job_id=change.job_id).values_list("pk", "job_state").first()
        if found is None:
            return False
        key, before = found
        if before and before not in change.state.earlier:
            return False
        # the statement comes first in its transaction: so it waits for others' instead of working on what they undo
        with transaction.atomic(using=using):
            if rows.filter(pk=key, job_id=change.job_id, job_state=before).update(**_fields(change)):
                _tell(model, rows.get(pk=key), before, using)
                return True
    log.warning("job %s: its row was not brought to %s", change.job_id, change.state)
    return False


def _fields(change: Change) -> dict[str, Any]:
    state, record = change.state, change.record
    remote = record.remote_task
    code, text = _error(change.job_id, state, record)
    return {
        "job_state": state.value,
        "job_changed_at": timezone.now(),
        "job_key": record.key,
        "job_outputs": (remote.output if remote is not None else None) or [],
        "job_credits": remote.credits_used if remote is not None else None,
        "job_error_code": code,
        "job_error": text,
    }


def _error(job_id: str, state: JobState, record: JobRecord) -> tuple[str, str]:
    if not state.is_terminal or state is JobState.COMPLETED:
        return "", ""
    error = steps.failure(job_id, state, record)
    code = error.code if isinstance(error, JobFailed) else getattr(error, "code", None) or type(error).__name__
    return (code or "")[:64], str(error)


def _tell(model: type[RemoteJobModel], row: RemoteJobModel, before: str, using: str) -> None:
    told: list[Signal] = [signals.job_changed]
    ending = _ENDINGS.get(row.job_state)
    told += [ending] if ending is not None else []
    try:
        with transaction.atomic(using=using):
            for signal in told:
                signal.send(sender=model, instance=row, before=before)
    except TRANSIENT:
        raise  # nothing of the transition happened: it is repeated
    except Exception:
        log.exception("job %s: a receiver failed; its row is %s all the same", row.job_id, row.job_state)


_ENDINGS: Final = {
    JobState.COMPLETED.value: signals.job_completed,
    JobState.FAILED.value: signals.job_failed,
    JobState.EXPIRED.value: signals.job_failed,
    JobState.CANCELLED.value: signals.job_cancelled,
}


class RowHooks(Hooks):
    """What the workers of a Django project do when a job changes."""

    def changed(self, changes: Sequence[Change]) -> None:
        """Have the rows brought up to date by a task: here, a slow database would hold up the polling."""
        from tasks_bridge.contrib.django.tasks import record  # noqa: PLC0415 - which imports this module

        if job_models():
            ids = [change.job_id for change in changes]
            record.apply_async((ids,), retry=False, add_to_parent=False)

    def ending(self, change: Change) -> None:
        """
        Write the end down, before the callbacks run that may read the row.

        Raises:
            NotYet: The database is away.
        """
        try:
            record_change(change)
        except TRANSIENT as error:
            raise NotYet(f"the database is away: {error}") from error
