"""What workers count of what they have just done, for whole batches at a time. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tasks_bridge import series, steps
from tasks_bridge.errors import NotFound, RateLimited, SettingsError
from tasks_bridge.models import RemoteStatus, RemoteTask
from tasks_bridge.record import JobState
from tasks_bridge.steps import Action

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tasks_bridge.attend import Outcome
    from tasks_bridge.errors import BridgeError
    from tasks_bridge.series import Increment
    from tasks_bridge.store.base import Claim

LABEL_CHARS: Final = 64
"""Most of a model's name in a label: any text may be asked for."""


def of_outcomes(outcomes: Sequence[Outcome], held: Sequence[bool]) -> Iterator[Increment]:
    """
    What came of a batch.

    Args:
        outcomes: Jobs that were looked at.
        held: For each of them, whether it could be written, or somebody else has the job by now.
    """
    for outcome, is_held in zip(outcomes, held, strict=True):
        model = label(outcome.lease.record.model)
        if outcome.action is Action.QUERY:
            yield series.POLLS.more(model, _poll(outcome) if is_held else "fenced")
        elif outcome.action in (Action.SUBMIT, Action.LOOKUP):
            yield series.SUBMITS.more(model, _submit(outcome) if is_held else "fenced")
        if not is_held:
            yield series.DUPLICATES.more("write")
            continue
        if outcome.step.record.remote is not None and outcome.lease.record.remote is None:
            yield from _of_acceptance(outcome, model)
        if outcome.step.state.is_terminal and not outcome.lease.state.is_terminal:
            yield from _of_end(outcome, model)


def of_request(action: Action, answer: RemoteTask | BridgeError, seconds: float) -> Sequence[Increment]:
    """One request to ByteSpike."""
    return series.REQUEST_S.seen(seconds, action.name.lower(), "failed" if steps.is_outage(answer) else "answered")


def of_claims(claims: Sequence[Claim]) -> Iterator[Increment]:
    """What was lost before these jobs were claimed."""
    for claim in claims:
        if claim.lost is not None:
            yield _LOST[claim.lost].more()


def of_doubles(kind: str, count: int) -> Sequence[Increment]:
    """*count* messages or callbacks that had come before."""
    return [series.DUPLICATES.more(kind, by=count)] if count > 0 else []


def label(model: str) -> str:
    """A model's name, as a label."""
    return model[:LABEL_CHARS]


def _poll(outcome: Outcome) -> str:
    answer, before, after = outcome.answer, outcome.lease.state, outcome.step.state
    if answer is None:
        return "held_back"
    if after.is_terminal:
        return "ended"
    if isinstance(answer, RemoteTask):
        return "unchanged" if after is before else "changed"
    return "rate_limited" if isinstance(answer, RateLimited) else "failed"


def _submit(outcome: Outcome) -> str:
    answer, is_lookup = outcome.answer, outcome.action is Action.LOOKUP
    if answer is None:
        return "held_back"
    if isinstance(answer, RemoteTask):
        return "found" if is_lookup else "accepted"
    if isinstance(answer, RateLimited):
        return "rate_limited"
    if isinstance(answer, NotFound) and is_lookup:
        return "absent"
    return "unanswered" if steps.is_outage(answer) or isinstance(answer, SettingsError) else "refused"


def _of_acceptance(outcome: Outcome, model: str) -> Iterator[Increment]:
    record = outcome.step.record
    if record.submitted_at is not None:
        yield from series.SUBMIT_WAIT_S.seen(max(record.submitted_at - record.starts_at, 0.0))
    if estimate := _number(record.remote, "estimated_credits"):
        yield series.CREDITS_ESTIMATED.more(model, by=estimate)


def _of_end(outcome: Outcome, model: str) -> Iterator[Increment]:
    lease, record, state = outcome.lease, outcome.step.record, outcome.step.state
    ended_at = lease.now if record.polled_at is None else record.polled_at
    yield series.JOBS_ENDED.more(model, state.value)
    yield from series.JOB_S.seen(max(ended_at - record.starts_at, 0.0), model, state.value)
    if used := record.cost:
        yield series.CREDITS_USED.more(model, by=used)
        # the answer that tells the cost leaves the estimate out
        if estimate := _number(lease.record.remote, "estimated_credits"):
            yield from series.CREDITS_RATIO.seen(used / estimate, model)
    end = steps.end_of(lease.record, outcome.step, now=lease.now, heard_at=lease.heard_at, is_learned=False)
    began_at = lease.record.submitted_at
    by_itself = (record.remote or {}).get("status") in (RemoteStatus.COMPLETED, RemoteStatus.FAILED)
    if end is not None and began_at is not None and by_itself:
        yield from series.DETECTION_LAG_S.seen(max(ended_at - began_at - end.after_s, 0.0), model)
        if state is JobState.COMPLETED and record.estimated_s:
            yield from series.DURATION_RATIO.seen((ended_at - began_at) / record.estimated_s, model)


def _number(remote: dict[str, object] | None, name: str) -> float | None:
    value = (remote or {}).get(name)
    return float(value) if isinstance(value, int | float) and value > 0 else None


_LOST: Final = {"lease": series.LEASES_RECOVERED, "message": series.MESSAGES_REPEATED}
