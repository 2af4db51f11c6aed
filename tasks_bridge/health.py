"""
Whether a worker is alive, and whether it can work: for process managers, container engines and Kubernetes.

    python -m tasks_bridge.health live|ready [--file FILE] [--longest-task SECONDS]

A worker with ``TASKS_BRIDGE_HEALTH_FILE`` notes its `Pulse` there every few seconds (`pulse`); the commands read it.
They need the standard library only and start in a twentieth of a second, for they are run all the time.

*live* fails where only a new process helps: the main process is gone or stands still, its alarm thread does, or its
pool takes no more tasks. A Redis that is away is no such case. *ready* fails then too, and while a worker starts or
stops.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

FILE_VARIABLE: Final = "TASKS_BRIDGE_HEALTH_FILE"

PULSE_S: Final = 5.0
"""How often a worker notes its pulse."""

STILL_S: Final = 30.0
"""Longest standstill of the whole process, or of its event loop while the alarm goes on."""

ALARM_S: Final = 120.0
"""Longest turn of the alarm while the event loop goes on: it may wait for a Redis that hangs (`store.patience`)."""

HANG_S: Final = 600.0
"""Longest standstill of both: a broker that hangs, and doesn't close its connection, has them wait for its answer."""

POOL_S: Final = 60.0
"""Longest time for which tasks wait for slots that are free."""

OURS_S: Final = 300.0
"""Longest run of a task of this library: it gives its slot up after a second, but may wait for a Redis that hangs."""

QUESTIONS: Final = ("live", "ready")

EXIT_GOOD, EXIT_BAD, EXIT_UNUSABLE = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Pulse:
    """What a worker says of itself. Moments are on the machine's monotonic clock, which all its processes share."""

    pid: int
    at: float
    """When it was noted, in a thread of its own."""
    is_connected: bool
    """To its broker, and taking messages."""
    loop_at: float
    """When the event loop last had time for its timers."""
    alarm_at: float | None
    """When the alarm last ended a turn; None: this worker has none."""
    has_trouble: bool
    """Whether that turn found no Redis or no broker."""
    stuck_since: float | None
    """Since when tasks wait although slots are free; None: they don't."""
    longest_s: float
    """How long the task that began first has been running."""
    longest_ours_s: float
    """The same of this library's own tasks."""

    def write(self, path: Path) -> None:
        """Replace what *path* holds, as a whole."""
        beside = path.with_name(f"{path.name}.{self.pid}")
        beside.write_text(json.dumps(asdict(self)))
        beside.replace(path)

    @classmethod
    def read(cls, path: Path) -> Pulse:
        """
        What *path* holds.

        Raises:
            OSError: There is no such file.
            ValueError: It holds something else.
        """
        try:
            return cls(**json.loads(path.read_text()))
        except TypeError as error:
            raise ValueError(str(error)) from None


def problems(pulse: Pulse, now: float, question: Literal["live", "ready"], longest_task_s: float | None) -> list[str]:
    """
    What is wrong with a worker.

    Args:
        pulse: Its latest.
        now: On the same clock.
        question: See above.
        longest_task_s: How long a task of the application may run before the worker counts as dead; None: for ever.

    Returns:
        A sentence for each problem; none: the answer is yes.
    """
    found = _standstill(pulse, now)
    if pulse.stuck_since is not None and now - pulse.stuck_since > POOL_S:
        found.append(f"for {now - pulse.stuck_since:.0f} s tasks have been waiting although the pool has free slots")
    if pulse.longest_ours_s > OURS_S:
        found.append(f"a task that polls or submits jobs has been running for {pulse.longest_ours_s:.0f} s")
    if longest_task_s is not None and pulse.longest_s > longest_task_s:
        found.append(f"a task has been running for {pulse.longest_s:.0f} s")
    if question == "ready":
        if not pulse.is_connected:
            found.append("it has no connection to its broker, or is stopping")
        elif pulse.has_trouble or (not found and _hangs_s(pulse, now) > STILL_S):
            found.append("it reaches its Redis or its broker no more, so it wakes no jobs")
    return found


def _standstill(pulse: Pulse, now: float) -> list[str]:
    loop_s, alarm_s, hangs_s = now - pulse.loop_at, now - (pulse.alarm_at or now), _hangs_s(pulse, now)
    if now - pulse.at > STILL_S:
        return [f"the main process has stood still for {now - pulse.at:.0f} s"]
    if not pulse.is_connected:  # while it looks for a lost broker, it has no time for anything else
        return []
    if hangs_s > HANG_S:
        return [f"neither event loop nor alarm have moved for {hangs_s:.0f} s"]
    if hangs_s <= STILL_S and pulse.alarm_at is not None:
        for part, still_s, most_s in (("event loop", loop_s, STILL_S), ("alarm", alarm_s, ALARM_S)):
            if still_s > most_s:
                return [f"the {part} has stood still for {still_s:.0f} s"]
    return []


def _hangs_s(pulse: Pulse, now: float) -> float:
    """For how long nothing that needs the broker has moved."""
    return now - max(pulse.loop_at, pulse.alarm_at or 0.0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer on the terminal; returns the exit status: 0 yes, 1 no, 2 the question can't be asked so."""
    parser = argparse.ArgumentParser(
        prog="python -m tasks_bridge.health",
        description="Whether the worker that notes its pulse in FILE is alive, or ready for work.",
        epilog="Exit status: 0 yes, 1 no (the reason is printed), 2 wrong usage.",
    )
    parser.add_argument("question", choices=QUESTIONS)
    parser.add_argument("--file", type=Path, help=f"default: what {FILE_VARIABLE} says")
    longest = "how long a task of yours may run before the worker counts as dead; default: for ever"
    parser.add_argument("--longest-task", type=float, metavar="SECONDS", help=longest)
    given = parser.parse_args(arguments)
    path = given.file or (Path(os.environ[FILE_VARIABLE]) if os.environ.get(FILE_VARIABLE) else None)
    if path is None:
        print(f"Name the worker's file: --file FILE, or {FILE_VARIABLE} as in the worker", file=sys.stderr)  # noqa: T201
        return EXIT_UNUSABLE
    found = look(path, given.question, given.longest_task)
    print("; ".join(found) or f"{given.question}: yes", file=sys.stderr if found else sys.stdout)
    return EXIT_BAD if found else EXIT_GOOD


def look(path: Path, question: Literal["live", "ready"], longest_task_s: float | None) -> list[str]:
    """What is wrong with the worker whose file *path* is: `problems`, and that there is no such worker."""
    try:
        pulse = Pulse.read(path)
    except FileNotFoundError:
        return [f"no worker is up: there is no file {path}"]
    except (OSError, ValueError) as error:
        return [f"{path} can't be read: {error}"]
    if not _is_running(pulse.pid):
        return [f"the worker's main process, {pulse.pid}, is gone"]
    return problems(pulse, time.monotonic(), question, longest_task_s)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's, but there
        return True
    return True


if __name__ == "__main__":
    sys.exit(main())
