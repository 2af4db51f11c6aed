"""
Every step of a job's life at which a process may die, and how one dies there: by SIGKILL, at exactly that point.

A process that calls `instrument` looks at each call of the functions below, just before or just after it. If a test has
armed that step, the first process that comes to it kills itself: its whole group, the pool's processes included.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
import signal
import time
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final

from celery import Celery
from celery.backends.redis import RedisBackend
from celery.canvas import Signature

from tasks_bridge import JobState, alarm, attend, client, tasks, wire
from tasks_bridge.bridge import bridge_of
from tasks_bridge.budget import Budget
from tasks_bridge.client import AsyncClient
from tasks_bridge.events import GENERATE
from tasks_bridge.record import OPEN_STATES
from tasks_bridge.results import Results
from tasks_bridge.store import Purpose
from tasks_bridge.store.redis import RedisStore

ARMED_KEY: Final = "smoke:crash-armed"
CRASHED_KEY: Final = "smoke:crashed"

ASKED: Final = ContextVar[str]("asked", default="")
"""The path of the request to ByteSpike in the course of which a function is called."""

Condition = Callable[[SimpleNamespace], object]
"""Of the call's arguments by name, of what it `returned` (None before it), and the `store`."""


@dataclass(frozen=True)
class Step:
    """A moment of a job's life: just before or just after a call of one function, of those calls for which *when*."""

    name: str
    place: str
    """``before`` or ``after``."""
    owner: Any
    function: str
    when: Condition = lambda _: True

    @property
    def where(self) -> str:
        """As it stands in the documentation."""
        owner = self.owner.__name__.removeprefix("tasks_bridge.")
        return f"{self.place} `{owner}.{self.function}`".replace(".__init__", "")


def is_open(call: SimpleNamespace, purpose: Purpose, *states: JobState) -> bool:
    """Whether a message for *purpose* has come for a job in one of *states* that is not off the schedule."""
    if call.purpose is not purpose:
        return False
    entries = call.store.get(call.job_ids)
    return any(entry and entry.due_at is not None and entry.state in states for entry in entries)


def is_leased(call: SimpleNamespace, *states: JobState) -> bool:
    return any(lease.state in states for lease in call.returned)


def asks(path: str) -> Condition:
    return lambda _: ASKED.get() == path


def says(*statuses: str) -> Condition:
    return lambda call: asks(wire.QUERY_PATH)(call) and json.loads(call.returned.content)["status"] in statuses


def writes(before: Iterable[JobState], after: Iterable[JobState]) -> Condition:
    return lambda call: any(write.lease.state in before and write.state in after for write in call.writes)


def is_generate(call: SimpleNamespace) -> bool:
    return getattr(getattr(call, "request", None), "task", None) == GENERATE


def has_started(call: SimpleNamespace) -> bool:
    """Whether the body of a chord has been published: Celery deletes its parts' results then."""
    backend: Any = call.self
    return not backend.client.exists(backend.get_key_for_group(call.request.group, ".j"))


QUEUED: Final = (JobState.QUEUED,)
ACCEPTED: Final = tuple(OPEN_STATES - {JobState.QUEUED})
ENDED: Final = tuple(set(JobState) - OPEN_STATES)

STEPS: Final = (
    # the call, in the caller
    Step("registered", "after", RedisStore, "register_many"),
    Step("published", "after", tasks, "publish_generate"),
    # the submit
    Step("delivered", "before", RedisStore, "begin", lambda call: is_open(call, Purpose.GENERATE, *QUEUED)),
    Step("lease taken", "after", RedisStore, "begin", lambda call: is_leased(call, *QUEUED)),
    Step("request sent", "after", client._Answer, "__init__", asks(wire.SUBMIT_PATH)),
    Step("response read", "after", AsyncClient, "_send", asks(wire.SUBMIT_PATH)),
    Step("recorded", "after", RedisStore, "write_many", writes(QUEUED, ACCEPTED)),
    Step("reported", "after", Results, "write", lambda call: call.reports and call.reports[0].state != "QUEUED"),
    # a poll
    Step("claimed", "after", RedisStore, "claim", lambda call: any(claim.record is None for claim in call.returned)),
    Step("poll published", "after", alarm, "publish_poll"),
    Step("poll delivered", "before", RedisStore, "begin", lambda call: is_open(call, Purpose.POLL, *ACCEPTED)),
    Step("poll's lease taken", "after", RedisStore, "begin", lambda call: is_leased(call, *ACCEPTED)),
    Step("query sent", "after", client._Answer, "__init__", asks(wire.QUERY_PATH)),
    Step("answer read", "after", AsyncClient, "_send", says("pending", "running")),
    Step("rescheduled", "after", RedisStore, "write_many", writes(ACCEPTED, ACCEPTED)),
    # the end
    Step("last answer read", "after", AsyncClient, "_send", says("completed", "failed")),
    Step("terminal recorded", "after", RedisStore, "write_many", writes(JobState, ENDED)),
    Step("finish published", "after", attend, "publish_generate"),
    Step("finish delivered", "before", RedisStore, "begin", lambda call: is_open(call, Purpose.GENERATE, *ENDED)),
    Step("finish's lease taken", "after", RedisStore, "begin", lambda call: is_leased(call, *ENDED)),
    Step("first callback published", "after", Signature, "apply_async"),
    Step("callbacks published", "before", RedisBackend, "mark_as_done", is_generate),
    Step("result stored", "after", RedisBackend, "store_result", is_generate),
    Step("removed", "after", RedisStore, "end"),
)
"""
In the order of the life of a job that completes.

A failed one has its result stored first. One script records a job and reschedules it: between these there is nothing.
"""

