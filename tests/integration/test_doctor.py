"""`tasks-bridge doctor` against deployments that are well, and ones that are not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from celery import Celery
from typer.testing import CliRunner

from tasks_bridge import Settings, doctor, install
from tasks_bridge.bridge import Bridge
from tasks_bridge.cli import cli
from tasks_bridge.doctor import Diagnosis, Level, Moments, examine
from tasks_bridge.embedded import EmbeddedRedis, packaged_server
from tasks_bridge.journal import Line
from tasks_bridge.record import JobState
from tasks_bridge.sandbox import SandboxServer
from tests.integration.lab import API_KEY, Lab, eventually

Found = dict[str, Diagnosis]


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    """A server of these tests alone, which they may set as they like."""
    packaged = packaged_server()
    with EmbeddedRedis(program=packaged.path if packaged else None) as embedded:
        yield embedded


@pytest.fixture
def config(server: EmbeddedRedis) -> Iterator[Callable[..., None]]:
    """Set the server's configuration until the test is over."""
    with redis.Redis.from_url(server.url) as client:
        before: Any = client.config_get()

        def set_config(**values: str) -> None:
            for name, value in values.items():
                client.config_set(name.replace("_", "-"), value)

        yield set_config
        set_config(**{name: before[name.replace("_", "-")] for name in ("maxmemory", "maxmemory_policy")})
        set_config(appendonly=before["appendonly"], save=before["save"], appendfsync=before["appendfsync"])


def a_bridge(url: str, sandbox: SandboxServer, namespace: str, **changes: Any) -> Bridge:
    values: dict[str, Any] = {"redis_url": url, "base_url": sandbox.url, "api_key": API_KEY, "namespace": namespace}
    app = Celery(namespace, set_as_current=False)
    app.conf.task_default_queue = namespace
    return install(app, Settings(**{**values, **changes}))


@pytest.fixture
def bridge(server: EmbeddedRedis, sandbox: SandboxServer, namespace: str) -> Bridge:
    return a_bridge(server.url, sandbox, namespace)


def examined(bridge: Bridge) -> Found:
    return {diagnosis.code: diagnosis for diagnosis in examine(bridge, wait_s=0.5)}


def problems(found: Found) -> dict[str, Level]:
    # how fast anything answers says more of what else the machine does
    bad = {code: diagnosis.level for code, diagnosis in found.items() if diagnosis.level is not Level.OK}
    return {code: level for code, level in bad.items() if code != "redis-latency"}


def test_nothing_is_wrong_with_a_deployment_that_is_well(lab: Lab) -> None:
    found: Found = {}

    def is_well() -> bool:
        found.update(examined(lab.bridge))
        return not problems(found)

    eventually(is_well, "all to be well")

    assert problems(found) == {}
    assert {"versions", "settings", "redis-version", "redis-persistence", "redis-eviction", "redis-latency"} <= set(
        found
    )
    assert {"bytespike-key", "clock-redis", "clock-bytespike"} <= set(found)
    assert {"workers-up", "workers-poll", "workers-generate", "jobs-overdue"} <= set(found)
    assert all(diagnosis.remedy is None for diagnosis in found.values() if diagnosis.level is Level.OK)
    assert API_KEY not in repr(found)


def test_no_worker_is_an_error(bridge: Bridge) -> None:
    found = examined(bridge)

    assert problems(found) == {"workers-up": Level.ERROR}
    assert "celery -A <your app> worker" in str(found["workers-up"].remedy)


@pytest.mark.parametrize(
    ("settings", "code", "level"),
    [
        ({"maxmemory_policy": "allkeys-lru"}, "redis-eviction", Level.ERROR),
        ({"appendonly": "no", "save": ""}, "redis-persistence", Level.ERROR),
        ({"appendonly": "no", "save": "3600 1"}, "redis-persistence", Level.WARNING),
        ({"appendfsync": "no"}, "redis-persistence", Level.WARNING),
        ({"maxmemory": "2mb"}, "redis-memory", Level.WARNING),
    ],
)
def test_a_redis_that_would_lose_jobs_is_told_with_what_to_set(
    bridge: Bridge, config: Callable[..., None], settings: dict[str, str], code: str, level: Level
) -> None:
    config(**settings)
    found = examined(bridge)

    assert found[code].level is level
    assert found[code].remedy


def test_a_redis_that_is_down_is_told_and_the_rest_is_looked_at(sandbox: SandboxServer, namespace: str) -> None:
    found = examined(a_bridge("redis://:hush@127.0.0.1:1/0", sandbox, namespace))

    assert problems(found) == {"redis-reached": Level.ERROR, "broker-reached": Level.ERROR}
    assert found["bytespike-key"].level is Level.OK
    assert "hush" not in repr(found)


def test_a_redis_of_messages_and_outcomes_alone_is_looked_at_too(
    server: EmbeddedRedis, redis_url: str, sandbox: SandboxServer, namespace: str, config: Callable[..., None]
) -> None:
    def split(**conf: str) -> Bridge:
        bridge = a_bridge(redis_url, sandbox, namespace)
        bridge.app.conf.update(conf)
        return bridge

    assert problems(examined(split(broker_url=server.url, result_backend=server.url))) == {"workers-up": Level.ERROR}

    config(maxmemory_policy="allkeys-lru")
    found = examined(split(broker_url=server.url, result_backend=server.url))

    assert (found["broker-eviction"].level, found["result-backend-eviction"].level) == (Level.WARNING, Level.WARNING)
    assert found["redis-eviction"].level is Level.OK

    away = examined(split(broker_url=server.url, result_backend="redis://:hush@127.0.0.1:1/0"))

    assert away["result-backend-eviction"].level is Level.ERROR
    assert "can't be used" in away["result-backend-eviction"].message
    assert "hush" not in repr(away)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"status": 401, "code": "invalid_api_key"}, "refuses the key"),
        ({"status": 403, "code": "permission_denied"}, "forbids the key"),
        ({"status": 503, "code": "api_error"}, "could not be asked"),
    ],
)
def test_a_key_that_does_not_work_is_an_error(
    bridge: Bridge, sandbox: SandboxServer, fault: dict[str, Any], said: str
) -> None:
    sandbox.fail("status", on="query", **fault)
    try:
        found = examined(bridge)
    finally:
        sandbox.heal()

    assert found["bytespike-key"].level is Level.ERROR
    assert said in found["bytespike-key"].message


