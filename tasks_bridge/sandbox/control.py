"""
``/_sandbox/…``: look into the sandbox and break it at runtime. No part of ByteSpike's API.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from aiohttp import web

from tasks_bridge.sandbox.refusal import Refusal
from tasks_bridge.sandbox.script import outage_s

if TYPE_CHECKING:
    from tasks_bridge.sandbox.sandbox import Sandbox

# Long enough for the answer to leave before the server goes down.
_BEFORE_DOWN_S = 0.05


def add_control_routes(app: web.Application, sandbox: Sandbox) -> None:
    """
    Add the control API.

    - ``GET /_sandbox/tasks``, ``GET /_sandbox/stats``
    - ``POST /_sandbox/faults``: one fault, such as ``{"on": "query", "kind": "status", "status": 503,
      "for_s": 5}``, or ``{"kind": "down", "for_s": 3}`` to refuse connections
    - ``DELETE /_sandbox/faults``, ``POST /_sandbox/reset``
    """
    going: list[asyncio.Future[None]] = []  # the loop itself keeps only weak references to its tasks

    async def tasks(_: web.Request) -> web.Response:
        return web.json_response({"tasks": sandbox.tasks()})

    async def stats(_: web.Request) -> web.Response:
        return web.json_response(sandbox.stats())

    async def arm(request: web.Request) -> web.Response:
        try:
            members = await request.json()
            if not isinstance(members, dict) or not isinstance(members.get("kind"), str):
                return _bad("a fault is an object with a `kind`")
            if members["kind"] == "down" and sandbox.go_down is not None:
                going.append(asyncio.ensure_future(_go_down(sandbox.go_down, outage_s(members))))
            else:
                sandbox.fail(**members)
        except Refusal as refusal:
            return _bad(refusal.message)
        except (ValueError, TypeError) as error:
            return _bad(repr(error))
        return web.json_response({"armed": members})

    async def heal(_: web.Request) -> web.Response:
        sandbox.heal()
        return web.json_response({})

    async def reset(_: web.Request) -> web.Response:
        sandbox.reset()
        return web.json_response({})

    app.router.add_get("/_sandbox/tasks", tasks)
    app.router.add_get("/_sandbox/stats", stats)
    app.router.add_post("/_sandbox/faults", arm)
    app.router.add_delete("/_sandbox/faults", heal)
    app.router.add_post("/_sandbox/reset", reset)


async def _go_down(go_down: Callable[[float], Awaitable[None]], for_s: float) -> None:
    await asyncio.sleep(_BEFORE_DOWN_S)
    await go_down(for_s)


def _bad(message: str) -> web.Response:
    return web.json_response({"error": message}, status=400)
