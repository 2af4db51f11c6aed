from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from tasks_bridge import wire
from tasks_bridge.errors import (
    ApiError,
    ApiResponseError,
    ApiStatusError,
    AuthenticationError,
    BadRequest,
    Conflict,
    InsufficientBalance,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    RateLimited,
    ServerError,
)
from tasks_bridge.models import RemoteTask
from tasks_bridge.sse import ServerSentEvent

NOW_S = 1_800_000_000.0
KEY = "sk-byts-secret-0123456789"
RUNNING = b"""{"task_id": "task_01HQX9F2P6Y8VEX3CRZ8GXJVD9", "out_task_id": "my-render-2026-05-25-001",
 "status": "running", "estimated_credits": 1.50, "estimated_seconds": 35}"""

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def body(model: Any = "sora-2-pro", params: Any = None, out_task_id: Any = "job-1", callback_url: Any = None) -> bytes:
    return wire.submit_body(
        model,
        {"prompt": "a fox"} if params is None else params,
        out_task_id=out_task_id,
        callback_url=callback_url,
    )


def read(content: bytes | str | dict[str, Any], status_code: int = 200, **headers: str) -> RemoteTask:
    if isinstance(content, dict):
        content = json.dumps(content)
    if isinstance(content, str):
        content = content.encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return wire.read_task(status_code, named, content, now_s=NOW_S, secret=SecretStr(KEY))


def refused(status_code: int, code: object = None, message: object = "No.", **headers: str) -> ApiStatusError:
    with pytest.raises(ApiStatusError) as caught:
        read({"error": {"code": code, "message": message, "type": "x"}}, status_code, **headers)
    return caught.value


# --- submit -----------------------------------------------------------------------------------------------


def test_the_body_of_a_submit_is_compact_canonical_json() -> None:
    content = body(params={"prompt": "ein Füchslein 🦊", "duration_seconds": 8}, callback_url="https://app.test/hook")

    assert content.decode() == (
        '{"callback_url":"https://app.test/hook","model":"sora-2-pro","out_task_id":"job-1",'
        '"params":{"duration_seconds":8,"prompt":"ein Füchslein 🦊"}}'
    )


def test_a_submit_without_an_id_or_a_callback_names_neither() -> None:
    assert json.loads(body(out_task_id=None)) == {"model": "sora-2-pro", "params": {"prompt": "a fox"}}


@given(st.dictionaries(st.text(), json_values, max_size=5))
def test_equal_parameters_give_equal_bytes_and_come_back_equal(params: dict[str, Any]) -> None:
    shuffled = dict(reversed(list(params.items())))

    assert body(params=params) == body(params=shuffled)
    assert json.loads(body(params=params))["params"] == params


def test_a_tuple_is_sent_as_a_list() -> None:
    assert json.loads(body(params={"size": (1, 2)}))["params"] == {"size": [1, 2]}


@pytest.mark.parametrize("model", [None, "", "  ", " sora-2", "sora-2\n", "so\0ra", 5, b"sora-2", "\ud800"], ids=repr)
def test_a_model_that_is_no_slug_is_refused(model: object) -> None:
    with pytest.raises(InvalidRequest, match=r"^model "):
        body(model=model)


def test_any_slug_passes_because_slugs_are_not_stable() -> None:
    assert json.loads(body(model="seedance-9.9/next gen"))["model"] == "seedance-9.9/next gen"


