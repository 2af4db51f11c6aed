"""
A Celery app with the library installed, its worker in this process, and the sandbox: what the integration tests share.

The callbacks below leave a trace in `CALLS`, in this process too.
"""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Self, TypeVar

import redis
from celery import Celery, shared_task
from celery.contrib.testing.worker import start_worker
from celery.result import AsyncResult
from celery.signals import task_prerun
from pydantic import SecretStr

from tasks_bridge import Bridge, Job, JobState, RemoteTask, Settings, generate, install
from tasks_bridge.bridge import DRAIN_S
from tasks_bridge.events import GENERATE
from tasks_bridge.sandbox import SandboxServer
from tasks_bridge.store import Purpose
from tests.celery_state import forget_results, same_apps_afterwards, set_apps

T = TypeVar("T")

API_KEY = "sk-byts-integration-0123456789"
PROMPT = "a fox that nobody else may read about"
MODEL = "seedream-v4"
END_S = 40.0
"""No job of these tests takes longer, however busy the machine is."""


def eventually(condition: Callable[[], T], expected: str, *, within_s: float = END_S) -> T:
    """Wait until *condition* returns something true, and return that."""
    give_up_at = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < give_up_at, f"expected {expected} within {within_s:g} s; last seen: {found!r}"
        time.sleep(0.01)
    return found


@contextmanager
def commands(client: redis.Redis) -> Iterator[list[str]]:
    """The names of the commands that the server of *client* is sent within the block, those in scripts left out."""
    seen: list[str] = []
    is_watching, last = threading.Event(), uuid.uuid4().hex
    address = {part: client.get_connection_kwargs()[part] for part in ("host", "port")}

    def watch() -> None:
        with redis.Redis(**address) as own, own.monitor() as monitor:
            is_watching.set()
            for command in monitor.listen():
                if command["command"] == f"PING {last}":
                    return
                if command["client_type"] != "lua":
                    seen.append(command["command"].split(" ")[0].upper())

    thread = threading.Thread(target=watch, name="monitor")
    thread.start()
    assert is_watching.wait(10), "the server should have begun to tell of its commands"
    try:
        yield seen
    finally:
        client.execute_command("PING", last)
        thread.join(10)


@dataclass(frozen=True)
class Call:
    """One run of a callback."""

    name: str
    job_id: str | None
    task_id: str | None
    value: Any = None
    label: str | None = None
    request: dict[str, Any] = field(default_factory=dict)


CALLS: list[Call] = []
RUNS: list[dict[str, Any]] = []
"""The request of each `generate` message that a worker ran."""

_REQUEST_FIELDS = ("root_id", "parent_id", "group", "reply_to", "headers", "stamps", "stamped_headers", "delivery_info")


def snapshot(request: Any) -> dict[str, Any]:
    return {"id": request.id, **{name: getattr(request, name, None) for name in _REQUEST_FIELDS}}


@task_prerun.connect
def _note_run(task: Any = None, **_: Any) -> None:
    if task.name == GENERATE:
        RUNS.append(snapshot(task.request))


@shared_task(bind=True, pydantic=True)
def publish(self: Any, video: RemoteTask, label: str | None = None) -> RemoteTask:
    """A completion callback, and a step of a chain."""
    CALLS.append(Call("publish", video.out_task_id, self.request.id, video, label, snapshot(self.request)))
    return video


@shared_task(bind=True)
def receive(self: Any, result: Any, label: str | None = None) -> Any:
    """A completion callback that takes what comes as it is."""
    CALLS.append(Call("receive", result.get("out_task_id"), self.request.id, result, label))
    return result


@shared_task(bind=True)
def assemble(self: Any, results: list[Any], label: str | None = None) -> list[Any]:
    """The body of a chord."""
    CALLS.append(Call("assemble", None, self.request.id, results, label))
    return results


