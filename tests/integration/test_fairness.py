"""A flood of due jobs of one model, and a lone job of another beside it, at a real worker."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tasks_bridge.order import Order
from tasks_bridge.record import JobState
from tasks_bridge.sandbox import SandboxServer
from tasks_bridge.store import Purpose
from tasks_bridge.store.base import Registration, Write, lane_of
from tests.integration.lab import MODEL, Lab, eventually

FLOOD = 10_000
FLOOD_MODEL = "sora-2"
CHUNK = 500
SLACK_S = 4
"""The tests share the machine."""


@pytest.fixture
def flooded_lab(redis_url: str, sandbox: SandboxServer) -> Iterator[Lab]:
    """Every job of the flood is due now, and again soon after each poll: ByteSpike doesn't know it yet."""
    lab = Lab(redis_url, sandbox, not_found_grace_s=3600)
    store, order = lab.bridge.store, Order(FLOOD_MODEL, {"prompt": "a wave"})
    body, now = order.body("flood"), store.now()
    record = order.record(body, lab.settings, now=now, delay_s=0).but(submitted_at=now, remote={"task_id": "none"})
    with lab.current():
        for start in range(0, FLOOD, CHUNK):
            ids = [f"flood-{number}" for number in range(start, start + CHUNK)]
            store.register_many([Registration(job_id, record, body, 60, published=True) for job_id in ids])
            leases = store.begin(ids, Purpose.GENERATE, 60)
            store.write_many([Write(lease, JobState.PENDING, record, 0) for lease in leases])
        yield lab
        store.client.delete(*store.client.scan_iter(store.key("*", "*").replace("{", "\\{")))


@pytest.mark.slow
def test_a_flood_of_ten_thousand_due_jobs_does_not_have_a_lone_job_wait_for_its_end(flooded_lab: Lab) -> None:
    lab = flooded_lab
    first = Order(FLOOD_MODEL, {}).record(b"{}", lab.settings, now=0, delay_s=0)
    assert lane_of(first) != lane_of(first.but(model=MODEL)), "the two models should have lanes of their own"
    with lab.worker(concurrency=2):
        eventually(lambda: lab.sandbox.stats()["requests"].get("query", 0) > 0, "the flood to be polled")
        began = time.monotonic()
        lone = lab.submit({"duration_s": 1, "pending_s": 0})
        lab.ended(lone)
        took_s = time.monotonic() - began
        queries = lab.sandbox.stats()["requests"].get("query", 0)

    assert lab.job(lone).status is JobState.COMPLETED
    assert queries < FLOOD, f"the flood should not have been over by then ({queries} queries)"
    (task,) = lab.remote(lone)
    # behind the flood it would have been many times that
    assert task["seen_end_s"] - task["ended_s"] < lab.settings.poll_max_s * 1.1 + SLACK_S
    assert took_s < 1 + lab.settings.poll_max_s * 1.1 + 2 * SLACK_S