@pytest.mark.parametrize("params", ["prompt", ["prompt"], 5, [("prompt", "x")]], ids=repr)
def test_parameters_that_are_no_dict_are_refused(params: object) -> None:
    with pytest.raises(InvalidRequest, match="params must be a dict"):
        body(params=params)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        (
            {"style": [1, 2, datetime(2026, 1, 1, tzinfo=UTC)]},
            r"params\.style\[2\]: datetime is not JSON-able",
        ),
        ({"a": {"b": ({"c": Decimal(1)},)}}, r"params\.a\.b\[0\]\.c: Decimal is not JSON-able"),
        ({"a": b"raw"}, r"params\.a: bytes is not JSON-able"),
        ({"a": {1, 2}}, r"params\.a: set is not JSON-able"),
        ({"a": math.nan}, r"params\.a: nan is not JSON-able"),
        ({"a": -math.inf}, r"params\.a: -inf is not JSON-able"),
        ({"a": {1: "x"}}, r"params\.a: a key of type int is not JSON-able"),
        ({None: "x"}, r"params: a key of type NoneType"),
        ({"a": "\ud800"}, r"params\.a holds a character that is not valid Unicode"),
        ({"\udfff": 1}, r"params holds a character that is not valid Unicode"),
        ({"a": 10**5000}, r"params cannot be written as JSON"),
    ],
)
def test_a_parameter_that_is_not_json_is_named(params: dict[Any, Any], said: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^{said}"):
        body(params=params)


@pytest.mark.parametrize("wrap", [lambda inner: {"a": inner}, lambda inner: [inner], lambda inner: (inner,)])
def test_parameters_may_be_nested_a_hundred_levels_and_no_deeper(wrap: Callable[[object], object]) -> None:
    value: object = 1
    for _ in range(99):
        value = wrap(value)

    body(params={"prompt": value})
    with pytest.raises(InvalidRequest, match="nested deeper than 100 levels"):
        body(params={"prompt": wrap(value)})


def test_parameters_that_contain_themselves_are_refused() -> None:
    params: dict[str, Any] = {}
    params["again"] = [params]

    with pytest.raises(InvalidRequest, match=r"^params\.again\[0\]\.again.{40,70}…: .* or contains itself"):
        body(params=params)


def test_a_body_of_exactly_one_mebibyte_passes_and_one_byte_more_does_not() -> None:
    room = wire.MAX_BODY_BYTES - len(body(params={"prompt": ""}))

    assert len(body(params={"prompt": "x" * room})) == 1_048_576
    with pytest.raises(InvalidRequest, match=r"1048577 bytes, more than the 1048576 .* pass their URL"):
        body(params={"prompt": "x" * (room + 1)})


def test_the_size_is_counted_in_bytes_not_in_characters() -> None:
    with pytest.raises(InvalidRequest, match="bytes"):
        body(params={"prompt": "ü" * 600_000})


@pytest.mark.parametrize("value", ["a", "A-1_b.c", "x" * 64, "6a1b2c3d-0000-4000-8000-000000000000", "..", "0"])
def test_an_id_of_safe_characters_passes(value: str) -> None:
    assert wire.check_out_task_id(value) == value


@pytest.mark.parametrize("value", ["", "x" * 65, "a b", "a/b", "ä", "a\n", "\n", None, 5, b"a"], ids=repr)
def test_any_other_id_is_refused(value: object) -> None:
    with pytest.raises(InvalidRequest, match="1 to 64 characters"):
        wire.check_out_task_id(value)


class Private:
    def __repr__(self) -> str:
        return "private"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a b", "'a b'"),
        ("x" * 79 + " ", f"'{'x' * 79} '"),
        ("x" * 80 + " ", f"'{'x' * 80}…'"),
        (None, "None"),
        (5, "int"),
        (Private(), "Private"),
    ],
    ids=["text", "as long as is shown", "longer", "None", "number", "object"],
)
def test_what_is_refused_is_shown_in_short_and_an_object_only_by_its_type(value: object, shown: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        wire.check_out_task_id(value)

    assert str(caught.value).endswith(f"_ -, not {shown}.")


@pytest.mark.parametrize(
    "url", ["https://app.test/hook/a?b=c", "http://127.0.0.1:8000/x", "https://[::1]/", "HTTPS://app.test"]
)
def test_a_callback_url_with_a_host_passes(url: str) -> None:
    assert wire.check_callback_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "app.test/hook",
        "/hook",
        "ftp://app.test",
        "https://",
        "https:///hook",
        "https://app.test:port/",
        "https://[::1/",
        "https://app.test/a b",
        "https://app.test/\n",
        "https://app.test:0/",
        "javascript:x",
        None,
        5,
        "https://app.test/\ud800",
    ],
    ids=repr,
)
def test_a_callback_url_nobody_could_call_is_refused(url: object) -> None:
    with pytest.raises(InvalidRequest, match=r"^callback_url "):
        wire.check_callback_url(url)


def test_a_refused_callback_url_is_not_shown_because_it_holds_a_token() -> None:
    with pytest.raises(InvalidRequest) as caught:
        wire.check_callback_url("ftp://app.test/hook/s3cret")

    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"x" * (wire.MAX_BODY_BYTES + 1)], ids=len)
