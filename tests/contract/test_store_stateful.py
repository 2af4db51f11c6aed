"""
Both stores, side by side, through random histories: the same answers, and the guarantees of the contract throughout.

Commands may be repeated (a client that lost an answer does that), leases may be used long after they were lost, and
the clock jumps ahead by anything from nothing to an hour.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

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

from tasks_bridge.record import RECORD_VERSION, TERMINAL_STATES, JobRecord, JobState
from tasks_bridge.store import Lease, Purpose, Store
from tasks_bridge.store.base import Write
from tasks_bridge.store.memory import MemoryStore
from tasks_bridge.store.redis import RedisStore

T = TypeVar("T")

IDS = [f"job{number}" for number in range(5)]
LEASE_S = 8.0
GAP_S = 2.0
FOREVER_S = 1e9
"""Redis forgets by its own clock, memory by ours: what forgetting means is for the contract suite."""

some_ids = st.lists(st.sampled_from(IDS), min_size=1, max_size=6)
# a binary fraction survives the six decimals in which Redis keeps a due time
delays = st.integers(0, 30 * 8).map(lambda eighths: eighths / 8)
jumps = st.one_of(st.just(0.125), delays, st.just(3600.0))
versions = st.integers(0, 3)


def a_record(job_id: str, version: int) -> JobRecord:
    model = "one" if job_id in IDS[:2] else "other"
    return JobRecord(version=RECORD_VERSION, model=model, key="default", digest=f"d{version}", created_at=1.0)


@dataclass
class Known:
    """What the machine itself knows of a job."""

    state: JobState = JobState.QUEUED
    token: int = 0
    holder_until: float | None = None
    """When the present lease runs out; None if there is none."""
    is_ended: bool = False
    may_be_cancelled: bool = False
    heard_at: float = 0.0
    """The latest moment for which an announcement brought it forward."""


class Twins(RuleBasedStateMachine):
    """Runs every command on both stores, twice if told to, and compares."""

    url = ""

    @initialize(keep_body=st.booleans())
    def start(self, keep_body: bool) -> None:
        self.time = 1_000_000.0
        self.client = redis.Redis.from_url(self.url)
        self.memory = MemoryStore(lambda: self.time, keep_body=keep_body)
        self.redis = RedisStore(
            self.client, namespace=f"test-{uuid.uuid4().hex}", keep_body=keep_body, clock=lambda: self.time
        )
        self.known: dict[str, Known] = {}
        self.leases: list[Lease] = []

    def both(self, command: Callable[[Store], T]) -> T:
        from_memory, from_redis = command(self.memory), command(self.redis)

        assert from_memory == from_redis, "the twins should answer the same"
        return from_memory

    # -- commands -----------------------------------------------------------------------------------------------------

    @rule(seconds=jumps)
    def time_passes(self, seconds: float) -> None:
        self.time += seconds

    @rule(job_id=st.sampled_from(IDS), version=versions, delay_s=delays, published=st.booleans(), twice=st.booleans())
    def register(self, job_id: str, version: int, delay_s: float, published: bool, twice: bool) -> None:
        def command(store: Store) -> Any:
            return store.register(job_id, a_record(job_id, version), b"body", delay_s=delay_s, published=published)

        answer = self.both(command)
        if job_id not in self.known:
            assert answer.is_new, "an unknown id should be new"
            self.known[job_id] = Known()
        if twice:
            assert self.both(command) == answer, "a repeated register should be answered as the first"

    @rule(limit=st.integers(1, 6), submits=st.none() | st.integers(0, 3), twice=st.booleans())
    def claim(self, limit: int, submits: int | None, twice: bool) -> None:
        due = self.both(lambda store: store.due_count())
        claims = self.both(lambda store: store.claim(limit, LEASE_S, submits=submits))

        if submits is None:
            assert len(claims) == min(limit, due), "a claim should take all that is due, up to its limit"
        else:
            assert sum(claim.state is JobState.QUEUED for claim in claims) <= submits
        for claim in claims:
            self._lease_must_be_over(claim.job_id)
            self.known[claim.job_id].holder_until = None
        if twice:
            again = self.both(lambda store: store.claim(limit, LEASE_S))
            for claim in again:
                self.known[claim.job_id].holder_until = None
            assert not {c.job_id for c in claims} & {c.job_id for c in again}, "a claimed job is nobody else's"

    @rule(job_ids=some_ids, twice=st.booleans())
    def release(self, job_ids: list[str], twice: bool) -> None:
        self.both(lambda store: store.release(job_ids))
        if twice:
            assert self.both(lambda store: store.release(job_ids)) == 0, "nothing should be left to release"

    @rule(job_ids=some_ids, purpose=st.sampled_from(Purpose), twice=st.booleans())
    def begin(self, job_ids: list[str], purpose: Purpose, twice: bool) -> None:
        leases = self.both(lambda store: store.begin(job_ids, purpose, LEASE_S))
        for lease in leases:
            self._lease_must_be_over(lease.job_id)
            known = self.known[lease.job_id]
            assert not known.is_ended, "an ended job should not begin again"
            assert lease.token > known.token, "tokens should rise"
            assert lease.state is known.state
            known.token, known.holder_until = lease.token, self.time + LEASE_S
        self.leases += leases
        if twice:
            assert self.both(lambda store: store.begin(job_ids, purpose, LEASE_S)) == [], "a job has one holder"

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        leases = data.draw(st.lists(st.sampled_from(self.leases), min_size=1, max_size=4))
        self.both(lambda store: store.renew(leases, LEASE_S))
        for lease in leases:
            known = self.known[lease.job_id]
            if known.token == lease.token and known.holder_until is not None:
                known.holder_until = self.time + LEASE_S

    @precondition(lambda self: self.leases)
    @rule(
        data=st.data(),
        state=st.sampled_from(JobState),
        delay_s=delays,
        published=st.booleans(),
        version=versions,
        twice=st.booleans(),
    )
    def write(
        self, data: st.DataObject, state: JobState, delay_s: float, published: bool, version: int, twice: bool
    ) -> None:
        leases = data.draw(
            st.one_of(
                st.just(self.leases[-1:]),  # mostly a holder's
                st.lists(st.sampled_from(self.leases), min_size=1, max_size=3, unique_by=lambda lease: lease.job_id),
            )
        )
        writes = [Write(lease, state, a_record(lease.job_id, version), delay_s, published) for lease in leases]
        held = self.both(lambda store: store.write_many(writes))
        for lease, is_held in zip(leases, held, strict=True):
            known = self.known[lease.job_id]
            fits = known.state not in TERMINAL_STATES or known.state is state
            assert is_held == (known.token == lease.token and fits), "only the last to begin may write, forwards"
            if is_held and not known.is_ended:
                known.state, known.holder_until = state, None
        if twice:
            assert self.both(lambda store: store.write_many(writes)) == held, "a repeated write is the same write"

    @precondition(lambda self: any(self.known[lease.job_id].state in TERMINAL_STATES for lease in self.leases))
    @rule(data=st.data(), twice=st.booleans())
    def end(self, data: st.DataObject, twice: bool) -> None:
        finished = [lease for lease in self.leases if self.known[lease.job_id].state in TERMINAL_STATES]
        lease = data.draw(st.sampled_from(finished))
        known = self.known[lease.job_id]
        is_held = self.both(lambda store: store.end(lease, FOREVER_S))

        assert is_held == (known.token == lease.token), "only the last to begin may end a job"
        if is_held:
            known.is_ended, known.holder_until = True, None
        if twice:
            assert self.both(lambda store: store.end(lease, FOREVER_S)) == is_held

    @rule(job_id=st.sampled_from(IDS), reason=st.sampled_from(["", "one", "two"]), twice=st.booleans())
    def cancel(self, job_id: str, reason: str, twice: bool) -> None:
        known = self.known.get(job_id)
        for _ in range(1 + twice):
            state = self.both(lambda store: store.request_cancel(job_id, reason))

            assert state is (known.state if known else None)
        if known and known.state not in TERMINAL_STATES:
            known.may_be_cancelled = True

    @rule(job_ids=some_ids, delay_s=delays, twice=st.booleans())
    def touch(self, job_ids: list[str], delay_s: float, twice: bool) -> None:
        answer = self.both(lambda store: store.touch(job_ids, delay_s))
        if twice:
            assert self.both(lambda store: store.touch(job_ids, delay_s)) == answer

    @rule(job_id=st.sampled_from(IDS), twice=st.booleans())
    def announce(self, job_id: str, twice: bool) -> None:
        known, before = self.known.get(job_id), self.memory.get([job_id])[0]
        is_open = self.both(lambda store: store.announce(job_id, GAP_S))
        after = self.memory.get([job_id])[0]

        assert is_open == (known is not None and known.state not in TERMINAL_STATES)
        if known and before and after and before.due_at != after.due_at:
            assert after.due_at is not None
            assert self.time <= after.due_at < (before.due_at or 0), "an announcement only brings forward"
            assert after.due_at >= known.heard_at + GAP_S, "announcements should be kept apart"
            known.heard_at = after.due_at
        if twice:
            assert self.both(lambda store: store.announce(job_id, GAP_S)) == is_open
            assert self.memory.get([job_id])[0] == after, "a repeated announcement is the same one"

    # -- guarantees ---------------------------------------------------------------------------------------------------

    def _lease_must_be_over(self, job_id: str) -> None:
        until = self.known[job_id].holder_until

        assert until is None or until <= self.time, f"{job_id} was given away while its holder's lease held"

    @invariant()
    def all_are_counted(self) -> None:
        if not hasattr(self, "known"):
            return
        survey = self.both(lambda store: store.survey(1.0))
        open_jobs = sum(known.state not in TERMINAL_STATES for known in self.known.values())
        assert sum(survey.census.values()) == open_jobs

    @invariant()
    def nothing_is_lost(self) -> None:
        if not hasattr(self, "known"):
            return
        entries = self.both(lambda store: store.get(IDS))
        for job_id, entry in zip(IDS, entries, strict=True):
            known = self.known.get(job_id)
            assert (entry is None) == (known is None), f"{job_id} should be known exactly if it was registered"
            if entry is None or known is None:
                continue
            assert entry.state is known.state, f"{job_id} should be in the state that was last written"
            assert (entry.due_at is None) == known.is_ended, f"{job_id} should be on the schedule until it has ended"
            assert (entry.cancel is not None) == known.may_be_cancelled, "a wish to cancel should be kept"
        open_count = sum(not known.is_ended for known in self.known.values())
        assert self.both(lambda store: store.open_count()) == open_count
        self.both(lambda store: store.due_count())

    def teardown(self) -> None:
        """In the end every open job is due, and can be begun by whom its state calls for."""
        if not hasattr(self, "known"):
            return
        self.time += 64 * LEASE_S + 3600
        still_open = {job_id for job_id, known in self.known.items() if not known.is_ended}
        claimed = {claim.job_id for claim in self.both(lambda store: store.claim(len(IDS), LEASE_S))}
        begun = [self.both(lambda store: store.begin(IDS, purpose, LEASE_S)) for purpose in Purpose]  # noqa: B023 - called here

        assert claimed == still_open, "every job that has not ended should be claimed sooner or later"
        assert {lease.job_id for leases in begun for lease in leases} == still_open
        self.client.close()


def test_twins_answer_the_same_and_keep_their_promises(redis_url: str) -> None:
    machine = type("TwinsOnRedis", (Twins,), {"url": redis_url})

    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=100,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,  # the same histories on every machine
            database=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
