"""What a Flask app sets for us: ``app.config["TASKS_BRIDGE"]``, and what is left to the environment or is Flask's."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from tasks_bridge.errors import SettingsError
from tasks_bridge.settings import Settings
from tasks_bridge.web import config

if TYPE_CHECKING:
    from flask import Flask

_WHERE: Final = f'app.config["{config.NAME}"]'
_OWN_PREFIX: Final = f"{config.NAME}_"
_API_PREFIX: Final = "BYTESPIKE_"


def library_settings(app: Flask) -> Settings:
    """
    The library's settings, as *app* has them at this moment.

    Raises:
        SettingsError: A value is wrong, a name unknown, or a setting stands where nothing reads it.
    """
    _refuse_strays(app)
    given = config.given_settings(app.config.get(config.NAME, {}), _WHERE)
    # the fallbacks came with Flask 3.1
    keys = [app.secret_key, *(app.config.get("SECRET_KEY_FALLBACKS") or [])] if app.secret_key else []
    return config.library_settings(given, _WHERE, keys)


def _refuse_strays(app: Flask) -> None:
    """Refuse settings beside the dict, which would silently have no effect."""
    for name, value in app.config.items():
        field = name.removeprefix(_OWN_PREFIX).removeprefix(_API_PREFIX)
        is_ours = name.startswith(_OWN_PREFIX) or (
            name.startswith(_API_PREFIX) and field.lower() in Settings.model_fields
        )
        # a whole environment that was copied into the configuration is read where it comes from
        if is_ours and os.environ.get(name) != value:
            raise SettingsError(
                f'app.config["{name}"] is not read: write {_WHERE} = {{"{field}": …}}, or set it in the environment'
            )