def test_stored_bytes_of_a_wrong_size_are_not_sent(content: bytes) -> None:
    with pytest.raises(InvalidRequest, match="1 to 1048576 bytes"):
        wire.submit_request(content)


@pytest.mark.parametrize("content", [b"x", b"x" * wire.MAX_BODY_BYTES], ids=len)
def test_stored_bytes_of_any_other_size_are_sent_as_they_are(content: bytes) -> None:
    assert wire.submit_request(content).body == content


# --- query, cancel, stream --------------------------------------------------------------------------------


def test_the_requests_are_those_of_the_documentation() -> None:
    assert wire.submit_request(b"{}") == wire.Request("POST", "/v1/tasks/submit", b"{}")
    assert wire.query_request("task_1") == wire.Request("POST", "/v1/tasks/query", b'{"task_id":"task_1"}')
    assert wire.query_request(out_task_id="a") == wire.Request("POST", "/v1/tasks/query", b'{"out_task_id":"a"}')
    assert wire.cancel_request("task_1") == wire.Request("POST", "/v1/tasks/cancel/task_1")
    assert wire.cancel_request("task_1", in_body=True) == wire.Request(
        "POST", "/v1/tasks/cancel", b'{"task_id":"task_1"}'
    )
    assert wire.cancel_request(out_task_id="a") == wire.Request("POST", "/v1/tasks/cancel", b'{"out_task_id":"a"}')
    assert wire.stream_request("task_1") == wire.Request("GET", "/v1/tasks/stream/task_1")
    assert wire.models_request() == wire.Request("GET", "/v1/models")


@pytest.mark.parametrize("make", [wire.query_request, wire.cancel_request])
@pytest.mark.parametrize(("given", "said"), [((None, None), "neither"), (("task_1", "a"), "both")])
def test_both_identifiers_or_neither_are_refused(make: Any, given: tuple[str | None, str | None], said: str) -> None:
    with pytest.raises(InvalidRequest, match=f"exactly one of task_id and out_task_id, not {said}"):
        make(*given)


@pytest.mark.parametrize("make", [wire.query_request, wire.cancel_request, wire.stream_request])
@pytest.mark.parametrize("task_id", ["", " ", "a\nb", 5, "\ud800"], ids=repr)
def test_a_task_id_that_is_no_id_is_refused(make: Any, task_id: object) -> None:
    with pytest.raises(InvalidRequest, match=r"^task_id "):
        make(task_id)


@pytest.mark.parametrize("make", [wire.cancel_request, wire.stream_request])
def test_a_task_id_cannot_leave_its_place_in_the_path(make: Any) -> None:
    assert make("../submit?a#b").path.endswith("/..%2Fsubmit%3Fa%23b")
    for dots in (".", ".."):
        with pytest.raises(InvalidRequest, match="task_id"):
            make(dots)


# --- good answers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status_code", [200, 201, 202, 299])
def test_any_2xx_with_a_task_is_a_task(status_code: int) -> None:
    task = read(RUNNING, status_code)

    assert (task.task_id, task.status, task.estimated_seconds) == (
        "task_01HQX9F2P6Y8VEX3CRZ8GXJVD9",
        "running",
        35.0,
    )


def test_a_failed_task_is_a_good_answer() -> None:
    task = read({"task_id": "t", "status": "failed", "error_code": "content_policy_violation", "error_message": "No."})

    assert (task.status, task.error_code, task.error_message) == ("failed", "content_policy_violation", "No.")


