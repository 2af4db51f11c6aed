"""
The store's contract: what each operation guarantees, whatever keeps the data.

A job is always in one of three *phases*, and has one *due time*, the moment somebody must look at it:

=========  ==============================================  =====================================================
phase      meaning                                         due time
=========  ==============================================  =====================================================
waiting    nobody works on it: the durable countdown runs  end of the countdown
claimed    a message about it has been published           when the message counts as lost and is published again
leased     a worker works on it, under a fencing token     when the worker counts as dead
=========  ==============================================  =====================================================

Recovery is the normal path: whatever is due, for whichever reason, is claimed and published again. Messages carry no
authority; only `begin` gives the right to act, to one worker at a time, and every write under it is fenced by the token
that `begin` returned. So a lost message, a doubled message, a late worker and a dead worker all end in the same place.

A store acts on records up to its own version. A job whose record is newer is never claimed, leased or written here: it
is put aside when it is due, where a store that knows its version finds it at once. So it neither waits behind a worker
that can't do anything for it nor keeps that worker busy.

All times are seconds since the epoch on the store's clock (Redis' own), so that workers' clocks don't matter.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tasks_bridge.record import JobRecord, JobState

NO_REASON: Final = "cancelled"
"""Kept where `request_cancel` is given an empty reason, which could not be told from no request at all."""


LANES: Final = 32
"""
Among how many lanes the jobs are dealt out, by model and key; those to be submitted apart from all others.

Lanes get equal shares of each claim, so that thousands of due jobs of one model hold up no job of another. Two models
may meet in one lane, as in P. McKenney, "Stochastic fairness queueing", INFOCOM 1990: then they share its share.
"""


def lane_of(record: JobRecord) -> int:
    """The lane of a job; it never changes."""
    return zlib.crc32(f"{record.key}/{record.model}".encode()) % LANES


class Phase(StrEnum):
    """What goes on with a job: see the table above."""

    WAITING = "w"
    CLAIMED = "c"
    LEASED = "l"
    ENDED = "e"  # off the schedule, until it is forgotten


class Purpose(StrEnum):
    """Why a worker asks for a lease; it gets one only if the job's state calls for it."""

    GENERATE = "generate"  # submit a QUEUED job, or finish one in a terminal state
    POLL = "poll"  # read a PENDING or RUNNING job


@dataclass(frozen=True, slots=True)
class Beside:
    """A key outside the store, in the same Redis: a job's entry in Celery's result backend."""

    key: str
    value: str
    ttl_s: int
    """0 for ever."""


