"""The decisions about a job, as the table in the design ("HTTP behaviour") has them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from tasks_bridge import errors, steps
from tasks_bridge.cadence import PUBLISHED_MAX_S, deadline_at
from tasks_bridge.durations import End
from tasks_bridge.errors import (
    ApiConnectionError,
    ApiResponseError,
    ApiTimeout,
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
from tasks_bridge.models import RemoteTask
from tasks_bridge.record import OPEN_STATES, TERMINAL_STATES, JobRecord, JobState
from tasks_bridge.settings import Settings
from tasks_bridge.steps import Action, View, after_cancel, after_lookup, after_query, after_submit, failure, next_action

QUEUED, PENDING, RUNNING = JobState.QUEUED, JobState.PENDING, JobState.RUNNING
COMPLETED, FAILED, CANCELLED, EXPIRED = JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED

START = 1000.0
DEADLINE = START + 900
SETTINGS = Settings(api_key=SecretStr("k"))
MIDDLE = 0.5
"""The random number that leaves a countdown as it is, and takes three quarters of a backoff."""

NOT_FOUND = NotFound("", 404, "task_not_found")
NO_ANSWER: list[BridgeError] = [
    ApiConnectionError("refused"),
    ApiTimeout("late"),
    ApiResponseError("garbage"),
    ServerError("", 500, "internal_error"),
    ServerError("", 503, None),
]
OPERATOR: list[BridgeError] = [
    AuthenticationError("", 401, "invalid_api_key"),
    PermissionDenied("", 403, "permission_denied"),
]
ANY_ERROR: list[BridgeError] = [
    *NO_ANSWER,
    *OPERATOR,
    NOT_FOUND,
    NotFound("", 404, "not_found"),
    BadRequest("", 400, "invalid_param"),
    BadRequest("", 400, None),
    Conflict("", 409, "duplicate_out_task_id"),
    InsufficientBalance("", 402, "insufficient_balance"),
    RateLimited("", 429, "rate_limit_exceeded", 30.0),
    RateLimited("", 429, "concurrency_limit"),
    SettingsError("no key"),
]


def kind(value: object) -> str:
    if isinstance(value, RemoteTask):
        return value.status
    return f"{type(value).__name__}-{getattr(value, 'code', None)}"


def task(status: str = "pending", **fields: Any) -> RemoteTask:
    return RemoteTask(task_id="task_1", status=status, **fields)


def view(
    state: JobState = RUNNING,
    *,
    now: float = START + 10,
    cancel: str | None = None,
    sent: bool | None = None,
    settings: Settings = SETTINGS,
    **record: Any,
) -> View:
    known = {} if state is QUEUED else {"submitted_at": START, "remote": {"task_id": "task_1", "status": "running"}}
    return View(
        job_id="job",
        state=state,
        record=JobRecord(version=1, model="m", key="default", digest="d", created_at=START).but(**(known | record)),
        cancel=cancel,
        may_be_submitted=state is not QUEUED if sent is None else sent,
        now=now,
        settings=settings,
        random=MIDDLE,
    )


# -- what to do -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "action"),
    [
        (view(QUEUED), Action.SUBMIT),
        (view(QUEUED, sent=True), Action.SUBMIT),  # the same bytes again, soon after
        (view(QUEUED, sent=True, now=START + 301), Action.LOOKUP),  # a long gap: ask before paying twice
        (view(QUEUED, sent=True, now=START + 301, attempted_at=START + 100), Action.SUBMIT),
        (view(QUEUED, sent=False, now=START + 301), Action.SUBMIT),  # nobody can have sent it
        (view(PENDING), Action.QUERY),
        (view(RUNNING), Action.QUERY),
        # a cancel, and what can have reached ByteSpike
        (view(QUEUED, cancel="x"), Action.DROP),
        (view(QUEUED, cancel="x", sent=True), Action.CANCEL),
        (view(RUNNING, cancel="x"), Action.CANCEL),
        # the deadline
        (view(QUEUED, now=DEADLINE), Action.DROP),
        (view(QUEUED, now=DEADLINE, sent=True), Action.CANCEL),
        (view(PENDING, now=DEADLINE), Action.CANCEL),
        (view(RUNNING, now=DEADLINE - 1), Action.QUERY),
        (view(RUNNING, now=DEADLINE, estimated_s=100.0), Action.QUERY),  # 20 estimates are later
        (view(RUNNING, now=START + 5, deadline_s=5.0), Action.CANCEL),
        # `expires`: nothing is submitted after it, and what may have been is looked for
        (view(QUEUED, now=START + 5, submit_by=START + 5), Action.DROP),
        (view(QUEUED, now=START + 5, submit_by=START + 5, sent=True), Action.LOOKUP),
        (view(QUEUED, now=START + 4, submit_by=START + 5, sent=True), Action.SUBMIT),
        (view(RUNNING, now=START + 5, submit_by=START + 5), Action.QUERY),
        (view(QUEUED, now=START + 50, delay_s=100.0, submit_by=START + 200), Action.SUBMIT),
    ],
)
def test_the_next_action_follows_from_what_is_known(seen: View, action: Action) -> None:
    assert next_action(seen) is action


@pytest.mark.parametrize("cancel", [None, "too late"])
@pytest.mark.parametrize("state", sorted(TERMINAL_STATES))
def test_a_job_that_has_ended_is_only_finished(state: JobState, cancel: str | None) -> None:
    assert next_action(view(state, cancel=cancel, now=DEADLINE + 1e6)) is Action.FINISH


def test_a_job_dropped_before_its_submit_was_cancelled_or_has_expired() -> None:
    assert steps.dropped(view(QUEUED, cancel="x")).state is CANCELLED
    assert steps.dropped(view(QUEUED, now=DEADLINE)).state is EXPIRED


# -- after a submit ---------------------------------------------------------------------------------------------------


def test_an_accepted_job_waits_for_its_first_countdown() -> None:
    step = after_submit(view(QUEUED, attempts=2, failures=1), task(estimated_seconds=60))

    assert (step.state, step.delay_s) == (PENDING, 10)
    assert (step.record.remote_id, step.record.estimated_s, step.record.submitted_at) == ("task_1", 60, START + 10)
    assert (step.record.attempts, step.record.failures) == (0, 0)


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_a_repeated_submit_of_a_task_that_has_ended_is_followed_by_a_query(status: str) -> None:
    """Whether such an answer carries the output is not documented (contract, section 3)."""
    step = after_submit(view(QUEUED, sent=True), task(status))

    assert (step.state, step.delay_s) == (RUNNING, 0)


@pytest.mark.parametrize("error", NO_ANSWER, ids=kind)
def test_a_submit_without_an_answer_is_repeated_with_growing_waits(error: BridgeError) -> None:
    delays, seen = [], view(QUEUED)
    for _ in range(5):
        step = after_submit(seen, error)
        assert step.state is QUEUED
        delays.append(step.delay_s)
        seen = view(QUEUED, attempts=step.record.attempts)

    assert delays == [0.75, 1.5, 3, 60, 60]  # slowly after submit_attempts, but never given up before the deadline


def test_a_worker_without_the_key_leaves_the_job_for_one_that_has_it() -> None:
    step = after_submit(view(QUEUED), SettingsError("There is no ByteSpike API key 'b'"))

    assert step.state is QUEUED
    assert step.delay_s > 0


@pytest.mark.parametrize(
    ("error", "delay_s"),
    [
        (RateLimited("", 429, "rate_limit_exceeded", 30.0), 30),
        (RateLimited("", 429, "rate_limit_exceeded", 0.0), 1),
        (RateLimited("", 429, "rate_limit_exceeded", 86400.0), 300),
        (RateLimited("", 429, "concurrency_limit"), 2),  # 1 to 3 s
        (RateLimited("", 429, None), 2),
    ],
)
@pytest.mark.parametrize("state", [QUEUED, RUNNING])
def test_a_rate_limit_is_waited_for_within_bounds(state: JobState, error: BridgeError, delay_s: float) -> None:
    step = (after_submit if state is QUEUED else after_query)(view(state), error)

    assert (step.state, step.delay_s) == (state, delay_s)


@pytest.mark.parametrize(
    "error",
    [
        *OPERATOR,
        BadRequest("", 400, "invalid_param"),
        BadRequest("", 413, "request_entity_too_large"),
        BadRequest("", 451, None),
        Conflict("", 409, "duplicate_out_task_id"),
        NotFound("", 404, "model_not_found"),
        InsufficientBalance("", 402, "insufficient_balance"),
    ],
    ids=kind,
)
def test_a_refused_submit_ends_the_job_with_the_refusal(error: BridgeError) -> None:
    step = after_submit(view(QUEUED), error)

    assert step.state is FAILED
    ended_with = steps.failure("job", step.state, step.record)
    assert (type(ended_with), ended_with.args) == (type(error), error.args)


def test_an_empty_wallet_can_be_waited_for() -> None:
    patient = Settings(on_insufficient_balance="wait")

    step = after_submit(view(QUEUED, settings=patient), InsufficientBalance("", 402, "insufficient_balance"))

    assert (step.state, step.delay_s) == (QUEUED, 60)


# -- after a lookup ---------------------------------------------------------------------------------------------------


def test_a_lookup_that_finds_nothing_is_followed_by_the_submit_at_once() -> None:
    seen = view(QUEUED, sent=True, now=START + 600)
    step = after_lookup(seen, NOT_FOUND)

    assert (step.state, step.delay_s) == (QUEUED, 0)
    assert next_action(view(QUEUED, sent=True, now=START + 601, attempted_at=step.record.attempted_at)) is Action.SUBMIT


def test_a_lookup_that_finds_the_task_takes_it_over() -> None:
    step = after_lookup(view(QUEUED, sent=True, now=START + 600), task("running", estimated_seconds=60))

    assert (step.state, step.record.remote_id) == (RUNNING, "task_1")


def test_a_job_that_may_have_been_submitted_before_it_expired_is_looked_for() -> None:
    late = view(QUEUED, sent=True, now=START + 60, submit_by=START + 60)
    first = after_lookup(late, NOT_FOUND)
    last = replace(late, record=first.record).at(late.now + SETTINGS.submit_timeout_s)

    assert after_lookup(late, task("running")).state is RUNNING
    assert (first.state, next_action(replace(late, record=first.record))) == (QUEUED, Action.LOOKUP)
    assert after_lookup(last, NOT_FOUND).state is EXPIRED


def test_no_wait_reaches_past_the_time_to_submit_in() -> None:
    limited = RateLimited("", 429, "rate_limit_exceeded", 30.0)

    assert after_submit(view(QUEUED, submit_by=START + 20), limited).delay_s == 10
    assert after_submit(view(QUEUED, submit_by=START + 5), limited).delay_s == 30
    assert after_submit(view(QUEUED, submit_by=START + 11), task(estimated_seconds=60)).delay_s == 10


@pytest.mark.parametrize("error", NO_ANSWER, ids=kind)
def test_a_lookup_without_an_answer_is_repeated(error: BridgeError) -> None:
    assert after_lookup(view(QUEUED, sent=True), error).state is QUEUED


# -- after a query ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("pending", RUNNING),  # an older reading
        ("running", RUNNING),
        ("strange", RUNNING),
        ("completed", COMPLETED),
        ("failed", FAILED),
        ("cancelled", CANCELLED),
    ],
)
def test_a_query_tells_the_state(status: str, state: JobState) -> None:
    step = after_query(view(failures=2, polls=4), task(status))

    assert step.state is state
    assert (step.record.polls, step.record.failures, step.record.polled_at) == (5, 0, START + 10)


def test_the_estimate_is_kept_when_later_answers_leave_it_out() -> None:
    step = after_query(view(estimated_s=60.0), task("running"))

    assert (step.record.estimated_s, step.delay_s) == (60, 10)


@pytest.mark.parametrize("error", [*NO_ANSWER, *OPERATOR, SettingsError("x"), BadRequest("", 405, None)], ids=kind)
def test_a_failed_read_never_fails_the_job(error: BridgeError) -> None:
    step = after_query(view(failures=9), error)

    assert (step.state, step.record.failures) == (RUNNING, 10)


def test_failed_reads_back_off_but_are_never_sooner_than_good_ones() -> None:
    delays = [after_query(view(failures=failures), ServerError("", 500)).delay_s for failures in (0, 3, 6)]

    assert delays == [5, 6, 45]  # the countdown is 5


@pytest.mark.parametrize("error", OPERATOR, ids=kind)
def test_an_operators_problem_is_loud_from_the_start(error: BridgeError) -> None:
    assert after_query(view(), error).is_trouble
    assert not after_query(view(), ServerError("", 500)).is_trouble


def test_a_permanent_refusal_of_a_query_ends_the_job() -> None:
    assert after_query(view(), BadRequest("", 400, "invalid_param")).state is FAILED


def test_a_task_that_is_not_found_yet_is_given_time() -> None:
    step = after_query(view(PENDING, now=START + 29), NOT_FOUND)

    assert (step.state, step.delay_s) == (PENDING, 1)


def test_a_task_that_is_gone_ends_the_job() -> None:
    step = after_query(view(PENDING, now=START + 30), NOT_FOUND)

    error = steps.failure("job", step.state, step.record)
    assert step.state is FAILED
    assert isinstance(error, JobFailed)
    assert (error.job_id, error.code) == ("job", "task_not_found")
    assert "task_1" in str(error)


# -- after a cancel ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cancel", "now", "status", "state"),
    [
        ("x", START + 10, "cancelled", CANCELLED),
        ("x", START + 10, "completed", COMPLETED),  # it completed anyway
        ("x", START + 10, "failed", FAILED),
        (None, DEADLINE, "cancelled", EXPIRED),
        (None, DEADLINE, "completed", COMPLETED),
        ("x", DEADLINE, "cancelled", CANCELLED),
    ],
)
def test_the_answer_to_a_cancel_decides_how_the_job_ends(
    cancel: str | None, now: float, status: str, state: JobState
) -> None:
    step = after_cancel(view(cancel=cancel, now=now), task(status, credits_used=0.4))

    assert step.state is state
    assert step.record.remote == {"task_id": "task_1", "status": status, "credits_used": 0.4}


@pytest.mark.parametrize("outcome", [task("running"), *NO_ANSWER, *OPERATOR], ids=kind)
@pytest.mark.parametrize("cancel", ["x", None])
def test_an_unconfirmed_cancel_is_repeated(outcome: Any, cancel: str | None) -> None:
    step = after_cancel(view(cancel=cancel, now=DEADLINE + 1), outcome)

    assert step.state is RUNNING
    assert 0 < step.delay_s <= SETTINGS.poll_max_s


@pytest.mark.parametrize("outcome", [task("running"), *NO_ANSWER, *OPERATOR], ids=kind)
@pytest.mark.parametrize("cancel", ["x", None])
def test_a_cancel_that_is_never_confirmed_does_not_keep_the_job_for_ever(outcome: Any, cancel: str | None) -> None:
    last = view(cancel=cancel, now=DEADLINE + SETTINGS.cancel_grace_s, ending_at=DEADLINE)
    step = after_cancel(last, outcome)

    assert step.state is EXPIRED
    assert step.is_trouble


def test_the_grace_of_a_deadline_that_passed_while_no_worker_was_up_begins_with_the_first_cancel() -> None:
    late = DEADLINE + 86400
    step = after_cancel(view(now=late), ApiTimeout("late"))

    assert (step.state, step.record.ending_at) == (RUNNING, late)
    again = view(now=late + SETTINGS.cancel_grace_s - 1, ending_at=step.record.ending_at)
    assert after_cancel(again, ApiTimeout("late")).state is RUNNING
    assert after_cancel(again.at(again.now + 1), ApiTimeout("late")).state is EXPIRED


@pytest.mark.parametrize(("cancel", "state"), [("x", CANCELLED), (None, EXPIRED)])
def test_nothing_to_cancel_is_believed_once_no_submit_can_be_on_its_way(cancel: str | None, state: JobState) -> None:
    first = view(QUEUED, sent=True, cancel=cancel, now=DEADLINE, attempted_at=START, deadline_s=900.0)
    record = after_cancel(first, NOT_FOUND).record
    last = replace(first, record=record).at(DEADLINE + SETTINGS.submit_timeout_s)

    assert record.ending_at == DEADLINE, "a dead holder may have sent it just before"
    assert after_cancel(last.at(last.now - 1), NOT_FOUND).state is QUEUED
    assert after_cancel(last, NOT_FOUND).state is state


def test_a_task_that_is_gone_is_not_waited_for() -> None:
    early = view(cancel="x", now=START + SETTINGS.not_found_grace_s - 1)

    assert after_cancel(early, NOT_FOUND).state is RUNNING
    assert after_cancel(early.at(early.now + 1), NOT_FOUND).state is CANCELLED


# -- in general -------------------------------------------------------------------------------------------------------

outcomes = st.sampled_from([*ANY_ERROR, *(task(s) for s in ("pending", "running", "completed", "failed", "cancelled"))])


@given(
    st.sampled_from(sorted(OPEN_STATES)),
    outcomes,
    st.floats(0, 2000),
    st.sampled_from([None, "x"]),
    st.booleans(),
    st.integers(0, 50),
)
def test_whatever_comes_back_a_job_goes_on_soon_or_ends(
    state: JobState, outcome: Any, elapsed_s: float, cancel: str | None, sent: bool, failures: int
) -> None:
    seen = view(
        state,
        now=START + elapsed_s,
        cancel=cancel,
        sent=sent or state is not QUEUED,
        failures=failures,
        attempts=failures,
    )
    action = next_action(seen)
    if action is Action.DROP:
        step = steps.dropped(seen)
    else:
        after = {
            Action.SUBMIT: after_submit,
            Action.LOOKUP: after_lookup,
            Action.QUERY: after_query,
            Action.CANCEL: after_cancel,
        }
        step = after[action](seen, outcome)

    if step.state.is_terminal:
        if step.state is not COMPLETED:
            assert isinstance(steps.failure("job", step.state, step.record), BridgeError)
        return
    assert 0 <= step.delay_s <= SETTINGS.rate_limit_max_s
    if seen.now < seen.deadline_at and cancel is None:
        assert seen.now + step.delay_s <= max(step_deadline(step), seen.deadline_at) + 1e-6, "a deadline is acted on"


def step_deadline(step: steps.Step) -> float:
    return deadline_at(step.record.starts_at, step.record.deadline_s, step.record.estimated_s)


def test_every_error_survives_being_recorded() -> None:
    for error in ANY_ERROR:
        restored = steps.restore(steps.recorded(error))

        assert (type(restored), restored.args, str(restored)) == (type(error), error.args, str(error))


def test_an_error_of_a_newer_version_is_still_an_error() -> None:
    recorded = steps.recorded(SettingsError("x")).model_copy(update={"name": "FromTheFuture"})

    assert type(steps.restore(recorded)) is errors.BridgeError


def test_each_end_has_its_error() -> None:
    remote = {"task_id": "task_1", "status": "failed", "error_code": "content_policy_violation", "error_message": "no"}
    record = view(remote=remote, deadline_s=60.0).record

    failed = steps.failure("job", FAILED, record)
    cancelled = steps.failure("job", CANCELLED, record)
    expired = steps.failure("job", EXPIRED, record)

    assert (type(failed), failed.args) == (JobFailed, ("job", "content_policy_violation", "no", remote))
    assert (type(cancelled), cancelled.args) == (JobCancelled, ("job", remote))
    assert (type(expired), expired.args) == (JobExpired, ("job", 60, remote))


# -- a refusal of a repeated submit --------------------------------------------------------------------------------

REFUSALS: list[BridgeError] = [
    *OPERATOR,
    BadRequest("", 400, "invalid_param"),
    BadRequest("", 451, None),
    InsufficientBalance("", 402, "insufficient_balance"),
]


@pytest.mark.parametrize("error", REFUSALS, ids=kind)
def test_a_refusal_after_an_unanswered_submit_is_doubted_first(error: BridgeError) -> None:
    step = after_submit(view(QUEUED, sent=True), error)

    assert step.state is QUEUED
    assert next_action(view(QUEUED, sent=True, refusal=step.record.refusal)) is Action.LOOKUP


@pytest.mark.parametrize("error", REFUSALS, ids=kind)
def test_a_doubted_refusal_stands_where_bytespike_has_no_such_task(error: BridgeError) -> None:
    doubted = after_submit(view(QUEUED, sent=True), error).record
    seen = view(QUEUED, sent=True, refusal=doubted.refusal)
    first = after_lookup(seen, NOT_FOUND)
    assert first.state is QUEUED, "an earlier submit may still be on its way"

    step = after_lookup(replace(seen, record=first.record).at(seen.now + SETTINGS.submit_timeout_s), NOT_FOUND)

    assert step.state is JobState.FAILED
    assert repr(failure("job", step.state, step.record)) == repr(error)


def test_a_task_that_an_unanswered_submit_made_is_kept_though_its_repetition_was_refused() -> None:
    doubted = after_submit(view(QUEUED, sent=True), OPERATOR[0]).record

    step = after_lookup(view(QUEUED, sent=True, refusal=doubted.refusal), task("running"))

    assert step.state is RUNNING
    assert step.record.refusal is None


@pytest.mark.parametrize("error", OPERATOR, ids=kind)
def test_while_the_key_is_refused_the_look_is_repeated_slowly(error: BridgeError) -> None:
    doubted = after_submit(view(QUEUED, sent=True), error).record

    step = after_lookup(view(QUEUED, sent=True, refusal=doubted.refusal), error)

    assert step.state is QUEUED
    assert step.delay_s == SETTINGS.retry_max_s
    assert step.is_trouble


def test_a_conflict_is_final_because_the_same_bytes_never_conflict_with_themselves() -> None:
    assert after_submit(view(QUEUED, sent=True), Conflict("", 409, "duplicate_out_task_id")).state is JobState.FAILED


def test_a_job_with_a_callback_is_polled_at_a_slower_pace_and_never_past_its_deadline() -> None:
    task = RemoteTask(task_id="t", status="running", estimated_seconds=60)
    plain = after_query(view(RUNNING, submitted_at=START), task)
    called = after_query(view(RUNNING, submitted_at=START, has_callback=True), task)
    last = after_query(view(RUNNING, now=DEADLINE + 290, submitted_at=START, has_callback=True), task)

    assert (plain.delay_s, called.delay_s, last.delay_s) == (10, 40, 10)


# -- bounds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [*NO_ANSWER, RateLimited("", 429, "rate_limit_exceeded", 30.0)], ids=kind)
def test_a_lookup_that_tells_nothing_changes_nothing_of_what_is_known(error: BridgeError) -> None:
    doubted = after_submit(view(QUEUED, sent=True), OPERATOR[0]).record
    first = after_lookup(view(QUEUED, sent=True), error)
    later = after_lookup(view(QUEUED, sent=True, refusal=doubted.refusal), error)

    assert (first.record.refusal, later.record.refusal) == (None, doubted.refusal)
    assert first.delay_s > 0


@pytest.mark.parametrize(("gap_s", "action"), [(300, Action.SUBMIT), (301, Action.LOOKUP)])
def test_an_unanswered_submit_is_repeated_blindly_for_five_minutes(gap_s: float, action: Action) -> None:
    assert next_action(view(QUEUED, sent=True, attempted_at=START, now=START + gap_s)) is action


@pytest.mark.parametrize("error", REFUSALS, ids=kind)
def test_a_doubted_refusal_is_looked_into_at_once_but_that_of_a_key_only_slowly(error: BridgeError) -> None:
    first = after_submit(view(QUEUED, sent=True), error)
    again = after_lookup(view(QUEUED, sent=True, refusal=first.record.refusal), error)

    assert first.delay_s == (SETTINGS.retry_max_s if error in OPERATOR else 0)
    assert again.delay_s == SETTINGS.retry_max_s


def test_what_goes_wrong_three_times_in_a_row_is_trouble_and_what_goes_well_is_none() -> None:
    late = ApiTimeout("late")
    reads = [after_query(view(failures=failures), late) for failures in range(3)]
    cancels = [after_cancel(view(cancel="x", failures=failures), late) for failures in range(3)]
    good = [
        after_query(view(), task("running")),
        after_submit(view(QUEUED), task()),
        after_cancel(view(), task("failed")),
    ]

    for steps_taken in (reads, cancels):
        assert [step.record.failures for step in steps_taken] == [1, 2, 3]
        assert [step.is_trouble for step in steps_taken] == [False, False, True]
    assert [step.is_trouble for step in good] == [False] * 3


def test_an_operator_hears_of_an_empty_wallet_of_a_price_and_of_a_task_that_is_gone() -> None:
    waiting = Settings(api_key=SecretStr("k"), on_insufficient_balance="wait")
    empty = InsufficientBalance("", 402, "insufficient_balance")
    price = SpendLimitReached("job", "all", 5.0, 5.0)

    assert after_submit(view(QUEUED, settings=waiting), empty).is_trouble
    assert steps.over_limit(view(QUEUED), price).is_trouble
    assert steps.too_dear(after_query(view(), task("running")), price).is_trouble
    assert after_query(view(PENDING, now=START + 30), NOT_FOUND).is_trouble


def test_a_price_of_exactly_the_limit_is_worth_waiting_for() -> None:
    waiting = view(QUEUED, settings=Settings(api_key=SecretStr("k"), on_spend_limit="wait"))

    assert steps.over_limit(waiting, SpendLimitReached("job", "all", 5.0, 5.0)).state is QUEUED
    assert steps.over_limit(waiting, SpendLimitReached("job", "all", 5.0, 5.01)).state is FAILED


def test_past_the_deadline_nothing_is_waited_for() -> None:
    assert view(now=DEADLINE + 5).until_deadline(10) == 0


@pytest.mark.parametrize("outcome", [*ANY_ERROR, task("running")], ids=kind)
def test_an_outage_is_what_is_no_answer_of_bytespikes(outcome: Any) -> None:
    assert steps.is_outage(outcome) is (outcome in NO_ANSWER)


def test_a_job_that_is_held_back_waits_unchanged_but_a_cancel_ends_with_its_grace() -> None:
    seen = view(cancel="x")
    held = steps.held_back(seen, Action.QUERY, 7)
    insisting = steps.held_back(seen, Action.CANCEL, 7)
    last = view(cancel="x", now=DEADLINE + SETTINGS.cancel_grace_s, ending_at=DEADLINE)

    assert (held.state, held.record, held.delay_s) == (RUNNING, seen.record, 7)
    assert (insisting.state, insisting.record.failures) == (RUNNING, 1)
    assert steps.held_back(last, Action.CANCEL, 7).state is EXPIRED


def test_an_unconfirmed_cancel_backs_off_but_is_repeated_as_often_as_a_job_of_an_unknown_model_is_polled() -> None:
    waits = [after_cancel(view(cancel="x", failures=failures), ApiTimeout("late")).delay_s for failures in (0, 1, 20)]

    assert waits == [0.75, 1.5, PUBLISHED_MAX_S]


def test_a_task_that_is_found_was_submitted_when_it_is_first_seen() -> None:
    found = after_cancel(view(QUEUED, sent=True, cancel="x"), task("running"))
    seen = after_query(view(RUNNING), task("running"))

    assert (found.record.submitted_at, seen.record.submitted_at) == (START + 10, START)


@pytest.mark.parametrize("delay_s", [0.0, 10.0])
def test_a_task_is_missing_since_its_submit_or_since_it_should_have_been_submitted(delay_s: float) -> None:
    given = after_query(view(PENDING, submitted_at=START + 100, now=START + 129), NOT_FOUND)
    unknown = view(PENDING, submitted_at=None, delay_s=delay_s, now=START + delay_s + 29, failures=4)

    assert (given.state, given.record.failures) == (PENDING, 1)
    assert (after_query(unknown, NOT_FOUND).state, after_query(unknown, NOT_FOUND).record.failures) == (PENDING, 5)
    assert after_query(unknown.at(unknown.now + 1), NOT_FOUND).state is FAILED


def test_whether_a_task_may_still_turn_up_is_judged_by_when_it_was_asked_for_however_long_the_answer_took() -> None:
    asked = view(PENDING, now=START + SETTINGS.not_found_grace_s - 1)

    assert after_query(asked.answered_at(asked.now + 20), NOT_FOUND).state is PENDING
    assert after_query(asked.at(asked.now + 1).answered_at(asked.now + 20), NOT_FOUND).state is FAILED


def test_a_job_that_failed_without_a_remote_task_has_no_code() -> None:
    error = failure("job", FAILED, view(QUEUED).record)

    assert error.args == ("job", None, None, None)


# -- what an end tells of its model's pace ----------------------------------------------------------------------------

END_AT = START + 96


def ended(
    state: JobState = COMPLETED,
    *,
    status: str | None = None,
    heard_at: float | None = None,
    now: float = END_AT,
    **before: Any,
) -> End | None:
    """What is learned of a job that was accepted at START, last seen at START + 80 and over 16 seconds later."""
    known = {"polled_at": START + 80, "polls": 5, "estimated_s": 105.0}
    seen = view(RUNNING, now=END_AT, **(known | before))
    step = after_query(seen, task(status or state.value.lower()))
    if step.state is not state:
        step = steps.Step(state, step.record, 0, "otherwise")
    return steps.end_of(seen.record, step, now=now, heard_at=heard_at, is_learned=True)


@pytest.mark.parametrize("state", [COMPLETED, FAILED])
def test_an_end_lies_between_the_last_two_good_reads(state: JobState) -> None:
    assert ended(state) == End(END_AT, 80, 96, 105, 6, learned=True)


def test_the_first_read_may_find_it_over() -> None:
    assert ended(polled_at=None) == End(END_AT, 0, 96, 105, 6, learned=True)


def test_an_end_is_dated_by_the_read_that_showed_it_and_a_stop_by_itself() -> None:
    told, stopped = ended(now=END_AT + 4), ended(CANCELLED, status="cancelled", now=END_AT + 4)

    assert told is not None
    assert stopped is not None
    assert (told.at, stopped.at) == (END_AT, END_AT + 4)


def test_two_reads_at_one_moment_tell_nothing() -> None:
    assert ended(polled_at=END_AT) is None


def test_a_read_that_failed_says_nothing_of_the_end() -> None:
    failed = after_query(view(RUNNING, now=START + 90, polled_at=START + 80), ServerError("", 500)).record

    assert failed.polled_at == START + 80


def test_of_a_job_that_was_stopped_it_is_known_that_it_lasted_until_the_last_read() -> None:
    for state in (CANCELLED, EXPIRED):
        assert ended(state, status="cancelled") == End(END_AT, 80, math.inf, 105, 6, learned=True)
        assert ended(state, status="cancelled", polled_at=START + 0.5) == End(
            END_AT, 0.5, math.inf, 105, 6, learned=True
        )
        assert ended(state, status="cancelled", polled_at=None) is None


def test_a_callback_tells_of_an_end_nearly_to_the_second() -> None:
    end = ended(has_callback=True, heard_at=START + 90)

    assert end is not None
    assert end.after_s == pytest.approx(88.2)
    assert (end.by_s, end.called) == (90, True)


@pytest.mark.parametrize("heard_at", [None, START + 40, START + 80])
def test_a_callback_that_has_not_come_when_the_end_is_read_was_missed(heard_at: float | None) -> None:
    assert ended(has_callback=True, heard_at=heard_at) == End(END_AT, 80, 96, 105, 6, learned=True, called=False)


@pytest.mark.parametrize(
    "before",
    [
        {"attempted_at": START - 9},  # an earlier submit may have got through
        {"remote": {"task_id": "task_1", "status": "completed"}},  # over when a repeated submit found it
        {"submitted_at": None},
    ],
)
def test_nothing_is_learned_where_the_beginning_is_not_known(before: dict[str, Any]) -> None:
    assert ended(**before) is None


def test_nothing_is_learned_from_a_job_that_goes_on() -> None:
    assert ended(RUNNING, status="running") is None


def test_learned_countdowns_replace_the_published_rule_s_where_there_are_any() -> None:
    class Known:
        def __init__(self, wait_s: float | None) -> None:
            self.wait_s = wait_s

        def countdown_s(self, elapsed_s: float, estimate_s: float, *, has_callback: bool, random: float) -> Any:
            assert (elapsed_s, estimate_s, has_callback, random) == (10, 60, False, MIDDLE)
            return self.wait_s

        def left_s(self, elapsed_s: float, estimate_s: float) -> float:
            return 44.0

        def is_late(self, elapsed_s: float, estimate_s: float) -> bool:
            return False

    seen = view(estimated_s=60.0)
    learned, cold = (replace(seen, known=Known(wait_s)) for wait_s in (33.0, None))  # type: ignore[arg-type]

    step = after_query(learned, task("running"))
    assert (step.delay_s, step.record.left_s) == (33, 44)
    assert after_query(cold, task("running")).delay_s == 10
    assert after_query(replace(learned, now=DEADLINE - 5), task("completed")).record.left_s is None