@pytest.mark.parametrize(
    ("older", "output", "credits_used"),
    [
        (
            {"result": {"video_url": "https://cdn.test/a"}, "credits": 0.8},
            [{"type": "video", "url": "https://cdn.test/a"}],
            0.8,
        ),
        ({"result_url": "https://cdn.test/a"}, [{"url": "https://cdn.test/a"}], None),
        (
            {"result_url": "https://cdn.test/a", "audio_url": "https://cdn.test/b"},
            [{"url": "https://cdn.test/a"}, {"type": "audio", "url": "https://cdn.test/b"}],
            None,
        ),
        ({"result": "done", "result_url": 5, "audio_url": ""}, None, None),
        ({"result": None, "output": []}, [], None),
        (
            {"output": [{"url": "https://cdn.test/new"}], "result_url": "https://cdn.test/old"},
            [{"url": "https://cdn.test/new"}],
            None,
        ),
        ({"credits": 1, "credits_used": 2}, None, 2.0),
    ],
)
def test_the_older_dialects_are_read_into_the_current_shape(
    older: dict[str, Any], output: object, credits_used: float | None
) -> None:
    task = read({"task_id": "t", "status": "completed", **older})

    assert task.output == output
    assert task.credits_used == credits_used
    assert RemoteTask.model_validate(task.to_json()) == task


def test_the_fields_of_the_older_dialects_are_kept() -> None:
    older = {
        "result": {"video_url": "https://cdn.test/a"},
        "credits": 0.8,
        "completed_at": "2026-05-25T00:00:00Z",
    }

    assert older.items() <= read({"task_id": "t", "status": "completed", **older}).to_json().items()


def test_the_older_first_status_is_pending() -> None:
    assert read({"task_id": "t", "status": "queued"}).status == "pending"


def test_numbers_that_are_not_json_become_null_so_that_a_task_can_always_be_stored() -> None:
    task = read('{"task_id": "t", "status": "running", "a": NaN, "b": [-Infinity, 1e999, 1.5], "credits_used": 1e999}')

    assert task.to_json() == {"task_id": "t", "status": "running", "a": None, "b": [None, None, 1.5]}


def test_a_byte_order_mark_does_no_harm() -> None:
    assert read(b"\xef\xbb\xbf" + RUNNING).status == "running"


# --- answers that cannot be read --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"OK",
        b"<html>504</html>",
        b'{"task_id": "t"',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a": ' + b"9" * 5000 + b"}",
        b"[]",
        b"null",
        b'"t"',
        b"{}",
        b'{"task_id": "t"}',
        b'{"status": "running"}',
        b'{"task_id": null, "status": "running"}',
        b'{"task_id": "t", "status": {"a": 1}}',
    ],
    ids=lambda content: repr(content[:30]),
)
def test_a_2xx_without_a_task_is_a_response_error(content: bytes) -> None:
    with pytest.raises(ApiResponseError) as caught:
        read(content)

    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("status_code", [100, 199, 300, 301, 304, 308, 399, 600, 999])
def test_a_status_that_is_neither_success_nor_refusal_is_a_response_error(status_code: int) -> None:
    with pytest.raises(ApiResponseError, match=f"HTTP {status_code}"):
        read(RUNNING, status_code, location="https://elsewhere.test")


def test_an_answer_may_be_nested_a_hundred_levels_and_no_deeper_for_no_record_could_hold_it() -> None:
    assert read(b'{"task_id": "t", "status": "running", "a": ' + b"[" * 100 + b"]" * 100 + b"}").status == "running"
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        with pytest.raises(ApiResponseError, match="not JSON"):
            read(b'{"task_id": "t", "status": "running", "a": ' + opening * 101 + b"1" + closing * 101 + b"}")


def test_half_of_a_character_where_a_text_was_cut_is_replaced_wherever_it_stands() -> None:
    task = read(
        b'{"task_id": "t", "status": "failed", "error_message": "f\\u00fcr \\ud83d", "\\ude00": ["\\ud83d\\ude00"]}'
    )

    assert task.error_message == "für \ufffd"
    assert task.to_json()["\ufffd"] == ["😀"]


@pytest.mark.parametrize(
    ("asked", "is_other"),
    [
        ({"task_id": "task_1"}, False),
        ({"task_id": "task_2"}, True),
        ({"out_task_id": "job-1"}, False),
        ({"out_task_id": "job-2"}, True),
        ({"task_id": "task_1", "out_task_id": "job-2"}, False),  # asked for by the first
        ({}, False),
    ],
)
def test_an_answer_is_about_the_task_that_was_asked_for(asked: dict[str, str], is_other: bool) -> None:
    task = RemoteTask(task_id="task_1", out_task_id="job-1", status="running")
    unnamed = RemoteTask(task_id="task_1", status="running")

    if is_other:
        with pytest.raises(ApiResponseError, match="about another task"):
            wire.check_about(task, **asked)
    else:
        assert wire.check_about(task, **asked) is task
    assert "task_id" in asked or wire.check_about(unnamed, **asked) is unnamed


