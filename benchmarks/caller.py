"""
What a call costs the caller: `generate.apply_async` beside `apply_async` of a plain task, turn by turn.

As a module, prints the durations as JSON: ``python -m benchmarks.caller CALLS``.
"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

from benchmarks.report import Report, percentile

if TYPE_CHECKING:
    from benchmarks.rig import Rig

WARM_UP = 50
MODEL, PARAMS = "sora-2-pro", {"prompt": "City skyline at dusk", "duration_seconds": 8}


def measure(rig: Rig, *, calls: int) -> Report:
    """No worker runs: only the caller and Redis."""
    rig.flush()
    found: dict[str, list[float]] = json.loads(rig.run("caller", calls))
    report = Report(
        "caller",
        "What a call costs the caller",
        f"{calls:,} calls of each in turn from one process, same Redis as broker and result backend.",
        ["", "p50", "p99"],
    )
    figures = {name: [percentile(values, share) for share in (0.5, 0.99)] for name, values in found.items()}
    for name, label in (("plain", "plain task: `apply_async`"), ("ours", "`generate.apply_async`")):
        report.rows.append([label, *(f"{value * 1000:.2f} ms" for value in figures[name])])
    ratios = [ours / plain for ours, plain in zip(figures["ours"], figures["plain"], strict=True)]
    report.rows.append(["**ratio**", *(f"{ratio:.2f} x" for ratio in ratios)])
    report.data = {name: {"p50_s": p50, "p99_s": p99} for name, (p50, p99) in figures.items()}
    return report


def main(calls: int) -> None:
    """Call both in turn."""
    from benchmarks import ours, plain  # noqa: PLC0415 - the apps are configured when imported

    generate = ours.app.tasks["tasks_bridge.generate"]
    took: dict[str, list[float]] = {"plain": [], "ours": []}
    for _ in range(WARM_UP + calls):
        began = time.perf_counter()
        plain.note.apply_async(({**PARAMS, "model": MODEL},))
        between = time.perf_counter()
        generate.apply_async((MODEL, PARAMS))
        took["plain"].append(between - began)
        took["ours"].append(time.perf_counter() - between)
    print(json.dumps({name: values[WARM_UP:] for name, values in took.items()}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
