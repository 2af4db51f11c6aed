"""
pytest-celery's nodes as local processes.

pytest-celery wraps docker containers in nodes and nodes in clusters, and tests talk to these. Here the containers are
process groups of this machine; nodes, clusters and the setup are pytest-celery's own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from celery import Celery
from kombu import Connection
from pytest_celery import (
    CeleryTestContainer,
    CeleryTestWorker,
    RabbitMQTestBroker,
    RedisTestBackend,
    RedisTestBroker,
)
from redis import Redis

from tests.smoke.processes import LocalProcess, Reaper, Whom, eventually, free_port

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 40.0


class ProcessContainer(CeleryTestContainer):
    """A container that is a local process group."""

    def __init__(self, process: LocalProcess) -> None:
        # Not the wrapper's own constructor: it reads docker's description of networks and ports.
        self._container = process

    @property
    def process(self) -> LocalProcess:
        return self._container

    def is_serving(self) -> bool:
        """True once the process does what it is there for."""
        raise NotImplementedError

    def ready(self) -> bool:
        """
        Wait until the process serves.

        Raises:
            AssertionError: It ended, or did not serve in time.
        """
        eventually(
            lambda: self.process.status != "running" or self.is_serving(),
            expected=f"{self.name} ready",
            timeout_s=START_TIMEOUT_S,
            show=self.process.tail,
        )
        assert self.process.status == "running", f"expected {self.name} to run\n{self.process.tail()}"
        return True

    def reload(self) -> None:
        """Nothing is cached: the status is always read from the process."""

    def restart(self, timeout: float = 10) -> None:
        """Stop as docker does (SIGTERM, and SIGKILL after *timeout* seconds), start, and wait until it serves."""
        self.process.stop(timeout)
        self.process.start()
        self.ready()

    def kill(self, signal: str | int | None = None, whom: Whom = "all") -> None:
        self.process.kill(signal or "SIGKILL", whom)

    def logs(self) -> str:
        return self.process.logs()

    def teardown(self) -> None:
        self.process.remove()


class RedisProcess(ProcessContainer):
    """A Redis-compatible server on loopback that keeps an append-only file."""

    def __init__(self, binary: str, *, cwd: Path, reaper: Reaper) -> None:
        self._port = free_port()
        argv = [binary, "--port", str(self._port), "--bind", "127.0.0.1", "--dir", str(cwd), "--save", ""]
        super().__init__(
            LocalProcess(
                "redis",
                [*argv, "--appendonly", "yes", "--maxmemory-policy", "noeviction"],
                env=os.environ,
                cwd=cwd,
                log=cwd / "redis.log",
                reaper=reaper,
            )
        )

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/0"

    @property
    def client(self) -> Redis:
        return Redis.from_url(self.url, decode_responses=True)

    @property
    def celeryconfig(self) -> dict[str, Any]:
        return {"url": self.url, "host_url": self.url, "hostname": "127.0.0.1", "port": self._port, "vhost": "0"}

    def is_serving(self) -> bool:
        return "ready to accept connections" in self.process.logs_of_this_run().lower()


class RabbitMQProcess(ProcessContainer):
    """A virtual host of a RabbitMQ server that somebody else started."""

    def __init__(self, url: str) -> None:
        self.url = url

    @property
    def name(self) -> str:
        return "rabbitmq"

    @property
    def client(self) -> Connection:
        return Connection(self.url)

    @property
    def celeryconfig(self) -> dict[str, Any]:
        return {"url": self.url, "host_url": self.url}

    def ready(self) -> bool:
        with self.client as connection:
            connection.ensure_connection(max_retries=1)
        return True

    def logs(self) -> str:
        return ""

    def teardown(self) -> None:
        """The server goes on for other tests."""


class WorkerProcess(ProcessContainer):
    """`celery worker` with events on, under a name of its own."""

    def __init__(
        self,
        name: str,
        app: str,
        *,
        options: Sequence[str],
        env: Mapping[str, str],
        cwd: Path,
        reaper: Reaper,
    ) -> None:
        process = LocalProcess(name, (), env={**os.environ, **env}, cwd=ROOT, log=cwd / f"{name}.log", reaper=reaper)
        # What CeleryTestWorker.hostname() says of its container must be the name that the worker has.
        process.argv = [
            *(sys.executable, "-m", "celery", "--app", app, "worker", "--task-events", "--loglevel", "INFO"),
            *("--hostname", f"{name}@{process.id[:12]}"),
            *options,
        ]
        super().__init__(process)

    def worker_name(self) -> str:  # type: ignore[override]
        return self.name

    @classmethod
    def log_level(cls) -> str:
        return "INFO"

    @property
    def celeryconfig(self) -> dict[str, Any]:
        return {}

    def is_serving(self) -> bool:
        return " ready." in self.process.logs_of_this_run()


class LocalRedisNode(RedisTestBroker, RedisTestBackend):
    """One Redis as broker and result backend, as in most deployments."""


class LocalWorkerNode(CeleryTestWorker):
    """A worker that a test can kill in all the ways in which one dies."""

    container: WorkerProcess

    def kill(self, signal: str | int = "SIGKILL", reload_container: bool = True, *, whom: Whom = "all") -> None:
        """Send *signal* to all processes of the worker, to its main process, or to one process of its pool."""
        self.container.kill(signal, whom)

    def get_running_processes_info(
        self, columns: list[str] | None = None, filters: dict[str, str] | None = None
    ) -> list[dict[str, Any]]:
        """What psutil says of the worker's processes, as in a container."""
        rows = [process.as_dict(columns) for process in self.container.process.members()]
        return [row for row in rows if all(row.get(key) == value for key, value in (filters or {}).items())]

    def wait_for_log(self, log: str, message: str = "", timeout: float = 30.0) -> None:
        eventually(
            lambda: log in self.logs(),
            expected=message or f"{log!r} in the log of worker {self.name()}",
            timeout_s=timeout,
            show=self.container.process.tail,
        )
