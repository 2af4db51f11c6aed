"""
Evidence of callbacks in a file, one line each: nothing that the chaos breaks is needed to write it.

A line is one ``write`` to a file opened for appending, so that lines of several processes don't mix and none that was
written is lost with its process.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class Notebook:
    """Appends to *path*, from any process."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(self, what: str, call: str, **facts: Any) -> None:
        """One line."""
        line = json.dumps({"what": what, "call": call, "at": time.time(), "pid": os.getpid(), **facts})
        os.write(self._file, line.encode() + b"\n")


@dataclass(slots=True)
class Delivery:
    """One time that a callback's message reached a worker. Times are seconds since the epoch."""

    call: str
    came_at: float
    ran_at: float | None = None
    """When its body ran; None: it was dropped as a double, or cut off before."""
    done_at: float | None = None
    """When its work was done, with `once` having remembered it; None: it was cut off."""


def read_notes(path: Path) -> Iterator[dict[str, Any]]:
    """The lines so far; one that is just being written comes the next time."""
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n"):
                yield json.loads(line)


def deliveries(notes: Iterable[dict[str, Any]]) -> dict[str, list[Delivery]]:
    """The deliveries of each callback by its name, in order."""
    runs: dict[str, Delivery] = {}
    found: dict[str, list[Delivery]] = {}
    for note in notes:
        match note["what"]:
            case "came":
                runs[note["run"]] = Delivery(note["call"], note["at"])
                found.setdefault(note["call"], []).append(runs[note["run"]])
            case "ran":
                runs[note["run"]].ran_at = note["at"]
            case "done":
                runs[note["run"]].done_at = note["at"]
    return found


def publications(notes: Iterable[dict[str, Any]]) -> dict[str, list[float]]:
    """When each callback was published, by its name."""
    found: dict[str, list[float]] = {}
    for note in notes:
        if note["what"] == "published":
            found.setdefault(note["call"], []).append(note["at"])
    return found
