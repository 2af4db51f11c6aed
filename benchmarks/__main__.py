"""
Measure speed and size, and write down what was found.

    python -m benchmarks [NAME …] [--quick] [--out DIRECTORY]

Without a name, all of them. Each writes ``<name>.json`` with every single figure, ``<name>.md`` with its table, and
its plots.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import caller, endurance, footprint, kills, lag, polls, waiting, workers
from benchmarks.rig import Rig, dump

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.report import Report

FULL: dict[str, Callable[[Rig], Report]] = {
    "caller": lambda rig: caller.measure(rig, calls=3000, many=100_000, import_rounds=7),
    "polls": lambda rig: polls.measure(rig, jobs=3000, rounds=3, seconds=6),
    "lag": lambda rig: lag.measure(rig, jobs=150),
    "footprint": lambda rig: footprint.measure(rig, jobs=20_000),
    "workers": lambda rig: workers.measure(rig, jobs=6000, rounds=3, seconds=6),
    "waiting": lambda rig: waiting.measure(rig, sizes=(1000, 10_000, 100_000, 1_000_000)),
    "endurance": lambda rig: endurance.measure(rig, jobs=2500, polls=500_000),
    "kills": lambda rig: kills.measure(rig, jobs=100, watch_s=330),
}
QUICK: dict[str, Callable[[Rig], Report]] = {
    "caller": lambda rig: caller.measure(rig, calls=300, many=1000, import_rounds=1),
    "polls": lambda rig: polls.measure(rig, jobs=3000, rounds=1, seconds=4),
    "lag": lambda rig: lag.measure(rig, jobs=30),
    "footprint": lambda rig: footprint.measure(rig, jobs=2000),
    "workers": lambda rig: workers.measure(rig, jobs=3000, rounds=1, seconds=4),
    "waiting": lambda rig: waiting.measure(rig, sizes=(1000, 20_000)),
    "endurance": lambda rig: endurance.measure(rig, jobs=500, polls=3000),
    "kills": lambda rig: kills.measure(rig, jobs=20, watch_s=30),
}


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure speed and size.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(FULL)}; default: all")
    parser.add_argument("--quick", action="store_true", help="a fraction of the work, to see that it works")
    parser.add_argument("--out", type=Path, default=Path(".cache/bench"), help="where the reports go (%(default)s)")
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(FULL)):
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(FULL)}")
    options.out.mkdir(parents=True, exist_ok=True)
    for name, measure in (QUICK if options.quick else FULL).items():
        if options.names and name not in options.names:
            continue
        began = time.monotonic()
        with Rig() as rig:
            report = measure(rig)
            machine = describe_machine(rig)
        dump(options.out / f"{name}.json", {"machine": machine, "quick": options.quick, **report.data})
        (options.out / f"{name}.md").write_text(report.markdown())
        for plot, content in report.plots.items():
            (options.out / f"{plot}.svg").write_text(content)
        print(f"{report.markdown()}\n({time.monotonic() - began:.0f} s; {', '.join(machine.values())})\n", flush=True)


def describe_machine(rig: Rig) -> dict[str, str]:
    """What the figures depend on."""
    return {
        "cores": f"{os.cpu_count()} cores",
        "load": f"load {os.getloadavg()[0]:.1f} at the end",
        "python": f"Python {platform.python_version()}",
        **{name: f"{name} {version(name)}" for name in ("celery", "kombu", "redis", "httpx", "aiohttp")},
        "server": f"{rig.redis_version} server",
    }


if __name__ == "__main__":
    main()
