from __future__ import annotations

from dataclasses import replace
from math import exp, inf
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks_bridge.durations import End
from tasks_bridge.knowledge import COMPARED, FEWEST_ENDS, PATIENCE, Basis, Knowledge, Mode, Pace

PACE = Pace(poll_min_s=2.0, poll_max_s=120.0, poll_cost_s=1.0, callback_poll_factor=4.0)
NOW = 1_795_392_000.0
MIDDLE = 0.5
"""The random number that means no jitter."""


def ends(
    count: int,
    *,
    typical_s: float = 105.0,
    sigma: float = 0.05,
    estimate_s: float = 105.0,
    every_s: float = 10.0,
    learned: bool = False,
    extra_polls: int = 0,
    seed: int = 1,
) -> list[End]:
    """Newest first: jobs one after the other, looked at *every_s* seconds or so."""
    random, found, at = Random(seed), [], NOW
    for _ in range(count):
        duration_s, looks = typical_s * exp(sigma * random.gauss(0, 1)), [0.0]
        while looks[-1] < duration_s:
            looks.append(looks[-1] + every_s * random.uniform(0.9, 1.1))
        at -= 300
        found.append(End(at, looks[-2], looks[-1], estimate_s, len(looks) - 1 + extra_polls, learned))
    return found


def countdown(known: Knowledge, elapsed_s: float, estimate_s: float = 105.0, **changes) -> float | None:
    return known.countdown_s(elapsed_s, estimate_s, **{"has_callback": False, "random": MIDDLE, **changes})


def first_look(known: Knowledge, estimate_s: float = 105.0, **changes) -> float:
    found = countdown(known, 0.0, estimate_s, **changes)
    assert found is not None
    return found


@pytest.mark.parametrize("count", [0, 1, FEWEST_ENDS - 1])
def test_of_a_model_about_which_little_is_known_nothing_is_said(count: int) -> None:
    known = Knowledge(ends(count), PACE, now=NOW)

    assert known.mode is Mode.COLD
    assert countdown(known, 30) is None
    assert known.left_s(30, 105) is None
    assert known.is_late(1e6, 105) is None


def test_a_few_ends_are_enough_to_begin_with() -> None:
    known = Knowledge(ends(FEWEST_ENDS), PACE, now=NOW)

    assert known.mode is Mode.LEARNED
    assert 2 <= first_look(known) <= 120


def test_jobs_that_were_stopped_are_not_enough() -> None:
    stopped = [replace(end, by_s=inf) for end in ends(40)]

    assert Knowledge(stopped, PACE, now=NOW).mode is Mode.COLD
    assert Knowledge(stopped[:20] + ends(40)[20:], PACE, now=NOW).mode is Mode.LEARNED


def test_the_first_look_is_when_the_first_jobs_end_and_the_next_are_close() -> None:
    known = Knowledge(ends(200), PACE, now=NOW)

    look = first_look(known)
    assert 92 <= look <= 104
    following = countdown(known, look)
    assert following is not None
    assert following < 8


def test_a_job_is_late_that_takes_longer_than_nine_in_ten() -> None:
    known = Knowledge(ends(200, sigma=0.2), PACE, now=NOW)

    assert not known.is_late(105, 105)
    assert not known.is_late(120, 105)
    assert known.is_late(150, 105), "expected 105 s · exp(0.2 · 1.28) = 136 s to be the limit"
    assert known.is_late(1e9, 105)


def test_a_poll_that_is_worth_more_lag_is_made_more_rarely() -> None:
    dear, cheap = (Knowledge(ends(200, sigma=0.35), replace(PACE, poll_cost_s=k), now=NOW) for k in (5.0, 0.2))

    assert all((countdown(dear, at) or 0) > 2 * (countdown(cheap, at) or 99) for at in (90, 110, 150))


def test_countdowns_scale_with_the_estimate_if_durations_do() -> None:
    mixed = [replace(end, estimate_s=e, after_s=end.after_s * e / 105, by_s=end.by_s * e / 105)
             for end, e in zip(ends(200), [30.0, 60.0, 105.0, 180.0] * 50, strict=True)]  # fmt: skip
    known = Knowledge(mixed, PACE, now=NOW)

    assert known.basis is Basis.ESTIMATES
    assert first_look(known, 60.0) == pytest.approx(first_look(known) * 60 / 105, rel=0.1)


