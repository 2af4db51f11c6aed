"""
The two Celery tasks: `generate`, which stands for a job, and `poll`, which looks at several.

A `generate` message means "the job needs its task": the first one submits it, the one after its end returns or raises
the outcome, and Celery does the rest. In between Celery knows nothing of the job: it waits in the store.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from celery import Task, shared_task, states
from celery.exceptions import Ignore
from celery.utils import uuid
from kombu.exceptions import OperationalError

from tasks_bridge import facts
from tasks_bridge.attend import attend
from tasks_bridge.bridge import bridge_of
from tasks_bridge.callbacks import callback_url_if_on
from tasks_bridge.errors import ApiError, BridgeError, InvalidRequest, JobConflict, JobError, StoreError
from tasks_bridge.events import GENERATE, POLL
from tasks_bridge.finish import OutcomesOnly, abandoned, finish, finished
from tasks_bridge.inline import run_inline
from tasks_bridge.order import Order, parse_order, start_delay_s, submit_by
from tasks_bridge.publish import freeze, publish_generate
from tasks_bridge.record import JobRecord, JobState
from tasks_bridge.settings import Settings
from tasks_bridge.store import Lease, Purpose
from tasks_bridge.wire import check_out_task_id

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
    ) -> AsyncResult[Any]:
        """
        Start a job; everything in Celery's `apply_async` works, and the same id with the same request is the same job.

        ``countdown`` and ``eta`` delay the submit, in the store; ``expires`` ends a job that wasn't submitted by then.

        Raises:
            InvalidRequest: The arguments are wrong. Nothing is queued.
            JobConflict: *task_id* belongs to a job with another request.
            SettingsError: There is no such API key, or Redis would evict jobs.
            StoreError: Redis can't be reached. Nothing is queued.
        """
        app: Any = self.app
        job_id = check_out_task_id(uuid() if task_id is None else task_id)
        task: Any = self  # what follows is Celery's own, which its type stubs leave out
        options = {**task._get_exec_options(), **options}  # noqa: SLF001
        options.update(link=link, link_error=link_error, shadow=shadow)
        options.setdefault("ignore_result", self.ignore_result)
        order = parse_order(args, kwargs)
        body = order.body(job_id)
        if app.conf.task_always_eager:
            plain: Any = Task.apply_async
            eager: AsyncResult[Any] = plain(task, args, kwargs, job_id, producer, **options)
            return eager
        bridge = bridge_of(app)
        bridge.settings.key(order.key)
        bridge.check()
        now = bridge.store.now()
        delay_s = start_delay_s(options.pop("countdown", None), options.pop("eta", None), app.timezone)
        record = order.record(body, bridge.settings, now=now, delay_s=delay_s).but(
            submit_by=submit_by(options.pop("expires", None), now, app.timezone),
            options=freeze(app, _with_parent(app, options)),
        )
        record, body = _with_callback(bridge, order, job_id, record, body)
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

    def delay_on_commit(self, *args: Any, **kwargs: Any) -> None:
        """In Django: `delay` once the database transaction is committed."""
        self.apply_async_on_commit(args, kwargs)

    def apply_async_on_commit(self, *args: Any, **kwargs: Any) -> None:
        """In Django: `apply_async` once the database transaction is committed."""
        from celery.contrib.django.task import DjangoTask  # noqa: PLC0415 - needs Django, which is optional

        DjangoTask.apply_async_on_commit(cast("Any", self), *args, **kwargs)

    def AsyncResult(self, task_id: str, **kwargs: Any) -> AsyncResult[Any]:  # noqa: N802 - Celery's name
        """The handle on Celery's side."""
        handle: AsyncResult[Any] = self.app.AsyncResult(task_id, task_name=self.name, **kwargs)
        return handle

    @property  # type: ignore[misc]  # read-only: an app's backend is set on the app
    def backend(self) -> Any:
        """The result backend, which lets only the job's own outcome count as its failure."""
        return OutcomesOnly(super().backend)

    def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Once Celery has stored the outcome and published the callbacks: take the job off the schedule."""
        # Celery comes here as well after a failure of its own, such as a callback that it could not publish
        if status != states.FAILURE or isinstance(retval, BridgeError):
            finished(task_id)
        else:
            abandoned(task_id)


class Poll(Task):
    """The task class of `poll`: a countdown is a due time in the store, never a message that a worker holds."""

    name = POLL
    ignore_result = True
    send_events = False  # monitors show jobs, and would show little else
    acks_late = False
    throws = (StoreError,)  # Redis is away: the alarm says so once, and the jobs stay due
    abstract = True

    def apply_async(  # type: ignore[override]  # it writes a due time, there is no message and no result
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *_: Any,
        countdown: float | None = None,
        **options: Any,
    ) -> None:
        """Have the jobs looked at in *countdown* seconds (now, if None), unless that happens sooner anyway."""
        job_ids = [str(job_id) for job_id in ((kwargs or {}).get("job_ids") or (args or [[]])[0])]
        bridge_of(self.app).store.touch(job_ids, countdown or 0.0)


@shared_task(bind=True, base=Generate, name=GENERATE)
def generate(
    self: Generate,
    model: str,
    params: dict[str, Any] | None = None,
    *,
    deadline_s: float | None = None,
    key: str | None = None,
    label: str | None = None,
    max_credits: float | None = None,
) -> dict[str, Any]:
    """
    Have ByteSpike generate images or a video.

    Args:
        self: The Celery task.
        model: Catalogue slug, such as ``"sora-2-pro"``; passed on as it is.
        params: The model's parameters, such as ``{"prompt": "a fox", "duration_seconds": 8}``.
        deadline_s: Seconds after which the job is cancelled; default: ``TASKS_BRIDGE_DEADLINE_S``.
        key: Alias of the API key; default: ``"default"``, the key in ``BYTESPIKE_API_KEY``.
        label: On whose budget it goes, such as a tenant's id; see ``TASKS_BRIDGE_SPEND_LIMIT_PER_LABEL``.
        max_credits: The most that it may cost, in ByteSpike's credits.

    Returns:
        The remote object as JSON (`RemoteTask.to_json`), as completion callbacks receive it.

    Raises:
        JobFailed: ByteSpike could not or would not do it.
        JobCancelled: It was cancelled.
        JobExpired: Its deadline passed.
        SpendLimitReached: It would cost more than a limit allows.
        ApiStatusError: ByteSpike refused the request.
    """
    request = self.request
    arguments = {
        "model": model,
        "params": params,
        "deadline_s": deadline_s,
        "key": key,
        "label": label,
        "max_credits": max_credits,
    }
    if request.called_directly or request.is_eager:
        return _generate_inline(self, arguments)
    bridge = bridge_of(self.app)
    job_id = str(request.id)
    try:
        lease = _begin(bridge, self, job_id, arguments)
        if lease is not None and not lease.state.is_terminal:
            bridge.reactor.run(attend(bridge, [lease]), wait_s=SLOT_S)
            lease = None
    except StoreError as error:
        log.warning("job %s: left to its lease: %s", job_id, error)
        lease = None
    if lease is None:
        # somebody else works on it, it waits in the store, or it has been handed to the reactor
        raise Ignore
    return finish(bridge, self, lease)


@shared_task(bind=True, base=Poll, name=POLL)
def poll(self: Poll, job_ids: list[str]) -> None:
    """Look at *job_ids*: read each one's remote state, write it back and set its next countdown."""
    bridge = bridge_of(self.app)
    leases = bridge.store.begin(job_ids, Purpose.POLL, bridge.settings.lease_s)
    if leases:
        # a second message may start while the answers to this one are on their way
        bridge.reactor.admit(attend(bridge, leases), len(leases), most=bridge.settings.poll_batch, wait_s=SLOT_S)


