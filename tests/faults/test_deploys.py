"""Workers are replaced while many jobs wait, and by workers of another version: nobody notices but the monitors."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import redis
from celery.result import AsyncResult

from tasks_bridge import AsyncClient, JobState, RemoteTask
from tasks_bridge.embedded import EmbeddedRedis
from tasks_bridge.order import Order
from tasks_bridge.record import RECORD_VERSION, JobRecord
from tasks_bridge.store import Purpose
from tests.faults.stage import API_KEY, PACE, Stage, elapsed_s, meanwhile
from tests.smoke.processes import Reaper
from tests.smoke.scene import MODEL, Scene

JOBS = int(os.environ.get("FAULTS_JOBS", "2000"))
COUNTDOWN_S = 20
SLACK_S = 2
"""Beyond what was measured on the same machine, which the tests share, just before."""
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
        directory, reaper, server.url, poll_min_s=1, poll_max_s=COUNTDOWN_S, query_timeout_s=5, submit_timeout_s=5
    ) as stage:
        yield stage


def stop(worker) -> float:
    """Ask the worker to end as a deployment does; how long it took."""
    worker.kill("SIGTERM", whom="main")
    return elapsed_s(lambda: worker.wait_for_exit(timeout_s=30))


def put_waiting_jobs(scene: Scene, count: int) -> None:
    """
    Jobs that ByteSpike has accepted and that wait for their countdown, spread over `COUNTDOWN_S`.

    Past Celery, whose part in it is over for such jobs: so a test can have many of them.
    """
    store, settings = scene.bridge.store, scene.bridge.settings
    params = {"prompt": "a fox", "sandbox": {"duration_s": 3600, "pending_s": 0, "estimate_s": 6 * COUNTDOWN_S}}
    orders = {uuid.uuid4().hex: Order(MODEL, params) for _ in range(count)}
    bodies = {job_id: order.body(job_id) for job_id, order in orders.items()}

    async def submit_all() -> dict[str, RemoteTask]:
        async with AsyncClient(API_KEY, scene.sandbox.url) as client:
            places = asyncio.Semaphore(20)

            async def submit(job_id: str) -> RemoteTask:
                async with places:
                    return await client.submit_bytes(bodies[job_id])

            return dict(zip(bodies, await asyncio.gather(*map(submit, bodies)), strict=True))

    remotes = asyncio.run(submit_all())
    now = store.now()
    for number, (job_id, order) in enumerate(orders.items()):
        record = order.record(bodies[job_id], settings, now=now, delay_s=0)
        store.register(job_id, record, bodies[job_id], delay_s=60, published=True)
        (lease,) = store.begin([job_id], Purpose.GENERATE, 60)
        remote = remotes[job_id]
        accepted = record.but(remote=remote.to_json(), estimated_s=remote.estimated_seconds, submitted_at=now)
        assert store.write(lease, JobState.RUNNING, accepted, delay_s=COUNTDOWN_S * number / count)


def test_a_rolling_restart_with_thousands_of_waiting_jobs_is_quick_and_repeats_and_delays_nothing(scene: Scene):
    """`FAULTS_JOBS=20000` for the size that the documentation states; 2,000 otherwise."""
    idle_s = stop(scene.start_worker("--concurrency", "2"))
    workers = [scene.start_worker("--concurrency", "2") for _ in range(2)]
    put_waiting_jobs(scene, JOBS)
    late_s: list[float] = []

    def measure() -> None:
        late_s.append(-(scene.bridge.store.next_due_s() or 0.0))

    ending = [scene.submit({"duration_s": 2 + 0.2 * number, "estimate_s": 1}) for number in range(30)]
    with meanwhile(measure, every_s=0.05) as errors:
        time.sleep(2)
        usual_s = max(late_s)
        took_s = []
        for worker in workers:
            took_s.append(stop(worker))
            scene.start_worker("--concurrency", "2")
        for result in ending:
            scene.wait_until(result.ready, f"job {result.id} ended")
        scene.wait_until(
            lambda: scene.sandbox.stats()["requests"]["query"] > JOBS / 2, "half of them polled", timeout_s=60
        )

    print(  # noqa: T201 - the figures for the documentation
        f"{JOBS} jobs waiting: stops {took_s} s (without any: {idle_s:.2f} s), "
        f"latest claim {max(late_s):.2f} s late (before: {usual_s:.2f} s)"
    )
    assert not errors
    assert max(took_s) < idle_s + SLACK_S, "a worker should stop as if no job were waiting"
    latest_s = usual_s + PACE["lease_s"] + PACE["tick_s"] + SLACK_S
    assert max(late_s) < latest_s, "no poll should be later than its lease"
    assert scene.bridge.store.open_count() == JOBS, "every waiting job should still wait"
    assert {scene.state(result) for result in ending} == {"SUCCESS"}
    tasks = scene.sandbox.tasks()
    assert len(tasks) == JOBS + len(ending), "one remote task each"
    assert {task["submits"] for task in tasks} == {1}, "no submit should be repeated"


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
