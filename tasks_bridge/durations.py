"""
How long a model's jobs take, learned from their ends. Pure: clocks are passed in.

ByteSpike tells no times (contract, section 2), so an end is known only to lie between two reads, and of a job that was
stopped only that it would have lasted longer. What is kept is just that: intervals. The distribution is estimated anew
from the latest ones, so nothing that was once guessed inside an interval is ever taken for seen.

1. Cells between the intervals' bounds get masses that agree with the intervals, in a few rounds from a wide shape
   around the estimate (B. W. Turnbull, 1976, J. R. Stat. Soc. B 38). As the looks that found the ends lie close
   together, these masses are anything but smooth, and a schedule would follow each accident.
2. So they only begin a mixture of few lognormal humps, fitted to the same intervals (A. P. Dempster, N. M. Laird,
   D. B. Rubin, 1977, J. R. Stat. Soc. B 39): narrow, wide, skewed, one or several.
3. A few jobs' worth of the wide shape is always part of it: what was never seen stays possible.
4. Where the latest ends contradict it, the pace has changed, and what was before doesn't count (R. H. Berk,
   D. H. Jones, 1979, Z. Wahrscheinlichkeitstheorie verw. Geb. 47).
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import exp, inf, isfinite, log, sqrt
from operator import add, mul
from typing import Final

Interval = tuple[float, float]
"""After the first, and by the second; the second is infinite where a job was stopped."""

Hump = tuple[float, float, float]
"""Share of all, and mean and variance of the logarithm."""

PRIOR_JOBS: Final = 2.0
"""How many jobs' word the wide shape has."""
PRIOR_MEDIAN: Final = 1.2
"""Its median, in estimates: these are rather too low than too high (contract, section 4)."""
PRIOR_SHAPE: Final = 2.0
"""It is log-logistic: late on, the rate of ending is `PRIOR_SHAPE` over the time waited so far, whatever its unit."""

HALF_LIFE: Final = 128
"""So many ends later, an end counts for half."""

QUANTILES: Final = 100
"""Cells are as fine as the intervals' bounds lie close: about so many …"""
FINEST: Final = 0.0005
COARSEST: Final = 0.06
"""… no finer and no coarser than these, in logarithms, …"""
REACH: Final = 32
"""… over all that was seen, and up to so many times or parts of what is expected."""
ABSURD: Final = 1000.0
"""Times or parts of what is expected: no finer distinctions are made beyond."""

FIRST_ROUNDS: Final = 8
"""More would carve the accidents of a sample into its masses."""
HUMPS: Final = 5
"""Most humps to begin with …"""
ENDS_PER_HUMP: Final = 4
FEWEST_IN_HUMP: Final = 2.0
"""… and one for which there are fewer ends than this is given up."""
ROUNDS: Final = 25
HASTE: Final = 1.8
"""Each round goes so many times as far as it would: from 2 on, that need not lead anywhere."""
WIDTH_ENDS: Final = 2.0
"""How many ends' word it has that a hump is as wide as they are on average."""
NARROWEST: Final = FINEST**2
WIDEST: Final = 9.0
"""Bounds of a hump's variance, in logarithms."""
FAR: Final = 6.0
"""Standard deviations from its middle, beyond which nothing of a hump is looked for."""
TINY: Final = 1e-300

SURPRISE: Final = 8.0
"""Of the latest ends, from which on their pace is another one: some 1 in exp(8) such surprises is chance."""
LEVELS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.98, 0.99)
"""Shares of all ends by which the latest are compared with the others."""