def _generate_inline(task: Generate, arguments: Mapping[str, Any]) -> dict[str, Any]:
    try:
        bridge = bridge_of(task.app)
        settings, hooks = bridge.settings, bridge.hooks
    except BridgeError:
        settings, hooks = Settings(), []
    order = Order(**arguments)
    job_id = str(task.request.id or uuid())
    body = order.body(job_id)
    now = time.time()
    return run_inline(settings, job_id, order.record(body, settings, now=now, delay_s=0.0), body, hooks=hooks)


def _begin(bridge: Bridge, task: Generate, job_id: str, arguments: Mapping[str, Any]) -> Lease | None:
    lease_s = bridge.settings.lease_s
    leases = bridge.store.begin([job_id], Purpose.GENERATE, lease_s)
    if not leases and arguments["params"] is not None and bridge.store.get([job_id]) == [None]:
        _adopt(bridge, task, job_id, arguments)
        leases = bridge.store.begin([job_id], Purpose.GENERATE, lease_s)
    return leases[0] if leases else None


def _adopt(bridge: Bridge, task: Generate, job_id: str, arguments: Mapping[str, Any]) -> None:
    """Register a job from a message sent by name, past our `apply_async`; a wrong one fails as any task would."""
    order = Order(**arguments)
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
    record, body = _with_callback(bridge, order, job_id, record, body)
    bridge.store.register(job_id, record, body, delay_s=bridge.settings.lease_s, published=True)


def _with_callback(
    bridge: Bridge, order: Order, job_id: str, record: JobRecord, body: bytes
) -> tuple[JobRecord, bytes]:
    """The record and the bytes of a job that ByteSpike is to call back for, if callbacks are on."""
    url = callback_url_if_on(bridge.settings, job_id)
    return (record, body) if url is None else (record.but(has_callback=True), order.body(job_id, url))


def _report_queued(bridge: Bridge, job_id: str, record: JobRecord, now: float) -> None:
    if record.options.get("ignore_result"):
        return
    report = facts.report(job_id, JobState.QUEUED, record, token=0, now=now, next_poll_s=None)
    try:
        bridge.results.write([report])
    except StoreError as error:
        log.warning("job %s is registered, but the result backend doesn't know it yet: %s", job_id, error)


def _with_parent(app: Any, options: dict[str, Any]) -> dict[str, Any]:
    """The parent is the task that runs now, also when the message is published again from elsewhere."""
    parent = app.current_worker_task
    if parent is None:
        return options
    found = {"root_id": parent.request.root_id or parent.request.id, "parent_id": parent.request.id}
    if app.conf.task_inherit_parent_priority:
        found["priority"] = (parent.request.delivery_info or {}).get("priority")
    return {**found, **{name: value for name, value in options.items() if value is not None}}
