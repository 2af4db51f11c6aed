"""A bad caller gets a typed error where `apply_async` is called, and nothing is queued."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
from celery import Celery
from pydantic import SecretStr

from tasks_bridge import (
    InvalidRequest,
    JobConflict,
    JobState,
    Settings,
    SettingsError,
    StoreError,
    generate,
    install,
)
from tasks_bridge.alarm import TROUBLE_WAIT_S, AlarmThread
from tasks_bridge.bridge import bridge_of
from tasks_bridge.embedded import EmbeddedRedis
from tasks_bridge.sandbox import SandboxServer
from tests.integration.lab import MODEL, PROMPT, Lab, receive

PARAMS = {"prompt": PROMPT}


@pytest.fixture
def silent(idle_lab: Lab) -> Iterator[Lab]:
    """An app in which nothing may be queued, stored or sent."""
    before = set(idle_lab.bridge.store.client.keys("*"))

    yield idle_lab

    assert set(idle_lab.bridge.store.client.keys("*")) == before, "nothing should be left in Redis"
    assert idle_lab.queued() == 0
    assert idle_lab.bridge.store.open_count() == 0
    assert idle_lab.sandbox.stats()["requests"] == {}


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"x": value}
    return value


BAD_CALLS: list[Any] = [
    pytest.param((), {}, {}, id="nothing"),
    pytest.param((MODEL,), {}, {}, id="no params"),
    pytest.param(("", PARAMS), {}, {}, id="empty model"),
    pytest.param(("   ", PARAMS), {}, {}, id="blank model"),
    pytest.param((7, PARAMS), {}, {}, id="model is no text"),
    pytest.param((MODEL, PROMPT), {}, {}, id="params are no dict"),
    pytest.param((MODEL, [PARAMS]), {}, {}, id="params are a list"),
    pytest.param((MODEL, {1: PROMPT}), {}, {}, id="a key is no text"),
    pytest.param((MODEL, {"x": {1, 2}}), {}, {}, id="a set"),
    pytest.param((MODEL, {"x": b"bytes"}), {}, {}, id="bytes"),
    pytest.param((MODEL, {"x": datetime.now(UTC)}), {}, {}, id="a datetime"),
    pytest.param((MODEL, {"x": float("nan")}), {}, {}, id="not a number"),
    pytest.param((MODEL, {"x": "\ud800"}), {}, {}, id="half a surrogate pair"),
    pytest.param((MODEL, {"prompt": "x" * 2**20}), {}, {}, id="over 1 MiB"),
    pytest.param((MODEL, PARAMS, 60), {}, {}, id="a third positional argument"),
    pytest.param((MODEL, PARAMS), {"deadline": 60}, {}, id="an unknown argument"),
    pytest.param((MODEL, PARAMS), {"deadline_s": -1}, {}, id="a negative deadline"),
    pytest.param((MODEL, PARAMS), {"deadline_s": "soon"}, {}, id="a deadline that is no number"),
    pytest.param((MODEL, PARAMS), {"deadline_s": 10**400}, {}, id="a deadline beyond any number"),
    pytest.param((MODEL, PARAMS), {"key": 7}, {}, id="a key alias that is no text"),
    pytest.param((MODEL, PARAMS), {}, {"task_id": ""}, id="empty id"),
    pytest.param((MODEL, PARAMS), {}, {"task_id": "x" * 65}, id="long id"),
    pytest.param((MODEL, PARAMS), {}, {"task_id": "a b"}, id="a space in the id"),
    pytest.param((MODEL, PARAMS), {}, {"task_id": "ä"}, id="an umlaut in the id"),
    pytest.param((MODEL, PARAMS), {}, {"task_id": "a\n"}, id="a line feed in the id"),
    pytest.param((MODEL, PARAMS), {}, {"task_id": 7}, id="an id that is no text"),
    pytest.param((MODEL, PARAMS), {}, {"countdown": "soon"}, id="a countdown that is no number"),
    pytest.param((MODEL, PARAMS), {}, {"eta": "tomorrow"}, id="an eta that is no time"),
    pytest.param((MODEL, PARAMS), {}, {"expires": object()}, id="an expiry that is no time"),
    pytest.param((MODEL, PARAMS), {}, {"headers": {"x": object()}}, id="a header that is no JSON"),
    pytest.param((MODEL, PARAMS), {}, {"headers": {"x": float("nan")}}, id="a header that is no number"),
    pytest.param((MODEL, PARAMS), {}, {"headers": {"x": "cut \ud83d"}}, id="a header with half a surrogate pair"),
    pytest.param((MODEL, PARAMS), {}, {"headers": nested(200)}, id="a header too deep to be read again"),
    pytest.param((MODEL, PARAMS), {}, {"headers": nested(2000)}, id="a header too deep to be written"),
]


@pytest.mark.parametrize(("args", "kwargs", "options"), BAD_CALLS)
def test_a_bad_call_is_refused_where_it_is_made(silent: Lab, args: Any, kwargs: Any, options: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        generate.apply_async(args, kwargs, **options)

    assert isinstance(caught.value, ValueError)


def test_delay_and_signatures_are_refused_as_well(silent: Lab) -> None:
    with pytest.raises(InvalidRequest):
        generate.delay("", PARAMS)
    with pytest.raises(InvalidRequest):
        generate.s("", PARAMS).apply_async()
    with pytest.raises(InvalidRequest):
        (generate.s("", PARAMS) | receive.s()).apply_async()


def test_an_unknown_key_alias_is_refused(silent: Lab) -> None:
    with pytest.raises(SettingsError, match=r"'team-b'.*known: default"):
        generate.apply_async((MODEL, PARAMS), {"key": "team-b"})


def test_the_same_id_with_another_request_queues_nothing(idle_lab: Lab) -> None:
    generate.apply_async((MODEL, PARAMS), task_id="taken")
    queued = idle_lab.queued()

    with pytest.raises(JobConflict, match="taken"):
        generate.apply_async((MODEL, {"prompt": "another"}), task_id="taken")

    assert idle_lab.queued() == queued == 1
    assert idle_lab.bridge.store.open_count() == 1


def test_no_api_key_is_an_error_in_the_caller(redis_url: str, sandbox: SandboxServer) -> None:
    lab = Lab(redis_url, sandbox, api_key=None)
    with lab.current(), pytest.raises(SettingsError, match="BYTESPIKE_API_KEY"):
        generate.delay(MODEL, PARAMS)

    assert lab.queued() == lab.bridge.store.open_count() == 0


def test_an_unknown_setting_is_an_error_at_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKS_BRIDGE_POLL_MIN", "3")

    with pytest.raises(SettingsError, match="TASKS_BRIDGE_POLL_MIN_S"):
        install(Celery("unset", set_as_current=False))


def test_an_app_without_the_library_says_what_to_call() -> None:
    with pytest.raises(SettingsError, match=r"install\(app\)"):
        bridge_of(Celery("plain", set_as_current=False))


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_redis_that_may_evict_jobs_is_refused(redis_url: str, sandbox: SandboxServer, policy: str) -> None:
    lab = Lab(redis_url, sandbox)
    with redis.Redis.from_url(redis_url) as client:
        client.config_set("maxmemory-policy", policy)
        try:
            with lab.current(), pytest.raises(SettingsError, match=policy):
                generate.delay(MODEL, PARAMS)
        finally:
            client.config_set("maxmemory-policy", "noeviction")

    assert lab.queued() == lab.bridge.store.open_count() == 0


def test_a_redis_that_is_not_there_is_an_error_within_seconds(sandbox: SandboxServer) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        url = f"redis://:secret-password@127.0.0.1:{taken.getsockname()[1]}/0"
        lab = Lab(url, sandbox)
        begun = time.monotonic()
        with lab.current(), pytest.raises(StoreError) as caught:
            generate.delay(MODEL, PARAMS)

    assert time.monotonic() - begun < 5
    assert "secret-password" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)


def test_a_redis_that_goes_away_is_an_error_within_seconds(sandbox: SandboxServer) -> None:
    with EmbeddedRedis() as server:
        lab = Lab(server.url, sandbox)
        with lab.current():
            generate.delay(MODEL, PARAMS)
            server.kill()
            begun = time.monotonic()

            with pytest.raises(StoreError):
                generate.delay(MODEL, PARAMS)

            assert time.monotonic() - begun < 5


def test_a_wrong_password_is_said_to_be_one(sandbox: SandboxServer) -> None:
    with EmbeddedRedis(password="right") as server:
        lab = Lab(server.url.replace("right", "wr0ng-secret"), sandbox)
        with lab.current(), pytest.raises(StoreError, match="password") as caught:
            generate.delay(MODEL, PARAMS)

    assert "wr0ng-secret" not in str(caught.value)


@pytest.mark.parametrize("broker", ["redis", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)])
def test_a_broker_that_refuses_the_password_delays_the_job_and_fails_no_call(
    request: pytest.FixtureRequest,
    redis_url: str,
    sandbox: SandboxServer,
    broker: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "tasks_bridge")
    scheme, _, address = str(request.getfixturevalue(f"{broker}_url")).partition("://")
    lab = Lab(redis_url, sandbox, messages_at=f"{scheme}://guest:hush@{address.rpartition('@')[2]}")
    with lab.current():
        result = generate.delay(MODEL, PARAMS)

        assert lab.job(result).status is JobState.QUEUED
        assert "its message follows" in caplog.text
        assert AlarmThread(lab.bridge, 1)._turn() == TROUBLE_WAIT_S
        assert "no job can be woken until this is over" in caplog.text
        assert "hush" not in caplog.text
        assert "Traceback" not in caplog.text


def test_a_url_of_something_else_is_a_wrong_setting() -> None:
    settings = Settings(redis_url=SecretStr("http://:secret@example.org"))

    with pytest.raises(SettingsError, match="redis://") as caught:
        install(Celery("wrong", set_as_current=False), settings).check()
    assert "secret@" not in str(caught.value)
