"""The verdict and the figures as a table and as JSON. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from soak.books import Verdict


@dataclass(frozen=True, slots=True)
class Figures:
    """What the run itself counted."""

    command: str
    jobs: int
    flows: int
    weather: Mapping[str, int]
    """How often each thing went wrong."""
    worker_starts: int
    calls_repeated: int
    """How often the caller had to repeat `apply_async` or `cancel`, because Redis was away."""
    api: Mapping[str, Any]
    """The sandbox's statistics."""
    used: float
    chaos_s: float
    settled_s: float
    """From the end of the chaos to the end of the last job and callback."""
    wall_s: float


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least *share* of *values* do not exceed; 0 if there are none."""
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)] if ordered else 0.0


def as_json(figures: Figures, verdict: Verdict) -> dict[str, Any]:
    """Everything."""
    requests = figures.api["requests"]
    return {
        "good": verdict.is_good,
        "command": figures.command,
        "jobs": figures.jobs,
        "flows": figures.flows,
        "ends": [
            {"course": course, "state": state, "jobs": count} for (course, state), count in sorted(verdict.ends.items())
        ],
        "refused_for_cost": verdict.refused_for_cost,
        "weather": dict(figures.weather),
        "worker_starts": figures.worker_starts,
        "calls_repeated": figures.calls_repeated,
        "submits": requests.get("submit", 0),
        "duplicate_submits": figures.api["duplicate_submits"],
        "queries": requests.get("query", 0),
        "cancels": requests.get("cancel", 0),
        "remote_tasks": figures.api["tasks"],
        "faults": figures.api["faults"],
        "callbacks": verdict.callbacks,
        "doubles": verdict.doubles,
        "suppressed": verdict.suppressed,
        "cut_off": verdict.cut_off,
        "dropped_by_broker": verdict.dropped,
        "recovery_p50_s": round(percentile(verdict.recoveries_s, 0.5), 3),
        "recovery_p99_s": round(percentile(verdict.recoveries_s, 0.99), 3),
        "recovery_worst_s": round(percentile(verdict.recoveries_s, 1), 3),
        "credits_used": figures.used,
        "chaos_s": round(figures.chaos_s, 1),
        "settled_s": round(figures.settled_s, 1),
        "wall_s": round(figures.wall_s, 1),
        "problems": verdict.problems,
    }


def table(facts: Mapping[str, Any]) -> str:
    """Markdown, from what `as_json` gives."""
    states: Counter[str] = Counter()
    for row in facts["ends"]:
        states[row["state"]] += row["jobs"]
    lag = ", ".join(
        f"{name} {facts[f'recovery_{key}_s']:.1f} s"
        for name, key in (("median", "p50"), ("p99", "p99"), ("worst", "worst"))
    )
    rows = [
        ("jobs", f"{facts['jobs']} in {facts['flows']} calls (single jobs, chains, chords)"),
        *((f"… {state}", str(count)) for state, count in sorted(states.items())),
        *((("refused for what they would cost", str(count)),) if (count := facts["refused_for_cost"]) else ()),
        *((name, str(count)) for name, count in sorted(facts["weather"].items())),
        ("requests spoilt by a fault", str(sum(facts["faults"].values()))),
        ("workers started", str(facts["worker_starts"])),
        ("calls repeated by the caller", str(facts["calls_repeated"])),
        ("remote tasks", str(facts["remote_tasks"])),
        ("submits", f"{facts['submits']}, {facts['duplicate_submits']} of them answered with the task that was there"),
        ("queries", f"{facts['queries']}"),
        ("cancels", f"{facts['cancels']}"),
        ("callbacks due", str(facts["callbacks"])),
        ("callbacks lost by the broker", str(len(facts["dropped_by_broker"]))),
        ("doubles of callbacks", f"{facts['doubles']}, {facts['suppressed']} of them suppressed by `once`"),
        ("bodies under `once` cut off and run again", str(facts["cut_off"])),
        ("credits booked", f"{facts['credits_used']:.2f}, as charged"),
        ("remote end to callback", lag),
        ("chaos", f"{facts['chaos_s']:.0f} s"),
        ("after it, until the last job and callback", f"{facts['settled_s']:.0f} s"),
        ("wall time", f"{facts['wall_s']:.0f} s"),
    ]
    if not facts["good"]:
        rows = [row if row[0] != "credits booked" else (row[0], f"{facts['credits_used']:.2f}") for row in rows]
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])
