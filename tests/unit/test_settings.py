from __future__ import annotations

import pytest
from pydantic import SecretStr

from tasks_bridge.errors import SettingsError
from tasks_bridge.settings import Settings, is_readable

SECRET = "sk-byts-very-secret-0123456789"


def test_the_environment_sets_everything_under_its_published_names(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {
        "BYTESPIKE_API_KEY": SECRET,
        "BYTESPIKE_API_KEYS": '{"team-b": "sk-byts-b"}',
        "BYTESPIKE_BASE_URL": "http://localhost:8080/",
        "TASKS_BRIDGE_REDIS_URL": "redis://r:1/2",
        "TASKS_BRIDGE_BROKER_URL": "amqp://b",
        "TASKS_BRIDGE_RESULT_BACKEND": "redis://r:1/3",
        "TASKS_BRIDGE_POLL_MIN_S": "1.5",
        "TASKS_BRIDGE_POLL_MAX_S": "20",
        "TASKS_BRIDGE_LEASE_S": "9",
        "TASKS_BRIDGE_TICK_S": "0.5",
        "TASKS_BRIDGE_DEADLINE_S": "60",
        "TASKS_BRIDGE_NAMESPACE": "shop",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    settings = Settings()

    assert settings.key("default") == SecretStr(SECRET)
    assert settings.key("team-b") == SecretStr("sk-byts-b")
    assert settings.base_url == "http://localhost:8080"
    assert settings.redis_url.get_secret_value() == "redis://r:1/2"
    assert (settings.broker, settings.backend) == ("amqp://b", "redis://r:1/3")
    assert (settings.poll_min_s, settings.poll_max_s, settings.lease_s, settings.tick_s) == (1.5, 20, 9, 0.5)
    assert (settings.deadline_s, settings.namespace) == (60, "shop")


def test_broker_and_result_backend_are_the_same_redis_unless_told_otherwise() -> None:
    settings = Settings(redis_url=SecretStr("redis://r:1/2"))

    assert settings.broker == settings.backend == "redis://r:1/2"


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKS_BRIDGE_DEADLINE_S", "")
    monkeypatch.setenv("BYTESPIKE_API_KEY", "")

    assert Settings().deadline_s is None
    assert Settings().api_key is None


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("TASKS_BRIDGE_POLL_MINS", "TASKS_BRIDGE_POLL_MIN_S"),
        ("TASKS_BRIDGE_LEASE", "TASKS_BRIDGE_LEASE_S"),
        ("BYTESPIKE_APIKEY", "BYTESPIKE_API_KEY"),
        ("TASKS_BRIDGE_API_KEY", "BYTESPIKE_API_KEY"),  # the API's own settings have the API's prefix
        ("BYTESPIKE_REDIS_URL", "TASKS_BRIDGE_REDIS_URL"),
        ("tasks_bridge_poll_mins", "TASKS_BRIDGE_POLL_MIN_S"),  # known names count in either case, so do unknown ones
    ],
)
def test_an_unknown_name_in_the_environment_is_an_error_that_names_the_right_one(
    monkeypatch: pytest.MonkeyPatch, name: str, meant: str
) -> None:
    monkeypatch.setenv(name, SECRET)

    with pytest.raises(SettingsError) as caught:
        Settings()

    assert str(caught.value) == f"Unknown setting {name!r} in the environment: did you mean {meant}?"


def test_a_name_like_no_other_is_answered_with_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKS_BRIDGE_QZQZQZ", "1")

    with pytest.raises(SettingsError, match=r"TASKS_BRIDGE_QZQZQZ.*TASKS_BRIDGE_LEASE_S"):
        Settings()


def test_a_wrong_value_is_said_to_be_that_of_the_argument_and_of_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match=r"^The settings are wrong: tick_s \(TASKS_BRIDGE_TICK_S\): Input"):
        Settings(tick_s="soon")
    monkeypatch.setenv("TASKS_BRIDGE_TICK_S", "soon")
    monkeypatch.setenv("BYTESPIKE_API_KEYS", '{"team-b": 7}')

    with pytest.raises(SettingsError) as caught:
        Settings()
    assert [part.partition(")")[0] for part in str(caught.value).split("; ")] == [
        "The settings are wrong: api_keys (BYTESPIKE_API_KEYS",
        "tick_s (TASKS_BRIDGE_TICK_S",
    ]


def test_each_namespace_has_a_queue_of_its_own() -> None:
    assert Settings().poll_queue == "tasks_bridge"
    assert Settings(namespace="shop").poll_queue == "tasks_bridge.shop"
    assert Settings(namespace="shop", queue="polls").poll_queue == "polls"


