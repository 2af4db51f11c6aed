"""What failed assertions about jobs say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery
from pydantic import SecretStr

from tasks_bridge import JobFailed, Settings, SpendLimitReached, generate, install
from tasks_bridge.testing import (
    ByteSpike,
    assert_job_cancelled,
    assert_job_completed,
    assert_job_expired,
    assert_job_failed,
    assert_job_submitted,
    assert_no_jobs,
)
from tasks_bridge.testing.apps import current

VIDEO = ("sora-2", {"prompt": "a fox", "duration_seconds": 8})


@pytest.fixture
def app() -> Iterator[Celery]:
    found = Celery("shop", set_as_current=False)
    install(found, Settings(api_key=SecretStr("sk-byts-k")))
    with current(found):
        yield found


@pytest.fixture
def bytespike(app: Celery) -> Iterator[ByteSpike]:
    with ByteSpike() as found:
        yield found


def start(job_id: str = "render-1", **options: Any) -> Any:
    return generate.apply_async(VIDEO, task_id=job_id, **options)


def said_by(assertion: Callable[..., Any], *arguments: Any, **named: Any) -> str:
    with pytest.raises(AssertionError) as caught:
        assertion(*arguments, **named)
    return str(caught.value)


def test_good_ends_pass_and_give_what_there_is_to_know(bytespike: ByteSpike) -> None:
    start("one")
    bytespike.complete(urls=["https://cdn.example/fox.mp4"])
    start("two")
    bytespike.fail("two", code="nsfw")

    assert assert_job_completed("one").urls == ["https://cdn.example/fox.mp4"]
    error = assert_job_failed("two", code="nsfw")
    assert isinstance(error, JobFailed)
    assert error.code == "nsfw"


def test_another_end_says_which_and_why(bytespike: ByteSpike) -> None:
    start()
    bytespike.fail(code="nsfw", message="Not that.")

    assert said_by(assert_job_completed) == "job render-1 should be COMPLETED, but it is FAILED: nsfw: Not that."
    assert said_by(assert_job_cancelled) == "job render-1 should be CANCELLED, but it is FAILED: nsfw: Not that."
    assert said_by(assert_job_failed, code="timeout") == (
        "job render-1 should have failed with 'timeout', but it is FAILED: nsfw: Not that."
    )


def test_an_open_job_says_how_to_end_it(bytespike: ByteSpike) -> None:
    bytespike.script(None, {"duration_s": 90, "pending_s": 2})
    start()

    said = said_by(assert_job_completed)

    assert said.startswith("job render-1 should be COMPLETED, but it is PENDING at ByteSpike, by estimate 0% done.\n")
    assert "something is due in 2.0 s" in said
    assert "bytespike.complete(job)" in said
    assert "bytespike.run()" in said
    assert "fast_clock.advance(seconds)" in said


def test_a_job_that_waits_for_its_submit_says_so(bytespike: ByteSpike) -> None:
    start(countdown=60)

    assert "it is QUEUED: ByteSpike has not accepted it yet" in said_by(assert_job_completed)


def test_expired_and_cancelled_jobs_are_told_apart(bytespike: ByteSpike) -> None:
    result = start("one")
    bytespike.start("one")
    result.revoke()
    bytespike.script(None, {"outcome": "hang"})
    generate.apply_async(VIDEO, {"deadline_s": 60}, task_id="two")
    bytespike.clock.advance(60)

    assert_job_cancelled("one")
    assert_job_expired("two")
    assert said_by(assert_job_expired, "one").startswith(
        "job one should be EXPIRED, but it is CANCELLED: JobCancelled: Job one was cancelled"
    )


def test_a_refused_submit_has_failed_with_bytespikes_code(bytespike: ByteSpike) -> None:
    bytespike.sandbox.fail("status", on="submit", status=402, code="insufficient_balance")
    start()

    assert_job_failed(code="insufficient_balance")
    assert "InsufficientBalance: ByteSpike answered HTTP 402" in said_by(assert_job_completed)


@pytest.mark.parametrize("name", ["SpendLimitReached", None])
def test_an_error_of_ours_has_its_name_for_a_code(app: Celery, name: str | None) -> None:
    with ByteSpike(spend_limit=0.1):
        generate.apply_async(VIDEO, {"max_credits": 1.0})
        assert isinstance(assert_job_failed(code=name), SpendLimitReached)


def test_a_request_is_found_by_model_and_some_of_its_parameters(bytespike: ByteSpike) -> None:
    start("one")
    generate.apply_async(("seedream-v4", {"prompt": "a hare"}))

    assert assert_job_submitted(model="sora-2").job_id == "one"
    assert assert_job_submitted(params={"prompt": "a fox"}).params["duration_seconds"] == 8
    assert assert_job_submitted("one").model == "sora-2"


def test_a_request_that_was_not_made_is_compared_with_those_that_were(bytespike: ByteSpike) -> None:
    start("one")

    said = said_by(assert_job_submitted, model="sora-2", params={"prompt": "a hare", "n": 2})

    assert said.splitlines() == [
        "ByteSpike should have been asked once for model='sora-2', params={'prompt': 'a hare', 'n': 2}, but never was",
        "what it was asked for:",
        "  sora-2 {'duration_seconds': 8, 'prompt': 'a fox'}, by job one",
        "    params['prompt']: expected 'a hare', not 'a fox'",
        "    params['n']: expected 2, but there is none",
    ]


def test_a_request_that_was_made_twice_is_no_single_one(bytespike: ByteSpike) -> None:
    start("one")
    start("two")

    said = said_by(assert_job_submitted, model="sora-2")

    assert said.startswith("ByteSpike should have been asked once for model='sora-2', but was 2 times\n")
    assert "by job one" in said
    assert "by job two" in said


def test_where_nothing_was_asked_for_it_says_why(bytespike: ByteSpike) -> None:
    assert said_by(assert_job_submitted).splitlines()[1] == "it was asked for nothing at all: no job was started"
    start(countdown=60)
    assert said_by(assert_job_submitted).splitlines()[1:] == [
        "it was asked for nothing at all",
        "  job render-1 is QUEUED: ByteSpike has not accepted it yet",
    ]


def test_jobs_that_should_not_be_there_are_listed(bytespike: ByteSpike) -> None:
    assert_no_jobs()
    start()
    bytespike.complete()

    assert said_by(assert_no_jobs) == ("no job should have been started, but there are:\nrender-1, which is COMPLETED")


def test_a_row_without_a_job_says_so(bytespike: ByteSpike) -> None:
    row = type("Row", (), {"job_id": None, "__repr__": lambda _: "<Render 7>"})()

    assert said_by(assert_job_completed, row) == "<Render 7> has no job"


def test_an_eager_job_can_be_asserted_about_too(app: Celery) -> None:
    with ByteSpike() as bytespike:
        good = generate.apply(VIDEO)
        bytespike.script(None, {"outcome": "failed", "error_code": "nsfw", "error_message": "Not that."})
        bad = generate.apply(VIDEO, task_id="eager-2")

        assert assert_job_completed(good).urls
        assert_job_failed(bad, code="nsfw")
        assert said_by(assert_job_completed, bad) == (
            "job eager-2 should be COMPLETED, but it is FAILED: nsfw: Not that."
        )


def test_without_the_fixture_the_job_must_be_named(app: Celery) -> None:
    with pytest.raises(TypeError, match="say which job"):
        assert_job_completed()
    with pytest.raises(TypeError, match="`bytespike` and `bytespike_sandbox` only"):
        assert_job_submitted()
