from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from tasks_bridge.store.redis import RedisStore
from tests.simulation.world import World, new_world


@pytest.fixture
def world(redis_url: str, namespace: str) -> Iterator[World]:
    with (
        redis.Redis.from_url(redis_url) as client,
        new_world(lambda clock: RedisStore(client, namespace=namespace, clock=clock)) as world,
    ):
        yield world