def test_an_unknown_argument_is_an_error() -> None:
    with pytest.raises(SettingsError, match=r"unknown setting 'qzqzqz'$"):
        Settings(qzqzqz=3)
    with pytest.raises(SettingsError, match=r"unknown setting 'poll_mins' \(did you mean 'poll_min_s'\?\)"):
        Settings(poll_mins=3)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"poll_min_s": 0}, "poll_min_s"),
        ({"poll_min_s": -1}, "poll_min_s"),
        ({"poll_min_s": "soon"}, "poll_min_s"),
        ({"lease_s": float("nan")}, "lease_s"),
        ({"lease_s": float("inf")}, "lease_s"),
        ({"poll_min_s": 121}, "are wrong: poll_min_s must not be above poll_max_s"),
        ({"retry_min_s": 61}, "are wrong: retry_min_s must not be above retry_max_s"),
        ({"tick_s": 16}, "are wrong: tick_s must not be above lease_s"),
        ({"poll_batch": 0}, "poll_batch"),
        ({"submit_attempts": 0}, "submit_attempts"),
        ({"namespace": ""}, "namespace"),
        ({"namespace": "a{b}"}, "namespace"),
        ({"namespace": "a b"}, "namespace"),
        ({"queue": "a:b"}, "queue"),
        ({"on_insufficient_balance": "pray"}, "on_insufficient_balance"),
        ({"base_url": "llm.bytespike.ai"}, "base_url"),
        ({"base_url": "ftp://llm.bytespike.ai"}, "base_url"),
        ({"base_url": "https://llm.bytespike.ai?x=1"}, "base_url"),
        ({"api_keys": {"a b": SECRET}}, "alias"),
        ({"api_key": SECRET, "api_keys": {"default": SECRET}}, "default"),
    ],
)
def test_a_wrong_value_is_named_and_not_shown(arguments: dict[str, object], named: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings(**arguments)

    assert named.lower() in str(caught.value).lower()
    assert SECRET not in f"{caught.value} {caught.value.__context__}"


def test_keys_that_are_no_json_are_an_error_that_does_not_show_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BYTESPIKE_API_KEYS", f"team-b={SECRET}")

    with pytest.raises(SettingsError) as caught:
        Settings(api_key=SecretStr("other"), secret_key=f"{SECRET}-to-sign-with")

    assert str(caught.value) == "The settings are wrong: api_keys (BYTESPIKE_API_KEYS): must be JSON"
    assert SECRET not in f"{[found.frame.f_locals for found in caught.traceback[1:]]}", "nor to crash reporters"
    assert caught.value.__cause__ is None


def test_a_missing_key_says_which_variable_to_set() -> None:
    assert Settings().keys == {}
    with pytest.raises(SettingsError, match=r"set BYTESPIKE_API_KEY$"):
        Settings().key("default")
    with pytest.raises(SettingsError, match=r"'team-c' \(known: none\).*BYTESPIKE_API_KEYS"):
        Settings().key("team-c")
    with pytest.raises(SettingsError, match=r"'team-c' \(known: default, team-b\).*BYTESPIKE_API_KEYS"):
        Settings(api_key=SecretStr("x"), api_keys={"team-b": SecretStr("y")}).key("team-c")


@pytest.mark.parametrize("blank", ["", "  "])
def test_a_blank_key_is_no_key(blank: str) -> None:
    with pytest.raises(SettingsError):
        Settings(api_key=SecretStr(blank)).key("default")


def test_secrets_are_masked_wherever_settings_are_shown() -> None:
    settings = Settings(
        api_key=SecretStr(SECRET),
        api_keys={"b": SecretStr(SECRET)},
        redis_url=SecretStr("redis://:hunter2@r/0"),
        broker_url=SecretStr("amqp://me:hunter2@r"),
        result_backend=SecretStr("redis://:hunter2@r/1"),
    )

    for shown in (repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()):
        assert SECRET not in shown
        assert "hunter2" not in shown


def test_settings_do_not_change_and_whoever_tries_is_not_shown_what_was_to_be_set() -> None:
    settings = Settings()
    with pytest.raises(SettingsError, match=r"Settings do not change.* api_key$") as caught:
        settings.api_key = SECRET  # type: ignore[assignment, misc]

    assert settings.api_key is None
    assert SECRET not in f"{caught.value} {[found.frame.f_locals for found in caught.traceback[1:]]}"


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("metrics_port", 1, 65535),
        ("stream_limit", 0, None),
        ("callback_poll_factor", 1, 100),
        ("poll_batch", 1, 1000),
        ("submit_attempts", 1, None),
        ("submit_concurrency", 1, None),
        ("save_max_bytes", 1, None),
        ("save_attempts", 1, None),
        *((f"spend_limit{what}", 0, None) for what in ("", "_per_label", "_per_job")),
        ("spend_unknown", 0, None),
    ],
)
def test_a_number_goes_up_to_its_bounds_and_not_beyond(name: str, least: int, most: int | None) -> None:
    for value in (least, 10**9 if most is None else most):
        assert getattr(Settings(**{name: value}), name) == value
    for value in (least - 1, float("nan"), float("inf"), *(() if most is None else (most + 1,))):
        with pytest.raises(SettingsError, match=rf"^The settings are wrong: {name} "):
            Settings(**{name: value})


