"""The store's contract, for the store in memory and for Redis on each server: the same questions, the same answers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files

import pytest
import redis
from pydantic import SecretStr

from tasks_bridge.errors import SettingsError, StoreError, StoreUnreachable
from tasks_bridge.record import OPEN_STATES, RECORD_VERSION, TERMINAL_STATES, JobRecord, JobState
from tasks_bridge.store import Claim, Lease, Phase, Purpose, Registered, Store
from tasks_bridge.store.base import LANES, Beside, Lost, Message, Registration, Survey, Write, lane_of
from tasks_bridge.store.memory import MemoryStore
from tasks_bridge.store.redis import RedisStore, connect

BODY = b'{"model":"m","params":{"prompt":"a fox"}}'
LEASE_S = 15.0
POLLED = (JobState.PENDING, JobState.RUNNING)
UNPOLLED = tuple(state for state in JobState if state not in POLLED)


@dataclass
class Clock:
    now: float = 1_795_392_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "packaged", "installed"])
def make_store(request: pytest.FixtureRequest, clock: Clock, namespace: str) -> Iterator[Callable[..., Store]]:
    """One kind of store after the other; a store made twice by the same test is another user of the same jobs."""
    if request.param == "memory":
        shared = MemoryStore(clock)

        def make_memory(**options: bool) -> Store:
            vars(shared).update(options)
            return shared

        yield make_memory
        return
    name = {"packaged": "redis_url", "installed": "installed_redis_url"}[request.param]
    with redis.Redis.from_url(request.getfixturevalue(name)) as client:

        def make_redis(**options: bool) -> Store:
            return RedisStore(client, namespace=namespace, clock=clock, **options)

        yield make_redis


@pytest.fixture
def store(make_store: Callable[..., Store]) -> Store:
    return make_store()


def a_record(**changes: object) -> JobRecord:
    record = JobRecord(version=RECORD_VERSION, model="sora-2", key="default", digest="d1", created_at=1.0)
    return record.but(**changes)


def register(store: Store, job_id: str, *, delay_s: float = 0.0, published: bool = False) -> Registered:
    return store.register(job_id, a_record(), BODY, delay_s=delay_s, published=published)


def begin(store: Store, job_id: str, purpose: Purpose = Purpose.GENERATE, lease_s: float = LEASE_S) -> Lease:
    leases = store.begin([job_id], purpose, lease_s)

    assert len(leases) == 1, f"{job_id} should have been leased for {purpose}"
    return leases[0]


def put(store: Store, job_id: str, state: JobState, *, delay_s: float = 10.0) -> None:
    """Register a job and bring it into *state*, waiting."""
    register(store, job_id)
    assert store.write(begin(store, job_id), state, a_record(), delay_s=delay_s)


def state_of(store: Store, job_id: str) -> JobState:
    entry = store.get([job_id])[0]

    assert entry is not None, f"{job_id} should be known"
    return entry.state


def due_at(store: Store, job_id: str) -> float | None:
    entry = store.get([job_id])[0]

    assert entry is not None, f"{job_id} should be known"
    return entry.due_at


def claimed_ids(claims: list[Claim]) -> list[str]:
    return [claim.job_id for claim in claims]


# -- register ---------------------------------------------------------------------------------------------------------


def test_a_new_job_is_queued_and_due_after_its_delay(store: Store, clock: Clock) -> None:
    registered = register(store, "job", delay_s=5)

    assert registered == Registered(True, JobState.QUEUED, a_record())
    assert due_at(store, "job") == clock.now + 5
    assert store.open_count() == 1
    assert store.due_count() == 0


def test_a_new_job_can_begin_before_it_is_due_only_if_its_message_is_about_to_be_published(store: Store) -> None:
    register(store, "waits", delay_s=5)
    register(store, "published", delay_s=5, published=True)

    leases = store.begin(["waits", "published"], Purpose.GENERATE, LEASE_S)

    assert [lease.job_id for lease in leases] == ["published"]


def test_a_known_id_is_answered_with_the_job_it_belongs_to(store: Store) -> None:
    put(store, "job", JobState.RUNNING)

    again = store.register("job", a_record(digest="other"), b"{}", delay_s=0, published=True)

    assert again == Registered(False, JobState.RUNNING, a_record())
    assert state_of(store, "job") is JobState.RUNNING
    assert store.open_count() == 1


def test_registering_again_after_a_lost_answer_says_new_again(store: Store) -> None:
    """redis-py repeats a command whose answer was lost: the caller must still publish the job."""
    first = register(store, "job", delay_s=5, published=True)
    second = register(store, "job", delay_s=5, published=True)

    assert first.is_new
    assert second == first


def test_an_equal_record_is_not_new_once_somebody_has_begun(store: Store) -> None:
    register(store, "job", published=True)
    begin(store, "job")

    assert not register(store, "job", published=True).is_new


def test_a_record_comes_back_as_it_was_written(store: Store) -> None:
    record = a_record(
        options={"link": [{"task": "publish", "kwargs": {"städte": ["Zürich", None, 1.5]}}], "priority": 3},
        remote={"task_id": "task_1", "status": "running", "note": {"null": None, "empty": [], "text": "\u2028'\"\\"}},
        estimated_s=35.5,
    )

    store.register("job", record, BODY, delay_s=0, published=False)

    assert begin(store, "job").record == record


@pytest.mark.parametrize("body", [b"\x00\xff" * 8, b"x" * 2**20], ids=["binary", "1 MiB"])
def test_a_body_comes_back_as_it_was_given(store: Store, body: bytes) -> None:
    store.register("job", a_record(), body, delay_s=0, published=False)

    assert begin(store, "job").body == body


def registration(job_id: str, **changes: object) -> Registration:
    known = {"record": a_record(), "body": BODY, "delay_s": 0.0, "published": False}
    return Registration(job_id, **known | changes)  # type: ignore[arg-type]


def test_several_jobs_are_registered_at_once_and_each_is_answered_on_its_own(store: Store) -> None:
    put(store, "old", JobState.RUNNING)
    jobs = [registration("new"), registration("old", record=a_record(digest="other")), registration("new")]

    answers = store.register_many(jobs)

    assert [(answer.is_new, answer.state) for answer in answers] == [
        (True, JobState.QUEUED),
        (False, JobState.RUNNING),
        (True, JobState.QUEUED),
    ]
    assert store.open_count() == 2
    assert store.register_many([]) == []


# -- claim and release ------------------------------------------------------------------------------------------------


def test_due_jobs_are_claimed_earliest_first_up_to_the_limit(store: Store, clock: Clock) -> None:
    for job_id, delay_s in (("third", 3), ("first", 1), ("second", 2), ("later", 9)):
        register(store, job_id, delay_s=delay_s)
    clock.advance(5)

    assert claimed_ids(store.claim(2, LEASE_S)) == ["first", "second"]
    assert claimed_ids(store.claim(10, LEASE_S)) == ["third"]
    assert store.claim(10, LEASE_S) == []


MODELS = ("sora-2", "seedream-v4", "veo-3")
"""Of different lanes."""


def register_of(store: Store, model: str, *job_ids: str) -> None:
    store.register_many([registration(job_id, record=a_record(model=model)) for job_id in job_ids])


def test_the_models_of_these_tests_have_lanes_of_their_own_and_lua_knows_as_many() -> None:
    assert len({lane_of(a_record(model=model)) for model in MODELS}) == len(MODELS)
    assert f"local LANES = {LANES}\n" in (files("tasks_bridge.store") / "lua" / "common.lua").read_text()


def test_no_lane_is_passed_over(store: Store, clock: Clock) -> None:
    of_lanes = {lane_of(a_record(model=model)): model for model in map(str, range(1000))}
    assert len(of_lanes) == LANES
    for model in of_lanes.values():
        register_of(store, model, model)

    assert set(claimed_ids(store.claim(LANES, LEASE_S))) == set(of_lanes.values())
    for lease in store.begin(list(of_lanes.values()), Purpose.GENERATE, LEASE_S):
        assert store.write(lease, JobState.RUNNING, lease.record, delay_s=5)
    clock.advance(5)
    assert set(claimed_ids(store.claim(LANES, LEASE_S))) == set(of_lanes.values())


def test_a_flood_of_one_model_holds_up_no_job_of_another(store: Store, clock: Clock) -> None:
    register_of(store, MODELS[0], *(f"flood{number:03}" for number in range(200)))
    clock.advance(60)
    register_of(store, MODELS[1], "lone")

    claims = claimed_ids(store.claim(10, LEASE_S))

    assert "lone" in claims
    assert len(claims) == 10, "the share that it leaves should go to the flood"


def test_a_flood_to_be_submitted_holds_up_no_poll_of_the_same_model(store: Store, clock: Clock) -> None:
    put(store, "polled", JobState.RUNNING, delay_s=60)
    register_of(store, a_record().model, *(f"flood{number:03}" for number in range(200)))
    clock.advance(60)

    assert "polled" in claimed_ids(store.claim(4, LEASE_S))


def test_lanes_get_equal_shares_and_what_one_does_not_need_goes_to_the_others(store: Store, clock: Clock) -> None:
    for model, count in zip(MODELS, (50, 2, 50), strict=True):
        register_of(store, model, *(f"{model}-{number:02}" for number in range(count)))

    claims = claimed_ids(store.claim(12, LEASE_S))

    assert [sum(job_id.startswith(model) for job_id in claims) for model in MODELS] == [5, 2, 5]


def test_where_there_are_more_lanes_than_places_each_gets_its_turn(store: Store, clock: Clock) -> None:
    for model in MODELS:
        register_of(store, model, *(f"{model}-{number}" for number in range(5)))
        clock.advance(1)

    turns = []
    for number in range(15):
        turns += [job_id[:-2] for job_id in claimed_ids(store.claim(1, LEASE_S))]
        register_of(store, turns[-1], f"{turns[-1]}-more{number}")  # what was served comes again, and waits anew
        clock.advance(0.001)

    assert set(turns) == set(MODELS), f"every model should have had its turn: {turns}"


def test_no_more_are_claimed_to_be_submitted_than_asked_for(store: Store, clock: Clock) -> None:
    put(store, "polled", JobState.RUNNING, delay_s=0)
    register_of(store, MODELS[0], "first", "second", "third")
    register_of(store, MODELS[1], "fourth", "fifth")

    claims = store.claim(10, LEASE_S, submits=2)

    assert sum(claim.state is JobState.QUEUED for claim in claims) == 2
    assert "polled" in claimed_ids(claims)
    assert store.claim(10, LEASE_S, submits=0) == []


def test_a_job_is_due_at_its_due_time_and_not_before(store: Store, clock: Clock) -> None:
    register(store, "job", delay_s=5)

    clock.advance(4.999)
    assert store.due_count() == 0
    assert store.claim(10, LEASE_S) == []

    clock.advance(0.001)
    assert store.due_count() == 1
    assert claimed_ids(store.claim(10, LEASE_S)) == ["job"]


def test_the_store_says_how_long_until_the_earliest_job_is_due(store: Store, clock: Clock) -> None:
    assert store.next_due_s() is None

    register(store, "later", delay_s=9)
    register(store, "sooner", delay_s=5)
    assert store.next_due_s() == pytest.approx(5)

    clock.advance(6)
    assert store.next_due_s() == pytest.approx(-1)

    store.claim(10, LEASE_S)
    assert store.next_due_s() == pytest.approx(3)


def test_the_next_to_be_due_is_the_earliest_of_all_models(store: Store) -> None:
    for number in range(9):
        delay_s = 10.0 + abs(number - 4)
        store.register(str(number), a_record(model=f"m{number}"), BODY, delay_s=delay_s, published=False)

    assert store.next_due_s() == 10


def test_no_job_is_given_to_two_callers_at_once(make_store: Callable[..., Store]) -> None:
    store = make_store()
    ids = [f"job{number:03}" for number in range(200)]
    for job_id in ids:
        register(store, job_id)
    taken: list[str] = []
    start = threading.Barrier(4)

    def claim_all() -> None:
        own = make_store()
        start.wait()
        while claims := own.claim(7, LEASE_S):
            taken.extend(claimed_ids(claims))

    threads = [threading.Thread(target=claim_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(taken) == ids


def test_a_lost_message_is_published_again_after_the_lease_doubled_each_time(store: Store, clock: Clock) -> None:
    register(store, "job")
    gaps = []
    for _ in range(9):
        assert claimed_ids(store.claim(1, LEASE_S)) == ["job"]
        at = due_at(store, "job")
        assert at is not None
        gaps.append((at - clock.now) / LEASE_S)
        clock.now = at

    assert gaps == [1, 2, 4, 8, 16, 32, 64, 64, 64]


def test_a_claim_says_whether_a_countdown_a_message_or_a_lease_has_run_out(store: Store, clock: Clock) -> None:
    put(store, "a", JobState.RUNNING, delay_s=0)

    (ended,) = store.claim(10, LEASE_S)
    clock.advance(LEASE_S)
    (unread,) = store.claim(10, LEASE_S)
    begin(store, "a", Purpose.POLL)
    clock.advance(LEASE_S)
    (silent,) = store.claim(10, LEASE_S)

    assert [ended.lost, unread.lost, silent.lost] == [None, Lost.MESSAGE, Lost.LEASE]


def test_a_job_about_to_be_published_counts_as_lost_only_after_its_delay(store: Store, clock: Clock) -> None:
    register(store, "job", delay_s=LEASE_S, published=True)

    clock.advance(LEASE_S - 1)
    assert store.claim(1, LEASE_S) == []

    clock.advance(1)
    assert claimed_ids(store.claim(1, LEASE_S)) == ["job"]


@pytest.mark.parametrize("state", JobState)
def test_a_claim_carries_the_record_where_the_message_is_made_from_it(store: Store, state: JobState) -> None:
    put(store, "job", state, delay_s=0)

    claim = store.claim(1, LEASE_S)[0]

    assert claim == Claim("job", state, None if state in POLLED else a_record())


def test_a_released_job_is_due_now_and_its_lost_message_is_not_counted(store: Store, clock: Clock) -> None:
    register(store, "job")
    store.claim(1, LEASE_S)

    assert store.release(["job", "unknown"]) == 1
    assert due_at(store, "job") == clock.now
    assert store.release(["job"]) == 0
    assert begin(store, "job").claims == 0


def test_of_several_lost_messages_a_release_takes_back_the_last(store: Store, clock: Clock) -> None:
    register(store, "job")
    for _ in range(3):
        store.claim(1, LEASE_S)
        clock.advance(64 * LEASE_S)
    store.release(["job"])

    assert begin(store, "job").claims == 2


def test_releasing_a_job_named_twice_counts_it_once(store: Store) -> None:
    register(store, "job")
    store.claim(1, LEASE_S)

    assert store.release(["job", "job"]) == 1


def test_release_leaves_a_job_alone_that_somebody_has_begun(store: Store, clock: Clock) -> None:
    register(store, "job")
    store.claim(1, LEASE_S)
    begin(store, "job")

    assert store.release(["job"]) == 0
    assert due_at(store, "job") == clock.now + LEASE_S


# -- begin and renew --------------------------------------------------------------------------------------------------


def test_a_lease_says_what_its_holder_needs(store: Store, clock: Clock) -> None:
    register(store, "job", published=True)

    assert begin(store, "job") == Lease("job", 1, 0, JobState.QUEUED, a_record(), None, BODY, clock.now)
    assert due_at(store, "job") == clock.now + LEASE_S


def test_a_lease_says_how_often_its_message_was_published_again(store: Store, clock: Clock) -> None:
    register(store, "job", published=True)
    for _ in range(3):
        clock.advance(1000)
        store.claim(1, LEASE_S)

    assert begin(store, "job").claims == 3


def test_a_job_has_one_holder_at_a_time(store: Store) -> None:
    register(store, "job", published=True)
    begin(store, "job")

    assert store.begin(["job"], Purpose.GENERATE, LEASE_S) == []


def test_a_job_named_twice_is_leased_once(store: Store) -> None:
    register(store, "job", published=True)

    assert len(store.begin(["job", "job"], Purpose.GENERATE, LEASE_S)) == 1


def test_a_doubled_message_begins_nothing_while_the_countdown_runs(store: Store, clock: Clock) -> None:
    put(store, "job", JobState.RUNNING, delay_s=10)

    assert store.begin(["job"], Purpose.POLL, LEASE_S) == []

    clock.advance(10)
    assert begin(store, "job", Purpose.POLL).token == 2


def test_a_dead_holder_is_followed_by_another_with_a_higher_token(store: Store, clock: Clock) -> None:
    register(store, "job", published=True)
    tokens = []
    for _ in range(3):
        tokens.append(begin(store, "job").token)
        clock.advance(LEASE_S)

    assert tokens == [1, 2, 3]


@pytest.mark.parametrize("state", POLLED)
def test_an_accepted_job_is_leased_for_polls_only(store: Store, state: JobState) -> None:
    put(store, "job", state, delay_s=0)

    assert store.begin(["job"], Purpose.GENERATE, LEASE_S) == []
    assert begin(store, "job", Purpose.POLL).body is None


@pytest.mark.parametrize("state", UNPOLLED)
def test_a_queued_or_finished_job_is_leased_for_generate_only(store: Store, state: JobState) -> None:
    put(store, "job", state, delay_s=0)

    assert store.begin(["job"], Purpose.POLL, LEASE_S) == []
    assert begin(store, "job", Purpose.GENERATE).state is state


def test_unknown_ids_are_skipped(store: Store) -> None:
    register(store, "job", published=True)

    leases = store.begin(["unknown", "job"], Purpose.GENERATE, LEASE_S)

    assert [lease.job_id for lease in leases] == ["job"]


def test_a_renewed_lease_holds_from_then_on(store: Store, clock: Clock) -> None:
    register(store, "job", published=True)
    lease = begin(store, "job")

    clock.advance(LEASE_S - 1)
    store.renew([lease], LEASE_S)
    clock.advance(LEASE_S - 1)

    assert store.claim(1, LEASE_S) == []
    assert due_at(store, "job") == clock.now + 1


def test_all_leases_of_a_worker_are_renewed_together(store: Store, clock: Clock) -> None:
    ids = [f"job{number}" for number in range(4)]
    for job_id in ids:
        register(store, job_id, published=True)
    leases = store.begin(ids, Purpose.GENERATE, LEASE_S)
    clock.advance(LEASE_S - 1)

    store.renew(leases, LEASE_S)

    assert [due_at(store, job_id) for job_id in ids] == [clock.now + LEASE_S] * 4


def test_a_lost_lease_is_not_renewed(store: Store, clock: Clock) -> None:
    register(store, "job", published=True)
    late = begin(store, "job")
    clock.advance(LEASE_S)
    begin(store, "job", lease_s=2)

    store.renew([late], 1000)

    assert due_at(store, "job") == clock.now + 2


def test_a_lease_whose_job_was_published_again_is_not_renewed(store: Store, clock: Clock) -> None:
    """Renewing it would keep the one who answers the message from beginning."""
    register(store, "job", published=True)
    late = begin(store, "job")
    clock.advance(LEASE_S)
    store.claim(1, LEASE_S)

    store.renew([late], 1000)

    assert due_at(store, "job") == clock.now + LEASE_S
    assert begin(store, "job").token > late.token


# -- write ------------------------------------------------------------------------------------------------------------


def test_writing_back_ends_the_lease_and_starts_the_countdown(store: Store, clock: Clock) -> None:
    register(store, "job", published=True)
    record = a_record(polls=1)

    assert store.write(begin(store, "job"), JobState.PENDING, record, delay_s=7)

    entry = store.get(["job"])[0]
    assert entry is not None
    assert (entry.state, entry.record, entry.due_at) == (JobState.PENDING, record, clock.now + 7)


def test_a_job_written_back_as_published_can_begin_at_once(store: Store) -> None:
    register(store, "job", published=True)

    store.write(begin(store, "job"), JobState.COMPLETED, a_record(), delay_s=LEASE_S, published=True)

    assert begin(store, "job").token == 2


def test_writing_back_forgets_how_often_the_message_was_lost(store: Store, clock: Clock) -> None:
    register(store, "job")
    store.claim(1, LEASE_S)
    clock.advance(LEASE_S)
    store.claim(1, LEASE_S)
    store.write(begin(store, "job"), JobState.QUEUED, a_record(), delay_s=0)

    store.claim(1, LEASE_S)

    assert due_at(store, "job") == clock.now + LEASE_S
    assert begin(store, "job").claims == 1


def test_a_clock_that_jumps_makes_a_job_early_or_late_by_the_jump_and_loses_nothing(store: Store, clock: Clock) -> None:
    register(store, "job", delay_s=10)

    clock.advance(-3600)
    assert store.next_due_s() == pytest.approx(3610)
    clock.advance(7200)
    assert [claim.job_id for claim in store.claim(1, LEASE_S)] == ["job"]
    lease = begin(store, "job")
    clock.advance(-3600)
    assert store.write(lease, JobState.PENDING, a_record(), delay_s=5), "nobody else has begun"
    assert store.next_due_s() == pytest.approx(5), "what is written after the jump is on time"


def test_a_late_holder_writes_nothing(store: Store, clock: Clock) -> None:
    register(store, "job", published=True)
    late = begin(store, "job")
    clock.advance(LEASE_S)
    now_holding = begin(store, "job")

    assert store.write(late, JobState.FAILED, a_record(), delay_s=0) is False
    assert state_of(store, "job") is JobState.QUEUED
    assert store.write(now_holding, JobState.PENDING, a_record(), delay_s=5)
    assert store.write(late, JobState.FAILED, a_record(), delay_s=0) is False
    assert state_of(store, "job") is JobState.PENDING


@pytest.mark.parametrize("is_released", [False, True])
def test_a_late_write_that_says_it_held_has_been_made(store: Store, clock: Clock, *, is_released: bool) -> None:
    """
    The lease ran out and the message was published again, but nobody has begun since.

    Whoever is told "held" goes on to publish callbacks and reports, so the store must have it.
    """
    put(store, "job", JobState.RUNNING, delay_s=0)
    late = begin(store, "job", Purpose.POLL)
    clock.advance(LEASE_S)
    store.claim(1, LEASE_S)
    if is_released:
        store.release(["job"])

    held = store.write(late, JobState.COMPLETED, a_record(polls=1), delay_s=LEASE_S, published=True)

    assert held == (state_of(store, "job") is JobState.COMPLETED)


def test_writing_twice_after_a_lost_answer_is_writing_once(store: Store, clock: Clock) -> None:
    register(store, "job", published=True)
    lease = begin(store, "job")

    answers = [store.write(lease, JobState.PENDING, a_record(polls=1), delay_s=7) for _ in range(2)]

    assert answers == [True, True]
    assert due_at(store, "job") == clock.now + 7


@pytest.mark.parametrize("end", sorted(TERMINAL_STATES))
@pytest.mark.parametrize("other", JobState)
def test_a_terminal_state_is_never_left(store: Store, end: JobState, other: JobState) -> None:
    put(store, "job", end, delay_s=0)

    held = store.write(begin(store, "job"), other, a_record(polls=9), delay_s=0)

    assert held == (other is end)
    assert state_of(store, "job") is end


def test_the_prompt_is_dropped_once_the_job_was_accepted(store: Store, clock: Clock) -> None:
    register(store, "job", published=True)

    store.write(begin(store, "job"), JobState.QUEUED, a_record(), delay_s=0)
    retry = begin(store, "job")
    store.write(retry, JobState.PENDING, a_record(), delay_s=0)

    assert retry.body == BODY
    assert begin(store, "job", Purpose.POLL).body is None


def test_a_cancel_that_came_while_the_holder_worked_is_due_now(store: Store, clock: Clock) -> None:
    put(store, "job", JobState.RUNNING, delay_s=0)
    lease = begin(store, "job", Purpose.POLL)
    store.request_cancel("job", "changed my mind")

    store.write(lease, JobState.RUNNING, a_record(), delay_s=30)

    assert due_at(store, "job") == clock.now
    assert begin(store, "job", Purpose.POLL).cancel == "changed my mind"


def test_a_holder_who_knew_of_the_cancel_sets_the_countdown(store: Store, clock: Clock) -> None:
    put(store, "job", JobState.RUNNING, delay_s=0)
    store.request_cancel("job", "changed my mind")
    lease = begin(store, "job", Purpose.POLL)

    store.write(lease, JobState.RUNNING, a_record(), delay_s=3)

    assert due_at(store, "job") == clock.now + 3


def test_a_cancel_that_came_too_late_does_not_hurry_the_end(store: Store, clock: Clock) -> None:
    """The finishing message is about to be published: the lease must count from now."""
    put(store, "job", JobState.RUNNING, delay_s=0)
    lease = begin(store, "job", Purpose.POLL)
    store.request_cancel("job", "changed my mind")

    store.write(lease, JobState.COMPLETED, a_record(), delay_s=LEASE_S, published=True)

    assert due_at(store, "job") == clock.now + LEASE_S


def test_many_writes_are_answered_one_by_one(store: Store, clock: Clock) -> None:
    for job_id in ("a", "b", "c"):
        register(store, job_id, published=True)
    leases = store.begin(["a", "b", "c"], Purpose.GENERATE, LEASE_S)
    clock.advance(LEASE_S)
    begin(store, "b")

    held = store.write_many([Write(lease, JobState.PENDING, a_record(), 5) for lease in leases])

    assert held == [True, False, True]
    assert [state_of(store, job_id) for job_id in "abc"] == [JobState.PENDING, JobState.QUEUED, JobState.PENDING]


def test_nothing_to_do_needs_no_job(store: Store) -> None:
    assert store.write_many([]) == []
    assert store.begin([], Purpose.POLL, LEASE_S) == []
    assert store.get([]) == []
    assert store.release([]) == 0
    assert store.touch([]) == 0
    store.renew([], LEASE_S)


# -- end --------------------------------------------------------------------------------------------------------------


def test_an_ended_job_is_off_the_schedule_but_still_known(store: Store, clock: Clock) -> None:
    put(store, "job", JobState.COMPLETED, delay_s=0)

    assert store.end(begin(store, "job"), ttl_s=60)

    assert state_of(store, "job") is JobState.COMPLETED
    assert due_at(store, "job") is None
    assert store.open_count() == 0
    clock.advance(30)
    assert store.claim(10, LEASE_S) == []
    assert store.begin(["job"], Purpose.GENERATE, LEASE_S) == []
    assert not register(store, "job").is_new


def test_an_ended_job_keeps_nothing_that_only_its_messages_needed(store: Store) -> None:
    record = a_record(options={"chain": [{"args": ["m", {"prompt": "of the next job"}]}]}, polls=3)
    put(store, "job", JobState.RUNNING, delay_s=0)
    assert store.write(begin(store, "job", Purpose.POLL), JobState.COMPLETED, record, delay_s=0)
    lease = begin(store, "job")
    assert lease.record == record

    store.end(lease, ttl_s=60)

    entry = store.get(["job"])[0]
    assert entry is not None
    assert entry.record == a_record(polls=3)


def test_ending_twice_after_a_lost_answer_is_ending_once(store: Store) -> None:
    put(store, "job", JobState.COMPLETED, delay_s=0)
    lease = begin(store, "job")

    assert [store.end(lease, ttl_s=60) for _ in range(2)] == [True, True]


def test_a_late_holder_ends_nothing(store: Store, clock: Clock) -> None:
    put(store, "job", JobState.COMPLETED, delay_s=0)
    late = begin(store, "job")
    clock.advance(LEASE_S)
    begin(store, "job")

    assert store.end(late, ttl_s=60) is False
    assert store.open_count() == 1


def test_one_who_finished_late_still_ends_a_job_that_nobody_began_since(store: Store, clock: Clock) -> None:
    """Its callbacks are out; publishing them once more would help nobody."""
    put(store, "job", JobState.COMPLETED, delay_s=0)
    late = begin(store, "job")
    clock.advance(LEASE_S)
    store.claim(1, LEASE_S)

    assert store.end(late, ttl_s=60)
    assert store.begin(["job"], Purpose.GENERATE, LEASE_S) == []


def test_a_write_repeated_after_the_end_is_answered_as_before_and_changes_nothing(store: Store) -> None:
    put(store, "job", JobState.COMPLETED, delay_s=0)
    lease = begin(store, "job")
    store.end(lease, ttl_s=60)

    assert store.write(lease, JobState.COMPLETED, a_record(digest="other"), delay_s=0)
    assert due_at(store, "job") is None
    entry = store.get(["job"])[0]
    assert entry is not None
    assert entry.record == a_record()


# -- cancel and touch -------------------------------------------------------------------------------------------------


def test_a_cancel_makes_a_waiting_job_due_now(store: Store, clock: Clock) -> None:
    put(store, "job", JobState.RUNNING, delay_s=30)

    assert store.request_cancel("job", "enough") is JobState.RUNNING

    entry = store.get(["job"])[0]
    assert entry is not None
    assert (entry.cancel, entry.due_at) == ("enough", clock.now)


def test_a_cancel_never_makes_an_overdue_job_wait(store: Store, clock: Clock) -> None:
    put(store, "job", JobState.RUNNING, delay_s=5)
    was_due_at = due_at(store, "job")
    clock.advance(60)

    store.request_cancel("job", "enough")

    assert due_at(store, "job") == was_due_at


def test_the_first_reason_to_cancel_stands(store: Store) -> None:
    put(store, "job", JobState.RUNNING, delay_s=30)

    store.request_cancel("job", "first")
    store.request_cancel("job", "second")

    assert begin(store, "job", Purpose.POLL).cancel == "first"


def test_a_cancel_without_a_reason_is_a_cancel(store: Store) -> None:
    put(store, "job", JobState.RUNNING, delay_s=30)

    store.request_cancel("job", "")

    assert begin(store, "job", Purpose.POLL).cancel is not None


def test_a_cancel_leaves_a_lease_to_its_holder(store: Store, clock: Clock) -> None:
    register(store, "job", published=True)
    begin(store, "job")

    store.request_cancel("job", "enough")

    assert due_at(store, "job") == clock.now + LEASE_S
    assert store.begin(["job"], Purpose.GENERATE, LEASE_S) == []


@pytest.mark.parametrize("state", sorted(TERMINAL_STATES))
def test_a_finished_job_can_not_be_cancelled(store: Store, clock: Clock, state: JobState) -> None:
    put(store, "job", state, delay_s=5)

    assert store.request_cancel("job", "enough") is state

    entry = store.get(["job"])[0]
    assert entry is not None
    assert (entry.cancel, entry.due_at) == (None, clock.now + 5)


def test_an_unknown_job_can_not_be_cancelled(store: Store) -> None:
    assert store.request_cancel("unknown", "enough") is None
    assert store.get(["unknown"]) == [None]


def test_touch_shortens_countdowns_and_never_lengthens_them(store: Store, clock: Clock) -> None:
    put(store, "late", JobState.RUNNING, delay_s=30)
    put(store, "soon", JobState.RUNNING, delay_s=1)

    assert store.touch(["late", "soon", "unknown"], 5) == 2
    assert due_at(store, "late") == clock.now + 5
    assert due_at(store, "soon") == clock.now + 1
    register(store, "new", delay_s=30)
    assert store.touch(["late", "new"]) == 2
    assert due_at(store, "late") == due_at(store, "new") == clock.now


def test_touch_leaves_leased_claimed_and_finished_jobs_alone(store: Store, clock: Clock) -> None:
    register(store, "claimed", delay_s=9, published=True)
    register(store, "leased", published=True)
    begin(store, "leased")
    put(store, "finished", JobState.FAILED, delay_s=8)

    assert store.touch(["claimed", "leased", "finished"]) == 2
    assert due_at(store, "claimed") == clock.now + 9
    assert due_at(store, "leased") == clock.now + LEASE_S
    assert due_at(store, "finished") == clock.now + 8


# -- announcements ----------------------------------------------------------------------------------------------------

GAP_S = 2.0


def poll(store: Store, job_id: str, *, delay_s: float = 30.0, state: JobState = JobState.RUNNING) -> None:
    assert store.write(begin(store, job_id, Purpose.POLL), state, a_record(), delay_s=delay_s)


def test_an_announcement_makes_a_waiting_job_due_now(store: Store, clock: Clock) -> None:
    put(store, "job", JobState.RUNNING, delay_s=30)

    assert store.announce("job", GAP_S)
    assert due_at(store, "job") == clock.now


def test_a_holder_is_told_when_the_last_announcement_came(store: Store, clock: Clock) -> None:
    put(store, "job", JobState.RUNNING, delay_s=30)
    clock.advance(5)
    store.announce("job", GAP_S)
    heard_at = clock.now
    clock.advance(1)

    assert begin(store, "job", Purpose.POLL).heard_at == heard_at


def test_an_announcement_never_makes_a_job_wait_longer(store: Store, clock: Clock) -> None:
    put(store, "job", JobState.RUNNING, delay_s=30)
    store.announce("job", GAP_S)
    poll(store, "job", delay_s=1)

    assert store.announce("job", GAP_S)
    assert due_at(store, "job") == clock.now + 1


def test_a_flood_of_announcements_makes_a_job_due_once_in_a_gap(store: Store, clock: Clock) -> None:
    put(store, "job", JobState.RUNNING, delay_s=30)
    start, looked_at = clock.now, []
    for _ in range(72):
        assert store.announce("job", GAP_S)
        if store.claim(1, LEASE_S):
            lease = begin(store, "job", Purpose.POLL)
            assert [store.announce("job", GAP_S) for _ in range(3)] == [True] * 3
            store.write(lease, JobState.RUNNING, a_record(), delay_s=30)
            looked_at.append(clock.now - start)
        clock.advance(0.125)

    assert looked_at == [0.0, 2.0, 4.0, 6.0, 8.0], "expected a look at once and one in each gap after it"


def test_what_is_announced_while_a_worker_is_at_it_is_looked_at_again(store: Store, clock: Clock) -> None:
    put(store, "job", JobState.RUNNING, delay_s=0)
    lease = begin(store, "job", Purpose.POLL)
    assert store.announce("job", GAP_S)
    clock.advance(0.5)

    # twice: the first answer may be lost
    assert [store.write(lease, JobState.RUNNING, a_record(), delay_s=30) for _ in range(2)] == [True, True]
    assert due_at(store, "job") == clock.now
    poll(store, "job")
    assert due_at(store, "job") == clock.now + 30, "once is enough"


def test_what_is_announced_before_the_submit_is_answered_counts_after_it(store: Store, clock: Clock) -> None:
    for job_id, state in (("accepted", JobState.PENDING), ("held back", JobState.QUEUED)):
        register(store, job_id, published=True)
        lease = begin(store, job_id)
        assert store.announce(job_id, GAP_S)
        store.write(lease, state, a_record(), delay_s=30)

    assert due_at(store, "accepted") == clock.now
    assert due_at(store, "held back") == clock.now + 30, "nobody can have called back for a job that is not there"


def test_announcements_leave_jobs_alone_that_have_not_begun_or_are_over(store: Store, clock: Clock) -> None:
    register(store, "delayed", delay_s=60)
    put(store, "finished", JobState.COMPLETED, delay_s=8)
    put(store, "claimed", JobState.RUNNING, delay_s=0)
    store.claim(1, LEASE_S)

    told = {name: store.announce(name, GAP_S) for name in ("delayed", "finished", "claimed", "unknown")}

    assert told == {"delayed": True, "finished": False, "claimed": True, "unknown": False}
    assert due_at(store, "delayed") == clock.now + 60
    assert due_at(store, "finished") == clock.now + 8
    assert due_at(store, "claimed") == clock.now + LEASE_S


# -- reading ----------------------------------------------------------------------------------------------------------


def test_jobs_are_read_in_the_order_asked_for(store: Store) -> None:
    put(store, "a", JobState.RUNNING)
    put(store, "b", JobState.FAILED)

    entries = store.get(["b", "unknown", "a", "b"])

    assert [entry and entry.state for entry in entries] == [JobState.FAILED, None, JobState.RUNNING, JobState.FAILED]


def test_a_reader_sees_what_goes_on_with_a_job(store: Store, clock: Clock) -> None:
    def seen() -> tuple[Phase, int, int]:
        [entry] = store.get(["job"])
        assert entry is not None
        return entry.phase, entry.token, entry.claims

    register(store, "job")
    steps = [seen()]
    store.claim(1, LEASE_S)
    steps.append(seen())
    lease = begin(store, "job")
    steps.append(seen())
    store.write(lease, JobState.FAILED, a_record(), delay_s=0)
    steps.append(seen())
    store.end(begin(store, "job"), 60)
    steps.append(seen())

    assert steps == [
        (Phase.WAITING, 0, 0),
        (Phase.CLAIMED, 0, 1),
        (Phase.LEASED, 1, 1),
        (Phase.WAITING, 1, 0),
        (Phase.ENDED, 2, 0),
    ]


def test_the_ids_of_open_jobs_are_those_on_the_schedule(store: Store) -> None:
    for job_id in ("fox-1", "fox-2", "f*", "hare"):
        register(store, job_id)
    put(store, "running", JobState.RUNNING)
    put(store, "over", JobState.FAILED, delay_s=0)
    store.end(begin(store, "over"), 60)

    assert sorted(store.open_ids()) == ["f*", "fox-1", "fox-2", "hare", "running"]
    assert sorted(store.open_ids("fox")) == ["fox-1", "fox-2"]
    assert list(store.open_ids("f*")) == ["f*"], "a star is a letter as any other"
    assert list(store.open_ids("nobody")) == []


def test_the_store_tells_its_own_time(store: Store, clock: Clock) -> None:
    assert store.now() == clock.now


def test_open_jobs_wait_for_ever(store: Store, clock: Clock) -> None:
    for state in OPEN_STATES:
        put(store, state.value, state)
    clock.advance(10 * 365 * 86400)

    assert store.open_count() == store.due_count() == len(OPEN_STATES)
    assert len(store.claim(10, LEASE_S)) == len(OPEN_STATES)


@pytest.mark.parametrize(("options", "kept"), [({}, None), ({"keep_body": False}, None), ({"keep_body": True}, BODY)])
def test_bodies_are_kept_where_that_is_wanted(
    make_store: Callable[..., Store], options: dict[str, bool], kept: bytes | None
) -> None:
    store = make_store(**options)
    register(store, "job", published=True)
    store.write(begin(store, "job"), JobState.PENDING, a_record(), delay_s=0)

    if isinstance(store, RedisStore):
        body = store.client.get(store.key("body", "job"))
    else:
        assert isinstance(store, MemoryStore)
        body = store._jobs["job"].body

    assert body == kept
    assert begin(store, "job", Purpose.POLL).body is None, "only who submits needs it"


def test_memory_forgets_an_ended_job_after_its_time() -> None:
    clock = Clock()
    store = MemoryStore(clock)
    put(store, "job", JobState.COMPLETED, delay_s=0)
    lease = begin(store, "job")
    assert store.end(lease, ttl_s=60)

    clock.advance(59)
    assert store.end(lease, ttl_s=60), "a repeated end should be answered as the first, and prolong nothing"
    assert store.get(["job"]) != [None]
    clock.advance(1)
    assert store.get(["job"]) == [None]
    assert register(store, "job").is_new


def test_memory_says_that_it_is_no_server() -> None:
    assert MemoryStore().address == "this process's memory"


def test_memory_lists_the_jobs_that_it_remembers_in_the_order_in_which_they_came() -> None:
    clock = Clock()
    store = MemoryStore(clock)
    for job_id in ("b", "c", "a"):
        register(store, job_id)
    lease = begin(store, "b")
    store.write(lease, JobState.COMPLETED, a_record(), delay_s=0)
    store.end(lease, ttl_s=60)
    assert store.ids() == ["b", "c", "a"]

    clock.advance(60)

    assert store.ids() == ["c", "a"]
    register(store, "b")
    assert store.ids() == ["c", "a", "b"]


# -- what only Redis has ----------------------------------------------------------------------------------------------


@pytest.fixture
def redis_store(each_redis_url: str, namespace: str) -> Iterator[RedisStore]:
    """On the server's own clock, as in production."""
    with redis.Redis.from_url(each_redis_url) as client:
        yield RedisStore(client, namespace=namespace)


