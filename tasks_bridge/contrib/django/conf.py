"""What a Django project sets for us: ``TASKS_BRIDGE``, and what is left to the environment or taken from Django."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from celery import current_app
from django.conf import settings as django_settings
from django.utils.module_loading import import_string

from tasks_bridge.contrib.django.storage import DEFAULT_TARGET
from tasks_bridge.errors import SettingsError
from tasks_bridge.settings import Settings
from tasks_bridge.web import config

if TYPE_CHECKING:
    from celery import Celery

NAME: Final = config.NAME
CELERY_APP: Final = "CELERY_APP"
"""The one name in the dict that is not a field of `Settings`: the dotted path of the project's Celery app."""

_WHERE: Final = f"{NAME} in the Django settings"
_FALLBACK_APP: Final = "default"
"""How Celery names the app that it makes up where there is none."""


def given() -> Mapping[str, Any]:
    """
    The dict in the Django settings.

    Raises:
        SettingsError: It is none, or has a name that is not in capitals.
    """
    return config.given_settings(getattr(django_settings, NAME, {}), _WHERE)


def library_settings() -> Settings:
    """
    The library's settings: from the dict, and what that leaves out from the environment.

    Outputs are saved in the default storage, unless another place is set.

    Raises:
        SettingsError: A value is wrong, or a name unknown.
    """
    values = {name: value for name, value in given().items() if name != CELERY_APP}
    if "SAVE_TO" not in values and not os.environ.get("TASKS_BRIDGE_SAVE_TO"):
        values["SAVE_TO"] = DEFAULT_TARGET
    keys = [django_settings.SECRET_KEY, *django_settings.SECRET_KEY_FALLBACKS]
    return config.library_settings(values, _WHERE, keys)


def celery_app() -> Celery:
    """
    The Celery app whose workers run the jobs: the one that is named, else the project's, else one of ours.

    Raises:
        SettingsError: The name leads to none.
    """
    path = given().get(CELERY_APP)
    if path is not None:
        try:
            named: Celery = import_string(path)
        except (ImportError, TypeError, AttributeError) as error:
            raise SettingsError(f"{NAME}: {CELERY_APP} must be the dotted path of a Celery app: {error}") from None
        return named
    app: Any = current_app
    if app.main != _FALLBACK_APP:
        found: Celery = app._get_current_object()  # Celery's documented way past its proxies
        return found
    # only here: a project with an app of its own must not get a second one
    from tasks_bridge.contrib.django.celery import app as own  # noqa: PLC0415

    return own
