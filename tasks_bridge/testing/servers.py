"""
Real parts for a test with real workers: a sandbox over HTTP, a Redis, and the apps that are led to them.

Each is a server of the whole test run, emptied for each test.
"""

from __future__ import annotations

import os
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import redis
from pydantic import SecretStr

from tasks_bridge.bridge import DRAIN_S, Bridge, stand_ins
from tasks_bridge.testing.apps import rewire, without_environment
from tasks_bridge.testing.rehearsal import KEY, of_a_test

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tasks_bridge.sandbox import SandboxServer

SPEED: Final = 1000.0
"""A video of minutes takes a tenth of a second."""

PACE: Final[dict[str, Any]] = {
    "tick_s": 0.05,
    "lease_s": 3.0,
    "poll_min_s": 0.05,
    "poll_max_s": 0.5,
    "retry_min_s": 0.05,
    "retry_max_s": 0.5,
    "not_found_grace_s": 2.0,
    "cancel_grace_s": 5.0,
    "learn_cadence": False,
}
"""All that workers wait for, in fractions of a second."""

_active: Final[list[SandboxServer]] = []


def active() -> SandboxServer | None:
    """The sandbox of the test that is going on, if it has a real one."""
    return _active[-1] if _active else None


@contextmanager
def at_sandbox(server: SandboxServer) -> Iterator[None]:
    """Lead all apps, and processes that are started meanwhile, to *server*: emptied before."""
    server.reset()
    environment = {"BYTESPIKE_BASE_URL": server.url, "BYTESPIKE_API_KEY": KEY}
    changes = {**PACE, "base_url": server.url, "namespace": f"test-{uuid.uuid4().hex}"}
    _active.append(server)
    try:
        with _environment(environment), _with_settings(changes):
            yield
    finally:
        _active.remove(server)
        server.reset()


@contextmanager
def at_redis(url: str) -> Iterator[None]:
    """Lead all apps, and processes that are started meanwhile, to the Redis at *url*: emptied before."""
    with redis.Redis.from_url(url) as client:
        client.flushall()
    restores: list[Callable[[], None]] = []

    def lead(app: Any) -> None:
        changes = dict.fromkeys(("broker_url", "broker_read_url", "broker_write_url", "result_backend"), url)
        options = {"broker_transport_options": {}, "result_backend_transport_options": {}, "task_always_eager": False}
        restores.append(rewire(app, changes | options))

    try:
        with (
            without_environment(),
            _environment({"TASKS_BRIDGE_REDIS_URL": url}),
            _with_settings({"redis_url": SecretStr(url)}, lead),
        ):
            yield
    finally:
        while restores:
            restores.pop()()


@contextmanager
def _with_settings(changes: dict[str, Any], lead: Callable[[Any], None] | None = None) -> Iterator[None]:
    """Have all apps go by *changes*; *lead* is told of each."""
    made: list[Bridge] = []

    def changed(original: Bridge) -> Bridge:
        settings = of_a_test(original.settings, **changes)
        bridge = Bridge(original.app, settings)
        bridge.hooks = original.hooks
        made.append(bridge)
        if lead is not None:
            lead(original.app)
        return bridge

    try:
        with stand_ins(changed):
            yield
    finally:
        for bridge in made:
            bridge.close(DRAIN_S)


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
