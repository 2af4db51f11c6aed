"""``tasks-bridge demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tasks_bridge.cli.base import TRY, cli, console, examples


@cli.command(
    rich_help_panel=TRY,
    short_help="See it all at work, in 20 seconds.",
    help="See it all at work: a server, a sandbox, two workers, eleven jobs, and one worker killed halfway. "
    "Takes about 20 seconds and needs nothing. Exit status 0 means that every promise was kept.",
    epilog=examples("tasks-bridge demo", "tasks-bridge demo --keep pictures"),
)
def demo(
    redis_url: Annotated[
        str | None,
        typer.Option(
            envvar=["TASKS_BRIDGE_REDIS_URL", "REDIS_URL"],
            metavar="URL",
            help="Use this server, under keys of the demo's own, removed in the end; default: start one.",
        ),
    ] = None,
    keep: Annotated[
        Path | None, typer.Option(metavar="DIR", file_okay=False, help="Save a picture and a clip here.")
    ] = None,
) -> None:
    """Run the demo."""
    from tasks_bridge.demo.run import run

    raise typer.Exit(run(console(), redis_url=redis_url or None, keep=keep))
