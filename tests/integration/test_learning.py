"""What workers learn of a model's pace, from real jobs: each from all."""

from __future__ import annotations

from functools import partial

from tasks_bridge.knowledge import FEWEST_ENDS, Mode
from tasks_bridge.learning import RedisEnds
from tasks_bridge.sandbox import SandboxServer
from tests.integration.lab import MODEL, Lab, eventually


def test_what_one_worker_has_learned_another_that_starts_later_knows(redis_url: str, sandbox: SandboxServer) -> None:
    first = Lab(redis_url, sandbox)
    kept = RedisEnds(first.bridge.store)
    with first.current(), first.worker():
        results = [first.submit({"duration_s": 0.3 + 0.07 * number}) for number in range(FEWEST_ENDS + 4)]
        entries = [first.ended(result) for result in results]
        eventually(lambda: len(kept.latest([MODEL])[0]) >= FEWEST_ENDS, f"{FEWEST_ENDS} ends to be noted")
        [ends] = kept.latest([MODEL])

    assert [entry.record.left_s for entry in entries] == [None] * len(entries), "nothing was known of these beforehand"
    assert all(end.after_s < end.by_s < 20 and end.polls >= 1 and end.estimate_s == 1 for end in ends)

    second = Lab(redis_url, sandbox, namespace=first.settings.namespace)
    with second.current(), second.worker():
        entry = second.ended(second.submit({"duration_s": 0.5}))

    learning = second.bridge.learning
    assert learning is not None
    known = learning.of(MODEL)
    assert known is not None
    assert known.mode is Mode.LEARNED
    assert entry.record.left_s is not None, "expected its countdowns to follow from what the first worker noted"


def noted(lab: Lab) -> int:
    """How many jobs the ends that are kept stand for."""
    return sum(end.jobs for end in RedisEnds(lab.bridge.store).latest([MODEL])[0])


def _has_noted(lab: Lab, jobs: int) -> bool:
    return noted(lab) >= jobs


def test_each_job_is_noted_once_and_none_where_nothing_is_to_be_learned(redis_url: str, sandbox: SandboxServer) -> None:
    for is_on, expected in ((True, 3), (False, 0)):
        lab = Lab(redis_url, sandbox, learn_cadence=is_on)
        with lab.current(), lab.worker():
            for script in ({}, {"outcome": "failed"}, {"duration_s": 0.6}):
                lab.ended(lab.submit(script))
            # noted last, when the callbacks are on their way
            eventually(partial(_has_noted, lab, expected), f"{expected} ends to be noted")

        assert noted(lab) == expected