@pytest.mark.parametrize(
    ("content", "expected"),
    [(body(), "job-1"), (body(out_task_id=None), None), (b"[]", None), (b"{", None), (b'{"out_task_id": 7}', None)],
)
def test_the_id_of_a_submit_is_found_in_its_body(content: bytes, expected: str | None) -> None:
    assert wire.out_task_id_of(content) == expected


def test_a_request_does_not_show_its_prompt() -> None:
    assert "fox" not in repr(wire.submit_request(body()))


def test_an_unreadable_task_is_reported_without_its_content() -> None:
    with pytest.raises(ApiResponseError) as caught:
        read({"task_id": "t", "prompt": "private", "status": ["private"]})

    assert "private" not in str(caught.value)
    assert "status" in str(caught.value)


# --- refusals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status_code", "code", "kind"),
    [
        # contract, section 8, the master table
        (400, "invalid_param", BadRequest),
        (400, "model_not_found", BadRequest),
        (400, "unsupported_model", BadRequest),
        (400, "duplicate_out_task_id", Conflict),
        (409, "duplicate_out_task_id", Conflict),
        (401, "invalid_api_key", AuthenticationError),
        (402, "insufficient_balance", InsufficientBalance),
        (402, "quota_exceeded", InsufficientBalance),
        (403, "permission_denied", PermissionDenied),
        (403, "model_not_in_group", PermissionDenied),
        (503, "model_not_in_group", PermissionDenied),
        (404, "task_not_found", NotFound),
        (404, "not_found", NotFound),
        (413, "request_entity_too_large", BadRequest),
        (422, None, BadRequest),
        (429, "rate_limit_exceeded", RateLimited),
        (429, "concurrency_limit", RateLimited),
        (429, None, RateLimited),
        (451, None, BadRequest),
        (451, "content_policy_violation", BadRequest),
        (500, "internal_error", ServerError),
        (502, "api_error", ServerError),
        (503, "api_error", ServerError),
        (504, "timeout", ServerError),
        # contract, section 12: the documentation disagrees, the code decides
        (404, "model_not_found", BadRequest),
        (429, "insufficient_balance", InsufficientBalance),
        # without a code, or with one we do not know, the status decides
        (401, None, AuthenticationError),
        (402, None, InsufficientBalance),
        (403, "new_code", PermissionDenied),
        (404, None, NotFound),
        (408, None, ServerError),
        (409, None, BadRequest),
        (418, "new_code", BadRequest),
        (425, None, ServerError),
        (499, None, BadRequest),
        (500, None, ServerError),
        (520, "new_code", ServerError),
        (599, None, ServerError),
    ],
)
def test_a_refusal_is_classified_by_its_code_and_then_by_its_status(
    status_code: int, code: str | None, kind: type[ApiStatusError]
) -> None:
    error = refused(status_code, code)

    assert type(error) is kind
    assert (error.status_code, error.code, error.message) == (status_code, code, "No.")
    if code not in (None, "new_code"):
        assert {type(refused(any_status, code)) for any_status in (401, 404, 418, 500)} == {kind}


@pytest.mark.parametrize("status_code", range(400, 600))
def test_every_refusal_has_a_class_of_its_own(status_code: int) -> None:
    assert type(refused(status_code)) is not ApiStatusError


@pytest.mark.parametrize(
    ("code", "expected"), [(404, "404"), (True, None), (1.5, None), ([], None), ("", None), ({}, None)]
)
def test_a_code_may_be_a_number_or_nonsense(code: object, expected: str | None) -> None:
    assert refused(418, code).code == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>\n<h1>502   Bad Gateway</h1>\n</html>", "<html> <h1>502 Bad Gateway</h1> </html>"),
        (b"", ""),
        (b"{}", ""),
        (b"[]", ""),
        (b"\xff", "\ufffd"),
        (b'{"error": "plain text"}', "plain text"),
        (b'{"error": null}', ""),
        (b'{"error": {"message": {"deep": 1}}}', ""),
        (b"[" * 100_000, "[" * 300 + "…"),
    ],
)
def test_a_refusal_in_any_shape_is_still_a_typed_refusal(content: bytes, message: str) -> None:
    with pytest.raises(ServerError) as caught:
        read(content, 502)

    assert caught.value.message == message
    assert caught.value.code is None


