"""
The life of a job as decisions: what to do next, and what an answer means. Pure; workers and `inline` act on it.

`next_action` looks at a leased job and names one action. The three ``after_*`` functions take what came of it, an
answer or an error, and return the `Step` to write back. Which error means what is the table of the design, "HTTP
behaviour", from the contract's sections 8, 12 and 14.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto
from math import inf
from typing import TYPE_CHECKING, Final

from tasks_bridge import outlook
from tasks_bridge.cadence import PUBLISHED_MAX_S, assumed_s, backoff_s, countdown_s, deadline_at
from tasks_bridge.durations import End
from tasks_bridge.errors import (
    ApiConnectionError,
    ApiError,
    ApiResponseError,
    ApiStatusError,
    AuthenticationError,
    BadRequest,
    BridgeError,
    Conflict,
    InsufficientBalance,
    JobCancelled,
    JobExpired,
    JobFailed,
    NotFound,
    PermissionDenied,
    RateLimited,
    ServerError,
    SettingsError,
    SpendLimitReached,
)
from tasks_bridge.models import RemoteStatus, RemoteTask
from tasks_bridge.record import JobRecord, JobState, RecordedError, advance

if TYPE_CHECKING:
    from tasks_bridge.knowledge import Knowledge
    from tasks_bridge.settings import Settings

LOOKUP_AFTER_S: Final = 300.0
"""
How long the same submit may be repeated blindly; after a longer gap ByteSpike is asked first whether it has the task.
Source: contract, section 14 (how long `out_task_id` is remembered).
"""

TROUBLE_AFTER: Final = 3
"""Failures in a row after which an operator should read about them."""

CALLED_WITHIN: Final = 0.98
"""A callback comes when the job has lasted for this share, at least, of the time it took until the callback came."""

CONCURRENCY_WAIT_S: Final = (1.0, 3.0)
"""Wait after a 429 for too many requests at once. Source: contract, section 8."""


class Action(Enum):
    """What to do with a leased job."""

    SUBMIT = auto()
    LOOKUP = auto()  # query by out_task_id: a submit may have been lost long ago
    QUERY = auto()
    CANCEL = auto()
    DROP = auto()  # end it here: ByteSpike never heard of it
    FINISH = auto()  # terminal already: let Celery have the outcome


REQUESTS: Final = frozenset({Action.SUBMIT, Action.LOOKUP, Action.QUERY, Action.CANCEL})
"""The actions that ask ByteSpike."""


@dataclass(frozen=True, slots=True)
class Step:
    """What to write back."""

    state: JobState
    record: JobRecord
    delay_s: float
    """Until the next look; meaningless for a terminal state."""
    reason: str
    """For the log."""
    is_trouble: bool = False
    """Whether an operator should read it."""


@dataclass(frozen=True, slots=True)
class View:
    """A leased job at one moment, and the means to decide about it."""

    job_id: str
    state: JobState
    record: JobRecord
    cancel: str | None
    """Why to cancel, None if nobody asked."""
    may_be_submitted: bool
    """Whether somebody may have sent its submit: an earlier holder of the lease who died may have, unrecorded."""
    now: float
    settings: Settings
    random: float
    """Uniform in [0, 1)."""
    asked_at: float | None = None
    """When ByteSpike was asked, if that was earlier: what it says is no newer."""
    known: Knowledge | None = None
    """What was learned of its model's pace."""

    def at(self, now: float) -> View:
        """The same job at another moment."""
        return replace(self, now=now)

    def answered_at(self, now: float) -> View:
        """The same job when the answer is there to what is asked at this moment."""
        return replace(self, now=now, asked_at=self.now)

    @property
    def as_of(self) -> float:
        """The moment of which an answer tells: that at which ByteSpike was asked."""
        return self.now if self.asked_at is None else self.asked_at

    @property
    def deadline_at(self) -> float:
        """When the job is given up."""
        return deadline_at(self.record.starts_at, self.record.deadline_s, self.record.estimated_s)

    @property
    def is_overdue(self) -> bool:
        """Whether its deadline has passed."""
        return self.now >= self.deadline_at

    @property
    def is_late(self) -> bool:
        """Whether the time has passed in which the caller wanted it submitted, and ByteSpike has not confirmed that."""
        submit_by = self.record.submit_by
        return submit_by is not None and self.state is JobState.QUEUED and self.now >= submit_by

    @property
    def ending_at(self) -> float:
        """Since when it is being ended: since now, if that begins now."""
        return self.now if self.record.ending_at is None else self.record.ending_at

    @property
    def may_turn_up(self) -> bool:
        """
        Whether a task that ByteSpike does not know may still come: its submit may be on its way, or it is very new.

        A holder before, who died or lost its lease, may have sent a submit until the moment at which it was decided to
        end the job. From there on it is given as long as a submit may take.
        """
        settings, submitted_at = self.settings, self.record.submitted_at
        if submitted_at is not None:
            return self.as_of < submitted_at + settings.not_found_grace_s
        return self.as_of < self.ending_at + max(settings.not_found_grace_s, settings.submit_timeout_s)

    def countdown_s(self) -> float:
        """Until the next regular look."""
        wanted = self._learned_countdown_s()
        if wanted is None:
            wanted = countdown_s(
                self.record.estimated_s,
                poll_min_s=self.settings.poll_min_s,
                poll_max_s=self.settings.poll_max_s,
                random=self.random,
            )
            wanted *= self.settings.callback_poll_factor if self.record.has_callback else 1
        return self.until_deadline(wanted)

    def _learned_countdown_s(self) -> float | None:
        record = self.record
        if self.known is None or record.submitted_at is None:
            return None
        return self.known.countdown_s(
            self.now - record.submitted_at,
            assumed_s(record.estimated_s),
            has_callback=record.has_callback,
            random=self.random,
        )

    @property
    def pause_s(self) -> float:
        """At most until what is not settled yet is looked at again, whatever is known of the model's pace."""
        return min(self.settings.poll_max_s, PUBLISHED_MAX_S)

    def backoff_s(self, attempt: int) -> float:
        """Until the next try after the *attempt*-th failure in a row, the deadline apart."""
        return backoff_s(
            attempt,
            retry_min_s=self.settings.retry_min_s,
            retry_max_s=self.settings.retry_max_s,
            random=self.random,
        )

    def until_deadline(self, delay_s: float) -> float:
        """No countdown reaches past a moment to act at: the deadline, or the end of the time to submit it in."""
        act_at, submit_by = self.deadline_at, self.record.submit_by
        if submit_by is not None and self.state is JobState.QUEUED and not self.is_late:
            act_at = min(act_at, submit_by)
        return min(delay_s, max(act_at - self.now, 0.0))

    def rate_limit_s(self, error: RateLimited) -> float:
        """Until the server may accept again."""
        if error.retry_after_s is not None:
            return self.until_deadline(min(max(error.retry_after_s, 1.0), self.settings.rate_limit_max_s))
        low, high = CONCURRENCY_WAIT_S
        return self.until_deadline(low + (high - low) * self.random)


