from __future__ import annotations

import json
from itertools import pairwise
from math import exp, inf, isfinite
from random import Random
from statistics import NormalDist

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks_bridge.durations import Durations, End, Interval, estimate, since_change

NORMAL = NormalDist()


def lognormal(random: Random, middle: float, sigma: float) -> float:
    return middle * exp(sigma * random.gauss(0, 1))


def seen_between_looks(duration: float, every: float, random: Random) -> Interval:
    """What looks about so far apart say of it."""
    low, high = 0.0, 0.0
    while high < duration:
        low, high = high, high + every * random.uniform(0.9, 1.1)
    return low, high


def intervals(count: int, middle: float, sigma: float, *, every: float = 1 / 6, seed: int = 1) -> list[Interval]:
    random = Random(seed)
    return [seen_between_looks(lognormal(random, middle, sigma), every, random) for _ in range(count)]


# -- ends as they are kept --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "end",
    [
        End(1795392000.25, 85.125, 102.5, 105.0, 6),
        End(1795392000.25, 0.0, 102.5, 105.0, 1, learned=True, called=True),
        End(1795392000.25, 85.125, inf, 30.0, 0, learned=True, called=False, jobs=17),
    ],
)
def test_an_end_survives_being_kept(end: End) -> None:
    assert End.from_json(end.to_json()) == End(**{**{f: getattr(end, f) for f in end.__slots__}, "jobs": 1})
    assert End.from_json(end.to_json(), jobs=end.jobs) == end


@given(
    st.one_of(
        st.text(),
        st.binary(),
        st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists).map(json.dumps),
        st.lists(st.floats() | st.none() | st.booleans(), max_size=9).map(json.dumps),
    )
)
def test_what_makes_no_sense_is_no_end(text: str | bytes) -> None:
    end = End.from_json(text)

    assert end is None or (0 <= end.after_s < end.by_s and isfinite(end.at) and end.estimate_s > 0)


# -- the distribution -------------------------------------------------------------------------------------------------


def test_a_distribution_knows_its_quantiles_and_what_is_left() -> None:
    even = Durations([0, 10, 20], [1, 3])

    assert [even.quantile(share) for share in (0, 0.125, 0.25, 0.625, 1)] == pytest.approx([0, 5, 10, 15, 20])
    assert even.below(15) == pytest.approx((0.625, 0.25 * 5 + 0.375 * 12.5))
    assert even.left(10) == pytest.approx(5)
    assert even.left(30) > 0, "it may always last longer than anything seen"
    assert even.between(10, 20, 2) == pytest.approx([12.5, 17.5])
    assert even.scaled(3).quantile(0.25) == pytest.approx(30)


@pytest.mark.parametrize("sigma", [0.05, 0.35, 0.7])
def test_the_shape_is_found_though_looks_are_far_apart(sigma: float) -> None:
    found = estimate(intervals(250, 1.0, sigma), [1] * 250, 1.0)

    for share in (0.1, 0.25, 0.5, 0.75, 0.9):
        true = exp(sigma * NORMAL.inv_cdf(share))
        assert found.quantile(share) == pytest.approx(true, rel=0.04 + 0.15 * sigma), f"quantile {share}"


def test_two_humps_stay_two() -> None:
    humps = [x for pair in zip(intervals(100, 0.4, 0.08), intervals(100, 1.5, 0.08, seed=2), strict=True) for x in pair]

    found = estimate(humps, [1] * 200, 1.0)

    assert found.below(0.55)[0] == pytest.approx(0.5, abs=0.05)
    assert found.below(1.1)[0] - found.below(0.6)[0] < 0.05, "expected next to nothing in between"


def test_two_kinds_of_jobs_that_are_far_apart_are_each_found_to_be_narrow() -> None:
    usual, rare = intervals(170, 0.8, 0.03, every=0.05), intervals(30, 3.3, 0.03, every=0.05, seed=2)
    seen = usual + rare
    Random(3).shuffle(seen)

    found = estimate(seen, [1] * 200, 1.0)

    spread = found.quantile(0.8) / found.quantile(0.05)
    assert spread == pytest.approx(exp(0.03 * 2 * NORMAL.inv_cdf(0.8 / 0.85)), abs=0.03)
    assert found.quantile(0.97) / found.quantile(0.88) < 1.08


