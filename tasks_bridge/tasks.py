"""
The two Celery tasks: `generate`, which stands for a job, and `poll`, which looks at several.

A `generate` message means "the job needs its task": the first one submits it, the one after its end returns or raises
the outcome, and Celery does the rest. In between Celery knows nothing of the job: it waits in the store.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn

from celery import Task, current_app, shared_task, states
from celery.exceptions import Ignore
from celery.utils import uuid
from celery.utils.time import maybe_iso8601
from kombu.exceptions import OperationalError

from tasks_bridge import events, facts, steps
from tasks_bridge.attend import attend
from tasks_bridge.bridge import bridge_of
from tasks_bridge.errors import ApiError, BridgeError, InvalidRequest, JobConflict, JobError, StoreError
from tasks_bridge.events import GENERATE, POLL, Change
from tasks_bridge.inline import run_inline
from tasks_bridge.publish import freeze, publish_generate
from tasks_bridge.record import RECORD_VERSION, JobRecord, JobState, request_digest
from tasks_bridge.settings import DEFAULT_KEY, Settings
from tasks_bridge.store import Lease, Purpose
from tasks_bridge.wire import check_out_task_id, submit_body

if TYPE_CHECKING:
    from celery.result import AsyncResult

    from tasks_bridge.bridge import Bridge

log = logging.getLogger("tasks_bridge.jobs")

SLOT_S: Final = 1.0
"""How long a task keeps its pool slot for answers; what takes longer goes on in the reactor."""


class Generate(Task):
    """
    The task class of `generate`: `apply_async` registers the job in the store before it publishes anything.

    Crash before the registration: the caller has no id, and nothing happened. Between it and the publication: the
    message counts as lost and is published when the job's first due time passes.
    """

    name = GENERATE
    Request = "tasks_bridge.request:JobRequest"
    throws = (
        JobError,
        ApiError,
        InvalidRequest,
    )  # how jobs end, not bugs: Celery logs them without a traceback
    acks_late = False  # recovery is the lease's; a redelivered message would only be a late double
    track_started = False  # Celery's STARTED would hide the remote state
    typing = False  # the arguments are checked below, with better messages
    abstract = True
    finishing: ClassVar[dict[str, Finishing]] = {}
    """Jobs between the return of `generate` and `after_return`, in this process."""

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        task_id: str | None = None,
        producer: Any = None,
        link: Any = None,
        link_error: Any = None,
        shadow: str | None = None,
        **options: Any,
    ) -> AsyncResult:
        """
        Start a job; everything in Celery's `apply_async` works, and the same id with the same request is the same job.

        ``countdown`` and ``eta`` delay the submit, in the store; ``expires`` ends a job that wasn't submitted by then.

        Raises:
            InvalidRequest: The arguments are wrong. Nothing is queued.
            JobConflict: *task_id* belongs to a job with another request.
            SettingsError: There is no such API key, or Redis would evict jobs.
            StoreError: Redis can't be reached. Nothing is queued.
        """
        app = self._get_app()
        job_id = check_out_task_id(uuid() if task_id is None else task_id)
        options = {**self._get_exec_options(), **options}
        options.update(link=link, link_error=link_error, shadow=shadow)
        options.setdefault("ignore_result", self.ignore_result)
        order = parse_order(args, kwargs)
        body = order.body(job_id)
        if app.conf.task_always_eager:
            return super().apply_async(args, kwargs, task_id=job_id, producer=producer, **options)
        bridge = bridge_of(app)
        bridge.settings.key(order.key)
        bridge.check()
        now = bridge.store.now()
        delay_s = _delay_s(options.pop("countdown", None), options.pop("eta", None))
        submit_by = _moment(options.pop("expires", None), now)
        record = order.record(body, bridge.settings, now=now, delay_s=delay_s).but(
            submit_by=submit_by, options=freeze(app, _with_parent(app, job_id, options))
        )
        lease_s = bridge.settings.lease_s
        known = bridge.store.register(job_id, record, body, delay_s=delay_s or lease_s, published=not delay_s)
        if not known.is_new:
            if known.record.digest != record.digest:
                raise JobConflict(job_id)
            return self.AsyncResult(job_id)
        _report_queued(bridge, job_id, record, now)
        if not delay_s:
            self._publish(bridge, job_id, record, producer, add_to_parent=options.get("add_to_parent", True))
        return self.AsyncResult(job_id)

    def _publish(self, bridge: Bridge, job_id: str, record: JobRecord, producer: Any, *, add_to_parent: bool) -> None:
        try:
            publish_generate(bridge.app, job_id, record, add_to_parent=add_to_parent, producer=producer)
        except OperationalError as error:
            log.warning("job %s is registered, but the broker can't be reached yet: %s", job_id, error)

    def AsyncResult(self, task_id: str, **kwargs: Any) -> AsyncResult:  # noqa: N802 - Celery's name
        """The handle on Celery's side."""
        return self._get_app().AsyncResult(task_id, task_name=self.name, **kwargs)

    @property
    def backend(self) -> Any:
        """The result backend, which lets only the job's own outcome count as its failure."""
        return _Outcomes(super().backend)

    def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Once Celery has stored the outcome and published the callbacks: take the job off the schedule."""
        finishing = self.finishing.pop(task_id, None)
        if finishing is not None:
            finishing.end()


class _Outcomes:
    """
    A result backend seen through one filter.

    Celery marks a task as failed for its own troubles as well: a pool process was lost, a time limit hit, a callback
    could not be published. None of these is how the job ended; the store has it, and the lease brings it back.
    """

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def mark_as_failure(self, task_id: str, exc: BaseException, *args: Any, **kwargs: Any) -> None:
        if isinstance(exc, BridgeError):
            self._backend.mark_as_failure(task_id, exc, *args, **kwargs)
        else:
            log.warning("job %s: left to its lease, which brings it back: %r", task_id, exc)


class Poll(Task):
    """The task class of `poll`: a countdown is a due time in the store, never a message that a worker holds."""

    name = POLL
    ignore_result = True
    send_events = False  # monitors show jobs, and would show little else
    acks_late = False
    abstract = True

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *_: Any,
        countdown: float | None = None,
        **options: Any,
    ) -> None:
        """Have the jobs looked at in *countdown* seconds (now, if None), unless that happens sooner anyway."""
        job_ids = [str(job_id) for job_id in ((kwargs or {}).get("job_ids") or (args or [[]])[0])]
        bridge_of(self._get_app()).store.touch(job_ids, countdown or 0.0)


@shared_task(bind=True, base=Generate, name=GENERATE)
def generate(
    self: Generate,
    model: str,
    params: dict[str, Any] | None = None,
    *,
    deadline_s: float | None = None,
    key: str | None = None,
) -> dict[str, Any]:
    """
    Have ByteSpike generate images or a video.

    Args:
        self: The Celery task.
        model: Catalogue slug, such as ``"sora-2-pro"``; passed on as it is.
        params: The model's parameters, such as ``{"prompt": "a fox", "duration_seconds": 8}``.
        deadline_s: Seconds after which the job is cancelled; default: ``TASKS_BRIDGE_DEADLINE_S``.
        key: Alias of the API key; default: ``"default"``, the key in ``BYTESPIKE_API_KEY``.

    Returns:
        The remote object as JSON (`RemoteTask.to_json`), as completion callbacks receive it.

    Raises:
        JobFailed: ByteSpike could not or would not do it.
        JobCancelled: It was cancelled.
        JobExpired: Its deadline passed.
        ApiStatusError: ByteSpike refused the request.
    """
    request = self.request
    if request.called_directly or request.is_eager:
        return _generate_inline(self, model, params, deadline_s=deadline_s, key=key)
    bridge = bridge_of(self.app)
    job_id = str(request.id)
    try:
        lease = _begin(bridge, self, job_id, (model, params, deadline_s, key))
        if lease is not None and not lease.state.is_terminal:
            bridge.reactor.run(attend(bridge, [lease]), wait_s=SLOT_S)
            lease = None
    except StoreError as error:
        log.warning("job %s: left to its lease: %s", job_id, error)
        lease = None
    if lease is None:
        # somebody else works on it, it waits in the store, or it has been handed to the reactor
        raise Ignore
    return _finish(bridge, self, lease)


@shared_task(base=Poll, name=POLL)
def poll(job_ids: list[str]) -> None:
    """Look at *job_ids*: read each one's remote state, write it back and set its next countdown."""
    bridge = bridge_of(current_app)
    leases = bridge.store.begin(job_ids, Purpose.POLL, bridge.settings.lease_s)
    if leases:
        bridge.reactor.run(attend(bridge, leases), wait_s=SLOT_S)


