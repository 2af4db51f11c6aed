"""
POST to ``callback_url`` when a task has ended: once, best effort.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Final

import aiohttp

from tasks_bridge.sandbox.dispatcher import Entry

_TIMEOUT_S: Final = 5.0
_ODD_BODIES: Final = {
    "garbage": b"<html></html>",
    "half_close": b'{"task_id": "task_',
    "wrong_content_type": b"ok",
}
_LOST: Final = ("lost_response", "refused", "status", "not_found", "hang")


class Callbacks:
    """
    Delivers callbacks at the time their tasks end, from the loop it is started in.

    Only the POST at a terminal state is documented (contract, section 6); the body is the task object, which
    a client must not rely on. ``cancelled`` is a terminal state, so it calls back too.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """
        Open the HTTP session.
        """
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S))

    async def stop(self) -> None:
        """
        Drop all that is not delivered.
        """
        self.forget()
        for running in self._running:
            running.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
            self._session = None

    def forget(self) -> None:
        """
        Cancel the deliveries not begun.
        """
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def expect(self, entry: Entry) -> None:
        """
        Deliver when the task ends; call again when its end has moved.
        """
        task = entry.task
        if self._session is None or task.callback_url is None:
            return
        if (timer := self._timers.pop(task.task_id, None)) is not None:
            timer.cancel()
        if task.ended_s == float("inf"):
            return
        delay_s = max(0.0, task.ended_s - self._clock())
        self._timers[task.task_id] = asyncio.get_running_loop().call_later(delay_s, self._due, entry)

    def _due(self, entry: Entry) -> None:
        self._timers.pop(entry.task.task_id, None)
        running = asyncio.get_running_loop().create_task(self._deliver(entry))
        self._running.add(running)
        running.add_done_callback(self._running.discard)

    async def _deliver(self, entry: Entry) -> None:
        now_s = max(self._clock(), entry.task.ended_s)
        body = json.dumps(entry.task.view(now_s)).encode()
        fault = entry.faults.take("callback", now_s)
        times = 1
        if fault is not None:
            if fault.kind in _LOST:
                entry.callbacks.append({"at_s": now_s, "error": f"not sent: scripted {fault.kind}"})
                return
            if fault.kind == "slow":
                await asyncio.sleep(fault.delay_s)
            times = 2 if fault.kind == "duplicate" else 1
            body = _ODD_BODIES.get(fault.kind, body)
        for _ in range(times):
            await self._post(entry, body)

    async def _post(self, entry: Entry, body: bytes) -> None:
        if self._session is None or entry.task.callback_url is None:
            return
        try:
            async with self._session.post(
                entry.task.callback_url,
                data=body,
                headers={"Content-Type": "application/json"},
                allow_redirects=False,
            ) as response:
                entry.callbacks.append({"at_s": self._clock(), "status": response.status})
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            entry.callbacks.append({"at_s": self._clock(), "error": type(error).__name__})
