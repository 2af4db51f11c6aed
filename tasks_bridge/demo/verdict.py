"""Whether every promise was kept. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tasks_bridge.record import JobState


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one job went, as far as it got."""

    name: str
    expected: JobState
    state: JobState | None
    """None: the store does not know it."""
    expected_callback: str
    callbacks: Sequence[str]
    """The kind of each callback that ran, a double included."""
    remote_tasks: int
    """How many tasks ByteSpike has under the job's id."""
    polls: int = 0
    took_s: float | None = None
    """From the call to the start of its callback."""
    credits: float | None = None
    lag_s: float | None = None
    """From the job's end at ByteSpike to the start of its callback."""


def problems(outcomes: Sequence[Outcome], once: Mapping[str, int], remote_tasks: int) -> list[str]:
    """
    What is not as it should be, one sentence each; nothing if all is well.

    Args:
        outcomes: Of every job.
        once: What must have run once beside the jobs' own callbacks, and how often it did.
        remote_tasks: How many tasks exist at ByteSpike in all.
    """
    found = [problem for outcome in outcomes for problem in _problems(outcome)]
    found += [f"{what} ran {_times(count)} instead of once" for what, count in once.items() if count != 1]
    known = sum(outcome.remote_tasks for outcome in outcomes)
    if remote_tasks != known:
        found.append(f"ByteSpike has {remote_tasks} tasks, {remote_tasks - known} of them for no job")
    return found


def _problems(outcome: Outcome) -> list[str]:
    name, found = outcome.name, []
    if outcome.state is not outcome.expected:
        found.append(f"{name} is {outcome.state or 'lost'} instead of {outcome.expected}")
    if list(outcome.callbacks) != [outcome.expected_callback]:
        ran = " and ".join(outcome.callbacks) or "none"
        found.append(f"{name} should have run its {outcome.expected_callback} callback once, but ran: {ran}")
    if outcome.remote_tasks != 1:
        found.append(f"{name} has {outcome.remote_tasks} tasks at ByteSpike instead of one")
    return found


def _times(count: int) -> str:
    return "never" if count == 0 else f"{count} times"