def test_an_estimate_that_says_nothing_changes_nothing() -> None:
    mixed = [replace(end, estimate_s=e) for end, e in zip(ends(200), [30.0, 60.0, 105.0, 180.0] * 50, strict=True)]
    known = Knowledge(mixed, PACE, now=NOW)

    assert known.basis is Basis.SECONDS
    assert first_look(known, 30.0) == first_look(known, 180.0)


def test_the_first_to_end_of_those_that_began_together_do_not_count_before_the_others_had_their_time() -> None:
    burst = [End(NOW + 60 + number / 10, 50, 60 + number / 10, 105, 4) for number in range(100)]

    assert Knowledge(burst[::-1], PACE, now=NOW + 70).is_cold
    assert not Knowledge(burst[::-1], PACE, now=NOW + 1000).is_cold


def test_jobs_that_the_first_look_found_over_are_looked_at_earlier_now_and_then_until_it_is_known_when_they_end() -> (
    None
):
    over = [replace(end, after_s=0.0) for end in ends(20, typical_s=60, seed=2)]
    mixed = [end for pair in zip(over, ends(20), strict=True) for end in pair]
    told = [replace(end, after_s=0.55 * end.by_s if end.after_s == 0 else end.after_s) for end in mixed]

    def early(kept: list[End]) -> int:
        known = Knowledge(kept, PACE, now=NOW)
        usual = first_look(known)
        return sum((countdown(known, 0, random=number / 1000) or 0) < 0.8 * usual for number in range(1000))

    assert early(mixed) > 100
    assert early(told) < early(mixed) / 10


def test_a_change_of_pace_is_followed_by_countdowns_of_the_new_pace() -> None:
    quick = [replace(end, at=end.at + 20 * 300) for end in ends(20, typical_s=50)]
    known = Knowledge(quick + ends(200), PACE, now=NOW + 20 * 300)

    assert known.relevant in range(18, 24)
    assert first_look(known) < 60


# -- never much worse than the published rule -------------------------------------------------------------------------


def test_learned_countdowns_that_cost_more_than_the_published_rule_would_have_are_given_up() -> None:
    dear = ends(100, sigma=0.35, learned=True, extra_polls=12)
    known = Knowledge(dear, PACE, now=NOW)

    assert known.mode is Mode.LOSING
    assert known.paid.lost_s > 0
    assert countdown(known, 30) is None
    assert known.left_s(30, 105), "what is known of durations is known all the same"


def test_they_are_tried_again_after_some_jobs_by_the_published_rule() -> None:
    few, many = COMPARED
    cheap = [replace(end, polls=2, at=end.at - 8 * 300) for end in ends(many, every_s=2.0, learned=True)]
    dear = ends(8, sigma=0.05, learned=True, extra_polls=240)
    since = [replace(end, at=end.at + few * 300) for end in ends(few, sigma=0.05, seed=2)]

    assert Knowledge(since + dear + cheap, PACE, now=NOW + few * 300).mode is Mode.LEARNED
    assert Knowledge(since[4:] + dear + cheap, PACE, now=NOW + few * 300).mode is Mode.LOSING


def test_a_loss_that_will_soon_be_made_up_for_is_borne() -> None:
    steady = ends(60, sigma=0.05)
    saving_s = Knowledge(steady, PACE, now=NOW).saving_s
    assert saving_s > 5

    def after(lost_s: float) -> Mode:
        latest = replace(steady[0], learned=True, polls=steady[0].polls + round(lost_s / PACE.poll_cost_s))
        return Knowledge([latest, *steady[1:]], PACE, now=NOW).mode

    assert after(0.8 * PATIENCE * saving_s) is Mode.LEARNED
    assert after(1.2 * PATIENCE * saving_s) is Mode.LOSING


