"""Workers are replaced while many jobs wait, and by workers of another version: nobody notices but the monitors."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from statistics import median

import pytest
import redis
from celery.result import AsyncResult

from tasks_bridge.embedded import EmbeddedRedis
from tasks_bridge.record import RECORD_VERSION, JobRecord
from tests.faults.crowd import CHUNK, put_waiting_jobs
from tests.faults.stage import PACE, Stage, elapsed_s
from tests.smoke.processes import Reaper
from tests.smoke.scene import Scene

JOBS = int(os.environ.get("FAULTS_JOBS", "20000"))
COUNTDOWN_S = 100.0
LEASE_S = 5.0
"""Of the rolling restart: a third of the default."""
NEWER = str(RECORD_VERSION + 1)


@pytest.fixture(scope="module")
def server(bare_environment: None, directory: Path) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(directory=directory / "redis") as server:
        yield server


@pytest.fixture
def stage(server: EmbeddedRedis, directory: Path, reaper: Reaper) -> Iterator[Stage]:
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
    with Stage(directory, reaper, server.url, poll_min_s=1, query_timeout_s=5, submit_timeout_s=5) as stage:
        yield stage


def stop(worker) -> float:
    """Ask the worker to end as a deployment does; how long it took."""
    worker.kill("SIGTERM", whom="main")
    return elapsed_s(lambda: worker.wait_for_exit(timeout_s=30))


def test_a_rolling_restart_with_20_000_waiting_jobs_is_quick_and_repeats_and_delays_nothing(
    server: EmbeddedRedis, directory: Path, reaper: Reaper
):
    """`FAULTS_JOBS` for another number; ``-s`` shows the figures."""
    with Stage(
        directory, reaper, server.url, lease_s=LEASE_S, poll_min_s=1, poll_max_s=COUNTDOWN_S, query_timeout_s=5
    ) as stage:
        scene, store = stage.scene, stage.scene.bridge.store
        idle_s = stop(scene.start_worker("--concurrency", "2"))
        due_at = put_waiting_jobs(scene, JOBS, COUNTDOWN_S)
        workers = [scene.start_worker("--concurrency", "2") for _ in range(2)]
        ending = [scene.submit({"duration_s": 10 + 0.2 * number, "estimate_s": 1}) for number in range(30)]
        scene.wait_for_request("query", JOBS // 40)

        took_s = []
        for worker in workers:
            scene.start_worker("--concurrency", "2")
            took_s.append(stop(worker))
        for result in ending:
            scene.wait_until(result.ready, f"job {result.id} ended")
        now = store.now()
        late = [job_id for job_id, at in due_at.items() if at < now]
        scene.wait_until(lambda: all(record.polls for record in kept(scene, late)), "what was due to be polled")
        took_s += [stop(worker) for worker in scene.workers[-2:]]

        seen = dict(zip(due_at, kept(scene, due_at), strict=True))
        late_s = sorted(record.polled_at - due_at[i] for i, record in seen.items() if record.polled_at)
        told = ", ".join(f"{one:.2f}" for one in took_s)
        print(  # noqa: T201 - the figures for the documentation
            f"{JOBS} jobs waiting, {len(late_s)} polled; stops {told} s (with none waiting: {idle_s:.2f} s); polls "
            f"{late_s[len(late_s) // 2]:.2f} s late (median), {late_s[-1]:.2f} s (most); load {os.getloadavg()[0]:.1f}"
        )
        # loosely, for a busy machine: the least of what goes wrong here is a pool process that is waited for, 30 s
        assert median(took_s) < 2 * idle_s + 1, "a worker should stop as if no job were waiting"
        assert max(took_s) < 2 * idle_s + 5, "and not just most of them"
        assert late_s[-1] < LEASE_S, "no poll should be later than the lease"
        tasks = {task["out_task_id"]: task for task in scene.sandbox.tasks()}
        assert len(tasks) == JOBS + len(ending), "one remote task each"
        assert {task["submits"] for task in tasks.values()} == {1}, "no submit should be repeated"
        assert {i: tasks[i]["queries"] for i in seen} == {i: record.polls for i, record in seen.items()}, "nor a poll"
        assert store.open_count() == JOBS, "every waiting job should still wait"
        assert {scene.state(result) for result in ending} == {"SUCCESS"}


def kept(scene: Scene, job_ids: Iterable[str]) -> Iterator[JobRecord]:
    remaining = iter(job_ids)
    while ids := list(islice(remaining, CHUNK)):
        for entry in scene.bridge.store.get(ids):
            assert entry is not None, "every waiting job should still be there"
            yield entry.record


def test_workers_of_two_versions_share_one_redis_and_every_job_ends_once(scene: Scene):
    scene.start_worker("--concurrency", "2")
    results = [scene.submit({"duration_s": 1 + 0.2 * number}) for number in range(8)]
    scene.wait_for_request("submit", 4)
    newer = scene.start_worker("--concurrency", "2", FAULTS_RECORD_VERSION=NEWER)
    results += [scene.submit({"duration_s": 1 + 0.2 * number}) for number in range(8)]

    scene.wait_for_end(*results)
    assert newer.container.status == "running"
    scene.assert_completed_once(*results)
    versions = {record.version for record in records(scene, results)}
    assert versions <= {RECORD_VERSION, RECORD_VERSION + 1}
    assert scene.sandbox.stats()["duplicate_submits"] == 0


def test_jobs_of_a_newer_version_wait_for_its_worker_and_keep_an_older_one_idle_and_at_work(scene: Scene):
    """A deployment that was rolled back: what the newer workers had begun waits until they are back."""
    newer = scene.start_worker("--concurrency", "1", FAULTS_RECORD_VERSION=NEWER)
    stranded = [scene.submit({"duration_s": 2}) for _ in range(20)]
    scene.wait_for_request("submit", 20)
    scene.wait_until(lambda: all(scene.job(result).remote for result in stranded), "all of them accepted")
    newer.kill()
    before = records(scene, stranded)

    scene.start_worker("--concurrency", "1")
    own = scene.submit()
    scene.wait_until(own.ready, "the older worker to do its own jobs meanwhile")
    scene.wait_until(lambda: scene.redis.zcard("{tasks-bridge}:newer") == 20, "the newer jobs put aside")
    queries = scene.sandbox.stats()["requests"]["query"]
    calls = scripts(scene)
    time.sleep(2)
    idle = scripts(scene) - calls

    assert idle <= 2 / PACE["tick_s"] * 2 + 10, f"expected an idle worker, it ran {idle} scripts in 2 s"
    assert scene.sandbox.stats()["requests"]["query"] == queries, "an older worker should not act on newer jobs"
    assert records(scene, stranded) == before, "nor rewrite them"
    assert all(scene.job(result).status.value in ("PENDING", "RUNNING") for result in stranded), "but they can be read"

    scene.start_worker("--concurrency", "2", FAULTS_RECORD_VERSION=NEWER)
    took_s = elapsed_s(lambda: scene.wait_for_end(*stranded))
    assert took_s < 10, "the newer worker should find them at once"
    scene.assert_completed_once(own, *stranded)


def records(scene: Scene, results: Sequence[AsyncResult]) -> list[JobRecord]:
    """What is stored of jobs that are all known."""
    return [entry.record for entry in scene.bridge.store.get([result.id for result in results]) if entry]


def scripts(scene: Scene) -> int:
    """How many scripts Redis has run so far."""
    return int(scene.redis.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0))


def test_workers_whose_clocks_are_wrong_or_jump_change_nothing(scene: Scene):
    """Due times, leases and deadlines are on the clock of Redis."""
    for clock in ({"FAULTS_CLOCK_S": "3600"}, {"FAULTS_CLOCK_S": "-3600"}, {"FAULTS_CLOCK_JUMP_S": "86400"}):
        scene.start_worker("--concurrency", "1", **clock)
    results = [scene.submit({"duration_s": 0.5 + 0.2 * number}, kwargs={"deadline_s": 20}) for number in range(12)]

    scene.assert_completed_once(*results)

    assert scene.sandbox.stats()["duplicate_submits"] == 0
    lags = [task["seen_end_s"] - task["ended_s"] for task in scene.sandbox.tasks()]
    assert max(lags) < 1.1 + PACE["lease_s"] + PACE["tick_s"] + 2, f"no poll should be early or late by a clock: {lags}"