def test_few_ends_are_not_taken_for_all_that_may_happen() -> None:
    found = estimate([(0.95, 1.0)] * 8, [1] * 8, 1.0)

    assert found.below(0.5)[0] > 0.02
    assert 1 - found.below(2.0)[0] > 0.02


def test_a_job_that_was_stopped_says_that_it_would_have_lasted_longer() -> None:
    seen = intervals(60, 1.0, 0.1)
    stopped = [(1.5, inf)] * 20

    assert estimate(seen, [1] * 60, 1.0).below(1.5)[0] > 0.95
    assert estimate(stopped + seen, [1] * 80, 1.0).below(1.5)[0] < 0.8


def test_an_end_that_stands_for_many_counts_for_many() -> None:
    quick, slow = intervals(30, 0.5, 0.1), intervals(30, 2.0, 0.1, seed=2)
    mixed = [interval for pair in zip(quick, slow, strict=True) for interval in pair]

    assert estimate(mixed, [9, 1] * 30, 1.0).below(1.0)[0] == pytest.approx(0.9, abs=0.05)


def test_later_ends_count_for_more() -> None:
    slow, quick = intervals(128, 1.3, 0.3), intervals(128, 1.0, 0.3, seed=2)

    slower, quicker = (estimate(both, [1] * 256, 1.0).quantile(0.5) for both in (slow + quick, quick + slow))

    assert slower > 1.05 * quicker


bounds = st.floats(0, 1e6, allow_nan=False)
anything = st.tuples(bounds, bounds, st.booleans()).map(
    lambda three: (min(three[0], 1e6), inf if three[2] else max(three[0], three[1]) + 1e-3)
)


@settings(deadline=None)
@given(st.lists(anything, min_size=1, max_size=60), st.floats(0.1, 1e4), st.randoms(use_true_random=False))
def test_whatever_was_seen_gives_a_distribution(seen: list[Interval], centre: float, random: Random) -> None:
    seen.append((0.5, 1.0))

    found = estimate(seen, [random.randint(1, 50) for _ in seen], centre)

    assert all(a < b for a, b in pairwise(found.edges))
    assert all(mass >= 0 for mass in found.masses)
    assert sum(found.masses) == pytest.approx(1)
    assert all(a <= b for a, b in pairwise(found.quantile(share / 20) for share in range(21)))
    assert all(found.left(x) >= 0 for x in (0.0, 1.0, 1e3, 1e9))


# -- changes of pace --------------------------------------------------------------------------------------------------


def counted(seen: list[Interval]) -> int:
    """How many of *seen*, newest first, are found to come after a change."""
    return since_change(seen, estimate(seen, [1] * len(seen), 1.0))


@pytest.mark.parametrize("factor", [1.6, 1 / 1.6])
@pytest.mark.parametrize("sigma", [0.05, 0.35])
def test_a_change_of_pace_is_noticed_and_where_it_happened(factor: float, sigma: float) -> None:
    newer, older = intervals(40, factor, sigma, seed=2), intervals(160, 1.0, sigma)

    assert abs(counted(newer + older) - 40) <= 15


def test_four_ends_are_enough_where_nothing_is_as_it_was() -> None:
    assert counted(intervals(4, 2.5, 0.05, seed=2) + intervals(150, 1.0, 0.05)) == 4


def test_jobs_that_all_were_over_before_the_first_look_are_a_change_though_nothing_tells_since_when() -> None:
    older = intervals(150, 1.0, 0.05, every=0.03)

    assert counted([(0.0, 0.93)] * 5 + older) == 5


def test_a_wider_or_narrower_spread_is_a_change_as_well() -> None:
    tight, wide = intervals(60, 1.0, 0.03, every=0.02), intervals(60, 1.0, 0.6, every=0.02)

    assert abs(counted(wide + tight) - 60) <= 10
    assert abs(counted(tight + wide) - 60) <= 10


@pytest.mark.parametrize("sigma", [0.05, 0.35, 0.7])
def test_chance_is_no_change_of_pace(sigma: float) -> None:
    alarms = [counted(intervals(200, 1.0, sigma, seed=seed)) < 200 for seed in range(30)]

    assert sum(alarms) <= 1


def test_looks_that_became_more_exact_are_no_change_of_pace() -> None:
    exact, coarse = intervals(100, 1.0, 0.1, every=0.03, seed=2), intervals(100, 1.0, 0.1)

    assert counted(exact + coarse) == 200
