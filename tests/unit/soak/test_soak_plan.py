"""The soak's jobs and troubles: the same for the same seed, and of every kind."""

from __future__ import annotations

import pytest

from soak.plan import COMPLETED, Flow, Planned, plan
from soak.weather import weather
from tasks_bridge.sandbox.script import parse_fault, parse_script

FLOWS = plan(7, 2000, 240.0)


def job(job_id: str) -> Planned:
    return Planned(job_id, "completed", "m", {}, frozenset({COMPLETED}))


def test_the_same_seed_gives_the_same_jobs_and_the_same_troubles():
    assert plan(7, 2000, 240.0) == FLOWS
    assert weather(7, 240.0, 3) == weather(7, 240.0, 3)


def test_another_seed_gives_others():
    assert plan(8, 2000, 240.0) != FLOWS
    assert weather(8, 240.0, 3) != weather(7, 240.0, 3)


@pytest.mark.parametrize("jobs", [1, 2, 3, 50])
def test_there_are_as_many_jobs_as_asked_for(jobs):
    assert sum(len(flow.jobs) for flow in plan(3, jobs, 10.0)) == jobs


def test_every_job_has_an_id_of_its_own():
    ids = [job.id for flow in FLOWS for job in flow.jobs]

    assert len(set(ids)) == len(ids)


def test_there_are_jobs_flows_and_troubles_of_every_kind():
    ends = {end for flow in FLOWS for job in flow.jobs for end in job.ends}

    assert {state for state, _ in ends} == {"COMPLETED", "FAILED", "CANCELLED", "EXPIRED"}
    assert {flow.kind for flow in FLOWS} == {"single", "steps", "sequel", "chord"}
    assert {event.act for event in weather(7, 1200.0, 3)} == {
        "signal",
        "freeze",
        "thaw",
        "kill redis",
        "start redis",
        "pause redis",
        "resume redis",
        "api",
    }


def test_the_sandbox_understands_every_script_and_every_outage():
    for flow in FLOWS:
        for each in flow.jobs:
            parse_script(each.script)
    for event in weather(7, 1200.0, 3):
        if event.act == "api" and event.detail["kind"] != "down":
            parse_fault(event.detail, server_wide=True)


def test_whatever_goes_down_comes_back():
    acts = [event.act for event in weather(7, 1200.0, 3)]

    assert acts.count("kill redis") == acts.count("start redis") > 0
    assert acts.count("pause redis") == acts.count("resume redis") > 0
    assert acts.count("freeze") == acts.count("thaw") > 0


def test_redis_has_one_trouble_at_a_time():
    acts = [event.act for event in weather(7, 1200.0, 3) if "redis" in event.act]

    assert all("redis" in act and act.split()[0] in ("kill", "pause") for act in acts[::2])
    assert all(act.split()[0] in ("start", "resume") for act in acts[1::2])


def test_what_must_run_depends_on_how_the_jobs_ended():
    one, two = job("f-0"), job("f-1")

    assert Flow("f", "single", 0, (one,)).expected({"f-0": "COMPLETED"}) == {"f-0.link"}
    assert Flow("f", "single", 0, (one,)).expected({"f-0": "EXPIRED"}) == {"f-0.errback"}
    assert Flow("f", "steps", 0, (one,)).expected({"f-0": "COMPLETED"}) == {"f.framed", "f.hung"}
    assert Flow("f", "steps", 0, (one,)).expected({"f-0": "FAILED"}) == {"f-0.errback"}
    both = {"f-0": "COMPLETED", "f-1": "COMPLETED"}
    assert Flow("f", "sequel", 0, (one, two)).expected(both) == {"f-1.link"}
    assert Flow("f", "sequel", 0, (one, two)).expected({"f-0": "FAILED", "f-1": None}) == {"f-0.errback"}
    assert Flow("f", "chord", 0, (one, two)).expected(both) == {"f.body"}
    assert Flow("f", "chord", 0, (one, two)).expected({**both, "f-1": "FAILED"}) == {"f-1.errback", "f.body-errback"}


def test_a_second_job_is_due_only_if_the_first_completed():
    flow = Flow("f", "sequel", 0, (job("f-0"), job("f-1")))

    assert flow.is_due(flow.jobs[0], {})
    assert flow.is_due(flow.jobs[1], {"f-0": "COMPLETED"})
    assert not flow.is_due(flow.jobs[1], {"f-0": "FAILED"})
