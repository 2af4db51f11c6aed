"""
Build requests to the ByteSpike API and read its answers, without any I/O.

The only place that knows the names of the API's fields, codes and paths, in both of its dialects.

Source: contract, sections 3 to 8 and 12.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Never
from urllib.parse import quote, urlsplit

from pydantic import SecretStr, ValidationError

from tasks_bridge.errors import (
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

__all__ = [
    "MAX_BODY_BYTES",
    "Request",
    "StreamEvent",
    "cancel_request",
    "check_about",
    "check_callback_url",
    "check_json",
    "check_out_task_id",
    "models_request",
    "out_task_id_of",
    "query_request",
    "quoted",
    "read_event",
    "read_models",
    "read_refusal",
    "read_task",
    "retry_after_s",
    "stream_request",
    "submit_body",
    "submit_request",
]

SUBMIT_PATH = "/v1/tasks/submit"
QUERY_PATH = "/v1/tasks/query"

MAX_BODY_BYTES = 1024 * 1024
"""Largest body of a task request. Source: contract, section 3."""

# Neither length nor characters of an out_task_id are documented; this is the safest assumption of contract,
# section 14. \Z, because $ would let a line feed through.
_OUT_TASK_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SPACE_OR_CONTROL = re.compile(r"[\s\x00-\x1f\x7f]")
# Parameters nested deeper than any model could want, or a list that contains itself. An answer nested deeper than that
# could be written to a record and not be read again.
_MAX_DEPTH = 100
# Longest piece of the server's text, and of the caller's, in a message.
_MAX_QUOTE = 300
_MAX_SHOWN = 80
_HALF_A_CHARACTER = re.compile("[\ud800-\udfff]")
_SECRET = re.compile(r"sk-[A-Za-z0-9_-]{4,}")


@dataclass(frozen=True, slots=True)
class Request:
    """
    One HTTP request, without host and headers. ``body`` is JSON; None sends no body.
    """

    method: str
    path: str
    body: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """
    One event of a task's stream. It means "something changed": query to know what.

    Attributes:
        event: The event's type as the server named it; ``message`` if it did not.
        task: The task object in the event, None if there was none we can read.

    Source: contract, section 14: names and payloads of the events are not documented.
    """

    event: str
    task: RemoteTask | None


# --- requests ---------------------------------------------------------------------------------------------


def submit_body(
    model: str, params: dict[str, Any], *, out_task_id: str | None, callback_url: str | None = None
) -> bytes:
    """
    Return the body of a submit as canonical JSON: equal arguments give equal bytes.

    Store these bytes and send them again after a lost answer: how the API judges that two submits are the
    same is not documented, so they had better be identical.

    Args:
        model: The model's slug, passed on as it is: slugs are not stable, so no list is checked.
        params: The model's parameters: a dict with string keys and JSON values.
        out_task_id: The idempotency key. None submits without one: such a submit must never be repeated.
        callback_url: Where ByteSpike announces the end.

    Raises:
        InvalidRequest: An argument is wrong, or the body would be larger than 1 MiB.

    Source: contract, sections 3 and 7.
    """
    _check_model(model)
    _check_params(params)
    body: dict[str, Any] = {"model": model, "params": params}
    if out_task_id is not None:
        body["out_task_id"] = check_out_task_id(out_task_id)
    if callback_url is not None:
        body["callback_url"] = check_callback_url(callback_url)
    content = _dumps(body)
    if len(content) > MAX_BODY_BYTES:
        raise InvalidRequest(
            f"The request is {len(content)} bytes, more than the {MAX_BODY_BYTES} that ByteSpike takes. "
            "Upload large inputs somewhere and pass their URL in params instead."
        )
    return content


def check_out_task_id(value: object) -> str:
    """
    Return *value* if it can serve as ``out_task_id``, which is also the job's id.

    Raises:
        InvalidRequest: It is not 1 to 64 characters out of ``A-Z a-z 0-9 . _ -``.
    """
    if not isinstance(value, str) or not _OUT_TASK_ID.match(value):
        raise InvalidRequest(f"The id must be 1 to 64 characters out of A-Z a-z 0-9 . _ -, not {_shown(value)}.")
    return value


def check_callback_url(value: object) -> str:
    """
    Return *value* if ByteSpike could call it: http or https, with a host.

    Raises:
        InvalidRequest: It is not such a URL. The message does not show it: it may hold a secret token.
    """
    wanted = "callback_url must be an absolute http or https URL with a host"
    if not isinstance(value, str):
        raise InvalidRequest(f"{wanted}, not {type(value).__name__}.")
    _check_text(value, "callback_url")
    try:
        url = urlsplit(value)
        usable = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError as error:  # a port that is no number, brackets that do not match
        raise InvalidRequest(f"{wanted}: {error}.") from None
    if not usable or _SPACE_OR_CONTROL.search(value):
        raise InvalidRequest(f"{wanted}, and without spaces or control characters.")
    return value


def submit_request(body: bytes) -> Request:
    """
    Return the submit of a *body* made by ``submit_body``.

    Raises:
        InvalidRequest: *body* is empty, or larger than 1 MiB.
    """
    if not 0 < len(body) <= MAX_BODY_BYTES:
        raise InvalidRequest(f"The body of a submit must be 1 to {MAX_BODY_BYTES} bytes, from submit_body().")
    return Request("POST", SUBMIT_PATH, body)


def query_request(task_id: str | None = None, out_task_id: str | None = None) -> Request:
    """
    Return the query for exactly one of the two identifiers.

    Raises:
        InvalidRequest: Both or neither are given, or the one given is no identifier.

    Source: API, /tasks/query page (body).
    """
    return Request("POST", QUERY_PATH, _dumps(_identifier(task_id, out_task_id)))


def cancel_request(task_id: str | None = None, out_task_id: str | None = None, *, in_body: bool = False) -> Request:
    """
    Return the cancel for exactly one of the two identifiers; *in_body* keeps ``task_id`` out of the path.

    Raises:
        InvalidRequest: As in ``query_request``.

    Source: contract, section 5.
    """
    identifier = _identifier(task_id, out_task_id)
    if task_id is None or in_body:
        return Request("POST", "/v1/tasks/cancel", _dumps(identifier))
    return Request("POST", f"/v1/tasks/cancel/{_segment(task_id)}")


def stream_request(task_id: str) -> Request:
    """
    Return the request for the event stream of a task.

    Raises:
        InvalidRequest: *task_id* is no identifier.

    Source: contract, section 6.
    """
    return Request("GET", f"/v1/tasks/stream/{_segment(_identifier(task_id, None)['task_id'])}")


def models_request() -> Request:
    """
    Return the request for the catalogue of models, which is also the check of a key.

    Source: contract, section 10.
    """
    return Request("GET", "/v1/models")


def _identifier(task_id: str | None, out_task_id: str | None) -> dict[str, str]:
    if (task_id is None) == (out_task_id is None):
        given = "neither" if task_id is None else "both"
        raise InvalidRequest(f"Give exactly one of task_id and out_task_id, not {given}.")
    if out_task_id is not None:
        return {"out_task_id": check_out_task_id(out_task_id)}
    return {"task_id": _check_task_id(task_id)}


def _check_task_id(value: object) -> str:
    # Opaque: the documentation shows two formats (contract, section 2). So only what can be no id is refused.
    if not isinstance(value, str) or not value.strip() or _CONTROL.search(value):
        raise InvalidRequest(f"task_id must be the id that a submit returned, not {_shown(value)}.")
    _check_text(value, "task_id")
    return value


def _segment(task_id: str) -> str:
    segment = quote(task_id, safe="")
    # "." and ".." would be resolved away and address another route.
    if segment in (".", ".."):
        raise InvalidRequest(f"task_id must be the id that a submit returned, not {_shown(task_id)}.")
    return segment


def _check_model(value: object) -> None:
    if not isinstance(value, str) or not value.strip():
        raise InvalidRequest(f"model must be the slug of a model, such as 'sora-2-pro', not {_shown(value)}.")
    if value != value.strip() or _CONTROL.search(value):
        raise InvalidRequest(f"model must have no spaces around it and no control characters: {_shown(value)}.")
    _check_text(value, "model")


def _check_params(value: object) -> None:
    if not isinstance(value, dict):
        raise InvalidRequest(f"params must be a dict of the model's parameters, not {_shown(value)}.")
    check_json(value, "params")


def check_json(value: object, path: str, depth: int = 0) -> None:
    """
    Refuse what is no JSON, or none that everybody reads.

    Raises:
        InvalidRequest: It holds another type, a number that is none, half a surrogate pair, or is nested too deep.
            *path* and what leads on from there say where.
    """
    if depth > _MAX_DEPTH:
        raise InvalidRequest(f"{path[:_MAX_SHOWN]}…: nested deeper than {_MAX_DEPTH} levels, or contains itself.")
    if value is None or isinstance(value, bool | int):
        return
    if isinstance(value, str):
        _check_text(value, path)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidRequest(f"{path}: {value} is not JSON-able. Leave it out, or pass a finite number.")
    elif isinstance(value, dict):
        for key, item in value.items():
            # json.dumps would turn 1 into "1" and so let two keys collide.
            if not isinstance(key, str):
                raise InvalidRequest(f"{path}: a key of type {type(key).__name__} is not JSON-able. Use strings.")
            _check_text(key, path)
            check_json(item, f"{path}.{key}", depth + 1)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            check_json(item, f"{path}[{index}]", depth + 1)
    else:
        raise InvalidRequest(f"{path}: {type(value).__name__} is not JSON-able. Convert it to text or numbers.")


def _check_text(value: str, path: str) -> None:
    # Half of a surrogate pair is a Python string, but no UTF-8.
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"{path} holds a character that is not valid Unicode text: {error.reason}.") from None


def _dumps(value: object) -> bytes:
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
        return text.encode()
    except ValueError as error:  # an int of more than 4,300 digits
        raise InvalidRequest(f"params cannot be written as JSON: {error}.") from None


def _shown(value: object) -> str:
    # A short look at what was passed. Never an object's own repr, which may be long or secret.
    if isinstance(value, str):
        return repr(value if len(value) <= _MAX_SHOWN else f"{value[:_MAX_SHOWN]}…")
    return "None" if value is None else type(value).__name__


# --- answers ----------------------------------------------------------------------------------------------


def read_task(
    status_code: int, headers: Mapping[str, str], content: bytes, *, now_s: float, secret: SecretStr | None = None
) -> RemoteTask:
    """
    Read the answer to a submit, query or cancel. A task that failed is a good answer, and is returned.

    Args:
        status_code: The HTTP status.
        headers: Names in any case.
        content: The body, decompressed.
        now_s: The time now, Unix seconds, for headers that name a point in time.
        secret: The API key, blanked out wherever the server quotes it.

    Raises:
        ApiStatusError: The status is not 2xx; one of its subclasses.
        ApiResponseError: The status is 2xx and there is no task in the body, or it is a redirect.
    """
    body = _read_body(status_code, headers, content, now_s=now_s, secret=secret)
    if not isinstance(body, dict):
        raise ApiResponseError("ByteSpike answered without a task object. Query the task to see its state.")
    return _task(body)


def check_about(task: RemoteTask, *, task_id: str | None = None, out_task_id: str | None = None) -> RemoteTask:
    """
    Return *task* if it is the one that was asked for, by whichever identifier was sent.

    Raises:
        ApiResponseError: It is another one: answers were mixed up on their way.

    Source: contract, section 2 (both identifiers are in every answer).
    """
    asked, told = (task_id, task.task_id) if task_id else (out_task_id, task.out_task_id)
    if asked and told and asked != told:
        raise ApiResponseError("ByteSpike answered about another task than it was asked for. Query the task again.")
    return task


def out_task_id_of(body: bytes) -> str | None:
    """
    Return the identifier in the body of a submit, None if it has none.
    """
    try:
        found = json.loads(body).get("out_task_id")
    except (ValueError, AttributeError):
        return None
    return found if isinstance(found, str) else None


def read_models(
    status_code: int, headers: Mapping[str, str], content: bytes, *, now_s: float, secret: SecretStr | None = None
) -> list[dict[str, Any]]:
    """
    Read the catalogue: one object per model, with at least ``id``. Arguments and errors as ``read_task``.

    Source: contract, section 10.
    """
    body = _read_body(status_code, headers, content, now_s=now_s, secret=secret)
    rows = body.get("data") if isinstance(body, dict) else body
    if not isinstance(rows, list):
        raise ApiResponseError("ByteSpike answered without a list of models. Check the base URL.")
    return [row for row in rows if isinstance(row, dict)]


def read_event(event: ServerSentEvent) -> StreamEvent:
    """
    Read an event of a task's stream. What cannot be read is an event without a task, never an error.
    """
    try:
        body = _loads(event.data.encode())
        task = _task(body) if isinstance(body, dict) else None
    except (ValueError, ApiResponseError, RecursionError):
        task = None
    return StreamEvent(event.event, task)


def read_refusal(
    status_code: int, headers: Mapping[str, str], content: bytes, *, now_s: float, secret: SecretStr | None = None
) -> Never:
    """
    Raise the error for an answer that is not 2xx. Arguments as ``read_task``.

    The code decides before the status does, because the documentation disagrees about statuses. A code we do
    not know leaves the decision to the status.

    Raises:
        ApiStatusError: Always, one of its subclasses.
        ApiResponseError: The status is a redirect, or none of HTTP's.

    Source: contract, sections 8 and 12.
    """
    if not 400 <= status_code <= 599:  # noqa: PLR2004  HTTP's two classes of errors
        raise ApiResponseError(
            f"ByteSpike answered HTTP {status_code}, which is neither success nor a refusal. "
            "Check the base URL, and that no proxy redirects it."
        )
    code, message = _refusal(content)
    kind = _BY_CODE.get(code or "") or _BY_STATUS.get(status_code) or _by_class(status_code)
    shown = code and quoted(code, secret)
    raise kind(quoted(message, secret), status_code, shown, _wait_s(kind, code, headers, now_s))


_BY_CODE: dict[str, type[ApiStatusError]] = {
    "invalid_param": BadRequest,
    "model_not_found": BadRequest,
    "unsupported_model": BadRequest,
    "request_entity_too_large": BadRequest,
    "content_policy_violation": BadRequest,
    "duplicate_out_task_id": Conflict,
    "invalid_api_key": AuthenticationError,
    "permission_denied": PermissionDenied,
    "model_not_in_group": PermissionDenied,
    "task_not_found": NotFound,
    "not_found": NotFound,
    "insufficient_balance": InsufficientBalance,
    "quota_exceeded": InsufficientBalance,
    "rate_limit_exceeded": RateLimited,
    "concurrency_limit": RateLimited,
    "internal_error": ServerError,
    "api_error": ServerError,
    "timeout": ServerError,
}

_BY_STATUS: dict[int, type[ApiStatusError]] = {
    401: AuthenticationError,
    402: InsufficientBalance,
    403: PermissionDenied,
    404: NotFound,
    # Both say "try again" (RFC 9110, section 15.5.9; RFC 8470, section 5.2), and only a proxy sends them.
    408: ServerError,
    425: ServerError,
    429: RateLimited,
}


def _by_class(status_code: int) -> type[ApiStatusError]:
    # 409 without a code is left to BadRequest: only the code says that it is about the out_task_id.
    return ServerError if status_code >= 500 else BadRequest  # noqa: PLR2004  HTTP's class of server errors


def _refusal(content: bytes) -> tuple[str | None, str]:
    # The OpenAI envelope, where `code` may be missing or a number (contract, section 8). A proxy at the edge
    # may answer with a page of HTML.
    try:
        body = _loads(content)
    except (ValueError, RecursionError):
        return None, content.decode("utf-8", "replace")
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, str):
        return None, error
    if not isinstance(error, dict):
        return None, ""
    code, message = error.get("code"), error.get("message")
    if isinstance(code, bool) or not isinstance(code, str | int):
        code = None
    return (str(code) or None) if code is not None else None, message if isinstance(message, str) else ""


def quoted(text: str, secret: SecretStr | None) -> str:
    """
    Return *text* of a stranger as it may stand in a message: one line, shortened, with keys blanked out.
    """
    # Blanked out before it is shortened, so that no half of a key is left at the cut.
    if secret:
        text = text.replace(secret.get_secret_value(), "***")
    text = " ".join(_SECRET.sub("***", text).split())
    return text if len(text) <= _MAX_QUOTE else f"{text[:_MAX_QUOTE]}…"


def _read_body(
    status_code: int, headers: Mapping[str, str], content: bytes, *, now_s: float, secret: SecretStr | None
) -> Any:
    if not 200 <= status_code <= 299:  # noqa: PLR2004  any 2xx: which one a first submit has is not documented
        read_refusal(status_code, headers, content, now_s=now_s, secret=secret)
    try:
        return _loads(content)
    except (ValueError, RecursionError):
        start = quoted(content.decode("utf-8", "replace"), secret)
        raise ApiResponseError(
            f"ByteSpike answered HTTP {status_code} with {len(content)} bytes that are not JSON, "
            f"beginning with {start!r}. Check the base URL, and query the task to see its state."
        ) from None


def _loads(content: bytes) -> Any:
    return _storable(_DECODER.decode(content.decode("utf-8-sig")), 0)


def _storable(value: Any, depth: int) -> Any:
    # What JSON allows and a record of the job couldn't hold: half of a surrogate pair, which is what remains of a
    # character where a text was cut, and nesting beyond what all readers bear.
    if isinstance(value, str):
        return value if value.isascii() else _HALF_A_CHARACTER.sub("\ufffd", value)
    if not isinstance(value, dict | list):
        return value
    if depth > _MAX_DEPTH:
        raise RecursionError
    if isinstance(value, list):
        return [_storable(item, depth + 1) for item in value]
    return {_storable(name, depth): _storable(item, depth + 1) for name, item in value.items()}


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


# NaN, Infinity and 1e999 become null: they are no JSON, and other readers of our records would choke on them.
_DECODER = json.JSONDecoder(parse_constant=lambda _: None, parse_float=_finite)


def _task(body: dict[str, Any]) -> RemoteTask:
    try:
        return RemoteTask.model_validate(_current(body))
    except ValidationError as error:
        # Not pydantic's own text: it quotes the input, and prompts and URLs are none of a log's business.
        fields = ", ".join(sorted({str(part["loc"][0]) for part in error.errors()}))
        raise ApiResponseError(
            f"ByteSpike answered without a readable {fields}. Query the task to see its state."
        ) from None


def _current(body: dict[str, Any]) -> dict[str, Any]:
    """
    Translate the older dialects of the model pages, keeping every field that was there.

    Source: contract, section 12 (columns B and C).
    """
    if not body.get("output") and (output := _older_output(body)):
        body = body | {"output": output}
    if body.get("credits_used") is None and body.get("credits") is not None:
        body = body | {"credits_used": body["credits"]}
    return body


def _older_output(body: dict[str, Any]) -> list[dict[str, Any]]:
    result = body.get("result")
    found = (
        ("video", result.get("video_url") if isinstance(result, dict) else None),
        ("", body.get("result_url")),
        ("audio", body.get("audio_url")),
    )
    return [{"type": kind, "url": url} if kind else {"url": url} for kind, url in found if isinstance(url, str) and url]


def retry_after_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """
    Return how many seconds the server asks to wait: ``Retry-After``, else ``X-RateLimit-Reset``.

    Never negative, and not clamped: a caller that has a limit applies it. None if neither header is there, or
    makes sense.

    Args:
        headers: Names in any case.
        now_s: The time now, Unix seconds; only for a server that does not say what time it is by its own clock.

    Source: RFC 9110, sections 6.6.1 (Date) and 10.2.3 (seconds or an HTTP date); contract, section 10 (Unix timestamp).
    """
    wait_s = _retry_after(headers, now_s)
    return wait_s if wait_s is not None else _rate_limit_reset(headers, now_s)


def _wait_s(kind: type[ApiStatusError], code: str | None, headers: Mapping[str, str], now_s: float) -> float | None:
    # X-RateLimit-Reset comes with every answer and speaks of the spend bucket. It is a reason to wait only
    # where an empty bucket is the trouble: 429 but for concurrency, and 402 with nothing left in the bucket.
    if kind is RateLimited and code != "concurrency_limit":
        return retry_after_s(headers, now_s)
    if kind is InsufficientBalance and _empty_bucket(headers):
        return retry_after_s(headers, now_s)
    return _retry_after(headers, now_s)


def _retry_after(headers: Mapping[str, str], now_s: float) -> float | None:
    text = _header(headers, "retry-after")
    if text is None:
        return None
    seconds = _float(text)
    if seconds is None:
        at_s = _http_date(text)
        return None if at_s is None else max(0.0, at_s - _their_now(headers, now_s))
    return seconds if seconds >= 0 else None


def _their_now(headers: Mapping[str, str], now_s: float) -> float:
    at_s = _http_date(_header(headers, "date") or "")
    return now_s if at_s is None else at_s


def _http_date(text: str) -> float | None:
    try:
        # parsedate_to_datetime reads all three formats that RFC 9110 allows. One without a zone is UTC.
        date = parsedate_to_datetime(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


# A timestamp in seconds lies between 2001 and 5138. Below would be a number of seconds or the 0 of a key
# without limits, above milliseconds: neither is what the contract says, so neither is trusted.
_TIMESTAMPS_S = (1e9, 1e11)


def _rate_limit_reset(headers: Mapping[str, str], now_s: float) -> float | None:
    reset_s = _float(_header(headers, "x-ratelimit-reset") or "")
    if reset_s is None or not _TIMESTAMPS_S[0] <= reset_s <= _TIMESTAMPS_S[1]:
        return None
    return max(0.0, reset_s - _their_now(headers, now_s))


def _empty_bucket(headers: Mapping[str, str]) -> bool:
    remaining = _float(_header(headers, "x-ratelimit-remaining") or "")
    return remaining is not None and remaining <= 0


def _float(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _header(headers: Mapping[str, str], name: str) -> str | None:
    return next((value.strip() for key, value in headers.items() if key.lower() == name), None)