def next_action(view: View) -> Action:
    """What a job needs now."""
    if view.state.is_terminal:
        return Action.FINISH
    if view.cancel is not None or view.record.error is not None or view.is_overdue:
        return Action.CANCEL if view.may_be_submitted else Action.DROP
    if view.state is not JobState.QUEUED:
        return Action.QUERY
    if view.is_late:
        return Action.LOOKUP if view.may_be_submitted else Action.DROP
    last_attempt_at = view.record.attempted_at or view.record.starts_at
    is_doubtful = view.record.refusal is not None or view.now - last_attempt_at > LOOKUP_AFTER_S
    if view.may_be_submitted and is_doubtful:
        return Action.LOOKUP
    return Action.SUBMIT


def dropped(view: View) -> Step:
    """End a job that ByteSpike never heard of."""
    if view.record.error is not None:
        return Step(JobState.FAILED, view.record, 0, "there is nothing to cancel")
    if view.cancel is not None:
        return Step(JobState.CANCELLED, view.record, 0, f"cancelled before it was submitted: {view.cancel}")
    return Step(JobState.EXPIRED, view.record, 0, "expired before it was submitted")


def timed(before: JobState, step: Step, now: float) -> Step:
    """*step* of a job in the state *before*, with the moment noted at which it changes that."""
    if step.state is before:
        return step
    if step.state.is_terminal:
        return replace(step, record=step.record.but(ended_at=now))
    return replace(step, record=step.record.but(running_at=now)) if step.state is JobState.RUNNING else step


