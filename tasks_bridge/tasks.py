"""
The two Celery tasks: `generate`, which stands for a job, and `poll`, which looks at several.

A `generate` message means "the job needs its task": the first one submits it, the one after its end returns or raises
the outcome, and Celery does the rest. In between Celery knows nothing of the job: it waits in the store.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from celery import Signature, Task, shared_task, states
from celery.exceptions import Ignore
from celery.utils import uuid

from tasks_bridge import measures, tracing
from tasks_bridge.atomic import Start
from tasks_bridge.attend import attend
from tasks_bridge.bridge import Bridge, bridge_of
from tasks_bridge.errors import ApiError, BridgeError, InvalidRequest, JobConflict, JobError, StoreError
from tasks_bridge.events import GENERATE, POLL
from tasks_bridge.finish import OutcomesOnly, abandoned, finish, finished
from tasks_bridge.inline import learning_of_this_process, run_inline
from tasks_bridge.intake import prepare, register, register_all
from tasks_bridge.order import Order, parse_order
from tasks_bridge.publish import SharedOptions, publish_generate
from tasks_bridge.settings import Settings
from tasks_bridge.store import Lease, Purpose
from tasks_bridge.wire import check_out_task_id

if TYPE_CHECKING:
    from celery.result import AsyncResult

    from tasks_bridge.store.base import Message, Registration

log = logging.getLogger("tasks_bridge.jobs")

SLOT_S: Final = 1.0
"""How long a task keeps its pool slot for answers; what takes longer goes on in the reactor."""

MOST_IDS: Final = 1000
"""In one `poll` message: the highest ``poll_batch``."""


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
            StoreError: Redis refuses. Nothing is queued.
            StoreUnreachable: Redis doesn't answer. Nothing is queued, unless the error has the job's id: then it may be
                registered, and the same call with ``task_id=error.job_ids[0]`` makes no second one.
        """
        app: Any = self.app
        options.update(link=link, link_error=link_error, shadow=shadow)
        if app.conf.task_always_eager:
            return self._apply_eagerly(args, kwargs, task_id, producer, options)
        options["task_id"] = task_id
        with tracing.starting():
            return self._start(bridge_of(app), args, kwargs, producer, options)

    def _start(
        self,
        bridge: Bridge,
        args: Sequence[Any] | None,
        kwargs: Mapping[str, Any] | None,
        producer: Any,
        options: dict[str, Any],
    ) -> AsyncResult[Any]:
        job = self._prepare(bridge, args, kwargs, options)
        tracing.note_job(job.job_id, job.record.model)
        bridge.check()
        start = Start(partial(_register, bridge, job))
        if not (job.published and bridge.registers_with_message(producer)):
            start.register()
        if job.published and (start.is_new or not start.is_done):
            result = self._publish(bridge, job, start, producer, add_to_parent=options.get("add_to_parent", True))
        else:
            result = self.AsyncResult(job.job_id)
        start.check()
        return result

    def apply_many(self, calls: Iterable[Sequence[Any] | Signature[Any]], **options: Any) -> list[str]:
        """
        Start many jobs, several hundred in one round trip; the workers publish their messages, as they have room.

        Each of *calls* is ``(model, params)``, or a signature, which has its own keyword arguments and options::

            generate.apply_many((("seedream-v4", {"prompt": p}) for p in prompts), link=publish.s(user_id=7))
            generate.apply_many(generate.s(model, params, label=tenant).set(task_id=row.id) for row in rows)

        A call's own options come before *options*, which are those of `apply_async` and read once. The jobs become no
        children of the task that runs now.

        Returns:
            The jobs' ids, in order.

        Raises:
            InvalidRequest, SettingsError: As from `apply_async`; nothing of the few hundred jobs that the wrong call is
                among is queued, and nothing after them, but what came before them is.
            JobConflict, StoreUnreachable: Likewise, but it may have been queued. To repeat such a call as a whole is
                safe if the ids are the caller's.
        """
        app: Any = self.app
        if app.conf.task_always_eager:
            parts = (_parts(call, options) for call in calls)
            return [self.apply_async(args, kwargs, **own).id for args, kwargs, own in parts]
        bridge = bridge_of(app)
        bridge.check()
        shared = SharedOptions(app)
        jobs = (
            self._prepare(
                bridge,
                *_parts(call, options),
                is_published=False,
                shared=None if isinstance(call, Signature) else shared,
            )
            for call in calls
        )
        with tracing.starting("many"):
            return list(register_all(bridge, jobs))

    def _prepare(
        self,
        bridge: Bridge,
        args: Sequence[Any] | None,
        kwargs: Mapping[str, Any] | None,
        options: Mapping[str, Any],
        *,
        is_published: bool = True,
        shared: SharedOptions | None = None,
    ) -> Registration:
        options = tracing.with_context(self._with_defaults(options))
        task_id = options.pop("task_id", None)
        job_id = check_out_task_id(uuid() if task_id is None else task_id)
        order = parse_order(args, kwargs)
        bridge.settings.key(order.key)
        options = _with_parent(bridge.app, options)
        return prepare(bridge, job_id, order, options, is_published=is_published, shared=shared)

    def _apply_eagerly(
        self, args: Any, kwargs: Any, task_id: str | None, producer: Any, options: dict[str, Any]
    ) -> AsyncResult[Any]:
        job_id = check_out_task_id(uuid() if task_id is None else task_id)
        parse_order(args, kwargs).body(job_id)
        plain: Any = Task.apply_async
        result: AsyncResult[Any] = plain(self, args, kwargs, job_id, producer, **self._with_defaults(options))
        return result

    def _with_defaults(self, options: Mapping[str, Any]) -> dict[str, Any]:
        task: Any = self  # Celery's own, which its type stubs leave out
        return {"ignore_result": self.ignore_result, **task._get_exec_options(), **options}  # noqa: SLF001

    def _publish(
        self, bridge: Bridge, job: Registration, start: Start, producer: Any, *, add_to_parent: bool
    ) -> AsyncResult[Any]:
        try:
            with bridge.producer(producer) as ours, start.under_way():
                return publish_generate(
                    bridge.app,
                    job.job_id,
                    job.record,
                    add_to_parent=add_to_parent,
                    subscribe=start.is_done,
                    producer=ours,
                )
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is: the caller must not start a second job for it
            if not start.is_done:
                start.register()
            log.warning("job %s is registered; its message follows, for now the broker says: %s", job.job_id, error)
            return self.AsyncResult(job.job_id)

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
        return OutcomesOnly(super().backend, self.app)

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
    bridge.node = request.hostname
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
    if not _are_ids(job_ids):  # a stranger's message
        raise InvalidRequest(f"poll takes a list of at most {MOST_IDS} ids")
    bridge = bridge_of(self.app)
    bridge.node = self.request.hostname
    leases = bridge.store.begin(job_ids, Purpose.POLL, bridge.settings.lease_s)
    bridge.counts.add(measures.of_doubles("message", len(job_ids) - len(leases)))
    if leases:
        # a second message may start while the answers to this one are on their way
        bridge.reactor.admit(attend(bridge, leases), len(leases), most=bridge.settings.poll_batch, wait_s=SLOT_S)


