"""
What `once` keeps of callbacks: which delivery is being worked on, and what those that are done returned.

`save_output` keeps there what it has saved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from tasks_bridge.store.redis import RedisStore


class Hold(Protocol):
    """The right to work on a delivery; it ends by itself unless it is renewed."""

    def acquire(self, *, blocking: bool, blocking_timeout: float | None) -> bool:
        """Take it, if nobody has it; with *blocking*, wait for it as long as that. Says whether it was taken."""

    def extend(self, additional_time: float, *, replace_ttl: bool) -> object:
        """Have it for so much longer. Raises redis.RedisError."""

    def release(self) -> None:
        """Give it back. Raises redis.RedisError."""


class Deliveries(Protocol):
    """
    By name.

    Raises:
        redis.RedisError: From every method, if they can't be reached.
    """

    def hold(self, name: str, lease_s: float) -> Hold:
        """The right to work on *name*, not taken yet; once taken it ends after *lease_s*."""

    def returned(self, name: str) -> bytes | None:
        """What it returned, as JSON; None if it is not done."""

    def done(self, name: str, value: str, ttl_s: float) -> None:
        """Keep that it is done, for *ttl_s*."""


class RedisDeliveries:
    """`Deliveries` in the store's Redis: the keys ``once-lock:<name>`` and ``once:<name>``."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._client = store.client

    def hold(self, name: str, lease_s: float) -> Hold:
        """See `Deliveries.hold`."""
        # not thread-local: another thread renews it
        lock = self._client.lock(self._store.key("once-lock", name), timeout=lease_s, thread_local=False)
        return cast("Hold", lock)

    def returned(self, name: str) -> bytes | None:
        """See `Deliveries.returned`."""
        return cast("bytes | None", self._client.get(self._store.key("once", name)))

    def done(self, name: str, value: str, ttl_s: float) -> None:
        """See `Deliveries.done`."""
        self._client.set(self._store.key("once", name), value, px=int(ttl_s * 1000))
