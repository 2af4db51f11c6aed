"""One soak from its start to its verdict."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import redis
from celery import Celery

from soak import app as tasks
from soak.app import make_app
from soak.books import Evidence, Found, Verdict, check
from soak.caller import Caller, calls_under_once
from soak.chaos import Chaos
from soak.evidence import deliveries, publications, read_notes
from soak.plan import LABELS, plan
from soak.report import Figures
from soak.weather import weather
from soak.workers import Worker
from tasks_bridge import Settings
from tasks_bridge.bridge import Bridge, bridge_of
from tasks_bridge.embedded import EmbeddedRedis
from tasks_bridge.errors import StoreError
from tasks_bridge.record import JobState
from tasks_bridge.sandbox import SandboxServer

API_KEY: Final = "sk-byts-soak-0123456789"
FOR_EVER_S: Final = 400 * 24 * 3600.0
SUBMITS_SHARE: Final = 0.8
"""Of the chaos: jobs are started until then, so that the last ones live through some of it too."""

_PACE: Final[dict[str, Any]] = {
    "poll_min_s": 0.5,
    "poll_max_s": 3.0,
    "tick_s": 0.2,
    "lease_s": 3.0,
    "retry_min_s": 0.3,
    "retry_max_s": 2.0,
    "breaker_max_s": 2.0,
    "submit_timeout_s": 4.0,
    "query_timeout_s": 2.0,
    "connect_timeout_s": 1.0,
    # a scripted 404 must be taken for a delay also by a job whose first query came after an outage
    "not_found_grace_s": 25.0,
    # one period for the whole run, whenever it begins
    "spend_period_s": FOR_EVER_S,
}


@dataclass(frozen=True, slots=True)
class Options:
    """What to do."""

    jobs: int
    seed: int
    minutes: float
    workers: int = 3
    spend_limit: float | None = None
    """Credits for all jobs together; None: books are kept and nothing is refused."""
    settle_s: float = 180.0
    """How long after the chaos everything may take to end."""
    directory: Path | None = None
    """For logs and evidence; None: a temporary one, kept only if something is wrong."""
    command: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it."""

    verdict: Verdict
    figures: Figures
    histories: Mapping[str, str]
    """Of each job with a problem, all that is known."""
    directory: Path
    """Where the logs are; gone if all is well and it was a temporary one."""


def soak(options: Options, tell: Callable[[str], None]) -> Result:
    """
    Run it; *tell* hears of the progress, a line at a time.

    Raises:
        BridgeError: Something could not be started.
    """
    directory = options.directory or Path(tempfile.mkdtemp(prefix="tasks-bridge-soak-"))
    directory.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        server = stack.enter_context(EmbeddedRedis())
        sandbox = stack.enter_context(SandboxServer(keys=[API_KEY], seed=options.seed))
        evidence = directory / "callbacks.jsonl"
        settings = {
            **_PACE,
            "api_key": API_KEY,
            "base_url": sandbox.url,
            "redis_url": server.url,
            "spend_limit": 1e9 if options.spend_limit is None else options.spend_limit,
        }
        app = make_app(Settings(**settings))
        app.set_default()  # in every thread
        stack.callback(app.close)
        env = {**os.environ, **_environment(settings), tasks.EVIDENCE: str(evidence), "TMPDIR": str(directory)}
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), env.get("PYTHONPATH")]))
        workers: list[Worker] = []
        stack.callback(_stop, workers)
        workers += [Worker(str(number + 1), directory, env) for number in range(options.workers)]
        run = _Run(options, app, server, sandbox, workers, evidence, tell)
        result = run.through(directory)
    if result.verdict.is_good and options.directory is None:
        shutil.rmtree(directory, ignore_errors=True)
    return result


def _stop(workers: Sequence[Worker]) -> None:
    for worker in workers:
        worker.stop()


def _environment(settings: Mapping[str, Any]) -> dict[str, str]:
    ours = ("api_key", "base_url")
    return {f"{'BYTESPIKE' if k in ours else 'TASKS_BRIDGE'}_{k}".upper(): str(v) for k, v in settings.items()}


