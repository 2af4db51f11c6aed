"""
What ``manage.py check`` says of a project that is about to run jobs.

Errors stop ``runserver`` and ``migrate``: with these nothing works. What is only dangerous is a warning. One call to
Redis, of two seconds at most: a build without Redis is told, and not stopped.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from django.apps import apps
from django.core import checks
from django.urls import NoReverseMatch, reverse

from tasks_bridge.bridge import Bridge, bridge_of
from tasks_bridge.contrib.django import conf
from tasks_bridge.contrib.django.apps import LABEL
from tasks_bridge.errors import BridgeError, SettingsError, StoreError
from tasks_bridge.events import POLL
from tasks_bridge.settings import DEFAULT_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

VISIBILITY_MIN_S: Final = 300.0
"""Celery's own default is an hour. A callback that a worker holds for longer than this is given to another as well."""

REDIS_WAIT_S: Final = 2.0


@checks.register(LABEL)
def check(app_configs: Any, **_: Any) -> list[checks.CheckMessage]:
    """All that can be wrong; see docs/django.md for each."""
    if app_configs is not None and all(config.label != LABEL for config in app_configs):
        return []
    problem = getattr(apps.get_app_config(LABEL), "problem", None)
    if problem is not None:
        return [checks.Error(str(problem), id="tasks_bridge.E001")]
    bridge = bridge_of(conf.celery_app())
    return [*_settings(bridge), *_celery(bridge), *_urls(bridge), *_redis(bridge)]


def _settings(bridge: Bridge) -> Iterator[checks.CheckMessage]:
    try:
        bridge.settings.key(DEFAULT_KEY)
    except SettingsError as error:
        if not bridge.settings.api_keys:
            yield checks.Warning(str(error), hint=f'Or {conf.NAME} = {{"API_KEY": …}}.', id="tasks_bridge.W001")
    if conf.given() and bridge.settings != _told():
        yield checks.Warning(
            f"{conf.NAME} in the Django settings has no effect, because the project calls install() itself",
            hint="Leave that call out: the app in INSTALLED_APPS does it.",
            id="tasks_bridge.W002",
        )
    if not bridge.settings.alarm:
        yield checks.Warning(
            "ALARM is off for every process of this project: no worker will ever poll a job",
            hint="Set TASKS_BRIDGE_ALARM=false in the environment of those workers that must not.",
            id="tasks_bridge.W003",
        )


def _told() -> Any:
    try:
        return conf.library_settings()
    except SettingsError:
        return None


def _celery(bridge: Bridge) -> Iterator[checks.CheckMessage]:
    settings: Any = bridge.app.conf
    if "json" not in settings.accept_content and "application/json" not in settings.accept_content:
        yield checks.Error("Celery's accept_content lacks json, which messages of jobs are", id="tasks_bridge.E002")
    broker = str(settings.broker_url or bridge.settings.broker)
    wait_s = (settings.broker_transport_options or {}).get("visibility_timeout")
    if broker.startswith(("redis", "rediss", "sentinel", "unix")) and wait_s is not None and wait_s < VISIBILITY_MIN_S:
        yield checks.Warning(
            f"Celery's visibility_timeout is {wait_s:g} s: a callback with acks_late, an ETA or a long queue before it "
            "is delivered again after that, while the first may be at work",
            hint="Jobs don't depend on it. Leave it at its default, an hour, or above your longest task.",
            id="tasks_bridge.W004",
        )
    scheduled = [name for name, entry in (settings.beat_schedule or {}).items() if entry.get("task") == POLL]
    if scheduled:
        yield checks.Warning(
            f"Celery beat polls jobs ({', '.join(scheduled)}), which the workers do by themselves",
            hint="Take these entries out of beat_schedule. Nothing here needs beat.",
            id="tasks_bridge.W005",
        )
    if settings.task_always_eager:
        yield checks.Warning(
            "task_always_eager is on: each job runs to its end in the process that starts it",
            hint="For tests only.",
            id="tasks_bridge.W006",
        )


def _urls(bridge: Bridge) -> Iterator[checks.CheckMessage]:
    address = bridge.settings.callback_base_url
    try:
        path = reverse("tasks_bridge:callback", args=["token"]).removesuffix("/token")
    except NoReverseMatch:
        if address is not None:
            yield checks.Error(
                "ByteSpike is to call back, and tasks_bridge.contrib.django.urls is not among the project's URLs",
                hint='path("bytespike/", include("tasks_bridge.contrib.django.urls"))',
                id="tasks_bridge.E003",
            )
        return
    if address is None:
        return
    if not urlsplit(address).path.endswith(path):
        yield checks.Error(
            f"The callbacks' address {address} does not lead to their view, which is at …{path}",
            hint=f'{conf.NAME} = {{"CALLBACK_BASE_URL": "https://<your host>{path}"}}',
            id="tasks_bridge.E004",
        )
    if urlsplit(address).scheme != "https":
        yield checks.Warning(
            f"The callbacks' address {address} is not https, which only the sandbox on this machine calls",
            id="tasks_bridge.W007",
        )


def _redis(bridge: Bridge) -> Iterator[checks.CheckMessage]:
    found: list[BridgeError | None] = []

    def look() -> None:
        try:
            bridge.store.check()
        except BridgeError as error:
            found.append(error)
        else:
            found.append(None)

    # the store itself waits for a server that restarts; a check must not
    thread = threading.Thread(target=look, name="tasks-bridge-check", daemon=True)
    thread.start()
    thread.join(REDIS_WAIT_S)
    problem = found[0] if found else StoreError(f"Redis at {bridge.store.address} did not answer in {REDIS_WAIT_S:g} s")
    if isinstance(problem, StoreError):
        yield checks.Warning(str(problem), hint="Jobs can't be started without it.", id="tasks_bridge.W008")
    elif problem is not None:
        yield checks.Error(str(problem), id="tasks_bridge.E005")
