"""
A worker that is told to stop does so at once: a deployment waits for each of them.

Celery's signal handler only sets a flag, which its event loop finds when the poll it sleeps in is over: up to a second
later. And Python, before it ends a process, looks for garbage among all that it has imported: another third of a
second on an idle machine.
"""

# ruff: noqa: SLF001 - Celery's pool has no public side that tells of this
from __future__ import annotations

import atexit
import gc
import os
import time
from typing import TYPE_CHECKING, Any, Final

from celery import bootsteps
from celery.signals import worker_shutting_down

if TYPE_CHECKING:
    from celery.worker import WorkController
    from celery.worker.consumer import Consumer
    from kombu.asynchronous import Hub

ACCEPT_S: Final = 1.0
"""How long a pool process may take to say that it has begun with a task that was just handed to it."""


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


class HeardOut(bootsteps.StartStopStep):
    """
    Worker bootstep: hear from the pool that it has begun with what it was handed, before Celery closes anything.

    Else Celery 5.7 forgets a task that is on its way to a pool process in this moment. The process runs it all the
    same, nobody counts its answer, and billiard has it wait half a minute for that before it ends. The message, never
    acknowledged, is delivered once more. One stop in thirty of a busy worker was like that.
    """

    def close(self, worker: WorkController) -> None:
        """Celery's hook, the first of a stop."""
        pool: Any = getattr(worker.pool, "_pool", None)
        hear = getattr(pool, "process_flush_queues", None)
        if hear is None:  # no prefork pool
            return
        resume = getattr(pool._result_handler, "_finish_partial_read", None)
        until = time.monotonic() + ACCEPT_S
        while time.monotonic() < until and any(map(_is_on_its_way, tuple(pool._cache.values()))):
            for process in tuple(pool._pool):
                # an answer that the event loop has read half of
                if resume is None or not resume(process.outqR_fd, process):
                    hear(process)


def _is_on_its_way(job: Any) -> bool:
    return job._write_to is not None and not job._accepted
