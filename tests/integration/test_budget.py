"""
The spend guard on a real server: no overshoot whoever reserves at once, nothing changed by doing it twice or late, and
books that are the sandbox's.
"""

from __future__ import annotations

import copy
import logging
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import redis
from celery.result import AsyncResult
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks_bridge import (
    Client,
    JobState,
    Spending,
    SpendLimitReached,
    StoreError,
    generate,
    spending,
    spending_by_label,
)
from tasks_bridge.budget import Budget
from tasks_bridge.record import RECORD_VERSION, JobRecord
from tasks_bridge.sandbox import SandboxServer
from tasks_bridge.settings import Settings
from tasks_bridge.store import Purpose, RedisStore
from tasks_bridge.store.memory import MemoryStore
from tasks_bridge.testing.books import Ledger, MemoryBudget
from tests.integration.lab import API_KEY, CALLS, END_S, MODEL, RUNS, Lab, apologise, calls, eventually, publish

PERIOD_S = 100.0
LIMIT = 10.0


class Books:
    """One worker's view of the books of a namespace, and jobs to book."""

    store: Any
    budget: Budget

    def __init__(self, url: str, namespace: str, **changes: Any) -> None:
        self._begin(changes)
        self.store = RedisStore(redis.Redis.from_url(url), namespace=namespace)
        self.budget = Budget(self.store, self.settings, clock=lambda: self.now)

    def _begin(self, changes: dict[str, Any]) -> None:
        self.now = 1_000_050.0
        values = {"spend_limit": LIMIT, "spend_period_s": PERIOD_S, "result_ttl_s": 60.0, **changes}
        self.settings = Settings(**values)
        self.records: dict[str, JobRecord] = {}

    def job(self, job_id: str, **fields: Any) -> str:
        """Register a job, and return its id."""
        values = {"version": RECORD_VERSION, "model": "m", "key": "k", "digest": "d", "created_at": 0.0, **fields}
        self.records[job_id] = JobRecord(**values)
        self.store.register(job_id, self.records[job_id], b"{}", delay_s=60, published=True)
        return job_id

    def reserve(self, job_id: str, **fields: Any) -> SpendLimitReached | bool:
        if job_id not in self.records:
            self.job(job_id, **fields)
        return self.budget.reserve(job_id, self.records[job_id])

    def adjust(self, job_id: str, estimate: float, *, force: bool = False) -> SpendLimitReached | None:
        return self.budget.adjust(job_id, self.records[job_id], estimate, force=force)

    def settle(self, job_id: str, used: float | None) -> None:
        self.budget.settle(job_id, used)

    def end(self, job_id: str) -> None:
        """Give the job a terminal state, as a worker's last write does."""
        lease = self.store.begin([job_id], Purpose.GENERATE, 60)[0]
        assert self.store.write(lease, JobState.CANCELLED, lease.record, delay_s=60, published=True)

    def read(self, label: str | None = None) -> tuple[float, float]:
        books = self.budget.books(label)
        return books.used, books.reserved

    def everything(self) -> dict[Any, Any]:
        """What is in Redis of the guard."""
        client, keys = self.store.client, self.store.key("spend", "*")
        return {key: client.hgetall(key) for key in client.scan_iter(keys.replace("{", r"\{"))}


class BooksInMemory(Books):
    """The same of the twin that tests of users have."""

    def __init__(self, store: MemoryStore, ledger: Ledger, **changes: Any) -> None:
        self._begin(changes)
        self.store, self._ledger = store, ledger
        self.budget = MemoryBudget(store, self.settings, clock=lambda: self.now, ledger=ledger)

    def everything(self) -> dict[Any, Any]:
        return copy.deepcopy(self._ledger.entries)


@pytest.fixture(params=["packaged", "installed", "memory"])
def books(request: pytest.FixtureRequest, namespace: str) -> Callable[..., Books]:
    """Makes the view of one worker; all of them see the same books."""
    if request.param == "memory":
        store, ledger = MemoryStore(), Ledger()
        return lambda **changes: BooksInMemory(store, ledger, **changes)
    name = {"packaged": "redis_url", "installed": "installed_redis_url"}[request.param]
    url = str(request.getfixturevalue(name))
    return lambda **changes: Books(url, namespace, **changes)


def refused(answer: object) -> SpendLimitReached:
    assert isinstance(answer, SpendLimitReached), f"expected a refusal, not {answer!r}"
    return answer


# -- the three steps --------------------------------------------------------------------------------------------------


def test_a_job_reserves_is_corrected_and_settles(books):
    one = books()

    assert one.reserve("job", max_credits=4) is True
    assert one.read() == (0, 4)
    assert one.adjust("job", 1.5) is None
    assert one.read() == (0, 1.5)
    one.settle("job", 1.47)
    assert one.read() == (1.47, 0)


