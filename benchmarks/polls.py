"""Polls per second of one worker with two processes, and what a poll costs, beside the plain way and the raw client."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from benchmarks import peers, svg
from benchmarks.report import Report, medians, times
from benchmarks.rig import Worker

if TYPE_CHECKING:
    from benchmarks.rig import Rig

DELAYS_S = (0.0, 0.05)
SETTLE_S = 5.0
CONTESTANTS = ("plain", "ours")
PEERS = ("saq", "arq", "huey")
CLIENTS = ("httpx", "client")
NAMES = {
    "plain": "plain Celery: one task per poll, `retry`",
    "saq": "saq: one job per poll",
    "arq": "arq: one job per poll",
    "huey": "huey: one task per poll",
    "ours": "tasks-bridge",
    "httpx": "raw client, one process: httpx on aiohttp",
    "client": "`tasks_bridge.AsyncClient`, one process",
}


def measure(rig: Rig, *, jobs: int, rounds: int, seconds: float) -> Report:
    """Contestants take turns, so that whatever else the machine does hits all of them."""
    samples: dict[tuple[str, float], list[dict[str, float]]] = {}
    there = PEERS if peers.python() else ()
    for _ in range(rounds):
        for name in (*CONTESTANTS, *there):
            for delay_s, sample in _contestant(rig, name, jobs, seconds).items():
                samples.setdefault((name, delay_s), []).append(sample)
        for kind in CLIENTS:
            for delay_s in DELAYS_S:
                rig.set_delay(delay_s)
                sample = json.loads(rig.run("raw", kind, seconds / 2))
                samples.setdefault((kind, delay_s), []).append(sample)
    return _report(samples, jobs, rounds, seconds)


def load(rig: Rig, name: str, jobs: int) -> None:
    """Have *jobs* ready to be polled by the contestant *name*."""
    rig.flush()
    rig.set_delay(0)
    if name in CONTESTANTS:
        rig.run("load", name, jobs, 1)
    else:
        rig.run(f"peers.{name}_app", jobs, python=str(peers.python()))


def start(rig: Rig, name: str) -> Worker:
    """The contestant's worker, with two processes."""
    if name in CONTESTANTS:
        return rig.worker(name)
    return Worker(rig, name, peers.commands(name, str(peers.python())), {})


def _contestant(rig: Rig, name: str, jobs: int, seconds: float) -> dict[float, dict[str, float]]:
    load(rig, name, jobs)
    found = {}
    with start(rig, name) as worker:
        for delay_s in DELAYS_S:
            rig.set_delay(delay_s)
            time.sleep(SETTLE_S)
            found[delay_s] = watch(rig, worker, seconds)
        if name == "ours":
            check(rig, jobs)
    return found


def watch(rig: Rig, worker: Worker, seconds: float) -> dict[str, float]:
    """Count the stub's queries and everybody's CPU seconds for so long."""
    cpu_s, others, polls, began = worker.cpu_s(), rig.others_cpu_s(), rig.counts()["query"], time.perf_counter()
    main_s = sum(worker.processes[0].cpu_times()[:2])
    time.sleep(seconds)
    done, elapsed_s = rig.counts()["query"] - polls, time.perf_counter() - began
    if not done:
        raise RuntimeError(f"No poll in {seconds:g} s: the worker is up, but does nothing")
    others_now = rig.others_cpu_s()
    return {
        "per_s": done / elapsed_s,
        "cpu_ms": (worker.cpu_s() - cpu_s) / done * 1000,
        "main_cores": (sum(worker.processes[0].cpu_times()[:2]) - main_s) / elapsed_s,
        "worker_cores": (worker.cpu_s() - cpu_s) / elapsed_s,
        **{f"{name}_cores": (now - others[name]) / elapsed_s for name, now in others_now.items()},
        "uss_mib": worker.memory()["uss"],
    }