class _Run:
    def __init__(
        self,
        options: Options,
        app: Celery,
        server: EmbeddedRedis,
        sandbox: SandboxServer,
        workers: Sequence[Worker],
        evidence: Path,
        tell: Callable[[str], None],
    ) -> None:
        self._options = options
        self._app = app
        self._bridge: Bridge = bridge_of(app)
        self._server = server
        self._sandbox = sandbox
        self._workers = workers
        self._evidence = evidence
        self._tell = tell
        chaos_s = options.minutes * 60
        self._flows = plan(options.seed, options.jobs, chaos_s * SUBMITS_SHARE)
        self._events = weather(options.seed, chaos_s, len(workers))
        self._ids = [job.id for flow in self._flows for job in flow.jobs]
        self._ears = _Ears(server.url, self._bridge.store.channel("*"))

    def through(self, directory: Path) -> Result:
        began = time.monotonic()
        self._ears.start()
        calm = threading.Lock()
        caller = Caller(self._app, self._flows, calm)
        chaos = Chaos(self._events, self._server, self._sandbox, self._workers, calm)
        caller.start()
        chaos.start()
        chaos_s = self._options.minutes * 60 + max(
            0.0, *(event.at_s - self._options.minutes * 60 for event in self._events)
        )
        while time.monotonic() - began < chaos_s + 1 or caller.is_alive():
            self._progress(began, caller, chaos)
            time.sleep(1)
            for thread in (caller, chaos):
                if thread.error is not None:
                    raise thread.error
        chaos.heal()
        calm_at = time.monotonic()
        give_up_at = calm_at + self._options.settle_s
        while time.monotonic() < give_up_at and not self._is_over():
            self._progress(began, caller, chaos)
            time.sleep(1)
        settled_s = time.monotonic() - calm_at
        self._tell("closing the books")
        chaos.close()
        self._ears.close()
        found = self._collect(chaos)
        verdict = check(self._flows, found, calls_under_once(self._flows))
        if settled_s >= self._options.settle_s:
            verdict.add("", f"not everything had ended {self._options.settle_s:g} s after the chaos: {self._left()}")
        figures = Figures(
            command=self._options.command,
            jobs=len(self._ids),
            flows=len(self._flows),
            weather=chaos.counts,
            worker_starts=sum(worker.starts for worker in self._workers),
            calls_repeated=caller.repeated,
            api=self._sandbox.stats(),
            used=found.used[None],
            chaos_s=calm_at - began,
            settled_s=settled_s,
            wall_s=time.monotonic() - began,
        )
        histories = {subject: self._history(subject, found, directory) for subject in verdict.problems if subject}
        return Result(verdict, figures, histories, directory)

    def _progress(self, began: float, caller: Caller, chaos: Chaos) -> None:
        seconds = time.monotonic() - began
        if int(seconds) % 10:
            return
        try:
            left = str(self._bridge.store.open_count())
        except StoreError:
            left = "? (Redis is away)"
        harm = sum(chaos.counts.values())
        self._tell(f"{seconds:4.0f} s: {caller.started} of {len(self._ids)} jobs started, {left} open, {harm} troubles")

    def _left(self) -> str:
        client: Any = self._bridge.store.client
        queues = {name: client.llen(name) for name in ("celery", self._bridge.settings.poll_queue)}
        return (
            f"{self._bridge.store.open_count()} jobs open, messages {queues}, {client.hlen('unacked')} unacknowledged"
        )

    def _is_over(self) -> bool:
        """Whether nothing can happen any more: no job open, no message in a queue or in a worker."""
        client: Any = self._bridge.store.client
        try:
            return not (
                self._bridge.store.open_count()
                or any(client.llen(name) for name in ("celery", self._bridge.settings.poll_queue))
                or client.hlen("unacked")
            )
        except (StoreError, redis.RedisError):
            return False

    def _collect(self, chaos: Chaos) -> Evidence:
        notes = list(read_notes(self._evidence))
        reports = self._sandbox.tasks()
        by_job: dict[str, list[dict[str, Any]]] = {}
        for report in reports:
            by_job.setdefault(str(report["out_task_id"]), []).append(report)
        entries = self._bridge.store.get(self._ids)
        client: Any = self._bridge.store.client
        metas = client.mget([f"celery-task-meta-{job_id}" for job_id in self._ids])
        jobs: dict[str, Found] = {}
        for job_id, entry, meta in zip(self._ids, entries, metas, strict=True):
            remote = by_job.get(job_id, [])
            jobs[job_id] = Found(
                state=entry.state.value if entry else None,
                error=entry.record.error.name if entry and entry.record.error else None,
                celery_state=json.loads(meta)["status"] if meta else None,
                remote=remote,
                charged=sum(self._charge(report["task_id"]) for report in remote),
                notices=self._ears.ends.get(job_id, ()),
            )
        books = {label: self._bridge.budget.books(label) for label in LABELS}
        return Evidence(
            jobs=jobs,
            deliveries=deliveries(notes),
            published=publications(notes),
            remote_tasks=len(reports),
            used={label: spending.used for label, spending in books.items()},
            reserved=books[None].reserved,
            harm=chaos.harm,
            has_spend_limit=self._options.spend_limit is not None,
        )

    def _charge(self, task_id: str) -> float:
        """What ByteSpike's own books say, not what anybody was told in an answer."""
        seen = self._sandbox.sandbox.dispatcher.entries[task_id].task.view(self._sandbox.sandbox.now_s())
        return float(seen.get("credits_used", seen.get("credits")) or 0.0)

    def _history(self, subject: str, found: Evidence, directory: Path) -> str:
        lines = []
        for flow in self._flows:
            for job in flow.jobs:
                if subject in (job.id, flow.id):
                    lines += [f"planned: {flow.kind} {job}", f"found: {found.jobs[job.id]}"]
                    entry = self._bridge.store.get([job.id])[0]
                    lines.append(f"store: {entry}")
        calls = sorted({*found.deliveries, *found.published})
        for call in calls:
            if call.startswith((f"{subject}.", f"{subject}-")):
                lines.append(
                    f"{call}: published {found.published.get(call, [])}, came {found.deliveries.get(call, [])}"
                )
        for log in sorted(directory.glob("worker-*.log")):
            text = log.read_text(encoding="utf-8", errors="replace").splitlines()
            lines += [f"{log.name}: {line}" for line in text if subject in line]
        return "\n".join(lines)


