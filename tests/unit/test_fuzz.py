"""Whatever strangers send, and whatever callers pass: an answer, or one of our errors, and never a secret in it."""

from __future__ import annotations

import json
import math
import os
import string
import traceback
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from tasks_bridge.errors import ApiError, ApiStatusError, BridgeError, InvalidRequest, SettingsError
from tasks_bridge.models import RemoteTask
from tasks_bridge.record import JobRecord
from tasks_bridge.settings import Settings
from tasks_bridge.sse import EventDecoder
from tasks_bridge.steps import recorded
from tasks_bridge.wire import MAX_BODY_BYTES, read_event, read_models, read_task, retry_after_s, submit_body

NOW_S = 1_800_000_000.0
SECRET = "sk-byts-Never-Shown-0123456789"
FIELDS = [
    *RemoteTask.model_fields,
    *("credits", "error", "code", "message", "type", "url", "result", "result_url", "video_url", "data", "id"),
]

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())  # half surrogate pairs included
    | st.sampled_from(["pending", "failed", SECRET]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS) | st.text(), inner, max_size=5),
    max_leaves=12,
)
envelopes = st.fixed_dictionaries({}, optional={"code": json_values, "message": json_values, "type": json_values})
bodies = (
    st.binary(max_size=200)
    | st.binary(max_size=200).map(lambda start: start + SECRET.encode())
    | envelopes.map(lambda error: json.dumps({"error": error}).encode())
    | json_values.map(lambda value: json.dumps(value).encode())
    | st.dictionaries(st.sampled_from(FIELDS), json_values).map(lambda value: json.dumps(value).encode())
)
# close enough to dates and numbers to lead into their parsers
dates = st.lists(
    st.sampled_from(["Sun,", "Sunday,", "06", "-1", "99", "Nov", "1994", "0", "9999", "08:49:37", "99:99", ":", "."])
    | st.sampled_from(
        ["GMT", "+0000", "-2400", "+99999999999", "Sun Nov  6 08:49:37 1994", "06-Nov-94", "1e400", "(", ")"]
    )
    | st.text("0123456789:+-.,eE_ ", max_size=8),
    max_size=8,
).map(" ".join)
headers = st.dictionaries(
    st.sampled_from(["Retry-After", "retry-after", "X-RateLimit-Reset", "X-RateLimit-Remaining"]) | st.text(),
    st.text()
    | st.integers().map(str)
    | st.floats().map(str)
    | st.datetimes().map(lambda at: f"{at:%a, %d %b %Y %T GMT}")
    | dates,
)
statuses = st.integers(-1, 1000) | st.sampled_from([200, 201, 204, 301, 400, 401, 402, 404, 409, 429, 500, 503])


def outcome(call: Callable[[], Any], expected: type[BridgeError], longest: int = 1000) -> Any:
    """What *call* returns, or the error it raises, which shows nothing."""
    try:
        return call()
    except expected as error:
        raised = error
    shown = "".join(traceback.format_exception(raised)) + repr(raised.args)
    assert SECRET not in shown, "no traceback should show a secret"
    assert len(str(raised)) < longest, "a message should be short"
    return raised


def in_the_store(**changes: object) -> JobRecord:
    """The record of a job with *changes*, written and read again."""
    record = JobRecord(version=1, model="m", key="default", digest="d", created_at=1.0).but(**changes)
    return JobRecord.from_json(record.to_json())


def nested(levels: int) -> bytes:
    return b'{"task_id":"t","status":"failed","deep":' + b"[" * levels + b"]" * levels + b"}"


@given(statuses, headers, bodies)
@example(200, {}, b'{"task_id":"t","status":"pending","estimated_seconds":' + b"9" * 400 + b"}")
@example(200, {}, b"[" * 100_000)
@example(500, {}, b"[" * 100_000)
@example(200, {}, b"\xef\xbb\xbf{}")
@example(200, {}, nested(100))
@example(200, {}, nested(150))
@example(200, {}, nested(220))
@example(200, {}, b'{"task_id":"t","status":"failed","error_message":"cut in the middle \\ud83d"}')
@example(200, {}, b'{"task_id":"t","status":"failed","\\ud83d":1}')
@example(401, {}, b'{"error":{"code":"%s"}}' % SECRET.encode())
def test_any_answer_is_a_task_or_an_error_of_the_api(status: int, sent: dict[str, str], content: bytes) -> None:
    task = outcome(lambda: read_task(status, sent, content, now_s=NOW_S, secret=SecretStr(SECRET)), ApiError)
    if isinstance(task, ApiStatusError):
        assert task.retry_after_s is None or 0 <= task.retry_after_s < math.inf
        assert type(task)(*task.args).args == task.args
        assert in_the_store(error=recorded(task)).error == recorded(task), "an error should survive the store"
    elif isinstance(task, RemoteTask):
        again = json.loads(json.dumps(task.to_json(), allow_nan=False))
        assert RemoteTask.model_validate(again) == task, "a task should survive the result backend"
        assert in_the_store(remote=task.to_json()).remote_task == task, "a task should survive the store"
        assert all(task.urls)


@given(statuses, headers, bodies)
def test_any_answer_is_a_catalogue_or_an_error_of_the_api(status: int, sent: dict[str, str], content: bytes) -> None:
    rows = outcome(lambda: read_models(status, sent, content, now_s=NOW_S, secret=SecretStr(SECRET)), ApiError)

    assert isinstance(rows, ApiError) or all(isinstance(row, dict) for row in rows)


