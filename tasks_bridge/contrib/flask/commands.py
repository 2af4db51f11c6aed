"""``flask bytespike``: how jobs are, what is wrong, and what brings lost ones back."""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import click
from flask import current_app
from flask.cli import AppGroup

from tasks_bridge.checks import (
    Finding,
    check_callbacks,
    check_celery,
    check_redis,
    check_settings,
    check_workers,
    stops,
)
from tasks_bridge.contrib.flask.reconcile import Verdict, reconcile
from tasks_bridge.contrib.flask.state import state_of
from tasks_bridge.contrib.flask.views import NAME
from tasks_bridge.errors import BridgeError, InvalidRequest
from tasks_bridge.jobs import entries_of
from tasks_bridge.record import JobState
from tasks_bridge.settings import DEFAULT_KEY
from tasks_bridge.web.report import line_of, report_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tasks_bridge.bridge import Bridge

PROBLEM: Final = 1
"""Exit status: something is wrong."""


class _Commands(AppGroup):
    """The commands, whose errors of ours, and those of the app's factory, are one line and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except InvalidRequest as error:
            raise click.UsageError(str(error)) from None
        except BridgeError as error:
            raise click.ClickException(str(error)) from None


@click.group(cls=_Commands)
def bytespike() -> None:
    """ByteSpike jobs of this application."""


_json_option = click.option("--json", "as_json", is_flag=True, help="JSON, for programs.")


@bytespike.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@_json_option
def status(ids: Sequence[str], *, as_json: bool) -> None:
    """
    Say how things are, or how single jobs are.

    Without ids: the jobs in Redis. With ids: those jobs, one per line; exit status 1 if one of them is unknown.
    """
    bridge = _bridge()
    if not ids:
        found = {"redis": bridge.store.address, "open": bridge.store.open_count(), "due": bridge.store.due_count()}
        click.echo(json.dumps(found) if as_json else "Redis  {redis}  {open} open, {due} due".format(**found))
        return
    reports = [report_of(job_id, entry) for job_id, entry in zip(ids, bridge.store.get(ids), strict=True)]
    for report in reports:
        click.echo(json.dumps(report) if as_json else line_of(report))
    if any(report["state"] is None for report in reports):
        raise click.ClickException("Some of these jobs are unknown: their ids are wrong, or they have been forgotten.")


@bytespike.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
def cancel(ids: Sequence[str]) -> None:
    """
    Cancel jobs, at ByteSpike too.

    A worker does it; this asks for it, durably. Exit status 1 if an id is unknown, then nothing is cancelled, or if a
    job ended otherwise before.
    """
    bridge = _bridge()
    entries_of(bridge, ids)  # all or none
    for job_id in ids:
        bridge.store.request_cancel(job_id, "cancelled by flask bytespike")
    entries = entries_of(bridge, ids)
    for entry in entries:
        click.echo(f"{entry.job_id}  {entry.state if entry.state.is_terminal else 'is being cancelled'}")
    if any(entry.state.is_terminal and entry.state is not JobState.CANCELLED for entry in entries):
        raise click.exceptions.Exit(PROBLEM)


@bytespike.command()
def check() -> None:
    """
    Say what is wrong with this application's settings, its Celery app and its Redis.

    Exit status 1 if it could not run jobs as it is.
    """
    bridge = _bridge()
    found = list(_findings(bridge))
    for finding in found:
        kind = "error" if stops(finding) else "warning"
        hint = f" ({finding.hint})" if finding.hint else ""
        click.echo(f"{kind}: {finding.message}{hint}", err=True)
    if any(stops(finding) for finding in found):
        raise click.exceptions.Exit(PROBLEM)
    click.echo(f"Jobs can run: Redis at {bridge.store.address}, ByteSpike at {bridge.settings.base_url}")


@bytespike.command("reconcile")
@click.argument("ids", nargs=-1, required=True, metavar="ID...|-")
@click.option("--key", default=DEFAULT_KEY, show_default=True, help="Alias of the API key that made these jobs.")
@click.option("--dry-run", is_flag=True, help="Say what would be told, and tell nothing.")
@click.option("--fail-lost", is_flag=True, help="Tell jobs that nobody knows as failed.")
def reconcile_command(ids: Sequence[str], *, key: str, dry_run: bool, fail_lost: bool) -> None:
    """
    Tell the application's receivers anew how jobs are that it has as open.

    As Redis knows them, else as ByteSpike does. With - the ids come from standard input, one a line. Safe to run at any
    time. Exit status 1 if something could not be said of a job, or told.
    """
    found: Counter[Verdict] = Counter()
    findings = reconcile(
        current_app._get_current_object(),  # type: ignore[attr-defined]  # noqa: SLF001 - Flask's documented way
        _read(ids),
        key=key,
        is_dry=dry_run,
        fail_lost=fail_lost,
    )
    for finding in findings:
        found[finding.verdict] += 1
        click.echo(f"{finding.job_id}  {finding.verdict}: {finding.detail}")
    counted = ", ".join(f"{count} {verdict}" for verdict, count in sorted(found.items())) or "no jobs"
    click.echo(f"{'Would be: ' if dry_run else ''}{counted}")
    if found[Verdict.LOST] or found[Verdict.UNKNOWN] or found[Verdict.UNTOLD]:
        raise click.ClickException("Not everything could be said of all jobs; see above.")


def _bridge() -> Bridge:
    return state_of(current_app).bridge


def _findings(bridge: Bridge) -> Iterator[Finding]:
    yield from check_settings(bridge)
    yield from check_celery(bridge)
    yield from check_workers(bridge)
    rule = next(current_app.url_map.iter_rules(f"{NAME}.callback"))
    yield from check_callbacks(bridge, rule.rule.removesuffix("/<token>"), "TasksBridge(app)")
    yield from check_redis(bridge)


def _read(ids: Sequence[str]) -> list[str]:
    if tuple(ids) != ("-",):
        return list(ids)
    return sys.stdin.read().split()