def test_each_key_is_tried_without_making_a_task(server: EmbeddedRedis, sandbox: SandboxServer, namespace: str) -> None:
    before = len(sandbox.tasks())
    bridge = a_bridge(server.url, sandbox, namespace, api_keys={"other": "sk-byts-wrong-hush"})
    found = [diagnosis for diagnosis in examine(bridge, wait_s=0.2) if diagnosis.code == "bytespike-key"]

    assert [diagnosis.level for diagnosis in found] == [Level.OK, Level.ERROR]
    assert "'other'" in found[1].message
    assert "hush" not in repr(found)
    assert len(sandbox.tasks()) == before


def test_a_service_that_is_not_there_is_an_error(server: EmbeddedRedis, sandbox: SandboxServer, namespace: str) -> None:
    found = examined(a_bridge(server.url, sandbox, namespace, base_url="http://127.0.0.1:1"))

    assert found["bytespike-reached"].level is Level.ERROR


@pytest.mark.parametrize(
    ("conf", "code"),
    [
        ({"broker_transport_options": {"visibility_timeout": 20}}, "W004"),
        ({"worker_prefetch_multiplier": 0}, "W009"),
        ({"task_time_limit": 3}, "W010"),
        ({"worker_enable_remote_control": False}, "W011"),
        ({"task_send_sent_event": True}, "W012"),
    ],
)
def test_settings_of_celery_that_would_hurt_are_warned_of(bridge: Bridge, conf: dict[str, Any], code: str) -> None:
    bridge.app.conf.update(conf)
    found = examined(bridge)

    assert found[code].level is Level.WARNING
    assert found[code].remedy


def test_a_queue_that_no_worker_reads_is_an_error(
    lab: Lab, redis_url: str, sandbox: SandboxServer, namespace: str
) -> None:
    found: Found = {}
    other = a_bridge(redis_url, sandbox, namespace)  # whose queues the worker of *lab* does not read

    def answers() -> bool:
        found.update(examined(other))
        return found["workers-up"].level is Level.OK

    eventually(answers, "the worker to answer")

    assert found["workers-poll"].level is Level.ERROR
    assert found["workers-generate"].level is Level.ERROR
    assert f"-Q {namespace}" in str(found["workers-generate"].remedy)


def test_jobs_that_nobody_takes_a_service_that_does_not_answer_and_failures_are_told(bridge: Bridge) -> None:
    generate: Any = bridge.app.tasks["tasks_bridge.generate"]
    generate.apply_async(("seedream-v4", {}), task_id="late")
    store = bridge.store
    store.client.zadd(store.key("due", "submit:0"), {"late": store.now() - 500})
    bridge.gate.report(good=0, bad=9)
    assert bridge.journal is not None
    trouble = Line("late", 1, JobState.RUNNING, JobState.RUNNING, "read 1 failed", 1.0, is_look=False)
    bridge.journal.note([trouble] * 6)
    found = examined(bridge)

    assert found["jobs-overdue"].level is Level.ERROR
    assert "the first of them for 8 min" in found["jobs-overdue"].message
    assert found["jobs-breaker"].level is Level.ERROR
    assert found["jobs-trouble"].level is Level.WARNING


@pytest.mark.parametrize(("ahead_s", "level"), [(0.5, Level.OK), (-90, Level.WARNING), (90, Level.WARNING)])
def test_clocks_that_disagree_are_told(ahead_s: float, level: Level) -> None:
    (diagnosis,) = doctor._clocks(Moments(1000, 1000 + ahead_s, "Redis"), None)

    assert diagnosis.level is level
    if level is Level.WARNING:
        assert f"1 min 30 s {'ahead of' if ahead_s > 0 else 'behind'} this machine's" in diagnosis.message


@pytest.mark.parametrize(
    ("info", "level"),
    [
        ({"redis_version": "6.2.14"}, Level.ERROR),
        ({"redis_version": "7.0.15"}, Level.OK),
        ({"redis_version": "7.2.4", "valkey_version": "7.2.9"}, Level.ERROR),
        ({"redis_version": "7.2.4", "valkey_version": "9.0.1"}, Level.OK),
    ],
)
def test_versions_of_the_server(info: dict[str, Any], level: Level) -> None:
    assert doctor._version_of(info, "here").level is level


@pytest.mark.parametrize("as_json", [False, True])
def test_the_command_says_all_of_it_and_its_status_is_that_of_the_worst(
    bridge: Bridge, server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    monkeypatch.setenv("TASKS_BRIDGE_REDIS_URL", server.url)
    monkeypatch.setenv("BYTESPIKE_API_KEY", API_KEY)
    monkeypatch.setenv("BYTESPIKE_BASE_URL", bridge.settings.base_url)
    result = CliRunner().invoke(cli, ["doctor", "--wait", "0.2", *(["--json"] if as_json else [])])

    assert result.exit_code == 1
    if as_json:
        told = [json.loads(line) for line in result.stdout.splitlines()]
        assert [one["code"] for one in told if one["level"] == "error"] == ["workers-up"]
    else:
        assert "1 error, " in result.stdout
        assert "[workers-up]" in result.stdout
