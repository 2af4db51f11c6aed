"""How long an operation waits for a Redis that does not answer, on servers that stand still or don't even accept."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest
import redis
from pydantic import SecretStr

from tasks_bridge import StoreError
from tasks_bridge.embedded import EmbeddedRedis
from tasks_bridge.record import JobRecord
from tasks_bridge.store.redis import RedisStore, connect

PATIENCE_S = 2.0
MOST_S = PATIENCE_S + 1.5
"""With the pauses between the tries, 0.35 s, and a busy machine."""


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis() as server:
        yield server


@contextmanager
def standing_still(server: EmbeddedRedis) -> Iterator[None]:
    os.kill(server.pid or 0, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid or 0, signal.SIGCONT)


@pytest.fixture
def black_hole() -> Iterator[int]:
    """A port that takes no connection and refuses none, as behind a firewall: its queue is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
        for one in waiting:
            one.close()


def waited_s(call: Callable[[], object]) -> float:
    begun = time.monotonic()
    with pytest.raises((StoreError, redis.RedisError)):
        call()
    return time.monotonic() - begun


def register(store: RedisStore) -> None:
    record = JobRecord(version=1, model="m", key="default", digest="d", created_at=0.0)
    store.register("job", record, b"{}", delay_s=0, published=False)


def test_a_caller_with_a_connection_waits_for_a_server_that_hangs_as_long_as_it_has_patience(server):
    with connect(SecretStr(server.url), patience_s=PATIENCE_S) as client:
        store = RedisStore(client)
        register(store)
        with standing_still(server):
            assert PATIENCE_S * 0.9 < waited_s(lambda: register(store)) < MOST_S


def test_a_caller_without_a_connection_waits_no_longer(server):
    """redis-py repeats connecting, the check of a connection and the command, each within the other."""
    for call in (register, RedisStore.check, RedisStore.due_count):
        with connect(SecretStr(server.url), patience_s=PATIENCE_S / 4) as client, standing_still(server):
            assert waited_s(partial(call, RedisStore(client))) < MOST_S / 4 + 0.5


def test_a_caller_waits_no_longer_for_a_server_that_does_not_even_accept(black_hole):
    with connect(SecretStr(f"redis://127.0.0.1:{black_hole}/0"), patience_s=PATIENCE_S) as client:
        assert waited_s(lambda: register(RedisStore(client))) < MOST_S


def test_an_operation_outlives_a_server_that_hangs_for_less(server):
    with connect(SecretStr(server.url), patience_s=PATIENCE_S) as client:
        store = RedisStore(client)
        register(store)
        os.kill(server.pid, signal.SIGSTOP)
        threading.Timer(PATIENCE_S * 0.6, os.kill, (server.pid, signal.SIGCONT)).start()

        register(store)
