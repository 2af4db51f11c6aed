"""
A world in which the test decides everything that is otherwise left to chance: when a message is taken, when a request
arrives, whether its answer comes back, which worker stands still or dies in between, and what time it is.

The library's own code runs in it, as it is: `apply_async`, the alarm's turn, the tasks `generate` and `poll` as Celery
runs them, `attend`, `finish`, the store. In the place of what surrounds it stand `VirtualLoop` for the reactor's
thread, `Service` for ByteSpike, and Celery's own transport and result backend in memory.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import count
from types import SimpleNamespace
from typing import Any, cast

from celery import Celery
from celery.app.trace import build_tracer
from pydantic import SecretStr

import tasks_bridge.tasks  # noqa: F401 - makes `generate` and `poll` tasks of every app
from tasks_bridge import Job, Settings
from tasks_bridge.alarm import AlarmThread
from tasks_bridge.attend import SETTLE_S
from tasks_bridge.bridge import Bridge, register_bridge
from tasks_bridge.control import revoke_durably
from tasks_bridge.errors import ApiTimeout, BridgeError, StoreError
from tasks_bridge.events import GENERATE, POLL
from tasks_bridge.gate import Admission, Gate
from tasks_bridge.models import RemoteTask
from tasks_bridge.record import JobRecord, JobState
from tasks_bridge.results import Report, Results
from tasks_bridge.store import Store
from tasks_bridge.testing.loop import VirtualLoop
from tests.simulation.service import Kind, Request, Service, Task

MODEL = "sora-2"
BEGINNING = 1_795_392_000.0
"""What the store's clock says when a world begins."""

app = Celery("simulation", broker="memory://", backend="cache+memory://", set_as_current=False)
app.conf.task_default_queue = "simulation"
revoke_durably(app)

_lives_in: ContextVar[Process | None] = ContextVar("_lives_in", default=None)
_numbers = count()
"""Of the jobs of all worlds, which share a result backend; in order, so that a world is the same each time."""
_ends: dict[str, list[str]] = {}
"""Of each job, which callbacks came: ``completed``, or the name of the error."""


@app.task(name="simulation.completed")
def completed(remote: dict[str, Any]) -> None:
    """A completion callback; its publication is noted, it is not run."""


@app.task(name="simulation.failed")
def failed(request: Any, exc: BaseException, traceback: Any) -> None:
    """A failure callback, which Celery runs at once."""
    _ends[request.id].append(type(exc).__name__)


@dataclass(frozen=True)
class Message:
    """A message of Celery's, as a worker gets it."""

    task: str
    id: str
    args: list[Any]
    kwargs: dict[str, Any]
    request: dict[str, Any]

    def __repr__(self) -> str:
        return f"<{self.task.rpartition('.')[2]} {self.args[0] if self.task == POLL else self.id}>"


