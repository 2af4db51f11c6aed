"""What waiting costs: worker memory, Redis memory, and the time a worker takes to leave."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from benchmarks.report import Report
from benchmarks.rig import wait_for

if TYPE_CHECKING:
    from benchmarks.rig import Rig

FAR_S = 600
WARM_JOBS = 200


def measure(rig: Rig, *, jobs: int) -> Report:
    """One worker each; jobs come while it runs."""
    rig.set_delay(0)
    found = {"plain": _plain(rig, jobs), "ours": _ours(rig, jobs)}
    report = Report(
        "footprint",
        f"What {jobs:,} waiting jobs cost",
        f"One worker, `-c 2`, warmed up with {WARM_JOBS} jobs, then {jobs:,} jobs whose next poll is {FAR_S} s away.",
        ["", "plain Celery", "tasks-bridge"],
    )
    rows = (
        ("worker memory before (USS of all processes)", "uss_before", "{:.1f} MiB"),
        (f"worker memory with {jobs:,} waiting", "uss_after", "{:.1f} MiB"),
        ("grown per waiting job", "worker_bytes", "{:,.0f} B"),
        ("Redis bytes per waiting job, result entry included", "redis_bytes", "{:,.0f} B"),
        (f"SIGTERM to exit with {jobs:,} waiting", "stop_s", "{:.1f} s"),
    )
    for label, name, form in rows:
        report.rows.append([label, *(form.format(found[contestant][name]) for contestant in ("plain", "ours"))])
    report.data = found
    return report


def _ours(rig: Rig, jobs: int) -> dict[str, float]:
    rig.flush()
    rig.run("load", "ours", WARM_JOBS, 1)
    far = {"TASKS_BRIDGE_POLL_MIN_S": str(FAR_S), "TASKS_BRIDGE_POLL_MAX_S": str(FAR_S)}
    with rig.worker("ours", far) as worker:
        queries = rig.counts()["query"]
        wait_for(lambda: rig.counts()["query"] - queries >= WARM_JOBS // 2, 30)
        time.sleep(2)
        # the worker is offered what is registered while it runs: that it has done before it is weighed
        rig.run("load", "ours", jobs, FAR_S)
        time.sleep(2)
        before, data = worker.memory(), rig.used_memory()
        rig.run("load", "ours", jobs, FAR_S)
        time.sleep(2)
        redis_bytes = (rig.used_memory() - data) / jobs
        after = worker.memory()
        stop_s = worker.stop()
    return _figures(before, after, jobs, redis_bytes, stop_s)


def _plain(rig: Rig, jobs: int) -> dict[str, float]:
    rig.flush()
    with rig.worker("plain") as worker:
        _hold(rig, WARM_JOBS)
        before, data = worker.memory(), rig.used_memory()
        _hold(rig, jobs)
        time.sleep(2)
        redis_bytes = (rig.used_memory() - data) / jobs
        after = worker.memory()
        stop_s = worker.stop()
    return _figures(before, after, jobs, redis_bytes, stop_s)


def _hold(rig: Rig, jobs: int) -> None:
    """Have *jobs* more polled once, and waiting in the worker for the next time."""
    held = int(rig.redis.hlen("unacked"))
    queries = rig.counts()["query"]
    rig.run("load", "plain", jobs, FAR_S)
    wait_for(lambda: rig.counts()["query"] - queries >= jobs and rig.redis.hlen("unacked") >= held + jobs, 600)


def _figures(
    before: dict[str, float], after: dict[str, float], jobs: int, redis_bytes: float, stop_s: float
) -> dict[str, float]:
    return {
        "uss_before": before["uss"],
        "uss_after": after["uss"],
        "pss_before": before["pss"],
        "pss_after": after["pss"],
        "worker_bytes": (after["uss"] - before["uss"]) * 2**20 / jobs,
        "redis_bytes": redis_bytes,
        "stop_s": stop_s,
    }