def test_a_job_that_was_free_leaves_nothing(books):
    one = books()
    one.reserve("job", max_credits=4)

    one.settle("job", 0)

    assert one.read() == (0, 0)


def test_what_a_job_has_cost_where_nobody_knows_is_what_it_reserved(books):
    one = books()
    one.reserve("job", max_credits=4)
    one.adjust("job", 3)

    one.settle("job", None)

    assert one.read() == (3, 0)


def test_a_reservation_over_the_limit_is_refused_and_says_why(books):
    one, two = books(), books()
    one.reserve("first", max_credits=7)

    error = refused(two.reserve("second", max_credits=4))

    assert error.args == ("second", "all", LIMIT, 4.0, 7.0)
    assert one.read() == (0, 7)
    assert two.reserve("third", max_credits=3) is True, "up to the limit itself is allowed"


def test_used_credits_count_as_reserved_ones_do(books):
    one = books()
    one.reserve("first", max_credits=7)
    one.settle("first", 7)

    assert refused(one.reserve("second", max_credits=4)).booked == 7


def test_a_spent_budget_refuses_jobs_of_which_nothing_is_known(books):
    one = books()
    one.reserve("first", max_credits=LIMIT)

    assert refused(one.reserve("second", model="new")).scope == "all"


def test_each_label_has_a_limit_of_its_own(books):
    one = books(spend_limit_per_label=3.0)

    assert one.reserve("a1", label="a", max_credits=2) is True
    error = refused(one.reserve("a2", label="a", max_credits=2))
    assert one.reserve("b1", label="b", max_credits=2) is True
    assert one.reserve("nobody's", max_credits=5) is True

    assert error.args == ("a2", "label:a", 3.0, 2.0, 2.0)
    assert (one.read("a"), one.read("b"), one.read()) == ((0, 2), (0, 2), (0, 9))
    one.settle("a1", 1.5)
    assert (one.read("a"), one.read()) == ((1.5, 0), (1.5, 7))
    assert one.reserve("a3", label="a", max_credits=1.5) is True


def test_a_label_that_looks_like_a_field_has_books_of_its_own(books):
    one = books()
    for label in ("used", "reserved", "model:m", "all", "a:b", "a"):
        assert one.reserve(f"job-{label.replace(':', '.')}", label=label, max_credits=1) is True
        assert one.read(label) == (0, 1)

    assert one.read() == (0, 6)


def test_no_job_reserves_more_than_the_limit_for_a_job(books):
    one = books(spend_limit_per_job=2.0)

    one.reserve("job", max_credits=5)

    assert one.read() == (0, 2)


def test_a_limit_for_a_job_alone_refuses_no_reservation(books):
    one = books(spend_limit=None, spend_limit_per_job=2.0)

    assert all(one.reserve(f"job-{n}", max_credits=2) is True for n in range(50))
    assert one.read() == (0, 100)


# -- guesses ----------------------------------------------------------------------------------------------------------


def test_a_job_without_a_limit_of_its_own_reserves_the_most_its_model_was_seen_to_cost(books):
    one = books()
    one.reserve("estimated", max_credits=4)
    one.adjust("estimated", 1.5)
    one.reserve("used", max_credits=4)
    one.settle("used", 2.5)
    one.reserve("cheap", max_credits=4)
    one.adjust("cheap", 0.1)
    before = one.read()[1]

    one.reserve("guessed")
    one.reserve("other", model="another")

    assert one.read()[1] - before == pytest.approx(2.5)


def test_a_job_of_an_unknown_model_reserves_what_the_settings_say(books):
    one = books(spend_unknown=2.0)

    one.reserve("job")

    assert one.read() == (0, 2)


def test_a_guess_beyond_the_limit_does_not_shut_its_model_out(books):
    rich, poor = books(spend_limit=100.0), books(spend_limit=5.0, spend_limit_per_label=4.0)
    rich.reserve("big", max_credits=50)
    rich.adjust("big", 50)
    rich.settle("big", 0)

    assert poor.reserve("small", label="a") is True
    assert poor.read() == (0, 4)


def test_what_a_job_over_the_limit_would_have_cost_is_no_guess_for_others(books):
    one = books()
    one.reserve("absurd")
    refused(one.adjust("absurd", 1000))
    one.settle("absurd", 0)

    assert one.reserve("next") is True
    assert one.read() == (0, 0)


def test_a_guess_is_forgotten_after_two_periods(books):
    one = books()
    one.reserve("dear", max_credits=4)
    one.settle("dear", 3)

    one.now += PERIOD_S
    one.reserve("next")
    assert one.read() == (0, 3)
    one.now += PERIOD_S
    one.reserve("later")
    assert one.read() == (0, 0)


# -- corrections ------------------------------------------------------------------------------------------------------


