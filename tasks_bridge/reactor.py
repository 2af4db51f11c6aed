"""
One event loop in a thread of its own per process: where HTTP requests of this process are in flight.

A Celery task hands its requests over and waits for a moment; what takes longer goes on here, under its renewed leases,
while the pool's slot is free again. So one hanging answer holds up neither the jobs beside it nor the worker.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

log = logging.getLogger(__name__)

T = TypeVar("T")

BLOCKING_THREADS: Final = 4
"""For Redis and broker calls made from the loop: few, because each lasts about a millisecond."""


class Reactor:
    """
    An event loop running in a daemon thread.

    Daemon: what is in flight when the process ends is left to the leases, as after a crash.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._threads = ThreadPoolExecutor(BLOCKING_THREADS, thread_name_prefix="tasks-bridge-io")
        self._admitted = 0
        self._progress = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="tasks-bridge-reactor", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        # as `asyncio.run` does: what is only forgotten complains when it is collected
        if tasks := asyncio.all_tasks(self._loop):
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.wait(tasks))
        self._loop.close()

    def run(self, work: Coroutine[object, object, T], *, wait_s: float | None = None) -> T | None:
        """Start *work* and wait for it, for at most *wait_s*: then it goes on alone, and None is returned."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(wait_s)
        except FutureTimeout:
            if future.done():
                return future.result()
            # so that `drain` waits for it too
            with self._progress:
                self._admitted += 1
            future.add_done_callback(partial(self._leave, 1))
            return None

    def admit(self, work: Coroutine[object, object, object], size: int, *, most: int, wait_s: float) -> None:
        """
        Start *work* of *size*, then hold the caller back until at most *most* is in progress, or *wait_s* have passed.

        So the next requests are sent while answers to the last ones are on their way, and never too many of them.
        """
        with self._progress:
            self._admitted += size
        asyncio.run_coroutine_threadsafe(work, self._loop).add_done_callback(partial(self._leave, size))
        with self._progress:
            self._progress.wait_for(lambda: self._admitted <= most, wait_s)

    def _leave(self, size: int, future: Future[object]) -> None:
        if not future.cancelled() and (bug := future.exception()):
            log.error("jobs are left to their leases by a bug", exc_info=bug)
        with self._progress:
            self._admitted -= size
            self._progress.notify_all()

    def drain(self, wait_s: float) -> None:
        """Wait for everything admitted, for at most *wait_s*."""
        with self._progress:
            self._progress.wait_for(lambda: not self._admitted, wait_s)

    def start(self, work: Coroutine[object, object, object]) -> Callable[[], object]:
        """Start *work* and don't wait; returns what cancels it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).cancel

    async def blocking(self, call: Callable[..., T], *arguments: object) -> T:
        """
        Run a blocking *call* beside the loop.

        Its thread runs no Celery task, so what it publishes doesn't inherit a parent from the task that asked for it.
        """
        return await self._loop.run_in_executor(self._threads, call, *arguments)

    def end(self, last: Coroutine[object, object, object]) -> None:
        """Run *last* and end the loop after it. Waits for neither, for it may be called in the loop's own thread."""

        def end(_: object) -> None:
            self._threads.shutdown(wait=False)
            self._loop.call_soon_threadsafe(self._loop.stop)

        asyncio.run_coroutine_threadsafe(last, self._loop).add_done_callback(end)

    def stop(self) -> None:
        """End the loop; what is in flight is cancelled."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        self._threads.shutdown(wait=False, cancel_futures=True)
