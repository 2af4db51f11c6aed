"""
pytest-celery's nodes as local processes.

pytest-celery wraps docker containers in nodes and nodes in clusters, and tests talk to these. Here the
containers are processes of this machine; nodes, clusters and the setup are pytest-celery's own.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kombu import Connection
from pytest_celery import (
    CeleryTestContainer,
    CeleryTestWorker,
    RabbitMQTestBroker,
    RedisTestBackend,
    RedisTestBroker,
)
from redis import Redis

from tasks_bridge.embedded import EmbeddedRedis
from tests.smoke.processes import LocalProcess, Reaper, Whom, eventually, tail

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 40.0


class LocalContainer(CeleryTestContainer):
    """What pytest-celery asks of a container, without docker."""

    def __init__(self, name: str) -> None:
        # Not the wrapper's own constructor: it reads docker's description of networks and ports.
        self._name = name
        self._id = secrets.token_hex(32)

    @property
    def id(self) -> str:
        return self._id

    @property
    def name(self) -> str:
        return self._name

    def reload(self) -> None:
        """Nothing is cached: the status is always the present one."""

    def tail(self) -> str:
        """The last lines of the log under a heading."""
        return f"---- the last lines of {self.name}'s log ({self.status}) ----\n{tail(self.logs())}"


class RedisProcess(LocalContainer):
    """A Redis-compatible server on loopback that keeps an append-only file."""

    def __init__(self, directory: Path) -> None:
        super().__init__("redis")
        self._log = directory / "server.log"
        self._server = EmbeddedRedis(directory=directory)
        self._server.start()

    @property
    def status(self) -> str:
        return "running" if self._server.pid else "exited"

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def client(self) -> Redis:
        return Redis.from_url(self.url, decode_responses=True)

    @property
    def celeryconfig(self) -> dict[str, Any]:
        return {"url": self.url, "host_url": self.url}

    def ready(self) -> bool:
        assert self.status == "running", f"expected {self.name} to run\n{self.tail()}"
        return True

    def kill(self, signal: str | int | None = None) -> None:
        assert signal in (None, "SIGKILL"), "the server is stopped by restart() or teardown(), or killed"
        self._server.kill()

    def restart(self, timeout: float = 10) -> None:
        self._server.restart()

    def logs(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def teardown(self) -> None:
        self._server.stop()


class RabbitMQServer(LocalContainer):
    """A RabbitMQ server that runs for all tests of a session."""

    def __init__(self, url: str) -> None:
        super().__init__("rabbitmq")
        self.url = url

    @property
    def status(self) -> str:
        return "running"

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

    def kill(self, signal: str | int | None = None) -> None:
        raise NotImplementedError("other tests use this server too")

    def restart(self, timeout: float = 10) -> None:
        raise NotImplementedError("other tests use this server too")

    def logs(self) -> str:
        return ""

    def delete_queues(self, names: Sequence[str]) -> None:
        """Leave no message to the next test."""
        with self.client as connection:
            channel: Any = connection.channel()
            for name in names:
                channel.queue_delete(name)


class WorkerProcess(LocalContainer):
    """`celery worker` with events on, under a name of its own."""

    def __init__(
        self,
        name: str,
        app: str,
        *,
        options: Sequence[str],
        env: Mapping[str, str],
        directory: Path,
        reaper: Reaper,
    ) -> None:
        super().__init__(name)
        self.process = LocalProcess(
            name,
            [
                *(
                    sys.executable,
                    "-m",
                    "celery",
                    "--app",
                    app,
                    "worker",
                    "--task-events",
                    "--loglevel",
                    "INFO",
                ),
                *("--hostname", self.hostname),
                *options,
            ],
            env={**os.environ, **env},
            cwd=ROOT,
            log=directory / f"{name}.log",
            reaper=reaper,
        )
        self.process.start()

    @property
    def status(self) -> str:
        return self.process.status

    @property
    def hostname(self) -> str:
        return f"{self.name}@{self.id[:12]}"

    def worker_name(self) -> str:
        return self.name

    def ready(self) -> bool:
        """
        Wait until the worker takes tasks.

        Raises:
            AssertionError: It ended, or was not ready in time.
        """
        eventually(
            lambda: self.status != "running" or " ready." in self.process.logs_of_this_run(),
            expected=f"{self.name} ready",
            timeout_s=START_TIMEOUT_S,
            show=self.tail,
        )
        assert self.status == "running", f"expected {self.name} to run\n{self.tail()}"
        return True

    def kill(self, signal: str | int | None = None, whom: Whom = "all") -> None:
        self.process.kill(signal or "SIGKILL", whom)

    def restart(self, timeout: float = 10) -> None:
        """Stop as docker does (SIGTERM, after *timeout* seconds SIGKILL), start, and wait until ready."""
        self.process.stop(timeout)
        self.process.start()
        self.ready()

    def wait(self, timeout_s: float) -> int:
        return self.process.wait(timeout_s)

    def processes(self) -> list[int]:
        return [process.pid for process in self.process.members()]

    def logs(self) -> str:
        return self.process.logs()

    def teardown(self) -> None:
        self.process.remove()


class RedisNode(RedisTestBroker, RedisTestBackend):
    """One Redis as broker and result backend, as in most deployments."""

    container: RedisProcess

    def teardown(self) -> None:
        # Not RedisTestBackend's: it asks every object in memory for its class, and Django's settings, where there are
        # none, fail. `forget_results` has done what it is for.
        super(RedisTestBackend, self).teardown()


class RabbitMQNode(RabbitMQTestBroker):
    """RabbitMQ as broker."""

    container: RabbitMQServer


class WorkerNode(CeleryTestWorker):
    """A worker that a test can kill in all the ways in which one dies."""

    container: WorkerProcess

    def hostname(self) -> str:
        return self.container.hostname

    def kill(self, signal: str | int = "SIGKILL", reload_container: bool = True, *, whom: Whom = "all") -> None:
        """Send *signal* to all processes of the worker, to its main one, or to one of its pool."""
        self.container.kill(signal, whom)

    def wait_for_exit(self, timeout_s: float = 30.0) -> int:
        """Wait until the main process has ended; its exit code, negative for a signal's number."""
        return self.container.wait(timeout_s)

    def wait_for_log(self, log: str, message: str = "", timeout: float = 30.0) -> None:
        eventually(
            lambda: log in self.logs(),
            expected=message or f"{log!r} in the log of {self.name()}",
            timeout_s=timeout,
            show=self.container.tail,
        )

    def processes(self) -> list[int]:
        """Ids of the living processes of the worker, its main one included."""
        return self.container.processes()
