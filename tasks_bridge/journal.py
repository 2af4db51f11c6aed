"""
What happened to jobs lately, step by step, for whoever looks into one: a journal of all workers, in Redis.

Keys, in the store's namespace:

====================  ======  ================================================================  ====================
``journal:changes``   stream  batches of lines about changes of state, and requests that        the oldest leave
                              failed: ``n`` how many lines, ``z`` JSON of them, deflated        beyond `MOST_BYTES`,
                                                                                                all `KEEP_S` after
                                                                                                the last
``journal:looks``     stream  the same of looks that changed nothing                            likewise
====================  ======  ================================================================  ====================

Nothing depends on it. Lines are noted by the worker whose write was accepted, after that write and all that follows
from it: a worker that dies in between, or a Redis that refuses, costs lines and nothing else. Two streams, because the
many looks must not push out the few changes.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import redis

from tasks_bridge.errors import StoreError
from tasks_bridge.record import JobState

if TYPE_CHECKING:
    from tasks_bridge.store import RedisStore

MOST_BYTES: Final = 4 * 1024 * 1024
"""About what each stream takes: it keeps as many entries as would fit if all were as large as the one being added."""

ENTRY_BYTES: Final = 48
"""What Redis adds to each."""

KEEP_S: Final = 30 * 24 * 3600
"""How long a stream stays of which nothing more is heard: a namespace that is given up leaves nothing behind."""

LONGEST_REASON: Final = 240

_PAGE: Final = 500


@dataclass(frozen=True, slots=True)
class Line:
    """One step of one job."""

    job_id: str
    token: int
    """Of the lease under which it was done."""
    before: JobState
    after: JobState
    reason: str
    wait_s: float
    """Until the next look, as it was then planned."""
    is_look: bool
    """Whether it changed nothing, and nothing was wrong."""
    at: float = 0.0
    """When it was noted; set by the reader."""


@dataclass(frozen=True, slots=True)
class Past:
    """What the journal has of one job, in order of time."""

    lines: Sequence[Line]
    changes_since: float | None
    """From when on the journal has all changes; None: from its beginning."""
    looks_since: float | None
    """The same of looks."""


@dataclass(frozen=True, slots=True)
class Activity:
    """What all workers did in the latest `period_s`."""

    period_s: float
    looks: int
    """Steps of which ByteSpike's answer, or the lack of a place to ask, changed nothing."""
    changes: int
    """Changes of state."""
    troubles: int
    """Requests that failed."""

    @property
    def steps_per_s(self) -> float:
        """How many steps of jobs the workers take."""
        return (self.looks + self.changes + self.troubles) / self.period_s


class Journal:
    """The journal of one store's workers."""

    def __init__(self, store: RedisStore) -> None:
        self._redis = store.client
        self._changes = store.key("journal", "changes")
        self._looks = store.key("journal", "looks")

    def note(self, lines: Sequence[Line]) -> None:
        """
        Keep *lines*, in one round trip.

        Raises:
            StoreError: They can't be written; nothing depends on them.
        """
        looks = [line for line in lines if line.is_look]
        changes = [line for line in lines if not line.is_look] if len(looks) < len(lines) else []
        try:
            with self._redis.pipeline(transaction=False) as pipeline:
                for key, some in ((self._changes, changes), (self._looks, looks)):
                    if some:
                        packed = _pack(some)
                        most = MOST_BYTES // (len(packed) + ENTRY_BYTES)
                        pipeline.xadd(key, {"n": len(some), "z": packed}, maxlen=most, approximate=True)
                        pipeline.expire(key, KEEP_S)
                pipeline.execute()
        except redis.RedisError as error:
            raise StoreError(f"The journal can't be written: {error}") from None

    def of(self, job_id: str, since: float) -> Past:
        """
        What it has of *job_id* since the moment *since*.

        Raises:
            StoreError: It can't be read.
        """
        lines = [line for key in (self._changes, self._looks) for line in self._lines(key, since, job_id)]
        lines.sort(key=lambda line: (line.at, line.token))
        return Past(lines, self._begins(self._changes), self._begins(self._looks))

    def activity(self, now: float, period_s: float) -> Activity:
        """
        What was done in the *period_s* before *now*.

        Raises:
            StoreError: It can't be read.
        """
        lines = list(self._lines(self._changes, now - period_s))
        moved = sum(line.before is not line.after for line in lines)
        looks = sum(int(fields[b"n"]) for _, fields in self._entries(self._looks, now - period_s))
        return Activity(period_s, looks, moved, len(lines) - moved)

    def _lines(self, key: str, since: float, job_id: str | None = None) -> Iterator[Line]:
        wanted = None if job_id is None else json.dumps(job_id).encode()
        for at, fields in self._entries(key, since):
            text = _inflate(fields.get(b"z", b""))
            if wanted is None or wanted in text:
                yield from (
                    line for line in _unpack(text, at, is_look=key == self._looks) if job_id in (None, line.job_id)
                )

    def _entries(self, key: str, since: float) -> Iterator[tuple[float, dict[bytes, bytes]]]:
        """Newest first."""
        last, first = "+", str(max(int(since * 1000), 0))
        while True:
            try:
                page: Any = self._redis.xrevrange(key, max=last, min=first, count=_PAGE)
            except redis.RedisError as error:
                raise StoreError(f"The journal can't be read: {error}") from None
            for name, fields in page:
                yield int(name.partition(b"-")[0]) / 1000, fields
            if len(page) < _PAGE:
                return
            last = f"({page[-1][0].decode()}"

    def _begins(self, key: str) -> float | None:
        try:
            known: Any = self._redis.xinfo_stream(key)
        except redis.ResponseError:  # there is none
            return None
        except redis.RedisError as error:
            raise StoreError(f"The journal can't be read: {error}") from None
        first = known["first-entry"]
        if first is None or known.get("entries-added", 0) <= known["length"]:
            return None
        return int(first[0].partition(b"-")[0]) / 1000


def _pack(lines: Sequence[Line]) -> bytes:
    rows = [
        (line.job_id, line.token, line.before[:2], line.after[:2], line.reason[:LONGEST_REASON], round(line.wait_s, 1))
        for line in lines
    ]
    return zlib.compress(json.dumps(rows, separators=(",", ":")).encode(), 1)


def _inflate(packed: bytes) -> bytes:
    try:
        return zlib.decompress(packed)
    except zlib.error:  # another version's
        return b""


_STATES: Final = {state[:2]: state for state in JobState}


def _unpack(text: bytes, at: float, *, is_look: bool) -> Iterator[Line]:
    try:
        rows = json.loads(text or b"[]")
        for job_id, token, before, after, reason, wait_s, *_ in rows:
            yield Line(job_id, token, _STATES[before], _STATES[after], reason, wait_s, is_look=is_look, at=at)
    except (ValueError, TypeError, KeyError):  # another version's
        return
