"""``tasks-bridge doctor``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from tasks_bridge.cli.base import OPERATE, PROBLEM, AppOption, JsonOption, bridge_for, cli, examples, print_json

if TYPE_CHECKING:
    from tasks_bridge.doctor import Diagnosis

_COLOURS: Final = {"ok": "green", "warning": "yellow", "error": "red"}


@cli.command(
    rich_help_panel=OPERATE,
    short_help="Say what is wrong with a deployment, and what to do.",
    help="Look at everything that jobs need, and say what is wrong and what to do: versions, settings, Redis (version, "
    "persistence, eviction, memory, latency), ByteSpike and each API key, clocks, workers and their queues, overdue "
    "jobs. It changes nothing and costs nothing. Run it where the workers run, with their environment. "
    "Exit status 1 if anything is wrong; 0 also with warnings.",
    epilog=examples("tasks-bridge doctor", "tasks-bridge doctor -A shop.celery", "tasks-bridge doctor --json"),
)
def doctor(
    wait_s: Annotated[
        float, typer.Option("--wait", min=0.1, max=60, metavar="SECONDS", help="How long workers have to answer.")
    ] = 2.0,
    app: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what is wrong with a deployment."""
    from tasks_bridge.doctor import Level, examine, worst

    found: list[Diagnosis] = []
    for diagnosis in examine(bridge_for(app), wait_s=wait_s):
        if as_json:
            print_json(diagnosis.described())
        else:
            _show(diagnosis, is_new_area=not found or found[-1].area != diagnosis.area)
        found.append(diagnosis)
    if not as_json:
        levels = [diagnosis.level for diagnosis in found]
        errors, warnings = levels.count(Level.ERROR), levels.count(Level.WARNING)
        typer.echo(f"\n{_count(errors, 'error')}, {_count(warnings, 'warning')}.")
    if worst(found) is Level.ERROR:
        raise typer.Exit(PROBLEM)


def _show(diagnosis: Diagnosis, *, is_new_area: bool) -> None:
    level = typer.style(f"{diagnosis.level:<7}", fg=_COLOURS[diagnosis.level], bold=diagnosis.level != "ok")
    typer.echo(f"{diagnosis.area if is_new_area else '':<9} {level} {diagnosis.message}")
    if diagnosis.remedy is not None:
        typer.echo(f"{'':<18}-> {diagnosis.remedy} [{diagnosis.code}]")


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"
