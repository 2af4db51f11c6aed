"""The command that starts an example: all of it, once, and nothing is left when it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.smoke.examples import ROOT, RunningExample, running, still_running
from tests.smoke.processes import Reaper, eventually

EXAMPLES = ["django_shop", "flask_studio"]

# What a user may have set, none of which is an example's business.
HOSTILE = {
    "BYTESPIKE_API_KEY": "sk-byts-the-users-own",
    "BYTESPIKE_BASE_URL": "http://127.0.0.1:1",
    "TASKS_BRIDGE_NO_SUCH_SETTING": "1",
    "CELERY_BROKER_URL": "amqp://nowhere.invalid",
    "DJANGO_SETTINGS_MODULE": "no.such.module",
    "HTTP_PROXY": "http://127.0.0.1:1",
    "REDIS_URL": "redis://127.0.0.1:1/0",
}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., RunningExample]]:
    """Start an example with arguments, whatever becomes of it."""
    reaper = Reaper()
    started: list[RunningExample] = []

    def begin(name: str, *arguments: str, data: str = "data", **environment: str) -> RunningExample:
        log = RunningExample(name, tmp_path / data, reaper, *arguments, environment=environment)
        started.append(log)
        log.begin()
        return log

    yield begin
    for one in started:
        one.process.stop(timeout_s=30)
    reaper.close()


@pytest.mark.parametrize("name", EXAMPLES)
def test_one_command_opens_it_and_one_signal_ends_all_of_it(
    name: str, tmp_path: Path, start: Callable[..., RunningExample], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in HOSTILE.items():
        monkeypatch.setenv(variable, value)
    with running(name, tmp_path / "data") as example:
        assert httpx.get(example.url, trust_env=False).status_code == 200
        assert "a sandbox on this machine" in example.said
        parts = example.parts()
        assert len(parts) >= 3, "expected a Redis server, a web server and a worker"

        # another one would spoil its files
        second = start(name)
        assert second.process.wait(timeout_s=30) == 1
        assert "it runs already" in second.said
        port = example.url.rpartition(":")[2].strip("/")
        third = start(name, "--port", port, data="other")
        assert third.process.wait(timeout_s=30) == 1
        assert f"port {port} can't be had" in third.said

        assert example.stop() == 0
        assert "Stopped. Everything is kept" in example.said
        eventually(lambda: not still_running(parts), expected="nothing to be left of it", timeout_s=10)


def test_nothing_outlives_it_when_it_is_killed(tmp_path: Path) -> None:
    with running("flask_studio", tmp_path / "data") as example:
        parts = example.parts()
        example.process.kill("SIGKILL", "main")

        eventually(lambda: not still_running(parts), expected="nothing to be left of it", timeout_s=10)


def test_what_it_cannot_do_is_said_in_a_line(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "BYTESPIKE_API_KEY"}
    for arguments, status, said in [
        (["--real"], 1, "BYTESPIKE_API_KEY"),
        (["--port", "0"], 2, "from 1 to 65535"),
        (["--speed", "-1"], 2, "greater than 0"),
        (["--no-such-option"], 2, "--no-such-option"),
    ]:
        command = [sys.executable, "-m", "examples.django_shop", "--data", str(tmp_path / "data"), *arguments]
        ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert (ran.returncode, said in ran.stderr, "Traceback" in ran.stderr) == (status, True, False), ran.stderr


@pytest.mark.parametrize("name", EXAMPLES)
def test_its_own_tests_pass(name: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    ran = subprocess.run(command, cwd=ROOT / "examples" / name, capture_output=True, text=True, check=False)

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert " skipped" not in ran.stdout
