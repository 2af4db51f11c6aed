"""
Servers that a test may break, real worker processes beside them, and the scene in which jobs are watched.

The workers are local processes always: what is broken here are the servers, by signals and by their own commands.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import kombu.pools
from celery import Celery

from tasks_bridge import Settings
from tasks_bridge.sandbox import SandboxServer
from tests.celery_state import forget_results
from tests.smoke import smoke_app
from tests.smoke.nodes import ROOT, WorkerNode, WorkerProcess
from tests.smoke.processes import LocalProcess, Reaper
from tests.smoke.scene import Scene

API_KEY = "sk-byts-faults-0123456789"
WORKER_APP = "tests.faults.fault_worker:app"

PACE: dict[str, Any] = {
    "poll_min_s": 0.2,
    "poll_max_s": 1.0,
    "tick_s": 0.1,
    "lease_s": 1.0,
    "retry_min_s": 0.2,
    "retry_max_s": 1.0,
    "breaker_max_s": 1.0,
    "submit_timeout_s": 1.0,
    "query_timeout_s": 1.0,
}
"""As in production, about fifteen times faster."""


class Stage:
    """
    One application with its sandbox and its worker processes, for one test or for all of a module.

    Args:
        redis_url: Where jobs and results are, and messages too, unless there is a *broker_url*.
        settings: Changes to `PACE`, and more.
    """

    def __init__(
        self,
        directory: Path,
        reaper: Reaper,
        redis_url: str,
        *,
        broker_url: str | None = None,
        sandbox: SandboxServer | None = None,
        **settings: Any,
    ) -> None:
        self._directory = directory
        self._reaper = reaper
        self._sandbox = sandbox or SandboxServer(keys=[API_KEY])
        self._redis_url = redis_url
        self._broker_url = broker_url
        self._changes = settings
        self._nodes: list[WorkerNode] = []
        self._app: Celery | None = None
        self._scene: Scene | None = None

    def __enter__(self) -> Self:
        self._sandbox.start()
        values = {
            **PACE,
            "api_key": API_KEY,
            "base_url": self._sandbox.url,
            "redis_url": self._redis_url,
            **({"broker_url": self._broker_url} if self._broker_url else {}),
            **self._changes,
        }
        ours = ("api_key", "base_url")
        self._env = {
            f"{'BYTESPIKE' if name in ours else 'TASKS_BRIDGE'}_{name}".upper(): str(value)
            for name, value in values.items()
        }
        self._app = smoke_app.make_app(Settings(**values))
        self._app.set_current()
        self._scene = Scene(self._app, self._sandbox, [], self.new_worker)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for node in self._nodes:
            node.teardown()
        self._sandbox.stop()
        if self._app is not None:
            forget_results()
            self._app.close()
        kombu.pools.reset()

    def new_worker(self, *options: str, **env: str) -> WorkerNode:
        """Start a worker process; it may not be ready yet."""
        name = f"worker{len(self._nodes) + 1}-{uuid.uuid4().hex[:6]}"
        process = WorkerProcess(
            name,
            WORKER_APP,
            options=("--without-mingle", "--without-gossip", *options),
            env={**self._env, "CELERY_IMPORTS": "tests.smoke.smoke_app", **env},
            directory=self._directory,
            reaper=self._reaper,
        )
        node = WorkerNode(process, None)
        self._nodes.append(node)
        return node

    def new_process(self, name: str, *argv: str) -> LocalProcess:
        """A process of the application's, to be started."""
        return LocalProcess(
            name,
            argv,
            env={**os.environ, **self._env},
            cwd=ROOT,
            log=self._directory / f"{name}.log",
            reaper=self._reaper,
        )

    @property
    def workers(self) -> list[WorkerNode]:
        return self._nodes

    def bury(self, node: WorkerNode) -> None:
        """Forget a worker that is dead."""
        node.teardown()
        self._nodes.remove(node)

    @property
    def scene(self) -> Scene:
        assert self._scene is not None, "the stage should have been entered"
        return self._scene

    def clear(self) -> Scene:
        """The scene, without what an earlier test left."""
        self._sandbox.heal()
        self._sandbox.reset()
        for key in self.scene.redis.scan_iter("smoke:*"):
            self.scene.redis.delete(key)
        return self.scene


@contextmanager
def paused(pid: int) -> Iterator[None]:
    """A process that stands still: it neither answers nor closes anything."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def meanwhile(action: Callable[[], None], every_s: float) -> Iterator[list[BaseException]]:
    """Do *action* again and again beside the block; yields the errors it raised."""
    stopped = threading.Event()
    errors: list[BaseException] = []

    def loop() -> None:
        while not stopped.wait(every_s):
            try:
                action()
            except Exception as error:  # noqa: BLE001 - shown by the test
                errors.append(error)

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield errors
    finally:
        stopped.set()
        thread.join(10)


@contextmanager
def supervised(scene: Scene) -> Iterator[None]:
    """
    Start workers again that end, as every production's process manager does.

    Celery's own main process ends when Redis, as its broker, refuses at certain moments: kombu then falls over an error
    of its own. See docs/reliability.md.
    """

    def start_again() -> None:
        for worker in scene.workers:
            if worker.container.status == "exited":
                worker.container.process.start()

    with meanwhile(start_again, every_s=0.2):
        yield


def reconnect(scene: Scene) -> None:
    """Let go of the test's own connections, which the fault has cut: how Celery gets over that is not tested here."""
    app: Any = scene.app
    app._after_fork()
    backend: Any = scene.app.backend
    backend.client.connection_pool.disconnect()
    backend.result_consumer.stop()
    scene.redis.connection_pool.disconnect()


def assert_asked_at_leisure(scene: Scene) -> None:
    """No job has been asked about more often than its countdown and, now and then, the end of a lease call for."""
    shortest_s = 0.9 * scene.bridge.settings.poll_min_s
    for task in scene.sandbox.tasks():
        most = (task["seen_end_s"] - task["created_s"]) / shortest_s + 5
        assert task["queries"] <= most, f"expected at most {most:.0f} queries: {task}"


def elapsed_s(action: Callable[[], object]) -> float:
    """How long *action* takes."""
    begun = time.monotonic()
    action()
    return time.monotonic() - begun
