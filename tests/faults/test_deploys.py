"""Workers are replaced while many jobs wait, and by workers of another version: nobody notices but the monitors."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from tasks_bridge.embedded import EmbeddedRedis
from tasks_bridge.record import RECORD_VERSION
from tests.faults.stage import PACE, Stage, elapsed_s
from tests.smoke.processes import Reaper
from tests.smoke.scene import Scene

JOBS = int(os.environ.get("FAULTS_JOBS", "2000"))
NEWER = str(RECORD_VERSION + 1)


@pytest.fixture(scope="module")
def server(bare_environment: None, directory: Path) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(directory=directory / "redis") as server:
        yield server


@pytest.fixture
def stage(server: EmbeddedRedis, directory: Path, reaper: Reaper) -> Iterator[Stage]:
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
    with Stage(
        directory, reaper, server.url, poll_min_s=1, poll_max_s=5, query_timeout_s=5, submit_timeout_s=5
    ) as stage:
        yield stage


def stop(worker) -> float:
    """Ask the worker to end as a deployment does; how long it took."""
    worker.kill("SIGTERM", whom="main")
    return elapsed_s(lambda: worker.wait_for_exit(timeout_s=30))


def at_leisure(condition: Callable[[], bool], expected: str) -> None:
    """Wait until *condition* holds, and leave the machine to the workers meanwhile."""
    give_up_at = time.monotonic() + 60 + JOBS / 20
    while not condition():
        assert time.monotonic() < give_up_at, f"expected {expected} in time"
        time.sleep(0.5)


def test_a_rolling_restart_with_thousands_of_waiting_jobs_is_quick_and_repeats_and_delays_nothing(scene: Scene):
    """`FAULTS_JOBS=20000` for the size that the documentation states; 2,000 otherwise."""
    workers = [scene.start_worker("--concurrency", "2") for _ in range(2)]
    # they end while and after the workers are replaced; their callbacks are another test's
    life_s = 12 + JOBS / 250
    results = [
        scene.submit(
            {"duration_s": life_s, "pending_s": 0, "estimate_s": 20}, link=[], link_error=[], ignore_result=True
        )
        for _ in range(JOBS)
    ]
    at_leisure(lambda: scene.sandbox.sandbox.stats()["requests"].get("submit", 0) >= JOBS, "all jobs submitted")

    open_jobs = scene.bridge.store.open_count()
    took_s = []
    for worker in workers:
        took_s.append(stop(worker))
        scene.start_worker("--concurrency", "2")

    at_leisure(lambda: scene.bridge.store.open_count() == 0, "every job ended")
    tasks = scene.sandbox.tasks()
    assert max(took_s) < 2 + 1, f"a worker should stop within 2 s beyond the requests under way, took {took_s}"
    assert open_jobs == JOBS, "all of them should have been waiting when the first worker was told to stop"
    assert len(tasks) == len(results), "one remote task each"
    assert scene.sandbox.stats()["duplicate_submits"] == 0
    assert {task["status"] for task in tasks} == {"completed"}
    lags = sorted(task["seen_end_s"] - task["ended_s"] for task in tasks)
    countdown_s = 20 / 6 * 1.1
    slack_s = JOBS / 500  # what two workers on a shared machine need to look at them all
    print(f"{JOBS} jobs: stops {took_s} s, lag median {lags[len(lags) // 2]:.2f} s, worst {lags[-1]:.2f} s")  # noqa: T201
    assert lags[-1] < countdown_s + PACE["lease_s"] + PACE["tick_s"] + slack_s, "no poll later than its lease"


def test_workers_of_two_versions_share_one_redis_and_every_job_ends_once(scene: Scene):
    scene.start_worker("--concurrency", "2")
    results = [scene.submit({"duration_s": 1 + 0.2 * number}) for number in range(8)]
    scene.wait_for_request("submit", 4)
    newer = scene.start_worker("--concurrency", "2", FAULTS_RECORD_VERSION=NEWER)
    results += [scene.submit({"duration_s": 1 + 0.2 * number}) for number in range(8)]

    scene.wait_for_end(*results)
    assert newer.container.status == "running"
    scene.assert_completed_once(*results)
    versions = {int(scene.redis.hget(key, "version") or 0) for key in scene.redis.scan_iter("{tasks-bridge}:job:*")}
    assert versions <= {RECORD_VERSION, RECORD_VERSION + 1}
    assert scene.sandbox.stats()["duplicate_submits"] == 0


def test_jobs_of_a_newer_version_wait_for_its_worker_and_keep_an_older_one_idle_and_at_work(scene: Scene):
    """A deployment that was rolled back: what the newer workers had begun waits until they are back."""
    newer = scene.start_worker("--concurrency", "1", FAULTS_RECORD_VERSION=NEWER)
    stranded = [scene.submit({"duration_s": 2}) for _ in range(20)]
    scene.wait_for_request("submit", 20)
    scene.wait_until(lambda: all(scene.job(result).remote for result in stranded), "all of them accepted")
    newer.kill()
    before = {key: scene.redis.hget(key, "record") for key in scene.redis.scan_iter("{tasks-bridge}:job:*")}

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
    assert all(scene.redis.hget(key, "record") == record for key, record in before.items()), "nor rewrite them"
    assert all(scene.job(result).status.value in ("PENDING", "RUNNING") for result in stranded), "but they can be read"

    scene.start_worker("--concurrency", "2", FAULTS_RECORD_VERSION=NEWER)
    took_s = elapsed_s(lambda: scene.wait_for_end(*stranded))
    assert took_s < 10, "the newer worker should find them at once"
    scene.assert_completed_once(own, *stranded)


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