class Process(Bridge):
    """
    The bridge of a worker's process: it can stand still, be cut off from the store, and die.

    Standing still, it does nothing more until it goes on, like a process under SIGSTOP; what it has sent is under way.
    """

    def __init__(self, world: World, name: str) -> None:
        super().__init__(app, world.settings)
        self.world, self.name = world, name
        self.results = Unread(app)
        in_its_place: dict[str, Any] = {
            "store": world.store,
            "gate": OpenGate(world.settings),
            "budget": SimpleNamespace(is_on=False),
            "journal": None,
            "learning": None,
        }
        vars(self).update(in_its_place)
        self.is_dead = False
        self.is_cut_off = False
        self.freezes_before: Kind | None = None
        """Stands still when it is about to send such a request, all checks behind it."""
        self._alarm = AlarmThread(self, 4)
        self._goes_on = asyncio.Event()
        self._goes_on.set()
        self.tasks: list[asyncio.Task[Any]] = []

    def __repr__(self) -> str:
        return self.name

    # -- what happens to it -------------------------------------------------------------------------------------------

    def freeze(self) -> None:
        """Stand still before the next thing it would do or hear of."""
        self._goes_on.clear()

    def thaw(self) -> None:
        self.freezes_before = None
        self._goes_on.set()
        self.world.loop.settle()

    def die(self) -> None:
        """By SIGKILL; what it has sent may still arrive."""
        self.is_dead = True
        for task in self.tasks:
            task.cancel()
        self._alarm._disconnect()
        self.world.loop.settle()

    @property
    def is_well(self) -> bool:
        return not self.is_dead and self._goes_on.is_set()

    @property
    def is_busy(self) -> bool:
        return any(not task.done() for task in self.tasks)

    # -- what it does -------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """A turn of its alarm: claim what is due, and publish messages."""
        self._alarm._wake()

    def take(self, message: Message) -> None:
        """Run *message* as a pool process does, until everything waits."""
        register_bridge(self)
        task = app.tasks[message.task]
        build_tracer(task.name, task, app=app)(message.id, message.args, message.kwargs, message.request)
        self.world.loop.settle()

    # -- a bridge -----------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """The store is as it should be."""

    @property
    def reactor(self) -> Any:
        return self

    def client(self, alias: str) -> Any:
        return self

    async def submit_bytes(self, body: bytes) -> RemoteTask:
        return await self._ask("submit", "", body, self.settings.submit_timeout_s)

    async def query(self, task_id: str | None = None, *, out_task_id: str | None = None) -> RemoteTask:
        return await self._ask("query", task_id or out_task_id or "", b"", self.settings.query_timeout_s)

    async def cancel(self, task_id: str | None = None, *, out_task_id: str | None = None) -> RemoteTask:
        return await self._ask("cancel", task_id or out_task_id or "", b"", self.settings.query_timeout_s)

    async def _ask(self, kind: Kind, key: str, body: bytes, timeout_s: float) -> RemoteTask:
        if kind == self.freezes_before:
            self.freeze()
        await self._until_it_goes_on()
        loop = self.world.loop
        request = Request(kind, key, body, self.world.service, self, loop.create_future(), loop.time())
        self.world.requests.append(request)
        try:
            answer = await asyncio.wait_for(request.reply, timeout_s)
        except TimeoutError:
            answer = ApiTimeout(f"no answer to the {kind}")
        await self._until_it_goes_on()
        if isinstance(answer, BridgeError):
            raise answer
        return answer

    # -- a reactor ----------------------------------------------------------------------------------------------------

    def run(self, work: Coroutine[Any, Any, Any], *, wait_s: float | None = None) -> None:
        self.start(work)

    def admit(self, work: Coroutine[Any, Any, Any], size: int, *, most: int, wait_s: float) -> None:
        self.start(work)

    def start(self, work: Coroutine[Any, Any, Any]) -> Callable[[], object]:
        token = _lives_in.set(self)
        try:
            task = self.world.loop.create_task(work)
        finally:
            _lives_in.reset(token)
        task.add_done_callback(_without_a_bug)
        return task.cancel

    async def blocking(self, call: Callable[..., Any], *arguments: object) -> Any:
        await self._until_it_goes_on()
        if self.is_cut_off:
            raise StoreError("the store can't be reached from here")
        found = call(*arguments)
        await self._until_it_goes_on()
        return found

    async def _until_it_goes_on(self) -> None:
        await self._goes_on.wait()
        if self.is_dead:
            raise asyncio.CancelledError


