"""ByteSpike, the jobs and their workers as a test has them: in its own thread, and on a clock of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, TypeAlias, Union

from celery.result import AsyncResult
from celery.signals import after_task_publish

from tasks_bridge.bridge import Bridge, stand_ins
from tasks_bridge.errors import InvalidRequest, JobNotFound
from tasks_bridge.jobs import Job
from tasks_bridge.record import JobState
from tasks_bridge.sandbox import Refusal, Sandbox
from tasks_bridge.testing import files, post
from tasks_bridge.testing.apps import rewire, without_environment
from tasks_bridge.testing.clock import FastClock
from tasks_bridge.testing.line import Line
from tasks_bridge.testing.loop import VirtualLoop
from tasks_bridge.testing.outcome import of_entry
from tasks_bridge.testing.rehearsal import Rehearsal
from tasks_bridge.testing.worker import OURS, Ear, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from tasks_bridge.store import Entry

MOST_TURNS: Final = 10_000
"""Messages and wakings at one moment: tasks that publish each other for ever would go on for ever."""

MOST_MOMENTS: Final = 100_000
"""At which something is due, until what is waited for has come."""


class Endless(RuntimeError):
    """Tasks publish each other for ever."""


class HasJob(Protocol):
    """A row of the application's, such as a `RemoteJobModel`."""

    job_id: str | None


JobRef: TypeAlias = Union[str, Job, "AsyncResult[Any]", HasJob]
"""A job: its id, its handle, what `apply_async` returned, or a row that has its id."""


@dataclass(frozen=True)
class Submit:
    """A request that ByteSpike took on."""

    job_id: str
    model: str
    params: dict[str, Any]


