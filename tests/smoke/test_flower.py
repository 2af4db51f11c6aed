"""
Flower beside a worker: one row per job with its remote state, a Revoke that reaches ByteSpike, and no secret anywhere.

The deployment is `worker.app` as it is, with both processes at their most talkative and a Redis with a password.
"""

from __future__ import annotations

import os
import sys
import traceback
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from celery import chain, chord
from celery.result import AsyncResult
from pydantic import SecretStr
from redis import Redis

from tasks_bridge import Bridge, BridgeError, Client, Job, JobCancelled, JobState, Settings
from tasks_bridge.bridge import bridge_of
from tasks_bridge.embedded import EmbeddedRedis, free_port
from tasks_bridge.events import GENERATE, POLL
from tasks_bridge.sandbox import SandboxServer
from tests.celery_state import forget_results
from tests.integration.lab import Events
from tests.smoke import smoke_app
from tests.smoke.nodes import ROOT
from tests.smoke.processes import LocalProcess, Reaper, eventually

API_KEY = "sk-byts-flower-Never-Shown-0123456789"
PASSWORD = "redis-password-never-shown"
SECRET_KEY = "secret-key-never-shown-0123456789abcdef"
PROMPT = "prompt-never-shown"
KEPT = "prompt-kept-while-it-waits"
MODEL = "seedream-v4"
FOREVER = {"duration_s": 600, "estimate_s": 600}
SCRIPTS: dict[str, dict[str, Any]] = {
    "completed": {"duration_s": 0.3, "estimate_s": 1},
    "failed": {"duration_s": 0.3, "outcome": "failed", "error_code": "internal_error", "error_message": "no"},
    "pending": {"pending_s": 600, "duration_s": 1200, "estimate_s": 600},
    "running": FOREVER,
    "revoked": FOREVER,
}
SLOW_SUBMIT = {"duration_s": 0.3, "faults": [{"on": "submit", "kind": "slow", "delay_s": 2}]}
PAGES = (
    *("/", "/workers", "/workers?json=1", "/tasks", "/broker", "/metrics", "/healthcheck"),
    *("/api/workers?refresh=1", "/api/tasks", "/api/task/types", "/api/queues/length"),
)
QUESTIONS = (
    *("active", "active_queues", "clock", "memsample", "ping", "registered", "report", "reserved", "revoked"),
    *("scheduled", "stats"),
)
"""What ``celery inspect`` can ask without arguments."""


@dataclass
class Stage:
    """What runs, and the jobs on it by the end they are to come to."""

    redis: Redis
    directory: Path
    sandbox: SandboxServer
    bridge: Bridge
    worker: LocalProcess
    flower: LocalProcess
    api: httpx.Client
    jobs: dict[str, AsyncResult]

    def rows(self, **query: str) -> dict[str, dict[str, Any]]:
        rows: dict[str, dict[str, Any]] = self.api.get("/api/tasks", params=query).raise_for_status().json()
        return rows

    def states(self) -> dict[str, str]:
        """The states of the jobs in Flower, by their names here."""
        rows = self.rows()
        return {name: rows[job.id]["state"] for name, job in self.jobs.items() if job.id in rows}

    def show(self) -> str:
        return f"{self.worker.tail()}\n{self.flower.tail()}"

    def expect(self, **states: str) -> None:
        eventually(
            lambda: states.items() <= self.states().items(),
            expected=f"Flower to show {states}",
            show=lambda: f"{self.states()}\n{self.show()}",
        )


