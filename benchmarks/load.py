"""
Put jobs into Redis quickly; in a process of its own, whose subscriptions to results end with it.

    python -m benchmarks.load {ours,plain} COUNT DELAY_S [MODEL]

Prints the ids. ``ours``: jobs that ByteSpike has accepted and that were polled, due in up to DELAY_S: registered by
`generate.apply_many`, then taken through the same decisions and writes as by a worker. ``plain``: first messages of
`look`.
"""

from __future__ import annotations

import random
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from celery.utils import uuid

from benchmarks.ids import remote_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasks_bridge.store import Lease

PARAMS = {"prompt": "City skyline at dusk", "duration_seconds": 8}
BATCH = 500
POLLS = 3


def load_plain(count: int, delay_s: float) -> list[str]:
    """Publish *count* first polls, which come back every *delay_s* if that is over a second."""
    from benchmarks import plain  # noqa: PLC0415 - each app is configured when imported

    ids = [uuid() for _ in range(count)]
    with plain.app.producer_or_acquire() as producer:
        for job_id in ids:
            args = (f"task-{job_id}", delay_s) if delay_s > 1 else (f"task-{job_id}",)
            plain.look.apply_async(args, task_id=job_id, producer=producer)
    return ids


def load_ours(count: int, delay_s: float, model: str = "sora-2-pro") -> list[str]:
    """Register *count* jobs of *model* and accept them."""
    from benchmarks import ours  # noqa: PLC0415 - each app is configured when imported
    from tasks_bridge.store import Purpose  # noqa: PLC0415

    generate = ours.app.tasks["tasks_bridge.generate"]
    ids = []
    for start in range(0, count, BATCH):
        job_ids = generate.apply_many([(model, PARAMS)] * min(BATCH, count - start))
        leases = ours.bridge.store.begin(job_ids, Purpose.GENERATE, 60)
        accept(ours.bridge, leases, delay_s)
        ids += job_ids
    return ids


def accept(bridge: Any, leases: list[Lease], delay_s: float) -> None:
    """Do to the store and the result backend what a submit and some polls do."""
    from tasks_bridge import RemoteTask, facts, steps  # noqa: PLC0415
    from tasks_bridge.store.base import Write  # noqa: PLC0415

    writes, reports = [], []
    for lease in leases:
        view = steps.View(
            job_id=lease.job_id,
            state=lease.state,
            record=lease.record,
            cancel=None,
            may_be_submitted=False,
            now=lease.now,
            settings=bridge.settings,
            random=0.5,
        )
        task = RemoteTask(
            task_id=remote_id(lease.job_id),
            out_task_id=lease.job_id,
            status="running",
            estimated_credits=12.5,
            estimated_seconds=6,
        )
        step = steps.after_submit(view, task)
        for _ in range(POLLS):
            step = steps.after_query(replace(view, state=step.state, record=step.record), task)
        wait_s = random.uniform(0, delay_s) if delay_s <= 1 else delay_s
        writes.append(Write(lease, step.state, step.record, wait_s))
        reports.append(
            facts.report(lease.job_id, step.state, step.record, token=lease.token, now=lease.now, next_poll_s=wait_s)
        )
    bridge.store.write_many(writes)
    bridge.results.write(reports)


if __name__ == "__main__":
    load: Callable[..., list[str]] = {"ours": load_ours, "plain": load_plain}[sys.argv[1]]
    print("\n".join(load(int(sys.argv[2]), float(sys.argv[3]), *sys.argv[4:])))
