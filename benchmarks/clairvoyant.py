"""
What looks cost at a service whose durations are known exactly, and the least that they can cost. Pure.

It shares no code with `tasks_bridge.inspection`, so that both cannot be wrong together.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from math import sqrt
from random import Random

from benchmarks.scenarios import Truth

Wait = Callable[[float], float]
"""From the seconds since the job began to those until the next look."""

NEGLIGIBLE = 1e-6


def lag_and_polls(wait_s: Wait, truth: Truth) -> tuple[float, float]:
    """The expected lag in seconds and number of looks; exact, but for what is less likely than `NEGLIGIBLE`."""
    at = ended = 0.0
    lag_s, polls = -truth.mean, 0.0
    while ended < 1 - NEGLIGIBLE:
        polls += 1 - ended
        at += wait_s(at)
        now = truth.ended_by(at)
        lag_s += at * (now - ended)
        ended = now
    return lag_s + (1 - ended) * 2 * at, polls


def jittered(wait_s: Callable[[float, float], float], truth: Truth, random: Random, paths: int) -> tuple[float, float]:
    """The same for waits that depend on chance as well: the mean over so many *paths*."""
    found = [lag_and_polls(lambda at: wait_s(at, random.random()), truth) for _ in range(paths)]
    return sum(lag_s for lag_s, _ in found) / paths, sum(polls for _, polls in found) / paths


def least(truth: Truth, poll_cost_s: float, *, least_s: float, most_s: float) -> Wait:
    """
    The best moments, by dynamic programming over a fine grid; within 0.2 % or so of the best there are.

    Args:
        truth: The durations.
        poll_cost_s: How many seconds of lag one look is worth.
        least_s: Least time between two looks, and before the first.
        most_s: Most.
    """
    top, grid = truth.quantile(0.99995), [0.0]
    while grid[-1] < top:
        grid.append(grid[-1] + max(least_s / 10, 0.002 * grid[-1]))
    is_open = [1 - truth.ended_by(at) for at in grid]
    # time spent open up to each point: the integral of the probability of being open
    spent = [0.0]
    for a, b, before, after in zip(grid, grid[1:], is_open, is_open[1:], strict=False):
        spent.append(spent[-1] + (b - a) * (before + after) / 2)
    count = len(grid)
    cost, look = [0.0] * count, [count - 1] * count
    ahead = [0.0] * count
    late_s = min(max(sqrt(poll_cost_s * top), least_s), most_s)
    for now in range(count - 1, -1, -1):
        first = bisect_left(grid, grid[now] + least_s - 1e-9)
        last = min(bisect_right(grid, grid[now] + most_s + 1e-9), count)
        if first >= last:
            cost[now] = is_open[now] * (poll_cost_s + late_s)
        else:
            choices = [rest + at * is_open[now] for rest, at in zip(ahead[first:last], grid[first:last], strict=True)]
            best = min(choices)
            look[now] = first + choices.index(best)
            cost[now] = best + (poll_cost_s - grid[now]) * is_open[now] + spent[now]
        ahead[now] = cost[now] - spent[now]

    def wait_s(at: float) -> float:
        place = min(bisect_left(grid, at - 1e-6), count - 1)
        return max(grid[look[place]] - at, least_s) if look[place] > place else late_s

    return wait_s
