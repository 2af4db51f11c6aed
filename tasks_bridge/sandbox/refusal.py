"""
What the dispatcher answers when it does not do what it was asked.
"""

from __future__ import annotations

import json

_CODES = {
    400: "invalid_param",
    401: "invalid_api_key",
    402: "insufficient_balance",
    403: "permission_denied",
    404: "not_found",
    405: "method_not_allowed",
    409: "duplicate_out_task_id",
    413: "request_entity_too_large",
    429: "rate_limit_exceeded",
    500: "internal_error",
    502: "api_error",
    503: "api_error",
    504: "timeout",
}
_TYPES = {
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
}
_FIRST_SERVER_ERROR = 500


class Refusal(Exception):
    """
    A non-2xx answer, raised wherever the reason is found.

    Attributes:
        status: HTTP status.
        code: The envelope's ``error.code``; None leaves it out, as one documented 429 body does.
        headers: Extra response headers.

    Source: contract, section 8.
    """

    def __init__(self, status: int, code: str | None, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(status, code, message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers or {}

    def body(self) -> bytes:
        """
        Return the OpenAI error envelope as JSON.
        """
        error: dict[str, str] = {"message": self.message, "type": error_type(self.status)}
        if self.code is not None:
            error["code"] = self.code
        return json.dumps({"error": error}).encode()


def default_code(status: int) -> str | None:
    """
    Return the documented ``error.code`` of an HTTP status, None where the docs print none (451, 422).
    """
    return _CODES.get(status)


def error_type(status: int) -> str:
    """
    Return the coarse ``error.type`` of an HTTP status.
    """
    return _TYPES.get(status, "api_error" if status >= _FIRST_SERVER_ERROR else "invalid_request_error")


def invalid_param(message: str) -> Refusal:
    """
    Return the 400 of every request that is wrong in itself.
    """
    return Refusal(400, "invalid_param", message)


def task_not_found() -> Refusal:
    """
    Return the 404 of a task that does not exist, or belongs to another key: the two look alike.
    """
    return Refusal(404, "task_not_found", "No task matches the supplied identifier.")
