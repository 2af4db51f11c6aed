"""Real workers that are started again whenever they are gone, as a service manager does."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import psutil

from tasks_bridge.embedded import GuardedProcess

PROCESSES: Final = 2
RESTART_S: Final = 1.0
"""How long a worker that is gone stays so."""
STOP_S: Final = 20.0


class Worker:
    """
    One worker of a prefork pool; each of its lives has a log of its own.

    Args:
        name: Part of its host name and its logs' names.
        directory: For the logs.
        env: Its whole environment.
    """

    def __init__(self, name: str, directory: Path, env: Mapping[str, str]) -> None:
        self.name = name
        self.starts = 0
        self._directory = directory
        self._env = dict(env)
        self._groups: list[int] = []
        self._gone_since: float | None = None
        self._start()

    def _start(self) -> None:
        self.starts += 1
        log = self._directory / f"worker-{self.name}-{self.starts:03}.log"
        command = [sys.executable, "-P", "-m", "celery", "--quiet", "-A", "soak.worker", "worker"]
        command += ["--hostname", f"{self.name}@soak", "--concurrency", str(PROCESSES), "--pool", "prefork"]
        command += ["--loglevel", "INFO", "--without-gossip", "--without-mingle", "--without-heartbeat"]
        self._process = GuardedProcess(command, log=log, env=self._env)
        self._gone_since = None
        with contextlib.suppress(ProcessLookupError):
            self._groups.append(os.getpgid(self._process.pid))

    def signal(self, name: str, whom: str) -> bool:
        """Send it a signal: to ``all`` its processes, its ``main`` one or a ``child``; False if nobody was there."""
        number = signal.Signals[name]
        if not self._process.is_alive():
            return False
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            main = psutil.Process(self._process.pid)
            if whom == "main":
                main.send_signal(number)
                return True
            children = main.children(recursive=True)
            if whom == "child":
                if children:
                    children[0].send_signal(number)
                return bool(children)
            for process in (main, *children):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(number)
            return True
        return False

    def supervise(self) -> None:
        """Start it again if it has been gone for a while."""
        if self._process.is_alive():
            return
        now = time.monotonic()
        self._gone_since = self._gone_since or now
        if now - self._gone_since >= RESTART_S:
            self._process.end(signal.SIGKILL)
            self._start()

    def stop(self) -> None:
        """Let it finish what it is at; then nothing of any of its lives is left."""
        self.signal("SIGCONT", "all")
        self._process.end(signal.SIGTERM, timeout_s=STOP_S)
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                if os.getpgid(process.pid) in self._groups and "soak.worker" in " ".join(process.cmdline()):
                    process.kill()