@shared_task
def apologise(request: Any, exc: BaseException, traceback: Any, label: str | None = None) -> None:
    """An errback in Celery's present form."""
    CALLS.append(Call("apologise", request.id, None, exc, label))


@shared_task(bind=True)
def apologise_by_id(self: Any, job_id: str, label: str | None = None) -> None:
    """An errback in Celery's older form: a bound task gets the id alone."""
    CALLS.append(Call("apologise_by_id", job_id, self.request.id, None, label))


@shared_task(bind=True)
def start_job(self: Any, job_id: str, model: str, params: dict[str, Any]) -> list[str]:
    """A task that starts a job."""
    result = generate.apply_async((model, params), task_id=job_id, link=publish.s())
    return [self.request.id, result.id]


@shared_task(bind=True)
def become_job(self: Any, model: str, params: dict[str, Any]) -> Any:
    """A task that is replaced by a job."""
    raise self.replace(generate.s(model, params))


def short_settings(redis_url: str, namespace: str, base_url: str, **changes: Any) -> Settings:
    """Everything the library waits for, in fractions of a second."""
    values: dict[str, Any] = {
        "redis_url": SecretStr(redis_url),
        "api_key": SecretStr(API_KEY),
        "base_url": base_url,
        "namespace": namespace,
        "queue": f"{namespace}-poll",
        "tick_s": 0.05,
        "lease_s": 1.5,
        "poll_min_s": 0.15,
        "poll_max_s": 0.5,
        "retry_min_s": 0.1,
        "retry_max_s": 0.5,
        "not_found_grace_s": 2.0,
        "cancel_grace_s": 2.0,
        "submit_timeout_s": 1.0,
        "query_timeout_s": 1.0,
    }
    return Settings(**(values | changes))


