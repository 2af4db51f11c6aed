"""
A worker submits a job that it has lost meanwhile, and that has ended without it: nobody waits for that task.

It can't be prevented altogether, for a process may stand still between its last look at the clock and its request. So
the worker that made such a task sees to it that it is cancelled.
"""

from __future__ import annotations

import logging

import pytest

from tasks_bridge.errors import ApiConnectionError, BadRequest, InsufficientBalance, ServerError
from tasks_bridge.record import JobState
from tests.simulation.service import CHARGE
from tests.simulation.world import Process, World

LOST = ApiConnectionError("connection lost")


@pytest.fixture
def late(world: World) -> Process:
    """A worker that stands still just before it sends the job's submit."""
    late = world.worker()
    late.freezes_before = "submit"
    return late


@pytest.fixture
def other(world: World) -> Process:
    """A worker that does its work."""
    return world.worker()


def end_without_it(world: World, late: Process, other: Process) -> str:
    """A job is cancelled while *late* stands still with it, and ended by *other*, for ByteSpike knows no such task."""
    job_id = world.submit()
    world.take_all(late)
    assert world.requests == [], "expected it to stand still before it has sent anything"
    world.cancel(job_id)
    world.run_to_end(other)
    assert world.state(job_id) is JobState.CANCELLED
    assert job_id not in world.service.tasks
    return job_id


def test_the_task_is_cancelled(world: World, late: Process, other: Process) -> None:
    job_id = end_without_it(world, late, other)

    late.thaw()
    world.sent("submit").reach()
    world.settle()
    world.sent("cancel").reach()
    world.settle()

    assert world.remote(job_id).status == "cancelled"
    assert world.ends(job_id) == ["JobCancelled"], "the job has ended before, and ends once"
    assert not late.is_busy


def test_a_cancel_that_fails_is_repeated_until_it_is_confirmed(world: World, late: Process, other: Process) -> None:
    job_id = end_without_it(world, late, other)
    late.thaw()
    world.sent("submit").reach()
    world.settle()

    for answer in (LOST, ServerError("", 503), BadRequest("", 400, None)):
        world.sent("cancel").fail(answer)
        if not isinstance(answer, ApiConnectionError):  # it may be refused because the task is over
            world.next_request("query").reach()
        world.next_request("cancel")
    world.sent("cancel").reach()
    world.settle()

    assert world.remote(job_id).status == "cancelled"
    assert not late.is_busy


