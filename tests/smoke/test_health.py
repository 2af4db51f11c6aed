"""Health commands against a worker whose parts are stopped one after the other."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP

import psutil
import pytest
from celery import Celery

from tasks_bridge.embedded import EmbeddedRedis
from tasks_bridge.health import POOL_S, STILL_S, Pulse, problems
from tests.smoke.nodes import ROOT
from tests.smoke.processes import LocalProcess, Reaper, eventually


class Checked:
    """A ready-made worker of two pool processes, its Redis, and the two commands."""

    def __init__(self, server: EmbeddedRedis, directory: Path, reaper: Reaper) -> None:
        self.server = server
        self.file = directory / "health.json"
        self.worker = LocalProcess(
            "worker",
            [sys.executable, "-m", "celery", "-A", "worker.app", "worker", "--concurrency=2"],
            env={
                **os.environ,
                "TASKS_BRIDGE_REDIS_URL": server.url,
                "TASKS_BRIDGE_HEALTH_FILE": str(self.file),
                "BYTESPIKE_API_KEY": "sk-byts-health-test",
            },
            cwd=ROOT,
            log=directory / "worker.log",
            reaper=reaper,
        )

    def says(self, question: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "tasks_bridge.health", question, "--file", str(self.file)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    def becomes(self, question: str, answer: str) -> None:
        eventually(
            lambda: answer in self.says(question)[1], expected=f"{answer!r} of {question}", show=self.worker.tail
        )

    @property
    def pulse(self) -> Pulse:
        return Pulse.read(self.file)


@pytest.fixture
def checked(tmp_path: Path, reaper: Reaper) -> Iterator[Checked]:
    with EmbeddedRedis() as server:
        checked = Checked(server, tmp_path, reaper)
        checked.worker.start()
        try:
            yield checked
        finally:
            checked.worker.kill()


def test_the_commands_notice_a_dead_redis_a_stuck_alarm_a_wedged_pool_and_a_dead_worker(checked: Checked) -> None:
    assert checked.says("live")[0] == 1, "it is not up yet"
    checked.becomes("ready", "ready: yes")
    assert checked.says("live") == (0, "live: yes\n")
    main = psutil.Process(checked.pulse.pid)

    # a Redis that hangs: alarm and event loop wait for it, and the pulse goes on to say so
    os.kill(checked.server.pid or 0, SIGSTOP)
    pulse = eventually(
        lambda: (pulse := checked.pulse).at - max(pulse.loop_at, pulse.alarm_at or 0.0) > 2 and pulse,
        expected="a pulse that tells of a standstill",
        show=checked.worker.tail,
    )
    os.kill(checked.server.pid or 0, SIGCONT)
    assert pulse
    assert problems(pulse, pulse.at + STILL_S, "live", None) == []
    assert problems(pulse, pulse.at + STILL_S, "ready", None) != []
    checked.becomes("ready", "ready: yes")

    # a Redis that is down: alive, and not ready until it is back
    checked.server.kill()
    checked.becomes("ready", "no connection to its broker")
    assert checked.says("live") == (0, "live: yes\n")
    checked.server.restart()
    checked.becomes("ready", "ready: yes")

    # a pool that takes nothing more: tasks wait for free slots
    for child in main.children():
        child.send_signal(SIGSTOP)
    with Celery(broker=checked.server.url, set_as_current=False) as app:
        for _ in range(8):
            app.send_task("celery.backend_cleanup")
    eventually(lambda: checked.pulse.stuck_since, expected="a wedged pool", show=checked.worker.tail)
    pulse = replace(checked.pulse, stuck_since=checked.pulse.at - POOL_S - 1)
    (said,) = problems(pulse, pulse.at, "live", None)
    assert "tasks have been waiting although the pool has free slots" in said
    for child in main.children():
        child.send_signal(SIGCONT)
    eventually(lambda: checked.pulse.stuck_since is None, expected="tasks that run again", show=checked.worker.tail)

    main.send_signal(SIGKILL)
    checked.worker.wait(timeout_s=10)
    checked.becomes("live", f"the worker's main process, {main.pid}, is gone")


def test_a_worker_that_stops_leaves_no_pulse(checked: Checked) -> None:
    checked.becomes("ready", "ready: yes")

    checked.worker.kill("SIGTERM", "main")

    assert checked.worker.wait(timeout_s=30) == 0
    assert not checked.file.exists()
    assert checked.says("ready") == (1, f"no worker is up: there is no file {checked.file}\n")
