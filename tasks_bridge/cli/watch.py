"""``tasks-bridge watch``."""

from __future__ import annotations

from tasks_bridge.cli.base import JOBS, AppOption, JobIds, JsonOption, bridge_for, cli, examples
from tasks_bridge.cli.follow import follow


@cli.command(
    rich_help_panel=JOBS,
    short_help="Follow jobs until all are over.",
    help="Follow jobs until all are over: bars on a terminal, otherwise a line for each change. "
    "Exit status 1 unless all completed.",
    epilog=examples("tasks-bridge watch my-render-001 my-render-002", "tasks-bridge watch my-render-001 --json"),
)
def watch(ids: JobIds, app: AppOption = None, as_json: JsonOption = False) -> None:
    """Follow jobs."""
    follow(bridge_for(app), ids, as_json)
