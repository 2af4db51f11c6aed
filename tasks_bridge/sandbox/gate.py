"""
What every endpoint shares: keys, bodies, faults, the error envelope and the headers.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from tasks_bridge.sandbox.misbehave import misbehave
from tasks_bridge.sandbox.refusal import Refusal, invalid_param
from tasks_bridge.sandbox.script import Fault

if TYPE_CHECKING:
    from tasks_bridge.sandbox.sandbox import Sandbox

JsonObject = dict[str, Any]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Work = Callable[[], Awaitable[web.StreamResponse]]

BODY_CAP: Final = 1024 * 1024
SPEND_LIMIT_USD: Final = "50.00"
_WINDOW_S: Final = 5 * 3600


class Gate:
    """
    Stands before and behind the handlers of a sandbox.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._window_ends_s = sandbox.now_s() + _WINDOW_S

    def endpoint(self, name: str, handler: Handler) -> Handler:
        """
        Count, apply the faults of the whole server, and turn refusals into error envelopes.
        """
        sandbox = self._sandbox

        async def answer(request: web.Request) -> web.StreamResponse:
            try:
                return await handler(request)
            except Refusal as refusal:
                return self._refused(refusal)

        async def spoilt(request: web.Request) -> web.StreamResponse:
            if not sandbox.faults or (fault := sandbox.faults.take(name, sandbox.now_s())) is None:
                return await answer(request)
            return await self.spoil(request, fault, partial(answer, request))

        return self.refusing(name, spoilt)

    def refusing(self, name: str, handler: Handler) -> Handler:
        """
        Count, and turn refusals into error envelopes; faults are the handler's own affair.
        """
        counter = f"requests:{name}"

        async def handle(request: web.Request) -> web.StreamResponse:
            self._sandbox.counts[counter] += 1
            try:
                return await handler(request)
            except Refusal as refusal:
                return self._refused(refusal)

        return handle

    def counted(self, handler: Handler) -> Handler:
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

    async def spoil(self, request: web.Request, fault: Fault, work: Work) -> web.StreamResponse:
        """
        Count a fault and carry it out.

        Raises:
            Refusal: The fault is an error answer.
        """
        self._sandbox.counts[f"faults:{fault.kind}"] += 1
        return await misbehave(request, fault, work, self._sandbox.now_s())

    def owner(self, request: web.Request) -> str:
        """
        Return whose request it is: a digest of the key.

        Raises:
            Refusal: 401 ``invalid_api_key``.

        Source: contract, section 1; ``x-api-key`` wins over ``Authorization``.
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

    async def delay(self) -> None:
        """
        Take as long as the sandbox was told a request takes.
        """
        if self._sandbox.latency_s:
            await asyncio.sleep(self._sandbox.latency_s)

    def json(self, value: JsonObject) -> web.Response:
        """
        Return a 200.
        """
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
        """
        Return the headers of every response. The sandbox never spends. Source: contract, section 10.
        """
        now_s = self._sandbox.now_s()
        if now_s >= self._window_ends_s:
            self._window_ends_s = now_s + _WINDOW_S
        return {
            "X-RateLimit-Limit": SPEND_LIMIT_USD,
            "X-RateLimit-Remaining": SPEND_LIMIT_USD,
            "X-RateLimit-Reset": str(int(self._window_ends_s)),
            "X-Quota-Remaining-Credits": SPEND_LIMIT_USD,
        }


async def read_object(request: web.Request, *, or_nothing: bool = False) -> JsonObject:
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


@lru_cache(maxsize=1024)
def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:16]
