"""
What ``manage.py check`` says of a project that is about to run jobs.

Errors stop ``runserver`` and ``migrate``: with these nothing works. What is only dangerous is a warning. One call to
Redis, of two seconds at most: a build without Redis is told, and not stopped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.apps import apps
from django.core import checks
from django.core.files.storage import storages
from django.urls import NoReverseMatch, reverse

from tasks_bridge.bridge import Bridge, bridge_of
from tasks_bridge.checks import Finding, check_callbacks, check_celery, check_redis, check_settings, check_workers
from tasks_bridge.contrib.django import conf
from tasks_bridge.contrib.django.apps import LABEL
from tasks_bridge.naming import parse_target
from tasks_bridge.outputs.registry import DJANGO

if TYPE_CHECKING:
    from collections.abc import Iterator

_INCLUDE: Final = 'path("bytespike/", include("tasks_bridge.contrib.django.urls"))'
_OVERRULED: Final = Finding(
    "W002",
    f"{conf.NAME} in the Django settings has no effect, because the project calls install() itself",
    "Leave that call out: the app in INSTALLED_APPS does it.",
)


@checks.register(LABEL)
def check(app_configs: Any, **_: Any) -> list[checks.CheckMessage]:
    """All that can be wrong; see docs/django.md for each."""
    if app_configs is not None and all(config.label != LABEL for config in app_configs):
        return []
    config: Any = apps.get_app_config(LABEL)
    if config.problem is not None:
        return [_message(Finding("E001", str(config.problem)))]
    found = [_message(finding) for finding in findings(bridge_of(conf.celery_app()))]
    return [_message(_OVERRULED), *found] if config.is_overruled else found


def findings(bridge: Bridge) -> Iterator[Finding]:
    """All that can be wrong once the library is installed."""
    yield from check_settings(bridge)
    yield from check_celery(bridge)
    yield from check_workers(bridge)
    yield from check_callbacks(bridge, _callback_path(), _INCLUDE)
    yield from _check_storage(bridge)
    yield from check_redis(bridge)


def _message(finding: Finding) -> checks.CheckMessage:
    kind = checks.Error if finding.is_error else checks.Warning
    return kind(finding.message, hint=finding.hint, id=f"{LABEL}.{finding.code}")


def _callback_path() -> str | None:
    try:
        return str(reverse("tasks_bridge:callback", args=["token"])).removesuffix("/token")
    except NoReverseMatch:
        return None


def _check_storage(bridge: Bridge) -> Iterator[Finding]:
    place = bridge.settings.save_to
    target = parse_target(place) if place is not None else None
    if target is not None and target.scheme == DJANGO and target.root not in storages.backends:
        yield Finding(
            "E006",
            f"Outputs are to be saved to {place}, and STORAGES has no {target.root!r}",
            f'{conf.NAME} = {{"SAVE_TO": "{DJANGO}://<alias>/…"}}, with one of its aliases.',
        )
