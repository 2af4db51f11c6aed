"""Local processes for end-to-end tests: each leads a process group, has a log, and is never left behind."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal as signals
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Literal, TypeVar

import psutil

Whom = Literal["all", "main", "child"]

T = TypeVar("T")

TAIL_LINES = 60

# Lives in a session of its own and outlives the tests only long enough to kill what they started: its pipe
# ends when the tests end, however they end.
_REAPER = """
import os, signal, sys
groups = set()
for line in sys.stdin:
    (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
for group in groups:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass
"""


def eventually(
    condition: Callable[[], T], *, expected: str, timeout_s: float = 30.0, show: Callable[[], str] = str
) -> T:
    """
    Wait until *condition* returns something true, and return that.

    Args:
        condition: Asked again every few milliseconds.
        expected: What the test waits for, as it reads after "expected".
        timeout_s: Seconds after which the test has failed.
        show: What to print then, such as the tail of a log.

    Raises:
        AssertionError: *condition* was not true in time.
    """
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"expected {expected} within {timeout_s:g} s; last seen: {found!r}\n{show()}")
        time.sleep(0.02)
    return found


def tail(text: str, lines: int = TAIL_LINES) -> str:
    """The last *lines* of *text*."""
    return "\n".join(text.splitlines()[-lines:])


class Reaper:
    """Kills the process groups it knows of when this process is gone, even if that was by SIGKILL."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _REAPER],
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def watch(self, group: int) -> None:
        self._tell(f"+{group}")

    def forget(self, group: int) -> None:
        self._tell(f"-{group}")

    def close(self) -> None:
        """Let it kill what is still watched, and wait for it."""
        self._pipe.close()
        self._process.wait(timeout=10)

    @property
    def _pipe(self) -> IO[str]:
        assert self._process.stdin is not None
        return self._process.stdin

    def _tell(self, line: str) -> None:
        self._pipe.write(line + "\n")
        self._pipe.flush()


class LocalProcess:
    """
    A command in a process group of its own, with what pytest-celery asks of a docker container.

    The log is a file and goes on over restarts, as a container's does.
    """

    def __init__(
        self, name: str, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path, reaper: Reaper
    ) -> None:
        self.id = secrets.token_hex(32)
        self.name = name
        self.argv = list(argv)
        self._env = dict(env)
        self._cwd = cwd
        self._log = log
        self._reaper = reaper
        self._process: subprocess.Popen[bytes] | None = None
        self._log_offset = 0

    @property
    def status(self) -> str:
        """As docker names it: created, running or exited."""
        if self._process is None:
            return "created"
        return "running" if self._process.poll() is None else "exited"

    @property
    def pid(self) -> int:
        """Of the main process, which is also the id of its group."""
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Start the command (again); what is left of an earlier run is killed first."""
        self.remove()
        with self._log.open("ab") as log:
            self._log_offset = log.tell()
            self._process = subprocess.Popen(
                self.argv,
                env=self._env,
                cwd=self._cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._reaper.watch(self.pid)

    def members(self) -> list[psutil.Process]:
        """The living processes of the group, the main one included."""
        members = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                # A dead child whose new parent does not collect it is dead all the same.
                if os.getpgid(process.pid) == self.pid and process.status() != psutil.STATUS_ZOMBIE:
                    members.append(process)
        return members

    def children(self) -> list[int]:
        """Process ids of the group without its main process, oldest first."""
        others = [process for process in self.members() if process.pid != self.pid]
        return [process.pid for process in sorted(others, key=psutil.Process.create_time)]

    def kill(self, signal: str | int = "SIGKILL", whom: Whom = "all") -> None:
        """
        Send *signal* to the group, to its main process, or to one of the others.

        After SIGKILL, who was meant is gone when this returns.
        """
        number = signals.Signals[signal] if isinstance(signal, str) else signals.Signals(signal)
        match whom:
            case "all":
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.pid, number)
            case "main":
                os.kill(self.pid, number)
            case "child":
                children = self.children()
                assert children, f"expected a child process of {self.name} to kill\n{self.tail()}"
                os.kill(children[0], number)
                if number == signals.SIGKILL:
                    eventually(
                        lambda: children[0] not in self.children(),
                        expected=f"process {children[0]} of {self.name} gone after SIGKILL",
                    )
        if number == signals.SIGKILL and whom != "child":
            self.wait(timeout_s=10)
            if whom == "all":
                eventually(lambda: not self.members(), expected=f"every process of {self.name} gone after SIGKILL")

    def wait(self, timeout_s: float) -> int:
        """
        Wait for the main process to end.

        Returns:
            Its exit code; negative is the number of the signal that ended it.

        Raises:
            AssertionError: It did not end in time.
        """
        assert self._process is not None, f"{self.name} was never started"
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"expected {self.name} to end within {timeout_s:g} s\n{self.tail()}") from None

    def stop(self, timeout_s: float) -> None:
        """Ask the main process to end (SIGTERM); kill what is still there after *timeout_s*."""
        if self.status == "running":
            self.kill("SIGTERM", "main")
            with contextlib.suppress(AssertionError):
                self.wait(timeout_s)
        self.remove()

    def remove(self) -> None:
        """Kill whatever is left of the group."""
        if self._process is not None:
            self.kill("SIGKILL", "all")
            self._reaper.forget(self.pid)

    def logs(self) -> str:
        """All that the command wrote, over all its runs."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def logs_of_this_run(self) -> str:
        """What the command wrote since it was started last."""
        if not self._log.exists():
            return ""
        with self._log.open("rb") as log:
            log.seek(self._log_offset)
            return log.read().decode(errors="replace")

    def tail(self) -> str:
        """The last lines of the log under a heading."""
        return f"---- the last lines of {self._log.name} ({self.status}) ----\n{tail(self.logs())}"


@contextlib.contextmanager
def pythons(folder: Path, environment: Mapping[str, str], *, stop_s: float) -> Iterator[Callable[..., LocalProcess]]:
    """
    Give a function that starts processes of this Python, each with a log in *folder*; in the end all are stopped.

    It takes Python's arguments, ``cwd`` if that is not *folder*, and variables to add to *environment* and to this
    process' own; an empty one is left out.
    """
    reaper = Reaper()
    started: list[LocalProcess] = []

    def start(*arguments: str, cwd: Path = folder, **more: str) -> LocalProcess:
        known = {**os.environ, **environment, **more}
        process = LocalProcess(
            f"process {len(started)}",
            [sys.executable, *arguments],
            env={name: value for name, value in known.items() if value},
            cwd=cwd,
            log=folder / f"{len(started)}.log",
            reaper=reaper,
        )
        started.append(process)
        process.start()
        return process

    yield start
    for process in started:
        process.stop(timeout_s=stop_s)
    reaper.close()
