"""Whether the soak's verdict can fail, and on what."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from soak.books import HARM_S, Evidence, Found, check
from soak.evidence import Delivery, Notebook, deliveries, publications, read_notes
from soak.plan import CANCELLED, COMPLETED, NEVER_SENT, Flow, Planned
from soak.report import Figures, as_json, percentile, table

JOB = Planned("f-0", "completed", "m", {}, frozenset({COMPLETED}), label="anna")
FLOW = Flow("f", "single", 0.0, (JOB,))
REMOTE = {"status": "completed", "ended_s": 100.0}
FOUND = Found("COMPLETED", None, "SUCCESS", [REMOTE], 0.25, {("COMPLETED", 4)})
ONE = Delivery("f-0.link", 101.0, 101.1, 101.2)
GOOD = Evidence(
    jobs={"f-0": FOUND},
    deliveries={"f-0.link": [ONE]},
    published={"f-0.link": [100.5]},
    remote_tasks=1,
    used={None: 0.25, "anna": 0.25},
    reserved=0.0,
)


def judge(found: dict[str, Any] | None = None, flow: Flow = FLOW, once: bool = False, **changes: Any) -> list[str]:
    jobs = {"f-0": replace(FOUND, **(found or {}))}
    verdict = check([flow], replace(GOOD, **{"jobs": jobs, **changes}), {"f-0.link"} if once else set())
    return [problem for problems in verdict.problems.values() for problem in problems]


def test_nothing_is_wrong_when_all_is_well():
    verdict = check([FLOW], GOOD, set())

    assert verdict.is_good
    assert verdict.ends == {("completed", "COMPLETED"): 1}
    assert (verdict.callbacks, verdict.doubles, verdict.recoveries_s) == (1, 0, [1.0])


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"celery_state": "RUNNING"}, "is COMPLETED, but Celery's result says RUNNING"),
        ({"celery_state": None}, "is COMPLETED, but Celery's result says None"),
        (
            {"notices": {("COMPLETED", 4), ("CANCELLED", 5)}},
            "ended more than once: [('CANCELLED', 5), ('COMPLETED', 4)]",
        ),
        ({"remote": [{"status": "failed"}]}, "is COMPLETED (failed) instead of COMPLETED (completed)"),
        ({"state": "RUNNING"}, "has not ended: it is RUNNING"),
        ({"state": None}, "is lost: the store does not know it"),
    ],
)
def test_a_job_that_went_otherwise_is_named(found, said):
    assert said in judge(found)


def test_a_second_remote_task_is_named():
    assert judge({"remote": [REMOTE, REMOTE]}, remote_tasks=2) == ["has 2 tasks at ByteSpike"]


def test_a_remote_task_that_belongs_to_no_job_is_told():
    assert judge(remote_tasks=2) == ["ByteSpike has 2 tasks, 1 of them for no job"]


def test_a_cancel_may_come_before_the_submit_and_a_completion_must_not():
    flow = replace(FLOW, jobs=(replace(JOB, ends=frozenset({CANCELLED}) | NEVER_SENT),))
    found = {"state": "CANCELLED", "celery_state": "REVOKED", "remote": [], "notices": (), "charged": 0.25}
    called: dict[str, Any] = {"deliveries": {"f-0.errback": [replace(ONE, call="f-0.errback")]}, "remote_tasks": 0}

    assert judge(found, flow, **called) == []
    assert judge(found, FLOW, **called) == ["is CANCELLED (no task) instead of COMPLETED (completed)"]


def test_a_job_may_be_refused_for_its_cost_only_where_that_is_limited():
    found: dict[str, Any] = {
        "state": "FAILED",
        "celery_state": "FAILURE",
        "error": "SpendLimitReached",
        "remote": [],
    }
    called: dict[str, Any] = {"deliveries": {"f-0.errback": [replace(ONE, call="f-0.errback")]}, "remote_tasks": 0}

    assert judge(found, has_spend_limit=True, **called) == []
    limited = replace(GOOD, jobs={"f-0": replace(FOUND, **found)}, has_spend_limit=True)
    assert check([FLOW], limited, set()).refused_for_cost == 1
    assert judge(found, **called) == ["is FAILED (no task) instead of COMPLETED (completed)"]


def test_a_callback_that_was_never_published_is_lost():
    assert judge(deliveries={}, published={}, harm=[100.6]) == [
        "callback f-0.link never ran; it was published never, and came 0 times"
    ]


def test_a_published_callback_is_the_brokers_to_lose_only_while_something_was_hurt():
    verdict = check([FLOW], replace(GOOD, deliveries={}, harm=[100.6]), set())

    assert (verdict.is_good, verdict.dropped) == (True, ["f-0.link"])
    assert judge(deliveries={}, harm=[100.5 + HARM_S + 1]) == [
        "callback f-0.link never ran; it was published 1 times, and came 0 times"
    ]


def test_a_callback_that_should_not_run_is_told():
    assert judge(deliveries={"f-0.link": [ONE], "f-0.errback": [ONE]}) == [
        "callback f-0.errback ran though it should not"
    ]


def test_doubles_are_counted_and_under_once_must_not_run():
    again = Delivery("f-0.link", 105.0, 105.1, 105.2)
    dropped = Delivery("f-0.link", 105.0, None, 105.2)
    twice = {"f-0.link": [ONE, again]}

    assert judge(deliveries=twice) == []
    assert check([FLOW], replace(GOOD, deliveries=twice), set()).doubles == 1
    assert judge(deliveries=twice, once=True) == [
        "callback f-0.link is under `once` and ran again after it had run to its end"
    ]
    verdict = check([FLOW], replace(GOOD, deliveries={"f-0.link": [ONE, dropped]}), {"f-0.link"})
    assert (verdict.is_good, verdict.doubles, verdict.suppressed) == (True, 1, 1)


def test_a_body_under_once_that_was_cut_off_may_run_again():
    cut_off = Delivery("f-0.link", 100.6, 100.7, None)
    verdict = check([FLOW], replace(GOOD, deliveries={"f-0.link": [cut_off, ONE]}), {"f-0.link"})

    assert (verdict.is_good, verdict.cut_off) == (True, 1)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"used": {None: 0.5, "anna": 0.25}},
            ["0.5 credits are booked for all jobs, and ByteSpike charges 0.25"],
        ),
        (
            {"used": {None: 0.25, "anna": 0.25, "ben": 0.1}},
            ["0.1 credits are booked for label ben, and ByteSpike charges 0.0"],
        ),
        ({"reserved": 0.1}, ["0.1 credits are still reserved though every job is over"]),
    ],
)
def test_books_that_do_not_match_are_told(changes, said):
    assert judge(**changes) == said


def test_a_job_that_should_not_have_been_started_is_named():
    second = replace(JOB, id="f-1")
    flow = Flow("f", "sequel", 0.0, (JOB, second))
    failed = replace(FOUND, state="FAILED", celery_state="FAILURE", remote=[{"status": "failed"}], charged=0.25)
    evidence = replace(GOOD, jobs={"f-0": failed, "f-1": replace(FOUND, charged=0.0)}, remote_tasks=2)

    assert check([flow], evidence, set()).problems["f-1"][0] == (
        "was started though the job before it has not completed"
    )


def test_notes_are_read_back_as_deliveries_without_a_line_that_is_being_written(tmp_path):
    path = tmp_path / "notes"
    book = Notebook(path)
    book.note("published", "a.link", task="linked")
    book.note("came", "a.link", run="1")
    book.note("ran", "a.link", run="1")
    book.note("came", "a.link", run="2")
    book.note("done", "a.link", run="2")
    with path.open("a") as file:
        file.write('{"what": "ca')
    notes = list(read_notes(path))

    first, second = deliveries(notes)["a.link"]
    assert (first.ran_at is not None, first.done_at) == (True, None)
    assert (second.ran_at, second.done_at is not None) == (None, True)
    assert len(publications(notes)["a.link"]) == 1


def test_the_report_says_whether_the_books_balance():
    verdict = check([FLOW], GOOD, set())
    api = {"requests": {"submit": 2, "query": 3}, "duplicate_submits": 1, "tasks": 1, "faults": {"hang": 1}}
    figures = Figures("python -m soak", 1, 1, {"Redis killed": 2}, 3, 0, api, 0.25, 10, 2, 15)
    facts = as_json(figures, verdict)

    assert json.loads(json.dumps(facts))["good"] is True
    assert "| Redis killed | 2 |" in table(facts)
    assert "| credits booked | 0.25, as charged |" in table(facts)
    assert "| credits booked | 0.25 |" in table({**facts, "good": False})


def test_a_percentile_is_a_value_that_occurred():
    assert (percentile(range(1, 101), 0.99), percentile([3.0], 0.5), percentile([], 0.99)) == (99, 3.0, 0.0)