@pytest.mark.parametrize("name", ["namespace", "queue"])
def test_a_name_in_redis_is_up_to_64_of_the_characters_that_need_no_quoting(name: str) -> None:
    longest = "shop-1_B.c" + "x" * 54

    assert getattr(Settings(**{name: longest}), name) == longest
    for wrong in ("", f"{longest}x", "a b", "a:b", "a{b", "é"):
        with pytest.raises(SettingsError, match=rf"^The settings are wrong: {name} "):
            Settings(**{name: wrong})


@pytest.mark.parametrize(("low", "high"), [("poll_min_s", "poll_max_s"), ("retry_min_s", "retry_max_s")])
def test_the_shortest_may_be_the_longest(low: str, high: str) -> None:
    settings = Settings(**{low: 7, high: 7})

    assert getattr(settings, low) == getattr(settings, high) == 7


@pytest.mark.parametrize(
    "given", [{"secret_key": "hunter2"}, {"secret_key": " " * 40}, {"secret_key_fallbacks": ["x" * 31]}]
)
def test_a_secret_key_that_could_be_guessed_is_refused_and_not_shown(given: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=r"secret_key.*at least 32 characters") as caught:
        Settings(**given)

    assert "hunter2" not in str(caught.value)


def test_the_secret_key_comes_first_and_what_needs_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="TASKS_BRIDGE_SECRET_KEY"):
        _ = Settings().secret_keys
    monkeypatch.setenv("TASKS_BRIDGE_SECRET_KEY", "n" * 32)
    monkeypatch.setenv("TASKS_BRIDGE_SECRET_KEY_FALLBACKS", f'["{"o" * 32}"]')

    assert [key.get_secret_value() for key in Settings().secret_keys] == ["n" * 32, "o" * 32]
    assert "nnn" not in repr(Settings())
    assert "ooo" not in repr(Settings())


SECRET_KEY = SecretStr("k" * 32)


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example.com",
        "https://shop.example.com:443/bytespike/",
        "https://shop.example.com/inbox/",
        "https://8.8.8.8/hook",
        "https://[2606:4700::1111]/hook",
    ],
)
def test_callbacks_go_to_public_https_addresses(url: str) -> None:
    settings = Settings(callback_base_url=url, secret_key=SECRET_KEY)

    assert settings.callback_base_url == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    [
        "http://shop.example.com",
        "https://shop.example.com:8443",
        "https://localhost/hook",
        "https://shop/hook",
        "https://shop.local",
        "https://shop.localhost",
        "https://shop.internal.",
        "https://10.0.0.7/hook",
        "https://[::1]/hook",
        "https://me:hunter2@shop.example.com",
        "https://shop.example.com/?token=hunter2",
        "https://shop.example.com#x",
        "https://shop.example.com:0",
        "https://shop.example.com:port",
        "https://[shop",
        "https:///hook",
        "shop.example.com",
        "http://127.0.0.1:8000/hook",
    ],
)
def test_an_address_that_bytespike_can_hardly_reach_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match=r"callback_base_url .*must be an https URL") as caught:
        Settings(callback_base_url=url, secret_key=SECRET_KEY)

    assert "hunter2" not in str(caught.value)


def test_in_development_the_sandbox_calls_back_on_the_same_machine() -> None:
    for port in (1, 8000):
        Settings(callback_base_url=f"http://localhost:{port}", base_url="http://127.0.0.1:8080", secret_key=SECRET_KEY)
    with pytest.raises(SettingsError, match="must be an https URL"):
        Settings(callback_base_url="http://localhost:0", base_url="http://127.0.0.1:8080", secret_key=SECRET_KEY)


def test_an_address_for_callbacks_needs_a_secret_key() -> None:
    with pytest.raises(SettingsError, match="needs TASKS_BRIDGE_SECRET_KEY"):
        Settings(callback_base_url="https://shop.example.com")


