"""What a batch of jobs shares, and what a job in it does not wait for: on a real Redis and the sandbox."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator
from typing import Any

import pytest

from tasks_bridge import JobState, generate, statuses
from tasks_bridge.alarm import AlarmThread
from tasks_bridge.attend import attend
from tasks_bridge.sandbox import SandboxServer
from tasks_bridge.store import Purpose
from tests.integration.lab import MODEL, Lab, commands, eventually

LEASE_S = 60
CONNECTING = {"HELLO", "CLIENT"}
"""What a new connection begins with; two answers that are written at once may need one more."""


@pytest.fixture
def idle_lab(redis_url: str, sandbox: SandboxServer) -> Iterator[Lab]:
    """Like everybody's, but patient: here a slow answer means a busy machine, not ByteSpike being down."""
    sandbox.reset()
    lab = Lab(redis_url, sandbox, submit_timeout_s=30, query_timeout_s=30, lease_s=LEASE_S)
    with lab.current():
        yield lab
    sandbox.reset()


def running(lab: Lab, count: int, script: dict[str, Any] | None = None) -> list[str]:
    """Jobs that ByteSpike is at work on, each due for a poll now; the remote tasks follow *script*."""
    ids = generate.apply_many(
        (MODEL, lab.params({"duration_s": 600, "pending_s": 0, **(script or {})})) for _ in range(count)
    )
    eventually(lambda: not submit(lab, ids), f"{count} jobs to be accepted")
    lab.bridge.store.touch(ids)
    return ids


def submit(lab: Lab, ids: list[str]) -> list[str]:
    """Submit the next hundred of those that still are to be; return these. A busy machine puts some off again."""
    store = lab.bridge.store
    states = statuses(ids)
    waiting = [job_id for job_id in ids if states[job_id] is JobState.QUEUED]
    store.touch(waiting)
    lab.bridge.reactor.run(attend(lab.bridge, store.begin(waiting[:100], Purpose.GENERATE, LEASE_S)))
    return waiting


def look(lab: Lab, ids: list[str]) -> None:
    """Poll them in one batch."""
    lab.bridge.store.touch(ids)
    leases = lab.bridge.store.begin(ids, Purpose.POLL, LEASE_S)
    assert len(leases) == len(ids)
    lab.bridge.reactor.run(attend(lab.bridge, leases))


def polls_of(lab: Lab, job_ids: list[str]) -> list[int]:
    return [entry.record.polls if entry else -1 for entry in lab.bridge.store.get(job_ids)]


def queued_polls(lab: Lab) -> list[list[str]]:
    """The ids in each of the `poll` messages that wait in the broker."""
    messages = [json.loads(message) for message in lab.bridge.store.client.lrange(lab.settings.poll_queue, 0, -1)]
    return [json.loads(b64decode(message["body"]))[0][0] for message in messages]


def test_the_statuses_of_a_page_of_500_jobs_are_one_round_trip(idle_lab: Lab) -> None:
    ids = generate.apply_many([(MODEL, idle_lab.params())] * 500)
    statuses(ids)  # the script is known now
    with commands(idle_lab.bridge.store.client) as sent:
        found = statuses(ids)

    assert sent == ["EVALSHA"]
    assert found == dict.fromkeys(ids, JobState.QUEUED)


def test_a_batch_of_polls_takes_round_trips_for_the_batch_and_not_for_its_jobs(idle_lab: Lab) -> None:
    lab, count = idle_lab, 100
    ids = running(lab, count)
    look(lab, ids)  # what it tells first is news for monitors, one event for each

    def round_trips() -> int:
        before = polls_of(lab, ids)
        with commands(lab.bridge.store.client) as all_sent:
            look(lab, ids)
        assert polls_of(lab, ids) == [polls + 1 for polls in before]
        sent = [command for command in all_sent if command not in CONNECTING]
        # beside news, and what has been learned meanwhile
        assert set(sent) - {"PUBLISH", "LRANGE"} == {"EVALSHA", "XADD", "EXPIRE"}, "scripts, and the journal"
        besides = sent.count("EXPIRE")  # goes with the journal's lines
        besides += sent.count("PUBLISH")  # news for monitors: a job has come a quarter further, four times in its life
        return len(sent) - besides - 2  # one is the test's own, one reads what was polled

    # one to begin, one that asks the breaker, and three for those of the answers that come within 10 ms of each other:
    # how many do is the machine's affair, but if each job had its own, no look would take so few
    eventually(lambda: round_trips() <= count / 3, f"a few round trips for {count} jobs")


@pytest.mark.parametrize(("due", "sizes"), [(1, [1]), (2, [1, 1]), (150, [75, 75]), (1000, [100] * 4)])
def test_a_turn_of_the_alarm_publishes_a_lone_job_by_itself_and_has_many_share_messages(
    idle_lab: Lab, due: int, sizes: list[int]
) -> None:
    """Two slots, two messages for each: what is more than that waits in the store, where it doesn't age."""
    ids = running(idle_lab, due)
    alarm = AlarmThread(idle_lab.bridge, slots=2)
    with commands(idle_lab.bridge.store.client) as sent:
        alarm._wake()
    alarm._disconnect()

    batches = queued_polls(idle_lab)
    assert sorted(map(len, batches)) == sizes
    assert {job_id for batch in batches for job_id in batch} <= set(ids)
    assert len(sent) < 40, "the commands of a turn should not grow with the jobs"


def test_the_alarm_looks_again_when_the_earliest_job_is_due(redis_url: str, sandbox: SandboxServer) -> None:
    """So a lone job is polled when its countdown is over, not at the next tick after it."""
    lab = Lab(redis_url, sandbox, tick_s=10, lease_s=LEASE_S)
    with lab.current():
        ids = running(lab, 1)
        alarm = AlarmThread(lab.bridge, slots=2)
        (lease,) = lab.bridge.store.begin(ids, Purpose.POLL, LEASE_S)
        lab.bridge.store.write(lease, lease.state, lease.record, delay_s=9)

        assert 0 < alarm._wake() <= 9
        assert queued_polls(lab) == []
        lab.bridge.store.touch(ids)
        alarm._wake()
        alarm._disconnect()
        assert queued_polls(lab) == [ids]


def test_an_answer_that_does_not_come_delays_no_other_job_of_its_batch(idle_lab: Lab) -> None:
    lab = idle_lab
    others = running(lab, 20)
    (hanging,) = running(lab, 1, {"faults": [{"on": "query", "kind": "hang"}]})
    leases = lab.bridge.store.begin([hanging, *others], Purpose.POLL, LEASE_S)
    stop = lab.bridge.reactor.start(attend(lab.bridge, leases))

    eventually(lambda: polls_of(lab, others) == [1] * len(others), "the other jobs to be written back")

    assert polls_of(lab, [hanging]) == [0], "it should still be waited for"
    stop()


def test_a_batch_of_no_jobs_is_done_at_once(idle_lab: Lab) -> None:
    idle_lab.bridge.reactor.run(attend(idle_lab.bridge, []))
