"""Workers that are killed while they save an output: it is saved all the same, and what had come is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import chain

from tasks_bridge import RemoteTask, save_output
from tasks_bridge.embedded import EmbeddedRedis
from tasks_bridge.outputs.partial import HIDDEN
from tests.faults.stage import Stage
from tests.smoke import smoke_app
from tests.smoke.processes import Reaper
from tests.smoke.scene import Scene

SIZE = 4_000_000
TRICKLE_S = 4.0
ENOUGH = SIZE // 4

VISIBILITY = {"FAULTS_VISIBILITY_S": "1"}
"""After so long a killed worker's messages are another's, where Celery's default is an hour."""


@pytest.fixture(scope="module")
def server(bare_environment: None, directory: Path) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(directory=directory / "redis") as server:
        yield server


@pytest.fixture
def stage(server: EmbeddedRedis, directory: Path, reaper: Reaper) -> Iterator[Stage]:
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
    with Stage(directory, reaper, server.url) as stage:
        yield stage


def begun(scene: Scene, folder: Path) -> Any:
    """A job whose output comes slowly, and of which a good part has come; the step behind it notes what was saved."""
    faults = [{"on": "files", "kind": "trickle", "delay_s": TRICKLE_S}]
    job = scene.signature(file_bytes=SIZE, faults=faults)
    result = chain(job, save_output.s(f"{folder}/{{id}}.{{ext}}"), smoke_app.completed.s()).apply_async()
    scene.wait_until(lambda: came(folder) > ENOUGH, "a good part of the output to come")
    return result


def came(folder: Path) -> int:
    """How much of what is on its way is on the disk."""
    return sum(path.stat().st_size for path in (folder / HIDDEN).glob("*.part"))


def assert_saved_once(scene: Scene, result: Any, folder: Path, *, at_least: int) -> None:
    """The file is whole, one request went on where the other ended, and the next step ran."""
    scene.wait_until(result.ready, "the output to be saved, and the next step to run")
    video = RemoteTask.model_validate(result.parent.get())
    path = folder / f"{video.out_task_id}.png"
    (call,) = scene.calls("completed")
    (task,) = scene.sandbox.tasks()
    first, second = task["downloads"]

    assert video.saved[0].path == str(path)
    assert path.stat().st_size == SIZE
    assert hashlib.sha256(path.read_bytes()).hexdigest() == video.saved[0].sha256
    assert [other.name for other in folder.iterdir()] in ([path.name, HIDDEN], [HIDDEN, path.name])
    assert call["job"] == video.out_task_id
    assert first["range"] is None
    start = int(second["range"].removeprefix("bytes=").removesuffix("-"))
    assert start >= at_least
    assert second["bytes"] == SIZE - start, "only what was missing was fetched"


def test_a_download_whose_worker_is_killed_goes_on_in_the_next(scene: Scene, tmp_path: Path) -> None:
    worker = scene.start_worker("--concurrency", "1", **VISIBILITY)
    result = begun(scene, tmp_path)

    worker.kill()
    had = came(tmp_path)
    assert not list(tmp_path.glob("*.png")), "nothing half is under the name"
    scene.start_worker("--concurrency", "1", **VISIBILITY)

    assert_saved_once(scene, result, tmp_path, at_least=had)


def test_a_download_whose_pool_process_is_killed_goes_on_in_the_same_worker(scene: Scene, tmp_path: Path) -> None:
    worker = scene.start_worker("--concurrency", "1")
    result = begun(scene, tmp_path)

    worker.kill(whom="child")

    assert_saved_once(scene, result, tmp_path, at_least=ENOUGH)


def test_a_download_ends_before_a_worker_that_is_told_to_stop(scene: Scene, tmp_path: Path) -> None:
    worker = scene.start_worker("--concurrency", "1")
    begun(scene, tmp_path)

    worker.kill("SIGTERM", whom="main")
    worker.wait_for_exit(timeout_s=30)

    (path,) = tmp_path.glob("*.png")
    assert path.stat().st_size == SIZE
