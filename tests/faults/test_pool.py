"""The broker is lost while a pool process says that a task is over: it is heard all the same."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks_bridge.embedded import EmbeddedRedis
from tests.faults.slow_answer import GO, answer_in_two_parts
from tests.faults.stage import Stage
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
