"""The bounds that the benchmark of the cadence checks, in miniature: the product's own code, and no waiting."""

from __future__ import annotations

from random import Random
from statistics import fmean

import pytest

from benchmarks.clairvoyant import jittered, lag_and_polls, least
from benchmarks.replay import Replay
from benchmarks.scenarios import CHANGING, FURTHER, STATIONARY, Scenario
from tasks_bridge.knowledge import Mode, Pace

PACE = Pace(poll_min_s=2.0, poll_max_s=120.0, poll_cost_s=1.0, callback_poll_factor=4.0)
BY_NAME = {scenario.name: scenario for scenario in (*STATIONARY, *FURTHER, *CHANGING)}


def replayed(scenario: Scenario, seed: int, count: int, *, after: int | None = None) -> tuple[Replay, list[float]]:
    """A service after *count* jobs that came about every 40 s; and what each cost by learned countdowns."""
    random = Random(seed)
    replay, starts_s = Replay(PACE, random), [0.0]
    while len(starts_s) < count:
        starts_s.append(starts_s[-1] + random.expovariate(1 / 40))
    jobs = scenario.jobs(random, count, after=after)
    return replay, [found.cost(PACE.poll_cost_s) for found in replay.run(jobs, starts_s)]


@pytest.mark.parametrize("name", ["tight, 5 %", "wide, 35 %"])
def test_after_200_jobs_countdowns_cost_little_more_than_the_best_there_are(name: str) -> None:
    [(estimate_s, truth)] = BY_NAME[name].kinds
    lag_s, polls = lag_and_polls(least(truth, 1.0, least_s=PACE.poll_min_s, most_s=PACE.poll_max_s), truth)

    ratios = []
    for seed in range(3):
        replay, _ = replayed(BY_NAME[name], seed, 200)
        assert replay.known_after(600).mode is Mode.LEARNED
        ours_s, ours = jittered(replay.waits(estimate_s), truth, Random(seed), paths=5)
        ratios.append((ours_s + ours) / (lag_s + polls))

    assert fmean(ratios) <= 1.10, f"expected at most 1.10 times the least cost: {ratios}"


@pytest.mark.parametrize("seed", range(3))
def test_jobs_that_fail_at_once_are_soon_looked_at_soon_though_no_look_by_habit_tells_when_they_fail(seed: int) -> None:
    replay, _ = replayed(BY_NAME["one in four fails at once"], seed, 100)

    assert replay.known_after(600).mode is Mode.LEARNED
    assert replay.waits(60)(0.0, 0.5) < 10


def test_a_service_that_slows_down_never_costs_more_than_by_the_published_rule() -> None:
    scenario = BY_NAME["wide, slows down 1.6 times"]
    [(estimate_s, truth)] = scenario.later or []
    lag_s, polls = lag_and_polls(lambda _: max(2.0, estimate_s // 6), truth)

    _, costs = replayed(scenario, 1, 240, after=140)

    assert fmean(costs[140:]) <= 1.05 * (lag_s + polls)