@dataclass(frozen=True, slots=True)
class End:
    """The end of one job, as far as it is known. Seconds since ByteSpike accepted it."""

    at: float
    """When it was seen, in seconds since the epoch on the store's clock."""
    after_s: float
    """It was still under way then …"""
    by_s: float
    """… and over by then; infinite for a job that was stopped before."""
    estimate_s: float
    """What was expected of it."""
    polls: int
    """Reads that it took."""
    learned: bool = False
    """Whether these followed learned countdowns."""
    called: bool | None = None
    """Whether ByteSpike's callback told of it; None if none was asked for."""
    jobs: int = 1
    """How many it stands for: those that came too soon after it to be kept."""

    def to_json(self) -> str:
        """The stored form: ``[at, after_s, by_s or null, estimate_s, polls, learned, called]``."""
        by_s = round(self.by_s, 3) if self.is_seen else None
        times = [round(self.at, 3), round(self.after_s, 3), by_s, round(self.estimate_s, 3)]
        return json.dumps([*times, self.polls, self.learned, self.called], separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes, *, jobs: int = 1) -> End | None:
        """Read the stored form; None for what makes no sense, which some other version may have written."""
        try:
            at, after_s, by_s, estimate_s, polls, learned, called = json.loads(text)
            end = cls(
                at=float(at),
                after_s=float(after_s),
                by_s=inf if by_s is None else float(by_s),
                estimate_s=float(estimate_s),
                polls=int(polls),
                learned=bool(learned),
                called=None if called is None else bool(called),
                jobs=jobs,
            )
        except (ValueError, TypeError, OverflowError):
            return None
        is_sound = isfinite(end.at) and isfinite(end.estimate_s) and isfinite(end.after_s) and end.polls >= 0
        return end if is_sound and end.estimate_s > 0 and 0 <= end.after_s < end.by_s else None

    @property
    def is_seen(self) -> bool:
        """Whether it ended by itself."""
        return self.by_s < inf

    @property
    def accepted_at(self) -> float:
        """When ByteSpike accepted the job, on the store's clock."""
        return self.at - self.known_s

    @property
    def known_s(self) -> float:
        """How long it lasted at most, or at least if it was stopped."""
        return self.by_s if self.is_seen else self.after_s


class Durations:
    """A distribution: the masses of adjoining cells, even within each."""

    __slots__ = ("cumulated", "edges", "masses", "moments")

    def __init__(self, edges: Sequence[float], masses: Sequence[float]) -> None:
        """*edges* rise and are one more than *masses*, which need not sum to 1."""
        total = sum(masses)
        self.edges = list(edges)
        self.masses = [mass / total for mass in masses]
        self.cumulated = [0.0, *accumulate(self.masses)]
        middles = (mass * (a + b) / 2 for mass, a, b in zip(self.masses, self.edges, self.edges[1:], strict=False))
        self.moments = [0.0, *accumulate(middles)]
        """The first moment of what lies below each edge."""

    def scaled(self, factor: float) -> Durations:
        """The same in another unit, *factor* of which is this one."""
        return Durations([edge * factor for edge in self.edges], self.masses)

    def below(self, x: float) -> tuple[float, float]:
        """The probability of ending by *x*, and the first moment of that part."""
        edges = self.edges
        if x <= edges[0]:
            return 0.0, 0.0
        if x >= edges[-1]:
            return self.cumulated[-1], self.moments[-1]
        cell = bisect_right(edges, x) - 1
        mass = self.masses[cell] * (x - edges[cell]) / (edges[cell + 1] - edges[cell])
        return self.cumulated[cell] + mass, self.moments[cell] + mass * (edges[cell] + x) / 2

    def quantile(self, share: float) -> float:
        """By when *share* of all have ended."""
        cell = min(max(bisect_left(self.cumulated, share) - 1, 0), len(self.masses) - 1)
        mass, a, b = self.masses[cell], self.edges[cell], self.edges[cell + 1]
        part = (share - self.cumulated[cell]) / mass if mass > 0 else 1.0
        return a + (b - a) * min(max(part, 0.0), 1.0)

    def between(self, low: float, high: float, parts: int) -> list[float]:
        """Values that stand for equal *parts* of what ends between *low* and *high*."""
        first, last = self.below(low)[0], self.below(high)[0]
        if last - first <= 0:
            return [low + (high - low) * (part + 0.5) / parts for part in range(parts)]
        shares = (first + (last - first) * (part + 0.5) / parts for part in range(parts))
        return [min(max(self.quantile(share), low), high) for share in shares]

    def left(self, elapsed: float) -> float:
        """Half of those that have lasted for *elapsed* take longer than this from then on."""
        ended = self.below(elapsed)[0]
        if elapsed >= self.edges[-1] or ended >= 1:
            return elapsed * (2 ** (1 / PRIOR_SHAPE) - 1)
        return self.quantile((1 + ended) / 2) - elapsed


def estimate(intervals: Sequence[Interval], jobs: Sequence[int], centre: float) -> Durations:
    """
    The distribution that *intervals*, newest first, come from.

    Args:
        intervals: At least one, with an upper bound.
        jobs: How many each of them stands for.
        centre: Around what to expect the unseen.
    """
    weights = [count * 0.5 ** (age / HALF_LIFE) for age, count in enumerate(jobs)]
    # so many jobs, each kept by itself, would say as much
    said = sum(weights) ** 2 / sum(weight * weight for weight in weights)
    share = said / sum(weights)
    edges = _grid(intervals, centre)
    cells = _Cells(edges, _ranges(intervals, [weight * share for weight in weights], edges))
    unseen = _prior(edges, centre)
    masses = unseen
    for _ in range(FIRST_ROUNDS):
        # what rounding leaves below nothing is nothing
        masses = [mass * max(seen, 0.0) / said for mass, seen in zip(masses, cells.seen(masses), strict=True)]
    return Durations(edges, _fit(cells, masses, unseen, said))