def test_an_estimate_over_the_limit_is_refused_and_changes_nothing(books):
    one = books(spend_limit_per_label=9.0)
    one.reserve("first", label="a", max_credits=6)
    one.reserve("second", label="a", max_credits=1)
    before = one.everything()

    error = refused(one.adjust("second", 4))

    assert error.args == ("second", "label:a", 9.0, 4.0, 6.0)
    assert one.everything() == before
    assert one.adjust("second", 3) is None


def test_what_cannot_be_stopped_is_booked_over_the_limit(books):
    one = books()
    one.reserve("first", max_credits=8)
    one.reserve("second", max_credits=1)

    assert one.adjust("second", 5, force=True) is None

    assert one.read() == (0, 13)
    assert refused(one.reserve("third")).booked == 13
    assert one.adjust("first", 7) is None, "less is always allowed"


def test_two_first_jobs_of_a_model_cannot_overshoot_together(books):
    one = books()
    assert one.reserve("one") is True
    assert one.reserve("two") is True

    assert one.adjust("one", 6) is None
    assert refused(one.adjust("two", 6)).booked == 6


@pytest.mark.parametrize("nonsense", [-1.0, 0.0])
def test_a_nonsensical_estimate_is_taken_for_nothing(books, nonsense):
    one = books()
    one.reserve("job", max_credits=1)

    one.adjust("job", nonsense)

    assert one.read() == (0, 0)


def test_absurd_amounts_do_not_break_the_books(books):
    one = books(spend_limit=1e300)
    for number in range(20):
        one.reserve(f"job-{number}", max_credits=1e200)
        one.settle(f"job-{number}", 1e200)

    assert one.read()[0] >= 1e12
    assert one.read()[1] == 0


def test_sums_are_exact(books):
    one = books(spend_limit=None, spend_limit_per_job=1.0)
    for number in range(300):
        one.reserve(f"job-{number}", max_credits=0.1)
        one.settle(f"job-{number}", 0.1 if number % 3 else 0.0)

    assert one.read() == (20.0, 0)


# -- twice, late, after a crash ---------------------------------------------------------------------------------------


def test_each_step_done_twice_is_done_once(books):
    one, two = books(spend_limit_per_label=LIMIT), books(spend_limit_per_label=LIMIT)
    one.job("job", label="a", max_credits=4)
    two.records = one.records

    for step in (
        lambda worker: worker.reserve("job"),
        lambda worker: worker.adjust("job", 1.5),
        lambda worker: worker.adjust("job", 2.5, force=True),
        lambda worker: worker.settle("job", 1.25),
    ):
        step(one)
        before = one.everything()
        step(one)
        step(two)
        assert one.everything() == before

    assert one.read("a") == one.read() == (1.25, 0)


def test_a_worker_that_dies_after_it_reserved_is_followed_by_one_that_finds_it(books):
    one, two = books(), books()
    one.reserve("job", max_credits=8)

    two.records = one.records
    assert two.reserve("job") is True
    two.adjust("job", 7)
    two.settle("job", 6)

    assert two.read() == (6, 0)


def test_what_comes_late_changes_nothing(books):
    one = books()
    one.reserve("job", max_credits=4)
    one.settle("job", 2)

    one.reserve("job")
    one.adjust("job", 9)
    one.adjust("job", 9, force=True)
    one.settle("job", 0)
    one.settle("job", None)

    assert one.read() == (2, 0)


def test_a_charge_that_becomes_known_late_is_booked(books):
    one = books()
    one.reserve("job", label="a", max_credits=4)
    one.settle("job", 0)

    for _ in range(2):
        one.settle("job", 0.5)

    assert one.read() == one.read("a") == (0.5, 0)


def test_a_job_that_is_over_can_no_longer_reserve(books):
    one = books()
    one.job("job", max_credits=4)
    one.end("job")

    assert one.reserve("job") is False
    assert one.budget.reserve("unknown", one.records["job"]) is False
    assert one.everything() == {}


def test_settling_a_job_without_a_reservation_changes_nothing(books):
    one = books()

    one.settle("job", 3)
    one.job("job")
    one.adjust("job", 3)

    assert one.everything() == {}


# -- periods ----------------------------------------------------------------------------------------------------------


def test_a_new_period_has_a_new_budget(books):
    one = books()
    one.reserve("first", max_credits=LIMIT)
    refused(one.reserve("second", max_credits=1))

    one.now += PERIOD_S

    assert one.reserve("second") is True
    assert one.read() == (0, 1)


def test_periods_are_aligned_to_the_epoch(books):
    one = books()

    seen = one.budget.books()

    assert (seen.starts_at, seen.ends_at) == (1_000_000.0, 1_000_100.0)
    one.now = 1_000_100.0
    assert one.budget.books().starts_at == 1_000_100.0


