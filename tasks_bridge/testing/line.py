"""
A connection to a sandbox in the same thread: real HTTP from our clients to its server, without a socket between them.

So every way to misbehave that the sandbox has reaches the clients as it would over the network, and a request that is
never answered costs no real time: on the loop of a test, the timeout passes at once.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import h11
import httpx
from aiohttp import web

if TYPE_CHECKING:
    from tasks_bridge.sandbox import Sandbox
    from tasks_bridge.testing.loop import VirtualLoop


class Line(httpx.AsyncBaseTransport, httpx.BaseTransport):
    """The transport of clients, sync and async, whose requests *sandbox* answers on *loop*."""

    def __init__(self, sandbox: Sandbox, loop: VirtualLoop) -> None:
        self._loop = loop
        self._runner = web.AppRunner(sandbox.app(), access_log=None, shutdown_timeout=0.0)
        self._run(self._runner.setup())

    def hang_up(self) -> None:
        """Take no more requests."""
        self._run(self._runner.cleanup())

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """The hook of httpx."""
        request.read()
        response: httpx.Response = self._run(self._answer(request))
        return response

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The hook of httpx."""
        await request.aread()
        return await self._answer(request)

    def close(self) -> None:
        """The hook of httpx for a client that closes: others go on."""

    async def aclose(self) -> None:
        """Likewise."""

    def _run(self, work: Any) -> Any:
        task = self._loop.create_task(work)
        self._loop.finish([task])
        return task.result()

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        server = self._runner.server
        if server is None:
            raise httpx.ConnectError("the test is over, and its sandbox is gone", request=request)
        wire = _Wire(self._loop, server())
        try:
            return await wire.exchange(request)
        except h11.RemoteProtocolError as error:
            raise httpx.RemoteProtocolError(str(error), request=request) from error
        finally:
            wire.close()


class _Wire(asyncio.Transport):
    """One connection, as the server's end sees it."""

    def __init__(self, loop: VirtualLoop, protocol: Any) -> None:
        super().__init__()
        self._loop = loop
        self._protocol = protocol
        self._client = h11.Connection(h11.CLIENT)
        self._news = asyncio.Event()
        self._is_closing = False
        protocol.connection_made(self)

    async def exchange(self, request: httpx.Request) -> httpx.Response:
        """Send *request* and return what comes back."""
        client = self._client
        head = h11.Request(method=request.method, target=request.url.raw_path, headers=request.headers.raw)
        sent = [client.send(head), client.send(h11.Data(request.content)), client.send(h11.EndOfMessage())]
        self._protocol.data_received(b"".join(data for data in sent if data))
        status, headers, content = 0, [], b""
        while True:
            event = client.next_event()
            if event is h11.NEED_DATA:
                self._news.clear()
                await self._news.wait()
            elif isinstance(event, h11.Response):
                status, headers = event.status_code, event.headers.raw_items()
            elif isinstance(event, h11.Data):
                content += event.data
            elif isinstance(event, h11.EndOfMessage):
                return httpx.Response(status, headers=headers, content=content, request=request)
            elif isinstance(event, h11.ConnectionClosed):
                raise h11.RemoteProtocolError("the server closed the connection without an answer")

    # -- asyncio's transport, as the server uses it -------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take what the server sends."""
        if not self._is_closing:
            self._client.receive_data(bytes(data))
            self._news.set()

    def is_closing(self) -> bool:
        """Whether either end has closed it."""
        return self._is_closing

    def close(self) -> None:
        """Close it, from either end."""
        if not self._is_closing:
            self._is_closing = True
            self._client.receive_data(b"")
            self._news.set()
            self._loop.call_soon(self._protocol.connection_lost, None)

    abort = close

    def pause_reading(self) -> None:
        """There is one request, which has been read."""

    def resume_reading(self) -> None:
        """Likewise."""
