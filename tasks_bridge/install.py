"""Teach any Celery app to run jobs."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any, Final

from celery import _state
from celery.exceptions import Ignore
from celery.signals import (
    task_postrun,
    worker_before_create_process,
    worker_init,
    worker_process_init,
    worker_process_shutdown,
    worker_shutdown,
)

import tasks_bridge.outputs.task
import tasks_bridge.tasks  # noqa: F401 - makes `generate`, `poll` and `save_output` tasks of every app
from tasks_bridge import logs, tracing
from tasks_bridge.alarm import Alarm
from tasks_bridge.bridge import Bridge, register_bridge
from tasks_bridge.control import DiscreetStats, RevokeCommand, revoke_durably
from tasks_bridge.exporter import Exporter
from tasks_bridge.pool import HeardOut, ReadOn
from tasks_bridge.pulse import PulseStep
from tasks_bridge.quiet import QuietPolling
from tasks_bridge.settings import Settings
from tasks_bridge.stop import PromptStop

if TYPE_CHECKING:
    from celery import Celery

YOUNG_OBJECTS: Final = 20_000
"""
New objects between two looks for garbage in a pool process; Python's 700 are a few requests in flight, looked at again
and again while they wait. Measured: about a sixth of a poll's CPU time.
"""


def install(app: Celery, settings: Settings | None = None) -> Bridge:
    """
    Let *app* run jobs: call it where the app is made, in the web process and in the worker alike.

    It adds the alarm to the app's workers, makes `revoke` cancel jobs, and where the app has no broker or result
    backend of its own, sets them from the settings. Nothing is connected to yet. All else is left as the app has it,
    such as ``accept_content``: jobs need ``"json"`` in it, and nobody should have ``"pickle"`` without need.

    Args:
        app: The Celery app, before its worker starts.
        settings: The configuration; default: from the environment. Without ``TASKS_BRIDGE_REDIS_URL`` jobs are kept in
            the app's own Redis: its result backend's, else its broker's.

    Raises:
        SettingsError: A setting is wrong.
    """
    bridge = Bridge(app, settings or Settings())
    # once the app reads its configuration, which the caller may still be about to name
    app.on_after_configure.connect(lambda **_: bridge.configure(), weak=False)
    if vars(app)["configured"]:
        bridge.configure()
    register_bridge(bridge)
    app.steps["consumer"].update((Alarm, PulseStep, PromptStop))
    app.steps["worker"].update((RevokeCommand, DiscreetStats, QuietPolling, ReadOn, HeardOut, Exporter))
    revoke_durably(app)
    logs.set_up(bridge.settings)
    tracing.set_up()
    _serve_threads(app)
    # with a uid, for Celery 5.5 takes the same method of another app's bridge for this one's
    worker_init.connect(bridge.serve, dispatch_uid=f"tasks-bridge-{id(bridge)}")
    worker_before_create_process.connect(_share)
    worker_process_init.connect(_spare_collector)
    task_postrun.connect(_let_go)
    for ending in (worker_process_shutdown, worker_shutdown):  # of a pool's process; of the worker itself
        ending.connect(bridge.drain, dispatch_uid=f"tasks-bridge-{id(bridge)}")
    return bridge


def _serve_threads(app: Any) -> None:
    """
    Make *app* the app of threads that have none, such as a web server's: Celery's current app is each thread's own.

    So does Celery itself for Django.
    """
    state: Any = _state
    if app.set_as_current and state.default_app is None:
        app.set_default()


def _share(**_: Any) -> None:
    """
    Celery's hook in a worker that is about to start a pool process: keep the garbage collector away from what is there.

    Celery collects before each of them, which writes into every object: the main process would have a copy of its own
    of what it shared with the one before. Only the first time, for garbage that is frozen stays.
    """
    if not gc.get_freeze_count():
        gc.collect()
        gc.freeze()


def _spare_collector(**_: Any) -> None:
    """
    Celery's hook in a new pool process: keep the garbage collector away from what was there before it.

    It would write into every object, and so give the process copies of the memory that it shares with the others.
    """
    gc.freeze()
    # Python puts a full collection off until there is a quarter as much new as the last one left: let that be nothing,
    # or the process grows by what the frozen application is worth before its garbage goes
    gc.collect()
    young, *older = gc.get_threshold()
    if 0 < young < YOUNG_OBJECTS:  # 0: the application switched it off
        gc.set_threshold(YOUNG_OBJECTS, *older)


def _let_go(retval: object = None, **_: Any) -> None:
    """
    Celery's hook after a task: let what `Ignore` left behind go at once, for each job has one.

    Celery's own frame, of which billiard has copied thousands of positions, would else be held by the exception that it
    holds, some 200 kB, until the garbage collector comes.
    """
    if isinstance(retval, Ignore):
        retval.__traceback__ = None
