"""
What all workers together may send to ByteSpike: a circuit breaker, and a cap on submits at a time.

While the API is down, requests would fail by the thousand and tell nothing. After a few failures in a row, by whichever
worker, the circuit opens: single requests go through as probes, at intervals that double, and the other jobs wait. The
first good answer closes it. Jobs never fail by it.

Source: M. Nygard, "Release It!" (2007), chapter 5, Circuit Breaker.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib.resources import files
from math import inf
from typing import TYPE_CHECKING, Any, Final

import redis

from tasks_bridge.errors import StoreError

if TYPE_CHECKING:
    from tasks_bridge.settings import Settings
    from tasks_bridge.store import RedisStore

log = logging.getLogger(__name__)

FAILURES: Final = 5
"""In a row, to open the circuit: more than one odd job's, few enough to spare an API in trouble."""

_LUA = (files("tasks_bridge") / "gate.lua").read_text()


@dataclass(frozen=True, slots=True)
class Admission:
    """How many of the requests may be sent now, and how long the others should wait."""

    admitted: int
    wait_s: float


@dataclass(frozen=True, slots=True)
class Circuit:
    """The circuit breaker as it is."""

    failures: int
    """Requests in a row that failed, while it is closed."""
    opened_at: float | None = None
    """Since when it is open, on Redis' clock; None: it is closed."""
    probe_at: float | None = None
    """When the next request goes through."""


class Gate:
    """The limits of one store's workers, kept in its Redis under ``breaker`` (hash) and ``submits`` (sorted set)."""

    def __init__(self, store: RedisStore, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._breaker = store.key("gate", "breaker")
        self._submits = store.key("gate", "submits")
        self._script = store.client.register_script(_LUA)
        self.expects_news = False
        """Whether good answers matter as well: there were failures not long ago."""

    def admit(self, requests: int) -> Admission:
        """
        Ask for *requests* requests.

        Raises:
            StoreError: Redis can't be reached.
        """
        admitted, wait_s, failures = self._run("admit", requests, self._settings.breaker_max_s)
        self.expects_news = int(failures) > 0
        return Admission(int(admitted), float(wait_s))

    def report(self, *, good: int, bad: int, asked_at: float | None = None) -> None:
        """
        Tell how many requests were answered, and how many were not (no answer, or a 5xx).

        Args:
            good: The number of answers that tell of no outage.
            bad: The number of others.
            asked_at: When the last of the good ones was asked for, on the store's clock; None for just now.

        Raises:
            StoreError: Redis can't be reached.
        """
        since = "" if asked_at is None else asked_at
        change = self._run("report", good, bad, FAILURES, self._settings.retry_min_s, since)
        if change == b"opened":
            log.error("ByteSpike does not answer: requests are held back but for a probe now and then, jobs wait")
        elif change == b"closed":
            log.warning("ByteSpike answers again: jobs go on")

    def circuit(self) -> Circuit:
        """
        Look at the circuit breaker, and change nothing.

        Raises:
            StoreError: Redis can't be reached.
        """
        try:
            kept: Any = self._store.client.hmget(self._breaker, ["failures", "opened_at", "probe_at"])
        except redis.RedisError as error:
            raise StoreError(f"The circuit breaker can't be read: {error}") from None
        failures, opened_at, probe_at = (None if value is None else float(value) for value in kept)
        return Circuit(int(failures or 0), None if probe_at is None else opened_at, probe_at)

    @property
    def is_capped(self) -> bool:
        """Whether there is a limit to the submits under way: without one there is nothing to take and to give back."""
        return self._settings.submit_concurrency is not None

    def take_submit(self, job_id: str) -> bool:
        """
        Take one of the ``submit_concurrency`` places; one that is never given back is free after ``submit_timeout_s``.

        Raises:
            StoreError: Redis can't be reached.
        """
        limit = self._settings.submit_concurrency
        return limit is None or bool(self._run("take", limit, job_id, self._settings.submit_timeout_s))

    def free_submit(self, job_id: str) -> None:
        """Give the place back. Raises StoreError."""
        if self.is_capped:
            self._run("free", job_id)

    def free_places(self) -> float:
        """How many more submits may be under way; without a cap, infinitely many. Raises StoreError."""
        limit = self._settings.submit_concurrency
        return inf if limit is None else max(limit - self.submits_in_progress(), 0)

    def submits_in_progress(self) -> int:
        """How many submits are under way, where their number is capped; otherwise 0. Raises StoreError."""
        return int(self._run("taken")) if self.is_capped else 0

    def _run(self, *arguments: str | float) -> Any:
        try:
            return self._script(keys=[self._breaker, self._submits], args=arguments)
        except redis.RedisError as error:
            raise StoreError(f"The circuit breaker and the places for submits can't be read: {error}") from None
