"""
When to look at something that ends at an unknown time, if looking costs and so does looking late. Pure.

The *inspection problem* (R. E. Barlow, L. C. Hunter, F. Proschan, 1963, J. SIAM 11; J. B. Keller, 1974, Management
Science 21(3)): choose the moments of the looks so that the expected lag between the end and the look that finds it,
plus ``look_cost_s`` for each look, is least. Keller's rule, intervals of ``sqrt(2 * look_cost_s / hazard)``, is good
where the hazard changes little between two looks. It does not see a hump that begins soon. So the best moments are
computed backwards by dynamic programming over a fine grid; the rule serves to space the grid, and beyond it.

Who always looks at the same moments learns nothing of what is between them, and what ended long before a look is taken
for something that ended just before. So a look is rather taken at any moment before now and then: often while nobody
knows when in between something ends, and hardly ever later. That is the trade of exploring and exploiting.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, sqrt
from typing import Final

from tasks_bridge.durations import PRIOR_SHAPE, Durations, Interval

POINTS_PER_LOOK: Final = 6
"""Points of the grid between two looks of the rule: the best look is missed by a twelfth of an interval at most."""
WIDEST_STEP: Final = 0.02
"""Of the time waited, where nothing is expected."""
UNLIKELY: Final = 1e-4
"""The grid ends where only so much is still to come …"""
MOST_POINTS: Final = 1500
"""… or here, whatever the numbers are."""
MOST_EXPLORING: Final = 0.5
"""At most every other look."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the looks must keep to."""

    least_s: float
    most_s: float
    """Between any two looks, and before the first."""
    look_cost_s: float
    """How many seconds of lag one look is worth."""


class Schedule:
    """When to look next, given how long it has lasted."""

    __slots__ = ("_bounds", "_exploring", "_finds", "_lags_s", "_looks", "_moments", "_seen")

    def __init__(
        self,
        moments: list[float],
        looks: list[float],
        lags_s: list[float],
        finds: list[float],
        bounds: Bounds,
        seen: Sequence[Interval],
    ) -> None:
        """
        After a look at each of *moments*, which rise, the next is due at the one of *looks* (infinite: unknown).

        That finds an end with the probability in *finds*; if it does, it is *lags_s* late on average.
        """
        self._moments = moments
        self._looks = looks
        self._lags_s = lags_s
        self._finds = finds
        self._bounds = bounds
        self._seen = seen
        self._exploring: dict[int, float] = {}
        """By place: what was asked for before."""

    def wait_s(self, elapsed_s: float) -> float:
        """Until the next look, after one at *elapsed_s* that found nothing."""
        look_s = self._looks[self._place(elapsed_s)]
        wanted = look_s - elapsed_s if look_s < inf else _late_wait_s(elapsed_s, self._bounds)
        return min(max(wanted, self._bounds.least_s), self._bounds.most_s)

    def lag_s(self, elapsed_s: float) -> float:
        """How late that look is on average if it finds an end."""
        place = self._place(elapsed_s)
        return self._lags_s[place] if self._looks[place] < inf else _late_wait_s(elapsed_s, self._bounds) / 2

    def exploring(self, elapsed_s: float) -> float:
        """
        The probability with which that look should rather be at any moment before.

        That with which it finds an end, over the square of how many ends tell something of the time before it, and one
        more: each of them makes a surprise less likely, and another look less worth while.
        """
        place = self._place(elapsed_s)
        share = self._exploring.get(place)
        if share is None:
            look_s = self._looks[place]
            telling = _telling(self._seen, self._moments[place], look_s) if look_s < inf else 0
            share = self._exploring[place] = min(self._finds[place] / (1 + telling) ** 2, MOST_EXPLORING)
        return share

    def _place(self, elapsed_s: float) -> int:
        moments = self._moments
        place = max(bisect_right(moments, elapsed_s) - 1, 0)
        is_nearer = place + 1 < len(moments) and moments[place + 1] - elapsed_s < elapsed_s - moments[place]
        return place + 1 if is_nearer else place


