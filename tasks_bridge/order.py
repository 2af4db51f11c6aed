"""What a caller asks for: the arguments of one `generate`, checked before anything is queued. Pure."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any, Final

from celery.utils.time import maybe_iso8601

from tasks_bridge.errors import InvalidRequest
from tasks_bridge.record import RECORD_VERSION, JobRecord, request_digest
from tasks_bridge.settings import DEFAULT_KEY, Settings
from tasks_bridge.wire import submit_body

SIGNATURE: Final = "generate(model, params, *, deadline_s=None, key=None, label=None, max_credits=None)"

_LABEL: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")


class Order:
    """The arguments of one `generate`, checked."""

    def __init__(
        self,
        model: Any,
        params: Any = None,
        *,
        deadline_s: Any = None,
        key: Any = None,
        label: Any = None,
        max_credits: Any = None,
    ) -> None:
        if deadline_s is not None and not (_is_number(deadline_s) and deadline_s > 0):
            raise InvalidRequest(f"deadline_s must be a positive number of seconds, not {deadline_s!r}")
        if key is not None and not isinstance(key, str):
            raise InvalidRequest(f"key must be the alias of an API key, not a {type(key).__name__}")
        if label is not None and not (isinstance(label, str) and _LABEL.fullmatch(label)):
            raise InvalidRequest(f"label must be 1 to 64 letters, digits, '.', '_', ':' or '-', not {label!r}")
        if max_credits is not None and not (_is_number(max_credits) and max_credits > 0):
            raise InvalidRequest(f"max_credits must be a positive number, not {max_credits!r}")
        if params is None:
            raise InvalidRequest("params is missing: generate(model, params)")
        self.model = model
        self.params = params
        self.deadline_s = None if deadline_s is None else float(deadline_s)
        self.key = DEFAULT_KEY if key is None else key
        self.label = label
        self.max_credits = None if max_credits is None else float(max_credits)

    def body(self, job_id: str, callback_url: str | None = None) -> bytes:
        """The submit request's bytes. Raises InvalidRequest."""
        return submit_body(self.model, self.params, out_task_id=job_id, callback_url=callback_url)

    def record(self, body: bytes, settings: Settings, *, now: float, delay_s: float, **more: Any) -> JobRecord:
        """
        The job's first record.

        Args:
            body: Without the callback's URL, for that may be another at the next deployment, and the job still the
                same.
            settings: What the call leaves open.
            now: The store's time.
            delay_s: Seconds until the submit.
            more: Other fields of the record.
        """
        return JobRecord(
            version=RECORD_VERSION,
            model=self.model,
            key=self.key,
            digest=request_digest(body, self.key),
            created_at=now,
            delay_s=delay_s,
            deadline_s=settings.deadline_s if self.deadline_s is None else self.deadline_s,
            label=self.label,
            max_credits=self.max_credits,
            **more,
        )


def parse_order(args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None) -> Order:
    """
    Check the arguments of a call.

    Raises:
        InvalidRequest: They don't fit `SIGNATURE`.
    """
    try:
        return Order(*(args or ()), **(kwargs or {}))
    except TypeError as error:
        raise InvalidRequest(
            f"The arguments don't fit {SIGNATURE}: "
            f"{str(error).removeprefix('Order.__init__() ')}. "
            "In the middle of a chain use generate.si(…), which takes no result from the step before"
        ) from None


def start_delay_s(countdown: Any, eta: Any, zone: tzinfo) -> float:
    """
    Seconds until the submit, from Celery's ``countdown`` or ``eta``; 0 for none, or a moment that has passed.

    Args:
        countdown: Seconds, or None.
        eta: A datetime or ISO 8601 text, or None; one without a time zone is in *zone*.
        zone: The app's time zone.

    Raises:
        InvalidRequest: It is neither.
    """
    if eta is not None:
        return max(_seconds_until(eta, zone), 0.0)
    if countdown is None:
        return 0.0
    if not _is_number(countdown):
        raise InvalidRequest(f"countdown must be a number of seconds, not {countdown!r}")
    return max(float(countdown), 0.0)


def submit_by(expires: Any, now: float, zone: tzinfo) -> float | None:
    """
    The moment on the clock of *now* that Celery's ``expires`` (seconds, datetime or ISO 8601 text) stands for.

    Raises:
        InvalidRequest: It is none of these.
    """
    if expires is None:
        return None
    return now + (float(expires) if _is_number(expires) else _seconds_until(expires, zone))


def _seconds_until(moment: Any, zone: tzinfo) -> float:
    try:
        parsed: Any = maybe_iso8601(moment)
        aware = parsed if parsed.tzinfo else parsed.replace(tzinfo=zone)
        return float((aware - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, AttributeError):
        raise InvalidRequest(f"eta and expires must be datetimes or ISO 8601 text, not {moment!r}") from None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
