"""
A file that lets the tasks survive a restart of the sandbox.

One JSON line per task whenever its course is decided: at submit, and when a cancel changes it. The last line
of a task counts. Faults, counts and deliveries are not kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from tasks_bridge.sandbox.timeline import Task


class Journal:
    """
    Appends tasks to *path* and reads them back.

    A line is written before the answer that it stands for is sent. It is not synced: it survives the death of
    the process, not that of the machine.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, task: Task) -> None:
        """
        Append one task.

        Raises:
            OSError: The file cannot be written.
        """
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(task)) + "\n")

    def read(self) -> Iterator[Task]:
        """
        Yield every task, in the order of the submits.

        Raises:
            ValueError: The file holds something else than tasks, before its last line.
        """
        if not self._path.exists():
            return
        lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True)
        if lines and not lines[-1].endswith("\n"):
            lines.pop()  # written when the process died; its submit was never answered
            self._path.write_text("".join(lines), encoding="utf-8")
        tasks: dict[str, Task] = {}
        for number, line in enumerate(lines, 1):
            try:
                task = Task(**json.loads(line))
            except (TypeError, ValueError) as error:
                raise ValueError(f"{self._path}, line {number}: not a task of this sandbox") from error
            tasks[task.task_id] = task
        yield from tasks.values()

    def clear(self) -> None:
        """
        Forget all tasks.
        """
        self._path.unlink(missing_ok=True)
