"""``tasks-bridge explain``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tasks_bridge.cli.base import (
    JOBS,
    PROBLEM,
    AppOption,
    JsonOption,
    bridge_for,
    cli,
    complain,
    examples,
    open_jobs,
    print_json,
)
from tasks_bridge.cli.follow import described
from tasks_bridge.errors import BridgeError, JobNotFound

if TYPE_CHECKING:
    from tasks_bridge.bridge import Bridge
    from tasks_bridge.models import RemoteTask
    from tasks_bridge.store import Entry


@cli.command(
    rich_help_panel=JOBS,
    short_help="Tell a job's whole life, and what happens next.",
    help="Tell a job's whole life: when it changed and why, each look at it, what failed, what happens next and when. "
    "Changes are kept as long as the job; looks and reasons as far back as the journal reaches, which is said. "
    "With --ask, ByteSpike is asked how it is now, which is free and changes nothing. "
    "Exit status 1 if Redis does not know the job.",
    epilog=examples("tasks-bridge explain my-render-001", "tasks-bridge explain my-render-001 --ask --json"),
)
def explain(
    job_id: Annotated[
        str, typer.Argument(metavar="ID", help="Id of a job.", show_default=False, autocompletion=open_jobs)
    ],
    ask: Annotated[bool, typer.Option("--ask", help="Ask ByteSpike, too.")] = False,
    key: Annotated[
        str | None, typer.Option(help="Alias of the API key to ask with. Default: the job's.", show_default=False)
    ] = None,
    app: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell a job's whole life."""
    from tasks_bridge.history import History, past_events, past_lines
    from tasks_bridge.journal import Journal
    from tasks_bridge.wire import check_out_task_id

    check_out_task_id(job_id)
    bridge = bridge_for(app)
    (entry,) = bridge.store.get([job_id])
    past = Journal(bridge.store).of(job_id, 0.0 if entry is None else entry.record.created_at)
    told: dict[str, Any] = {"id": job_id}
    if entry is not None:
        history = History(entry, past, bridge.gate.circuit(), bridge.settings)
        told, lines = {**described(entry), **history.described()}, list(history.lines())
    elif past.lines:
        told["history"], lines = (
            [event.described(past.lines[0].at) for event in past_events(past)],
            list(past_lines(past)),
        )
    else:
        lines = []
    if ask:
        answer = _ask(bridge, job_id, entry, key)
        told["asked"] = answer if isinstance(answer, str) else answer and answer.to_json()
        lines.append(f"ByteSpike, asked just now: {_in_words(answer)}.")
    if as_json:
        print_json(told)
    else:
        for line in lines:
            typer.echo(line)
    if entry is None:
        complain(str(JobNotFound(job_id)))
        raise typer.Exit(PROBLEM)


def _ask(bridge: Bridge, job_id: str, entry: Entry | None, key: str | None) -> RemoteTask | str | None:
    from tasks_bridge.recover import Service
    from tasks_bridge.settings import DEFAULT_KEY

    alias = key or (DEFAULT_KEY if entry is None else entry.record.key)
    try:
        with Service(bridge.settings) as service:
            return service.task(job_id, alias)
    except BridgeError as error:
        return str(error)


def _in_words(answer: RemoteTask | str | None) -> str:
    if answer is None:
        return "it has no such task for this API key"
    if isinstance(answer, str):
        return answer
    return f"{answer.status}, as {answer.task_id}"
