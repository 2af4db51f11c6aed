"""The extension, as Flask applications know them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from celery import Celery

from tasks_bridge.bridge import bridge_of
from tasks_bridge.contrib.flask.config import library_settings
from tasks_bridge.contrib.flask.context import follow_contexts, run_in_context
from tasks_bridge.contrib.flask.markup import bytespike_job, bytespike_script
from tasks_bridge.contrib.flask.signals import SignalHooks, tell_by_task
from tasks_bridge.contrib.flask.state import KEY, State
from tasks_bridge.contrib.flask.views import blueprint
from tasks_bridge.errors import SettingsError
from tasks_bridge.install import install
from tasks_bridge.web.endpoints import Endpoints

if TYPE_CHECKING:
    from flask import Flask

    from tasks_bridge.bridge import Bridge
    from tasks_bridge.settings import Settings

CELERY: Final = "celery"
"""Where Flask's guide to Celery keeps the Celery app in ``app.extensions``."""

URL_PREFIX: Final = "/bytespike"


class TasksBridge:
    """
    Lets Flask apps run jobs: in the web process and in the worker alike.

    ```python
    bridge = TasksBridge()


    def create_app():
        app = Flask(__name__)
        app.config.from_prefixed_env()
        bridge.init_app(app)
        return app
    ```

    It keeps nothing of an app in itself, so one serves any number of them.
    """

    def __init__(self, app: Flask | None = None, *, celery: Celery | None = None, url_prefix: str = URL_PREFIX) -> None:
        """
        Make the extension, and initialise *app* if it is given.

        Args:
            app: The Flask app, configured.
            celery: The Celery app to use; default: ``app.extensions["celery"]``, else one is made.
            url_prefix: Where the URLs of jobs are, see docs/live.md.

        Raises:
            SettingsError: As from `init_app`.
        """
        self._celery = celery
        self._url_prefix = url_prefix
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """
        Let *app* run jobs, as its configuration says at this moment.

        A Celery app that has to be made has the settings in ``app.config["CELERY"]``, as in Flask's guide, and is
        ``app.extensions["celery"]``. Nothing is connected to yet.

        Raises:
            SettingsError: A setting is wrong or unknown, or the Celery app can't be used. *app* is as it was.
            RuntimeError: *app* was initialised before.
        """
        if KEY in app.extensions:
            raise RuntimeError(
                f"The Flask app {app.import_name!r} has a TasksBridge already: "
                "make one for all apps, and initialise each of them once"
            )
        settings = library_settings(app)
        celery = self._celery if self._celery is not None else app.extensions.get(CELERY)
        celery = _made(app) if celery is None else celery
        if not isinstance(celery, Celery):
            raise SettingsError(f"This is no Celery app: {celery!r}. Name yours: TasksBridge(app, celery=…)")
        bridge = _installed(celery, settings)
        app.register_blueprint(blueprint, url_prefix=self._url_prefix)
        app.add_template_global(bytespike_job)
        app.add_template_global(bytespike_script)
        bridge.hooks[:] = [*(hook for hook in bridge.hooks if not isinstance(hook, SignalHooks)), SignalHooks(app)]
        tell_by_task(celery)
        run_in_context(celery, app)
        app.extensions.setdefault(CELERY, celery)
        app.extensions[KEY] = State(celery, Endpoints(celery))
        follow_contexts(app)


def _made(app: Flask) -> Celery:
    """A Celery app as in Flask's guide. Source: Flask's documentation, "Background Tasks with Celery"."""
    celery = Celery(app.name)
    celery.config_from_object(app.config.get("CELERY", {}))
    celery.set_default()  # of threads that are in no context
    return celery


def _installed(celery: Celery, settings: Settings) -> Bridge:
    try:
        known = bridge_of(celery)
    except SettingsError:
        return install(celery, settings)
    if known.settings != settings:
        raise SettingsError(
            f"The Celery app {celery.main!r} was installed with other settings before. Leave out a call of install(), "
            "which TasksBridge makes; and give each Flask app with settings of its own a Celery app of its own"
        )
    return known