class ByteSpike:
    """
    A ByteSpike for one test, and the workers of the jobs that the code under test starts.

    While it is open, each Celery app on which the library is installed has its broker, results and jobs in memory. A
    job waits for the test: nothing happens to it until the test completes or fails it, or lets time pass. The
    application's own tasks run as soon as they are called; their messages are serialized as ever, and what a task
    raises is raised in the test, by the next call of this object.

    The fixture `bytespike` is one. Without pytest::

        with ByteSpike() as bytespike:
            start_render(user, "a fox")
            bytespike.complete()
            assert Render.objects.get().picture

    Args:
        settings: What differs from the app's own settings, such as ``spend_limit=10``.
    """

    clock: FastClock
    """The time of the test, the fixture `fast_clock`."""
    sandbox: Sandbox
    """The remote side, for what is not about one job: ``fail``, ``heal``, ``tasks``, ``stats``."""

    def __init__(self, **settings: Any) -> None:
        self._settings = settings
        self._workers: list[Worker] = []
        self._restores: list[Callable[[], None]] = []
        self._errors: list[BaseException] = []
        self._ear = Ear(self._errors)
        self._statuses: dict[str, str] = {}
        self._lock = threading.RLock()
        self._is_working = False
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        if _open:
            raise RuntimeError("a ByteSpike is open already: there is one for each test, the fixture `bytespike`")
        with self._stack as stack:
            self._loop = VirtualLoop()
            stack.callback(self._loop.close)
            self.clock = FastClock(self._loop, self._pass_time)
            self.sandbox = Sandbox(clock=self.clock.now, public_url=files.address())
            self._line = Line(self.sandbox, self._loop)
            stack.callback(self._line.hang_up)
            stack.callback(post.forget_results)
            stack.enter_context(without_environment())
            stack.enter_context(files.of(self.sandbox))
            stack.callback(self._restore)
            stack.enter_context(stand_ins(self._stand_in))
            _open.append(self)
            stack.callback(_open.remove, self)
            post.wait.append(self._wait)
            stack.callback(post.wait.remove, self._wait)
            after_task_publish.connect(self._published, weak=False)
            stack.callback(after_task_publish.disconnect, self._published)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        if error is None:
            self._raise()

    # -- what ByteSpike does ------------------------------------------------------------------------------------------

    def script(self, model: str | None, *scripts: dict[str, Any]) -> None:
        """
        Have the next jobs of *model* (of any, if None) go by *scripts*: one each, and all after them by the last.

        ::

            bytespike.script("sora-2", {"outcome": "failed", "error_code": "nsfw"}, {})     # the first fails, no other

        The members are those of docs/sandbox.md, "Scripts".

        Raises:
            InvalidRequest: There is no such model, or a member is unknown or wrong.
        """
        with _refusals():
            self.sandbox.script(model, *scripts)

    def start(self, job: JobRef | None = None) -> Job:
        """
        Let ByteSpike begin with *job*, so that it is RUNNING.

        Raises:
            AssertionError: It has ended.
            Exception: Whatever one of the application's tasks raised.
        """
        found = self._submitted(job)
        self.sandbox.start_task(found.id)
        self.work()
        return found

    def complete(self, job: JobRef | None = None, *, urls: Iterable[str] | None = None, **end: Any) -> Job:
        """
        Let ByteSpike complete *job* now, and the workers do what follows: the outcome, callbacks, chains and chords.

        Args:
            job: May be left out if one alone is open.
            urls: Where its outputs are said to be; default: pictures or clips that can be downloaded.
            end: ``credits``, ``count``, ``output``, as in a script.

        Raises:
            AssertionError: It has ended already, or ends otherwise.
            InvalidRequest: A member of *end* is unknown or wrong.
            Exception: Whatever a callback raised.
        """
        output = {} if urls is None else {"output": [{"url": url} for url in urls]}
        return self._end(job, JobState.COMPLETED, {**output, **end})

    def fail(
        self, job: JobRef | None = None, code: str = "content_policy_violation", message: str | None = None
    ) -> Job:
        """
        Let ByteSpike fail *job* now, and the workers do what follows: the outcome and errbacks.

        Args:
            job: May be left out if one alone is open.
            code: ByteSpike's ``error_code``.
            message: Its ``error_message``; default: one that fits.

        Raises:
            AssertionError: It has ended already, or ends otherwise.
            Exception: Whatever an errback raised.
        """
        return self._end(job, JobState.FAILED, {"outcome": "failed", "error_code": code, "error_message": message})

    # -- what the workers do ------------------------------------------------------------------------------------------

    def work(self) -> None:
        """
        Do what is due at this moment, which a worker would have done long ago: submit, read, cancel, call back.

        Every method and assertion begins with it, so there is seldom a need.

        Raises:
            Exception: Whatever one of the application's tasks raised.
        """
        self._work(with_jobs=True)
        self._raise()

    def run(self) -> None:
        """
        Let time pass until every job has ended, each as its script says: completed, without one.

        What the application's own tasks have put off, retries and countdowns, waits for `FastClock.advance`.

        Raises:
            AssertionError: They don't end.
            Exception: Whatever one of the application's tasks raised.
        """
        self._until(lambda: not any(worker.bridge.memory.open_count() for worker in self._workers), "all jobs to end")

    def redeliver(self, job: JobRef | None = None) -> int:
        """
        Deliver the messages of *job*'s callbacks again, under the same ids; returns how many there were.

        So it comes when a worker dies just after it published them. `once` keeps a callback from doing its work twice.

        Raises:
            Exception: Whatever one of them raised.
        """
        self.work()
        found = self.find(job)
        count = sum(worker.repeat(found.id) for worker in self._workers)
        self.work()
        return count

    def configure(self, **settings: Any) -> None:
        """
        Go by other settings from now on: ``bytespike.configure(spend_limit=10)``.

        Raises:
            SettingsError: One is wrong or unknown.
        """
        for worker in self._workers:
            worker.bridge.reconfigure(settings)
        self._settings |= settings

    # -- what there is ------------------------------------------------------------------------------------------------

    @property
    def jobs(self) -> list[Job]:
        """The jobs that were started in this test, in order."""
        return [Job(job_id, app=w.bridge.app) for w in self._workers for job_id in w.bridge.memory.ids()]

    @property
    def submits(self) -> list[Submit]:
        """What ByteSpike was asked for and took on, in order, prompts included."""
        self.work()
        return [
            Submit(entry.task.out_task_id or "", entry.task.model, entry.submission.params)
            for entry in self.sandbox.dispatcher.entries.values()
            if entry.submission is not None
        ]

    def find(self, job: JobRef | None = None) -> Job:
        """
        The handle on *job*; if that is left out, on the only one of this test.

        Raises:
            AssertionError: There is no such job, or there are several.
        """
        jobs = self.jobs
        if job is None:
            if len(jobs) != 1:
                raise AssertionError(f"say which job: {_listed(jobs)}")
            return jobs[0]
        job_id = id_of(job)
        for found in jobs:
            if found.id == job_id:
                return found
        raise AssertionError(f"there is no job {job_id!r} in this test; {_listed(jobs)}")

    def entry(self, job: Job) -> Entry:
        """
        What the store has of *job*.

        Raises:
            JobNotFound: Nothing any more: it ended long ago.
        """
        found = (worker.bridge.memory.get([job.id])[0] for worker in self._workers)
        entry = next((entry for entry in found if entry is not None), None)
        if entry is None:
            raise JobNotFound(job.id)
        return entry

    def next_at(self) -> float | None:
        """When something is due next; None if nothing is."""
        now = self.clock.now()
        times = [at for worker in self._workers if (at := worker.next_at()) is not None]
        open_ids = {job.id for job in self.jobs if not self.entry(job).state.is_terminal}
        remote = (entry.task for entry in self.sandbox.dispatcher.entries.values())
        times += [task.next_change_s(now) for task in remote if task.out_task_id in open_ids]
        return min((at for at in times if at < float("inf")), default=None)

    # -- within -------------------------------------------------------------------------------------------------------

    def _open_job(self, job: JobRef | None) -> Job:
        self.work()
        if job is not None:
            return self.find(job)
        jobs = [found for found in self.jobs if not self.entry(found).state.is_terminal]
        if len(jobs) != 1:
            raise AssertionError(f"say which job: {_listed(jobs, 'open')}")
        return jobs[0]

    def _submitted(self, job: JobRef | None) -> Job:
        """An open job that ByteSpike has taken on."""
        found = self._open_job(job)
        self._until(lambda: self.entry(found).state is not JobState.QUEUED, f"job {found.id} to be submitted")
        if self.entry(found).state.is_terminal:
            raise AssertionError(f"job {found.id} has ended already: it {of_entry(self.entry(found))}")
        return found

    def _end(self, job: JobRef | None, wanted: JobState, members: dict[str, Any]) -> Job:
        found = self._submitted(job)
        with _refusals():
            self.sandbox.end_task(found.id, **members)
        self._until(lambda: self.entry(found).due_at is None, f"job {found.id} to end")
        if self.entry(found).state is not wanted:
            raise AssertionError(f"job {found.id} should be {wanted}, but it {of_entry(self.entry(found))}")
        return found

    def _until(self, is_so: Callable[[], bool], what: str) -> None:
        """Work, and let time pass from one moment at which something is due to the next."""
        self.work()
        for _ in range(MOST_MOMENTS):
            if is_so():
                return
            at = self.next_at()
            if at is None:
                break
            self._loop.pass_time(max(at - self.clock.now(), 0.0))
            self.work()
        raise AssertionError(
            f"expected {what}; after {self.clock.elapsed_s:g} s of the test's time there is nothing due"
        )

    def _pass_time(self, seconds: float) -> None:
        if self._is_working:  # somebody waits within a task
            self._loop.pass_time(seconds)
            return
        until = self.clock.now() + seconds
        self.work()
        while (at := self.next_at()) is not None and at <= until:
            self._loop.pass_time(max(at - self.clock.now(), 0.0))
            self.work()
        self._loop.pass_time(max(until - self.clock.now(), 0.0))
        self.work()

    def _wait(self, is_so: Callable[[], bool], timeout_s: float | None) -> None:
        """For `AsyncResult.get`: let time pass until the result is there, or for *timeout_s*."""
        if self._is_working:
            raise RuntimeError("a task waits for the result of another, which can't run before it is over")
        until = float("inf") if timeout_s is None else self.clock.now() + timeout_s
        self._work(with_jobs=True)
        while not is_so() and (at := self.next_at()) is not None and at <= until:
            self._loop.pass_time(max(at - self.clock.now(), 0.0))
            self._work(with_jobs=True)

    def _work(self, *, with_jobs: bool) -> None:
        if self._is_working or not self._lock.acquire(blocking=False):
            return
        self._is_working = True
        self._ear.listen()
        try:
            for _ in range(MOST_TURNS):
                if with_jobs:
                    self._tell_news()
                turns = [worker.turn(with_jobs=with_jobs) for worker in self._workers]
                if not any(turns):
                    return
            if not any(isinstance(error, Endless) for error in self._errors):
                self._errors.append(Endless(f"there is no end to what is due at this moment: {MOST_TURNS} messages"))
        finally:
            self._ear.stop()
            self._is_working = False
            self._lock.release()

    def _tell_news(self) -> None:
        """Have jobs looked at whose remote tasks have changed, as ByteSpike's callback does, but at once."""
        now = self.clock.now()
        for entry in self.sandbox.dispatcher.entries.values():
            status, job_id = entry.task.state(now), entry.task.out_task_id
            # the answer to the submit said that it is pending
            if job_id is not None and self._statuses.get(job_id, "pending") != status:
                self._statuses[job_id] = status
                for worker in self._workers:
                    worker.bridge.memory.announce(job_id, 0.0)

    def _raise(self) -> None:
        """
        Raise what has gone wrong so far.

        Raises:
            Exception: One error as it is; several as a group.
        """
        errors = list(self._errors)
        self._errors.clear()
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise BaseExceptionGroup("tasks of this test failed", errors)

    def _published(self, sender: str, **_: Any) -> None:
        """Celery's signal, in the thread that called a task: run it, unless it is about a job."""
        if sender not in OURS:
            self._work(with_jobs=False)

    def _stand_in(self, original: Bridge) -> Bridge:
        bridge = Rehearsal(original, line=self._line, loop=self._loop, clock=self.clock)
        if self._settings:
            bridge.reconfigure(self._settings)
        self._workers.append(Worker(bridge, self._errors))
        url = post.new_broker()
        self._restores += [
            partial(post.forget, url),
            rewire(
                original.app,
                {
                    "broker_url": url,
                    "broker_read_url": url,
                    "broker_write_url": url,
                    "broker_transport_options": {},
                    "broker_pool_limit": 10,
                    "result_backend": post.RESULTS,
                    "result_backend_transport_options": {},
                    "task_always_eager": False,  # its tasks run at once all the same
                    "task_protocol": 2,
                },
            ),
        ]
        return bridge

    def _restore(self) -> None:
        for worker in self._workers:
            worker.close()
        while self._restores:
            self._restores.pop()()


_open: Final[list[ByteSpike]] = []


def active() -> ByteSpike | None:
    """The one that is open, if any."""
    return _open[-1] if _open else None


def id_of(job: JobRef) -> str:
    """
    The id of a job.

    Raises:
        TypeError: *job* is nothing that has one.
        AssertionError: It is a row without a job.
    """
    if isinstance(job, str):
        return job
    if isinstance(job, Job | AsyncResult):
        return str(job.id)
    if not hasattr(job, "job_id"):
        raise TypeError(
            f"a job is named by its id, its Job, what apply_async returned, or a row with a job_id: {job!r}"
        )
    if job.job_id is None:
        raise AssertionError(f"{job!r} has no job")
    return str(job.job_id)


def _listed(jobs: list[Job], kind: str = "") -> str:
    there = f"there are {len(jobs)} {kind}".rstrip() if jobs else f"there is no {kind}".rstrip()
    if not jobs:
        return f"{there} job"
    return f"{there} jobs: {', '.join(job.id for job in jobs)}"


@contextmanager
def _refusals() -> Iterator[None]:
    """Say in the library's words what the sandbox refuses."""
    try:
        yield
    except Refusal as refusal:
        raise InvalidRequest(refusal.message.replace("params.sandbox", "the script")) from None
