"""
Workers of two versions over the same jobs: the older one leaves the newer one's alone, and is not held up by them.

``old`` and ``new`` are two stores over the same data, of the present version and of the next.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import redis

from tasks_bridge.record import RECORD_VERSION, JobRecord, JobState
from tasks_bridge.store import Lease, Purpose, Store
from tasks_bridge.store.memory import MemoryStore
from tasks_bridge.store.redis import RedisStore

OLD, NEW = RECORD_VERSION, RECORD_VERSION + 1
LEASE_S = 15.0


class Clock:
    now = 1_795_392_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Pair:
    old: Store
    new: Store
    clock: Clock


@pytest.fixture(params=["memory", "packaged", "installed"])
def pair(request: pytest.FixtureRequest, namespace: str) -> Iterator[Pair]:
    clock = Clock()
    if request.param == "memory":
        old = MemoryStore(clock, version=OLD)
        yield Pair(old, MemoryStore(clock, version=NEW, _jobs=old._jobs, _lock=old._lock), clock)
        return
    name = {"packaged": "redis_url", "installed": "installed_redis_url"}[request.param]
    with redis.Redis.from_url(request.getfixturevalue(name)) as client:
        stores = [RedisStore(client, namespace=namespace, clock=clock, version=version) for version in (OLD, NEW)]
        yield Pair(stores[0], stores[1], clock)


def a_record(version: int) -> JobRecord:
    return JobRecord(version=version, model="m", key="default", digest="d", created_at=1.0)


def put(store: Store, job_id: str, version: int, *, delay_s: float = 0.0, published: bool = False) -> None:
    store.register(job_id, a_record(version), b"body", delay_s=delay_s, published=published)


def claimed(store: Store, limit: int = 10) -> list[str]:
    return [claim.job_id for claim in store.claim(limit, LEASE_S)]


def begin(store: Store, job_id: str) -> Lease:
    leases = store.begin([job_id], Purpose.GENERATE, LEASE_S)

    assert len(leases) == 1, f"{job_id} should have been leased"
    return leases[0]


def test_a_worker_does_not_claim_jobs_of_a_newer_version(pair: Pair) -> None:
    put(pair.new, "newer", NEW)
    put(pair.old, "older", OLD)

    assert claimed(pair.old) == ["older"]
    assert claimed(pair.new) == ["newer"]


def test_a_newer_worker_claims_jobs_of_older_versions(pair: Pair) -> None:
    put(pair.old, "older", OLD)

    assert claimed(pair.new) == ["older"]


def test_a_worker_with_nothing_but_newer_jobs_is_not_kept_busy_by_them(pair: Pair) -> None:
    put(pair.new, "newer", NEW)

    assert claimed(pair.old) == []

    assert pair.old.next_due_s() is None, "the old worker should see no reason to look again"
    assert pair.new.next_due_s() == 0, "the new worker should come at once"
    assert pair.old.open_count() == pair.old.due_count() == 1, "the job should still count"
    assert (pair.old.newer_count(), pair.new.newer_count()) == (1, 0), "and the old worker can tell why it waits"


def test_newer_jobs_do_not_stand_before_older_ones(pair: Pair) -> None:
    for number in range(5):
        put(pair.new, f"newer{number}", NEW)
    pair.clock.now += 1
    put(pair.old, "older", OLD)

    turns = [claimed(pair.old, limit=2) for _ in range(4)]

    assert ["older"] in turns, "the old worker should get past the newer jobs, with the little room that it has"


def test_meeting_an_older_worker_costs_a_job_neither_time_nor_patience(pair: Pair) -> None:
    """A message that reached the wrong worker doesn't count as lost, so the next is not waited for longer."""
    put(pair.new, "newer", NEW)
    for _ in range(5):
        assert claimed(pair.new) == ["newer"], "the new worker should publish it again at once"
        assert pair.old.begin(["newer"], Purpose.GENERATE, LEASE_S) == []
        assert claimed(pair.old) == []

    assert claimed(pair.new) == ["newer"]
    assert begin(pair.new, "newer").claims == 1
    assert pair.new.get(["newer"])[0].due_at == pair.clock.now + LEASE_S  # type: ignore[union-attr]


