"""
What waiting jobs cost, from a thousand to a million of them: memory, claims, ticks, workers, readers.

As a module, copies one job that was submitted and polled until there are COUNT more, in a process of its own:
``python -m benchmarks.waiting COUNT``; the memory of a worker is not that of who fills Redis.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from celery.utils import uuid

from benchmarks import svg
from benchmarks.ids import remote_id
from benchmarks.report import Report

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.rig import Rig

FAR_S = 3600.0
"""The first of them is due long after the measurement."""

CHUNK = 1000
CLAIM = 100
PAGE = 500
REPEAT = 200


def measure(rig: Rig, *, sizes: Sequence[int]) -> Report:
    """Grow from one size to the next, and look at each."""
    rig.flush()
    rig.set_delay(0)
    rig.run("load", "ours", 1, FAR_S)  # whatever there is one of
    base, there = rig.used_memory(), 1
    found = []
    for size in sizes:
        rig.run("waiting", size - there)
        there = size
        found.append({"jobs": size, "bytes": (rig.used_memory() - base) / size, **_look(rig)})
    report = Report(
        "waiting",
        f"From {sizes[0]:,} to {sizes[-1]:,} waiting jobs",
        "Jobs that were submitted and polled three times, next poll in an hour or more; one worker, `-c 2`. Times are "
        f"medians, as a client sees them; a claim takes {CLAIM} jobs, a page has {PAGE}.",
        ["waiting jobs", *(f"{size:,}" for size in sizes)],
    )
    for label, name, form in (
        ("Redis bytes per job, result entry included", "bytes", "{:,.0f} B"),
        (f"claim of {CLAIM}", "claim_s", "{:.2f} ms"),
        ("tick with nothing due", "tick_s", "{:.2f} ms"),
        ("`Job.status`", "status_s", "{:.2f} ms"),
        (f"`statuses` of {PAGE}", "page_s", "{:.1f} ms"),
        ("worker: start to ready", "start_s", "{:.1f} s"),
        ("worker: memory (USS)", "uss_mib", "{:.1f} MiB"),
        ("worker: SIGTERM to exit", "stop_s", "{:.1f} s"),
    ):
        scale = 1000 if form.endswith("ms") else 1
        report.rows.append([label, *(form.format(figures[name] * scale) for figures in found)])
    x = [float(size) for size in sizes]
    report.plots["waiting-times"] = svg.lines(
        "Time to claim, look and read",
        "ms",
        "waiting jobs",
        x,
        {
            label: [figures[name] * 1000 for figures in found]
            for label, name in (
                (f"claim of {CLAIM}", "claim_s"),
                ("tick", "tick_s"),
                ("Job.status", "status_s"),
                (f"page of {PAGE}", "page_s"),
            )
        },
        log=True,
    )
    report.plots["waiting-memory"] = svg.lines(
        "Redis bytes per waiting job, and worker memory in KiB",
        "flat is good",
        "waiting jobs",
        x,
        {
            "bytes per job": [figures["bytes"] for figures in found],
            "worker, 100 KiB": [figures["uss_mib"] * 10.24 for figures in found],
        },
        log=True,
    )
    report.data = {"sizes": found}
    return report


def _look(rig: Rig) -> dict[str, float]:
    store, ids = _store(rig)
    found = {
        "tick_s": _timed(store.next_due_s),
        "status_s": _timed(lambda: store.get([random.choice(ids)])),
        "page_s": _timed(lambda: store.get(ids)),
        "claim_s": _timed_claims(store, ids),
    }
    began = time.perf_counter()
    with rig.worker("ours") as worker:
        found["start_s"] = time.perf_counter() - began
        time.sleep(3)
        found["uss_mib"] = worker.memory()["uss"]
        found["stop_s"] = worker.stop()
    return found


def _store(rig: Rig) -> tuple[Any, list[str]]:
    """The jobs' store, and the ids of a page of them, taken at random."""
    from tasks_bridge.store import RedisStore  # noqa: PLC0415

    store = RedisStore(rig.redis)
    prefix = store.key("job", "")
    ids: set[str] = set()
    while len(ids) < PAGE:
        key = rig.redis.randomkey()
        if key is not None and key.decode().startswith(prefix):
            ids.add(key.decode().removeprefix(prefix))
    return store, sorted(ids)


def _timed(call: Callable[[], object]) -> float:
    took = []
    for _ in range(REPEAT):
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
    return median(took[REPEAT // 10 :])


def _timed_claims(store: Any, ids: list[str]) -> float:
    took = []
    for start in range(0, PAGE, CLAIM):
        store.touch(ids[start : start + CLAIM])
        began = time.perf_counter()
        claims = store.claim(CLAIM, 15)
        took.append(time.perf_counter() - began)
        if len(claims) != CLAIM:
            raise RuntimeError(f"{CLAIM} jobs should have been due, {len(claims)} were")
    _put_off(store, ids)
    return median(took)


def _put_off(store: Any, ids: list[str]) -> None:
    """Give what was claimed its countdown back, as a poll would."""
    from tasks_bridge.store import Purpose  # noqa: PLC0415
    from tasks_bridge.store.base import Write  # noqa: PLC0415

    leases = store.begin(ids, Purpose.POLL, 15)
    store.write_many([Write(lease, lease.state, lease.record, FAR_S) for lease in leases])


def fill(count: int) -> None:
    """Copy the one job that is there *count* times, under ids of their own."""
    from benchmarks import ours  # noqa: PLC0415 - configured when imported
    from tasks_bridge.record import RECORD_VERSION  # noqa: PLC0415
    from tasks_bridge.store.base import lane_of  # noqa: PLC0415
    from tasks_bridge.store.packed import pack  # noqa: PLC0415

    store, client = ours.bridge.store, ours.bridge.store.client
    backend: Any = ours.app.backend
    script = store.script((Path(__file__).parent / "fill.lua").read_text())
    prefix = store.key("", "").removesuffix(":")
    key = next(client.scan_iter("celery-task-meta-*", count=CHUNK))
    one = key.decode().removeprefix("celery-task-meta-")
    (entry,) = store.get([one])
    record, result = entry.record.to_json(), client.get(key).decode()
    for start in range(0, count, CHUNK):
        arguments: list[Any] = ["", prefix, RECORD_VERSION, lane_of(entry.record)]
        for _ in range(min(CHUNK, count - start)):
            job_id = uuid()
            mine = [text.replace(remote_id(one), remote_id(job_id)).replace(one, job_id) for text in (record, result)]
            due_s = FAR_S * (1 + random.random())
            arguments += (job_id, pack(mine[0], job_id), due_s, backend.get_key_for_task(job_id), mine[1])
        script(keys=[prefix + "due"], args=arguments)


if __name__ == "__main__":
    fill(int(sys.argv[1]))
