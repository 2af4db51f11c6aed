from __future__ import annotations

import inspect
import json
import pickle
import re

import pytest
from celery import Celery
from celery.backends.base import Backend

from tasks_bridge import errors
from tasks_bridge.errors import (
    ApiConnectionError,
    ApiError,
    ApiResponseError,
    ApiStatusError,
    ApiTimeout,
    AuthenticationError,
    BadRequest,
    BridgeError,
    Conflict,
    InsufficientBalance,
    InvalidRequest,
    InvalidToken,
    JobCancelled,
    JobConflict,
    JobError,
    JobExpired,
    JobFailed,
    JobNotFinished,
    JobNotFound,
    NotFound,
    OutputError,
    OutputGone,
    OutputNotStored,
    OutputRejected,
    OutputTooLarge,
    OutputUnreachable,
    PermissionDenied,
    RateLimited,
    ServerError,
    SettingsError,
    SpendLimitReached,
    StoreError,
    StoreUnreachable,
)

REMOTE = {"task_id": "task_1", "status": "failed", "output": [{"url": "https://cdn.test/a", "n": None}]}

EXAMPLES: list[BridgeError] = [
    BridgeError("It broke. Mend it."),
    SettingsError("The API key is missing. Set BYTESPIKE_API_KEY."),
    InvalidRequest("model must be text. Pass a slug."),
    JobConflict("job-1"),
    InvalidToken(),
    StoreError("Redis is down. Start it."),
    StoreUnreachable("Redis is down. Start it."),
    StoreUnreachable("Redis is down. Start it.", ["job-1", "job-2"]),
    ApiError("It broke. Mend it."),
    ApiConnectionError("No route. Check the network."),
    ApiTimeout("No answer. Try again."),
    ApiResponseError("Not JSON. Check the base URL."),
    *(
        kind("Slow down", 418, "some_code", 1.5)
        for kind in (
            ApiStatusError,
            BadRequest,
            AuthenticationError,
            PermissionDenied,
            NotFound,
            Conflict,
            InsufficientBalance,
            RateLimited,
            ServerError,
        )
    ),
    ServerError("", 503),
    OutputError("job-1"),
    OutputError("job-1", 0, "it is odd", "more"),
    OutputGone("job-1", 0, 403),
    OutputGone("job-1"),
    OutputTooLarge("job-1", 1, 1000, 2000),
    OutputTooLarge("job-1", 1, 1000),
    OutputTooLarge("job-1"),
    OutputRejected("job-1", 0, "it is labelled text/html, and is video/mp4"),
    OutputUnreachable("job-1", 0, "its server answered HTTP 503", 7.5),
    OutputUnreachable("job-1", None, "another worker is at it"),
    OutputNotStored("job-1", 0, "PermissionError, Permission denied"),
    JobError("job-1"),
    JobError("job-1", "a", 2),
    JobFailed("job-1", "content_policy_violation", "The prompt was rejected.", REMOTE),
    JobFailed("job-1"),
    JobCancelled("job-1", REMOTE),
    JobCancelled("job-1"),
    JobExpired("job-1", 900.0, REMOTE),
    JobExpired("job-1"),
    SpendLimitReached("job-1", "label:acme", 10.0, 1.5, 9.25),
    SpendLimitReached("job-1", "all", 10.0, 1.5, 9.25),
    SpendLimitReached("job-1", "job", 1.0, 1.5, 0.0),
    SpendLimitReached("job-1"),
    JobNotFinished("job-1", "RUNNING"),
    JobNotFinished("job-1"),
    JobNotFound("job-1"),
]


def all_errors() -> set[type[BridgeError]]:
    return {
        value
        for _, value in inspect.getmembers(errors, inspect.isclass)
        if issubclass(value, BridgeError) and value.__module__ == errors.__name__
    }


def same(one: BaseException, other: BaseException) -> bool:
    return type(one) is type(other) and one.args == other.args and vars(one) == vars(other) and str(one) == str(other)


each_error = pytest.mark.parametrize("error", EXAMPLES, ids=repr)


def test_every_error_has_an_example_here() -> None:
    assert {type(error) for error in EXAMPLES} == all_errors()


def test_every_error_is_exported() -> None:
    assert set(errors.__all__) == {kind.__name__ for kind in all_errors()}


def test_the_tree_in_the_docstring_is_the_tree_of_classes() -> None:
    drawn: dict[str, str] = {}
    above: list[str] = []
    assert errors.__doc__ is not None
    for line in errors.__doc__.split("```")[1].splitlines():
        found = re.match(r"([│├└─ ]*)([A-Z]\w+)", line)
        if found:
            depth = len(found[1]) // 4
            del above[depth:]
            if above:
                drawn[found[2]] = above[-1]
            above.append(found[2])

    assert drawn == {kind.__name__: kind.__bases__[0].__name__ for kind in all_errors() - {BridgeError}}


@each_error
def test_every_error_survives_pickle(error: BridgeError) -> None:
    assert same(pickle.loads(pickle.dumps(error)), error)


@each_error
def test_every_error_is_rebuilt_from_its_arguments_after_json(error: BridgeError) -> None:
    assert same(type(error)(*json.loads(json.dumps(error.args))), error)


@each_error
@pytest.mark.parametrize("serializer", ["json", "pickle"])
def test_every_error_survives_celerys_result_backend(error: BridgeError, serializer: str) -> None:
    app = Celery(set_as_current=False)
    app.conf.accept_content = ["json", "pickle"]
    backend = Backend(app, serializer=serializer)

    stored = backend.decode(backend.encode(backend.prepare_exception(error)))

    assert same(backend.exception_to_python(stored), error)


@each_error
def test_every_error_reads_as_sentences(error: BridgeError) -> None:
    assert re.fullmatch(r"\w.*\.", str(error)), f"not a sentence: {error}"
    assert ".." not in str(error)
    assert "None" not in str(error)


def test_a_refusal_says_what_happened_why_and_what_to_do() -> None:
    error = BadRequest("model is unknown.", 400, "invalid_param")

    assert str(error) == (
        "ByteSpike answered HTTP 400 invalid_param: model is unknown. Correct the request; the same one fails again."
    )


def test_a_failed_job_says_why() -> None:
    error = JobFailed("job-1", "content_policy_violation", "The prompt was rejected under content policy.")

    assert str(error) == (
        "Job job-1 failed (content_policy_violation): The prompt was rejected under content policy. "
        "A new attempt needs a new job id."
    )


def test_an_invalid_request_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="Pass a slug"):
        raise InvalidRequest("model must be text. Pass a slug.")


@pytest.mark.parametrize(
    ("code", "expected"), [("concurrency_limit", True), ("rate_limit_exceeded", False), (None, False)]
)
def test_only_the_code_says_that_concurrency_was_the_limit(code: str | None, expected: bool) -> None:
    assert RateLimited("", 429, code).concurrency is expected
