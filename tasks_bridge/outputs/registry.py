"""Which kind of destination belongs to which scheme."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from tasks_bridge.errors import SettingsError
from tasks_bridge.naming import FOLDER
from tasks_bridge.outputs.folder import Folder
from tasks_bridge.outputs.remote import Remote

if TYPE_CHECKING:
    from tasks_bridge.naming import Target
    from tasks_bridge.outputs.destination import Destination
    from tasks_bridge.settings import Settings

Factory = Callable[["Target", "Settings"], "Destination"]

DJANGO: Final = "django"

_factories: dict[str, Factory] = {FOLDER: Folder}


def register_destination(scheme: str, factory: Factory) -> None:
    """
    Have destinations of *scheme* made by *factory*; a framework's leaf brings its storage in so.

    It is called for each run of `save_output`, with the destination taken apart and the settings.
    """
    _factories[scheme] = factory


def open_destination(target: Target, settings: Settings) -> Destination:
    """
    The place that *target* is in.

    Raises:
        SettingsError: Something is not installed.
    """
    if target.scheme == DJANGO and DJANGO not in _factories:
        raise SettingsError("To save outputs to django://, run the workers of the Django project that has us installed")
    return _factories.get(target.scheme, Remote)(target, settings)
