"""The command line: ``tasks-bridge --help``. Each command imports what it needs, so that none waits for the others."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperGroup

from tasks_bridge import __version__
from tasks_bridge.errors import BridgeError, InvalidRequest, JobNotFound

if TYPE_CHECKING:
    from celery import Celery
    from rich.console import Console

    from tasks_bridge.bridge import Bridge
    from tasks_bridge.budget import Spending
    from tasks_bridge.store import Entry

JsonObject = dict[str, Any]

PROBLEM: Final = 1
"""Exit status: a job did not complete, or something went wrong."""
USAGE: Final = 2
"""Exit status: the command was called wrongly."""
INTERRUPTED: Final = 130

_LOOK_S: Final = 0.3


class Commands(TyperGroup):
    """The commands, whose errors of ours are one line on stderr and an exit status."""

    def invoke(self, ctx: Any) -> Any:
        """Run what was asked for."""
        try:
            return super().invoke(ctx)
        except BridgeError as error:
            typer.echo(f"tasks-bridge: {error}", err=True)
            raise typer.Exit(USAGE if isinstance(error, InvalidRequest) else PROBLEM) from None


cli = typer.Typer(
    name="tasks-bridge",
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,  # a traceback with local variables shows secrets
    context_settings={"help_option_names": ["-h", "--help"]},
    help="ByteSpike image and video jobs as Celery tasks.\n\n"
    "Configured by the environment: BYTESPIKE_API_KEY, BYTESPIKE_BASE_URL, TASKS_BRIDGE_REDIS_URL and more.\n\n"
    "Exit status: 0 all is well, 1 a job did not complete or something went wrong, 2 wrong usage.",
)

AppOption = Annotated[
    str | None,
    typer.Option(
        "--app",
        "-A",
        metavar="MODULE:ATTR",
        help="Your Celery app, as for celery -A. Without it, one is made from the environment.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object per line, for programs.")]
JobIds = Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of jobs.", show_default=False)]


def _examples(*lines: str) -> str:
    # each line a paragraph of its own: the help would join them otherwise
    return "\n\n".join(["[bold]Examples[/]", *(f"[cyan]{line}[/]" for line in lines)])


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"tasks-bridge {__version__}")
        raise typer.Exit


@cli.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Accept the options that come before a command."""


