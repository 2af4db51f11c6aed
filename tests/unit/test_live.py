"""Jobs on the screen: bars on a terminal, otherwise a line for each change."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from tasks_bridge.live import JobLine, LiveView, bars, line_of, plain
from tasks_bridge.record import JobRecord, JobState, RecordedError
from tasks_bridge.store import Entry

RUNNING = JobLine("fox", JobState.RUNNING, 0.5, 2, "5 s left")


def entry(state: JobState, *, cancel: str | None = None, **members) -> Entry:
    known = {"version": 1, "model": "m", "key": "default", "digest": "d", "created_at": 100.0, "starts_at": 100.0}
    return Entry("job-1", state, JobRecord(**{**known, **members}), cancel, None, 110.0)


def console(**options) -> Console:
    return Console(file=io.StringIO(), width=80, color_system=None, **options)


def written(where: Console) -> str:
    assert isinstance(where.file, io.StringIO)
    return where.file.getvalue()


@pytest.mark.parametrize(
    ("seen", "note"),
    [
        (entry(JobState.QUEUED), ""),
        (entry(JobState.QUEUED, attempts=1), "submit 2"),
        (entry(JobState.RUNNING, submitted_at=100.0, estimated_s=30.0), "20 s left"),
        (entry(JobState.RUNNING, cancel="cancelled", submitted_at=100.0), "being cancelled"),
        (entry(JobState.COMPLETED, remote={"task_id": "t", "status": "completed", "credits_used": 0.5}), "0.5 credits"),
        (entry(JobState.COMPLETED, remote={"task_id": "t", "status": "completed"}), ""),
        (entry(JobState.FAILED, remote={"task_id": "t", "status": "failed", "error_code": "policy"}), "policy"),
        (entry(JobState.FAILED, error=RecordedError(name="InsufficientBalance", args=["no"])), "InsufficientBalance"),
        (entry(JobState.EXPIRED), ""),
    ],
)
def test_a_job_is_shown_with_what_is_worth_knowing(seen, note):
    assert line_of(seen).note == note
    assert plain(line_of(seen)).startswith("job-1")


def test_away_from_a_terminal_a_job_gets_a_line_for_each_change_and_no_more():
    where = console()
    with LiveView(where, stamp=lambda: "> ") as view:
        view.show([RUNNING])
        view.show([JobLine("fox", JobState.RUNNING, 0.9, 7, "1 s left")])
        view.show([JobLine("fox", JobState.COMPLETED, 1.0, 8, "0.5 credits")])
        view.show([JobLine("fox", JobState.COMPLETED, 1.0, 8, "0.5 credits")])

    assert written(where) == "> fox  RUNNING    5 s left\n> fox  COMPLETED  0.5 credits\n"


def test_a_terminal_gets_bars():
    where = console(force_terminal=True)
    with LiveView(where) as view:
        view.show([RUNNING])

    assert "━━━━━" in written(where)
    assert "2 polls" in written(where)


def test_a_terminal_without_cursor_gets_lines():
    where = Console(file=io.StringIO(), force_terminal=True, color_system=None, _environ={"TERM": "dumb"})
    with LiveView(where) as view:
        view.show([RUNNING])

    assert written(where) == "fox  RUNNING    5 s left\n"


@pytest.mark.parametrize("state", JobState)
def test_a_row_of_every_state_fits_80_columns(state):
    where = console()
    where.print(bars([JobLine("changed-mind", state, 1.0, 99, "content_policy_violation")]))

    assert len(written(where).splitlines()) == 1
    assert f"changed-mind  {state}" in written(where)
