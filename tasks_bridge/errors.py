"""
Every error that tasks-bridge raises, as one tree.

```text
BridgeError
├── SettingsError             a setting is missing or wrong
├── InvalidRequest            the caller's arguments are wrong (also a ValueError)
├── JobConflict               the job id is taken by a different request
├── InvalidToken              a token in a URL is not ours, not for this, or too old
├── StoreError                Redis refuses what is asked of it
│   └── StoreUnreachable      it does not answer: what was asked may have been done all the same
├── ApiError
│   ├── ApiConnectionError    no usable answer from the network; a submit may or may not have arrived
│   │   └── ApiTimeout
│   ├── ApiResponseError      an answer that cannot be read
│   └── ApiStatusError        the API refused, with an HTTP status other than 2xx
│       ├── BadRequest             never worth repeating
│       ├── AuthenticationError    the key is missing, revoked or wrong
│       ├── PermissionDenied       the key may not do this
│       ├── NotFound               no such task for this key, or no such route
│       ├── Conflict               this out_task_id belongs to other parameters
│       ├── InsufficientBalance    no credit left
│       ├── RateLimited            too much, for now
│       └── ServerError            the gateway or the provider failed, for now
├── OutputError               an output of a job was not saved
│   ├── OutputGone            its URL is served no more, and there is no other
│   ├── OutputTooLarge        it has more bytes than allowed
│   ├── OutputRejected        it is not what it should be, or not where we fetch from
│   ├── OutputUnreachable     its server does not give it, for now
│   └── OutputNotStored       the destination does not take it, for now
└── JobError                  how a job ended, or why it cannot be read
    ├── JobFailed
    ├── JobCancelled
    ├── JobExpired
    ├── SpendLimitReached     it would cost more than a limit allows
    ├── JobNotFinished
    └── JobNotFound
```

An error travels: from a worker through Celery's result backend to whoever reads the result. Celery's JSON
serializer keeps ``exc.args`` and rebuilds ``cls(*args)``; its pickle serializer does the same. So every
constructor takes positional JSON-able arguments, and passes all of them on to ``Exception``.

Source: celery/backends/base.py, ``prepare_exception`` and ``exception_to_python``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = [
    "ApiConnectionError",
    "ApiError",
    "ApiResponseError",
    "ApiStatusError",
    "ApiTimeout",
    "AuthenticationError",
    "BadRequest",
    "BridgeError",
    "Conflict",
    "InsufficientBalance",
    "InvalidRequest",
    "InvalidToken",
    "JobCancelled",
    "JobConflict",
    "JobError",
    "JobExpired",
    "JobFailed",
    "JobNotFinished",
    "JobNotFound",
    "NotFound",
    "OutputError",
    "OutputGone",
    "OutputNotStored",
    "OutputRejected",
    "OutputTooLarge",
    "OutputUnreachable",
    "PermissionDenied",
    "RateLimited",
    "ServerError",
    "SettingsError",
    "SpendLimitReached",
    "StoreError",
    "StoreUnreachable",
]


class BridgeError(Exception):
    """
    Base of every error here. Its text is a full sentence: what happened, why, what to do.
    """


class SettingsError(BridgeError):
    """
    A setting is missing or wrong. The message names it, and never shows a secret.
    """


class InvalidRequest(BridgeError, ValueError):
    """
    The caller's arguments are wrong; nothing was sent or queued. The message names the argument.
    """


class JobConflict(BridgeError):
    """
    The job id is taken by a job with a different request.

    The same id with the same request is the same job, and no error.
    """

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id)
        self.job_id = job_id

    def __str__(self) -> str:
        return (
            f"Job {self.job_id} already exists with another model or other parameters. Use a new id for a new request."
        )


class InvalidToken(BridgeError):
    """
    A token in a URL was not signed by us, or not for this purpose, or is too old. Which of these is not told.
    """

    def __init__(self) -> None:
        super().__init__()

    def __str__(self) -> str:
        return "The token is not valid. Ask for a new link."


class StoreError(BridgeError):
    """
    Redis cannot be reached, or refuses what we ask of it.
    """


class StoreUnreachable(StoreError):
    """
    Redis did not answer in time, or not at all. A command may have reached it, and be carried out even later.

    Attributes:
        message: What was tried.
        job_ids: Of the jobs that may be registered although the caller was not told. The same call under the same id
            (``task_id=error.job_ids[0]``) is safe: it finds that job, or makes it.
    """

    def __init__(self, message: str, job_ids: Sequence[str] = ()) -> None:
        super().__init__(message, list(job_ids))
        self.message = message
        self.job_ids = tuple(job_ids)

    def __str__(self) -> str:
        if not self.job_ids:
            return self.message
        these = f"job {self.job_ids[0]}" if len(self.job_ids) == 1 else f"{len(self.job_ids)} jobs"
        return f"{self.message} It may know {these} all the same: call again under the same id."


class ApiError(BridgeError):
    """
    A call to the ByteSpike API brought no good answer.
    """


class ApiConnectionError(ApiError):
    """
    The network brought no usable answer.

    After a submit this is ambiguous: the request may have arrived. Send the same bytes again under the same
    ``out_task_id``, or query by it.
    """


class ApiTimeout(ApiConnectionError):
    """
    The API did not answer in time. As ambiguous as its parent.
    """


class ApiResponseError(ApiError):
    """
    The API answered with something that cannot be read: not JSON, no task in it, too large, or a redirect.

    After a submit this is ambiguous, as ``ApiConnectionError`` is.
    """


class ApiStatusError(ApiError):
    """
    The API answered with an HTTP status other than 2xx, and said why.

    Attributes:
        message: The server's own words, shortened and without secrets. Empty if it gave none.
        status_code: The HTTP status.
        code: ``error.code`` from the body, the field to branch on. None if the body had none.
        retry_after_s: How many seconds the server asks to wait. None if it said nothing.

    Source: contract, section 8.
    """

    remedy = "See the ByteSpike documentation for this code."

    def __init__(
        self, message: str, status_code: int, code: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, status_code, code, retry_after_s)
        self.message = message
        self.status_code = status_code
        self.code = code
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        code = f" {self.code}" if self.code else ""
        said = f": {self.message.rstrip('.')}." if self.message else "."
        return f"ByteSpike answered HTTP {self.status_code}{code}{said} {self.remedy}"


class BadRequest(ApiStatusError):
    """
    The request is wrong and will stay wrong: 400, 413, 422, 451, and any 4xx without a class of its own.
    """

    remedy = "Correct the request; the same one fails again."


class AuthenticationError(ApiStatusError):
    """
    401: the key is missing, malformed, revoked, expired or disabled.
    """

    remedy = "Check the API key."


class PermissionDenied(ApiStatusError):
    """
    403: this key may not use this model, or may not be used from this address.
    """

    remedy = "Check the key's routing group and its list of allowed addresses."


class NotFound(ApiStatusError):
    """
    404: no such task for this key (``task_not_found``), or no such route (``not_found``).
    """

    remedy = "Check the identifier, and that the same API key is used as for the submit."


class Conflict(ApiStatusError):
    """
    ``duplicate_out_task_id``: the out_task_id belongs to a task with other parameters.
    """

    remedy = "Use a new out_task_id, or query this one to see what it belongs to."


class InsufficientBalance(ApiStatusError):
    """
    402: the wallet is empty, the key's quota is used up, or a spend bucket is.
    """

    remedy = "Top up the balance or raise the key's limit."


class RateLimited(ApiStatusError):
    """
    429: a spend bucket is empty, or too many requests are in flight.
    """

    remedy = "Wait, then send the same request again."

    @property
    def concurrency(self) -> bool:
        """
        Whether the cap on requests in flight was hit: worth a wait of 1 to 3 seconds, not of hours.

        Source: contract, sections 8 and 9.
        """
        return self.code == "concurrency_limit"


class ServerError(ApiStatusError):
    """
    The gateway or the provider failed for now: 5xx, and 408 and 425, which say "later" as well.
    """

    remedy = "Send the same request again later."


class OutputError(BridgeError):
    """
    An output of a job was not saved. The job itself has completed.

    Attributes:
        job_id: The job's id.
        index: Which output, from 0. None: any of them.
        reason: What is wrong, without a full stop; never with the URL, whose holder needs no key.
    """

    remedy = "Once that is mended, call save_output with the job's id."

    def __init__(self, job_id: str, index: int | None = None, reason: str = "", *details: Any) -> None:
        super().__init__(job_id, index, reason, *details)
        self.job_id = job_id
        self.index = index
        self.reason = reason

    def __str__(self) -> str:
        which = "Outputs" if self.index is None else f"Output {self.index}"
        verb = "were" if self.index is None else "was"
        why = f": {self.reason}" if self.reason else ""
        return f"{which} of job {self.job_id} {verb} not saved{why}. {self.remedy}"


class OutputGone(OutputError):
    """
    The URL is served no more, and ByteSpike, asked once, told none that is.

    Attributes:
        status_code: What the file's server answered. None if ByteSpike tells of no output at all.
    """

    remedy = "Outputs are said to be kept for 24 hours: save them sooner."

    def __init__(self, job_id: str, index: int | None = None, status_code: int | None = None) -> None:
        gone = "ByteSpike tells of none" if status_code is None else f"it is no longer to be had (HTTP {status_code})"
        super().__init__(job_id, index, gone)
        self.args = (job_id, index, status_code)
        self.status_code = status_code


class OutputTooLarge(OutputError):
    """
    It has more bytes than allowed; nothing of it is kept.

    Attributes:
        limit: The most that was allowed, in bytes.
        size: How many it has. None if its server did not tell: more than *limit* came.
    """

    remedy = "Raise max_bytes, then call save_output with the job's id."

    def __init__(self, job_id: str, index: int | None = None, limit: int = 0, size: int | None = None) -> None:
        has = "more" if size is None else f"{size}"
        super().__init__(job_id, index, f"{limit} bytes are allowed, and it has {has}")
        self.args = (job_id, index, limit, size)
        self.limit = limit
        self.size = size


class OutputRejected(OutputError):
    """
    It is not what it should be, or at an address that is not fetched from; nothing of it is kept.
    """

    remedy = "Look at it; if it is all right, allow it by content_types and call save_output with the job's id."


class OutputUnreachable(OutputError):
    """
    Its server does not give it for now. It is tried again; as an end it means: not after all attempts.

    Attributes:
        retry_after_s: How many seconds the server asks to wait. None if it said nothing.
    """

    def __init__(
        self, job_id: str, index: int | None = None, reason: str = "", retry_after_s: float | None = None
    ) -> None:
        super().__init__(job_id, index, reason, retry_after_s)
        self.retry_after_s = retry_after_s


class OutputNotStored(OutputError):
    """
    The destination does not take it for now. It is tried again; as an end it means: not after all attempts.
    """


class JobError(BridgeError):
    """
    How a job ended, or why it cannot be read.

    Attributes:
        job_id: The job's id: Celery's task id, ByteSpike's out_task_id.
    """

    def __init__(self, job_id: str, *details: Any) -> None:
        super().__init__(job_id, *details)
        self.job_id = job_id

    def __str__(self) -> str:
        return f"Job {self.job_id} did not succeed."


class JobFailed(JobError):
    """
    The job failed, at ByteSpike or before it got there.

    Attributes:
        code: The ``error_code`` of the task or ``error.code`` of the refusal. None if there was none.
        message: The human-readable reason. None if there was none.
        remote: ByteSpike's last task object as JSON (``RemoteTask.to_json()``). None if there was none.
    """

    def __init__(
        self,
        job_id: str,
        code: str | None = None,
        message: str | None = None,
        remote: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(job_id, code, message, remote)
        self.code = code
        self.message = message
        self.remote = remote

    def __str__(self) -> str:
        code = f" ({self.code})" if self.code else ""
        reason = self.message.rstrip(".") if self.message else "no reason was given"
        return f"Job {self.job_id} failed{code}: {reason}. A new attempt needs a new job id."


class JobCancelled(JobError):
    """
    The job was cancelled before it completed.

    Attributes:
        remote: As in ``JobFailed``; ``credits_used`` in it is what a half-done task cost, if anything.
    """

    def __init__(self, job_id: str, remote: dict[str, Any] | None = None) -> None:
        super().__init__(job_id, remote)
        self.remote = remote

    def __str__(self) -> str:
        return f"Job {self.job_id} was cancelled before it completed. A new attempt needs a new job id."


class JobExpired(JobError):
    """
    The job's deadline passed before ByteSpike finished it.

    Attributes:
        deadline_s: How many seconds the job was given. None if unknown.
        remote: As in ``JobFailed``.
    """

    def __init__(self, job_id: str, deadline_s: float | None = None, remote: dict[str, Any] | None = None) -> None:
        super().__init__(job_id, deadline_s, remote)
        self.deadline_s = deadline_s
        self.remote = remote

    def __str__(self) -> str:
        given = "" if self.deadline_s is None else f" of {self.deadline_s:g} s"
        return (
            f"Job {self.job_id} did not finish before its deadline{given}. "
            "Start it again under a new id, with a longer deadline."
        )


class SpendLimitReached(JobError):
    """
    The job would cost more than a limit allows: it was not submitted, or cancelled once ByteSpike had told its price.

    Attributes:
        scope: Whose limit: ``"job"``, ``"label:<label>"``, or ``"all"`` jobs of the period.
        limit: The limit, in credits as all numbers here.
        wanted: What the job would cost, as far as that is known.
        booked: What the scope's other jobs have used and reserved in this period. 0 for the scope ``"job"``.
    """

    def __init__(
        self, job_id: str, scope: str | None = None, limit: float = 0.0, wanted: float = 0.0, booked: float = 0.0
    ) -> None:
        super().__init__(job_id, scope, limit, wanted, booked)
        self.scope = scope
        self.limit = limit
        self.wanted = wanted
        self.booked = booked

    def __str__(self) -> str:
        whose = {"job": "one job", "all": "all jobs"}.get(self.scope or "all") or str(self.scope).replace(":", " ", 1)
        booked = f", of which others have {self.booked:g}" if self.scope != "job" else ""
        remedy = "Raise the limit" if self.scope == "job" else "Raise the limit or wait for the next period"
        return (
            f"Job {self.job_id} would cost {self.wanted:g} credits; the limit for {whose} is {self.limit:g}{booked}. "
            f"{remedy}, then start it under a new job id."
        )


class JobNotFinished(JobError):
    """
    The result was asked for while the job is still under way.

    Attributes:
        state: The job's state now. None if unknown.
    """

    def __init__(self, job_id: str, state: str | None = None) -> None:
        super().__init__(job_id, state)
        self.state = state

    def __str__(self) -> str:
        state = f" (state {self.state})" if self.state else ""
        return f"Job {self.job_id} is not finished yet{state}. Wait for it, or attach a callback."


class JobNotFound(JobError):
    """
    No job has this id, or its record has been removed since.
    """

    def __str__(self) -> str:
        return f"Job {self.job_id} is unknown. Its id is wrong, or its record has expired."
