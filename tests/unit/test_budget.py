"""What the spend limits mean for a call, a record and a decision; the books themselves are tested on a real server."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from tasks_bridge.budget import Spending
from tasks_bridge.client import Client
from tasks_bridge.errors import (
    ApiTimeout,
    BadRequest,
    BridgeError,
    Conflict,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    SettingsError,
    SpendLimitReached,
)
from tasks_bridge.inline import run_inline
from tasks_bridge.models import RemoteTask
from tasks_bridge.order import parse_order
from tasks_bridge.record import RECORD_VERSION, JobRecord, JobState, RecordedError
from tasks_bridge.settings import Settings
from tasks_bridge.steps import (
    Action,
    Step,
    View,
    after_cancel,
    after_lookup,
    after_query,
    after_submit,
    failure,
    new_estimate,
    next_action,
    over_limit,
    recorded,
)
from tasks_bridge.wire import submit_body

START = 1000.0
PARAMS = {"prompt": "a fox"}
OVER = SpendLimitReached("job", "all", 10.0, 3.0, 8.0)
HOPELESS = SpendLimitReached("job", "label:a", 2.0, 3.0, 0.0)


def settings(**changes: Any) -> Settings:
    return Settings(**{"api_key": SecretStr("k"), **changes})


def view(
    state: JobState = JobState.QUEUED,
    *,
    sent: bool = False,
    cancel: str | None = None,
    now: float = START + 1,
    on: Settings | None = None,
    **fields: Any,
) -> View:
    record = JobRecord(version=RECORD_VERSION, model="m", key="default", digest="d", created_at=START)
    is_sent = sent or state is not JobState.QUEUED
    return View("job", state, record.but(**fields), cancel, is_sent, now, on or settings(), 0.5)


def task(status: str = "pending", **fields: Any) -> RemoteTask:
    return RemoteTask(task_id="task_1", status=status, **fields)


def ends_with(step: Step) -> BridgeError:
    return failure("job", step.state, step.record)


# -- the call ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", ["a", "tenant:7", "A.b_c-d", "x" * 64])
def test_a_label_is_a_short_name(label: str) -> None:
    assert parse_order(("m", PARAMS), {"label": label}).label == label


@pytest.mark.parametrize("label", ["", "x" * 65, "a b", "a/b", "ü", "a\n", 7, True])
def test_any_other_label_is_refused(label: object) -> None:
    with pytest.raises(InvalidRequest, match="label"):
        parse_order(("m", PARAMS), {"label": label})


@pytest.mark.parametrize("most", [0, -1, "1", True, float("inf"), float("nan")])
def test_max_credits_is_a_positive_number(most: object) -> None:
    with pytest.raises(InvalidRequest, match="max_credits"):
        parse_order(("m", PARAMS), {"max_credits": most})


def test_label_and_max_credits_are_in_the_record_and_no_part_of_the_request() -> None:
    plain, limited = parse_order(("m", PARAMS), {}), parse_order(("m", PARAMS), {"label": "a", "max_credits": 2})
    body = plain.body("job")
    records = [order.record(body, settings(), now=START, delay_s=0) for order in (plain, limited)]

    assert limited.body("job") == body
    assert records[0].digest == records[1].digest
    assert (records[1].label, records[1].max_credits) == ("a", 2.0)
    assert not {"label", "max_credits", "is_booked", "is_unconfirmed"} & set(
        records[0].model_dump(exclude_defaults=True)
    )


# -- settings ---------------------------------------------------------------------------------------------------------


def test_limits_are_off_unless_set() -> None:
    assert not settings().has_spend_limit
    assert not settings(on_spend_limit="wait", spend_unknown=1, spend_period_s=60).has_spend_limit
    for name in ("spend_limit", "spend_limit_per_label", "spend_limit_per_job"):
        assert settings(**{name: 0}).has_spend_limit


@pytest.mark.parametrize(
    "wrong", [{"spend_limit": -1}, {"spend_limit": "inf"}, {"spend_period_s": 0}, {"on_spend_limit": "retry"}]
)
def test_wrong_limits_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        settings(**wrong)


def test_what_is_left_is_never_negative_and_unknown_without_a_limit() -> None:
    def left(limit: float | None) -> float | None:
        return Spending(None, used=3.0, reserved=1.0, limit=limit, starts_at=0, ends_at=1).left

    assert (left(10.0), left(2.0), left(None)) == (6.0, 0.0, None)


# -- over a limit before the submit -----------------------------------------------------------------------------------


def test_a_job_over_a_limit_ends_with_it() -> None:
    step = over_limit(view(), OVER)

    assert step.state is JobState.FAILED
    assert ends_with(step).args == OVER.args
    assert step.record.cost == 0
    assert step.is_trouble


def test_a_job_over_a_limit_waits_where_that_is_set() -> None:
    step = over_limit(view(on=settings(on_spend_limit="wait", retry_max_s=60)), OVER)

    assert step.state is JobState.QUEUED
    assert step.record.error is None
    assert step.delay_s == 60 * 0.75
    assert "waits for the budget" in step.reason
    assert step.is_trouble


def test_no_job_waits_past_its_deadline() -> None:
    waiting = view(on=settings(on_spend_limit="wait", retry_max_s=60), deadline_s=10)

    assert over_limit(waiting, OVER).delay_s == 9
    assert next_action(waiting.at(START + 10)) is Action.DROP


def test_a_job_that_no_wait_can_help_ends() -> None:
    step = over_limit(view(on=settings(on_spend_limit="wait")), HOPELESS)

    assert step.state is JobState.FAILED


def test_a_refused_job_that_may_have_been_submitted_is_cancelled_first() -> None:
    sent = view(sent=True)
    step = over_limit(sent, OVER)
    again = view(sent=True, error=step.record.error, ending_at=START)

    assert (step.state, step.delay_s) == (JobState.QUEUED, 0)
    assert next_action(again) is Action.CANCEL
    gone = after_cancel(again.at(START + 100), NotFound("", 404, "task_not_found"))
    assert gone.state is JobState.FAILED
    assert ends_with(gone).args == OVER.args
    assert gone.record.cost == 0


# -- over a limit once the price is known -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("max_credits", "per_job", "limit"), [(2.0, None, 2.0), (None, 2.0, 2.0), (2.5, 2.0, 2.0), (2.0, 2.5, 2.0)]
)
def test_a_price_beyond_what_a_job_may_cost_gets_it_cancelled(
    max_credits: float | None, per_job: float | None, limit: float
) -> None:
    before = view(max_credits=max_credits, on=settings(spend_limit_per_job=per_job))
    step = after_submit(before, task(estimated_credits=3.0))

    assert (step.state, step.delay_s) == (JobState.PENDING, 0)
    assert step.record.error == recorded(SpendLimitReached("job", "job", limit, 3.0))
    assert next_action(view(step.state, error=step.record.error)) is Action.CANCEL
    assert after_submit(before, task(estimated_credits=limit)).record.error is None
    assert after_submit(before, task()).record.error is None


def test_a_price_that_only_a_query_tells_counts_as_well_but_only_when_it_is_new() -> None:
    before = view(JobState.PENDING, max_credits=2.0, remote=task().to_json())

    step = after_query(before, task(estimated_credits=3.0))

    assert step.record.error is not None
    known = view(JobState.PENDING, max_credits=2.0, remote=task(estimated_credits=3.0).to_json())
    assert new_estimate(known.record, after_query(known, task(estimated_credits=3.0)).record) is None
    assert after_query(before, task("completed", credits_used=3.0)).record.error is None


PRICED: dict[str, Any] = {
    "error": recorded(OVER),
    "remote": task(estimated_credits=3.0).to_json(),
    "submitted_at": START,
}


@pytest.mark.parametrize("cancel", [None, "asked for"])
def test_a_job_cancelled_for_its_price_ends_with_the_limit(cancel: str | None) -> None:
    step = after_cancel(view(JobState.PENDING, cancel=cancel, **PRICED), task("cancelled"))

    assert step.state is JobState.FAILED
    assert ends_with(step).args == OVER.args
    assert step.record.cost == 0


def test_a_job_cancelled_for_its_price_too_late_costs_what_it_is_charged() -> None:
    step = after_cancel(view(JobState.PENDING, **PRICED), task("cancelled", credits_used=0.5))

    assert step.record.cost == 0.5


@pytest.mark.parametrize(("status", "state"), [("completed", JobState.COMPLETED), ("failed", JobState.FAILED)])
def test_a_job_that_ended_before_the_cancel_ends_as_bytespike_says(status: str, state: JobState) -> None:
    step = after_cancel(view(JobState.PENDING, **PRICED), task(status, credits_used=3.0))

    assert step.state is state
    assert step.record.error is None


def test_an_unanswered_cancel_is_repeated_until_the_grace_ends() -> None:
    dear = view(JobState.PENDING, **PRICED)

    step = after_cancel(dear, ApiTimeout("late"))
    last = after_cancel(replace(dear, record=step.record).at(START + 900 + 300), ApiTimeout("late"))

    assert (step.state, step.record.error) == (JobState.PENDING, recorded(OVER))
    assert last.state is JobState.EXPIRED
    assert last.record.cost is None


# -- what a job has cost ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("remote", "cost"),
    [
        (None, 0),
        (task("failed"), 0),
        (task("cancelled", estimated_credits=1.5), 0),
        (task("cancelled", credits_used=0.25), 0.25),
        (task("completed", credits_used=1.47), 1.47),
        (task("completed", credits_used=0), 0),
        (task("completed"), None),
    ],
)
def test_what_a_job_has_cost_is_what_bytespike_says(remote: RemoteTask | None, cost: float | None) -> None:
    record = view(remote=remote and remote.to_json()).record

    assert record.cost == cost


REFUSAL = RecordedError(name="PermissionDenied", args=["", 403, "permission_denied", None])
ACCEPTED: dict[str, Any] = {"remote": task().to_json(), "submitted_at": START}


@pytest.mark.parametrize(
    ("step", "cost"),
    [
        (lambda: after_submit(view(), BadRequest("", 400, "invalid_param")), 0),
        (lambda: after_submit(view(), PermissionDenied("", 403, "permission_denied")), 0),
        (lambda: after_submit(view(sent=True), Conflict("", 409, "duplicate_out_task_id")), None),
        (
            lambda: after_lookup(
                view(sent=True, refusal=REFUSAL, ending_at=START - 99), NotFound("", 404, "task_not_found")
            ),
            0,
        ),
        (lambda: after_query(view(JobState.RUNNING, **ACCEPTED), BadRequest("", 400, "invalid_param")), None),
        (
            lambda: after_query(
                view(JobState.RUNNING, now=START + 99, **ACCEPTED), NotFound("", 404, "task_not_found")
            ),
            None,
        ),
        (
            lambda: after_cancel(
                view(JobState.RUNNING, cancel="x", now=START + 99, **ACCEPTED), NotFound("", 404, "task_not_found")
            ),
            None,
        ),
        (
            lambda: after_cancel(
                view(sent=True, cancel="x", now=START + 99, ending_at=START), NotFound("", 404, "task_not_found")
            ),
            0,
        ),
        (
            lambda: after_cancel(view(sent=True, cancel="x", now=START + 9999, ending_at=START), ApiTimeout("late")),
            None,
        ),
    ],
    ids=[
        *("submit refused", "submit forbidden", "id taken", "refused, and not there", "query refused", "task gone"),
        *("task gone after a cancel", "never there after a cancel", "no answer to a cancel"),
    ],
)
def test_the_cost_of_a_job_that_ended_without_bytespikes_word_is_unknown_if_it_may_go_on(
    step: Any, cost: float | None
) -> None:
    made = step()

    assert made.state.is_terminal
    assert made.record.cost == cost


# -- inline, words ----------------------------------------------------------------------------------------------------


def test_a_job_run_inline_obeys_its_own_limit() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path.split("/")[3])
        status = "cancelled" if asked[-1] == "cancel" else "pending"
        return httpx.Response(200, json={"task_id": "task_1", "status": status, "estimated_credits": 3})

    client = Client("k", "https://api.test", transport=httpx.MockTransport(answer))
    body = submit_body("m", PARAMS, out_task_id="job")
    record = view(max_credits=2.0).record

    with pytest.raises(SpendLimitReached) as caught:
        run_inline(settings(), client, "job", record, body, clock=lambda: START, sleep=lambda _: None)

    assert caught.value.args == ("job", "job", 2.0, 3.0, 0.0)
    assert asked == ["submit", "cancel"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OVER, "would cost 3 credits; the limit for all jobs is 10, of which others have 8."),
        (SpendLimitReached("job", "label:a", 2.0, 3.0, 1.5), "the limit for label a is 2, of which others have 1.5."),
        (SpendLimitReached("job", "job", 2.0, 3.0), "the limit for one job is 2."),
    ],
    ids=lambda value: getattr(value, "scope", None),
)
def test_the_error_says_whose_limit_it_was(error: SpendLimitReached, said: str) -> None:
    assert said in str(error)
