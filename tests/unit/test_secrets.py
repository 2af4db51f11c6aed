"""
No message, no repr and no traceback shows a secret: not even one with the local variables of every frame.

Crash reporters record those, and so do Django's debug page and its mails. What the caller itself holds is the caller's.
"""

from __future__ import annotations

import asyncio
import pickle
import reprlib
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

import celery._state
import httpx
import pytest
import redis
from celery import Celery
from pydantic import SecretStr
from typer.testing import CliRunner

from tasks_bridge import AsyncClient, BridgeError, Client, InvalidToken, Settings, generate, install, spending
from tasks_bridge.bridge import bridge_of
from tasks_bridge.callbacks import receive
from tasks_bridge.cli import cli
from tasks_bridge.embedded import EmbeddedRedis
from tasks_bridge.record import JobRecord, JobState
from tasks_bridge.results import Report
from tasks_bridge.store import Lease
from tasks_bridge.store.redis import RedisStore, connect
from tasks_bridge.store.sentinel import SentinelAddress
from tasks_bridge.tokens import TokenPurpose, sign
from tasks_bridge.wire import submit_request

KEY = "sk-byts-hush-0123456789"
PASSWORD = "hush-password"
SECRET_KEY = "hush" * 10
CLOSED = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def same_app_after_each_test() -> Iterator[None]:
    before = celery._state.get_current_app()
    yield
    before.set_current()


def frames(error: BaseException | None) -> Iterator[TracebackType]:
    """All frames that a report of *error* shows, those of its causes included, but not this module's own."""
    while error is not None:
        found = error.__traceback__
        while found is not None:
            if found.tb_frame.f_code.co_filename != __file__:
                yield found
            found = found.tb_next
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def shown(error: BaseException) -> Iterator[str]:
    """What a report of *error* shows, piece by piece."""
    yield f"{error!r} {error} {pickle.dumps(error)!r}"
    for found in frames(error):
        code = found.tb_frame.f_code
        for name, value in found.tb_frame.f_locals.items():
            yield f"{code.co_filename}:{found.tb_lineno} {code.co_qualname}: {name} = {value!r}"


def assert_hushed(call: Callable[[], object], *secrets: str) -> None:
    with pytest.raises(BridgeError) as caught:
        call()
    told = [text for text in shown(caught.value) if any(secret in text for secret in secrets)]
    assert not told, f"expected no secret in: {[reprlib.repr(text) for text in told]}"


def refusing(_: httpx.Request) -> httpx.Response:
    return httpx.Response(401, json={"error": {"code": "invalid_api_key", "message": "no such key"}})


async def in_async(client: AsyncClient, task_id: str) -> None:
    async with client:
        await client.query(task_id)


@pytest.mark.parametrize("key", [KEY, SecretStr(KEY)], ids=["text", "masked"])
@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda key: Client(key, CLOSED).query("t"), id="nobody there"),
        pytest.param(lambda key: asyncio.run(in_async(AsyncClient(key, CLOSED), "t")), id="nobody there, async"),
        pytest.param(lambda key: asyncio.run(in_async(AsyncClient(key), "a/b")), id="wrong id, async"),
        pytest.param(lambda key: Client(key, transport=httpx.MockTransport(refusing)).query("t"), id="refused"),
        pytest.param(lambda key: Client(key, transport=httpx.MockTransport(refusing)).models(), id="no models"),
        pytest.param(lambda key: next(Client(key, transport=httpx.MockTransport(refusing)).stream("t")), id="stream"),
        pytest.param(lambda key: Client(key, "nowhere"), id="wrong URL"),
        pytest.param(lambda key: Client(key, query_timeout_s=0), id="wrong timeout"),
        pytest.param(lambda key: Client(f"{key}\n" if isinstance(key, str) else SecretStr(f"{KEY}\n")), id="wrong key"),
    ],
)
def test_no_error_of_a_client_leads_to_its_key(key: str | SecretStr, call: Callable[[str | SecretStr], object]) -> None:
    assert_hushed(lambda: call(key), KEY)


