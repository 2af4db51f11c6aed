"""`TasksBridge` as Flask applications use it: factories, several apps in one process, Celery apps of their own."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery, Task, shared_task
from celery._state import get_current_app
from flask import Flask, g
from flask import current_app as flask_app
from pydantic import SecretStr

from tasks_bridge import Job, JobState, Settings, SettingsError, generate, install
from tasks_bridge.contrib.flask import TasksBridge, job_url
from tasks_bridge.contrib.flask.config import library_settings
from tasks_bridge.tokens import derive_secret
from tests.flask import shop
from tests.flask.conftest import heard, store_of
from tests.smoke.processes import LocalProcess, eventually

ROOT = Path(__file__).parents[2]
NOWHERE = "redis://127.0.0.1:1/0"


def bare(name: str = "bare", **config: Any) -> Flask:
    app = Flask(name)
    app.config.from_mapping({"SECRET_KEY": "a key", "TASKS_BRIDGE": {"REDIS_URL": NOWHERE}, **config})
    return app


@shared_task
def whose() -> str:
    """The Flask app in whose context it runs."""
    return flask_app.name


# -- configuration ----------------------------------------------------------------------------------------------------


def test_settings_come_from_the_dict_then_the_environment_and_the_secret_from_flask(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TASKS_BRIDGE_POLL_MAX_S", "7")
    monkeypatch.setenv("FLASK_TASKS_BRIDGE__POLL_MIN_S", "5")
    app = bare(SECRET_KEY_FALLBACKS=["an older key"])
    app.config.from_prefixed_env()

    found = library_settings(app)

    assert (found.poll_min_s, found.poll_max_s, found.redis_url) == (5, 7, SecretStr(NOWHERE))
    assert found.secret_keys == [SecretStr(derive_secret(key)) for key in ("a key", "an older key")]
    assert library_settings(bare(SECRET_KEY=None)).secret_key is None


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"TASKS_BRIDGE": {"POL_MAX_S": 5}}, r"app\.config\[\"TASKS_BRIDGE\"\]: .*did you mean 'poll_max_s'"),
        ({"TASKS_BRIDGE": {"poll_max_s": 5}}, "capitals"),
        ({"TASKS_BRIDGE": "a string"}, "must be a dict"),
        ({"TASKS_BRIDGE_POLL_MAX_S": 5}, r"\"TASKS_BRIDGE_POLL_MAX_S\"\] is not read: .*\{\"POLL_MAX_S\": …\}"),
        ({"BYTESPIKE_API_KEY": "sk-byts-hush"}, r"\"BYTESPIKE_API_KEY\"\] is not read"),
    ],
)
def test_a_setting_that_would_have_no_effect_is_an_error_and_leaves_the_app_as_it_was(
    config: dict[str, Any], said: str
) -> None:
    app = bare(**config)

    with pytest.raises(SettingsError, match=said) as caught:
        TasksBridge(app)

    assert app.extensions == {}
    assert "hush" not in str(caught.value)


def test_an_environment_that_was_copied_into_the_configuration_is_read_where_it_comes_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TASKS_BRIDGE_POLL_MAX_S", "7")

    app = bare(TASKS_BRIDGE_POLL_MAX_S="7", BYTESPIKE_MODEL="the application's own")

    assert library_settings(app).poll_max_s == 7


def test_an_app_is_initialised_once_and_what_needs_that_says_so() -> None:
    app, bridge = bare(), TasksBridge()
    with app.app_context(), pytest.raises(SettingsError, match=r"call TasksBridge\(app\)"):
        job_url("job-1")

    bridge.init_app(app)

    with pytest.raises(RuntimeError, match="has a TasksBridge already"):
        bridge.init_app(app)
    assert vars(bridge) == {"_celery": None, "_url_prefix": "/bytespike"}, "expected it to keep no app"


def test_links_without_a_secret_key_say_what_is_missing() -> None:
    app = bare(SECRET_KEY=None)
    TasksBridge(app)

    with app.test_request_context(), pytest.raises(SettingsError, match="SECRET_KEY"):
        job_url("job-1")


# -- Celery -----------------------------------------------------------------------------------------------------------


def test_a_celery_app_is_made_as_in_flask_s_guide_and_has_its_redis_from_the_jobs() -> None:
    app = bare(CELERY={"task_ignore_result": True, "task_default_queue": "video"})
    TasksBridge(app)

    celery = app.extensions["celery"]
    assert (celery.conf.task_ignore_result, celery.conf.task_default_queue) == (True, "video")
    assert celery.conf.broker_url == celery.conf.result_backend == NOWHERE


def test_a_celery_app_of_the_application_s_own_is_used() -> None:
    from_guide, named = Celery("from-guide"), Celery("named")
    first, second = bare(), bare()
    first.extensions["celery"] = from_guide

    TasksBridge(first)
    TasksBridge(second, celery=named)

    assert first.extensions["tasks-bridge"].celery is from_guide
    assert second.extensions["celery"] is second.extensions["tasks-bridge"].celery is named


def test_what_is_no_celery_app_is_refused() -> None:
    app = bare()
    app.extensions["celery"] = object()

    with pytest.raises(SettingsError, match=r"celery=…"):
        TasksBridge(app)


def test_a_celery_app_that_was_installed_otherwise_is_refused_and_one_installed_alike_is_kept() -> None:
    celery = Celery("shared")
    bridge = TasksBridge(celery=celery)
    bridge.init_app(bare())
    known = bare()
    bridge.init_app(known)
    hooks = known.extensions["tasks-bridge"].bridge.hooks

    assert len(hooks) == 1, "expected the signals of a job to be sent once"
    with pytest.raises(SettingsError, match=r"installed with other settings .* Leave out a call of install"):
        bridge.init_app(bare(SECRET_KEY="another"))
    by_hand = Celery("by-hand")
    install(by_hand, Settings(redis_url=SecretStr(NOWHERE)))
    with pytest.raises(SettingsError, match="Leave out a call of install"):
        TasksBridge(bare(), celery=by_hand)


class FlaskTask(Task):
    """As in Flask's guide; the app is what a test is about."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return f"the application's own: {self.run.__name__}"


