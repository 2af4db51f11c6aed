"""The application's side: starts flows and cancels jobs when it is time; repeats each call until Redis takes it."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, cast

import redis
from celery import Celery, chain, chord
from celery.canvas import Signature
from celery.exceptions import BackendError
from kombu.exceptions import OperationalError

from soak import app as tasks
from soak.plan import Flow, Planned
from tasks_bridge import Job, JobNotFound, StoreError, generate

_AWAY: Final = (StoreError, redis.RedisError, OperationalError, BackendError, OSError)
_AGAIN_S: Final = 0.5


class Caller(threading.Thread):
    """
    Works through *flows* in a thread of its own.

    Args:
        calm: Held while a chord is started, which takes several writes: Celery can't repeat it halfway.
    """

    def __init__(self, app: Celery, flows: Sequence[Flow], calm: threading.Lock) -> None:
        super().__init__(name="caller", daemon=True)
        self.repeated = 0
        self.started = 0
        self.error: BaseException | None = None
        self._app = app
        self._calm = calm
        self._numbers = itertools.count()
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        for flow in flows:
            self._put(flow.at_s, partial(self._start_flow, flow))
        self._began = 0.0

    def _put(self, at_s: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (at_s, next(self._numbers), act))

    def run(self) -> None:
        """Until everything has been asked for."""
        self._began = time.monotonic()
        try:
            while self._agenda:
                at_s, _, act = heapq.heappop(self._agenda)
                time.sleep(max(self._began + at_s - time.monotonic(), 0))
                self._repeat(act)
        except BaseException as error:  # noqa: BLE001 - shown by whoever waits for this thread
            self.error = error
        finally:
            # a chord's results follow its jobs by a subscription, and would look for Redis once more at their end
            consumer = cast("Any", self._app.backend).result_consumer
            consumer.subscribed_to.clear()
            consumer.stop()

    def _repeat(self, act: Callable[[], None]) -> None:
        while True:
            try:
                act()
            except _AWAY:
                self.repeated += 1
                time.sleep(_AGAIN_S)
            else:
                return

    def _start_flow(self, flow: Flow) -> None:
        first, *_ = flow.jobs
        match flow.kind:
            case "single":
                _signature(first, link=_link(first)).apply_async()
            case "steps":
                framed = tasks.framed.s(call=flow.steps[0]).set(task_id=flow.steps[0])
                hung = tasks.hung.s(call=flow.steps[1]).set(task_id=flow.steps[1])
                chain(_signature(first), framed, hung).apply_async()
            case "sequel":
                second = flow.jobs[1]
                chain(_signature(first), _signature(second, link=_link(second))).apply_async()
            case _:
                body = tasks.bound.s(call=flow.body).set(task_id=flow.body)
                body.link_error(tasks.regretted.s(call=flow.body_errback))
                with self._calm:
                    chord([_signature(job) for job in flow.jobs], body).apply_async()
        self.started += len(flow.jobs)
        for job in flow.jobs:
            if job.cancel_after_s is not None:
                self._put(time.monotonic() - self._began + job.cancel_after_s, partial(self._cancel, job))

    def _cancel(self, job: Planned) -> None:
        try:
            Job(job.id, app=self._app).cancel("soak")
        except JobNotFound as error:
            raise AssertionError(f"job {job.id} was registered and is not known") from error


def _signature(job: Planned, link: Signature[Any] | None = None) -> Signature[Any]:
    """A mutable signature would be given the result of the job before it."""
    options = {
        name: value for name, value in {"deadline_s": job.deadline_s, "label": job.label}.items() if value is not None
    }
    signature = generate.si(job.model, {"prompt": f"job {job.id}", "sandbox": job.script}, **options)
    signature.set(task_id=job.id)
    signature.link_error(_errback(job))
    if link is not None:
        signature.link(link)
    return signature


def _link(job: Planned) -> Signature[Any]:
    task = tasks.linked_once if job.is_once else tasks.linked
    signature: Signature[Any] = task.s(call=job.link).set(task_id=job.link)
    return signature


def _errback(job: Planned) -> Signature[Any]:
    if job.is_errback_published:
        task = tasks.regretted_by_id_once if job.is_once else tasks.regretted_by_id
        signature: Signature[Any] = task.s().set(task_id=job.errback)
        return signature
    task = tasks.regretted_once if job.is_once else tasks.regretted
    inline: Signature[Any] = task.s(call=job.errback)
    return inline


def calls_under_once(flows: Sequence[Flow]) -> frozenset[str]:
    """The names of the callbacks whose tasks are under `once`."""
    names = {name for flow in flows for job in flow.jobs if job.is_once for name in (job.link, job.errback)}
    names |= {flow.steps[0] for flow in flows} | {flow.body for flow in flows}
    return frozenset(names)
