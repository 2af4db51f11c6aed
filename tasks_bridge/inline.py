"""A whole job in the calling thread: what ``task_always_eager`` and a direct call of `generate` do. Same decisions."""

from __future__ import annotations

import random
import time
from functools import cache
from typing import TYPE_CHECKING, Any

from tasks_bridge import steps
from tasks_bridge.errors import BridgeError
from tasks_bridge.events import Change
from tasks_bridge.hooks import ENDING_TRIES, tell_ending
from tasks_bridge.knowledge import Knowledge, Mode, Pace
from tasks_bridge.learning import Learning, MemoryEnds
from tasks_bridge.record import JobRecord, JobState
from tasks_bridge.steps import Action, View

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tasks_bridge.client import Client
    from tasks_bridge.hooks import Hooks
    from tasks_bridge.models import RemoteTask
    from tasks_bridge.settings import Settings


def run_inline(
    settings: Settings,
    client: Client,
    job_id: str,
    record: JobRecord,
    body: bytes,
    *,
    hooks: Iterable[Hooks] = (),
    learning: Learning | None = None,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """
    Submit, wait and return the remote object as JSON, without Redis, broker or worker; closes *client*.

    Raises:
        JobFailed, JobCancelled, JobExpired, ApiStatusError: As from `AsyncResult.get` of the same job.
    """
    with client:
        state, is_sent = JobState.QUEUED, False
        while not state.is_terminal:
            known = _recalled(learning, record.model, clock())
            view = View(job_id, state, record, None, is_sent, clock(), settings, random.random(), known=known)  # noqa: S311
            action = steps.next_action(view)
            step = steps.dropped(view) if action is Action.DROP else None
            if step is None:
                answer = _ask(client, action, job_id, record, body)
                step = _AFTER[action](view.answered_at(clock()), answer)
                is_sent = True
            if learning is not None:
                learned = known is not None and known.mode is Mode.LEARNED
                end = steps.end_of(record, step, now=clock(), heard_at=None, is_learned=learned)
                learning.note({record.model: [end]} if end else {})
            state, record = step.state, step.record
            if not state.is_terminal:
                sleep(step.delay_s)
    tell_ending(hooks, Change(job_id, state, record), ENDING_TRIES)
    if state is JobState.COMPLETED:
        return record.remote or {}
    raise steps.failure(job_id, state, record)


def _recalled(learning: Learning | None, model: str, now: float) -> Knowledge | None:
    if learning is None:
        return None
    if stale := learning.stale([model], now):
        learning.refresh(stale, now)
    return learning.of(model)


def learning_of_this_process(settings: Settings) -> Learning | None:
    """What jobs run inline have learned since the process began; None if nothing is to be learned."""
    return _learning(Pace.of(settings)) if settings.learn_cadence else None


@cache
def _learning(pace: Pace) -> Learning:
    return Learning(MemoryEnds(), pace)


_AFTER = {
    Action.SUBMIT: steps.after_submit,
    Action.LOOKUP: steps.after_lookup,
    Action.QUERY: steps.after_query,
    Action.CANCEL: steps.after_cancel,
}


def _ask(client: Client, action: Action, job_id: str, record: JobRecord, body: bytes) -> RemoteTask | BridgeError:
    try:
        if action is Action.SUBMIT:
            return client.submit_bytes(body)
        call = client.cancel if action is Action.CANCEL else client.query
        return call(record.remote_id) if record.remote_id else call(out_task_id=job_id)
    except BridgeError as error:
        return error
