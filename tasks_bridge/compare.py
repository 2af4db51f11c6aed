"""
Jobs as Redis has them beside what ByteSpike says of them: what `tasks-bridge reconcile` does.

It changes one thing: a job that ByteSpike knows better about is made due, so that a worker looks at it now. That is
safe at any time, and twice at a time.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from tasks_bridge.errors import BridgeError
from tasks_bridge.models import RemoteTask
from tasks_bridge.record import JobState, advance
from tasks_bridge.recover import BATCH, Service
from tasks_bridge.store import Entry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tasks_bridge.bridge import Bridge

AT_A_TIME: Final = 8
"""Queries: they are free and not limited (contract, section 4)."""


class Verdict(StrEnum):
    """How Redis and ByteSpike stand to each other."""

    IN_STEP = "in step"  # both say the same, or the job is not submitted yet
    OVER = "over"  # Redis has its end
    BEHIND = "behind"  # ByteSpike is further: a worker looks at it now
    FORGOTTEN = "forgotten"  # Redis doesn't know it (any more), ByteSpike does
    MISSING = "missing"  # Redis has it as accepted, ByteSpike doesn't know it with its key
    LOST = "lost"  # nobody knows it
    UNKNOWN = "unknown"  # ByteSpike could not be asked

    @property
    def is_problem(self) -> bool:
        """Whether somebody should look into it."""
        return self in (Verdict.MISSING, Verdict.LOST, Verdict.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Compared:
    """One job."""

    job_id: str
    verdict: Verdict
    detail: str
    state: JobState | None = None
    """As Redis has it; None if it doesn't know it."""
    remote: RemoteTask | None = None
    """As ByteSpike has it; None if it doesn't know it, or was not asked."""

    def described(self) -> dict[str, Any]:
        """For programs: ``{"id", "verdict", "detail", "status", "remote"}``, the last two null where there is none."""
        return {
            "id": self.job_id,
            "verdict": self.verdict.value,
            "detail": self.detail,
            "status": self.state and self.state.value,
            "remote": self.remote and self.remote.to_json(),
        }


def compare(bridge: Bridge, job_ids: Iterable[str], key: str, *, is_dry: bool) -> Iterator[Compared]:
    """
    Compare each of *job_ids*, in order.

    Args:
        bridge: Of the app whose jobs they are.
        job_ids: Which.
        key: Alias of the API key to ask with for jobs that Redis doesn't know.
        is_dry: Make no job due.

    Raises:
        StoreError: Redis can't be reached.
    """
    with Service(bridge.settings) as service, ThreadPoolExecutor(AT_A_TIME) as threads:
        for batch in _batches(job_ids):
            pairs = list(zip(batch, bridge.store.get(batch), strict=True))
            found = list(threads.map(lambda pair: _compared(service, pair[0], pair[1], key), pairs))
            behind = [one.job_id for one in found if one.verdict in (Verdict.BEHIND, Verdict.MISSING)]
            if not is_dry:
                bridge.store.touch(behind)
            yield from found


def _batches(job_ids: Iterable[str]) -> Iterator[Sequence[str]]:
    batch: list[str] = []
    for job_id in job_ids:
        batch.append(job_id)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _compared(service: Service, job_id: str, entry: Entry | None, key: str) -> Compared:
    if entry is not None and entry.state.is_terminal:
        return Compared(job_id, Verdict.OVER, entry.state.value, entry.state)
    try:
        remote = service.task(job_id, key if entry is None else entry.record.key)
    except BridgeError as error:
        return Compared(job_id, Verdict.UNKNOWN, str(error), None if entry is None else entry.state)
    if entry is not None:
        return Compared(job_id, *_open(entry, remote), entry.state, remote)
    if remote is None:
        return Compared(job_id, Verdict.LOST, "neither Redis nor ByteSpike knows it")
    return Compared(job_id, Verdict.FORGOTTEN, f"ByteSpike says {remote.status}", remote=remote)


def _open(entry: Entry, remote: RemoteTask | None) -> tuple[Verdict, str]:
    state = entry.state
    if remote is not None:
        verdict = Verdict.IN_STEP if advance(state, remote.status) is state else Verdict.BEHIND
        return verdict, f"{state}, ByteSpike says {remote.status}"
    if state is JobState.QUEUED:
        return Verdict.IN_STEP, "QUEUED, not submitted yet"
    return Verdict.MISSING, f"{state}, and ByteSpike has no such task for the key {entry.record.key!r}"
