"""What a worker's pulse tells of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from tasks_bridge import health
from tasks_bridge.health import ALARM_S, HANG_S, OURS_S, POOL_S, STILL_S, Pulse, main, problems

NOW = 1000.0
WELL = Pulse(
    pid=1,
    at=NOW - 1,
    is_connected=True,
    loop_at=NOW - 1,
    alarm_at=NOW - 0.2,
    has_trouble=False,
    stuck_since=None,
    longest_s=0.0,
    longest_ours_s=0.0,
)


def ask(question: Literal["live", "ready"], longest_task_s: float | None = None, **changed: Any) -> str:
    return "; ".join(problems(replace(WELL, **changed), NOW, question, longest_task_s))


def test_a_worker_that_is_well_is_alive_and_ready() -> None:
    assert ask("live") == ""
    assert ask("ready") == ""
    assert ask("ready", alarm_at=None) == "", "one without an alarm is no worse"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"at": NOW - STILL_S - 1}, "the main process has stood still for 31 s"),
        ({"loop_at": NOW - STILL_S - 1}, "the event loop has stood still for 31 s"),
        ({"alarm_at": NOW - ALARM_S - 1}, "the alarm has stood still for 121 s"),
        (
            {"loop_at": NOW - HANG_S - 1, "alarm_at": NOW - HANG_S - 2},
            "neither event loop nor alarm have moved for 601 s",
        ),
        ({"loop_at": NOW - HANG_S - 1, "alarm_at": None}, "neither event loop nor alarm have moved for 601 s"),
        (
            {"stuck_since": NOW - POOL_S - 1},
            "for 61 s tasks have been waiting although the pool has free slots",
        ),
        ({"longest_ours_s": OURS_S + 1}, "a task that polls or submits jobs has been running for 301 s"),
    ],
)
def test_what_only_a_new_process_helps_against_is_no_life_and_no_readiness(changed: dict[str, Any], said: str) -> None:
    assert ask("live", **changed) == said
    assert ask("ready", **changed) == said


@pytest.mark.parametrize(
    "changed",
    [
        {"at": NOW - STILL_S},
        {"loop_at": NOW - STILL_S},
        {"alarm_at": NOW - ALARM_S},
        {"stuck_since": NOW - POOL_S},
        {"longest_ours_s": OURS_S},
        {"longest_s": 1e6},
    ],
)
def test_what_may_take_its_time_is_given_it(changed: dict[str, Any]) -> None:
    assert ask("ready", **changed) == ""


def test_a_worker_that_waits_for_its_broker_is_alive_however_long_that_takes() -> None:
    away: dict[str, Any] = {"is_connected": False, "loop_at": NOW - 3600, "alarm_at": NOW - 3600}

    assert ask("live", **away) == ""
    assert ask("ready", **away) == "it has no connection to its broker, or is stopping"


def test_a_worker_that_reaches_no_redis_is_alive_and_not_ready() -> None:
    assert ask("live", has_trouble=True) == ""
    assert ask("ready", has_trouble=True) == "it reaches its Redis or its broker no more, so it wakes no jobs"


@pytest.mark.parametrize("alarm_at", [NOW - STILL_S - 2, None])
def test_a_worker_whose_broker_hangs_waits_for_it_and_is_not_ready(alarm_at: float | None) -> None:
    hanging: dict[str, Any] = {"loop_at": NOW - STILL_S - 1, "alarm_at": alarm_at}

    assert ask("live", **hanging) == ""
    assert ask("ready", **hanging) == "it reaches its Redis or its broker no more, so it wakes no jobs"


def test_an_applications_own_task_may_run_as_long_as_was_said() -> None:
    assert ask("live", 60, longest_s=60) == ""
    assert ask("live", 60, longest_s=61) == "a task has been running for 61 s"


def test_a_pulse_is_written_as_a_whole_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "health.json"
    WELL.write(path)
    WELL.write(path)

    assert Pulse.read(path) == WELL
    assert list(tmp_path.iterdir()) == [path], "nothing is left beside it"


# -- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "health.json"
    monkeypatch.setenv(health.FILE_VARIABLE, str(path))
    return path


def write_as_now(path: Path, **changed: Any) -> None:
    now = time.monotonic()
    replace(WELL, **{"pid": os.getpid(), "at": now, "loop_at": now, "alarm_at": now, **changed}).write(path)


def test_the_command_answers_for_the_file_that_the_environment_names(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_as_now(path)

    assert main(["live"]) == 0
    assert capsys.readouterr().out == "live: yes\n"


def test_without_a_file_no_worker_is_up(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["live"]) == 1
    assert capsys.readouterr().err == f"no worker is up: there is no file {path}\n"


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", '{"pid": 1}'])
def test_a_file_of_something_else_is_no_pulse(path: Path, content: str, capsys: pytest.CaptureFixture[str]) -> None:
    path.write_text(content)

    assert main(["ready"]) == 1
    assert f"{path} can't be read" in capsys.readouterr().err


def test_a_main_process_that_is_gone_is_dead_however_fresh_its_pulse_is(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    write_as_now(path, pid=gone.pid)

    assert main(["live"]) == 1
    assert capsys.readouterr().err == f"the worker's main process, {gone.pid}, is gone\n"


def test_somebody_elses_process_is_there_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    write_as_now(path, pid=1)

    assert main(["live"]) == 0


def test_without_the_name_of_a_file_the_usage_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(health.FILE_VARIABLE, raising=False)

    assert main(["live"]) == 2
    assert "--file FILE" in capsys.readouterr().err


def test_the_command_imports_nothing_but_the_standard_library(tmp_path: Path) -> None:
    path = tmp_path / "health.json"
    write_as_now(path)
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['health', 'live', '--file', {str(path)!r}]\n"
        "try:\n    runpy.run_module('tasks_bridge.health', run_name='__main__')\n"
        "except SystemExit as exit:\n    assert not exit.code, exit.code\n"
        "print(sorted({'celery', 'redis', 'pydantic', 'httpx', 'asyncio'} & set(sys.modules)))"
    )

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert found.stdout.splitlines() == ["live: yes", "[]"], found.stderr