def test_redis_forgets_an_ended_job_and_nothing_else_expires(redis_store: RedisStore) -> None:
    put(redis_store, "open", JobState.PENDING)
    put(redis_store, "ended", JobState.COMPLETED, delay_s=0)
    lease = begin(redis_store, "ended")
    assert redis_store.end(lease, ttl_s=60)
    assert redis_store.end(lease, ttl_s=6000), "a repeated end should be answered as the first, and prolong nothing"
    client = redis_store.client

    assert 50_000 < client.pttl(redis_store.key("job", "ended")) <= 60_000
    assert client.pttl(redis_store.key("job", "open")) == -1
    assert client.exists(redis_store.key("body", "open"), redis_store.key("body", "ended")) == 0


def test_redis_forgets_a_kept_prompt_with_its_job(each_redis_url: str, namespace: str) -> None:
    with redis.Redis.from_url(each_redis_url) as client:
        store = RedisStore(client, namespace=namespace, keep_body=True)
        put(store, "job", JobState.COMPLETED, delay_s=0)
        store.end(begin(store, "job"), ttl_s=60)

        assert 50_000 < client.pttl(store.key("body", "job")) <= 60_000


def test_every_key_is_in_the_namespace(each_redis_url: str, namespace: str) -> None:
    with redis.Redis.from_url(each_redis_url, db=9) as client:  # which no other test has written to
        client.flushdb()
        store = RedisStore(client, namespace=namespace)
        put(store, "job", JobState.RUNNING)
        register(store, "other")

        keys = set(client.keys("*"))

    lane = lane_of(a_record())
    names = (f"due:poll:{lane}", f"due:submit:{lane}", "job:job", "job:other", "body:other", "census")
    assert keys == {f"{{{namespace}}}:{name}".encode() for name in names}


