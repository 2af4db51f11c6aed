"""
Requests straight over aiohttp: httpx around it takes twice as long as the request itself.

For the polls of thousands of jobs. Where the environment sets a proxy, and for streams, `client` goes by httpx.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.request import getproxies

import aiohttp
from yarl import URL

from tasks_bridge import wire

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping
    from contextlib import AbstractAsyncContextManager


def is_possible() -> bool:
    """Whether requests may go straight to their server."""
    return not getproxies().keys() & {"http", "https", "all"}


class Direct:
    """One pool of connections; belongs to one event loop."""

    def __init__(
        self,
        base_url: str,
        headers: Mapping[str, str],
        *,
        connect_timeout_s: float,
        max_connections: int,
        keepalive_s: float,
        ssl_context: ssl.SSLContext,
    ) -> None:
        self._base_url = base_url
        self._connector: dict[str, Any] = {
            "limit": max_connections,
            "keepalive_timeout": keepalive_s,
            "ssl": ssl_context,
        }
        self._options: dict[str, Any] = {
            "headers": headers,
            "timeout": aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout_s),
            "auto_decompress": False,
        }
        self._json_headers = {"content-type": "application/json"}
        # those of single jobs are not kept: there are as many as jobs
        self._urls = {path: URL(f"{base_url}{path}", encoded=True) for path in (wire.QUERY_PATH, wire.SUBMIT_PATH)}
        self._session: aiohttp.ClientSession | None = None

    def exchange(self, request: wire.Request) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """
        Send *request*; entered, its answer, whose content may be compressed. Only connecting has a timeout.

        Raises:
            aiohttp.ClientError, OSError: There was no whole answer.
        """
        if self._session is None:
            # made here, because it looks for the running loop; without cookies, which would tie one job to another
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(**self._connector), cookie_jar=aiohttp.DummyCookieJar(), **self._options
            )
        return self._session.request(
            request.method,
            self._urls.get(request.path) or URL(f"{self._base_url}{request.path}", encoded=True),
            data=request.body,
            headers=None if request.body is None else self._json_headers,
            allow_redirects=False,
        )

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
