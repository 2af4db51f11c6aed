from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, pairwise
from math import exp, inf, log, sqrt
from statistics import NormalDist

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tasks_bridge.durations import Durations, Interval
from tasks_bridge.inspection import Bounds, expect, plan


def exponential(mean: float) -> Durations:
    edges = [mean * share for share in (*(i / 100 for i in range(1200)), 12)]
    return Durations(edges, [exp(-a / mean) - exp(-b / mean) for a, b in pairwise(edges)])


def lognormal(middle: float, sigma: float) -> Durations:
    normal = NormalDist(log(middle), sigma)
    edges = [middle * exp(sigma * step / 20) for step in range(-100, 101)]
    return Durations(edges, [normal.cdf(log(b)) - normal.cdf(log(a)) for a, b in pairwise(edges)])


def cost(wait_s: Callable[[float], float], durations: Durations, look_cost_s: float) -> float:
    lag_s, looks = expect(wait_s, durations)
    return lag_s + look_cost_s * looks


def following(moments: list[float], then: float) -> Callable[[float], float]:
    """Looks at *moments*, and every *then* seconds after the last."""
    return lambda elapsed_s: next((at - elapsed_s for at in moments if at > elapsed_s + 1e-9), then)


def looks(durations: Durations, bounds: Bounds, until: float) -> list[float]:
    schedule, found = plan(durations, bounds), [0.0]
    while found[-1] < until:
        found.append(found[-1] + schedule.wait_s(found[-1]))
    return found[1:]


def test_what_to_expect_of_looks_is_what_they_cost() -> None:
    even = Durations([0, 60], [1])

    lag_s, count = expect(lambda _: 10.0, even)

    assert (lag_s, count) == pytest.approx((5, 3.5))


@pytest.mark.parametrize("look_cost_s", [0.3, 1, 3])
def test_where_nothing_tells_when_it_ends_looks_are_evenly_spaced(look_cost_s: float) -> None:
    mean = 100.0
    # the exact optimum of a constant hazard: exp(x) - 1 - x = k / mean, where x is the interval in means
    interval = mean * min((x / 1e4 for x in range(1, 10_000)), key=lambda x: abs(exp(x) - 1 - x - look_cost_s / mean))
    schedule = plan(exponential(mean), Bounds(0.5, 1e6, look_cost_s))

    assert [schedule.wait_s(elapsed_s) for elapsed_s in (20, 100, 200)] == pytest.approx([interval] * 3, rel=0.12)
    found, best = (cost(wait_s, exponential(mean), look_cost_s) for wait_s in (schedule.wait_s, lambda _: interval))
    assert found == pytest.approx(best, rel=0.005)


def test_no_choice_of_moments_is_better() -> None:
    humps = Durations([0, 20, 21, 50, 51, 90, 91], [0, 5, 0, 3, 0, 2])
    bounds = Bounds(1, 1e6, 2.0)
    moments = [10.0, 20.5, 21.0, 30.0, 50.5, 51.0, 70.0, 90.5, 91.0, 92.0]

    best = min(
        cost(following(list(some), 5.0), humps, bounds.look_cost_s)
        for count in range(1, len(moments))
        for some in combinations(moments, count)
    )
    assert cost(plan(humps, bounds).wait_s, humps, bounds.look_cost_s) <= best + 0.02


def test_the_first_look_comes_when_a_hump_is_about_over_and_none_between_humps() -> None:
    humps = Durations([0, 40, 44, 148, 156], [0, 3, 0, 2])

    assert [at for at in looks(humps, Bounds(2, 120, 1.0), 170) if at < 40 or 47 < at < 147] == []


HUMP = Durations([0, 40, 44, 148, 156], [0, 1, 0, 3])
"""A quarter ends by 44, the others by 156."""


def test_where_nobody_has_looked_looks_explore_as_often_as_they_find_something() -> None:
    schedule = plan(HUMP, Bounds(2, 120, 1.0))
    look = schedule.wait_s(0)

    found = HUMP.below(look)[0]
    assert schedule.exploring(0) == pytest.approx(found)
    assert 0.1 < found <= 0.25


