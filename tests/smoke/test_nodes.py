"""The nodes themselves, with an application that knows nothing of this library."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest
from celery import Celery
from pytest_celery import CeleryTestSetup

from tests.smoke.nodes import ROOT
from tests.smoke.plain_app import add, make_app, nap, pool_process
from tests.smoke.processes import eventually

REDIS_ONLY = pytest.mark.parametrize("celery_broker", ["redis"], indirect=True)


@pytest.fixture
def worker_app() -> str:
    return "tests.smoke.plain_app:app"


@pytest.fixture
def worker_env(celery_broker, celery_backend) -> dict[str, str]:
    return {
        "PLAIN_BROKER_URL": celery_broker.config()["host_url"],
        "PLAIN_RESULT_BACKEND": celery_backend.config()["host_url"],
    }


@pytest.fixture
def celery_setup_app(celery_setup_config: dict[str, str]) -> Iterator[Celery]:
    app = make_app(celery_setup_config["broker_url"], celery_setup_config["result_backend"])
    app.set_current()
    yield app
    app.close()


def test_a_plain_task_runs_on_each_broker(celery_setup: CeleryTestSetup):
    assert celery_setup.ready(control=True)

    assert add.delay(2, 3).get(timeout=20) == 5


@REDIS_ONLY
def test_a_worker_is_known_by_the_hostname_of_its_node(celery_setup: CeleryTestSetup):
    assert celery_setup.ready()

    assert celery_setup.app.control.ping() == [{celery_setup.worker.hostname(): {"ok": "pong"}}]
    celery_setup.worker.assert_log_exists(f"{celery_setup.worker.hostname()} ready.")


@REDIS_ONLY
@pytest.mark.workers(1, "--concurrency", "1")
def test_a_pool_process_that_is_killed_is_replaced_and_its_task_runs_again(celery_setup: CeleryTestSetup):
    assert celery_setup.ready()
    first = pool_process.delay().get(timeout=20)

    result = nap.delay(0.5)
    celery_setup.worker.wait_for_log(f"nap[{result.id}] received")
    celery_setup.worker.kill(whom="child")

    assert result.get(timeout=20) == "rested"
    assert pool_process.delay().get(timeout=20) != first


@REDIS_ONLY
def test_the_pool_follows_a_killed_main_process_and_the_worker_can_start_again(celery_setup: CeleryTestSetup):
    assert celery_setup.ready()
    worker = celery_setup.worker

    worker.kill(whom="main")

    assert worker.container.status == "exited"
    assert worker.wait_for_exit() == -signal.SIGKILL
    worker.restart()
    assert add.delay(2, 3).get(timeout=20) == 5


@REDIS_ONLY
def test_a_restarted_redis_still_has_what_was_queued(celery_setup: CeleryTestSetup):
    assert celery_setup.ready()
    celery_setup.worker.kill()
    result = add.delay(2, 3)

    celery_setup.backend.kill()
    celery_setup.backend.restart()
    celery_setup.worker.restart()

    assert result.get(timeout=20) == 5


@REDIS_ONLY
def test_a_killed_worker_leaves_no_process(celery_setup: CeleryTestSetup):
    assert celery_setup.ready()
    worker = celery_setup.worker
    running = worker.processes()
    assert len(running) >= 3, f"expected a main process and a pool of 2, found {running}"

    worker.kill()

    assert not [pid for pid in running if is_alive(pid)]


def test_what_was_started_dies_with_the_tests_even_if_they_are_killed(tmp_path):
    program = """
import os, sys
from pathlib import Path
from tests.smoke.processes import LocalProcess, Reaper
child = "import subprocess, sys, time; subprocess.Popen(['sleep', '60']); time.sleep(60)"
where = Path(sys.argv[1])
process = LocalProcess("sleeper", [sys.executable, "-c", child], env=os.environ, cwd=where,
                       log=where / "log", reaper=Reaper())
process.start()
while not process.children():
    pass
print(process.pid, *process.children(), flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as tests:
        assert tests.stdout is not None
        pids = [int(pid) for pid in tests.stdout.readline().split()]
        tests.kill()

    assert len(pids) == 2
    eventually(lambda: not any(is_alive(pid) for pid in pids), expected="the killed tests' processes gone")


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
