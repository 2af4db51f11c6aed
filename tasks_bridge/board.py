"""An overview as people see it on a terminal, 80 columns wide. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tasks_bridge.history import duration
from tasks_bridge.overview import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks_bridge.overview import Overview

MOST_MODELS: Final = 10
"""Models that are shown one by one: what fits on a small terminal."""
MOST_WORKERS: Final = 6

OVERDUE_S: Final = 10.0

_STYLES: Final = {"QUEUED": "default", "PENDING": "cyan", "RUNNING": "blue"}


def board(now: Overview, worker_problem: str | None = None) -> RenderableType:
    """
    The whole of it.

    Args:
        now: What to show.
        worker_problem: Why the workers can't be asked, if that is so.
    """
    head = Text.assemble(
        ("tasks-bridge", "bold"),
        f"  {now.namespace}  Redis {now.address}  {datetime.fromtimestamp(now.at, UTC):%Y-%m-%d %H:%M:%S} UTC",
    )
    lines = [head, Text(), *_facts(now), _workers(now, worker_problem), *_troubles(now)]
    return Group(*lines, Text(), _models(now))


def _facts(now: Overview) -> Iterator[Text]:
    due = "nothing is due" if not now.due else f"{now.due:,} due"
    coming = f", the next in {duration(now.next_due_s)}" if now.next_due_s is not None and now.next_due_s > 0 else ""
    ending = f" ({now.ending:,} ending)" if now.ending else ""
    yield Text.assemble(("Jobs     ", "dim"), f"{now.open:,} open{ending}, {due}{coming}")
    activity = now.activity
    failed = Text(f"{activity.troubles:,} failed", style="red" if activity.troubles else "")
    yield Text.assemble(
        ("Steps    ", "dim"),
        f"{activity.steps_per_s:,.1f} a second; in the last {activity.period_s:g} s {activity.changes:,} changes, ",
        failed,
    )
    if now.circuit.opened_at is None:
        yield Text.assemble(("Breaker  ", "dim"), "closed: ByteSpike answers")
    else:
        since = duration(now.at - now.circuit.opened_at)
        yield Text.assemble(
            ("Breaker  ", "dim"), (f"OPEN for {since}: ByteSpike doesn't answer, jobs wait", "bold red")
        )


def _workers(now: Overview, problem: str | None) -> Text:
    label = ("Workers  ", "dim")
    if problem is not None:
        return Text.assemble(label, (problem, "bold red"))
    if now.workers is None:
        return Text.assemble(label, "asking …")
    if not now.workers:
        return Text.assemble(label, ("none answers", "bold red"))
    slots = sum(worker.slots for worker in now.workers)
    names = [worker.name for worker in now.workers]
    more = f" and {len(names) - MOST_WORKERS} more" if len(names) > MOST_WORKERS else ""
    return Text.assemble(label, f"{len(names)} with {slots} slots: {', '.join(names[:MOST_WORKERS])}{more}")


def _troubles(now: Overview) -> Iterator[Text]:
    """What somebody should do something about."""
    if now.overdue_s > OVERDUE_S:
        late = f"the first job that is due has waited for {duration(now.overdue_s)}: tasks-bridge doctor says why"
        yield Text(f"! {late}", style="bold red")
    if now.workers and not any(worker.polls for worker in now.workers):
        yield Text("! no worker polls: see TASKS_BRIDGE_ALARM and TASKS_BRIDGE_QUEUE", style="bold red")
    if now.newer:
        yield Text(f"! {now.newer:,} wait for workers of a newer version of tasks-bridge", style="yellow")


def _models(now: Overview) -> RenderableType:
    if not now.models:
        return Text("No open jobs.", style="dim")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("MODEL", no_wrap=True, overflow="ellipsis", max_width=30, min_width=12)
    for name in (*COLUMNS, "TOTAL"):
        table.add_column(name, justify="right", no_wrap=True)
    shown = list(now.models.items())[:MOST_MODELS]
    for model, counted in shown:
        table.add_row(Text(model), *(_count(counted[name], name) for name in COLUMNS), f"{counted.total():,}")
    if len(now.models) > 1:
        states = now.states
        label = "all" if len(shown) == len(now.models) else f"all, {len(now.models) - len(shown)} more"
        cells = (_count(states[name], name) for name in COLUMNS)
        table.add_row(Text(label, style="bold"), *cells, f"{states.total():,}")
    return table


def _count(count: int, state: str) -> Text:
    return Text(f"{count:,}", style=_STYLES[state]) if count else Text("-", style="dim")
