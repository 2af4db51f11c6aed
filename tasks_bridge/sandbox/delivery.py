"""
Send a file, or the part of it that was asked for, as it should be or as a fault wants it.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from tasks_bridge.sandbox.misbehave import drop
from tasks_bridge.sandbox.ranges import UnsatisfiableRange, parse_range

if TYPE_CHECKING:
    from tasks_bridge.sandbox.files import File
    from tasks_bridge.sandbox.script import Fault

FILE_KINDS: Final = frozenset({"half_close", "wrong_content_type", "trickle", "endless", "ignore_range", "new_etag"})
"""The kinds of faults that concern how a file is sent."""

_CHUNK: Final = 256 * 1024
_TRICKLES: Final = 50


class Delivery:
    """
    One answer to one request.

    Args:
        fault: One of `FILE_KINDS`, or None.
        note: Gets the ``status`` and the ``bytes`` sent.
    """

    def __init__(self, request: web.Request, file: File, fault: Fault | None, note: dict[str, Any]) -> None:
        self._request = request
        self._file = file
        self._kind = fault.kind if fault is not None else None
        self._fault = fault
        self._note = note
        self._etag = f'"{uuid.uuid4().hex}"' if self._kind == "new_etag" else file.etag
        self._headers = {
            "Accept-Ranges": "bytes",
            "Access-Control-Allow-Origin": "*",
            "Content-Type": "text/html" if self._kind == "wrong_content_type" else file.content_type,
            "ETag": self._etag,
        }

    async def send(self) -> web.StreamResponse:
        """
        Answer.

        Source: RFC 9110, sections 13.1.5 (If-Range) and 14 (ranges).
        """
        try:
            part = self._part()
        except UnsatisfiableRange:
            self._note["status"] = 416
            return web.Response(
                status=416, headers=self._headers | {"Content-Range": f"bytes */{self._file.size}"}, body=b""
            )
        start, stop = part or (0, self._file.size)
        response = web.StreamResponse(status=200 if part is None else 206, headers=self._headers)
        if part is not None:
            response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{self._file.size}"
        if self._kind != "endless":
            response.content_length = stop - start
        self._note["status"] = response.status
        await response.prepare(self._request)
        if self._request.method == "HEAD":
            return response
        try:
            await self._write(response, start, stop)
        except ConnectionError:
            return response  # the client has left
        if self._kind == "half_close":
            return drop(self._request)
        await response.write_eof()
        return response

    def _part(self) -> tuple[int, int] | None:
        if self._kind in ("ignore_range", "endless"):
            return None
        if_range = self._request.headers.get("If-Range")
        if if_range is not None and if_range != self._etag:
            return None
        return parse_range(self._request.headers.get("Range"), self._file.size)

    async def _write(self, response: web.StreamResponse, start: int, stop: int) -> None:
        chunk, pause_s = _CHUNK, 0.0
        if self._kind == "half_close":
            stop = start + (stop - start) // 2
        elif self._kind == "trickle" and self._fault is not None:
            chunk, pause_s = max(1, -(-(stop - start) // _TRICKLES)), self._fault.delay_s / _TRICKLES
        at = start
        while at < stop or self._kind == "endless":
            data = self._file.read(at, min(at + chunk, stop)) if at < stop else bytes(chunk)
            await response.write(data)
            self._note["bytes"] += len(data)
            at += len(data)
            if pause_s and at < stop:
                await asyncio.sleep(pause_s)
