"""
The files behind the output URLs, served as a CDN would: no key, ranges understood.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from tasks_bridge.sandbox.gate import Gate
from tasks_bridge.sandbox.media import clip, picture
from tasks_bridge.sandbox.ranges import UnsatisfiableRange, parse_range
from tasks_bridge.sandbox.refusal import Refusal
from tasks_bridge.sandbox.timeline import Task

if TYPE_CHECKING:
    from tasks_bridge.sandbox.sandbox import Sandbox


def add_file_routes(app: web.Application, sandbox: Sandbox, gate: Gate) -> None:
    """
    Add ``/files/<task_id>.<extension>``, for tasks that are completed.
    """

    async def serve(request: web.Request) -> web.StreamResponse:
        if "Authorization" in request.headers or "x-api-key" in request.headers:
            sandbox.counts["keys_sent_to_files"] += 1
        name = request.match_info["name"]
        entry = sandbox.dispatcher.entries.get(name.partition(".")[0].partition("-")[0])
        if (
            entry is None
            or entry.task.state(sandbox.now_s()) != "completed"
            or name not in {entry.task.file_name(index) for index in range(entry.task.count)}
        ):
            raise Refusal(404, "not_found", "no such file")
        data, content_type = await asyncio.to_thread(_content, entry.task, name)
        return _partial(request, data, content_type)

    app.router.add_get("/files/{name}", gate.endpoint("files", serve))


def _content(task: Task, name: str) -> tuple[bytes, str]:
    if task.kind == "video":
        return clip(task.width, task.height), "video/mp4"
    return picture(name, task.width, task.height), "image/png"


def _partial(request: web.Request, data: bytes, content_type: str) -> web.Response:
    headers = {"Accept-Ranges": "bytes", "Access-Control-Allow-Origin": "*"}
    try:
        part = parse_range(request.headers.get("Range"), len(data))
    except UnsatisfiableRange:
        return web.Response(status=416, headers={"Content-Range": f"bytes */{len(data)}", **headers})
    if part is None:
        return web.Response(body=data, content_type=content_type, headers=headers)
    start, stop = part
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
    return web.Response(status=206, body=data[start:stop], content_type=content_type, headers=headers)
