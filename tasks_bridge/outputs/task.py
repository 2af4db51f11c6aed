"""`save_output`: the Celery task."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, Final

from celery import Task, shared_task
from celery.exceptions import Reject
from pydantic import ValidationError

from tasks_bridge.bridge import Bridge, bridge_of
from tasks_bridge.cadence import backoff_s
from tasks_bridge.errors import (
    ApiConnectionError,
    ApiResponseError,
    BridgeError,
    InvalidRequest,
    JobError,
    OutputError,
    OutputNotStored,
    OutputUnreachable,
    RateLimited,
    ServerError,
    SettingsError,
    StoreError,
)
from tasks_bridge.media import is_media_type
from tasks_bridge.models import RemoteTask
from tasks_bridge.naming import Target, parse_target
from tasks_bridge.outputs.download import Limits
from tasks_bridge.outputs.job import JobFacts
from tasks_bridge.outputs.notes import Notes
from tasks_bridge.outputs.registry import open_destination
from tasks_bridge.outputs.save import Busy, Saving
from tasks_bridge.settings import Settings

SAVE_OUTPUT: Final = "tasks_bridge.save_output"

INLINE_ATTEMPTS: Final = 3
"""Somebody waits: for a direct call, or with ``task_always_eager``."""

_PASSING: Final = (
    OutputUnreachable,
    OutputNotStored,
    StoreError,
    ApiConnectionError,
    ApiResponseError,
    RateLimited,
    ServerError,
)

_OPTIONS: Final = frozenset({"remote", "to", "max_bytes", "content_types"})


class SaveOutput(Task):
    """
    The task class of `save_output`: a message is acknowledged once the outputs are saved, so a lost one runs again.

    Whatever is repeated or runs twice ends with the same files. When it can't be told whether the repetition was
    published, the message is given back, and there may be two.
    """

    name = SAVE_OUTPUT
    acks_late = True
    reject_on_worker_lost = True
    max_retries = None  # counted here
    throws = (OutputError, JobError, InvalidRequest, SettingsError)  # said in words: no bugs
    abstract = True

    def signature(self, args: Any = None, *more: Any, **options: Any) -> Any:
        """
        As Celery's, but that a wrong destination or option is told here, where it is written down.

        Raises:
            InvalidRequest: It is wrong.
        """
        given = options.get("kwargs", more[0] if more else None)
        _check_call(tuple(args or ()), given or {})
        return super().signature(args, *more, **options)


@shared_task(bind=True, base=SaveOutput, name=SAVE_OUTPUT)
def save_output(
    self: SaveOutput,
    remote: RemoteTask | Mapping[str, Any] | str,
    to: str | None = None,
    *,
    max_bytes: int | None = None,
    content_types: Sequence[str] | None = None,
) -> dict[str, Any]:
    """
    Save the outputs of a completed job, which ByteSpike's URLs are said to lead to for 24 hours.

    Args:
        self: The Celery task.
        remote: The remote object, as a completion callback and the next step of a chain get it; or a job's id.
        to: Where to: a folder's absolute path, a URL that fsspec knows, or ``django://<alias>/…``; fields in it are
            ``{id}``, ``{index}``, ``{ext}`` and ``{model}``. Default: ``TASKS_BRIDGE_SAVE_TO``.
        max_bytes: The most that one output may have; default: ``TASKS_BRIDGE_SAVE_MAX_BYTES``.
        content_types: What they may be, such as ``["video/*"]``; default: ``TASKS_BRIDGE_SAVE_CONTENT_TYPES``.

    Returns:
        The remote object, each of its outputs with one more member::

            "saved": {"path": "/srv/media/fox.mp4", "bytes": 1234, "sha256": "9f86…", "content_type": "video/mp4"}

    Raises:
        OutputGone: The URL is served no more, and ByteSpike tells no other.
        OutputTooLarge: There is more than *max_bytes*.
        OutputRejected: It is not what it should be.
        OutputUnreachable, OutputNotStored: Not even after ``TASKS_BRIDGE_SAVE_ATTEMPTS``.
        JobNotFound, JobNotFinished, JobFailed, …: Of a job's id, if that has no outputs.
        InvalidRequest: The arguments are wrong.
        SettingsError: No destination is set, or something is not installed.
    """
    is_inline = self.request.called_directly or self.request.is_eager
    bridge = _bridge(self.app, is_inline=is_inline)
    settings = bridge.settings
    notes = Notes(None if is_inline else bridge.deliveries, settings.result_ttl_s)
    facts = JobFacts(_id_of(remote), settings, None if is_inline else bridge.store, bridge.caller_client)
    target = _target(to, settings)
    limits = _limits(settings, max_bytes, content_types)
    destination = open_destination(target, settings)
    failures = int(self.request.retries or 0)
    while True:
        try:
            return _save(remote, facts, Saving(settings, facts, target, destination, limits, notes))
        except Busy:
            delay_s = settings.lease_s / 3  # as long as it takes to see elsewhere whether somebody is still at work
            error: BridgeError = OutputUnreachable(_id_of(remote), None, "another worker is at it")
        except _PASSING as passing:
            failures += 1
            if failures >= (min(settings.save_attempts, INLINE_ATTEMPTS) if is_inline else settings.save_attempts):
                raise
            delay_s = _delay_s(settings, failures, passing)
            error = passing
        if not is_inline:
            raise _again(self, error, failures, delay_s)
        bridge.pause(delay_s)


def _save(remote: RemoteTask | Mapping[str, Any] | str, facts: JobFacts, saving: Saving) -> dict[str, Any]:
    return saving.save(facts.outcome() if isinstance(remote, str) else _task(remote))


def _again(task: SaveOutput, error: BridgeError, failures: int, delay_s: float) -> Exception:
    """Publish the message once more, for later, under the same id."""
    # waiting for somebody else is no failure: Celery adds one to what is here
    task.request.update(retries=failures - 1)
    try:
        return task.retry(exc=error, countdown=delay_s, throw=False)
    except Reject:
        # the broker is away, and Celery would drop the message; unacknowledged, it comes back
        return Reject(error, requeue=True)


def _delay_s(settings: Settings, failures: int, error: BridgeError) -> float:
    asked_s = getattr(error, "retry_after_s", None) or 0.0
    own_s = backoff_s(
        failures,
        retry_min_s=settings.retry_min_s,
        retry_max_s=settings.save_retry_max_s,
        random=random.random(),  # noqa: S311 - jitter
    )
    return min(max(own_s, asked_s), settings.save_retry_max_s)


def _bridge(app: Any, *, is_inline: bool) -> Bridge:
    try:
        return bridge_of(app)
    except SettingsError:
        if is_inline:
            return Bridge(app, Settings())  # that nobody keeps, and that connects to nothing
        raise


def _target(to: str | None, settings: Settings) -> Target:
    destination = settings.save_to if to is None else to
    if destination is None:
        raise SettingsError(
            "There is no destination for outputs: name one in save_output.s(…), or set TASKS_BRIDGE_SAVE_TO"
        )
    return parse_target(destination)


def _limits(settings: Settings, max_bytes: object, content_types: object) -> Limits:
    _check_options(max_bytes, content_types)
    return Limits(
        settings.save_max_bytes if not isinstance(max_bytes, int) else max_bytes,
        tuple(settings.save_content_types if not isinstance(content_types, list | tuple) else content_types),
        settings.save_timeout_s,
    )


def _check_options(max_bytes: object, content_types: object) -> None:
    if max_bytes is not None and (isinstance(max_bytes, bool) or not isinstance(max_bytes, int) or max_bytes <= 0):
        raise InvalidRequest("max_bytes must be a whole number above 0")
    if content_types is not None and not (
        isinstance(content_types, list | tuple) and content_types and all(map(is_media_type, content_types))
    ):
        raise InvalidRequest('content_types must be a list of media types, such as ["video/*", "image/png"]')


def _check_call(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """
    Refuse what would only go wrong once the job is paid for.

    Raises:
        InvalidRequest: It says what.
    """
    if unknown := sorted(set(kwargs) - _OPTIONS):
        raise InvalidRequest(f"save_output takes no {unknown[0]!r}; it takes {', '.join(sorted(_OPTIONS))}")
    _check_options(kwargs.get("max_bytes"), kwargs.get("content_types"))
    destinations = [kwargs.get("to"), *args[1:2]]
    # alone, it is where to: the remote object comes before it later. Or it is a job's id, which looks like no place
    if len(args) == 1 and isinstance(args[0], str) and set("/{:") & set(args[0]):
        destinations.append(args[0])
    for destination in destinations:
        if destination is not None:
            parse_target(destination)


def _id_of(remote: RemoteTask | Mapping[str, Any] | str) -> str:
    if isinstance(remote, str):
        return remote
    task = _task(remote)
    return task.out_task_id or task.task_id


def _task(remote: object) -> RemoteTask:
    if isinstance(remote, RemoteTask):
        return remote
    try:
        return RemoteTask.model_validate(remote)
    except ValidationError:
        raise InvalidRequest(
            "save_output takes a remote object, as completion callbacks get it, or a job's id"
        ) from None
