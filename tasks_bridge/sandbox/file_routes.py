"""
The files behind the output URLs, served as a CDN would: no key, ranges understood, URLs that may expire.
"""

from __future__ import annotations

import asyncio
import hmac
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from tasks_bridge.sandbox.delivery import FILE_KINDS, Delivery
from tasks_bridge.sandbox.files import File
from tasks_bridge.sandbox.gate import Gate, Handler
from tasks_bridge.sandbox.media import clip, picture
from tasks_bridge.sandbox.refusal import Refusal
from tasks_bridge.sandbox.timeline import Task

if TYPE_CHECKING:
    from tasks_bridge.sandbox.dispatcher import Entry
    from tasks_bridge.sandbox.sandbox import Sandbox


FILE_PATH: Final = "/files/{name}"


def add_file_routes(app: web.Application, sandbox: Sandbox, gate: Gate) -> None:
    """
    Add ``/files/<task_id>.<extension>``, for tasks that are completed.
    """
    app.router.add_get(FILE_PATH, file_handler(sandbox, gate))


def file_handler(sandbox: Sandbox, gate: Gate) -> Handler:
    """
    Return the handler of that route.
    """
    return gate.refusing("files", _FileRoutes(sandbox, gate).serve)


class _FileRoutes:
    """
    Find the file, meet the fault if there is one, deliver.
    """

    def __init__(self, sandbox: Sandbox, gate: Gate) -> None:
        self._sandbox = sandbox
        self._gate = gate

    async def serve(self, request: web.Request) -> web.StreamResponse:
        sandbox = self._sandbox
        if "Authorization" in request.headers or "x-api-key" in request.headers:
            sandbox.counts["keys_sent_to_files"] += 1
        name = request.match_info["name"]
        now_s = sandbox.now_s()
        entry = sandbox.dispatcher.entries.get(name.partition(".")[0].partition("-")[0])
        # both count the request, whichever strikes
        faults = [book.take("files", now_s) for book in (sandbox.faults, *([entry.faults] if entry else []))]
        fault = next((fault for fault in faults if fault is not None), None)
        note: dict[str, Any] = {"name": name, "range": request.headers.get("Range"), "status": None, "bytes": 0}
        if entry is not None:
            entry.downloads.append(note)

        async def work() -> web.StreamResponse:
            file = await asyncio.to_thread(_file, _checked(request, entry, name, now_s), name)
            return await Delivery(request, file, fault if fault and fault.kind in FILE_KINDS else None, note).send()

        try:
            if fault is None:
                return await work()
            if fault.kind in FILE_KINDS:
                sandbox.counts[f"faults:{fault.kind}"] += 1
                return await work()
            # a file has no effect that could be had without its being sent
            return await self._gate.spoil(request, replace(fault, work_done=False), work)
        except Refusal as refusal:
            note["status"] = refusal.status
            raise


def _checked(request: web.Request, entry: Entry | None, name: str, now_s: float) -> Task:
    """
    The task whose file this is.

    Raises:
        Refusal: 404: there is no such file; 403: the URL has expired, or is not one that was told.
    """
    if (
        entry is None
        or entry.task.state(now_s) != "completed"
        or name not in {entry.task.file_name(index) for index in range(entry.task.count)}
    ):
        raise Refusal(404, "not_found", "no such file")
    if entry.task.url_life_s is not None:
        expires = request.query.get("expires", "")
        signature = request.query.get("signature", "")
        if not hmac.compare_digest(entry.task.signature(name, expires).encode(), signature.encode()):
            raise Refusal(403, "forbidden", "the signature does not match")
        if now_s >= float(expires):
            raise Refusal(403, "forbidden", "the URL has expired")
    return entry.task


def _file(task: Task, name: str) -> File:
    if task.kind == "video":
        return File(name, clip(task.width, task.height), "video/mp4", task.file_bytes)
    return File(name, picture(name, task.width, task.height), "image/png", task.file_bytes)