def test_what_is_to_be_set_beside_a_job_is_set_for_new_ones_only(redis_store: RedisStore) -> None:
    client = redis_store.client
    register(redis_store, "known")
    names = {name: redis_store.key("beside", name) for name in ("for ever", "for a minute", "not new")}
    ttls = {"for ever": 0, "for a minute": 60, "not new": 60}

    ids = {name: "known" if name == "not new" else name.replace(" ", "-") for name in names}

    redis_store.register_many(
        [registration(job_id, record=a_record(digest="other")) for job_id in ids.values()],
        {job_id: Beside(names[name], "entry", ttls[name]) for name, job_id in ids.items()},
    )

    assert client.mget(names.values()) == [b"entry", b"entry", None]
    assert client.ttl(names["for ever"]) == -1
    assert 50 < client.ttl(names["for a minute"]) <= 60


def test_a_message_is_pushed_along_with_its_job_if_that_is_new(redis_store: RedisStore) -> None:
    queue = redis_store.key("queue", "celery")
    register(redis_store, "known")
    messages = {job_id: Message(queue, f"about {job_id}") for job_id in ("known", "one", "two")}

    redis_store.register_many([registration(job_id) for job_id in ("known", "one", "silent", "two")], messages=messages)

    assert redis_store.client.lrange(queue, 0, -1) == [b"about two", b"about one"], "the list's end is read first"


