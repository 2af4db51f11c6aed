"""
Jobs going by without a server, a worker or the passing of time: the product's own code decides when to look.

What is learned is learned as in the product: from intervals between looks, by the ends that are kept, when they count.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from benchmarks.scenarios import Job
from tasks_bridge.cadence import countdown_s
from tasks_bridge.durations import End
from tasks_bridge.knowledge import Knowledge, Mode, Pace
from tasks_bridge.learning import Learning, MemoryEnds

MODEL = "sora-2-pro"
BEGINNING = 1_795_392_000.0


@dataclass(frozen=True, slots=True)
class Found:
    """How a job went."""

    lag_s: float
    polls: int
    mode: Mode

    def cost(self, poll_cost_s: float) -> float:
        """In seconds of lag."""
        return self.lag_s + poll_cost_s * self.polls


class Replay:
    """One model's jobs, one after the other or overlapping."""

    def __init__(self, pace: Pace, random: Random) -> None:
        self.pace = pace
        self.learning = Learning(MemoryEnds(), pace, busy_s=lambda: 0.0)  # the same each time
        self.now = BEGINNING
        self._random = random

    def run(self, jobs: Sequence[Job], starts_s: Sequence[float]) -> list[Found]:
        """Start each of *jobs* so many seconds after now, and go on until all are over; in the order of *jobs*."""
        found: dict[int, Found] = {}
        begun = self.now
        # (when, which job, its last look in seconds after its start, looks so far)
        due = [(begun + start_s, number, -1.0, 0) for number, start_s in enumerate(starts_s)]
        heapq.heapify(due)
        while due:
            self.now, number, seen_s, polls = heapq.heappop(due)
            known, job = self._known(), jobs[number]
            elapsed_s = self.now - begun - starts_s[number]
            if seen_s < 0:
                elapsed_s, polls = 0.0, -1  # the answer to the submit is no poll
            elif elapsed_s >= job.duration_s:
                found[number] = Found(elapsed_s - job.duration_s, polls + 1, known.mode)
                is_learned = known.mode is Mode.LEARNED
                end = End(self.now, seen_s, elapsed_s, job.estimate_s, polls + 1, is_learned)
                self.learning.note({MODEL: [end]})
                continue
            wait_s = self.countdown_s(known, elapsed_s, job.estimate_s, self._random.random())
            heapq.heappush(due, (self.now + wait_s, number, elapsed_s, polls + 1))
        return [found[number] for number in range(len(jobs))]

    def countdown_s(self, known: Knowledge | None, elapsed_s: float, estimate_s: float, random: float) -> float:
        """As `steps.View.countdown_s`."""
        wait_s = known.countdown_s(elapsed_s, estimate_s, has_callback=False, random=random) if known else None
        if wait_s is None:
            pace = self.pace
            wait_s = countdown_s(estimate_s, poll_min_s=pace.poll_min_s, poll_max_s=pace.poll_max_s, random=random)
        return wait_s

    def known_after(self, seconds: float) -> Knowledge:
        """What is known once so much more time has passed."""
        self.now += seconds
        return self._known()

    def waits(self, estimate_s: float) -> Callable[[float, float], float]:
        """The countdowns by what is known now, of the seconds since a job began and a random number."""
        known = self._known()
        return lambda elapsed_s, random: self.countdown_s(known, elapsed_s, estimate_s, random)

    def _known(self) -> Knowledge:
        if stale := self.learning.stale([MODEL], self.now):
            self.learning.refresh(stale, self.now)
        known = self.learning.of(MODEL)
        assert known is not None
        return known
