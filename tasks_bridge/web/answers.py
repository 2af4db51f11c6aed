"""What comes in from a web framework and what goes back to it, as plain values. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

JSON: Final = "application/json"

PRIVATE: Final = "private, no-cache"
"""A job's documents are between the server and one browser, which must ask whether they have changed."""

_PROTECTED: Final = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


@dataclass(frozen=True, slots=True)
class Request:
    """What an endpoint needs to know of a request; everything in it is what somebody sent."""

    method: str
    if_none_match: str = ""
    last_event_id: str = ""
    content_length: str = ""
    accept_encoding: str = ""
    authorization: str = field(default="", repr=False)
    can_stream: bool = False
    """Whether the server can keep an answer open without keeping a thread or a process for it."""

    @classmethod
    def of(cls, method: str, header: Callable[[str], str | None], *, can_stream: bool = False) -> Request:
        """The request with *method*, whose headers *header* looks up by name."""
        return cls(
            method,
            header("If-None-Match") or "",
            header("Last-Event-ID") or "",
            header("Content-Length") or "",
            header("Accept-Encoding") or "",
            header("Authorization") or "",
            can_stream,
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole HTTP response."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Stream:
    """An HTTP response that goes on: 200, and these chunks as they come. An iterator that is left must be closed."""

    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]


def encode(content: Mapping[str, Any]) -> bytes:
    """The JSON of *content*: equal contents make equal bytes."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def version_of(body: bytes) -> str:
    """What tells this document from an earlier one: its ETag without quotes, and the id of its event."""
    return hashlib.blake2b(body, digest_size=12).hexdigest()


def document_answer(content: Mapping[str, Any], request: Request) -> Answer:
    """*content* with its ETag, or 304 if that is what the browser has."""
    body = encode(content)
    etag = f'"{version_of(body)}"'
    headers = {"ETag": etag, "Cache-Control": PRIVATE, **_PROTECTED}
    if matches(request.if_none_match, etag):
        return Answer(HTTPStatus.NOT_MODIFIED, headers)
    return Answer(HTTPStatus.OK, {"Content-Type": JSON, **headers}, body)


def matches(if_none_match: str, etag: str) -> bool:
    """
    Whether *etag* is among those that the browser has.

    Source: RFC 9110, section 13.1.2: a list or ``*``, compared weakly.
    """
    given = [one.strip().removeprefix("W/") for one in if_none_match.split(",")]
    return etag in given or "*" in given


def json_answer(status: HTTPStatus, content: Mapping[str, Any], **headers: str) -> Answer:
    """A JSON document that nobody keeps; underscores in the names of *headers* are hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, {"Content-Type": JSON, "Cache-Control": "no-store", **_PROTECTED, **named}, encode(content))


def refusal(status: HTTPStatus, code: str, message: str, **headers: str) -> Answer:
    """Why nothing was done: ``{"error": {"code", "message"}}``."""
    return json_answer(status, {"error": {"code": code, "message": message}}, **headers)


def empty(status: HTTPStatus = HTTPStatus.NO_CONTENT) -> Answer:
    """Nothing to say."""
    return Answer(status, {"Cache-Control": "no-store"})


def wrong_method(request: Request, *allowed: str) -> Answer | None:
    """The answer to a method that is not *allowed*; None to one that is."""
    if request.method in allowed:
        return None
    listed = ", ".join(allowed)
    return refusal(HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", f"Use {listed}.", Allow=listed)
