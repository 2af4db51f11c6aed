"""The app in ``INSTALLED_APPS``."""

from __future__ import annotations

import logging
from typing import Final

from django.apps import AppConfig

from tasks_bridge.bridge import bridge_of, refuse_bridge
from tasks_bridge.errors import SettingsError
from tasks_bridge.install import install
from tasks_bridge.settings import Settings

LABEL: Final = "tasks_bridge"

log = logging.getLogger(__name__)


class TasksBridgeConfig(AppConfig):
    """Installs the library on the project's Celery app, in the web process and in workers alike."""

    name = "tasks_bridge.contrib.django"
    label = LABEL
    verbose_name = "ByteSpike jobs"

    problem: SettingsError | None = None
    """Why nothing could be installed; ``manage.py check`` tells it, and so does whatever needs the installation."""

    is_overruled: bool = False
    """Whether the project has called `install` itself, with other settings than those in its Django settings."""

    def ready(self) -> None:
        """Django's hook, once all models are known."""
        # these need the registry of apps to be complete
        from tasks_bridge.contrib.django import checks, conf, storage, tasks  # noqa: F401, PLC0415
        from tasks_bridge.contrib.django.transitions import RowHooks  # noqa: PLC0415

        try:
            app = conf.celery_app()
        except SettingsError as error:
            self.problem = error
            log.critical("%s", error)
            return
        try:
            bridge = bridge_of(app)  # the project has called `install` itself
        except SettingsError:
            try:
                bridge = install(app, conf.library_settings())
            except SettingsError as error:
                self.problem = error
                refuse_bridge(app, error)
                log.critical("%s", error)
                return
        else:
            self.is_overruled = bool(conf.given()) and bridge.settings != _settings_of_project()
        if not any(isinstance(hook, RowHooks) for hook in bridge.hooks):
            bridge.hooks.append(RowHooks())


def _settings_of_project() -> Settings | None:
    from tasks_bridge.contrib.django import conf  # noqa: PLC0415

    try:
        return conf.library_settings()
    except SettingsError:
        return None