def test_a_long_message_is_shortened() -> None:
    assert refused(400, "invalid_param", "x" * 300).message == "x" * 300
    assert refused(400, "invalid_param", "x" * 301).message == "x" * 300 + "…"


@pytest.mark.parametrize("where", [0, 290, 299])
def test_a_quoted_key_is_blanked_out_wherever_it_stands(where: int) -> None:
    error = refused(401, "invalid_api_key", "x" * where + f" {KEY} is unknown, as sk-byts-another-key is")

    assert "secret" not in str(error)
    assert "sk-" not in str(error)


@pytest.mark.parametrize("status_code", [200, 401])
@pytest.mark.parametrize("content", ["x" * 195 + " %s", "x" * 295 + " %s", " " * 1195 + "%s"])
def test_no_half_of_a_key_is_left_where_a_long_answer_is_cut(status_code: int, content: str) -> None:
    with pytest.raises(ApiError) as caught:
        wire.read_task(status_code, {}, (content % "custom+key").encode(), now_s=NOW_S, secret=SecretStr("custom+key"))

    assert "cus" not in str(caught.value)


def test_another_key_is_blanked_out_by_its_form() -> None:
    assert refused(401, "invalid_api_key", "not sk-another-key, nor sk-one").message == "not ***, nor sk-one"


def test_a_key_without_the_usual_prefix_is_blanked_out_too() -> None:
    with pytest.raises(AuthenticationError) as caught:
        wire.read_task(401, {}, b"unknown key custom+key", now_s=NOW_S, secret=SecretStr("custom+key"))

    assert caught.value.message == "unknown key ***"


def test_an_answer_that_is_not_json_is_quoted_without_the_key() -> None:
    with pytest.raises(ApiResponseError) as caught:
        read(f"you sent {KEY}")

    assert KEY not in str(caught.value)
    assert "you sent ***" in str(caught.value)


# --- how long to wait -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"RETRY-AFTER": " 1.5 "}, 1.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": format_datetime(datetime.fromtimestamp(NOW_S + 90, UTC), usegmt=True)}, 90.0),
        ({"retry-after": format_datetime(datetime.fromtimestamp(NOW_S - 90, UTC), usegmt=True)}, 0.0),
        (
            {"retry-after": datetime.fromtimestamp(NOW_S + 60, UTC).strftime("%A, %d-%b-%y %H:%M:%S GMT")},
            60.0,
        ),
        ({"retry-after": datetime.fromtimestamp(NOW_S + 60, UTC).strftime("%a %b %d %H:%M:%S %Y")}, 60.0),
        ({"retry-after": (datetime.fromtimestamp(NOW_S + 60 - 18000, UTC)).strftime("%a, %d %b %Y %T -0500")}, 60.0),
        ({"retry-after": "Fri, 99 Foo 2027 08:01:30 GMT"}, None),
        ({"retry-after": "Sun, 06 Nov 1994 08:49:37 +9999999999999999"}, None),
        ({"X-RateLimit-Reset": str(int(NOW_S + 30))}, 30.0),
        ({"x-ratelimit-reset": str(NOW_S - 30)}, 0.0),
        ({"x-ratelimit-reset": "0"}, None),
        ({"x-ratelimit-reset": "30"}, None),
        ({"x-ratelimit-reset": str(int(NOW_S * 1000))}, None),
        ({"x-ratelimit-reset": "1e400"}, None),
        ({"x-ratelimit-reset": "never"}, None),
        ({"retry-after": "7", "x-ratelimit-reset": str(int(NOW_S + 30))}, 7.0),
        ({"retry-after": "soon", "x-ratelimit-reset": str(int(NOW_S + 30))}, 30.0),
    ],
)
def test_the_servers_hint_is_read_leniently(headers: dict[str, str], expected: float | None) -> None:
    assert wire.retry_after_s(headers, NOW_S) == expected
    assert wire.retry_after_s(httpx.Headers(headers), NOW_S) == expected


