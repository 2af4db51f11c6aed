"""
The nodes as containers, for machines with a container engine.

They are on the engine's host network: addresses are those of the local processes, so the tests don't differ.
"""

from __future__ import annotations

import contextlib
import gc
import io
import os
import secrets
import sys
import tarfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import docker
import psutil
from docker.errors import DockerException
from docker.models.containers import Container
from redis import Redis, RedisError

from tasks_bridge.embedded import free_port
from tests.smoke.nodes import ROOT, LocalContainer
from tests.smoke.processes import Whom, eventually

LABEL = "tasks-bridge-smoke"
REDIS_IMAGE = "redis:latest"
RABBITMQ_IMAGE = "rabbitmq:latest"
WORKER_IMAGE = "tasks-bridge-smoke-worker"
START_TIMEOUT_S = 60.0
_ANSWER_TIMEOUT_S = 600  # for one answer of the engine; building an image is one

# What the worker's image is made of, besides the Dockerfile beside this file.
_CONTEXT = (
    "pyproject.toml",
    "constraints.txt",
    "README.md",
    "LICENSE",
    "tasks_bridge",
    "worker",
    "tests/smoke",
)

# The main process of a container is number 1, and what the engine runs beside it has no parent in there. A dead child
# stays as a zombie until the main process collects it.
_KILL_A_CHILD = """
import os, signal
for entry in sorted(filter(str.isdigit, os.listdir("/proc")), key=int):
    state, parent = open(f"/proc/{entry}/stat").read().rsplit(")", 1)[1].split()[:2]
    if parent == "1" and state != "Z":
        os.kill(int(entry), signal.%s)
        break
else:
    raise SystemExit("the main process has no child")
"""


class EngineUnusable(Exception):
    """Why containers cannot be used on this machine."""


def prepare() -> docker.DockerClient:
    """
    Make what the nodes need.

    Returns:
        A client of this machine's container engine, which has the images.

    Raises:
        EngineUnusable: There is no engine, it does not answer, or it can't make or fetch the images.
    """
    if sys.platform != "linux":
        raise EngineUnusable("containers have another machine's network here")
    client = _connect()
    try:
        _remove_what_killed_tests_left(client)
        _build_worker_image(client)
        for image in (REDIS_IMAGE, RABBITMQ_IMAGE):
            if not client.images.list(image):
                client.images.pull(image)
    except DockerException as error:
        client.close()
        raise EngineUnusable(f"the container engine says: {error}") from None
    return client


def _connect() -> docker.DockerClient:
    with contextlib.suppress(DockerException):
        return docker.from_env(timeout=_ANSWER_TIMEOUT_S)
    # The client leaves the sockets of a failed connection to the garbage collector, which warns of them.
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        gc.collect()
    raise EngineUnusable("no container engine")


def _remove_what_killed_tests_left(client: docker.DockerClient) -> None:
    for container in client.containers.list(all=True, filters={"label": LABEL}):
        if not psutil.pid_exists(int(container.labels[LABEL])):
            container.remove(force=True, v=True)


def _build_worker_image(client: docker.DockerClient) -> None:
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        archive.add(Path(__file__).with_name("Dockerfile"), "Dockerfile")
        for name in _CONTEXT:
            if (ROOT / name).exists():
                archive.add(ROOT / name, name, filter=_without_caches)
    context.seek(0)
    client.images.build(fileobj=context, custom_context=True, tag=WORKER_IMAGE, rm=True)


def _run_options() -> dict[str, Any]:
    return {"detach": True, "network_mode": "host", "labels": {LABEL: str(os.getpid())}}


