"""A worker's pulse, noted in a file every few seconds: see `health`."""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from celery import bootsteps
from celery.worker import state

from tasks_bridge.alarm import Alarm
from tasks_bridge.bridge import bridge_of
from tasks_bridge.events import GENERATE, POLL
from tasks_bridge.health import PULSE_S, Pulse

if TYPE_CHECKING:
    from pathlib import Path

    from celery.worker.consumer import Consumer

log = logging.getLogger(__name__)

LOOP_S: Final = 1.0
"""How often the event loop says that it goes on."""


class PulseStep(bootsteps.StartStopStep):
    """
    Consumer bootstep: a thread that notes the pulse, also while the event loop stands still or the broker is away.

    Celery's own timer, in that loop where there is one, tells it that the loop goes on.
    """

    requires = (Alarm,)

    def __init__(self, consumer: Consumer, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._path: Path | None = bridge_of(consumer.app).settings.health_file
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()
        self._timer: Any = None
        self._is_connected = False
        self._loop_at = 0.0
        self._begun = -1
        self._stuck_since: float | None = None

    def include_if(self, consumer: Any) -> bool:
        """Celery's hook."""
        return bridge_of(consumer.app).settings.health_file is not None

    def start(self, consumer: Any) -> None:
        """Celery's hook, also called after a lost connection came back."""
        self._is_connected = True
        self._note_loop()
        self._timer = consumer.timer.call_repeatedly(LOOP_S, self._note_loop)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, args=(consumer,), name="tasks-bridge-pulse", daemon=True)
            self._thread.start()

    def stop(self, consumer: Any) -> None:
        """Celery's hook, before the connection closes."""
        self._is_connected = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def shutdown(self, consumer: Any) -> None:
        """Celery's hook at the end."""
        self.stop(consumer)
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _note_loop(self) -> None:
        self._loop_at = time.monotonic()

    def _run(self, consumer: Any) -> None:
        while self._path is not None:
            try:
                self._look(consumer).write(self._path)
            except OSError as error:
                log.error("the pulse can't be noted, so this worker will count as dead: %s", error)  # noqa: TRY400 - no bug
            if self._ended.wait(PULSE_S):
                return

    def _look(self, consumer: Any) -> Pulse:
        now, wall = time.monotonic(), time.time()
        running = [(request.name, wall - (request.time_start or wall)) for request in tuple(state.active_requests)]
        slots = consumer.pool.num_processes if consumer.pool is not None else 1
        begun = state.all_total_count[0]
        is_waiting = len(state.reserved_requests) > len(running) and len(running) < (slots or 1)
        if not is_waiting or begun != self._begun:
            self._stuck_since = None
        elif self._stuck_since is None:
            self._stuck_since = now
        self._begun = begun
        alarm = consumer.tasks_bridge_alarm
        return Pulse(
            pid=os.getpid(),
            at=now,
            is_connected=self._is_connected,
            loop_at=self._loop_at,
            alarm_at=alarm.turned_at if alarm is not None else None,
            has_trouble=alarm is not None and alarm.in_trouble,
            stuck_since=self._stuck_since,
            longest_s=max((age for _, age in running), default=0.0),
            longest_ours_s=max((age for name, age in running if name in (GENERATE, POLL)), default=0.0),
        )