def test_a_date_without_a_zone_is_utc_wherever_the_worker_is(monkeypatch: pytest.MonkeyPatch) -> None:
    date = datetime.fromtimestamp(NOW_S + 60, UTC).strftime("%a %b %d %H:%M:%S %Y")
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC+5")
        time.tzset()
        wait_s = wire.retry_after_s({"retry-after": date}, NOW_S)
    time.tzset()

    assert wait_s == 60


def http_date(at: float) -> str:
    return format_datetime(datetime.fromtimestamp(at, UTC), usegmt=True)


@pytest.mark.parametrize("wrong_by_s", [-86400, -3600, 3600, 10 * 365 * 86400])
def test_a_moment_that_the_server_names_is_on_its_own_clock_whatever_ours_says(wrong_by_s: int) -> None:
    theirs_s = NOW_S + wrong_by_s
    date = {"date": http_date(theirs_s)}

    assert wire.retry_after_s(date | {"retry-after": http_date(theirs_s + 90)}, NOW_S) == 90
    assert wire.retry_after_s(date | {"retry-after": http_date(theirs_s - 90)}, NOW_S) == 0
    assert wire.retry_after_s(date | {"x-ratelimit-reset": str(int(theirs_s + 30))}, NOW_S) == 30
    assert wire.retry_after_s(date | {"retry-after": "7"}, NOW_S) == 7


@pytest.mark.parametrize("date", ["", "yesterday", "Sun, 06 Nov 1994 08:49:37 +9999999999999999"])
def test_a_server_that_does_not_know_its_time_is_measured_by_ours(date: str) -> None:
    assert wire.retry_after_s({"date": date, "retry-after": http_date(NOW_S + 90)}, NOW_S) == 90


@given(
    st.text() | st.floats().map(str) | st.integers().map(str),
    st.sampled_from(["retry-after", "x-ratelimit-reset"]),
)
def test_a_hint_is_never_negative_or_infinite(text: str, name: str) -> None:
    wait_s = wire.retry_after_s({name: text}, NOW_S)

    assert wait_s is None or 0 <= wait_s < math.inf


RESET = {"x_ratelimit_reset": str(int(NOW_S + 3600))}


@pytest.mark.parametrize(
    ("status_code", "code", "headers", "expected"),
    [
        (429, "rate_limit_exceeded", RESET, 3600.0),
        (429, None, RESET, 3600.0),
        (429, "concurrency_limit", RESET, None),
        (429, "concurrency_limit", {"retry_after": "2"}, 2.0),
        (402, "insufficient_balance", RESET, None),
        (402, "insufficient_balance", RESET | {"x_ratelimit_remaining": "1"}, None),
        (402, "insufficient_balance", RESET | {"x_ratelimit_remaining": "0.00"}, 3600.0),
        (503, "api_error", RESET, None),
        (503, "api_error", RESET | {"retry_after": "5"}, 5.0),
        (404, "task_not_found", RESET, None),
    ],
)
def test_the_reset_of_the_spend_bucket_counts_only_where_the_bucket_is_the_trouble(
    status_code: int, code: str | None, headers: dict[str, str], expected: float | None
) -> None:
    assert refused(status_code, code, **headers).retry_after_s == expected


# --- other answers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b'{"object": "list", "data": [{"id": "a"}, 5]}', b'[{"id": "a"}]'])
def test_the_catalogue_is_a_list_of_objects(content: bytes) -> None:
    assert wire.read_models(200, {}, content, now_s=NOW_S) == [{"id": "a"}]


@pytest.mark.parametrize("content", [b"{}", b'{"data": null}', b"null", b"nonsense"])
def test_an_answer_without_a_catalogue_is_a_response_error(content: bytes) -> None:
    with pytest.raises(ApiResponseError):
        wire.read_models(200, {}, content, now_s=NOW_S)


@pytest.mark.parametrize("data", ["", "changed", "[]", "{}", '{"status": "running"}', "[" * 100_000, "\ud800"])
def test_an_event_that_cannot_be_read_is_an_event_without_a_task(data: str) -> None:
    assert wire.read_event(ServerSentEvent("state", data)) == wire.StreamEvent("state", None)


def test_an_event_with_a_task_carries_it() -> None:
    event = wire.read_event(ServerSentEvent("message", RUNNING.decode()))

    assert event.task is not None
    assert event.task.status == "running"