def test_a_pace_that_has_just_begun_is_trusted_with_less() -> None:
    quick = [replace(end, at=end.at + 12 * 300) for end in ends(12, typical_s=50)]
    new = Knowledge(quick + ends(200), PACE, now=NOW + 12 * 300)
    assert new.relevant in range(10, 15)

    lost_s = 20 * new.saving_s
    dear = [replace(quick[0], learned=True, polls=quick[0].polls + round(lost_s)), *quick[1:]]
    assert Knowledge(dear + ends(200), PACE, now=NOW + 12 * 300).mode is Mode.LOSING
    assert Knowledge([dear[0], *ends(200, typical_s=50)], PACE, now=NOW + 300).mode is Mode.LEARNED


def test_losses_that_come_and_go_are_not_forgotten_in_between() -> None:
    few, _ = COMPARED
    dear = ends(100, sigma=0.35, learned=True, extra_polls=12)
    since = [replace(end, at=end.at + few * 300) for end in ends(few, sigma=0.35, seed=2)]

    assert Knowledge(since + dear, PACE, now=NOW + few * 300).mode is Mode.LOSING


def test_the_cost_of_jobs_by_the_published_rule_is_nobodys_fault() -> None:
    known = Knowledge(ends(100, sigma=0.35, extra_polls=12), PACE, now=NOW)

    assert known.paid.lost_s == pytest.approx(0)
    assert known.mode is Mode.LEARNED


# -- callbacks --------------------------------------------------------------------------------------------------------


def called(count: int, missed: int) -> list[End]:
    return [replace(end, called=number >= missed) for number, end in enumerate(ends(count, sigma=0.35))]


def test_with_callbacks_that_come_looks_are_few_and_without_them_as_many_as_ever() -> None:
    reliable, broken = Knowledge(called(200, 0), PACE, now=NOW), Knowledge(called(200, 200), PACE, now=NOW)

    assert reliable.missed < 0.03
    assert first_look(reliable, has_callback=True) > 120
    assert broken.missed > 0.6
    assert first_look(broken, has_callback=True) == pytest.approx(first_look(broken), rel=0.25)


def test_a_few_callbacks_that_do_not_come_are_noticed_whatever_came_before() -> None:
    known = Knowledge(called(200, 8), PACE, now=NOW)

    assert known.missed > 0.15


def test_before_any_callback_was_due_looks_are_as_rare_as_the_setting_says() -> None:
    known = Knowledge(ends(200, sigma=0.35), PACE, now=NOW)

    assert known.bounds(has_callback=True).look_cost_s == pytest.approx(16 * PACE.poll_cost_s)
    assert known.bounds(has_callback=True).most_s == 480


# -- bounds -----------------------------------------------------------------------------------------------------------


def test_jitter_is_a_tenth_of_the_shorter_wait_beside_a_look() -> None:
    known = Knowledge(ends(200), PACE, now=NOW)
    early, late = (first_look(known, random=random) for random in (0.01, 0.99))

    assert 0 < late - early < 2, "expected no spread over seconds where each second matters"


any_end = st.builds(
    End,
    at=st.floats(NOW - 1e6, NOW + 100),
    after_s=st.floats(0, 1e5),
    by_s=st.floats(0, 1e5) | st.just(inf),
    estimate_s=st.floats(1e-3, 1e5),
    polls=st.integers(0, 1000),
    learned=st.booleans(),
    called=st.none() | st.booleans(),
    jobs=st.integers(1, 1000),
).map(lambda end: replace(end, by_s=max(end.by_s, end.after_s * 1.01 + 0.001)))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(any_end, max_size=60),
    st.floats(0, 1e6),
    st.floats(1e-3, 1e6),
    st.booleans(),
    st.floats(0, 1, exclude_max=True),
    st.sampled_from([PACE, Pace(0.05, 0.5, 30.0, 100.0), Pace(5.0, 5.0, 0.01, 1.0)]),
)
def test_whatever_was_noted_no_countdown_leaves_its_bounds(
    noted: list[End], elapsed_s: float, estimate_s: float, has_callback: bool, random: float, pace: Pace
) -> None:
    known = Knowledge(noted, pace, now=NOW)
    found = known.countdown_s(elapsed_s, estimate_s, has_callback=has_callback, random=random)
    left_s = known.left_s(elapsed_s, estimate_s)

    most_s = pace.poll_max_s * (pace.callback_poll_factor if has_callback else 1)
    assert found is None or pace.poll_min_s <= found <= most_s
    assert left_s is None or left_s >= 0
