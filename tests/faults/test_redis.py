"""Redis fails while jobs wait and run: nothing is lost, nothing is made twice, and callers are told in time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tasks_bridge import StoreError, StoreUnreachable
from tasks_bridge.embedded import EmbeddedRedis
from tasks_bridge.store.patience import RETRIES
from tests.faults.stage import Stage, assert_asked_at_leisure, elapsed_s, meanwhile, paused, reconnect, supervised
from tests.smoke import smoke_app
from tests.smoke.processes import Reaper
from tests.smoke.scene import Scene

STORE_TIMEOUT_S = 2.0
PATIENCE_S = "4"
"""Of the workers: a timeout of a second for each of four tries."""


@pytest.fixture(scope="module")
def server(bare_environment: None, directory: Path) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(directory=directory / "redis") as server:
        yield server


@pytest.fixture(scope="module")
def stage(server: EmbeddedRedis, directory: Path, reaper: Reaper) -> Iterator[Stage]:
    with Stage(directory, reaper, server.url, store_timeout_s=STORE_TIMEOUT_S) as stage:
        started = [
            stage.new_worker("--concurrency", "2", FAULTS_PATIENCE_S=PATIENCE_S),
            stage.new_worker("--pool", "threads", "--concurrency", "4", FAULTS_PATIENCE_S=PATIENCE_S),
        ]
        for worker in started:
            worker.ready()
        stage.scene.workers += started
        yield stage


def submit_some(scene: Scene, count: int = 12, spread_s: float = 0.4, **options: Any) -> list:
    """Jobs that end one after the other, so that some of each stage are there whenever something breaks."""
    return [scene.submit({"duration_s": 0.3 + spread_s * number}, **options) for number in range(count)]


def assert_all_in_order(scene: Scene, results: list) -> None:
    """Every job has ended well, with one remote task and one callback, and its submit was not sent again for fun."""
    reconnect(scene)
    with supervised(scene):
        scene.wait_for_end(*results)
        scene.wait_for_calls("completed", len(results))
    ids = sorted(result.id for result in results)
    doubles = {call["call"] for call in scene.calls("completed")}

    assert {result.id: scene.state(result) for result in results} == dict.fromkeys(ids, "SUCCESS"), scene.show()
    assert sorted({call["job"] for call in scene.calls("completed")}) == ids, scene.show()
    assert len(doubles) == len(ids), "a callback that came twice should have the task id of the first"
    assert scene.calls("failed") == [], scene.show()
    assert sorted(task["out_task_id"] for task in scene.sandbox.tasks()) == ids, scene.show()
    assert max(task["submits"] for task in scene.sandbox.tasks()) <= 3, scene.show()
    assert_asked_at_leisure(scene)


def test_a_redis_that_stands_still_for_five_leases_and_timeouts_loses_nothing(scene: Scene, server: EmbeddedRedis):
    results = submit_some(scene)
    scene.wait_for_request("submit", 6)

    with paused(server.pid or 0):
        time.sleep(5)

    assert_all_in_order(scene, results)


def test_connections_that_are_cut_all_the_time_lose_nothing(scene: Scene, server: EmbeddedRedis):
    # Published, they stay where they are until the connections last again: kombu takes a message off its list before it
    # notes that it has it, and one that is cut off in between is lost.
    results = submit_some(scene, link=smoke_app.completed.s().set(queue="callbacks"))
    with redis.Redis.from_url(server.url) as client:

        def cut() -> None:
            # of the callers' connections, those that the test itself submits with are some
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub", "SKIPME", "yes")

        with meanwhile(cut, every_s=0.3) as errors:
            time.sleep(4)

    assert not errors, f"expected the connections to be cut: {errors}"
    worker = scene.start_callback_worker()
    assert_all_in_order(scene, results)
    worker.kill()
    scene.workers.remove(worker)


def test_a_redis_that_is_killed_twice_and_restarted_from_its_append_only_file_loses_nothing(
    scene: Scene, server: EmbeddedRedis
):
    results = submit_some(scene)
    for submits in (4, 9):
        scene.wait_for_request("submit", submits)
        server.kill()
        time.sleep(0.5)
        server.restart()

    assert_all_in_order(scene, results)


def test_a_redis_that_is_full_refuses_callers_and_ends_every_job_once_there_is_room(
    scene: Scene, server: EmbeddedRedis
):
    results = submit_some(scene, spread_s=0.2)
    scene.wait_for_request("submit", 6)
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory", 1)
        try:
            with pytest.raises(StoreError, match="refused a command"):
                scene.submit()
            time.sleep(3)
        finally:
            client.config_set("maxmemory", 0)

    assert_all_in_order(scene, results)


def test_jobs_outlive_the_keys_of_the_broker(scene: Scene, server: EmbeddedRedis):
    """As after a FLUSHDB of a Redis that has nothing but messages in it."""
    results = submit_some(scene)
    scene.wait_for_request("submit", 4)
    with redis.Redis.from_url(server.url) as client:
        for _ in range(3):
            keys = [
                key for pattern in ("celery", "tasks_bridge", "unacked*", "_kombu*") for key in client.keys(pattern)
            ]
            if keys:  # between two messages there may be none
                client.delete(*keys)
            time.sleep(0.3)

    assert_all_in_order(scene, results)


def test_a_caller_is_told_in_time_that_redis_hangs_and_calls_again_under_the_id_it_was_given(
    scene: Scene, server: EmbeddedRedis
):
    scene.submit({"duration_s": 0}, link=[], link_error=[])  # its connections are there, as in a process at work
    with paused(server.pid or 0):
        begun = time.monotonic()
        with pytest.raises(StoreUnreachable) as caught:
            scene.submit()
        took_s = time.monotonic() - begun
    (job_id,) = caught.value.job_ids

    assert took_s < STORE_TIMEOUT_S + 2
    again = scene.submit(task_id=job_id)
    assert again.id == job_id
    scene.wait_for_end(again)
    assert [task["out_task_id"] for task in scene.sandbox.tasks()].count(job_id) == 1
    assert [call["job"] for call in scene.wait_for_calls("completed")] == [job_id]


def test_a_caller_is_told_in_bounded_time_that_redis_is_down(scene: Scene, server: EmbeddedRedis):
    server.kill()

    def call() -> None:
        with pytest.raises(StoreError, match="can't be reached"):
            scene.submit()

    try:
        assert elapsed_s(call) < 0.5 * RETRIES + 2, "the retries after a refused connection are short"
    finally:
        server.restart()

    assert_all_in_order(scene, [scene.submit()])
