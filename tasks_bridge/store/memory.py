"""The store in this process' memory: the twin that tests compare Redis with, and that needs no server."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from threading import RLock
from typing import TYPE_CHECKING, Final, TypeAlias

from tasks_bridge.record import OPEN_STATES, RECORD_VERSION, JobRecord, JobState
from tasks_bridge.store.base import (
    NO_MESSAGES,
    NO_REASON,
    NOTHING_BESIDE,
    Beside,
    Claim,
    Entry,
    Lease,
    Lost,
    Message,
    Phase,
    Purpose,
    Registered,
    Registration,
    Survey,
    Write,
    lane_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

POLLED_STATES: Final = frozenset({JobState.PENDING, JobState.RUNNING})


_Lane: TypeAlias = tuple[bool, str]
"""Whether its jobs are to be submitted, and its number: in the order of the names that lanes have in Redis."""


_LOST: Final = {Phase.LEASED: Lost.LEASE, Phase.CLAIMED: Lost.MESSAGE}


@dataclass(slots=True)
class _Job:
    state: JobState
    record: JobRecord
    body: bytes | None
    due_at: float | None
    phase: Phase
    token: int = 0
    claims: int = 0
    cancel: str | None = None
    forget_at: float | None = None
    heard_at: float | None = None
    recheck: bool = False
    left_to: int | None = None
    """Version of its record, while it is due and waits for a worker of that version or a newer one."""

    @property
    def lane(self) -> _Lane:
        """Jobs that are to be submitted have lanes of their own."""
        return self.state is JobState.QUEUED, str(lane_of(self.record))


@dataclass
class MemoryStore:
    """`Store` in a dictionary, under one lock, with nothing beside it and without followers."""

    clock: Callable[[], float] = time.time
    keep_body: bool = False
    version: int = RECORD_VERSION
    _jobs: dict[str, _Job] = field(default_factory=dict)
    _lock: RLock = field(default_factory=RLock)

    @property
    def address(self) -> str:
        """See `Store.address`."""
        return "this process's memory"

    def check(self) -> None:
        """See `Store.check`: it always does."""

    def register(self, job_id: str, record: JobRecord, body: bytes, *, delay_s: float, published: bool) -> Registered:
        """See `Store.register`."""
        return self.register_many([Registration(job_id, record, body, delay_s, published)])[0]

    def register_many(
        self,
        jobs: Sequence[Registration],
        besides: Mapping[str, Beside] = NOTHING_BESIDE,  # nothing is beside it
        messages: Mapping[str, Message] = NO_MESSAGES,
    ) -> list[Registered]:
        """See `Store.register_many`."""
        with self._lock:
            return [self._register(job) for job in jobs]

    def _register(self, new: Registration) -> Registered:
        phase = Phase.CLAIMED if new.published else Phase.WAITING
        if job := self._find(new.job_id):
            again = job.record == new.record and (job.token, job.phase, job.claims) == (0, phase, 0)
            return Registered(again, job.state, job.record)
        self._jobs[new.job_id] = _Job(JobState.QUEUED, new.record, new.body, self.clock() + new.delay_s, phase)
        return Registered(is_new=True, state=JobState.QUEUED, record=new.record)

    def claim(self, limit: int, lease_s: float, *, submits: int | None = None) -> list[Claim]:
        """See `Store.claim`."""
        with self._lock:
            now = self.clock()
            left_to_us = sorted((job.left_to, job_id) for job_id, job in self._jobs.items() if self._is_left_to_us(job))
            for _, job_id in left_to_us[:limit]:
                _schedule(self._jobs[job_id], now)
            lanes: dict[_Lane, list[tuple[float, str]]] = {}
            for job_id, job in self._jobs.items():
                if job.due_at is not None and job.due_at <= now and job.left_to is None:
                    lanes.setdefault(job.lane, []).append((job.due_at, job_id))
            claims = []
            for job_id in _shared(lanes, limit, limit if submits is None else submits):
                job = self._jobs[job_id]
                if job.record.version > self.version:
                    job.left_to = job.record.version
                    continue
                job.due_at = now + lease_s * 2 ** min(job.claims, 6)
                lost = _LOST.get(job.phase)
                job.phase = Phase.CLAIMED
                job.claims += 1
                record = None if job.state in POLLED_STATES else self._upgraded(job)
                claims.append(Claim(job_id, job.state, record, lost))
            return claims

    def release(self, job_ids: Sequence[str]) -> int:
        """See `Store.release`."""
        with self._lock:
            found = [job for job_id in dict.fromkeys(job_ids) if (job := self._find(job_id))]
            jobs = [job for job in found if job.phase is Phase.CLAIMED]
            for job in jobs:
                job.phase, job.claims = Phase.WAITING, max(job.claims - 1, 0)
                _schedule(job, self.clock())
            return len(jobs)

    def begin(self, job_ids: Sequence[str], purpose: Purpose, lease_s: float) -> list[Lease]:
        """See `Store.begin`."""
        with self._lock:
            now = self.clock()
            leases = []
            for job_id in job_ids:
                job = self._find(job_id)
                if job is None or not (job.phase is Phase.CLAIMED or _is_due(job, now)):
                    continue
                if job.record.version > self.version:
                    if job.phase is Phase.CLAIMED:
                        job.phase, job.claims = Phase.WAITING, max(job.claims - 1, 0)
                    job.left_to = job.record.version
                    continue
                if (job.state in POLLED_STATES) != (purpose is Purpose.POLL):
                    continue
                job.token += 1
                job.phase = Phase.LEASED
                job.recheck = False
                _schedule(job, now + lease_s)
                body = job.body if job.state is JobState.QUEUED else None
                known = (job_id, job.token, job.claims, job.state, self._upgraded(job), job.cancel, body or None, now)
                leases.append(Lease(*known, heard_at=job.heard_at))
            return leases

    def renew(self, leases: Sequence[Lease], lease_s: float) -> None:
        """See `Store.renew`."""
        with self._lock:
            for lease in leases:
                job = self._find(lease.job_id)
                if job and job.token == lease.token and job.phase is Phase.LEASED:
                    _schedule(job, self.clock() + lease_s)

    def write(
        self,
        lease: Lease,
        state: JobState,
        record: JobRecord,
        *,
        delay_s: float,
        published: bool = False,
        notice: str | None = None,
    ) -> bool:
        """See `Store.write`."""
        return self.write_many([Write(lease, state, record, delay_s, published, notice)])[0]

    def write_many(self, writes: Sequence[Write]) -> list[bool]:
        """See `Store.write_many`."""
        with self._lock:
            return [self._write(write) for write in writes]

    def _write(self, write: Write) -> bool:
        job = self._find(write.lease.job_id)
        if job is None or job.token != write.lease.token or (job.state.is_terminal and job.state != write.state):
            return False
        if job.record.version > write.record.version:
            return False
        if job.phase is Phase.ENDED:
            return True
        job.state, job.record, job.claims = write.state, write.record, 0
        job.phase = Phase.CLAIMED if write.published else Phase.WAITING
        if job.state is not JobState.QUEUED and not self.keep_body:
            job.body = None
        unseen = job.cancel is not None and write.lease.cancel is None and not job.state.is_terminal
        now = self.clock()
        due_at = now + (0.0 if unseen else write.delay_s)
        if job.recheck and job.heard_at is not None and job.state in POLLED_STATES:
            due_at = min(due_at, max(now, job.heard_at))
        _schedule(job, due_at)
        return True

    def end(self, lease: Lease, ttl_s: float) -> bool:
        """See `Store.end`."""
        with self._lock:
            job = self._find(lease.job_id)
            if job is None or job.token != lease.token:
                return False
            if job.phase is not Phase.ENDED:
                job.phase, job.due_at, job.forget_at = Phase.ENDED, None, self.clock() + ttl_s
                job.left_to, job.record = None, lease.record.but(options={})
            return True

    def request_cancel(self, job_id: str, reason: str) -> JobState | None:
        """See `Store.request_cancel`."""
        with self._lock:
            job = self._find(job_id)
            if job is None:
                return None
            if job.state in OPEN_STATES:
                job.cancel = job.cancel or reason or NO_REASON
                now = self.clock()
                due_at = _due_at(job, now)
                if job.phase is not Phase.LEASED and due_at is not None:
                    _schedule(job, min(due_at, now))
            return job.state

    def touch(self, job_ids: Sequence[str], delay_s: float = 0.0) -> int:
        """See `Store.touch`."""
        with self._lock:
            now = self.clock()
            jobs = [job for job_id in job_ids if (job := self._find(job_id)) and job.state in OPEN_STATES]
            for job in jobs:
                due_at = _due_at(job, now)
                if job.phase is Phase.WAITING and due_at is not None:
                    job.due_at = min(due_at, now + delay_s)
            return len(jobs)

    def announce(self, job_id: str, gap_s: float) -> bool:
        """See `Store.announce`."""
        with self._lock:
            job, now = self._find(job_id), self.clock()
            if job is None or job.state not in OPEN_STATES:
                return False
            at = now if job.heard_at is None else max(now, job.heard_at + gap_s)
            if job.phase is Phase.LEASED and not job.recheck:
                job.heard_at, job.recheck = at, True
            due_at = _due_at(job, now)
            waits = job.phase is Phase.WAITING and job.state in POLLED_STATES
            if waits and due_at is not None and due_at > at:
                job.heard_at = job.due_at = at
            return True

    def get(self, job_ids: Sequence[str]) -> list[Entry | None]:
        """See `Store.get`."""
        with self._lock:
            now = self.clock()
            return [self._entry(job_id, job, now) if (job := self._find(job_id)) else None for job_id in job_ids]

    def _entry(self, job_id: str, job: _Job, now: float) -> Entry:
        known = (job_id, job.state, job.record, job.cancel, _due_at(job, now), now)
        left_to = job.left_to if (job.left_to or 0) > self.version else None
        return Entry(*known, phase=job.phase, token=job.token, claims=job.claims, left_to=left_to)

    def open_ids(self, start: str = "") -> Iterator[str]:
        """See `Store.open_ids`."""
        with self._lock:
            now = self.clock()
            ids = [
                job_id
                for job_id, job in self._jobs.items()
                if _due_at(job, now) is not None and job_id.startswith(start)
            ]
        yield from ids

    def ids(self) -> list[str]:
        """Of all jobs, in the order in which they were registered."""
        with self._lock:
            return [job_id for job_id in list(self._jobs) if self._find(job_id)]

    def due_count(self) -> int:
        """See `Store.due_count`."""
        with self._lock:
            now = self.clock()
            return sum(_is_due(job, now) for job in self._jobs.values())

    def open_count(self) -> int:
        """See `Store.open_count`."""
        with self._lock:
            return sum(job.due_at is not None for job in self._jobs.values())

    def newer_count(self) -> int:
        """See `Store.newer_count`."""
        with self._lock:
            return sum(job.left_to is not None and job.left_to > self.version for job in self._jobs.values())

    def survey(self, overdue_s: float) -> Survey:
        """See `Store.survey`."""
        with self._lock:
            now = self.clock()
            jobs = self._jobs.values()
            listed = [(job.due_at, job.state) for job in jobs if job.due_at is not None and job.left_to is None]
            to_submit = sum(state is JobState.QUEUED for _, state in listed)
            return Survey(
                to_submit=to_submit,
                to_poll=len(listed) - to_submit,
                overdue=sum(at <= now - overdue_s for at, _ in listed),
                overdue_s=max(now - min((at for at, _ in listed), default=now), 0.0),
                newer=self.newer_count(),
                census=Counter((job.state, job.record.model) for job in jobs if job.state in OPEN_STATES),
            )

    def next_due_s(self) -> float | None:
        """See `Store.next_due_s`."""
        with self._lock:
            if any(self._is_left_to_us(job) for job in self._jobs.values()):
                return 0.0
            due = (job.due_at for job in self._jobs.values() if job.left_to is None and job.due_at is not None)
            earliest = min(due, default=None)
            return None if earliest is None else earliest - self.clock()

    def now(self) -> float:
        """See `Store.now`."""
        return self.clock()

    def _is_left_to_us(self, job: _Job) -> bool:
        return job.left_to is not None and job.left_to <= self.version

    def _upgraded(self, job: _Job) -> JobRecord:
        """The record to act on, which is of this version or an older one, as this version would have written it."""
        return job.record.but(version=self.version)

    def _find(self, job_id: str) -> _Job | None:
        job = self._jobs.get(job_id)
        if job and job.forget_at is not None and job.forget_at <= self.clock():
            del self._jobs[job_id]
            return None
        return job


def _due_at(job: _Job, now: float) -> float | None:
    return job.due_at if job.left_to is None else now


def _is_due(job: _Job, now: float) -> bool:
    due_at = _due_at(job, now)
    return due_at is not None and due_at <= now


def _schedule(job: _Job, at: float) -> None:
    job.due_at, job.left_to = at, None


def _shared(lanes: dict[_Lane, list[tuple[float, str]]], limit: int, submits: int) -> list[str]:
    """Which jobs are claimed, lane by lane: see `Store.claim`."""
    ordered = sorted(((sorted(due), lane) for lane, due in lanes.items()), key=lambda each: (each[0][0][0], each[1]))
    taken = dict.fromkeys(lanes, 0)
    left, before = limit, None
    while ordered and left != before:
        before, share = left, max(left // len(ordered), 1)
        for due, lane in ordered:
            take = min(share, len(due) - taken[lane], left)
            if lane[0]:
                take = min(take, submits)
                submits -= take
            taken[lane] += take
            left -= take
    return [job_id for due, lane in ordered for _, job_id in due[: taken[lane]]]