class Order:
    """The arguments of one `generate`, checked."""

    def __init__(
        self,
        model: Any,
        params: Any = None,
        *,
        deadline_s: float | None = None,
        key: str | None = None,
    ) -> None:
        if deadline_s is not None and not (
            isinstance(deadline_s, int | float) and not isinstance(deadline_s, bool) and 0 < deadline_s < float("inf")
        ):
            raise InvalidRequest(f"deadline_s must be a positive number of seconds, not {deadline_s!r}")
        if key is not None and not isinstance(key, str):
            raise InvalidRequest(f"key must be the alias of an API key, not a {type(key).__name__}")
        if params is None:
            raise InvalidRequest("params is missing: generate(model, params)")
        self.model = model
        self.params = params
        self.deadline_s = None if deadline_s is None else float(deadline_s)
        self.key = DEFAULT_KEY if key is None else key

    def body(self, job_id: str) -> bytes:
        """The submit request's bytes. Raises InvalidRequest."""
        return submit_body(self.model, self.params, out_task_id=job_id)

    def record(self, body: bytes, settings: Settings, *, now: float, delay_s: float) -> JobRecord:
        """The job's first record."""
        return JobRecord(
            version=RECORD_VERSION,
            model=self.model,
            key=self.key,
            digest=request_digest(body, self.key),
            created_at=now,
            starts_at=now + delay_s,
            deadline_s=settings.deadline_s if self.deadline_s is None else self.deadline_s,
        )