def held_back(view: View, action: Action, wait_s: float) -> Step:
    """Wait without having asked: the API is down, or there are enough submits under way."""
    if action is Action.CANCEL:
        # its deadline's grace ends also while nobody can be asked
        return _insist(view, view.record, "cancel held back")
    return Step(view.state, view.record, view.until_deadline(wait_s), "held back")


def over_limit(view: View, error: SpendLimitReached) -> Step:
    """
    What becomes of a job whose submit a limit on spending forbids.

    No wait helps one that asks for more than the whole limit. One that may have been submitted all the same, before
    there was a limit, is cancelled first.
    """
    if view.settings.on_spend_limit == "wait" and error.wanted <= error.limit:
        wait_s = view.until_deadline(view.settings.retry_max_s * (0.5 + 0.5 * view.random))
        return Step(view.state, view.record, wait_s, f"submit waits for the budget: {error}", is_trouble=True)
    step = Step(JobState.FAILED, view.record, 0, f"not submitted: {error}", is_trouble=True)
    return too_dear(replace(step, state=view.state), error) if view.may_be_submitted else _with_error(step, error)


def too_dear(step: Step, error: SpendLimitReached) -> Step:
    """*step* for a job that ByteSpike accepted and that costs too much: to be cancelled, and to end with *error*."""
    return _with_error(replace(step, delay_s=0, reason=f"to be cancelled: {error}", is_trouble=True), error)


def new_estimate(before: JobRecord, after: JobRecord) -> float | None:
    """What ByteSpike now expects a job to cost, None if that is nothing new."""
    # looked up as it is, for every poll comes here
    known, told = ((record.remote or {}).get("estimated_credits") for record in (before, after))
    return None if told == known else told


def is_outage(outcome: RemoteTask | BridgeError) -> bool:
    """Whether *outcome* speaks of the API being down rather than of one task."""
    return isinstance(outcome, ServerError | ApiConnectionError | ApiResponseError)


def after_submit(view: View, outcome: RemoteTask | BridgeError) -> Step:
    """
    What the answer to a submit means.

    An answer that names the task ends the submitting. Without one (network, 5xx, unreadable) the same bytes are sent
    again: the outcome is unknown, but `out_task_id` makes the repetition safe. Everything else is final.
    """
    record = view.record
    if isinstance(outcome, RemoteTask):
        return _within_job_limit(view, _accepted(view, outcome))
    if isinstance(outcome, RateLimited):
        return Step(JobState.QUEUED, record, view.rate_limit_s(outcome), f"submit held back: {outcome}")
    if isinstance(outcome, InsufficientBalance) and view.settings.on_insufficient_balance == "wait":
        wait_s = view.until_deadline(view.settings.retry_max_s)
        return Step(JobState.QUEUED, record, wait_s, f"submit waits for credit: {outcome}", is_trouble=True)
    if _is_transient(outcome):
        record = record.but(attempts=record.attempts + 1, attempted_at=view.now)
        slow = record.attempts >= view.settings.submit_attempts
        wait_s = view.until_deadline(view.settings.retry_max_s if slow else view.backoff_s(record.attempts))
        reason = f"submit unanswered, attempt {record.attempts}: {outcome}"
        return Step(JobState.QUEUED, record, wait_s, reason, is_trouble=slow)
    # a Conflict is about somebody else's task: the same bytes never conflict with themselves
    if view.may_be_submitted and not isinstance(outcome, Conflict):
        return _doubted(view, outcome)
    return _refused(view, outcome)