IN_CALLER: Final = STEPS[:2]

OF_FAILURE: Final = (Step("errbacks called", "after", RedisBackend, "mark_as_failure", is_generate),)
"""Instead of the publication of callbacks, and behind the result."""

OF_CHORD: Final = (
    Step("part counted", "after", RedisBackend, "on_chord_part_return", lambda call: not has_started(call)),
    Step("body due", "before", Signature, "delay"),
    Step("body published", "after", Signature, "delay"),
    Step("last part counted", "after", RedisBackend, "on_chord_part_return", has_started),
    Step("body's failure due", "before", RedisBackend, "chord_error_from_stack"),
)
"""Behind the result; all but the first in the worker that counts the last part. The last: if a part has failed."""

OF_BUDGET: Final = (
    Step("reserved", "after", Budget, "reserve"),
    Step("price booked", "after", Budget, "adjust"),
    Step("settled", "after", Budget, "settle"),
)
"""Before the submit, between its response and the record, and before the job is off the schedule."""

ALL_STEPS: Final = (*STEPS, *OF_FAILURE, *OF_CHORD, *OF_BUDGET)


def named(*names: str) -> tuple[Step, ...]:
    """The steps of these names, in their order."""
    return tuple(step for step in ALL_STEPS if step.name in names)


def arm(app: Celery, step: Step, *, whom: str = "group") -> None:
    """Have the first process that comes to *step* die there, alone or with its whole *group*."""
    bridge_of(app).store.client.set(ARMED_KEY, json.dumps({"step": step.name, "whom": whom}))


def instrument(app: Celery) -> None:
    """Watch the steps in this process, and in those that it forks."""
    for owner, function in {(step.owner, step.function): None for step in ALL_STEPS}:
        here = [step for step in ALL_STEPS if (step.owner, step.function) == (owner, function)]
        setattr(owner, function, watched(app, getattr(owner, function), here))


def watched(app: Celery, original: Any, steps: Iterable[Step]) -> Any:
    """*original*, but that this process may die before it or after it."""
    signature = inspect.signature(original)

    def reach(place: str, args: Any, kwargs: Any, result: Any = None) -> None:
        store = bridge_of(app).store
        armed = json.loads(store.client.get(ARMED_KEY) or "null")
        for step in steps:
            if armed and armed["step"] == step.name and step.place == place:
                call = SimpleNamespace(**signature.bind(*args, **kwargs).arguments, returned=result, store=store)
                if step.when(call) and store.client.delete(ARMED_KEY):
                    die(store.client, armed["whom"])

    @functools.wraps(original)
    def watch(*args: Any, **kwargs: Any) -> Any:
        reach("before", args, kwargs)
        result = original(*args, **kwargs)
        reach("after", args, kwargs, result)
        return result

    @functools.wraps(original)
    async def watch_async(*args: Any, **kwargs: Any) -> Any:
        ASKED.set(signature.bind(*args, **kwargs).arguments["request"].path)
        reach("before", args, kwargs)
        result = await original(*args, **kwargs)
        reach("after", args, kwargs, result)
        return result

    return watch_async if inspect.iscoroutinefunction(original) else watch


def die(redis: Any, whom: str) -> None:
    """Leave word of it, and not a moment for anything else."""
    redis.set(CRASHED_KEY, json.dumps({"at": time.time(), "pid": os.getpid(), "group": os.getpgrp()}))
    if whom == "group":
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
