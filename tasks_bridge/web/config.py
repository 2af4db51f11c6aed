"""The library's settings as a web framework's own configuration has them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tasks_bridge.errors import SettingsError
from tasks_bridge.settings import Settings
from tasks_bridge.tokens import derive_secret

NAME: Final = "TASKS_BRIDGE"
"""Of the dict among the framework's settings."""


def given_settings(given: Any, where: str) -> Mapping[str, Any]:
    """
    *given*, if it can be the dict of settings.

    Args:
        given: What the framework has under `NAME`.
        where: How errors name that.

    Raises:
        SettingsError: It is no dict, or has a name that is not in capitals.
    """
    if not isinstance(given, Mapping):
        raise SettingsError(f"{where} must be a dict")
    for name in given:
        if not (isinstance(name, str) and name.isupper()):
            raise SettingsError(f"{where}: names are in capitals, as any setting of the framework: {name!r}")
    return given


def library_settings(given: Mapping[str, Any], where: str, keys: Sequence[str | bytes]) -> Settings:
    """
    The library's settings: from *given*, and what that leaves out from the environment.

    Links are signed with a key that is derived from the framework's own, unless one is set. So whoever has that changed
    ends all links, and its fallbacks keep them alive, as with anything that the framework signs.

    Args:
        given: `Settings` by the names of their fields in capitals.
        where: How errors name that.
        keys: The framework's secret keys, the present one first; none: links can't be signed unless a key is set.

    Raises:
        SettingsError: A value is wrong, or a name unknown.
    """
    values = {name.lower(): value for name, value in given.items()}
    if keys and "secret_key" not in values and not os.environ.get("TASKS_BRIDGE_SECRET_KEY"):
        secrets = [derive_secret(key) for key in keys]
        values.update(secret_key=secrets[0], secret_key_fallbacks=secrets[1:])
    try:
        return Settings(**values)
    except SettingsError as error:
        values.clear()  # crash reporters show local variables
        raise SettingsError(f"{where}: {error}") from None
