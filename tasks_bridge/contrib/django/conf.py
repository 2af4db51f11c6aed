"""What a Django project sets for us: ``TASKS_BRIDGE``, and what is left to the environment or taken from Django."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from celery import current_app
from django.conf import settings as django_settings
from django.utils.crypto import salted_hmac
from django.utils.module_loading import import_string

from tasks_bridge.errors import SettingsError
from tasks_bridge.settings import Settings

if TYPE_CHECKING:
    from celery import Celery

NAME: Final = "TASKS_BRIDGE"
CELERY_APP: Final = "CELERY_APP"
"""The one name in the dict that is not a field of `Settings`: the dotted path of the project's Celery app."""

_SALT: Final = "tasks_bridge.contrib.django"
_FALLBACK_APP: Final = "default"
"""How Celery names the app that it makes up where there is none."""


def given() -> Mapping[str, Any]:
    """
    The dict in the Django settings.

    Raises:
        SettingsError: It is none, or has a name that is not in capitals.
    """
    found = getattr(django_settings, NAME, {})
    if not isinstance(found, Mapping):
        raise SettingsError(f"{NAME} in the Django settings must be a dict")
    for name in found:
        if not (isinstance(name, str) and name.isupper()):
            raise SettingsError(
                f"{NAME} in the Django settings: names are in capitals, as any Django setting: {name!r}"
            )
    return found


def library_settings() -> Settings:
    """
    The library's settings: from the dict, and what that leaves out from the environment.

    Links are signed with a key that is derived from Django's ``SECRET_KEY``, unless one is set. So whoever has that
    changed ends all links, and ``SECRET_KEY_FALLBACKS`` keeps them alive, as with anything that Django signs.

    Raises:
        SettingsError: A value is wrong, or a name unknown.
    """
    values = {name.lower(): value for name, value in given().items() if name != CELERY_APP}
    if "secret_key" not in values and not os.environ.get("TASKS_BRIDGE_SECRET_KEY"):
        values["secret_key"] = _derived(django_settings.SECRET_KEY)
        values["secret_key_fallbacks"] = [_derived(key) for key in django_settings.SECRET_KEY_FALLBACKS]
    try:
        return Settings(**values)
    except SettingsError as error:
        raise SettingsError(f"{NAME} in the Django settings: {error}") from None


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


def _derived(secret: str | bytes) -> str:
    return str(salted_hmac(_SALT, "links", secret=secret, algorithm="sha256").hexdigest())
