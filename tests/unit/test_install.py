"""What `install` does to an app's configuration, in whichever order the two come."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
import redis
from celery import Celery, _state
from celery.app.control import Control
from celery.app.trace import build_tracer
from celery.exceptions import Ignore
from celery.signals import worker_init

from tasks_bridge import NotFound, Settings, SettingsError, generate, install
from tasks_bridge.bridge import bridge_of
from tasks_bridge.sandbox import SandboxServer
from tests.smoke.processes import eventually

APPS_REDIS = "redis://apps-redis:7777/3"
OUR_REDIS = "redis://our-redis:8888/1"


class AppConfig:
    CELERY_BROKER_URL = APPS_REDIS
    CELERY_TASK_DEFAULT_QUEUE = "video"
    CELERY_TASK_IGNORE_RESULT = True


@pytest.fixture
def app() -> Celery:
    return Celery("test", set_as_current=False)


def test_an_app_can_be_configured_after_install(app):
    install(app)
    app.config_from_object(AppConfig, namespace="CELERY")

    assert app.conf.broker_url == APPS_REDIS
    assert app.conf.task_default_queue == "video"
    assert app.tasks[generate.name].ignore_result is True


def test_an_app_can_be_configured_before_install(app):
    app.config_from_object(AppConfig, namespace="CELERY")
    assert app.conf.task_default_queue == "video"
    install(app)

    assert app.conf.broker_url == APPS_REDIS


@pytest.mark.parametrize(
    ("config", "settings", "expected"),
    [
        pytest.param({}, {}, ("localhost:6379/0",) * 3, id="nothing is set: Redis on this machine"),
        pytest.param({}, {"redis_url": OUR_REDIS}, ("our-redis:8888/1",) * 3, id="our settings alone"),
        pytest.param({"broker_url": APPS_REDIS}, {}, ("apps-redis:7777/3",) * 3, id="the app's broker is Redis"),
        pytest.param(
            {"broker_url": "amqp://rabbit//"},
            {"redis_url": OUR_REDIS},
            ("rabbit//", "our-redis:8888/1", "our-redis:8888/1"),
            id="the app's broker is RabbitMQ",
        ),
        pytest.param(
            {"broker_url": "amqp://rabbit//", "result_backend": APPS_REDIS},
            {},
            ("rabbit//", "apps-redis:7777/3", "apps-redis:7777/3"),
            id="the app's results are in Redis",
        ),
        pytest.param(
            {"broker_url": APPS_REDIS, "result_backend": APPS_REDIS},
            {"redis_url": OUR_REDIS},
            ("apps-redis:7777/3", "apps-redis:7777/3", "our-redis:8888/1"),
            id="jobs apart from the app's own Redis",
        ),
    ],
)
def test_what_the_app_has_is_left_and_what_it_lacks_is_filled_in(
    app, config: dict[str, Any], settings: dict[str, Any], expected: tuple[str, str, str]
):
    app.conf.update(config)
    bridge = install(app, Settings(**settings))

    found = (app.conf.broker_url, app.conf.result_backend, bridge.store.address)
    assert tuple(url.partition("://")[2] or url for url in found) == expected


def test_install_twice_leaves_one_bridge(app):
    install(app, Settings(namespace="first"))
    install(app, Settings(namespace="second"))

    assert bridge_of(app).settings.namespace == "second"
    assert type(app.control).__mro__.count(Control) == 1


def test_an_app_that_nobody_uses_any_more_is_let_go_with_its_bridge():
    def use() -> tuple[Any, Any]:
        app = Celery("test", set_as_current=False)
        bridge = install(app, Settings(redis_url=OUR_REDIS))
        assert bridge.store.address == "our-redis:8888/1"
        assert app.conf.broker_url == OUR_REDIS
        return weakref.ref(app), weakref.ref(bridge)

    app, bridge = use()
    gc.collect()

    assert (app(), bridge()) == (None, None)


def test_a_bridge_that_nobody_uses_any_more_ends_its_loop_and_its_connections():
    with SandboxServer() as sandbox:

        def use() -> None:
            app = Celery("test", set_as_current=False)
            bridge = install(app, Settings(api_key="sk-byts-test", base_url=sandbox.url))
            with pytest.raises(NotFound):
                bridge.reactor.run(bridge.client("default").query("task_1"))

        def loops() -> list[threading.Thread]:
            return [thread for thread in threading.enumerate() if thread.name == "tasks-bridge-reactor"]

        before = loops()
        use()
        gc.collect()

        # a connection that is left open would be told of as a warning, which is an error here
        eventually(lambda: loops() == before, expected="the loop's thread to end")


def test_the_connections_of_an_app_close_with_it(redis_url: str):
    def use() -> int:
        bridge = install(Celery("test", set_as_current=False), Settings(redis_url=redis_url))
        client = bridge.store.client
        client.ping()
        client.connection_pool.disconnect()
        gc.collect(0)  # the next socket is younger than its connection: the collector would finalize it first
        return int(client.client_id())

    number = use()
    gc.collect()

    with redis.Redis.from_url(redis_url) as client:
        assert number not in {int(other["id"]) for other in client.client_list()}


def test_a_task_that_ends_by_ignore_holds_nothing_until_the_collector_comes(app):
    """As the first message of each job does: a pool process would grow with the jobs that pass through it."""
    install(app)

    class Argument:
        pass

    @app.task
    def leave(argument: Argument) -> None:
        raise Ignore

    argument = Argument()
    held = weakref.ref(argument)
    gc.disable()
    try:
        run: Any = build_tracer(leave.name, leave, app=app)
        run("an-id", (argument,), {})
        del argument
        assert held() is None
    finally:
        gc.enable()


A_POOL_PROCESS = """
import gc, weakref
from tasks_bridge.install import YOUNG_OBJECTS, _spare_collector

