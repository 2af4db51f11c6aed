"""
The job as the store keeps it: its state and its record. No I/O.

The *state* and the fencing token are the store's, changed only by its atomic operations. The *record* is everything
else the library knows of a job: one JSON document that the store treats as opaque, written only by whoever holds the
job's lease.
"""

from __future__ import annotations

import base64
import hashlib
import json
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, ValidationError

from tasks_bridge.models import RemoteStatus, RemoteTask

RECORD_VERSION: Final = 2
"""
Version of the document below. A worker acts on all up to its own and leaves newer ones to newer workers.

To be raised when an older worker must not act on what a newer one wrote. A new field that it may ignore is no reason:
it keeps fields that it doesn't know.
"""


class JobState(StrEnum):
    """Where a job is in its life. The first three are open, the others are final."""

    QUEUED = "QUEUED"  # registered; ByteSpike has not confirmed a task for it yet
    PENDING = "PENDING"  # accepted by ByteSpike, generation not started
    RUNNING = "RUNNING"  # generating
    COMPLETED = "COMPLETED"  # ByteSpike reports completed; output is there
    FAILED = "FAILED"  # ByteSpike reports failed, or refused the request for good
    CANCELLED = "CANCELLED"  # cancelled on request before it finished
    EXPIRED = "EXPIRED"  # its deadline passed first

    @property
    def is_terminal(self) -> bool:
        """True once nothing can change any more."""
        return self in TERMINAL_STATES

    @property
    def earlier(self) -> tuple[JobState, ...]:
        """The states that a job in this one can have come from, the first one first: it never goes back."""
        order = tuple(_RANK)
        return order if self.is_terminal else order[: _RANK[self]]

    @property
    def celery_state(self) -> str:
        """The name that the result backend and Flower show for it."""
        return _CELERY_STATES[self]


OPEN_STATES: Final = frozenset({JobState.QUEUED, JobState.PENDING, JobState.RUNNING})
TERMINAL_STATES: Final = frozenset(JobState) - OPEN_STATES

_CELERY_STATES: Final = {
    JobState.QUEUED: "QUEUED",
    JobState.PENDING: "PENDING_REMOTE",  # Celery's own PENDING means "unknown id"
    JobState.RUNNING: "RUNNING",
    JobState.COMPLETED: "SUCCESS",
    JobState.FAILED: "FAILURE",
    JobState.CANCELLED: "REVOKED",
    JobState.EXPIRED: "FAILURE",
}

_REMOTE_STATES: Final = {
    RemoteStatus.PENDING: JobState.PENDING,
    RemoteStatus.RUNNING: JobState.RUNNING,
    RemoteStatus.COMPLETED: JobState.COMPLETED,
    RemoteStatus.FAILED: JobState.FAILED,
    RemoteStatus.CANCELLED: JobState.CANCELLED,
}

_RANK: Final = {JobState.QUEUED: 0, JobState.PENDING: 1, JobState.RUNNING: 2}


def advance(current: JobState, observed: str) -> JobState:
    """
    The state of a job in *current* for which ByteSpike reports the status *observed*.

    A job only moves forward: a final state stays, an older reading never undoes a newer one, and a status nobody knows
    changes nothing (it is not final either: the deadline ends such a job).

    Source: contract, section 2 (transitions) and section 14 (extra or renamed statuses).
    """
    if current.is_terminal:
        return current
    try:
        target = _REMOTE_STATES[RemoteStatus(observed)]
    except ValueError:
        return max(current, JobState.PENDING, key=_RANK.__getitem__)
    if target.is_terminal:
        return target
    return max(current, target, key=_RANK.__getitem__)


# more digits would take up room in a million jobs, and tell nothing
_Seconds = Annotated[float, PlainSerializer(lambda value: round(value, 2))]
_Share = Annotated[float, PlainSerializer(lambda value: round(value, 4))]


class RecordedError(BaseModel):
    """An error as data: the name of a class in `tasks_bridge.errors` and its JSON-able arguments."""

    model_config = ConfigDict(frozen=True)

    name: str
    args: list[Any]


