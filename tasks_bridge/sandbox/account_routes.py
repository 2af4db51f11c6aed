"""
The catalogue and the account over HTTP: what a client uses to check its key.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from tasks_bridge.sandbox.catalogue import CATALOGUE, Model
from tasks_bridge.sandbox.gate import SPEND_LIMIT_USD, Gate

_CATALOGUE_DATE: Final = 1_764_547_200  # 2025-12-01, the same for all
_TAGS: Final = {"video": "video_gen", "image": "image_gen"}


def add_account_routes(app: web.Application, gate: Gate) -> None:
    """
    Add ``/v1/models`` and ``/api/v1/me/account``. Source: contract, section 10.
    """

    async def models(request: web.Request) -> web.StreamResponse:
        gate.owner(request)
        capabilities = set(request.query.getall("capability", []))
        family = request.query.get("family")
        rows = [
            _row(model) for model in CATALOGUE if capabilities <= {_TAGS[model.kind]} and family in (None, model.family)
        ]
        return gate.json({"object": "list", "data": rows})

    async def account(request: web.Request) -> web.StreamResponse:
        return gate.json(
            {
                "user": {"id": gate.owner(request), "tier": "sandbox"},
                "org": None,
                "balance": {"available_usd": float(SPEND_LIMIT_USD), "low_balance_flagged": False},
                "allowed_models": [model.slug for model in CATALOGUE],
            }
        )

    app.router.add_route("GET", "/v1/models", gate.endpoint("models", models))
    app.router.add_route("GET", "/api/v1/me/account", gate.endpoint("account", account))


def _row(model: Model) -> dict[str, object]:
    return {
        "id": model.slug,
        "object": "model",
        "created": _CATALOGUE_DATE,
        "owned_by": "sandbox",
        "family": model.family,
        "capabilities": [_TAGS[model.kind]],
        "input_modalities": ["text"],
        "output_modalities": [model.kind],
    }
