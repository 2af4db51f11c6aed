"""``tasks-bridge reconcile``."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tasks_bridge.cli.base import (
    OPERATE,
    PROBLEM,
    AppOption,
    JsonOption,
    bridge_for,
    cli,
    examples,
    open_jobs,
    print_json,
)

if TYPE_CHECKING:
    from tasks_bridge.compare import Compared


@cli.command(
    rich_help_panel=OPERATE,
    short_help="Compare jobs with what ByteSpike says of them.",
    help="Compare jobs, as Redis has them, with what ByteSpike says of them: the jobs named, those in a file or on "
    "standard input (-), one id a line, or with --all all open ones. A job that ByteSpike is ahead of is looked at "
    "by a worker at once; nothing else is changed, and asking is free. What Redis has lost, ByteSpike may still know: "
    "with --json its word on the job is printed. Rows of a database are for manage.py bytespike_reconcile and flask "
    "bytespike reconcile. Exit status 1 if nobody knows a job, ByteSpike misses one, or can't be asked.",
    epilog=examples(
        "tasks-bridge reconcile --all",
        "tasks-bridge reconcile my-render-001 my-render-002 --dry-run",
        "psql -Atc 'select id from renders' | tasks-bridge reconcile - --json",
    ),
)
def reconcile(
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID...|-]", help="Ids of jobs.", show_default=False, autocompletion=open_jobs),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", metavar="FILE", help="Read ids from here.", show_default=False)
    ] = None,
    scan: Annotated[bool, typer.Option("--all", help="All open jobs.")] = False,
    key: Annotated[
        str | None,
        typer.Option(help="Alias of the API key to ask with for jobs that Redis doesn't know. Default: default."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing.")] = False,
    app: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare jobs with what ByteSpike says of them."""
    from tasks_bridge.compare import Verdict, compare
    from tasks_bridge.settings import DEFAULT_KEY

    if sum((bool(ids), file is not None, scan)) != 1:
        raise typer.BadParameter("give ids, or -, or --file FILE, or --all", param_hint="ID...")
    wanted = None if scan else _read(ids or [], file)
    bridge = bridge_for(app)
    alias = key or DEFAULT_KEY
    bridge.settings.key(alias)
    found: Counter[Verdict] = Counter()
    for one in compare(bridge, bridge.store.open_ids() if wanted is None else wanted, alias, is_dry=dry_run):
        found[one.verdict] += 1
        _show(one, as_json=as_json, is_dry=dry_run)
    if not as_json:
        typer.echo(", ".join(f"{count} {verdict}" for verdict, count in sorted(found.items())) or "no jobs")
    if any(verdict.is_problem for verdict in found):
        raise typer.Exit(PROBLEM)


def _read(ids: Sequence[str], file: Path | None) -> list[str]:
    """
    The ids that were asked for.

    Raises:
        InvalidRequest: One of them can't be a job's id.
    """
    from tasks_bridge.wire import check_out_task_id

    try:
        if file is not None:
            ids = file.read_text(encoding="utf-8").split()
        elif list(ids) == ["-"]:
            ids = sys.stdin.read().split()
    except (OSError, UnicodeError) as error:
        raise typer.BadParameter(str(error), param_hint="--file") from None
    return [check_out_task_id(job_id) for job_id in ids]


def _show(one: Compared, *, as_json: bool, is_dry: bool) -> None:
    from tasks_bridge.compare import Verdict

    if as_json:
        print_json(one.described())
        return
    done = "" if one.verdict is not Verdict.BEHIND else "; it would be looked at" if is_dry else "; it is looked at now"
    typer.echo(f"{one.job_id}  {one.verdict}: {one.detail}{done}")