def test_a_claim_drops_what_is_on_the_schedule_without_being_a_job_of_that_lane(redis_store: RedisStore) -> None:
    client, own = redis_store.client, lane_of(a_record())
    register(redis_store, "job")
    put(redis_store, "ended", JobState.FAILED, delay_s=0)
    assert redis_store.end(begin(redis_store, "ended"), 60)
    strays = {f"due:submit:{own}": "unknown", f"due:poll:{own}": "ended", f"due:submit:{(own + 1) % LANES}": "job"}
    for name, job_id in strays.items():
        client.zadd(redis_store.key("", "").removesuffix(":") + name, {job_id: 0})

    assert claimed_ids(redis_store.claim(10, LEASE_S)) == ["job"]
    assert redis_store.open_count() == 1


def test_namespaces_do_not_see_each_other(redis_store: RedisStore, namespace: str) -> None:
    register(redis_store, "job")
    other = RedisStore(redis_store.client, namespace=f"{namespace}-2")

    assert other.get(["job"]) == [None]
    assert other.claim(10, LEASE_S) == []
    assert register(other, "job").is_new


def test_followers_hear_of_each_change_and_of_no_late_one(redis_store: RedisStore) -> None:
    with redis_store.client.pubsub(ignore_subscribe_messages=True) as followed:
        followed.subscribe(redis_store.channel("job"))
        followed.get_message(timeout=5)
        register(redis_store, "job", published=True)
        lease = begin(redis_store, "job", lease_s=0.001)
        while not redis_store.due_count():
            pass  # until the lease has run out, a millisecond later
        begin(redis_store, "job")
        redis_store.write(lease, JobState.FAILED, a_record(), delay_s=0, notice="late")
        holding = lease.__class__(**{name: getattr(lease, name) for name in lease.__slots__} | {"token": 2})
        redis_store.write(holding, JobState.PENDING, a_record(), delay_s=0)  # without a notice
        redis_store.write(holding, JobState.PENDING, a_record(), delay_s=0, notice="accepted")

        message = followed.get_message(timeout=5)

        assert message is not None, "the change should have been published"
        assert message["data"] == b"accepted"