def test_an_older_worker_takes_the_message_that_it_got_off_the_count_and_no_other(pair: Pair) -> None:
    put(pair.new, "newer", NEW)
    assert claimed(pair.new) == ["newer"]
    pair.clock.now += LEASE_S
    assert claimed(pair.new) == ["newer"], "the first message was lost"

    assert pair.old.begin(["newer"], Purpose.GENERATE, LEASE_S) == []
    assert begin(pair.new, "newer").claims == 1

    pair.clock.now += LEASE_S
    assert pair.old.begin(["newer"], Purpose.GENERATE, LEASE_S) == [], "its holder died, and a message is late"
    assert begin(pair.new, "newer").claims == 1


def test_a_newer_job_can_begin_although_an_older_worker_put_it_aside(pair: Pair) -> None:
    put(pair.new, "newer", NEW, published=True, delay_s=LEASE_S)
    assert pair.old.begin(["newer"], Purpose.GENERATE, LEASE_S) == []

    lease = begin(pair.new, "newer")

    assert lease.token == 1
    assert claimed(pair.new) == [], "a job with a holder is nobody else's"


def test_the_lease_of_a_newer_worker_is_left_alone_while_it_holds(pair: Pair) -> None:
    put(pair.new, "newer", NEW)
    lease = begin(pair.new, "newer")

    assert pair.old.begin(["newer"], Purpose.GENERATE, LEASE_S) == []
    assert claimed(pair.old) == []

    assert pair.new.write(lease, JobState.QUEUED, lease.record, delay_s=3)
    assert pair.new.next_due_s() == pytest.approx(3)


def test_a_newer_worker_that_died_is_followed_by_a_newer_one(pair: Pair) -> None:
    put(pair.new, "newer", NEW)
    dead = begin(pair.new, "newer")
    pair.clock.now += LEASE_S

    assert claimed(pair.old) == []

    assert claimed(pair.new) == ["newer"]
    assert begin(pair.new, "newer").token == dead.token + 1


def test_what_a_newer_worker_wrote_is_the_newer_workers_from_then_on(pair: Pair) -> None:
    put(pair.old, "job", OLD)

    lease = begin(pair.new, "job")
    assert lease.record.version == NEW, "a record to act on should be one as this version writes them"
    pair.new.write(lease, JobState.QUEUED, lease.record, delay_s=0)

    assert claimed(pair.old) == []
    assert claimed(pair.new) == ["job"]


def test_an_older_worker_that_was_thought_dead_writes_nothing_over_a_newer_one(pair: Pair) -> None:
    put(pair.old, "job", OLD)
    late = begin(pair.old, "job")
    pair.clock.now += LEASE_S
    lease = begin(pair.new, "job")
    pair.new.write(lease, JobState.RUNNING, lease.record, delay_s=5)

    assert pair.old.write(late, JobState.PENDING, late.record, delay_s=0) is False
    forged = Lease(**{name: getattr(late, name) for name in Lease.__dataclass_fields__} | {"token": lease.token})
    assert pair.old.write(forged, JobState.PENDING, late.record, delay_s=0) is False, "nor with the right token"

    assert pair.new.get(["job"])[0].record == lease.record  # type: ignore[union-attr]


def test_a_newer_job_can_be_cancelled_by_an_older_caller(pair: Pair) -> None:
    put(pair.new, "waits", NEW, delay_s=60)
    put(pair.new, "aside", NEW)
    claimed(pair.old)

    assert pair.old.request_cancel("waits", "no more") is JobState.QUEUED
    assert pair.old.request_cancel("aside", "no more") is JobState.QUEUED

    assert sorted(claimed(pair.new)) == ["aside", "waits"]
    assert begin(pair.new, "aside").cancel == "no more"


def test_a_newer_job_that_was_put_aside_is_due_now_and_can_not_be_hurried(pair: Pair) -> None:
    put(pair.new, "newer", NEW)
    claimed(pair.old)
    pair.clock.now += 60

    assert pair.old.touch(["newer"]) == 1
    assert pair.old.get(["newer"])[0].due_at == pair.clock.now  # type: ignore[union-attr]
    assert pair.old.next_due_s() is None


