"""The examples as people start them: by their one command, in a process of its own."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import psutil

from tasks_bridge.embedded import free_port
from tests.smoke.processes import LocalProcess, Reaper, eventually

ROOT = Path(__file__).parents[2]
START_S = 90.0
"""A few seconds on an idle machine."""


class RunningExample:
    """
    An example with its data in *data*; it may be stopped and started again, at the same address.

    Args:
        name: Of its folder.
        data: Where it keeps everything.
        arguments: For its command line.
        environment: More of it.
    """

    AWAY: Final = "Failed to load resource: net::ERR_|ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED|ERR_EMPTY_RESPONSE"
    """What browsers have to say while it is stopped, as a regular expression."""

    def __init__(
        self, name: str, data: Path, reaper: Reaper, *arguments: str, environment: dict[str, str] | None = None
    ) -> None:
        self.data = data
        self._arguments = [sys.executable, "-m", f"examples.{name}", "--data", str(data), *arguments]
        # tests run side by side: two that look for a free port at the same time find the same one
        self._port = str(free_port())
        self.process = LocalProcess(
            name,
            self._arguments,
            env={**os.environ, **(environment or {})},
            cwd=ROOT,
            log=data.with_suffix(".log"),
            reaper=reaper,
        )

    def begin(self) -> None:
        """Start it, whatever becomes of it."""
        self.process.start()

    def start(self, *more: str) -> None:
        """Start it, with *more* arguments, and wait until it says that it is open."""
        self.process.argv = [*self._arguments, "--port", self._port, *more]
        self.begin()
        eventually(
            lambda: "Ctrl-C stops everything." in self.said or self.process.exit_code is not None,
            expected=f"{self.process.name} to open",
            timeout_s=START_S,
            show=self.tail,
        )
        assert self.process.exit_code is None, f"expected {self.process.name} to open\n{self.tail()}"

    def stop(self, signal: str = "SIGINT") -> int:
        """Stop it as Ctrl-C does; returns its exit status."""
        self.process.kill(signal, "main")
        return self.process.wait(timeout_s=30)

    @property
    def said(self) -> str:
        """What it has printed since it was started last."""
        return self.process.logs_of_this_run()

    @property
    def url(self) -> str:
        """Of its first page, with a slash at the end."""
        found = re.search(r"http://127\.0\.0\.1:\d+/", self.said)
        assert found, f"expected a URL\n{self.tail()}"
        return found[0]

    def log(self, name: str) -> str:
        """What its web server (``web``) or worker has printed since it was started last."""
        return (self.data / f"{name}.log").read_text(errors="replace")

    def parts(self) -> list[psutil.Process]:
        """All processes below it. They are in sessions of their own, out of the reach of a terminal's signals."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def tail(self) -> str:
        """What may explain a failure."""
        logs = [self.data / f"{name}.log" for name in ("web", "worker")]
        return "\n".join(
            [self.process.tail(), *(f"---- {log} ----\n{log.read_text()[-2000:]}" for log in logs if log.exists())]
        )


@contextmanager
def running(name: str, data: Path, *arguments: str) -> Iterator[RunningExample]:
    """An example that is open, and is stopped in the end."""
    reaper = Reaper()
    example = RunningExample(name, data, reaper, *arguments)
    try:
        example.start()
        yield example
    finally:
        example.process.stop(timeout_s=30)
        reaper.close()


def still_running(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those of *processes* that have not ended."""
    return [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def cause(example: RunningExample, **fault: Any) -> None:
    """Have the example's sandbox do wrong, see docs/sandbox.md."""
    sandbox = re.search(r"sandbox on this machine, (\S+)", example.said)
    assert sandbox
    httpx.post(f"{sandbox[1]}/_sandbox/faults", json=fault, trust_env=False).raise_for_status()
