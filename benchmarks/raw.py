"""
What the HTTP client alone can do: queries in a closed loop from one process, nothing else. Prints JSON.

    python -m benchmarks.raw {httpx,client} SECONDS

``httpx`` is httpx.AsyncClient on the aiohttp transport, its answer parsed as JSON; ``client`` is our `AsyncClient`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import TYPE_CHECKING

import httpx
from httpx_aiohttp import HttpxAiohttpClient

from tasks_bridge import AsyncClient

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

CONCURRENCY = 100
WARM_UP_S = 1.0
URL, KEY = os.environ["BYTESPIKE_BASE_URL"], os.environ["BYTESPIKE_API_KEY"]


async def measure(query: Callable[[str], Awaitable[object]], seconds: float) -> dict[str, float]:
    """Run `CONCURRENCY` loops of *query* for so long; the first second does not count."""
    done = 0

    async def loop(name: str) -> None:
        nonlocal done
        while True:
            await query(name)
            done += 1

    loops = [asyncio.create_task(loop(f"task-{number:036d}")) for number in range(CONCURRENCY)]
    await asyncio.sleep(WARM_UP_S)
    began, cpu_s, before = time.perf_counter(), time.process_time(), done
    await asyncio.sleep(seconds)
    result = {
        "per_s": (done - before) / (time.perf_counter() - began),
        "cpu_ms": (time.process_time() - cpu_s) / (done - before) * 1000,
    }
    for task in loops:
        task.cancel()
    await asyncio.gather(*loops, return_exceptions=True)
    return result


async def main(kind: str, seconds: float) -> None:
    """Measure one *kind* of client."""
    if kind == "client":
        async with AsyncClient(KEY, URL) as ours:
            print(json.dumps(await measure(ours.query, seconds)))
        return
    limits = httpx.Limits(max_connections=CONCURRENCY, max_keepalive_connections=CONCURRENCY)
    headers = {"authorization": f"Bearer {KEY}"}
    async with HttpxAiohttpClient(base_url=URL, headers=headers, limits=limits, timeout=30) as http:

        async def query(name: str) -> object:
            return (await http.post("/v1/tasks/query", json={"task_id": name})).json()

        print(json.dumps(await measure(query, seconds)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2])))