def test_a_newer_job_that_has_ended_leaves_nothing_behind(pair: Pair) -> None:
    put(pair.new, "newer", NEW)
    claimed(pair.old)
    lease = begin(pair.new, "newer")
    pair.new.write(lease, JobState.COMPLETED, lease.record, delay_s=LEASE_S, published=True)
    assert pair.old.begin(["newer"], Purpose.GENERATE, LEASE_S) == []
    finish = begin(pair.new, "newer")

    assert pair.new.end(finish, ttl_s=60)

    assert pair.new.open_count() == pair.new.due_count() == 0
    assert claimed(pair.new) == []
    assert pair.new.next_due_s() is None


def test_a_newer_job_that_was_put_aside_ends_all_the_same(pair: Pair) -> None:
    put(pair.new, "newer", NEW)
    lease = begin(pair.new, "newer")
    pair.new.write(lease, JobState.COMPLETED, lease.record, delay_s=0, published=True)
    last = begin(pair.new, "newer")
    pair.clock.now += LEASE_S
    assert claimed(pair.old) == [], "its holder was thought dead"

    assert pair.new.end(last, 60)

    assert pair.new.open_count() == pair.old.newer_count() == 0
    assert claimed(pair.new) == []


def test_a_registration_finds_the_job_of_a_newer_version(pair: Pair) -> None:
    put(pair.new, "job", NEW)
    begin(pair.new, "job")

    known = pair.old.register("job", a_record(OLD), b"body", delay_s=0, published=True)

    assert not known.is_new
    assert known.record.digest == "d"


@pytest.mark.parametrize("server", ["redis_url", "installed_redis_url"])
def test_a_reader_shows_what_it_understands_of_a_newer_record(
    request: pytest.FixtureRequest, namespace: str, server: str
) -> None:
    with redis.Redis.from_url(request.getfixturevalue(server)) as client:
        old, new = (RedisStore(client, namespace=namespace, version=version) for version in (OLD, NEW))
        put(new, "job", NEW)
        lease = begin(new, "job")
        strange = lease.record.but(model=["m", "n"], polls=7, hoops=[1])
        with warnings.catch_warnings(action="ignore"):  # pydantic's, of a model that is none
            assert new.write(lease, JobState.PENDING, strange, delay_s=60)

        entry = old.get(["job"])[0]

    assert entry is not None
    assert (entry.state, entry.record.polls, entry.record.digest) == (JobState.PENDING, 7, "d")


@pytest.mark.parametrize("server", ["redis_url", "installed_redis_url"])
def test_a_job_that_version_1_wrote_is_read_and_goes_on(
    request: pytest.FixtureRequest, namespace: str, server: str
) -> None:
    """Version 1 kept a hash, and its record as plain JSON."""
    kept = {
        "state": "PENDING",
        "lease": "3:w:0",
        "version": 1,
        "record": '{"version":1,"model":"m","key":"default","digest":"d","created_at":1.0,"polls":7}',
        "cancel": "no more",
        "heard": "1795392000.000000",
        "recheck": "1",
    }
    with redis.Redis.from_url(request.getfixturevalue(server)) as client:
        clock = Clock()
        store = RedisStore(client, namespace=namespace, clock=clock)
        for job_id in ("read", "worked-on"):
            client.hset(store.key("job", job_id), mapping=kept)
            client.zadd(store.key("due", "").rstrip(":"), {job_id: clock.now})

        entry = store.get(["read"])[0]
        assert entry is not None
        assert (entry.state, entry.cancel, entry.due_at) == (JobState.PENDING, "no more", clock.now)
        assert (entry.record.version, entry.record.polls) == (1, 7)

        assert sorted(claimed(store)) == ["read", "worked-on"]
        (lease,) = store.begin(["worked-on"], Purpose.POLL, LEASE_S)
        assert (lease.token, lease.claims, lease.cancel, lease.record) == (
            4, 1, "no more", entry.record.but(version=RECORD_VERSION),
        )  # fmt: skip
        assert store.write(lease, JobState.RUNNING, lease.record.but(polls=8), delay_s=5)
        assert store.announce("worked-on", gap_s=2)

        written = store.get(["worked-on"])[0]
        assert written is not None
        assert (written.state, written.record.polls, written.due_at) == (JobState.RUNNING, 8, clock.now + 2)


