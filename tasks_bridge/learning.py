"""
What all workers together learn of each model's pace: its latest ends, in Redis, and what this process makes of them.

Key, in the store's namespace:

=================  ====  ==============================================================  =============
``ends:<model>``   list  ``<jobs> <json>`` of the latest `KEPT` `End`, newest first       after `KEEP_S`
=================  ====  ==============================================================  =============

An end is noted by the worker whose write of it was accepted, after that write and after its callbacks are on their way:
a worker that dies in between loses one observation, and no job.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from threading import Lock
from typing import TYPE_CHECKING, Final, Protocol

import redis

from tasks_bridge.durations import End
from tasks_bridge.errors import StoreError
from tasks_bridge.knowledge import Knowledge, Pace

if TYPE_CHECKING:
    from tasks_bridge.store import RedisStore

KEPT: Final = 256
"""Latest ends of a model: enough to know its pace, few enough to forget an older one."""

PER_DURATION: Final = 64
"""
Most ends to keep from within the time that one job takes. Without a bound, a burst of a thousand jobs would leave
nothing but the last of them, which are the slowest.
"""

KEEP_S: Final = 90 * 24 * 3600
"""For a model that nobody uses any more."""

FRESH_S: Final = 5.0
"""How old a process lets its knowledge get …"""
BUSY: Final = 50
"""… and at least so many times as old as the CPU time that it takes to learn of all models in use: 2 % goes there."""

_LUA = (files("tasks_bridge") / "ends.lua").read_text()


class Ends(Protocol):
    """
    The latest ends of each model.

    Raises:
        StoreError: From every operation, when they can't be reached.
    """

    def add(self, model: str, ends: Sequence[End]) -> None:
        """
        Keep *ends*, which come in the order of their times.

        One that comes less than ``known_s / PER_DURATION`` after the one kept before only counts as one more of these.
        """

    def latest(self, models: Sequence[str]) -> list[list[End]]:
        """For each of *models* its ends, newest first."""


class RedisEnds:
    """`Ends` beside the jobs of a store."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._script = store.client.register_script(_LUA)

    def add(self, model: str, ends: Sequence[End]) -> None:
        """See `Ends.add`."""
        arguments = [part for end in ends for part in (end.at, end.known_s / PER_DURATION, end.to_json())]
        try:
            self._script(keys=[self._key(model)], args=[KEPT, KEEP_S, *arguments])
        except redis.RedisError as error:
            raise StoreError(f"What was learned of a model can't be written: {error}") from error

    def latest(self, models: Sequence[str]) -> list[list[End]]:
        """See `Ends.latest`."""
        try:
            with self._store.client.pipeline(transaction=False) as pipeline:
                for model in models:
                    pipeline.lrange(self._key(model), 0, KEPT - 1)
                found = pipeline.execute()
        except redis.RedisError as error:
            raise StoreError(f"What was learned of a model can't be read: {error}") from error
        return [[end for entry in entries if (end := _end(entry))] for entries in found]

    def _key(self, model: str) -> str:
        return self._store.key("ends", model)


def _end(entry: bytes) -> End | None:
    jobs, _, text = entry.partition(b" ")
    return End.from_json(text, jobs=int(jobs)) if jobs.isdigit() else None


@dataclass(frozen=True)
class MemoryEnds:
    """`Ends` in this process: the twin that tests compare Redis with, and what jobs run inline learn from."""

    _ends: dict[str, deque[End]] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def add(self, model: str, ends: Sequence[End]) -> None:
        """See `Ends.add`."""
        with self._lock:
            kept = self._ends.setdefault(model, deque(maxlen=KEPT))
            for end in ends:
                if not kept or end.at - kept[0].at >= end.known_s / PER_DURATION:
                    kept.appendleft(end)
                else:
                    kept[0] = replace(kept[0], jobs=kept[0].jobs + 1)

    def latest(self, models: Sequence[str]) -> list[list[End]]:
        """See `Ends.latest`."""
        with self._lock:
            return [list(self._ends.get(model, ())) for model in models]


@dataclass(frozen=True, slots=True)
class _Known:
    read_at: float
    knowledge: Knowledge
    busy_s: float
    """CPU time that it took."""


class Learning:
    """What this process knows of each model; safe to share between threads."""

    def __init__(self, ends: Ends, pace: Pace, *, busy_s: Callable[[], float] = time.thread_time) -> None:
        """Go by *ends*; *busy_s* tells the CPU time of the thread that asks."""
        self._ends = ends
        self._pace = pace
        self._busy_s = busy_s
        self._known: dict[str, _Known] = {}

    def of(self, model: str) -> Knowledge | None:
        """What is known of *model*, without any I/O; None before the first `refresh`."""
        known = self._known.get(model)
        return known.knowledge if known else None

    def stale(self, models: Sequence[str], now: float) -> list[str]:
        """Those of *models* of which there may be news that is worth its while."""
        fresh_s = max(FRESH_S, BUSY * sum(known.busy_s for known in list(self._known.values())))
        return [
            model
            for model in dict.fromkeys(models)
            if (known := self._known.get(model)) is None or not 0 <= now - known.read_at < fresh_s
        ]

    def refresh(self, models: Sequence[str], now: float) -> None:
        """
        Read what was learned of *models*, in one round trip.

        Raises:
            StoreError: It can't be reached; what was known before still holds.
        """
        for model, ends in zip(models, self._ends.latest(models), strict=True):
            fresh = Knowledge(ends, self._pace, now=now)
            known = self._known.get(model)
            if known is not None and fresh.ends == known.knowledge.ends:
                self._known[model] = _Known(now, known.knowledge, 0.0)
                continue
            began_s = self._busy_s()
            # here, rather than where a job waits for it
            fresh.prepare(known.knowledge if known else None)
            self._known[model] = _Known(now, fresh, self._busy_s() - began_s)

    def note(self, ends: Mapping[str, Sequence[End]]) -> None:
        """
        Keep *ends* by model, for all workers.

        Raises:
            StoreError: They can't be written; nothing depends on them.
        """
        for model, of_model in ends.items():
            self._ends.add(model, of_model)
