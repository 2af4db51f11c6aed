"""An hour's worth of polling in minutes: memory, connections, open files and lateness, from first to last."""

from __future__ import annotations

import time
from itertools import pairwise
from statistics import mean
from typing import TYPE_CHECKING

from benchmarks import svg
from benchmarks.polls import SETTLE_S
from benchmarks.report import Report
from tasks_bridge.store import RedisStore

if TYPE_CHECKING:
    from benchmarks.rig import Rig, Worker

EVERY_S = 5.0


def measure(rig: Rig, *, jobs: int, polls: int) -> Report:
    """Poll the same jobs until there were so many polls."""
    rig.flush()
    rig.set_delay(0.01)
    rig.run("load", "ours", jobs, 1)
    store = RedisStore(rig.redis)
    samples: list[dict[str, float]] = []
    with rig.worker("ours") as worker:
        time.sleep(SETTLE_S)
        first, began = rig.counts()["query"], time.perf_counter()
        while (done := rig.counts()["query"] - first) < polls:
            samples.append({"polls": done, "s": time.perf_counter() - began, **_sample(rig, worker, store)})
            time.sleep(EVERY_S)
            if not worker.is_alive():
                raise RuntimeError("The worker ended")
        samples.append({"polls": done, "s": time.perf_counter() - began, **_sample(rig, worker, store)})
    return _report(samples, jobs)


def _sample(rig: Rig, worker: Worker, store: RedisStore) -> dict[str, float]:
    late = []
    for _ in range(10):
        late.append(max(-(store.next_due_s() or 0.0), 0.0))
        time.sleep(0.05)
    return {
        "uss_mib": worker.memory()["uss"],
        "redis_mib": rig.used_memory() / 2**20,
        "redis_clients": float(rig.redis.info("clients")["connected_clients"]),
        "files": float(sum(process.num_fds() for process in worker.processes)),
        "threads": float(sum(process.num_threads() for process in worker.processes)),
        "late_s": mean(late),
    }


def _report(samples: list[dict[str, float]], jobs: int) -> Report:
    quarter = max(len(samples) // 4, 1)
    last = samples[-1]
    report = Report(
        "endurance",
        f"{last['polls']:,.0f} polls in a row",
        f"{jobs:,} jobs that each want a poll a second, one worker, `-c 2`, the stub answers after 10 ms, "
        f"{last['s']:.0f} s. Means of the first and the last quarter of {len(samples)} samples.",
        ["", "first quarter", "last quarter", "highest"],
    )
    for label, name, form in (
        ("worker memory (USS)", "uss_mib", "{:.1f} MiB"),
        ("Redis memory", "redis_mib", "{:.1f} MiB"),
        ("connections to Redis", "redis_clients", "{:.0f}"),
        ("open files of the worker", "files", "{:.0f}"),
        ("threads of the worker", "threads", "{:.0f}"),
        ("lateness of the earliest due job", "late_s", "{:.3f} s"),
    ):
        values = [sample[name] for sample in samples]
        shown = (mean(values[:quarter]), mean(values[-quarter:]), max(values))
        report.rows.append([label, *(form.format(value) for value in shown)])
    rates = [(b["polls"] - a["polls"]) / (b["s"] - a["s"]) for a, b in pairwise(samples)]
    shown = (mean(rates[:quarter]), mean(rates[-quarter:]), max(rates))
    report.rows.append(["polls per second", *(f"{value:,.0f}" for value in shown)])
    report.plots["endurance"] = svg.lines(
        "Memory while polling",
        "MiB",
        "polls",
        [sample["polls"] for sample in samples],
        {"worker": [sample["uss_mib"] for sample in samples], "Redis": [sample["redis_mib"] for sample in samples]},
        log=False,
    )
    report.data = {"samples": samples}
    return report
