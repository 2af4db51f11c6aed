"""What `tasks-bridge explain` says of a job: what happened, why, and what comes next."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr

from tasks_bridge.gate import Circuit
from tasks_bridge.history import History, past_events, past_lines
from tasks_bridge.journal import Line, Past
from tasks_bridge.record import JobRecord, JobState, RecordedError
from tasks_bridge.settings import Settings
from tasks_bridge.store import Entry, Phase

T0 = 1_795_392_000.0
SETTINGS = Settings(api_key=SecretStr("sk-byts-x"))
NOTHING = Past([], None, None)


def a_record(**changes: Any) -> JobRecord:
    known = {"version": 2, "model": "sora-2-pro", "key": "default", "digest": "d", "created_at": T0}
    return JobRecord.model_validate({**known, **changes})


def running(**changes: Any) -> JobRecord:
    remote = {"task_id": "task_1", "status": "running"}
    return a_record(**{"remote": remote, "submitted_at": T0 + 1, "running_at": T0 + 5, "polls": 2, **changes})


def an_entry(state: JobState = JobState.RUNNING, record: JobRecord | None = None, **changes: Any) -> Entry:
    entry = Entry("job-1", state, record or running(), None, T0 + 14, T0 + 10, token=3)
    return replace(entry, **changes)


def line(token: int, at: float, before: JobState, after: JobState, reason: str, *, is_look: bool = False) -> Line:
    return Line("job-1", token, before, after, reason, 4.0, is_look=is_look, at=T0 + at)


LINES = [
    line(1, 1.02, JobState.QUEUED, JobState.PENDING, "accepted as task_1"),
    line(2, 5.02, JobState.PENDING, JobState.RUNNING, "ByteSpike says running"),
    line(3, 9.02, JobState.RUNNING, JobState.RUNNING, "read 1 failed: HTTP 503"),
]


def a_history(entry: Entry | None = None, past: Past = NOTHING, circuit: Circuit | None = None) -> History:
    return History(entry or an_entry(), past, circuit or Circuit(0), SETTINGS)


def kinds(history: History) -> list[tuple[float, str]]:
    return [(round(event.at - T0), event.kind) for event in history.events]


def test_changes_are_told_from_the_record_where_the_journal_has_none_of_them():
    history = a_history(past=Past([], T0 + 8, T0 + 8))

    assert kinds(history) == [(0, "registered"), (1, "state"), (5, "state")]
    assert [event.text for event in history.events][1:] == [
        "QUEUED -> PENDING: accepted as task_1",
        "PENDING -> RUNNING: ByteSpike says running",
    ]
    assert "The journal reaches back to 2026-11-23 00:00:08 UTC" in list(history.lines())[-1]


def test_a_change_that_the_journal_has_is_told_once_with_its_reason():
    history = a_history(past=Past(LINES, None, None))

    assert kinds(history) == [(0, "registered"), (1, "state"), (5, "state"), (9, "trouble")]
    assert "read 1 failed: HTTP 503; next look in 4.0 s" in "\n".join(history.lines())
    assert list(history.lines())[-1] == "The journal has all of this."


def test_a_job_accepted_as_running_was_never_pending():
    history = a_history(an_entry(record=running(running_at=T0 + 1)))

    assert [event.text for event in history.events][1:] == ["QUEUED -> RUNNING: accepted as task_1"]


def test_the_end_is_told_with_its_error():
    error = RecordedError(name="AuthenticationError", args=["no such key", 401])
    ended = a_record(error=error, ended_at=T0 + 3)
    history = a_history(an_entry(JobState.FAILED, ended, due_at=None, phase=Phase.ENDED))

    assert history.events[-1].text.startswith("QUEUED -> FAILED: ByteSpike answered HTTP 401: no such key.")
    assert history.next.at is None
    assert "Deadline" not in "\n".join(history.lines())


def test_leases_of_which_nothing_was_heard_show():
    later = [*LINES[:2], replace(LINES[2], token=5)]
    history = a_history(an_entry(token=7), Past(later, None, None))

    assert [event.text.partition(":")[0] for event in history.events if event.kind == "silence"] == [
        "nothing was heard of leases 3 to 4",
        "nothing was heard of leases 6 to 7",
    ]
    assert kinds(history)[-3:] == [(9, "silence"), (9, "trouble"), (10, "silence")]


@pytest.mark.parametrize(
    ("entry", "past"),
    [
        (an_entry(token=4, phase=Phase.LEASED), Past(LINES, None, None)),
        (an_entry(token=9), Past([], T0 + 9.5, T0 + 9.5)),
        (an_entry(token=3), Past(LINES[2:], T0 + 8, T0 + 8)),
    ],
    ids=["at work now", "nothing in the journal", "the journal begins later"],
)
def test_no_lease_counts_as_silent_of_which_nothing_can_be_known(entry, past):
    assert "silence" not in [event.kind for event in a_history(entry, past).events]


def test_many_looks_that_saw_the_same_are_one_line_for_people_and_all_of_them_for_programs():
    looks = [
        line(3 + n, 10 + 4 * n, JobState.RUNNING, JobState.RUNNING, "ByteSpike says running", is_look=True)
        for n in range(5)
    ]
    history = a_history(an_entry(token=7, now=T0 + 40, due_at=T0 + 41), Past([*LINES[:2], *looks], None, None))
    text = "\n".join(history.lines())

    assert "ByteSpike says running; 5 times until 00:00:26, every 4.0 s or so" in text
    assert sum(event["kind"] == "look" for event in history.described()["history"]) == 5


@pytest.mark.parametrize(
    ("changes", "said", "is_worrying"),
    [
        ({}, "a worker asks ByteSpike how it is", False),
        ({"cancel": "cancelled"}, "a worker cancels it at ByteSpike", False),
        ({"phase": Phase.CLAIMED, "claims": 1}, "its message is in the queue", False),
        ({"phase": Phase.CLAIMED, "claims": 4}, "published 4 times, and nobody took it", True),
        ({"phase": Phase.LEASED}, "a worker is at it (lease 3)", False),
        ({"due_at": T0 + 9}, "a worker asks ByteSpike how it is", False),
        ({"due_at": T0 - 50}, "due for 1 min 0 s, and no worker came: tasks-bridge doctor", True),
        ({"left_to": 3}, "a worker of a newer version", True),
        ({"due_at": T0 + 3600}, "a worker cancels it at ByteSpike", False),
        ({"due_at": None, "state": JobState.COMPLETED}, "nothing: it is over", False),
        ({"state": JobState.COMPLETED, "phase": Phase.CLAIMED, "claims": 1}, "hands its outcome to Celery", False),
        ({"state": JobState.QUEUED, "record": a_record(), "token": 0}, "a worker submits it", False),
        ({"state": JobState.QUEUED, "record": a_record(), "token": 0, "cancel": "x"}, "ends it", False),
    ],
)
def test_what_happens_next_is_what_a_worker_would_decide(changes, said, is_worrying):
    coming = a_history(an_entry(**changes)).next

    assert said in coming.text
    assert coming.is_worrying is is_worrying


def test_people_are_told_of_the_deadline_the_cancel_and_the_circuit_breaker():
    entry = an_entry(cancel="cancelled by the user", record=running(failures=3))
    text = "\n".join(a_history(entry, circuit=Circuit(0, T0 + 2, T0 + 12)).lines())

    assert "Deadline: 2026-11-23 00:15:00 UTC, in 14 min 50 s; then it is cancelled." in text
    assert "Its cancel was asked for: cancelled by the user." in text
    assert "3 requests in a row have failed since." in text
    assert "ByteSpike does not answer any worker since 2026-11-23 00:00:02 UTC" in text
    assert "Next: in 4.0 s, at 00:00:14 UTC: a worker cancels it at ByteSpike." in text


def test_programs_are_told_the_same_in_json():
    found = json.loads(json.dumps(a_history(past=Past(LINES, None, None)).described()))

    assert found["history"][1] == {
        "at": T0 + 1.02,
        "after_s": 1.02,
        "kind": "state",
        "text": "QUEUED -> PENDING: accepted as task_1",
        "from": "QUEUED",
        "to": "PENDING",
        "wait_s": 4.0,
    }
    assert found["next"] == {
        "text": "a worker asks ByteSpike how it is",
        "is_worrying": False,
        "at": T0 + 14,
        "in_s": 4.0,
    }
    assert found["deadline_at"] == T0 + 900
    assert found["journal_since"] is None


def test_of_a_job_that_is_forgotten_the_journal_is_told():
    past = Past(LINES, None, None)

    assert list(past_lines(past))[1] == "  2026-11-23 00:00:01 UTC  QUEUED -> PENDING: accepted as task_1"
    assert [event.kind for event in past_events(past)] == ["state", "state", "trouble"]
