"""Courses of jobs that are no independent draws from one service: changes, drifts, bursts, queues. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import exp, pi, sin
from random import Random
from typing import Final

from benchmarks.scenarios import Job, LogNormal, Truth, Uniform

Course = Callable[[Random, int], list[tuple[float, Job]]]
"""So many jobs, with the seconds from now to their beginning, which rise."""

ESTIMATE_S: Final = 100.0
GAP_S: Final = 40.0
CHANGE_AFTER: Final = 200
"""Jobs; what counts is how those fare that follow."""


def steady(truth_of: Callable[[int], Truth], *, estimate_s: float = ESTIMATE_S, gap_s: float = GAP_S) -> Course:
    """Jobs that begin independently of each other, the durations of each given by its number."""

    def course(random: Random, count: int) -> list[tuple[float, Job]]:
        at, made = 0.0, []
        for number in range(count):
            at += random.expovariate(1 / gap_s)
            made.append((at, Job(estimate_s, truth_of(number).quantile(random.random()), 0)))
        return made

    return course


def shift(before: Truth, later: Truth, *, gap_s: float = GAP_S) -> Course:
    """Another service from then on."""
    return steady(lambda number: before if number < CHANGE_AFTER else later, gap_s=gap_s)


def episode(usual: Truth, odd: Truth, jobs: int) -> Course:
    """Another service for so many *jobs*."""
    return steady(lambda number: odd if CHANGE_AFTER <= number < CHANGE_AFTER + jobs else usual)


def turns(one: Truth, other: Truth, every: int) -> Course:
    """Two services in turns of *every* jobs."""
    return steady(lambda number: (one, other)[number // every % 2])


def drift(rate: float) -> Course:
    """A tight service that gets slower by *rate* with each job from the hundredth on."""
    return steady(lambda number: LogNormal(100 * exp(rate * max(number - 100, 0)), 0.04))


def bursts(truth: Truth, size: int, every_s: float, *, estimate_s: float) -> Course:
    """Bursts of *size* jobs within two seconds."""

    def course(random: Random, count: int) -> list[tuple[float, Job]]:
        starts_s = sorted(number // size * every_s + 2 * random.random() for number in range(count))
        return [(at, Job(estimate_s, truth.quantile(random.random()), 0)) for at in starts_s]

    return course


def queue(size: int, every_s: float, servers: int) -> Course:
    """Bursts that wait for each other at ByteSpike, which tells the same estimate for all."""

    def course(random: Random, count: int) -> list[tuple[float, Job]]:
        made, work = [], LogNormal(20, 0.2)
        free_s = [0.0] * servers
        for number in range(count):
            if number % size == 0:
                free_s = [0.0] * servers
            place = free_s.index(min(free_s))
            free_s[place] += work.quantile(random.random())
            made.append((number // size * every_s + number % size * 0.01, Job(30.0, free_s[place], 0)))
        return made

    return course


def batches(size: int) -> Course:
    """Clips of four lengths, *size* of a length in a row, the estimate being the same for all."""
    lengths = [LogNormal(mean, 0.1) for mean in (30.0, 60.0, 90.0, 150.0)]

    def course(random: Random, count: int) -> list[tuple[float, Job]]:
        chosen = [random.choice(lengths) for _ in range(count // size + 1)]
        return steady(lambda number: chosen[number // size], estimate_s=60.0)(random, count)

    return course


TIGHT, WIDE = LogNormal(100, 0.05), LogNormal(100, 0.4)

COURSES: Final[Mapping[str, Course]] = {
    "tight, 1.6 times slower": shift(TIGHT, LogNormal(160, 0.05)),
    "tight, 3 times slower": shift(TIGHT, LogNormal(300, 0.05)),
    "tight, 1.7 times quicker": shift(TIGHT, LogNormal(60, 0.05)),
    "tight, 3 times quicker": shift(TIGHT, LogNormal(33, 0.05)),
    "tight, 2 times quicker, a job every 3 s": shift(TIGHT, LogNormal(50, 0.05), gap_s=3.0),
    "tight, 2 times quicker, a job every 400 s": shift(TIGHT, LogNormal(50, 0.05), gap_s=400.0),
    "wide, 2 times slower": shift(WIDE, LogNormal(200, 0.4)),
    "wide, 2 times quicker": shift(WIDE, LogNormal(50, 0.4)),
    "tight becomes wide": shift(TIGHT, LogNormal(100, 0.5)),
    "40 jobs fail at once": episode(TIGHT, Uniform(0.3, 1.5), 40),
    "30 jobs take 5 times as long": episode(LogNormal(100, 0.15), LogNormal(500, 0.15), 30),
    "100 or 50 s, in turns of 12": turns(TIGHT, LogNormal(50, 0.05), 12),
    "100 or 50 s, in turns of 60": turns(TIGHT, LogNormal(50, 0.05), 60),
    "drifts, 0.3 % slower each": drift(0.003),
    "drifts, 0.3 % quicker each": drift(-0.003),
    "a wave of 1.5 times either way": steady(
        lambda number: LogNormal(100 * exp(0.4 * sin(2 * pi * number / 150)), 0.1)
    ),
    "bursts of 100, wide": bursts(WIDE, 100, 600, estimate_s=100.0),
    "bursts of 60, tight": bursts(LogNormal(60, 0.05), 60, 180, estimate_s=60.0),
    "queues of 60 for 10 places": queue(60, 900, 10),
    "clips of 4 lengths, 10 in a row": batches(10),
    "clips of 4 lengths, 40 in a row": batches(40),
}
"""By name."""
