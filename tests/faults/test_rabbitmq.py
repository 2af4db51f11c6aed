"""RabbitMQ is killed while jobs wait and run: they are in Redis, and the messages that it lost are published again."""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.faults.stage import Stage, assert_asked_at_leisure, reconnect, supervised
from tests.rabbitmq import RabbitMQ, find_rabbitmq
from tests.smoke.processes import Reaper


class MortalRabbitMQ(RabbitMQ):
    """One that can be killed, and started again with what it has on disk."""

    def kill(self) -> None:
        for process in reversed(self._processes):
            # the server itself is a child of the script that starts it, and would outlive that
            for child in psutil.Process(process.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):  # it was going as it was found
                    child.kill()
            process.end(signal.SIGKILL)
        self._processes.clear()

    stop = kill  # nobody needs what it would save

    def start_again(self) -> None:
        self._start()


@pytest.mark.rabbitmq
def test_a_rabbitmq_that_is_killed_and_restarted_delays_jobs_and_loses_none(
    redis_url: str, clean_redis, tmp_path: Path, reaper: Reaper
):
    server = find_rabbitmq()
    if server is None:
        pytest.skip("RabbitMQ is not installed (Debian: apt install rabbitmq-server)")
    directory = tmp_path / "rabbitmq"
    directory.mkdir()
    with (
        MortalRabbitMQ(server, directory) as rabbitmq,
        Stage(tmp_path, reaper, redis_url, broker_url=rabbitmq.url, result_backend=redis_url) as stage,
    ):
        scene = stage.scene
        scene.start_worker("--concurrency", "2")
        results = [scene.submit({"duration_s": 0.5 + 0.5 * number}) for number in range(8)]
        scene.wait_for_request("submit", 6)

        rabbitmq.kill()
        down_since = time.monotonic()
        # a caller gets its job registered all the same: the message follows once there is a broker
        results.append(scene.submit())
        assert time.monotonic() - down_since < 15, "a broker that is away should hold up a caller for seconds only"
        rabbitmq.start_again()

        reconnect(scene)
        with supervised(scene):
            scene.wait_for_end(*results, timeout_s=60)
        scene.assert_completed_once(*results)
        assert scene.sandbox.stats()["duplicate_submits"] == 0
        assert_asked_at_leisure(scene)