def since_change(intervals: Sequence[Interval], durations: Durations) -> int:
    """
    How many of *intervals*, newest first, come after a change of pace; all, if there was none.

    Args:
        intervals: As seen.
        durations: What was estimated of all of them.

    At each of the `LEVELS` the share of the newest *m* that ended by then is compared with that of the others, for
    every *m*: the logarithm of how much likelier both are if they differ. Of an end that may have been before or
    after counts what *durations* say of it, so looks that became closer or rarer are no change.
    """
    count, found, best = len(intervals), len(intervals), SURPRISE
    ranks = [(durations.below(low)[0], durations.below(high)[0]) for low, high in intervals]
    for level in LEVELS:
        ended = [1.0 if b <= level else 0.0 if a >= level else (level - a) / (b - a) for a, b in ranks]
        total = sum(ended)
        mean = total / count
        spread = mean * (1 - mean)
        if spread <= 0:
            continue
        for newest, of_newest in enumerate(accumulate(ended[:-1]), start=1):
            older = count - newest
            # the surprise is never above this, which takes no logarithm
            if (of_newest - newest * mean) ** 2 * count <= best * spread * newest * older:
                continue
            surprise = _divergence(of_newest, newest, mean) + _divergence(total - of_newest, older, mean)
            if surprise > best:
                found, best = newest, surprise
    return found


def _divergence(ended: float, count: int, mean: float) -> float:
    """Of *ended* in *count* from *mean*, in nats."""
    still = count - ended
    return (ended * log(ended / count / mean) if ended > 0 else 0.0) + (
        still * log(still / count / (1 - mean)) if still > 0 else 0.0
    )


def _grid(intervals: Sequence[Interval], centre: float) -> list[float]:
    """Edges of cells, fine where many of the intervals' bounds are, which count as less absurd than they may be."""
    earliest, latest = centre / ABSURD, centre * ABSURD
    known = (bound for interval in intervals for bound in interval if 0 < bound < inf)
    bounds = sorted(min(max(bound, earliest), latest) for bound in known)
    first, last, count = bounds[0], bounds[-1], len(bounds)
    edges = [min(centre / REACH, first / 2)]
    for number in range(QUANTILES):
        _extend(edges, bounds[int((number + 0.5) * count / QUANTILES)])
    _extend(edges, max(centre * REACH, last * 4))
    return edges


def _extend(edges: list[float], to: float) -> None:
    """Go on with cells up to *to*, unless that is too near."""
    start = edges[-1]
    gap = log(to / start)
    if gap >= FINEST:
        parts = int(gap / COARSEST) + 1
        edges += [start * exp(gap * part / parts) for part in range(1, parts + 1)]


def _ranges(
    intervals: Sequence[Interval], weights: Sequence[float], edges: Sequence[float]
) -> dict[tuple[int, int], float]:
    """The weights of ranges of cells, from one to before another."""
    count, ranges = len(edges) - 1, dict[tuple[int, int], float]()
    for (low, high), weight in zip(intervals, weights, strict=True):
        last = count if high == inf else max(_nearest(edges, high), 1)
        cells = (min(_nearest(edges, low), last - 1), last)
        ranges[cells] = ranges.get(cells, 0.0) + weight
    return ranges


def _nearest(edges: Sequence[float], x: float) -> int:
    above = bisect_left(edges, x)
    if above in (0, len(edges)):
        return min(above, len(edges) - 1)
    return above if edges[above] * edges[above - 1] < x * x else above - 1


def _prior(edges: Sequence[float], centre: float) -> list[float]:
    """Masses of the wide shape."""
    ended = [1 / (1 + (PRIOR_MEDIAN * centre / edge) ** PRIOR_SHAPE) for edge in edges]
    ended[0], ended[-1] = 0.0, 1.0
    return [b - a for a, b in pairwise(ended)]