def test_the_servers_clock_rules(redis_store: RedisStore) -> None:
    def server_time() -> float:
        seconds, micros = redis_store.client.time()
        return int(seconds) + int(micros) / 1e6

    before = server_time()
    assert before - 0.001 <= redis_store.now() <= server_time() + 0.001
    register(redis_store, "job", delay_s=100)
    assert due_at(redis_store, "job") == pytest.approx(redis_store.now() + 100, abs=1.0)


def test_the_servers_clock_is_asked_once(redis_store: RedisStore) -> None:
    def asked() -> int:
        return int(redis_store.client.info("commandstats").get("cmdstat_time", {"calls": 0})["calls"])

    before = asked()

    assert redis_store.now() <= redis_store.now() <= redis_store.now()
    assert asked() == before + 1


def test_a_server_that_does_not_know_us_that_is_not_there_or_that_hangs_is_told_from_one_that_refuses(
    redis_url: str, namespace: str
) -> None:
    def failed(url: str) -> StoreError:
        with connect(SecretStr(url), patience_s=0.4) as client:
            store = RedisStore(client, namespace=namespace)
            with pytest.raises(StoreError, match=f"^Redis at {store.address} ") as caught:
                store.newer_count()
        # redis-py's frames and messages may hold the password
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__
        assert "hush" not in str(caught.value)
        return caught.value

    with redis.Redis.from_url(redis_url) as client:
        client.set(f"{{{namespace}}}:newer", "not ours")
    stranger, refused = failed(redis_url.replace("://", "://stranger:hush@")), failed(redis_url)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        nobody = failed(f"redis://user:hush@127.0.0.1:{listener.getsockname()[1]}/0")
        listener.listen()
        silent = failed(f"redis://user:hush@127.0.0.1:{listener.getsockname()[1]}/0")

    assert "refuses the user name or password" in str(stranger)
    assert "refused a command: WRONGTYPE" in str(refused)
    assert type(stranger) is type(refused) is StoreError
    for unreachable in (nobody, silent):
        assert isinstance(unreachable, StoreUnreachable)
        assert "can't be reached" in str(unreachable)
        assert str(unreachable).endswith("Is it running?")