def test_a_cancel_that_is_never_confirmed_is_given_up_loudly(
    world: World, late: Process, other: Process, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = end_without_it(world, late, other)
    late.thaw()
    world.sent("submit").reach()
    world.settle()

    until = world.loop.time() + world.settings.cancel_grace_s
    while world.loop.time() < until:
        world.sent("cancel").fail(LOST)
        world.next_request("cancel")
    world.sent("cancel").fail(LOST)
    world.settle()

    assert not late.is_busy, "expected it to be given up"
    remote = world.remote(job_id)
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert [remote.task_id in error and job_id in error for error in errors] == [True], "somebody should be told"


def test_its_charge_is_told(world: World, late: Process, other: Process, caplog: pytest.LogCaptureFixture) -> None:
    """The job has ended, and its record is closed: the log is where the charge can still be seen."""
    job_id = end_without_it(world, late, other)
    world.service.cancel = "billed"
    late.thaw()
    world.sent("submit").arrive()
    remote = world.remote(job_id)
    remote.status = "running"
    world.sent("submit").reach()
    world.settle()
    world.sent("cancel").reach()
    world.settle()

    assert remote.credits_used == CHARGE
    assert f"credits_used={CHARGE}" in caplog.text


@pytest.mark.parametrize("is_late", [False, True])
def test_a_task_of_which_it_heard_nothing_is_cancelled_as_well(
    world: World, late: Process, other: Process, is_late: bool
) -> None:
    """It goes on when its request has long timed out, and the answer is lost."""
    job_id = end_without_it(world, late, other)
    late.thaw()
    submit = world.sent("submit")
    if not is_late:
        submit.arrive()
    submit.fail(LOST)
    world.next_request("cancel").reach()
    if is_late:
        submit.arrive()
        world.next_request("cancel").reach()
    world.settle()

    assert world.remote(job_id).status == "cancelled"
    assert not late.is_busy


def test_a_submit_that_made_nothing_is_looked_for_as_long_as_it_may_take(
    world: World, late: Process, other: Process
) -> None:
    job_id = end_without_it(world, late, other)
    late.thaw()
    world.sent("submit").fail(LOST)
    first = world.next_request("cancel")
    while late.is_busy:
        if world.sent().is_waited_for:
            world.sent().reach()
        world.pass_time(1)

    assert world.sent("cancel").sent_at >= first.sent_at + world.settings.submit_timeout_s
    assert job_id not in world.service.tasks


def test_a_submit_that_was_refused_is_not_looked_for(world: World, late: Process, other: Process) -> None:
    end_without_it(world, late, other)
    late.thaw()
    world.sent("submit").fail(InsufficientBalance("", 402, "insufficient_balance"))
    world.settle()

    assert not late.is_busy


def test_an_end_that_is_about_to_be_written_when_it_looks_is_noticed(
    world: World, late: Process, other: Process
) -> None:
    """The other worker has its last "no such task" in hand: the job is still open."""
    job_id = world.submit()
    world.take_all(late)
    world.cancel(job_id)
    world.go_on(other, world.settings.lease_s)
    world.sent("cancel").reach()
    world.settle()
    world.go_on(other, world.settings.submit_timeout_s)
    other.freeze()
    world.sent("cancel").reach()

    late.thaw()
    world.sent("submit").reach()
    world.settle()
    assert not world.state(job_id).is_terminal
    other.thaw()
    world.settle()
    assert world.state(job_id) is JobState.CANCELLED
    world.pass_time(world.settings.lease_s)
    world.sent("cancel").reach()
    world.settle()

    assert world.remote(job_id).status == "cancelled"
    assert not late.is_busy


def test_a_worker_that_can_not_ask_the_store_asks_until_it_can(world: World, late: Process, other: Process) -> None:
    job_id = end_without_it(world, late, other)
    late.is_cut_off = True
    late.thaw()
    world.sent("submit").reach()
    world.pass_time(100)
    assert world.sent().kind == "submit", "it doesn't know yet whether the job has ended"

    late.is_cut_off = False
    world.pass_time(world.settings.lease_s)
    world.sent("cancel").reach()
    world.settle()

    assert world.remote(job_id).status == "cancelled"
    assert not late.is_busy


def test_a_task_that_a_late_look_finds_is_cancelled_as_well(world: World, late: Process, other: Process) -> None:
    """A submit was lost long ago, and arrives while the look for it is under way."""
    late.freezes_before = None
    job_id = world.submit()
    world.take_all(late)
    lost = world.sent("submit")
    lost.fail(LOST)
    world.settle()
    late.freezes_before = "query"
    world.go_on(late, 400)
    world.cancel(job_id)
    world.run_to_end(other)
    assert world.state(job_id) is JobState.CANCELLED

    lost.arrive()
    late.thaw()
    world.sent("query").reach()
    world.settle()
    world.sent("cancel").reach()
    world.settle()

    assert world.remote(job_id).status == "cancelled"


def test_a_job_that_another_worker_goes_on_with_is_left_to_it(world: World, late: Process, other: Process) -> None:
    job_id = world.submit()
    world.take_all(late)
    world.go_on(other, world.settings.lease_s)
    submit = world.sent("submit")
    late.thaw()
    world.sent("submit").reach()
    world.settle()
    submit.reach()
    world.settle()
    remote = world.remote(job_id)
    world.pass_time(world.settings.lease_s)
    assert not late.is_busy
    remote.end("completed")
    world.run_to_end(other)

    assert world.state(job_id) is JobState.COMPLETED
    assert world.ends(job_id) == ["completed"]
    assert {request.kind for request in world.requests} == {"submit", "query"}, "expected no cancel"


def test_a_task_of_a_job_that_is_forgotten_is_cancelled(world: World, late: Process, other: Process) -> None:
    job_id = end_without_it(world, late, other)
    world.store.client.delete(*world.store.client.keys("*" + job_id))
    assert world.store.get([job_id]) == [None]

    late.thaw()
    world.sent("submit").reach()
    world.settle()
    world.sent("cancel").reach()

    assert world.remote(job_id).status == "cancelled"


# -- what makes it rare -----------------------------------------------------------------------------------------------


def test_a_worker_whose_lease_has_run_out_does_not_submit(world: World, late: Process, other: Process) -> None:
    job_id = world.submit()
    late.freeze()
    world.take_all(late)
    world.pass_time(world.settings.lease_s)

    late.thaw()
    world.settle()
    assert world.requests == []
    assert not late.is_busy

    world.go_on(other)
    world.sent("submit").reach()
    world.settle()
    assert world.state(job_id) is JobState.PENDING


@pytest.mark.parametrize("cause", ["cancel", "deadline"])
def test_a_job_is_not_ended_while_the_submit_of_a_dead_worker_may_be_on_its_way(
    world: World, other: Process, cause: str
) -> None:
    """However long ago the job was started: nobody knows when the dead worker sent it."""
    dead = world.worker()
    job_id = world.submit(deadline_s=120.0)
    world.pass_time(100)
    world.take_all(dead)
    submit = world.sent("submit")
    dead.die()
    if cause == "cancel":
        world.cancel(job_id)
    world.go_on(other, 20)
    world.sent("cancel").reach()
    world.settle()
    world.pass_time(world.settings.submit_timeout_s - 1)
    submit.arrive()
    world.run_to_end(other)

    assert world.remote(job_id).status == "cancelled"
    assert world.ends(job_id) == ["JobCancelled" if cause == "cancel" else "JobExpired"]


def test_an_answer_is_no_newer_than_its_question(world: World, other: Process) -> None:
    """ByteSpike says that there is no such task, the task comes, and then the answer does."""
    dead = world.worker()
    job_id = world.submit()
    world.take_all(dead)
    submit = world.sent("submit")
    dead.die()
    world.cancel(job_id)
    world.go_on(other, 16)
    world.sent("cancel").reach()
    world.settle()
    world.go_on(other, world.settings.submit_timeout_s - 5)
    world.sent("cancel").arrive()
    submit.arrive()
    world.pass_time(10)
    world.sent("cancel").reach()
    world.run_to_end(other)

    assert world.remote(job_id).status == "cancelled"


def test_a_job_is_not_failed_while_the_submit_of_a_dead_worker_may_be_on_its_way(world: World, other: Process) -> None:
    """The repeated submit is refused, the first one was not."""
    dead = world.worker()
    job_id = world.submit()
    world.pass_time(100)
    world.take_all(dead)
    submit = world.sent("submit")
    dead.die()
    world.go_on(other, world.settings.lease_s)
    world.sent("submit").fail(InsufficientBalance("", 402, "insufficient_balance"))
    world.settle()
    world.go_on(other, world.settings.tick_s)
    world.sent("query").reach()
    world.settle()
    world.pass_time(world.settings.submit_timeout_s - 1)
    submit.arrive()
    world.remote(job_id).end("completed")
    world.run_to_end(other)

    assert world.state(job_id) is JobState.COMPLETED
