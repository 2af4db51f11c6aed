"""What the extension keeps of each Flask app, in the app itself: so any number of them live in one process, and go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tasks_bridge.bridge import bridge_of
from tasks_bridge.errors import SettingsError

if TYPE_CHECKING:
    from celery import Celery
    from flask import Flask

    from tasks_bridge.bridge import Bridge
    from tasks_bridge.web.endpoints import Endpoints

KEY: Final = "tasks-bridge"
"""In ``app.extensions``."""


@dataclass(frozen=True, slots=True)
class State:
    """``app.extensions["tasks-bridge"]``."""

    celery: Celery
    """The Celery app whose workers run the jobs."""
    endpoints: Endpoints

    @property
    def bridge(self) -> Bridge:
        """That app's settings and connections; in a test, the test's."""
        return bridge_of(self.celery)


def state_of(app: Flask) -> State:
    """
    What the extension keeps of *app*.

    Raises:
        SettingsError: It was not initialised for it.
    """
    found: State | None = app.extensions.get(KEY)
    if found is None:
        raise SettingsError(
            f"The Flask app {app.import_name!r} doesn't know tasks-bridge: call TasksBridge(app), or init_app(app)"
        )
    return found
