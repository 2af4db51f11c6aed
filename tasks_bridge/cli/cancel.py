"""``tasks-bridge cancel``."""

from __future__ import annotations

from typing import Annotated

import typer

from tasks_bridge.cli.base import (
    JOBS,
    PROBLEM,
    AppOption,
    JobIds,
    JsonOption,
    bridge_for,
    cli,
    examples,
    print_json,
)
from tasks_bridge.cli.follow import await_end, described, interruptible


@cli.command(
    rich_help_panel=JOBS,
    short_help="Cancel jobs, at ByteSpike too.",
    help="Cancel jobs, at ByteSpike too. A worker does it; this asks for it, durably. "
    "Exit status 1 if an id is unknown, then nothing is cancelled, or if a job ended otherwise before.",
    epilog=examples("tasks-bridge cancel my-render-001", "tasks-bridge cancel my-render-001 --watch"),
)
def cancel(
    ids: JobIds,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Stay until they are over.")] = False,
    app: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """Cancel jobs."""
    from tasks_bridge.jobs import entries_of
    from tasks_bridge.record import JobState

    bridge = bridge_for(app)
    entries_of(bridge, ids)  # all or none: a mistyped id shows before anything is cancelled
    for job_id in ids:
        bridge.store.request_cancel(job_id, "cancelled")
    with interruptible(f"They will be cancelled all the same. To look: tasks-bridge watch {' '.join(ids)}"):
        entries = await_end(bridge, ids) if watch else entries_of(bridge, ids)
    if as_json:
        print_json(*map(described, entries))
    else:
        for entry in entries:
            typer.echo(f"{entry.job_id}  {entry.state if entry.state.is_terminal else 'is being cancelled'}")
    if any(entry.state.is_terminal and entry.state is not JobState.CANCELLED for entry in entries):
        raise typer.Exit(PROBLEM)