def after_lookup(view: View, outcome: RemoteTask | BridgeError) -> Step:
    """What the answer to a query by `out_task_id` for a job with a lost submit means."""
    record = view.record
    if isinstance(outcome, NotFound) and (record.refusal is not None or view.is_late):
        return _never_submitted(view)
    if isinstance(outcome, NotFound):
        # nothing was created: submit now, and count the gap from here
        return Step(JobState.QUEUED, record.but(attempted_at=view.now), 0, "ByteSpike has no such task yet")
    if isinstance(outcome, RemoteTask):
        return after_submit(replace(view, record=record.but(refusal=None, ending_at=None)), outcome)
    if isinstance(outcome, RateLimited) or _is_transient(outcome):
        return after_submit(view, outcome)
    return _doubted(view, outcome)


def after_query(view: View, outcome: RemoteTask | BridgeError) -> Step:
    """
    What the answer to a query means.

    Only a final status or a permanent refusal ends the job: a read that failed says nothing about the task.
    """
    if isinstance(outcome, RemoteTask):
        return _within_job_limit(view, _observed(view, outcome))
    if isinstance(outcome, NotFound) and outcome.code == "task_not_found":
        return _missing(view, outcome)
    if _is_permanent(outcome):
        return _refused(view, outcome)
    return _unread(view, outcome)


def after_cancel(view: View, outcome: RemoteTask | BridgeError) -> Step:
    """
    What the answer to a cancel means.

    A 200 says "no longer in flight", not "cancelled": the status in it decides, and "it completed anyway" ends the job
    as completed. Until ByteSpike confirms, the cancel is repeated; past the deadline's grace, the job ends unconfirmed.

    Source: contract, section 5.
    """
    if isinstance(outcome, RemoteTask):
        step = _observed(view, outcome)
        if step.state is JobState.CANCELLED and step.record.error is not None:
            return Step(JobState.FAILED, step.record, 0, "cancelled: it would have cost too much")
        if step.state is JobState.CANCELLED and view.cancel is None:
            return Step(JobState.EXPIRED, step.record, 0, "cancelled at its deadline")
        if step.state.is_terminal:
            # the remote task came first: what it says is how the job ended
            return replace(step, record=step.record.but(error=None))
        record = step.record.but(failures=view.record.failures)
        return _insist(replace(view, state=step.state), record, f"still {outcome.status} after a cancel")
    if isinstance(outcome, NotFound):
        return _nothing_to_cancel(view)
    return _insist(view, view.record, f"cancel unanswered: {outcome}")


def end_of(before: JobRecord, step: Step, *, now: float, heard_at: float | None, is_learned: bool) -> End | None:
    """
    What a job's end tells of its model's pace; None if nothing.

    Args:
        before: Its record until now.
        step: How it ends.
        now: When that was seen.
        heard_at: When ByteSpike's callback last came.
        is_learned: Whether its model's countdowns are learned ones.
    """
    # when it began is not known of one that was found by a repeated submit, or was over by the time it was accepted
    began_at, seen_at, after = before.submitted_at, before.seen_at, step.record
    was_over = (before.remote or {}).get("status") in RemoteStatus.TERMINAL
    if not step.state.is_terminal or began_at is None or seen_at is None or before.attempted_at is not None or was_over:
        return None
    after_s, by_s, called = seen_at - began_at, inf, None
    by_itself = (after.remote or {}).get("status") in (RemoteStatus.COMPLETED, RemoteStatus.FAILED)
    if by_itself and after.polled_at is not None:
        by_s = after.polled_at - began_at
        if before.has_callback:
            called = heard_at is not None and seen_at < heard_at
            if called and heard_at is not None:
                by_s = min(by_s, heard_at - began_at)
                after_s = max(after_s, CALLED_WITHIN * by_s)
    # of one that was stopped before it was ever read, it is only known that it existed
    if by_s <= after_s or (by_s == inf and after_s <= 0):
        return None
    at = after.polled_at if by_s < inf and after.polled_at is not None else now
    return End(at, after_s, by_s, assumed_s(after.estimated_s), after.polls, is_learned, called)


