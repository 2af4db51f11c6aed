"""
The spend guard: what jobs may cost in a period, all together and under each label, booked in Redis by all workers.

Before its submit a job reserves what it may cost; ByteSpike's estimate corrects that; its end settles it: what was used
is booked, the rest is free again. Each step is one script that looks and books at once, so that two workers can't
overshoot together, and that changes nothing if it runs twice or late, because everything hangs on the job's own entry.

Keys, in the store's namespace:

==============================  ====  ===============================================================================
``spend:<period_s>:<number>``   hash  the books of one period: ``used`` and ``reserved`` of all jobs, the same with
                                      ``:<label>`` behind it, and ``model:<slug>``: the most that one job of a model
                                      was seen to cost. Kept while something is reserved in it, and a while after
``spend:job:<id>``              hash  a job's entry: ``period``, ``label``, ``model``, ``reserved`` and, once it is
                                      settled, ``used``. It expires as the job does
==============================  ====  ===============================================================================

Amounts are stored in whole millionths of a credit, so that sums are exact and return to zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

import redis

from tasks_bridge.errors import SpendLimitReached, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasks_bridge.record import JobRecord
    from tasks_bridge.settings import Settings
    from tasks_bridge.store import RedisStore

UNITS: Final = 1_000_000
"""In one credit."""

MOST_CREDITS: Final = 1e12
"""An amount above is nonsense, and would cost the sums their exactness."""

_LUA = (files("tasks_bridge") / "budget.lua").read_text()


@dataclass(frozen=True, slots=True)
class Spending:
    """The books of one period, in ByteSpike's credits."""

    label: str | None
    """Whose; None for those of all jobs together."""
    used: float
    """What jobs that are over have cost."""
    reserved: float
    """What jobs on their way may cost."""
    limit: float | None
    """How far both together may go; None if there is no limit."""
    starts_at: float
    """When the period began, in seconds since the epoch on Redis' clock."""
    ends_at: float

    @property
    def left(self) -> float | None:
        """What may still be reserved, None if there is no limit."""
        return None if self.limit is None else max(self.limit - self.used - self.reserved, 0.0)


class Budget:
    """The books of one store's jobs."""

    def __init__(self, store: RedisStore, settings: Settings, *, clock: Callable[[], float] | None = None) -> None:
        """Keep the books beside the jobs of *store*; *clock* replaces the server's time, for tests."""
        self._store = store
        self._settings = settings
        self._clock = clock
        self._prefix = store.key("spend", "").removesuffix("spend:")
        self._script = store.script(_LUA)
        self.is_on: Final = settings.has_spend_limit
        """Whether there is any limit: without one, nothing is booked."""

    def reserve(self, job_id: str, record: JobRecord) -> SpendLimitReached | bool:
        """
        Book what a QUEUED job may cost, once, before it is submitted.

        That is its `max_credits`; where it has none, the most that a job of its model was seen to cost in this period
        or the one before, else ``spend_unknown``. No job reserves more than ``spend_limit_per_job``, and a guess is no
        more than a limit.

        Returns:
            True, also if it was done before; the limit that it would break; False if the job is no longer QUEUED, so
            that somebody else has it.

        Raises:
            StoreError: Redis can't be reached.
        """
        settings = self._settings
        limits = (settings.spend_limit, self._limit_of(record.label), settings.spend_limit_per_job)
        amounts = (record.max_credits, settings.spend_unknown, *limits)
        reply = self._run("reserve", job_id, record.label or "", record.model, *map(_units, amounts))
        return False if reply == [b"stale"] else _read(job_id, reply) or True

    def adjust(
        self, job_id: str, record: JobRecord, estimate: float, *, force: bool = False
    ) -> SpendLimitReached | None:
        """
        Correct a reservation to ByteSpike's *estimate*.

        Returns:
            The limit that it would break: then nothing is changed, unless by *force*.

        Raises:
            StoreError: Redis can't be reached.
        """
        limits = (self._settings.spend_limit, self._limit_of(record.label))
        reply = self._run("adjust", job_id, _units(estimate), *map(_units, limits), int(force))
        return _read(job_id, reply)

    def settle(self, job_id: str, used: float | None) -> None:
        """
        Book what a job has cost, in the period of its reservation, and free the rest; nothing if it had none.

        Once settled, only a higher charge that becomes known later changes anything.

        Args:
            job_id: Which job.
            used: ``credits_used``, 0 for a job that was free; None if nobody knows: then what was reserved counts.

        Raises:
            StoreError: Redis can't be reached.
        """
        self._run("settle", job_id, _units(used))

    def books(self, label: str | None = None, *, periods_ago: int = 0) -> Spending:
        """
        The books of a period, by default the current one: of all jobs, or of those under *label*.

        Raises:
            StoreError: Redis can't be reached.
        """
        return self._read("read", label or "", periods_ago)[0]

    def all_books(self, *, periods_ago: int = 0) -> list[Spending]:
        """
        The same of all jobs together, and after it of each label that has any, by name.

        Raises:
            StoreError: Redis can't be reached.
        """
        first, *others = self._read("list", "", periods_ago)
        return [first, *sorted(others, key=lambda books: books.label or "")]

    def _read(self, operation: str, label: str, periods_ago: int) -> list[Spending]:
        starts_at, *reply = self._run(operation, label, periods_ago)
        rows = iter(reply)
        return [
            Spending(
                label=name or None,
                used=_credits(used),
                reserved=_credits(reserved),
                limit=self._limit_of(name) if name else self._settings.spend_limit,
                starts_at=float(starts_at),
                ends_at=float(starts_at) + self._settings.spend_period_s,
            )
            for name, used, reserved in zip(map(bytes.decode, rows), rows, rows, strict=True)
        ]

    def _limit_of(self, label: str | None) -> float | None:
        return self._settings.spend_limit_per_label if label else None

    def _run(self, operation: str, subject: str, *arguments: str | int) -> Any:
        settings = self._settings
        now = "" if self._clock is None else f"{self._clock():.6f}"
        period_s = f"{settings.spend_period_s:.15g}"
        # as long as a late repetition may come, and the model's cost may be asked for
        keep_s = max(settings.result_ttl_s, settings.spend_period_s)
        try:
            return self._script(
                keys=[self._store.key("spend", f"job:{subject}")],
                args=[now, self._prefix, period_s, keep_s, operation, subject, *arguments],
            )
        except redis.RedisError as error:
            raise StoreError(f"The books of the spend limits can't be read: {error}") from None


def _units(credits_: float | None) -> str:
    if credits_ is None or not isfinite(credits_):
        return ""
    return str(round(min(max(credits_, 0.0), MOST_CREDITS) * UNITS))


def _credits(units: bytes) -> float:
    return int(units) / UNITS


def _read(job_id: str, reply: list[bytes]) -> SpendLimitReached | None:
    if reply == [b"ok"]:
        return None
    scope, limit, wanted, booked = reply
    return SpendLimitReached(job_id, scope.decode(), _credits(limit), _credits(wanted), _credits(booked))