def test_a_server_that_may_evict_jobs_is_refused_by_name(redis_store: RedisStore) -> None:
    redis_store.check()
    redis_store.client.config_set("maxmemory-policy", "volatile-ttl")
    try:
        with pytest.raises(SettingsError, match=f"{redis_store.address} .*volatile-ttl.* to noeviction"):
            redis_store.check()
    finally:
        redis_store.client.config_set("maxmemory-policy", "noeviction")


def test_jobs_survive_the_loss_of_the_servers_scripts(redis_store: RedisStore) -> None:
    """A server that restarts, or a replica that takes over, knows no script."""
    register(redis_store, "job")
    redis_store.client.script_flush()

    assert claimed_ids(redis_store.claim(1, LEASE_S)) == ["job"]


def test_a_waiting_job_takes_little_room(redis_store: RedisStore) -> None:
    record = a_record(
        digest="0" * 32,
        options={"root_id": "0" * 36, "link": [{"task": "shop.publish", "kwargs": {"user_id": 7}, "options": {}}]},
        remote={"task_id": "task_01HQX9F2P6Y8VEX3CRZ8GXJVD9", "status": "running", "estimated_seconds": 35},
    )
    redis_store.register("job", record, BODY * 100, delay_s=0, published=False)
    redis_store.write(begin(redis_store, "job"), JobState.RUNNING, record, delay_s=30)

    used = sum(redis_store.client.memory_usage(key) or 0 for key in [redis_store.key("job", "job")])

    assert used <= 320, f"a job without its prompt should take at most 320 bytes, not {used}"


