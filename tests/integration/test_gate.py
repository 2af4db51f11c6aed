"""The limits that all workers share, on a real server: what one worker learns holds for the others."""

from __future__ import annotations

import pytest
import redis

from tasks_bridge.gate import FAILURES, Gate
from tasks_bridge.settings import Settings
from tasks_bridge.store import RedisStore
from tests.smoke.processes import eventually

PROBE_S = 0.2


@pytest.fixture
def new_gate(each_redis_url, namespace):
    """Makes gates of several workers over one server."""

    def make(**settings: object) -> Gate:
        store = RedisStore(redis.Redis.from_url(each_redis_url), namespace=namespace)
        return Gate(store, Settings(retry_min_s=PROBE_S, **settings))

    return make


def test_a_closed_circuit_admits_everything(new_gate):
    assert new_gate().admit(100).admitted == 100


def test_failures_of_several_workers_open_the_circuit_for_all(new_gate):
    one, two, three = new_gate(), new_gate(), new_gate()

    for gate in (one, two) * FAILURES:
        gate.report(good=0, bad=1)

    refused = three.admit(100)
    assert refused.admitted == 0
    assert 0 < refused.wait_s <= PROBE_S


def test_an_open_circuit_lets_one_probe_through_for_all_workers(new_gate):
    gates = [new_gate() for _ in range(5)]
    gates[0].report(good=0, bad=FAILURES)

    first = eventually(
        lambda: [n for gate in gates if (n := gate.admit(50).admitted)], expected="a probe to be admitted"
    )

    assert first == [1]


def test_a_good_answer_closes_the_circuit(new_gate):
    one, two = new_gate(), new_gate()
    one.report(good=0, bad=FAILURES)

    two.report(good=1, bad=0)

    assert one.admit(100).admitted == 100


def test_failures_between_good_answers_do_not_add_up(new_gate):
    gate = new_gate()

    for _ in range(FAILURES * 2):
        gate.admit(1)
        gate.report(good=0, bad=1)
        gate.admit(1)
        assert gate.expects_news
        gate.report(good=1, bad=0)

    assert gate.admit(100).admitted == 100


@pytest.mark.parametrize("is_answered", [True, False], ids=["answered", "hanging"])
def test_probes_that_fail_come_less_often_also_while_they_have_no_answer_yet(new_gate, is_answered):
    gate = new_gate(breaker_max_s=4 * PROBE_S)
    gate.report(good=0, bad=FAILURES)
    waits = []

    for _ in range(4):
        eventually(lambda: gate.admit(1).admitted, expected="a probe to be admitted")
        if is_answered:
            gate.report(good=0, bad=1)
        waits.append(gate.admit(1).wait_s)

    assert waits == pytest.approx([2 * PROBE_S, 4 * PROBE_S, 4 * PROBE_S, 4 * PROBE_S], rel=0.25)


def test_a_clock_of_redis_that_jumps_back_keeps_the_circuit_open_for_no_longer(new_gate):
    gate = new_gate()
    gate.report(good=0, bad=FAILURES)
    gate._store.client.hincrbyfloat(gate._breaker, "probe_at", 3600)  # as if it were an hour earlier now

    assert gate.admit(100).admitted == 1


def test_requests_under_way_when_the_circuit_opened_do_not_prolong_it(new_gate):
    gate = new_gate()
    gate.report(good=0, bad=FAILURES)

    for _ in range(20):
        gate.report(good=0, bad=100)

    assert gate.admit(1).wait_s <= PROBE_S


def test_good_answers_to_requests_from_before_the_outage_do_not_close_the_circuit(new_gate):
    """Of a hundred that were under way, some had been answered well: that is told a moment late."""
    gate = new_gate(breaker_max_s=60)
    before = gate._store.now() - 1
    gate.report(good=0, bad=FAILURES)

    gate.report(good=95, bad=0, asked_at=before)

    assert gate.admit(100).admitted == 0
    gate.report(good=1, bad=0, asked_at=gate._store.now() + 1)
    assert gate.admit(100).admitted == 100


def test_no_more_submits_than_allowed_whoever_asks(new_gate):
    gates = [new_gate(submit_concurrency=3) for _ in range(4)]

    taken = [gates[n % 4].take_submit(f"job-{n}") for n in range(8)]
    gates[3].free_submit("job-0")

    assert sum(taken) == 3
    assert gates[1].take_submit("job-9")
    assert not gates[2].take_submit("job-10")


def test_the_place_of_a_worker_that_died_is_free_after_the_submit_timeout(new_gate):
    gate = new_gate(submit_concurrency=1, submit_timeout_s=0.2)
    assert gate.take_submit("dead")

    eventually(lambda: gate.take_submit("next"), expected="the dead worker's place to become free")


def test_without_a_cap_nothing_is_counted(new_gate):
    gate = new_gate()

    assert all(gate.take_submit(f"job-{n}") for n in range(100))
