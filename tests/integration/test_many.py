"""Many jobs started by one call."""

from __future__ import annotations

from typing import Any

import pytest

from tasks_bridge import InvalidRequest, JobConflict, JobState, SettingsError, facts, generate, statuses
from tasks_bridge.embedded import EmbeddedRedis
from tasks_bridge.intake import CHUNK_BYTES, CHUNK_JOBS
from tasks_bridge.sandbox import SandboxServer
from tasks_bridge.store import Purpose
from tests.integration.lab import MODEL, PROMPT, Lab, apologise, calls, eventually, publish


def params(number: int) -> dict[str, Any]:
    return {"prompt": PROMPT, "n": number}


def scripts(lab: Lab) -> int:
    return int(lab.bridge.store.client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0))


def test_many_jobs_are_registered_in_few_round_trips_and_published_by_nobody_yet(idle_lab: Lab) -> None:
    count = 2 * CHUNK_JOBS + 1
    before = scripts(idle_lab)

    ids = generate.apply_many((MODEL, params(number)) for number in range(count))

    assert scripts(idle_lab) - before <= 3 + 1, "one for each part, and one that Redis may not have known"
    assert statuses(ids, app=idle_lab.app) == dict.fromkeys(ids, JobState.QUEUED)
    assert len(set(ids)) == idle_lab.bridge.store.due_count() == count
    assert str(idle_lab.app.AsyncResult(ids[-1]).state) == "QUEUED"
    assert idle_lab.queued() == 0


def test_jobs_with_large_requests_are_sent_in_small_parts(idle_lab: Lab) -> None:
    large = {"prompt": "x" * (CHUNK_BYTES // 10)}
    before = scripts(idle_lab)

    ids = generate.apply_many([(MODEL, large)] * 21)

    assert 3 <= scripts(idle_lab) - before <= 3 + 1
    assert idle_lab.bridge.store.open_count() == len(ids) == 21


def test_many_jobs_run_to_their_ends_and_each_calls_back_once(lab: Lab) -> None:
    own = [lab.signature(pending_s=0).set(task_id=f"many-{lab.queue}-{number}") for number in range(3)]
    failing = lab.signature(outcome="failed")
    shared = [(MODEL, lab.params()) for _ in range(20)]

    ids = generate.apply_many([*own, failing, *shared], link=publish.s(label="many"), link_error=apologise.s())

    assert ids[:3] == [signature.options["task_id"] for signature in own]
    states = [lab.ended(job_id).state for job_id in ids]
    assert states == [*[JobState.COMPLETED] * 3, JobState.FAILED, *[JobState.COMPLETED] * 20]
    for job_id in ids:
        assert len(lab.remote(job_id)) == 1, "each job should have one task"
    failed = ids.pop(3)
    eventually(lambda: len(calls(name="publish", label="many")) >= 23, "every callback to run")
    eventually(lambda: calls(failed, "apologise"), "the errback to run")
    assert sorted(call.job_id or "" for call in calls(name="publish", label="many")) == sorted(ids)


def test_a_calls_own_options_come_before_the_shared_ones(idle_lab: Lab) -> None:
    (plain, own) = generate.apply_many(
        [(MODEL, params(1)), generate.s(MODEL, params(2), label="tenant").set(countdown=60, priority=7)],
        countdown=10,
        priority=3,
    )

    first, second = idle_lab.bridge.store.get([plain, own])
    assert first is not None
    assert second is not None
    assert (first.record.options["priority"], second.record.options["priority"]) == (3, 7)
    assert (first.record.label, second.record.label) == (None, "tenant")
    assert first.due_at == pytest.approx(first.record.created_at + 10, abs=1)
    assert second.due_at == pytest.approx(second.record.created_at + 60, abs=1)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ((MODEL, {"seed": float("nan")}), InvalidRequest),
        ((MODEL,), InvalidRequest),
        (generate.s(MODEL, {}).set(task_id="no id"), InvalidRequest),
        (publish.s(MODEL, {}), InvalidRequest),
        (generate.s(MODEL, {}, key="unheard-of"), SettingsError),
    ],
    ids=["bad parameters", "no parameters", "bad id", "another task", "unknown key"],
)
def test_nothing_of_the_part_that_a_wrong_call_is_among_is_queued(
    idle_lab: Lab, wrong: Any, error: type[Exception]
) -> None:
    good = [(MODEL, params(number)) for number in range(CHUNK_JOBS + 2)]

    with pytest.raises(error):
        generate.apply_many([*good, wrong, *good])

    assert idle_lab.bridge.store.open_count() == CHUNK_JOBS


def test_many_jobs_started_again_under_their_ids_are_the_same_jobs(idle_lab: Lab) -> None:
    def start(number: int, count: int) -> list[str]:
        return generate.apply_many(
            generate.s(MODEL, params(number)).set(task_id=f"{idle_lab.queue}-{n}") for n in range(count)
        )

    assert start(1, 3) == start(1, 3)
    assert len(start(1, 5)) == idle_lab.bridge.store.open_count() == 5
    with pytest.raises(JobConflict):
        start(2, 7)
    assert idle_lab.bridge.store.open_count() == 7, "those without a conflict should be there"


def test_nothing_is_started_by_no_calls(idle_lab: Lab) -> None:
    assert generate.apply_many([]) == []


def test_many_eager_jobs_run_inline(idle_lab: Lab) -> None:
    idle_lab.app.conf.task_always_eager = True

    ids = generate.apply_many([(MODEL, idle_lab.params({"duration_s": 0}))] * 2, link=publish.s())

    assert len(set(ids)) == 2
    assert [len(calls(job_id, "publish")) for job_id in ids] == [1, 1]


def test_a_waiting_job_takes_less_than_a_kilobyte_its_result_entry_included(sandbox: SandboxServer) -> None:
    count = 2000
    with EmbeddedRedis() as server:
        lab = Lab(server.url, sandbox)
        with lab.current():
            client = lab.bridge.store.client
            have_waiting(lab, 10)  # whatever there is one of, scripts for instance
            before = client.info("memory")["used_memory"]
            have_waiting(lab, count)

            def used() -> float:
                return float((client.info("memory")["used_memory"] - before) / count)

            # what has not been written to the file yet, and the buffers of a busy client, are given back soon
            eventually(lambda: used() < 1000, f"a job to take less than the {used():.0f} bytes that it does at first")


def have_waiting(lab: Lab, count: int) -> None:
    """Put jobs into the store as they are after some polls."""
    store = lab.bridge.store
    ids = generate.apply_many([(MODEL, params(number)) for number in range(count)])
    for lease in store.begin(ids, Purpose.GENERATE, 60):
        # as long as an id of ByteSpike's, and no two of them alike
        remote = {
            "task_id": f"task_{lease.job_id.replace('-', '')[:26]}",
            "out_task_id": lease.job_id,
            "status": "running",
            "estimated_credits": 1.5,
            "estimated_seconds": 35,
        }
        record = lease.record.but(
            remote=remote, estimated_s=35, submitted_at=lease.now, polled_at=lease.now + 17.3, polls=7
        )
        assert store.write(lease, JobState.RUNNING, record, delay_s=60)
        report = facts.report(lease.job_id, JobState.RUNNING, record, token=8, now=lease.now + 17.3, next_poll_s=5.6)
        lab.bridge.results.write([report])
