from __future__ import annotations

import pytest
from celery.concurrency import solo, thread
from hypothesis import given
from hypothesis import strategies as st

from tasks_bridge.alarm import _check_pool, batches
from tasks_bridge.errors import SettingsError


@pytest.mark.parametrize(
    ("jobs", "slots", "most", "sizes"),
    [
        (0, 2, 100, []),
        (1, 2, 100, [1]),
        (2, 2, 100, [1, 1]),  # few jobs: one message each
        (3, 2, 100, [2, 1]),
        (7, 2, 100, [4, 3]),
        (500, 2, 100, [100] * 5),  # many jobs: full messages
        (3, 1, 2, [2, 1]),
    ],
)
def test_jobs_are_shared_out_between_the_slots(jobs: int, slots: int, most: int, sizes: list[int]) -> None:
    ids = [str(number) for number in range(jobs)]

    assert [len(batch) for batch in batches(ids, slots, most)] == sizes


@given(st.lists(st.text(), max_size=300), st.integers(1, 16), st.integers(1, 100))
def test_each_job_is_in_one_message_and_no_message_is_too_large(ids: list[str], slots: int, most: int) -> None:
    shared = batches(ids, slots, most)

    assert [job_id for batch in shared for job_id in batch] == ids
    assert all(1 <= len(batch) <= most for batch in shared)


@pytest.mark.parametrize("name", ["gevent", "eventlet"])
def test_a_pool_of_green_threads_is_refused_by_name(name: str) -> None:
    pool = type("TaskPool", (), {"__module__": f"celery.concurrency.{name}"})()  # Celery's own needs the package

    with pytest.raises(SettingsError, match=name):
        _check_pool(pool)


def test_other_pools_are_not_refused() -> None:
    for pool in (solo.TaskPool(1), thread.TaskPool(1), None):
        _check_pool(pool)
