"""``tasks-bridge top``."""

from __future__ import annotations

import select
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from tasks_bridge.cli.base import OPERATE, AppOption, JsonOption, bridge_for, cli, console, examples, print_json
from tasks_bridge.errors import StoreError

if TYPE_CHECKING:
    from tasks_bridge.bridge import Bridge
    from tasks_bridge.overview import WorkerSeen

_WORKERS_WAIT_S: Final = 1.0
_WORKERS_EVERY_S: Final = 5.0


@cli.command(
    rich_help_panel=OPERATE,
    short_help="Show all jobs, workers and troubles, live.",
    help="Show all jobs by state and model, what is due and overdue, how many steps the workers take and how many "
    "fail, the circuit breaker, and the workers. Live on a terminal, until q or Ctrl-C; otherwise, or with --once, "
    "once.",
    epilog=examples("tasks-bridge top", "tasks-bridge top --once", "tasks-bridge top --once --json"),
)
def top(
    once: Annotated[bool, typer.Option("--once", help="Print it once.")] = False,
    every_s: Annotated[
        float, typer.Option("--every", min=0.2, max=3600, metavar="SECONDS", help="How often to look.")
    ] = 2.0,
    app: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show all jobs, live."""
    from tasks_bridge.board import board
    from tasks_bridge.overview import overview

    bridge = bridge_for(app)
    screen = console()
    is_live = not once and (as_json or (screen.is_terminal and not screen.is_dumb_terminal))
    workers = _Workers(bridge)
    if not is_live:
        workers.look()
        now = overview(bridge, workers.seen)
        if as_json:
            print_json(now.described())
        else:
            screen.print(board(now, workers.problem))
        return
    workers.start()
    if as_json:
        while True:
            print_json(overview(bridge, workers.seen).described())
            time.sleep(every_s)
    _live(bridge, workers, screen, every_s)


def _live(bridge: Bridge, workers: _Workers, screen: Any, every_s: float) -> None:
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    from tasks_bridge.board import board
    from tasks_bridge.overview import overview

    shown: Any = Text("looking …")
    with _keys() as pressed, Live(shown, console=screen, screen=True, auto_refresh=False) as live:
        while True:
            try:
                shown = board(overview(bridge, workers.seen), workers.problem)
                live.update(Group(shown, Text("\nq quits", style="dim")), refresh=True)
            except StoreError as error:
                live.update(Group(Text(f"{error}\n", style="red"), shown), refresh=True)
            if pressed(every_s) in ("q", "Q"):
                return


class _Workers(threading.Thread):
    """Asks the workers now and then, beside the rest: they take a second to answer."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__(name="tasks-bridge-top", daemon=True)
        self._bridge = bridge
        self.seen: list[WorkerSeen] | None = None
        self.problem: str | None = None
        """Why they can't be asked."""

    def run(self) -> None:
        """The thread's body."""
        while True:
            self.look()
            time.sleep(_WORKERS_EVERY_S)

    def look(self) -> None:
        """Ask once."""
        from tasks_bridge.overview import ask_workers

        try:
            self.seen, self.problem = ask_workers(self._bridge, _WORKERS_WAIT_S), None
        except Exception as error:  # noqa: BLE001 - each broker has errors of its own; it goes on
            self.seen, self.problem = None, f"the broker can't be used ({type(error).__name__})"


@contextmanager
def _keys() -> Iterator[Any]:
    """A function that waits so many seconds for a key; without a terminal to read from, it just waits."""
    if not sys.stdin.isatty():
        yield time.sleep
        return
    import termios
    import tty

    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)

    def pressed(seconds: float) -> str:
        ready, _, _ = select.select([sys.stdin], [], [], seconds)
        return sys.stdin.read(1) if ready else ""

    try:
        tty.setcbreak(number)
        yield pressed
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)