@pytest.fixture(scope="module")
def stage(bare_environment: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    directory = tmp_path_factory.mktemp("flower")
    address = f"http://127.0.0.1:{free_port()}"
    with EmbeddedRedis(directory=directory / "redis", password=PASSWORD) as server, SandboxServer() as sandbox:
        settings = Settings(
            redis_url=SecretStr(server.url),
            api_key=SecretStr(API_KEY),
            base_url=sandbox.url,
            secret_key=SecretStr(SECRET_KEY),
            poll_min_s=0.2,
            poll_max_s=0.5,
        )
        env = {
            "TASKS_BRIDGE_REDIS_URL": server.url,
            "TASKS_BRIDGE_SECRET_KEY": SECRET_KEY,
            "TASKS_BRIDGE_POLL_MIN_S": "0.2",
            "TASKS_BRIDGE_POLL_MAX_S": "0.5",
            "BYTESPIKE_API_KEY": API_KEY,
            "BYTESPIKE_BASE_URL": sandbox.url,
            "CELERY_IMPORTS": "tests.smoke.smoke_app",
            "FLOWER_UNAUTHENTICATED_API": "true",
            "PYTHONPATH": str(ROOT),
            "PATH": "/usr/bin:/bin",
        }
        celery = [sys.executable, "-m", "celery", "--app", "worker.app"]
        reaper = Reaper()
        options: dict[str, Any] = {"env": env, "cwd": directory, "reaper": reaper}
        worker = LocalProcess(
            "worker",
            [*celery, "worker", "--concurrency", "2", "--loglevel", "DEBUG"],
            log=directory / "worker.log",
            **options,
        )
        flower = LocalProcess(
            "flower",
            [*celery, "flower", "--address=127.0.0.1", f"--port={address.rpartition(':')[2]}", "--logging=debug"],
            log=directory / "flower.log",
            **options,
        )
        app = smoke_app.make_app(settings)
        web = httpx.Client(base_url=address, timeout=10, follow_redirects=True)
        with web as api, Redis.from_url(server.url) as redis:
            try:
                flower.start()
                worker.start()
                # Flower shows what it was there for
                eventually(lambda: _knows_a_worker(api), expected="Flower to know the worker", show=flower.tail)
                yield Stage(redis, directory / "redis", sandbox, bridge_of(app), worker, flower, api, _submit(app))
            finally:
                worker.stop(10)
                flower.stop(10)
                reaper.close()
                forget_results()
                app.close()


def _knows_a_worker(api: httpx.Client) -> bool:
    try:
        return bool(api.get("/api/workers", params={"refresh": "1"}).json())
    except (httpx.HTTPError, ValueError):
        return False


def _submit(app: Any) -> dict[str, AsyncResult]:
    def start(model: str, script: dict[str, Any]) -> AsyncResult:
        args = (model, {"prompt": PROMPT, "sandbox": script})
        job: AsyncResult = app.tasks[GENERATE].apply_async(
            args, link=smoke_app.completed.s(), link_error=smoke_app.failed.s()
        )
        return job

    return {"refused": start("no-such-model", {})} | {name: start(MODEL, script) for name, script in SCRIPTS.items()}


def test_flower_shows_one_row_per_job_with_its_state_and_revokes_at_bytespike(stage: Stage) -> None:
    stage.expect(
        completed="SUCCESS",
        failed="FAILURE",
        refused="FAILURE",
        pending="PENDING_REMOTE",
        running="RUNNING",
        revoked="RUNNING",
    )
    rows = stage.rows()
    ids = {name: job.id for name, job in stage.jobs.items()}

    assert sorted(row["uuid"] for row in rows.values() if row["name"] == GENERATE) == sorted(ids.values())
    assert {row["name"] for row in rows.values()} <= {GENERATE, smoke_app.completed.name, smoke_app.failed.name}
    assert set(stage.rows(state="RUNNING")) == {ids["running"], ids["revoked"]}
    assert set(stage.rows(state="PENDING_REMOTE")) == {ids["pending"]}
    assert MODEL in rows[ids["running"]]["args"]

    stage.api.post(f"/api/task/revoke/{ids['revoked']}").raise_for_status()
    stage.expect(revoked="REVOKED", running="RUNNING")
    remote = [task["status"] for task in stage.sandbox.tasks() if task["out_task_id"] == ids["revoked"]]
    assert remote == ["cancelled"]


def test_a_revoke_in_flower_while_no_worker_is_up_acts_when_one_comes(stage: Stage) -> None:
    job = generate_now(stage, "running")
    handle = Job(job.id, app=stage.bridge.app)
    eventually(lambda: handle.status is JobState.RUNNING, expected="the job to run", show=stage.show)
    stage.worker.stop(10)

    stage.api.post(f"/api/task/revoke/{job.id}", params={"terminate": "true"}).raise_for_status()
    assert handle.status is JobState.RUNNING
    stage.worker.start()

    with pytest.raises(JobCancelled):
        job.get(timeout=30)
    assert [task["status"] for task in stage.sandbox.tasks() if task["out_task_id"] == job.id] == ["cancelled"]
    eventually(lambda: stage.rows()[job.id]["state"] == "REVOKED", expected="Flower to show it", show=stage.show)


def contents(stage: Stage) -> dict[str, str]:
    """
    Everything in Redis, read value by value.

    Not by DUMP, which compresses, so that a search in it would find nothing; for the same reason, jobs unpacked.
    """
    redis, store = stage.redis, stage.bridge.store
    readers: dict[Any, Any] = {
        b"string": redis.get,
        b"hash": redis.hgetall,
        b"list": lambda key: redis.lrange(key, 0, -1),
        b"set": redis.smembers,
        b"zset": lambda key: redis.zrange(key, 0, -1),
        b"stream": redis.xrange,
    }
    found = {key.decode(): readers[redis.type(key)](key) for key in redis.scan_iter() if redis.exists(key)}
    jobs = [key for key in found if key.startswith(store.key("job", ""))]
    entries = store.get([key.removeprefix(store.key("job", "")) for key in jobs])
    found |= {key: (entry, entry.record.to_json()) for key, entry in zip(jobs, entries, strict=True) if entry}
    return {key: f"{key} {value!r}" for key, value in found.items()}


def append_only_files(stage: Stage) -> str:
    return files(stage, "*.aof")


def snapshot_file(stage: Stage) -> str:
    """What Redis dumps, uncompressed."""
    stage.redis.config_set("rdbcompression", "no")
    stage.redis.bgsave()
    eventually(lambda: not stage.redis.info("persistence")["rdb_bgsave_in_progress"], expected="Redis to be dumped")
    return files(stage, "*.rdb")


def files(stage: Stage, pattern: str) -> str:
    found = [path.read_bytes() for path in stage.directory.rglob(pattern) if path.is_file()]
    assert found, f"expected Redis to have written {pattern}"
    return b"".join(found).decode(errors="replace")


def rewrite_append_only_files(stage: Stage) -> str:
    """The files once Redis has rewritten them as plain commands, not as a compressed snapshot."""
    stage.redis.config_set("aof-use-rdb-preamble", "no")
    stage.redis.bgrewriteaof()
    eventually(
        lambda: (
            (info := stage.redis.info("persistence"))["aof_rewrite_in_progress"] == 0
            and info["aof_rewrite_scheduled"] == 0
        ),
        expected="the append-only file to be rewritten",
    )
    return append_only_files(stage)


def assert_clean(where: str, text: str, *secrets: str) -> None:
    for secret in secrets:
        at = text.find(secret)
        assert at < 0, f"expected no secret in {where}: …{text[max(0, at - 200) : at + 60]!r}"


def test_no_secret_is_anywhere_while_jobs_are_on_their_way(stage: Stage) -> None:
    secrets = (API_KEY, PASSWORD, SECRET_KEY)
    app: Any = stage.bridge.app
    submitting = app.tasks[GENERATE].apply_async((MODEL, {"prompt": KEPT, "sandbox": SLOW_SUBMIT}))
    eventually(lambda: stage.sandbox.stats()["requests"]["submit"] > len(stage.jobs), expected="the submit under way")

    assert_clean("Redis' dump", snapshot_file(stage), *secrets)
    assert_clean("Redis' append-only file", append_only_files(stage), *secrets)
    assert [key for key, text in contents(stage).items() if KEPT in text] == [
        stage.bridge.store.key("body", submitting.id)
    ]
    inspect = app.control.inspect(timeout=5, limit=1)
    answers = {question: getattr(inspect, question)() for question in QUESTIONS}
    answers |= {"conf": inspect.conf(with_defaults=True), "query_task": inspect.query_task(submitting.id)}
    for question, answer in answers.items():
        assert answer, f"expected the worker to answer inspect {question}"
        assert_clean(f"the answer to inspect {question}", repr(answer), *secrets, PROMPT, KEPT)
    assert submitting.get(timeout=30)["status"] == "completed"


def test_no_event_shows_a_prompt_and_no_ended_job_keeps_that_of_the_next(stage: Stage) -> None:
    app: Any = stage.bridge.app

    def part(prompt: str) -> Any:
        return app.tasks[GENERATE].si(MODEL, {"prompt": prompt, "sandbox": SCRIPTS["completed"]})

    with Events(app) as events:
        ends = [
            chain(part(PROMPT), smoke_app.overtake_nothing.si(), part(KEPT)).apply_async(),
            chord([part(PROMPT), part(PROMPT)])(part(KEPT)),
            part(PROMPT).apply_async(link=[part(KEPT), smoke_app.assemble.s()]),  # which takes no single job, and fails
        ]
        for end in ends:
            assert end.get(timeout=30)["status"] == "completed"
        open_jobs = sum(job.state in ("PENDING_REMOTE", "RUNNING") for job in stage.jobs.values())
        eventually(
            lambda: stage.bridge.store.open_count() == open_jobs, expected="the jobs to be over", show=stage.show
        )
        seen = repr(events.tasks())

    assert MODEL in seen, "expected events of the jobs"
    assert "assemble" in stage.worker.logs(), "expected a failed callback in the log"
    assert_clean("the events", seen, API_KEY, PASSWORD, SECRET_KEY, PROMPT, KEPT)
    for key, text in contents(stage).items():
        assert_clean(key, text, PROMPT, KEPT)


def test_no_secret_and_no_prompt_is_left_anywhere(stage: Stage) -> None:
    secrets = (API_KEY, PASSWORD, SECRET_KEY)
    stage.expect(completed="SUCCESS", failed="FAILURE", refused="FAILURE", pending="PENDING_REMOTE", running="RUNNING")
    # what is not accepted yet has its prompt in one place: so much for whether this search finds anything
    generate: Any = stage.bridge.app.tasks[GENERATE]
    waiting = generate.apply_async((MODEL, {"prompt": KEPT}), countdown=600)
    assert [key for key, text in contents(stage).items() if KEPT in text] == [
        stage.bridge.store.key("body", waiting.id)
    ]
    assert KEPT in append_only_files(stage)
    waiting.revoke()
    eventually(lambda: Job(waiting.id, app=stage.bridge.app).is_terminal, expected="the waiting job to be cancelled")

    for key, text in contents(stage).items():
        assert_clean(key, text, *secrets, PROMPT, KEPT)
    assert PROMPT in append_only_files(stage), "expected a deleted prompt to stay in the file until it is rewritten"
    assert_clean("the append-only file", rewrite_append_only_files(stage), *secrets, PROMPT, KEPT)
    assert_clean("the dump", snapshot_file(stage), *secrets, PROMPT, KEPT)
    assert_clean("the server's log", files(stage, "server.log"), *secrets, PROMPT, KEPT)

    pages = [*PAGES, f"/worker/{next(iter(stage.api.get('/api/workers').json()))}"]
    for job in stage.jobs.values():
        pages += [f"/task/{job.id}", f"/api/task/info/{job.id}", f"/api/task/result/{job.id}"]
    for page in pages:
        answer = stage.api.get(page)
        assert answer.status_code < 500, f"expected Flower to show {page}: {answer.text[:500]}"
        assert_clean(f"Flower's {page}", answer.text, *secrets, PROMPT, KEPT)

    for process in (stage.worker, stage.flower):
        assert "DEBUG" in process.logs() or "[D " in process.logs(), f"expected {process.name} to be talkative"
        assert_clean(f"{process.name}'s log", process.logs(), *secrets, PROMPT, KEPT)


def test_no_repr_and_no_traceback_shows_a_secret(stage: Stage) -> None:
    secrets = (API_KEY, PASSWORD, SECRET_KEY)
    bridge = stage.bridge
    shown = [repr(bridge), repr(bridge.settings), repr(bridge.store), str(bridge.settings), repr(vars(bridge.settings))]
    with Client(API_KEY, stage.sandbox.url) as client:
        shown += [repr(client), str(client)]
        for call in (
            lambda: client.submit("no-such-model", {"prompt": PROMPT}, out_task_id="x"),
            lambda: client.query("task_unknown"),
            lambda: client.submit(MODEL, {"prompt": PROMPT, "n": object()}),
        ):
            with pytest.raises(BridgeError) as caught:
                call()
            shown += traceback.format_exception(caught.value)
    for name in ("failed", "refused"):
        with pytest.raises(Exception) as ended:  # noqa: PT011 - whichever: only its text matters
            stage.jobs[name].get(timeout=30)
        shown += traceback.format_exception(ended.value)
    shown += [repr(job) for job in stage.jobs.values()]

    for text in shown:
        # the lines of source in a traceback are this file's own, and name the constants only
        assert_clean("a repr or a traceback", text, *secrets, PROMPT)


class Bomb:
    """Makes a directory when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("queue", ["celery", "tasks_bridge"])
def test_a_message_that_is_not_json_is_refused_and_the_worker_goes_on(stage: Stage, queue: str, tmp_path: Path) -> None:
    trace = tmp_path / "unpickled"
    body: tuple[Any, ...] = ((Bomb(trace),), {}, {})
    with stage.bridge.app.connection_for_write() as connection:
        for name in (GENERATE, POLL, "tests.smoke.smoke_app.completed"):
            headers = {"task": name, "id": uuid.uuid4().hex, "lang": "py", "root_id": None, "parent_id": None}
            connection.SimpleQueue(queue).put(body, serializer="pickle", headers=headers)
    job = generate_now(stage)

    assert job.get(timeout=30)["status"] == "completed", "expected the worker to go on"
    eventually(
        lambda: stage.worker.logs().count("ContentDisallowed"),
        expected="the worker to say that it refused the messages",
        show=stage.worker.tail,
    )
    assert not trace.exists(), "expected nobody to unpickle what a stranger sent"


def generate_now(stage: Stage, script: str = "completed") -> AsyncResult:
    generate: Any = stage.bridge.app.tasks[GENERATE]
    job: AsyncResult = generate.apply_async((MODEL, {"prompt": PROMPT, "sandbox": SCRIPTS[script]}))
    return job
