"""Jobs as they go: bars on a terminal, elsewhere one line for each change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tasks_bridge import facts
from tasks_bridge.record import JobState
from tasks_bridge.store import Entry

STYLES: Final = {
    JobState.QUEUED: "dim",
    JobState.PENDING: "cyan",
    JobState.RUNNING: "blue",
    JobState.COMPLETED: "green",
    JobState.FAILED: "red",
    JobState.CANCELLED: "yellow",
    JobState.EXPIRED: "red",
}

_BAR_WIDTH: Final = 20
_NAME_WIDTH: Final = 36
"""Enough for a UUID."""


@dataclass(frozen=True, slots=True)
class JobLine:
    """One job at one moment, as people see it."""

    name: str
    state: JobState
    progress: float
    polls: int
    note: str
    """What is worth knowing beside the state: the time left, why it failed, what it cost."""


def line_of(entry: Entry, name: str | None = None) -> JobLine:
    """What to show of *entry*, under *name* in place of its id."""
    return JobLine(
        name or entry.job_id,
        entry.state,
        facts.progress(entry.state, entry.record, entry.now),
        entry.record.polls,
        _note(entry),
    )


def plain(line: JobLine, width: int = 0) -> str:
    """The line without a bar; *width* is what to pad the name to."""
    return f"{line.name:<{width}}  {line.state:<9}  {line.note}".rstrip()


class LiveView:
    """
    Shows jobs for as long as the ``with`` block lasts.

    Args:
        console: Where to. Bars need a terminal that can move its cursor.
        is_kept: Whether the bars stay there after the end.
        stamp: What each plain line begins with, asked for anew each time.
    """

    def __init__(self, console: Console, *, is_kept: bool = True, stamp: Callable[[], str] = str) -> None:
        self._console = console
        self._stamp = stamp
        self._shown: dict[str, tuple[JobState, str]] = {}
        self._live: Live | None = None
        if console.is_terminal and not console.is_dumb_terminal:
            self._live = Live(console=console, auto_refresh=False, transient=not is_kept)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, lines: Sequence[JobLine]) -> None:
        """Show *lines* in place of those before."""
        if self._live is not None:
            self._live.update(Padding(bars(lines), (1, 0, 0, 0)), refresh=True)
            return
        width = max((len(line.name) for line in lines), default=0)
        for line in lines:
            # the time left changes always, and is news to nobody
            seen = (line.state, line.note if line.state.is_terminal else "")
            if self._shown.get(line.name) != seen:
                self._shown[line.name] = seen
                self._console.print(Text(f"{self._stamp()}{plain(line, width)}"), soft_wrap=True)


def bars(lines: Sequence[JobLine]) -> RenderableType:
    """One row for each job, 80 columns wide while names are short."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, min_width=min(max((len(line.name) for line in lines), default=0), _NAME_WIDTH))
    table.add_column(no_wrap=True, width=9)
    table.add_column(width=_BAR_WIDTH)
    table.add_column(no_wrap=True, width=8, justify="right")
    table.add_column(no_wrap=True, overflow="ellipsis")
    for line in lines:
        style = STYLES[line.state]
        table.add_row(
            Text(line.name),
            Text(line.state, style=style),
            ProgressBar(total=1.0, completed=line.progress, complete_style=style, finished_style=style),
            Text(_polls(line.polls), style="dim"),
            Text(line.note, style=style if line.state.is_terminal else "dim"),
        )
    return table


def _polls(polls: int) -> str:
    return f"{polls} poll{'' if polls == 1 else 's'}"


def _note(entry: Entry) -> str:
    record, state = entry.record, entry.state
    remote = record.remote_task
    if state is JobState.FAILED:
        if record.error is not None:
            return record.error.name
        return (remote.error_code if remote else None) or ""
    if state.is_terminal:
        used = remote.credits_used if remote else None
        return "" if used is None else f"{used:g} credits"
    if entry.cancel is not None:
        return "being cancelled"
    if record.attempts:
        return f"submit {record.attempts + 1}"
    left_s = facts.eta_s(state, record, entry.now)
    return "" if left_s is None else f"{left_s:.0f} s left"
