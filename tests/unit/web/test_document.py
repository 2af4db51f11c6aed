from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tasks_bridge.record import TERMINAL_STATES, JobRecord, JobState, RecordedError
from tasks_bridge.store import Entry
from tasks_bridge.web.answers import Request, document_answer, encode, version_of
from tasks_bridge.web.document import MESSAGES, document, poll_s

SECRET_WORDS = "the prompt and other secrets"
NOW = 1_800_000_000.0


def entry(state: JobState, *, cancel: str | None = None, now: float = NOW, **known: Any) -> Entry:
    record = JobRecord(version=1, model="sora-2", key="studio", digest="d", created_at=NOW - 60, **known)
    return Entry("my-render", state, record, cancel, None, now)


def remote(status: str, **more: Any) -> dict[str, Any]:
    return {"task_id": "task_1", "out_task_id": "my-render", "status": status, **more}


def test_a_document_of_a_job_under_way_says_how_far_it_is() -> None:
    running = entry(JobState.RUNNING, remote=remote("running"), submitted_at=NOW - 20, estimated_s=40)

    assert document(running) == {
        "id": "my-render",
        "state": "RUNNING",
        "is_over": False,
        "is_cancelling": False,
        "progress": 0.45,
        "eta_s": 20,
        "is_late": False,
        "outputs": [],
        "error": None,
        "poll_s": 2,
    }


def test_a_job_nobody_has_accepted_yet_has_no_time_left_and_no_progress() -> None:
    found = document(entry(JobState.QUEUED, cancel="changed my mind"))

    assert (found["progress"], found["eta_s"], found["is_cancelling"]) == (0, None, True)


def test_only_a_job_that_is_over_shows_all_of_its_bar() -> None:
    for late_s in (0, 100, 1e6):
        late = entry(JobState.RUNNING, submitted_at=NOW, estimated_s=10, now=NOW + late_s)
        assert document(late)["progress"] < 1
    for state in TERMINAL_STATES:
        over = document(entry(state, remote=remote("completed"), submitted_at=NOW))
        assert (over["progress"], over["eta_s"], over["poll_s"], over["is_over"]) == (1, 0, None, True)


def test_a_completed_job_shows_where_its_outputs_are_and_what_they_are() -> None:
    output = [
        {"type": "video", "url": "https://cdn.example/a.mp4", "duration_seconds": 8, "width": 1920, "height": 1080},
        {"url": "http://cdn.example/b"},
    ]
    found = document(entry(JobState.COMPLETED, remote=remote("completed", output=output)))

    assert found["outputs"] == [output[0], {"url": "http://cdn.example/b", "type": "file"}]


@pytest.mark.parametrize("url", ["javascript:alert(1)", " https://x", "data:text/html,x", "//x", "", 7, None])
def test_an_output_whose_url_is_not_of_the_web_is_left_out(url: object) -> None:
    output = [{"type": "image", "url": url, "width": True, "height": float("inf")}]

    assert document(entry(JobState.COMPLETED, remote=remote("completed", output=output)))["outputs"] == []


@pytest.mark.parametrize("state", list(JobState))
def test_no_prompt_and_nothing_meant_for_the_client_gets_out(state: JobState) -> None:
    told = remote(
        "completed",
        output=[{"url": "https://cdn.example/a.png", "revised_prompt": SECRET_WORDS, "b64_json": SECRET_WORDS}],
        error_message=SECRET_WORDS,
        error_code="content_policy_violation",
        upstream_provider=SECRET_WORDS,
    )
    for error in (None, RecordedError(name="InsufficientBalance", args=[SECRET_WORDS, 402, SECRET_WORDS, None])):
        record: dict[str, Any] = {
            "remote": told,
            "error": error,
            "options": {"link": [SECRET_WORDS]},
            "label": SECRET_WORDS,
        }
        text = json.dumps(document(entry(state, cancel=SECRET_WORDS, **record), show_credits=True))

        assert SECRET_WORDS not in text
        assert not {"sora-2", "studio", "task_1"} & set(text.split('"'))


@pytest.mark.parametrize(
    ("state", "known", "code"),
    [
        (JobState.FAILED, {"remote": remote("failed", error_code="content_policy_violation")}, None),
        (JobState.FAILED, {"remote": remote("failed", error_code="nsfw_face")}, "nsfw_face"),
        (JobState.FAILED, {"remote": remote("failed", error_code="a sentence, no code")}, "failed"),
        (JobState.FAILED, {"remote": remote("failed")}, "failed"),
        (JobState.FAILED, {"error": RecordedError(name="SpendLimitReached", args=["my-render"])}, "limit"),
        (JobState.FAILED, {"error": RecordedError(name="BadRequest", args=["", 400])}, "refused"),
        (JobState.FAILED, {"error": RecordedError(name="AuthenticationError", args=["", 401])}, "failed"),
        (JobState.CANCELLED, {}, "cancelled"),
        (JobState.EXPIRED, {}, "expired"),
    ],
)
def test_a_job_that_did_not_succeed_says_why_in_words_for_its_user(
    state: JobState, known: dict[str, Any], code: str | None
) -> None:
    error = document(entry(state, **known))["error"]

    assert error["code"] == (code or "content_policy_violation")
    assert error["message"] == MESSAGES.get(error["code"], MESSAGES["failed"])


def test_credits_are_shown_only_where_the_application_wants_that() -> None:
    done = entry(JobState.COMPLETED, remote=remote("completed", credits_used=1.5))

    assert "credits" not in document(done)
    assert document(done, show_credits=True)["credits"] == 1.5


def test_it_pays_to_ask_again_after_a_tenth_of_what_is_left() -> None:
    assert [poll_s(left) for left in (None, 5, 42, 600)] == [2, 2, 5, 15]


def test_a_browser_gets_the_document_once_and_is_told_when_it_has_it_already() -> None:
    first = document_answer({"a": "ü"}, Request("GET"))
    etag = first.headers["ETag"]

    assert (first.status, first.body, etag) == (200, '{"a":"ü"}'.encode(), f'"{version_of(first.body)}"')
    for known in (etag, f'"other", W/{etag}', "*"):
        assert document_answer({"a": "ü"}, Request("GET", known)).status == 304
    for known in ("", '"other"', etag.strip('"')):
        assert document_answer({"a": "ü"}, Request("GET", known)).status == 200


def test_what_a_page_gets_is_one_line() -> None:
    assert b"\n" not in encode({"text": "two\nlines\r\n\u2028"})


def test_every_member_of_the_document_is_on_its_page() -> None:
    page = (Path(__file__).parents[3] / "docs/live.md").read_text()
    members = document(entry(JobState.QUEUED), show_credits=True)

    assert {name for name in members if f"`{name}`" not in page} == {"id"}