WRONG_URLS = [
    f"redis://:{PASSWORD}@host:port/0",
    f"redis://:{PASSWORD}@host:99999/0",
    f"redis://:{PASSWORD}@host/name",
    f"redis://:{PASSWORD}#x@host:1/0",  # what follows is a fragment, and the password a port
    f"redis://:{PASSWORD}?x@host:1/0",
    f"redis://:a/{PASSWORD}@host:1/0",
    f"redis://:[{PASSWORD}@host:1/0",
    f"rediss://:{PASSWORD}@host:1/0?ssl_cert_reqs=perhaps",
    f"redis://host/0?password={PASSWORD}&socket_timeout=soon",
    f"redis://host/0?password={PASSWORD}&pasword={PASSWORD}",
    f"redis:/:{PASSWORD}@host",
    f"http://:{PASSWORD}@host",
    PASSWORD,
    f"sentinel://:{PASSWORD}@host:1",
    f"sentinel://:{PASSWORD}@host:port/0?master_name=jobs",
    f"sentinel://host:1/0?master_name=jobs&password={PASSWORD}",
]


def app_with(settings: Settings, **conf: Any) -> Celery:
    app = Celery("secrets", set_as_current=True)
    app.conf.update(conf)
    install(app, settings)
    return app


@pytest.mark.parametrize("url", WRONG_URLS)
def test_a_wrong_url_of_redis_is_refused_without_showing_its_password(url: str) -> None:
    def from_the_settings() -> object:
        app_with(Settings(redis_url=url, api_key=KEY))
        return generate.delay("m", {"prompt": "a fox"})

    def from_the_app() -> object:
        app_with(Settings(api_key=KEY), broker_url=url, result_backend=url)
        return generate.delay("m", {"prompt": "a fox"})

    assert_hushed(from_the_settings, PASSWORD, KEY)
    assert_hushed(from_the_app, PASSWORD, KEY)


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("broker_url", f"redis://:{PASSWORD}#x@host:1/0"),
        ("broker_url", f"nothing://:{PASSWORD}@host"),
        ("result_backend", f"redis://:{PASSWORD}#x@host:1/0"),
        ("result_backend", f"nothing://:{PASSWORD}@host"),
        ("result_backend", PASSWORD),
    ],
)
def test_a_wrong_url_beside_a_good_one_is_refused_before_anything_is_queued(
    redis_url: str, namespace: str, name: str, url: str
) -> None:
    app_with(Settings(redis_url=redis_url, api_key=KEY, namespace=namespace), **{name: url})

    assert_hushed(lambda: generate.apply_async(("m", {"prompt": "a fox"})), PASSWORD)

    with redis.Redis.from_url(redis_url) as client:
        assert list(client.scan_iter(f"*{namespace}*")) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"poll_min_s": 0},
        {"base_url": f"https://me:{PASSWORD}@host"},
        {"secret_key": "hush"},
        {"secret_key_fallbacks": ["hush"]},
        {"api_keys": {"a b": KEY}},
        {"api_keys": KEY},
        {"callback_base_url": f"https://me:{PASSWORD}@shop.example"},
        {"no_such_setting": KEY},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_no_error_of_the_settings_leads_to_a_secret(wrong: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    good = {"api_key": KEY, "redis_url": f"redis://:{PASSWORD}@host", "secret_key": SECRET_KEY}

    assert_hushed(lambda: Settings(**{**good, **wrong}), KEY, PASSWORD, "hush")
    for name, value in {**good, **wrong}.items():
        prefix = "BYTESPIKE" if name in ("api_key", "api_keys", "base_url") else "TASKS_BRIDGE"
        monkeypatch.setenv(f"{prefix}_{name}".upper(), str(value))
    assert_hushed(Settings, KEY, PASSWORD, "hush")


def test_no_error_of_a_redis_that_is_away_or_refuses_leads_to_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks_bridge.store.patience.RETRIES", 0)
    with EmbeddedRedis(password=f"another-{PASSWORD}") as server:
        url = server.url.replace("another-", "wrong-")
        app = app_with(Settings(redis_url=url, api_key=KEY, secret_key=SECRET_KEY, spend_limit=1, submit_concurrency=1))
        bridge, report = bridge_of(app), Report("job", "RUNNING", {}, 1)
        token = sign(SecretStr(SECRET_KEY), TokenPurpose.CALLBACK, "job")
        calls: list[Callable[[], object]] = [
            lambda: generate.delay("m", {"prompt": "a fox"}),
            bridge.check,
            bridge.store.now,
            bridge.store.next_due_s,
            lambda: bridge.store.get(["job"]),
            lambda: receive(token),
            spending,
            lambda: bridge.gate.admit(1),
            lambda: bridge.gate.take_submit("job"),
            lambda: bridge.results.write([report]),
        ]
        for call in calls:
            assert_hushed(call, PASSWORD, KEY, SECRET_KEY)
    for call in calls:  # and now nobody is there
        assert_hushed(call, PASSWORD, KEY, SECRET_KEY)


COMMANDS = ("submit", "status", "watch", "cancel", "spending", "demo", "sandbox")


@pytest.mark.parametrize(
    "url",
    [f"redis://:{PASSWORD}@127.0.0.1:9/0", f"redis://:{PASSWORD}#x@host:1/0", f"redis://host/?pasword={PASSWORD}"],
)
def test_no_command_shows_a_secret_whether_it_works_or_not(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks_bridge.store.patience.RETRIES", 0)
    env = {"TASKS_BRIDGE_REDIS_URL": url, "BYTESPIKE_API_KEY": KEY, "TASKS_BRIDGE_SECRET_KEY": SECRET_KEY}
    answers = [CliRunner().invoke(cli, [command, "--help"], env=env) for command in COMMANDS]
    calls = (["submit", "m"], ["status", "a"], ["watch", "a"], ["cancel", "a"], ["spending"], ["demo"])
    failed = [CliRunner().invoke(cli, call, env=env) for call in calls]

    assert {answer.exit_code for answer in answers} == {0}
    assert {answer.exit_code for answer in failed} == {1}, [answer.output for answer in failed]
    for answer in [*answers, *failed]:
        assert "hush" not in answer.output, f"expected no secret in {answer.output}"


def test_no_refused_token_leads_to_the_secret_key() -> None:
    app_with(Settings(redis_url=CLOSED.replace("http", "redis"), secret_key=SECRET_KEY))

    for token in ("", "forged", sign(SecretStr("x" * 32), TokenPurpose.CALLBACK, "job")):
        assert_hushed(lambda token=token: receive(token), SECRET_KEY)  # type: ignore[misc]
    with pytest.raises(InvalidToken):
        receive("forged")
    assert_hushed(lambda: sign(SecretStr(SECRET_KEY), TokenPurpose.STATUS, "no id"), SECRET_KEY)


def test_no_repr_shows_a_secret_or_a_prompt() -> None:
    chain = {"chain": [{"task": "tasks_bridge.generate", "args": ["m", {"prompt": "hush"}]}]}
    record = JobRecord(version=1, model="m", key="default", digest="d", created_at=0.0, options=chain)
    body = b'{"prompt": "hush"}'
    settings = Settings(
        api_key=KEY,
        api_keys={"b": KEY},
        redis_url=f"redis://u:{PASSWORD}@host",
        broker_url=f"amqp://u:{PASSWORD}@host",
        result_backend=f"redis://u:{PASSWORD}@host/2",
        secret_key=SECRET_KEY,
        secret_key_fallbacks=[SECRET_KEY],
    )
    bridge = bridge_of(app_with(settings))
    sentinels = SecretStr(f"sentinel://:{PASSWORD}@host:1/0?master_name=jobs&sentinel_password={PASSWORD}")
    objects = [
        settings,
        vars(settings),
        settings.keys,
        settings.secret_keys,
        bridge,
        bridge.store,
        bridge.budget,
        bridge.gate,
        Client(KEY),
        AsyncClient(KEY),
        RedisStore(connect(sentinels)),
        SentinelAddress.parse(sentinels),
        submit_request(body),
        Lease("job", 1, 0, JobState.QUEUED, record, None, body, 0.0),
    ]

    for thing in objects:
        assert "hush" not in f"{thing!r} {thing}", f"expected no secret in the repr of a {type(thing).__name__}"