def test_books_of_the_period_before_are_still_read(books):
    one = books()
    one.reserve("job", label="a", max_credits=4)
    one.settle("job", 3)
    before = one.budget.books()

    one.now += PERIOD_S

    assert one.budget.books(periods_ago=1) == before
    assert one.budget.books("a", periods_ago=1).used == 3
    assert [(seen.label, seen.used) for seen in one.budget.all_books(periods_ago=1)] == [(None, 3), ("a", 3)]
    assert one.budget.all_books() == [one.budget.books()], "nobody has booked in this period"


def test_the_books_of_all_labels_are_read_at_once(books):
    one = books(spend_limit_per_label=3.0)
    for number, label in enumerate(["b", "a", "reserved:a", "model:m", None]):
        one.reserve(f"job-{number}", label=label, max_credits=1)
    one.settle("job-1", 0.5)

    seen = one.budget.all_books()

    assert seen == [one.budget.books(label) for label in (None, "a", "b", "model:m", "reserved:a")]
    assert [(entry.used, entry.reserved, entry.left) for entry in seen[:3]] == [(0.5, 4, 5.5), (0.5, 0, 2.5), (0, 1, 2)]


def test_a_job_that_ends_in_another_period_is_booked_where_it_reserved(books):
    one = books()
    one.reserve("job", label="a", max_credits=4)

    one.now += PERIOD_S
    one.adjust("job", 9)
    one.settle("job", 8)

    assert one.read() == one.read("a") == (0, 0)
    one.now -= PERIOD_S
    assert one.read() == one.read("a") == (8, 0)


def test_another_length_of_period_begins_new_books_and_settles_the_old(books):
    one, two = books(), books(spend_period_s=10.0)
    one.reserve("job", max_credits=4)

    assert two.read() == (0, 0)
    two.settle("job", 3)

    assert one.read() == (3, 0)


def test_books_are_kept_while_something_is_reserved_and_a_while_longer(each_redis_url, namespace):
    one = Books(each_redis_url, namespace, result_ttl_s=60.0)
    client = one.store.client
    book, entry = one.store.key("spend", "100:10000"), one.store.key("spend", "job:job")
    one.reserve("job", max_credits=4)
    assert (client.ttl(book), client.ttl(entry)) == (-1, -1)

    one.settle("job", 1)

    assert client.ttl(book) == pytest.approx(50 + 100, abs=2)
    assert client.ttl(entry) == pytest.approx(100, abs=2)


# -- many at once -----------------------------------------------------------------------------------------------------


def test_threads_that_reserve_at_once_never_overshoot(books):
    workers = [books(spend_limit=10.0, spend_limit_per_label=4.0) for _ in range(8)]
    jobs = [(f"job-{n}", f"label-{n % 4}") for n in range(120)]
    for job_id, label in jobs:
        workers[0].job(job_id, label=label, max_credits=0.7)
    barrier, most = threading.Barrier(len(workers)), []

    def work(index: int) -> list[str]:
        worker = workers[index]
        worker.records = workers[0].records
        barrier.wait()
        granted = [job_id for job_id, _ in jobs if worker.reserve(job_id) is True]
        most.append(sum(worker.read()))
        return granted

    with ThreadPoolExecutor(len(workers)) as pool:
        granted = set().union(*pool.map(work, range(len(workers))))

    assert max(most) <= 10
    assert len(granted) == 14, "14 times 0.7 credits is all that fits into 10"
    assert workers[0].read() == pytest.approx((0, 9.8))
    assert all(workers[0].read(f"label-{n}")[1] <= 4 for n in range(4))