def parse_order(args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None) -> Order:
    """
    Check the arguments of a call.

    Raises:
        InvalidRequest: They don't fit ``generate(model, params, *, deadline_s=None, key=None)``.
    """
    try:
        return Order(*(args or ()), **(kwargs or {}))
    except TypeError as error:
        raise InvalidRequest(
            "The arguments don't fit generate(model, params, *, deadline_s=None, key=None): "
            f"{str(error).removeprefix('Order.__init__() ')}. "
            "In the middle of a chain use generate.si(…), which takes no result from the step before"
        ) from None


def _generate_inline(
    task: Generate, model: Any, params: Any, *, deadline_s: float | None, key: str | None
) -> dict[str, Any]:
    try:
        settings = bridge_of(task.app).settings
    except BridgeError:
        settings = Settings()
    order = Order(model, params, deadline_s=deadline_s, key=key)
    job_id = str(task.request.id or uuid())
    body = order.body(job_id)
    now = datetime.now(UTC).timestamp()
    return run_inline(settings, job_id, order.record(body, settings, now=now, delay_s=0.0), body)


def _begin(bridge: Bridge, task: Generate, job_id: str, arguments: tuple[Any, Any, Any, Any]) -> Lease | None:
    lease_s = bridge.settings.lease_s
    leases = bridge.store.begin([job_id], Purpose.GENERATE, lease_s)
    if not leases and arguments[1] is not None and bridge.store.get([job_id]) == [None]:
        _adopt(bridge, task, job_id, arguments)
        leases = bridge.store.begin([job_id], Purpose.GENERATE, lease_s)
    return leases[0] if leases else None


def _adopt(bridge: Bridge, task: Generate, job_id: str, arguments: tuple[Any, Any, Any, Any]) -> None:
    """Register a job from a message sent by name, past our `apply_async`; a wrong one fails as any task would."""
    model, params, deadline_s, key = arguments
    order = Order(model, params, deadline_s=deadline_s, key=key)
    body = order.body(check_out_task_id(job_id))
    request = task.request
    delivery = request.delivery_info or {}
    options = {
        "link": request.callbacks,
        "link_error": request.errbacks,
        "chain": request.chain,
        "chord": request.chord,
        "group_id": request.group,
        "group_index": request.group_index,
        "root_id": request.root_id,
        "parent_id": request.parent_id,
        "reply_to": request.reply_to,
        "queue": delivery.get("routing_key") or None,
        "priority": delivery.get("priority"),
        "ignore_result": request.ignore_result,
        "stamped_headers": request.stamped_headers,
        **(request.stamps or {}),
    }
    now = bridge.store.now()
    record = order.record(body, bridge.settings, now=now, delay_s=0.0)
    record = record.but(options=freeze(bridge.app, {k: v for k, v in options.items() if v}))
    bridge.store.register(job_id, record, body, delay_s=bridge.settings.lease_s, published=True)


