"""ByteSpike's own endpoints, over HTTP."""

from __future__ import annotations

import asyncio
import hashlib
import json
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from tasks_bridge.sandbox.catalogue import CATALOGUE
from tasks_bridge.sandbox.media import clip, picture
from tasks_bridge.sandbox.misbehave import misbehave
from tasks_bridge.sandbox.plan import read_submission
from tasks_bridge.sandbox.ranges import UnsatisfiableRange, parse_range
from tasks_bridge.sandbox.refusal import Refusal, invalid_param

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tasks_bridge.sandbox.dispatcher import Entry
    from tasks_bridge.sandbox.sandbox import Sandbox
    from tasks_bridge.sandbox.script import Fault

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

JsonObject = dict[str, Any]

BODY_CAP: Final = 1024 * 1024
_SPEND_LIMIT_USD: Final = "50.00"
_WINDOW_S: Final = 5 * 3600
_CATALOGUE_DATE: Final = 1_764_547_200
_TAGS: Final = {"video": "video_gen", "image": "image_gen"}
_CATCH_ALL: Final = "/{rest:.*}"


class Routes:
    """The handlers; all state is the sandbox's."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._dispatcher = sandbox.dispatcher
        self._window_ends_s = sandbox.now_s() + _WINDOW_S
        self._router: web.UrlDispatcher

    def add_to(self, app: web.Application) -> None:
        """Add the endpoints, and the answers to wrong routes and methods."""
        self._router = app.router
        add = app.router.add_route
        add("POST", "/v1/tasks/query", self._endpoint("query", self._query))
        add("POST", "/v1/tasks/submit", self._endpoint("submit", self._counted(self._submit)))
        add("POST", "/v1/tasks/cancel", self._endpoint("cancel", self._cancel))
        add("POST", "/v1/tasks/cancel/{task_id}", self._endpoint("cancel", self._cancel))
        add("GET", "/v1/tasks/stream/{task_id}", self._endpoint("stream", self._counted(self._stream)))
        add("GET", "/v1/models", self._endpoint("models", self._models))
        add("GET", "/api/v1/me/account", self._endpoint("account", self._account))
        app.router.add_get("/files/{name}", self._endpoint("files", self._file))
        add("*", _CATCH_ALL, self._endpoint("unknown", self._unknown))

    # --- what every endpoint shares

    def _endpoint(self, name: str, handler: Handler) -> Handler:
        """Count, apply the faults of the whole server, and turn refusals into error envelopes."""
        sandbox = self._sandbox
        counter = f"requests:{name}"

        async def answer(request: web.Request) -> web.StreamResponse:
            try:
                return await handler(request)
            except Refusal as refusal:
                return self._refused(refusal)

        async def handle(request: web.Request) -> web.StreamResponse:
            sandbox.counts[counter] += 1
            if not sandbox.faults or (fault := sandbox.faults.take(name, sandbox.now_s())) is None:
                return await answer(request)
            try:
                return await self._spoil(request, fault, partial(answer, request))
            except Refusal as refusal:
                return self._refused(refusal)

        return handle

    def _counted(self, handler: Handler) -> Handler:
        """
        Let the request occupy one of the account's slots.

        Queries and cancels are exempt, streams are not named among the exempt.

        Source: contract, sections 6 and 9.
        """
        sandbox = self._sandbox

        async def handle(request: web.Request) -> web.StreamResponse:
            if sandbox.concurrency is not None and sandbox.in_flight >= sandbox.concurrency:
                raise Refusal(429, "concurrency_limit", "Too many requests in flight on this account.")
            sandbox.in_flight += 1
            try:
                return await handler(request)
            finally:
                sandbox.in_flight -= 1

        return handle

    async def _spoil(
        self, request: web.Request, fault: Fault, work: Callable[[], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        self._sandbox.counts[f"faults:{fault.kind}"] += 1
        return await misbehave(request, fault, work, self._sandbox.now_s())

    def _json(self, value: JsonObject) -> web.Response:
        return web.Response(
            body=json.dumps(value).encode(), content_type="application/json", headers=self._spend_headers()
        )

    def _refused(self, refusal: Refusal) -> web.Response:
        headers = self._spend_headers()
        if refusal.code == "concurrency_limit":
            del headers["X-RateLimit-Reset"]
        headers |= refusal.headers
        return web.Response(
            status=refusal.status, body=refusal.body(), content_type="application/json", headers=headers
        )

    def _spend_headers(self) -> dict[str, str]:
        """Return the headers of every response. The sandbox never spends. Source: contract, section 10."""
        now_s = self._sandbox.now_s()
        if now_s >= self._window_ends_s:
            self._window_ends_s = now_s + _WINDOW_S
        return {
            "X-RateLimit-Limit": _SPEND_LIMIT_USD,
            "X-RateLimit-Remaining": _SPEND_LIMIT_USD,
            "X-RateLimit-Reset": str(int(self._window_ends_s)),
            "X-Quota-Remaining-Credits": _SPEND_LIMIT_USD,
        }

    def _owner(self, request: web.Request) -> str:
        """
        Return whose request it is: a digest of the key.

        Raises:
            Refusal: 401 ``invalid_api_key``.
        """
        key = request.headers.get("x-api-key")
        if key is None:
            scheme, _, key = request.headers.get("Authorization", "").partition(" ")
            if scheme.lower() != "bearer":
                key = ""
        key = key.strip()
        if not key:
            raise Refusal(401, "invalid_api_key", "missing API key")
        if self._sandbox.keys is not None and key not in self._sandbox.keys:
            raise Refusal(401, "invalid_api_key", "invalid x-api-key")
        return _digest(key)

    # --- tasks

    async def _submit(self, request: web.Request) -> web.StreamResponse:
        sandbox = self._sandbox
        owner = self._owner(request)
        submission = read_submission(await _read_object(request))
        base_url = sandbox.public_url or f"{request.scheme}://{request.host}"
        now_s = sandbox.now_s()

        async def work() -> web.StreamResponse:
            await self._delay()
            now_s = sandbox.now_s()
            entry, is_new = self._dispatcher.submit(owner, submission, now_s=now_s, base_url=base_url)
            if is_new:
                sandbox.callbacks.expect(entry)
            else:
                sandbox.counts["duplicate_submits"] += 1
            # A first submit always answers `pending`, however short the task.
            return self._json(entry.task.view(float("-inf") if is_new else now_s))

        fault = self._dispatcher.faults_of(owner, submission, now_s).take("submit", now_s)
        return await work() if fault is None else await self._spoil(request, fault, work)

    async def _query(self, request: web.Request) -> web.StreamResponse:
        owner = self._owner(request)
        body = await _read_object(request)
        entry = self._dispatcher.find(owner, body.get("task_id"), body.get("out_task_id"))
        entry.counts["query"] += 1

        async def work() -> web.StreamResponse:
            await self._delay()
            return self._json(self._dispatcher.read(entry, self._sandbox.now_s()))

        return await self._with_faults(request, entry, "query", work)

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        owner = self._owner(request)
        body = await _read_object(request, or_nothing="task_id" in request.match_info)
        entry = self._dispatcher.find(
            owner, request.match_info.get("task_id") or body.get("task_id"), body.get("out_task_id")
        )
        entry.counts["cancel"] += 1

        async def work() -> web.StreamResponse:
            await self._delay()
            now_s = self._sandbox.now_s()
            if entry.task.cancel(now_s):
                self._sandbox.callbacks.expect(entry)
                self._sandbox.streams.wake(entry.task.task_id)
            return self._json(entry.task.view(now_s))

        return await self._with_faults(request, entry, "cancel", work)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        entry = self._dispatcher.find(self._owner(request), request.match_info["task_id"], None)
        entry.counts["stream"] += 1
        fault = entry.faults.take("stream", self._sandbox.now_s()) if entry.faults else None
        if fault is not None:
            self._sandbox.counts[f"faults:{fault.kind}"] += 1
        return await self._sandbox.streams.serve(request, entry, fault)

    async def _with_faults(
        self, request: web.Request, entry: Entry, place: str, work: Callable[[], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if not entry.faults or (fault := entry.faults.take(place, self._sandbox.now_s())) is None:
            return await work()
        return await self._spoil(request, fault, work)

    async def _delay(self) -> None:
        if self._sandbox.latency_s:
            await asyncio.sleep(self._sandbox.latency_s)

    # --- account

    async def _models(self, request: web.Request) -> web.StreamResponse:
        self._owner(request)
        capabilities = set(request.query.getall("capability", []))
        family = request.query.get("family")
        rows = [
            {
                "id": model.slug,
                "object": "model",
                "created": _CATALOGUE_DATE,
                "owned_by": "sandbox",
                "family": model.family,
                "capabilities": [_TAGS[model.kind]],
                "input_modalities": ["text"],
                "output_modalities": [model.kind],
            }
            for model in CATALOGUE
            if capabilities <= {_TAGS[model.kind]} and family in (None, model.family)
        ]
        return self._json({"object": "list", "data": rows})

    async def _account(self, request: web.Request) -> web.StreamResponse:
        owner = self._owner(request)
        return self._json(
            {
                "user": {"id": owner, "tier": "sandbox"},
                "org": None,
                "balance": {"available_usd": float(_SPEND_LIMIT_USD), "low_balance_flagged": False},
                "allowed_models": [model.slug for model in CATALOGUE],
            }
        )

    # --- files

    async def _file(self, request: web.Request) -> web.StreamResponse:
        """Serve an output as a CDN would: no key needed, ranges understood."""
        if "Authorization" in request.headers or "x-api-key" in request.headers:
            self._sandbox.counts["keys_sent_to_files"] += 1
        name = request.match_info["name"]
        stem = name.rpartition(".")[0]
        entry = self._dispatcher.entries.get(stem.partition("-")[0])
        if entry is None or entry.task.state(self._sandbox.now_s()) != "completed":
            raise Refusal(404, "not_found", "no such file")
        task = entry.task
        if name not in {task.file_name(index) for index in range(task.count)}:
            raise Refusal(404, "not_found", "no such file")
        if task.kind == "video":
            data, content_type = clip(task.width, task.height), "video/mp4"
        else:
            data = await asyncio.to_thread(picture, stem, task.width, task.height)
            content_type = "image/png"
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

    # --- anything else

    async def _unknown(self, request: web.Request) -> web.StreamResponse:
        allowed: set[str] = set()
        for resource in self._router.resources():
            if resource.canonical != "/{rest}":
                allowed |= (await resource.resolve(request))[1]
        if allowed:
            raise Refusal(
                405, "method_not_allowed", f"use {' or '.join(sorted(allowed))}", {"Allow": ", ".join(sorted(allowed))}
            )
        raise Refusal(404, "not_found", f"no such route: {request.path}")


@lru_cache(maxsize=1024)
def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:16]


async def _read_object(request: web.Request, *, or_nothing: bool = False) -> JsonObject:
    """
    Read a JSON object of at most 1 MiB.

    Args:
        or_nothing: An empty body is an empty object.

    Raises:
        Refusal: 413 ``request_entity_too_large``, 400 ``invalid_param``.
    """
    too_large = Refusal(413, "request_entity_too_large", "The body exceeds 1 MiB.")
    if (request.content_length or 0) > BODY_CAP:
        raise too_large
    try:
        raw = await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise too_large from None
    if len(raw) > BODY_CAP:
        raise too_large
    if or_nothing and not raw:
        return {}
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise invalid_param("the body is not valid JSON") from None
    if not isinstance(body, dict):
        raise invalid_param("the body must be a JSON object")
    return body

