"""What a test changes about Celery apps, and puts back."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from celery import _state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from celery import Celery

_ENVIRONMENT: Final = (
    "CELERY_BROKER_URL",
    "CELERY_BROKER_READ_URL",
    "CELERY_BROKER_WRITE_URL",
    "CELERY_RESULT_BACKEND",
)
"""They come before an app's own configuration."""

_NOT_SET: Final = object()


@contextmanager
def current(app: Celery) -> Iterator[None]:
    """Have *app* be the current one of this thread, as in its workers."""
    state: Any = _state
    before = getattr(state._tls, "current_app", None)  # noqa: SLF001 - celery has no way back by name
    state._set_current_app(app)  # noqa: SLF001
    try:
        yield
    finally:
        state._set_current_app(before)  # noqa: SLF001


@contextmanager
def without_environment() -> Iterator[None]:
    """Let no variable name a broker or result backend."""
    before = {name: os.environ.pop(name) for name in _ENVIRONMENT if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(before)


def rewire(app: Celery, changes: Mapping[str, Any]) -> Callable[[], None]:
    """
    Change *app*'s configuration, and have it connect anew.

    An app that is not configured yet is left to its owner, and changed when it is.

    Returns:
        What puts everything back.
    """
    wiring = _Wiring(app, changes)
    inside: Any = app
    if vars(app)["configured"]:
        wiring.change()
    else:
        inside.on_after_configure.connect(wiring.change, weak=False)
    return wiring.restore


class _Wiring:
    """One app's configuration and connections before and after."""

    def __init__(self, app: Celery, changes: Mapping[str, Any]) -> None:
        self._app: Any = app
        self._changes = changes
        self._before: dict[str, Any] = {}
        self._connections: tuple[Any, Any] = (None, None)
        self._is_changed = False

    def change(self, **_: Any) -> None:
        app, conf = self._app, self._app.conf
        # under the app's own namespace, if it has one: that comes first
        changes = {conf._to_keys(name)[0]: value for name, value in self._changes.items()}  # noqa: SLF001
        self._before = {key: conf.changes.get(key, _NOT_SET) for key in changes}
        self._connections = (app._pool, getattr(vars(app).get("amqp"), "_producer_pool", None))  # noqa: SLF001
        conf.changes.update(changes)
        self._connect(None, None)
        self._is_changed = True

    def restore(self) -> None:
        app = self._app
        app.on_after_configure.disconnect(self.change)
        if not self._is_changed:
            return
        for key, value in self._before.items():
            if value is _NOT_SET:
                app.conf.changes.pop(key, None)
            else:
                app.conf.changes[key] = value
        self._connect(*self._connections)

    def _connect(self, pool: Any, producers: Any) -> None:
        """Celery's own way to forget connections, in `Celery._after_fork`; and those that are kept elsewhere."""
        app = self._app
        app._pool = pool  # noqa: SLF001
        if "amqp" in vars(app):
            vars(app)["amqp"]._producer_pool = producers  # noqa: SLF001
        vars(app).pop("control", None)  # its mailbox has the producers
        app._backend_cache = None  # noqa: SLF001
        vars(app._local).pop("backend", None)  # noqa: SLF001
