"""Rows that follow their jobs: real transactions, real threads, and in the second half a real worker that is killed."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tasks_bridge import InvalidRequest, JobNotFinished, JobState
from tasks_bridge.hooks import NotYet
from tasks_bridge.record import RecordedError
from tests.smoke.processes import LocalProcess, eventually

CALLED = "callback finds COMPLETED"
OUTPUT = [{"type": "image", "url": "https://cdn.example/fox.png"}]


def test_only_models_with_a_table_for_the_job_are_written(shop: Any) -> None:
    assert set(shop.job_models()) == {shop.Render, shop.Clip}
    large = shop.LargeClip(title="large")
    large.job_id, large.job_state = "large-clip", "RUNNING"
    large.save()
    shop.record_change(shop.change("large-clip", JobState.COMPLETED))
    assert shop.LargeClip.objects.get(job_id="large-clip").job_state == "COMPLETED"
    assert shop.notes("large-clip") == ["RUNNING -> COMPLETED", "completed"]


def test_a_row_takes_each_step_once_in_whichever_order_and_however_often_it_is_reported(shop: Any) -> None:
    found = shop.row()
    job_id = found.job_id
    reports = [JobState.PENDING, JobState.QUEUED, JobState.RUNNING, JobState.PENDING, JobState.COMPLETED]

    written = [shop.record_change(shop.change(job_id, state)) for state in (*reports, *reports, JobState.FAILED)]

    assert written == [1, 0, 1, 0, 1, *[0] * 6]
    assert shop.notes(job_id) == ["QUEUED -> PENDING", "PENDING -> RUNNING", "RUNNING -> COMPLETED", "completed"]


def test_of_many_that_report_the_same_at_the_same_time_one_writes(shop: Any) -> None:
    found = shop.row()
    start, written = threading.Barrier(8), []

    def report() -> None:
        start.wait()
        try:
            written.append(shop.record_change(shop.change(found.job_id, JobState.COMPLETED, output=OUTPUT)))
        finally:
            shop.connection.close()

    threads = [threading.Thread(target=report) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(written) == [0] * 7 + [1]
    assert shop.notes(found.job_id) == ["QUEUED -> COMPLETED", "completed"]


REFUSED = RecordedError(name="BadRequest", args=["bad", 400, "invalid_param", None])


@pytest.mark.parametrize(
    ("state", "known", "expected"),
    [
        (
            JobState.COMPLETED,
            {"output": OUTPUT, "credits_used": 1.5},
            {"job_outputs": OUTPUT, "job_credits": 1.5, "job_error_code": "", "job_error": ""},
        ),
        (
            JobState.FAILED,
            {"error_code": "content_policy_violation", "error_message": "no"},
            {"job_outputs": [], "job_credits": None, "job_error_code": "content_policy_violation"},
        ),
        (JobState.FAILED, {"error": REFUSED}, {"job_error_code": "invalid_param"}),
        (JobState.EXPIRED, {}, {"job_error_code": "JobExpired"}),
        (JobState.CANCELLED, {"credits_used": 0.4}, {"job_credits": 0.4}),
    ],
)
def test_a_row_keeps_what_came_of_its_job(
    shop: Any, state: JobState, known: dict[str, Any], expected: dict[str, Any]
) -> None:
    found = shop.row()

    shop.record_change(shop.change(found.job_id, state, **known))

    found.refresh_from_db()
    assert found.job_state == state
    assert found.job_is_over
    assert {name: getattr(found, name) for name in expected} == expected
    assert bool(found.job_error) == (state is not JobState.COMPLETED)
    end = {"COMPLETED": "completed", "FAILED": "failed", "EXPIRED": "failed", "CANCELLED": "cancelled"}
    assert shop.notes(found.job_id)[-1] == end[state]


def test_a_row_and_what_receivers_write_change_together_or_not_at_all(shop: Any) -> None:
    found = shop.row()
    shop.fails(found.job_id, "database")
    ending = shop.change(found.job_id, JobState.COMPLETED)

    with pytest.raises(NotYet, match="the database went away"):
        shop.RowHooks().ending(ending)
    found.refresh_from_db()
    assert (found.job_state, shop.notes(found.job_id)) == ("QUEUED", [])

    shop.RowHooks().ending(ending)
    found.refresh_from_db()
    assert (found.job_state, shop.notes(found.job_id)) == ("COMPLETED", ["QUEUED -> COMPLETED", "completed"])


def test_a_bug_in_a_receiver_undoes_what_receivers_wrote_and_not_the_row(shop: Any) -> None:
    found = shop.row()
    shop.fails(found.job_id, "bug")

    assert shop.record_change(shop.change(found.job_id, JobState.COMPLETED)) == 1

    found.refresh_from_db()
    assert (found.job_state, shop.notes(found.job_id)) == ("COMPLETED", [])
    assert shop.record_change(shop.change(found.job_id, JobState.COMPLETED)) == 0


def test_a_row_that_a_view_saves_keeps_what_the_workers_wrote_meanwhile(shop: Any) -> None:
    loaded = shop.Render.objects.get(pk=shop.row().pk)
    shop.record_change(shop.change(loaded.job_id, JobState.COMPLETED, output=OUTPUT))

    loaded.prompt = "a red fox"
    loaded.save()

    stored = shop.Render.objects.get(pk=loaded.pk)
    assert (stored.prompt, stored.job_state, stored.job_outputs) == ("a red fox", "COMPLETED", OUTPUT)
    part = shop.Render.objects.defer("prompt").get(pk=loaded.pk)
    part.script = {"outcome": "failed"}
    part.save()
    assert shop.Render.objects.get(pk=loaded.pk).prompt == "a red fox"
    loaded.job_outputs = []
    loaded.save(update_fields=["job_outputs"])
    assert shop.Render.objects.get(pk=loaded.pk).job_outputs == []


def test_a_job_starts_with_the_commit_and_not_without_it(shop: Any) -> None:
    store = shop.store()

    kept, dropped = shop.Render(prompt="kept"), shop.Render(prompt="dropped")
    with shop.transaction.atomic():
        kept.start_job(deadline_s=100, countdown=600)
        assert store.get([kept.job_id]) == [None]
    with shop.transaction.atomic():
        dropped.start_job()
        shop.transaction.set_rollback(True)

    (entry,) = store.get([kept.job_id])
    assert entry is not None
    assert (entry.record.deadline_s, entry.record.delay_s) == (100, 600)
    assert (kept.job_state, kept.job.status) == ("QUEUED", JobState.QUEUED)
    assert store.get([dropped.job_id]) == [None]
    assert not shop.Render.objects.filter(prompt="dropped").exists()
    kept.job.cancel()


def test_wrong_arguments_are_refused_before_anything_is_saved(shop: Any) -> None:
    new, known = shop.Clip(title="new"), shop.Clip.objects.create(title="known")

    for clip in (new, known):
        for arguments, options in (
            (("seedream-v4", {"prompt": object()}), {}),
            (("seedream-v4", {"prompt": "x"}), {"deadline_s": -1}),
            (("seedream-v4", {"prompt": "x"}), {"job_id": "not an id"}),
            ((), {}),
        ):
            with pytest.raises(InvalidRequest):
                clip.start_job(*arguments, **options)

    assert new.pk is None
    known.refresh_from_db()
    assert (known.job_id, known.job_state) == (None, "")


def test_a_row_says_its_job_s_options_and_the_caller_has_the_last_word(shop: Any) -> None:
    row, other = shop.Render(prompt="a fox", label="ada"), shop.Render(prompt="a fox", label="ada")

    row.start_job(countdown=600)
    other.start_job(countdown=600, label="bob")

    assert [entry.record.label for entry in shop.store().get([row.job_id, other.job_id])] == ["ada", "bob"]
    for one in (row, other):
        one.job.cancel()


def test_the_callback_that_a_row_says_runs_also_for_a_job_that_is_started_late(shop: Any, worker: LocalProcess) -> None:
    from tasks_bridge.contrib.django.reconcile import Verdict, reconcile

    row = shop.row(label="ada")

    assert Verdict.STARTED in [found.verdict for found in reconcile(0) if found.row == row]

    shop.ended(row, worker)
    eventually(lambda: "callback finds COMPLETED" in shop.notes(row.job_id), expected="its callback to run")


def test_of_two_starts_of_one_row_one_starts_a_job_and_the_next_may_once_that_is_over(shop: Any) -> None:
    first = shop.Render.objects.create(prompt="twice")
    second = shop.Render.objects.get(pk=first.pk)

    job_id = first.start_job(countdown=600)
    with pytest.raises(JobNotFinished, match=job_id):
        second.start_job()
    assert second.job_id is None

    shop.record_change(shop.change(job_id, JobState.FAILED))
    another = second.start_job(countdown=600)
    assert another != job_id
    shop.record_change(shop.change(job_id, JobState.CANCELLED))
    second.refresh_from_db()
    assert (second.job_id, second.job_state, second.job_error) == (another, "QUEUED", "")
    for started in (job_id, another):
        shop.store().request_cancel(started, "the test is over")


def test_a_report_without_rows_changes_nothing(shop: Any) -> None:
    assert shop.record_change(shop.change("nobody-s", JobState.COMPLETED)) == 0


def test_an_eager_job_ends_its_row_where_it_is_started(shop: Any, project: Any) -> None:
    project.conf.task_always_eager = True
    try:
        done, failed = shop.started(), shop.started(outcome="failed", error_code="content_policy_violation")
    finally:
        project.conf.task_always_eager = False

    for row in (done, failed):
        row.refresh_from_db()
    assert (done.job_state, failed.job_state) == ("COMPLETED", "FAILED")
    assert shop.notes(done.job_id) == ["QUEUED -> COMPLETED", "completed", CALLED]


# -- with a worker ----------------------------------------------------------------------------------------------------


def test_a_row_is_brought_to_its_job_s_end_before_the_callback_reads_it(shop: Any, worker: LocalProcess) -> None:
    found = shop.ended(shop.started(duration_s=1), worker)

    assert found.job_state == "COMPLETED"
    assert found.job_outputs[0]["url"].startswith("http://")
    assert found.job_credits > 0
    eventually(lambda: CALLED in shop.notes(found.job_id), expected="the callback", show=worker.tail)
    assert "tasks_bridge.record[" not in worker.logs(), "expected the log to speak of jobs"
    *steps, end, called = shop.notes(found.job_id)
    assert (end, called) == ("completed", CALLED)
    states = [step.split(" -> ") for step in steps]  # one between may be missed, but none is made up
    assert [before for before, _ in states] == ["QUEUED", *(after for _, after in states[:-1])]


def test_a_failed_and_a_cancelled_job_end_their_rows_too(shop: Any, worker: LocalProcess) -> None:
    failed = shop.started(outcome="failed", error_code="content_policy_violation")
    cancelled = shop.started(duration_s=60)
    eventually(lambda: cancelled.job.remote, expected="the job to be accepted", show=worker.tail)
    cancelled.job.cancel()

    assert shop.ended(failed, worker).job_error_code == "content_policy_violation"
    assert shop.ended(cancelled, worker).job_state == "CANCELLED"
    assert shop.notes(failed.job_id)[-1] == "failed"
    assert shop.notes(cancelled.job_id)[-1] == "cancelled"


@pytest.mark.parametrize("kind", ["killed", "database"])
def test_whatever_interrupts_a_transition_it_happens_once(shop: Any, worker: LocalProcess, kind: str) -> None:
    """Each report of the row is cut off before its commit, by SIGKILL or by the database, and comes again."""
    found = shop.Render(prompt="a fox", script={"duration_s": 0.5})
    job_id = "interrupted-by-" + kind
    shop.fails(job_id, kind)
    found.start_job(job_id=job_id, link=shop.publish.s())
    shop.ended(found, worker)
    eventually(lambda: CALLED in shop.notes(job_id), expected="the callback", show=worker.tail)

    steps = shop.notes(job_id)
    ends = [step for step in steps if step.endswith("-> COMPLETED")]
    assert (found.job_state, len(ends), steps.count("completed")) == ("COMPLETED", 1, 1)
    assert len(steps) == len(set(steps)), f"expected no step twice: {steps}"


def test_the_end_of_a_job_waits_for_a_database_that_is_locked(shop: Any, worker: LocalProcess) -> None:
    found = shop.started(duration_s=0.3)
    eventually(lambda: found.job.remote, expected="the job to be accepted", show=worker.tail)
    store = shop.store()

    with shop.transaction.atomic():
        shop.Note.objects.create(job_id="lock", text="whoever writes has SQLite for itself")
        eventually(
            lambda: store.get([found.job_id])[0].state is JobState.COMPLETED,
            expected="the job to be over",
        )

    assert shop.ended(found, worker).job_state == "COMPLETED"
    eventually(lambda: CALLED in shop.notes(found.job_id), expected="the callback", show=worker.tail)