class JobRecord(BaseModel):
    """
    What is known of one job, as stored.

    Times are seconds since the epoch on the store's clock and end in ``_at``; durations end in ``_s``.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    version: int
    """`RECORD_VERSION` of the writer."""
    model: str
    key: str
    """Alias of the API key; never the key itself."""
    digest: str
    """`request_digest` of what was asked for: tells the same job from another one under the same id."""
    created_at: _Seconds
    delay_s: float = 0.0
    """How much later the caller wants it submitted: Celery's `countdown` or `eta`."""
    submit_by: _Seconds | None = None
    """Celery's `expires`: a job that is not submitted by then expires instead."""
    deadline_s: float | None = None
    """Seconds from `starts_at`; None derives it from the estimate."""
    label: str | None = None
    """On whose budget it goes. No part of the request, like the next: the same id with another is the same job."""
    max_credits: float | None = None
    """The most that it may cost."""
    has_callback: bool = False
    """Whether ByteSpike was asked to call when it ends."""
    options: dict[str, Any] = Field(default={}, repr=False)
    """
    Celery's message options (links, chain, chord, queue, headers, …), to publish the task again unchanged.

    In no repr: a prompt may be in them, that of the next job.
    """
    remote: dict[str, Any] | None = None
    """The latest remote object, as ByteSpike reported it."""
    estimated_s: float | None = None
    """The estimate given on submit: later answers may leave it out."""
    submitted_at: _Seconds | None = None
    polled_at: _Seconds | None = None
    """When ByteSpike last told its status, the answer to the submit aside."""
    running_at: _Seconds | None = None
    """When it was first seen to run. It was accepted at `submitted_at`, and is in each state once at most."""
    ended_at: _Seconds | None = None
    """When it was seen to be over, or was ended."""
    left_s: _Seconds | None = None
    """How much longer it would probably take, at `seen_at`; None while nothing is known of its model."""
    progress: _Share | None = None
    """How far it was then, as readers were told."""
    is_late: bool = False
    """Whether it took unusually long then already, for its model."""
    attempts: int = 0
    """Submits without a usable answer so far."""
    attempted_at: _Seconds | None = None
    refusal: RecordedError | None = None
    """Why a repeated submit was refused, while it is open whether an earlier one got through."""
    unsent: int = 0
    """Up to this token it is certain that no submit got through."""
    ending_at: _Seconds | None = None
    """Since when it is being ended and no submit is sent any more, where ByteSpike has to be asked for that."""
    polls: int = 0
    failures: int = 0
    """Reads that failed since the last good one, and cancels that were not confirmed."""
    error: RecordedError | None = None
    """Why the job ended, where that is not the remote object's to say; of an open job, why it is being cancelled."""
    is_booked: bool = False
    """Whether there is a reservation for it in the books (see `budget`)."""
    is_unconfirmed: bool = False
    """Whether it ended without ByteSpike's word on the end: the remote task, if there is one, may go on and bill."""

    @classmethod
    def from_json(cls, text: str | bytes) -> JobRecord:
        """
        Read the stored form; of a newer version's, what this one understands.

        Raises:
            ValidationError: It is no record of this version or an older one.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            document = json.loads(text)
            if not isinstance(document, dict) or document.get("version", 0) <= RECORD_VERSION:
                raise
            strange = {problem["loc"][0] for problem in error.errors()}
            known = {name: value for name, value in document.items() if name not in strange}
            return cls.model_validate({**_NOT_UNDERSTOOD, **known})

    def to_json(self) -> str:
        """The stored form; fields at their default are left out to keep waiting jobs small."""
        return self.model_dump_json(exclude_defaults=True)

    def but(self, **changes: object) -> JobRecord:
        """A copy with *changes*; the values are trusted."""
        return self.model_copy(update=changes)

    @property
    def starts_at(self) -> float:
        """When the caller wants it submitted."""
        return self.created_at + self.delay_s

    @property
    def seen_at(self) -> float | None:
        """When ByteSpike last told its status; None before it accepted the job."""
        return self.submitted_at if self.polled_at is None else self.polled_at

    @property
    def remote_task(self) -> RemoteTask | None:
        """The latest remote object, typed; None before the submit was answered."""
        return None if self.remote is None else RemoteTask.model_validate(self.remote)

    @property
    def remote_id(self) -> str | None:
        """ByteSpike's task_id, None before the submit was answered."""
        task_id = (self.remote or {}).get("task_id")
        return task_id if isinstance(task_id, str) else None

    @property
    def cost(self) -> float | None:
        """What a job that is over has cost; None if nobody knows."""
        remote = self.remote_task
        if remote is not None and remote.credits_used is not None:
            return remote.credits_used
        # failed tasks are free, cancelled ones are where no charge is named (contract, section 5)
        is_known = not self.is_unconfirmed and (remote is None or remote.status != RemoteStatus.COMPLETED)
        return 0.0 if is_known else None


_NOT_UNDERSTOOD: Final = {"model": "?", "key": "?", "digest": "", "created_at": 0.0}
"""What a reader shows for a required field that a newer version changed."""


def request_digest(body: bytes, key: str) -> str:
    """
    Fingerprint of a request: 12 characters over its canonical *body* (`wire.submit_body`) and the key alias.

    Two requests with the same digest ask for the same thing in the sense of contract, section 7.
    """
    digest = hashlib.blake2b(f"{key}\n".encode() + body, digest_size=9).digest()
    return base64.urlsafe_b64encode(digest).decode()
