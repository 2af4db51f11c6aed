"""The application of the soak: an app with the library installed, and callbacks that leave evidence of every run."""

import functools
import inspect
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar, cast

import redis
from celery import Celery, current_task, shared_task
from celery.exceptions import Reject
from celery.signals import after_task_publish

from soak.evidence import Notebook
from tasks_bridge import RemoteTask, Settings, StoreError, install, once
from tasks_bridge.events import GENERATE, POLL

EVIDENCE: Final = "SOAK_EVIDENCE"
"""Variable that names the file."""

VISIBILITY_S: Final = 15
"""
How long a message that was fetched and not acknowledged stays lost. Minutes, in production: a callback that takes
longer than this is given to a second worker while the first is at it.
"""

WORK_S: Final = 0.1
"""How long a callback takes: what is over at once is never cut off."""

P = ParamSpec("P")
R = TypeVar("R")


def make_app(settings: Settings) -> Celery:
    """The app, in the workers and in the process that starts the jobs alike."""
    app = Celery("soak", broker=settings.broker, backend=settings.backend)
    redelivery = {
        "visibility_timeout": VISIBILITY_S,
        "unacked_restore_throttle": 1,  # look for such messages every 10 s; kombu's own 10 makes that every 100 s
        "unacked_mutex_expire": VISIBILITY_S,  # of the lock that a worker killed meanwhile leaves behind; else 300 s
    }
    app.conf.update(
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options=redelivery if settings.broker.startswith("redis") else {},
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
    )
    install(app, settings)
    return app


_notebook: Notebook | None = None


def _note(what: str, call: str, **facts: Any) -> None:
    global _notebook  # noqa: PLW0603 - one per process, made when the first note is taken
    if _notebook is None:
        _notebook = Notebook(Path(os.environ[EVIDENCE]))
    _notebook.note(what, call, **facts)


_run: list[str] = []
"""The delivery that this process works on: pool processes do one thing at a time."""


def watched(body: Callable[P, R]) -> Callable[P, R]:
    """
    Note that a message came and that its work was done; give it back to the broker if Redis is away.

    Celery has no such default: a callback that fails because Redis is away has failed.
    """

    @functools.wraps(body)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        call = str(kwargs.get("call") or f"{args[0]}.errback")
        _run.append(os.urandom(6).hex())
        try:
            _note("came", call, run=_run[-1], task=body.__name__)
            value = body(*args, **kwargs)
            _note("done", call, run=_run[-1])
        except (StoreError, redis.RedisError, Reject) as error:
            if current_task.name == GENERATE:
                raise  # called inside the job's own task, which has no message to give back
            raise Reject(error, requeue=True) from error
        finally:
            _run.pop()
        return value

    # Celery tells the forms of an errback by its arguments
    run.__signature__ = inspect.signature(body)  # type: ignore[attr-defined]
    return run


def _ran(call: str) -> None:
    _note("ran", call, run=_run[-1])
    time.sleep(WORK_S)


def _callback(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    decorate: Any = shared_task(acks_late=True, reject_on_worker_lost=True, **options)
    return cast("Callable[[Callable[..., Any]], Any]", decorate)


@_callback(pydantic=True)
@watched
def linked(_task: RemoteTask, *, call: str) -> None:
    """Completion callback."""
    _ran(call)


@_callback(pydantic=True)
@watched
@once
def linked_once(_task: RemoteTask, *, call: str) -> None:
    """Completion callback that drops its doubles."""
    _ran(call)


@_callback()
@watched
def regretted(_request: Any, _exc: BaseException, _traceback: Any, *, call: str) -> None:
    """Failure callback in Celery's present form: it is called inside the job's own task."""
    _ran(call)


@_callback()
@watched
@once
def regretted_once(_request: Any, _exc: BaseException, _traceback: Any, *, call: str) -> None:
    """The same, without doubles."""
    _ran(call)


@_callback()
@watched
def regretted_by_id(job_id: str) -> None:
    """Failure callback in the old form: it has a message of its own."""
    _ran(f"{job_id}.errback")


@_callback()
@watched
@once
def regretted_by_id_once(job_id: str) -> None:
    """The same, without doubles."""
    _ran(f"{job_id}.errback")


@_callback(pydantic=True)
@watched
@once
def framed(task: RemoteTask, *, call: str) -> str:
    """What follows the job in a chain."""
    _ran(call)
    return task.task_id


@_callback()
@watched
def hung(_task_id: str, *, call: str) -> None:
    """The end of the chain."""
    _ran(call)


@_callback()
@watched
@once
def bound(_tasks: list[dict[str, Any]], *, call: str) -> None:
    """The body of a chord."""
    _ran(call)


@after_task_publish.connect(weak=False)
def _on_publish(sender: str = "", headers: Any = None, **_: Any) -> None:
    if sender not in (GENERATE, POLL) and EVIDENCE in os.environ:
        _note("published", str(headers["id"]), task=sender)
