"""
A job is to end, by a cancel, a revoke or its deadline, at every moment of its life and in every trouble of its cancel.

Each test brings a job to a moment and lets the cause strike there. Whatever the cause, in the end the job has ended
once, its callback came once, ByteSpike has at most one task, that task is cancelled where that was still possible, and
what it cost is known wherever one can look.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from celery.signals import before_task_publish

from tasks_bridge.cadence import PUBLISHED_MAX_S
from tasks_bridge.errors import ApiConnectionError, AuthenticationError, BadRequest, RateLimited, ServerError
from tasks_bridge.record import JobState
from tests.simulation.service import CHARGE, PRICE
from tests.simulation.world import BEGINNING, Process, World, app, completed

DEADLINE_S = 28.0
"""Late enough for a first poll and the end of a lease, too early for a timeout of a request that is under way then."""

REFUSED = ApiConnectionError("connection refused")
LOST = ApiConnectionError("connection lost")


@dataclass(frozen=True)
class Cause:
    """Why a job is to end."""

    name: str
    strike: Callable[[World, str], Any]
    ends: tuple[JobState, str, str] = (JobState.CANCELLED, "JobCancelled", "REVOKED")
    """The job's state, its error and the state of Celery's result."""
    options: dict[str, Any] = field(default_factory=dict)


def reach_the_deadline(world: World, job_id: str) -> None:
    left = BEGINNING + DEADLINE_S - world.now()
    assert left >= 0, "the moment should come before the deadline"
    world.pass_time(left)


def cancel_at_the_deadline(world: World, job_id: str) -> None:
    reach_the_deadline(world, job_id)
    world.cancel(job_id)


EXPIRED = (JobState.EXPIRED, "JobExpired", "FAILURE")
CAUSES = [
    Cause("cancel", World.cancel),
    Cause("revoke", World.revoke),
    Cause("deadline", reach_the_deadline, EXPIRED, {"deadline_s": DEADLINE_S}),
    Cause("both at once", cancel_at_the_deadline, options={"deadline_s": DEADLINE_S}),
]


@pytest.fixture(params=CAUSES, ids=lambda cause: cause.name)
def cause(request: pytest.FixtureRequest) -> Cause:
    found: Cause = request.param
    return found


@pytest.fixture
def worker(world: World) -> Process:
    return world.worker()


@pytest.fixture
def job(world: World, cause: Cause) -> str:
    """A job whose message waits."""
    return world.submit(**cause.options)


def ended(world: World, job_id: str, worker: Process, expected: tuple[JobState, str, str]) -> None:
    """Let everything take its course; the job ends as *expected*, once."""
    world.run_to_end(worker)
    world.go_on(worker, 1000)
    state, callback, result = expected

    assert world.state(job_id) is state
    assert world.ends(job_id) == [callback]
    assert world.result_state(job_id) == result
    assert len(world.service.tasks) <= 1
    assert world.store.open_count() == 0


COMPLETED = (JobState.COMPLETED, "completed", "SUCCESS")


def costs(world: World, job_id: str, credits_used: float | None) -> None:
    """It is known what the job cost, from the job, its error and its result, and it is what ByteSpike charges."""
    record = world.record(job_id)
    assert world.remote(job_id).credits_used == credits_used
    assert record.remote is not None
    assert record.remote.get("credits_used") == credits_used
    info: Any = app.AsyncResult(job_id).result
    known = info if isinstance(info, dict) else info.remote
    assert known == record.remote
    found = world.job(job_id).remote
    assert found is not None
    assert found.credits_used == credits_used


def submitted(world: World, worker: Process, job_id: str, *, status: str = "running", cancel: Any = "billed") -> Any:
    """Have *worker* submit the job and ByteSpike accept it."""
    world.service.cancel = cancel
    world.take_all(worker)
    world.sent("submit").reach()
    world.settle()
    remote = world.remote(job_id)
    remote.status = status
    return remote


def polled(world: World, worker: Process) -> Any:
    """Have *worker* poll the job: the query is under way."""
    world.go_on(worker, 12)
    return world.sent("query")


# -- before and while it is submitted ---------------------------------------------------------------------------------


def test_before_any_worker_has_its_message_nothing_is_submitted(
    world: World, worker: Process, job: str, cause: Cause
) -> None:
    cause.strike(world, job)

    ended(world, job, worker, cause.ends)
    assert world.requests == [], "nobody should have asked ByteSpike for anything"


def test_a_submit_that_is_under_way_is_followed_by_the_cancel(
    world: World, worker: Process, job: str, cause: Cause
) -> None:
    world.take_all(worker)
    cause.strike(world, job)
    world.sent("submit").reach()

    ended(world, job, worker, cause.ends)
    costs(world, job, None)


def test_a_submit_that_has_arrived_and_is_not_answered_yet_is_followed_by_the_cancel(
    world: World, worker: Process, job: str, cause: Cause
) -> None:
    world.take_all(worker)
    world.sent("submit").arrive()
    cause.strike(world, job)
    world.sent("submit").reach()

    ended(world, job, worker, cause.ends)
    costs(world, job, None)


def test_a_submit_whose_answer_is_lost_is_found_and_cancelled(
    world: World, worker: Process, job: str, cause: Cause
) -> None:
    world.take_all(worker)
    world.sent("submit").arrive()
    cause.strike(world, job)
    world.sent("submit").fail(LOST)

    ended(world, job, worker, cause.ends)
    costs(world, job, None)


def test_a_submit_that_is_lost_on_the_way_is_not_repeated(
    world: World, worker: Process, job: str, cause: Cause
) -> None:
    world.take_all(worker)
    cause.strike(world, job)
    world.sent("submit").fail(REFUSED)

    ended(world, job, worker, cause.ends)
    assert job not in world.service.tasks


def test_a_submit_that_arrives_after_the_worker_gave_it_up_is_found_and_cancelled(
    world: World, worker: Process, job: str, cause: Cause
) -> None:
    """It arrives all the same, after that."""
    world.take_all(worker)
    late = world.sent("submit")
    cause.strike(world, job)
    world.pass_time(world.settings.submit_timeout_s)
    assert not late.is_waited_for
    world.go_on(worker, 1)
    late.arrive()

    ended(world, job, worker, cause.ends)
    costs(world, job, None)


def test_a_submit_that_has_failed_is_not_repeated(world: World, worker: Process, job: str, cause: Cause) -> None:
    world.take_all(worker)
    world.sent("submit").fail(ServerError("", 503))
    world.settle()
    cause.strike(world, job)

    ended(world, job, worker, cause.ends)
    assert job not in world.service.tasks


def test_a_submit_whose_worker_died_is_found_and_cancelled(
    world: World, worker: Process, job: str, cause: Cause
) -> None:
    world.take_all(worker)
    world.sent("submit").arrive()
    worker.die()
    cause.strike(world, job)

    ended(world, job, world.worker(), cause.ends)
    costs(world, job, None)


# -- while ByteSpike has it -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "charge"), [("pending", None), ("running", CHARGE)])
def test_a_job_that_waits_for_its_next_poll_is_cancelled_at_once(
    world: World, worker: Process, job: str, cause: Cause, status: str, charge: float | None
) -> None:
    submitted(world, worker, job, status=status)
    cause.strike(world, job)

    ended(world, job, worker, cause.ends)
    costs(world, job, charge)


def test_a_job_with_no_worker_up_is_cancelled_when_one_comes(
    world: World, worker: Process, job: str, cause: Cause
) -> None:
    submitted(world, worker, job)
    worker.die()
    cause.strike(world, job)
    world.pass_time(100)

    ended(world, job, world.worker(), cause.ends)
    costs(world, job, CHARGE)


def test_a_query_that_is_under_way_is_followed_by_the_cancel(
    world: World, worker: Process, job: str, cause: Cause
) -> None:
    submitted(world, worker, job)
    query = polled(world, worker)
    cause.strike(world, job)
    query.reach()
    world.settle()
    world.go_on(worker, world.settings.tick_s)

    assert world.sent().kind == "cancel", "expected the cancel at the next look, not after another countdown"
    ended(world, job, worker, cause.ends)
    costs(world, job, CHARGE)


def test_a_query_whose_answer_is_lost_is_followed_by_the_cancel(
    world: World, worker: Process, job: str, cause: Cause
) -> None:
    submitted(world, worker, job)
    query = polled(world, worker)
    cause.strike(world, job)
    query.fail(LOST)
    world.settle()
    world.go_on(worker, world.settings.tick_s)

    assert world.sent().kind == "cancel", "expected the cancel at the next look, not after another countdown"
    ended(world, job, worker, cause.ends)
    costs(world, job, CHARGE)


def test_a_job_that_completes_at_that_moment_has_completed(
    world: World, worker: Process, job: str, cause: Cause
) -> None:
    remote = submitted(world, worker, job)
    query = polled(world, worker)
    remote.end("completed")
    cause.strike(world, job)
    query.reach()

    ended(world, job, worker, COMPLETED)
    costs(world, job, PRICE)


def test_a_job_that_had_completed_unseen_has_completed(world: World, worker: Process, job: str, cause: Cause) -> None:
    remote = submitted(world, worker, job)
    remote.end("completed")
    cause.strike(world, job)

    ended(world, job, worker, COMPLETED)
    costs(world, job, PRICE)


# -- at its end -------------------------------------------------------------------------------------------------------


def test_a_job_whose_callbacks_are_still_to_be_called_keeps_its_end(
    world: World, worker: Process, job: str, cause: Cause
) -> None:
    remote = submitted(world, worker, job)
    remote.end("completed")
    polled(world, worker).reach()
    world.settle()
    assert world.state(job) is JobState.COMPLETED
    cause.strike(world, job)

    ended(world, job, worker, COMPLETED)
    costs(world, job, PRICE)
    assert not any(request.kind == "cancel" for request in world.requests)


def test_a_job_whose_callbacks_are_being_called_keeps_its_end(
    world: World, worker: Process, job: str, cause: Cause
) -> None:
    submitted(world, worker, job).end("completed")
    polled(world, worker).reach()
    world.settle()

    def strike(**_: Any) -> None:
        before_task_publish.disconnect(strike, sender=completed.name)
        cause.strike(world, job)

    before_task_publish.connect(strike, sender=completed.name, weak=False)

    ended(world, job, worker, COMPLETED)
    costs(world, job, PRICE)


def test_a_job_that_is_over_keeps_its_end_and_nobody_is_asked(
    world: World, worker: Process, job: str, cause: Cause
) -> None:
    submitted(world, worker, job).end("completed")
    world.run_to_end(worker)
    asked = len(world.requests)
    cause.strike(world, job)

    ended(world, job, worker, COMPLETED)
    assert len(world.requests) == asked, "nobody should have asked ByteSpike for anything"


# -- in trouble -------------------------------------------------------------------------------------------------------


def cancelling(world: World, worker: Process, job: str, cause: Cause, **remote: Any) -> Any:
    """Bring the job so far that its cancel is under way."""
    submitted(world, worker, job, **remote)
    cause.strike(world, job)
    world.go_on(worker, world.settings.tick_s)
    return world.sent("cancel")


def test_a_cancel_waits_for_a_bytespike_that_is_down(world: World, worker: Process, job: str, cause: Cause) -> None:
    request = cancelling(world, worker, job, cause)
    for _ in range(5):
        request.fail(REFUSED)
        world.settle()
        assert not world.state(job).is_terminal
        world.go_on(worker, PUBLISHED_MAX_S + 1)
        request = world.sent("cancel")

    ended(world, job, worker, cause.ends)
    costs(world, job, CHARGE)


@pytest.mark.parametrize("has_arrived", [True, False])
def test_a_cancel_that_is_lost_on_the_way_there_or_back_is_repeated(
    world: World, worker: Process, job: str, cause: Cause, has_arrived: bool
) -> None:
    request = cancelling(world, worker, job, cause)
    if has_arrived:
        request.arrive()
    request.fail(LOST)

    ended(world, job, worker, cause.ends)
    costs(world, job, CHARGE)


@pytest.mark.parametrize("has_arrived", [True, False])
def test_a_cancel_whose_worker_dies_is_repeated_by_another(
    world: World, worker: Process, job: str, cause: Cause, has_arrived: bool
) -> None:
    request = cancelling(world, worker, job, cause)
    if has_arrived:
        request.arrive()
    worker.die()

    ended(world, job, world.worker(), cause.ends)
    costs(world, job, CHARGE)


def test_a_job_whose_cancel_is_refused_ends_as_its_task_does(
    world: World, worker: Process, job: str, cause: Cause
) -> None:
    """It refuses the cancel: what comes of the task is how the job ends."""
    request = cancelling(world, worker, job, cause, cancel="refused")
    for _ in range(3):
        request.reach()
        world.settle()
        assert world.state(job) is JobState.RUNNING
        world.go_on(worker, PUBLISHED_MAX_S + 1)
        request = world.sent("cancel")
    request.service.tasks[job].end("completed")

    ended(world, job, worker, COMPLETED)
    costs(world, job, PRICE)


def test_a_job_that_turns_out_to_be_complete_at_the_cancel_has_completed(
    world: World, worker: Process, job: str, cause: Cause
) -> None:
    cancelling(world, worker, job, cause, cancel="completes")

    ended(world, job, worker, COMPLETED)
    costs(world, job, PRICE)


def test_a_cancel_that_fails_because_the_task_is_over_is_no_failure(
    world: World, worker: Process, job: str, cause: Cause
) -> None:
    """The contract has a no-op with 200 there; one that answers 400 is believed about the state, by a query."""
    request = cancelling(world, worker, job, cause)
    request.service.tasks[job].end("completed")
    request.fail(BadRequest("too late", 400, "invalid_param"))

    ended(world, job, worker, COMPLETED)
    costs(world, job, PRICE)


def test_a_cancel_whose_key_is_refused_for_a_while_is_repeated(
    world: World, worker: Process, job: str, cause: Cause
) -> None:
    cancelling(world, worker, job, cause).fail(AuthenticationError("", 401, "invalid_api_key"))

    ended(world, job, worker, cause.ends)
    costs(world, job, CHARGE)


def test_a_job_whose_task_is_gone_ends_all_the_same(world: World, worker: Process, job: str, cause: Cause) -> None:
    submitted(world, worker, job)
    world.service.tasks.clear()
    cause.strike(world, job)

    ended(world, job, worker, cause.ends)
    assert world.record(job).is_unconfirmed, "nobody knows what it cost"


def test_a_cancel_that_is_never_confirmed_is_repeated_at_leisure_until_the_grace_ends(
    world: World, worker: Process, job: str, cause: Cause
) -> None:
    submitted(world, worker, job, cancel="refused")
    cause.strike(world, job)

    ended(world, job, worker, EXPIRED)
    assert world.record(job).is_unconfirmed
    tries = sum(request.kind == "cancel" for request in world.requests)
    at_leisure = 10 + 2 * (world.now() - BEGINNING) / PUBLISHED_MAX_S
    assert 10 <= tries <= at_leisure, "expected it to be tried to the end, and not all the time"


# -- more than once ---------------------------------------------------------------------------------------------------


def test_several_cancels_from_several_callers_are_one(world: World, worker: Process) -> None:
    job = world.submit(deadline_s=DEADLINE_S)
    submitted(world, worker, job)
    world.job(job).cancel("the first")
    world.job(job).cancel("the second")
    world.revoke(job)
    world.go_on(worker)
    world.sent("cancel").arrive()
    world.job(job).cancel("while it is cancelled")
    reach_the_deadline(world, job)
    assert world.cancel(job), "expected it to be open still"

    ended(world, job, worker, (JobState.CANCELLED, "JobCancelled", "REVOKED"))
    costs(world, job, CHARGE)
    assert world.store.get([job])[0].cancel == "the first"
    assert not world.cancel(job)
    world.revoke(job)
    ended(world, job, worker, (JobState.CANCELLED, "JobCancelled", "REVOKED"))


# -- `expires`: not submitted by then ---------------------------------------------------------------------------------

EXPIRES_S = 28.0


@pytest.fixture
def limited(world: World) -> str:
    """A job that is to be submitted in half a minute, or not at all."""
    return world.submit(expires=EXPIRES_S)


def test_a_job_whose_time_to_submit_passes_before_a_worker_has_its_message_is_not_submitted(
    world: World, worker: Process, limited: str
) -> None:
    world.pass_time(EXPIRES_S)

    ended(world, limited, worker, EXPIRED)
    assert world.requests == []


def test_a_job_whose_time_to_submit_passes_while_its_submit_is_held_back_is_not_submitted(
    world: World, worker: Process, limited: str
) -> None:
    world.take_all(worker)
    world.sent("submit").fail(RateLimited("", 429, "rate_limit_exceeded", 100.0))
    world.settle()
    world.go_on(worker, EXPIRES_S)

    assert world.state(limited) is JobState.EXPIRED, "expected it to end at that moment, not when it may submit again"
    ended(world, limited, worker, EXPIRED)
    assert [request.kind for request in world.requests] == ["submit"]


@pytest.mark.parametrize("fate", ["answered", "lost on its way back", "that of a dead worker"])
def test_a_job_whose_submit_arrived_in_time_goes_on(world: World, worker: Process, limited: str, fate: str) -> None:
    world.take_all(worker)
    world.sent("submit").arrive()
    world.pass_time(EXPIRES_S)
    if fate == "answered":
        world.sent("submit").reach()
    elif fate == "lost on its way back":
        world.sent("submit").fail(LOST)
    else:
        worker.die()
    world.remote(limited).end("completed")

    ended(world, limited, world.worker(), COMPLETED)
    assert sum(request.kind == "submit" for request in world.requests) == 1, "expected it to be looked for"


@pytest.mark.parametrize("fate", ["lost on its way", "that of a dead worker"])
def test_a_job_whose_submit_did_not_arrive_in_time_expires(
    world: World, worker: Process, limited: str, fate: str
) -> None:
    world.take_all(worker)
    world.pass_time(EXPIRES_S)
    if fate == "lost on its way":
        world.sent("submit").fail(REFUSED)
    else:
        worker.die()

    ended(world, limited, world.worker(), EXPIRED)
    assert world.service.tasks == {}
    assert sum(request.kind == "submit" for request in world.requests) == 1


def test_a_job_that_was_submitted_in_time_does_not_expire(world: World, worker: Process, limited: str) -> None:
    remote = submitted(world, worker, limited)
    world.go_on(worker, EXPIRES_S)
    remote.end("completed")

    ended(world, limited, worker, COMPLETED)
