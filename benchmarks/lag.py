"""
From the remote end to the start of the callback, at light load.

As a module, starts jobs and returns: ``python -m benchmarks.lag {ours,plain} JOBS PER_S``.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from typing import TYPE_CHECKING

from celery.utils import uuid

from benchmarks.report import Report, percentile
from benchmarks.rig import wait_for

if TYPE_CHECKING:
    from benchmarks.rig import Rig

PER_S = 5.0
DURATIONS_S = (2.0, 8.0)


def measure(rig: Rig, *, jobs: int) -> Report:
    """First one, then the other, with the same countdown of one second."""
    rig.set_delay(0)
    found = {name: _contestant(rig, name, jobs) for name in ("plain", "ours")}
    report = Report(
        "lag",
        "From the remote end to the callback",
        f"{jobs} jobs of {DURATIONS_S[0]:g} to {DURATIONS_S[1]:g} s, {PER_S:g} started per second, polled every "
        "second; one worker, `-c 2`, otherwise idle. The second row leaves out the waiting for the next poll.",
        ["", "plain Celery p50", "p99", "tasks-bridge p50", "p99"],
    )
    for part, label in (("lag", "remote end to callback start"), ("tail", "answer that told of it to callback start")):
        values = [percentile(found[name][part], share) for name in ("plain", "ours") for share in (0.5, 0.99)]
        report.rows.append([label, *(f"{value:.3f} s" for value in values)])
    report.data = {
        name: {
            part: {"p50_s": percentile(values, 0.5), "p99_s": percentile(values, 0.99)}
            for part, values in parts.items()
        }
        for name, parts in found.items()
    }
    return report


def _contestant(rig: Rig, name: str, jobs: int) -> dict[str, list[float]]:
    rig.flush()
    with rig.worker(name) as worker:
        rig.run("lag", name, jobs, PER_S)
        wait_for(lambda: rig.redis.llen("bench:notes") >= jobs, 60)
        worker.stop()
    ends = rig.ends()
    notes = [json.loads(note) for note in rig.redis.lrange("bench:notes", 0, -1)]
    return {
        "lag": [at - ends[job_id][0] for job_id, at in notes],
        "tail": [at - ends[job_id][1] for job_id, at in notes],
    }


def start_ours(params: dict[str, object]) -> None:
    """One job with a callback."""
    from benchmarks import ours  # noqa: PLC0415 - each app is configured when imported

    ours.app.tasks["tasks_bridge.generate"].apply_async(("sora-2-pro", params), link=ours.note.s())


def start_plain(params: dict[str, object]) -> None:
    """One job with a callback; submitted here, which is the shorter way."""
    from benchmarks import plain  # noqa: PLC0415 - each app is configured when imported

    job_id = uuid()
    body = {"model": "sora-2-pro", "params": params, "out_task_id": job_id}
    task = plain.http(os.getpid()).post("/v1/tasks/submit", json=body).raise_for_status().json()
    plain.look.apply_async((task["task_id"],), task_id=job_id, countdown=plain.COUNTDOWN_S, link=plain.note.s())


def main(name: str, jobs: int, per_s: float) -> None:
    """Start the jobs at their pace."""
    start = {"ours": start_ours, "plain": start_plain}[name]
    for _ in range(jobs):
        start({"prompt": "a fox", "bench_s": random.uniform(*DURATIONS_S)})
        time.sleep(1 / per_s)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
