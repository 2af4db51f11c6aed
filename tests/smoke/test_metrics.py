"""A real worker's metrics, scraped over HTTP: true, whoever of its pool dies when."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from tasks_bridge import Job, Settings
from tasks_bridge.bridge import bridge_of
from tasks_bridge.embedded import EmbeddedRedis, free_port
from tasks_bridge.events import GENERATE
from tasks_bridge.sandbox import SandboxServer
from tasks_bridge.series import COUNTED, SHARED
from tests.celery_state import forget_results
from tests.smoke import smoke_app
from tests.smoke.nodes import ROOT
from tests.smoke.processes import LocalProcess, Reaper, eventually

MODEL = "seedream-v4"
PROMPT = "prompt-never-in-a-metric"
API_KEY = "sk-byts-metrics-test-0123456789"


class Watched:
    """A worker of two pool processes that end after a few tasks each, and whoever scrapes it."""

    def __init__(self, server: EmbeddedRedis, sandbox: SandboxServer, directory: Path, reaper: Reaper) -> None:
        self.server = server
        self.sandbox = sandbox
        self.port = free_port()
        self.settings = Settings(redis_url=SecretStr(server.url), api_key=SecretStr(API_KEY), base_url=sandbox.url)
        self.app = smoke_app.make_app(self.settings)
        self._directory = directory
        self._reaper = reaper

    def worker(self, name: str, *options: str) -> LocalProcess:
        command = [sys.executable, "-m", "celery", "-A", "worker.app", "worker", "-n", f"{name}@here", *options]
        return LocalProcess(
            name,
            command,
            env={
                **os.environ,
                "TASKS_BRIDGE_REDIS_URL": self.server.url,
                "TASKS_BRIDGE_METRICS_PORT": str(self.port),
                "TASKS_BRIDGE_POLL_MIN_S": "0.2",
                "TASKS_BRIDGE_POLL_MAX_S": "0.5",
                "TASKS_BRIDGE_LEASE_S": "3",
                "BYTESPIKE_BASE_URL": self.sandbox.url,
                "BYTESPIKE_API_KEY": API_KEY,
            },
            cwd=ROOT,
            log=self._directory / f"{name}.log",
            reaper=self._reaper,
        )

    def start(self, count: int, **script: Any) -> list[Any]:
        params = {"prompt": PROMPT, "sandbox": {"duration_s": 0.5, "estimate_s": 1, **script}}
        return [self.app.tasks[GENERATE].delay(MODEL, params) for _ in range(count)]

    def text(self) -> str:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/metrics", timeout=10).raise_for_status().text
        except httpx.HTTPError:
            return ""

    def value(self, name: str, **labels: str) -> float:
        """The sum of the samples with *labels*."""
        return sum(
            sample.value
            for family in text_string_to_metric_families(self.text())
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


@pytest.fixture
def watched(tmp_path: Path, reaper: Reaper) -> Iterator[Watched]:
    with EmbeddedRedis() as server, SandboxServer() as sandbox:
        watched = Watched(server, sandbox, tmp_path, reaper)
        yield watched
        forget_results()
        bridge_of(watched.app).close(1)
        watched.app.close()


def test_a_worker_tells_what_it_did_although_its_pools_processes_come_and_go(watched: Watched) -> None:
    worker = watched.worker("one", "--concurrency=2", "--max-tasks-per-child=3")
    worker.start()
    try:
        eventually(watched.text, expected="metrics", show=worker.tail)
        jobs = [*watched.start(8), *watched.start(1, outcome="failed", error_code="internal_error", error_message="no")]
        eventually(
            lambda: (
                watched.value("tasks_bridge_jobs_ended_total", model=MODEL, state="COMPLETED") == 8
                and watched.value("tasks_bridge_jobs_ended_total", state="FAILED") == 1
            ),
            expected="nine ends",
            show=lambda: f"{watched.text()}\n{worker.tail()}",
        )

        polls = sum(Job(job.id, app=watched.app).polls for job in jobs)
        assert watched.value("tasks_bridge_polls_total", model=MODEL) == polls
        assert watched.value("tasks_bridge_request_duration_seconds_count", operation="query") == polls
        assert watched.value("tasks_bridge_submits_total", outcome="accepted") == 9
        assert watched.value("tasks_bridge_submit_wait_seconds_count") == 9
        assert watched.value("tasks_bridge_detection_lag_bracket_seconds_count", model=MODEL) == 9
        remote = [Job(job.id, app=watched.app).remote for job in jobs]
        used = sum(task.credits_used or 0 for task in remote if task is not None)
        assert used > 0
        assert watched.value("tasks_bridge_credits_used_total") == pytest.approx(used)
        assert watched.value("tasks_bridge_redis_up") == 1

        # one of the pool is killed with a job's lease in hand: another takes it over, and the counts go on
        before = watched.value("tasks_bridge_jobs_ended_total")
        open_jobs = watched.start(4, duration_s=600, estimate_s=600)
        eventually(
            lambda: watched.value("tasks_bridge_jobs", state="RUNNING", model=MODEL) == 4,
            expected="four running jobs",
            show=lambda: f"{watched.text()}\n{worker.tail()}",
        )
        assert watched.value("tasks_bridge_schedule_jobs", purpose="poll") >= 4
        eventually(worker.children, expected="a child that has not just ended after its third task")
        worker.kill("SIGKILL", "child")
        watched.start(3)
        eventually(
            lambda: watched.value("tasks_bridge_jobs_ended_total") == before + 3,
            expected="three more ends",
            show=lambda: f"{watched.text()}\n{worker.tail()}",
        )
        for job in open_jobs:
            Job(job.id, app=watched.app).cancel()
        eventually(lambda: watched.value("tasks_bridge_jobs") == 0, expected="no open job", show=watched.text)

        families = {family.name for family in text_string_to_metric_families(watched.text())}
        expected = {metric.name.removesuffix("_total") for metric in (*COUNTED, *SHARED)}
        assert expected - families == {"tasks_bridge_budget_credits"}, "there is no limit here"
        assert PROMPT not in watched.text()
        assert API_KEY not in watched.text()
    finally:
        worker.stop(20)
    assert worker.exit_code == 0


def test_a_lease_that_was_taken_over_is_counted_and_overdue_jobs_show_while_nobody_looks(watched: Watched) -> None:
    worker = watched.worker("one", "--concurrency=1")
    worker.start()
    try:
        eventually(watched.text, expected="metrics", show=worker.tail)
        faults = [{"on": "query", "kind": "slow", "delay_s": 20}]
        (job,) = watched.start(1, duration_s=600, estimate_s=600, faults=faults)
        # the first query hangs, under a lease
        eventually(
            lambda: watched.sandbox.stats()["requests"].get("query", 0) > 0, expected="a query", show=worker.tail
        )
        worker.kill("SIGKILL", "child")
        eventually(
            lambda: watched.value("tasks_bridge_leases_recovered_total") >= 1,
            expected="the lease to be taken over",
            show=lambda: f"{watched.text()}\n{worker.tail()}",
        )

        os.kill(worker.pid, signal.SIGSTOP)
        store = bridge_of(watched.app).store
        store.touch([job.id])
        eventually(lambda: store.survey(0.5).overdue == 1, expected="an overdue job")
        os.kill(worker.pid, signal.SIGCONT)
        eventually(lambda: store.survey(0.5).overdue == 0, expected="it to be looked at", show=worker.tail)
    finally:
        worker.stop(20)


def test_a_port_that_somebody_has_is_taken_when_it_is_free_and_never_ends_a_worker(watched: Watched) -> None:
    first, second = (watched.worker(name, "--concurrency=1") for name in ("one", "two"))
    first.start()
    try:
        eventually(watched.text, expected="metrics", show=first.tail)
        second.start()
        eventually(
            lambda: f"metrics can't be read at 127.0.0.1:{watched.port}" in second.logs(),
            expected="a word on the port",
            show=second.tail,
        )
        first.kill("SIGKILL", "main")
        eventually(
            watched.text,
            expected="the second worker to have the port",
            show=second.tail,
        )
        assert watched.value("tasks_bridge_redis_up") == 1

        # without Redis the counts are told all the same
        watched.server.kill()
        eventually(lambda: "tasks_bridge_redis_up 0.0" in watched.text(), expected="word of Redis", show=second.tail)
        assert "tasks_bridge_leases_recovered_total 0.0" in watched.text()
        assert "tasks_bridge_overdue_jobs" not in watched.text()
        watched.server.restart()
        eventually(lambda: watched.value("tasks_bridge_redis_up") == 1, expected="Redis to be back", show=second.tail)
    finally:
        for worker in (first, second):
            worker.stop(20)
