from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks_bridge.cadence import rounded_up
from tasks_bridge.models import RemoteStatus, RemoteTask
from tasks_bridge.record import (
    OPEN_STATES,
    RECORD_VERSION,
    TERMINAL_STATES,
    JobRecord,
    JobState,
    RecordedError,
    advance,
    request_digest,
)
from tasks_bridge.wire import submit_body

QUEUED, PENDING, RUNNING = JobState.QUEUED, JobState.PENDING, JobState.RUNNING
COMPLETED, FAILED, CANCELLED, EXPIRED = JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED

# Every arrow there is, and no other: what a job in a state becomes when ByteSpike reports a status.
ARROWS = {
    QUEUED: {"pending": PENDING, "running": RUNNING, "unheard-of": PENDING},
    PENDING: {"pending": PENDING, "running": RUNNING, "unheard-of": PENDING},
    RUNNING: {"pending": RUNNING, "running": RUNNING, "unheard-of": RUNNING},
}
ENDS = {"completed": COMPLETED, "failed": FAILED, "cancelled": CANCELLED}
STATUSES = [*RemoteStatus, "unheard-of"]


@pytest.mark.parametrize("observed", STATUSES)
@pytest.mark.parametrize("current", JobState)
def test_a_job_advances_along_the_arrows_only(current: JobState, observed: str) -> None:
    expected = current if current in TERMINAL_STATES else {**ARROWS[current], **ENDS}[observed]

    assert advance(current, observed) is expected


@given(st.sampled_from(JobState), st.lists(st.sampled_from(STATUSES)))
def test_a_job_ends_once_whatever_is_reported_in_whichever_order(state: JobState, reports: list[str]) -> None:
    ends = []
    for report in reports:
        before, state = state, advance(state, report)
        if state is not before and state.is_terminal:
            ends.append(state)

    assert len(ends) <= 1


@pytest.mark.parametrize("observed", ["", "timeout", "COMPLETED ", "succeeded", "done"])
def test_an_unknown_status_never_ends_a_job(observed: str) -> None:
    assert not advance(RUNNING, observed).is_terminal


def test_every_state_is_either_open_or_final_and_has_a_name_in_celery() -> None:
    assert set(JobState) == OPEN_STATES | TERMINAL_STATES
    assert not OPEN_STATES & TERMINAL_STATES
    assert {state: state.celery_state for state in JobState} == {
        QUEUED: "QUEUED",
        PENDING: "PENDING_REMOTE",
        RUNNING: "RUNNING",
        COMPLETED: "SUCCESS",
        FAILED: "FAILURE",
        CANCELLED: "REVOKED",
        EXPIRED: "FAILURE",
    }


def a_record(**changes: object) -> JobRecord:
    return JobRecord(version=1, model="m", key="default", digest="d", created_at=100.0).but(**changes)


def test_a_record_survives_storage() -> None:
    record = a_record(
        delay_s=5.5,
        submit_by=300.0,
        deadline_s=60.0,
        options={"link": [{"task": "t", "args": [], "kwargs": {"x": None}}], "priority": 0, "stamps": {"a": ["b"]}},
        remote={"task_id": "task_1", "status": "running", "nothing": None, "text": "ünï\ud7ff"},
        error=RecordedError(name="JobFailed", args=["id", None, "why", {"a": 1}]),
        polls=3,
    )

    assert JobRecord.model_validate_json(record.to_json()) == record


def test_a_record_of_a_newer_version_keeps_its_unknown_fields() -> None:
    stored = json.loads(a_record().to_json()) | {"version": 2, "from_the_future": {"x": [1]}}

    read = JobRecord.model_validate_json(json.dumps(stored)).but(polls=1)

    assert json.loads(read.to_json())["from_the_future"] == {"x": [1]}


def test_a_waiting_record_stores_no_defaults() -> None:
    assert set(json.loads(a_record().to_json())) == {"version", "model", "key", "digest", "created_at"}


def test_a_new_job_has_been_sent_read_and_missed_no_time_and_is_in_nobodys_books() -> None:
    record = a_record()

    assert (record.attempts, record.unsent, record.polls, record.failures) == (0, 0, 0, 0)
    assert (record.has_callback, record.is_booked, record.is_unconfirmed) == (False, False, False)


def test_what_is_stored_is_spelled_as_ever_because_older_and_newer_workers_read_it() -> None:
    assert [state.value for state in JobState] == [
        *("QUEUED", "PENDING", "RUNNING"),
        *("COMPLETED", "FAILED", "CANCELLED", "EXPIRED"),
    ]
    assert request_digest(b'{"model":"m","params":{"a":1,"b":[2]}}', "default") == "g6n4c8OHS9mW", (
        "another digest would turn each repeated call into a conflict"
    )


