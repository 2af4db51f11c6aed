"""
How long a model's jobs take, learned from their ends. Pure: clocks are passed in.

ByteSpike tells no times (contract, section 2), so an end is known only to lie between two reads, and of a job that was
stopped only that it would have lasted longer. What is kept is just that: intervals. The distribution is estimated anew
from the latest ones, so nothing that was once guessed inside an interval is ever taken for seen.

1. Where the pace changed lately, what was before doesn't count: a change point in the ranks of intervals (E. A. Gehan,
   1965, Biometrika 52; N. Mantel, 1967, Biometrics 23).
2. Self-consistent masses of cells, few rounds from an even start (B. W. Turnbull, 1976, J. R. Stat. Soc. B 38).
3. Each cell's mass is spread over the nearest neighbours' distance, so that a wide shape is smoothed widely and each of
   two humps narrowly (D. O. Loftsgaarden, C. P. Quesenberry, 1965, Ann. Math. Stat. 36).
4. A few jobs' worth of a wide shape around the estimate is mixed in: what was never seen stays possible.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import exp, inf, isfinite, log, sqrt
from typing import Final

Interval = tuple[float, float]
"""After the first, and by the second; the second is infinite where a job was stopped."""

PRIOR_JOBS: Final = 2.0
"""How many jobs' word the wide shape has."""
PRIOR_MEDIAN: Final = 1.2
"""Its median, in estimates: these are rather too low than too high (contract, section 4)."""
PRIOR_SHAPE: Final = 2.0
"""It is log-logistic: late on, the rate of ending is `PRIOR_SHAPE` over the time waited so far, whatever its unit."""

HALF_LIFE: Final = 128
"""So many ends later, an end counts for half."""
CHANGE_Z: Final = 4.5
"""Standard deviations from which on a difference between later and earlier ends is a change of pace."""
FEWEST_SIDE: Final = 5
"""Ends on either side of a change."""

QUANTILES: Final = 200
"""Cells are as fine as the intervals' bounds lie close: about so many …"""
FINEST: Final = 0.004
COARSEST: Final = 0.04
"""… no finer and no coarser than these, in logarithms, where something was seen …"""
COARSE: Final = 0.08
MARGIN: Final = 1.6
"""… and a little beside; coarser still where nothing was."""
ABSURD: Final = 1000.0
"""Times or parts of what is expected: no finer distinctions are made beyond."""
ROUNDS: Final = 40
"""More would carve the accidents of a sample into its distribution."""
NEIGHBOURS: Final = 3.0
"""Smoothing takes in a share of ``NEIGHBOURS / sqrt(n)`` of all ends."""


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
    edges = _grid(intervals, centre)
    *masses, beyond = _self_consistent(intervals, weights, edges)
    # so many jobs, each kept by itself, would say as much
    said = sum(weights) ** 2 / sum(weight * weight for weight in weights)
    masses = _spread(masses, edges, NEIGHBOURS / sqrt(said))
    return _with_prior(edges, masses, beyond, centre, jobs=said)


def since_change(intervals: Sequence[Interval]) -> int:
    """
    How many of *intervals*, newest first, come after the last change of pace; all, if there was none.

    Each end has a rank: how many others it surely came after, less how many it surely came before. If nothing has
    changed, the ranks of the newest *m* sum to about 0 for every *m*, and so do their squares, less the mean square:
    the first tells of quicker or slower jobs, the second of wider or narrower spread.
    """
    count = len(intervals)
    lows, highs = sorted(low for low, _ in intervals), sorted(high for _, high in intervals)
    ranks = [bisect_right(highs, low) - (count - bisect_left(lows, high)) for low, high in intervals]
    mean_square = sum(rank * rank for rank in ranks) / count
    found, best = count, CHANGE_Z
    for scores in (ranks, [rank * rank - mean_square for rank in ranks]):
        deviation = sqrt(sum(score * score for score in scores) / max(count * (count - 1), 1))
        for newest, total in enumerate(accumulate(scores[: count - FEWEST_SIDE]), start=1):
            if newest >= FEWEST_SIDE and deviation > 0:
                z = abs(total) / sqrt(newest * (count - newest)) / deviation
                if z > best:
                    found, best = newest, z
    return found