NOTHING_BESIDE: Final[Mapping[str, Beside]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Message:
    """A job's message, for a broker in the same Redis: *value*, to be pushed to the list *key*, as kombu does."""

    key: str
    value: str = field(repr=False)


NO_MESSAGES: Final[Mapping[str, Message]] = MappingProxyType({})


class Lost(StrEnum):
    """What ran out for a job that is claimed again."""

    LEASE = "lease"  # its holder died, or hung for as long
    MESSAGE = "message"  # nobody began: the broker lost it, or it waits in a long queue


@dataclass(frozen=True, slots=True)
class Registration:
    """A job to be added: due after *delay_s*, claimed if its message is about to be *published*, else waiting."""

    job_id: str
    record: JobRecord
    body: bytes = field(repr=False)
    delay_s: float
    published: bool


@dataclass(frozen=True, slots=True)
class Registered:
    """Answer of `register`: whether the job is new, and its state and record, which are older if it is not."""

    is_new: bool
    state: JobState
    record: JobRecord


@dataclass(frozen=True, slots=True)
class Claim:
    """A due job that the caller must now publish a message for. `record` is None where only its id is needed (poll)."""

    job_id: str
    state: JobState
    record: JobRecord | None
    lost: Lost | None = None
    """None: nothing, its countdown has ended."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on a job until it is written back, renewed or lost."""

    job_id: str
    token: int
    """Fencing token: 1 for the first holder, higher for each later one."""
    claims: int
    """How often the job's message was published again since it was last written: 0 when all went well."""
    state: JobState
    record: JobRecord
    cancel: str | None
    """Why the job should be cancelled, None if nobody asked."""
    body: bytes | None = field(repr=False)
    """The request to submit; only for a QUEUED job."""
    now: float
    """The store's clock at the moment the lease began."""
    heard_at: float | None = None
    """When it was last announced that the job has changed; None if it never was."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A job as a reader sees it."""

    job_id: str
    state: JobState
    record: JobRecord
    cancel: str | None
    due_at: float | None
    """When somebody looks at it next; None once it is over."""
    now: float
    phase: Phase = Phase.WAITING
    token: int = 0
    """Of the latest lease, 0 before the first."""
    claims: int = 0
    """How often its message was published, or had to be again, since it was last written."""
    left_to: int | None = None
    """Version of the workers for which it is put aside, which this store's are too old for."""


@dataclass(frozen=True, slots=True)
class Survey:
    """All jobs of a store at a glance."""

    to_submit: int
    """On the schedule and not accepted yet."""
    to_poll: int
    """On the schedule and accepted, those that are being finished included."""
    overdue: int
    """Of both, due for longer than asked for, without anybody having claimed them."""
    overdue_s: float
    """For how long the earliest has been due; 0 if none is."""
    newer: int
    """Put aside for a version that is newer than this store's."""
    census: Mapping[tuple[JobState, str], int]
    """How many open jobs there are of each state and model; none: not in it."""


class Store(Protocol):
    """
    Jobs, their countdowns and their leases.

    Every operation is atomic for each job, and safe to run twice with the same arguments: clients repeat a command
    whose answer was lost.

    Raises:
        StoreError: From every operation, when the store can't be reached or refuses.
    """

    @property
    def address(self) -> str:
        """Where the jobs are, for people; without a password."""

    def check(self) -> None:
        """
        Make sure that the store answers and keeps what it is given.

        Raises:
            StoreError: It can't be reached.
            SettingsError: It may drop jobs.
        """

    def register(self, job_id: str, record: JobRecord, body: bytes, *, delay_s: float, published: bool) -> Registered:
        """
        Add a job iff its id is unknown.

        It becomes due after *delay_s*: claimed if its message is about to be *published*, else waiting.
        """

    def register_many(
        self,
        jobs: Sequence[Registration],
        besides: Mapping[str, Beside] = NOTHING_BESIDE,
        messages: Mapping[str, Message] = NO_MESSAGES,
    ) -> list[Registered]:
        """
        Several `register` in one round trip, all or none of them done; each is answered on its own.

        *besides* are set and *messages* pushed along with jobs that are new; both by job id.
        """

    def claim(self, limit: int, lease_s: float, *, submits: int | None = None) -> list[Claim]:
        """
        Take up to *limit* due jobs for publication, at most *submits* of them to be submitted.

        Lanes (see `LANES`) in which jobs are due get equal shares, and what one doesn't need goes to the others; within
        a lane the earliest come first. No job is given to two callers. Each is due again after *lease_s*, doubled (up
        to 64-fold) for each time its message was published without anybody beginning: a long queue is not made longer.
        """

    def release(self, job_ids: Sequence[str]) -> int:
        """Give back claimed jobs whose message could not be published: due now. Returns how many were still claimed."""

    def begin(self, job_ids: Sequence[str], purpose: Purpose, lease_s: float) -> list[Lease]:
        """
        Lease those of *job_ids* that are claimed or due and whose state fits *purpose*; skip the others.

        At most one holder at a time; each lease has a higher token than the one before and ends after *lease_s*.
        """

    def renew(self, leases: Sequence[Lease], lease_s: float) -> None:
        """Extend those *leases* that still hold by *lease_s* from now."""

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
        """
        Write a job back and give up its lease: due again in *delay_s* (now, if its cancellation was asked for).

        Nothing changes unless *lease* still holds, and a terminal state is never left. A lease that ran out holds until
        somebody else begins. The request's body is dropped once the state is not QUEUED (see `keep_body`). *notice*
        goes to whoever follows the job.

        Returns:
            False iff the lease was lost: the caller must not act on what it learned.
        """

    def write_many(self, writes: Sequence[Write]) -> list[bool]:
        """Several `write` in one round trip; each is atomic and answered on its own."""

    def end(self, lease: Lease, ttl_s: float) -> bool:
        """
        Take a finished job off the schedule and forget it after *ttl_s*. False iff the lease was lost.

        What only its messages needed, the record's `options`, is forgotten at once: a prompt may be in it, of a job
        that came after this one.
        """

    def request_cancel(self, job_id: str, reason: str) -> JobState | None:
        """
        Ask that a job be cancelled, durably, and make it due now.

        Returns:
            Its state (nothing is changed if terminal), None if the id is unknown.
        """

    def touch(self, job_ids: Sequence[str], delay_s: float = 0.0) -> int:
        """Make waiting jobs due in *delay_s* if they would be due later. Returns how many are known and open."""

    def announce(self, job_id: str, gap_s: float) -> bool:
        """
        Have an accepted job looked at, because somebody says that it has changed.

        Whoever says so is not trusted: however often it is said, that makes a job due no more than once in *gap_s*.
        What comes sooner is put off until then, and what comes while a worker is at the job has it looked at again. A
        job that is not accepted yet keeps its time.

        Returns:
            Whether the job is known and open.
        """

    def get(self, job_ids: Sequence[str]) -> list[Entry | None]:
        """Read jobs in one round trip; None for unknown ids."""

    def open_ids(self, start: str = "") -> Iterator[str]:
        """
        The ids of all jobs on the schedule or put aside that begin with *start*, in no order.

        Those that come or go meanwhile may be among them or not.
        """

    def due_count(self) -> int:
        """How many jobs are due now, claimed or leased ones whose time ran out and those put aside included."""

    def open_count(self) -> int:
        """How many jobs are on the schedule, or put aside for a newer version."""

    def newer_count(self) -> int:
        """How many jobs are put aside for a version that is newer than this store's."""

    def survey(self, overdue_s: float) -> Survey:
        """Count all jobs, in one round trip whose cost doesn't grow with them; *overdue_s* is when one is overdue."""

    def next_due_s(self) -> float | None:
        """
        Seconds until the earliest job is due, not above 0 if one is; None if there are none.

        Jobs put aside for a newer version don't count.
        """

    def now(self) -> float:
        """The store's clock."""


@dataclass(frozen=True, slots=True)
class Write:
    """The arguments of one `Store.write`."""

    lease: Lease
    state: JobState
    record: JobRecord
    delay_s: float
    published: bool = False
    notice: str | None = None
