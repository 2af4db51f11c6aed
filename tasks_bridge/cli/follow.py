"""Jobs on the terminal until they are over, and jobs for programs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import typer

from tasks_bridge.cli.base import INTERRUPTED, PROBLEM, JsonObject, console, print_json

if TYPE_CHECKING:
    from tasks_bridge.bridge import Bridge
    from tasks_bridge.store import Entry

_LOOK_S: Final = 0.3


def follow(bridge: Bridge, ids: Sequence[str], as_json: bool) -> None:
    """
    Show jobs until all are over.

    Raises:
        JobNotFound: One of them is unknown.
        typer.Exit: Not all of them completed, or it was interrupted.
    """
    from tasks_bridge.live import LiveView, line_of
    from tasks_bridge.record import JobState

    with interruptible(f"The jobs go on. To watch again: tasks-bridge watch {' '.join(ids)}"):
        if as_json:
            entries = await_end(bridge, ids, _Changes())
        else:
            with LiveView(console()) as view:
                entries = await_end(bridge, ids, lambda now: view.show([line_of(entry) for entry in now]))
            for url in (url for entry in entries for url in urls(entry)):
                typer.echo(url)
    if any(entry.state is not JobState.COMPLETED for entry in entries):
        raise typer.Exit(PROBLEM)


def await_end(bridge: Bridge, ids: Sequence[str], show: Any = None) -> list[Entry]:
    """Wait until jobs are over, and have each look at them shown meanwhile."""
    from tasks_bridge.jobs import entries_of

    while True:
        entries = entries_of(bridge, ids)
        if show is not None:
            show(entries)
        if all(entry.state.is_terminal for entry in entries):
            return entries
        time.sleep(_LOOK_S)


@contextmanager
def interruptible(message: str) -> Iterator[None]:
    """Have Ctrl-C end the command with *message* rather than a traceback."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(message, err=True)
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
                print_json(described(entry))


def urls(entry: Entry) -> list[str]:
    """Where a job's outputs are."""
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
