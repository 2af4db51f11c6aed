"""`AsyncClient` without httpx around its requests: what a server sees and answers is treated as with it."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from httpx_aiohttp.transport import AiohttpTransport

from tasks_bridge import ApiConnectionError, ApiResponseError, ApiTimeout, AsyncClient
from tasks_bridge.direct import is_possible

KEY = "sk-byts-secret-0123456789"
TASK = {"task_id": "task_1", "status": "running"}

Answer = bytes | Callable[[int], bytes]


def answer(content: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(content)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + content


GOOD = answer(json.dumps(TASK).encode(), "content-type: application/json")


class Server:
    """Answers each request with bytes made up beforehand."""

    def __init__(self, reply: Answer) -> None:
        self.reply = reply
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-2])}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self.requests.append((head[0], headers, body))
                writer.write(self.reply if isinstance(self.reply, bytes) else self.reply(len(self.requests)))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


@asynccontextmanager
async def talking(reply: Answer, **options: Any) -> AsyncIterator[tuple[Server, AsyncClient]]:
    server = Server(reply)
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        async with AsyncClient(KEY, f"http://127.0.0.1:{port}/base", **options) as client:
            yield server, client


@pytest.mark.anyio
async def test_a_server_sees_the_same_requests_with_httpx_and_without() -> None:
    async def seen(**options: Any) -> list[tuple[str, dict[str, str], bytes]]:
        async with talking(GOOD, **options) as (server, client):
            await client.query("task_1")
            await client.submit("sora-2", {"prompt": "Zürich"})
            await client.cancel("task_1")
        assert server.connections == 1, "a connection should be kept"
        # every server has a port of its own, and HTTP/1.1 keeps connections without being told to
        return [(line, headers | {"host": "", "connection": ""}, body) for line, headers, body in server.requests]

    assert await seen() == await seen(transport=AiohttpTransport())


@pytest.mark.anyio
async def test_an_answer_that_is_compressed_against_our_wish_is_read() -> None:
    reply = answer(gzip.compress(json.dumps(TASK).encode()), "content-encoding: gzip")
    async with talking(reply) as (_, client):
        assert (await client.query("task_1")).status == "running"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("reply", "error", "match"),
    [
        (answer(b"no gzip", "content-encoding: gzip"), ApiResponseError, "decompressed"),
        (answer(gzip.compress(b" " * 2**21), "content-encoding: gzip"), ApiResponseError, "too large"),
        (answer(b" " * 2**21), ApiResponseError, "too large"),
        (answer(b"", "location: /elsewhere", status="302 Found"), ApiResponseError, "302"),
        (GOOD[:-5], ApiTimeout, "in time"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", ApiConnectionError, "could not be reached"),
    ],
    ids=["not what it says", "a bomb", "too large", "a redirect", "cut short", "not HTTP"],
)
async def test_a_bad_answer_is_the_error_that_httpx_would_make_of_it(
    reply: bytes, error: type[Exception], match: str
) -> None:
    async with talking(reply, max_response_bytes=2**20, query_timeout_s=0.5) as (server, client):
        with pytest.raises(error, match=match):
            await client.query("task_1")
        assert len(server.requests) == 1, "nothing should be repeated or followed"


@pytest.mark.anyio
async def test_no_cookie_ties_one_job_to_another() -> None:
    reply = GOOD.replace(b"content-type", b"set-cookie: session=1\r\ncontent-type")
    async with talking(reply) as (server, client):
        await client.query("task_1")
        await client.query("task_1")

    assert "cookie" not in server.requests[1][1]


@pytest.mark.anyio
async def test_no_more_connections_are_opened_than_allowed() -> None:
    async with talking(GOOD, max_connections=3) as (server, client):
        await asyncio.gather(*(client.query("task_1") for _ in range(20)))

    assert len(server.requests) == 20
    assert server.connections <= 3


@pytest.mark.parametrize("name", ["HTTP_PROXY", "https_proxy", "ALL_PROXY"])
def test_where_a_proxy_is_set_httpx_takes_care_of_it(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert is_possible()
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert not is_possible()
