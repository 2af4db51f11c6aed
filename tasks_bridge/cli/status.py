"""``tasks-bridge status``."""

from __future__ import annotations

import typer

from tasks_bridge.cli.base import (
    JOBS,
    PROBLEM,
    AppOption,
    JobIds,
    JsonOption,
    bridge_for,
    cli,
    complain,
    examples,
    print_json,
)
from tasks_bridge.cli.follow import described, urls
from tasks_bridge.errors import JobNotFound


@cli.command(
    rich_help_panel=JOBS,
    short_help="Say how jobs are.",
    help="Say how jobs are, as Redis has them. Exit status 1 if an id is unknown.",
    epilog=examples("tasks-bridge status my-render-001", "tasks-bridge status my-render-001 --json"),
)
def status(ids: JobIds, app: AppOption = None, as_json: JsonOption = False) -> None:
    """Say how jobs are."""
    from tasks_bridge.live import line_of, plain

    found = bridge_for(app).store.get(ids)
    known = [entry for entry in found if entry is not None]
    if as_json:
        print_json(*map(described, known))
    else:
        width = max((len(entry.job_id) for entry in known), default=0)
        for entry in known:
            typer.echo(plain(line_of(entry), width))
            for url in urls(entry):
                typer.echo(f"  {url}")
    unknown = [job_id for job_id, entry in zip(ids, found, strict=True) if entry is None]
    for job_id in unknown:
        complain(str(JobNotFound(job_id)))
    if unknown:
        raise typer.Exit(PROBLEM)
