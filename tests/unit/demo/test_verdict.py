"""Whether the demo's verdict can fail, and on what."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tasks_bridge.demo import app, evidence
from tasks_bridge.demo.app import Call
from tasks_bridge.demo.scenes import ALL, CHANGED_MIND, FOX
from tasks_bridge.demo.verdict import Outcome, problems
from tasks_bridge.record import JobRecord, JobState
from tasks_bridge.store import Entry

GOOD = Outcome(
    name="fox",
    expected=JobState.COMPLETED,
    state=JobState.COMPLETED,
    expected_callback="completion",
    callbacks=["completion"],
    remote_tasks=1,
)
ONCE = {"the body of the chord": 1}


def test_nothing_is_wrong_when_all_is_well():
    assert problems([GOOD], ONCE, 1) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"state": JobState.FAILED}, "fox is FAILED instead of COMPLETED"),
        ({"expected": JobState.CANCELLED}, "fox is COMPLETED instead of CANCELLED"),
        ({"state": JobState.RUNNING}, "fox is RUNNING instead of COMPLETED"),
        ({"state": None}, "fox is lost instead of COMPLETED"),
        ({"callbacks": []}, "fox should have run its completion callback once, but ran: none"),
        (
            {"callbacks": ["completion", "completion"]},
            "fox should have run its completion callback once, but ran: completion and completion",
        ),
        (
            {"callbacks": ["completion", "failure"]},
            "fox should have run its completion callback once, but ran: completion and failure",
        ),
        ({"callbacks": ["failure"]}, "fox should have run its completion callback once, but ran: failure"),
    ],
)
def test_a_job_that_went_otherwise_is_named(change, said):
    assert problems([replace(GOOD, **change)], ONCE, 1) == [said]


@pytest.mark.parametrize("count", [0, 2])
def test_a_job_that_is_not_one_task_at_bytespike_is_named(count):
    outcome = replace(GOOD, remote_tasks=count)

    assert problems([outcome], ONCE, count) == [f"fox has {count} tasks at ByteSpike instead of one"]


def test_a_task_that_belongs_to_no_job_is_told():
    assert problems([GOOD], ONCE, 2) == ["ByteSpike has 2 tasks, 1 of them for no job"]


@pytest.mark.parametrize(("count", "times"), [(0, "never"), (2, "2 times")])
def test_a_body_that_did_not_run_once_is_told(count, times):
    assert problems([GOOD], {"the body of the chord": count}, 1) == [
        f"the body of the chord ran {times} instead of once"
    ]


def record(**members) -> JobRecord:
    known = {"version": 1, "model": "m", "key": "default", "digest": "d", "created_at": 100.0, "starts_at": 100.0}
    return JobRecord(**{**known, **members})


def test_the_evidence_of_a_job_comes_from_the_store_the_callbacks_and_bytespike():
    remote = {"task_id": "t", "status": "completed", "credits_used": 0.25}
    entry = Entry("id", JobState.COMPLETED, record(remote=remote, polls=4), None, None, 120.0)
    calls = [Call("fox", app.COMPLETION, 107.5), Call("teapot", app.COMPLETION, 103.0), Call("fox", "chain", 108.0)]
    found = evidence.outcome(FOX, entry, calls, [{"ended_s": 107.0}])

    assert (found.state, list(found.callbacks), found.remote_tasks) == (JobState.COMPLETED, ["completion"], 1)
    assert (found.polls, found.took_s, found.credits, found.lag_s) == (4, 7.5, 0.25, 0.5)


def test_a_job_without_evidence_is_lost():
    found = evidence.outcome(CHANGED_MIND, None, [], [])

    assert found.state is None
    assert len(problems([found], {}, 0)) == 3


def test_the_scenes_have_names_of_their_own_and_every_kind_of_end():
    assert len({scene.name for scene in ALL}) == len(ALL)
    assert {scene.ends for scene in ALL} == {JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED}
