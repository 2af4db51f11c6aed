"""How polls per second rise with the number of workers, until the machine is full; and what is left for a lone job."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from benchmarks import svg
from benchmarks.polls import SETTLE_S, watch
from benchmarks.report import Report, medians
from tasks_bridge.store import RedisStore

if TYPE_CHECKING:
    from benchmarks.rig import Rig

COUNTS = (1, 2, 4)
DELAY_S = 0.05
LONE_MODEL = "veo-3.1"
LONE_JOBS = 5


def measure(rig: Rig, *, jobs: int, rounds: int, seconds: float) -> Report:
    """Workers of one process each; more jobs than they can poll in time."""
    samples: dict[int, list[dict[str, float]]] = {count: [] for count in COUNTS}
    for _ in range(rounds):
        for count in COUNTS:
            rig.flush()
            rig.set_delay(DELAY_S)
            rig.run("load", "ours", jobs, 1)
            lone = rig.run("load", "ours", LONE_JOBS, 1, LONE_MODEL).split()
            with rig.worker("ours", processes=1, workers=count) as worker:
                time.sleep(SETTLE_S)
                began, polls = time.perf_counter(), _polls(rig, lone)
                found = watch(rig, worker, seconds)
                lone_per_s = (_polls(rig, lone) - polls) / LONE_JOBS / (time.perf_counter() - began)
                samples[count].append({**found, "lone_per_s": lone_per_s})
    report = Report(
        "workers",
        "More workers",
        f"{jobs:,} jobs that each want a poll a second, the stub answers after {DELAY_S * 1000:.0f} ms; workers with "
        f"one process each. Beside them {LONE_JOBS} jobs of another model, which want the same. Medians of {rounds} "
        f"rounds of {seconds:g} s.",
        ["workers", "polls/s", "CPU per poll", "cores: workers", "Redis", "stub", "of a job", "of one of the few"],
    )
    middle = {count: medians(found) for count, found in samples.items()}
    for count, found in middle.items():
        cores = [f"{found[name + '_cores']:.2f}" for name in ("worker", "redis", "stub")]
        shares = [f"{per_s:.2f}/s" for per_s in (found["per_s"] / jobs, found["lone_per_s"])]
        report.rows.append([str(count), f"{found['per_s']:,.0f}", f"{found['cpu_ms']:.2f} ms", *cores, *shares])
    report.plots["workers"] = svg.bars(
        "Polls per second",
        "more is better",
        [f"{count} worker{'s' if count > 1 else ''}" for count in COUNTS],
        {"tasks-bridge": [middle[count]["per_s"] for count in COUNTS]},
    )
    report.data = {str(count): found for count, found in samples.items()}
    return report


def _polls(rig: Rig, job_ids: list[str]) -> int:
    """How often they were polled so far, all together."""
    return sum(entry.record.polls for entry in RedisStore(rig.redis).get(job_ids) if entry is not None)