def test_a_record_of_this_version_that_can_not_be_read_is_an_error() -> None:
    with pytest.raises(ValueError, match="model"):
        JobRecord.from_json('{"version": 1, "key": "default"}')


def test_fields_that_a_version_does_not_know_outlive_its_rewriting(pair: Pair) -> None:
    record = JobRecord.from_json(a_record(OLD).but(hoops=[1, {"two": 3}]).to_json())
    pair.new.register("job", record, b"body", delay_s=0, published=False)
    lease = begin(pair.old, "job")

    pair.old.write(lease, JobState.PENDING, lease.record.but(polls=1), delay_s=0)

    read = pair.old.get(["job"])[0]
    assert read is not None
    assert json.loads(read.record.to_json())["hoops"] == [1, {"two": 3}]
    assert read.record.polls == 1


def test_a_job_whose_key_somebody_deleted_holds_up_nobody_else(redis_url: str, namespace: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        clock = Clock()
        old, new = (RedisStore(client, namespace=namespace, clock=clock, version=version) for version in (OLD, NEW))
        for store, version, job_id in ((old, OLD, "deleted"), (new, NEW, "deleted-newer"), (old, OLD, "older")):
            put(store, job_id, version)
        put(new, "newer", NEW)
        client.delete(old.key("job", "deleted"))

        assert claimed(old) == ["older"]
        client.delete(new.key("job", "deleted-newer"))

        assert claimed(new) == ["newer"]
        assert (new.open_count(), old.newer_count()) == (2, 0), "what is deleted should count no more"
        assert new.get(["deleted", "deleted-newer"]) == [None, None]
        assert new.begin(["deleted", "deleted-newer"], Purpose.GENERATE, LEASE_S) == []


def test_what_a_worker_of_version_1_holds_or_has_ended_is_its_own(redis_url: str, namespace: str) -> None:
    record = '{"version":1,"model":"m","key":"default","digest":"d","created_at":1.0}'
    leases = {"held": "3:l:1", "held-unheard": "3:l:1", "over": "3:e:1"}
    with redis.Redis.from_url(redis_url) as client:
        clock = Clock()
        store = RedisStore(client, namespace=namespace, clock=clock)
        for job_id, lease in leases.items():
            kept = {"state": "RUNNING", "lease": lease, "version": 1, "record": record, "heard": clock.now + 2}
            client.hset(store.key("job", job_id), mapping=kept | ({"recheck": 1} if job_id == "held" else {}))
        client.zadd(store.key("due", "").rstrip(":"), {job_id: clock.now + 5 for job_id in leases if job_id != "over"})
        known = JobRecord.from_json(record)
        by_id = {job_id: Lease(job_id, 3, 1, JobState.RUNNING, known, None, None, clock.now) for job_id in leases}

        store.renew(list(by_id.values()), 60)
        renewed = [entry and entry.due_at for entry in store.get(list(leases))]
        held = [store.write(lease, JobState.RUNNING, known, delay_s=30) for lease in by_id.values()]

        assert renewed == [clock.now + 60, clock.now + 60, None]
        assert held == [True, True, True], "they know the token"
        assert [entry and entry.due_at for entry in store.get(list(leases))] == [clock.now + 2, clock.now + 30, None]


def test_a_survey_counts_a_newer_job_that_was_put_aside_apart_from_those_that_wait(pair: Pair) -> None:
    put(pair.old, "waits", OLD, delay_s=60)
    put(pair.new, "aside", NEW)
    assert claimed(pair.old) == []

    survey = pair.old.survey(1)

    assert (survey.to_submit, survey.to_poll, survey.newer, pair.new.survey(1).newer) == (1, 0, 1, 0)
    assert survey.census == {(JobState.QUEUED, "m"): 2}
