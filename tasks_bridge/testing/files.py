"""
The outputs of a test's jobs, on this machine's loopback, so that a callback can download them with whatever it uses.

One server in a thread for the whole process, and nothing to wait for: it serves the sandbox of the test that goes on.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Final

from aiohttp import web

from tasks_bridge.sandbox.file_routes import FILE_PATH, file_handler
from tasks_bridge.sandbox.gate import Gate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks_bridge.sandbox import Sandbox
    from tasks_bridge.sandbox.gate import Handler

NOWHERE: Final = "http://bytespike.test"
"""Start of the outputs' addresses where no socket may be opened."""

_handlers: Final[list[Handler]] = []


@contextmanager
def of(sandbox: Sandbox) -> Iterator[None]:
    """Serve the files of *sandbox* meanwhile."""
    handler = file_handler(sandbox, Gate(sandbox))
    _handlers.append(handler)
    try:
        yield
    finally:
        _handlers.remove(handler)


@cache
def address() -> str:
    """Start of the files' addresses; starts the server, the first time."""
    try:
        loop = asyncio.new_event_loop()
    except Exception:  # noqa: BLE001 - a test run that forbids sockets has an error of its own for that
        return NOWHERE
    thread = threading.Thread(target=loop.run_forever, name="outputs", daemon=True)
    thread.start()
    app = web.Application()
    app.router.add_get(FILE_PATH, _serve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.0)

    async def start() -> int:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return int(runner.addresses[0][1])

    def stop() -> None:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    port = asyncio.run_coroutine_threadsafe(start(), loop).result()
    atexit.register(stop)
    return f"http://127.0.0.1:{port}"


async def _serve(request: web.Request) -> web.StreamResponse:
    if not _handlers:
        raise web.HTTPNotFound(text="no test is going on")
    return await _handlers[-1](request)