def test_a_record_is_a_value() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        a_record().polls = 1  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        RecordedError(name="JobFailed", args=[]).name = "JobExpired"  # type: ignore[misc]


NEWER = RECORD_VERSION + 1


@pytest.mark.parametrize(
    ("field", "shown"), [("version", NEWER), ("model", "?"), ("key", "?"), ("digest", ""), ("created_at", 0.0)]
)
def test_of_a_newer_record_the_rest_is_read_where_something_is_kept_in_another_way(field: str, shown: object) -> None:
    stored = json.loads(a_record(polls=7).to_json()) | {"version": NEWER, "from_the_future": 1}
    versions = [stored] if field == "version" else [stored | {field: {"in": "another way"}}, _without(stored, field)]

    for version in versions:
        read = JobRecord.from_json(json.dumps(version))
        assert (read.version, read.polls, getattr(read, field)) == (NEWER, 7, shown)


def _without(document: dict[str, object], field: str) -> dict[str, object]:
    return {name: value for name, value in document.items() if name != field}


@pytest.mark.parametrize("version", [RECORD_VERSION, None, 0])
def test_a_record_of_no_newer_version_must_be_whole(version: int | None) -> None:
    stored = json.loads(a_record().to_json()) | {"version": version}
    broken = _without(stored, "model") if version is not None else _without(stored, "version")

    with pytest.raises(ValidationError):
        JobRecord.from_json(json.dumps(broken))
    with pytest.raises(ValidationError):
        JobRecord.from_json("[]")


def test_a_record_starts_when_the_caller_wants_it() -> None:
    assert a_record().starts_at == 100.0
    assert a_record(delay_s=20.0).starts_at == 120.0


def test_a_record_knows_its_remote_task_once_there_is_one() -> None:
    remote = {"task_id": "task_1", "status": "running"}

    assert (a_record().remote_task, a_record().remote_id) == (None, None)
    assert a_record(remote=remote).remote_task == RemoteTask(task_id="task_1", status="running")
    assert a_record(remote=remote).remote_id == "task_1"
    assert a_record(remote={"task_id": 7}).remote_id is None


def test_the_same_request_has_the_same_digest_in_any_order_of_keys() -> None:
    one = submit_body("m", {"a": 1, "b": [2]}, out_task_id="id")
    other = submit_body("m", {"b": [2], "a": 1}, out_task_id="id")

    assert request_digest(one, "default") == request_digest(other, "default")
    assert len(request_digest(one, "default")) == 12


@pytest.mark.parametrize(
    ("body", "key"),
    [
        (b'{"model":"m","params":{"a":1,"b":[3]}}', "default"),
        (b'{"model":"n","params":{"a":1,"b":[2]}}', "default"),
        (b'{"model":"m","params":{"a":1,"b":[2]}}', "other"),
        (b'{"model":"m","params":{"a":1.0,"b":[2]}}', "default"),  # contract, section 7: 8 and 8.0 may differ
    ],
)
def test_another_request_has_another_digest(body: bytes, key: str) -> None:
    assert request_digest(body, key) != request_digest(b'{"model":"m","params":{"a":1,"b":[2]}}', "default")


@given(st.floats(0, 1))
def test_progress_that_is_kept_is_not_below_what_was_shown(done: float) -> None:
    kept = rounded_up(done)
    record = a_record(progress=kept)

    assert JobRecord.from_json(record.to_json()).progress == kept >= min(done, 0.99)


def test_no_more_digits_are_kept_than_tell_something() -> None:
    record = JobRecord(
        version=2,
        model="m",
        key="k",
        digest="",
        created_at=1.23456,
        polled_at=2.34567,
        left_s=3.45678,
        progress=0.456789,
    )

    kept = json.loads(record.to_json())
    assert [kept[name] for name in ("created_at", "polled_at", "left_s", "progress")] == [1.23, 2.35, 3.46, 0.4568]


def test_a_record_shows_no_options_because_the_next_jobs_prompt_may_be_in_them() -> None:
    record = a_record(options={"chain": ["a fox"]})

    assert "a fox" not in f"{record!r} {record}"


def test_a_job_is_late_only_once_that_was_noted() -> None:
    assert a_record().is_late is False


def test_a_state_knows_where_a_job_in_it_can_have_come_from() -> None:
    assert (QUEUED.earlier, PENDING.earlier, RUNNING.earlier) == ((), (QUEUED,), (QUEUED, PENDING))
    for end in TERMINAL_STATES:
        assert end.earlier == (QUEUED, PENDING, RUNNING)
