"""
One poll as a user of another task queue would write it: ask, keep the latest state in Redis. Shared by the peers.

Needs none of our packages: peers run in an environment of their own, see ``peers.txt``.
"""

from __future__ import annotations

import json
import os
from typing import Any

import httpx

REDIS_URL = os.environ["TASKS_BRIDGE_REDIS_URL"]
COUNTDOWN_S = 1
CONCURRENCY = 100
READY = "bench:ready"

_HTTP: dict[str, Any] = {
    "base_url": os.environ["BYTESPIKE_BASE_URL"],
    "headers": {"authorization": f"Bearer {os.environ['BYTESPIKE_API_KEY']}"},
    "limits": httpx.Limits(max_connections=CONCURRENCY, max_keepalive_connections=CONCURRENCY),
    "timeout": 30,
}


def open_http() -> httpx.Client:
    """For threads."""
    return httpx.Client(**_HTTP)


def open_async_http() -> httpx.AsyncClient:
    """For asyncio: on aiohttp's connections, for httpx' own are slow with a hundred requests at a time."""
    from httpx_aiohttp import HttpxAiohttpClient  # noqa: PLC0415

    return HttpxAiohttpClient(**_HTTP)


def entry(answer: httpx.Response) -> tuple[str, str]:
    """The key and the value to keep of an answer."""
    task = answer.raise_for_status().json()
    return f"state:{task['task_id']}", json.dumps(task)


def names(count: int) -> list[str]:
    """Task ids that the stub answers to."""
    return [f"task-{number:036d}" for number in range(count)]
