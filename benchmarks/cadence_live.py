"""
The same as in the simulation, by real workers against the sandbox, whose time is made to go faster; and with callbacks.

As a module, starts jobs at their times: ``python -m benchmarks.cadence_live FILE``.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, make_server

from celery.utils import uuid

from benchmarks.replay import Replay
from benchmarks.report import Report, percentile
from benchmarks.rig import Rig, wait_for
from benchmarks.scenarios import HUMPS, TIGHT, USUAL, Job, LogNormal, Truth
from tasks_bridge.knowledge import Pace
from tasks_bridge.sandbox import SandboxServer

SPEED: Final = 5.0
"""How many times faster than life, in everything: durations, estimates, bounds of countdowns, the cost of a poll."""
WARM_UP, MEASURED = 200, 200
GAP_S: Final = 0.6
"""Mean time between the beginnings of two jobs of a service."""
SERVICES: Final[Mapping[str, tuple[str, Truth]]] = {
    "sora-2": ("tight, 5 %", TIGHT),
    "sora-2-pro": ("wide, 35 %", USUAL),
    "veo-3.1": ("two humps: 45 and 150 s", HUMPS),
}
"""By the model that stands for it."""
ESTIMATE_S: Final = 105.0

PACE: Final = Pace(poll_min_s=2.0 / SPEED, poll_max_s=120.0 / SPEED, poll_cost_s=1.0 / SPEED, callback_poll_factor=4.0)

SIMULATIONS: Final = 5
"""With other chance in the jitter, to see how far it goes."""
AGREES: Final = 0.1
"""The product's means may leave the range of the simulations' by so much."""
LATE_S: Final = 0.15
"""And its looks come so much later, for the simulation knows no network, no Redis and no busy machine."""

CALLED: Final = LogNormal(60, 0.35)
CALLED_JOBS: Final = 150
CALLED_LAG_S: Final = 0.5
CALLED_POLLS: Final = 2.0
SECRET_KEY: Final = "callbacks of the benchmark are signed with this"


@dataclass
class Live:
    """What was found."""

    report: Report
    data: dict[str, Any] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Seen:
    """One job."""

    lag_s: float
    """From the remote end to the start of the callback task; in the simulation to the look."""
    polls: int


def measure() -> Live:
    """All services at once, each a model of its own; then one with callbacks."""
    live = Live(
        Report(
            "live",
            "Simulation and product",
            f"The last {MEASURED} of {WARM_UP + MEASURED} jobs of each service, {SPEED:g} times faster than life: real "
            "workers (`-c 2`) and the sandbox, and simulations with the same jobs. Lag is from the remote end to the "
            "start of the callback task, in real seconds.",
            ["service", "polls, product", "simulation", "mean lag, product", "simulation", "p50", "p99"],
        )
    )
    with Rig() as rig, SandboxServer(speed=SPEED) as sandbox:
        rig.stub_url = sandbox.url
        _without_callbacks(rig, sandbox, live)
        _with_callbacks(rig, sandbox, live)
    return live


def _without_callbacks(rig: Rig, sandbox: SandboxServer, live: Live) -> None:
    random = Random(7)
    plans: dict[str, list[tuple[float, Job]]] = {}
    for model, (_, truth) in SERVICES.items():
        at, plans[model] = 0.0, []
        for _ in range(WARM_UP + MEASURED):
            at += random.expovariate(1 / GAP_S)
            plans[model].append((at, Job(ESTIMATE_S, truth.quantile(random.random()), 0)))
    with rig.worker("ours", _settings()):
        seen = _run(rig, sandbox, plans)
    for model, (name, _) in SERVICES.items():
        product = seen[model][WARM_UP:]
        runs = [_simulate(plans[model], seed)[WARM_UP:] for seed in range(SIMULATIONS)]
        polls, lag_s = _means(product)
        simulated_polls, simulated_lag_s = zip(*map(_means, runs), strict=True)
        lags = [one.lag_s for one in product]
        p50_s, p99_s = percentile(lags, 0.5), percentile(lags, 0.99)
        row = [name, f"{polls:.2f}", _range(simulated_polls), f"{lag_s:.2f} s", f"{_range(simulated_lag_s)} s"]
        live.report.rows.append([*row, f"{p50_s:.2f} s", f"{p99_s:.2f} s"])
        live.data[name] = {
            "polls": polls,
            "polls_simulated": simulated_polls,
            "lag_s": lag_s,
            "lag_simulated_s": simulated_lag_s,
            "lag_p50_s": p50_s,
            "lag_p99_s": p99_s,
        }
        if not (1 - AGREES) * min(simulated_polls) <= polls <= (1 + AGREES) * max(simulated_polls):
            live.broken.append(f"{name}: {polls:.2f} polls, but {_range(simulated_polls)} in the simulation")
        most_s = (1 + AGREES) * max(simulated_lag_s) + LATE_S
        if not (1 - AGREES) * min(simulated_lag_s) <= lag_s <= most_s:
            live.broken.append(f"{name}: {lag_s:.2f} s of lag, but {_range(simulated_lag_s)} s in the simulation")


def _means(seen: Sequence[Seen]) -> tuple[float, float]:
    return fmean(one.polls for one in seen), fmean(one.lag_s for one in seen)


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}"


def _with_callbacks(rig: Rig, sandbox: SandboxServer, live: Live) -> None:
    random, at, plan = Random(8), 0.0, []
    for _ in range(CALLED_JOBS):
        at += random.expovariate(1 / GAP_S)
        plan.append((at, Job(60.0, CALLED.quantile(random.random()), 0)))
    rig.flush()
    with _callback_view(rig) as address:
        called = {"TASKS_BRIDGE_CALLBACK_BASE_URL": address, "TASKS_BRIDGE_SECRET_KEY": SECRET_KEY}
        with rig.worker("ours", _settings() | called):
            seen = _run(rig, sandbox, {"seedance-fast": plan}, called)["seedance-fast"]
    lags, polls = [one.lag_s for one in seen], [one.polls for one in seen]
    p50_s, p99_s = percentile(lags, 0.5), percentile(lags, 0.99)
    live.report.remarks.append(
        f"With callbacks, {CALLED_JOBS} jobs of about 12 s, the model's first among them: lag p50 {p50_s:.3f} s, p99 "
        f"{p99_s:.3f} s; {fmean(polls):.2f} polls per job, at most {max(polls)}."
    )
    live.data["with callbacks"] = {
        "lag_p50_s": p50_s, "lag_p99_s": p99_s, "polls": fmean(polls), "most_polls": max(polls)
    }  # fmt: skip
    if p99_s > CALLED_LAG_S:
        live.broken.append(f"with callbacks: p99 of the lag is {p99_s:.3f} s, above {CALLED_LAG_S:g}")
    if fmean(polls) > CALLED_POLLS:
        live.broken.append(f"with callbacks: {fmean(polls):.2f} polls per job, above {CALLED_POLLS:g}")


def _settings() -> dict[str, str]:
    return {
        "TASKS_BRIDGE_POLL_MIN_S": str(PACE.poll_min_s),
        "TASKS_BRIDGE_POLL_MAX_S": str(PACE.poll_max_s),
        "TASKS_BRIDGE_POLL_COST_S": str(PACE.poll_cost_s),
    }


def _run(
    rig: Rig,
    sandbox: SandboxServer,
    plans: Mapping[str, Sequence[tuple[float, Job]]],
    settings: Mapping[str, str] | None = None,
) -> dict[str, list[Seen]]:
    """Have the jobs run, and say how each went; by model, in the order of the plans."""
    ids = {model: [uuid() for _ in plan] for model, plan in plans.items()}
    orders = sorted(
        (
            at,
            job_id,
            model,
            {"prompt": "a fox", "sandbox": {"duration_s": job.duration_s, "estimate_s": job.estimate_s}},
        )
        for model, plan in plans.items()
        for (at, job), job_id in zip(plan, ids[model], strict=True)
    )
    file = rig.directory / "orders.json"
    file.write_text(json.dumps({"settings": settings or {}, "orders": orders}))
    rig.redis.delete("bench:notes")
    rig.run("cadence_live", file)
    wait_for(lambda: rig.redis.llen("bench:notes") >= len(orders), 120)
    notes = dict(json.loads(note) for note in rig.redis.lrange("bench:notes", 0, -1))
    tasks = {task["out_task_id"]: task for task in sandbox.tasks()}
    return {
        model: [Seen(notes[job_id] - tasks[job_id]["ended_s"], tasks[job_id]["queries"]) for job_id in of_model]
        for model, of_model in ids.items()
    }


def _params(job: Job) -> dict[str, Any]:
    return {"prompt": "a fox", "sandbox": {"duration_s": job.duration_s, "estimate_s": job.estimate_s}}


def _simulate(plan: Sequence[tuple[float, Job]], seed: int) -> list[Seen]:
    jobs = [Job(round(job.estimate_s / SPEED), job.duration_s / SPEED, 0) for _, job in plan]
    found = Replay(PACE, Random(seed)).run(jobs, [at for at, _ in plan])
    return [Seen(one.lag_s, one.polls) for one in found]


@contextmanager
def _callback_view(rig: Rig) -> Iterator[str]:
    """A web server with the view that an application has; gives its address."""
    from celery import Celery  # noqa: PLC0415 - an app of the harness' own

    from tasks_bridge import Settings, install  # noqa: PLC0415
    from tasks_bridge.callbacks import receive  # noqa: PLC0415

    environment = rig.environment
    app = Celery("view", set_as_current=False)
    settings = Settings(
        redis_url=environment["TASKS_BRIDGE_REDIS_URL"],  # type: ignore[arg-type]
        secret_key=SECRET_KEY,  # type: ignore[arg-type]
        poll_min_s=PACE.poll_min_s,
        poll_max_s=PACE.poll_max_s,
    )
    install(app, settings)

    def view(request: dict[str, Any], start_response: Any) -> list[bytes]:
        receive(request["PATH_INFO"].rpartition("/")[2], app=app)
        start_response("204 No Content", [])
        return []

    class Quiet(WSGIRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with make_server("127.0.0.1", 0, view, handler_class=Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/bytespike"
        server.shutdown()


def main(file: str) -> None:
    """Start each job at its time."""
    told = json.loads(Path(file).read_text())
    os.environ.update(told["settings"])
    from benchmarks import ours  # noqa: PLC0415 - configured when imported

    generate = ours.app.tasks["tasks_bridge.generate"]
    began = time.monotonic()
    for at, job_id, model, params in told["orders"]:
        time.sleep(max(began + at - time.monotonic(), 0.0))
        generate.apply_async((model, params), task_id=job_id, link=ours.note.s())


if __name__ == "__main__":
    main(sys.argv[1])
