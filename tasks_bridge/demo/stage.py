"""All that the demo runs on: a Redis-compatible server, the sandbox and two workers, started and cleared away."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import redis
from celery import Celery

from tasks_bridge.bridge import Bridge, bridge_of
from tasks_bridge.demo import duty
from tasks_bridge.demo.app import make_app
from tasks_bridge.demo.scenes import SPEED
from tasks_bridge.demo.surroundings import environment, ignore_signals
from tasks_bridge.demo.workers import Worker
from tasks_bridge.embedded import EmbeddedRedis
from tasks_bridge.errors import BridgeError
from tasks_bridge.sandbox import SandboxServer
from tasks_bridge.settings import Settings

LEASE_S: Final = 3.0
START_S: Final = 60.0
"""How long the workers may take to start; a second or two is usual."""

_LOOK_S: Final = 0.05
_PACE: Final = {
    # in step with the sandbox's fast clock; production keeps the defaults
    "TASKS_BRIDGE_POLL_MIN_S": "0.8",
    "TASKS_BRIDGE_TICK_S": "0.1",
    "TASKS_BRIDGE_LEASE_S": str(LEASE_S),
    "TASKS_BRIDGE_RETRY_MIN_S": "0.5",
}


class Stage:
    """
    Everything that runs, for as long as the ``with`` block lasts.

    Args:
        redis_url: Use this server instead of starting one. The demo keeps to keys of its own there, and removes them.

    Raises:
        SettingsError: There is no server program to start; the message says what to install.
        StoreError: The server does not answer.
        BridgeError: A worker does not start.
    """

    def __init__(self, redis_url: str | None = None) -> None:
        self.run = secrets.token_hex(4)
        self.keeps_logs = False
        """Set it to leave the logs behind for whoever has to find out what went wrong."""
        self.directory = Path()
        self.server = EmbeddedRedis(url=redis_url)
        self.is_own_server = redis_url is None
        self.sandbox = SandboxServer(speed=SPEED)
        self.workers: list[Worker] = []
        self._open = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ignore_signals()
        # who is in a hurry to leave doesn't wait for tasks to be finished
        (self.kill_workers if kind else self.stop_workers)()
        self._open.close()

    @property
    def app(self) -> Celery:
        """The demo's application."""
        return self._app

    @property
    def bridge(self) -> Bridge:
        """What belongs to it."""
        return bridge_of(self._app)

    def stop_workers(self) -> None:
        """Let the workers finish what they are at."""
        for worker in self.workers:
            worker.stop()
        self.workers.clear()

    def kill_workers(self) -> None:
        """End the workers whatever they are at."""
        for worker in self.workers:
            worker.kill()
        self.workers.clear()

    def _start(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="tasks-bridge-demo-"))
        self._open.callback(self._remove_logs)
        self._open.enter_context(self.server)
        self._open.enter_context(self.sandbox)
        self._open.enter_context(environment({**_PACE, **self._places()}))
        self._app = make_app(Settings())
        self._open.callback(self._leave_redis)
        self.bridge.check()
        for name in ("one", "two"):
            self.workers.append(Worker(name, self.directory))
        self._await_workers()

    def _places(self) -> dict[str, str]:
        return {
            "BYTESPIKE_API_KEY": f"sk-byts-demo-{self.run}",
            "BYTESPIKE_BASE_URL": self.sandbox.url,
            "TASKS_BRIDGE_REDIS_URL": self.server.url,
            "TASKS_BRIDGE_NAMESPACE": f"tasks-bridge-demo-{self.run}",
        }

    def _await_workers(self) -> None:
        give_up_at = time.monotonic() + START_S
        while not {worker.hostname for worker in self.workers} <= duty.ready(self.bridge):
            for worker in self.workers:
                if not worker.is_alive():
                    self.keeps_logs = True
                    raise BridgeError(f"worker {worker.name} did not start: {worker.last_words()} (log: {worker.log})")
            if time.monotonic() > give_up_at:
                self.keeps_logs = True
                raise BridgeError(f"the workers did not start within {START_S:g} s (logs: {self.directory})")
            time.sleep(_LOOK_S)

    def _leave_redis(self) -> None:
        client, namespace = self.bridge.store.client, self.bridge.settings.namespace
        # The results of a chord's jobs follow them by a subscription. Collected at the end of the process, each would
        # look for Redis once more to cancel it, in vain and with a traceback.
        backend: Any = self._app.backend
        consumer = backend.result_consumer
        consumer.subscribed_to.clear()
        consumer.stop()
        self._app.close()
        if not self.is_own_server:
            forget(client, namespace)
        client.close()

    def _remove_logs(self) -> None:
        if not self.keeps_logs:
            shutil.rmtree(self.directory, ignore_errors=True)


def forget(client: redis.Redis, namespace: str) -> None:
    """Delete the keys of *namespace*, Celery's and ours, and no other."""
    for prefix in (f"{namespace}:", f"{{{namespace}}}:"):
        for key in client.scan_iter(match=f"{prefix}*", count=1000):
            client.unlink(key)
