"""What an end-to-end test does and sees: jobs, the remote tasks they made, the callbacks that came."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from celery import Celery
from celery.canvas import Signature
from celery.result import AsyncResult
from redis import Redis

from tasks_bridge import Job, generate
from tasks_bridge.bridge import Bridge, bridge_of
from tasks_bridge.publish import publish_generate
from tasks_bridge.sandbox import SandboxServer
from tests.smoke import smoke_app
from tests.smoke.nodes import WorkerNode
from tests.smoke.processes import eventually

MODEL = "seedream-v4"
END_TIMEOUT_S = 30.0

Script = dict[str, Any]


class Scene:
    """
    One test's application, sandbox and workers.

    Args:
        start_worker: Starts one more worker, with command line options.
    """

    def __init__(
        self,
        app: Celery,
        sandbox: SandboxServer,
        workers: Sequence[WorkerNode],
        start_worker: Callable[..., WorkerNode],
    ) -> None:
        self.app = app
        self.sandbox = sandbox
        self.workers = list(workers)
        self._start_worker = start_worker

    @property
    def bridge(self) -> Bridge:
        return bridge_of(self.app)

    @property
    def redis(self) -> Redis:
        return self.bridge.store.client

    @property
    def worker(self) -> WorkerNode:
        return self.workers[0]

    def start_worker(self, *options: str, **env: str) -> WorkerNode:
        """Start one more worker and wait until it is ready."""
        worker = self._start_worker(*options, **env)
        worker.ready()
        self.workers.append(worker)
        return worker

    def start_callback_worker(self) -> WorkerNode:
        """
        Start a worker that does nothing but run callbacks sent to the queue "callbacks".

        A callback that a dying worker has in its hands is lost with it, as any Celery task that is acknowledged early.
        """
        return self.start_worker("--queues", "callbacks", "--concurrency", "1", TASKS_BRIDGE_ALARM="false")

    def signature(self, *, task_id: str | None = None, **script: Any) -> Signature:
        """A job whose remote task follows *script*, see `tasks_bridge.sandbox.script`."""
        params = {"prompt": "a fox", "sandbox": {"duration_s": 0.3, "estimate_s": 1, **script}}
        return generate.s(MODEL, params).set(task_id=task_id or uuid.uuid4().hex)

    def submit(self, script: Script | None = None, **options: Any) -> AsyncResult:
        """Start a job with a completion callback and a failure callback, unless *options* say otherwise."""
        options.setdefault("link", smoke_app.completed.s())
        options.setdefault("link_error", smoke_app.failed.s())
        return self.signature(**(script or {})).apply_async(**options)

    def job(self, result: AsyncResult) -> Job:
        return Job(result.id, app=self.app)

    @staticmethod
    def state(result: AsyncResult) -> str:
        """What the result backend says; also a state of ours, which Celery's own type doesn't know."""
        return str(result.state)

    def calls(self, name: str) -> list[dict[str, Any]]:
        """What the callbacks left in the list *name*, in order."""
        return [json.loads(entry) for entry in self.redis.lrange(f"smoke:{name}", 0, -1)]

    def remote_tasks(self, job_id: str) -> list[dict[str, Any]]:
        """The sandbox's tasks of one job."""
        return [task for task in self.sandbox.tasks() if task["out_task_id"] == job_id]

    def wait_until(self, condition: Callable[[], Any], expected: str, timeout_s: float = END_TIMEOUT_S) -> Any:
        """Wait until *condition* holds, or fail and show where everything stands."""
        return eventually(condition, expected=expected, timeout_s=timeout_s, show=self.show)

    def wait_for_state(self, result: AsyncResult, *states: str) -> None:
        """Wait until the result backend has the job in one of *states*."""
        self.wait_until(lambda: self.state(result) in states, f"job {result.id} in state {' or '.join(states)}")

    def wait_for_request(self, endpoint: str, count: int = 1) -> None:
        """Wait until the sandbox has been asked *count* times for something."""
        self.wait_until(
            lambda: self.sandbox.stats()["requests"].get(endpoint, 0) >= count,
            f"{count} {endpoint} requests at the sandbox",
        )

    def wait_for_end(self, *results: AsyncResult, timeout_s: float = END_TIMEOUT_S) -> None:
        """Wait until each job has ended, Celery knows it, and none is left on the schedule."""
        for result in results:
            self.wait_until(result.ready, f"job {result.id} ended", timeout_s)
        self.wait_until(lambda: self.bridge.store.open_count() == 0, "no job left on the schedule", timeout_s)

    def wait_for_calls(self, name: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until at least *count* callbacks of one kind came, and return all."""
        self.wait_until(lambda: len(self.calls(name)) >= count, f"{count} entries of {name!r}")
        return self.calls(name)

    def wait_until_idle(self) -> None:
        """Wait until no message is left that could still call something: what was not called then never will be."""
        # What was published before this message, though perhaps still on its way to the broker, is ahead of it.
        smoke_app.overtake_nothing.delay().get(timeout=END_TIMEOUT_S)

        left: dict[str, Any] = {}

        def is_idle() -> bool:
            with self.app.connection_for_read() as connection:
                left.update({queue: count_messages(connection, queue) for queue in self.queues})
            alive = sum(worker.container.status == "running" for worker in self.workers)
            inspect = self.app.control.inspect(timeout=5, limit=alive)
            left.update(active=inspect.active() or {}, reserved=inspect.reserved() or {})
            return not any(any(one.values()) if isinstance(one, dict) else one for one in left.values())

        def show() -> str:
            return f"left: {left}\n{self.show()}"

        eventually(is_idle, expected="no message in a queue or in a worker", show=show)

    def publish_again(self, result: AsyncResult) -> None:
        """Publish a job's message once more, as a broker does that was not told of its receipt."""
        entry = self.bridge.store.get([result.id])[0]
        assert entry is not None, f"expected the store to know job {result.id}"
        publish_generate(self.app, result.id, entry.record)

    @property
    def queues(self) -> list[str]:
        """The queues in which messages of this application wait."""
        return [*self.app.amqp.queues, self.bridge.settings.poll_queue, "callbacks"]

    def lose_messages(self) -> None:
        """Empty all queues, as a broker does that was not made durable."""
        with self.app.connection_for_write() as connection:
            self.wait_until(
                lambda: sum(purge(connection, queue) for queue in self.queues), "a message in a queue to lose"
            )

    def wait_for_log(self, text: str) -> None:
        """Wait until some worker has logged *text*."""
        self.wait_until(lambda: any(text in worker.logs() for worker in self.workers), f"{text!r} in a worker's log")

    def assert_completed_once(self, *results: AsyncResult, is_twice_fine: bool = False) -> None:
        """
        Each job has ended well, with one remote task and one completion callback.

        Args:
            results: All the jobs there are.
            is_twice_fine: A worker may have been killed between a callback's end and what is recorded of it: then it
                comes again, under its id.
        """
        self.wait_for_end(*results)
        ids = sorted(result.id for result in results)
        self.wait_until(
            lambda: {call["job"] for call in self.calls("completed")} >= set(ids), "the completion callback of each job"
        )
        self.wait_until_idle()

        assert {result.id: result.state for result in results} == dict.fromkeys(ids, "SUCCESS"), self.show()
        calls = [(call["job"], call["call"]) for call in self.calls("completed")]
        assert sorted(job_id for job_id, _ in (set(calls) if is_twice_fine else calls)) == ids, self.show()
        assert self.calls("failed") == [], self.show()
        assert sorted(task["out_task_id"] for task in self.sandbox.tasks()) == ids, self.show()
        for result in results:
            assert result.get(timeout=5)["out_task_id"] == result.id
        self.assert_nothing_stays()

    def assert_nothing_stays(self) -> None:
        """What is left of ended jobs in Redis expires."""
        prefix = f"{{{self.bridge.settings.namespace}}}:"
        lasting = [key for key in self.redis.scan_iter(match=prefix + "*") if self.redis.pttl(key) < 0]
        assert not lasting, f"expected every key to expire, but {lasting} stay"

    def show(self) -> str:
        """Where everything stands, for a failure's message; pytest adds the workers' logs."""
        lines = ["---- jobs ----"]
        for key in self.redis.scan_iter(match="*job:*"):
            job_id = key.decode().rpartition(":")[2]
            job = Job(job_id, app=self.app)
            kept = self.redis.get(key)
            lines.append(f"{job_id} {job.status} kept as {kept!r} celery {self.app.AsyncResult(job_id).state}")
        lines += ["---- remote tasks ----", *map(str, self.sandbox.tasks()), str(self.sandbox.stats())]
        for name in ("completed", "failed", "assembled"):
            lines += [f"---- {name} ----", *map(str, self.calls(name))]
        return "\n".join(lines)


def count_messages(connection: Any, queue: str) -> int:
    """How many messages wait in *queue*; a queue that does not exist has none."""
    channel = connection.channel()
    try:
        return int(channel.queue_declare(queue=queue, passive=True).message_count)
    except connection.channel_errors:
        return 0
    finally:
        channel.close()


def purge(connection: Any, queue: str) -> int:
    """Drop the messages in *queue*; returns how many there were."""
    channel = connection.channel()
    try:
        return int(channel.queue_purge(queue) or 0)
    except connection.channel_errors:
        return 0
    finally:
        channel.close()
