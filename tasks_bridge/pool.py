"""What a pool's processes say is heard to its end, also when the broker is lost and when the worker stops."""

# ruff: noqa: SLF001 - Celery's pool has no public side that tells of this
from __future__ import annotations

import time
from inspect import GEN_CLOSED, getgeneratorstate
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from billiard.connection import wait
from celery import bootsteps

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from celery.worker import WorkController

ACCEPT_S: Final = 5.0
"""How long a pool process may take to say that it has begun with a task that was just handed to it."""

LISTEN_S: Final = 0.05
"""How long to listen to the processes at a time."""


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
        readings = getattr(_result_handler(worker), "_recv_message", None)
        if not isinstance(readings, Readings):  # no prefork pool
            return
        processes = {process.outq._reader: process for process in pool._pool if not process.outq._reader.closed}
        until = time.monotonic() + ACCEPT_S
        while time.monotonic() < until and (
            any(map(readings.is_under_way, processes.values())) or any(map(_is_on_its_way, pool._cache.values()))
        ):
            ready = wait(processes, LISTEN_S)
            for reader, process in processes.items():
                if reader in ready or readings.is_under_way(process):
                    readings.go_on(process, worker.hub)


class Readings:
    """
    In the place of the pool's ``_recv_message``: begins to read a process' next message, or goes on with one half read.

    Celery asks for a reading whenever there is something to read of a process that has none under way, as far as the
    event loop knows.
    """

    def __init__(self, handler: Any) -> None:
        self._handler = handler
        self._begin = handler._recv_message
        # by process and not by its pipe's number, which a later process may get
        self._latest: WeakKeyDictionary[Any, Generator[None]] = WeakKeyDictionary()

    def __call__(self, add_reader: Callable[..., None], fd: int, callback: Callable[..., None]) -> Generator[None]:
        """The generator that hands the message to *callback*; Celery has it go on whenever more can be read."""
        process = self._handler.fileno_to_outq[fd]
        if not self.is_under_way(process):
            self._latest[process] = self._begin(add_reader, fd, callback)
        return self._latest[process]

    def is_under_way(self, process: Any) -> bool:
        """Whether a message of *process* is half read."""
        reading = self._latest.get(process)
        return reading is not None and getgeneratorstate(reading) != GEN_CLOSED

    def go_on(self, process: Any, hub: Any) -> None:
        """
        Read what there is of *process*, outside the event loop.

        What is still half read then the event loop gets: where this ends, Celery goes on from there. Its own way to
        read outside the loop, ``process_flush_queues``, forgets it, takes the rest for the next message, and hangs.
        """
        fd = process.outqR_fd
        reading = self(hub.add_reader, fd, self._handler.on_state_change)
        try:
            next(reading)
        except StopIteration:
            pass
        except (OSError, EOFError):  # the process is gone
            hub.remove_reader(fd)
        else:
            hub.add_reader(fd, reading)


def _result_handler(worker: WorkController) -> Any:
    return getattr(getattr(worker.pool, "_pool", None), "_result_handler", None)


def _is_on_its_way(job: Any) -> bool:
    process = job._write_to
    return process is not None and not job._accepted and process._is_alive()
