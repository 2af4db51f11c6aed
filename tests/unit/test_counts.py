"""Counts of several processes come together in one, whoever dies when."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Iterator

import psutil
import pytest

from tasks_bridge import series
from tasks_bridge.counts import MOST_MODELS, Counts
from tasks_bridge.series import POLLS, REQUEST_S, Increment

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


@pytest.fixture
def counts() -> Iterator[Counts]:
    counts = Counts()
    counts.open()
    yield counts
    counts.close()


def fork(body: Callable[[], object]) -> int:
    """Run *body* in a child, which ends as a killed process does: nothing of Python's own end runs."""
    pid = os.fork()
    if not pid:
        try:
            body()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    return pid


def gather_until(counts: Counts, condition: Callable[[], bool]) -> None:
    for _ in range(100):
        if condition():
            return
        counts.gather(0.1)
    pytest.fail(f"expected the counts to come; there are {dict(counts.snapshot())}")


def total(counts: Counts, metric: series.Counter) -> float:
    return sum(value for (name, _, _), value in counts.snapshot().items() if name == metric.name)


def test_nothing_is_counted_unless_somebody_asks() -> None:
    counts = Counts()
    counts.add([POLLS.more("sora-2", "ended")])

    assert counts.snapshot() == {}


def test_what_one_process_counts_is_added_up(counts: Counts) -> None:
    counts.add([POLLS.more("sora-2", "ended"), POLLS.more("sora-2", "ended"), POLLS.more("veo", "failed", by=3)])

    assert counts.snapshot() == {
        (POLLS.name, ("sora-2", "ended"), 0): 2,
        (POLLS.name, ("veo", "failed"), 0): 3,
    }


def test_children_that_are_killed_leave_what_they_have_sent_and_nothing_to_clean_up(counts: Counts) -> None:
    before = psutil.Process().num_fds()
    counts.add([POLLS.more("sora-2", "ended")])

    def work() -> None:
        counts.add([POLLS.more("sora-2", "ended"), *REQUEST_S.seen(0.2, "query", "answered")])
        counts.send()

    children = [fork(work) for _ in range(20)]
    for pid in children:
        os.waitpid(pid, 0)
    gather_until(counts, lambda: total(counts, POLLS) == 21)

    assert counts.snapshot()[REQUEST_S.name, ("query", "answered"), series.SUM] == pytest.approx(4.0)
    assert psutil.Process().num_fds() == before


def test_a_child_sends_by_itself_soon(counts: Counts) -> None:
    ready, told = os.pipe()

    def work() -> None:
        counts.add([POLLS.more("sora-2", "ended")])
        os.write(told, b".")
        select.select([], [], [], 30)

    pid = fork(work)
    try:
        os.read(ready, 1)
        gather_until(counts, lambda: total(counts, POLLS) == 1)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(ready)
        os.close(told)


def test_counts_of_many_models_go_through_a_pipe_that_is_full_in_whole_lines(counts: Counts) -> None:
    """More than a pipe holds: what there is no room for waits, and comes later, once."""
    models = [f"model-{number:03}-{'x' * 40}" for number in range(MOST_MODELS)]

    def work() -> None:
        for _ in range(20):  # each time something new, many times what the pipe takes
            counts.add([POLLS.more(model, "ended") for model in models])
            counts.send()
        while counts.snapshot():
            counts.send()
            select.select([], [], [], 0.01)

    children = [fork(work) for _ in range(3)]
    gather_until(counts, lambda: total(counts, POLLS) == 3 * 20 * len(models))
    for pid in children:
        os.waitpid(pid, 0)

    assert set(counts.snapshot().values()) == {60.0}


def test_a_child_whose_parent_has_gone_goes_on(counts: Counts) -> None:
    result, told = os.pipe()

    def work() -> None:
        os.read(gone[0], 1)
        counts.add([POLLS.more("sora-2", "ended")])
        counts.send()
        os.write(told, b"on" if not counts.is_on else b"??")

    gone = os.pipe()
    pid = fork(work)
    counts.close()
    os.write(gone[1], b".")

    assert os.read(result, 2) == b"on"
    os.waitpid(pid, 0)
    for end in (*gone, result, told):
        os.close(end)


def test_no_more_models_than_a_dashboard_can_bear_have_names(counts: Counts) -> None:
    def seen(model: str) -> list[Increment]:
        return [POLLS.more(model, "ended")]

    for number in range(MOST_MODELS + 50):
        counts.add(seen(f"made-up-{number}"))
    counts.add(seen("made-up-0"))

    found = {labels[0]: value for (_, labels, _), value in counts.snapshot().items()}
    assert len(found) == MOST_MODELS + 1
    assert found["other"] == 50
    assert found["made-up-0"] == 2
