"""What a kill -9 of a whole worker costs: how many jobs are polled again, and how much later."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from benchmarks import peers
from benchmarks.polls import CONTESTANTS, NAMES, PEERS, SETTLE_S, load, start
from benchmarks.report import Report
from benchmarks.rig import wait_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.rig import Rig

ANSWER_S = 3.0
"""How long the stub takes while the worker is killed, so that polls are under way."""


def measure(rig: Rig, *, jobs: int, watch_s: float, names: Sequence[str] = ()) -> Report:
    """Kill each contestant's worker amid polls, start another at once, and watch for so long."""
    report = Report(
        "kills",
        "A kill -9",
        f"{jobs} jobs polled every second, the stub answers after {ANSWER_S:g} s; all processes of a worker are killed "
        f"and another worker is started. Seconds from the kill to the next poll of a job, watched for {watch_s:g} s.",
        ["", "jobs polled again", "not in that time", "first", "median", "last"],
    )
    for name in names or (*CONTESTANTS, *(PEERS if peers.python() else ())):
        back = sorted(_contestant(rig, name, jobs, watch_s))
        times = [f"{back[at]:.1f} s" for at in (0, len(back) // 2, -1)] if back else ["-"] * 3
        report.rows.append([NAMES[name], str(len(back)), str(jobs - len(back)), *times])
        report.data[name] = {"jobs": jobs, "back_s": back}
    return report


def _contestant(rig: Rig, name: str, jobs: int, watch_s: float) -> list[float]:
    load(rig, name, jobs)
    worker = start(rig, name)
    begun = time.time()
    wait_for(lambda: sum(at > begun for at in rig.asked().values()) >= jobs, 60)
    rig.set_delay(ANSWER_S)
    time.sleep(SETTLE_S)
    killed_at = time.time()
    worker.kill()
    rig.set_delay(0)
    # what the dead had sent is counted already, what comes now is the new worker's
    sent = set(rig.asked().items())
    with start(rig, name) as successor:
        back: dict[str, float] = {}
        while len(back) < jobs and time.time() - killed_at < watch_s:
            time.sleep(0.1)
            for job_id, at in rig.asked().items():
                if at > killed_at and (job_id, at) not in sent:
                    back.setdefault(job_id, at - killed_at)
        successor.kill()
    return list(back.values())
