"""
The plain way to wait for a remote job with Celery: one task per poll, which calls itself again by `retry`.

It keeps its connection to the API, as a careful user would write it.
"""

from __future__ import annotations

import json
import os
import time
from functools import cache
from typing import Any

import httpx
import redis
from celery import Celery, Task

from benchmarks.ready import announce

REDIS_URL = os.environ["TASKS_BRIDGE_REDIS_URL"]
COUNTDOWN_S = float(os.environ["TASKS_BRIDGE_POLL_MIN_S"])

app = Celery("plain", broker=REDIS_URL, backend=REDIS_URL)
client = redis.Redis.from_url(REDIS_URL)
announce(app, client)


@cache
def http(pid: int) -> httpx.Client:
    """The client of the process *pid*: a connection must not be shared across a fork."""
    del pid
    return httpx.Client(
        base_url=os.environ["BYTESPIKE_BASE_URL"],
        headers={"authorization": f"Bearer {os.environ['BYTESPIKE_API_KEY']}"},
        timeout=30,
    )


@app.task(bind=True, max_retries=None)
def look(self: Task[Any, Any], task_id: str, countdown_s: float = COUNTDOWN_S) -> dict[str, Any]:
    """Poll once; come back later unless it is over."""
    answer = http(os.getpid()).post("/v1/tasks/query", json={"task_id": task_id})
    task: dict[str, Any] = answer.raise_for_status().json()
    if task["status"] in ("completed", "failed", "cancelled"):
        return task
    raise self.retry(countdown=countdown_s)


@app.task
def note(result: dict[str, Any]) -> None:
    """A completion callback: writes down when it started."""
    client.rpush("bench:notes", json.dumps([result["out_task_id"], time.time()]))
