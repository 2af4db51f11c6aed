"""The command line against a real Redis: starting, reading, following and cancelling jobs. No worker is needed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from celery import Celery
from typer.testing import CliRunner

import tasks_bridge
from tasks_bridge import Settings, install
from tasks_bridge.bridge import Bridge
from tasks_bridge.budget import Budget
from tasks_bridge.cli import cli
from tasks_bridge.durations import End
from tasks_bridge.learning import RedisEnds
from tasks_bridge.record import JobState
from tasks_bridge.store import Purpose

COMMAND = [sys.executable, "-m", "tasks_bridge.cli"]
PARAMS = ["--params", '{"prompt": "a fox"}']
REMOTE = {"task_id": "t-1", "status": "completed", "credits_used": 0.5, "output": [{"url": "https://cdn/fox.png"}]}


@pytest.fixture
def bridge(redis_url, namespace, monkeypatch) -> Bridge:
    """The store that the commands use, too."""
    monkeypatch.setenv("TASKS_BRIDGE_REDIS_URL", redis_url)
    monkeypatch.setenv("TASKS_BRIDGE_NAMESPACE", namespace)
    monkeypatch.setenv("BYTESPIKE_API_KEY", "sk-byts-hush")
    app = Celery("test", set_as_current=False)
    app.conf.task_default_queue = namespace
    return install(app, Settings())


def run(*arguments: str):
    return CliRunner().invoke(cli, list(arguments))


def put(bridge: Bridge, job_id: str, state: JobState) -> None:
    """As a worker does it."""
    [lease] = bridge.store.begin([job_id], Purpose.GENERATE, 5)
    remote = REMOTE if state is JobState.COMPLETED else {"task_id": "t-1", "status": state.value.lower()}
    assert bridge.store.write(lease, state, lease.record.but(remote=remote), delay_s=60)


def submitted(*job_ids: str) -> None:
    for job_id in job_ids:
        assert run("submit", "seedream-v4", *PARAMS, "--id", job_id).exit_code == 0


@contextmanager
def later(action, *arguments) -> Iterator[None]:
    # late enough for a busy machine to have looked once before
    timer = threading.Timer(2.0, action, arguments)
    timer.start()
    yield
    timer.join()


def test_submit_starts_a_job_and_prints_its_id(bridge):
    result = run("submit", "seedream-v4", *PARAMS, "--deadline", "60")

    assert result.exit_code == 0
    [entry] = bridge.store.get([result.stdout.strip()])
    assert entry is not None
    assert (entry.state, entry.record.model, entry.record.deadline_s) == (JobState.QUEUED, "seedream-v4", 60)


def test_the_same_id_and_request_again_is_the_same_job_and_another_request_a_conflict(bridge):
    submitted("fox-1", "fox-1")
    result = run("submit", "seedream-v4", "-p", '{"prompt": "a hare"}', "--id", "fox-1")

    assert result.exit_code == 1
    assert result.stderr.startswith("tasks-bridge: ")
    assert "fox-1" in result.stderr


@pytest.mark.parametrize("arguments", [["--id", "no spaces"], ["--deadline", "-1"]])
def test_a_request_that_is_wrong_is_wrong_usage(bridge, arguments):
    result = run("submit", "seedream-v4", *PARAMS, *arguments)

    assert result.exit_code == 2
    assert result.stderr.startswith("tasks-bridge: ")
    assert bridge.store.open_count() == 0


def test_submit_in_json_tells_of_the_job(bridge):
    result = run("submit", "seedream-v4", *PARAMS, "--id", "fox-1", "--json")

    assert json.loads(result.stdout)["status"] == "QUEUED"
    assert "hush" not in result.stdout


def test_status_tells_of_each_job_and_of_unknown_ids(bridge):
    submitted("fox-1", "fox-2")
    put(bridge, "fox-2", JobState.COMPLETED)
    result = run("status", "fox-1", "nobody", "fox-2")

    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "fox-1  QUEUED",
        "fox-2  COMPLETED  0.5 credits",
        "  https://cdn/fox.png",
    ]
    assert "nobody" in result.stderr


def test_status_in_json_is_a_line_for_each_job(bridge):
    submitted("fox-1", "fox-2")
    put(bridge, "fox-2", JobState.COMPLETED)
    result = run("status", "fox-1", "fox-2", "--json")

    assert result.exit_code == 0
    assert [(job["id"], job["state"]) for job in map(json.loads, result.stdout.splitlines())] == [
        ("fox-1", "QUEUED"),
        ("fox-2", "SUCCESS"),
    ]


@pytest.mark.parametrize(("state", "exit_code"), [(JobState.COMPLETED, 0), (JobState.FAILED, 1)])
def test_watch_follows_jobs_to_their_end_and_its_status_says_how_they_ended(bridge, state, exit_code):
    submitted("fox-1")
    with later(put, bridge, "fox-1", state):
        result = run("watch", "fox-1")

    assert result.exit_code == exit_code
    assert [line.split()[:2] for line in result.stdout.splitlines()[:2]] == [["fox-1", "QUEUED"], ["fox-1", state]]
    assert ("https://cdn/fox.png" in result.stdout) is (state is JobState.COMPLETED)


def test_watch_in_json_is_a_line_for_each_change(bridge):
    submitted("fox-1")
    with later(put, bridge, "fox-1", JobState.COMPLETED):
        result = run("watch", "fox-1", "--json")

    assert [json.loads(line)["status"] for line in result.stdout.splitlines()] == ["QUEUED", "COMPLETED"]


@pytest.fixture
def spent(bridge: Bridge, monkeypatch) -> Bridge:
    """A store in whose books one tenant has used 1.5 of its 2 credits, and another has 0.25 reserved."""
    for name, value in {"SPEND_LIMIT": "10", "SPEND_LIMIT_PER_LABEL": "2", "SPEND_PERIOD_S": "1e9"}.items():
        monkeypatch.setenv(f"TASKS_BRIDGE_{name}", value)
    budget = Budget(bridge.store, Settings())
    for job_id, label, most in (("fox-1", "acme", 1.5), ("fox-2", "zoo", 0.25)):
        generate: Any = bridge.app.tasks["tasks_bridge.generate"]
        generate.apply_async(("seedream-v4", {}), {"label": label, "max_credits": most}, task_id=job_id)
        [entry] = bridge.store.get([job_id])
        assert entry is not None
        assert budget.reserve(job_id, entry.record) is True
    budget.settle("fox-1", 1.5)
    return bridge


def test_spending_tells_of_all_jobs_and_of_each_label(spent):
    result = run("spending")

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines()[0].endswith("2033-05-18 03:33:20 UTC")
    assert [line.split() for line in result.stdout.splitlines()[1:]] == [
        ["used", "reserved", "limit", "left"],
        ["all", "jobs", "1.50", "0.25", "10.00", "8.25"],
        ["acme", "1.50", "0.00", "2.00", "0.50"],
        ["zoo", "0.00", "0.25", "2.00", "1.75"],
    ]


def test_spending_in_json_is_a_line_for_each_label(spent):
    acme = {"label": "acme", "used": 1.5, "reserved": 0.0, "limit": 2.0, "left": 0.5}
    times = {"starts_at": 1e9, "ends_at": 2e9}

    assert [json.loads(line)["label"] for line in run("spending", "--json").stdout.splitlines()] == [
        None,
        "acme",
        "zoo",
    ]
    assert json.loads(run("spending", "--json", "--label", "acme").stdout) == acme | times
    assert json.loads(run("spending", "--json", "--ago", "1").stdout)["ends_at"] == 1e9


def test_spending_without_a_limit_says_that_nothing_is_booked(bridge):
    result = run("spending")

    assert result.exit_code == 0
    assert result.stdout.splitlines()[2].split() == ["all", "jobs", "0.00", "0.00", "-", "-"]
    assert "nothing is booked" in result.stderr


def heed_ctrl_c() -> None:
    """A shell starts what it puts into the background deaf to Ctrl-C, these tests included."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_a_watch_that_is_interrupted_says_how_to_go_on(bridge):
    submitted("fox-1")
    with subprocess.Popen(
        [*COMMAND, "watch", "fox-1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=heed_ctrl_c,  # noqa: PLW1509 - sets one signal
    ) as process:
        assert process.stdout is not None
        assert b"QUEUED" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        try:
            _, stderr = process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            raise

    assert process.returncode == 130
    assert stderr.decode() == "The jobs go on. To watch again: tasks-bridge watch fox-1\n"


def test_watch_of_an_unknown_job_is_a_problem(bridge):
    result = run("watch", "nobody")

    assert (result.exit_code, "nobody" in result.stderr) == (1, True)


def test_cancel_asks_for_it_durably(bridge):
    submitted("fox-1")
    result = run("cancel", "fox-1")

    assert (result.exit_code, result.stdout) == (0, "fox-1  is being cancelled\n")
    assert bridge.store.get(["fox-1"])[0].cancel == "cancelled"


def test_cancel_cancels_nothing_if_an_id_is_unknown(bridge):
    submitted("fox-1")
    result = run("cancel", "fox-1", "nobody")

    assert result.exit_code == 1
    assert bridge.store.get(["fox-1"])[0].cancel is None


def test_cancel_of_a_job_that_has_completed_is_a_problem(bridge):
    submitted("fox-1")
    put(bridge, "fox-1", JobState.COMPLETED)
    result = run("cancel", "fox-1")

    assert (result.exit_code, result.stdout) == (1, "fox-1  COMPLETED\n")


def test_cancel_stays_until_it_is_done_if_asked_to(bridge):
    submitted("fox-1")
    with later(put, bridge, "fox-1", JobState.CANCELLED):
        result = run("cancel", "fox-1", "--watch", "--json")

    assert (result.exit_code, json.loads(result.stdout)["status"]) == (0, "CANCELLED")


def run_in(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """In a process that finds modules in *directory*, as its current one."""
    environment = {**os.environ, "PYTHONPATH": str(Path(tasks_bridge.__file__).parents[1])}
    return subprocess.run(
        [*COMMAND, *arguments], cwd=directory, env=environment, capture_output=True, text=True, check=False
    )


def test_the_users_own_app_is_found_as_celery_finds_it(bridge, tmp_path):
    (tmp_path / "shop_tasks.py").write_text(
        "from celery import Celery\n"
        "from tasks_bridge import Settings, install\n"
        "app = Celery('shop')\n"
        f"install(app, Settings(namespace='{bridge.settings.namespace}-shop'))\n"
    )
    submitted("fox-1")
    for name in ("shop_tasks", "shop_tasks:app"):
        done = run_in(tmp_path, "status", "fox-1", "-A", name)

        assert done.returncode == 1, "expected the other app's namespace to have no such job"
        assert "fox-1" in done.stderr


def test_an_app_without_tasks_bridge_is_told_what_is_missing(tmp_path):
    (tmp_path / "bare_tasks.py").write_text("from celery import Celery\napp = Celery('bare')\n")
    done = run_in(tmp_path, "status", "x", "-A", "bare_tasks")

    assert done.returncode == 1
    assert "install(app)" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_redis_that_is_down_is_one_line(monkeypatch):
    monkeypatch.setenv("TASKS_BRIDGE_REDIS_URL", "redis://:hush@127.0.0.1:1/0")
    result = run("status", "fox-1")

    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "hush" not in result.stderr


def test_the_sandbox_is_served_until_it_is_told_to_stop():
    command = [*COMMAND, "sandbox", "--port", "0", "--speed", "100", "--key", "sk-byts-this-one"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        body = {"model": "sora-2", "params": {"prompt": "a fox"}}
        refused = httpx.post(f"{url}/v1/tasks/submit", json=body, headers={"Authorization": "Bearer other"})
        accepted = httpx.post(f"{url}/v1/tasks/submit", json=body, headers={"Authorization": "Bearer sk-byts-this-one"})
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)

    assert (refused.status_code, accepted.is_success, process.returncode) == (401, True, 0)


def test_a_port_that_is_taken_is_one_line():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run("sandbox", "--port", str(port))

    assert result.exit_code == 1
    assert result.stderr.startswith(f"tasks-bridge: the sandbox can't be served on 127.0.0.1:{port}: ")
    assert result.stderr.count("\n") == 1


def test_cadence_says_what_was_learned_of_a_model(bridge):
    now = bridge.store.now()
    ends = [End(now - 300 * number, 90, 100 + number % 7, 105, 6) for number in range(40, 0, -1)]
    RedisEnds(bridge.store).add("sora-2-pro", ends)

    for_people, for_programs = run("cadence", "sora-2-pro"), run("cadence", "sora-2-pro", "--json")
    unknown, wrong = run("cadence", "veo-3.1"), run("cadence", "sora-2-pro", "--estimate", "0")

    assert (for_people.exit_code, for_programs.exit_code, unknown.exit_code, wrong.exit_code) == (0, 0, 0, 2)
    assert "learned from 40 ends" in for_people.stdout
    assert json.loads(for_programs.stdout)["mode"] == "learned"
    assert "0 ends count so far" in unknown.stdout
