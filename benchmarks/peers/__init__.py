"""
Other task queues at the same work, in an environment of their own, because they want other versions of redis-py.

``make bench-peers`` sets it up; without it, the bench leaves them out.
"""

from __future__ import annotations

import os
from pathlib import Path

PROCESSES = 2
THREADS = 50
"""Of each process of huey, which waits in threads."""

ROOT = Path(__file__).parents[2]


def python() -> str | None:
    """The interpreter of that environment, None if there is none."""
    named = os.environ.get("BENCH_PEERS_PYTHON", str(ROOT / ".cache" / "bench-peers" / "bin" / "python"))
    return named if Path(named).exists() else None


def commands(name: str, interpreter: str) -> list[list[str]]:
    """What starts the worker of the peer *name*, each command one process."""
    app = f"benchmarks.peers.{name}_app"
    arguments = {
        "saq": ["saq", f"{app}.settings"],
        "arq": ["arq", f"{app}.WorkerSettings"],
        "huey": [
            "huey.bin.huey_consumer",
            f"{app}.huey",
            "-k",
            "thread",
            "-w",
            str(THREADS),
            "-d",
            "0.01",
            "-m",
            "0.05",
        ],
    }[name]
    return [[interpreter, "-m", *arguments]] * PROCESSES