def _without_caches(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    member.mtime = 0  # a copy of the same files gives the same layer
    return None if "__pycache__" in member.name else member


class DockerContainer(LocalContainer):
    """A container on the host's network."""

    def __init__(self, name: str, container: Container) -> None:
        super().__init__(name)
        self._container = container

    @property
    def status(self) -> str:
        self._container.reload()
        return str(self._container.status)

    def is_serving(self) -> bool:
        """True once the service in the container can be used."""
        raise NotImplementedError

    def ready(self) -> bool:
        """
        Wait until the service in the container can be used.

        Raises:
            AssertionError: It ended, or was not ready in time.
        """
        eventually(
            lambda: self.is_serving() or self.status == "exited",
            expected=f"{self.name} ready",
            timeout_s=START_TIMEOUT_S,
            show=self.tail,
        )
        assert self.status == "running", f"expected {self.name} to run\n{self.tail()}"
        return True

    def kill(self, signal: str | int | None = None, whom: Whom = "all") -> None:
        self._container.kill(signal or "SIGKILL")
        if signal in (None, "SIGKILL"):
            eventually(lambda: self.status != "running", expected=f"{self.name} gone after SIGKILL")

    def restart(self, timeout: float = 10) -> None:
        self._container.restart(timeout=round(timeout))
        self.ready()

    def logs(self) -> str:
        return str(self._container.logs(), errors="replace")

    def teardown(self) -> None:
        self._container.remove(force=True, v=True)


class RedisContainer(DockerContainer):
    """Redis in a container, with an append-only file."""

    def __init__(self, client: docker.DockerClient) -> None:
        port = free_port()
        self.url = f"redis://127.0.0.1:{port}/0"
        options = ["--bind", "127.0.0.1", "--port", str(port), "--appendonly", "yes", "--save", ""]
        super().__init__(
            "redis",
            client.containers.run(REDIS_IMAGE, ["redis-server", *options], **_run_options()),
        )

    @property
    def client(self) -> Redis:
        return Redis.from_url(self.url, decode_responses=True)

    @property
    def celeryconfig(self) -> dict[str, Any]:
        return {"url": self.url, "host_url": self.url}

    def is_serving(self) -> bool:
        try:
            with self.client as client:
                return bool(client.ping())
        except RedisError:
            return False


class RabbitMQContainer(DockerContainer):
    """
    RabbitMQ in a container.
    """

    def __init__(self, client: docker.DockerClient) -> None:
        port = free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{port}//"
        environment = {
            "RABBITMQ_NODENAME": f"smoke-{port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "ERL_EPMD_PORT": str(free_port()),
            "RABBITMQ_ENABLED_PLUGINS_FILE": "/etc/rabbitmq/none",  # they would listen as well
        }
        super().__init__(
            "rabbitmq",
            client.containers.run(RABBITMQ_IMAGE, environment=environment, **_run_options()),
        )

    def is_serving(self) -> bool:
        return "Server startup complete" in self.logs()


class WorkerContainer(DockerContainer):
    """`celery worker` in a container."""

    def __init__(
        self,
        client: docker.DockerClient,
        name: str,
        app: str,
        *,
        options: Sequence[str],
        env: Mapping[str, str],
    ) -> None:
        self.hostname = f"{name}@{secrets.token_hex(6)}"
        command = ["celery", "--app", app, "worker", "--task-events", "--loglevel", "INFO"]
        container = client.containers.run(
            WORKER_IMAGE,
            [*command, "--hostname", self.hostname, *options],
            environment=dict(env),
            **_run_options(),
        )
        self._starts = 1
        super().__init__(name, container)

    @property
    def celeryconfig(self) -> dict[str, Any]:
        return {}

    def worker_name(self) -> str:
        return self.name

    def is_serving(self) -> bool:
        return self.logs().count(" ready.") >= self._starts

    def restart(self, timeout: float = 10) -> None:
        self._starts = self.logs().count(" ready.") + 1
        super().restart(timeout)

    def kill(self, signal: str | int | None = None, whom: Whom = "all") -> None:
        # A container that loses its main process loses all, so `all` and `main` are the same.
        if whom != "child":
            super().kill(signal, whom)
            return
        status, output = self._container.exec_run(["python", "-c", _KILL_A_CHILD % (signal or "SIGKILL")])
        assert status == 0, f"expected a child process of {self.name} to kill: {output!r}\n{self.tail()}"

    def wait(self, timeout_s: float) -> int:
        status = int(self._container.wait(timeout=timeout_s)["StatusCode"])
        return 128 - status if status > 128 else status

    def processes(self) -> list[int]:
        """Their ids on the host."""
        return [] if self.status != "running" else [int(row[1]) for row in self._container.top()["Processes"]]
