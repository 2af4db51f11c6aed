"""
Hold a port, and let go of it for a while: what makes a sandbox reachable, or down.
"""

from __future__ import annotations

import asyncio
import errno
from typing import Final

from aiohttp import web

from tasks_bridge.sandbox.sandbox import Sandbox

_RETRY_S: Final = 0.05
_RETRIES: Final = 100


class Host:
    """
    Serves a sandbox at one address, from the loop it is started in.

    Args:
        port: 0 takes a free one, and keeps it over every stop and start.
    """

    def __init__(self, sandbox: Sandbox, host: str, port: int) -> None:
        self._sandbox = sandbox
        self._host = host
        self._port = port
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None
        self._recovery: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """
        Base URL, without a slash at the end.
        """
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    async def start(self) -> None:
        """
        Listen.

        Raises:
            OSError: The port is taken.
        """
        # Nothing here is worth waiting for at shutdown: requests that hang are the point of the tool.
        self._runner = web.AppRunner(self._sandbox.app(), access_log=None, shutdown_timeout=0.0)
        await self._runner.setup()
        await self._listen()
        self._sandbox.go_down = self.go_down

    async def stop(self) -> None:
        """
        Close every connection and let go of the port.
        """
        self._sandbox.go_down = None
        if self._recovery is not None:
            self._recovery.cancel()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
            self._site = None

    async def go_down(self, for_s: float) -> None:
        """
        Close every connection and refuse new ones, from now on, for *for_s* seconds.
        """
        if self._recovery is not None:
            self._recovery.cancel()
        if self._site is not None:
            await self._site.stop()
            self._site = None
        if self._runner is not None and self._runner.server is not None:
            for connection in list(self._runner.server.connections):
                connection.force_close()
                if connection.transport is not None:
                    connection.transport.abort()
        self._recovery = asyncio.get_running_loop().create_task(self._come_back(for_s))

    async def _come_back(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        for _ in range(_RETRIES):
            try:
                await self._listen()
            except OSError as error:
                # While it was free, another program's outgoing connection may have borrowed the port.
                if error.errno != errno.EADDRINUSE:
                    raise
                await asyncio.sleep(_RETRY_S)
            else:
                return

    async def _listen(self) -> None:
        if self._runner is None:
            return
        site = web.TCPSite(self._runner, self._host, self._port, backlog=1024)
        await site.start()
        self._site = site
        if self._port == 0:
            self._port = int(self._runner.addresses[0][1])
