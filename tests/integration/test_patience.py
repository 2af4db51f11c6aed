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
from typing import Any

import kombu.pools
import pytest
import redis
from celery import Celery
from pydantic import SecretStr

from tasks_bridge import Settings, StoreError, StoreUnreachable, generate, install
from tasks_bridge.embedded import EmbeddedRedis
from tasks_bridge.record import JobRecord
from tasks_bridge.store.redis import RedisStore, connect
from tests.smoke.processes import eventually

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


@contextmanager
def calling(jobs_url: str, broker_url: str, namespace: str) -> Iterator[tuple[RedisStore, Callable[..., Any]]]:
    """The store of an app, and what starts a job as a caller does."""
    settings = Settings(api_key="sk-byts-test", redis_url=jobs_url, namespace=namespace, store_timeout_s=PATIENCE_S)
    with Celery(broker=broker_url, backend=jobs_url, set_as_current=False) as app:
        bridge = install(app, settings)
        start = partial(app.tasks[generate.name].apply_async, ("seedream-v4", {"prompt": "a fox"}), ignore_result=True)
        start()  # its connections are there
        yield bridge.store, start
    kombu.pools.reset()


def test_a_broker_that_hangs_holds_a_caller_up_for_seconds_only_and_its_job_is_registered(server, redis_url, namespace):
    with calling(redis_url, server.url, namespace) as (store, start):
        with standing_still(server):
            begun = time.monotonic()
            result = start()
            took_s = time.monotonic() - begun

        assert PATIENCE_S * 0.9 < took_s < MOST_S + 1, "four tries, with Celery's pauses between them"
        assert store.get([result.id])[0] is not None


def test_a_caller_who_is_not_told_whether_its_job_is_registered_can_call_again_under_its_id(server, namespace):
    with calling(server.url, server.url, namespace) as (store, start):
        with standing_still(server), pytest.raises(StoreUnreachable, match="call again under the same id") as caught:
            start()
        (job_id,) = caught.value.job_ids
        eventually(lambda: store.get([job_id])[0], expected="the command to be carried out, late")

        assert start(task_id=job_id).id == job_id
        assert store.open_count() == 2, "the first job, and one of this id"


def test_a_caller_who_never_reached_redis_knows_that_nothing_is_registered(namespace, black_hole):
    with Celery(set_as_current=False) as app:
        install(app, Settings(api_key="sk-byts-test", redis_url=f"redis://127.0.0.1:{black_hole}", store_timeout_s=0.2))
        with pytest.raises(StoreUnreachable) as caught:
            app.tasks[generate.name].apply_async(("seedream-v4", {"prompt": "a fox"}))

    assert caught.value.job_ids == ()
