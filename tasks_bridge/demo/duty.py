"""Who is on duty: which workers are ready, and which one works on a job's submit. Kept in Redis."""

from __future__ import annotations

from typing import Any

from tasks_bridge.bridge import Bridge


def note_ready(bridge: Bridge, hostname: str) -> None:
    """Called in the worker *hostname* once it takes tasks."""
    bridge.store.client.sadd(bridge.store.key("demo", "ready"), hostname)


def ready(bridge: Bridge) -> set[str]:
    """The hostnames of the workers that take tasks."""
    found: Any = bridge.store.client.smembers(bridge.store.key("demo", "ready"))
    return {name.decode() for name in found}


def note_at_work(bridge: Bridge, job_id: str, hostname: str) -> None:
    """Called in the worker *hostname* when it turns to *job_id*."""
    bridge.store.client.hset(bridge.store.key("demo", "at-work"), job_id, hostname)


def at_work(bridge: Bridge, job_id: str) -> str | None:
    """The hostname of the worker that turned to *job_id* last."""
    found: Any = bridge.store.client.hget(bridge.store.key("demo", "at-work"), job_id)
    return None if found is None else str(found.decode())
