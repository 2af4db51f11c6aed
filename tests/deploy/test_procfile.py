"""The Procfile under honcho: everything comes up, a job goes through, and one SIGTERM ends all of it cleanly."""

from __future__ import annotations

import os
import signal
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from celery import Celery

from tasks_bridge import Job, Settings, generate, install
from tasks_bridge.embedded import EmbeddedRedis, free_port
from tasks_bridge.sandbox import SandboxServer
from tests.smoke.processes import LocalProcess, Reaper, eventually

ROOT = Path(__file__).parents[2]
API_KEY = "sk-byts-procfile-test"


@pytest.fixture
def reaper() -> Iterator[Reaper]:
    reaper = Reaper()
    yield reaper
    reaper.close()


def test_honcho_starts_and_stops_the_procfile_cleanly(tmp_path: Path, reaper: Reaper) -> None:
    port = free_port()
    with EmbeddedRedis() as server, SandboxServer(keys=[API_KEY]) as sandbox:
        honcho = LocalProcess(
            "honcho",
            [sys.executable, "-m", "honcho", "start"],
            env={
                **os.environ,
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "BYTESPIKE_API_KEY": API_KEY,
                "BYTESPIKE_BASE_URL": sandbox.url,
                "TASKS_BRIDGE_REDIS_URL": server.url,
                "FLOWER_PORT": str(port),
                "PYTHONUNBUFFERED": "1",
            },
            cwd=ROOT,
            log=tmp_path / "honcho.log",
            reaper=reaper,
        )
        honcho.start()
        with Celery(set_as_current=False) as app:
            install(app, Settings(api_key=API_KEY, redis_url=server.url, base_url=sandbox.url))
            params = {"prompt": "a fox", "sandbox": {"duration_s": 0.5}}
            result = app.tasks[generate.name].apply_async(("seedream-v4", params))
            job = Job(result.id, app=app)
            eventually(lambda: job.status == "COMPLETED", expected="a job to complete", show=honcho.tail)
        eventually(lambda: _answers(f"http://127.0.0.1:{port}/healthcheck"), expected="Flower", show=honcho.tail)
        processes = psutil.Process(honcho.pid).children(recursive=True)

        told_at = time.monotonic()
        honcho.kill(signal.SIGTERM, "main")
        honcho.wait(timeout_s=30)
        took_s = time.monotonic() - told_at

    said = honcho.logs()
    assert "Warm shutdown" in said
    assert "SIGKILL" not in said, f"something had to be killed after {took_s:.1f} s\n{said}"
    assert not [process for process in processes if _runs(process)]
    assert "Traceback" not in said, said


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