class Model:
    """The same books as simple as can be, in cents: jobs 0 to 2 have label a, 3 to 5 have b."""

    TOTAL, PER_LABEL = 600, 400

    def __init__(self) -> None:
        self.entries: dict[int, dict[str, Any]] = {}
        self.wanted: dict[int, int] = {}

    @staticmethod
    def label(number: int) -> str:
        return "a" if number < 3 else "b"

    def booked(self, period: float, label: str | None) -> int:
        rows = [e for e in self.entries.values() if e["period"] == period and label in (None, e["label"])]
        return sum(e["reserved"] if e["used"] is None else e["used"] for e in rows)

    def fits(self, entry: dict[str, Any], more: int) -> bool:
        booked = [self.booked(entry["period"], label) for label in (None, entry["label"])]
        return all(b + more <= limit for b, limit in zip(booked, (self.TOTAL, self.PER_LABEL), strict=True))

    def reserve(self, number: int, cents: int, period: float) -> None:
        wanted = self.wanted.setdefault(number, cents)
        entry = {"period": period, "label": self.label(number), "reserved": wanted, "used": None}
        if number not in self.entries and self.fits(entry, wanted):
            self.entries[number] = entry

    def adjust(self, number: int, cents: int) -> None:
        entry = self.entries.get(number)
        if entry and entry["used"] is None:
            more = cents - entry["reserved"]
            if more <= 0 or self.fits(entry, more):
                entry["reserved"] = cents

    def settle(self, number: int, cents: int | None) -> None:
        if entry := self.entries.get(number):
            before, unknown = entry["used"], entry["reserved"] if entry["used"] is None else entry["used"]
            entry["used"] = max(unknown if cents is None else cents, before or 0)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    history=st.lists(
        st.tuples(
            st.sampled_from(["reserve", "adjust", "settle", "settle unknown", "time goes on"]),
            st.integers(0, 5),
            st.integers(1, 400),
        ),
        max_size=40,
    )
)
def test_any_history_keeps_the_books_as_a_simple_model_does(redis_url, history):
    """Each step runs twice, and they may come in any order."""
    one, model = Books(redis_url, f"test-{uuid.uuid4().hex}", spend_limit=6.0, spend_limit_per_label=4.0), Model()

    for step, number, cents in history:
        job_id, period = f"job-{number}", one.now // PERIOD_S
        if job_id not in one.records:
            one.job(job_id, label=model.label(number), max_credits=cents / 100)
            model.wanted[number] = cents
        for _ in range(2):
            if step == "reserve":
                one.reserve(job_id)
                model.reserve(number, cents, period)
            elif step == "adjust":
                one.adjust(job_id, cents / 100)
                model.adjust(number, cents)
            elif step == "time goes on":
                one.now += PERIOD_S / 6
            else:
                used = cents if step == "settle" else None
                one.settle(job_id, None if used is None else used / 100)
                model.settle(number, used)
        for label in (None, "a", "b"):
            assert round(sum(one.read(label)) * 100) == model.booked(one.now // PERIOD_S, label)


# -- jobs, from call to callback --------------------------------------------------------------------------------------


@contextmanager
def guarded(redis_url: str, sandbox: SandboxServer, **limits: Any) -> Iterator[Lab]:
    """An app with limits, and a worker."""
    CALLS.clear()
    RUNS.clear()
    sandbox.reset()
    values: dict[str, Any] = {"retry_max_s": 0.2, **limits}
    lab = Lab(redis_url, sandbox, **values)
    with lab.current(), lab.worker():
        yield lab


def start(lab: Lab, script: dict[str, Any] | None = None, *, model: str = MODEL, **keywords: Any) -> AsyncResult[Any]:
    return generate.apply_async((model, lab.params(script)), keywords, link=publish.s(), link_error=apologise.s())


def state_of(result: AsyncResult[Any]) -> str:
    return str(result.state)


def error_of(result: AsyncResult[Any]) -> Any:
    return result.get(timeout=END_S, propagate=False)


def books_of(label: str | None = None) -> tuple[float, float]:
    seen: Spending = spending(label)
    return seen.used, seen.reserved


def charged(lab: Lab) -> float:
    """What the sandbox has charged for all tasks."""
    with Client(API_KEY, lab.sandbox.url) as client:
        return sum(client.query(task["task_id"]).credits_used or 0.0 for task in lab.sandbox.tasks())


RUNS_LONG = {"duration_s": 30, "pending_s": 0}
PENDS_LONG = {"duration_s": 30, "pending_s": 20}


def test_the_books_are_the_sandboxs_after_jobs_of_every_kind(redis_url, sandbox):
    with guarded(redis_url, sandbox, spend_limit=100.0) as lab:
        cancelled = start(lab, {**RUNS_LONG, "cancel": "billed", "cancel_credits": 0.25}, label="a")
        free = start(lab, {**PENDS_LONG, "cancel": "billed"}, label="b")
        results = [
            start(lab, {"credits": 1.47, "estimated_credits": 1.5}, label="a"),
            start(lab, {"credits": 2.5, "estimated_credits": 2}, label="b"),
            start(lab, {"credits": 0.003}),
            start(lab, {"estimated_credits": None, "credits": 0.7}, label="a"),
            start(lab, {"outcome": "failed"}, label="a"),
            start(lab, {"credits": 0.9, "faults": [{"on": "submit", "kind": "lost_response"}]}, label="b"),
            start(lab, {"credits": 0.8, "dialect": "old"}),
            start(lab, {"duration_s": 9, "estimated_credits": 3}, deadline_s=0.8),
            start(lab, model="no-such-model"),
            start(lab, {"estimated_credits": 2}, max_credits=1),
        ]
        eventually(
            lambda: state_of(cancelled) == "RUNNING" and state_of(free) == "PENDING_REMOTE", "both to be under way"
        )
        cancelled.revoke()
        free.revoke()
        ended = [lab.ended(result) for result in [cancelled, free, *results]]

        assert [entry.state.value for entry in ended] == [
            *("CANCELLED", "CANCELLED", "COMPLETED", "COMPLETED", "COMPLETED", "COMPLETED", "FAILED"),
            *("COMPLETED", "COMPLETED", "EXPIRED", "FAILED", "FAILED"),
        ]
        assert charged(lab) == pytest.approx(0.25 + 1.47 + 2.5 + 0.003 + 0.7 + 0.9 + 0.8)
        assert books_of() == pytest.approx((charged(lab), 0))
        assert books_of("a") == pytest.approx((0.25 + 1.47 + 0.7, 0))
        assert books_of("b") == pytest.approx((2.5 + 0.9, 0))


def test_a_job_over_the_limit_is_not_submitted_and_fails_with_its_error(redis_url, sandbox):
    with guarded(redis_url, sandbox, spend_limit=100.0, spend_limit_per_label=2.0) as lab:
        first = start(lab, {**PENDS_LONG, "estimated_credits": 1.5}, label="acme")
        eventually(lambda: state_of(first) == "PENDING_REMOTE", "the first job to be accepted")

        second = start(lab, label="acme", max_credits=1)
        other = start(lab, {"credits": 0.5}, label="other", max_credits=1)

        error = error_of(second)
        assert type(error) is SpendLimitReached
        assert error.args == (second.id, "label:acme", 2.0, 1.0, 1.5)
        assert lab.ended(second).state is JobState.FAILED
        assert lab.remote(second) == []
        assert [call.name for call in eventually(lambda: calls(second.id), "the errback")] == ["apologise"]
        with pytest.raises(SpendLimitReached):
            lab.job(second).result()
        assert lab.ended(other).state is JobState.COMPLETED
        first.revoke()
        lab.ended(first)
        assert books_of("acme") == (0, 0)


def test_a_job_whose_price_is_over_its_limit_is_cancelled_while_it_is_free(redis_url, sandbox):
    with guarded(redis_url, sandbox) as lab:  # no limit but the job's own
        script = {**PENDS_LONG, "estimated_credits": 2, "cancel": "billed"}
        result = start(lab, script, max_credits=1.5)

        error = error_of(result)
        assert error.args == (result.id, "job", 1.5, 2.0, 0.0)
        assert lab.ended(result).state is JobState.FAILED
        assert [task["status"] for task in lab.remote(result)] == ["cancelled"]
        assert charged(lab) == 0
        assert [call.name for call in eventually(lambda: calls(result.id), "the errback")] == ["apologise"]


def test_the_first_jobs_of_an_unknown_model_do_not_overshoot_a_strict_limit(redis_url, sandbox):
    with guarded(redis_url, sandbox, spend_limit=2.0) as lab:
        results = [start(lab, {"pending_s": 5, "duration_s": 5.2, "estimated_credits": 0.9}) for _ in range(6)]
        eventually(lambda: sum(state_of(result) == "FAILURE" for result in results) == 4, "four jobs to be refused")

        assert books_of() == (0, 1.8)
        statuses = sorted(task["status"] for task in lab.sandbox.tasks())
        assert statuses.count("pending") == 2
        assert set(statuses) <= {"pending", "cancelled"}
        assert all(type(error_of(result)) is SpendLimitReached for result in results if state_of(result) == "FAILURE")
        for result in results:
            result.revoke()
            lab.ended(result)
        assert books_of() == (0, 0)


def test_a_cancel_that_fails_is_repeated_and_the_price_stays_reserved(redis_url, sandbox):
    with guarded(redis_url, sandbox, spend_limit=2.0) as lab:
        faults = [{"on": "cancel", "kind": "status", "status": 500, "times": 3}]
        result = start(lab, {**PENDS_LONG, "estimated_credits": 5, "faults": faults})

        eventually(lambda: books_of() == (0, 5), "what can't be stopped yet to be reserved")
        assert type(error_of(result)) is SpendLimitReached

        assert lab.ended(result).state is JobState.FAILED
        assert [task["status"] for task in lab.remote(result)] == ["cancelled"]
        assert books_of() == (0, 0)


def test_a_job_that_completes_in_spite_of_its_cancel_has_completed_and_is_booked(redis_url, sandbox):
    with guarded(redis_url, sandbox, spend_limit=2.0) as lab:
        result = start(lab, {**PENDS_LONG, "estimated_credits": 5, "credits": 4.5, "cancel": "completes"})

        assert result.get(timeout=END_S)["credits_used"] == 4.5
        lab.ended(result)
        assert books_of() == (4.5, 0)
        assert [call.name for call in eventually(lambda: calls(result.id), "the callback")] == ["publish"]
        assert type(error_of(start(lab))) is SpendLimitReached


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What is said of jobs; a worker in this process takes the root logger for itself."""
    logger = logging.getLogger("tasks_bridge.jobs")
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.WARNING, logger.name)
    yield caplog
    logger.removeHandler(caplog.handler)


def test_a_waiting_job_goes_on_when_a_reservation_is_released(redis_url, sandbox, log):
    with guarded(redis_url, sandbox, spend_limit=2.0, on_spend_limit="wait") as lab:
        first = start(lab, {**PENDS_LONG, "estimated_credits": 1.5})
        eventually(lambda: state_of(first) == "PENDING_REMOTE", "the first job to be accepted")
        second = start(lab, {"credits": 1.0}, max_credits=1)
        eventually(lambda: "waits for the budget" in log.text, "the reason in the log")
        assert state_of(second) == "QUEUED"
        assert lab.remote(second) == []

        first.revoke()

        assert second.get(timeout=END_S)["status"] == "completed"
        lab.ended(second)
        assert books_of() == (1.0, 0)


def test_a_waiting_job_goes_on_in_the_next_period(redis_url, sandbox):
    with guarded(redis_url, sandbox, spend_limit=2.0, on_spend_limit="wait", spend_period_s=3.0) as lab:
        results = [start(lab, {"credits": 1.5, "estimated_credits": 1.5}, max_credits=1.5) for _ in range(2)]

        for result in results:
            assert result.get(timeout=END_S)["status"] == "completed"
            lab.ended(result)
        periods = {
            lab.bridge.store.client.hget(lab.bridge.store.key("spend", f"job:{r.id}"), "period") for r in results
        }
        assert len(periods) == 2


def test_jobs_under_way_when_a_period_ends_leave_the_next_one_its_whole_budget(redis_url, sandbox):
    with guarded(redis_url, sandbox, spend_limit=2.0, spend_period_s=3.0) as lab:
        begins_at = spending().ends_at
        eventually(lambda: spending().starts_at == begins_at, "a new period")
        first = start(lab, {"duration_s": 4, "pending_s": 0, "credits": 1.4, "estimated_credits": 1.5}, label="a")
        eventually(lambda: spending("a") == replace(spending("a"), starts_at=begins_at, reserved=1.5), "it to reserve")

        eventually(lambda: spending().starts_at > begins_at, "the next period")
        assert state_of(first) == "RUNNING"
        second = start(lab, {"duration_s": 0.2, "credits": 1.6}, max_credits=1.6, label="a")
        for result in (second, first):
            assert lab.ended(result).state is JobState.COMPLETED

        client: Any = lab.bridge.store.client
        entries = [lab.bridge.store.key("spend", f"job:{result.id}") for result in (first, second)]
        numbers = [int(client.hget(entry, "period").rpartition(b":")[2]) for entry in entries]
        assert numbers[1] - numbers[0] == 1
        books = [
            spending(label, periods_ago=round(spending().starts_at / 3) - number)
            for number in numbers
            for label in (None, "a")
        ]
        assert [(entry.used, entry.reserved) for entry in books] == [(1.4, 0), (1.4, 0), (1.6, 0), (1.6, 0)]


def set_limit(lab: Lab, limit: float) -> None:
    """As a restart with another setting does."""
    lab.bridge.settings = lab.bridge.settings.model_copy(update={"spend_limit": limit})
    vars(lab.bridge).pop("budget", None)


def test_a_limit_that_is_raised_lets_jobs_go_on_that_wait_and_one_that_is_lowered_ends_what_it_never_allows(
    redis_url, sandbox, log
):
    with guarded(redis_url, sandbox, spend_limit=2.0, on_spend_limit="wait") as lab:
        first = start(lab, {**PENDS_LONG, "estimated_credits": 1.5})
        eventually(lambda: state_of(first) == "PENDING_REMOTE", "the first job to be accepted")
        small, large = start(lab, {"credits": 1.0}, max_credits=1), start(lab, max_credits=1.8)
        for result in (small, large):
            eventually(lambda result=result: f"job {result.id} remote=- " in log.text, "each to wait")  # type: ignore[misc]

        set_limit(lab, 1.7)

        assert type(error_of(large)) is SpendLimitReached, "no wait helps it any more"
        assert state_of(small) == "QUEUED"
        set_limit(lab, 2.5)
        assert small.get(timeout=END_S)["status"] == "completed"
        assert state_of(first) == "PENDING_REMOTE", "expected what is under way to be left alone"
        first.revoke()
        lab.ended(first)
        assert books_of() == (1.0, 0)


def test_a_price_that_rises_over_the_limit_after_the_accept_cancels_the_job(redis_url, sandbox):
    with guarded(redis_url, sandbox, spend_limit=4.0) as lab:
        other = start(lab, {**PENDS_LONG, "estimated_credits": 2})
        result = start(lab, {**PENDS_LONG, "estimated_credits": 1.5}, label="a")
        eventually(lambda: books_of() == (0, 3.5), "both to be reserved")
        task = lab.sandbox.sandbox.dispatcher.entries[lab.remote(result)[0]["task_id"]].task

        task.estimated_credits = 1.9
        eventually(lambda: books_of("a") == (0, 1.9), "the reservation to follow the price")
        task.estimated_credits = 2.1

        assert error_of(result).args == (result.id, "all", 4.0, 2.1, 2.0)
        assert [task["status"] for task in lab.remote(result)] == ["cancelled"]
        lab.ended(result)
        assert (books_of(), books_of("a")) == ((0, 2), (0, 0))
        assert state_of(other) == "PENDING_REMOTE"
        other.revoke()
        lab.ended(other)


def test_a_job_that_waits_for_the_budget_expires_at_its_deadline(redis_url, sandbox):
    with guarded(redis_url, sandbox, spend_limit=2.0, on_spend_limit="wait") as lab:
        first = start(lab, {**PENDS_LONG, "estimated_credits": 2})
        eventually(lambda: state_of(first) == "PENDING_REMOTE", "the first job to be accepted")

        late = start(lab, max_credits=1, deadline_s=1)
        hopeless = start(lab, max_credits=3)

        assert type(error_of(hopeless)) is SpendLimitReached, "no wait helps it"
        assert lab.ended(late).state is JobState.EXPIRED
        assert lab.remote(late) == []
        first.revoke()
        lab.ended(first)


def test_the_same_id_with_another_label_is_the_same_job(redis_url, sandbox):
    with guarded(redis_url, sandbox, spend_limit=100.0) as lab:
        params = lab.params({"credits": 0.5})
        for label in ("a", "b"):
            result = generate.apply_async((MODEL, params), {"label": label}, task_id="labelled")
        lab.ended(result)

        assert len(lab.remote("labelled")) == 1
        assert (books_of("a"), books_of("b")) == ((0.5, 0), (0, 0))


@pytest.mark.parametrize("is_done", [False, True], ids=["nothing-done", "answer-lost"])
def test_a_step_that_is_cut_off_is_repeated_and_counts_once(redis_url, sandbox, is_done):
    def cut_off_once(whole: Callable[..., Any]) -> Callable[..., Any]:
        cuts = iter([True])

        def step(*arguments: Any, **keywords: Any) -> Any:
            if not next(cuts, False):
                return whole(*arguments, **keywords)
            if is_done:
                whole(*arguments, **keywords)
            raise StoreError("cut off")

        return step

    with guarded(redis_url, sandbox, spend_limit=2.0) as lab:
        budget = lab.bridge.budget
        for name in ("reserve", "adjust", "settle"):
            setattr(budget, name, cut_off_once(getattr(budget, name)))
        result = start(lab, {"credits": 0.5, "estimated_credits": 1.5}, max_credits=1.5)

        assert lab.ended(result).state is JobState.COMPLETED
        assert len(lab.remote(result)) == 1
        assert books_of() == (0.5, 0)


@pytest.mark.parametrize(("limit", "asked"), [(5.0, ["reserve", "adjust", "settle"]), (None, [])])
def test_the_books_are_asked_three_times_for_a_job_however_often_it_is_polled(redis_url, sandbox, limit, asked):
    with guarded(redis_url, sandbox, spend_limit=limit) as lab:
        budget, seen = lab.bridge.budget, []
        run = budget._run

        def note(operation: str, *arguments: Any) -> Any:
            seen.append(operation)
            return run(operation, *arguments)

        budget._run = note  # type: ignore[method-assign, assignment]
        result = start(lab, {"duration_s": 1.5, "estimated_credits": 0.5})
        lab.ended(result)

        assert lab.job(result).polls >= 3
        assert seen == asked


def test_without_limits_nothing_is_booked(redis_url, sandbox):
    with guarded(redis_url, sandbox) as lab:
        result = start(lab, {"credits": 0.5}, label="a")
        lab.ended(result)

        assert books_of() == (0, 0)
        assert spending("a").limit is spending("a").left is None
        keys = lab.bridge.store.key("spend", "*").replace("{", r"\{")
        assert list(lab.bridge.store.client.scan_iter(keys)) == []


def test_a_job_booked_under_a_limit_is_settled_after_the_limit_is_gone(redis_url, sandbox):
    with guarded(redis_url, sandbox, spend_limit=5.0) as lab:
        result = start(lab, {"duration_s": 1.5, "credits": 0.5})
        eventually(lambda: state_of(result) == "RUNNING", "the job to run")
        lab.bridge.budget.is_on = False  # type: ignore[misc]

        lab.ended(result)
        assert books_of() == (0.5, 0)


def test_the_reader_tells_what_is_left(redis_url, sandbox):
    with guarded(redis_url, sandbox, spend_limit=5.0, spend_limit_per_label=3.0, spend_period_s=3600.0) as lab:
        lab.ended(start(lab, {"credits": 0.5}, label="a"))

        everything, labelled = spending(), spending("a", app=lab.app)
        assert (everything.label, everything.limit, everything.left) == (None, 5.0, 4.5)
        assert (labelled.label, labelled.limit, labelled.left) == ("a", 3.0, 2.5)
        assert spending_by_label() == [everything, labelled]
        assert spending(periods_ago=1).ends_at == everything.starts_at
        assert everything.starts_at % 3600 == 0
        assert everything.ends_at - everything.starts_at == 3600