def _grid(intervals: Sequence[Interval], centre: float) -> list[float]:
    """Edges of cells, fine where many of the intervals' bounds are, which count as less absurd than they may be."""
    earliest, latest = centre / ABSURD, centre * ABSURD
    known = (bound for interval in intervals for bound in interval if 0 < bound < inf)
    bounds = sorted(min(max(bound, earliest), latest) for bound in known)
    count = len(bounds)
    edges = [bounds[0] / MARGIN]
    knots = [bounds[min(int((i + 0.5) * count / QUANTILES), count - 1)] for i in range(QUANTILES)]
    for knot in [*knots, bounds[-1] * MARGIN]:
        start, gap = edges[-1], log(knot / edges[-1])
        if gap >= FINEST:
            parts = int(gap / COARSEST) + 1
            edges += [start * exp(gap * part / parts) for part in range(1, parts + 1)]
    return edges


def _self_consistent(intervals: Sequence[Interval], weights: Sequence[float], edges: Sequence[float]) -> list[float]:
    """The mass of each cell, and last that of all beyond; sums over ranges keep a round linear."""
    cells = len(edges) - 1
    ranges = []
    for low, high in intervals:
        last = cells + 1 if high == inf else max(_nearest(edges, high), 1)
        ranges.append((min(_nearest(edges, low), last - 1), last))
    masses = [*(log(b / a) for a, b in pairwise(edges)), COARSE]
    total = sum(weights)
    for _ in range(ROUNDS):
        cumulated = [0.0, *accumulate(masses)]
        changes = [0.0] * (cells + 2)
        for (first, last), weight in zip(ranges, weights, strict=True):
            inside = cumulated[last] - cumulated[first]
            if inside > 0:
                changes[first] += weight / inside
                changes[last] -= weight / inside
        masses = [mass * max(share, 0.0) / total for mass, share in zip(masses, accumulate(changes), strict=False)]
    return masses


def _nearest(edges: Sequence[float], x: float) -> int:
    above = bisect_left(edges, x)
    if above in (0, len(edges)):
        return min(above, len(edges) - 1)
    return above if edges[above] * edges[above - 1] < x * x else above - 1


def _spread(masses: Sequence[float], edges: Sequence[float], share: float) -> list[float]:
    """Each cell's mass, evenly over the cells around it that hold *share* of all."""
    count = len(masses)
    places = [log(edge) for edge in edges]
    cumulated = [0.0, *accumulate(masses)]
    wanted = min(share, 1.0) * cumulated[-1]
    changes = [0.0] * (count + 1)
    for cell, mass in enumerate(masses):
        if mass <= 0:
            continue
        first, last = cell, cell + 1
        middle = (places[first] + places[last]) / 2
        while cumulated[last] - cumulated[first] < wanted and last - first < count:
            if last == count or (first > 0 and middle - places[first - 1] < places[last + 1] - middle):
                first -= 1
            else:
                last += 1
        density = mass / (places[last] - places[first])
        changes[first] += density
        changes[last] -= density
    widths = (b - a for a, b in pairwise(places))
    return [max(density, 0.0) * width for density, width in zip(accumulate(changes), widths, strict=False)]


def _with_prior(
    edges: Sequence[float], masses: Sequence[float], beyond: float, centre: float, *, jobs: float
) -> Durations:
    """What was seen of so many *jobs*, on wider cells, with `PRIOR_JOBS` more of the wide shape around *centre*."""
    low, high = [], []
    edge = edges[0]
    while edge > min(centre / 32, edges[0] / 2):
        edge /= 1 + COARSE
        low.append(edge)
    edge = edges[-1]
    while edge < max(centre * 32, edges[-1] * 8):
        edge *= 1 + COARSE
        high.append(edge)
    wide = [*reversed(low), *edges, *high]
    shares = [_prior(edge / centre) for edge in wide]
    shares[0], shares[-1] = 0.0, 1.0
    unseen = [b - a for a, b in pairwise(shares)]
    after = len(low) + len(masses)
    late = sum(unseen[after:])
    # of what lasts longer than anything seen, only the wide shape says how long
    seen = [0.0] * len(low) + list(masses) + [beyond * share / late for share in unseen[after:]]
    weight = jobs / (jobs + PRIOR_JOBS)
    return Durations(wide, [weight * a + (1 - weight) * b for a, b in zip(seen, unseen, strict=True)])


def _prior(x: float) -> float:
    return 1 / (1 + (PRIOR_MEDIAN / x) ** PRIOR_SHAPE) if x > 0 else 0.0
