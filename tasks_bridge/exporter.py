"""A worker's metrics on a port of its main process, which `counts` have come together in."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from celery import bootsteps
from celery.signals import worker_process_init

from tasks_bridge.bridge import bridge_of

if TYPE_CHECKING:
    from socketserver import BaseServer

    from tasks_bridge.bridge import Bridge

log = logging.getLogger(__name__)

GATHER_S: Final = 0.5
"""Longest wait for counts of the pool's processes before other things are looked at."""

PORT_RETRY_S: Final = 2.0
"""How soon a port is tried again that somebody has: the worker before this one, say, which is about to end."""


class Exporter(bootsteps.StartStopStep):
    """Worker bootstep: the pipe is there before the pool's processes are, and the port after them."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        """
        Begin to count, if the port is set.

        Raises:
            SettingsError: prometheus-client is missing.
        """
        super().__init__(worker, **options)
        self._bridge: Bridge = bridge_of(worker.app)
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()
        self._server: BaseServer | None = None
        if self._bridge.settings.metrics_port is not None:
            from tasks_bridge import metrics  # noqa: F401, PLC0415 - optional; better missed here than at the first scrape

            self._bridge.counts.open()

    def include_if(self, worker: Any) -> bool:
        """Celery's hook."""
        return self._bridge.settings.metrics_port is not None

    def start(self, worker: Any) -> None:
        """Celery's hook, once the pool is there."""
        worker_process_init.connect(self._leave, dispatch_uid=f"tasks-bridge-exporter-{id(self)}")
        self._thread = threading.Thread(target=self._run, name="tasks-bridge-metrics", daemon=True)
        self._thread.start()

    def stop(self, worker: Any) -> None:
        """Celery's hook at the end."""
        worker_process_init.disconnect(dispatch_uid=f"tasks-bridge-exporter-{id(self)}")
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._bridge.counts.close()

    def terminate(self, worker: Any) -> None:
        """Celery's hook at a quick end."""
        self.stop(worker)

    def _leave(self, **_: Any) -> None:
        """In a new process of the pool: the port is the main process', and free as soon as that has gone."""
        if self._server is not None:
            self._server.socket.close()  # type: ignore[attr-defined]  # of a server on TCP

    def _run(self) -> None:
        next_try = 0.0
        while not self._ended.is_set():
            if self._server is None and time.monotonic() >= next_try:
                self._listen(is_first=not next_try)
                next_try = time.monotonic() + PORT_RETRY_S
            self._bridge.counts.gather(GATHER_S)
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _listen(self, *, is_first: bool) -> None:
        from prometheus_client import CollectorRegistry, start_http_server  # noqa: PLC0415 - optional

        from tasks_bridge.metrics import CountsCollector, SharedCollector  # noqa: PLC0415

        settings = self._bridge.settings
        # a connection of its own: the worker's would be waited for much longer than a scrape waits
        store = self._bridge.open_store(settings.store_timeout_s)
        registry = CollectorRegistry()
        registry.register(CountsCollector(self._bridge.counts))
        registry.register(SharedCollector(self._bridge, lambda: store))
        host, port = settings.metrics_host, settings.metrics_port or 0
        try:
            self._server, _ = start_http_server(port, host, registry)
        except OSError as error:
            if is_first:
                log.error("metrics can't be read at %s:%d until that is free: %s", host, port, error)  # noqa: TRY400
            return
        log.info("metrics can be read at http://%s:%d/metrics", host, port)