def test_tasks_run_in_the_app_s_context_called_or_eager_unless_they_bring_their_own() -> None:
    app, guided = bare("one", CELERY={"task_always_eager": True}), bare("guided")
    TasksBridge(app)
    TasksBridge(guided, celery=Celery("guided", task_cls=FlaskTask))

    @shared_task(bind=True)
    def bound(self: Any) -> Any:
        g.task = self.request.id
        return self.request.id

    with app.app_context():
        g.task = "the caller's"
        assert whose() == "one"
        assert whose.delay().get() == "one"
        result = bound.delay()
        assert result.get() == result.id
        assert g.task == "the caller's"
    with guided.app_context():
        assert whose() == "the application's own: whose"


# -- several apps -----------------------------------------------------------------------------------------------------


def test_within_an_app_s_context_celery_s_current_app_is_that_app_s_own() -> None:
    one, two = bare("one"), bare("two")
    bridge = TasksBridge()
    bridge.init_app(one)
    bridge.init_app(two)
    before = get_current_app()

    with one.app_context():
        assert get_current_app() is one.extensions["celery"]
        with two.test_request_context(), two.app_context():
            assert get_current_app() is two.extensions["celery"]
        assert get_current_app() is one.extensions["celery"]
        assert whose() == "one"
    assert get_current_app() is before

    def in_thread() -> list[Any]:
        found = [get_current_app()]
        with one.app_context():
            found.append(get_current_app())
        return [*found, get_current_app()]

    default = two.extensions["celery"]
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(in_thread).result() == [default, one.extensions["celery"], default]


def test_an_app_whose_context_was_there_before_the_extension_disturbs_nothing() -> None:
    early, late = bare("early"), bare("late")
    with late.app_context():
        TasksBridge(late)
        TasksBridge(early)
        before = get_current_app()
        with early.app_context():
            pass

    assert get_current_app() is before


