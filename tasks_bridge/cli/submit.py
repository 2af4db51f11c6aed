"""``tasks-bridge submit``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from tasks_bridge.cli.base import (
    JOBS,
    AppOption,
    JsonObject,
    JsonOption,
    bridge_for,
    cli,
    examples,
    print_json,
)
from tasks_bridge.cli.follow import described, follow


@cli.command(
    rich_help_panel=JOBS,
    help="Start a job and print its id.",
    epilog=examples(
        """tasks-bridge submit seedream-v4 -p '{"prompt": "a red fox"}' --watch""",
        "tasks-bridge submit sora-2-pro -p @params.json --id my-render-001",
        """echo '{"prompt": "a red fox"}' | tasks-bridge submit seedream-v4 -p -""",
    ),
)
def submit(
    model: Annotated[str, typer.Argument(help="Model, such as sora-2-pro.", show_default=False)],
    params: Annotated[
        str,
        typer.Option("--params", "-p", metavar="JSON|@FILE|-", help="Its parameters: as they are, from a file, or -"),
    ] = "{}",
    job_id: Annotated[
        str | None, typer.Option("--id", help="The job's id. The same id and request again is the same job.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="Alias of the API key.")] = None,
    deadline_s: Annotated[
        float | None, typer.Option("--deadline", metavar="SECONDS", help="Cancel it if it takes longer.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="On whose budget it goes, such as a tenant's id.")] = None,
    max_credits: Annotated[
        float | None, typer.Option("--max-credits", metavar="CREDITS", help="The most that it may cost.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Stay until it is over.")] = False,
    app: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start a job."""
    from tasks_bridge.jobs import entries_of
    from tasks_bridge.tasks import generate

    parsed = _parse_params(params)
    bridge = bridge_for(app)
    options = {"deadline_s": deadline_s, "key": key, "label": label, "max_credits": max_credits}
    result = bridge.app.tasks[generate.name].apply_async((model, parsed), options, task_id=job_id)
    if watch:
        follow(bridge, [result.id], as_json)
    elif as_json:
        print_json(*map(described, entries_of(bridge, [result.id])))
    else:
        typer.echo(result.id)


def _parse_params(text: str) -> JsonObject:
    try:
        if text == "-":
            text = sys.stdin.read()
        elif text.startswith("@"):
            text = Path(text[1:]).read_text(encoding="utf-8")
        parsed = json.loads(text)
    except (OSError, ValueError) as error:
        raise typer.BadParameter(str(error), param_hint="--params") from None
    if not isinstance(parsed, dict):
        raise typer.BadParameter("must be a JSON object", param_hint="--params")
    return parsed