# -- survey -----------------------------------------------------------------------------------------------------------


def test_a_survey_counts_what_is_to_be_submitted_what_is_to_be_polled_and_what_is_overdue(
    store: Store, clock: Clock
) -> None:
    register(store, "a", delay_s=5)
    put(store, "b", JobState.RUNNING, delay_s=1)
    put(store, "c", JobState.PENDING, delay_s=3)
    clock.advance(4)

    survey = store.survey(2)

    assert (survey.to_submit, survey.to_poll) == (1, 2)
    assert (survey.overdue, survey.overdue_s) == (1, 3)
    assert (store.survey(3).overdue, store.survey(3.5).overdue) == (1, 0)
    put(store, "ended", JobState.FAILED, delay_s=0)
    assert store.end(begin(store, "ended"), 60)
    assert store.survey(2) == survey, "what has ended waits for nobody"


def test_a_survey_of_nothing_finds_nothing_and_nothing_overdue(store: Store) -> None:
    assert store.survey(2) == Survey(to_submit=0, to_poll=0, overdue=0, overdue_s=0.0, newer=0, census={})


def test_a_claimed_job_is_not_overdue_until_its_message_counts_as_lost(store: Store, clock: Clock) -> None:
    put(store, "a", JobState.RUNNING, delay_s=0)
    clock.advance(10)
    store.claim(10, LEASE_S)

    assert (store.survey(2).overdue, store.survey(2).overdue_s) == (0, 0)