def _finish(bridge: Bridge, task: Generate, lease: Lease) -> dict[str, Any]:
    """
    Return or raise the outcome: Celery stores it and publishes the callbacks, then `after_return` ends the job.

    A worker that dies in between is followed by another finish, with the same callbacks under the same ids. The one
    case in which that is known to be needless, Celery having stored a success after publishing all, is left out.
    """
    job_id, state, record = lease.job_id, lease.state, lease.record
    if lease.claims and not record.options.get("chord") and _is_stored(task, job_id):
        _end(bridge, lease)
        raise Ignore
    task.finishing[job_id] = Finishing(bridge, lease)
    if state is JobState.COMPLETED:
        return record.remote or {}
    error = steps.failure(job_id, state, record)
    if state is JobState.CANCELLED:
        _revoke(bridge, task, lease, error)
    raise error


def _revoke(bridge: Bridge, task: Generate, lease: Lease, error: BridgeError) -> NoReturn:
    """End as Celery ends revoked tasks, but with errbacks, chord and chain told."""
    ignore_result = bool(lease.record.options.get("ignore_result"))
    task.backend.mark_as_failure(
        lease.job_id, error, request=task.request, store_result=not ignore_result, state=states.REVOKED
    )
    events.send(bridge.app, [Change(lease.job_id, lease.state, lease.record)])
    task.after_return(states.REVOKED, error, lease.job_id, (), {}, None)
    raise Ignore


def _end(bridge: Bridge, lease: Lease) -> None:
    try:
        bridge.store.end(lease, bridge.settings.result_ttl_s)
    except StoreError as error:
        log.warning("job %s: is over, but not off the schedule yet: %s", lease.job_id, error)


class Finishing:
    """A lease that holds while Celery publishes the callbacks, which takes long only if broker or backend hang."""

    MOST_RENEWALS = 20
    """Bounded, so that a finish that never comes to its end is repeated elsewhere."""

    def __init__(self, bridge: Bridge, lease: Lease) -> None:
        self._bridge = bridge
        self._lease = lease
        self._stop = bridge.reactor.start(self._renew())

    def end(self) -> None:
        """Celery has done its part."""
        self._stop()
        _end(self._bridge, self._lease)

    async def _renew(self) -> None:
        lease_s = self._bridge.settings.lease_s
        for _ in range(self.MOST_RENEWALS):
            await asyncio.sleep(lease_s / 3)
            with suppress(StoreError):
                await self._bridge.reactor.blocking(self._bridge.store.renew, [self._lease], lease_s)


def _is_stored(task: Generate, job_id: str) -> bool:
    return bool(task.AsyncResult(job_id).state == states.SUCCESS)


def _report_queued(bridge: Bridge, job_id: str, record: JobRecord, now: float) -> None:
    if record.options.get("ignore_result"):
        return
    report = facts.report(job_id, JobState.QUEUED, record, token=0, now=now, next_poll_s=None)
    try:
        bridge.results.write([report])
    except StoreError as error:
        log.warning("job %s is registered, but the result backend doesn't know it yet: %s", job_id, error)


def _with_parent(app: Any, job_id: str, options: dict[str, Any]) -> dict[str, Any]:
    """The parent is the task that runs now, also when the message is published again from elsewhere."""
    parent = app.current_worker_task
    found = {"root_id": job_id, "parent_id": None}
    if parent is not None:
        found = {"root_id": parent.request.root_id or parent.request.id, "parent_id": parent.request.id}
        if app.conf.task_inherit_parent_priority:
            options.setdefault("priority", (parent.request.delivery_info or {}).get("priority"))
    return {**found, **{name: value for name, value in options.items() if value is not None}}


def _delay_s(countdown: float | None, eta: datetime | str | None) -> float:
    if eta is not None:
        return max(_since_epoch(eta) - datetime.now(UTC).timestamp(), 0.0)
    if countdown is None:
        return 0.0
    if isinstance(countdown, bool) or not isinstance(countdown, int | float) or not countdown < float("inf"):
        raise InvalidRequest(f"countdown must be a number of seconds, not {countdown!r}")
    return max(float(countdown), 0.0)


def _moment(expires: float | datetime | str | None, now: float) -> float | None:
    if expires is None:
        return None
    if isinstance(expires, int | float):
        return now + expires
    return now + _since_epoch(expires) - datetime.now(UTC).timestamp()


def _since_epoch(moment: datetime | str) -> float:
    try:
        parsed: datetime = maybe_iso8601(moment)
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=current_app.timezone)).timestamp()
    except (ValueError, TypeError, AttributeError):
        raise InvalidRequest(f"eta and expires must be datetimes or ISO 8601 text, not {moment!r}") from None
