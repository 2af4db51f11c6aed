"""
When to look again: countdowns, backoff, deadlines, progress. Pure: the clock and randomness are passed in.

Polling is not retrying. `countdown_s` paces reads of a healthy job; `backoff_s` paces requests that failed. They share
no setting and no counter.
"""

from __future__ import annotations

from math import ceil, exp, isfinite
from typing import Final

ASSUMED_ESTIMATE_S: Final = 30.0
"""Used where ByteSpike gives no estimate. Source: the /tasks/query page, "Polling cadence"."""

POLLS_PER_ESTIMATE: Final = 6
"""The published rule polls about six times across the expected duration. Source: as above."""

PUBLISHED_MAX_S: Final = 30.0
"""Longest countdown by that rule: bounds the lag behind an estimate that is far too high."""

JITTER: Final = 0.1
"""Countdowns vary by up to this share either way, so that jobs submitted together are not polled together for ever."""

DEADLINE_FLOOR_S: Final = 15 * 60.0
DEADLINE_ESTIMATES: Final = 20
"""Estimates are often several times too low, so the deadline never rests on them alone (contract, section 14)."""


def countdown_s(estimated_s: float | None, *, poll_min_s: float, poll_max_s: float, random: float) -> float:
    """
    Seconds until a job is worth another look by the published rule: of its model nothing is known but the estimate.

    Args:
        estimated_s: ByteSpike's `estimated_seconds`, None if it gave none.
        poll_min_s: Lower bound; the published rule has 2.
        poll_max_s: Upper bound, below `PUBLISHED_MAX_S`.
        random: Uniform in [0, 1).

    Source: the /tasks/query page, "Polling cadence": ``max(2, estimated_seconds // 6)``, 30 assumed.
    """
    estimate = ASSUMED_ESTIMATE_S if estimated_s is None or not isfinite(estimated_s) else estimated_s
    interval = estimate // POLLS_PER_ESTIMATE
    jittered = max(interval, poll_min_s) * (1 + JITTER * (2 * random - 1))
    return min(max(jittered, poll_min_s), poll_max_s, max(PUBLISHED_MAX_S, poll_min_s))


def assumed_s(estimated_s: float | None) -> float:
    """What to expect of a job: the estimate, or what is assumed where there is none that makes sense."""
    return estimated_s if estimated_s and isfinite(estimated_s) else ASSUMED_ESTIMATE_S


def backoff_s(attempt: int, *, retry_min_s: float, retry_max_s: float, random: float) -> float:
    """
    Seconds to wait after the *attempt*-th failure in a row (1 is the first): exponential, at least half of it random.

    Source: contract, section 8 (exponential from 1 s); "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    ceiling = min(retry_min_s * 2.0 ** min(attempt - 1, 30), retry_max_s)
    return ceiling * (0.5 + 0.5 * random)


def deadline_at(starts_at: float, deadline_s: float | None, estimated_s: float | None) -> float:
    """The moment a job is given up: as asked for, else the later of 15 minutes and 20 estimates after its start."""
    if deadline_s is not None:
        return starts_at + deadline_s
    return starts_at + max(DEADLINE_FLOOR_S, DEADLINE_ESTIMATES * (estimated_s or 0.0))


def progress(elapsed_s: float, estimated_s: float | None) -> float:
    """
    The share of the work done, a guess in [0, 1) that never goes back while time goes on and never reaches 1.

    Linear up to 0.9 at the estimate; whatever takes longer than that creeps towards 0.99.
    """
    return progress_from(0.0, elapsed_s, assumed_s(estimated_s))


def progress_from(before: float, since_s: float, left_s: float) -> float:
    """The same from a moment on at which *before* was done and *left_s* seconds were left: nothing is taken back."""
    share = max(since_s, 0.0) / left_s
    if before < _NEARLY and share <= 1:
        return before + (_NEARLY - before) * share
    late = share - 1 if before < _NEARLY else share
    reached = max(before, _NEARLY)
    return reached + (_ALMOST - reached) * (1 - exp(-late))


def rounded_up(progress_: float) -> float:
    """Four digits of *progress_*, not below it: what is kept of it must not go back either."""
    return min(ceil(progress_ * 1e4) / 1e4, _ALMOST)


def eta_s(elapsed_s: float, estimated_s: float | None) -> float:
    """Seconds that are probably left; past the estimate, a tenth of the time it took so far."""
    return max(assumed_s(estimated_s) - elapsed_s, 0.1 * max(elapsed_s, 0.0))


_NEARLY: Final = 0.9
_ALMOST: Final = 0.99
