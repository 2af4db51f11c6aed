"""
What is known of one model's pace, and the countdowns that follow from it. Pure.

A model about which little is known, or whose learned countdowns have lately cost so much more than the published rule's
would have on the same jobs that they will not soon have made up for it, goes by the published rule (`cadence`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import cached_property
from math import ceil, exp, log
from statistics import median, pstdev
from typing import TYPE_CHECKING, Final

from tasks_bridge.cadence import JITTER, countdown_s
from tasks_bridge.durations import Durations, End, Interval, estimate, since_change
from tasks_bridge.inspection import Bounds, Schedule, expect, plan

if TYPE_CHECKING:
    from tasks_bridge.settings import Settings

FEWEST_ENDS: Final = 8
"""Ends from which on there is something to go by."""

RIPE: Final = 1.5
"""
An end counts once its job would be this many times as old as nine in ten jobs get: of a thousand jobs that began
together the first to end are the quickest, and would make all others look late.
"""

SECONDS_IF: Final = 0.9
"""Durations are learned in seconds rather than in estimates where that makes them spread so much less."""

COMPARED: Final = (32, 256)
"""
Latest ends over which what was paid is compared with the published rule's cost: few, to notice soon that learned
countdowns don't pay; and many, as losses that come and go would make up for themselves within the few.
"""
PATIENCE: Final = 48
"""
Jobs within which learned countdowns have to make up for what they have lost, going by what they are expected to save;
and no more jobs than the pace has lasted for. A pace that has just begun may be over as soon.
"""
EXPECTED: Final = 32
"""Latest ends that callbacks were expected of, by which it is told how rarely they come."""
PARTS: Final = 3
"""Values that stand for where in its interval a job may have ended."""

SCALES: Final = 200.0
"""Estimates closer than one in so many share a schedule."""
MOST_SCHEDULES: Final = 64

LATE: Final = 0.9
"""A job is late that takes longer than this share of its model's jobs."""


class Basis(StrEnum):
    """What durations are learned in."""

    ESTIMATES = "estimates"
    SECONDS = "seconds"


class Mode(StrEnum):
    """Which countdowns a model gets, and why."""

    COLD = "cold"  # the published rule: too little is known
    LEARNED = "learned"
    LOSING = "losing"  # the published rule: it has been the better one lately


@dataclass(frozen=True, slots=True)
class Pace:
    """The settings that countdowns depend on; see `Settings`."""

    poll_min_s: float
    poll_max_s: float
    poll_cost_s: float
    callback_poll_factor: float

    @classmethod
    def of(cls, settings: Settings) -> Pace:
        """Those of *settings*."""
        return cls(**{field.name: getattr(settings, field.name) for field in fields(cls)})


@dataclass(frozen=True, slots=True)
class Paid:
    """What some jobs have cost in lag and polls, and what they would have by the published rule, in seconds of lag."""

    jobs: int
    ours_s: float
    published_s: float

    @property
    def lost_s(self) -> float:
        """How much more it was."""
        return self.ours_s - self.published_s


