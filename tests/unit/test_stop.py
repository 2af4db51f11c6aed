"""A worker that is told to stop, in Celery's own event loop."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from celery.signals import worker_shutting_down
from kombu.asynchronous import Hub

from tasks_bridge.stop import PromptStop

POLL_S = 1.0
"""How long kombu's loop sleeps where nothing happens and no timer is set."""


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub()
    yield hub
    hub.close()


@pytest.fixture
def shutting_down() -> Iterator[None]:
    """A process in which SIGUSR1 does to Celery's signal what SIGTERM does in a worker."""
    before = signal.signal(signal.SIGUSR1, lambda *_: worker_shutting_down.send(sender="worker"))
    yield
    signal.signal(signal.SIGUSR1, before)


def turns_s(hub: Hub, turns: int) -> float:
    """How long so many turns of the loop take."""
    loop: Any = hub.create_loop()
    begun = time.monotonic()
    for _ in range(turns):
        next(loop)
    return time.monotonic() - begun


def test_the_event_loop_of_a_worker_wakes_up_when_the_worker_is_told_to_stop(hub: Hub, shutting_down: None) -> None:
    consumer: Any = SimpleNamespace(hub=hub)
    step = PromptStop(consumer)
    step.register_with_event_loop(consumer, hub)
    step.register_with_event_loop(consumer, hub)  # again, as after a lost connection
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1)).start()

    woken_s = turns_s(hub, 1)
    asleep_s = turns_s(hub, 1)
    step.stop(consumer)

    assert woken_s < POLL_S / 2, "the loop should look up at once"
    assert asleep_s > POLL_S / 2, "and once: it must not spin until the worker has ended"


def test_a_worker_without_an_event_loop_is_left_alone() -> None:
    """Some brokers' transports have none."""
    assert not PromptStop(SimpleNamespace(hub=None)).include_if(SimpleNamespace(hub=None))  # type: ignore[arg-type]


def test_a_worker_that_has_stopped_leaves_nothing_open(hub: Hub) -> None:
    consumer: Any = SimpleNamespace(hub=hub)
    _ = hub.poller  # opened when first asked for
    before = psutil.Process().num_fds()
    step = PromptStop(consumer)
    step.register_with_event_loop(consumer, hub)

    step.stop(consumer)
    step.stop(consumer)  # as for a worker that stops before its connection is back
    worker_shutting_down.send(sender="worker")

    assert psutil.Process().num_fds() == before
    assert not hub.readers
