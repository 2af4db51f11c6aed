"""What workers write down of a job, and that they do without where it can't be written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from tasks_bridge.cli import cli
from tasks_bridge.record import JobState
from tests.integration.lab import API_KEY, PROMPT, Lab, calls, eventually


@pytest.fixture
def environment(lab: Lab, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """The commands find the app's jobs."""
    monkeypatch.setenv("TASKS_BRIDGE_REDIS_URL", redis_url)
    monkeypatch.setenv("TASKS_BRIDGE_NAMESPACE", lab.settings.namespace)
    monkeypatch.setenv("BYTESPIKE_API_KEY", API_KEY)
    monkeypatch.setenv("BYTESPIKE_BASE_URL", lab.sandbox.url)
    return lab


def explained(job_id: str, *options: str) -> dict[str, Any]:
    result = CliRunner().invoke(cli, ["explain", job_id, "--json", *options])
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def changes(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [(event["from"], event["to"]) for event in found["history"] if event["kind"] == "state"]


def test_explain_tells_a_jobs_life_from_its_registration_to_its_end(environment: Lab) -> None:
    result = environment.submit({"pending_s": 1.0, "duration_s": 4.0})
    environment.ended(result)
    eventually(lambda: len(changes(explained(result.id))) == 3, "the journal to have the end")
    found = explained(result.id, "--ask")

    assert [one[1] for one in changes(found)] == ["PENDING", "RUNNING", "COMPLETED"]
    assert [event["at"] for event in found["history"]] == sorted(event["at"] for event in found["history"])
    assert "silence" not in [event["kind"] for event in found["history"]]
    assert (found["next"]["text"], found["journal_since"]) == (
        "nothing: it is over, and its outcome is with Celery",
        None,
    )
    assert found["asked"]["status"] == "completed"
    assert PROMPT not in json.dumps(found)
    assert API_KEY not in json.dumps(found)


def test_the_moments_of_a_jobs_changes_stay_with_it_when_the_journal_is_gone(environment: Lab) -> None:
    result = environment.submit({"duration_s": 0.5})
    record = environment.ended(result).record
    for name in ("changes", "looks"):
        environment.bridge.store.client.delete(environment.bridge.store.key("journal", name))
    found = explained(result.id)

    # a busy machine may never see it run
    moments = [record.created_at, record.submitted_at, record.running_at or record.submitted_at, record.ended_at]
    assert moments == sorted(moments)
    assert [one[1] for one in changes(found)][-1] == "COMPLETED"
    assert found["history"][-1]["at"] == round(record.ended_at, 3)


def test_jobs_run_as_ever_where_the_journal_can_not_be_written(environment: Lab) -> None:
    store = environment.bridge.store
    try:
        for name in ("changes", "looks"):
            store.client.delete(store.key("journal", name))
            store.client.set(store.key("journal", name), "not a stream")
        result = environment.submit({"duration_s": 0.5})

        assert environment.ended(result).state is JobState.COMPLETED
        eventually(lambda: calls(result.id, "publish"), "its callback")
    finally:
        for name in ("changes", "looks"):
            store.client.delete(store.key("journal", name))


def test_a_job_that_redis_has_forgotten_is_told_from_the_journal(environment: Lab) -> None:
    result = environment.submit({"duration_s": 0.3})
    environment.ended(result)
    eventually(lambda: [one[1] for one in changes(explained(result.id))][-1] == "COMPLETED", "its end to be told")
    environment.bridge.store.client.delete(environment.bridge.store.key("job", result.id))
    told = CliRunner().invoke(cli, ["explain", result.id, "--ask"])

    assert told.exit_code == 1
    assert "-> COMPLETED: ByteSpike says completed" in told.stdout
    assert "ByteSpike, asked just now: completed, as task_" in told.stdout
    assert result.id in told.stderr


def test_explain_of_a_job_that_nobody_knows_is_a_problem_and_of_no_id_wrong_usage(environment: Lab) -> None:
    unknown = CliRunner().invoke(cli, ["explain", "nobody", "--ask"])
    no_id = CliRunner().invoke(cli, ["explain", "no spaces"])

    assert (unknown.exit_code, no_id.exit_code) == (1, 2)
    assert unknown.stdout == "ByteSpike, asked just now: it has no such task for this API key.\n"
