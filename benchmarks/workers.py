"""How polls per second rise with the number of workers, until the machine is full."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from benchmarks import svg
from benchmarks.polls import SETTLE_S, watch
from benchmarks.report import Report, medians

if TYPE_CHECKING:
    from benchmarks.rig import Rig

COUNTS = (1, 2, 4)
DELAY_S = 0.05


def measure(rig: Rig, *, jobs: int, rounds: int, seconds: float) -> Report:
    """Workers of one process each; more jobs than they can poll in time."""
    samples: dict[int, list[dict[str, float]]] = {count: [] for count in COUNTS}
    for _ in range(rounds):
        for count in COUNTS:
            rig.flush()
            rig.set_delay(DELAY_S)
            rig.run("load", "ours", jobs, 1)
            with rig.worker("ours", processes=1, workers=count) as worker:
                time.sleep(SETTLE_S)
                samples[count].append(watch(rig, worker, seconds))
    report = Report(
        "workers",
        "More workers",
        f"{jobs:,} jobs that each want a poll a second, the stub answers after {DELAY_S * 1000:.0f} ms; workers with "
        f"one process each. Medians of {rounds} rounds of {seconds:g} s.",
        ["workers", "polls/s", "CPU per poll", "cores: workers", "Redis", "stub"],
    )
    middle = {count: medians(found) for count, found in samples.items()}
    for count, found in middle.items():
        cores = [f"{found[name + '_cores']:.2f}" for name in ("worker", "redis", "stub")]
        report.rows.append([str(count), f"{found['per_s']:,.0f}", f"{found['cpu_ms']:.2f} ms", *cores])
    report.plots["workers"] = svg.bars(
        "Polls per second",
        "more is better",
        [f"{count} worker{'s' if count > 1 else ''}" for count in COUNTS],
        {"tasks-bridge": [middle[count]["per_s"] for count in COUNTS]},
    )
    report.data = {str(count): found for count, found in samples.items()}
    return report
