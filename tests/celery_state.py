"""What Celery keeps for a whole process or thread, and what tests do lest others find it there."""

from __future__ import annotations

import gc
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import celery._state
from celery import Celery
from celery.backends.redis import RedisBackend

_state: Any = celery._state
_backend: Any = RedisBackend


@contextmanager
def same_apps_afterwards() -> Iterator[None]:
    """Shared tasks belong to the same app after the block as before: this thread's current one, or the default one."""
    before = (getattr(_state._tls, "current_app", None), _state.default_app)
    try:
        yield
    finally:
        set_apps(*before)


def set_apps(current: Celery | None, default: Celery | None) -> None:
    """Make them the current app of this thread, and the one of threads that have none."""
    _state._set_current_app(current)
    _state.set_default_app(default)


def forget_results(*, of_lost_servers: bool = False) -> None:
    """
    Let no handle on a result, in whichever thread it was made, unsubscribe from Redis when it is collected one day.

    Celery would look for the server, which is gone by then, for 20 seconds.

    Args:
        of_lost_servers: Only those are forgotten whose server is gone already.
    """
    for found in gc.get_objects():
        if type(found) is _backend.ResultConsumer and found._pubsub is not None:
            if of_lost_servers and _is_up(found.backend.connparams):
                continue
            found.stop()
            found.subscribed_to.clear()
            found._pubsub = None  # Celery before 5.7 would unsubscribe from what it has not subscribed to, too


def _is_up(parameters: dict[str, Any]) -> bool:
    try:
        # Sentinels have none, nor has a socket file: nobody waited for a result there
        socket.create_connection((parameters["host"], parameters["port"]), timeout=5).close()
    except (KeyError, OSError):
        return False
    return True