@pytest.mark.parametrize(
    "url",
    [
        # a slash in a password: what stands before it is taken for a port, what stands behind it for a database
        *(f"{scheme}://:pass/word@r:1/0" for scheme in ("redis", "rediss", "sentinel", "amqp", "amqps", "pyamqp")),
        *(f"{scheme}://:0/word@r:1/0" for scheme in ("redis", "rediss", "sentinel", "amqp", "amqps", "pyamqp")),
        *(f"{scheme}://:1/word@r:1/0" for scheme in ("redis", "rediss", "sentinel")),
        "sentinel://:good@s1:1;sentinel://:pass/word@s2:1/0",
        "redis://[r",
    ],
)
@pytest.mark.parametrize("name", ["redis_url", "broker_url", "result_backend"])
def test_an_address_whose_password_splits_it_is_refused_unseen(name: str, url: str) -> None:
    with pytest.raises(SettingsError, match=rf"^The settings are wrong: {name} .*percent-encoded, as %2F") as caught:
        Settings(**{name: SecretStr(url)})

    assert "word" not in str(caught.value).replace("password", "")


@pytest.mark.parametrize(
    "url",
    [
        *("redis://r", "redis://r/", "redis://r:1/15/", "rediss://:p%2Fw;x@r:1/0"),
        *("sentinel://:p@s1:1;sentinel://s2:2/0?master_name=jobs", "unix:///run/redis.sock", "amqp://u:p@b:1/vhost"),
        *("sqs://key:0/secret@", "filesystem://"),
    ],
)
def test_an_address_of_any_other_kind_is_taken_as_it_is(url: str) -> None:
    assert Settings(broker_url=SecretStr(url)).broker == url


@pytest.mark.parametrize(
    "base_url",
    [
        *("https://me:hunter2@llm.bytespike.ai", "https://llm.bytespike.ai/#x", "https://", "https://a b", "x"),
        *("https://llm.bytespike.ai:hunter2", "https://llm.bytespike.ai:0", "https://:443", "https://[llm"),
    ],
)
def test_an_address_of_the_api_can_be_taken_apart_and_holds_no_password_and_no_query(base_url: str) -> None:
    with pytest.raises(SettingsError, match=r"base_url \(BYTESPIKE_BASE_URL\): must be an http") as caught:
        Settings(base_url=base_url)

    assert "hunter2" not in str(caught.value)


def test_of_an_address_of_the_api_only_the_slashes_at_its_end_are_dropped() -> None:
    assert Settings(base_url="http://localhost:1/box//").base_url == "http://localhost:1/box"


def test_what_says_whether_an_address_can_be_read_answers_yes_or_no() -> None:
    urls = ("redis://[r", "redis://r:0", "redis://r/word", "redis://r:1/0", "sqs://")

    assert [is_readable(SecretStr(url)) for url in urls] == [False, False, False, True, True]


@pytest.mark.parametrize("name", ["spend_limit", "spend_limit_per_label", "spend_limit_per_job"])
def test_any_limit_is_a_limit_also_that_of_nothing(name: str) -> None:
    assert Settings(**{name: 0}).has_spend_limit is True
    assert Settings(spend_unknown=1, on_spend_limit="wait").has_spend_limit is False


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("save_to", "/srv/videos"),
        ("save_to", "s3://videos/{model}/{id}-{index}{ext}"),
        ("save_folder", "/var/tmp/videos"),
        ("save_content_types", ["video/*", "image/png"]),
    ],
)
def test_where_outputs_go_and_what_they_may_be_is_taken_as_it_is_said(name: str, right: object) -> None:
    assert getattr(Settings(**{name: right}), name) == right


@pytest.mark.parametrize(
    ("name", "wrong", "said"),
    [
        ("save_to", "videos", "must be an absolute path or a URL without password"),
        ("save_to", f"s3://me:{SECRET}@videos", "must be an absolute path or a URL without password"),
        ("save_to", f"/srv/{{{SECRET}}}", "its fields may be {id}, {index}, {ext}, {model}"),
        ("save_folder", "videos", "must be an absolute path"),
        ("save_content_types", [], "must be a JSON list of media types"),
        ("save_content_types", ["video/*", "png"], "must be a JSON list of media types"),
    ],
)
def test_where_outputs_can_not_go_and_what_they_can_not_be_is_refused_unseen(
    name: str, wrong: object, said: str
) -> None:
    with pytest.raises(
        SettingsError, match=rf"^The settings are wrong: {name} \(TASKS_BRIDGE_{name.upper()}\): "
    ) as caught:
        Settings(**{name: wrong})

    assert said in str(caught.value)
    assert SECRET not in f"{caught.value} {caught.value.__context__}"