class _Ears(threading.Thread):
    """Listens for the ends of jobs. What is announced while Redis is away is not heard, by anybody."""

    def __init__(self, url: str, pattern: str) -> None:
        super().__init__(name="ears", daemon=True)
        self.ends: dict[str, set[tuple[str, int]]] = {}
        self._client = redis.Redis.from_url(url)
        self._pattern = pattern
        self._closed = threading.Event()

    def run(self) -> None:
        while not self._closed.is_set():
            try:
                with self._listening() as messages:
                    for message in messages:
                        self._hear(message)
            except redis.RedisError:
                time.sleep(0.1)

    def close(self) -> None:
        self._closed.set()
        self.join()
        self._client.close()

    @contextmanager
    def _listening(self) -> Iterator[Iterator[Any]]:
        client: Any = self._client
        pubsub = client.pubsub(ignore_subscribe_messages=True)
        try:
            pubsub.psubscribe(self._pattern)
            yield iter(lambda: None if self._closed.is_set() else pubsub.get_message(timeout=0.2) or {}, None)
        finally:
            pubsub.close()

    def _hear(self, message: Mapping[str, Any]) -> None:
        if message.get("type") == "pmessage":
            notice = json.loads(message["data"])
            if JobState(notice["state"]).is_terminal:
                self.ends.setdefault(notice["id"], set()).add((notice["state"], notice["job"]["token"]))
