"""
Which app is meant: a Flask app's tasks run in its context, and within its context Celery's current app is its own.

So ``generate.delay(…)``, ``Job(id)`` and the application's shared tasks are those of the Flask app at hand, however
many of them live in the process. Celery keeps its current app for each thread; of a thread that is in no context, such
as the one of an asynchronous view, it is the default app: that of the latest Flask app.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from celery import Task, _state
from flask.signals import appcontext_popped, appcontext_pushed

from tasks_bridge.contrib.flask.state import state_of

if TYPE_CHECKING:
    from celery import Celery
    from flask import Flask


def run_in_context(celery: Celery, app: Flask) -> None:
    """
    Have the tasks of *celery* run in a context of *app* each: in a worker, eagerly, and as errbacks within another.

    A Celery app whose task class has a ``__call__`` of its own, as in Flask's guide, is left as it is.
    """
    base: Any = celery.Task  # of this app alone
    if base.__call__ is Task.__call__:
        base.__call__ = _in_context
    base.flask_app = app


def follow_contexts(app: Flask) -> None:
    """Make the Celery app of *app* the current one wherever a context of *app* is."""
    # once for each app, which is not kept alive by it
    appcontext_pushed.connect(_enter, app)
    appcontext_popped.connect(_leave, app)


def _in_context(task: Any, *args: Any, **kwargs: Any) -> Any:
    with task.flask_app.app_context():
        # looked up now: Celery's worker puts another in its place
        return Task.__call__(task, *args, **kwargs)


class _Contexts(threading.local):
    """The contexts that this thread has entered, with the Celery app that was current before each."""

    def __init__(self) -> None:
        self.entered: list[tuple[Flask, Any]] = []


_contexts = _Contexts()
_celery: Any = _state


def _enter(sender: Flask, **_: Any) -> None:
    _contexts.entered.append((sender, _celery._tls.current_app))  # noqa: SLF001 - None, where `current_app` makes one up
    state_of(sender).celery.set_current()


def _leave(sender: Flask, **_: Any) -> None:
    entered = _contexts.entered
    if entered and entered[-1][0] is sender:  # not one that was there before the extension
        _celery._set_current_app(entered.pop()[1])  # noqa: SLF001
