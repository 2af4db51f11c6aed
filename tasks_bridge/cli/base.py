"""What the commands share: the group they belong to, options, exit statuses, and how errors are told."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperGroup

from tasks_bridge import __version__
from tasks_bridge.errors import BridgeError, InvalidRequest

if TYPE_CHECKING:
    from celery import Celery
    from rich.console import Console

    from tasks_bridge.bridge import Bridge

JsonObject = dict[str, Any]

PROBLEM: Final = 1
"""Exit status: a job did not complete, or something is wrong."""
USAGE: Final = 2
"""Exit status: the command was called wrongly."""
INTERRUPTED: Final = 130
"""Exit status: stopped by Ctrl-C."""

TRY, JOBS, OPERATE = "Try it", "Jobs", "Operate"
_ORDER: Final = (
    *("demo", "sandbox"),
    *("submit", "status", "watch", "cancel", "explain"),
    *("top", "doctor", "health", "reconcile", "spending", "cadence"),
)


class Commands(TyperGroup):
    """The commands, whose errors of ours are one line on stderr and an exit status."""

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order in which a newcomer needs them."""
        return sorted(super().list_commands(ctx), key=lambda name: _ORDER.index(name) if name in _ORDER else 0)

    def invoke(self, ctx: Any) -> Any:
        """Run what was asked for."""
        try:
            return super().invoke(ctx)
        except BridgeError as error:
            complain(str(error))
            raise typer.Exit(USAGE if isinstance(error, InvalidRequest) else PROBLEM) from None
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None


cli = typer.Typer(
    name="tasks-bridge",
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,  # a traceback with local variables shows secrets
    context_settings={"help_option_names": ["-h", "--help"]},
    help="ByteSpike image and video jobs as Celery tasks.\n\n"
    "Configured by the environment: BYTESPIKE_API_KEY, BYTESPIKE_BASE_URL, TASKS_BRIDGE_REDIS_URL and more; "
    "or by your own app, with --app.\n\n"
    "Exit status: 0 all is well, 1 a job did not complete or something is wrong, 2 wrong usage, 130 stopped by Ctrl-C.",
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


def open_jobs(ctx: typer.Context, incomplete: str) -> list[str]:
    """For the shell's completion: some open jobs whose ids begin so, none if Redis doesn't say at once."""
    from tasks_bridge.cli.completion import complete

    return complete(ctx.params.get("app"), incomplete)


JobIds = Annotated[
    list[str], typer.Argument(metavar="ID...", help="Ids of jobs.", show_default=False, autocompletion=open_jobs)
]


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"tasks-bridge {__version__}")
        raise typer.Exit


@cli.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Accept the options that come before a command."""


def main() -> None:
    """Entry point of ``tasks-bridge``."""
    for stream in (sys.stdout, sys.stderr):
        # a terminal that knows no bars shows question marks rather than a traceback
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    cli(prog_name="tasks-bridge")


def examples(*lines: str) -> str:
    """The end of a command's help."""
    # each line a paragraph of its own: the help would join them otherwise
    return "\n\n".join(["[bold]Examples[/]", *(f"[cyan]{line}[/]" for line in lines)])


def complain(message: str) -> None:
    """Say on stderr what is wrong."""
    typer.echo(f"tasks-bridge: {message}", err=True)


def print_json(*objects: JsonObject) -> None:
    """One line for each."""
    for one in objects:
        # flushed by echo: who reads a pipe waits for each line
        typer.echo(json.dumps(one, ensure_ascii=False))


def console() -> Console:
    """Where people look."""
    from rich.console import Console

    return Console(highlight=False)


def bridge_for(app: str | None) -> Bridge:
    """
    What the app of this name needs to run jobs; without a name, an app made from the environment.

    Raises:
        BridgeError: It does not know tasks-bridge, or a setting is wrong.
        typer.BadParameter: There is no such app.
    """
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
