"""
What ByteSpike says about a task, as a value.

Source: API, /tasks/query page (response fields).
"""

from __future__ import annotations

import math
from enum import StrEnum, nonmember
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

__all__ = ["RemoteStatus", "RemoteTask", "SavedOutput"]


class RemoteStatus(StrEnum):
    """
    The statuses a ByteSpike task is known to have.

    ``RemoteTask.status`` is a plain string, because the server may use others; members compare equal to it.
    """

    PENDING = "pending"  # accepted, generation has not started
    RUNNING = "running"  # generating
    COMPLETED = "completed"  # output is there, cost is final
    FAILED = "failed"  # error_code and error_message say why; not billed
    CANCELLED = "cancelled"  # stopped by the user; may have cost something if it was running

    TERMINAL = nonmember(frozenset({COMPLETED, FAILED, CANCELLED}))


# Older pages of the API's documentation call the first status "queued" (contract, section 2).
_ALIASES = {"queued": RemoteStatus.PENDING.value} | {status.value: status.value for status in RemoteStatus}


def _status(value: object) -> object:
    if not isinstance(value, str):
        return value  # pydantic refuses it: a task without a status says nothing
    return _ALIASES.get(value) or _ALIASES.get(value.strip().lower(), value)


def _number(value: object) -> float | None:
    # A number we cannot read is no reason to lose the task that carries it.
    if value is None or isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _seconds(value: object) -> float | None:
    number = _number(value)
    return number if number is not None and number >= 0 else None


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value or None
    return str(value)


def _identifier(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _output(value: object) -> list[dict[str, Any]] | None:
    # The element's shape depends on the model (contract, section 2). A bare element becomes an object, so
    # a reader always finds a list of objects.
    if value is None:
        return None
    elements = value if isinstance(value, list | tuple) else [value]
    return [_element(element) for element in elements]


def _element(element: object) -> dict[str, Any]:
    if isinstance(element, dict):
        return element
    return {"url": element} if isinstance(element, str) else {"value": element}


_Identifier = Annotated[str, BeforeValidator(_identifier)]
_Status = Annotated[str, BeforeValidator(_status)]
_Number = Annotated[float | None, BeforeValidator(_number)]
_Seconds = Annotated[float | None, BeforeValidator(_seconds)]
_Text = Annotated[str | None, BeforeValidator(_text)]
_Output = Annotated[list[dict[str, Any]] | None, BeforeValidator(_output)]


class SavedOutput(BaseModel):
    """
    Where an output has been saved, and what it is.

    Attributes:
        path: How to find it there: an absolute path; a URL, such as ``s3://bucket/renders/fox.mp4``; in a storage of
            Django's, the name that a `FileField` keeps.
        bytes: Its size.
        sha256: Its SHA-256, in hexadecimal digits.
        content_type: What it is, by its content, such as ``"video/mp4"``.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    path: str
    bytes: int
    sha256: str
    content_type: str


class RemoteTask(BaseModel):
    """
    The task object of the API: what ByteSpike last said about one remote job.

    Reading is tolerant: unknown fields are kept as they came, and a number that makes no sense is None. Only
    ``task_id`` and ``status`` must be there. ``RemoteTask.model_validate(task.to_json()) == task``.

    A Celery task with ``pydantic=True`` and a parameter of this type gets the object itself::

        @shared_task(pydantic=True)
        def publish(video: RemoteTask, user_id: int) -> None: ...

    Attributes:
        task_id: ByteSpike's id. Opaque.
        out_task_id: The id given on submit: the job id. None if none was given.
        status: One of ``RemoteStatus``, or what the server said if that is none of them.
        estimated_credits: Cost estimate, gone once ``credits_used`` is known. The unit is the API's own.
        estimated_seconds: A hint of the duration, often several times too low.
        credits_used: What was billed. A cancelled task may carry it too.
        output: The results as they came, for example
            ``[{"type": "video", "url": "https://…", "duration_seconds": 8, "width": 1920, "height": 1080}]``.
        error_code: Why the task failed, for machines. None unless it failed.
        error_message: Why the task failed, for people. None unless it failed.

    Source: API, /tasks/query page; contract, section 2.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    task_id: _Identifier
    out_task_id: _Text = None
    status: _Status
    estimated_credits: _Number = None
    estimated_seconds: _Seconds = None
    credits_used: _Number = None
    output: _Output = None
    error_code: _Text = None
    error_message: _Text = None

    @property
    def is_terminal(self) -> bool:
        """
        Whether nothing more will happen. False for a status we do not know.
        """
        return self.status in RemoteStatus.TERMINAL

    @property
    def urls(self) -> list[str]:
        """
        The URLs of the results, in order. They are said to expire after 24 hours: download soon.

        Source: contract, section 11.
        """
        return [url for element in self.output or () if isinstance(url := element.get("url"), str) and url]

    @property
    def saved(self) -> list[SavedOutput]:
        """
        Where `save_output` has put the outputs, in order; empty before it has.
        """
        return [saved for element in self.output or () if (saved := _saved(element)) is not None]

    def to_json(self) -> dict[str, Any]:
        """
        Return the task as JSON: what Celery callbacks receive. Fields of ours that are None are left out.
        """
        known = {name: value for name in _FIELDS if (value := getattr(self, name)) is not None}
        return known | (self.__pydantic_extra__ or {})


def _saved(element: dict[str, Any]) -> SavedOutput | None:
    if "saved" not in element:
        return None
    try:
        return SavedOutput.model_validate(element["saved"])
    except ValidationError:  # a member of ByteSpike's own that happens to be called so
        return None


_FIELDS = tuple(RemoteTask.model_fields)
