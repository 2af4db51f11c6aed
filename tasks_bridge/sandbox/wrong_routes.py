"""
Wrong routes and methods, refused in the API's own words instead of aiohttp's.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from tasks_bridge.sandbox.gate import Gate
from tasks_bridge.sandbox.refusal import Refusal

_EVERYTHING: Final = "/{rest:.*}"


def add_wrong_routes(app: web.Application, gate: Gate) -> None:
    """
    Refuse whatever no other route takes: 405 if another method would do, else 404. Add it last.
    """
    right = list(app.router.resources())

    async def refuse(request: web.Request) -> web.StreamResponse:
        allowed: set[str] = set()
        for resource in right:
            allowed |= (await resource.resolve(request))[1]
        if allowed:
            methods = ", ".join(sorted(allowed))
            raise Refusal(405, "method_not_allowed", f"allowed here: {methods}", {"Allow": methods})
        raise Refusal(404, "not_found", f"no such route: {request.path}")

    app.router.add_route("*", _EVERYTHING, gate.endpoint("unknown", refuse))
