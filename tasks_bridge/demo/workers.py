"""A real Celery worker in processes of its own, which can be killed as a whole and is never left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Final

import tasks_bridge
from tasks_bridge.embedded import GuardedProcess

PROCESSES: Final = 2
STOP_S: Final = 8.0
"""How long a worker may take to finish what it is at."""


class Worker:
    """
    One worker: a main process and its pool.

    Args:
        name: ``one`` or ``two``.
        directory: For its log and its temporary files; also its current directory. Removed with the worker if this
            process is killed.
    """

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.hostname = f"{name}@demo"
        self.log = directory / f"worker-{name}.log"
        command = [sys.executable, "-P", "-m", "celery", "--quiet", "--workdir", str(directory)]
        command += ["-A", "tasks_bridge.demo.worker", "worker", "--hostname", self.hostname]
        command += ["--concurrency", str(PROCESSES), "--pool", "prefork", "--loglevel", "WARNING"]
        command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        # a worker that is killed can't remove its own temporary files
        environment = {**_with_package(dict(os.environ)), "TMPDIR": str(directory)}
        self._process = GuardedProcess(command, log=self.log, env=environment, disposable=directory)

    def is_alive(self) -> bool:
        """Whether its main process runs."""
        return self._process.is_alive()

    def kill(self) -> None:
        """SIGKILL to every process of it at once, as when its machine goes down."""
        if self._process.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(os.getpgid(self._process.pid), signal.SIGKILL)
        self._process.end(signal.SIGKILL)

    def stop(self) -> None:
        """Let it finish what it is at, and return when it is gone."""
        self._process.end(signal.SIGTERM, timeout_s=STOP_S)

    def last_words(self) -> str:
        """The end of its log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")


def _with_package(environment: dict[str, str]) -> dict[str, str]:
    """Let the worker find this package where this process found it, be it installed or a checkout."""
    root = Path(tasks_bridge.__file__).parents[1]
    if root.name in ("site-packages", "dist-packages"):
        return environment
    paths = [str(root), *filter(None, [environment.get("PYTHONPATH")])]
    return {**environment, "PYTHONPATH": os.pathsep.join(paths)}
