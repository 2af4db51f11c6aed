"""What else of an app's bridge is in Redis, in memory: limits that nobody shares here, and what `once` keeps."""

from __future__ import annotations

from math import inf
from threading import Lock
from typing import TYPE_CHECKING

from tasks_bridge.gate import Admission, Circuit, Gate

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasks_bridge.settings import Settings


class OpenGate(Gate):
    """A gate that lets everything through: a test has one worker, and wants to hear of failures at once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.expects_news = False

    @property
    def is_capped(self) -> bool:
        """There is no cap on submits."""
        return False

    def admit(self, requests: int) -> Admission:
        """All of them."""
        return Admission(requests, 0.0)

    def report(self, *, good: int, bad: int, asked_at: float | None = None) -> None:
        """Nobody counts."""

    def circuit(self) -> Circuit:
        """It stays closed."""
        return Circuit(0)

    def free_places(self) -> float:
        """As many as are wanted."""
        return inf


class MemoryDeliveries:
    """`Deliveries` in a dictionary."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._holds: dict[str, MemoryHold] = {}
        self._done: dict[str, tuple[bytes, float]] = {}

    def hold(self, name: str, lease_s: float) -> MemoryHold:
        """See `Deliveries.hold`."""
        return self._holds.setdefault(name, MemoryHold())

    def returned(self, name: str) -> bytes | None:
        """See `Deliveries.returned`."""
        value, until = self._done.get(name, (b"", 0.0))
        return value if self._clock() < until else None

    def done(self, name: str, value: str, ttl_s: float) -> None:
        """See `Deliveries.done`."""
        self._done[name] = (value.encode(), self._clock() + ttl_s)


class MemoryHold:
    """`Hold` within a process that can't lose one: whoever has it gives it back."""

    def __init__(self) -> None:
        self._lock = Lock()

    def acquire(self, *, blocking: bool, blocking_timeout: float | None) -> bool:
        """See `Hold.acquire`."""
        return self._lock.acquire(blocking=blocking, timeout=-1 if blocking_timeout is None else blocking_timeout)

    def extend(self, additional_time: float, *, replace_ttl: bool) -> None:
        """See `Hold.extend`."""

    def release(self) -> None:
        """See `Hold.release`."""
        self._lock.release()
