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

    def __init__(self, left_s: float | None) -> None:
        self._left_s = left_s

    def left_s(self, elapsed_s: float, estimate_s: float) -> float | None:
        return self._left_s


def looked_at(record: JobRecord, now: float, left_s: float | None) -> JobRecord:
    known: Any = Told(left_s)
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
