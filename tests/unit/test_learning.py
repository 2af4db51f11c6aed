from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count

from tasks_bridge.durations import End
from tasks_bridge.learning import BUSY, FRESH_S, Learning, MemoryEnds
from tests.unit.test_knowledge import NOW, PACE, ends

MODELS = ["sora-2-pro", "seedream-v4"]


def learning_of(seconds: float) -> tuple[MemoryEnds, Learning]:
    """What learns of any model in so many *seconds* of CPU time."""
    kept, ticks = MemoryEnds(), count()
    return kept, Learning(kept, PACE, busy_s=lambda: next(ticks) * seconds)


def later(found: list[End], seconds: float) -> Iterator[End]:
    """Oldest first, as they are noted, so much later."""
    return (replace(end, at=end.at + seconds) for end in reversed(found))


def test_what_takes_long_to_learn_is_learned_anew_so_much_more_rarely() -> None:
    _, quick = learning_of(0.02)
    _, slow = learning_of(0.3)
    for learning in (quick, slow):
        learning.refresh(MODELS, NOW)

    assert quick.stale(MODELS, NOW + FRESH_S - 0.1) == []
    assert quick.stale(MODELS, NOW + FRESH_S) == MODELS
    of_both_s = BUSY * 0.3 * len(MODELS)
    assert slow.stale(MODELS, NOW + of_both_s - 0.1) == [], "all models together must not take more than their share"
    assert slow.stale(MODELS, NOW + of_both_s + 0.1) == MODELS


def test_where_nothing_is_new_nothing_is_learned_anew() -> None:
    kept, learning = learning_of(10.0)
    kept.add(MODELS[0], list(later(ends(20), 0)))
    learning.refresh(MODELS, NOW)
    known = learning.of(MODELS[0])

    learning.refresh(MODELS, NOW + 3600)

    assert learning.of(MODELS[0]) is known
    assert learning.stale(MODELS, NOW + 3600 + FRESH_S) == MODELS, "expected that reading alone takes no time"


def test_what_jobs_were_told_before_is_at_hand_again_before_they_ask() -> None:
    kept, learning = learning_of(0.0)
    kept.add(MODELS[0], list(later(ends(20), 0)))
    learning.refresh(MODELS[:1], NOW)
    first = learning.of(MODELS[0])
    assert first is not None
    asked = first.schedule(105.0, has_callback=False)

    kept.add(MODELS[0], list(later(ends(1), 300)))
    learning.refresh(MODELS[:1], NOW + 300)

    second = learning.of(MODELS[0])
    assert second is not None
    assert second is not first
    assert len(second.planned) == 1
    assert second.schedule(105.0, has_callback=False) is next(iter(second.planned.values()))
    assert second.schedule(105.0, has_callback=False) is not asked
