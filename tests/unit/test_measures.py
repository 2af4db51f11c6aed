"""What is counted of a batch of jobs that were looked at."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tasks_bridge import measures, series
from tasks_bridge.attend import Outcome
from tasks_bridge.errors import ApiTimeout, BadRequest, BridgeError, NotFound, RateLimited, ServerError, SettingsError
from tasks_bridge.models import RemoteTask
from tasks_bridge.record import RECORD_VERSION, JobRecord, JobState
from tasks_bridge.series import SUM, Key
from tasks_bridge.steps import Action, Step
from tasks_bridge.store.base import Claim, Lease, Lost

START = 1000.0
ESTIMATES = {"task_id": "task_1", "status": "running", "estimated_credits": 2.0, "estimated_seconds": 40}
RUNNING = RemoteTask.model_validate(ESTIMATES)


def a_record(**changes: Any) -> JobRecord:
    record = JobRecord(version=RECORD_VERSION, model="sora-2", key="default", digest="d", created_at=START)
    return record.but(**changes)


def outcome(
    action: Action,
    answer: RemoteTask | BridgeError | None,
    before: JobState = JobState.RUNNING,
    after: JobState = JobState.RUNNING,
    *,
    known: dict[str, Any] | None = None,
    **changes: Any,
) -> Outcome:
    record = a_record(**(known or {}))
    lease = Lease("a", 1, 0, before, record, None, None, now=START + 60)
    return Outcome(lease, action, Step(after, record.but(**changes), 1.0, ""), answer, decided_at=0.0)


def counted(*outcomes: Outcome, held: bool = True) -> dict[Key, float]:
    sums: Counter[Key] = Counter()
    for key, by in measures.of_outcomes(outcomes, [held] * len(outcomes)):
        sums[key] += by  # type: ignore[assignment]
    return dict(sums)


@pytest.mark.parametrize(
    ("answer", "after", "expected"),
    [
        (RUNNING, JobState.RUNNING, "unchanged"),
        (RUNNING, JobState.PENDING, "changed"),
        (RUNNING, JobState.COMPLETED, "ended"),
        (NotFound("", 404, "task_not_found"), JobState.FAILED, "ended"),
        (ApiTimeout("late"), JobState.RUNNING, "failed"),
        (RateLimited("", 429, "rate_limit_exceeded", 30.0), JobState.RUNNING, "rate_limited"),
        (None, JobState.RUNNING, "held_back"),
    ],
)
def test_a_poll_has_one_outcome(answer: RemoteTask | BridgeError | None, after: JobState, expected: str) -> None:
    found = counted(outcome(Action.QUERY, answer, after=after))

    polls = {labels: by for (name, labels, _), by in found.items() if name == series.POLLS.name}
    assert polls == {("sora-2", expected): 1}


@pytest.mark.parametrize(
    ("action", "answer", "expected"),
    [
        (Action.SUBMIT, RUNNING, "accepted"),
        (Action.LOOKUP, RUNNING, "found"),
        (Action.LOOKUP, NotFound("", 404, "task_not_found"), "absent"),
        (Action.SUBMIT, ServerError("", 500, None), "unanswered"),
        (Action.SUBMIT, SettingsError("no key"), "unanswered"),
        (Action.SUBMIT, RateLimited("", 429, "concurrency_limit"), "rate_limited"),
        (Action.SUBMIT, BadRequest("", 400, "invalid_param"), "refused"),
        (Action.SUBMIT, None, "held_back"),
    ],
)
def test_a_submit_has_one_outcome(action: Action, answer: RemoteTask | BridgeError | None, expected: str) -> None:
    found = counted(outcome(action, answer, JobState.QUEUED, JobState.QUEUED))

    assert found == {(series.SUBMITS.name, ("sora-2", expected), 0): 1}


def test_what_somebody_else_has_by_now_counts_as_suppressed_and_as_nothing_else() -> None:
    found = counted(
        outcome(Action.QUERY, RUNNING, after=JobState.COMPLETED, remote={"status": "completed"}),
        outcome(Action.SUBMIT, RUNNING, JobState.QUEUED, remote=ESTIMATES, submitted_at=START + 1),
        held=False,
    )

    assert found == {
        (series.POLLS.name, ("sora-2", "fenced"), 0): 1,
        (series.SUBMITS.name, ("sora-2", "fenced"), 0): 1,
        (series.DUPLICATES.name, ("write",), 0): 2,
    }


def test_an_accepted_job_counts_with_its_wait_and_its_estimate_once() -> None:
    accepted: dict[str, Any] = {"remote": ESTIMATES, "submitted_at": START + 3}

    found = counted(outcome(Action.SUBMIT, RUNNING, JobState.QUEUED, delay_s=1.0, **accepted))
    later = counted(outcome(Action.QUERY, RUNNING, known=accepted))

    assert found[series.SUBMIT_WAIT_S.name, (), SUM] == pytest.approx(2)
    assert found[series.CREDITS_ESTIMATED.name, ("sora-2",), 0] == 2
    assert later == {(series.POLLS.name, ("sora-2", "unchanged"), 0): 1}


def test_an_end_counts_with_duration_lag_cost_and_both_errors_of_the_estimate() -> None:
    known = {"remote": ESTIMATES, "submitted_at": START + 10, "polled_at": START + 50, "estimated_s": 40.0}
    completed = {"task_id": "task_1", "status": "completed", "credits_used": 3.0}
    found = counted(
        outcome(
            Action.QUERY,
            RemoteTask.model_validate(completed),
            after=JobState.COMPLETED,
            known=known,
            remote=completed,
            polled_at=START + 60,
        )
    )

    assert {key: by for key, by in found.items() if key[2] in (0, SUM) and key[0] != series.DETECTION_LAG_S.name} == {
        (series.POLLS.name, ("sora-2", "ended"), 0): 1,
        (series.JOBS_ENDED.name, ("sora-2", "COMPLETED"), 0): 1,
        (series.JOB_S.name, ("sora-2", "COMPLETED"), SUM): 60,
        (series.CREDITS_USED.name, ("sora-2",), 0): 3,
        (series.CREDITS_RATIO.name, ("sora-2",), SUM): 1.5,
        (series.DURATION_RATIO.name, ("sora-2",), SUM): 1.25,
    }
    assert found[series.DETECTION_LAG_S.name, ("sora-2",), SUM] == pytest.approx(10)


def test_a_job_that_was_stopped_tells_nothing_of_lag_and_estimates() -> None:
    known = {"remote": ESTIMATES, "submitted_at": START + 10, "polled_at": START + 50, "estimated_s": 40.0}
    found = counted(
        outcome(
            Action.CANCEL,
            RUNNING,
            after=JobState.CANCELLED,
            known=known,
            remote={"task_id": "task_1", "status": "cancelled"},
        )
    )

    assert {name for name, _, _ in found} == {series.JOBS_ENDED.name, series.JOB_S.name}


def test_a_request_counts_as_failed_only_for_want_of_an_answer() -> None:
    labels = [
        measures.of_request(Action.QUERY, answer, 0.2)[0][0][1]
        for answer in (RUNNING, NotFound("", 404, "task_not_found"), ApiTimeout("late"), ServerError("", 502, None))
    ]

    assert labels == [("query", "answered")] * 2 + [("query", "failed")] * 2


def test_a_claim_counts_what_was_lost_before_it() -> None:
    claims = [Claim("a", JobState.RUNNING, None, lost) for lost in (None, Lost.LEASE, Lost.MESSAGE, Lost.MESSAGE)]

    found = [key[0] for key, _ in measures.of_claims(claims)]
    assert found == [series.LEASES_RECOVERED.name, *[series.MESSAGES_REPEATED.name] * 2]


def test_a_model_of_any_length_makes_a_label_of_some() -> None:
    assert len(measures.label("x" * 10_000)) == measures.LABEL_CHARS