class Knowledge:
    """What the latest ends of one model's jobs say."""

    def __init__(self, ends: Sequence[End], pace: Pace, *, now: float) -> None:
        """Go by *ends*, newest first, as they stand at *now* on the store's clock."""
        self.pace = pace
        self.ends = _ripe(ends, now)
        self.planned: dict[tuple[int, bool], Schedule] = {}
        """Schedules at hand, by the logarithm of the unit and whether there are callbacks."""
        self.asked: set[tuple[int, bool]] = set()
        """Those of them that were needed."""

    def prepare(self, before: Knowledge | None) -> None:
        """Compute now what is likely to be asked for: what was asked of *before*."""
        if self.mode is Mode.LEARNED and before and before.mode is Mode.LEARNED and before.basis is self.basis:
            for step, has_callback in list(before.planned):
                if (step, has_callback) in before.asked:
                    self._schedule(step, has_callback=has_callback)

    @cached_property
    def is_cold(self) -> bool:
        """Whether too little is known."""
        return self.seen < FEWEST_ENDS

    @cached_property
    def mode(self) -> Mode:
        """Which countdowns it gives."""
        if self.is_cold:
            return Mode.COLD
        lost_s = self.paid.lost_s
        if lost_s <= 0:
            return Mode.LEARNED
        return Mode.LOSING if lost_s > min(PATIENCE, self.seen) * self.saving_s else Mode.LEARNED

    @cached_property
    def basis(self) -> Basis:
        """Where estimates say nothing of how long jobs take, their errors would only be added."""
        seen = [end for end in self.ends if end.is_seen]
        middles = [log(max(end.after_s, end.by_s / 4) * end.by_s) / 2 for end in seen]
        in_estimates = pstdev(middle - log(end.estimate_s) for middle, end in zip(middles, seen, strict=True))
        return Basis.SECONDS if pstdev(middles) < SECONDS_IF * in_estimates else Basis.ESTIMATES

    @cached_property
    def intervals(self) -> list[Interval]:
        """The ends in units of the basis, newest first."""
        scales = [self._scale(end.estimate_s) for end in self.ends]
        return [(end.after_s / scale, end.by_s / scale) for end, scale in zip(self.ends, scales, strict=True)]

    @cached_property
    def _eras(self) -> list[tuple[int, Durations | None]]:
        """
        How long jobs took between changes of pace, newest first: up to so many ends; None if all were stopped.

        A change is looked for again on either side of the one that is clearest.
        """
        found, parts = list[tuple[int, Durations | None]](), [(0, len(self.ends))]
        while parts:
            first, last = parts.pop()
            seen = sum(end.is_seen for end in self.ends[first:last])
            if not seen:
                found.append((last, None))
                continue
            jobs = [end.jobs for end in self.ends[first:last]]
            durations = estimate(self.intervals[first:last], jobs, self.centre)
            newer = since_change(self.intervals[first:last], durations) if seen >= FEWEST_ENDS else last - first
            if first + newer == last:
                found.append((last, durations))
            else:
                parts += [(first + newer, last), (first, first + newer)]
        return found

    @property
    def relevant(self) -> int:
        """How many of the ends come after the last change of pace."""
        return self._eras[0][0] if self.ends else 0

    @property
    def seen(self) -> int:
        """How many of those are of jobs that ended by themselves."""
        return sum(end.is_seen for end in self.ends[: self.relevant])

    @property
    def durations(self) -> Durations:
        """
        How long jobs take, in units of the basis.

        Raises:
            LookupError: Too little is known: see `is_cold`.
        """
        durations = self._eras[0][1]
        if durations is None:
            raise LookupError("none of this model's jobs was seen to end")
        return durations

    @cached_property
    def centre(self) -> float:
        """What estimates come to, in units of the basis."""
        return median(end.estimate_s for end in self.ends) if self.basis is Basis.SECONDS else 1.0

    @cached_property
    def paid(self) -> Paid:
        """What the latest jobs have cost, or all: whichever makes learned countdowns look worse."""
        paid = list[tuple[float, float]]()
        first = 0
        for last, durations in self._eras:
            for end in self.ends[first:last]:
                if durations and end.is_seen and end.called is None:
                    # where in its interval it ended is a guess by those of its own time
                    paid.append(self._paid(end, durations))
            first = last
        sums = [
            Paid(len(latest), sum(ours_s for ours_s, _ in latest), sum(published_s for _, published_s in latest))
            for latest in (paid[:count] for count in COMPARED)
        ]
        return max(sums, key=lambda some: some.lost_s)

    @cached_property
    def saving_s(self) -> float:
        """What a usual job is expected to cost less than by the published rule, if durations are as they seem."""
        estimate_s = median(end.estimate_s for end in self.ends[: self.relevant])
        schedule, durations = self._schedule(self._step(estimate_s), has_callback=False), self.durations_s(estimate_s)
        every_s = self.published_s(estimate_s)

        def cost_s(wait_s: Callable[[float], float]) -> float:
            lag_s, polls = expect(wait_s, durations)
            return lag_s + self.pace.poll_cost_s * polls

        return cost_s(lambda _: every_s) - cost_s(schedule.wait_s)

    def _paid(self, end: End, durations: Durations) -> tuple[float, float]:
        """What one job has cost, and what it would have by the published rule."""
        scale = self._scale(end.estimate_s)
        ended_s = [x * scale for x in durations.between(end.after_s / scale, end.by_s / scale, PARTS)]
        every_s = self.published_s(end.estimate_s)
        published = 0.0
        for at_s in ended_s:
            polls = max(ceil(at_s / every_s), 1)
            published += (polls * every_s - at_s + self.pace.poll_cost_s * polls) / PARTS
        paid = end.by_s - sum(ended_s) / PARTS + self.pace.poll_cost_s * end.polls if end.learned else published
        return paid, published

    @cached_property
    def missed(self) -> float:
        """
        The share of jobs whose callback does not tell of their end.

        At first it is such that countdowns are ``callback_poll_factor`` times as long, as if that had been seen.
        """
        expected = [end for end in self.ends if end.is_seen and end.called is not None][:EXPECTED]
        lost = sum(not end.called for end in expected)
        return (1 + lost) / (self.pace.callback_poll_factor**2 + len(expected))

    def published_s(self, estimate_s: float) -> float:
        """The published rule's countdown, without jitter."""
        return countdown_s(estimate_s, poll_min_s=self.pace.poll_min_s, poll_max_s=self.pace.poll_max_s, random=0.5)

    def durations_s(self, estimate_s: float) -> Durations:
        """How long jobs with this estimate take, in seconds."""
        return self.durations.scaled(self._scale(estimate_s))

    def schedule(self, estimate_s: float, *, has_callback: bool) -> Schedule:
        """When to look at jobs with about this estimate; computed in a few milliseconds, once."""
        step = self._step(estimate_s)
        self.asked.add((step, has_callback))
        return self._schedule(step, has_callback=has_callback)

    def _step(self, estimate_s: float) -> int:
        return round(log(self._scale(estimate_s)) * SCALES)

    def _schedule(self, step: int, *, has_callback: bool) -> Schedule:
        known = self.planned.get((step, has_callback))
        if known is None:
            scale = exp(step / SCALES)
            seen = [(low * scale, high * scale) for low, high in self.intervals[: self.relevant]]
            known = plan(self.durations.scaled(scale), self.bounds(has_callback=has_callback), seen)
            while len(self.planned) >= MOST_SCHEDULES:
                del self.planned[next(iter(self.planned))]
            self.planned[step, has_callback] = known
        return known

    def bounds(self, *, has_callback: bool) -> Bounds:
        """
        What looks must keep to.

        Lag is only there where the callback is not: a look is worth as much less.
        """
        pace = self.pace
        if not has_callback:
            return Bounds(pace.poll_min_s, pace.poll_max_s, pace.poll_cost_s)
        cost_s = pace.poll_cost_s / self.missed
        return Bounds(pace.poll_min_s, pace.poll_max_s * pace.callback_poll_factor, cost_s)

    def countdown_s(self, elapsed_s: float, estimate_s: float, *, has_callback: bool, random: float) -> float | None:
        """
        Until a job is worth the next look; None for the published rule.

        Args:
            elapsed_s: Since ByteSpike accepted it.
            estimate_s: What is expected of it.
            has_callback: Whether ByteSpike was asked to call when it ends.
            random: Uniform in [0, 1), the middle meaning neither. It decides whether to explore, and when; else it is
                jitter, which is small where looks are close, for there the moment matters.
        """
        if self.mode is not Mode.LEARNED:
            return None
        schedule, bounds = self.schedule(estimate_s, has_callback=has_callback), self.bounds(has_callback=has_callback)
        wait_s, usual = schedule.wait_s(elapsed_s), 1 - schedule.exploring(elapsed_s)
        off = 2 * random - 1
        if abs(off) <= usual:
            wait_s += JITTER * off / usual * schedule.lag_s(elapsed_s)
        else:
            wait_s = bounds.least_s + (wait_s - bounds.least_s) * (abs(off) - usual) / (1 - usual)
        return min(max(wait_s, bounds.least_s), bounds.most_s)

    def left_s(self, elapsed_s: float, estimate_s: float) -> float | None:
        """Half of the jobs that have lasted for *elapsed_s* take longer than this from then on; None if unknown."""
        if self.is_cold:
            return None
        scale = self._scale(estimate_s)
        return self.durations.left(max(elapsed_s, 0.0) / scale) * scale

    def is_late(self, elapsed_s: float, estimate_s: float) -> bool | None:
        """Whether a job that has lasted for *elapsed_s* takes unusually long; None if unknown."""
        return None if self.is_cold else self.durations.below(elapsed_s / self._scale(estimate_s))[0] > LATE

    def _scale(self, estimate_s: float) -> float:
        return estimate_s if self.basis is Basis.ESTIMATES else 1.0


def _ripe(ends: Sequence[End], now: float) -> list[End]:
    """Those of *ends* whose job was accepted so long ago that what was accepted with it has ended as well."""
    if not ends:
        return []
    longest_s = sorted(end.known_s for end in ends)[int(0.9 * (len(ends) - 1))]
    ripe = [end for end in ends if now - end.accepted_at >= RIPE * longest_s]
    # of jobs that began together the slow ones end last: by their ends, they would look like a change of pace
    return sorted(ripe, key=lambda end: end.accepted_at, reverse=True)
