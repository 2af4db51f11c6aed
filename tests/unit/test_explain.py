"""What `tasks-bridge cadence` says."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tasks_bridge.explain import COLUMNS, Explanation
from tasks_bridge.knowledge import Knowledge
from tests.unit.test_knowledge import NOW, PACE, called, ends


def explained(kept, *, is_on: bool = True, estimate_s: float | None = None) -> Explanation:
    return Explanation.of("sora-2-pro", kept, Knowledge(kept, PACE, now=NOW), is_on=is_on, estimate_s=estimate_s)


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ([], "the published rule, because 0 ends count so far and 8 are needed"),
        (ends(5), "the published rule, because 5 ends count so far and 8 are needed"),
        (ends(60), "learned from 60 ends, as multiples of the estimate"),
        (
            ends(5, typical_s=400) + [replace(end, at=end.at - 5 * 300) for end in ends(60)],
            "the published rule, because 5 ends count since the pace changed and 8 are needed",
        ),
        (
            [replace(end, estimate_s=e) for end, e in zip(ends(60), [20.0, 60.0, 180.0] * 20, strict=True)],
            "learned from 60 ends, in seconds: estimates say little",
        ),
        (ends(60, learned=True, extra_polls=20), "the dearer ones lately"),
    ],
)
def test_it_is_said_which_countdowns_a_model_gets_and_why(kept, said):
    found = explained(kept)

    assert said in found.why
    assert said in "\n".join(found.lines())
    assert json.loads(json.dumps(found.described()))["why"] == found.why


def test_it_is_said_when_nothing_is_learned():
    assert "TASKS_BRIDGE_LEARN_CADENCE is off" in explained(ends(60), is_on=False).why


def test_the_plot_fits_a_terminal_and_shows_looks_where_jobs_end():
    lines = list(explained(ends(60)).lines())
    plot = [line.partition("  ")[2].ljust(COLUMNS) if line else "" for line in lines[2:5]]
    densest = max(range(COLUMNS), key=lambda column: plot[0][column])

    assert all(len(line) <= 80 for line in lines[2:6])
    assert "▲" in plot[1][densest - 4 : densest + 5], "expected a look near the most frequent duration"
    assert plot[1].count("▲") < plot[2].count("▲") + 5


def test_what_is_expected_is_said_beside_the_published_rule_for_the_estimate_that_is_asked_about():
    usual, asked = explained(ends(60)).described(), explained(ends(60), estimate_s=35).described()

    assert (usual["estimate_s"], asked["estimate_s"]) == (105, 35)
    assert asked["durations_s"]["p50"] == pytest.approx(usual["durations_s"]["p50"] / 3, rel=0.02)
    assert usual["learned"]["cost_s"] < usual["published"]["cost_s"]
    assert usual["published"]["looks_s"][:3] == [17, 34, 51]


def test_the_share_of_missed_callbacks_is_said_where_there_are_callbacks():
    assert explained(called(60, missed=0)).described()["missed_callbacks"] < 0.03
    assert "missed_callbacks" not in explained(ends(60)).described()
