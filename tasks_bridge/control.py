"""
`revoke` as durable cancellation, on both of its ends.

On the caller's end (`AsyncResult.revoke`, ``app.control.revoke``, Flower's button with this app) the wish goes to the
store first, so it holds although no worker may be up. The worker's end serves those who broadcast without this app.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

from celery import bootsteps
from celery.app.control import Control
from celery.utils.imports import symbol_by_name
from celery.worker.control import Panel

from tasks_bridge.bridge import bridge_of
from tasks_bridge.request import cancel

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery
    from celery.worker import WorkController

_COMMANDS = ("revoke", "terminate")
_SECRET = re.compile("pass|secret|credential", re.IGNORECASE)


class _DurableRevoke:
    """Mixed into the class of ``app.control``."""

    def revoke(self, task_id: Any, *args: Any, **kwargs: Any) -> Any:
        """Cancel the jobs among *task_id* in the store; broadcast for the other tasks as ever."""
        control: Any = super()
        others = _not_jobs(cast("Any", self).app, task_id)
        return control.revoke(others, *args, **kwargs) if others else None


class JobControl(_DurableRevoke, Control):
    """Celery's remote control, with a `revoke` that lasts."""


def revoke_durably(app: Celery) -> None:
    """Make this app's `control.revoke` cancel jobs in the store, and broadcast for the other tasks as ever."""
    target: Any = app
    known = symbol_by_name(target.control_cls)
    if known is Control:
        target.control_cls = f"{__name__}:{JobControl.__name__}"
    elif not issubclass(known, _DurableRevoke):
        target.control_cls = type(known.__name__, (_DurableRevoke, known), {})
    vars(app).pop("control", None)  # one that was made before


class RevokeCommand(bootsteps.Step):
    """Worker bootstep: teaches the remote-control commands that end tasks the same."""

    requires = ()

    def __init__(self, worker: WorkController, **options: Any) -> None:
        super().__init__(worker, **options)
        for name in _COMMANDS:
            Panel.data[name] = _with_jobs(Panel.data[name])


class DiscreetStats(bootsteps.Step):
    """Worker bootstep: keeps passwords out of what ``stats`` answers, which Flower shows on a worker's page."""

    requires = ()

    def __init__(self, worker: WorkController, **options: Any) -> None:
        super().__init__(worker, **options)
        Panel.data["stats"] = _discreet(Panel.data["stats"])


def _discreet(command: Callable[..., Any]) -> Callable[..., Any]:
    if getattr(command, "is_discreet", False):
        return command

    def stats(state: Any, **kwargs: Any) -> Any:
        found = _masked(command(state, **kwargs))
        # URLs; not all versions of Celery mask their passwords
        found.get("broker", {}).pop("alternates", None)
        return found

    stats.is_discreet = True  # type: ignore[attr-defined]
    return stats


def _masked(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {name: "***" if _SECRET.search(str(name)) and inner else _masked(inner) for name, inner in value.items()}


def _with_jobs(command: Callable[..., Any]) -> Callable[..., Any]:
    if getattr(command, "knows_jobs", False):
        return command

    def handle(state: Any, *args: Any, **kwargs: Any) -> Any:
        if "task_id" not in kwargs:
            return command(state, *args, **kwargs)
        others = _not_jobs(state.app, kwargs.pop("task_id"))
        if not others:
            return {"ok": "jobs are being cancelled"}
        return command(state, *args, task_id=others, **kwargs)

    handle.knows_jobs = True  # type: ignore[attr-defined]
    return handle


def _not_jobs(app: Celery, task_id: str | list[str]) -> list[str]:
    """Cancel those that are jobs; returns the others."""
    bridge_of(app)
    ids = list(task_id) if isinstance(task_id, list | tuple | set) else [task_id]
    return [one for one in ids if not cancel(app, one)]