def check(rig: Rig, jobs: int) -> None:
    """Make sure that what was counted was written: every job polled, every result entry up to date."""
    keys = list(rig.redis.scan_iter("celery-task-meta-*", count=1000))
    entries = [json.loads(entry) for entry in rig.redis.mget(keys) if entry is not None]
    polled = [entry for entry in entries if entry["status"] == "RUNNING" and entry["result"]["job"]["polls"] > 0]
    if len(polled) != jobs:
        raise RuntimeError(f"{jobs} jobs should be polled and RUNNING in the result backend, {len(polled)} are")


def _report(samples: dict[tuple[str, float], list[dict[str, float]]], jobs: int, rounds: int, seconds: float) -> Report:
    middle = {key: medians(found) for key, found in samples.items()}
    report = Report(
        "polls",
        "Polls per second, and CPU per poll",
        f"{jobs:,} jobs that each want a poll a second; one worker, `-c 2`; the stub answers after 0 and 50 ms. "
        f"Medians of {rounds} rounds of {seconds:g} s each.",
        ["", "polls/s, 0 ms", "polls/s, 50 ms", "worker CPU per poll, 0 ms", "50 ms"],
    )
    names = {name: label for name, label in NAMES.items() if (name, 0.0) in middle}
    rivals = [name for name in PEERS if name in names]
    for name, label in names.items():
        found = [middle[name, delay_s] for delay_s in DELAYS_S]
        speeds = [f"{figures['per_s']:,.0f}" for figures in found]
        costs = [f"{figures['cpu_ms']:.2f} ms" for figures in found]
        report.rows.append([label, *speeds, *costs])
    others = [("plain", "tasks-bridge : plain Celery"), ("httpx", "tasks-bridge : raw client")]
    others += [(name, f"tasks-bridge : {name}") for name in rivals]
    for other, label in others:
        pairs = [(middle["ours", delay_s], middle[other, delay_s]) for delay_s in DELAYS_S]
        speeds = [times(ours["per_s"], theirs["per_s"]) for ours, theirs in pairs]
        costs = [f"{ours['cpu_ms'] / theirs['cpu_ms']:.2f} x" for ours, theirs in pairs]
        report.rows.append([f"**{label}**", *speeds, *costs])
    for name, label in names.items():
        spans = [_span([sample["per_s"] for sample in samples[name, delay_s]]) for delay_s in DELAYS_S]
        report.remarks.append(f"Slowest to fastest round, {label}: {' and '.join(spans)} polls/s.")
    for name in CONTESTANTS:
        figures = middle[name, 0.0]
        parts = ", ".join(f"{part} {figures[part + '_cores']:.2f}" for part in ("worker", "main", "redis", "stub"))
        report.remarks.append(f"Cores in use at 0 ms, {name}: {parts} (main is part of worker).")
    groups = [f"answers after {delay_s * 1000:.0f} ms" for delay_s in DELAYS_S]
    shown = {name: name for name in names if name not in CLIENTS} | {"plain": "plain Celery", "ours": "tasks-bridge"}
    order = [name for name in names if name not in CLIENTS]
    report.plots["polls"] = svg.bars(
        "Polls per second, one worker on two processes",
        "more is better",
        groups,
        {shown[name]: [middle[name, delay_s]["per_s"] for delay_s in DELAYS_S] for name in order},
    )
    report.plots["polls-cpu"] = svg.bars(
        "CPU time of a poll",
        "ms, less is better",
        groups,
        {
            ({**shown, "httpx": "raw httpx"})[name]: [middle[name, delay_s]["cpu_ms"] for delay_s in DELAYS_S]
            for name in [*order, "httpx"]
        },
    )
    if not rivals:
        report.remarks.append("Other task queues were left out: `make bench-peers` sets them up.")
    report.data = {f"{name}, {delay_s:g} s": found for (name, delay_s), found in samples.items()}
    return report


def _span(values: list[float]) -> str:
    return f"{min(values):,.0f} to {max(values):,.0f}"