@settings(max_examples=300)
@given(headers)
def test_any_wait_that_is_asked_for_is_none_or_a_finite_time(sent: dict[str, str]) -> None:
    wait_s = retry_after_s(sent, NOW_S)

    assert wait_s is None or 0 <= wait_s < math.inf


lines = st.lists(
    st.sampled_from([b"data: {", b"data", b'data:{"task_id":"t","status":"running"}', b"event: x", b"id: 1", b"id: \0"])
    | st.sampled_from([b"retry: 10", b"retry: x", b": comment", b"", b"\xff", "data: é\u2028".encode()])
    | st.binary(max_size=10),
    max_size=12,
)


def decoded(chunks: list[bytes]) -> list[Any]:
    decoder = EventDecoder(limit=10_000)
    return [event for chunk in chunks for event in decoder.feed(chunk)]


@given(lines, st.sampled_from([b"\n", b"\r", b"\r\n"]), st.data())
def test_a_stream_means_the_same_however_it_is_cut(parts: list[bytes], ending: bytes, data: st.DataObject) -> None:
    stream = ending.join(parts) + ending * 2
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    chunks = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]

    events = decoded(chunks)

    assert events == decoded([stream])
    assert events == decoded([bytes([byte]) for byte in stream])
    for event in events:
        read_event(event)


OF_THE_API = ("api_key", "api_keys", "base_url")
SECRETS = ("API_KEY", "API_KEYS", "REDIS_URL", "BROKER_URL", "RESULT_BACKEND", "SECRET_KEY", "SECRET_KEY_FALLBACKS")
VARIABLES = {
    f"{'BYTESPIKE' if name in OF_THE_API else 'TASKS_BRIDGE'}_{name}".upper(): name for name in Settings.model_fields
}
names = st.sampled_from(sorted(VARIABLES))
strange_names = st.builds(
    lambda prefix, name: prefix + name,
    st.sampled_from(["TASKS_BRIDGE_", "BYTESPIKE_", "tasks_bridge_", "Bytespike_"]),
    st.text(st.characters(codec="utf-8", exclude_characters="\0="), max_size=20),
).filter(lambda name: name.upper() not in VARIABLES)
# the operating system's own limits on the environment
values = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60).map(lambda text: text + SECRET)
plausible = st.sampled_from(["-1", "1e999", "nan", "[]", "{}", "null", "true", "0x10", "redis://", '{"a": 1}', '["x"]'])


@settings(max_examples=200)
@given(st.dictionaries(names, values | plausible, max_size=4))
def test_any_environment_is_a_configuration_or_an_error_that_names_a_variable_and_shows_no_value(
    environment: dict[str, str],
) -> None:
    with patch.dict(os.environ, environment):
        made = outcome(Settings, SettingsError)

    hidden = [value for name, value in environment.items() if name.endswith(SECRETS) and SECRET in value]
    assert not any(value in repr(made) for value in hidden)
    if isinstance(made, SettingsError):
        assert str(made).isprintable(), "an error should be one line"
        assert any(name in str(made) or VARIABLES[name] in str(made) for name in environment), str(made)


@given(strange_names, values)
def test_a_variable_of_any_name_that_is_none_of_ours_is_an_error_that_says_so(name: str, value: str) -> None:
    with patch.dict(os.environ, {name: value}):
        made = outcome(Settings, SettingsError, longest=3000)

    assert isinstance(made, SettingsError)
    assert str(made).isprintable(), "an error should be one line"
    assert repr(name) in str(made)


json_like = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.text(st.characters())  # half surrogate pairs included
    | st.binary(max_size=3)
    | st.just(object()),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner)
        | st.dictionaries(st.text() | st.integers() | st.none(), inner, max_size=4)
    ),
    max_leaves=10,
)


def untupled(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [untupled(item) for item in value]
    return {key: untupled(item) for key, item in value.items()} if isinstance(value, dict) else value


@given(
    st.text(string.ascii_letters) | json_like,
    st.dictionaries(st.text(), json_like, max_size=4) | json_like,
    st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True) | json_like,
    st.none() | st.just("https://shop.test/hook") | st.text() | json_like,
)
def test_any_arguments_are_a_body_that_says_the_same_or_an_error(
    model: Any, params: Any, out_task_id: Any, callback_url: Any
) -> None:
    body = outcome(
        lambda: submit_body(model, params, out_task_id=out_task_id, callback_url=callback_url), InvalidRequest
    )

    if isinstance(body, InvalidRequest):
        assert len(str(body)) < 1000
        return
    expected = {"model": model, "params": untupled(params), "out_task_id": out_task_id, "callback_url": callback_url}
    assert json.loads(body) == {name: value for name, value in expected.items() if value is not None}
    assert len(body) <= MAX_BODY_BYTES


def test_a_number_too_long_to_write_is_an_error() -> None:
    with pytest.raises(InvalidRequest, match="cannot be written"):
        submit_body("sora-2", {"n": 10**5000}, out_task_id="job-1")


def test_a_parameter_that_contains_itself_is_an_error() -> None:
    loop: dict[str, Any] = {}
    loop["loop"] = [loop]

    with pytest.raises(InvalidRequest, match="contains itself"):
        submit_body("sora-2", loop, out_task_id="job-1")
