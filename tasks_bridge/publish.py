"""
Celery messages about jobs: published the first time, and published again.

A message carries the job's id and Celery's own options, never its request: whoever receives it finds that in the store.
So a message published again is as good as the first, and no prompt stays behind in the broker.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from celery import Task, group
from celery.canvas import maybe_signature
from celery.utils import uuid
from kombu import Exchange, Queue
from kombu.utils import json as kombu_json

from tasks_bridge import tracing
from tasks_bridge.errors import InvalidRequest
from tasks_bridge.events import GENERATE, POLL, describe_args
from tasks_bridge.wire import check_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celery import Celery
    from celery.result import AsyncResult

    from tasks_bridge.record import JobRecord

_TRANSIENT: Final = frozenset({"producer", "publisher", "connection", "router", "result_cls", "add_to_parent"})
"""Options that belong to one call, not to the message."""

_CALLBACKS: Final = ("link", "link_error")


def publish_generate(
    app: Celery, job_id: str, record: JobRecord, *, add_to_parent: bool = False, subscribe: bool = True, **once: Any
) -> AsyncResult[Any]:
    """
    Publish the job's `generate` message, with the options it was first called with.

    Args:
        app: Whose broker.
        job_id: The task id of the message.
        record: Where the options are.
        add_to_parent: Whether the task that is running now gets it as a child.
        subscribe: Whether Celery prepares to wait for the result, as it does for any task. If not, it does so once
            somebody waits. Not for the backend ``rpc://``, which can't do it later.
        once: Options for this publication only, such as ``producer``.

    Raises:
        kombu.exceptions.OperationalError: The broker can't be reached.
    """
    options = {"argsrepr": describe_args(record.model), "kwargsrepr": "{}", **_thaw(record.options), **once}
    ignored = options.get("ignore_result")
    if not subscribe and not ignored:
        # Celery leaves it out for a result that is ignored; the message says that this one is not
        options |= {"ignore_result": True, "headers": {**(options.get("headers") or {}), "ignore_result": False}}
    # the base class's: our own apply_async registers a job and ends up here
    with tracing.within(record):
        result = Task.apply_async(
            app.tasks[GENERATE], args=(record.model,), task_id=job_id, add_to_parent=add_to_parent, **options
        )
    result.ignored = bool(ignored)
    return result


def generate_queue(app: Celery) -> str:
    """The queue of `generate` messages, unless a call names another."""
    router: Any = app.amqp.router
    queue = router.route({}, GENERATE).get("queue")
    return str(queue.name if queue else app.conf.task_default_queue)


def publish_poll(app: Celery, queue: str, job_ids: Sequence[str], **once: Any) -> None:
    """
    Publish one `poll` message for *job_ids*.

    Raises:
        kombu.exceptions.OperationalError: The broker can't be reached.
    """
    Task.apply_async(
        app.tasks[POLL], args=(list(job_ids),), queue=queue, ignore_result=True, add_to_parent=False, **once
    )


def freeze(app: Celery, options: dict[str, Any]) -> dict[str, Any]:
    """
    Celery's options of one call as JSON, to publish them again later.

    Callbacks get their task ids here: one that is published twice keeps its id, by which `once` knows it.

    Raises:
        InvalidRequest: An option is not JSON-able.
    """
    defaults = {"serializer": app.conf.task_serializer}
    if not app.tasks[GENERATE].ignore_result:
        defaults["ignore_result"] = False
    kept = {
        name: value
        for name, value in options.items()
        if value is not None and name not in _TRANSIENT and (name not in defaults or value != defaults[name])
    }
    for name in _CALLBACKS:
        if name in kept:
            kept[name] = [_with_id(app, signature) for signature in _signatures(kept[name])]
    if not kept:
        return {}
    _check_next(kept)
    for name in ("queue", "exchange"):
        if isinstance(kept.get(name), Queue | Exchange):
            kept[name] = kept[name].name
    try:
        frozen: dict[str, Any] = json.loads(kombu_json.dumps(kept))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"The options of generate.apply_async must be JSON-able: {error}") from error
    # Python's JSON takes more than the record's
    check_json(frozen, "options")
    return frozen


class SharedOptions:
    """Options that many calls have in common: frozen for the first of them, for the others only what differs."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._frozen: dict[str, Any] | None = None
        self._nameless: dict[str, list[bool]] = {}
        """Of each list of callbacks, which get an id of their own for each call."""
        self._is_plain = True

    def freeze(self, options: dict[str, Any]) -> dict[str, Any]:
        """
        What `freeze` returns for *options*, which must be the same each time.

        Raises:
            InvalidRequest: As there.
        """
        if self._frozen is None or not self._is_plain:
            self._frozen = freeze(self._app, options)
            given = {name: _signatures(options[name]) for name in _CALLBACKS if name in self._frozen}
            # a canvas has ids within
            self._is_plain = not any(one["subtask_type"] for name in given for one in self._frozen[name])
            self._nameless = {
                name: ["task_id" not in (one.get("options") or ()) for one in ones] for name, ones in given.items()
            }
            return self._frozen
        own = {
            name: [
                {**one, "options": {**one["options"], "task_id": uuid()}} if is_nameless else one
                for one, is_nameless in zip(self._frozen[name], nameless, strict=True)
            ]
            for name, nameless in self._nameless.items()
        }
        return {**self._frozen, **own}


def _check_next(options: dict[str, Any]) -> None:
    """
    Refuse a job that comes after this one and would be given its result as an argument.

    Raises:
        InvalidRequest: There is one: found only when this job had been paid for, it could not be started.
    """
    for step in [*options.get("link", ()), *(options.get("chain") or ())]:
        if step["task"] == GENERATE and not step.get("immutable"):
            raise InvalidRequest(
                "A job that follows another takes no result from it: use generate.si(model, params) instead of "
                "generate.s(model, params) there"
            )


def _thaw(options: dict[str, Any]) -> dict[str, Any]:
    thawed: dict[str, Any] = kombu_json.loads(json.dumps(options)) if options else {}
    return thawed


def _signatures(given: Any) -> Sequence[Any]:
    return given if isinstance(given, list | tuple) else [given]


def _with_id(app: Celery, signature: Any) -> Any:
    frozen: Any = maybe_signature(signature, app=app)
    frozen = frozen.clone()
    if isinstance(frozen, group) or "task_id" not in frozen.options:
        frozen.freeze()
    return frozen