def failure(job_id: str, state: JobState, record: JobRecord) -> BridgeError:
    """The error with which a job in a terminal *state* other than COMPLETED ends."""
    if record.error is not None:
        return restore(record.error)
    if state is JobState.CANCELLED:
        return JobCancelled(job_id, record.remote)
    if state is JobState.EXPIRED:
        # counted from 0, because a difference of large moments would show 59.99999976 s where 60 were asked for
        return JobExpired(job_id, deadline_at(0.0, record.deadline_s, record.estimated_s), record.remote)
    remote = record.remote_task
    code = remote.error_code if remote else None
    message = remote.error_message if remote else None
    return JobFailed(job_id, code, message, record.remote)


def recorded(error: BridgeError) -> RecordedError:
    """*error* as data."""
    return RecordedError(name=type(error).__name__, args=list(error.args))


def restore(recorded_error: RecordedError) -> BridgeError:
    """The error that `recorded` made data of."""
    from tasks_bridge import errors  # noqa: PLC0415 - looked up by name, which only this function needs

    cls = getattr(errors, recorded_error.name, BridgeError)
    error: BridgeError = cls(*recorded_error.args)
    return error


def _doubted(view: View, refusal: BridgeError) -> Step:
    """
    A submit was refused, but one before it was not answered: it may have made a task that is being paid for.

    So ByteSpike is asked for it. Where the key itself is refused, that has to wait for an operator.
    """
    record = view.record.but(refusal=view.record.refusal or recorded(refusal))
    is_operators = isinstance(refusal, AuthenticationError | PermissionDenied) or view.record.refusal is not None
    wait_s = view.until_deadline(view.settings.retry_max_s) if is_operators else 0
    return Step(JobState.QUEUED, record, wait_s, f"a repeated submit was refused: {refusal}", is_trouble=True)


def _never_submitted(view: View) -> Step:
    """What becomes of a job that is not to be submitted any more, and of which ByteSpike knows nothing."""
    record = view.record.but(ending_at=view.ending_at)
    if view.may_turn_up:
        wait_s = view.until_deadline(view.pause_s)
        return Step(JobState.QUEUED, record, wait_s, "a submit may still be on its way")
    if record.refusal is not None:
        return Step(JobState.FAILED, record.but(error=record.refusal), 0, f"refused for good: {record.refusal.name}")
    return dropped(view)


def _accepted(view: View, task: RemoteTask) -> Step:
    record = view.record.but(
        remote=task.to_json(),
        estimated_s=task.estimated_seconds,
        submitted_at=view.now,
        attempts=0,
        failures=0,
    )
    record = record.but(**outlook.noted(record, view.known, view.now))
    if task.is_terminal:
        # a repeated submit answers with the current status, but perhaps without the output (contract, section 3)
        return Step(JobState.RUNNING, record, 0, f"accepted as {task.task_id}, {task.status} already")
    seen = replace(view, state=advance(view.state, task.status), record=record)
    return Step(seen.state, record, seen.countdown_s(), f"accepted as {task.task_id}")


def _observed(view: View, task: RemoteTask) -> Step:
    record = view.record.but(
        remote=task.to_json(),
        estimated_s=view.record.estimated_s if task.estimated_seconds is None else task.estimated_seconds,
        submitted_at=view.now if view.record.submitted_at is None else view.record.submitted_at,
        polled_at=view.now,
        polls=view.record.polls + 1,
        failures=0,
    )
    state, reason = advance(view.state, task.status), f"ByteSpike says {task.status}"
    if state.is_terminal:
        return Step(state, record, 0, reason)
    record = record.but(**outlook.noted(view.record, view.known, view.now))
    seen = replace(view, state=state, record=record)
    return Step(state, record, seen.countdown_s(), reason)


