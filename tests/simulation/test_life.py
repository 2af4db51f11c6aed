"""
The life of jobs under everything that can happen to them, in any order: what was promised holds at the end.

Workers take messages late, twice or never, stand still and go on, lose the store, and die; requests arrive late, and
their answers get lost; callers cancel, deadlines pass, clocks jump. In the end the troubles stop, and one more worker
does what is left to do.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any, cast

import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tasks_bridge.errors import ApiConnectionError, BridgeError, InsufficientBalance, RateLimited, ServerError
from tasks_bridge.record import JobState
from tasks_bridge.store import Store
from tasks_bridge.store.memory import MemoryStore
from tasks_bridge.store.redis import RedisStore
from tests.simulation.service import Kind, Request
from tests.simulation.world import BEGINNING, Process, World

MOST_JOBS = 2
MOST_WORKERS = 3
LONGEST_STEP_S = 10.0
"""Shorter than any request's timeout."""

KINDS = ("submit", "query", "cancel")
ERRORS: dict[str, BridgeError] = {
    "is lost": ApiConnectionError("connection lost"),
    "503": ServerError("", 503),
    "429": RateLimited("", 429, "rate_limit_exceeded", 5.0),
    "402": InsufficientBalance("", 402, "insufficient_balance"),
}
which = st.integers(0, 3)
kinds = st.sampled_from(KINDS)
deadlines = st.sampled_from([None, 20.0, 100.0])
times_to_submit = st.sampled_from([None, None, 30.0])
policies = st.sampled_from(["billed", "free", "completes", "refused"])
ENDS = {
    JobState.COMPLETED: ("completed", "SUCCESS"),
    JobState.CANCELLED: ("JobCancelled", "REVOKED"),
    JobState.EXPIRED: ("JobExpired", "FAILURE"),
}