@pytest.mark.parametrize("known", [(0.0, 20.0), (20.0, 43.0), (20.0, 90.0), (39.0, 42.0)])
def test_the_more_is_known_of_the_time_before_a_look_the_less_is_it_explored(known: Interval) -> None:
    shares = [plan(HUMP, Bounds(2, 120, 1.0), [known] * count).exploring(0) for count in range(6)]

    assert shares == pytest.approx([shares[0] / (1 + count) ** 2 for count in range(6)])


@pytest.mark.parametrize("known", [(0.0, 42.0), (0.0, 36.0), (3.0, 41.0), (41.0, 120.0), (50.0, inf)])
def test_what_the_look_itself_has_found_tells_nothing_of_the_time_before_it(known: Interval) -> None:
    schedule = plan(HUMP, Bounds(2, 120, 1.0), [known] * 50)

    assert schedule.exploring(0) == plan(HUMP, Bounds(2, 120, 1.0)).exploring(0)


def test_what_lies_beyond_all_that_is_expected_is_not_explored() -> None:
    schedule = plan(HUMP, Bounds(2, 120, 1.0))

    assert schedule.exploring(1e6) == 0
    assert max(schedule.exploring(at) for at in range(0, 200, 3)) <= 0.5


def test_keller_s_rule_does_as_well_where_the_hazard_hardly_changes_and_worse_where_it_does() -> None:
    def by_rule(durations: Durations) -> Callable[[float], float]:
        def wait_s(elapsed_s: float) -> float:
            ended, soon = (durations.below(at)[0] for at in (elapsed_s, elapsed_s + 0.5))
            hazard = (soon - ended) / 0.5 / max(1 - ended, 1e-9)
            return min(max(sqrt(2 / hazard) if hazard > 0 else 30.0, 2.0), 30.0)

        return wait_s

    wide, tight = lognormal(100, 0.7), lognormal(100, 0.05)
    of_wide, of_tight = (
        cost(by_rule(durations), durations, 1.0) / cost(plan(durations, Bounds(2, 120, 1.0)).wait_s, durations, 1.0)
        for durations in (wide, tight)
    )
    assert 1 <= of_wide < 1.15
    assert of_tight > 1.3


cells = st.lists(st.tuples(st.floats(0.5, 60), st.floats(0, 10)), min_size=1, max_size=12)


@settings(deadline=None)
@given(cells, st.floats(0.1, 5), st.floats(5, 200), st.floats(0.05, 10), st.floats(0, 2000))
def test_no_look_leaves_the_bounds(
    parts: list[tuple[float, float]], least_s: float, most_s: float, look_cost_s: float, elapsed_s: float
) -> None:
    assume(any(mass > 0.01 for _, mass in parts))
    edges = [0.0]
    for width, _ in parts:
        edges.append(edges[-1] + width)
    schedule = plan(Durations(edges, [mass for _, mass in parts]), Bounds(least_s, most_s, look_cost_s))

    assert least_s <= schedule.wait_s(elapsed_s) <= most_s


@settings(deadline=None, max_examples=60)
@given(cells, st.lists(st.floats(0.5, 60), min_size=1, max_size=20), st.floats(0.3, 5))
def test_no_schedule_somebody_thinks_of_is_better(
    parts: list[tuple[float, float]], gaps: list[float], look_cost_s: float
) -> None:
    assume(any(mass > 0.01 for _, mass in parts))
    edges = [5.0]
    for width, _ in parts:
        edges.append(edges[-1] + width)
    durations = Durations(edges, [mass for _, mass in parts])
    moments = [sum(gaps[: count + 1]) for count in range(len(gaps))]

    thought_of = cost(following(moments, 10.0), durations, look_cost_s)

    assert cost(plan(durations, Bounds(0.5, 1e6, look_cost_s)).wait_s, durations, look_cost_s) <= (
        thought_of * 1.02 + 0.05
    )


@settings(deadline=None)
@given(cells, st.floats(0.3, 5))
def test_who_looks_later_is_never_told_to_look_again_sooner(parts: list[tuple[float, float]], cost_s: float) -> None:
    assume(any(mass > 0.01 for _, mass in parts))
    edges = [5.0]
    for width, _ in parts:
        edges.append(edges[-1] + width)
    schedule = plan(Durations(edges, [mass for _, mass in parts]), Bounds(0.5, 1e6, cost_s))
    step = edges[-1] / 200

    next_looks = [at * step + schedule.wait_s(at * step) for at in range(200)]

    assert all(later >= earlier - step for earlier, later in pairwise(next_looks))
