"""An application as a user would write it: a Celery app, and callbacks that note when they ran."""

import json
import time
from dataclasses import asdict, dataclass
from typing import Any, Final

from celery import Celery, shared_task

from tasks_bridge.bridge import Bridge, bridge_of
from tasks_bridge.install import install
from tasks_bridge.models import RemoteTask
from tasks_bridge.settings import Settings

COMPLETION: Final = "completion"
FAILURE: Final = "failure"
CHAIN_END: Final = "chain"
CHORD_BODY: Final = "chord"


@dataclass(frozen=True, slots=True)
class Call:
    """One run of a callback: for which job, which callback, and when it began (seconds since the epoch)."""

    name: str
    kind: str
    at: float


def make_app(settings: Settings) -> Celery:
    """The app, in the worker and in the process that starts the jobs alike; all its keys in Redis are its own."""
    app = Celery("tasks_bridge_demo", broker=settings.broker, backend=settings.backend)
    own = {"global_keyprefix": f"{settings.namespace}:"}
    app.conf.update(
        accept_content=["json"],
        broker_connection_retry_on_startup=True,
        broker_transport_options=own,
        result_backend_transport_options=own,
        worker_enable_remote_control=False,
        worker_prefetch_multiplier=1,
    )
    install(app, settings)
    return app


def calls(bridge: Bridge) -> list[Call]:
    """Every run of a callback so far, a double included."""
    notes: Any = bridge.store.client.lrange(_key(bridge), 0, -1)
    return [Call(**json.loads(note)) for note in notes]


@shared_task(pydantic=True)
def delivered(_task: RemoteTask, name: str) -> None:
    """Completion callback of a single job."""
    _note(name, COMPLETION)


@shared_task
def regretted(_request: Any, _exc: BaseException, _traceback: Any, name: str) -> None:
    """Failure callback, in Celery's form."""
    _note(name, FAILURE)


@shared_task(pydantic=True)
def framed(task: RemoteTask, name: str) -> str:
    """What follows `generate` in the chain."""
    _note(name, COMPLETION)
    return task.urls[0]


@shared_task
def hung(_url: str, name: str) -> None:
    """The end of the chain."""
    _note(name, CHAIN_END)


@shared_task
def bound(_tasks: list[dict[str, Any]], name: str) -> None:
    """The body of the chord."""
    _note(name, CHORD_BODY)


def _note(name: str, kind: str) -> None:
    bridge = bridge_of()
    bridge.store.client.rpush(_key(bridge), json.dumps(asdict(Call(name, kind, time.time()))))


def _key(bridge: Bridge) -> str:
    return bridge.store.key("demo", "calls")
