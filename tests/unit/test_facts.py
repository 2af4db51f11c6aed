from __future__ import annotations

import json

import pytest

from tasks_bridge import facts
from tasks_bridge.record import OPEN_STATES, TERMINAL_STATES, JobRecord, JobState

REMOTE = {"task_id": "task_1", "status": "running", "estimated_seconds": 40}
RECORD = JobRecord(
    version=1, model="m", key="k", digest="d", created_at=0, submitted_at=100, estimated_s=40, remote=REMOTE, polls=2
)
UNSENT = JobRecord(version=1, model="m", key="k", digest="d", created_at=0)


@pytest.mark.parametrize("state", sorted(TERMINAL_STATES))
def test_a_finished_job_is_done(state: JobState) -> None:
    assert facts.progress(state, RECORD, 100) == 1.0
    assert facts.eta_s(state, RECORD, 100) == 0.0


@pytest.mark.parametrize("state", sorted(OPEN_STATES))
def test_an_open_job_has_progress_from_its_submit_on(state: JobState) -> None:
    assert facts.progress(state, RECORD, 120) == pytest.approx(0.45)
    assert facts.eta_s(state, RECORD, 120) == 20


def test_of_a_job_that_was_not_submitted_nothing_is_known() -> None:
    assert facts.progress(JobState.QUEUED, UNSENT, 500) == 0.0
    assert facts.eta_s(JobState.QUEUED, UNSENT, 500) is None


def test_a_report_is_the_remote_object_and_our_facts() -> None:
    report = facts.report("job", JobState.PENDING, RECORD, token=3, now=120, next_poll_s=6)

    assert (report.job_id, report.state, report.token) == ("job", "PENDING_REMOTE", 3)
    assert report.info == REMOTE | {
        "job": {"token": 3, "polls": 2, "progress": 0.45, "eta_s": 20, "next_poll_at": 126},
    }


def test_what_is_unknown_is_left_out_of_a_report() -> None:
    info = facts.info(JobState.QUEUED, UNSENT, token=0, now=0, next_poll_s=None)

    assert info == {"job": {"token": 0, "polls": 0, "progress": 0.0}}


def test_a_notice_is_json_that_says_which_job_and_which_state() -> None:
    notice = json.loads(facts.notice("job", JobState.RUNNING, RECORD, token=3, now=120))

    assert notice == REMOTE | {
        "id": "job",
        "state": "RUNNING",
        "job": {"token": 3, "polls": 2, "progress": 0.45, "eta_s": 20},
    }