class Ring:
    def __init__(self):
        self.ring = self

application = [[] for _ in range(2_000_000)]
gc.collect()
_spare_collector()
old = Ring()
is_held = weakref.ref(old)
gc.collect(1)
gc.collect(1)
del old
for looks in range(300):
    for _ in range(YOUNG_OBJECTS):
        Ring()
    if not is_held():
        print(looks)
        break
"""


def test_a_pool_process_finds_old_garbage_however_large_the_application_is():
    done = subprocess.run([sys.executable, "-c", A_POOL_PROCESS], check=True, capture_output=True, text=True)

    assert done.stdout, "garbage that outlived two looks should be gone after three hundred more"


A_WORKER = """
import gc, os, signal
from pathlib import Path
from celery import Celery
from celery.signals import worker_before_create_process
from tasks_bridge import Settings, install

install(Celery("memory"), Settings(api_key="sk-byts-memory", redis_url="redis://localhost/0"))
application = [[] for _ in range(1_000_000)]
children = []
for _ in range(2):
    worker_before_create_process.send(sender=None)
    gc.collect()  # as Celery does
    children.append(os.fork())
    if not children[-1]:
        signal.pause()
kept = Path(f"/proc/{children[0]}/smaps_rollup").read_text()
for child in children:
    os.kill(child, signal.SIGKILL)
print(sum(int(line.split()[1]) for line in kept.splitlines() if line.startswith("Private")))
"""


def test_a_pool_process_shares_the_application_also_once_the_next_one_is_there():
    done = subprocess.run([sys.executable, "-c", A_WORKER], check=True, capture_output=True, text=True)

    assert int(done.stdout) < 20_000, "of the million objects, 70 MB, it should have no copy of its own"


def test_an_app_without_install_says_what_to_do(app):
    with pytest.raises(SettingsError, match=r"call tasks_bridge\.install\(app\)"):
        app.tasks[generate.name].apply_async(("seedream-v4", {"prompt": "a fox"}))


def test_no_part_of_an_installed_app_shows_a_secret(app):
    settings = Settings(api_key="sk-byts-very-secret", redis_url="redis://user:hush@our-redis:8888/1")
    bridge = install(app, settings)

    shown = f"{settings!r} {settings} {bridge!r} {bridge.store!r} {bridge.store.client!r}"
    assert "very-secret" not in shown
    assert "hush" not in shown


@dataclass(frozen=True)
class WorkerOf:
    """All that matters of a `WorkController` when it says that it begins."""

    app: Celery


def test_callers_are_told_sooner_than_workers_that_redis_hangs(app):
    bridge = install(app, Settings())

    def try_s():
        return bridge.store.client.connection_pool.connection_kwargs["socket_timeout"]

    assert try_s() == 5 / 4, "four tries within store_timeout_s"
    worker_init.send(sender=WorkerOf(Celery("another", set_as_current=False)))
    assert try_s() == 5 / 4
    worker_init.send(sender=WorkerOf(app))
    assert try_s() == 40 / 4
    assert bridge.gate._store is bridge.store


SENTINELS = "sentinel://:hush@one:26379;sentinel://two:26380/2"


def test_sentinels_in_our_setting_are_told_to_celery_in_its_own_form(app):
    bridge = install(app, Settings(redis_url=f"{SENTINELS}?master_name=jobs&sentinel_password=secret"))

    assert app.conf.broker_url == app.conf.result_backend == SENTINELS
    for options in (app.conf.broker_transport_options, app.conf.result_backend_transport_options):
        assert options["master_name"] == "jobs"
        assert options["sentinel_kwargs"]["password"] == "secret"
        assert options["sentinel_kwargs"]["retry"]._retries == 0, "one that is down should cost no time"
    assert bridge.store.address == "the master jobs/2"


def test_sentinels_in_celerys_form_are_where_the_jobs_are(app):
    app.conf.update(result_backend=SENTINELS, result_backend_transport_options={"master_name": "jobs"})
    bridge = install(app, Settings())

    assert bridge.store.address == "the master jobs/2"
    shown = f"{bridge.store!r} {bridge.store.client!r}"
    assert "hush" not in shown


def test_sentinels_without_a_masters_name_are_refused(app):
    app.conf.update(result_backend=SENTINELS)
    bridge = install(app, Settings())

    with pytest.raises(SettingsError, match="master_name") as refused:
        _ = bridge.store
    assert "hush" not in str(refused.value)


def test_threads_of_a_web_server_find_the_app_that_was_made_in_another(monkeypatch):
    monkeypatch.setattr(_state, "default_app", None)
    app = Celery("shop")
    bridge = install(app, Settings(api_key="sk-byts-test", redis_url=OUR_REDIS))

    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(lambda: bridge_of(generate.app)).result() is bridge


def test_an_app_that_is_nobodys_default_does_not_become_it(monkeypatch, app):
    monkeypatch.setattr(_state, "default_app", None)
    install(app, Settings(api_key="sk-byts-test", redis_url=OUR_REDIS))

    assert vars(_state)["default_app"] is None
