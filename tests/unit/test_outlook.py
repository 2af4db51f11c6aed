from __future__ import annotations

from math import isfinite
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_bridge import outlook
from tasks_bridge.record import JobRecord

START = 1_795_392_000.0


class Told:
    """What is known of a model, as far as the outlook asks."""

    def __init__(self, left_s: float | None, *, is_late: bool = False) -> None:
        self._left_s = left_s
        self._is_late = is_late

    def left_s(self, elapsed_s: float, estimate_s: float) -> float | None:
        return self._left_s

    def is_late(self, elapsed_s: float, estimate_s: float) -> bool | None:
        return self._is_late


def looked_at(record: JobRecord, now: float, left_s: float | None, *, is_late: bool = False) -> JobRecord:
    known: Any = Told(left_s, is_late=is_late)
    return record.but(**outlook.noted(record, known, now), polled_at=now)


def accepted(left_s: float | None = None, estimated_s: float | None = 60.0) -> JobRecord:
    record = JobRecord(version=2, model="m", key="k", digest="", created_at=START, estimated_s=estimated_s)
    known: Any = Told(left_s)
    return record.but(**outlook.noted(record, known, START), submitted_at=START)


def test_without_knowledge_the_outlook_is_the_estimates() -> None:
    record = accepted()

    assert (record.left_s, record.progress) == (None, None)
    assert outlook.progress(record, START + 30) == pytest.approx(0.45)
    assert outlook.eta_s(record, START + 30) == pytest.approx(30)


def test_with_knowledge_it_is_what_the_model_usually_takes() -> None:
    record = accepted(left_s=120)

    assert outlook.progress(record, START + 60) == pytest.approx(0.45)
    assert outlook.eta_s(record, START + 60) == pytest.approx(60)


def test_a_job_that_turns_out_to_be_a_long_one_has_more_time_left_and_no_less_progress() -> None:
    early = accepted(left_s=50)
    late = looked_at(early, START + 49, 100)

    assert outlook.eta_s(early, START + 49) == pytest.approx(5)
    assert outlook.eta_s(late, START + 49) == pytest.approx(100)
    assert outlook.progress(late, START + 49) == pytest.approx(outlook.progress(early, START + 49), abs=1e-4)


def test_a_job_that_is_not_submitted_has_no_outlook() -> None:
    record = JobRecord(version=2, model="m", key="k", digest="", created_at=START)

    assert (outlook.progress(record, START), outlook.eta_s(record, START)) == (0.0, None)


def test_without_knowledge_a_job_is_late_after_two_estimates() -> None:
    record = accepted(estimated_s=60)

    assert not outlook.is_late(record, START + 120)
    assert outlook.is_late(record, START + 121)


def test_with_knowledge_a_job_is_late_when_that_says_so_and_stays_late() -> None:
    on_time = looked_at(accepted(left_s=50), START + 300, 10)
    late = looked_at(on_time, START + 310, 10, is_late=True)

    assert not outlook.is_late(on_time, START + 1000)
    assert outlook.is_late(late, START + 310)
    assert outlook.is_late(looked_at(late, START + 320, 10), START + 320)


def test_a_job_that_is_not_submitted_is_not_late() -> None:
    record = JobRecord(version=2, model="m", key="k", digest="", created_at=START)

    assert not outlook.is_late(record, START + 1e6)


looks = st.lists(st.tuples(st.floats(0, 500), st.none() | st.floats(0, 1e4)), max_size=12)


@given(st.none() | st.floats(0, 1e4), st.none() | st.floats(0, 1e5), looks)
def test_progress_never_goes_back_and_never_reaches_the_end_whatever_is_learned_on_the_way(
    left_s: float | None, estimated_s: float | None, then: list[tuple[float, float | None]]
) -> None:
    record, now, shown = accepted(left_s, estimated_s), START, 0.0
    for after_s, left_now_s in then:
        for at in (now + after_s / 2, now + after_s):
            done, left = outlook.progress(record, at), outlook.eta_s(record, at)
            assert shown <= done < 1
            assert left is not None
            assert left >= 0
            assert isfinite(left)
            shown = done
        now += after_s
        record = looked_at(record, now, left_now_s)
        assert shown <= outlook.progress(record, now)