class Lab:
    """One app and the sandbox its jobs go to."""

    def __init__(
        self,
        redis_url: str,
        sandbox: SandboxServer,
        *,
        messages_at: str | None = None,
        namespace: str | None = None,
        **changes: Any,
    ) -> None:
        name = namespace or f"lab-{uuid.uuid4().hex[:12]}"
        self.sandbox = sandbox
        self.settings = short_settings(redis_url, name, sandbox.url, **changes)
        self.queue = f"{name}-tasks"
        self.app = Celery(name, broker=messages_at or redis_url, backend=redis_url, set_as_current=False)
        self.app.conf.task_default_queue = self.queue
        self.app.conf.broker_connection_retry_on_startup = True
        self.bridge: Bridge = install(self.app, self.settings)

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the app the one that shared tasks belong to, until it is closed."""
        with same_apps_afterwards():
            self.be_current()
            try:
                yield
            finally:
                forget_results()
                self.bridge.close(DRAIN_S)
                self.app.close()

    def be_current(self) -> None:
        set_apps(self.app, self.app)

    @contextmanager
    def worker(self, *, queues: Sequence[str] = (), pool: str = "threads", concurrency: int = 4) -> Iterator[Any]:
        options: dict[str, Any] = {"queues": ",".join([self.queue, *queues]), "task_events": True}
        # Real workers have one. Before kombu 5.7 nothing else wakes, for up to 10 s, a loop that has taken as many
        # messages as it may, once threads have acknowledged them.
        options["without_heartbeat"] = tuple(map(int, version("kombu").split(".")[:2])) >= (5, 7)
        root = logging.getLogger()
        level = root.level
        try:
            with start_worker(self.app, concurrency, pool, perform_ping_check=False, **options) as worker:
                yield worker
        finally:
            root.setLevel(level)  # Celery has set it for the whole process

    # -- jobs ---------------------------------------------------------------------------------------------------------

    def params(self, script: dict[str, Any] | None = None) -> dict[str, Any]:
        return {"prompt": PROMPT, "sandbox": {"duration_s": 0.3, "estimate_s": 1, **(script or {})}}

    def signature(self, **script: Any) -> Any:
        """A job, as a part of a canvas, whose course is *script*."""
        return generate.s(MODEL, self.params(script))

    def submit(self, script: dict[str, Any] | None = None, **options: Any) -> Any:
        """A job whose remote task follows *script*, with a callback for either end."""
        options = {"link": publish.s(), "link_error": apologise.s(), **options}
        return generate.apply_async((MODEL, self.params(script)), **options)

    def started(self) -> str:
        """A job that nobody has submitted yet, and its id."""
        return str(generate.apply_async((MODEL, self.params())).id)

    def move(
        self,
        job_id: str,
        state: JobState,
        *,
        since_s: float = 0.0,
        estimated_s: float = 1000.0,
        notice: str = "{}",
        **told: Any,
    ) -> None:
        """Write what a worker would of a job that was submitted *since_s* seconds ago, and of which *told* was told."""
        store = self.bridge.store
        entry = store.get([job_id])[0]
        assert entry is not None
        purpose = Purpose.GENERATE if entry.state is JobState.QUEUED else Purpose.POLL
        (lease,) = store.begin([job_id], purpose, 60)
        remote = {"task_id": "task_1", "status": state.value.lower(), **told}
        record = lease.record.but(remote=remote, submitted_at=lease.now - since_s, estimated_s=estimated_s)
        assert store.write(lease, state, record, delay_s=0, notice=notice)

    def job(self, result: "AsyncResult[Any] | str") -> Job:
        return Job(result if isinstance(result, str) else result.id, app=self.app)

    def ended(self, result: "AsyncResult[Any] | str") -> Any:
        """Wait until the job is off the schedule, and return its entry."""
        job_id = result if isinstance(result, str) else result.id

        def entry() -> Any:
            found = self.bridge.store.get([job_id])[0]
            return found if found is not None and found.due_at is None else None

        return eventually(entry, f"job {job_id} to end")

    def remote(self, result: "AsyncResult[Any] | str") -> list[dict[str, Any]]:
        """What the sandbox knows of a job: one task, if all is well."""
        job_id = result if isinstance(result, str) else result.id
        return [task for task in self.sandbox.tasks() if task["out_task_id"] == job_id]

    def queued(self) -> int:
        """How many messages wait in the broker."""
        client = self.bridge.store.client
        # Redis keeps a list for each priority of a queue
        keys = [key for queue in (self.queue, self.settings.poll_queue) for key in client.scan_iter(f"{queue}*")]
        return sum(client.llen(key) for key in keys if client.type(key) == b"list")


def calls(job_id: str | None = None, name: str | None = None, label: str | None = None) -> list[Call]:
    return [
        call
        for call in list(CALLS)
        if (job_id is None or call.job_id == job_id)
        and (name is None or call.name == name)
        and (label is None or call.label == label)
    ]


def runs(job_id: str) -> list[dict[str, Any]]:
    return [run for run in list(RUNS) if run["id"] == job_id]


class Events:
    """Every Celery event of an app, as a monitor receives it."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._seen: list[dict[str, Any]] = []
        self._ready = threading.Event()
        self._stop = False
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10), "the event receiver should have connected"
        return self

    def __exit__(self, *_: object) -> None:
        self._stop = True
        self._thread.join(10)

    def _run(self) -> None:
        with self._app.connection_for_read() as connection:
            receiver = self._app.events.Receiver(connection, handlers={"*": self._seen.append})
            with receiver.consumer_context(wakeup=False) as (own_connection, _, _):
                self._ready.set()
                while not self._stop:
                    try:
                        own_connection.drain_events(timeout=0.1)
                    except TimeoutError:
                        continue

    def of(self, job_id: str) -> list[dict[str, Any]]:
        return [event for event in list(self._seen) if event.get("uuid") == job_id]

    def tasks(self) -> list[dict[str, Any]]:
        return [event for event in list(self._seen) if event["type"].startswith("task-")]
