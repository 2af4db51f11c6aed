"""
``/v1/tasks/…`` over HTTP.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from tasks_bridge.sandbox.dispatcher import Entry
from tasks_bridge.sandbox.gate import Gate, Work, read_object
from tasks_bridge.sandbox.plan import read_submission

if TYPE_CHECKING:
    from tasks_bridge.sandbox.sandbox import Sandbox


def add_task_routes(app: web.Application, sandbox: Sandbox, gate: Gate) -> None:
    """
    Add submit, query, cancel and stream. Source: contract, sections 3 to 6.
    """
    routes = _TaskRoutes(sandbox, gate)
    add = app.router.add_route
    add("POST", "/v1/tasks/query", gate.endpoint("query", routes.query))
    add("POST", "/v1/tasks/submit", gate.endpoint("submit", gate.counted(routes.submit)))
    add("POST", "/v1/tasks/cancel", gate.endpoint("cancel", routes.cancel))
    add("POST", "/v1/tasks/cancel/{task_id}", gate.endpoint("cancel", routes.cancel))
    add("GET", "/v1/tasks/stream/{task_id}", gate.endpoint("stream", gate.counted(routes.stream)))


class _TaskRoutes:
    """
    The handlers: find the task, meet its fault if there is one, do the work.
    """

    def __init__(self, sandbox: Sandbox, gate: Gate) -> None:
        self._sandbox = sandbox
        self._dispatcher = sandbox.dispatcher
        self._gate = gate

    async def submit(self, request: web.Request) -> web.StreamResponse:
        sandbox, dispatcher = self._sandbox, self._dispatcher
        owner = self._gate.owner(request)
        submission = dispatcher.scripted(owner, read_submission(await read_object(request)))
        base_url = sandbox.public_url or f"{request.scheme}://{request.host}"

        async def work() -> web.StreamResponse:
            await self._gate.delay()
            now_s = sandbox.now_s()
            entry, is_new = dispatcher.submit(owner, submission, now_s=now_s, base_url=base_url)
            if is_new:
                sandbox.decided(entry)
            else:
                sandbox.counts["duplicate_submits"] += 1
            # A first submit always answers `pending`, however short the task.
            return self._gate.json(entry.task.view(float("-inf") if is_new else now_s))

        now_s = sandbox.now_s()
        fault = dispatcher.faults_of(owner, submission, now_s).take("submit", now_s)
        return await work() if fault is None else await self._gate.spoil(request, fault, work)

    async def query(self, request: web.Request) -> web.StreamResponse:
        owner = self._gate.owner(request)
        body = await read_object(request)
        entry = self._dispatcher.find(owner, body.get("task_id"), body.get("out_task_id"))
        entry.counts["query"] += 1

        async def work() -> web.StreamResponse:
            await self._gate.delay()
            return self._gate.json(self._dispatcher.read(entry, self._sandbox.now_s()))

        return await self._spoil_or(request, entry, "query", work)

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        owner = self._gate.owner(request)
        in_path = request.match_info.get("task_id")
        body = await read_object(request, or_nothing=in_path is not None)
        entry = self._dispatcher.find(owner, in_path or body.get("task_id"), body.get("out_task_id"))
        entry.counts["cancel"] += 1

        async def work() -> web.StreamResponse:
            await self._gate.delay()
            now_s = self._sandbox.now_s()
            if entry.task.cancel(now_s):
                self._sandbox.decided(entry)
            return self._gate.json(entry.task.view(now_s))

        return await self._spoil_or(request, entry, "cancel", work)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        entry = self._dispatcher.find(self._gate.owner(request), request.match_info["task_id"], None)
        entry.counts["stream"] += 1
        fault = entry.faults.take("stream", self._sandbox.now_s()) if entry.faults else None
        if fault is not None:
            self._sandbox.counts[f"faults:{fault.kind}"] += 1
        return await self._sandbox.streams.serve(request, entry, fault)

    async def _spoil_or(self, request: web.Request, entry: Entry, place: str, work: Work) -> web.StreamResponse:
        if not entry.faults or (fault := entry.faults.take(place, self._sandbox.now_s())) is None:
            return await work()
        return await self._gate.spoil(request, fault, work)
