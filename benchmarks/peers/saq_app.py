"""
The polls as jobs of saq: each enqueues itself again for a second later.

    python -m benchmarks.peers.saq_app COUNT
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

from saq import Queue

from benchmarks.peers import look

queue = Queue.from_url(look.REDIS_URL)


async def poll(ctx: dict[str, Any], *, name: str) -> None:
    """Poll once, and come back."""
    answer = await ctx["http"].post("/v1/tasks/query", json={"task_id": name})
    await queue.redis.set(*look.entry(answer), ex=86400)
    await enqueue(name)


async def enqueue(name: str) -> None:
    """In a second."""
    await queue.enqueue("poll", name=name, scheduled=int(time.time() + look.COUNTDOWN_S), ttl=-1, retries=1)


async def start(ctx: dict[str, Any]) -> None:
    """Saq's hook."""
    ctx["http"] = look.open_async_http()
    await queue.redis.incr(look.READY)


settings = {
    "queue": queue,
    "functions": [poll],
    "concurrency": look.CONCURRENCY,
    "startup": start,
    "timers": {"schedule": 1, "worker_info": 60, "sweep": 60, "abort": 60},
}


async def load(count: int) -> None:
    """Enqueue the first polls."""
    await queue.connect()
    for name in look.names(count):
        await enqueue(name)
    await queue.disconnect()


if __name__ == "__main__":
    asyncio.run(load(int(sys.argv[1])))
