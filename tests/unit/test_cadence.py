from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_bridge.cadence import backoff_s, countdown_s, deadline_at, eta_s, progress, progress_from, rounded_up

shares = st.floats(0, 1, exclude_max=True)
estimates = st.one_of(st.none(), st.floats(0, 1e6))
MIDDLE = 0.5
"""The random number that means no jitter."""


@pytest.mark.parametrize(
    ("estimated_s", "expected_s"),
    [
        (35, 5.0),  # the published example: 35 // 6
        (None, 5.0),  # 30 is assumed
        (12, 2.0),
        (11, 2.0),  # never under the minimum
        (0, 2.0),
        (100, 16.0),
        (1000, 30.0),  # never over the maximum
        (math.nan, 5.0),
        (math.inf, 5.0),
    ],
)
def test_the_countdown_follows_the_published_rule_within_bounds(estimated_s: float | None, expected_s: float) -> None:
    assert countdown_s(estimated_s, poll_min_s=2, poll_max_s=30, random=MIDDLE) == expected_s


def test_a_far_too_high_estimate_costs_half_a_minute_of_lag_however_long_countdowns_may_be() -> None:
    assert countdown_s(1e6, poll_min_s=2, poll_max_s=120, random=1) == 30
    assert countdown_s(1e6, poll_min_s=45, poll_max_s=120, random=1) == 45, "unless the shortest is longer"


@given(estimates, shares)
def test_no_countdown_leaves_its_bounds(estimated_s: float | None, random: float) -> None:
    assert 2 <= countdown_s(estimated_s, poll_min_s=2, poll_max_s=30, random=random) <= 30


def test_jitter_spreads_countdowns_by_a_tenth_either_way() -> None:
    spread = [countdown_s(60, poll_min_s=2, poll_max_s=30, random=random) for random in (0, MIDDLE, 1)]

    assert spread == pytest.approx([9, 10, 11])


def test_backoff_doubles_up_to_its_maximum() -> None:
    ceilings = [backoff_s(attempt, retry_min_s=1, retry_max_s=60, random=1) for attempt in range(1, 9)]

    assert ceilings == [1, 2, 4, 8, 16, 32, 60, 60]


@given(st.integers(1, 10**9), shares)
def test_at_least_half_of_a_backoff_is_waited(attempt: int, random: float) -> None:
    longest = backoff_s(attempt, retry_min_s=1, retry_max_s=60, random=1)

    assert longest / 2 <= backoff_s(attempt, retry_min_s=1, retry_max_s=60, random=random) <= longest


@pytest.mark.parametrize(
    ("deadline_s", "estimated_s", "expected_s"),
    [
        (None, None, 900),
        (None, 35, 900),
        (None, 100, 2000),  # 20 estimates, once that is more than 15 minutes
        (60, 100, 60),  # as asked for, whatever the estimate
    ],
)
def test_the_deadline_never_rests_on_the_estimate_alone(
    deadline_s: float | None, estimated_s: float | None, expected_s: float
) -> None:
    assert deadline_at(1000, deadline_s, estimated_s) == 1000 + expected_s


@given(st.floats(-10, 1e7), st.floats(0, 1e7), estimates)
def test_progress_never_goes_back_and_never_reaches_the_end(
    elapsed_s: float, more_s: float, estimated_s: float | None
) -> None:
    now, later = progress(elapsed_s, estimated_s), progress(elapsed_s + more_s, estimated_s)

    assert 0 <= now <= later < 1


def test_progress_is_nine_tenths_at_the_estimate() -> None:
    assert progress(50, 100) == pytest.approx(0.45)
    assert progress(100, 100) == pytest.approx(0.9)


def test_past_the_estimate_progress_creeps_on_without_a_jump() -> None:
    assert progress(100.001, 100) == pytest.approx(0.9, abs=1e-4)
    assert 0.9 < progress(110, 100) < progress(150, 100) < progress(1000, 100) < 0.99


def test_what_is_left_is_the_rest_of_the_estimate_then_a_tenth_of_the_time_taken() -> None:
    assert eta_s(0, 60) == 60
    assert eta_s(40, 60) == 20
    assert eta_s(120, 60) == 12
    assert eta_s(-5, None) == 35


def test_progress_and_the_time_left_are_exact_in_the_first_second_and_before_it() -> None:
    assert [progress(at, 10) for at in (-5, 0, 0.5)] == pytest.approx([0, 0, 0.045])
    assert eta_s(0.5, 0.5) == 0.05
    assert eta_s(-5, 10) == 15


def test_from_any_progress_the_rest_to_nine_tenths_is_made_in_the_time_that_was_left() -> None:
    assert [progress_from(0.5, at, 40) for at in (-5, 0, 20, 40)] == pytest.approx([0.5, 0.5, 0.7, 0.9])
    assert progress_from(0.5, 80, 40) == pytest.approx(0.9 + 0.09 * (1 - math.exp(-1)))


@pytest.mark.parametrize("before", [0.9, 0.95])
def test_from_nine_tenths_on_progress_creeps_at_once(before: float) -> None:
    assert progress_from(before, 0, 40) == before
    assert progress_from(before, 20, 40) == pytest.approx(before + (0.99 - before) * (1 - math.exp(-0.5)))


def test_progress_is_kept_in_four_digits_not_below_it_and_never_as_the_end() -> None:
    assert [rounded_up(done) for done in (0.0, 0.12341, 0.5, 0.98999, 0.999)] == [0.0, 0.1235, 0.5, 0.99, 0.99]
