from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from tasks_bridge.store import Store
from tasks_bridge.store.memory import MemoryStore
from tasks_bridge.store.redis import RedisStore
from tests.simulation.world import World, new_world

MakeStore = Callable[[Callable[[], float]], Store]


@pytest.fixture(params=["memory", "redis"])
def make_store(request: pytest.FixtureRequest, namespace: str) -> Iterator[MakeStore]:
    """One store after the other, each on the clock that it is given."""
    if request.param == "memory":
        yield MemoryStore
        return
    with redis.Redis.from_url(request.getfixturevalue("redis_url")) as client:
        yield lambda clock: RedisStore(client, namespace=namespace, clock=clock)


@pytest.fixture
def world(make_store: MakeStore, request: pytest.FixtureRequest) -> Iterator[World]:
    settings: dict[str, Any] = getattr(request, "param", {})
    with new_world(make_store, **settings) as world:
        yield world
