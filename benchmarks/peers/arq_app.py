"""
The polls as jobs of arq: each enqueues itself again for a second later.

    python -m benchmarks.peers.arq_app COUNT
"""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any, ClassVar

from arq import create_pool
from arq.connections import RedisSettings

from benchmarks.peers import look

SETTINGS = RedisSettings.from_dsn(look.REDIS_URL)


async def poll(ctx: dict[str, Any], name: str) -> None:
    """Poll once, and come back."""
    answer = await ctx["http"].post("/v1/tasks/query", json={"task_id": name})
    await ctx["redis"].set(*look.entry(answer), ex=86400)
    await ctx["redis"].enqueue_job("poll", name, _defer_by=look.COUNTDOWN_S)


async def start(ctx: dict[str, Any]) -> None:
    """Arq's hook."""
    logging.getLogger("arq").setLevel(logging.WARNING)
    ctx["http"] = look.open_async_http()
    await ctx["redis"].incr(look.READY)


class WorkerSettings:
    """arq's configuration."""

    functions: ClassVar = [poll]
    on_startup = start
    redis_settings = SETTINGS
    max_jobs = look.CONCURRENCY
    poll_delay = 0.05
    keep_result = 0


async def load(count: int) -> None:
    """Enqueue the first polls."""
    pool = await create_pool(SETTINGS)
    for name in look.names(count):
        await pool.enqueue_job("poll", name)
    await pool.aclose()


if __name__ == "__main__":
    asyncio.run(load(int(sys.argv[1])))