def test_each_app_s_views_start_and_show_the_jobs_of_that_app(environment: dict[str, str]) -> None:
    apps = []
    for number in range(2):
        settings = {**shop.create_app(environment).config["TASKS_BRIDGE"], "NAMESPACE": f"tests-flask-{number}"}
        apps.append(shop.create_app(environment, TASKS_BRIDGE=settings, SECRET_KEY=f"key {number}"))

    with ThreadPoolExecutor(2) as threads:
        started: list[Any] = list(threads.map(lambda app: app.test_client().post("/renders", json={}).json, apps))

    for number, app in enumerate(apps):
        other = apps[1 - number]
        job, foreign = started[number], started[1 - number]
        shown: Any = app.test_client().get(job["status_url"]).json
        assert shown["id"] == job["id"]
        assert app.test_client().get(foreign["status_url"]).status_code == 404
        assert store_of(other).get([job["id"]]) == [None]
        with app.app_context():
            assert Job(job["id"]).status is JobState.QUEUED
            Job(job["id"]).cancel()


def test_a_factory_that_is_called_many_times_leaves_nothing_behind(environment: dict[str, str], redis_url: str) -> None:
    server = redis.Redis.from_url(redis_url)

    def use() -> list[weakref.ref[Any]]:
        app = shop.create_app(environment)
        job: Any = app.test_client().post("/renders", json={}).json
        with app.app_context():
            Job(job["id"]).cancel()
        state = app.extensions["tasks-bridge"]
        return [weakref.ref(one) for one in (app, state.celery, state.bridge)]

    use()
    gc.collect()
    before = threading.active_count(), len(server.client_list())

    kept = [use() for _ in range(10)]
    gc.collect()

    # Celery's default app is the latest one's
    assert [sum(ref() is not None for ref in refs) for refs in kept] == [0] * 9 + [3]
    assert (threading.active_count(), len(server.client_list())) <= before
    server.close()


# -- workers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tasks_bridge.contrib.flask", "made"])
def test_celery_finds_the_app_of_a_factory(
    run: Callable[..., LocalProcess], tmp_path: Path, environment: dict[str, str], name: str
) -> None:
    (tmp_path / "made.py").write_text(
        'from tests.flask.shop import create_app\n\ncelery = create_app().extensions["celery"]\n'
    )
    (tmp_path / ".flaskenv").write_text("FLASK_APP=tests.flask.shop:create_app()\n")

    process = run("celery", "-A", name, "report", cwd=tmp_path, FLASK_APP="tests.flask.shop" if name == "made" else "")

    assert process.wait(60) == 0, process.tail()
    assert "task_default_queue: 'tests-flask'" in process.logs()


def test_celery_says_why_it_finds_no_app(run: Callable[..., LocalProcess], tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text("from flask import Flask\n\napp = Flask('plain')\n")

    lost = run("celery", "-A", "tasks_bridge.contrib.flask", "report", cwd=tmp_path, FLASK_APP="")
    plain = run("celery", "-A", "tasks_bridge.contrib.flask", "report", cwd=tmp_path, FLASK_APP="plain")

    assert (lost.wait(60), plain.wait(60)) == (2, 2)
    assert "Could not locate a Flask application" in lost.logs()
    assert "The Flask app 'plain' doesn't know tasks-bridge" in plain.logs()


def test_callbacks_and_both_kinds_of_errbacks_run_in_a_context_of_the_app(app: Flask, worker: LocalProcess) -> None:
    errbacks = [shop.apologise.s(), shop.apologise_later.s()]
    with app.app_context():
        good = generate.apply_async((shop.MODEL, shop.params()), link=shop.publish.s()).id
        bad = generate.apply_async(
            (shop.MODEL, shop.params(outcome="failed", error_code="content_policy_violation")), link_error=errbacks
        ).id

    eventually(lambda: "callback" in heard(app, good), expected="the callback", show=worker.tail)
    eventually(
        lambda: {"errback JobFailed", "errback by id, task True"} <= set(heard(app, bad)),
        expected="both errbacks",
        show=lambda: f"{heard(app, bad)}\n{worker.tail()}",
    )
