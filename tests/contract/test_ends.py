"""The latest ends of a model, in Redis and in memory: the same guarantees, and the same answers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks_bridge.durations import End
from tasks_bridge.errors import StoreError
from tasks_bridge.learning import KEPT, PER_DURATION, Ends, MemoryEnds, RedisEnds
from tasks_bridge.store import RedisStore

START = 1_795_392_000.0
END = End(START, 80.0, 96.0, 105.0, 6)


@pytest.fixture
def redis_ends(redis_url: str, namespace: str) -> RedisEnds:
    return RedisEnds(RedisStore(redis.Redis.from_url(redis_url), namespace=namespace))


@pytest.fixture(params=["redis", "memory"])
def ends(request: pytest.FixtureRequest) -> Ends:
    if request.param == "memory":
        return MemoryEnds()
    made: RedisEnds = request.getfixturevalue("redis_ends")
    return made


def test_what_was_added_is_read_newest_first_by_model(ends: Ends) -> None:
    first, second = END, replace(END, at=START + 5, by_s=101.5, learned=True, called=True)
    ends.add("sora-2", [first])
    ends.add("sora-2", [second])
    ends.add("a model: with/odd {name}", [END])

    assert ends.latest(["sora-2", "veo-3.1", "a model: with/odd {name}"]) == [[second, first], [], [END]]


def test_only_the_latest_are_kept(ends: Ends) -> None:
    ends.add("m", [replace(END, at=START + 10 * number) for number in range(KEPT + 44)])

    [kept] = ends.latest(["m"])
    assert [end.at for end in kept] == [START + 10 * number for number in reversed(range(44, KEPT + 44))]


def test_a_burst_leaves_a_few_that_stand_for_all(ends: Ends) -> None:
    ends.add("m", [replace(END, at=START - 1000)])
    ends.add("m", [replace(END, at=START + 0.01 * number) for number in range(1000)])

    [kept] = ends.latest(["m"])
    assert sum(end.jobs for end in kept) == 1001
    assert len(kept) == 1 + 10 / (END.by_s / PER_DURATION) // 1 + 1
    assert kept[-1].at == START - 1000


def test_the_same_added_twice_keeps_nothing_more(ends: Ends) -> None:
    ends.add("m", [END])
    ends.add("m", [END])

    assert ends.latest(["m"]) == [[replace(END, jobs=2)]]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.floats(0, 9), st.floats(0.001, 500), st.booleans()), min_size=1, max_size=40))
def test_twins_keep_the_same(redis_ends: RedisEnds, steps: list[tuple[float, float, bool]]) -> None:
    memory, at, model = MemoryEnds(), START, repr(steps)[:100] + str(hash(repr(steps)))
    for after_s, by_s, is_stopped in steps:
        at = round(at + after_s, 3)
        end = End(at, round(by_s / 2, 3), float("inf") if is_stopped else round(by_s, 3), 30.0, 2)
        for twin in (redis_ends, memory):
            if end.after_s < end.by_s:
                twin.add(model, [end])

    assert redis_ends.latest([model]) == memory.latest([model])


def test_what_another_version_wrote_is_left_out(redis_ends: RedisEnds, redis_url: str, namespace: str) -> None:
    redis_ends.add("m", [END])
    with redis.Redis.from_url(redis_url) as client:
        key = f"{{{namespace}}}:ends:m"
        client.lpush(key, "v9 something", '1 {"at": 1}', "[1]", b"\xff\xfe")
        redis_ends.add("m", [replace(END, at=START + 60)])

        assert redis_ends.latest(["m"]) == [[replace(END, at=START + 60), END]]
        assert 0 < client.ttl(key) <= 90 * 24 * 3600


def test_a_server_that_is_away_is_a_store_error() -> None:
    away = RedisEnds(RedisStore(redis.Redis(port=1)))

    with pytest.raises(StoreError):
        away.latest(["m"])
    with pytest.raises(StoreError):
        away.add("m", [END])
