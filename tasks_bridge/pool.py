"""What a pool's processes say is heard to its end, also when the broker is lost and when the worker stops."""

# ruff: noqa: SLF001 - Celery's pool has no public side that tells of this
from __future__ import annotations

import time
from inspect import GEN_CLOSED, getgeneratorstate
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from celery import bootsteps

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from celery.worker import WorkController

ACCEPT_S: Final = 1.0
"""How long a pool process may take to say that it has begun with a task that was just handed to it."""


class ReadOn(bootsteps.StartStopStep):
    """
    Worker bootstep: a message of a pool process that is half read when the broker's connection is lost is read on.

    Celery, 5.7 too, then forgets what it has read (``hub.reset()``) and takes the rest for the next message. It stops
    listening to that process, whose task is never over and who gets no other; the next lost connection may end the
    worker, with an UnpicklingError. Billiard writes more than 16 kB in two parts, and that a task raised `Ignore`, as
    each submit does, takes 34. One lost connection in twenty of our tests was like that.
    """

    requires = ("celery.worker.components:Pool",)

    def start(self, worker: WorkController) -> None:
        """Celery's hook once the pool runs, and before it meets the event loop."""
        handler: Any = _result_handler(worker)
        if hasattr(handler, "_recv_message"):  # a prefork pool
            handler._recv_message = Readings(handler)


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
        handler: Any = _result_handler(worker)
        if isinstance(handler._recv_message, Readings):
            handler._recv_message.resume(worker.hub)
        resume = getattr(handler, "_finish_partial_read", None)
        until = time.monotonic() + ACCEPT_S
        while time.monotonic() < until and any(map(_is_on_its_way, tuple(pool._cache.values()))):
            for process in tuple(pool._pool):
                # an answer that the event loop has read half of
                if resume is None or not resume(process.outqR_fd, process):
                    hear(process)


class Readings:
    """
    In the place of the pool's ``_recv_message``: begins to read a process' next message, or goes on with one half read.

    Celery asks for a reading whenever there is something to read of a process that has none under way, as far as the
    event loop knows.
    """

    def __init__(self, handler: Any) -> None:
        self._begin = handler._recv_message
        self._process_of = handler.fileno_to_outq
        # by process and not by its pipe's number, which a later process may get
        self._latest: WeakKeyDictionary[Any, Generator[None]] = WeakKeyDictionary()

    def __call__(self, add_reader: Callable[..., None], fd: int, callback: Callable[..., None]) -> Generator[None]:
        """The generator that hands the message to *callback*; Celery has it go on whenever more can be read."""
        process = self._process_of[fd]
        reading = self._latest.get(process)
        if reading is None or getgeneratorstate(reading) == GEN_CLOSED:
            reading = self._latest[process] = self._begin(add_reader, fd, callback)
        return reading

    def resume(self, hub: Any) -> None:
        """Let the event loop know again what is half read, for a stop while there is no connection to the broker."""
        for process, reading in tuple(self._latest.items()):
            fd = process.outqR_fd
            if getgeneratorstate(reading) != GEN_CLOSED and self._process_of.get(fd) is process:
                hub.add_reader(fd, reading)


def _result_handler(worker: WorkController) -> Any:
    return getattr(getattr(worker.pool, "_pool", None), "_result_handler", None)


def _is_on_its_way(job: Any) -> bool:
    return job._write_to is not None and not job._accepted
