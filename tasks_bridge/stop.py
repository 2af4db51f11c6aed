"""
A worker that is told to stop does so at once: a deployment waits for each of them.

Celery's signal handler only sets a flag, which its event loop finds when the poll it sleeps in is over: up to a second
later. And Python, before it ends a process, looks for garbage among all that it has imported: another third of a
second on an idle machine.
"""

from __future__ import annotations

import atexit
import gc
import os
from typing import TYPE_CHECKING, Any

from celery import bootsteps
from celery.signals import worker_shutting_down

if TYPE_CHECKING:
    from celery.worker.consumer import Consumer
    from kombu.asynchronous import Hub


class PromptStop(bootsteps.StartStopStep):
    """Consumer bootstep: a pipe in the event loop, into which the signal handler writes."""

    requires = ("celery.worker.consumer.connection:Connection",)

    def __init__(self, consumer: Consumer, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._pipe: tuple[int, int] | None = None
        atexit.unregister(gc.freeze)  # another worker's in this process
        atexit.register(gc.freeze)

    def include_if(self, consumer: Any) -> bool:
        """Celery's hook: not every broker's transport has an event loop."""
        return consumer.hub is not None

    def register_with_event_loop(self, consumer: Any, hub: Hub) -> None:
        """Celery's hook when the loop begins, for the first time or with a new connection."""
        self.stop(consumer)
        self._pipe = os.pipe()
        hub.add_reader(self._pipe[0], self._take)
        worker_shutting_down.connect(self._wake, dispatch_uid=f"tasks-bridge-{id(self)}")

    def stop(self, consumer: Any) -> None:
        """Celery's hook when the loop has ended."""
        worker_shutting_down.disconnect(dispatch_uid=f"tasks-bridge-{id(self)}")
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            consumer.hub.remove(pipe[0])
            for end in pipe:
                os.close(end)

    def _wake(self, **_: Any) -> None:
        if self._pipe is not None:
            os.write(self._pipe[1], b".")

    def _take(self) -> None:
        if self._pipe is not None:
            os.read(self._pipe[0], 1)
