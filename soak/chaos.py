"""Makes the weather: hurts workers, Redis and the API when it is time, and keeps the workers coming back."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

from soak.weather import Event
from soak.workers import Worker
from tasks_bridge.embedded import EmbeddedRedis
from tasks_bridge.sandbox import SandboxServer

_LOOK_S: Final = 0.1
_HARMFUL: Final = ("signal", "kill redis")


class Chaos(threading.Thread):
    """
    Works through *events* in a thread of its own, then heals everything.

    Args:
        calm: Redis is not hurt while somebody holds it.
    """

    def __init__(
        self,
        events: Sequence[Event],
        server: EmbeddedRedis,
        sandbox: SandboxServer,
        workers: Sequence[Worker],
        calm: threading.Lock,
    ) -> None:
        super().__init__(name="chaos", daemon=True)
        self.counts: Counter[str] = Counter()
        self.harm: list[float] = []
        """When a worker or Redis was hurt, in seconds since the epoch."""
        self.error: BaseException | None = None
        self._events = list(events)
        self._server = server
        self._sandbox = sandbox
        self._workers = workers
        self._calm = calm
        self._over = threading.Event()

    def run(self) -> None:
        """Until the last event; the workers are watched over until `close`."""
        began = time.monotonic()
        pending = list(self._events)
        try:
            while not self._over.is_set():
                while pending and time.monotonic() - began >= pending[0].at_s:
                    self._do(pending.pop(0))
                for worker in self._workers:
                    worker.supervise()
                time.sleep(_LOOK_S)
        except BaseException as error:  # noqa: BLE001 - shown by whoever waits for the end
            self.error = error

    def heal(self) -> None:
        """From now on nothing goes wrong; the events that are left should be none."""
        self._sandbox.heal()

    def close(self) -> None:
        """Watch over the workers no longer."""
        self._over.set()
        self.join()

    def _do(self, event: Event) -> None:
        detail = event.detail
        if event.what:
            self.counts[event.what] += 1
        if event.act in _HARMFUL:
            self.harm.append(time.time())
        match event.act:
            case "signal":
                self._workers[detail["worker"]].signal(detail["signal"], detail["whom"])
            case "freeze" | "thaw":
                name = "SIGSTOP" if event.act == "freeze" else "SIGCONT"
                self._workers[detail["worker"]].signal(name, "all")
            case "kill redis":
                with self._calm:
                    self._server.kill()
                self.harm.append(time.time())
            case "start redis":
                self._server.restart()
            case "pause redis" | "resume redis":
                with self._calm if event.act == "pause redis" else contextlib.nullcontext():
                    os.kill(self._server.pid or 0, signal.SIGSTOP if event.act == "pause redis" else signal.SIGCONT)
            case _:
                kind = detail["kind"]
                self._sandbox.fail(kind, **{name: value for name, value in detail.items() if name != "kind"})
