"""The closing table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich import box
from rich.table import Table
from rich.text import Text

from tasks_bridge.demo.verdict import Outcome
from tasks_bridge.live import STYLES

LEGEND: Final = "tasks: at ByteSpike, for the job. lag: from its end there to its callback."


def table(outcomes: Sequence[Outcome]) -> Table:
    """One row for each job and a sum, within 80 columns."""
    made = Table(box=box.SIMPLE_HEAD, show_footer=True, footer_style="bold", padding=(0, 1, 0, 0))
    made.add_column("job", footer="all", no_wrap=True)
    made.add_column("state", no_wrap=True)
    lags = [outcome.lag_s for outcome in outcomes if outcome.lag_s is not None]
    for header, footer in (
        ("polls", str(sum(outcome.polls for outcome in outcomes))),
        ("seconds", ""),
        ("credits", f"{sum(outcome.credits or 0 for outcome in outcomes):.2f}"),
        ("lag, s", f"{max(lags):.1f}" if lags else ""),
        ("tasks", str(sum(outcome.remote_tasks for outcome in outcomes))),
        ("callbacks", str(sum(len(outcome.callbacks) for outcome in outcomes))),
    ):
        made.add_column(header, footer=footer, justify="right", no_wrap=True)
    for outcome in outcomes:
        made.add_row(
            outcome.name,
            Text(outcome.state or "lost", style=STYLES[outcome.state] if outcome.state else "red"),
            str(outcome.polls),
            number(outcome.took_s, 1),
            number(outcome.credits, 2),
            number(outcome.lag_s, 1),
            _once(outcome.remote_tasks),
            _once(len(outcome.callbacks)),
        )
    return made


def number(value: float | None, digits: int) -> str:
    """*value* for a column; nothing for None."""
    return "" if value is None else f"{value:.{digits}f}"


def _once(count: int) -> Text:
    return Text(str(count), style="" if count == 1 else "bold red")
