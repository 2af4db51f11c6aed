"""
Carry out a fault on one HTTP request.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

from aiohttp import web

from tasks_bridge.sandbox.refusal import Refusal, default_code, task_not_found
from tasks_bridge.sandbox.script import Fault

_GARBAGE = b"<html><body>upstream connect error</body></html>"
_LOOK_EVERY_S = 0.05


async def misbehave(
    request: web.Request, fault: Fault, work: Callable[[], Awaitable[web.StreamResponse]], now_s: float
) -> web.StreamResponse:
    """
    Answer *request* as *fault* wants.

    Args:
        work: Does what was asked and returns the right answer; called only if the request is to take effect.

    Raises:
        Refusal: The fault is an error answer.
    """
    if fault.kind == "slow":
        await asyncio.sleep(fault.delay_s)
        return await work()
    done = await work() if fault.work_done else None
    if fault.kind in ("status", "not_found"):
        raise refusal_of(fault, now_s)
    if fault.kind == "hang":
        await wait_while_connected(request, fault.hang_s)
    elif fault.kind == "garbage":
        return web.Response(body=_GARBAGE, content_type="application/json")
    elif fault.kind == "wrong_content_type" and isinstance(done, web.Response):
        return web.Response(body=done.body, content_type="text/html")
    elif fault.kind == "half_close" and isinstance(done, web.Response) and isinstance(done.body, bytes):
        await _send_half(request, done.body)
    return drop(request)


def drop(request: web.Request) -> web.Response:
    """
    Close the connection; the response returned goes nowhere.
    """
    if request.transport is not None:
        request.transport.close()
    return web.Response()


def refusal_of(fault: Fault, now_s: float) -> Refusal:
    """
    Return the error answer of a fault of kind ``status`` or ``not_found``.
    """
    if fault.kind == "not_found":
        return task_not_found()
    headers = dict(fault.headers)
    if fault.retry_after_s is not None:
        headers["Retry-After"] = str(math.ceil(fault.retry_after_s))
    if fault.reset_in_s is not None:
        headers["X-RateLimit-Reset"] = str(math.ceil(now_s + fault.reset_in_s))
    code = fault.code if fault.code is not None else default_code(fault.status)
    return Refusal(fault.status, code or None, fault.message or f"Simulated HTTP {fault.status}.", headers)


async def wait_while_connected(request: web.Request, at_most_s: float | None) -> None:
    """
    Wait until the client has left, or *at_most_s* seconds have passed.
    """
    left_s = float("inf") if at_most_s is None else at_most_s
    while left_s > 0 and request.transport is not None and not request.transport.is_closing():
        await asyncio.sleep(min(_LOOK_EVERY_S, left_s))
        left_s -= _LOOK_EVERY_S


async def _send_half(request: web.Request, body: bytes) -> None:
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(body))})
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
