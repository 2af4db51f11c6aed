"""How long an operation waits for a Redis that does not answer. No jobs here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Callable

OF_WORKERS_S: Final = 40.0
"""Nobody waits for a worker, and for each operation that it gives up it asks ByteSpike once more."""

RETRIES: Final = 3
"""Repeats after a lost connection: enough for a fail-over's blink, few enough to tell a caller soon."""

CONNECT_TIMEOUT_S: Final = 3.0
"""Of one try to connect, at most."""


def options(patience_s: float) -> dict[str, Any]:
    """What a redis-py client needs to wait *patience_s* in all, and a few short pauses, for a server that hangs."""
    return {
        **bounds(patience_s),
        "retry": Repeats(),
        "retry_on_error": [redis.ConnectionError, redis.TimeoutError],  # redis-py 5 repeats nothing without
        "health_check_interval": 30,
    }


def bounds(patience_s: float) -> dict[str, float]:
    """The timeouts of one try among those that *patience_s* is for."""
    try_s = patience_s / (RETRIES + 1)
    return {"socket_connect_timeout": min(CONNECT_TIMEOUT_S, try_s), "socket_timeout": try_s}


class Repeats(Retry):
    """
    Repeats a command after a lost connection, and nothing within the command.

    redis-py repeats making a connection, checking it and using it, each within the other: with a server that hangs,
    four tries would be sixteen. A connection has a `Retry` of its own, and one user at a time.
    """

    def __init__(self) -> None:
        super().__init__(ExponentialBackoff(cap=0.5, base=0.05), RETRIES)
        self._is_repeating = False

    def call_with_retry(self, do: Callable[[], Any], *arguments: Any, **named: Any) -> Any:
        """Call *do*, and again after an error; within another call of this kind just once, for that repeats it."""
        if self._is_repeating:
            return do()
        self._is_repeating = True
        try:
            return super().call_with_retry(do, *arguments, **named)
        finally:
            self._is_repeating = False
