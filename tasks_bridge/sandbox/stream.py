"""
``GET /v1/tasks/stream/{task_id}``: state changes as server-sent events.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Final

from aiohttp import web

from tasks_bridge.sandbox.dispatcher import Entry
from tasks_bridge.sandbox.misbehave import drop, refusal_of, wait_while_connected
from tasks_bridge.sandbox.script import Fault
from tasks_bridge.sandbox.timeline import TERMINAL

_MEDIA_TYPE: Final = "text/event-stream"


class Streams:
    """
    The open streams.

    The documentation says that state changes are pushed, and no more. Here: the current state at once, each
    change as ``event: status`` with the task object, comments as heartbeats, and the end of the stream after
    a terminal state. A client must rely on none of it.
    """

    def __init__(self, clock: Callable[[], float], heartbeat_s: float) -> None:
        self._clock = clock
        self._heartbeat_s = heartbeat_s
        self._wakers: dict[str, set[asyncio.Event]] = {}
        self._closing = False

    def open(self) -> None:
        """
        Accept streams.
        """
        self._closing = False

    def close(self) -> None:
        """
        End all streams.
        """
        self._closing = True
        for task_id in list(self._wakers):
            self.wake(task_id)

    def wake(self, task_id: str) -> None:
        """
        Look again: the task has changed by other means than the clock.
        """
        for waker in self._wakers.get(task_id, ()):
            waker.set()

    async def serve(self, request: web.Request, entry: Entry, fault: Fault | None) -> web.StreamResponse:
        """
        Follow one task until it ends or the client leaves.

        Raises:
            Refusal: The fault is an error answer.
        """
        kind = fault.kind if fault is not None else None
        if fault is not None and kind in ("status", "not_found"):
            raise refusal_of(fault, self._clock())
        if kind == "refused":
            return drop(request)
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/html" if kind == "wrong_content_type" else _MEDIA_TYPE,
                "Cache-Control": "no-store",
            }
        )
        await response.prepare(request)
        if fault is not None and kind == "hang":
            await wait_while_connected(request, fault.hang_s)
            return drop(request)
        waker = asyncio.Event()
        self._wakers.setdefault(entry.task.task_id, set()).add(waker)
        try:
            await self._follow(request, response, entry, fault, waker)
        except ConnectionError:
            pass  # the client has left, which is how most streams end
        finally:
            wakers = self._wakers[entry.task.task_id]
            wakers.discard(waker)
            if not wakers:
                del self._wakers[entry.task.task_id]
        return response

    async def _follow(
        self,
        request: web.Request,
        response: web.StreamResponse,
        entry: Entry,
        fault: Fault | None,
        waker: asyncio.Event,
    ) -> None:
        kind = fault.kind if fault is not None else None
        sent = ""
        while not self._closing:
            waker.clear()
            now_s = self._clock()
            seen = entry.task.view(now_s)
            if seen["status"] != sent:
                sent = seen["status"]
                if fault is not None and kind == "slow":
                    await asyncio.sleep(fault.delay_s)
                data = "\ufffd not json" if kind == "garbage" else json.dumps(seen)
                event = f"event: status\ndata: {data}\n\n".encode()
                if kind == "half_close":
                    event = event[: len(event) // 2]
                await response.write(event)
                if kind in ("half_close", "lost_response"):
                    drop(request)
                    return
            if entry.task.state(now_s) in TERMINAL:
                return
            left_s = entry.task.next_change_s(now_s) - self._clock()
            try:
                async with asyncio.timeout(max(0.001, min(left_s, self._heartbeat_s))):
                    await waker.wait()
            except TimeoutError:
                if left_s > self._heartbeat_s:
                    await response.write(b": heartbeat\n\n")
