"""``tasks-bridge spending``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from tasks_bridge.cli.base import OPERATE, AppOption, JsonOption, bridge_for, cli, complain, examples, print_json

if TYPE_CHECKING:
    from tasks_bridge.budget import Spending


@cli.command(
    rich_help_panel=OPERATE,
    short_help="Say what jobs have cost, and what is left.",
    help="Say what the jobs of a period have used and reserved, in credits, and the limits: of all jobs together, and "
    "of each label. The limits are those of this environment.",
    epilog=examples("tasks-bridge spending", "tasks-bridge spending --label acme --json"),
)
def spending(
    label: Annotated[str | None, typer.Option(help="Of the jobs under this label alone.", show_default=False)] = None,
    ago: Annotated[int, typer.Option(min=0, metavar="PERIODS", help="0 is the current period, 1 the one before.")] = 0,
    app: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what jobs have cost."""
    budget = bridge_for(app).budget
    books = budget.all_books(periods_ago=ago) if label is None else [budget.books(label, periods_ago=ago)]
    if as_json:
        for one in books:
            print_json({**asdict(one), "left": one.left})
        return
    for line in _table(books):
        typer.echo(line)
    if not budget.is_on:
        complain("no limit is set here; without one, nothing is booked")


def _table(books: Sequence[Spending]) -> Iterator[str]:
    """Columns of text: as wide as they need to be, on a terminal or not."""
    begins, ends = (datetime.fromtimestamp(at, UTC) for at in (books[0].starts_at, books[0].ends_at))
    yield f"{begins:%Y-%m-%d %H:%M:%S} to {ends:%Y-%m-%d %H:%M:%S} UTC"
    rows = [["", "used", "reserved", "limit", "left"]]
    for one in books:
        amounts = (one.used, one.reserved, one.limit, one.left)
        rows.append([one.label or "all jobs", *("-" if amount is None else f"{amount:.2f}" for amount in amounts)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *cells in rows:
        yield "  ".join([name.ljust(widths[0]), *map(str.rjust, cells, widths[1:])])
