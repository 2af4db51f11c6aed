"""Teach any Celery app to run jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from tasks_bridge import tasks
from tasks_bridge.alarm import Alarm
from tasks_bridge.bridge import Bridge, register_bridge
from tasks_bridge.control import RevokeCommand, durable_revoke
from tasks_bridge.quiet import QuietPolling
from tasks_bridge.settings import Settings
from tasks_bridge.store.redis import RedisStore, connect

if TYPE_CHECKING:
    from celery import Celery

_REDIS_SCHEMES = ("redis://", "rediss://", "unix://", "redis+socket://")


def install(app: Celery, settings: Settings | None = None) -> Bridge:
    """
    Let *app* run jobs: call it where the app is made, in the web process and in the worker alike.

    It adds the alarm to the app's workers, makes `revoke` cancel jobs, and where the app has no broker or result
    backend of its own, sets them from the settings. Nothing is connected to yet.

    Args:
        app: The Celery app, before its worker starts.
        settings: The configuration; default: from the environment. Without ``TASKS_BRIDGE_REDIS_URL`` jobs are kept in
            the app's own Redis: its result backend's, else its broker's.

    Raises:
        SettingsError: A setting is wrong.
    """
    settings = _with_app_redis(app, settings or Settings())
    conf: Any = app.conf
    if not conf.broker_url:
        conf.broker_url = settings.broker
    if not conf.result_backend:
        conf.result_backend = settings.backend
    client = connect(settings.redis_url.get_secret_value())
    store = RedisStore(client, namespace=settings.namespace, keep_body=settings.keep_prompt)
    bridge = Bridge(app, settings, store)
    register_bridge(bridge)
    app.steps["consumer"].add(Alarm)
    app.steps["worker"].update((RevokeCommand, QuietPolling))
    durable_revoke(app)
    # shared tasks reach an app when it is finalized; one that already is gets them here
    for task in (tasks.generate, tasks.poll):
        app.tasks.setdefault(task.name, task)
    return bridge


def _with_app_redis(app: Celery, settings: Settings) -> Settings:
    if "redis_url" in settings.model_fields_set:
        return settings
    for url in (app.conf.result_backend, app.conf.broker_url):
        if url and url.startswith(_REDIS_SCHEMES):
            return settings.model_copy(update={"redis_url": SecretStr(url.replace("redis+socket://", "unix://"))})
    return settings
