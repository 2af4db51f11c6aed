"""A store without a server: where its Redis is, as far as its address tells, and what needs none."""

from __future__ import annotations

import pytest
import redis
from pydantic import SecretStr
from redis.sentinel import Sentinel

from tasks_bridge.errors import SettingsError, StoreUnreachable
from tasks_bridge.settings import Settings
from tasks_bridge.store import Purpose
from tasks_bridge.store.redis import RedisStore, connect


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://", "localhost:6379/0"),
        ("redis://user:hush@shop-redis", "shop-redis:6379/0"),
        ("rediss://:hush@shop-redis:7000/3", "shop-redis:7000/3"),
        ("unix://user:hush@/run/redis.sock?db=2", "/run/redis.sock/2"),
        ("sentinel://:hush@one:1;sentinel://two:2?master_name=jobs", "the master jobs/0"),
        ("sentinel://:hush@one:1;sentinel://two:2/5?master_name=jobs&sentinel_password=hush", "the master jobs/5"),
    ],
)
def test_a_store_says_where_its_data_is_and_not_with_which_password(url: str, address: str) -> None:
    with connect(SecretStr(url)) as client:
        store = RedisStore(client, namespace="shop")

        assert store.address == address
        assert repr(store) == f"<RedisStore {address} {{shop}}:>"


def test_a_store_is_in_the_namespace_of_the_settings_unless_told_otherwise() -> None:
    assert RedisStore(redis.Redis()).key("job", "a") == f"{{{Settings().namespace}}}:job:a"


def test_who_has_nothing_to_ask_waits_for_nobody() -> None:
    with connect(SecretStr("redis://127.0.0.1:1/0"), patience_s=0.01) as client:  # where nobody is
        store = RedisStore(client)

        assert [store.register_many([]), store.begin([], Purpose.POLL, 15), store.write_many([]), store.get([])] == [
            []
        ] * 4
        assert store.release([]) == store.touch([]) == 0
        store.renew([], 15)
        with pytest.raises(StoreUnreachable):
            store.due_count()


@pytest.mark.parametrize(
    "url",
    [
        "shop-redis:6379/0",
        "http://:hush@shop-redis",
        "redis://:hush@shop-redis:port/0",
        "redis://:hush@shop-redis/0?protocol=hush",
        "redis://:hush@shop-redis/0?no_such_option=hush",
        "redis://:hush@shop-redis/0?socket_timeout=hush",
        "rediss://:hush@shop-redis/0?ssl_cert_reqs=hush",
    ],
)
def test_what_is_no_address_of_a_redis_is_refused_at_once_and_not_quoted(url: str) -> None:
    with pytest.raises(SettingsError, match=r"TASKS_BRIDGE_REDIS_URL.* is not a Redis URL") as refused:
        connect(SecretStr(url))

    assert "hush" not in str(refused.value)
    assert refused.value.__cause__ is refused.value.__context__ is None


HERE = "redis://user:hush@shop-redis:7000/3"


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (HERE, HERE),
        ("redis://", "redis://localhost:6379/0"),
        ("redis://localhost:6379/0", "redis://"),
        ("redis://shop-redis", "redis://shop-redis:6379"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock?db=0"),
    ],
)
def test_connections_to_the_same_place_as_the_same_user_reach_the_same_keys(mine: str, theirs: str) -> None:
    with connect(SecretStr(mine)) as client:
        assert RedisStore(client).shares_server(redis.ConnectionPool.from_url(theirs))
        assert RedisStore(client).shares_server(client.connection_pool)


@pytest.mark.parametrize(
    "theirs",
    [
        "redis://user:hush@other-redis:7000/3",
        "redis://user:hush@shop-redis:7001/3",
        "redis://user:hush@shop-redis:7000/4",
        "redis://another:hush@shop-redis:7000/3",
        "redis://:hush@shop-redis:7000/3",
        "unix://user:hush@/run/redis.sock?db=3",
    ],
)
def test_connections_to_another_place_or_as_another_user_are_not_taken_for_ours(theirs: str) -> None:
    with connect(SecretStr(HERE)) as client:
        assert not RedisStore(client).shares_server(redis.ConnectionPool.from_url(theirs))


def test_the_first_database_is_another_place_than_the_second() -> None:
    with connect(SecretStr("redis://shop-redis")) as client:
        assert not RedisStore(client).shares_server(redis.ConnectionPool.from_url("redis://shop-redis/1"))


def test_two_sockets_are_two_places() -> None:
    with connect(SecretStr("unix:///run/one.sock")) as client:
        assert not RedisStore(client).shares_server(redis.ConnectionPool.from_url("unix:///run/other.sock"))


def test_who_follows_a_master_shares_its_server_with_that_very_pool_only() -> None:
    """Where the master is, is found out with each connection; two pools may find two masters."""
    url = SecretStr("sentinel://one:1/0?master_name=jobs")
    with connect(url) as client, connect(url) as other:
        assert RedisStore(client).shares_server(client.connection_pool)
        assert not RedisStore(client).shares_server(other.connection_pool)
        assert not RedisStore(client).shares_server(redis.ConnectionPool.from_url("redis://"))
        assert not RedisStore(redis.Redis()).shares_server(client.connection_pool)


def test_a_master_can_be_named_by_a_client_that_names_no_database() -> None:
    sentinel = Sentinel([("one", 1)])
    with sentinel.master_for("jobs", redis.Redis) as client:
        assert RedisStore(client).address == "the master jobs/0"
