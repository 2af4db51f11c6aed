"""`tasks-bridge top`, `reconcile` and `health`, and what the shell completes, against a real Redis and real workers."""

from __future__ import annotations

import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from tasks_bridge.board import board
from tasks_bridge.cli import cli
from tasks_bridge.cli.completion import complete
from tasks_bridge.gate import Circuit
from tasks_bridge.overview import Overview, overview
from tasks_bridge.record import JobState
from tasks_bridge.store.base import LANES
from tests.integration.lab import API_KEY, Lab, eventually

COMMAND = [sys.executable, "-m", "tasks_bridge.cli"]


def set_environment(lab: Lab, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setenv("TASKS_BRIDGE_REDIS_URL", redis_url)
    monkeypatch.setenv("TASKS_BRIDGE_NAMESPACE", lab.settings.namespace)
    monkeypatch.setenv("TASKS_BRIDGE_QUEUE", lab.settings.poll_queue)
    monkeypatch.setenv("BYTESPIKE_API_KEY", API_KEY)
    monkeypatch.setenv("BYTESPIKE_BASE_URL", lab.sandbox.url)
    return lab


@pytest.fixture
def idle(idle_lab: Lab, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """An app whose jobs the commands find, and no worker."""
    return set_environment(idle_lab, redis_url, monkeypatch)


def run(*arguments: str, **options: Any) -> Any:
    return CliRunner().invoke(cli, list(arguments), **options)


def verdicts(result: Any) -> dict[str, str]:
    return {one["id"]: one["verdict"] for one in map(json.loads, result.stdout.splitlines())}


# -- top --------------------------------------------------------------------------------------------------------------


def test_top_counts_jobs_by_state_and_model_and_names_the_workers(
    working_lab: Lab, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = set_environment(working_lab, redis_url, monkeypatch)
    results = [lab.submit({"duration_s": 60}) for _ in range(3)]
    eventually(lambda: all(result.state == "RUNNING" for result in results), "the jobs to run")
    try:
        told = json.loads(run("top", "--once", "--json").stdout)
        shown = run("top")
    finally:
        for result in results:
            lab.job(result).cancel()

    assert told["models"]["seedream-v4"]["RUNNING"] == told["states"]["RUNNING"] == 3
    assert (told["open"], told["ending"], told["breaker"]["is_open"]) == (3, 0, False)
    assert told["activity"]["changes"] >= 6
    assert [worker["polls"] for worker in told["workers"]] == [True]
    assert shown.exit_code == 0
    assert max(map(len, shown.stdout.splitlines())) <= 80, (
        "where it is no terminal, it is printed once, 80 columns wide"
    )
    assert "MODEL" in shown.stdout


def test_each_job_is_counted_once_and_those_that_are_ending_apart(idle: Lab) -> None:
    generate: Any = idle.app.tasks["tasks_bridge.generate"]
    generate.apply_many([("seedream-v4", {})] * 70 + [("rare-model", {})] * 3)
    idle.move(idle.started(), JobState.COMPLETED)
    seen = overview(idle.bridge)

    assert {model: dict(counted) for model, counted in seen.models.items()} == {
        "seedream-v4": {"QUEUED": 70},
        "rare-model": {"QUEUED": 3},
    }
    assert (seen.open, seen.ending) == (74, 1)


def an_overview(**changes: Any) -> Overview:
    from collections import Counter

    from tasks_bridge.journal import Activity

    known: dict[str, Any] = {
        "at": 1_795_392_000.0,
        "namespace": "n",
        "address": "127.0.0.1:6379/0",
        "open": 1_204_000,
        "due": 3,
        "next_due_s": -42.0,
        "newer": 2,
        "models": {f"model-{n:02}-of-a-rather-long-name-indeed": Counter(RUNNING=5) for n in range(20)},
        "activity": Activity(30, 100, 20, 4),
        "circuit": Circuit(0, 1_795_391_900.0, 1_795_392_001.0),
        "workers": [],
    }
    return Overview(**{**known, **changes})


def test_the_board_fits_on_a_terminal_and_says_what_is_wrong() -> None:
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(board(an_overview()))
    text = console.export_text()

    assert max(map(len, text.splitlines())) <= 80
    assert len(text.splitlines()) <= 24
    for said in (
        "OPEN for 1 min 40 s",
        "none answers",
        "waited for 42.0 s",
        "newer version",
        "all, 10 more",
    ):
        assert said in text


def heed_ctrl_c() -> None:
    """A shell starts what it puts into the background deaf to Ctrl-C, these tests included."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def seen_on_terminal(lab: Lab, keys: bytes) -> tuple[str, int]:
    """What `top` writes on a terminal of 80 columns until it ends by *keys*, and its exit status."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    process = subprocess.Popen(
        [*COMMAND, "top"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
        preexec_fn=heed_ctrl_c,  # noqa: PLW1509 - a session, and one signal
    )
    os.close(theirs)
    written, give_up_at, is_sent = b"", time.monotonic() + 60, False
    try:
        while time.monotonic() < give_up_at:
            if select.select([ours], [], [], 0.1)[0]:
                try:
                    written += os.read(ours, 65536)
                except OSError:  # the terminal is gone with its process
                    break
            if b"q quits" in written and not is_sent:
                is_sent = True
                if keys == b"\x03":
                    process.send_signal(signal.SIGINT)
                else:
                    os.write(ours, keys)
            if process.poll() is not None:
                break
        return written.decode(errors="replace"), process.wait(10)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.mark.parametrize(("keys", "status"), [(b"q", 0), (b"\x03", 130)])
def test_top_lives_on_a_terminal_until_it_is_told_to_quit(idle: Lab, keys: bytes, status: int) -> None:
    idle.started()
    text, returned = seen_on_terminal(idle, keys)

    assert "1 open" in text
    assert returned == status
    assert text.rstrip().endswith(("\x1b[?1049l", "\x1b[?25h")), "the terminal should be as it was before"


# -- reconcile --------------------------------------------------------------------------------------------------------


def test_reconcile_tells_how_redis_and_bytespike_stand_to_each_other(idle: Lab) -> None:
    for job_id in ("queued", "behind", "in-step", "missing", "over", "forgotten"):
        generate: Any = idle.app.tasks["tasks_bridge.generate"]
        script = {"duration_s": 0.01} if job_id in ("behind", "forgotten") else {"duration_s": 600}
        generate.apply_async(("seedream-v4", idle.params(script)), task_id=job_id)
    bodies = {
        job_id: idle.bridge.store.client.get(idle.bridge.store.key("body", job_id))
        for job_id in ("behind", "in-step", "forgotten")
    }
    with idle.bridge.caller_client("default") as client:
        for body in bodies.values():
            assert isinstance(body, bytes)
            client.submit_bytes(body)
        eventually(lambda: client.query(out_task_id="behind").status == "completed", "the remote task to end")
        eventually(lambda: client.query(out_task_id="in-step").status == "running", "the remote task to run")
    for job_id in ("behind", "in-step", "missing"):
        idle.move(job_id, JobState.RUNNING)
        idle.bridge.store.client.zadd(_lane(idle, job_id), {job_id: idle.bridge.store.now() + 600})
    idle.move("over", JobState.COMPLETED)
    idle.bridge.store.client.delete(idle.bridge.store.key("job", "forgotten"))
    ids = "queued\nbehind\nin-step\nmissing\nover\nforgotten\nlost"

    dry = run("reconcile", "-", "--json", "--dry-run", input=ids)
    assert idle.bridge.store.get(["behind"])[0].due_at > idle.bridge.store.now() + 500  # type: ignore[union-attr,operator]
    real = run("reconcile", "-", "--json", input=ids)

    assert (
        verdicts(dry)
        == verdicts(real)
        == {
            "queued": "in step",
            "behind": "behind",
            "in-step": "in step",
            "missing": "missing",
            "over": "over",
            "forgotten": "forgotten",
            "lost": "lost",
        }
    )
    assert (dry.exit_code, real.exit_code) == (1, 1)
    assert idle.bridge.store.get(["behind"])[0].due_at <= idle.bridge.store.now()  # type: ignore[union-attr,operator]
    assert json.loads(real.stdout.splitlines()[5])["remote"]["status"] == "completed"


def _lane(lab: Lab, job_id: str) -> str:
    store = lab.bridge.store
    lanes = [store.key("due", f"poll:{number}") for number in range(LANES)]
    (key,) = [key for key in lanes if store.client.zscore(key, job_id)]
    return key


def test_reconcile_takes_ids_from_a_file_or_all_open_jobs(idle: Lab, tmp_path: Path) -> None:
    ids = [idle.started(), idle.started()]
    file = tmp_path / "ids.txt"
    file.write_text("\n".join(ids))
    from_file, from_scan = run("reconcile", "--file", str(file)), run("reconcile", "--all", "--json")

    assert (from_file.exit_code, from_scan.exit_code) == (0, 0)
    assert from_file.stdout.splitlines()[-1] == "2 in step"
    assert verdicts(from_scan) == dict.fromkeys(ids, "in step")


@pytest.mark.parametrize(
    "arguments", [[], ["--all", "x"], ["no spaces"], ["--file", "/no/such/file"], ["x", "--key", "nobody"]]
)
def test_reconcile_called_wrongly_changes_nothing(idle: Lab, arguments: list[str]) -> None:
    result = run("reconcile", *arguments)

    assert result.exit_code in (1, 2)
    assert result.stdout == ""
    assert "Traceback" not in result.output


# -- health and completion --------------------------------------------------------------------------------------------


def test_health_answers_as_the_probe_does(tmp_path: Path) -> None:
    away = run("health", "live", "--file", str(tmp_path / "none"), "--json")
    wrong = [run("health", "well", "--file", str(tmp_path / "none")), run("health", "live")]

    assert away.exit_code == 1
    assert json.loads(away.stdout)["answer"] is False
    assert [result.exit_code for result in wrong] == [2, 2]


def test_the_shell_completes_ids_of_open_jobs(idle: Lab, redis_url: str) -> None:
    generate: Any = idle.app.tasks["tasks_bridge.generate"]
    for job_id in ("fox-1", "fox-2", "hare"):
        generate.apply_async(("seedream-v4", {}), task_id=job_id)
    environment = {**os.environ, "_TASKS_BRIDGE_COMPLETE": "complete_bash", "COMP_WORDS": "tasks-bridge status f"}
    program = "import sys; sys.argv = ['tasks-bridge']; from tasks_bridge.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**environment, "COMP_CWORD": "2"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert sorted(done.stdout.split()) == ["fox-1", "fox-2"]
    assert sorted(complete(None, "h")) == ["hare"]


def test_completion_says_nothing_where_redis_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKS_BRIDGE_REDIS_URL", "redis://127.0.0.1:1/0")

    assert complete(None, "f") == []
    assert complete("no_such_module", "f") == []