def test_a_survey_knows_how_many_open_jobs_there_are_of_each_state_and_model(store: Store) -> None:
    for job_id in "abc":
        register(store, job_id)
    store.register("v", a_record(model="veo 3.1"), BODY, delay_s=0, published=False)

    assert store.survey(2).census == {(JobState.QUEUED, "sora-2"): 3, (JobState.QUEUED, "veo 3.1"): 1}

    lease = begin(store, "a")
    store.write(lease, JobState.RUNNING, a_record(), delay_s=0)
    store.write(lease, JobState.RUNNING, a_record(), delay_s=0)  # whose answer was lost
    store.write(begin(store, "a", Purpose.POLL), JobState.RUNNING, a_record(), delay_s=0)
    store.write(begin(store, "b"), JobState.FAILED, a_record(), delay_s=0)
    register(store, "c")  # once more

    assert store.survey(2).census == {
        (JobState.QUEUED, "sora-2"): 1,
        (JobState.RUNNING, "sora-2"): 1,
        (JobState.QUEUED, "veo 3.1"): 1,
    }


def test_a_late_write_changes_no_count(store: Store, clock: Clock) -> None:
    register(store, "a")
    late = begin(store, "a")
    clock.advance(LEASE_S)
    store.write(begin(store, "a"), JobState.RUNNING, a_record(), delay_s=0)

    assert not store.write(late, JobState.FAILED, a_record(), delay_s=0)
    assert store.survey(2).census == {(JobState.RUNNING, "sora-2"): 1}


def test_when_nothing_is_open_nothing_is_counted(redis_store: RedisStore) -> None:
    register(redis_store, "a")
    register(redis_store, "b")
    redis_store.write(begin(redis_store, "a"), JobState.RUNNING, a_record(), delay_s=0)
    for job_id in "ab":  # by hand
        redis_store.client.delete(redis_store.key("job", job_id))
    redis_store.claim(10, LEASE_S)

    assert redis_store.survey(2).census == {}
    assert not redis_store.client.exists(redis_store.key("census", "").removesuffix(":"))


def test_a_job_from_before_the_counting_counts_as_none(redis_store: RedisStore) -> None:
    register(redis_store, "a")
    redis_store.client.delete(redis_store.key("census", "").removesuffix(":"))
    redis_store.write(begin(redis_store, "a"), JobState.QUEUED, a_record(), delay_s=0)
    assert redis_store.survey(2).census == {}
    redis_store.write(begin(redis_store, "a"), JobState.RUNNING, a_record(), delay_s=0)

    assert redis_store.survey(2).census == {(JobState.RUNNING, "sora-2"): 1}
