"""A pool process says that a task is over while the broker is lost, or the worker stopped: it is heard all the same."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks_bridge.embedded import EmbeddedRedis
from tasks_bridge.pool import ACCEPT_S
from tests.faults.slow_answer import GO, HALF, answer_in_two_parts, unread
from tests.faults.stage import Stage, paused
from tests.smoke.processes import Reaper
from tests.smoke.scene import Scene

BILLIARD_WAITS_S = 30.0
"""How long a pool process that is told to end waits for its answers to be counted."""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """A Redis for nothing but messages."""
    with EmbeddedRedis(directory=tmp_path / "broker") as server:
        yield server


@pytest.fixture
def stage(
    redis_url: str, clean_redis: object, broker: EmbeddedRedis, tmp_path: Path, reaper: Reaper
) -> Iterator[Stage]:
    with Stage(tmp_path, reaper, redis_url, broker_url=broker.url, result_backend=redis_url) as stage:
        yield stage


@pytest.fixture
def scene(stage: Stage, broker: EmbeddedRedis) -> Scene:
    """One in which the only process of the worker has said half of an answer, and the broker is gone."""
    scene = stage.scene
    scene.redis.set(HALF, 1)
    scene.start_worker("--concurrency", "1")
    answer_in_two_parts.delay()
    scene.wait_for_calls("half")
    broker.kill()
    scene.wait_for_log("Connection to broker lost")
    return scene


def test_a_process_that_was_heard_by_half_when_the_broker_was_lost_gets_the_next_task(
    scene: Scene, broker: EmbeddedRedis
):
    broker.restart()
    scene.redis.set(GO, 1)

    scene.assert_completed_once(scene.submit())

    assert scene.workers[0].container.status == "running", "it should not have died of what it read"


def test_a_worker_that_is_stopped_while_there_is_no_broker_hears_its_processes_out(scene: Scene):
    scene.redis.set(GO, 1)
    begun = time.monotonic()

    scene.workers[0].kill("SIGTERM", whom="main")
    scene.workers[0].wait_for_exit()

    assert time.monotonic() - begun < BILLIARD_WAITS_S / 2


def test_a_worker_that_is_stopped_while_there_is_no_broker_hears_one_that_is_slower_than_it_listens(scene: Scene):
    scene.workers[0].kill("SIGTERM", whom="main")
    time.sleep(ACCEPT_S + 1)
    scene.redis.set(GO, 1)

    assert scene.workers[0].wait_for_exit() == 0


def test_a_worker_is_stopped_just_before_one_process_says_half_of_an_answer_and_another_has_begun(stage: Stage):
    scene = stage.scene
    worker = scene.start_worker("--concurrency", "2")
    answer_in_two_parts.delay()
    (busy,) = scene.wait_for_calls("over")
    (idle,) = set(worker.container.process.children()) - {busy["pid"]}
    begun = time.monotonic()
    with paused(idle):
        scene.submit()
        scene.wait_until(lambda: says_to(idle), "the task to be on its way to the process")
        worker.kill("SIGTERM", whom="main")
        worker.wait_for_log("Warm shutdown")
        scene.redis.set(HALF, 1)
        scene.wait_for_calls("half")
        scene.redis.set(GO, 1)
    assert worker.wait_for_exit() == 0
    assert time.monotonic() - begun < BILLIARD_WAITS_S / 2
    scene.start_worker("--concurrency", "1")
    scene.wait_for_calls("completed")


def says_to(process: int) -> bool:
    """Whether there is something in one of the process' pipes that it has not read yet."""
    for link in Path(f"/proc/{process}/fd").iterdir():
        if link.readlink().name.startswith("pipe:"):
            end = os.open(link, os.O_RDONLY | os.O_NONBLOCK)
            try:
                if unread(end):
                    return True
            finally:
                os.close(end)
    return False