def _register(bridge: Bridge, job: Registration, message: Message | None) -> bool:
    (is_new,) = register(bridge, [job], {} if message is None else {job.job_id: message})
    return is_new


def _are_ids(value: object) -> bool:
    return isinstance(value, list) and len(value) <= MOST_IDS and all(isinstance(one, str) for one in value)


def _generate_inline(task: Generate, arguments: Mapping[str, Any]) -> dict[str, Any]:
    try:
        bridge = bridge_of(task.app)
    except BridgeError:
        bridge = Bridge(task.app, Settings())
    settings = bridge.settings
    order = Order(**arguments)
    job_id = str(task.request.id or uuid())
    body = order.body(job_id)
    record = order.record(body, settings, now=bridge.now(), delay_s=0.0)
    return run_inline(
        settings,
        bridge.caller_client(record.key),
        job_id,
        record,
        body,
        hooks=bridge.hooks,
        learning=learning_of_this_process(settings),
        clock=bridge.now,
        sleep=bridge.pause,
    )


def _begin(bridge: Bridge, task: Generate, job_id: str, arguments: Mapping[str, Any]) -> Lease | None:
    lease_s = bridge.settings.lease_s
    leases = bridge.store.begin([job_id], Purpose.GENERATE, lease_s)
    if not leases and arguments["params"] is not None and bridge.store.get([job_id]) == [None]:
        _adopt(bridge, task, job_id, arguments)
        leases = bridge.store.begin([job_id], Purpose.GENERATE, lease_s)
    bridge.counts.add(measures.of_doubles("message", 1 - len(leases)))
    return leases[0] if leases else None


def _adopt(bridge: Bridge, task: Generate, job_id: str, arguments: Mapping[str, Any]) -> None:
    """Register a job from a message sent by name, past our `apply_async`; a wrong one fails as any task would."""
    order = Order(**arguments)
    check_out_task_id(job_id)
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
    with suppress(JobConflict):  # somebody else has just registered another: then this message is about nothing
        register(bridge, [prepare(bridge, job_id, order, {k: v for k, v in options.items() if v})])


def _parts(
    call: Sequence[Any] | Signature[Any], shared: Mapping[str, Any]
) -> tuple[Sequence[Any] | None, Mapping[str, Any] | None, dict[str, Any]]:
    """The arguments and options of one call among many."""
    if not isinstance(call, Signature):
        return call, None, dict(shared)
    if call.task != GENERATE:
        raise InvalidRequest(f"Each call must be (model, params) or a signature of generate, not of {call.task}")
    return call.args, call.kwargs, {**shared, **call.options}


def _with_parent(app: Any, options: dict[str, Any]) -> dict[str, Any]:
    """The parent is the task that runs now, also when the message is published again from elsewhere."""
    parent = app.current_worker_task
    if parent is None:
        return options
    found = {"root_id": parent.request.root_id or parent.request.id, "parent_id": parent.request.id}
    if app.conf.task_inherit_parent_priority:
        found["priority"] = (parent.request.delivery_info or {}).get("priority")
    return {**found, **{name: value for name, value in options.items() if value is not None}}
