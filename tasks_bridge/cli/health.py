"""``tasks-bridge health``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tasks_bridge.cli.base import OPERATE, PROBLEM, USAGE, JsonOption, cli, complain, examples, print_json
from tasks_bridge.health import FILE_VARIABLE, QUESTIONS, look


@cli.command(
    rich_help_panel=OPERATE,
    short_help="Say whether a worker is alive, or ready for work.",
    help="Say whether the worker that notes its pulse in a file is alive, or ready for work. Exit status 1 if it is "
    "not, and why. Probes that run all the time do better with python -m tasks_bridge.health, which answers the same "
    "and starts in a twentieth of a second.",
    epilog=examples("tasks-bridge health live", "tasks-bridge health ready --file /run/worker-2.json --json"),
)
def health(
    question: Annotated[str, typer.Argument(metavar="live|ready", help="What is asked.", show_default=False)],
    file: Annotated[
        Path | None,
        typer.Option(
            envvar=FILE_VARIABLE, metavar="FILE", dir_okay=False, help="The worker's file.", show_default=False
        ),
    ] = None,
    longest_task_s: Annotated[
        float | None,
        typer.Option(
            "--longest-task",
            metavar="SECONDS",
            help="How long a task of yours may run before the worker counts as dead. Default: for ever.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say whether a worker is alive."""
    if question not in QUESTIONS:
        raise typer.BadParameter(f"{question}: must be live or ready", param_hint="live|ready")
    if file is None:
        complain(f"name the worker's file: --file FILE, or {FILE_VARIABLE} as in the worker")
        raise typer.Exit(USAGE)
    problems = look(file, question, longest_task_s)  # type: ignore[arg-type]  # one of the two
    if as_json:
        print_json({"question": question, "answer": not problems, "problems": problems})
    elif problems:
        complain("; ".join(problems))
    else:
        typer.echo(f"{question}: yes")
    if problems:
        raise typer.Exit(PROBLEM)