class Life(RuleBasedStateMachine):
    """
    One world, up to two jobs and three workers.

    While time passes all goes well by itself: workers wake what is due, take the messages in turn, and ByteSpike
    answers. The rules are what goes wrong with that.
    """

    make_store: Callable[[Callable[[], float]], Store]

    @initialize(
        held=st.sets(kinds, max_size=2),
        frozen_before=st.one_of(st.none(), kinds),
        messages_come=st.sampled_from([1, 1, 2, 0]),
        is_time_wild=st.integers(0, 3),
        deadline_s=deadlines,
        expires=times_to_submit,
        cancel=policies,
    )
    def begin(
        self,
        held: set[str],
        frozen_before: Any,
        messages_come: int,
        is_time_wild: int,
        deadline_s: float | None,
        expires: float | None,
        cancel: Any,
    ) -> None:
        self.world = World(type(self).make_store)
        for _ in range(2):
            self.world.worker().freezes_before = frozen_before
        self.turn = 0
        self.held = held
        """Kinds of requests that stay under way until it is decided what comes of them."""
        self.messages_come = messages_come
        """How often a message is delivered; 0: every second one is lost."""
        self.is_time_wild = is_time_wild == 0
        self.jobs: list[str] = []
        self.wished: set[str] = set()
        """Jobs that somebody wanted cancelled while they were open."""
        self.ended: dict[str, JobState] = {}
        self.has_jumped = False
        self.a_job_is_submitted(deadline_s, expires, cancel)
        self.time_passes(1.0)
        self.world.worker()

    @precondition(lambda self: len(self.jobs) < MOST_JOBS)
    @rule(deadline_s=deadlines, expires=times_to_submit, cancel=policies)
    def a_job_is_submitted(self, deadline_s: float | None, expires: float | None, cancel: Any) -> None:
        self.world.service.cancel = cancel
        self.jobs.append(self.world.submit(deadline_s=deadline_s, **({"expires": expires} if expires else {})))

    @rule(which=which, is_revoke=st.booleans())
    def a_job_is_cancelled(self, which: int, is_revoke: bool) -> None:
        job = pick(self.jobs, which)
        if not self.world.state(job).is_terminal:
            self.wished.add(job)
        if is_revoke:
            self.world.revoke(job)
        else:
            assert self.world.cancel(job) == (job not in self.ended)

    # -- time ---------------------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([16.0, 1.0, 12.0, 30.0, 61.0, 100.0, 400.0]))
    def time_passes(self, seconds: float) -> None:
        until = self.world.loop.time() + seconds
        while True:
            self.all_goes_on()
            left = until - self.world.loop.time()
            if left <= 0:
                return
            step_s = max(self.world.store.next_due_s() or 0.0, 0.25) if self.well() else LONGEST_STEP_S
            self.world.pass_time(min(step_s, left, LONGEST_STEP_S))

    @precondition(lambda self: self.is_time_wild)
    @rule(seconds=st.sampled_from([-5.0, 5.0, 20.0]))
    def the_clock_of_the_store_jumps(self, seconds: float) -> None:
        self.has_jumped = True
        self.world.skew += seconds

    def all_goes_on(self) -> None:
        """What happens by itself at this moment."""
        due_s = self.world.store.next_due_s()
        for worker in self.well() if due_s is not None and due_s <= 0 else ():
            worker.wake()
        for message in list(self.world.mail()):
            if not self.well():
                return
            self.world.messages.remove(message)
            self.turn += 1
            for again in range(self.messages_come or self.turn % 2):
                if self.well():  # the first to take it may stand still over it
                    pick(self.well(), self.turn + again).take(message)
        for request in self.waited_for():
            if request.kind not in self.held:
                request.reach()
        self.world.settle()

    # -- workers, requests, tasks -------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.alive()) < MOST_WORKERS)
    @rule()
    def a_worker_starts(self) -> None:
        self.world.worker()

    @precondition(lambda self: self.alive())
    @rule(which=which, fate=st.sampled_from(["dies", "stands still", "goes on", "loses the store", *KINDS]))
    def something_happens_to_a_worker(self, which: int, fate: str) -> None:
        """The name of a request: it stands still just before it sends one."""
        worker = pick(self.alive(), which)
        match fate:
            case "dies":
                worker.die()
            case "stands still":
                worker.freeze()
            case "goes on":
                worker.is_cut_off = False
                worker.thaw()
            case "loses the store":
                worker.is_cut_off = True
            case kind:
                worker.freezes_before = cast("Kind", kind)
        self.world.settle()

    @rule(kind=kinds)
    def requests_of_a_kind_begin_or_cease_to_stay_under_way(self, kind: str) -> None:
        self.held ^= {kind}

    @precondition(lambda self: self.under_way() or self.waited_for())
    @rule(which=which, fate=st.sampled_from(["arrives", "is answered", *ERRORS]))
    def something_comes_of_a_request(self, which: int, fate: str) -> None:
        request = pick([*self.waited_for(), *self.under_way()], which)
        if fate != "arrives" and not request.is_waited_for:
            return
        match fate:
            case "arrives":
                request.arrive()
            case "is answered":
                request.reach()
            case "429" | "402" if request.has_arrived or request.kind != "submit":
                return
            case error:
                if error in ("429", "402"):
                    request.answer = ERRORS[error]  # ByteSpike has it, and has refused it
                request.fail(ERRORS[error])
        self.world.settle()

    @precondition(lambda self: self.world.service.tasks)
    @rule(which=which, status=st.sampled_from(["running", "completed", "failed"]))
    def a_task_goes_on(self, which: int, status: str) -> None:
        task = pick(list(self.world.service.tasks.values()), which)
        if status != "running":
            task.end(status)
        elif not task.is_terminal:
            task.status = status

    # -- what holds ---------------------------------------------------------------------------------------------------

    def well(self) -> list[Process]:
        return [worker for worker in self.world.workers if worker.is_well and not worker.is_cut_off]

    def alive(self) -> list[Process]:
        return [worker for worker in self.world.workers if not worker.is_dead]

    def under_way(self) -> list[Request]:
        """Requests that may still arrive: ByteSpike takes them in the time that a submit may take, or never."""
        oldest = self.world.loop.time() - self.world.settings.submit_timeout_s
        return [request for request in self.world.requests if not request.has_arrived and request.sent_at > oldest]

    def waited_for(self) -> list[Request]:
        return [request for request in self.world.requests if request.is_waited_for]

    @invariant()
    def a_job_ends_once(self) -> None:
        for job in getattr(self, "jobs", ()):
            state = self.world.state(job)
            if state.is_terminal:
                assert self.ended.setdefault(job, state) is state, "a final state is never left"

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            self.everything_ends()
            self.a_job_ends_once()
            for job in self.jobs:
                self.promises_are_kept(job)
        finally:
            self.world.close()

    def everything_ends(self) -> None:
        """The troubles are over, and one more worker is up."""
        for worker in self.alive():
            worker.is_cut_off = False
            worker.thaw()
        last = self.world.worker()
        self.world.run_to_end(last)
        while any(worker.is_busy for worker in self.alive()):
            for request in self.waited_for():
                request.reach()
            self.world.pass_time(1)
            assert self.world.loop.time() < 1e5, "every worker should come to rest"

    def promises_are_kept(self, job: str) -> None:
        world, task = self.world, self.world.service.tasks.get(job)
        state, record = world.state(job), world.record(job)
        assert state.is_terminal
        assert len(world.ends(job)) == 1, "one callback should have been called, once"
        if state in ENDS:
            assert (world.ends(job)[0], world.result_state(job)) == ENDS[state]
        assert state is not JobState.CANCELLED or job in self.wished
        if task is None:
            assert state is not JobState.COMPLETED
            return
        if state is JobState.COMPLETED:
            assert task.status == "completed"
        if record.is_unconfirmed:
            return
        if record.remote is None:
            if not self.has_jumped:
                assert record.ending_at is not None
                sent_at = BEGINNING + task.made_by.sent_at
                assert sent_at > record.ending_at, "what was sent before the end was decided should have been found"
            # nobody could tell that it would come; who made it cancels it, unless it dies first
            assert task.is_terminal or task.made_by.sender.is_dead or task.cancel == "refused"
            return
        assert task.is_terminal, f"a task should not be left running for a job that is {state}"
        assert record.remote.get("credits_used") == task.credits_used, "what was charged should be known"
        assert (state is JobState.COMPLETED) == (task.status == "completed")


def pick(choices: Any, index: int) -> Any:
    return choices[index % len(choices)]


def run(make_store: Callable[[Callable[[], float]], Store], examples: int) -> None:
    machine = type("LifeIn", (Life,), {"make_store": staticmethod(make_store)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,  # the same lives on every machine
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_whatever_happens_jobs_end_once_and_no_task_is_left_running() -> None:
    run(MemoryStore, 40)


def test_whatever_happens_jobs_end_once_in_redis_too(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        run(lambda clock: RedisStore(client, namespace=f"test-{uuid.uuid4().hex}", clock=clock), 10)