class OpenGate(Gate):
    """Everything may pass; the circuit breaker would count in real time. There is no cap on submits."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.expects_news = False

    def admit(self, requests: int) -> Admission:
        return Admission(requests, 0.0)

    def report(self, *, good: int, bad: int, asked_at: float | None = None) -> None:
        """Nobody counts."""


class Unread(Results):
    """Nobody reads here what is reported of open jobs."""

    def write(self, reports: Sequence[Report]) -> None:
        """Forget them."""


class World:
    """
    One store, one ByteSpike, and the workers that a test makes.

    Args:
        make_store: Is given the clock that the store has to go by.
        settings: What differs from the defaults.
    """

    def __init__(self, make_store: Callable[[Callable[[], float]], Store], **settings: Any) -> None:
        self.loop = VirtualLoop()
        self.loop.set_task_factory(_known_to_its_process)
        self.bugs: list[object] = []
        self.loop.set_exception_handler(lambda _, context: self.bugs.append(context.get("exception") or context))
        self._ear = _Ear(self.bugs)
        logging.getLogger("tasks_bridge").addHandler(self._ear)
        asyncio.set_event_loop(self.loop)
        self.skew = 0.0
        """How far the store's clock has jumped."""
        self.settings = Settings(api_key=SecretStr("k"), base_url="https://bytespike.invalid", **settings)
        self.store: Any = make_store(self.now)
        self.service = Service()
        self.requests: list[Request] = []
        self.messages: list[Message] = []
        self.workers: list[Process] = []
        self._broker = app.connection_for_read()
        self._caller = Process(self, "caller")

    def now(self) -> float:
        """The store's clock."""
        return BEGINNING + self.loop.time() + self.skew

    def close(self) -> None:
        for worker in self.workers:
            worker.die()
        self.mail()
        self._broker.release()
        self.loop.close()
        asyncio.set_event_loop(None)
        logging.getLogger("tasks_bridge").removeHandler(self._ear)
        assert not self.bugs, f"expected no bug: {self.bugs}"

    # -- a caller -----------------------------------------------------------------------------------------------------

    def submit(self, *, deadline_s: float | None = None, **options: Any) -> str:
        """Call `generate`; returns the job's id."""
        register_bridge(self._caller)
        job_id = f"job-{next(_numbers):06}"
        _ends[job_id] = []
        app.tasks[GENERATE].apply_async(
            (MODEL, {"prompt": "a fox"}),
            {"deadline_s": deadline_s},
            task_id=job_id,
            link=completed.s(),
            link_error=failed.s(),
            **options,
        )
        return job_id

    def cancel(self, job_id: str) -> bool:
        return self.job(job_id).cancel()

    def revoke(self, job_id: str) -> None:
        """As `AsyncResult.revoke` and Flower's button do."""
        register_bridge(self._caller)
        app.control.revoke(job_id, terminate=True)

    def job(self, job_id: str) -> Job:
        register_bridge(self._caller)
        return Job(job_id, app=app)

    def record(self, job_id: str) -> JobRecord:
        return cast("JobRecord", self.store.get([job_id])[0].record)

    def state(self, job_id: str) -> JobState:
        return cast("JobState", self.store.get([job_id])[0].state)

    def remote(self, job_id: str) -> Task:
        """What ByteSpike has of it, which must be something."""
        assert job_id in self.service.tasks, "ByteSpike should have a task"
        return self.service.tasks[job_id]

    def ends(self, job_id: str) -> list[str]:
        """Which callbacks came, in Celery's order: ``completed``, or the name of an error."""
        self.mail()
        return _ends[job_id]

    def result_state(self, job_id: str) -> str:
        return str(app.AsyncResult(job_id).state)

    # -- what goes on -------------------------------------------------------------------------------------------------

    def worker(self) -> Process:
        """One more worker."""
        self.workers.append(Process(self, f"worker {len(self.workers) + 1}"))
        return self.workers[-1]

    def mail(self) -> list[Message]:
        """The messages that wait, in order; the test takes from it what is to be taken, doubled or lost."""
        new = []
        channel: Any = self._broker.default_channel
        for queue in ("simulation", self.settings.poll_queue):
            channel.queue_declare(queue)
            while raw := channel.basic_get(queue, no_ack=True):
                new.append(self._read(raw))
        for message in new:
            if message.task == completed.name:
                _ends[message.request["parent_id"]].append("completed")
        # answers that come at once are written back in any order
        self.messages += sorted((m for m in new if m.task != completed.name), key=lambda m: (m.task, str(m.args), m.id))
        return self.messages

    def _read(self, raw: Any) -> Message:
        args, kwargs, embedded = raw.decode()
        headers = raw.headers
        request = {**headers, **embedded, "delivery_info": {}, "reply_to": None, "correlation_id": headers["id"]}
        return Message(headers["task"], headers["id"], args, kwargs, request)

    def sent(self, kind: Kind | None = None) -> Request:
        """The newest request, which must be of *kind*."""
        assert self.requests, "a request should have been sent"
        assert kind in (None, self.requests[-1].kind), f"expected a {kind}, but there is {self.requests[-1]}"
        return self.requests[-1]

    def settle(self) -> None:
        """Let what has come back be written down."""
        self.loop.pass_time(2 * SETTLE_S)

    def next_request(self, kind: Kind) -> Request:
        """Wait for another request, which must be of *kind*."""
        known = len(self.requests)
        until = self.loop.time() + 2 * self.settings.retry_max_s
        while len(self.requests) == known:
            assert self.loop.time() < until, f"a {kind} should have been sent"
            self.pass_time(0.5)
        return self.sent(kind)

    def pass_time(self, seconds: float) -> None:
        self.loop.pass_time(seconds)

    def go_on(self, worker: Process, seconds: float = 0.0) -> None:
        """Let time pass, and have *worker* wake what is due then and take all messages."""
        self.pass_time(seconds)
        worker.wake()
        self.take_all(worker)

    def take_all(self, worker: Process) -> None:
        while self.mail():
            worker.take(self.messages.pop(0))

    def run_to_end(self, worker: Process, *, within_s: float = 3600.0) -> None:
        """Have *worker* do all there is to do, with an undisturbed ByteSpike, until no job is open."""
        until = self.loop.time() + within_s
        while self.store.open_count():
            assert self.loop.time() < until, f"a job should have ended within {within_s:g} s"
            for request in self.requests:
                if request.is_waited_for:
                    request.reach()
            self.settle()
            self.go_on(worker, max(self.store.next_due_s() or 0.0, self.settings.tick_s))


@contextmanager
def new_world(make_store: Callable[[Callable[[], float]], Store], **settings: Any) -> Iterator[World]:
    world = World(make_store, **settings)
    try:
        yield world
    finally:
        world.close()


class _Ear(logging.Handler):
    """Hears of bugs that the library survives."""

    def __init__(self, bugs: list[object]) -> None:
        super().__init__(logging.WARNING)
        self._bugs = bugs

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self._bugs.append(record.exc_info[1])


def _without_a_bug(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.result()


def _known_to_its_process(loop: Any, work: Any, **options: Any) -> asyncio.Task[Any]:
    task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **options)
    process = _lives_in.get()
    if process is not None:
        process.tasks.append(task)
    return task
