"""Flower's own pages in a browser: a row for each job, its remote state, and a Revoke that reaches ByteSpike."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect
from pydantic import SecretStr

from tasks_bridge import Job, JobState, Settings
from tasks_bridge.bridge import bridge_of
from tasks_bridge.embedded import EmbeddedRedis, free_port
from tasks_bridge.events import GENERATE
from tasks_bridge.sandbox import SandboxServer
from tests.browser.tabs import Tabs
from tests.celery_state import forget_results
from tests.smoke import smoke_app
from tests.smoke.nodes import ROOT
from tests.smoke.processes import LocalProcess, Reaper, eventually

API_KEY = "sk-byts-flower-page-0123456789"
PROMPT = "prompt-never-on-a-page " * 20
FOREVER = {"duration_s": 600, "estimate_s": 600}
JOBS: dict[str, tuple[str, dict[str, Any]]] = {
    "poster-1041": ("seedream-v4", {"duration_s": 0.3, "estimate_s": 1}),
    "poster-1042": ("seedream-v4", {"duration_s": 0.3, "outcome": "failed", "error_code": "content_policy_violation"}),
    "clip-2207": ("sora-2", {"duration_s": 600, "estimate_s": 8}),
    "clip-2208": ("sora-2", {"pending_s": 600, **FOREVER}),
    "clip-2209": ("veo-3.1", FOREVER),
}
COLUMNS = "uuid,args,state,result,received,worker"
ENDS = {
    "poster-1041": "SUCCESS",
    "poster-1042": "FAILURE",
    "clip-2207": "RUNNING",
    "clip-2208": "PENDING_REMOTE",
    "clip-2209": "RUNNING",
}


class Watched:
    """Flower, a worker, and jobs in every state."""

    def __init__(self, server: EmbeddedRedis, sandbox: SandboxServer, directory: Path, reaper: Reaper) -> None:
        self.address = f"http://127.0.0.1:{free_port()}"
        self.sandbox = sandbox
        self.app = smoke_app.make_app(
            Settings(redis_url=SecretStr(server.url), api_key=SecretStr(API_KEY), base_url=sandbox.url)
        )
        env = {
            **os.environ,
            "TASKS_BRIDGE_REDIS_URL": server.url,
            "TASKS_BRIDGE_POLL_MIN_S": "0.2",
            "TASKS_BRIDGE_POLL_MAX_S": "0.3",
            "BYTESPIKE_API_KEY": API_KEY,
            "BYTESPIKE_BASE_URL": sandbox.url,
            "FLOWER_UNAUTHENTICATED_API": "true",
        }
        celery = [sys.executable, "-m", "celery", "-A", "worker.app"]
        port = self.address.rpartition(":")[2]
        commands = {
            "flower": [*celery, "flower", "--address=127.0.0.1", f"--port={port}", f"--tasks_columns={COLUMNS}"],
            "worker": [*celery, "worker", "--hostname=worker@shop", "--concurrency=2", "-E"],
        }
        self.processes = [
            LocalProcess(name, command, env=env, cwd=ROOT, log=directory / f"{name}.log", reaper=reaper)
            for name, command in commands.items()
        ]

    def rows(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = httpx.get(f"{self.address}/api/tasks", timeout=10).raise_for_status().json()
        except (httpx.HTTPError, ValueError):
            return {}
        return found

    def states(self) -> dict[str, str]:
        return {job_id: row["state"] for job_id, row in self.rows().items()}

    def knows_the_worker(self) -> bool:
        try:
            return bool(httpx.get(f"{self.address}/api/workers", params={"refresh": "1"}, timeout=10).json())
        except (httpx.HTTPError, ValueError):
            return False

    def show(self) -> str:
        return "\n".join(process.tail() for process in self.processes)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, bare_environment: None) -> Iterator[Watched]:
    reaper = Reaper()
    with EmbeddedRedis() as server, SandboxServer() as sandbox:
        watched = Watched(server, sandbox, tmp_path_factory.mktemp("flower"), reaper)
        try:
            for process in watched.processes:
                process.start()
            eventually(watched.knows_the_worker, expected="Flower to know the worker", timeout_s=60, show=watched.show)
            for job_id, (model, script) in JOBS.items():
                params = {"prompt": PROMPT, "sandbox": script}
                watched.app.tasks[GENERATE].apply_async((model, params), task_id=job_id)
            eventually(
                lambda: watched.states() == ENDS,
                expected=f"Flower to know {ENDS}",
                show=lambda: f"{watched.states()}\n{watched.show()}",
            )
            eventually(
                lambda: re.search(r"progress=[3-9]\d%", watched.rows()["clip-2207"]["result"]),
                expected="Flower to know of some progress",
                show=lambda: f"{watched.rows()}\n{watched.show()}",
            )
            yield watched
        finally:
            for process in reversed(watched.processes):
                process.stop(10)
            reaper.close()
            forget_results()
            bridge_of(watched.app).close(1)
            watched.app.close()


def row(page: Page, job_id: str) -> Locator:
    return page.locator("#tasks-table tbody tr").filter(has_text=job_id)


def test_a_person_sees_a_row_for_each_job_with_its_state_and_nothing_of_polls_and_prompts(
    watched: Watched, tabs: Tabs, screenshot: Callable[[Page | Locator, str], Path]
) -> None:
    page = tabs.open(f"{watched.address}/tasks", viewport={"width": 1500, "height": 600})

    for job_id, state in ENDS.items():
        expect(row(page, job_id)).to_have_count(1)
        expect(row(page, job_id)).to_contain_text(state)
        expect(row(page, job_id)).to_contain_text(JOBS[job_id][0])
        expect(row(page, job_id)).to_contain_text("worker@shop")
    expect(page.locator("#tasks-table tbody tr")).to_have_count(len(JOBS))
    expect(row(page, "clip-2207")).to_contain_text(re.compile(r"polls=\d+ progress=\d+% status=running"))
    expect(row(page, "poster-1041")).to_contain_text("credits_used")
    for text in ("tasks_bridge.poll", PROMPT[:20], API_KEY):
        assert text not in page.content()
    screenshot(page, "flower-tasks")

    page.locator("input[type=search]").first.fill("state:RUNNING")
    expect(page.locator("#tasks-table tbody tr")).to_have_count(2)


def test_a_person_sees_a_jobs_facts_and_revokes_it_at_bytespike(
    watched: Watched, tabs: Tabs, screenshot: Callable[[Page | Locator, str], Path]
) -> None:
    page = tabs.open(f"{watched.address}/task/clip-2207", viewport={"width": 1100, "height": 700})

    expect(page.get_by_text("RUNNING").first).to_be_visible()
    for text in ("sora-2", "status=running", "polls=", "progress=", "estimated_credits="):
        assert text in page.content(), f"expected {text} on the page"
    assert PROMPT[:20] not in page.content()
    screenshot(page, "flower-task")

    # what Flower's button does; its page has that for states of Celery's own
    revoked = page.request.post(f"{watched.address}/api/task/revoke/clip-2207", data={"terminate": False})
    assert revoked.ok

    handle = Job("clip-2207", app=watched.app)
    eventually(lambda: handle.status is JobState.CANCELLED, expected="the job to be cancelled", show=watched.show)
    (remote,) = [task for task in watched.sandbox.tasks() if task["out_task_id"] == "clip-2207"]
    assert remote["status"] == "cancelled"
    eventually(lambda: watched.states()["clip-2207"] == "REVOKED", expected="Flower to know", show=watched.show)
    page.reload()
    expect(page.get_by_text("REVOKED").first).to_be_visible()
