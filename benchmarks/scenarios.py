"""How long remote jobs might take, and what is told of it beforehand. Pure: chance is passed in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log
from random import Random
from statistics import NormalDist
from typing import Final, Protocol

NORMAL: Final = NormalDist()


class Truth(Protocol):
    """A distribution of durations, exactly."""

    @property
    def mean(self) -> float:
        """In seconds."""

    def ended_by(self, x: float) -> float:
        """The probability of lasting no longer than *x* seconds."""

    def quantile(self, share: float) -> float:
        """By when *share* of all have ended; *share* is in [0, 1)."""


@dataclass(frozen=True)
class LogNormal:
    """Most jobs near a typical duration, a few far longer."""

    mean: float
    sigma: float
    """Of the logarithm: 0.05 is within 5 % or so, 0.35 within 40 %."""

    def ended_by(self, x: float) -> float:
        """See `Truth`."""
        return 0.0 if x <= 0 else NORMAL.cdf((log(x / self.mean) + self.sigma**2 / 2) / self.sigma)

    def quantile(self, share: float) -> float:
        """See `Truth`."""
        return self.mean * exp(self.sigma * NORMAL.inv_cdf(min(max(share, 1e-12), 1 - 1e-12)) - self.sigma**2 / 2)


@dataclass(frozen=True)
class Pareto:
    """None below *least*; beyond, the longer a job has taken the longer it is still going to take."""

    least: float
    shape: float

    @property
    def mean(self) -> float:
        """See `Truth`."""
        return self.least * self.shape / (self.shape - 1)

    def ended_by(self, x: float) -> float:
        """See `Truth`."""
        return 0.0 if x <= self.least else 1 - (self.least / x) ** self.shape

    def quantile(self, share: float) -> float:
        """See `Truth`."""
        return self.least * float((1 - share) ** (-1 / self.shape))


@dataclass(frozen=True)
class Uniform:
    """Anything between *least* and *most* is as likely."""

    least: float
    most: float

    @property
    def mean(self) -> float:
        """See `Truth`."""
        return (self.least + self.most) / 2

    def ended_by(self, x: float) -> float:
        """See `Truth`."""
        return min(max((x - self.least) / (self.most - self.least), 0.0), 1.0)

    def quantile(self, share: float) -> float:
        """See `Truth`."""
        return self.least + (self.most - self.least) * share


@dataclass(frozen=True)
class Exponential:
    """How long a job has taken tells nothing of how long it still will."""

    mean: float

    def ended_by(self, x: float) -> float:
        """See `Truth`."""
        return 1 - exp(-max(x, 0.0) / self.mean)

    def quantile(self, share: float) -> float:
        """See `Truth`."""
        return -self.mean * log(1 - share)


@dataclass(frozen=True)
class Either:
    """Two kinds of jobs, *share* of them the first: cached or not, short clips and long ones."""

    first: Truth
    second: Truth
    share: float

    @property
    def mean(self) -> float:
        """See `Truth`."""
        return self.share * self.first.mean + (1 - self.share) * self.second.mean

    def ended_by(self, x: float) -> float:
        """See `Truth`."""
        return self.share * self.first.ended_by(x) + (1 - self.share) * self.second.ended_by(x)

    def quantile(self, share: float) -> float:
        """Not that of the mixture, but with *share* drawn evenly the result is drawn from it."""
        if share < self.share:
            return self.first.quantile(share / self.share)
        return self.second.quantile((share - self.share) / (1 - self.share))


@dataclass(frozen=True)
class Job:
    """One remote job."""

    estimate_s: float
    duration_s: float
    kind: int
    """Which of its scenario's kinds it is of."""


@dataclass(frozen=True)
class Scenario:
    """A service: kinds of jobs with their estimates, all equally frequent, and how it is after a change."""

    name: str
    kinds: Sequence[tuple[float, Truth]]
    """Of each kind, the estimate in seconds and the durations."""
    later: Sequence[tuple[float, Truth]] | None = None
    """The same from the middle on; None for a service that stays as it is."""

    def jobs(self, random: Random, count: int, *, after: int | None = None) -> list[Job]:
        """*count* jobs, the service being changed *after* so many."""
        made = []
        for number in range(count):
            kinds = self.later if self.later is not None and after is not None and number >= after else self.kinds
            kind = random.randrange(len(kinds))
            estimate_s, truth = kinds[kind]
            made.append(Job(estimate_s, truth.quantile(random.random()), kind))
        return made


USUAL: Final = LogNormal(105, 0.35)
TIGHT: Final = LogNormal(105, 0.05)
HUMPS: Final = Either(LogNormal(45, 0.08), LogNormal(150, 0.08), 0.6)

STATIONARY: Final = (
    Scenario("tight, 5 %", [(105, TIGHT)]),
    Scenario("wide, 35 %", [(105, USUAL)]),
    Scenario("very wide, 70 %", [(105, LogNormal(105, 0.7))]),
    Scenario("heavy tail: Pareto 1.75", [(105, Pareto(45, 1.75))]),
    Scenario("two humps: 45 and 150 s", [(105, HUMPS)]),
    Scenario("estimate 1.6 times too low", [(66, USUAL)]),
    Scenario("estimate 2 times too high", [(210, USUAL)]),
    Scenario("estimates from 30 to 180 s", [(e, LogNormal(1.1 * e, 0.2)) for e in (30, 60, 105, 180)]),
    Scenario("estimates that say nothing", [(e, LogNormal(105, 0.2)) for e in (30, 60, 105, 180)]),
    Scenario("short, 14 s, 30 %", [(12, LogNormal(14, 0.3))]),
)

FURTHER: Final = (
    Scenario("exponential, 60 s", [(60, Exponential(60))]),
    Scenario("uniform, 20 to 200 s", [(100, Uniform(20, 200))]),
    Scenario("heavier tail: Pareto 1.3", [(60, Pareto(30, 1.3))]),
    Scenario(
        "20 or 200 s, estimates that say nothing",
        [(e, Either(LogNormal(20, 0.1), LogNormal(200, 0.1), 0.5)) for e in (15, 40, 90, 250)],
    ),
    Scenario("40 s, one in seven 300 s", [(60, Either(LogNormal(40, 0.12), LogNormal(300, 0.2), 0.85))]),
    Scenario("one in four fails at once", [(60, Either(Uniform(0.2, 1), LogNormal(70, 0.2), 0.25))]),
    Scenario("very short, 6 s, 10 %", [(8, LogNormal(6, 0.1))]),
)
"""Services that stay as they are, too, and are less usual."""

CHANGING: Final = (
    Scenario("wide, slows down 1.6 times", [(105, USUAL)], [(105, LogNormal(168, 0.35))]),
    Scenario("tight, slows down 1.6 times", [(105, TIGHT)], [(105, LogNormal(168, 0.05))]),
    Scenario("tight, slows down 2.5 times", [(105, TIGHT)], [(105, LogNormal(262, 0.05))]),
    Scenario("wide, gets 2 times quicker", [(105, USUAL)], [(105, LogNormal(52, 0.35))]),
    Scenario("tight, gets 1.6 times quicker", [(105, TIGHT)], [(105, LogNormal(66, 0.05))]),
    Scenario("two humps become one", [(105, HUMPS)], [(105, USUAL)]),
)