def _within_job_limit(view: View, step: Step) -> Step:
    """*step*, unless the answer names a price beyond what the job may cost."""
    estimate = new_estimate(view.record, step.record)
    limits = (view.record.max_credits, view.settings.spend_limit_per_job)
    limit = min((limit for limit in limits if limit is not None), default=None)
    if step.state.is_terminal or estimate is None or limit is None or estimate <= limit:
        return step
    return too_dear(step, SpendLimitReached(view.job_id, "job", limit, estimate))


def _with_error(step: Step, error: BridgeError) -> Step:
    return replace(step, record=step.record.but(error=recorded(error)))


def _missing(view: View, error: NotFound) -> Step:
    settings, record = view.settings, view.record
    since_submit_s = view.as_of - (record.submitted_at or record.starts_at)
    if since_submit_s < settings.not_found_grace_s:
        wait_s = min(settings.poll_min_s, settings.not_found_grace_s - since_submit_s)
        record = record.but(failures=record.failures + 1)
        return Step(view.state, record, view.until_deadline(wait_s), "not found yet")
    record = record.but(error=_job_failed(view, error), is_unconfirmed=True)
    return Step(JobState.FAILED, record, 0, f"gone: {error}", is_trouble=True)


def _unread(view: View, error: BridgeError) -> Step:
    failures = view.record.failures + 1
    record = view.record.but(failures=failures)
    if isinstance(error, RateLimited):
        wait_s = view.rate_limit_s(error)
    else:
        # never sooner than a good answer would have been asked for again
        wait_s = view.until_deadline(max(view.countdown_s(), view.backoff_s(failures)))
    operator = isinstance(error, AuthenticationError | PermissionDenied | SettingsError)
    return Step(
        view.state, record, wait_s, f"read {failures} failed: {error}", is_trouble=operator or failures >= TROUBLE_AFTER
    )


def _refused(view: View, error: BridgeError) -> Step:
    # an earlier submit may have got through; but if the request itself is wrong, it was so then
    is_unconfirmed = view.may_be_submitted and (view.record.remote is not None or not isinstance(error, BadRequest))
    record = view.record.but(error=recorded(error), is_unconfirmed=is_unconfirmed)
    return Step(JobState.FAILED, record, 0, f"refused for good: {error}")


def _insist(view: View, record: JobRecord, reason: str) -> Step:
    # since then, because workers may have been away when the deadline passed
    if view.now >= max(view.deadline_at, view.ending_at) + view.settings.cancel_grace_s:
        record = record.but(error=None, is_unconfirmed=True)
        return Step(JobState.EXPIRED, record, 0, f"expired, cancel unconfirmed: {reason}", is_trouble=True)
    failures = record.failures + 1
    record = record.but(failures=failures, ending_at=view.ending_at)
    wait_s = min(view.backoff_s(failures), view.pause_s)
    return Step(view.state, record, wait_s, reason, is_trouble=failures >= TROUBLE_AFTER)


def _nothing_to_cancel(view: View) -> Step:
    if view.may_turn_up:
        return _insist(view, view.record, "nothing to cancel yet")
    # a task that was there and is not any more may have cost something
    return dropped(replace(view, record=view.record.but(is_unconfirmed=view.record.remote is not None)))


def _job_failed(view: View, error: ApiStatusError) -> RecordedError:
    remote_id = view.record.remote_id or ""
    message = f"ByteSpike no longer knows task {remote_id} for this API key"
    return recorded(JobFailed(view.job_id, error.code, message, view.record.remote))


def _is_transient(error: BridgeError) -> bool:
    """Whether a submit with this outcome may have worked, or may work later unchanged."""
    if isinstance(error, ApiStatusError):
        return isinstance(error, ServerError)
    # SettingsError: this worker lacks the job's API key, another one or a corrected one may have it
    return isinstance(error, ApiError | SettingsError)


def _is_permanent(error: BridgeError) -> bool:
    """Whether a query refused like this will be refused for ever, by ByteSpike itself rather than a proxy."""
    return isinstance(error, BadRequest) and error.code is not None
