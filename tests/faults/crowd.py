"""Thousands of jobs that wait for their countdown, in seconds: past Celery and HTTP, whose part in them is over."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from itertools import islice

from tasks_bridge import JobState, RemoteTask
from tasks_bridge.order import Order
from tasks_bridge.sandbox import SandboxServer
from tasks_bridge.sandbox.gate import _digest
from tasks_bridge.sandbox.plan import read_submission
from tasks_bridge.store import Lease, Purpose
from tasks_bridge.store.base import Registration, Write
from tests.faults.stage import API_KEY
from tests.smoke.scene import Scene

CHUNK = 500
WAITING_MODEL = "sora-2-pro"
"""Not the other jobs' model, whose ends would teach workers other countdowns than this one's."""
LEAD_S = 10.0
"""Until the first of them is due: all of them are there by then, and workers can be."""


def put_waiting_jobs(scene: Scene, count: int, countdown_s: float) -> dict[str, float]:
    """
    Put *count* jobs that ByteSpike has accepted, never end, and have *countdown_s* between two polls.

    Returns:
        When each is due for the first time, on the store's clock: one after the other over *countdown_s*.
    """
    store, settings = scene.bridge.store, scene.bridge.settings
    script = {"duration_s": 1e6, "pending_s": 0, "estimate_s": 6 * countdown_s}
    order = Order(WAITING_MODEL, {"prompt": "a fox", "sandbox": script})
    remaining = iter([uuid.uuid4().hex for _ in range(count)])
    put: list[tuple[Lease, RemoteTask]] = []
    while ids := list(islice(remaining, CHUNK)):
        bodies = {job_id: order.body(job_id) for job_id in ids}
        jobs = {i: order.record(body, settings, now=store.now(), delay_s=0) for i, body in bodies.items()}
        store.register_many([Registration(i, record, bodies[i], 600, published=True) for i, record in jobs.items()])
        put += zip(store.begin(ids, Purpose.GENERATE, 600), accepted(scene.sandbox, bodies.values()), strict=True)

    due_at = {}
    first_at = store.now() + LEAD_S
    for start in range(0, count, CHUNK):
        now = store.now()
        writes = []
        for number, (lease, remote) in enumerate(put[start : start + CHUNK], start):
            due_at[lease.job_id] = first_at + countdown_s * number / count
            record = lease.record.but(
                remote=remote.to_json(), estimated_s=remote.estimated_seconds, submitted_at=store.now()
            )
            writes.append(Write(lease, JobState.RUNNING, record, delay_s=due_at[lease.job_id] - now))
        assert all(store.write_many(writes))
    assert store.now() < first_at, f"{count} jobs should be there before the first is due"
    return due_at


def accepted(sandbox: SandboxServer, bodies: Iterable[bytes]) -> list[RemoteTask]:
    """What the sandbox answers to these submits."""

    def submit_all() -> list[RemoteTask]:
        dispatcher, now_s = sandbox.sandbox.dispatcher, sandbox.sandbox.now_s()
        entries = [
            dispatcher.submit(_digest(API_KEY), read_submission(json.loads(body)), now_s=now_s, base_url=sandbox.url)[0]
            for body in bodies
        ]
        return [RemoteTask.model_validate(entry.task.view(now_s)) for entry in entries]

    return sandbox._call(submit_all)
