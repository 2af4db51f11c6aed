"""
`once`: a callback whose body runs once per delivery, however often its message comes.

A callback's message can come twice: after a crash in the short time between publishing the callbacks and taking the
job off the schedule, they are published again, under the same task ids. That id is what tells a double. An errback that
Celery calls inside the failed task has none, and is told by that task's id and its own arguments.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import logging
import threading
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, cast

import redis
from celery import current_task
from celery.app.task import Context
from kombu.utils import json as kombu_json
from pydantic import BaseModel

from tasks_bridge import measures
from tasks_bridge.bridge import bridge_of
from tasks_bridge.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasks_bridge.deliveries import Hold

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger(__name__)

RETRY_S: Final = 1.0
"""How soon a double looks again while the first is still at work."""


def once(body: Callable[P, R]) -> Callable[P, R]:
    """
    Let *body* run to its end once for each delivery; a double returns what the first returned.

    Put it under the task decorator::

        @shared_task(pydantic=True)
        @once
        def publish(video: RemoteTask, user_id: int) -> None: ...

    While the first is at work a double is retried later, so a worker that dies in the body is followed by one that
    runs it again: a body that is not idempotent must still expect to be cut off halfway. One that raises has not run.
    The return value must be JSON-able; it is remembered for ``result_ttl_s``. Outside a Celery task, *body* just runs.

    Raises:
        StoreError: Redis can't be reached; the body has not run.
    """

    @functools.wraps(body)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        task: Any = current_task
        delivery = _delivery(task, args, kwargs) if task else None
        if delivery is None:
            return body(*args, **kwargs)
        bridge = bridge_of(task.app)
        deliveries, lease_s = bridge.deliveries, bridge.settings.lease_s
        name = f"{body.__module__}.{body.__qualname__}:{delivery}"
        hold = deliveries.hold(name, lease_s)
        # then there is no message of its own to come back with
        is_inline = task.request.id is None or inspect.unwrap(task.run) is not inspect.unwrap(body)
        try:
            if not hold.acquire(blocking=is_inline, blocking_timeout=2 * lease_s if is_inline else None):
                if is_inline:
                    raise StoreError(f"{name} did not run: another worker has been at it for {2 * lease_s:g} s")
                raise task.retry(countdown=RETRY_S, max_retries=None)
            done = deliveries.returned(name)
            if done is not None:
                hold.release()
                bridge.counts.add(measures.of_doubles("callback", 1))
                log.info("%s has run before: its result is used again", name)
                return cast("R", kombu_json.loads(done))
        except redis.RedisError as error:
            raise StoreError(f"{name} did not run, because Redis can't be reached: {error}") from None
        with _Renewed(hold, lease_s):
            value = body(*args, **kwargs)
            kept = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
            deliveries.done(name, kombu_json.dumps(kept), bridge.settings.result_ttl_s)
        return value

    # Celery tells the forms of an errback by its arguments, and doesn't look through wrappers
    run.__signature__ = inspect.signature(body)  # type: ignore[attr-defined]
    return run


def _delivery(task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """What tells the delivery that *task* is about from others and is the same for its doubles; None: nothing does."""
    if task.request.id is not None:
        return None if task.request.is_eager else str(task.request.id)
    failed = args[0] if args else None
    if not isinstance(failed, Context) or failed.id is None or failed.is_eager:
        return None
    # one errback may be linked twice, with other arguments; behind the request, the error and the traceback come those
    own = repr((args[3:], kwargs)).encode()
    return f"{failed.id}:{hashlib.sha256(own).hexdigest()[:16]}"


class _Renewed:
    """Keeps a hold for as long as the body runs, and not much longer than its process lives."""

    def __init__(self, hold: Hold, lease_s: float) -> None:
        self._hold = hold
        self._lease_s = lease_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="tasks-bridge-once", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        try:
            self._hold.release()
        except redis.RedisError as error:
            log.debug("a callback's lock is left to expire: %s", error)

    def _renew(self) -> None:
        while not self._ended.wait(self._lease_s / 3):
            try:
                self._hold.extend(self._lease_s, replace_ttl=True)
            except redis.RedisError as error:
                log.warning("a callback's lock could not be renewed: %s", error)