@cli.command(
    short_help="See it all at work, in 20 seconds.",
    help="See it all at work: a server, a sandbox, two workers, eleven jobs, and one worker killed halfway. "
    "Takes about 20 seconds and needs nothing. Exit status 0 means that every promise was kept.",
    epilog=_examples("tasks-bridge demo", "tasks-bridge demo --keep pictures"),
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

    raise typer.Exit(run(_console(), redis_url=redis_url or None, keep=keep))


@cli.command(
    short_help="Serve a ByteSpike for development.",
    help="Serve a ByteSpike for development on this machine: true to the documented API, with outputs that can be "
    "viewed. What a job does is scripted in the member sandbox of its params.",
    epilog=_examples(
        "tasks-bridge sandbox --speed 10",
        "export BYTESPIKE_BASE_URL=http://127.0.0.1:8765 BYTESPIKE_API_KEY=sk-byts-any",
    ),
)
def sandbox(
    host: Annotated[str, typer.Option(help="Address to listen on. Not for the open internet.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8765,
    speed: Annotated[float, typer.Option(help="How many times faster than life.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Makes durations repeatable.")] = 0,
    key: Annotated[
        list[str] | None, typer.Option(help="An API key to accept; may be given again. Default: any key.")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Requests in flight before it answers 429. Default: no limit.")
    ] = None,
    latency_s: Annotated[float, typer.Option("--latency", min=0, help="Seconds added to every answer.")] = 0.0,
    heartbeat_s: Annotated[
        float, typer.Option("--heartbeat", min=0.01, help="Seconds between signs of life on an idle stream.")
    ] = 15.0,
    public_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Where clients reach the outputs, if not where they submit.")
    ] = None,
    state: Annotated[
        Path | None, typer.Option(metavar="FILE", dir_okay=False, help="Keep the tasks here over a restart.")
    ] = None,
) -> None:
    """Serve the sandbox."""
    from tasks_bridge.sandbox import serve

    if not 0 < speed < float("inf"):
        raise typer.BadParameter("must be above 0", param_hint="--speed")
    try:
        serve(
            host,
            port,
            speed=speed,
            seed=seed,
            keys=key or None,
            concurrency=concurrency,
            latency_s=latency_s,
            heartbeat_s=heartbeat_s,
            public_url=public_url,
            state=state,
        )
    except OSError as error:
        raise BridgeError(f"the sandbox can't be served on {host}:{port}: {error.strerror or error}") from None


@cli.command(
    help="Start a job and print its id.",
    epilog=_examples(
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
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Stay until it is over.")] = False,
    app: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start a job."""
    from tasks_bridge.tasks import generate

    parsed = _parse_params(params)
    bridge = _bridge(app)
    result = bridge.app.tasks[generate.name].apply_async(
        (model, parsed), {"deadline_s": deadline_s, "key": key}, task_id=job_id
    )
    if watch:
        _watch(bridge, [result.id], as_json)
    elif as_json:
        _print_json(_entries(bridge, [result.id]))
    else:
        typer.echo(result.id)


@cli.command(
    short_help="Say how jobs are.",
    help="Say how jobs are. Exit status 1 if an id is unknown.",
    epilog=_examples("tasks-bridge status my-render-001", "tasks-bridge status my-render-001 --json"),
)
def status(ids: JobIds, app: AppOption = None, as_json: JsonOption = False) -> None:
    """Say how jobs are."""
    from tasks_bridge.live import line_of, plain

    bridge = _bridge(app)
    found = bridge.store.get(ids)
    known = [entry for entry in found if entry is not None]
    if as_json:
        _print_json(known)
    else:
        width = max((len(entry.job_id) for entry in known), default=0)
        for entry in known:
            typer.echo(plain(line_of(entry), width))
            for url in _urls(entry):
                typer.echo(f"  {url}")
    unknown = [job_id for job_id, entry in zip(ids, found, strict=True) if entry is None]
    for job_id in unknown:
        typer.echo(f"tasks-bridge: {JobNotFound(job_id)}", err=True)
    if unknown:
        raise typer.Exit(PROBLEM)


@cli.command(
    short_help="Follow jobs until all are over.",
    help="Follow jobs until all are over: bars on a terminal, otherwise a line for each change. "
    "Exit status 1 unless all completed.",
    epilog=_examples("tasks-bridge watch my-render-001 my-render-002", "tasks-bridge watch my-render-001 --json"),
)
def watch(ids: JobIds, app: AppOption = None, as_json: JsonOption = False) -> None:
    """Follow jobs."""
    _watch(_bridge(app), ids, as_json)


@cli.command(
    short_help="Cancel jobs, at ByteSpike too.",
    help="Cancel jobs, at ByteSpike too. A worker does it; this asks for it, durably. "
    "Exit status 1 if an id is unknown or its job ended otherwise before.",
    epilog=_examples("tasks-bridge cancel my-render-001", "tasks-bridge cancel my-render-001 --watch"),
)
def cancel(
    ids: JobIds,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Stay until they are over.")] = False,
    app: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """Cancel jobs."""
    from tasks_bridge.record import JobState

    bridge = _bridge(app)
    _entries(bridge, ids)  # all or none: a mistyped id shows before anything is cancelled
    for job_id in ids:
        bridge.store.request_cancel(job_id, "cancelled")
    entries = _await_end(bridge, ids) if watch else _entries(bridge, ids)
    if as_json:
        _print_json(entries)
    else:
        for entry in entries:
            typer.echo(f"{entry.job_id}  {entry.state if entry.state.is_terminal else 'is being cancelled'}")
    if any(entry.state.is_terminal and entry.state is not JobState.CANCELLED for entry in entries):
        raise typer.Exit(PROBLEM)


@cli.command(
    short_help="Say what jobs have cost, and what is left.",
    help="Say what the jobs of a period have used and reserved, in credits, and the limits: of all jobs together, and "
    "of each label. The limits are those of this environment.",
    epilog=_examples("tasks-bridge spending", "tasks-bridge spending --label acme --json"),
)
def spending(
    label: Annotated[str | None, typer.Option(help="Of the jobs under this label alone.", show_default=False)] = None,
    ago: Annotated[int, typer.Option(min=0, metavar="PERIODS", help="0 is the current period, 1 the one before.")] = 0,
    app: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what jobs have cost."""
    budget = _bridge(app).budget
    books = budget.all_books(periods_ago=ago) if label is None else [budget.books(label, periods_ago=ago)]
    if as_json:
        for one in books:
            typer.echo(json.dumps({**asdict(one), "left": one.left}))
        return
    for line in _table(books):
        typer.echo(line)
    if not budget.is_on:
        typer.echo("tasks-bridge: no limit is set here; without one, nothing is booked", err=True)


def _table(books: Sequence[Spending]) -> Iterator[str]:
    """Columns of text: as wide as they need to be, on a terminal or not."""
    begins, ends = (datetime.fromtimestamp(at, UTC) for at in (books[0].starts_at, books[0].ends_at))
    yield f"{begins:%Y-%m-%d %H:%M:%S} to {ends:%Y-%m-%d %H:%M:%S} UTC"
    rows = [["", "used", "reserved", "limit", "left"]]
    for one in books:
        amounts = (one.used, one.reserved, one.limit, one.left)
        rows.append([one.label or "all jobs", *("-" if amount is None else f"{amount:.2f}" for amount in amounts)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *cells in rows:
        yield "  ".join([name.ljust(widths[0]), *map(str.rjust, cells, widths[1:])])


@cli.command(
    short_help="Say when jobs of a model are looked at, and why.",
    help="Say when jobs of a model are looked at, and why: how long its latest jobs took, what was learned from that, "
    "and what it is expected to cost beside ByteSpike's published rule.",
    epilog=_examples("tasks-bridge cadence sora-2-pro", "tasks-bridge cadence sora-2-pro --estimate 35 --json"),
)
def cadence(
    model: Annotated[str, typer.Argument(help="Model, such as sora-2-pro.", show_default=False)],
    estimate_s: Annotated[
        float | None,
        typer.Option(
            "--estimate", metavar="SECONDS", help="For jobs with this estimate. Default: that of the jobs of late."
        ),
    ] = None,
    app: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say when jobs of a model are looked at."""
    from tasks_bridge.explain import Explanation
    from tasks_bridge.knowledge import Knowledge, Pace
    from tasks_bridge.learning import RedisEnds

    if estimate_s is not None and not 0 < estimate_s < float("inf"):
        raise typer.BadParameter("must be above 0", param_hint="--estimate")
    bridge = _bridge(app)
    [kept] = RedisEnds(bridge.store).latest([model])
    known = Knowledge(kept, Pace.of(bridge.settings), now=bridge.store.now())
    found = Explanation.of(model, kept, known, is_on=bridge.settings.learn_cadence, estimate_s=estimate_s)
    for line in [json.dumps(found.described(), ensure_ascii=False)] if as_json else found.lines():
        typer.echo(line)


def main() -> None:
    """Entry point of ``tasks-bridge``."""
    for stream in (sys.stdout, sys.stderr):
        # a terminal that knows no bars shows question marks rather than a traceback
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    cli(prog_name="tasks-bridge")


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False)


def _bridge(app: str | None) -> Bridge:
    from tasks_bridge.bridge import bridge_of

    return bridge_of(_load_app(app) if app else _make_app())


def _make_app() -> Celery:
    from celery import Celery

    from tasks_bridge.install import install
    from tasks_bridge.settings import Settings

    settings = Settings()
    app = Celery("tasks_bridge", broker=settings.broker, backend=settings.backend)
    install(app, settings)
    return app


def _load_app(name: str) -> Celery:
    from celery.app.utils import find_app

    sys.path.insert(0, str(Path.cwd()))
    try:
        found: Celery = find_app(name)
    except BridgeError:
        raise
    except Exception as error:
        raise typer.BadParameter(f"{name}: {type(error).__name__}: {error}", param_hint="--app") from error
    found.set_current()
    return found


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


def _entries(bridge: Bridge, ids: Sequence[str]) -> list[Entry]:
    found = []
    for job_id, entry in zip(ids, bridge.store.get(ids), strict=True):
        if entry is None:
            raise JobNotFound(job_id)
        found.append(entry)
    return found


def _watch(bridge: Bridge, ids: Sequence[str], as_json: bool) -> None:
    from tasks_bridge.live import LiveView, line_of
    from tasks_bridge.record import JobState

    with _interruptible(ids):
        if as_json:
            entries = _await_end(bridge, ids, _Changes())
        else:
            with LiveView(_console()) as view:
                entries = _await_end(bridge, ids, lambda now: view.show([line_of(entry) for entry in now]))
            for url in (url for entry in entries for url in _urls(entry)):
                typer.echo(url)
    if any(entry.state is not JobState.COMPLETED for entry in entries):
        raise typer.Exit(PROBLEM)


def _await_end(bridge: Bridge, ids: Sequence[str], show: Any = None) -> list[Entry]:
    while True:
        entries = _entries(bridge, ids)
        if show is not None:
            show(entries)
        if all(entry.state.is_terminal for entry in entries):
            return entries
        time.sleep(_LOOK_S)


@contextmanager
def _interruptible(ids: Sequence[str]) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"The jobs go on. To watch again: tasks-bridge watch {' '.join(ids)}", err=True)
        raise typer.Exit(INTERRUPTED) from None


class _Changes:
    """Prints an entry when its state or what ByteSpike says of it has changed."""

    def __init__(self) -> None:
        self._printed: dict[str, tuple[Any, ...]] = {}

    def __call__(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            seen = (entry.state, entry.record.remote, entry.cancel)
            if self._printed.get(entry.job_id) != seen:
                self._printed[entry.job_id] = seen
                _print_json([entry])


def _print_json(entries: Sequence[Entry]) -> None:
    for entry in entries:
        # flushed by echo: who reads a pipe waits for each line
        typer.echo(json.dumps(described(entry), ensure_ascii=False))


def _urls(entry: Entry) -> list[str]:
    remote = entry.record.remote_task
    return remote.urls if remote else []


def described(entry: Entry) -> JsonObject:
    """
    A job for programs.

    ``{"id", "status", "state", "model", "key", "progress", "polls"}``, and where there is something to say ``"eta_s"``,
    ``"next_poll_s"``, ``"cancel"`` (why it is to be cancelled), ``"remote"`` (the remote object) and ``"error"`` (why
    it ended, ``{"type", "message"}``).
    """
    from tasks_bridge import facts, steps
    from tasks_bridge.record import JobState

    state, record, now = entry.state, entry.record, entry.now
    left_s = facts.eta_s(state, record, now)
    failed = state.is_terminal and state is not JobState.COMPLETED
    error = steps.failure(entry.job_id, state, record) if failed else None
    found = {
        "id": entry.job_id,
        "status": state.value,
        "state": state.celery_state,
        "model": record.model,
        "key": record.key,
        "progress": round(facts.progress(state, record, now), 3),
        "polls": record.polls,
        "eta_s": None if left_s is None else round(left_s, 1),
        "next_poll_s": None if entry.due_at is None else round(max(entry.due_at - now, 0.0), 1),
        "cancel": entry.cancel,
        "remote": record.remote,
        "error": error and {"type": type(error).__name__, "message": str(error)},
    }
    return {name: value for name, value in found.items() if value is not None}


if __name__ == "__main__":
    main()