def plan(durations: Durations, bounds: Bounds, seen: Sequence[Interval] = ()) -> Schedule:
    """
    The schedule that costs least where *durations* are what they are said to be, in seconds.

    Args:
        durations: In seconds.
        bounds: Of the looks.
        seen: The ends that they follow from, in seconds as well.
    """
    moments = _grid(durations, bounds)
    count = len(moments)
    ended, below = zip(*(durations.below(moment) for moment in moments), strict=True)
    looks, lags_s, finds = [inf] * count, [0.0] * count, [0.0] * count
    # what is still to be paid after a look at a moment, times the probability that it comes to that, less a part that
    # depends on that moment alone: so a step compares sums of two terms
    to_come = [0.0] * count
    latest = count
    for now in range(count - 1, -1, -1):
        open_share, ended_now = 1 - ended[now], ended[now]
        first = bisect_left(moments, moments[now] + bounds.least_s, now)
        # who has looked earlier looks again no later (the lag of a step is a Monge array)
        last = min(bisect_right(moments, moments[now] + bounds.most_s, now), latest)
        if first >= last:
            cost = open_share * (bounds.look_cost_s + _late_wait_s(moments[now], bounds))
        else:
            costs = [rest - at * ended_now for rest, at in zip(to_come[first:last], moments[first:last], strict=True)]
            best = min(costs)
            look = first + costs.index(best)
            looks[now], latest = moments[look], look + 1
            found = ended[look] - ended_now
            finds[now] = found / open_share if open_share > 0 else 0.0
            lags_s[now] = moments[look] - (below[look] - below[now]) / found if found > 0 else 0.0
            cost = best + bounds.look_cost_s * open_share + below[now]
        to_come[now] = cost + moments[now] * ended_now - below[now]
    return Schedule(moments, looks, lags_s, finds, bounds, seen)


def expect(wait_s: Callable[[float], float], durations: Durations) -> tuple[float, float]:
    """The expected lag in seconds and number of looks, if *durations* are so and looks follow *wait_s*."""
    elapsed_s = ended = 0.0
    lag_s, looks = -durations.moments[-1], 0.0
    while ended < 1 - UNLIKELY / 10 and elapsed_s < durations.edges[-1]:
        looks += 1 - ended
        elapsed_s += wait_s(elapsed_s)
        now = durations.below(elapsed_s)[0]
        lag_s += elapsed_s * (now - ended)
        ended = now
    return lag_s + elapsed_s * (1 - ended), looks


def _telling(seen: Sequence[Interval], elapsed_s: float, look_s: float) -> int:
    """How many ends tell something of the time between two looks: one parted its middle, or two close ones had them."""
    quarter_s = (look_s - elapsed_s) / 4
    first_s, last_s = elapsed_s + quarter_s, look_s - quarter_s
    return sum(
        first_s < low < last_s
        or first_s < high < last_s
        or (elapsed_s <= low and high <= look_s and high - low <= 2 * quarter_s)
        for low, high in seen
    )


def _late_wait_s(elapsed_s: float, bounds: Bounds) -> float:
    """By Keller's rule, where the hazard falls as one over the time waited."""
    return min(max(sqrt(2 * bounds.look_cost_s * elapsed_s / PRIOR_SHAPE), bounds.least_s), bounds.most_s)


def _grid(durations: Durations, bounds: Bounds) -> list[float]:
    """0 and the moments that may be worth a look, closer together where it is likelier to end."""
    edges, cumulated = durations.edges, durations.cumulated
    densities = [mass / (b - a) for mass, a, b in zip(durations.masses, edges, edges[1:], strict=False)]
    moments, moment, cell = [0.0], bounds.least_s, 0
    while len(moments) < MOST_POINTS and moment < edges[-1]:
        while edges[cell + 1] <= moment:
            cell += 1
        if 1 - cumulated[cell] < UNLIKELY:
            return moments
        moments.append(moment)
        density = densities[cell] if moment >= edges[0] else 0.0
        open_share = 1 - cumulated[cell] - density * (moment - edges[cell])
        wait_s = sqrt(2 * bounds.look_cost_s * max(open_share, 0.0) / density) if density > 0 else inf
        next_moment = moment + min(
            wait_s / POINTS_PER_LOOK, max(moment * WIDEST_STEP, bounds.least_s / POINTS_PER_LOOK)
        )
        # the end of a hump is worth a look more than most
        over_at = edges[cell + 1]
        is_hump = cell + 1 < len(densities) and densities[cell + 1] < density / 2
        moment = over_at if is_hump and moment < over_at < next_moment else next_moment
    return [*moments, max(edges[-1], moments[-1])]
