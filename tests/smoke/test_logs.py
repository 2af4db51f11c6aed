"""The log of a real worker: quiet while all is well, one line for each job, and no secret in it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from tasks_bridge import Settings
from tasks_bridge.bridge import bridge_of
from tasks_bridge.embedded import EmbeddedRedis
from tasks_bridge.events import GENERATE
from tasks_bridge.sandbox import SandboxServer
from tests.celery_state import forget_results
from tests.smoke import smoke_app
from tests.smoke.nodes import ROOT
from tests.smoke.processes import LocalProcess, Reaper, eventually

API_KEY = "sk-byts-logs-never-shown-0123456789"
PASSWORD = "redis-password-never-shown"
PROMPT = "prompt-never-shown " * 50


class Deployment:
    def __init__(self, server: EmbeddedRedis, sandbox: SandboxServer, directory: Path, reaper: Reaper) -> None:
        self._server, self._sandbox, self._directory, self._reaper = server, sandbox, directory, reaper
        settings = Settings(redis_url=SecretStr(server.url), api_key=SecretStr(API_KEY), base_url=sandbox.url)
        self.app = smoke_app.make_app(settings)

    def worker(self, log_format: str, level: str) -> LocalProcess:
        return LocalProcess(
            log_format,
            [
                *(sys.executable, "-W", "ignore", "-m", "celery", "-A", "worker.app", "--quiet"),
                *("worker", "--concurrency=2", f"--loglevel={level}"),
            ],
            env={
                **os.environ,
                "TASKS_BRIDGE_REDIS_URL": self._server.url,
                "TASKS_BRIDGE_LOG_FORMAT": log_format,
                "TASKS_BRIDGE_POLL_MIN_S": "0.2",
                "TASKS_BRIDGE_POLL_MAX_S": "0.3",
                "BYTESPIKE_BASE_URL": self._sandbox.url,
                "BYTESPIKE_API_KEY": API_KEY,
                "CELERY_IMPORTS": "tests.smoke.smoke_app",
            },
            cwd=ROOT,
            log=self._directory / f"{log_format}.log",
            reaper=self._reaper,
        )

    def run(self, model: str = "seedream-v4", **script: Any) -> str:
        """A job that comes to its end, callback included; returns its id."""
        params = {"prompt": PROMPT, "sandbox": {"duration_s": 1, "estimate_s": 1, **script}}
        job = self.app.tasks[GENERATE].apply_async((model, params), link=smoke_app.completed.s())
        job.get(timeout=60, propagate=False)
        return str(job.id)


@pytest.fixture
def deployment(tmp_path: Path, reaper: Reaper) -> Iterator[Deployment]:
    with EmbeddedRedis(directory=tmp_path / "redis", password=PASSWORD) as server, SandboxServer() as sandbox:
        deployment = Deployment(server, sandbox, tmp_path, reaper)
        yield deployment
        forget_results()
        bridge_of(deployment.app).close(1)
        deployment.app.close()


def lines_about(worker: LocalProcess, job_id: str) -> list[str]:
    return [line for line in worker.logs().splitlines() if f"job {job_id}" in line]


def assert_discreet(text: str) -> None:
    for secret in (API_KEY, PASSWORD, "prompt-never-shown"):
        assert secret not in text


def test_at_info_a_worker_says_one_line_of_each_job_and_nothing_of_polls(deployment: Deployment) -> None:
    worker = deployment.worker("text", "INFO")
    worker.start()
    try:
        eventually(lambda: " ready." in worker.logs(), expected="the worker to start", show=worker.tail)
        ids = [deployment.run() for _ in range(2)]
        ids.append(deployment.run(outcome="failed", error_code="content_policy_violation", error_message=PROMPT))
        ids.append(deployment.run("no-such-model"))
        ends = ["to=COMPLETED", "to=COMPLETED", "to=FAILED", "to=FAILED"]
        for job_id, end in zip(ids, ends, strict=True):
            lines = eventually(
                partial(lines_about, worker, job_id), expected=f"a line about job {job_id}", show=worker.tail
            )
            assert len(lines) == 1
            assert "INFO/" in lines[0]
            assert end in lines[0]
            assert "model=" in lines[0]
            assert "attempt=" in lines[0]
        assert "tasks_bridge.poll" not in worker.logs().partition(" ready.")[2]
        assert "/v1/tasks" not in worker.logs()
        assert_discreet(worker.logs())
    finally:
        worker.stop(20)


def test_json_at_debug_is_json_on_every_line_and_tells_every_transition(deployment: Deployment) -> None:
    worker = deployment.worker("json", "DEBUG")
    worker.start()
    try:
        eventually(lambda: " ready." in worker.logs(), expected="the worker to start", show=worker.tail)
        job_id = deployment.run(pending_s=0.5)
        eventually(
            lambda: "completed" in worker.logs() and '"state": "COMPLETED"' in worker.logs(),
            expected="the end",
            show=worker.tail,
        )
    finally:
        worker.stop(20)

    printed = ("", "worker: Warm shutdown (MainProcess)")  # by Celery, past any log
    lines = [json.loads(line) for line in worker.logs().splitlines() if line not in printed]
    moves = [
        (line["state_before"], line["state"], line["level"])
        for line in lines
        if line["logger"] == "tasks_bridge.jobs" and line.get("job_id") == job_id and "state" in line
    ]
    assert moves == [
        ("QUEUED", "PENDING", "DEBUG"),
        ("PENDING", "RUNNING", "DEBUG"),
        ("RUNNING", "COMPLETED", "INFO"),
    ]
    reads = [line for line in lines if line["logger"] == "tasks_bridge.reads"]
    assert reads, "expected looks that changed nothing at DEBUG"
    assert {line["state"] == line["state_before"] for line in reads} == {True}
    attempts = [line["attempt"] for line in lines if line.get("job_id") == job_id and "attempt" in line]
    assert attempts == sorted(attempts)
    assert_discreet(worker.logs())
