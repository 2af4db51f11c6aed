"""
What a call costs the caller: `generate.apply_async` beside a plain task's `apply_async`, turn by turn; many at once.

As a module, prints the durations as JSON: ``python -m benchmarks.caller CALLS MANY``.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.report import Report, percentile

if TYPE_CHECKING:
    from benchmarks.rig import Rig

WARM_UP = 50
MODEL, PARAMS = "sora-2-pro", {"prompt": "City skyline at dusk", "duration_seconds": 8}
_APP = "import httpx, pydantic; from celery import Celery; Celery(broker='redis://', backend='redis://').backend"
IMPORTS = {
    "celery, httpx and pydantic": "import celery, httpx, pydantic",
    "… and tasks_bridge": "import celery, httpx, pydantic, tasks_bridge",
    "them, and an app make its Redis backend": _APP,
    "… and all that a caller uses of tasks_bridge": f"{_APP}; from tasks_bridge import Job, generate, install",
}


def measure(rig: Rig, *, calls: int, many: int, import_rounds: int) -> Report:
    """No worker runs: only the caller and Redis."""
    rig.flush()
    found: dict[str, Any] = json.loads(rig.run("caller", calls, many))
    report = Report(
        "caller",
        "What a call costs the caller",
        f"{calls:,} calls of each in turn from one process, same Redis as broker and result backend.",
        ["", "p50", "p99"],
    )
    figures = {name: [percentile(found[name], share) for share in (0.5, 0.99)] for name in ("plain", "ours")}
    for name, label in (("plain", "plain task: `apply_async`"), ("ours", "`generate.apply_async`")):
        report.rows.append([label, *(f"{value * 1000:.2f} ms" for value in figures[name])])
    ratios = [ours / plain for ours, plain in zip(figures["ours"], figures["plain"], strict=True)]
    report.rows.append(["**ratio**", *(f"{ratio:.2f} x" for ratio in ratios)])
    for label, name in (("", "many"), (" with a callback each", "many_linked")):
        report.remarks.append(
            f"`generate.apply_many` of {many:,} jobs{label}: {many / found[name]:,.0f} jobs per second."
        )
    imports = _imports(import_rounds)
    report.remarks += [f"CPU time to import {label}: {seconds * 1000:.0f} ms." for label, seconds in imports.items()]
    report.data = {
        **{name: {"p50_s": p50, "p99_s": p99} for name, (p50, p99) in figures.items()},
        "many_per_s": many / found["many"],
        "many_linked_per_s": many / found["many_linked"],
        "imports_s": imports,
    }
    return report


def _imports(rounds: int) -> dict[str, float]:
    """CPU seconds of each import, in interpreters of their own, in turns."""
    took: dict[str, list[float]] = {label: [] for label in IMPORTS}
    for _ in range(rounds):
        for label, code in IMPORTS.items():
            timed = f"import time; began = time.process_time(); {code}; print(time.process_time() - began)"
            done = subprocess.run([sys.executable, "-c", timed], check=True, capture_output=True, text=True)
            took[label].append(float(done.stdout))
    return {label: median(seconds) for label, seconds in took.items()}


def main(calls: int, many: int) -> None:
    """Call both in turn, then many at once."""
    from benchmarks import ours, plain  # noqa: PLC0415 - the apps are configured when imported

    generate = ours.app.tasks["tasks_bridge.generate"]
    took: dict[str, Any] = {"plain": [], "ours": []}
    for _ in range(WARM_UP + calls):
        began = time.perf_counter()
        plain.note.apply_async(({**PARAMS, "model": MODEL},))
        between = time.perf_counter()
        generate.apply_async((MODEL, PARAMS))
        took["plain"].append(between - began)
        took["ours"].append(time.perf_counter() - between)
    took = {name: values[WARM_UP:] for name, values in took.items()}
    for name, options in (("many", {}), ("many_linked", {"link": ours.note.s()})):
        began = time.perf_counter()
        generate.apply_many(((MODEL, PARAMS) for _ in range(many)), **options)
        took[name] = time.perf_counter() - began
    print(json.dumps(took))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