class _Cells:
    """Adjoining cells, on a logarithmic scale, and the ranges of them in which something ended."""

    def __init__(self, edges: Sequence[float], ranges: Mapping[tuple[int, int], float]) -> None:
        places = [log(edge) for edge in edges]
        self.widths = [b - a for a, b in pairwise(places)]
        self.middles = [(a + b) / 2 for a, b in pairwise(places)]
        self.squares = [middle * middle for middle in self.middles]
        self._ranges = [(first, last, weight) for (first, last), weight in ranges.items()]

    def seen(self, masses: Sequence[float]) -> list[float]:
        """How much was seen in each cell per mass, if *masses* tell where in its range an end is."""
        cumulated = [0.0, *accumulate(masses)]
        changes = [0.0] * len(cumulated)
        for first, last, weight in self._ranges:
            inside = cumulated[last] - cumulated[first]
            if inside > 0:
                changes[first] += weight / inside
                changes[last] -= weight / inside
        return list(accumulate(changes[:-1]))

    def moments(self, first: int, masses: Sequence[float]) -> tuple[float, float, float]:
        """Of *masses* from the *first* cell on: their sum, and the mean and variance of the logarithms."""
        total = sum(masses)
        if total <= TINY:
            return 0.0, 0.0, 0.0
        last = first + len(masses)
        mean = sum(map(mul, masses, self.middles[first:last])) / total
        return total, mean, max(sum(map(mul, masses, self.squares[first:last])) / total - mean * mean, 0.0)

    def masses(self, hump: Hump) -> tuple[int, list[float]]:
        """Of a hump: its first cell, and what is in that and in those that follow."""
        share, mean, variance = hump
        reach, scale = FAR * sqrt(variance), -0.5 / variance
        first = min(bisect_left(self.middles, mean - reach), len(self.middles) - 1)
        last = max(bisect_left(self.middles, mean + reach), first + 1)
        masses = [
            width * exp(scale * (middle - mean) ** 2)
            for width, middle in zip(self.widths[first:last], self.middles[first:last], strict=True)
        ]
        # a single cell far away is where what is beyond all cells counts
        factor = share / max(sum(masses), TINY)
        return first, [mass * factor for mass in masses]


def _fit(cells: _Cells, masses: Sequence[float], unseen: Sequence[float], said: float) -> list[float]:
    """The masses of a mixture of humps with what was *unseen*; the humps begin as equal parts of *masses*."""
    seen = said / (said + PRIOR_JOBS)
    humps = _parts(cells, masses, max(min(HUMPS, int(said / ENDS_PER_HUMP)), 1))
    for _ in range(ROUNDS):
        usual = sum(share * variance for share, _, variance in humps)
        rows = [cells.masses((seen * share, mean, variance)) for share, mean, variance in humps]
        per_mass = cells.seen(_sum(rows, unseen, 1 - seen))
        moved = []
        for (_, mean, variance), (first, row) in zip(humps, rows, strict=True):
            ends, to_mean, to_variance = cells.moments(first, list(map(mul, row, per_mass[first:])))
            if ends < (FEWEST_IN_HUMP if len(humps) > 1 else TINY):
                continue
            to_variance = (to_variance * ends + usual * WIDTH_ENDS) / (ends + WIDTH_ENDS)
            faster = variance * (to_variance / variance) ** HASTE
            moved.append((ends, mean + HASTE * (to_mean - mean), min(max(faster, NARROWEST), WIDEST)))
        humps = moved or humps
        total = sum(ends for ends, _, _ in humps)
        humps = [(ends / total, mean, variance) for ends, mean, variance in humps]
    return _sum([cells.masses((seen * share, mean, variance)) for share, mean, variance in humps], unseen, 1 - seen)


def _sum(rows: Sequence[tuple[int, Sequence[float]]], unseen: Sequence[float], share: float) -> list[float]:
    """The masses of all humps together with their *share* of *unseen*."""
    masses = [mass * share for mass in unseen]
    for first, row in rows:
        last = first + len(row)
        masses[first:last] = map(add, masses[first:last], row)
    return masses


def _parts(cells: _Cells, masses: Sequence[float], count: int) -> list[Hump]:
    """So many humps, side by side, each with as much of *masses*."""
    cumulated = list(accumulate(masses))
    bounds = [bisect_left(cumulated, cumulated[-1] * part / count) for part in range(1, count)]
    humps = []
    for first, last in pairwise([0, *bounds, len(masses) - 1]):
        _, mean, variance = cells.moments(first, masses[first : last + 1])
        humps.append((1 / count, mean, variance + NARROWEST))
    return humps
