"""How a worker tells the harness that it is up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery.signals import worker_ready

if TYPE_CHECKING:
    import redis
    from celery import Celery

KEY = "bench:ready"


def announce(app: Celery, client: redis.Redis) -> None:
    """Set `KEY` once *app*'s worker takes messages."""

    def tell(**_: Any) -> None:
        client.incr(KEY)

    worker_ready.connect(tell, weak=False, dispatch_uid=f"bench-{app.main}")
